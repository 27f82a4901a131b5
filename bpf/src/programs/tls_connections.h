/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * TLS connections, which are objects in the memory of programs, and the sockets that they are bound to. Included by tls.c.
 */

/* Bytes that encryption adds to a record of up to 16 KiB, at least: ChaCha20-Poly1305 in TLS 1.2. */
#define RECORD_OVERHEAD 21

/* A connection is an object in the memory of a program; of AEAD, each direction is. */
struct connection_key {
	u64 ssl;
	u64 generation;
};

struct connection {
	u64 id;
	u64 offset[2];
	/* The socket it is bound to; 0 while that is not known. */
	u64 socket;
	/* Of OP_PEEK: up to where what is pending was given out. */
	u64 given;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, struct connection_key);
	__type(value, struct connection);
} connections SEC(".maps");

/* The sockets that are open, by id: AEAD objects that were bound to another are used again. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 65536);
	__type(key, u64);
	__type(value, u8);
} open_sockets SEC(".maps");

static __always_inline struct connection *connection_of(u64 ssl, const struct target *target)
{
	struct connection_key key = { .ssl = ssl, .generation = target->generation };
	struct connection *connection = bpf_map_lookup_elem(&connections, &key);
	struct connection fresh = {};

	if (connection)
		return connection;
	fresh.id = unique_id();
	bpf_map_update_elem(&connections, &key, &fresh, BPF_NOEXIST);
	return bpf_map_lookup_elem(&connections, &key);
}

/*
 * The object's connection; a new one if its socket is closed. Where a library's symbols are stripped, nobody tells when an
 * object is freed, and another may be made at its place.
 */
static __always_inline struct connection *open_connection(u64 ssl, const struct target *target)
{
	struct connection *connection = connection_of(ssl, target);

	if (connection && connection->socket && !bpf_map_lookup_elem(&open_sockets, &connection->socket)) {
		struct connection_key key = { .ssl = ssl, .generation = target->generation };

		bpf_map_delete_elem(&connections, &key);
		connection = connection_of(ssl, target);
	}
	if (!connection)
		count_drop(ASC_SOURCE_TLS, ASC_TABLE_FULL, 0);
	return connection;
}

static __always_inline void bind(u64 conn_id, u64 socket_id)
{
	u32 seq = draw_seq();
	struct asc_tls_bind *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);

	if (!record) {
		count_drop(ASC_SOURCE_TLS, ASC_RING_FULL, 0);
		return;
	}
	fill_header(&record->header, ASC_TLS_BIND, 0, sizeof(*record), seq);
	record->conn_id = conn_id;
	record->socket_id = socket_id;
	bpf_ringbuf_submit(record, wake_flags());
}

/*
 * From plaintext to socket: the socket that sends TLS on the thread, during the write or after it, as many bytes as encryption
 * makes of what was written. A read proves something only if the socket received within it (`bind_reader`): under asyncio the
 * last socket that received is any.
 */
static __always_inline void await_socket(struct calls *all, u64 ssl, u64 len)
{
	if (all->pending != ssl) {
		all->pending_len = 0;
		all->pending_socket = 0;
		all->pending_sent = 0;
	}
	all->pending = ssl;
	all->pending_len += len + RECORD_OVERHEAD * ((len + CHUNK - 1) / CHUNK);
}

/* Whether bytes begin as a record of TLS does: with a type (RFC 8446, 5.1) and a version. */
static __always_inline bool begins_record(u64 bytes)
{
	u8 start[2] = {};

	return !bpf_probe_read_user(start, sizeof(start), (void *)bytes) && start[0] >= 20 && start[0] <= 24 && start[1] == 3;
}

/* A socket has sent what `io` says; without it, what was counted already. */
static __always_inline void socket_sent(const struct target *target, u64 socket, const struct io *io)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct calls *all = bpf_map_lookup_elem(&calls, &thread);
	struct connection_key key = { .generation = target->generation };
	struct connection *connection;

	if (!all || !all->pending)
		return;
	if (all->pending_socket != socket) {
		if (!io || !begins_record(first_buffer(io)))
			return;
		all->pending_socket = socket;
		all->pending_sent = 0;
	}
	all->pending_sent += io ? io->len : 0;
	if (!all->pending_len || all->pending_sent < all->pending_len)
		return;
	key.ssl = all->pending;
	all->pending = 0;
	connection = bpf_map_lookup_elem(&connections, &key);
	if (!connection || connection->socket)
		return;
	connection->socket = socket;
	bind(connection->id, socket);
}

/* A socket has received: for the read that the thread is in, if it is in one. */
static __always_inline void received_within(u64 socket, u64 len)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct calls *all = bpf_map_lookup_elem(&calls, &thread);
	struct call *call;

	if (!all || !all->depth)
		return;
	call = &all->call[(all->depth - 1) & (MAX_DEPTH - 1)];
	if (call->from != socket)
		call->from_len = 0;
	call->from = socket;
	call->from_len += len;
}

/* A read has returned so many bytes: if a socket received them within it, that is the connection's. */
static __always_inline void bind_reader(struct connection *connection, const struct call *call, u64 len)
{
	if (connection->socket || !call->from || call->from_len < len + RECORD_OVERHEAD)
		return;
	connection->socket = call->from;
	bind(connection->id, call->from);
}

static __always_inline void forget_connection(u64 ssl, const struct target *target)
{
	struct connection_key key = { .ssl = ssl, .generation = target->generation };
	struct connection *connection = bpf_map_lookup_elem(&connections, &key);
	struct asc_tls_close *close;
	u32 seq;

	if (!connection)
		return;
	seq = draw_seq();
	close = bpf_ringbuf_reserve(&ring, sizeof(*close), 0);
	if (close) {
		fill_header(&close->header, ASC_TLS_CLOSE, 0, sizeof(*close), seq);
		close->conn_id = connection->id;
		close->sent = connection->offset[ASC_SENT];
		close->received = connection->offset[ASC_RECEIVED];
		bpf_ringbuf_submit(close, wake_flags());
	} else {
		count_drop(ASC_SOURCE_TLS, ASC_RING_FULL, 0);
	}
	bpf_map_delete_elem(&connections, &key);
}
