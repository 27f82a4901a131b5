/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * Source "tls": the plaintext that recorded processes hand to their TLS library and get back from it.
 *
 * Probes sit at the entry and the return of a function; which function it is comes with the probe's cookie, so that the
 * same few programs serve every library. Whether and how much was transferred is known only at the return, so the bytes are
 * copied there. The kernel counts each stream's bytes: what is lost on the way to the file shows as a gap.
 */
#include "common.h"

#define MAX_DEPTH 4
#define MAX_CHUNKS 4096
#define CHUNK 16384
#define CHUNK_MEDIUM 2048
#define CHUNK_SMALL 256

/* Cookies. The functions are those of OpenSSL and BoringSSL. */
enum function {
	FN_SSL_READ = 1,     /* int SSL_read(SSL *, void *, int) */
	FN_SSL_WRITE = 2,    /* int SSL_write(SSL *, const void *, int) */
	FN_SSL_READ_EX = 3,  /* int SSL_read_ex(SSL *, void *, size_t, size_t *) */
	FN_SSL_WRITE_EX = 4, /* int SSL_write_ex(SSL *, const void *, size_t, size_t *) */
	FN_SSL_FREE = 5,     /* void SSL_free(SSL *), int SSL_clear(SSL *) */
};

/* A call that has been entered and not returned. */
struct call {
	u64 sp;
	u64 ssl;
	u64 buffer;
	u64 count; /* where *_ex puts the number of bytes */
	u64 function;
};

/* Bytes on their way into records. */
struct transfer {
	u64 address;
	u64 len;
	u64 done;
	u64 conn_id;
	u64 offset;
	u16 direction;
};

/* Calls nest: TLS through a TLS proxy reads one connection while it reads another. */
struct calls {
	u32 depth;
	u32 reserved;
	struct call call[MAX_DEPTH];
	struct transfer transfer;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 16384);
	__type(key, u64); /* thread */
	__type(value, struct calls);
} calls SEC(".maps");

struct connection_key {
	u64 ssl;
	u64 generation;
};

struct connection {
	u64 id;
	u64 offset[2];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct connection_key);
	__type(value, struct connection);
} connections SEC(".maps");

static __always_inline int enter_call(struct pt_regs *ctx)
{
	u64 thread = bpf_get_current_pid_tgid(), function = bpf_get_attach_cookie(ctx);
	struct target *target = target_of(thread >> 32);
	struct calls *all;
	struct call *call;
	u32 depth;

	if (!target)
		return 0;
	if (function == FN_SSL_FREE) {
		struct connection_key key = { .ssl = PT_REGS_PARM1(ctx), .generation = target->generation };
		struct connection *connection = bpf_map_lookup_elem(&connections, &key);
		struct asc_tls_close *close;
		u32 seq;

		if (!connection)
			return 0;
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
		return 0;
	}
	all = bpf_map_lookup_elem(&calls, &thread);
	if (!all) {
		struct calls none = {};

		if (bpf_map_update_elem(&calls, &thread, &none, BPF_NOEXIST) || !(all = bpf_map_lookup_elem(&calls, &thread))) {
			count_drop(ASC_SOURCE_TLS, ASC_TABLE_FULL, 0);
			return 0;
		}
	}
	/* A call left by longjmp never returned: what lies below this frame on the stack is gone. */
	depth = all->depth;
	for (int i = 0; i < MAX_DEPTH; i++) {
		if (!depth || depth > MAX_DEPTH || all->call[(depth - 1) & (MAX_DEPTH - 1)].sp > PT_REGS_SP(ctx))
			break;
		depth--;
	}
	if (depth >= MAX_DEPTH) {
		count_drop(ASC_SOURCE_TLS, ASC_TABLE_FULL, 0);
		return 0;
	}
	call = &all->call[depth & (MAX_DEPTH - 1)];
	call->sp = PT_REGS_SP(ctx);
	call->ssl = PT_REGS_PARM1(ctx);
	call->buffer = PT_REGS_PARM2(ctx);
	call->count = PT_REGS_PARM4(ctx);
	call->function = function;
	all->depth = depth + 1;
	return 1;
}

static __always_inline bool is_read(const struct call *call)
{
	return call->function == FN_SSL_READ || call->function == FN_SSL_READ_EX;
}

/*
 * One public function may be made of another (LibreSSL's *_ex): the outer call counts. A write inside a read is another
 * matter: node writes from the callback that tells it of the end of the handshake.
 */
static __always_inline bool same_transfer(const struct call *inner, const struct call *outer)
{
	return inner->ssl == outer->ssl && is_read(inner) == is_read(outer);
}

