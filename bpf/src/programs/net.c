/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * Source "net": the sockets of recorded processes, with their addresses and the bytes both ways; DNS messages; the hello with
 * which TLS begins; and all the bytes of connections that begin with HTTP or go to a name server.
 */
#include "transfer.h"
#include "descriptor.h"
#include "sockets.h"
#include "first_bytes.h"

#define MSG_PEEK 2

/* Which process uses an end of a pipe or local socket. */
struct endpoint_key {
	u64 object;
	u64 direction;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct endpoint_key);
	__type(value, u32);
} endpoints SEC(".maps");

/* For what a program on one CPU works on without being interrupted. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct transfer);
} transfers SEC(".maps");

/* Says which process uses this end, if it is another than before. */
static __always_inline void note_endpoint(u64 object, u16 direction)
{
	struct endpoint_key key = { .object = object, .direction = direction };
	u32 *before = bpf_map_lookup_elem(&endpoints, &key), now = bpf_get_current_pid_tgid() >> 32, seq;
	struct asc_endpoint *record;

	if (before && *before == now)
		return;
	bpf_map_update_elem(&endpoints, &key, &now, BPF_ANY);
	seq = draw_seq();
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record) {
		count_drop(ASC_SOURCE_STDIO, ASC_RING_FULL, 0);
		return;
	}
	fill_header(&record->header, ASC_ENDPOINT, 0, sizeof(*record), seq);
	record->object = object;
	record->direction = direction;
	__builtin_memset(record->reserved, 0, sizeof(record->reserved));
	bpf_ringbuf_submit(record, wake_flags());
}

/* The names and inodes that tell which two sockets are the ends of one connection. */
static __always_inline void fill_ends(struct asc_socket_data *record, const struct socket_state *state, struct sock *sk,
				      const struct io *io)
{
	struct unix_sock *unix = (void *)sk;
	struct sock *other;
	u64 *peer = (u64 *)record->peer;

	__builtin_memset(record->peer, 0, sizeof(record->peer));
	record->family = 0;
	record->peer_port = 0;
	if (state->family == AF_UNIX) {
		other = READ(unix, peer);
		record->family = AF_UNIX;
		peer[0] = state->inode;
		peer[1] = other ? READ(other, sk_socket, file, f_inode, i_ino) : 0;
	} else if (io->name && read_address(peer, &record->peer_port, state->family, (void *)io->name)) {
		record->family = state->family;
	}
}

static __always_inline void emit_socket_data(const struct socket_state *state, struct sock *sk, const struct io *io, u16 content)
{
	struct asc_socket_data *record;
	u32 seq = draw_seq(), len = io->len, captured = len > HELLO_LEN ? HELLO_LEN : len, side = io->direction & 1, before = 0;
	u16 flags;

	record = bpf_ringbuf_reserve(&ring, sizeof(*record) + RECORD_HEAD + 2 * HELLO_LEN, 0);
	if (!record) {
		count_drop(ASC_SOURCE_NET, ASC_RING_FULL, len);
		return;
	}
	record->socket_id = state->id;
	record->direction = io->direction;
	record->content = content;
	fill_ends(record, state, sk, io);
	if (content == ASC_CONTENT_TLS_HELLO && state->hello[side] == HELLO_HEAD) {
		before = RECORD_HEAD;
		__builtin_memcpy(record + 1, state->head[side], RECORD_HEAD);
	}
	captured = copy_start((void *)(record + 1) + before, io, captured);
	flags = captured ? captured < len ? ASC_TRUNCATED : 0 : ASC_FAULT;
	record->len = before + len;
	record->captured = before + captured;
	fill_header(&record->header, ASC_SOCKET_DATA, flags, sizeof(*record) + before + captured, seq);
	bpf_ringbuf_submit(record, wake_flags());
}

