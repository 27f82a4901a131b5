/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * Source "process": fork, exec and exit of recorded processes, and which processes are recorded. Following the tree happens
 * here, at fork, so that no child is too short-lived to be seen.
 */
#include "identity.h"
#include "paths.h"

#define MAX_ARGS_LEN (128 << 10)
#define ARGS_CHUNK 8192
#define ARGS_SMALL 512
#define SIGNAL_GROUP_EXIT 0x4
#define MAX_CGROUP_DEPTH 32
/* The longest path of a cgroup that is followed, with its NUL. */
#define CGROUP_PATH_LEN 256

/* Whether processes are selected by name or by cgroup. */
const volatile bool select_comms = false;
const volatile bool select_cgroups = false;

struct comm {
	char name[16];
};

struct file_name {
	char name[NAME_LEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct comm);
	__type(value, u8);
} selected_comms SEC(".maps");

/* The same names as those of executables, which may be longer: filled up with zeros. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct file_name);
	__type(value, u8);
} selected_names SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, u64);
	__type(value, u8);
} selected_cgroups SEC(".maps");

struct cgroup_path {
	char path[CGROUP_PATH_LEN];
};

/* Where they are in the hierarchy: one that is made there anew is another, with another id, and is recorded as well. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 64);
	__type(key, struct cgroup_path);
	__type(value, u8);
} selected_cgroup_paths SEC(".maps");

/* Three paths, and room for the verifier, which sees only that an offset is below EXEC_LIMIT. */
#define EXEC_LIMIT (4 * PATH_LEN)

struct exec_scratch {
	struct asc_exec exec;
	u8 data[EXEC_LIMIT + PATH_LEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct exec_scratch);
} exec_scratch SEC(".maps");

/* The new process's entry; too large for the stack of some programs. */
static __always_inline struct target *add_target(u32 tgid)
{
	struct target target = {};

	target.generation = unique_id();
	if (bpf_map_update_elem(&targets, &tgid, &target, BPF_ANY)) {
		count_drop(ASC_SOURCE_PROCESS, ASC_TABLE_FULL, 0);
		return NULL;
	}
	return target_of(tgid);
}

/* A process that was not recorded is from now on: the capturer is woken, to see what it is. */
static __always_inline void adopt(u32 tgid)
{
	struct asc_adopt *record;
	u32 seq;

	if (!add_target(tgid))
		return;
	seq = draw_seq();
	record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);
	if (!record) {
		count_drop(ASC_SOURCE_PROCESS, ASC_RING_FULL, 0);
		return;
	}
	fill_header(&record->header, ASC_ADOPT, 0, sizeof(*record), seq);
	record->header.tgid = tgid;
	record->header.tid = tgid;
	bpf_ringbuf_submit(record, BPF_RB_FORCE_WAKEUP);
}

static __always_inline bool is_selected_cgroup(struct cgroup *cgroup)
{
	for (int level = 0; cgroup && level < MAX_CGROUP_DEPTH; level++) {
		struct cgroup_subsys_state *up = READ(cgroup, self.parent);
		u64 id = READ(cgroup, kn, id);

		if (bpf_map_lookup_elem(&selected_cgroups, &id))
			return true;
		cgroup = up ? (void *)up - bpf_core_field_offset(struct cgroup, self) : NULL;
	}
	return false;
}

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *forked)
{
	struct task_struct *child = UNTRUSTED(forked);
	u32 child_tgid = child->tgid;
	struct asc_fork *fork;
	u32 seq;

	if (child->pid != child->tgid)
		return 0;
	if (!target_of(parent->tgid)) {
		/* Somebody outside may fork into a cgroup (CLONE_INTO_CGROUP). */
		if (select_cgroups && is_selected_cgroup(READ(child, cgroups, dfl_cgrp)))
			adopt(child_tgid);
		return 0;
	}
	if (!add_target(child_tgid))
		return 0;
	seq = draw_seq();
	fork = bpf_ringbuf_reserve(&ring, sizeof(*fork), 0);
	if (!fork) {
		count_drop(ASC_SOURCE_PROCESS, ASC_RING_FULL, 0);
		return 0;
	}
	fill_header(&fork->header, ASC_FORK, 0, sizeof(*fork), seq);
	fork->child_start = child->start_boottime;
	fork->child_tgid = child_tgid;
	fork->uid = child->cred->uid.val;
	__builtin_memcpy(fork->comm, child->comm, sizeof(fork->comm));
	bpf_ringbuf_submit(fork, wake_flags());
	emit_identity(child);
	return 0;
}

