/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * The peers of sockets whose messages go one by one, each to whomever it names. Of one peer the socket's own records tell; what
 * went to and from each of several is counted apart, so that nobody hides behind another. Included by sockets.h.
 */

/* Those of a socket that are told apart. */
#define MAX_PEERS 32

enum several {
	SEVERAL_NOT = 0,
	SEVERAL_PEERS = 1,
	/* They were forgotten for those of other sockets. */
	SEVERAL_LOST = 2,
};

struct peer {
	struct peer_name name;
	u64 bytes[2];
};

/* In the order in which they came; behind them the others together, of which there were too many. */
struct peers {
	u32 count;
	/* With whom the last message went. */
	u32 last;
	struct peer at[MAX_PEERS + 1];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1024);
	__type(key, u64); /* id of the socket */
	__type(value, struct peers);
} peers_of SEC(".maps");

/* Nobody yet: too large for the stack. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct peers);
} no_peers SEC(".maps");

/* `name`: as the program says it, which a local socket needs; or 0. */
static __always_inline void emit_peer(const struct socket_state *state, struct sock *sk, u32 number, const struct peer *peer,
				      u64 name, u32 name_len)
{
	u32 seq = draw_seq(), len = sizeof(struct asc_socket);
	struct asc_socket *record = bpf_ringbuf_reserve(&ring, sizeof(*record) + SUN_PATH_LEN, 0);

	if (!record) {
		count_drop(ASC_SOURCE_NET, ASC_RING_FULL, 0);
		return;
	}
	fill_socket(record, state, sk, ASC_SOCKET_PEER);
	record->result = number;
	record->fd = -1;
	record->sent = peer->bytes[ASC_SENT];
	record->received = peer->bytes[ASC_RECEIVED];
	if (state->family == AF_UNIX) {
		if (name)
			len += record->path_len = append_name(record + 1, (void *)name + FAMILY_LEN, name_len - FAMILY_LEN, true);
	} else {
		__builtin_memcpy(record->peer, peer->name.address, sizeof(record->peer));
		record->peer_port = peer->name.port;
	}
	fill_header(&record->header, ASC_SOCKET, 0, len, seq);
	bpf_ringbuf_submit(record, wake_flags());
}

/* The peers of a socket that has more than one. All until now went with the first. */
static __always_inline struct peers *several_peers(struct socket_state *state, struct sock *sk, const struct io *io)
{
	u64 id = state->id; /* a key is to be on the stack, or in a map */
	struct peers *peers = bpf_map_lookup_elem(&peers_of, &id), *none;
	u32 zero = 0, side = io->direction & 1;

	if (peers || state->several == SEVERAL_LOST)
		return peers;
	none = bpf_map_lookup_elem(&no_peers, &zero);
	if (!none)
		return NULL;
	if (!state->several) {
		bpf_map_update_elem(&peers_of, &id, none, BPF_NOEXIST);
		peers = bpf_map_lookup_elem(&peers_of, &id);
	}
	if (!peers) {
		state->several = SEVERAL_LOST;
		count_drop(ASC_SOURCE_NET, ASC_TABLE_FULL, 0);
		return NULL;
	}
	state->several = SEVERAL_PEERS;
	peers->count = 1;
	peers->at[0].name = state->peer;
	peers->at[0].bytes[!side] = state->bytes[!side];
	peers->at[0].bytes[side] = state->bytes[side] - io->len;
	emit_peer(state, sk, 0, &peers->at[0], 0, 0);
	return peers;
}

/* The number of a peer, which is added if it is not there. */
static __always_inline u32 number_of(struct peers *peers, const struct peer_name *name, bool *is_new)
{
	u32 number;

	for (number = 0; number < MAX_PEERS; number++) {
		if (number >= peers->count)
			break;
		if (is_same(&peers->at[number].name, name))
			return number;
	}
	if (number < MAX_PEERS)
		number = __sync_fetch_and_add(&peers->count, 1);
	if (number < MAX_PEERS) {
		*is_new = true;
		peers->at[number].name = *name;
		return number;
	}
	*is_new = !peers->at[MAX_PEERS].bytes[0] && !peers->at[MAX_PEERS].bytes[1];
	return MAX_PEERS;
}

