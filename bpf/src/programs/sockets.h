/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * Sockets: what is known of each, and the record that tells of them. Included by net.c.
 */
#include "addresses.h"

#define EPERM 1
#define EACCES 13
#define EINPROGRESS 115
#define TCP 6
#define UDP 17
#define PORT_DNS 53
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
	/* Whether a record has told of it. */
	u16 told;
	/* Whether it has several peers: enum several. */
	u16 several;
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
	/* Of messages that go one by one, the first peer. */
	struct peer_name peer;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, u64); /* struct sock */
	__type(value, struct socket_state);
} sockets SEC(".maps");

/* One that is new, before it stands among the others. The stack has no room for it below others. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct socket_state);
} new_sockets SEC(".maps");

static __always_inline struct sock *sock_of(struct file *file)
{
	struct socket *socket = READ(file, private_data);

	return READ(socket, sk);
}

/* What any record of a socket says; the kernel's socket may be gone. */
static __always_inline void fill_socket(struct asc_socket *record, const struct socket_state *state, struct sock *sk, u16 op)
{
	record->socket_id = state->id;
	record->inode = state->inode;
	record->op = op;
	record->family = state->family;
	record->socket_type = state->type;
	record->protocol = sk ? READ(sk, sk_protocol) : state->type == SOCK_STREAM ? TCP : UDP;
	record->path_len = 0;
	record->reserved = 0;
	if (sk)
		fill_addresses(record, sk);
	else
		__builtin_memset(&record->local_port, 0, (void *)&record->sent - (void *)&record->local_port);
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
	fill_socket(record, state, sk, op);
	record->result = result;
	record->fd = fd;
	record->sent = state->bytes[ASC_SENT];
	record->received = state->bytes[ASC_RECEIVED];
	if (name && state->family == AF_UNIX) {
		len += record->path_len = append_name(record + 1, (void *)name + FAMILY_LEN, name_len - FAMILY_LEN, true);
	} else if (name && (op == ASC_SOCKET_BIND ? result < 0 || state->family == AF_VSOCK : 1)) {
		if (op == ASC_SOCKET_BIND)
			read_address((u64 *)record->local, &record->local_port, state->family, (void *)name);
		else
			read_address((u64 *)record->peer, &record->peer_port, state->family, (void *)name);
	} else if (state->family == AF_UNIX && (op == ASC_SOCKET_ACCEPT || op == ASC_SOCKET_LISTEN)) {
		len += record->path_len = append_own_name(record + 1, sk);
	}
	fill_header(&record->header, ASC_SOCKET, 0, len, seq);
	bpf_ringbuf_submit(record, wake_flags());
}

/* Whether what goes through it goes one by one, each to whomever it names. */
static __always_inline bool is_message(const struct socket_state *state)
{
	return state->type == SOCK_DGRAM || state->type == SOCK_RAW;
}

/* What is known of a socket. `is_new` is set when nothing was. */
static __always_inline struct socket_state *socket_state(struct file *file, struct sock *sk, bool *is_new)
{
	u64 key = (u64)sk, inode = READ(file, f_inode, i_ino);
	struct socket_state *state = bpf_map_lookup_elem(&sockets, &key);
	struct socket_state *fresh;
	u32 zero = 0;
	u64 id;
	u8 yes = 1;

	*is_new = false;
	if (state && state->inode == inode)
		return state;
	if (state)
		bpf_map_delete_elem(&open_sockets, &state->id);
	fresh = bpf_map_lookup_elem(&new_sockets, &zero);
	if (!fresh)
		return NULL;
	__builtin_memset(fresh, 0, sizeof(*fresh));
	fresh->id = id = unique_id();
	fresh->inode = inode;
	fresh->family = READ(sk, __sk_common.skc_family);
	fresh->type = READ(sk, sk_type);
	bpf_map_update_elem(&sockets, &key, fresh, BPF_ANY);
	bpf_map_update_elem(&open_sockets, &id, &yes, BPF_ANY);
	*is_new = true;
	state = bpf_map_lookup_elem(&sockets, &key);
	if (!state)
		count_drop(ASC_SOURCE_NET, ASC_TABLE_FULL, 0);
	return state;
}

#include "peers.h"

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
	if (state->several)
		tell_peers(state, (u64)file);
	if (want_net)
		emit_socket(state, sk, ASC_SOCKET_CLOSE, fd, -(s64)error, 0, 0);
	bpf_map_delete_elem(&open_sockets, &state->id);
	bpf_map_delete_elem(&sockets, &key);
}
