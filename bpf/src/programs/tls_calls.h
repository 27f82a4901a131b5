/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * The calls of TLS functions that a thread has entered and not returned from. What a function does comes with its probe's cookie.
 * Included by tls.c.
 */

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
	OP_UTLS_READ = 17, /* (what points to the connection first of all, …), otherwise as of crypto/tls */
	OP_UTLS_WRITE = 18,
	OP_SEAL_DATA = 19, /* (connection, room, …, …, iovec, count, size, bytes taken) */
	OP_PEEK = 20,	   /* (connection, buffer, size): what it gives stays pending until the caller takes it off */
	OP_UNCORK = 21,	   /* (connection, …): what was written before is sent now */
	OP_READ_PACKET = 22, /* (connection, where a pointer to a packet is put) */
	OPERATIONS,
};

#define OPERATION(cookie) ((cookie) & 0xff)
/* 0: the return value counts the bytes; else the argument that points to their number, from 1. */
#define COUNT_ARGUMENT(cookie) ((cookie) >> 8 & 0xff)
#define LIBRARY(cookie) ((cookie) >> 16 & 0xff)
/* Of OP_PEEK: where in a connection the pointer to its state is, and where in that the pointer to what is pending. */
#define STATE_AT(cookie) ((cookie) >> 24 & 0xffff)
#define PENDING_AT(cookie) ((cookie) >> 40 & 0xffff)

/* A call that has been entered and not returned. */
struct call {
	u64 sp;
	u64 ssl;
	u64 buffer; /* of OP_SEAL_DATA: struct iovec */
	u64 count;  /* where the number of bytes is put */
	u64 cookie;
	/*
	 * Of AEAD: what is opened, and whether the last byte of what is in it is its type. Of OP_SEAL_DATA: buffers, and bytes in them.
	 * Of OP_PEEK: what was pending before, and its length.
	 */
	u64 input;
	u64 input_len;
	u64 type_inside;
	/* Of AEAD: the socket from which what is opened came, if that is not known of the object. */
	u64 socket;
	/* Of reads: the socket that received while the thread was in the call, and how much. */
	u64 from;
	u64 from_len;
	/* Of writes: another connection sends what this one makes of it, as through a TLS proxy. */
	u64 is_carried;
};

/* A transfer of a socket, in a thread of Go: by which goroutine, and when. */
struct last_io {
	u64 socket;
	u64 routine;
	u64 at;
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
	struct last_io last[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u64); /* thread */
	__type(value, struct calls);
} calls SEC(".maps");

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

static __always_inline u16 direction_of(u64 cookie)
{
	switch (OPERATION(cookie)) {
	case OP_READ:
	case OP_PEEK:
	case OP_READ_PACKET:
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
	call->from = 0;
	call->from_len = 0;
	call->is_carried = 0;
	all->depth = depth + 1;
	return call;
}

/* A write within another connection's sends that one's bytes: no socket of its own does. */
static __always_inline void carry_outer(struct calls *all, const struct call *call)
{
	struct call *outer;

	if (all->depth < 2)
		return;
	outer = &all->call[(all->depth - 2) & (MAX_DEPTH - 1)];
	if (outer->ssl == call->ssl || direction_of(outer->cookie) != ASC_SENT)
		return;
	outer->is_carried = 1;
	if (all->pending == outer->ssl)
		all->pending = 0;
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
