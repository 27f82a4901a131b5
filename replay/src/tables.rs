//! The tables, one definition each. Times are UTC; durations are `_ns`; ids are BIGINT or VARCHAR; every table starts with
//! `capture_id`, and joins are on `(capture_id, id)`. A row that was built from bytes with a gap, a truncation or a lost
//! record says so.

use crate::table;
use crate::table::{TableDef, Timestamp};

/// Every table, in the order in which `--tables` lists them.
pub static TABLES: &[&TableDef] = &[
    Capture::TABLE,
    Process::TABLE,
    Exec::TABLE,
    Connection::TABLE,
    TlsData::TABLE,
    Http::TABLE,
    StreamEvent::TABLE,
    LlmCall::TABLE,
    ToolCall::TABLE,
    Dropped::TABLE,
];

/// The definition of a table, by its SQL name.
pub fn table(name: &str) -> Option<&'static TableDef> {
    TABLES.iter().copied().find(|table| table.name == name)
}

table! {
    /// One recorded run.
    pub struct Capture in "captures" {
        /// Names the capture: its UUID.
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
        /// Who recorded.
        user_name: String,
        /// Exit code of the recorded command, 128 plus the signal's number when a signal ended it; null while unknown.
        exit_code: Option<i64> [otel = "process.exit.code"],
        /// The capture file, as it was named to this program.
        file: String,
        /// Segments read.
        segments: i64,
        /// Records read, those of the capturer itself included.
        records: i64,
        /// Records lost by the kernel side.
        dropped_records: i64,
        /// Whether the capturer closed the file properly and no part of it is damaged.
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
        /// Command name, after its last exec.
        comm: String,
        /// Executable of its last exec, links resolved.
        executable_path: Option<String> [otel = "process.executable.path"],
        /// User id.
        uid: Option<i64> [otel = "process.real_user.id"],
        /// Forks between the recorded root process and this one.
        depth: i64,
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
    }
}

table! {
    /// One TLS connection of a recorded process.
    pub struct Connection in "connections" {
        /// The capture.
        capture_id: String,
        /// Names the connection in its capture.
        conn_id: i64,
        /// The process.
        proc_id: i64,
        /// First byte of plaintext.
        opened_at: Timestamp,
        /// When the connection was freed, or its process exited; null if neither was seen.
        closed_at: Option<Timestamp>,
        /// Name of the server, as the Host header of its first request gives it.
        server_name: Option<String> [otel = "server.address"],
        /// Application protocol seen in the bytes, `http/1.1` or `h2`.
        alpn: Option<String> [otel = "network.protocol.name"],
        /// The TLS library that was probed.
        tls_library: Option<String>,
        /// Whether TLS was seen.
        tls_seen: bool,
        /// Whether its plaintext was seen.
        plaintext_seen: bool,
        /// Plaintext bytes sent, those missing from the capture included.
        bytes_sent: i64 [unit = "bytes"],
        /// Plaintext bytes received, those missing from the capture included.
        bytes_received: i64 [unit = "bytes"],
        /// Bytes of both directions that are missing from the capture.
        gap_bytes: i64 [unit = "bytes"],
    }
}

table! {
    /// One piece of plaintext, as the TLS library handed it over.
    pub struct TlsData in "tls_data" {
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
        /// The connection.
        conn_id: i64,
        /// `sent` or `received`, seen from the process.
        direction: &'static str,
        /// Where in its stream the piece starts.
        stream_offset: i64 [unit = "bytes"],
        /// Bytes transferred.
        len: i64 [unit = "bytes"],
        /// Bytes of them in the capture.
        captured_len: i64 [unit = "bytes"],
        /// The captured bytes.
        data: Vec<u8>,
    }
}

