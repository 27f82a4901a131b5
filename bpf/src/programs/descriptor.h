/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * From a system call to the file it is about. Programs sit at the exits of system calls: there the arguments are still to be
 * had, the result is known, and the memory that was transferred is resident.
 */
#ifndef AGENTSIGHT_DESCRIPTOR_H
#define AGENTSIGHT_DESCRIPTOR_H

#include "common.h"

#define ENOSYS 38

#define S_IFMT 0170000
#define S_IFSOCK 0140000
#define S_IFREG 0100000
#define S_IFCHR 0020000
#define S_IFIFO 0010000

/* What the tracepoints at the entry and the exit of a system call hand over. */
struct syscall_enter {
	u64 common;
	int number;
	unsigned long arguments[6];
};

struct syscall_exit {
	u64 common;
	int number;
	long result;
};

/*
 * What a system call returned. One that a seccomp filter answered with a signal (SIGSYS) was not made, and leaves its own number
 * where the result is: it is told as ENOSYS.
 */
static __always_inline long result_of(const struct syscall_exit *ctx)
{
	const u64 sigsys = 1ull << 30;
	struct task_struct *task;

	if (ctx->result != ctx->number)
		return ctx->result;
	task = UNTRUSTED(bpf_get_current_task_btf());
	return READ(task, pending.signal.sig[0]) & sigsys ? -ENOSYS : ctx->result;
}

/* The arguments of the system call that is about to return. */
struct arguments {
	u64 at[6];
};

static __always_inline void read_arguments(struct arguments *arguments)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *regs = (void *)bpf_task_pt_regs(task);
#if defined(__TARGET_ARCH_x86)
	arguments->at[0] = regs->di;
	arguments->at[1] = regs->si;
	arguments->at[2] = regs->dx;
	arguments->at[3] = regs->r10;
	arguments->at[4] = regs->r8;
	arguments->at[5] = regs->r9;
#else
	arguments->at[0] = regs->orig_x0;
	for (int i = 1; i < 6; i++)
		arguments->at[i] = regs->user_regs.regs[i];
#endif
}

static __always_inline struct file *file_in(struct fdtable *table, u32 fd)
{
	struct file **files, *file = NULL;

	if (fd >= READ(table, max_fds))
		return NULL;
	files = READ(table, fd);
	bpf_probe_read_kernel(&file, sizeof(file), &files[fd]);
	return file;
}

static __always_inline struct file *file_of(u32 fd)
{
	struct task_struct *task = UNTRUSTED(bpf_get_current_task_btf());

	return file_in(task->files->fdt, fd);
}

/* How many descriptors a file has, and calls that use it. */
static __always_inline long references(struct file *file)
{
	/* The counter starts at 0 since Linux 6.13, at 1 before. */
	if (bpf_core_field_exists(file->f_ref))
		return READ(file, f_ref.refcnt.counter) + 1;
	return READ(file, f_count.counter);
}

static __always_inline u32 type_of(struct file *file)
{
	return READ(file, f_inode, i_mode) & S_IFMT;
}

#endif
