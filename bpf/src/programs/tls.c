/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * Source "tls": the plaintext that recorded processes hand to their TLS library and get back from it.
 *
 * Probes sit at the entry and the return of a function; what the function does comes with the probe's cookie, so that the
 * same few programs serve every library. Whether and how much was transferred is known only at the return, so the bytes are
 * copied there; only what is encrypted in place has to be copied at the entry.
 */
#include "transfer.h"

#define MAX_DEPTH 4

/* Cookies: operation | argument << 8 | library << 16. */
enum operation {
	OP_READ = 1,  /* (connection, buffer, size, …) */
	OP_WRITE = 2, /* (connection, bytes, size, …) */
	OP_FREE = 3,  /* (connection) */
	OP_SEAL = 4,
	OP_SEAL_SCATTER = 5,
	OP_OPEN = 6,
	OP_OPEN_GATHER = 7,
	OP_GO_READ = 8,
	OP_GO_WRITE = 9,
	OP_GO_READ_RETURN = 10,
	OP_GO_WRITE_RETURN = 11,
	OP_NSS_READ = 12,
	OP_NSS_WRITE = 13,
	OP_GO_CLOSE = 14,
	OP_RING_SEAL = 15,
	OP_RING_OPEN = 16,
	OPERATIONS,
};

#define OPERATION(cookie) ((cookie) & 0xff)
/* 0: the return value counts the bytes; else the argument that points to their number, from 1. */
#define COUNT_ARGUMENT(cookie) ((cookie) >> 8 & 0xff)
#define LIBRARY(cookie) ((cookie) >> 16 & 0xff)

/* Bytes that encryption adds to a record of up to 16 KiB, at least: ChaCha20-Poly1305 in TLS 1.2. */
#define RECORD_OVERHEAD 21

/* A call that has been entered and not returned. */
struct call {
	u64 sp;
	u64 ssl;
	u64 buffer;
	u64 count; /* where the number of bytes is put */
	u64 cookie;
	/* Of AEAD: what is opened, and whether the last byte of what is in it is its type. */
	u64 input;
	u64 input_len;
	u64 type_inside;
	/* Of AEAD: the socket from which what is opened came, if that is not known of the object. */
	u64 socket;
};

/* Calls nest: TLS through a TLS proxy reads one connection while it reads another. */
struct calls {
	u32 depth;
	u32 reserved;
	struct call call[MAX_DEPTH];
	struct transfer transfer;
	/* A connection that has encrypted bytes which no socket has sent yet; the socket that has begun to. */
	u64 pending;
	u64 pending_len;
	u64 pending_socket;
	u64 pending_sent;
	/* Where a socket has put what this thread received last. */
	u64 received_at;
	u64 received_end;
	u64 received_socket;
	/* How the last record begins that took the socket several calls: its first bytes, and those behind a nonce. */
	u64 begun[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u64); /* thread */
	__type(value, struct calls);
} calls SEC(".maps");

/* A connection is an object in the memory of a program; of AEAD, each direction is. */
struct connection_key {
	u64 ssl;
	u64 generation;
};

struct connection {
	u64 id;
	u64 offset[2];
	/* The socket it is bound to; 0 while that is not known. */
	u64 socket;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct connection_key);
	__type(value, struct connection);
} connections SEC(".maps");

/* The sockets that are open, by id: AEAD objects that were bound to another are used again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, u64);
	__type(value, u8);
} open_sockets SEC(".maps");

static __always_inline struct calls *calls_of_thread(void)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct calls *all = bpf_map_lookup_elem(&calls, &thread);
	/* Too large for the stack: what is not initialised here is all zero. */
	static const struct calls none = {};

	if (all)
		return all;
	if (bpf_map_update_elem(&calls, &thread, &none, BPF_NOEXIST))
		return NULL;
	return bpf_map_lookup_elem(&calls, &thread);
}

