//! What went between MCP clients and servers.

use crate::table;
use crate::table::Timestamp;

table! {
    /// One message exchange of the Model Context Protocol: a request with its response, or a notification.
    pub struct Mcp in "mcp" {
        /// The capture.
        capture_id: String,
        /// Names the exchange in its capture.
        mcp_id: i64,
        /// `stdio`, `http` (streamable HTTP), or `sse` (HTTP with SSE, as of 2024-11-05).
        transport: &'static str,
        /// The client's process, if recorded.
        client_proc_id: Option<i64>,
        /// The server's process, if recorded.
        server_proc_id: Option<i64>,
        /// The server, as it names itself.
        server_name: Option<String>,
        /// The HTTP exchange that carried the request or notification.
        http_id: Option<i64>,
        /// Version of the protocol, as the two agreed on it.
        protocol_version: Option<String> [otel = "mcp.protocol.version"],
        /// `Mcp-Session-Id`.
        session_id: Option<String> [otel = "mcp.session.id"],
        /// `client_to_server` or `server_to_client`: the way of the request or notification.
        direction: &'static str,
        /// `request`, `notification`, or `response` (its request is missing from the capture).
        kind: &'static str,
        /// The method; null of a response.
        method: Option<String> [otel = "mcp.method.name"],
        /// Id of the request: a text, or a number as text.
        request_id: Option<String> [otel = "jsonrpc.request.id"],
        /// The tool, of `tools/call`.
        tool_name: Option<String> [otel = "gen_ai.tool.name"],
        /// The resource, of methods that name one.
        resource_uri: Option<String> [otel = "mcp.resource.uri"],
        /// Parameters as JSON.
        params: Option<String>,
        /// The result as JSON; of an error, the error.
        result: Option<String>,
        /// Code of a JSON-RPC error.
        error_code: Option<i64> [otel = "rpc.response.status_code"],
        /// Whether the answer is an error: of the protocol, of HTTP, or of the tool (`isError`); null without an answer.
        is_error: Option<bool>,
        /// When the request or notification was sent; of a response, itself.
        start_ts: Timestamp,
        /// When the response was whole; or when the request was cancelled.
        end_ts: Option<Timestamp>,
        /// From `start_ts` to `end_ts`.
        duration_ns: Option<i64> [unit = "ns", otel = "mcp.client.operation.duration"],
        /// How a request ended: `response`, `cancelled`, `http_error` (HTTP refused it, without a response), `capture_end`.
        end_reason: Option<&'static str>,
        /// Whether all of it is there; false, too, where a response may be among bytes that are missing.
        complete: bool,
    }
}

table! {
    /// One tool that an MCP server lists: when it is first listed, and whenever its description or schema has changed.
    pub struct McpTool in "mcp_tools" {
        /// The capture.
        capture_id: String,
        /// The server, as it names itself.
        server_name: Option<String>,
        /// Name of the tool.
        tool_name: String [otel = "gen_ai.tool.name"],
        /// What the server tells the model about it.
        description: Option<String> [otel = "gen_ai.tool.description"],
        /// SHA-256 of the description, hexadecimal.
        description_hash: Option<String>,
        /// SHA-256 of the schema of its input, keys sorted, hexadecimal.
        schema_hash: Option<String>,
        /// When the list was whole.
        ts: Timestamp,
        /// The exchange that carried the list.
        mcp_id: i64,
    }
}