table! {
    /// One HTTP exchange: a request with its response.
    pub struct Http in "http" {
        /// The capture.
        capture_id: String,
        /// Names the exchange in its capture.
        http_id: i64,
        /// The connection.
        conn_id: i64,
        /// Number of the request on its connection, from 1 (HTTP/1).
        stream_id: i64,
        /// The process.
        proc_id: i64,
        /// `1.0` or `1.1`.
        protocol_version: String [otel = "network.protocol.version"],
        /// Request method; null when the request is missing from the capture.
        method: Option<String> [otel = "http.request.method"],
        /// `https`.
        scheme: String [otel = "url.scheme"],
        /// Host (and port) that the request names.
        server_address: Option<String> [otel = "server.address"],
        /// Path of the request.
        path: Option<String> [otel = "url.path"],
        /// Query of the request, without `?`.
        query: Option<String> [otel = "url.query"],
        /// Status of the final response.
        status_code: Option<i64> [otel = "http.response.status_code"],
        /// First byte of the request.
        request_ts: Option<Timestamp>,
        /// First byte of the final response.
        response_ts: Option<Timestamp>,
        /// Last byte of the response.
        end_ts: Option<Timestamp>,
        /// Request body on the wire, after transfer decoding, before content decoding.
        request_bytes: i64 [unit = "bytes", otel = "http.request.body.size"],
        /// Response body on the wire, after transfer decoding, before content decoding.
        response_bytes: i64 [unit = "bytes", otel = "http.response.body.size"],
        /// Content-Type of the request.
        request_content_type: Option<String>,
        /// Content-Type of the response.
        response_content_type: Option<String>,
        /// Content-Encoding of the response.
        content_encoding: Option<String>,
        /// Request header fields in order, as a JSON array of [name, value].
        request_headers: Option<String>,
        /// Response header fields in order, as a JSON array of [name, value].
        response_headers: Option<String>,
        /// Request body, content encoding removed.
        request_body: Option<Vec<u8>>,
        /// Response body, content encoding removed.
        response_body: Option<Vec<u8>>,
        /// `complete`; or what is wrong with the bodies: `gap` (bytes missing), `cut` (the stream ends inside), `too_large`, `undecodable`.
        body_state: &'static str,
        /// How the exchange ended: `response`, `close` (the response ends with the connection), `no_response`, `upgrade`, `capture_end`.
        end_reason: &'static str,
    }
}

table! {
    /// One event of a streamed response.
    pub struct StreamEvent in "stream_events" {
        /// The capture.
        capture_id: String,
        /// The exchange.
        http_id: i64,
        /// Counts the events of an exchange from 0.
        idx: i64,
        /// When the event was complete on the wire.
        ts: Timestamp,
        /// `sse`.
        framing: &'static str,
        /// `received`, seen from the process.
        direction: &'static str,
        /// Name of the event, as its `event:` field gives it.
        event: Option<String>,
        /// Length of the data.
        data_len: i64 [unit = "bytes"],
        /// The data: its `data:` lines, joined by newlines.
        data: String,
    }
}

