//! Recordings, processes, and what they used.

use crate::table;
use crate::table::Timestamp;

table! {
    /// One recorded run; all its files together, when it was rotated.
    pub struct Capture in "captures" {
        /// Names the capture: its UUID; of a rotated one, that of the recording, which all its files share.
        capture_id: String,
        /// When recording started.
        started_at: Timestamp,
        /// Time of the last checkpoint.
        ended_at: Option<Timestamp>,
        /// Host name.
        host: String [otel = "host.name"],
        /// Kernel release.
        kernel: String [otel = "os.version"],
        /// Machine architecture.
        arch: String [otel = "host.arch"],
        /// Version of the capturer.
        capturer_version: String,
        /// The recorded command, one element an argument; empty when running processes were recorded.
        command_line: Vec<String> [otel = "process.command_args"],
        /// Where the command was started.
        working_directory: String [otel = "process.working_directory"],
        /// The git repository that the command was started in: URL of its origin, else of its only remote, without credentials; else the name of its folder.
        repo: Option<String> [otel = "vcs.repository.url.full"],
        /// The commit that was checked out there, hexadecimal; files may have been changed since.
        vcs_commit: Option<String> [otel = "vcs.ref.head.revision"],
        /// Who recorded.
        user_name: String,
        /// The agent: what it calls itself where it calls a model (`User-Agent`), unless that is a library's name; else the program or script of the recorded command.
        agent_name: Option<String> [otel = "gen_ai.agent.name"],
        /// Its version, as it says where it calls a model.
        agent_version: Option<String> [otel = "gen_ai.agent.version"],
        /// Exit code of the recorded command, 128 plus the signal's number when a signal ended it; null while unknown.
        exit_code: Option<i64> [otel = "process.exit.code"],
        /// The capture file, as it was named to this program; of several, the first.
        file: String,
        /// All its files that were read, in order.
        files: Vec<String>,
        /// Number of the first file that was read, from 1; null if the capture is not rotated.
        first_part: Option<i64>,
        /// Number of the last file that was read.
        last_part: Option<i64>,
        /// Segments read.
        segments: i64,
        /// Records read, those of the capturer itself included.
        records: i64,
        /// Records lost by the kernel side.
        dropped_records: i64,
        /// Whether the capturer closed every file properly, none is missing in between and no part of them is damaged.
        complete: bool,
    }
}

table! {
    /// One process (thread group) that was recorded.
    pub struct Process in "processes" {
        /// The capture.
        capture_id: String,
        /// Names the process in its capture, also when its pid is used again.
        proc_id: i64,
        /// The process that forked it, if recorded.
        parent_proc_id: Option<i64>,
        /// Process id.
        pid: i64 [otel = "process.pid"],
        /// Process id of the parent.
        ppid: Option<i64> [otel = "process.parent_pid"],
        /// When it started.
        start_ts: Option<Timestamp> [otel = "process.creation.time"],
        /// When its last thread exited; null if it outlived the capture.
        exit_ts: Option<Timestamp> [otel = "process.exit.time"],
        /// Exit code; null when a signal ended it or it outlived the capture.
        exit_code: Option<i64> [otel = "process.exit.code"],
        /// Number of the signal that ended it.
        exit_signal: Option<i64>,
        /// Command name, after its last exec; empty where the records that say so were lost.
        comm: String,
        /// Executable of its last exec, links resolved; null where the record of that was lost.
        executable_path: Option<String> [otel = "process.executable.path"],
        /// User (real user id), as its first thread was last seen: after its fork, its last exec, or a call that changed it (setuid and its like). By the numbers of the machine, also where a user namespace has others; and so are the three that follow.
        uid: Option<i64> [otel = "process.real_user.id"],
        /// The user whose rights it has: another than `uid` in set-user-ID programs.
        effective_uid: Option<i64> [otel = "process.user.id"],
        /// Group (real group id).
        gid: Option<i64>,
        /// The group whose rights it has.
        effective_gid: Option<i64>,
        /// Forks between the recorded root process and this one; null where the record of one was lost.
        depth: Option<i64>,
        /// CPU time in user mode.
        user_ns: Option<i64> [unit = "ns"],
        /// CPU time in kernel mode.
        system_ns: Option<i64> [unit = "ns"],
        /// Largest resident set.
        max_rss_bytes: Option<i64> [unit = "bytes"],
        /// Its process id as it sees it itself: in `pid_namespace`.
        namespace_pid: Option<i64>,
        /// Its pid namespace, by the inode that /proc/PID/ns shows; where two processes have the same, `namespace_pid` means the same to them. This and the namespaces that follow are those of its first thread after its fork, its last exec, or its last unshare or setns; null in captures of older versions.
        pid_namespace: Option<i64>,
        /// Its mount namespace: where two processes have the same (and neither has changed its root), a path means the same to them.
        mnt_namespace: Option<i64>,
        /// Its network namespace: where two processes have the same, a local address means the same to them.
        net_namespace: Option<i64>,
        /// Its user namespace.
        user_namespace: Option<i64>,
    }
}