static __always_inline struct connection *connection_of(u64 ssl, const struct target *target)
{
	struct connection_key key = { .ssl = ssl, .generation = target->generation };
	struct connection *connection = bpf_map_lookup_elem(&connections, &key);
	struct connection fresh = {};

	if (connection)
		return connection;
	fresh.id = unique_id();
	bpf_map_update_elem(&connections, &key, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&connections, &key);
}

/*
 * The object's connection; a new one if its socket is closed. Where a library's symbols are stripped, nobody tells when an
 * object is freed, and another may be made at its place.
 */
static __always_inline struct connection *open_connection(u64 ssl, const struct target *target)
{
	struct connection *connection = connection_of(ssl, target);

	if (connection && connection->socket && !bpf_map_lookup_elem(&open_sockets, &connection->socket)) {
		struct connection_key key = { .ssl = ssl, .generation = target->generation };

		bpf_map_delete_elem(&connections, &key);
		connection = connection_of(ssl, target);
	}
	if (!connection)
		count_drop(ASC_SOURCE_TLS, ASC_TABLE_FULL, 0);
	return connection;
}

static __always_inline void bind(u64 conn_id, u64 socket_id)
{
	u32 seq = draw_seq();
	struct asc_tls_bind *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);

	if (!record) {
		count_drop(ASC_SOURCE_TLS, ASC_RING_FULL, 0);
		return;
	}
	fill_header(&record->header, ASC_TLS_BIND, 0, sizeof(*record), seq);
	record->conn_id = conn_id;
	record->socket_id = socket_id;
	bpf_ringbuf_submit(record, wake_flags());
}

/*
 * From plaintext to socket: the first socket that sends on the thread, during the write or after it, as many bytes as
 * encryption makes of what was written. Reads prove nothing: under asyncio the last socket that received is any.
 */
static __always_inline void await_socket(struct calls *all, u64 ssl, u64 len)
{
	if (all->pending != ssl) {
		all->pending_len = 0;
		all->pending_socket = 0;
		all->pending_sent = 0;
	}
	all->pending = ssl;
	all->pending_len += len + RECORD_OVERHEAD * ((len + CHUNK - 1) / CHUNK);
}

/* A socket has sent. */
static __always_inline void socket_sent(const struct target *target, u64 socket, u64 len)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct calls *all = bpf_map_lookup_elem(&calls, &thread);
	struct connection_key key = { .generation = target->generation };
	struct connection *connection;

	if (!all || !all->pending)
		return;
	if (all->pending_socket != socket) {
		all->pending_socket = socket;
		all->pending_sent = 0;
	}
	all->pending_sent += len;
	if (!all->pending_len || all->pending_sent < all->pending_len)
		return;
	key.ssl = all->pending;
	all->pending = 0;
	connection = bpf_map_lookup_elem(&connections, &key);
	if (!connection || connection->socket)
		return;
	connection->socket = socket;
	bind(connection->id, socket);
}

#include "tls_received.h"

static __always_inline void forget_connection(u64 ssl, const struct target *target)
{
	struct connection_key key = { .ssl = ssl, .generation = target->generation };
	struct connection *connection = bpf_map_lookup_elem(&connections, &key);
	struct asc_tls_close *close;
	u32 seq;

	if (!connection)
		return;
	seq = draw_seq();
	close = bpf_ringbuf_reserve(&ring, sizeof(*close), 0);
	if (close) {
		fill_header(&close->header, ASC_TLS_CLOSE, 0, sizeof(*close), seq);
		close->conn_id = connection->id;
		bpf_ringbuf_submit(close, wake_flags());
	} else {
		count_drop(ASC_SOURCE_TLS, ASC_RING_FULL, 0);
	}
	bpf_map_delete_elem(&connections, &key);
}

static __always_inline u16 direction_of(u64 cookie)
{
	switch (OPERATION(cookie)) {
	case OP_READ:
	case OP_OPEN:
	case OP_OPEN_GATHER:
	case OP_RING_OPEN:
	case OP_NSS_READ:
	case OP_GO_READ_RETURN:
		return ASC_RECEIVED;
	default:
		return ASC_SENT;
	}
}

