/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * Reads that leave what they read where it is. Included by tls.c.
 *
 * BoringSSL's SSL_read is SSL_peek, and takes off what that gave. Where it was compiled into those who call it, SSL_peek alone is
 * there to be probed; what it gives that was given before, and is still pending, is not told again. GnuTLS hands out packets.
 */

/* What is pending: a pointer and a length. */
struct pending {
	u64 bytes;
	u64 len;
};

static __always_inline void read_pending(u64 ssl, u64 cookie, struct pending *pending)
{
	u64 state = 0;

	pending->bytes = pending->len = 0;
	if (!bpf_probe_read_user(&state, sizeof(state), (void *)(ssl + STATE_AT(cookie))))
		bpf_probe_read_user(pending, sizeof(*pending), (void *)(state + PENDING_AT(cookie)));
}

static __always_inline void enter_peek(struct call *call)
{
	struct pending pending;

	read_pending(call->ssl, call->cookie, &pending);
	call->input = pending.bytes;
	call->input_len = pending.len;
}

/* How many of the bytes that the call has read were given out before. */
static __always_inline u64 given_before(struct connection *connection, const struct call *call, u64 len)
{
	u64 given = connection->given, before = 0;
	struct pending pending;

	/* What was pending when the call began is what the last one left, without what its caller took off. */
	if (given > call->input && given - call->input <= call->input_len)
		before = given - call->input;
	read_pending(call->ssl, call->cookie, &pending);
	if (before < len)
		connection->given = pending.bytes + len;
	return before < len ? before : len;
}

/* struct mbuffer_st of GnuTLS. */
struct packet {
	u64 next;
	u64 previous;
	u64 mark; /* of the bytes, so many are done with */
	u64 bytes;
	u32 len;
};

/* Where the bytes of a packet are that was put at `place`; 0 if they are not as many as was said. */
static __always_inline u64 packet_bytes(u64 place, u64 len)
{
	struct packet packet = {};
	u64 at = 0;

	if (bpf_probe_read_user(&at, sizeof(at), (void *)place) || bpf_probe_read_user(&packet, sizeof(packet), (void *)at))
		return 0;
	return packet.len - packet.mark == len ? packet.bytes + packet.mark : 0;
}
