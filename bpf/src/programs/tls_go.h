/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * crypto/tls of Go, and utls, which is made of it. A goroutine's stack may move while a function runs, so that return probes would
 * break it: probes sit at each of the function's return instructions in their place. Arguments are in registers (Go's
 * ABIInternal, since 1.17), and a call is known by its goroutine, which may change its thread. Included by tls.c.
 */

#if defined(__TARGET_ARCH_x86)
#define GO_FIRST(ctx) ((ctx)->ax)
#define GO_SECOND(ctx) ((ctx)->bx)
#define GO_THIRD(ctx) ((ctx)->cx)
#define GO_ROUTINE(ctx) ((ctx)->r14)
#else
#define GO_FIRST(ctx) (__PT_REGS_CAST(ctx)->regs[0])
#define GO_SECOND(ctx) (__PT_REGS_CAST(ctx)->regs[1])
#define GO_THIRD(ctx) (__PT_REGS_CAST(ctx)->regs[2])
#define GO_ROUTINE(ctx) (__PT_REGS_CAST(ctx)->regs[28])
#endif

struct go_key {
	u64 routine;
	u64 generation;
	u64 direction;
};

struct go_call {
	u64 connection;
	u64 buffer;
	u64 entered;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct go_key);
	__type(value, struct go_call);
} go_calls SEC(".maps");

static __always_inline bool is_go(u64 operation)
{
	return operation == OP_GO_CLOSE || (operation >= OP_GO_READ && operation <= OP_GO_WRITE_RETURN) ||
	       operation == OP_UTLS_READ || operation == OP_UTLS_WRITE;
}

/* The goroutine that a system call is made by. */
static __always_inline u64 calling_routine(void)
{
	struct pt_regs *regs = (void *)bpf_task_pt_regs(bpf_get_current_task_btf());

#if defined(__TARGET_ARCH_x86)
	return regs->r14;
#else
	return regs->user_regs.regs[28];
#endif
}

/* A socket has sent or received, perhaps for a goroutine. */
static __always_inline void note_routine(const struct target *target, u64 socket, u16 direction)
{
	u64 thread = bpf_get_current_pid_tgid();
	struct last_io *last;
	struct calls *all;

	if (!(target->told & TOLD_BY_WHOM))
		return;
	all = bpf_map_lookup_elem(&calls, &thread);
	if (!all)
		return;
	last = &all->last[direction & 1];
	last->socket = socket;
	last->routine = calling_routine();
	last->at = bpf_ktime_get_ns();
}

/*
 * What the goroutine sent or received last, within the call that returns now, was over the connection's socket. (What its thread
 * sent next is not: the call may begin with a handshake, in which other goroutines run there.)
 */
static __always_inline void bind_routine(const struct calls *all, struct connection *connection, const struct go_call *call,
					 u64 routine, u16 direction)
{
	const struct last_io *last = &all->last[direction & 1];

	if (connection->socket || !last->socket || last->routine != routine || last->at < call->entered)
		return;
	connection->socket = last->socket;
	bind(connection->id, last->socket);
}

static __always_inline void go_enter(struct pt_regs *ctx, struct target *target, u64 operation)
{
	struct go_key key = { .routine = GO_ROUTINE(ctx), .generation = target->generation };
	struct go_call call = { .connection = GO_FIRST(ctx), .buffer = GO_SECOND(ctx), .entered = bpf_ktime_get_ns() };

	target->told |= TOLD_BY_WHOM;
	/* Its connections are of a type that has crypto/tls's within, behind its first pointer. */
	if (operation == OP_UTLS_READ || operation == OP_UTLS_WRITE)
		call.connection = word_at(call.connection);
	key.direction = operation == OP_GO_READ || operation == OP_UTLS_READ ? ASC_RECEIVED : ASC_SENT;
	if (bpf_map_update_elem(&go_calls, &key, &call, BPF_ANY))
		count_drop(ASC_SOURCE_TLS, ASC_TABLE_FULL, 0);
}

static __always_inline void go_return(struct pt_regs *ctx, const struct target *target, struct calls *all, u64 cookie)
{
	struct go_key key = { .routine = GO_ROUTINE(ctx), .generation = target->generation };
	struct connection *connection;
	struct go_call *call;
	s64 len = GO_FIRST(ctx);

	key.direction = direction_of(cookie);
	call = bpf_map_lookup_elem(&go_calls, &key);
	if (!call)
		return;
	connection = len > 0 ? connection_of(call->connection, target) : NULL;
	if (connection) {
		bind_routine(all, connection, call, key.routine, key.direction);
		emit_bytes(all, connection, cookie, call->buffer, len);
	}
	bpf_map_delete_elem(&go_calls, &key);
}

static __always_inline void go_call(struct pt_regs *ctx, struct target *target, struct calls *all, u64 cookie)
{
	u64 operation = OPERATION(cookie);

	if (operation == OP_GO_CLOSE)
		forget_connection(GO_FIRST(ctx), target);
	else if (operation == OP_GO_READ_RETURN || operation == OP_GO_WRITE_RETURN)
		go_return(ctx, target, all, cookie);
	else
		go_enter(ctx, target, operation);
}
