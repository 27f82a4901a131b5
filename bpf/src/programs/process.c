/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * Source "process": fork, exec and exit of recorded processes. Following the tree happens here, at fork, so that no child
 * is too short-lived to be seen.
 */
#include "common.h"

#define PATH_LEN 4096
#define NAME_LEN 256
#define MAX_COMPONENTS 64
#define MAX_ARGS_LEN (128 << 10)
#define ARGS_CHUNK 8192
#define ARGS_SMALL 512
#define SIGNAL_GROUP_EXIT 0x4

/* The walk from a file up to the root. */
struct walk {
	struct dentry *dentry;
	struct vfsmount *mnt;
	/* Where the path starts in exec_scratch.path: it is built from its end. */
	u32 at;
};

struct args {
	u64 address;
	u32 total; /* what the program was given */
	u32 len;   /* what is kept of it */
	u32 done;
};

/*
 * The state of the loops is kept here and not on the stack: the verifier then takes what it reads for any number, and does
 * not follow each of a hundred iterations with the numbers of the one before.
 */
struct exec_scratch {
	struct walk walk;
	struct args args;
	u8 path[PATH_LEN + NAME_LEN];
	struct asc_exec exec;
	/* Three paths, and room for the verifier, which sees only that an offset is below 4 * PATH_LEN. */
	u8 data[5 * PATH_LEN];
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, struct exec_scratch);
} exec_scratch SEC(".maps");

SEC("tp_btf/sched_process_fork")
int BPF_PROG(on_fork, struct task_struct *parent, struct task_struct *child)
{
	u32 child_tgid = child->tgid;
	struct target target = {};
	struct asc_fork *fork;
	u32 seq;

	if (child->pid != child->tgid || !target_of(parent->tgid))
		return 0;
	target.generation = unique_id();
	if (bpf_map_update_elem(&targets, &child_tgid, &target, BPF_ANY)) {
		count_drop(ASC_SOURCE_PROCESS, ASC_TABLE_FULL, 0);
		return 0;
	}
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
	return 0;
}

/* One step up. Returns false at the root. */
static __always_inline bool walk_step(struct exec_scratch *scratch, struct dentry *root_dentry, struct vfsmount *root_mnt)
{
	struct walk *walk = &scratch->walk;
	struct dentry *dentry = walk->dentry, *parent;
	struct vfsmount *mnt = walk->mnt;
	u32 at = walk->at, len;

	if (dentry == root_dentry && mnt == root_mnt)
		return false;
	parent = BPF_CORE_READ(dentry, d_parent);
	if (dentry == BPF_CORE_READ(mnt, mnt_root) || dentry == parent) {
		struct mount *mount = (void *)mnt - bpf_core_field_offset(struct mount, mnt);
		struct mount *up = BPF_CORE_READ(mount, mnt_parent);

		if (mount == up)
			return false;
		walk->dentry = BPF_CORE_READ(mount, mnt_mountpoint);
		walk->mnt = (void *)up + bpf_core_field_offset(struct mount, mnt);
		return true;
	}
	len = BPF_CORE_READ(dentry, d_name.len) & (NAME_LEN - 1);
	if (len + 1 > at || at > PATH_LEN)
		return false;
	at -= len;
	bpf_probe_read_kernel(&scratch->path[at & (PATH_LEN - 1)], len, BPF_CORE_READ(dentry, d_name.name));
	at -= 1;
	scratch->path[at & (PATH_LEN - 1)] = '/';
	walk->at = at;
	walk->dentry = parent;
	return true;
}

/*
 * Writes the path of a file into the end of scratch->path, as the process sees it below its root. bpf_d_path is not to be
 * had in a tracepoint. Returns where the path starts.
 */
static __always_inline u32 walk_path(struct exec_scratch *scratch, struct path *path, struct path *root)
{
	struct vfsmount *root_mnt = BPF_CORE_READ(root, mnt);
	struct dentry *root_dentry = BPF_CORE_READ(root, dentry);

	scratch->walk.mnt = BPF_CORE_READ(path, mnt);
	scratch->walk.dentry = BPF_CORE_READ(path, dentry);
	scratch->walk.at = PATH_LEN;
	for (int i = 0; i < MAX_COMPONENTS; i++) {
		if (!walk_step(scratch, root_dentry, root_mnt))
			break;
		barrier();
	}
	if (scratch->walk.at >= PATH_LEN) {
		scratch->path[PATH_LEN - 1] = '/';
		return PATH_LEN - 1;
	}
	return scratch->walk.at;
}

