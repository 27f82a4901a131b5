/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * rustls over ring, Rust's crate of that name: seal(key, nonce, additional data, in and out) and open(…, where the input
 * starts), called through a table of functions. They are Rust's, and compilers differ in how they pass these: a result may be
 * returned through a pointer that comes first, and the nonce is a pointer or two registers. So the additional data is looked
 * for among the arguments: it says that this is a TLS record, and how long it is, and what comes after it must agree.
 * Included by tls.c.
 */

#define AEAD_TAG 16

static __always_inline bool is_crate_ring(u64 operation)
{
	return operation == OP_RING_SEAL || operation == OP_RING_OPEN;
}

/* Whether the additional data is argument `n`. Takes over what is sealed or opened, and where. */
static __always_inline bool take_ring_arguments(struct pt_regs *ctx, struct call *call, bool open, const u32 n)
{
	u64 data = argument(ctx, n), data_len = argument(ctx, n + 1), text, len, before;
	u64 first = argument(ctx, 0), second = argument(ctx, 1), nonce = argument(ctx, 2);
	bool type_inside;
	u8 told[2];
	u64 wanted;

	if (!is_tls_record(data, data_len, &type_inside) ||
	    bpf_probe_read_user(told, sizeof(told), (void *)(data + data_len - sizeof(told))))
		return false;
	wanted = (u64)told[0] << 8 | told[1];
	/* TLS 1.3 counts what is on the wire; TLS 1.2 what was said. */
	if (type_inside)
		wanted -= AEAD_TAG;
	text = argument(ctx, n + 2);
	len = argument(ctx, n + 3);
	before = len - wanted;
	if (before > (open ? EXPLICIT_NONCE : 0))
		return false;
	/* Both are read: the verifier takes no address in the registers that was chosen. */
	barrier_var(first);
	barrier_var(second);
	/* Two registers hold 12 bytes of nonce, the second of them 4. */
	call->ssl = n == 2 || (n == 3 && nonce >> 32 == 0) ? first : second;
	call->buffer = open ? text : 0;
	call->input = text + before;
	call->input_len = wanted;
	call->type_inside = type_inside;
	return true;
}

static __always_inline void enter_ring(struct pt_regs *ctx, struct target *target, struct calls *all, struct call *call)
{
	bool open = OPERATION(call->cookie) == OP_RING_OPEN;

	target->told |= TOLD_WHERE;
	call->buffer = 0;
	if (!take_ring_arguments(ctx, call, open, 2) && !take_ring_arguments(ctx, call, open, 3) &&
	    !take_ring_arguments(ctx, call, open, 4))
		return;
	if (open) {
		find_socket(target, all, call, call->input + call->input_len + AEAD_TAG);
		return;
	}
	seal(target, all, call->ssl, call->cookie, call->input, said_of(call->input, call->input_len, call->type_inside));
}
