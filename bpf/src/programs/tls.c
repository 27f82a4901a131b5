/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * Source "tls": the plaintext that recorded processes hand to their TLS library and get back from it.
 *
 * Probes sit at the entry and the return of a function; what the function does comes with the probe's cookie, so that the
 * same few programs serve every library. Whether and how much was transferred is known only at the return, so the bytes are
 * copied there; only what is encrypted in place has to be copied at the entry.
 */
#include "transfer.h"
#include "tls_calls.h"
#include "tls_connections.h"
#include "tls_received.h"
#include "tls_pending.h"

/* What gives out so many bytes of a connection, when it is told where they are. */
static __always_inline struct transfer *transfer_of(struct calls *all, struct connection *connection, u64 cookie, u64 len)
{
	struct transfer *transfer = &all->transfer;
	u16 direction = direction_of(cookie);

	start_transfer(transfer, len);
	transfer->object = connection->id;
	transfer->direction = direction;
	transfer->library = LIBRARY(cookie);
	transfer->offset = __sync_fetch_and_add(&connection->offset[direction & 1], len);
	return transfer;
}

/* Gives out the bytes of a connection. */
static __always_inline void emit_bytes(struct calls *all, struct connection *connection, u64 cookie, u64 address, u64 len)
{
	struct transfer *transfer = transfer_of(all, connection, cookie, len);

	transfer->address = address;
	transfer->left_here = len;
	emit_transfer(transfer);
}

/* The same, of bytes that are scattered over buffers. */
static __always_inline void emit_buffers(struct calls *all, struct connection *connection, u64 cookie, u64 vector, u64 buffers,
					 u64 len)
{
	struct transfer *transfer = transfer_of(all, connection, cookie, len);

	transfer->left_here = 0;
	transfer->vector = vector;
	transfer->vector_left = buffers;
	emit_transfer(transfer);
}

/* Bytes that the call transferred, 0 if it failed. */
static __always_inline u64 transferred(struct pt_regs *ctx, const struct call *call)
{
	u64 library = LIBRARY(call->cookie), count = 0;

	/* Its result is 0 where it took something. What it says it took is of what it was given, or this is another function. */
	if (OPERATION(call->cookie) == OP_SEAL_DATA) {
		if ((int)PT_REGS_RC(ctx) || bpf_probe_read_user(&count, sizeof(count), (void *)call->count))
			return 0;
		return count <= call->input_len ? count : 0;
	}
	/* OpenSSL and NSS return an int, of which the upper half may be anything. */
	if (library == ASC_GNUTLS) {
		long result = PT_REGS_RC(ctx);

		return result > 0 ? result : 0;
	}
	if ((int)PT_REGS_RC(ctx) <= 0)
		return 0;
	if (!COUNT_ARGUMENT(call->cookie))
		return (int)PT_REGS_RC(ctx);
	if (bpf_probe_read_user(&count, sizeof(count), (void *)call->count))
		return 0;
	return count;
}

/* NSS is a layer above plain descriptors, which go through the same functions: PR_DESC_LAYERED of prio.h. */
static __always_inline bool is_layered(u64 descriptor)
{
	const u32 layered = 4;
	u64 methods = 0;
	u32 type = 0;

	bpf_probe_read_user(&methods, sizeof(methods), (void *)descriptor);
	bpf_probe_read_user(&type, sizeof(type), (void *)methods);
	return type == layered;
}

#include "tls_aead.h"
#include "tls_crate_ring.h"
#include "tls_go.h"

