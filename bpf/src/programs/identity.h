/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * Who a process is: its user and its namespaces. Told after a fork and an exec, and here after what else changes them, which is
 * rare.
 */
#ifndef AGENTSIGHT_IDENTITY_H
#define AGENTSIGHT_IDENTITY_H

#include "descriptor.h"

/* Namespaces are nested no deeper (MAX_PID_NS_LEVEL). */
#define MAX_PID_LEVEL 32

/* The number of a process in the innermost of its pid namespaces, and which one that is. */
static __always_inline void fill_pid(struct asc_identity *identity, struct task_struct *task)
{
	struct pid *pid = READ(task, thread_pid);
	u32 level = READ(pid, level) & (MAX_PID_LEVEL - 1);
	struct upid *own = (void *)pid + bpf_core_field_offset(struct pid, numbers) + level * bpf_core_type_size(struct upid);

	identity->namespace_pid = BPF_CORE_READ(own, nr);
	identity->pid_namespace = BPF_CORE_READ(own, ns, ns.inum);
}

static __always_inline void emit_identity(struct task_struct *task)
{
	u32 seq = draw_seq();
	struct asc_identity *identity = bpf_ringbuf_reserve(&ring, sizeof(*identity), 0);

	if (!identity) {
		count_drop(ASC_SOURCE_PROCESS, ASC_RING_FULL, 0);
		return;
	}
	fill_header(&identity->header, ASC_IDENTITY, 0, sizeof(*identity), seq);
	identity->header.tgid = READ(task, tgid);
	identity->header.tid = READ(task, pid);
	identity->uid = READ(task, cred, uid.val);
	identity->effective_uid = READ(task, cred, euid.val);
	identity->gid = READ(task, cred, gid.val);
	identity->effective_gid = READ(task, cred, egid.val);
	fill_pid(identity, task);
	identity->mnt_namespace = READ(task, nsproxy, mnt_ns, ns.inum);
	identity->net_namespace = READ(task, nsproxy, net_ns, ns.inum);
	identity->user_namespace = READ(task, cred, user_ns, ns.inum);
	identity->reserved = 0;
	bpf_ringbuf_submit(identity, wake_flags());
}

/* What changes it otherwise than by fork and exec. Of several threads, which may differ, the first one stands for the process. */
SEC("tracepoint")
int on_identity(struct syscall_exit *ctx)
{
	u64 thread = bpf_get_current_pid_tgid();

	if (ctx->result < 0 || (u32)thread != thread >> 32 || !target_of(thread >> 32))
		return 0;
	emit_identity(UNTRUSTED(bpf_get_current_task_btf()));
	return 0;
}

#endif
