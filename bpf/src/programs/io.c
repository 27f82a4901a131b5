/* SPDX-License-Identifier: Dual MIT/GPL */
/* Reads, writes and closes: what they are about decides which source they belong to. */
#include "descriptor.h"

/* Cookies of reads and writes: direction | shape << 8. */
enum io_shape {
	IO_BUFFER = 0,   /* (fd, buffer, …) */
	IO_VECTOR = 1,   /* (fd, iovec, count, …) */
	IO_NAMED = 2,    /* (fd, buffer, size, flags, address, …) */
	IO_MESSAGE = 3,  /* (fd, msghdr, flags) */
	IO_MESSAGES = 4, /* (fd, mmsghdr, count, flags): the result counts messages */
	IO_SENDFILE = 5, /* (to, from, …) */
	IO_SPLICE = 6,   /* (from, offset, to, …) */
};

/* struct msghdr and struct mmsghdr of 64-bit systems. */
struct message {
	u64 name;
	u32 name_len;
	u32 padding;
	u64 vector;
	u64 vector_len;
	u64 control;
	u64 control_len;
	u64 flags;
};

struct message_of_many {
	struct message message;
	u32 len;
	u32 padding;
};

/* Major numbers of terminals: consoles, and the ends of pseudo-terminals that programs have. */
#define MAJOR_TTY 4
#define MAJOR_CONSOLE 5
#define MAJOR_PTS 136
#define MAJOR_PTS_LAST 143

static __always_inline bool is_terminal(struct file *file)
{
	u32 major = READ(file, f_inode, i_rdev) >> 20;

	return major == MAJOR_TTY || major == MAJOR_CONSOLE || (major >= MAJOR_PTS && major <= MAJOR_PTS_LAST);
}

/* The inode of the local socket at the other end. */
static __always_inline u64 peer_inode(struct file *file)
{
	struct unix_sock *unix = (void *)sock_of(file);
	struct sock *peer = READ(unix, peer);

	return peer ? READ(peer, sk_socket, file, f_inode, i_ino) : 0;
}

/* A server that inetd starts talks through a socket, and so does a shell that somebody has called back with. */
static __always_inline void socket_stdio(struct file *file, struct target *target, const struct io *io, int content)
{
	u16 family;

	if (io->fd > 2)
		return;
	family = READ(sock_of(file), __sk_common.skc_family);
	if (family == AF_UNIX)
		stdio_io(target, io, ASC_LOCAL_SOCKET, READ(file, f_inode, i_ino), peer_inode(file));
	else if ((family == AF_INET || family == AF_INET6) && (content == CONTENT_UNKNOWN || content == CONTENT_OTHER))
		stdio_io(target, io, ASC_NETWORK_SOCKET, READ(file, f_inode, i_ino), 0);
}

static __always_inline void transferred_by(struct file *file, struct target *target, const struct io *io)
{
	u32 type = type_of(file);
	u64 inode;

	if (type == S_IFREG) {
		if (want_file)
			file_io(file, io->fd, io->direction, io->len);
	} else if (type == S_IFSOCK) {
		socket_stdio(file, target, io, socket_transferred((u64)file, target, io));
	} else if (type == S_IFIFO) {
		inode = READ(file, f_inode, i_ino);
		if (want_stdio != ASC_STDIO_OFF)
			note_endpoint(inode, io->direction);
		stdio_io(target, io, ASC_PIPE, inode, inode);
	} else if (type == S_IFCHR && io->fd < 3 && is_terminal(file)) {
		stdio_io(target, io, ASC_TERMINAL, READ(file, f_inode, i_ino), 0);
	}
}

static __always_inline void of_message(struct io *io, const struct message *message)
{
	io->name = message->name;
	io->name_len = message->name_len;
	io->vector = message->vector;
	io->vector_len = message->vector_len;
}