static __always_inline void emit_plain(struct socket_state *state, const struct io *io, u64 offset)
{
	u32 zero = 0;
	struct transfer *transfer = bpf_map_lookup_elem(&transfers, &zero);

	if (!transfer)
		return;
	start_transfer_of(transfer, io);
	transfer->object = state->id;
	transfer->direction = io->direction;
	transfer->library = ASC_PLAIN;
	transfer->offset = offset;
	emit_transfer(transfer);
}

/* Tells of the first record of TLS in a direction. */
static __always_inline void tell_hello(struct socket_state *state, struct sock *sk, const struct io *io)
{
	u32 side = io->direction & 1;

	if (state->hello[side] == HELLO_NONE && io->len == RECORD_HEAD &&
	    !bpf_probe_read_user(state->head[side], RECORD_HEAD, (void *)first_buffer(io))) {
		state->hello[side] = HELLO_HEAD;
		return;
	}
	emit_socket_data(state, sk, io, ASC_CONTENT_TLS_HELLO);
	state->hello[side] = HELLO_TOLD;
}

static __always_inline void stream_io(struct socket_state *state, struct sock *sk, const struct target *target,
				      const struct io *io, u64 offset)
{
	if (is_plain(state, sk, io)) {
		if (state->content == CONTENT_DNS ? want_net : want_plain)
			emit_plain(state, io, offset);
		return;
	}
	if (state->content == CONTENT_TLS && want_net && state->hello[io->direction & 1] != HELLO_TOLD)
		tell_hello(state, sk, io);
	note_routine(target, state->id, io->direction);
	if (io->direction == ASC_SENT) {
		socket_sent(target, state->id, io);
	} else {
		received_within(state->id, io->len);
		socket_received(target, state->id, io);
	}
}

/* The kernel's own messages (netlink, AF_PACKET) are no business of an agent. */
static __always_inline bool is_watched(u16 family)
{
	return family == AF_INET || family == AF_INET6 || family == AF_UNIX || family == AF_VSOCK;
}

/* A stream's peer can be named by what is sent alone: that connects it (TCP Fast Open). */
static __always_inline void first_use(const struct socket_state *state, struct sock *sk, const struct io *io)
{
	bool connects = state->type == SOCK_STREAM && io->name && io->direction == ASC_SENT;

	emit_socket(state, sk, connects ? ASC_SOCKET_CONNECT : ASC_SOCKET_USE, io->fd, 0, connects ? io->name : 0, 0);
}

/* In place of enum content: the bytes are a message, to be looked at apart. */
#define CONTENT_MESSAGE (-1)

/*
 * Bytes went through a socket. Returns what goes over it: enum content. A global function: the verifier looks at it once, and
 * not at every way through it for each of several messages.
 */
__noinline int socket_io(u64 file_address, const struct target *target, const struct io *io)
{
	struct file *file = (void *)file_address;
	struct socket_state *state;
	struct sock *sk;
	bool is_new;
	u64 offset;

	if (!target || !io)
		return CONTENT_UNKNOWN;
	sk = sock_of(file);
	if (!sk || !is_watched(READ(sk, __sk_common.skc_family)))
		return CONTENT_UNKNOWN;
	state = socket_state(file, sk, &is_new);
	if (!state)
		return CONTENT_UNKNOWN;
	if (is_new && want_net && state->family != AF_UNIX && !is_message(state))
		first_use(state, sk, io);
	offset = __sync_fetch_and_add(&state->bytes[io->direction & 1], io->len);
	if (state->family == AF_UNIX)
		note_endpoint(state->inode, io->direction);
	if (state->type == SOCK_STREAM) {
		stream_io(state, sk, target, io, offset);
	} else if (want_net && is_message(state)) {
		return CONTENT_MESSAGE;
	}
	return state->content;
}