/* Most argument vectors are short: reserving in two sizes keeps the ring from being filled with air. */
static __always_inline void emit_args_room(u64 address, u32 total, u32 offset, u32 len, const u32 room)
{
	u32 seq = draw_seq();
	struct asc_exec_args *piece = bpf_ringbuf_reserve(&ring, sizeof(*piece) + room, 0);
	u16 flags = 0;

	if (!piece) {
		count_drop(ASC_SOURCE_PROCESS, ASC_RING_FULL, len);
		return;
	}
	piece->args_len = total;
	piece->offset = offset;
	piece->len = len;
	barrier_var(len);
	if (len > room)
		len = room;
	if (bpf_probe_read_user(piece + 1, len, (void *)(address + offset))) {
		flags = ASC_FAULT;
		len = 0;
	}
	piece->captured = len;
	fill_header(&piece->header, ASC_EXEC_ARGS, flags, sizeof(*piece) + len, seq);
	bpf_ringbuf_submit(piece, BPF_RB_NO_WAKEUP);
}

/*
 * A global function: the verifier looks at it once, and not at every path through it in each iteration of the loop that
 * calls it. On Linux 6.1 those came to more than the million instructions that it allows.
 */
__noinline int emit_args_piece(u64 address, u32 total, u32 offset, u32 len)
{
	if (len <= ARGS_SMALL)
		emit_args_room(address, total, offset, len, ARGS_SMALL);
	else
		emit_args_room(address, total, offset, len, ARGS_CHUNK);
	return 0;
}

static __always_inline void emit_args(u64 address, u32 total)
{
	u32 len = total < MAX_ARGS_LEN ? total : MAX_ARGS_LEN;

	for (u32 done = 0; done < MAX_ARGS_LEN; done += ARGS_CHUNK) {
		if (done >= len)
			break;
		emit_args_piece(address, total, done, len - done < ARGS_CHUNK ? len - done : ARGS_CHUNK);
	}
}

static __always_inline bool is_selected_comm(const char *name)
{
	struct comm comm = {};

	bpf_probe_read_kernel_str(comm.name, sizeof(comm.name), name);
	return bpf_map_lookup_elem(&selected_comms, &comm) != NULL;
}

/* Whether a file has one of the names: a program that was started by a link to it has another. */
static __always_inline bool is_selected_file(struct file *file)
{
	u32 zero = 0;
	struct paths *scratch = bpf_map_lookup_elem(&paths, &zero);
	struct dentry *dentry = READ(file, f_path.dentry);

	if (!scratch)
		return false;
	__builtin_memset(scratch->path, 0, sizeof(struct file_name));
	bpf_probe_read_kernel_str(scratch->path, sizeof(struct file_name), READ(dentry, d_name.name));
	return bpf_map_lookup_elem(&selected_names, scratch->path) != NULL;
}

SEC("tp_btf/task_rename")
int BPF_PROG(on_rename, struct task_struct *task, const char *name)
{
	u32 tgid = bpf_get_current_pid_tgid() >> 32;

	if (task->tgid != tgid || target_of(tgid) || !is_selected_comm(name))
		return 0;
	/* At an exec it is too early to look at it: the exec is told a moment later, and whose it is. */
	if (bpf_core_field_exists(task->in_execve) && BPF_CORE_READ_BITFIELD_PROBED(task, in_execve))
		return 0;
	adopt(tgid);
	return 0;
}

/* cgroup2's hierarchy has the number 0. */
static __always_inline bool is_cgroup2(struct cgroup *cgroup)
{
	return !READ(cgroup, root, hierarchy_id);
}