table! {
    /// One program executed by a recorded process, or (`was_running`) that it ran already.
    pub struct Exec in "execs" {
        /// The capture.
        capture_id: String,
        /// When the new program took over; of one that ran already, when that was seen.
        ts: Timestamp,
        /// The process.
        proc_id: i64,
        /// The executable, links resolved (of a script: its interpreter).
        executable_path: String [otel = "process.executable.path"],
        /// The arguments as one line, quoted for a POSIX shell.
        command_line: String [otel = "process.command_line"],
        /// The arguments, one element each; of a program that ran already, as /proc showed them then: it may have written over them.
        args: Vec<String> [otel = "process.command_args"],
        /// The working directory at this time.
        working_directory: String [otel = "process.working_directory"],
        /// Whether arguments are missing: longer than the capturer takes, unreadable, or lost.
        truncated: bool,
        /// Nothing was executed now: the process was there, with this program, when its recording began (or the first file that was read).
        was_running: bool,
        /// The tool call that caused it, as far as is known; `causes` says how.
        cause_tool_call_key: Option<i64>,
    }
}

table! {
    /// One descriptor that a process had open when its recording began, if it ran already.
    pub struct Descriptor in "descriptors" {
        /// The capture.
        capture_id: String,
        /// When that was seen.
        ts: Timestamp,
        /// The process.
        proc_id: i64,
        /// The descriptor.
        fd: i64,
        /// What it leads to: a path, `socket:[inode]`, `pipe:[inode]` or another name of the kernel's, as /proc/PID/fd shows it.
        target: String,
    }
}

table! {
    /// Records that are missing from a capture.
    pub struct Dropped in "drops" {
        /// The capture.
        capture_id: String,
        /// Checkpoint before the loss; the loss is between it and `end_ts`.
        ts: Timestamp,
        /// Checkpoint that reports the loss; null when the capture ends before one.
        end_ts: Option<Timestamp>,
        /// Source of the lost records; null where it cannot be known.
        source: Option<String>,
        /// CPU that lost them.
        cpu: Option<i64>,
        /// `ring_full`, `table_full`, `damage` of the file, `missing_part` of a rotated capture, `malformed` (too short for its kind), or `limit` (read, but more was open at once than there is room for: what was given up stands in its tables as far as it was known).
        reason: String,
        /// Records lost; null where it cannot be known.
        records: Option<i64>,
        /// Bytes of payload lost; for damage: bytes of the file passed over.
        bytes: Option<i64> [unit = "bytes"],
    }
}

table! {
    /// One measurement of a process, or of the cgroup that limits it.
    pub struct Metric in "metrics" {
        /// The capture.
        capture_id: String,
        /// When it was measured.
        ts: Timestamp,
        /// The process.
        proc_id: i64,
        /// `user_time` and `system_time` (CPU time since the process started), `rss`, `threads`, `cgroup_memory`, `cgroup_memory_limit`, `cgroup_cpu_limit`, `cgroup_threads`, `cgroup_threads_limit` (of cgroup2, or of version 1).
        name: String,
        /// Unit of the value: `ns`, `bytes`, `threads`, `millicpus` (thousandths of a CPU).
        unit: String,
        /// What was measured.
        value: i64,
    }
}