/* A message went with this peer; who is not named is the one of the message before. */
static __always_inline void count_peer(struct socket_state *state, struct sock *sk, const struct io *io,
				       const struct peer_name *name)
{
	struct peers *peers = several_peers(state, sk, io);
	bool is_new = false;
	u32 number;

	if (!peers)
		return;
	number = is_named(name) ? number_of(peers, name, &is_new) : peers->last;
	if (number > MAX_PEERS)
		return;
	__sync_fetch_and_add(&peers->at[number].bytes[io->direction & 1], io->len);
	peers->last = number;
	if (!is_new)
		return;
	if (number == MAX_PEERS)
		count_drop(ASC_SOURCE_NET, ASC_TABLE_FULL, 0);
	emit_peer(state, sk, number, &peers->at[number], io->name, io->name_len);
}

/*
 * Whom a message went with, as far as the call or the socket says; of what a local socket receives neither does. `name` as of
 * struct io, or 0.
 */
static __always_inline struct peer_name *peer_of(const struct socket_state *state, struct sock *sk, u64 name, u32 name_len)
{
	u32 zero = 0;
	struct naming *naming = bpf_map_lookup_elem(&namings, &zero);
	struct peer_name *peer;

	if (!naming)
		return NULL;
	peer = &naming->name;
	__builtin_memset(peer, 0, sizeof(*peer));
	if (state->family == AF_UNIX) {
		if (name)
			digest_name(naming, name, name_len);
	} else if (name) {
		read_address(peer->address, &peer->port, state->family, (void *)name);
	} else if (state->family == AF_INET) {
		peer->address[0] = READ(sk, __sk_common.skc_daddr);
		peer->port = from_network(READ(sk, __sk_common.skc_dport));
	} else if (state->family == AF_INET6) {
		BPF_CORE_READ_INTO((struct in6_addr *)peer->address, sk, __sk_common.skc_v6_daddr);
		peer->port = from_network(READ(sk, __sk_common.skc_dport));
	}
	/* It has none, whatever a program says. */
	if (state->type == SOCK_RAW)
		peer->port = 0;
	return peer;
}

/* A message went through a socket: tells of the peer if it is another one than before. */
static __always_inline void note_peer(struct socket_state *state, struct sock *sk, const struct io *io)
{
	struct peer_name *peer;
	bool named;

	peer = peer_of(state, sk, state->family == AF_UNIX && io->direction == ASC_RECEIVED ? 0 : io->name, io->name_len);
	if (!peer)
		return;
	named = is_named(peer);
	if (named && !is_named(&state->peer)) {
		state->peer = *peer;
		state->told = true;
		emit_socket(state, sk, ASC_SOCKET_USE, io->fd, 0, io->name, io->name_len);
	} else if (state->several || (named && !is_same(peer, &state->peer))) {
		count_peer(state, sk, io, peer);
	} else if (!state->told && state->family != AF_UNIX) {
		state->told = true;
		emit_socket(state, sk, ASC_SOCKET_USE, io->fd, 0, 0, 0);
	}
}

/*
 * A socket of messages is connected, to another peer than before perhaps. Where nothing went, there was none before. What a
 * local socket sends goes there from now on. A global function: verified once.
 */
__noinline int message_connect(struct socket_state *state, u64 file, u64 name, u32 name_len)
{
	struct sock *sk = sock_of((void *)file);
	struct io io = { .name = name, .name_len = name_len };
	struct peer_name *peer;

	if (!state)
		return 0;
	peer = peer_of(state, sk, state->family == AF_UNIX ? name : 0, name_len);
	if (!peer)
		return 0;
	if (!state->bytes[0] && !state->bytes[1])
		state->peer = *peer;
	else if (state->family == AF_UNIX && is_named(peer) && (state->several || !is_same(peer, &state->peer)))
		count_peer(state, sk, &io, peer);
	return 0;
}

/* What went with a peer, now that its socket is closed. A global function: verified once. */
__noinline int tell_peer(u64 file, u32 number)
{
	struct sock *sk = sock_of((void *)file);
	u64 key = (u64)sk;
	struct socket_state *state = bpf_map_lookup_elem(&sockets, &key);
	struct peers *peers = state ? bpf_map_lookup_elem(&peers_of, &state->id) : NULL;
	struct peer *peer;

	if (!peers || number > MAX_PEERS)
		return 1;
	peer = &peers->at[number];
	if (want_net && (peer->bytes[0] || peer->bytes[1]))
		emit_peer(state, sk, number, peer, 0, 0);
	return 0;
}

static __always_inline void tell_peers(const struct socket_state *state, u64 file)
{
	for (u32 number = 0; number <= MAX_PEERS; number++)
		if (tell_peer(file, number))
			break;
	bpf_map_delete_elem(&peers_of, &state->id);
}
