//! HTTP, and the events that it streams.

use crate::table;
use crate::table::Timestamp;

table! {
    /// One HTTP exchange: a request with its response.
    pub struct Http in "http" {
        /// The capture.
        capture_id: String,
        /// Names the exchange in its capture.
        http_id: i64,
        /// The connection.
        conn_id: i64,
        /// Number of the request on its connection, from 1 (HTTP/1); number of its stream (HTTP/2).
        stream_id: i64,
        /// The process.
        proc_id: i64,
        /// `1.0`, `1.1` or `2.0`.
        protocol_version: String [otel = "network.protocol.version"],
        /// Request method; null when the request is missing from the capture, or the field is unknown.
        method: Option<String> [otel = "http.request.method"],
        /// `https`, or `http` without TLS.
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
        /// Request header fields in order, as a JSON array of [name, value]; of HTTP/2 with `:method` and its like, without those that are unknown.
        request_headers: Option<String>,
        /// Response header fields in order, as the request's.
        response_headers: Option<String>,
        /// Request body, content encoding removed.
        request_body: Option<Vec<u8>>,
        /// Response body, content encoding removed.
        response_body: Option<Vec<u8>>,
        /// `complete`; or what is wrong with the bodies: `gap` (bytes missing, the whole request, or an answer that may be among records that were lost or in a direction of TLS that was not seen), `cut` (the stream ends inside), `too_large`, `undecodable` (a coding that cannot be removed, or events whose framing or checksums are wrong); or `unknown_fields`: the bodies are whole, but header fields are not known, for HTTP/2's table of them was not seen from its start.
        body_state: &'static str,
        /// How the exchange ended: `response`, `close` (the response ends with the connection), `no_response`, `upgrade`, `reset` (one side gave the stream up), `limit` (too many streams were open), `capture_end`.
        end_reason: &'static str,
        /// The exchange that this one repeats: the same process, method, host, target and body, after a failure (408, 409, 425, 429, 5xx, an error within the stream) or no whole answer. Only one that had ended before.
        retry_of: Option<i64>,
    }
}

table! {
    /// One event of a streamed response, or one message of a WebSocket.
    pub struct StreamEvent in "stream_events" {
        /// The capture.
        capture_id: String,
        /// The exchange.
        http_id: i64,
        /// Counts the events of an exchange from 0, with those that could not be had, for they were damaged, and one for each hole in the stream; of a WebSocket, those of both directions.
        idx: i64,
        /// When the event was complete on the wire.
        ts: Timestamp,
        /// How events are told apart: `sse` (server-sent events), `ws` (WebSocket), `ndjson` (a JSON value on each line), `json_array` (items of an array that comes over time), `eventstream` (AWS event stream).
        framing: &'static str,
        /// `received` or `sent`, seen from the process.
        direction: &'static str,
        /// Name of the event, as its `event:` field gives it; of an AWS event stream, its `:event-type`, `:exception-type` or `:error-code`; of a WebSocket, `binary`, `close`, `ping` or `pong`, and null for text.
        event: Option<String>,
        /// Length of the data.
        data_len: i64 [unit = "bytes"],
        /// The data: its `data:` lines, joined by newlines; a line or an item as it stands there; the payload of an AWS message, in hexadecimal if it is no text; a text message; a binary one in hexadecimal; code and reason of a close.
        data: String,
    }
}
