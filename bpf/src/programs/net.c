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
#define EINPROGRESS 115
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define MSG_PEEK 2
#define PORT_DNS 53
#define SUN_PATH_LEN 108
#define FAMILY_LEN 2 /* of the family, which an address begins with */
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
	u8 reserved[2];
	/* The first bytes, and how many there were so far. */
	u8 started;
	union {
		u32 start;
		u8 start_bytes[8];
	};
	/* Why a connection that was still being made failed. */
	u32 error;
	u32 reserved2;
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

/* The name of a local socket, which is a path, or an abstract one: that begins with NUL, and `len` says where it ends. */
static __always_inline u32 append_name(void *to, const void *name, u32 len, bool user)
{
	long got = user ? bpf_probe_read_user_str(to, SUN_PATH_LEN, name) : bpf_probe_read_kernel_str(to, SUN_PATH_LEN, name);

	if (got > 1)
		return got <= SUN_PATH_LEN ? got - 1 : 0;
	barrier_var(len);
	if (got < 1 || len > SUN_PATH_LEN)
		return 0;
	return (user ? bpf_probe_read_user(to, len, name) : bpf_probe_read_kernel(to, len, name)) ? 0 : len;
}

/* The same of the socket that accepted a connection. */
static __always_inline u32 append_own_name(void *to, struct sock *sk)
{
	struct unix_sock *unix = (void *)sk;
	struct unix_address *address = READ(unix, addr);

	if (!address)
		return 0;
	return append_name(to, (void *)address + bpf_core_field_offset(struct unix_address, name) + FAMILY_LEN,
			   READ(address, len) - FAMILY_LEN, false);
}

