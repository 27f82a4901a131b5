//! MCP, as agents and their servers speak it, and what comes of it.

#[path = "../common/mod.rs"]
mod common;

mod causes;
mod http;
mod recorded;
mod stdio;
mod tools;

use common::*;

/// These columns of the rows of `mcp`.
fn mcp<'a>(seen: &'a Collected, names: &[&'static str]) -> Vec<Vec<&'a str>> {
    seen.cells("mcp", names)
}

const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"agent","version":"1"}}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
const SERVES: &str = r#"{"result":{"protocolVersion":"2025-06-18","capabilities":{"tools":{}},"serverInfo":{"name":"files","version":"1"}},"jsonrpc":"2.0","id":0}"#;

fn call(id: &str, tool: &str, arguments: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":{id},"method":"tools/call","params":{{"name":"{tool}","arguments":{arguments}}}}}"#
    )
}

fn result(id: &str, result: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"result":{result}}}"#)
}