/* A running process is moved into a cgroup. */
SEC("tp_btf/cgroup_attach_task")
int BPF_PROG(on_cgroup_attach, struct cgroup *to, const char *path, struct task_struct *task)
{
	if (is_cgroup2(to) && !target_of(task->tgid) && is_selected_cgroup(to))
		adopt(task->tgid);
	return 0;
}

SEC("tp_btf/cgroup_mkdir")
int BPF_PROG(on_cgroup_mkdir, struct cgroup *made, const char *path)
{
	struct cgroup_path key = {};
	u8 yes = 1;
	u64 id;

	bpf_probe_read_kernel_str(key.path, sizeof(key.path), path);
	if (is_cgroup2(made) && bpf_map_lookup_elem(&selected_cgroup_paths, &key)) {
		id = READ(made, kn, id);
		bpf_map_update_elem(&selected_cgroups, &id, &yes, BPF_ANY);
	}
	return 0;
}

/* Restarted often enough, one would leave no room for the others. */
SEC("tp_btf/cgroup_rmdir")
int BPF_PROG(on_cgroup_rmdir, struct cgroup *removed, const char *path)
{
	u64 id = READ(removed, kn, id);

	if (is_cgroup2(removed))
		bpf_map_delete_elem(&selected_cgroups, &id);
	return 0;
}

/* The process goes a way on which it is not watched. */
static __always_inline void emit_unwatched(u16 way)
{
	u32 seq = draw_seq();
	struct asc_unwatched *record = bpf_ringbuf_reserve(&ring, sizeof(*record), 0);

	if (!record) {
		count_drop(ASC_SOURCE_PROCESS, ASC_RING_FULL, 0);
		return;
	}
	fill_header(&record->header, ASC_UNWATCHED, 0, sizeof(*record), seq);
	record->way = way;
	__builtin_memset(record->reserved, 0, sizeof(record->reserved));
	bpf_ringbuf_submit(record, wake_flags());
}

/*
 * Operations of io_uring that touch neither files nor sockets: NOP, FSYNC, POLL_*, SYNC_FILE_RANGE, TIMEOUT*, ASYNC_CANCEL,
 * LINK_TIMEOUT, FALLOCATE, FILES_UPDATE, STATX, *ADVISE, EPOLL_CTL (all that node does), *_BUFFERS, SHUTDOWN, MSG_RING.
 */
#define BIT(n) (1ull << (n))
#define IDLE_OPERATIONS                                                                                                \
	(BIT(0) | BIT(3) | BIT(6) | BIT(7) | BIT(8) | BIT(11) | BIT(12) | BIT(14) | BIT(15) | BIT(17) | BIT(20) |        \
	 BIT(21) | BIT(24) | BIT(25) | BIT(29) | BIT(31) | BIT(32) | BIT(34) | BIT(40))

