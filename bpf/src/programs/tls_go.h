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

/* Calls of one goroutine that are within one another: TLS through a TLS proxy. */
#define GO_DEPTH 4

struct go_key {
	u64 routine;
	u64 generation;
	u64 direction;
};

struct go_call {
	/* How far below the top of the goroutine's stack, which may move, it returns. */
	u64 below;
	/* 0 if what it transfers was told already. */
	u64 connection;
	u64 buffer;
	u64 entered;
	/* Another connection transfers for it. */
	u64 is_carried;
};

struct go_calls {
	u64 depth;
	struct go_call call[GO_DEPTH];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct go_key);
	__type(value, struct go_calls);
} go_calls SEC(".maps");

/* The goroutine's calls; those that lie deeper in its stack than this place have been left. */
static __always_inline struct go_calls *go_calls_above(const struct go_key *key, u64 below)
{
	/* Too large for the stack: all zero. */
	static const struct go_calls none = {};
	struct go_calls *calls = bpf_map_lookup_elem(&go_calls, key);

	if (!calls) {
		if (bpf_map_update_elem(&go_calls, key, &none, BPF_ANY))
			return NULL;
		return bpf_map_lookup_elem(&go_calls, key);
	}
	for (int i = 0; i < GO_DEPTH; i++) {
		u64 depth = calls->depth;

		if (!depth || calls->call[(depth - 1) & (GO_DEPTH - 1)].below <= below)
			break;
		calls->depth = depth - 1;
	}
	return calls;
}

static __always_inline struct go_call *last_go_call(struct go_calls *calls)
{
	return calls->depth ? &calls->call[(calls->depth - 1) & (GO_DEPTH - 1)] : NULL;
}

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

/* How far the stack pointer is from the top of the goroutine's stack: `stack.hi` of `runtime.g`. */
static __always_inline u64 below_top(struct pt_regs *ctx)
{
	return word_at(GO_ROUTINE(ctx) + sizeof(u64)) - PT_REGS_SP(ctx);
}

static __always_inline void go_enter(struct pt_regs *ctx, struct target *target, u64 operation)
{
	struct go_key key = { .routine = GO_ROUTINE(ctx), .generation = target->generation };
	u64 below = below_top(ctx), connection = GO_FIRST(ctx);
	struct go_calls *calls;
	struct go_call *call;

	target->told |= TOLD_BY_WHOM;
	/* Its connections are of a type that has crypto/tls's within, behind its first pointer. */
	if (operation == OP_UTLS_READ || operation == OP_UTLS_WRITE)
		connection = word_at(connection);
	key.direction = operation == OP_GO_READ || operation == OP_UTLS_READ ? ASC_RECEIVED : ASC_SENT;
	calls = go_calls_above(&key, below);
	if (!calls) {
		count_drop(ASC_SOURCE_TLS, ASC_TABLE_FULL, 0);
		return;
	}
	call = last_go_call(calls);
	/* One that was left without a return is taken for the same, or lies at the bottom. */
	if (!call || call->below != below) {
		if (calls->depth >= GO_DEPTH)
			calls->depth = 0;
		call = &calls->call[calls->depth & (GO_DEPTH - 1)];
		calls->depth++;
	}
	call->below = below;
	call->connection = connection;
	call->buffer = GO_SECOND(ctx);
	call->entered = bpf_ktime_get_ns();
	call->is_carried = 0;
}

static __always_inline void go_return(struct pt_regs *ctx, const struct target *target, struct calls *all, u64 cookie)
{
	struct go_key key = { .routine = GO_ROUTINE(ctx), .generation = target->generation };
	struct go_call *call, *outer;
	struct connection *connection;
	u64 below = below_top(ctx);
	struct go_calls *calls;
	s64 len = GO_FIRST(ctx);

	key.direction = direction_of(cookie);
	calls = go_calls_above(&key, below);
	call = calls ? last_go_call(calls) : NULL;
	if (!call || call->below != below)
		return;
	connection = len > 0 && call->connection ? connection_of(call->connection, target) : NULL;
	if (connection) {
		if (!call->is_carried)
			bind_routine(all, connection, call, key.routine, key.direction);
		emit_bytes(all, connection, cookie, call->buffer, len);
	}
	calls->depth--;
	outer = last_go_call(calls);
	if (!calls->depth)
		bpf_map_delete_elem(&go_calls, &key);
	else if (outer && outer->connection == call->connection)
		outer->connection = 0;
	else if (outer)
		outer->is_carried = 1;
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
