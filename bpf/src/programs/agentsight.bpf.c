/* SPDX-License-Identifier: Dual MIT/GPL */
/* All sources in one object: they share the ring, the targets and the counters. */
#include "tls.c"
#include "files.c"
#include "net.c"
#include "stdio.c"
#include "io.c"
#include "process.c"

/* Not used by any program: a variable's types are what brings the layouts into the BTF, where a test reads them. */
union {
	struct asc_fork fork;
	struct asc_exec exec;
	struct asc_exec_args exec_args;
	struct asc_exit exit;
	struct asc_map map;
	struct asc_adopt adopt;
	struct asc_unwatched unwatched;
	struct asc_identity identity;
	struct asc_tls_data tls_data;
	struct asc_tls_close tls_close;
	struct asc_tls_bind tls_bind;
	struct asc_file file;
	struct asc_socket socket;
	struct asc_socket_data socket_data;
	struct asc_stdio_data stdio_data;
	struct asc_endpoint endpoint;
} record_layouts;

char LICENSE[] SEC("license") = "Dual MIT/GPL";
