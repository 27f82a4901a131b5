/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * Source "net": the sockets of recorded processes, with their addresses and the bytes both ways; DNS messages; the hello with
 * which TLS begins; and all the bytes of connections that begin with HTTP or go to a name server.
 */
#include "transfer.h"
#include "descriptor.h"

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define MSG_PEEK 2
#define PORT_DNS 53
#define SUN_PATH_LEN 108
#define HELLO_LEN 2048
#define RECORD_HEAD 5

/* What goes over a connection, by its first bytes. */
enum content {
	CONTENT_UNKNOWN = 0,
	CONTENT_OTHER = 1,
	CONTENT_TLS = 2,
	CONTENT_HTTP = 3,
	/* Through a proxy, which is asked with HTTP's CONNECT: TLS may follow. */
	CONTENT_TUNNEL = 4,
	CONTENT_DNS = 5,
};

/* How much of a direction's hello has been told. */
enum hello {
	HELLO_NONE = 0,
	/* It waits in the state: OpenSSL reads the head of a record by itself. */
	HELLO_HEAD = 1,
	HELLO_TOLD = 2,
};

struct socket_state {
	u64 id;
	u64 inode;
	u64 bytes[2];
	u16 family;
	u16 type;
	u16 local_port;
	u16 peer_port;
	u8 content;
	u8 hello[2];
	u8 head[2][RECORD_HEAD];
	u8 reserved[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, u64); /* struct sock */
	__type(value, struct socket_state);
} sockets SEC(".maps");

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

/* struct sockaddr of all families that matter here. */
struct address {
	u16 family;
	u16 port; /* network byte order */
	u8 rest[24];
};

static __always_inline u16 from_network(u16 value)
{
	return value >> 8 | value << 8;
}

/* What a system call transfers. */
struct io {
	u64 buffer;
	u64 vector;
	u64 vector_len;
	u64 name; /* of the peer: struct sockaddr, or 0 */
	u64 len;
	u32 fd;
	u16 direction;
	u16 reserved; /* set as well: a global function may read all of it */
};

static __always_inline struct sock *sock_of(struct file *file)
{
	struct socket *socket = READ(file, private_data);

	return READ(socket, sk);
}

static __always_inline void fill_addresses(struct asc_socket *record, struct sock *sk)
{
	u16 family = READ(sk, __sk_common.skc_family);

	__builtin_memset(record->local, 0, sizeof(record->local));
	__builtin_memset(record->peer, 0, sizeof(record->peer));
	record->local_port = 0;
	record->peer_port = 0;
	if (family == AF_INET) {
		BPF_CORE_READ_INTO((u32 *)record->local, sk, __sk_common.skc_rcv_saddr);
		BPF_CORE_READ_INTO((u32 *)record->peer, sk, __sk_common.skc_daddr);
	} else if (family == AF_INET6) {
		BPF_CORE_READ_INTO((struct in6_addr *)record->local, sk, __sk_common.skc_v6_rcv_saddr);
		BPF_CORE_READ_INTO((struct in6_addr *)record->peer, sk, __sk_common.skc_v6_daddr);
	} else {
		return;
	}
	record->local_port = READ(sk, __sk_common.skc_num);
	record->peer_port = from_network(READ(sk, __sk_common.skc_dport));
}

