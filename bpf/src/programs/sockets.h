/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * Sockets: what is known of each, their addresses and names, and the record that tells of them. Included by net.c.
 */

#define AF_UNIX 1
#define AF_INET 2
#define AF_INET6 10
#define EPERM 1
#define EACCES 13
#define EINPROGRESS 115
#define SOCK_STREAM 1
#define SOCK_DGRAM 2
#define SOCK_RAW 3
#define TCP 6
#define UDP 17
#define PORT_DNS 53
#define SUN_PATH_LEN 108
#define FAMILY_LEN 2 /* of the family, which an address begins with */
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
	/* Transfers of which the first bytes were looked at later on. */
	u8 looked_at;
	u8 reserved;
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
	/* Of a raw socket the kernel keeps its protocol there. */
	if (READ(sk, sk_type) == SOCK_RAW)
		return;
	record->local_port = READ(sk, __sk_common.skc_num);
	record->peer_port = from_network(READ(sk, __sk_common.skc_dport));
}

/* The name of a local socket, which is a path, or an abstract one: that begins with NUL, and `len` says where it ends. */
static __always_inline u32 append_name(void *to, const void *name, u32 len, bool user)
{
	long got = user ? read_user_text(to, SUN_PATH_LEN, name) : bpf_probe_read_kernel_str(to, SUN_PATH_LEN, name) - 1;

	if (got > 0)
		return got < SUN_PATH_LEN ? got : 0;
	barrier_var(len);
	if (got < 0 || len > SUN_PATH_LEN)
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
	record->protocol = sk ? READ(sk, sk_protocol) : state->type == SOCK_STREAM ? TCP : UDP;
	record->result = result;
	record->fd = fd;
	record->path_len = 0;
	record->reserved = 0;
	record->sent = state->bytes[ASC_SENT];
	record->received = state->bytes[ASC_RECEIVED];
	if (sk)
		fill_addresses(record, sk);
	else
		__builtin_memset(&record->local_port, 0, (void *)&record->sent - (void *)&record->local_port);
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
	const int syn_sent = 2;
	u32 error;

	/* Another socket may have had its address. */
	if (!state || state->inode != READ(file, f_inode, i_ino))
		return;
	error = state->error;
	/* Given up before anybody has answered. */
	if (!error && state->type == SOCK_STREAM && READ(sk, __sk_common.skc_state) == syn_sent)
		error = EINPROGRESS;
	if (want_net)
		emit_socket(state, sk, ASC_SOCKET_CLOSE, fd, -(s64)error, 0, 0);
	bpf_map_delete_elem(&open_sockets, &state->id);
	bpf_map_delete_elem(&sockets, &key);
}