/* Gives out the bytes of a connection. */
static __always_inline void emit_bytes(struct calls *all, struct connection *connection, u64 cookie, u64 address, u64 len)
{
	struct transfer *transfer = &all->transfer;
	u16 direction = direction_of(cookie);

	start_transfer(transfer, len);
	transfer->address = address;
	transfer->left_here = len;
	transfer->object = connection->id;
	transfer->direction = direction;
	transfer->library = LIBRARY(cookie);
	transfer->offset = __sync_fetch_and_add(&connection->offset[direction & 1], len);
	emit_transfer(transfer);
}

/* One public function may be made of another (LibreSSL's *_ex): the outer call counts. */
static __always_inline bool same_transfer(u64 ssl, u64 cookie, const struct call *outer)
{
	/*
	 * A write inside a read is another matter: node writes from the callback that tells it of the end of the handshake.
	 */
	return ssl == outer->ssl && direction_of(cookie) == direction_of(outer->cookie);
}

/* Puts a call on the thread's stack of calls; NULL if it is a part of the call before. */
static __always_inline struct call *push_call(struct pt_regs *ctx, struct calls *all, u64 cookie)
{
	u32 depth = all->depth;
	struct call *call;

	/* A call left by longjmp never returned: what lies below this frame on the stack is gone. */
	for (int i = 0; i < MAX_DEPTH; i++) {
		if (!depth || depth > MAX_DEPTH || all->call[(depth - 1) & (MAX_DEPTH - 1)].sp > PT_REGS_SP(ctx))
			break;
		depth--;
	}
	if (depth >= MAX_DEPTH) {
		count_drop(ASC_SOURCE_TLS, ASC_TABLE_FULL, 0);
		return NULL;
	}
	if (depth && same_transfer(PT_REGS_PARM1(ctx), cookie, &all->call[(depth - 1) & (MAX_DEPTH - 1)])) {
		all->depth = depth;
		return NULL;
	}
	call = &all->call[depth & (MAX_DEPTH - 1)];
	call->sp = PT_REGS_SP(ctx);
	call->ssl = PT_REGS_PARM1(ctx);
	call->cookie = cookie;
	all->depth = depth + 1;
	return call;
}

/* The call that returns now, taken off the thread's stack of calls. */
static __always_inline struct call *pop_call(struct pt_regs *ctx, struct calls *all)
{
	u64 sp = PT_REGS_SP(ctx);
	u32 depth = all->depth;

#if defined(__TARGET_ARCH_x86)
	sp -= 8; /* the return address is popped */
#endif
	for (int i = 0; i < MAX_DEPTH; i++) {
		struct call *call;

		if (!depth || depth > MAX_DEPTH)
			return NULL;
		depth--;
		call = &all->call[depth & (MAX_DEPTH - 1)];
		if (call->sp == sp) {
			all->depth = depth;
			return call;
		}
		if (call->sp > sp)
			return NULL;
	}
	return NULL;
}

/* Bytes that the call transferred, 0 if it failed. */
static __always_inline u64 transferred(struct pt_regs *ctx, const struct call *call)
{
	u64 library = LIBRARY(call->cookie), count = 0;

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
	if (direction_of(cookie) == ASC_SENT) {
		struct connection *connection = open_connection(call->ssl, target);

		if (connection && !connection->socket) {
			/* How much of it is transferred, the return tells; what is sent until then may be all of it. */
			await_socket(all, call->ssl, 0);
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
	u64 len;

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
	if (direction_of(call->cookie) == ASC_SENT && !connection->socket) {
		await_socket(all, call->ssl, len);
		if (all->pending_sent)
			socket_sent(target, all->pending_socket, 0);
	}
	emit_bytes(all, connection, call->cookie, call->buffer, len);
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