SEC("tracepoint")
int on_io(struct syscall_exit *ctx)
{
	struct target *target;
	struct arguments arguments;
	struct message message = {};
	struct io io = {};
	struct file *file;
	long result;
	u64 cookie;
	u32 shape;

	if (ctx->result <= 0)
		return 0;
	target = target_of(bpf_get_current_pid_tgid() >> 32);
	if (!target)
		return 0;
	result = result_of(ctx);
	if (result <= 0)
		return 0;
	cookie = bpf_get_attach_cookie(ctx);
	shape = cookie >> 8 & 0xff;
	read_arguments(&arguments);
	io.fd = arguments.at[0];
	io.len = result;
	io.direction = cookie & 1;
	if (shape == IO_VECTOR) {
		io.vector = arguments.at[1];
		io.vector_len = arguments.at[2];
	} else if (shape == IO_MESSAGE) {
		if (arguments.at[2] & MSG_PEEK ||
		    bpf_probe_read_user(&message, sizeof(message), (void *)arguments.at[1]))
			return 0;
		of_message(&io, &message);
	} else {
		io.buffer = arguments.at[1];
	}
	if (shape == IO_NAMED) {
		if (io.direction == ASC_RECEIVED && arguments.at[3] & MSG_PEEK)
			return 0;
		io.name = arguments.at[4];
		io.name_len = arguments.at[5];
	}
	file = file_of(io.fd);
	if (file)
		transferred_by(file, target, &io);
	return 0;
}

/* Several datagrams at once, as resolvers send their two questions. */
SEC("tracepoint")
int on_messages(struct syscall_exit *ctx)
{
	u16 direction = bpf_get_attach_cookie(ctx) & 1;
	struct target *target;
	struct arguments arguments;
	struct file *file;

	if (result_of(ctx) <= 0)
		return 0;
	target = target_of(bpf_get_current_pid_tgid() >> 32);
	if (!target)
		return 0;
	read_arguments(&arguments);
	file = file_of(arguments.at[0]);
	if (!file || type_of(file) != S_IFSOCK)
		return 0;
	if (direction == ASC_RECEIVED && arguments.at[3] & MSG_PEEK)
		return 0;
	for (int i = 0; i < LOOP; i++) {
		struct message_of_many one = {};
		struct io io = { .fd = arguments.at[0], .direction = direction };

		if (i >= ctx->result ||
		    bpf_probe_read_user(&one, sizeof(one), (void *)(arguments.at[1] + i * sizeof(one))))
			break;
		of_message(&io, &one.message);
		io.len = one.len;
		socket_transferred((u64)file, target, &io);
	}
	if (ctx->result > LOOP)
		count_drop(ASC_SOURCE_NET, ASC_TABLE_FULL, 0);
	return 0;
}

/* One end of a splice. A global function: the verifier looks at it once. */
__noinline int spliced(struct target *target, u32 fd, u16 direction, u64 len)
{
	struct io io = { .fd = fd, .direction = direction, .len = len };
	struct file *file = file_of(fd);

	if (target && file)
		transferred_by(file, target, &io);
	return 0;
}

/* From file to file, pipe or socket without passing through memory: the bytes are counted, and not seen. */
SEC("tracepoint")
int on_splice(struct syscall_exit *ctx)
{
	struct arguments arguments;
	struct target *target;
	bool to_first;

	if (result_of(ctx) <= 0)
		return 0;
	target = target_of(bpf_get_current_pid_tgid() >> 32);
	if (!target)
		return 0;
	to_first = (bpf_get_attach_cookie(ctx) >> 8 & 0xff) == IO_SENDFILE;
	read_arguments(&arguments);
	spliced(target, to_first ? arguments.at[1] : arguments.at[0], ASC_RECEIVED, ctx->result);
	spliced(target, to_first ? arguments.at[0] : arguments.at[2], ASC_SENT, ctx->result);
	return 0;
}

/*
 * Of a file that several descriptors of one table lead to, as after `2>&1`: how many of them have gone together so far. (An
 * LRU map: a file that somebody else has as well is never all gone.)
 */
struct going_key {
	u64 file;
	u64 thread;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, struct going_key);
	__type(value, u64);
} going SEC(".maps");