/* `name`: the address that the program named, which tells more than the socket of a connection that failed. */
static __always_inline void emit_socket(const struct socket_state *state, struct sock *sk, u16 op, s32 fd, s64 result, u64 name)
{
	u32 seq = draw_seq(), len = sizeof(struct asc_socket);
	struct asc_socket *record = bpf_ringbuf_reserve(&ring, sizeof(*record) + SUN_PATH_LEN, 0);

	if (!record) {
		count_drop(ASC_SOURCE_NET, ASC_RING_FULL, 0);
		return;
	}
	record->socket_id = state->id;
	record->inode = state->inode;
	record->op = op;
	record->family = state->family;
	record->socket_type = state->type;
	record->protocol = sk ? READ(sk, sk_protocol) : 0;
	record->result = result;
	record->fd = fd;
	record->path_len = 0;
	record->reserved = 0;
	record->sent = state->bytes[ASC_SENT];
	record->received = state->bytes[ASC_RECEIVED];
	fill_addresses(record, sk);
	if (name && state->family == AF_UNIX) {
		long got = bpf_probe_read_user_str(record + 1, SUN_PATH_LEN, (void *)(name + 2));

		if (got > 1 && got <= SUN_PATH_LEN) {
			record->path_len = got - 1;
			len += got - 1;
		}
	} else if (name && op == ASC_SOCKET_CONNECT) {
		struct address address = {};

		if (!bpf_probe_read_user(&address, sizeof(address), (void *)name)) {
			record->peer_port = from_network(address.port);
			if (address.family == AF_INET)
				__builtin_memcpy(record->peer, address.rest, 4);
			else if (address.family == AF_INET6)
				__builtin_memcpy(record->peer, address.rest + 4, 16);
		}
	}
	fill_header(&record->header, ASC_SOCKET, 0, len, seq);
	bpf_ringbuf_submit(record, wake_flags());
}

/* What is known of a socket. `is_new` is set when nothing was. */
static __always_inline struct socket_state *socket_state(struct file *file, struct sock *sk, bool *is_new)
{
	u64 key = (u64)sk, inode = READ(file, f_inode, i_ino);
	struct socket_state *state = bpf_map_lookup_elem(&sockets, &key);
	struct socket_state fresh = {};
	u8 yes = 1;

	*is_new = false;
	if (state && state->inode == inode)
		return state;
	if (state)
		bpf_map_delete_elem(&open_sockets, &state->id);
	fresh.id = unique_id();
	fresh.inode = inode;
	fresh.family = READ(sk, __sk_common.skc_family);
	fresh.type = READ(sk, sk_type);
	bpf_map_update_elem(&sockets, &key, &fresh, BPF_ANY);
	bpf_map_update_elem(&open_sockets, &fresh.id, &yes, BPF_ANY);
	*is_new = true;
	state = bpf_map_lookup_elem(&sockets, &key);
	if (!state)
		count_drop(ASC_SOURCE_NET, ASC_TABLE_FULL, 0);
	return state;
}

static __always_inline void socket_closed(struct file *file, u32 fd)
{
	struct sock *sk = sock_of(file);
	u64 key = (u64)sk;
	struct socket_state *state = bpf_map_lookup_elem(&sockets, &key);

	if (!state)
		return;
	if (want_net)
		emit_socket(state, sk, ASC_SOCKET_CLOSE, fd, 0, 0);
	bpf_map_delete_elem(&open_sockets, &state->id);
	bpf_map_delete_elem(&sockets, &key);
}

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

/* The first buffer that is not empty. */
static __always_inline u64 first_buffer(const struct io *io)
{
	struct {
		u64 address;
		u64 len;
	} buffer = {};

	if (io->buffer)
		return io->buffer;
	for (int i = 0; i < 4; i++) {
		if (i >= io->vector_len || bpf_probe_read_user(&buffer, sizeof(buffer), (void *)(io->vector + 16 * i)))
			return 0;
		if (buffer.len)
			return buffer.address;
	}
	return 0;
}

