/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * Where TLS is seen below its connections, what is opened has to be found among what sockets have received. Mostly it is opened
 * where it was received; rustls before 0.22 copies it. Included by tls.c.
 */

#define RECORD_HEAD 5
/* What TLS 1.2 puts before what is sealed, at most. */
#define EXPLICIT_NONCE 8
/* Records of one call that received them which are looked at. */
#define MAX_RECEIVED_RECORDS 8

static __always_inline u64 word_at(u64 address)
{
	u64 word = 0;

	bpf_probe_read_user(&word, sizeof(word), (void *)address);
	return word;
}

static __always_inline void note_begun_record(struct calls *all, u64 socket)
{
	u64 at = all->received_at + RECORD_HEAD, end = all->received_end;
	u8 head[RECORD_HEAD];

	if (socket != all->received_socket)
		all->begun[0] = all->begun[1] = 0;
	if (at + EXPLICIT_NONCE >= end || bpf_probe_read_user(head, sizeof(head), (void *)all->received_at) || head[1] != 3 ||
	    at + ((u64)head[3] << 8 | head[4]) <= end)
		return;
	all->begun[0] = word_at(at);
	all->begun[1] = word_at(at + EXPLICIT_NONCE);
}

/* A socket has received: an object that opens what it put there is its. */
static __always_inline void socket_received(const struct target *target, u64 socket, const struct io *io)
{
	struct calls *all;
	u64 buffer;

	if (!(target->told & TOLD_WHERE))
		return;
	buffer = first_buffer(io);
	if (!buffer)
		return;
	all = calls_of_thread();
	if (!all)
		return;
	all->received_at = buffer;
	all->received_end = buffer + io->len;
	note_begun_record(all, socket);
	all->received_socket = socket;
}

/*
 * Whether a record, which ends before `end`, is what the thread has received last: it lies there, or is a copy (rustls before
 * 0.22) of what ends there, or of one of several.
 */
static __always_inline bool is_received(const struct calls *all, const struct call *call, u64 end)
{
	u64 at = all->received_at, wanted;

	if (call->input < all->received_end && end > at)
		return true;
	wanted = word_at(end - sizeof(wanted));
	if (wanted && wanted == word_at(all->received_end - sizeof(wanted)))
		return true;
	wanted = word_at(call->input);
	if (!wanted)
		return false;
	if (wanted == all->begun[0] || wanted == all->begun[1])
		return true;
	for (int i = 0; i < MAX_RECEIVED_RECORDS; i++) {
		u8 head[RECORD_HEAD];

		if (at + RECORD_HEAD + EXPLICIT_NONCE >= all->received_end ||
		    bpf_probe_read_user(head, sizeof(head), (void *)at) || head[1] != 3)
			return false;
		at += RECORD_HEAD;
		if (word_at(at) == wanted || word_at(at + EXPLICIT_NONCE) == wanted)
			return true;
		at += (u64)head[3] << 8 | head[4];
	}
	return false;
}
