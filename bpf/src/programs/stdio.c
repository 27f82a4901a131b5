/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * Source "stdio": what goes through descriptors 0, 1 and 2 of recorded processes over pipes, sockets and terminals.
 */
#include "transfer.h"
#include "descriptor.h"

enum speech { SPEECH_UNKNOWN = 0, SPEECH_JSON_RPC = 1, SPEECH_OTHER = 2 };

static __always_inline bool is_space(u8 byte)
{
	return byte == ' ' || byte == '\t' || byte == '\r' || byte == '\n';
}

/*
 * Whether a transfer begins as JSON-RPC does: with an object, an array of some, or the header that frames one (Content-Length).
 * Two bytes of it are looked at: of the blocks of an archive, many begin with one of them.
 */
static __always_inline u8 speech_of(const struct io *io)
{
	u64 buffer = first_buffer(io);
	u8 start[4] = {}, next;

	if (buffer && bpf_probe_read_user(start, io->len < sizeof(start) ? 1 : sizeof(start), (void *)buffer))
		return SPEECH_OTHER;
	/* Of one that is short, the first byte says it all. */
	next = io->len < sizeof(start) ? ' ' : start[1];
	if (start[0] == '{')
		return next == '"' || is_space(next) ? SPEECH_JSON_RPC : SPEECH_OTHER;
	if (start[0] == '[')
		return next == '{' || is_space(next) ? SPEECH_JSON_RPC : SPEECH_OTHER;
	if (is_space(start[0]))
		return SPEECH_UNKNOWN;
	return *(u32 *)start == LETTERS('C', 'o', 'n', 't') ? SPEECH_JSON_RPC : SPEECH_OTHER;
}

static __always_inline bool is_wanted(struct target *target, const struct io *io)
{
	u32 fd = io->fd;

	if (want_stdio == ASC_STDIO_ALL)
		return true;
	if (want_stdio == ASC_STDIO_OFF || fd > 1)
		return false;
	/* The compiler knows by now that it is below 2; the verifier does not. */
	barrier_var(fd);
	fd &= 3;
	/* A server may say something else before it begins to speak. */
	if (target->speech[fd] != SPEECH_JSON_RPC)
		target->speech[fd] = speech_of(io);
	return target->speech[fd] != SPEECH_OTHER;
}

/* Bytes went through a descriptor below 3. */
static __always_inline void stdio_io(struct target *target, const struct io *io, u16 type, u64 object, u64 peer_object)
{
	u32 fd = io->fd, zero = 0;
	struct transfer *transfer;

	if (fd > 2 || !is_wanted(target, io))
		return;
	transfer = bpf_map_lookup_elem(&transfers, &zero);
	if (!transfer)
		return;
	start_transfer_of(transfer, io);
	transfer->object = object;
	transfer->peer_object = peer_object;
	transfer->direction = io->direction;
	transfer->library = 0;
	transfer->fd = fd;
	transfer->object_type = type;
	barrier_var(fd);
	fd &= 3;
	transfer->offset = __sync_fetch_and_add(&target->stdio_offset[fd][io->direction & 1], io->len);
	emit_transfer(transfer);
}