/* Most argument vectors are short: reserving in two sizes keeps the ring from being filled with air. */
static __always_inline void emit_args_piece(const struct args *args, u32 len, u32 seq, const u32 room)
{
	struct asc_exec_args *piece = bpf_ringbuf_reserve(&ring, sizeof(*piece) + room, 0);
	u16 flags = 0;

	if (!piece) {
		count_drop(ASC_SOURCE_PROCESS, ASC_RING_FULL, len);
		return;
	}
	piece->args_len = args->total;
	piece->offset = args->done;
	piece->len = len;
	barrier_var(len);
	if (len > room)
		len = room;
	if (bpf_probe_read_user(piece + 1, len, (void *)(args->address + args->done))) {
		flags = ASC_FAULT;
		len = 0;
	}
	piece->captured = len;
	fill_header(&piece->header, ASC_EXEC_ARGS, flags, sizeof(*piece) + len, seq);
	bpf_ringbuf_submit(piece, BPF_RB_NO_WAKEUP);
}

static __always_inline void emit_args(struct args *args)
{
	for (int i = 0; i < MAX_ARGS_LEN / ARGS_CHUNK; i++) {
		u32 len = args->len - args->done;

		if (!len)
			break;
		if (len > ARGS_CHUNK)
			len = ARGS_CHUNK;
		if (len <= ARGS_SMALL)
			emit_args_piece(args, len, draw_seq(), ARGS_SMALL);
		else
			emit_args_piece(args, len, draw_seq(), ARGS_CHUNK);
		args->done += len;
		barrier();
	}
}

/* Appends to the record in scratch; at is what is there already. Returns the bytes appended. */
static __always_inline u32 append(struct exec_scratch *scratch, u32 at, const void *from, u32 len)
{
	if (len > PATH_LEN)
		len = PATH_LEN;
	if (bpf_probe_read_kernel(&scratch->data[at & (4 * PATH_LEN - 1)], len, from))
		return 0;
	return len;
}

static __always_inline u32 append_path(struct exec_scratch *scratch, u32 at, struct path *path, struct path *root)
{
	u32 start = walk_path(scratch, path, root);

	return append(scratch, at, &scratch->path[start & (PATH_LEN - 1)], PATH_LEN - start);
}

SEC("tp_btf/sched_process_exec")
int BPF_PROG(on_exec, struct task_struct *task, int old_pid, struct linux_binprm *bprm)
{
	struct exec_scratch *scratch;
	struct args *args;
	struct asc_exec *exec;
	struct path *root;
	u32 zero = 0, at = 0, len, seq;

	if (!target_of(task->tgid))
		return 0;
	scratch = bpf_map_lookup_elem(&exec_scratch, &zero);
	if (!scratch)
		return 0;
	seq = draw_seq();
	exec = &scratch->exec;
	root = &task->fs->root;
	args = &scratch->args;
	args->address = task->mm->arg_start;
	args->total = task->mm->arg_end - args->address;
	args->len = args->total < MAX_ARGS_LEN ? args->total : MAX_ARGS_LEN;
	args->done = 0;

	exec->start = task->group_leader->start_boottime;
	exec->ppid = task->real_parent->tgid;
	exec->uid = task->cred->uid.val;
	exec->gid = task->cred->gid.val;
	exec->args_len = args->total;
	exec->reserved = 0;
	__builtin_memcpy(exec->comm, task->comm, sizeof(exec->comm));
	at = exec->path_len = append_path(scratch, 0, &bprm->file->f_path, root);
	at += exec->cwd_len = append_path(scratch, at, &task->fs->pwd, root);
	len = bpf_probe_read_kernel_str(&scratch->data[at & (4 * PATH_LEN - 1)], PATH_LEN, bprm->filename);
	exec->filename_len = len > 0 && len <= PATH_LEN ? len - 1 : 0;
	at += exec->filename_len;
	len = sizeof(*exec) + at;
	fill_header(&exec->header, ASC_EXEC, 0, len, seq);
	if (len > sizeof(*exec) + 3 * PATH_LEN)
		len = sizeof(*exec) + 3 * PATH_LEN;
	/* The capturer must look at a new program before it talks TLS: wake it at once. */
	if (bpf_ringbuf_output(&ring, exec, len, BPF_RB_FORCE_WAKEUP))
		count_drop(ASC_SOURCE_PROCESS, ASC_RING_FULL, 0);
	emit_args(args);
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
int BPF_PROG(on_exit, struct task_struct *task)
{
	u32 tgid = task->tgid;
	u64 thread = bpf_get_current_pid_tgid();

	if (!target_of(tgid))
		return 0;
	bpf_map_delete_elem(&calls, &thread);
	if (task->signal->live.counter)
		return 0;
	emit_exit(task);
	bpf_map_delete_elem(&targets, &tgid);
	return 0;
}
