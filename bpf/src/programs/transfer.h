/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * A transfer: bytes of user memory on their way into records. One call may transfer any number of bytes, scattered over any
 * number of buffers; each piece of up to CHUNK bytes becomes a record. The kernel counts each stream's bytes: what is lost on
 * the way to the file shows as a gap.
 */
#ifndef AGENTSIGHT_TRANSFER_H
#define AGENTSIGHT_TRANSFER_H

#include "common.h"

#define CHUNK 16384
#define CHUNK_8K 8192
#define CHUNK_4K 4096
#define CHUNK_MEDIUM 2048
#define CHUNK_SMALL 256

/* What a system call transfers. */
struct io {
	u64 buffer;
	u64 vector;
	u64 vector_len;
	u64 name; /* of the peer: struct sockaddr, or 0 */
	u64 len;
	u32 fd;
	u16 direction;
	u16 name_len;
};

/* struct iovec of 64-bit systems. */
struct buffer {
	u64 address;
	u64 len;
};

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

/* Kept in a map: what the verifier reads from there is any number, so its loop stays small. */
struct transfer {
	/* The buffer that is read now, and what is left of it. */
	u64 address;
	u64 left_here;
	/* The buffers after it: struct iovec. */
	u64 vector;
	u64 vector_left;
	/* Bytes that are not in a record yet; those of them that are copied. */
	u64 len;
	u64 keep;
	/* Of the next byte in its stream. */
	u64 offset;
	/* Connection; or pipe, socket or terminal. */
	u64 object;
	u64 peer_object;
	u16 direction;
	u16 library;     /* 0: a standard stream */
	u16 fd;          /* of a standard stream */
	u16 object_type; /* of a standard stream */
};

static __always_inline void start_transfer(struct transfer *transfer, u64 len)
{
	transfer->vector = 0;
	transfer->vector_left = 0;
	transfer->len = len;
	transfer->keep = max_payload && len > max_payload ? max_payload : len;
}

/* Of what a system call transfers, which may be nothing that passed through memory (sendfile): then nothing is kept. */
static __always_inline void start_transfer_of(struct transfer *transfer, const struct io *io)
{
	start_transfer(transfer, io->len);
	transfer->address = io->buffer;
	transfer->left_here = io->buffer ? io->len : 0;
	transfer->vector = io->vector;
	transfer->vector_left = io->vector_len;
	if (!io->buffer && !io->vector)
		transfer->keep = 0;
}

/* Copies what there is room for. Returns the bytes copied. */
static __always_inline u32 copy_piece(void *to, const struct transfer *transfer, u32 len, const u32 room, u16 *flags)
{
	*flags = 0;
	if (!transfer->keep) {
		*flags = ASC_TRUNCATED;
		return 0;
	}
	barrier_var(len);
	if (len > room)
		len = room;
	if (bpf_probe_read_user(to, len, (void *)transfer->address)) {
		*flags = ASC_FAULT;
		return 0;
	}
	return len;
}

static __always_inline void emit_tls_piece(const struct transfer *transfer, u32 len, const u32 room)
{
	struct asc_tls_data *piece;
	u32 seq = draw_seq();
	u16 flags;

	piece = bpf_ringbuf_reserve(&ring, sizeof(*piece) + room, 0);
	if (!piece) {
		count_drop(transfer->library == ASC_PLAIN ? ASC_SOURCE_NET : ASC_SOURCE_TLS, ASC_RING_FULL, len);
		return;
	}
	piece->conn_id = transfer->object;
	piece->stream_offset = transfer->offset;
	piece->len = len;
	piece->direction = transfer->direction;
	piece->library = transfer->library;
	piece->reserved = 0;
	piece->captured = copy_piece(piece + 1, transfer, len, room, &flags);
	fill_header(&piece->header, ASC_TLS_DATA, flags, sizeof(*piece) + piece->captured, seq);
	bpf_ringbuf_submit(piece, wake_flags());
}

static __always_inline void emit_stdio_piece(const struct transfer *transfer, u32 len, const u32 room)
{
	struct asc_stdio_data *piece;
	u32 seq = draw_seq();
	u16 flags;

	piece = bpf_ringbuf_reserve(&ring, sizeof(*piece) + room, 0);
	if (!piece) {
		count_drop(ASC_SOURCE_STDIO, ASC_RING_FULL, len);
		return;
	}
	piece->object = transfer->object;
	piece->peer_object = transfer->peer_object;
	piece->stream_offset = transfer->offset;
	piece->len = len;
	piece->fd = transfer->fd;
	piece->direction = transfer->direction;
	piece->object_type = transfer->object_type;
	piece->reserved = 0;
	piece->captured = copy_piece(piece + 1, transfer, len, room, &flags);
	fill_header(&piece->header, ASC_STDIO_DATA, flags, sizeof(*piece) + piece->captured, seq);
	bpf_ringbuf_submit(piece, wake_flags());
}

static __always_inline void emit_piece(const struct transfer *transfer, u32 len, const u32 room)
{
	if (transfer->library)
		emit_tls_piece(transfer, len, room);
	else
		emit_stdio_piece(transfer, len, room);
}

/* Goes on to the next buffer. Returns false when there is none. */
static __always_inline bool next_buffer(struct transfer *transfer)
{
	struct buffer buffer = {};

	if (!transfer->vector_left || bpf_probe_read_user(&buffer, sizeof(buffer), (void *)transfer->vector))
		return false;
	transfer->vector += sizeof(buffer);
	transfer->vector_left--;
	transfer->address = buffer.address;
	transfer->left_here = buffer.len;
	return true;
}

/* One record, or one step to the next buffer. Returns 1 when nothing is left. */
__noinline int emit_chunk(struct transfer *transfer)
{
	u64 left;
	u32 len;

	if (!transfer || !transfer->len)
		return 1;
	left = transfer->len;
	if (transfer->keep) {
		if (!transfer->left_here)
			return !next_buffer(transfer);
		if (left > transfer->keep)
			left = transfer->keep;
		if (left > transfer->left_here)
			left = transfer->left_here;
		len = left > CHUNK ? CHUNK : left;
	} else {
		/* What is over the cap: one record stands for it. */
		len = left > 0x7fffffff ? 0x7fffffff : left;
	}
	if (!transfer->keep || len <= CHUNK_SMALL)
		emit_piece(transfer, len, CHUNK_SMALL);
	else if (len <= CHUNK_MEDIUM)
		emit_piece(transfer, len, CHUNK_MEDIUM);
	else if (len <= CHUNK_4K)
		emit_piece(transfer, len, CHUNK_4K);
	else if (len <= CHUNK_8K)
		emit_piece(transfer, len, CHUNK_8K);
	else
		emit_piece(transfer, len, CHUNK);
	transfer->len -= len;
	transfer->offset += len;
	if (transfer->keep) {
		transfer->keep -= len;
		transfer->left_here -= len;
		transfer->address += len;
	}
	return 0;
}

__noinline int emit_chunks(struct transfer *transfer)
{
	for (int i = 0; i < LOOP; i++)
		if (emit_chunk(transfer))
			return 1;
	return 0;
}

/* Up to LOOP * LOOP chunks, 64 MB. */
static __always_inline void emit_transfer(struct transfer *transfer)
{
	for (int i = 0; i < LOOP; i++)
		if (emit_chunks(transfer))
			break;
	if (transfer->len)
		count_drop(transfer->library ? ASC_SOURCE_TLS : ASC_SOURCE_STDIO, ASC_TABLE_FULL, transfer->len);
}

#endif
