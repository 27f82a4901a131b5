//! What stages tell analyzers that is no table of its own: it would stand in one later, or in another shape.

use crate::table;
use crate::table::Timestamp;

table! {
    /// A process has a parent.
    pub struct Started in "started" {
        /// The process.
        proc_id: i64,
        /// The one that started it.
        parent_proc_id: i64,
    }
}

table! {
    /// A process has begun to ask a model: what the answer asks for may be run before it has ended.
    pub struct Asking in "asking" {
        /// The exchange.
        http_id: i64,
        /// The process.
        proc_id: i64,
    }
}

table! {
    /// What came of an exchange has been told: calls, and the tools that they ask for.
    pub struct Answered in "answered" {
        /// The exchange.
        http_id: i64,
    }
}

table! {
    /// A model has asked for a tool; the row of `tool_calls` comes with the result.
    pub struct ToolRequested in "tool_requested" {
        /// The tool call.
        tool_call_key: i64,
        /// The provider's id of the call.
        tool_call_id: Option<String>,
        /// The process that asked the model.
        proc_id: i64,
        /// When the request was whole.
        requested_ts: Option<Timestamp>,
        /// Name of the tool.
        tool_name: Option<String>,
        /// Arguments as JSON.
        arguments: String,
    }
}

table! {
    /// Plaintext of TLS was not seen. The row of the connection follows.
    pub struct TlsUnseen in "tls_unseen" {
        /// The connection.
        conn_id: i64,
        /// Nothing of what was sent was seen.
        sent: bool,
        /// Nothing of what was received was seen.
        received: bool,
    }
}

table! {
    /// A process goes a way on which it is not watched.
    pub struct Unwatched in "unwatched" {
        /// The process.
        proc_id: i64,
        /// When it began to.
        ts: Timestamp,
        /// What it does.
        way: &'static str,
    }
}

table! {
    /// A socket has these ends.
    pub struct Ends in "ends" {
        /// Its connection.
        conn_id: i64,
        /// The process.
        proc_id: i64,
        /// `client` or `server`, if that was seen.
        role: Option<&'static str>,
        /// Address and port of this end.
        local: String,
        /// Address and port of the other.
        peer: String,
    }
}

table! {
    /// A request over HTTP has begun that looks like one of MCP: what the server does for it happens before it has ended.
    pub struct Posted in "posted" {
        /// The exchange.
        http_id: i64,
        /// Its connection.
        conn_id: i64,
        /// The process at whose end it was seen.
        proc_id: i64,
    }
}

table! {
    /// A process has begun to serve a client of MCP over HTTP; that it has ended is told as of any exchange.
    pub struct McpServing in "mcp_serving" {
        /// The exchange.
        http_id: i64,
        /// The server.
        server_proc_id: i64,
    }
}

table! {
    /// An MCP client has asked its server for something; the row of `mcp` comes with the response.
    pub struct McpRequested in "mcp_requested" {
        /// The exchange.
        mcp_id: i64,
        /// `stdio`, `http` or `sse`.
        transport: &'static str,
        /// The client.
        client_proc_id: Option<i64>,
        /// The server.
        server_proc_id: Option<i64>,
        /// The server's name.
        server_name: Option<String>,
        /// The method.
        method: String,
        /// The tool, of `tools/call`.
        tool_name: Option<String>,
        /// Its arguments, keys sorted.
        arguments: String,
        /// When it asked.
        ts: Timestamp,
    }
}

table! {
    /// A tool call was found to be what an MCP client asked for.
    pub struct McpCalled in "mcp_called" {
        /// The request.
        mcp_id: i64,
        /// The tool call.
        tool_call_key: i64,
        /// How sure that is.
        confidence: f64,
    }
}
