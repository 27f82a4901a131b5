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
        /// User id.
        uid: Option<i64> [otel = "process.real_user.id"],
        /// Forks between the recorded root process and this one; null where the record of one was lost.
        depth: Option<i64>,
        /// CPU time in user mode.
        user_ns: Option<i64> [unit = "ns"],
        /// CPU time in kernel mode.
        system_ns: Option<i64> [unit = "ns"],
        /// Largest resident set.
        max_rss_bytes: Option<i64> [unit = "bytes"],
    }
}

table! {
    /// One program executed by a recorded process.
    pub struct Exec in "execs" {
        /// The capture.
        capture_id: String,
        /// When the new program took over.
        ts: Timestamp,
        /// The process.
        proc_id: i64,
        /// The executable, links resolved (of a script: its interpreter).
        executable_path: String [otel = "process.executable.path"],
        /// The arguments as one line, quoted for a POSIX shell.
        command_line: String [otel = "process.command_line"],
        /// The arguments, one element each.
        args: Vec<String> [otel = "process.command_args"],
        /// The working directory.
        working_directory: String [otel = "process.working_directory"],
        /// Whether arguments are missing: longer than the capturer takes, unreadable, or lost.
        truncated: bool,
        /// The tool call that caused it, as far as is known; `causes` says how.
        cause_tool_call_key: Option<i64>,
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
