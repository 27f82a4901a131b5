/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * What all sources share: the ring, who is recorded, sequence numbers and the count of what was lost.
 *
 * A record is reserved in the ring at a size class and filled in place, so that payload is copied once. Its header says
 * how long it really is; the capturer keeps that much.
 */
#ifndef AGENTSIGHT_COMMON_H
#define AGENTSIGHT_COMMON_H

#include "record.h"
#include <bpf/bpf_helpers.h>
#include <bpf/bpf_core_read.h>
#include <bpf/bpf_tracing.h>

/*
 * Reads a field of a kernel object, along pointers if more are named: with plain loads where the kernel lends objects to
 * programs (Linux 6.2), else with a call of a helper for each, which takes several times as long.
 */
extern void *bpf_rdonly_cast(const void *object, u32 type) __ksym __weak;

#define READ(object, ...)                                                                                              \
	({                                                                                                             \
		typeof(object) from_ = (object);                                                                       \
		typeof(___arrow(from_, __VA_ARGS__)) value_;                                                           \
		if (bpf_ksym_exists(bpf_rdonly_cast)) {                                                                \
			from_ = bpf_rdonly_cast(from_, bpf_core_type_id_kernel(typeof(*from_)));                       \
			value_ = ___arrow(from_, __VA_ARGS__);                                                         \
		} else {                                                                                               \
			value_ = BPF_CORE_READ(from_, __VA_ARGS__);                                                    \
		}                                                                                                      \
		value_;                                                                                                \
	})

/*
 * An object that the kernel hands over, to be read like any other. Of a pointer in an object that is trusted the verifier asks
 * whether it is to be trusted as well: by name, four times, among all names of the kernel. That takes it a millisecond.
 */
#define UNTRUSTED(object)                                                                                              \
	((typeof(object))(bpf_ksym_exists(bpf_rdonly_cast)                                                             \
				  ? bpf_rdonly_cast(object, bpf_core_type_id_kernel(typeof(*(object))))                \
				  : (void *)(object)))

/*
 * Bytes waiting in the ring from which on the capturer is woken; below, it looks by itself ten times a second. When nothing has
 * come for a while it sleeps longer, and says so: then the next record wakes it.
 */
const volatile u64 wake_bytes = 1 << 20;
/* Size of a page, for max RSS. */
const volatile u64 page_size = 4096;
/* Bytes kept of each transfer; 0 keeps all. */
const volatile u64 max_payload = 0;
/*
 * Iterations of a loop whose body is a call of a global function. The verifier looks at such a function once, and not on every
 * way through it in each iteration, so that two of these, one in the other, need no bpf_loop, which Linux has since 5.17.
 */
#define LOOP 64
#define NS_PER_S 1000000000ull

/*
 * Reads a string of user memory. Returns its length, without the NUL, or less than 0. (Where the kernel was asked for an empty
 * one, an older one says 0 and a newer one 1.)
 */
static __always_inline long read_user_text(void *to, const u32 room, const void *from)
{
	long got = bpf_probe_read_user_str(to, room, from);

	return got > 0 ? got - 1 : got;
}

/* Which sources are wanted. */
const volatile bool want_file = true;
const volatile bool want_net = true;
const volatile bool want_plain = true;
const volatile u32 want_stdio = ASC_STDIO_ALL;

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 16 << 20);
} ring SEC(".maps");

/* Whether TLS is seen below its connections: then it matters where received bytes are put. Of Go, by which goroutine. */
enum told { TOLD_WHERE = 1, TOLD_BY_WHOM = 2 };

/* The recorded processes. The generation tells apart two processes that have the same id one after the other. */
struct target {
	u64 generation;
	/* Bytes that went through the standard streams, sent and received. A fourth for the verifier, as below. */
	u64 stdio_offset[4][2];
	/* Whether a standard stream speaks JSON-RPC: enum speech. */
	u8 speech[4];
	/* What sockets have to tell of: enum told. */
	u16 told;
	/* Whether it was told that it works through io_uring. */
	u16 rings;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 65536);
	__type(key, u32);
	__type(value, struct target);
} targets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u64);
} next_id SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} next_seq SEC(".maps");

struct drop {
	u64 records;
	u64 bytes;
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, ASC_SOURCES *ASC_DROP_REASONS);
	__type(key, u32);
	__type(value, struct drop);
} drops SEC(".maps");