/* A message went through a socket. Returns what goes over it: enum content. A global function, as above. */
__noinline int message_io(u64 file, const struct io *io)
{
	struct sock *sk = sock_of((void *)file);
	u64 key = (u64)sk;
	struct socket_state *state = bpf_map_lookup_elem(&sockets, &key);

	if (!state || !io)
		return CONTENT_UNKNOWN;
	note_peer(state, sk, io);
	if (state->family != AF_UNIX && state->type == SOCK_DGRAM && is_datagram_of_dns(state, sk, io)) {
		state->content = CONTENT_DNS;
		emit_socket_data(state, sk, io, ASC_CONTENT_DNS);
	}
	return state->content;
}

/* Bytes went through a socket. Returns what goes over it: enum content. */
static __always_inline int socket_transferred(u64 file, const struct target *target, const struct io *io)
{
	int content = socket_io(file, target, io);

	return content == CONTENT_MESSAGE ? message_io(file, io) : content;
}

/* Cookies of connect, accept, bind and listen are the operations of the records. */
SEC("tracepoint")
int on_socket(struct syscall_exit *ctx)
{
	u16 op = bpf_get_attach_cookie(ctx);
	struct socket_state *state;
	struct arguments arguments;
	s64 result;
	struct file *file;
	struct sock *sk;
	bool is_new, named;
	u32 fd;

	if (!target_of(bpf_get_current_pid_tgid() >> 32))
		return 0;
	result = result_of(ctx);
	read_arguments(&arguments);
	fd = arguments.at[0];
	if (op == ASC_SOCKET_ACCEPT) {
		if (result < 0)
			return 0;
		fd = result;
	}
	file = file_of(fd);
	if (!file || type_of(file) != S_IFSOCK)
		return 0;
	sk = sock_of(file);
	if (!sk || !is_watched(READ(sk, __sk_common.skc_family)))
		return 0;
	state = socket_state(file, sk, &is_new);
	if (!state || !want_net)
		return 0;
	/* Over loopback a connection may have failed before the call returns that only began it. */
	if (op == ASC_SOCKET_CONNECT && result == -EINPROGRESS && READ(sk, sk_err))
		result = -READ(sk, sk_err);
	named = op == ASC_SOCKET_CONNECT || op == ASC_SOCKET_BIND || (op == ASC_SOCKET_ACCEPT && state->family == AF_VSOCK);
	state->told = true;
	if (op == ASC_SOCKET_CONNECT && state->family == AF_UNIX && is_resolver(arguments.at[1]))
		state->content = CONTENT_DNS;
	if (op == ASC_SOCKET_CONNECT && !result && is_message(state))
		message_connect(state, (u64)file, arguments.at[1], arguments.at[2]);
	emit_socket(state, sk, op, fd, result, named ? arguments.at[1] : 0, arguments.at[2]);
	return 0;
}

/* A program is not allowed to make a socket, in a sandbox: it wanted to reach the network. */
SEC("tracepoint")
int on_socket_made(struct syscall_exit *ctx)
{
	struct socket_state state = {};
	struct arguments arguments;

	if ((ctx->result != -EPERM && ctx->result != -EACCES) || !want_net || !target_of(bpf_get_current_pid_tgid() >> 32))
		return 0;
	read_arguments(&arguments);
	state.family = arguments.at[0];
	state.type = arguments.at[1] & 0xf; /* without its flags */
	if ((state.family != AF_INET && state.family != AF_INET6) ||
	    (state.type != SOCK_STREAM && state.type != SOCK_DGRAM))
		return 0;
	state.id = unique_id();
	emit_socket(&state, NULL, ASC_SOCKET_REFUSED, -1, ctx->result, 0, 0);
	return 0;
}

/* A connection that a program only began to make, and does not wait for, failed. */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(on_socket_state, struct sock *sk, int from, int to)
{
	const int syn_sent = 2, closed = 7;
	u64 key = (u64)sk;
	struct socket_state *state;

	if (from != syn_sent || to != closed)
		return 0;
	state = bpf_map_lookup_elem(&sockets, &key);
	if (state)
		state->error = READ(sk, sk_err);
	return 0;
}
