/* SPDX-License-Identifier: Dual MIT/GPL */
/*
 * Raw records as they go through the ring buffer and into the capture file. The twin of formats/src/record.rs: a test
 * compares the two through BTF. Fields are only ever appended. What each field means is said there, once.
 */
#ifndef AGENTSIGHT_RECORD_H
#define AGENTSIGHT_RECORD_H

#include "kernel.h"

enum asc_kind {
	ASC_FORK = 0x0001,
	ASC_EXEC = 0x0002,
	ASC_EXEC_ARGS = 0x0003,
	ASC_EXIT = 0x0004,
	ASC_TLS_DATA = 0x0010,
	ASC_TLS_CLOSE = 0x0011,
};

enum asc_flag {
	ASC_TRUNCATED = 1 << 0,
	ASC_FAULT = 1 << 1,
};

enum asc_source {
	ASC_SOURCE_PROCESS = 1,
	ASC_SOURCE_TLS = 2,
	ASC_SOURCES = 7,
};

enum asc_drop_reason {
	ASC_RING_FULL = 0,
	ASC_TABLE_FULL = 1,
	ASC_DROP_REASONS = 2,
};

enum asc_direction { ASC_SENT = 0, ASC_RECEIVED = 1 };
enum asc_library { ASC_OPENSSL = 1 };

struct asc_header {
	u32 len;
	u16 kind;
	u16 flags;
	u64 time;
	u32 tgid;
	u32 tid;
	u16 cpu;
	u16 reserved;
	u32 seq;
};

struct asc_fork {
	struct asc_header header;
	u64 child_start;
	u32 child_tgid;
	u32 uid;
	char comm[16];
};

struct asc_exec {
	struct asc_header header;
	u64 start;
	u32 ppid;
	u32 uid;
	u32 gid;
	u32 args_len;
	u16 path_len;
	u16 cwd_len;
	u16 filename_len;
	u16 reserved;
	char comm[16];
};

struct asc_exec_args {
	struct asc_header header;
	u32 args_len;
	u32 offset;
	u32 len;
	u32 captured;
};

struct asc_exit {
	struct asc_header header;
	s32 status;
	u32 reserved;
	u64 user_ns;
	u64 system_ns;
	u64 runtime_ns;
	u64 max_rss_bytes;
};

struct asc_tls_data {
	struct asc_header header;
	u64 conn_id;
	u64 stream_offset;
	u32 len;
	u32 captured;
	u16 direction;
	u16 library;
	u32 reserved;
};

struct asc_tls_close {
	struct asc_header header;
	u64 conn_id;
};

#endif