static __always_inline void emit_socket_data(const struct socket_state *state, const struct io *io, u16 content)
{
	struct asc_socket_data *record;
	u32 seq = draw_seq(), len = io->len, captured = len > HELLO_LEN ? HELLO_LEN : len, side = io->direction & 1, before = 0;
	u64 buffer = first_buffer(io);
	struct address address = {};
	u16 flags = captured < len ? ASC_TRUNCATED : 0;

	record = bpf_ringbuf_reserve(&ring, sizeof(*record) + RECORD_HEAD + HELLO_LEN, 0);
	if (!record) {
		count_drop(ASC_SOURCE_NET, ASC_RING_FULL, len);
		return;
	}
	if (io->name)
		bpf_probe_read_user(&address, sizeof(address), (void *)io->name);
	record->socket_id = state->id;
	record->direction = io->direction;
	record->content = content;
	record->family = address.family;
	record->peer_port = from_network(address.port);
	__builtin_memset(record->peer, 0, sizeof(record->peer));
	if (address.family == AF_INET)
		__builtin_memcpy(record->peer, address.rest, 4);
	else if (address.family == AF_INET6)
		__builtin_memcpy(record->peer, address.rest + 4, 16);
	barrier_var(captured);
	if (captured > HELLO_LEN)
		captured = HELLO_LEN;
	if (content == ASC_CONTENT_TLS_HELLO && state->hello[side] == HELLO_HEAD) {
		before = RECORD_HEAD;
		__builtin_memcpy(record + 1, state->head[side], RECORD_HEAD);
	}
	if (!buffer || bpf_probe_read_user((void *)(record + 1) + before, captured, (void *)buffer)) {
		flags = ASC_FAULT;
		captured = 0;
	}
	record->len = before + len;
	record->captured = before + captured;
	fill_header(&record->header, ASC_SOCKET_DATA, flags, sizeof(*record) + before + captured, seq);
	bpf_ringbuf_submit(record, wake_flags());
}

/* Whether the port of the peer, or of the socket itself, is that of DNS. */
static __always_inline bool is_dns(struct sock *sk, const struct io *io)
{
	struct address address = {};

	if (from_network(READ(sk, __sk_common.skc_dport)) == PORT_DNS ||
	    READ(sk, __sk_common.skc_num) == PORT_DNS)
		return true;
	return io->name && !bpf_probe_read_user(&address, 4, (void *)io->name) && from_network(address.port) == PORT_DNS;
}

/* Who does not ask from whom a datagram is expects it from where the last one went. */
static __always_inline bool is_datagram_of_dns(const struct socket_state *state, struct sock *sk, const struct io *io)
{
	return is_dns(sk, io) || (state->content == CONTENT_DNS && io->direction == ASC_RECEIVED && !io->name);
}

/* Four letters as the first bytes of a connection have them. */
#define LETTERS(a, b, c, d) ((u32)(a) | (u32)(b) << 8 | (u32)(c) << 16 | (u32)(d) << 24)

/* A handshake record of TLS: 22, 3, minor version. */
static __always_inline bool is_hello(u32 start)
{
	return (start & 0xffff) == LETTERS(22, 3, 0, 0);
}

static __always_inline u8 content_of(u32 start)
{
	switch (start) {
	case LETTERS('G', 'E', 'T', ' '):
	case LETTERS('P', 'O', 'S', 'T'):
	case LETTERS('P', 'U', 'T', ' '):
	case LETTERS('H', 'E', 'A', 'D'):
	case LETTERS('D', 'E', 'L', 'E'):
	case LETTERS('P', 'A', 'T', 'C'):
	case LETTERS('O', 'P', 'T', 'I'):
	case LETTERS('H', 'T', 'T', 'P'):
	case LETTERS('P', 'R', 'I', ' '):
		return CONTENT_HTTP;
	}
	if (start == LETTERS('C', 'O', 'N', 'N'))
		return CONTENT_TUNNEL;
	return is_hello(start) ? CONTENT_TLS : CONTENT_OTHER;
}

static __always_inline void emit_plain(struct socket_state *state, const struct io *io, u64 offset)
{
	u32 zero = 0;
	struct transfer *transfer = bpf_map_lookup_elem(&transfers, &zero);

	if (!transfer)
		return;
	start_transfer(transfer, io->len);
	transfer->address = io->buffer;
	transfer->left_here = io->buffer ? io->len : 0;
	transfer->vector = io->vector;
	transfer->vector_left = io->vector_len;
	transfer->object = state->id;
	transfer->direction = io->direction;
	transfer->library = ASC_PLAIN;
	transfer->offset = offset;
	emit_transfer(transfer);
}

