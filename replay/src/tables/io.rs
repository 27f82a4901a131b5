//! What processes do with files, and what goes through their standard streams.

use crate::table;
use crate::table::Timestamp;

table! {
    /// One thing that a process did to a file or folder. Reads and writes are summed at the close.
    pub struct File in "files" {
        /// The capture.
        capture_id: String,
        /// When the call returned.
        ts: Timestamp,
        /// The process; of a close that nobody saw (`result` is null), the one that opened it.
        proc_id: i64,
        /// `open`, `close`, `rename`, `unlink`, `mkdir`, `rmdir`, `link`, `symlink`, `chmod` or `truncate`.
        op: String,
        /// The file, as the process sees it below its root; of a symlink, what it says. Begins with `…` where it is longer than 4,096 bytes, and with `(unreachable)` where it leads to another root than the process's. Null where it could not be read.
        path: Option<String> [otel = "file.path"],
        /// The new path of rename, link and symlink.
        new_path: Option<String>,
        /// Flags by name, as `O_WRONLY|O_CREAT`; null where the call takes none.
        flags: Option<String>,
        /// Permissions in octal that open (of a new file), mkdir or chmod asked for.
        mode: Option<String> [otel = "file.mode"],
        /// What the call returned: a descriptor (of open and close), 0, or a negative errno. Null of a close that nobody saw before recording ended: the sums so far, of a file that was still open, or that an exec closed.
        result: Option<i64>,
        /// Name of the error, as `ENOENT`; null on success.
        error: Option<String> [otel = "error.type"],
        /// Joins the open of a regular file with its close.
        file_id: Option<i64>,
        /// Inode of the file; null where the call named no open file, and of a close that nobody saw. With `device` it joins what two processes call by different paths.
        inode: Option<i64> [otel = "file.inode"],
        /// Device of its file system, `major:minor`, as /proc/PID/mountinfo has it.
        device: Option<String>,
        /// Bytes read through the open file, by all processes that share it; at its close, or when recording ended.
        bytes_read: Option<i64> [unit = "bytes"],
        /// Bytes written through the open file, by all processes that share it; at its close, or when recording ended.
        bytes_written: Option<i64> [unit = "bytes"],
        /// Length that truncate gives the file.
        length: Option<i64> [unit = "bytes", otel = "file.size"],
        /// What credentials a file holds, by its path (or its new one): `ssh`, `cloud`, `kubernetes`, `containers`, `netrc`, `packages`, `git`, `dotenv`, `system`, `keyring`, `browser`, `database` or `infrastructure`; null for any other file.
        sensitive_class: Option<&'static str>,
        /// The tool call that caused it, as far as is known; `causes` says how.
        cause_tool_call_key: Option<i64>,
    }
}

table! {
    /// One piece of what went through a standard stream (descriptors 0, 1 and 2) over a pipe, socket or terminal.
    pub struct Stdio in "stdio" {
        /// The capture.
        capture_id: String,
        /// Counts the rows of a capture from 0, in order of time.
        seq: i64,
        /// When the call that transferred it returned.
        ts: Timestamp,
        /// The process.
        proc_id: i64,
        /// The thread.
        tid: i64 [otel = "thread.id"],
        /// The descriptor: 0, 1 or 2.
        fd: i64,
        /// `sent` (written) or `received` (read), seen from the process.
        direction: &'static str,
        /// What the descriptor is: `pipe`, `socket` (a local one), `terminal` or `network_socket`: one of IPv4 or IPv6 that
        /// carries neither TLS nor HTTP, as a shell has it that somebody calls back with.
        object_type: Option<String>,
        /// The recorded process at the other end: who writes what this one reads, or reads what it writes.
        peer_proc_id: Option<i64>,
        /// Where the piece starts in what went this way through the descriptor.
        stream_offset: i64 [unit = "bytes"],
        /// Bytes transferred.
        len: i64 [unit = "bytes"],
        /// Bytes of them in the capture.
        captured_len: i64 [unit = "bytes"],
        /// The captured bytes.
        data: Vec<u8>,
    }
}
