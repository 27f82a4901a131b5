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
	ASC_MAP = 0x0005,
	ASC_ADOPT = 0x0006,
	ASC_UNWATCHED = 0x0007,
	ASC_IDENTITY = 0x0008,
	ASC_TLS_DATA = 0x0010,
	ASC_TLS_CLOSE = 0x0011,
	ASC_TLS_BIND = 0x0012,
	ASC_FILE = 0x0020,
	ASC_SOCKET = 0x0030,
	ASC_SOCKET_DATA = 0x0031,
	ASC_STDIO_DATA = 0x0040,
	ASC_ENDPOINT = 0x0041,
};

enum asc_flag {
	ASC_TRUNCATED = 1 << 0,
	ASC_FAULT = 1 << 1,
};

enum asc_source {
	ASC_SOURCE_PROCESS = 1,
	ASC_SOURCE_TLS = 2,
	ASC_SOURCE_FILE = 3,
	ASC_SOURCE_NET = 4,
	ASC_SOURCE_STDIO = 5,
	ASC_SOURCES = 7,
};

/* Ways around what is watched. */
enum asc_way { ASC_32_BIT = 1, ASC_IO_URING = 2 };

enum asc_drop_reason {
	ASC_RING_FULL = 0,
	ASC_TABLE_FULL = 1,
	ASC_DROP_REASONS = 2,
};

enum asc_direction { ASC_SENT = 0, ASC_RECEIVED = 1 };
enum asc_library {
	ASC_OPENSSL = 1,
	ASC_BORINGSSL = 2,
	ASC_AWS_LC = 3,
	ASC_GO = 4,
	ASC_GNUTLS = 5,
	ASC_NSS = 6,
	ASC_PLAIN = 7,
	ASC_CRATE_RING = 8,
};

enum asc_file_op {
	ASC_OPEN = 1,
	ASC_CLOSE = 2,
	ASC_RENAME = 3,
	ASC_UNLINK = 4,
	ASC_MKDIR = 5,
	ASC_RMDIR = 6,
	ASC_LINK = 7,
	ASC_SYMLINK = 8,
	ASC_CHMOD = 9,
	ASC_TRUNCATE = 10,
};

enum asc_socket_op {
	ASC_SOCKET_CONNECT = 1,
	ASC_SOCKET_ACCEPT = 2,
	ASC_SOCKET_BIND = 3,
	ASC_SOCKET_LISTEN = 4,
	ASC_SOCKET_CLOSE = 5,
	ASC_SOCKET_USE = 6,
	ASC_SOCKET_REFUSED = 7,
	ASC_SOCKET_PEER = 8,
};

enum asc_socket_content { ASC_CONTENT_DNS = 1, ASC_CONTENT_TLS_HELLO = 2 };
enum asc_stdio_mode { ASC_STDIO_OFF = 0, ASC_STDIO_MCP = 1, ASC_STDIO_ALL = 2 };
enum asc_stdio_type { ASC_PIPE = 1, ASC_LOCAL_SOCKET = 2, ASC_TERMINAL = 3, ASC_NETWORK_SOCKET = 4 };

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

struct asc_map {
	struct asc_header header;
	u64 inode;
	u32 device;
	u16 path_len;
	u16 reserved;
};

struct asc_adopt {
	struct asc_header header;
};

struct asc_unwatched {
	struct asc_header header;
	u16 way;
	u16 reserved[3];
};

struct asc_identity {
	struct asc_header header;
	u32 uid;
	u32 effective_uid;
	u32 gid;
	u32 effective_gid;
	u32 namespace_pid;
	u32 pid_namespace;
	u32 mnt_namespace;
	u32 net_namespace;
	u32 user_namespace;
	u32 reserved;
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
	u64 sent;
	u64 received;
};

struct asc_tls_bind {
	struct asc_header header;
	u64 conn_id;
	u64 socket_id;
};

struct asc_file {
	struct asc_header header;
	u64 file_id;
	u64 inode;
	u32 device;
	u16 op;
	u16 reserved;
	s32 result;
	u32 flags;
	u32 mode;
	u16 base_len;
	u16 path_len;
	u16 new_base_len;
	u16 new_path_len;
	u32 reserved2;
	u64 bytes_read;
	u64 bytes_written;
};

struct asc_socket {
	struct asc_header header;
	u64 socket_id;
	u64 inode;
	u16 op;
	u16 family;
	u16 socket_type;
	u16 protocol;
	s32 result;
	s32 fd;
	u16 local_port;
	u16 peer_port;
	u16 path_len;
	u16 reserved;
	u8 local[16];
	u8 peer[16];
	u64 sent;
	u64 received;
};

struct asc_socket_data {
	struct asc_header header;
	u64 socket_id;
	u32 len;
	u32 captured;
	u16 direction;
	u16 content;
	u16 family;
	u16 peer_port;
	u8 peer[16];
};

struct asc_stdio_data {
	struct asc_header header;
	u64 object;
	u64 peer_object;
	u64 stream_offset;
	u32 len;
	u32 captured;
	u16 fd;
	u16 direction;
	u16 object_type;
	u16 reserved;
};

struct asc_endpoint {
	struct asc_header header;
	u64 object;
	u16 direction;
	u16 reserved[3];
};

#endif
