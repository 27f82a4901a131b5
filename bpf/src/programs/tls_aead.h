/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * TLS seen one layer below its connections: rustls hands each TLS record to the EVP_AEAD_CTX_* functions of AWS-LC. One call is
 * one record; the object names one direction of one connection. Which of the calls are TLS and what is in the record is told
 * by the additional data (RFC 8446, 5.2; RFC 5246, 6.2.3.3). Included by tls.c.
 */

#define APPLICATION_DATA 23

static __always_inline bool is_aead(u64 operation)
{
	return operation >= OP_SEAL && operation <= OP_OPEN_GATHER;
}

/* An integer argument of a C function, from 0; to be called at its entry. */
static __always_inline u64 argument(struct pt_regs *ctx, const u32 n)
{
	u64 value = 0;
#if defined(__TARGET_ARCH_x86)
	const u32 in_registers = 6, first_on_stack = 8;
#else
	const u32 in_registers = 8, first_on_stack = 0;

	if (n == 6)
		return __PT_REGS_CAST(ctx)->regs[6];
	if (n == 7)
		return __PT_REGS_CAST(ctx)->regs[7];
#endif
	switch (n) {
	case 0:
		return PT_REGS_PARM1(ctx);
	case 1:
		return PT_REGS_PARM2(ctx);
	case 2:
		return PT_REGS_PARM3(ctx);
	case 3:
		return PT_REGS_PARM4(ctx);
	case 4:
		return PT_REGS_PARM5(ctx);
	case 5:
		return PT_REGS_PARM6(ctx);
	}
	bpf_probe_read_user(&value, sizeof(value), (void *)(PT_REGS_SP(ctx) + first_on_stack + 8 * (n - in_registers)));
	return value;
}

/* Whether additional data is that of a TLS record that may hold application data. Sets whether its type is inside. */
static __always_inline bool is_tls_record(u64 address, u64 len, bool *type_inside)
{
	u8 data[13] = {};

	*type_inside = len == 5;
	if (len == 5 && !bpf_probe_read_user(data, 5, (void *)address))
		return data[0] == APPLICATION_DATA && data[1] == 3 && data[2] == 3;
	if (len == 13 && !bpf_probe_read_user(data, 13, (void *)address))
		return data[8] == APPLICATION_DATA && data[9] == 3;
	return false;
}

static __always_inline u8 byte_at(u64 address)
{
	u8 byte = 0;

	bpf_probe_read_user(&byte, 1, (void *)address);
	return byte;
}

/* How much of what is in a record was said: what comes after it is its type. 0 where that is another than application data. */
static __always_inline u64 said_of(u64 text, u64 len, bool type_inside)
{
	if (!type_inside)
		return len;
	return len && byte_at(text + len - 1) == APPLICATION_DATA ? len - 1 : 0;
}

/* Records are encrypted in place: what they say has to be read before. */
static __always_inline void seal(const struct target *target, struct calls *all, u64 context, u64 cookie, u64 text, u64 len)
{
	struct connection *half;

	if (!len)
		return;
	half = open_connection(context, target);
	if (!half)
		return;
	if (!half->socket)
		await_socket(all, context, len);
	emit_bytes(all, half, cookie, text, len);
}

/* An object opens what a socket has received: that socket is its. Looked at before, as opening may be in place. */
static __always_inline void find_socket(const struct target *target, const struct calls *all, struct call *call, u64 end)
{
	struct connection_key key = { .ssl = call->ssl, .generation = target->generation };
	struct connection *half = bpf_map_lookup_elem(&connections, &key);

	call->socket = 0;
	if (half && half->socket && bpf_map_lookup_elem(&open_sockets, &half->socket))
		return;
	if (all->received_socket && is_received(all, call, end))
		call->socket = all->received_socket;
}

static __always_inline void bind_half(struct connection *half, const struct call *call)
{
	if (half->socket || !call->socket)
		return;
	half->socket = call->socket;
	bind(half->id, call->socket);
}

static __always_inline void enter_aead(struct pt_regs *ctx, struct target *target, struct calls *all, struct call *call)
{
	u64 operation = OPERATION(call->cookie), text, len, data, data_len, extra = 0;
	bool type_inside;

	target->told |= TOLD_WHERE;
	call->buffer = 0;
	if (operation == OP_SEAL || operation == OP_OPEN) {
		text = argument(ctx, 6);
		len = argument(ctx, 7);
		data = argument(ctx, 8);
		data_len = argument(ctx, 9);
	} else if (operation == OP_SEAL_SCATTER) {
		text = argument(ctx, 7);
		len = argument(ctx, 8);
		extra = argument(ctx, 10) == 1 ? argument(ctx, 9) : 0;
		data = argument(ctx, 11);
		data_len = argument(ctx, 12);
	} else {
		text = argument(ctx, 4);
		len = argument(ctx, 5);
		data = argument(ctx, 8);
		data_len = argument(ctx, 9);
	}
	if (!is_tls_record(data, data_len, &type_inside))
		return;
	call->input = text;
	call->input_len = len;
	call->type_inside = type_inside;
	if (operation == OP_OPEN || operation == OP_OPEN_GATHER) {
		call->buffer = argument(ctx, 1);
		call->count = argument(ctx, 2);
		find_socket(target, all, call, operation == OP_OPEN ? text + len : argument(ctx, 6) + argument(ctx, 7));
		return;
	}
	if (type_inside && extra) {
		if (byte_at(extra) != APPLICATION_DATA)
			return;
	} else {
		len = said_of(text, len, type_inside);
	}
	seal(target, all, call->ssl, call->cookie, text, len);
}

static __always_inline void return_aead(struct pt_regs *ctx, const struct target *target, struct calls *all, const struct call *call)
{
	u64 len = call->input_len;
	struct connection *half;

	/* The functions of ring return what only they know the form of; what is in the record shows whether it was opened. */
	if (!call->buffer || (OPERATION(call->cookie) != OP_RING_OPEN && (int)PT_REGS_RC(ctx) != 1))
		return;
	if (OPERATION(call->cookie) == OP_OPEN && bpf_probe_read_user(&len, sizeof(len), (void *)call->count))
		return;
	len = said_of(call->buffer, len, call->type_inside);
	if (!len)
		return;
	half = open_connection(call->ssl, target);
	if (!half)
		return;
	bind_half(half, call);
	emit_bytes(all, half, call->cookie, call->buffer, len);
}