/* The call that returns now, taken off the thread's stack of calls. */
static __always_inline struct call *leave_call(struct pt_regs *ctx, struct calls *all)
{
	u64 sp = PT_REGS_SP(ctx);
	u32 depth;

#if defined(__TARGET_ARCH_x86)
	sp -= 8; /* the return address is popped */
#endif
	depth = all->depth;
	for (int i = 0; i < MAX_DEPTH; i++) {
		struct call *call;

		if (!depth || depth > MAX_DEPTH)
			return NULL;
		depth--;
		call = &all->call[depth & (MAX_DEPTH - 1)];
		if (call->sp == sp) {
			all->depth = depth;
			if (depth && same_transfer(call, &all->call[(depth - 1) & (MAX_DEPTH - 1)]))
				return NULL;
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
	int result = PT_REGS_RC(ctx);
	u64 count = 0;

	if (result <= 0)
		return 0;
	if (call->function == FN_SSL_READ || call->function == FN_SSL_WRITE)
		return result;
	if (bpf_probe_read_user(&count, sizeof(count), (void *)call->count))
		return 0;
	return count;
}

static __always_inline void emit_piece(const struct transfer *transfer, u32 len, const u32 room)
{
	struct asc_tls_data *piece;
	u32 seq = draw_seq();
	u16 flags = 0;

	piece = bpf_ringbuf_reserve(&ring, sizeof(*piece) + room, 0);
	if (!piece) {
		count_drop(ASC_SOURCE_TLS, ASC_RING_FULL, len);
		return;
	}
	piece->conn_id = transfer->conn_id;
	piece->stream_offset = transfer->offset + transfer->done;
	piece->len = len;
	piece->direction = transfer->direction;
	piece->library = ASC_OPENSSL;
	piece->reserved = 0;
	barrier_var(len);
	if (len > room)
		len = room;
	if (bpf_probe_read_user(piece + 1, len, (void *)(transfer->address + transfer->done))) {
		flags = ASC_FAULT;
		len = 0;
	}
	piece->captured = len;
	fill_header(&piece->header, ASC_TLS_DATA, flags, sizeof(*piece) + len, seq);
	bpf_ringbuf_submit(piece, wake_flags());
}

/* For bpf_loop, which takes a pointer to the stack. Returns 1 when nothing is left. */
static long emit_chunk(u64 index, struct transfer **context)
{
	struct transfer *transfer = *context;
	u64 left = transfer->len - transfer->done;
	u32 len = left > CHUNK ? CHUNK : left;

	if (!len)
		return 1;
	if (len <= CHUNK_SMALL)
		emit_piece(transfer, len, CHUNK_SMALL);
	else if (len <= CHUNK_MEDIUM)
		emit_piece(transfer, len, CHUNK_MEDIUM);
	else
		emit_piece(transfer, len, CHUNK);
	transfer->done += len;
	return 0;
}

/* Kernels before 5.17 have no bpf_loop; there the verifier has to see the end of the loop: 2.5 MB in one call. */
const volatile bool have_loop = true;
#define CHUNKS_WITHOUT_LOOP 160

static __always_inline void emit_transfer(struct transfer *transfer)
{
	if (have_loop) {
		bpf_loop(MAX_CHUNKS, emit_chunk, &transfer, 0);
	} else {
		for (int i = 0; i < CHUNKS_WITHOUT_LOOP; i++)
			if (emit_chunk(i, &transfer))
				break;
	}
	if (transfer->done < transfer->len)
		count_drop(ASC_SOURCE_TLS, ASC_TABLE_FULL, transfer->len - transfer->done);
}

static __always_inline int return_call(struct pt_regs *ctx)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct target *target = target_of(thread >> 32);
	struct connection *connection;
	struct connection_key key = {};
	struct transfer *transfer;
	struct calls *all;
	struct call *call;
	u64 len;

	if (!target)
		return 0;
	all = bpf_map_lookup_elem(&calls, &thread);
	if (!all)
		return 0;
	call = leave_call(ctx, all);
	if (!call)
		return 0;
	len = transferred(ctx, call);
	if (!len)
		return 0;
	key.ssl = call->ssl;
	key.generation = target->generation;
	connection = bpf_map_lookup_elem(&connections, &key);
	if (!connection) {
		struct connection fresh = { .id = unique_id() };

		bpf_map_update_elem(&connections, &key, &fresh, BPF_NOEXIST);
		connection = bpf_map_lookup_elem(&connections, &key);
		if (!connection) {
			count_drop(ASC_SOURCE_TLS, ASC_TABLE_FULL, len);
			return 0;
		}
	}
	/* In the table, not on the stack: what the verifier reads from there is any number, so its loop stays small. */
	transfer = &all->transfer;
	transfer->address = call->buffer;
	transfer->len = len;
	transfer->done = 0;
	transfer->conn_id = connection->id;
	transfer->direction = is_read(call) ? ASC_RECEIVED : ASC_SENT;
	transfer->offset = __sync_fetch_and_add(&connection->offset[transfer->direction & 1], len);
	emit_transfer(transfer);
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

SEC("uprobe.multi")
int tls_entry_multi(struct pt_regs *ctx)
{
	enter_call(ctx);
	return 0;
}

SEC("uretprobe.multi")
int tls_return_multi(struct pt_regs *ctx)
{
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