static __always_inline void count_drop(u32 source, u32 reason, u64 bytes)
{
	u32 key = source * ASC_DROP_REASONS + reason;
	struct drop *drop = bpf_map_lookup_elem(&drops, &key);

	if (drop) {
		__sync_fetch_and_add(&drop->records, 1);
		__sync_fetch_and_add(&drop->bytes, bytes);
	}
}

/* A number that no other call returns, from 1. */
static __always_inline u64 unique_id(void)
{
	u32 zero = 0;
	u64 *next = bpf_map_lookup_elem(&next_id, &zero);

	return next ? __sync_fetch_and_add(next, 1) + 1 : 0;
}

static __always_inline struct target *target_of(u32 tgid)
{
	return bpf_map_lookup_elem(&targets, &tgid);
}

/* The header's number is drawn before the ring is asked for room: a lost record leaves a hole in the sequence. */
static __always_inline u32 draw_seq(void)
{
	u32 zero = 0;
	u32 *seq = bpf_map_lookup_elem(&next_seq, &zero);

	return seq ? __sync_fetch_and_add(seq, 1) : 0;
}

static __always_inline void fill_header(struct asc_header *header, u16 kind, u16 flags, u32 len, u32 seq)
{
	u64 id = bpf_get_current_pid_tgid();

	header->len = len;
	header->kind = kind;
	header->flags = flags;
	header->time = bpf_ktime_get_boot_ns();
	header->tgid = id >> 32;
	header->tid = (u32)id;
	header->cpu = bpf_get_smp_processor_id();
	header->reserved = 0;
	header->seq = seq;
}

/* A file as it is now. A number of an inode comes again when the file is gone, and a file may be written anew. */
struct program {
	u64 inode;
	u64 device;
	u64 changed;
};

/* Files that were mapped to be executed: the capturer has been told of them. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct program);
	__type(value, u8);
} programs SEC(".maps");

/* When an inode last changed. */
static __always_inline u64 time_changed(struct inode *inode)
{
	/* Since Linux 6.13 the uppermost bit says that somebody has asked for the time. */
	const u32 asked = 1u << 31;

	if (bpf_core_field_exists(inode->i_ctime_sec)) /* since Linux 6.11 */
		return READ(inode, i_ctime_sec) * NS_PER_S + (READ(inode, i_ctime_nsec) & ~asked);
	if (bpf_core_field_exists(inode->__i_ctime)) /* since Linux 6.6 */
		return READ(inode, __i_ctime.tv_sec) * NS_PER_S + READ(inode, __i_ctime.tv_nsec);
	return READ(inode, i_ctime.tv_sec) * NS_PER_S + READ(inode, i_ctime.tv_nsec);
}

static __always_inline struct program program_of(struct file *file)
{
	struct inode *inode = READ(file, f_inode);

	return (struct program){
		.inode = READ(inode, i_ino),
		.device = READ(inode, i_sb, s_dev),
		.changed = time_changed(inode),
	};
}

/* Whether this is the first time that a file is executed as it is now. */
static __always_inline bool first_execution(struct file *file)
{
	struct program key = program_of(file);
	u8 yes = 1;

	return !bpf_map_update_elem(&programs, &key, &yes, BPF_NOEXIST);
}

/* The capturer could not be told: it is the next time. */
static __always_inline void forget_execution(struct file *file)
{
	struct program key = program_of(file);

	bpf_map_delete_elem(&programs, &key);
}

/* What the capturer waits for, as it says itself before it does. */
enum waiting {
	WAITING_NOT = 0, /* at work: it looks at the ring again before it waits */
	WAITING_FOR_MUCH = 1,
	WAITING_FOR_ANY = 2,
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, u32);
	__type(value, u32);
} waiting SEC(".maps");

/* Waking the capturer on every record would cost more than the record, and so would waking one that is awake and behind. */
static __always_inline u64 wake_flags(void)
{
	u32 zero = 0, *waits = bpf_map_lookup_elem(&waiting, &zero);

	if (!waits || *waits == WAITING_NOT)
		return BPF_RB_NO_WAKEUP;
	if (*waits == WAITING_FOR_MUCH && bpf_ringbuf_query(&ring, BPF_RB_AVAIL_DATA) < wake_bytes)
		return BPF_RB_NO_WAKEUP;
	*waits = WAITING_NOT;
	return BPF_RB_FORCE_WAKEUP;
}

#endif
