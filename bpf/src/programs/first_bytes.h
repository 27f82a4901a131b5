/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * The first bytes of a connection, in whatever pieces they come, and what they say that it carries. Included by net.c.
 */

#define HELLO_LEN 2048

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

/* Whether the port of the peer, or of the socket itself, is that of DNS. */
static __always_inline bool is_dns(struct sock *sk, const struct io *io)
{
	struct address address = {};

	if (from_network(READ(sk, __sk_common.skc_dport)) == PORT_DNS ||
	    READ(sk, __sk_common.skc_num) == PORT_DNS)
		return true;
	return io->name && !bpf_probe_read_user(&address, 4, (void *)io->name) && from_network(address.port) == PORT_DNS;
}

#define RESOLVER "/run/systemd/resolve/io.systemd.Resolve"

/* Whether this is where systemd-resolved is asked, of which the whole conversation is recorded. */
static __always_inline bool is_resolver(u64 name)
{
	char path[sizeof(RESOLVER)] = {};
	bool same = true;

	if (bpf_probe_read_user(path, sizeof(path), (void *)name + FAMILY_LEN))
		return false;
#pragma unroll
	for (u32 i = 0; i < sizeof(path); i++)
		same &= path[i] == RESOLVER[i];
	return same;
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

/* TLS may come later: after STARTTLS, or what a proxy was asked. So many transfers of a connection are looked at. */
#define MAX_LOOKED_AT 32
#define MESSAGE_TYPE 5 /* of the handshake, behind the head of its record */

static __always_inline bool turns_to_tls(struct socket_state *state, const struct io *io)
{
	u8 start[MESSAGE_TYPE + 1] = {};
	u64 buffer;
	u32 len = io->len == RECORD_HEAD ? RECORD_HEAD : sizeof(start);

	if (state->looked_at >= MAX_LOOKED_AT || io->len < RECORD_HEAD)
		return false;
	state->looked_at++;
	buffer = first_buffer(io);
	if (!buffer || bpf_probe_read_user(start, len, (void *)buffer))
		return false;
	/* The client's hello, or the server's. OpenSSL reads the head of a record by itself. */
	return is_hello(LETTERS(start[0], start[1], 0, 0)) && start[2] <= 4 && (len == RECORD_HEAD || start[MESSAGE_TYPE] == 1 || start[MESSAGE_TYPE] == 2);
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
	} else if (content == CONTENT_OTHER && turns_to_tls(state, io)) {
		state->content = CONTENT_TLS;
	}
	return content == CONTENT_HTTP || content == CONTENT_DNS;
}