/* What the tracepoints of io_uring hand over: io_uring_submit_sqe, renamed by Linux 6.4. */
SEC("tracepoint")
int on_ring(void *ctx)
{
	struct target *target = target_of(bpf_get_current_pid_tgid() >> 32);
	u32 at = bpf_core_type_exists(struct trace_event_raw_io_uring_submit_req)
			 ? bpf_core_field_offset(struct trace_event_raw_io_uring_submit_req, opcode)
			 : bpf_core_field_offset(struct trace_event_raw_io_uring_submit_sqe, opcode);
	u8 operation = 0;

	if (!target || target->rings || bpf_probe_read_kernel(&operation, sizeof(operation), ctx + at))
		return 0;
	if (operation < 64 && IDLE_OPERATIONS >> operation & 1)
		return 0;
	target->rings = 1;
	emit_unwatched(ASC_IO_URING);
	return 0;
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *current, int old_pid, struct linux_binprm *program)
{
	struct task_struct *task = UNTRUSTED(current);
	struct linux_binprm *bprm = UNTRUSTED(program);
	struct exec_scratch *scratch;
	struct target *target = target_of(task->tgid);
	struct asc_exec *exec;
	struct paths *walk;
	struct path *root;
	u32 zero = 0, at = 0, args_len, len, seq;
	u64 args, wake;

	if (!target) {
		if (!(select_comms && (is_selected_comm(task->comm) || is_selected_file(bprm->file))) &&
		    !(select_cgroups && is_selected_cgroup(READ(task, cgroups, dfl_cgrp))))
			return 0;
		adopt(task->tgid);
		target = target_of(task->tgid);
		if (!target)
			return 0;
	}
	scratch = bpf_map_lookup_elem(&exec_scratch, &zero);
	walk = bpf_map_lookup_elem(&paths, &zero);
	if (!scratch || !walk)
		return 0;
	/* What was at an address of its memory is there no more. */
	target->generation = unique_id();
	target->told = 0;
	target->rings = 0;
	__builtin_memset(target->speech, SPEECH_UNKNOWN, sizeof(target->speech));
	seq = draw_seq();
	exec = &scratch->exec;
	root = &task->fs->root;
	args = task->mm->arg_start;
	args_len = task->mm->arg_end - args;

	exec->start = task->group_leader->start_boottime;
	exec->ppid = task->real_parent->tgid;
	exec->uid = task->cred->uid.val;
	exec->gid = task->cred->gid.val;
	exec->args_len = args_len;
	exec->reserved = 0;
	__builtin_memcpy(exec->comm, task->comm, sizeof(exec->comm));
	at = exec->path_len = append_path(walk, scratch->data, 0, EXEC_LIMIT, &bprm->file->f_path, root);
	at += exec->cwd_len = append_path(walk, scratch->data, at, EXEC_LIMIT, &task->fs->pwd, root);
	len = bpf_probe_read_kernel_str(&scratch->data[at & (EXEC_LIMIT - 1)], PATH_LEN, bprm->filename);
	exec->filename_len = len > 0 && len <= PATH_LEN ? len - 1 : 0;
	at += exec->filename_len;
	len = sizeof(*exec) + at;
	fill_header(&exec->header, ASC_EXEC, 0, len, seq);
	if (len > sizeof(*exec) + 3 * PATH_LEN)
		len = sizeof(*exec) + 3 * PATH_LEN;
	/* The capturer must look at a new program before it talks TLS: wake it at once. */
	wake = first_execution(bprm->file) ? BPF_RB_FORCE_WAKEUP : wake_flags();
	if (bpf_ringbuf_output(&ring, exec, len, wake)) {
		count_drop(ASC_SOURCE_PROCESS, ASC_RING_FULL, 0);
		forget_execution(bprm->file);
	}
	emit_identity(task);
	emit_args(args, args_len);
	/* e_ident of its ELF header. The kernel has no tracepoints of the system calls that such a program makes. */
	if (READ(bprm, buf[4]) == 1)
		emit_unwatched(ASC_32_BIT);
	return 0;
}

static __always_inline void emit_exit(struct task_struct *task)
{
	struct signal_struct *signal = task->signal;
	u32 seq = draw_seq();
	struct asc_exit *exit = bpf_ringbuf_reserve(&ring, sizeof(*exit), 0);

	if (!exit) {
		count_drop(ASC_SOURCE_PROCESS, ASC_RING_FULL, 0);
		return;
	}
	fill_header(&exit->header, ASC_EXIT, 0, sizeof(*exit), seq);
	exit->status = signal->flags & SIGNAL_GROUP_EXIT ? signal->group_exit_code : task->group_leader->exit_code;
	exit->reserved = 0;
	exit->user_ns = signal->utime + task->utime;
	exit->system_ns = signal->stime + task->stime;
	exit->runtime_ns = signal->sum_sched_runtime + task->se.sum_exec_runtime;
	exit->max_rss_bytes = signal->maxrss * page_size;
	bpf_ringbuf_submit(exit, wake_flags());
}

SEC("tp_btf/sched_process_exit")
int BPF_PROG(on_exit, struct task_struct *current)
{
	struct task_struct *task = UNTRUSTED(current);
	u32 tgid = task->tgid;
	u64 thread = bpf_get_current_pid_tgid();

	if (!target_of(tgid))
		return 0;
	bpf_map_delete_elem(&calls, &thread);
	if (task->signal->live.counter)
		return 0;
	close_all(task);
	emit_exit(task);
	bpf_map_delete_elem(&targets, &tgid);
	return 0;
}