/* Returns 1 if the return of the call matters. */
static __always_inline int enter_call(struct pt_regs *ctx)
{
	u64 thread = bpf_get_current_pid_tgid(), cookie = bpf_get_attach_cookie(ctx);
	u64 operation = OPERATION(cookie), fourth, fifth;
	struct target *target = target_of(thread >> 32);
	struct calls *all;
	struct call *call;

	if (!target || operation >= OPERATIONS)
		return 0;
	if (operation == OP_FREE) {
		forget_connection(PT_REGS_PARM1(ctx), target);
		return 0;
	}
	if ((operation == OP_NSS_READ || operation == OP_NSS_WRITE) && !is_layered(PT_REGS_PARM1(ctx)))
		return 0;
	all = calls_of_thread();
	if (!all) {
		count_drop(ASC_SOURCE_TLS, ASC_TABLE_FULL, 0);
		return 0;
	}
	if (is_go(operation)) {
		go_call(ctx, target, all, cookie);
		return 0;
	}
	call = push_call(ctx, all, cookie);
	if (!call)
		return 0;
	if (is_aead(operation)) {
		enter_aead(ctx, target, all, call);
		return 1;
	}
	if (is_crate_ring(operation)) {
		enter_ring(ctx, target, all, call);
		return operation == OP_RING_OPEN;
	}
	call->buffer = PT_REGS_PARM2(ctx);
	/* Both are read: the verifier takes no address in the registers that was chosen. */
	fourth = PT_REGS_PARM4(ctx);
	fifth = PT_REGS_PARM5(ctx);
	barrier_var(fourth);
	barrier_var(fifth);
	call->count = COUNT_ARGUMENT(cookie) == 5 ? fifth : fourth;
	if (operation == OP_SEAL_DATA) {
		call->buffer = fifth;
		call->input = argument(ctx, 5);
		call->input_len = argument(ctx, 6);
		call->count = argument(ctx, 7);
	}
	if (operation == OP_PEEK)
		enter_peek(call);
	if (direction_of(cookie) == ASC_SENT) {
		struct connection *connection = open_connection(call->ssl, target);

		carry_outer(all, call);
		if (connection && !connection->socket) {
			/* How much of it is transferred, the return tells; what is sent until then may be all of it. */
			await_socket(all, call->ssl, 0);
			/* Its records are made now, whatever was counted when it was written, and may take several calls to be sent. */
			if (operation == OP_UNCORK)
				all->pending_len = 0;
			else
				all->pending_sent = 0;
		}
	}
	return 1;
}

static __always_inline int return_call(struct pt_regs *ctx)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct target *target = target_of(thread >> 32);
	struct connection *connection;
	struct calls *all;
	struct call *call;
	u64 len, before;

	if (!target)
		return 0;
	all = bpf_map_lookup_elem(&calls, &thread);
	if (!all)
		return 0;
	call = pop_call(ctx, all);
	if (!call)
		return 0;
	if (is_aead(OPERATION(call->cookie)) || is_crate_ring(OPERATION(call->cookie))) {
		return_aead(ctx, target, all, call);
		return 0;
	}
	len = transferred(ctx, call);
	if (!len)
		return 0;
	connection = open_connection(call->ssl, target);
	if (!connection)
		return 0;
	if (direction_of(call->cookie) == ASC_SENT && !connection->socket && !call->is_carried) {
		await_socket(all, call->ssl, len);
		if (all->pending_sent)
			socket_sent(target, all->pending_socket, NULL);
	}
	if (direction_of(call->cookie) == ASC_RECEIVED)
		bind_reader(connection, call, len);
	switch (OPERATION(call->cookie)) {
	case OP_UNCORK: /* was given out when it was written */
		break;
	case OP_SEAL_DATA:
		emit_buffers(all, connection, call->cookie, call->buffer, call->input, len);
		break;
	case OP_PEEK:
		before = given_before(connection, call, len);
		if (before < len)
			emit_bytes(all, connection, call->cookie, call->buffer + before, len - before);
		break;
	case OP_READ_PACKET:
		emit_bytes(all, connection, call->cookie, packet_bytes(call->buffer, len), len);
		break;
	default:
		emit_bytes(all, connection, call->cookie, call->buffer, len);
	}
	return 0;
}

/* One entry, three ways to attach: the capturer loads those that the kernel has (session ≥ 6.13, multi ≥ 6.6). */

extern bool bpf_session_is_return(void) __ksym __weak;

SEC("uprobe.session")
int tls_session(struct pt_regs *ctx)
{
	if (bpf_session_is_return())
		return return_call(ctx);
	return !enter_call(ctx); /* 1: no return probe for this call */
}

/*
 * Kernels before 6.6 load a program for uprobe.multi and only refuse to attach it, when the capturer has made its choice.
 * Where the kernel does not know the name, libbpf puts an instruction here that no verifier passes.
 */
enum bpf_attach_type { BPF_TRACE_UPROBE_MULTI = 48 };

static __always_inline void need_multi(void)
{
	u64 value = bpf_core_enum_value(enum bpf_attach_type, BPF_TRACE_UPROBE_MULTI);

	barrier_var(value);
}

SEC("uprobe.multi")
int tls_entry_multi(struct pt_regs *ctx)
{
	need_multi();
	enter_call(ctx);
	return 0;
}

SEC("uretprobe.multi")
int tls_return_multi(struct pt_regs *ctx)
{
	need_multi();
	return return_call(ctx);
}

SEC("uprobe")
int tls_entry(struct pt_regs *ctx)
{
	enter_call(ctx);
	return 0;
}

SEC("uretprobe")
int tls_return(struct pt_regs *ctx)
{
	return return_call(ctx);
}