/* Whether a descriptor is the last of its file, when others that this thread has closed at the same time are gone. */
static __always_inline bool is_last(struct file *file, bool together)
{
	struct going_key key = { .file = (u64)file, .thread = bpf_get_current_pid_tgid() };
	long all = references(file);
	u64 one = 1, *gone;

	if (all == 1 || (all > 1 && all - 1 <= mappings(file)))
		return true;
	if (!together)
		return false;
	gone = bpf_map_lookup_elem(&going, &key);
	if (!gone) {
		bpf_map_update_elem(&going, &key, &one, BPF_ANY);
		return false;
	}
	*gone += 1;
	if (*gone < all)
		return false;
	bpf_map_delete_elem(&going, &key);
	return true;
}

/* `together`: all of a table go, or many, and what is counted in the file does not change until they have. */
static __always_inline void dropped_descriptor(struct file *file, u32 fd, bool together)
{
	u32 type;

	if (!is_last(file, together))
		return;
	type = type_of(file);
	if (type == S_IFREG)
		file_closed(file, fd);
	else if (type == S_IFSOCK)
		socket_closed(file, fd);
}

SEC("tracepoint")
int on_close(struct syscall_enter *ctx)
{
	u32 fd = ctx->arguments[0];
	struct file *file;

	if (!target_of(bpf_get_current_pid_tgid() >> 32))
		return 0;
	file = file_of(fd);
	if (file)
		dropped_descriptor(file, fd, false);
	return 0;
}

/* dup2 closes what was open at its second argument. (A program of its own: close has no second, which may not be read then.) */
SEC("tracepoint")
int on_dup(struct syscall_enter *ctx)
{
	u32 from = ctx->arguments[0], to = ctx->arguments[1];
	struct file *file;

	if (from == to || !target_of(bpf_get_current_pid_tgid() >> 32))
		return 0;
	file = file_of(to);
	if (file && file_of(from))
		dropped_descriptor(file, to, false);
	return 0;
}

/* Closes a descriptor, and others with it. */
__noinline int close_descriptor(u64 table, u32 fd)
{
	struct file *file = file_in((void *)table, fd);

	if (file)
		dropped_descriptor(file, fd, true);
	return 0;
}

/* Closes what is between two of LOOP descriptors, of which one word has a bit each. Returns 1 behind the last. */
__noinline int close_descriptors(u64 address, u32 first, u32 from, u32 to)
{
	struct fdtable *table = (void *)address;
	unsigned long open = 0;

	if (first >= READ(table, max_fds) ||
	    bpf_probe_read_kernel(&open, sizeof(open), READ(table, open_fds) + first / LOOP))
		return 1;
	for (u32 i = 0; i < LOOP; i++) {
		if (!(open >> i))
			break;
		if (open >> i & 1 && first + i >= from && first + i <= to)
			close_descriptor(address, first + i);
	}
	return 0;
}

/* Closes those of the first LOOP * LOOP descriptors that are between two. */
static __always_inline void close_between(struct files_struct *files, u32 from, u32 to)
{
	/* A number and no pointer: that is what may be passed on. */
	u64 table = (u64)BPF_CORE_READ(files, fdt);

	for (u32 i = 0; i < LOOP; i++)
		if (close_descriptors(table, i * LOOP, from, to))
			break;
}

/* A process ends with files open: their sums are told now. */
static __always_inline void close_all(struct task_struct *task)
{
	struct files_struct *files = UNTRUSTED(task)->files;

	/* Its threads are about to end as well. Shared with another process (CLONE_FILES), they stay open. */
	if (files && READ(files, count.counter) <= task->signal->nr_threads)
		close_between(files, 0, ~0u);
}

SEC("tracepoint")
int on_close_range(struct syscall_enter *ctx)
{
	const u64 at_exec = 4; /* CLOSE_RANGE_CLOEXEC */
	u64 from = ctx->arguments[0], to = ctx->arguments[1], flags = ctx->arguments[2];
	struct task_struct *task;

	if (flags & at_exec || !target_of(bpf_get_current_pid_tgid() >> 32))
		return 0;
	task = UNTRUSTED(bpf_get_current_task_btf());
	/* With CLOSE_RANGE_UNSHARE a table that is shared is copied first, and stays open in the other process. */
	if (READ(task->files, count.counter) == 1 || !flags)
		close_between(task->files, from, to);
	return 0;
}