table! {
    /// One request to a large language model, with its response.
    pub struct LlmCall in "llm_calls" {
        /// The capture.
        capture_id: String,
        /// Names the call in its capture.
        llm_call_id: i64,
        /// The exchange that carried it.
        http_id: i64,
        /// The process.
        proc_id: i64,
        /// `anthropic.messages` or `openai.chat`.
        wire_api: &'static str,
        /// Who answered: `anthropic`, `openai`, or the server's name.
        provider_name: String [otel = "gen_ai.provider.name"],
        /// `chat`.
        operation_name: &'static str [otel = "gen_ai.operation.name"],
        /// Model that was asked for.
        request_model: Option<String> [otel = "gen_ai.request.model"],
        /// Model that answered.
        response_model: Option<String> [otel = "gen_ai.response.model"],
        /// The provider's id of the response.
        response_id: Option<String> [otel = "gen_ai.response.id"],
        /// The provider's id of the request, from a response header.
        provider_request_id: Option<String>,
        /// Whether the response was streamed.
        stream: bool,
        /// First byte of the request.
        start_ts: Option<Timestamp>,
        /// First piece of generated content.
        first_chunk_ts: Option<Timestamp>,
        /// Last byte of the response.
        end_ts: Option<Timestamp>,
        /// From `start_ts` to `end_ts`.
        duration_ns: Option<i64> [unit = "ns", otel = "gen_ai.client.operation.duration"],
        /// From `start_ts` to `first_chunk_ts`: time to the first chunk.
        ttfc_ns: Option<i64> [unit = "ns", otel = "gen_ai.response.time_to_first_chunk"],
        /// HTTP status.
        status_code: Option<i64> [otel = "http.response.status_code"],
        /// The provider's type of error.
        error_type: Option<String> [otel = "error.type"],
        /// Why the model stopped, in one vocabulary: `stop`, `tool_call`, `length`, `content_filter`, `error`.
        finish_reason: Option<&'static str> [otel = "gen_ai.response.finish_reasons"],
        /// Why the model stopped, in the provider's words.
        finish_reason_raw: Option<String>,
        /// Tokens of the prompt, cached ones included.
        input_tokens: Option<i64> [unit = "tokens", otel = "gen_ai.usage.input_tokens"],
        /// Tokens of the answer.
        output_tokens: Option<i64> [unit = "tokens", otel = "gen_ai.usage.output_tokens"],
        /// Tokens of the prompt that came from the provider's cache.
        cache_read_input_tokens: Option<i64> [unit = "tokens", otel = "gen_ai.usage.cache_read.input_tokens"],
        /// Tokens of the prompt that were written to the provider's cache.
        cache_write_input_tokens: Option<i64> [unit = "tokens", otel = "gen_ai.usage.cache_creation.input_tokens"],
        /// Tokens of the answer spent on reasoning.
        reasoning_output_tokens: Option<i64> [unit = "tokens", otel = "gen_ai.usage.reasoning.output_tokens"],
        /// `reported` by the provider, or `none`.
        usage_source: &'static str,
        /// What the provider itself said of usage, as JSON.
        usage_raw: Option<String>,
        /// Text of the answer.
        output_text: Option<String>,
        /// Whether the response ended before its end.
        aborted: bool,
        /// Whether every byte of request and response was there and understood.
        complete: bool,
    }
}

table! {
    /// One tool call: the model's request, paired with the result that the agent sent back.
    pub struct ToolCall in "tool_calls" {
        /// The capture.
        capture_id: String,
        /// Names the tool call in its capture.
        tool_call_key: i64,
        /// The provider's id of the call.
        tool_call_id: Option<String> [otel = "gen_ai.tool.call.id"],
        /// The LLM call whose answer asked for it.
        llm_call_id: Option<i64>,
        /// The LLM call that first carried its result.
        result_llm_call_id: Option<i64>,
        /// Name of the tool.
        tool_name: Option<String> [otel = "gen_ai.tool.name"],
        /// `function` (the agent runs it) or `server` (the provider does).
        tool_type: &'static str [otel = "gen_ai.tool.type"],
        /// Arguments as JSON, as the model wrote them.
        arguments: Option<String> [otel = "gen_ai.tool.call.arguments"],
        /// SHA-256 of the arguments, hexadecimal.
        args_hash: Option<String>,
        /// The result: text, or the JSON of its parts.
        result: Option<String> [otel = "gen_ai.tool.call.result"],
        /// SHA-256 of the result, hexadecimal.
        result_hash: Option<String>,
        /// Whether the agent called the result an error.
        is_error: Option<bool>,
        /// When the model's request was complete.
        requested_ts: Option<Timestamp>,
        /// When the agent sent the result.
        result_ts: Option<Timestamp>,
        /// From `requested_ts` to `result_ts`.
        duration_ns: Option<i64> [unit = "ns"],
        /// Whether the arguments are whole and valid JSON.
        args_complete: bool,
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
        /// `ring_full`, `table_full`, or `damage` of the file.
        reason: String,
        /// Records lost; null where it cannot be known.
        records: Option<i64>,
        /// Bytes of payload lost; for damage: bytes of the file passed over.
        bytes: Option<i64> [unit = "bytes"],
    }
}