/* Tells of the first record of TLS in a direction. */
static __always_inline void tell_hello(struct socket_state *state, const struct io *io)
{
	u32 side = io->direction & 1;

	if (state->hello[side] == HELLO_NONE && io->len == RECORD_HEAD &&
	    !bpf_probe_read_user(state->head[side], RECORD_HEAD, (void *)first_buffer(io))) {
		state->hello[side] = HELLO_HEAD;
		return;
	}
	emit_socket_data(state, io, ASC_CONTENT_TLS_HELLO);
	state->hello[side] = HELLO_TOLD;
}

static __always_inline void stream_io(struct socket_state *state, struct sock *sk, const struct target *target,
				      const struct io *io, u64 offset)
{
	u32 start = 0;
	u64 buffer;

	if (state->content == CONTENT_UNKNOWN || state->content == CONTENT_TUNNEL) {
		buffer = first_buffer(io);
		if (buffer)
			bpf_probe_read_user(&start, sizeof(start), (void *)buffer);
		if (state->content == CONTENT_UNKNOWN) {
			state->content = content_of(start);
			if (state->content == CONTENT_OTHER && is_dns(sk, io))
				state->content = CONTENT_DNS;
		} else if (is_hello(start)) {
			state->content = CONTENT_TLS;
		}
	}
	if (state->content == CONTENT_HTTP || state->content == CONTENT_DNS) {
		if (state->content == CONTENT_DNS ? want_net : want_plain)
			emit_plain(state, io, offset);
		return;
	}
	if (state->content == CONTENT_TLS && want_net && state->hello[io->direction & 1] != HELLO_TOLD)
		tell_hello(state, io);
	if (io->direction == ASC_SENT)
		socket_sent(target, state->id, io->len);
	else
		socket_received(target, state->id, first_buffer(io), io->len);
}

/*
 * Bytes went through a socket. A global function: the verifier looks at it once, and not at every way through it for each of
 * several messages.
 */
__noinline int socket_io(u64 file_address, const struct target *target, const struct io *io)
{
	struct file *file = (void *)file_address;
	struct socket_state *state;
	struct sock *sk;
	bool is_new;
	u64 offset;

	if (!target || !io)
		return 0;
	sk = sock_of(file);
	if (!sk)
		return 0;
	state = socket_state(file, sk, &is_new);
	if (!state)
		return 0;
	if (is_new && want_net && state->family != AF_UNIX)
		emit_socket(state, sk, ASC_SOCKET_USE, io->fd, 0, 0);
	offset = __sync_fetch_and_add(&state->bytes[io->direction & 1], io->len);
	if (state->family == AF_UNIX) {
		note_endpoint(state->inode, io->direction);
	} else if (state->type == SOCK_STREAM) {
		stream_io(state, sk, target, io, offset);
	} else if (state->type == SOCK_DGRAM && want_net && is_datagram_of_dns(state, sk, io)) {
		state->content = CONTENT_DNS;
		emit_socket_data(state, io, ASC_CONTENT_DNS);
	}
	return 0;
}

/* Cookies of connect, accept, bind and listen are the operations of the records. */
SEC("tracepoint")
int on_socket(struct syscall_exit *ctx)
{
	u16 op = bpf_get_attach_cookie(ctx);
	struct socket_state *state;
	struct arguments arguments;
	struct file *file;
	struct sock *sk;
	bool is_new;
	u32 fd;

	if (!target_of(bpf_get_current_pid_tgid() >> 32))
		return 0;
	read_arguments(&arguments);
	fd = arguments.at[0];
	if (op == ASC_SOCKET_ACCEPT) {
		if (ctx->result < 0)
			return 0;
		fd = ctx->result;
	}
	file = file_of(fd);
	if (!file || type_of(file) != S_IFSOCK)
		return 0;
	sk = sock_of(file);
	if (!sk)
		return 0;
	state = socket_state(file, sk, &is_new);
	if (!state || !want_net)
		return 0;
	/* The kernel's own messages (netlink, AF_PACKET) are no business of an agent. */
	if (state->family != AF_INET && state->family != AF_INET6 && state->family != AF_UNIX)
		return 0;
	emit_socket(state, sk, op, fd, ctx->result,
		    op == ASC_SOCKET_CONNECT || op == ASC_SOCKET_BIND ? arguments.at[1] : 0);
	return 0;
}