/* `name`: the address that the program named, which tells more than the socket of a connection that failed. */
static __always_inline void emit_socket(const struct socket_state *state, struct sock *sk, u16 op, s32 fd, s64 result, u64 name,
					u32 name_len)
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
		len += record->path_len = append_name(record + 1, (void *)name + FAMILY_LEN, name_len - FAMILY_LEN, true);
	} else if (name && (op == ASC_SOCKET_BIND ? result < 0 : 1)) {
		struct address address = {};
		u8 *ip = op == ASC_SOCKET_BIND ? record->local : record->peer;

		if (!bpf_probe_read_user(&address, sizeof(address), (void *)name)) {
			if (op == ASC_SOCKET_BIND)
				record->local_port = from_network(address.port);
			else
				record->peer_port = from_network(address.port);
			if (address.family == AF_INET)
				__builtin_memcpy(ip, address.rest, 4);
			else if (address.family == AF_INET6)
				__builtin_memcpy(ip, address.rest + 4, 16);
		}
	} else if (state->family == AF_UNIX && op == ASC_SOCKET_ACCEPT) {
		len += record->path_len = append_own_name(record + 1, sk);
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

	/* Another socket may have had its address. */
	if (!state || state->inode != READ(file, f_inode, i_ino))
		return;
	if (want_net)
		emit_socket(state, sk, ASC_SOCKET_CLOSE, fd, -(s64)state->error, 0, 0);
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

/* Buffers of a transfer in which its first bytes are looked for. */
#define FIRST_BUFFERS 4

/* One of the first buffers of a transfer. Returns false behind the last. */
static __always_inline bool buffer_at(const struct io *io, int index, struct buffer *buffer)
{
	if (io->buffer) {
		buffer->address = io->buffer;
		buffer->len = io->len;
		return !index;
	}
	return index < io->vector_len &&
	       !bpf_probe_read_user(buffer, sizeof(*buffer), (void *)(io->vector + index * sizeof(*buffer)));
}

/* The first buffer that is not empty. */
static __always_inline u64 first_buffer(const struct io *io)
{
	struct buffer buffer;

	for (int i = 0; i < FIRST_BUFFERS; i++) {
		if (!buffer_at(io, i, &buffer))
			return 0;
		if (buffer.len)
			return buffer.address;
	}
	return 0;
}

/* Copies the first bytes of a transfer to where there is room for twice as many as HELLO_LEN. Returns how many. */
static __always_inline u32 copy_start(void *to, const struct io *io, u32 wanted)
{
	struct buffer buffer;
	u32 got = 0, len;

	for (int i = 0; i < FIRST_BUFFERS; i++) {
		if (got >= wanted || !buffer_at(io, i, &buffer))
			break;
		len = buffer.len > wanted - got ? wanted - got : buffer.len;
		barrier_var(len);
		if (len > HELLO_LEN)
			len = HELLO_LEN;
		if (bpf_probe_read_user(to + (got & (HELLO_LEN - 1)), len, (void *)buffer.address))
			break;
		got += len;
	}
	return got;
}

static __always_inline void emit_socket_data(const struct socket_state *state, const struct io *io, u16 content)
{
	struct asc_socket_data *record;
	u32 seq = draw_seq(), len = io->len, captured = len > HELLO_LEN ? HELLO_LEN : len, side = io->direction & 1, before = 0;
	struct address address = {};
	u16 flags;

	record = bpf_ringbuf_reserve(&ring, sizeof(*record) + RECORD_HEAD + 2 * HELLO_LEN, 0);
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

#define MAY_BE(a, b, c, d) (!((start ^ LETTERS(a, b, c, d)) & seen))

/* What the first bytes may be the beginning of; of fewer than four, HTTP comes before what is not known yet. */
static __always_inline u8 content_of(u32 start, u32 count)
{
	u32 seen = count < 4 ? (1u << 8 * count) - 1 : ~0u;

	if (MAY_BE('G', 'E', 'T', ' ') || MAY_BE('P', 'O', 'S', 'T') || MAY_BE('P', 'U', 'T', ' ') || MAY_BE('H', 'E', 'A', 'D') ||
	    MAY_BE('D', 'E', 'L', 'E') || MAY_BE('P', 'A', 'T', 'C') || MAY_BE('O', 'P', 'T', 'I') || MAY_BE('P', 'R', 'O', 'P') || MAY_BE('T', 'R', 'A', 'C') ||
	    MAY_BE('H', 'T', 'T', 'P') || MAY_BE('P', 'R', 'I', ' '))
		return CONTENT_HTTP;
	if (MAY_BE('C', 'O', 'N', 'N'))
		return count < 4 ? CONTENT_UNKNOWN : CONTENT_TUNNEL;
	if (is_hello(start & seen))
		return CONTENT_TLS;
	return count == 1 && start == 22 ? CONTENT_UNKNOWN : CONTENT_OTHER;
}

/* Adds what a transfer has of the first four bytes of a connection, which may come one by one. */
static __always_inline void note_start(struct socket_state *state, const struct io *io)
{
	struct buffer buffer;
	u64 left = io->len;

	for (int i = 0; i < FIRST_BUFFERS; i++) {
		u32 have = state->started, len;

		if (have > 3 || !left || !buffer_at(io, i, &buffer))
			break;
		len = buffer.len > left ? left : buffer.len;
		if (len > 4 - have)
			len = 4 - have;
		barrier_var(len);
		if (len > 4)
			len = 4;
		if (bpf_probe_read_user(&state->start_bytes[have & 3], len, (void *)buffer.address))
			break;
		state->started = have + len;
		left -= len;
	}
}

/* Whether the bytes of a connection are recorded as they are; what it carries is found out on the way. */
static __always_inline bool is_plain(struct socket_state *state, struct sock *sk, const struct io *io)
{
	u8 content = state->content;
	u32 start = 0;
	u64 buffer;

	if (content == CONTENT_UNKNOWN) {
		note_start(state, io);
		content = content_of(state->start, state->started);
		if (content == CONTENT_OTHER && is_dns(sk, io))
			content = CONTENT_DNS;
		/* Until all of a method is there, it only looks like HTTP. */
		if (content != CONTENT_HTTP || state->started > 3)
			state->content = content;
	} else if (content == CONTENT_TUNNEL) {
		buffer = first_buffer(io);
		if (buffer)
			bpf_probe_read_user(&start, sizeof(start), (void *)buffer);
		if (is_hello(start))
			state->content = CONTENT_TLS;
	}
	return content == CONTENT_HTTP || content == CONTENT_DNS;
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
	if (is_plain(state, sk, io)) {
		if (state->content == CONTENT_DNS ? want_net : want_plain)
			emit_plain(state, io, offset);
		return;
	}
	if (state->content == CONTENT_TLS && want_net && state->hello[io->direction & 1] != HELLO_TOLD)
		tell_hello(state, io);
	note_routine(target, state->id, io->direction);
	if (io->direction == ASC_SENT) {
		socket_sent(target, state->id, first_buffer(io), io->len);
	} else {
		received_within(state->id, io->len);
		socket_received(target, state->id, first_buffer(io), io->len);
	}
}

/* The kernel's own messages (netlink, AF_PACKET) are no business of an agent. */
static __always_inline bool is_watched(u16 family)
{
	return family == AF_INET || family == AF_INET6 || family == AF_UNIX;
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
	if (!sk || !is_watched(READ(sk, __sk_common.skc_family)))
		return 0;
	state = socket_state(file, sk, &is_new);
	if (!state)
		return 0;
	if (is_new && want_net && state->family != AF_UNIX)
		emit_socket(state, sk, ASC_SOCKET_USE, io->fd, 0, state->type == SOCK_DGRAM ? io->name : 0, 0);
	offset = __sync_fetch_and_add(&state->bytes[io->direction & 1], io->len);
	if (state->family == AF_UNIX)
		note_endpoint(state->inode, io->direction);
	if (state->type == SOCK_STREAM) {
		stream_io(state, sk, target, io, offset);
	} else if (state->family != AF_UNIX && state->type == SOCK_DGRAM && want_net && is_datagram_of_dns(state, sk, io)) {
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
	s64 result = ctx->result;
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
	if (!sk || !is_watched(READ(sk, __sk_common.skc_family)))
		return 0;
	state = socket_state(file, sk, &is_new);
	if (!state || !want_net)
		return 0;
	/* Over loopback a connection may have failed before the call returns that only began it. */
	if (op == ASC_SOCKET_CONNECT && ctx->result == -EINPROGRESS && READ(sk, sk_err))
		result = -READ(sk, sk_err);
	emit_socket(state, sk, op, fd, result,
		    op == ASC_SOCKET_CONNECT || op == ASC_SOCKET_BIND ? arguments.at[1] : 0, arguments.at[2]);
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
