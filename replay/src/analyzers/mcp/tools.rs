//! The tools that servers list: a row when one is new, or not as it was.

use crate::analyzers::Rows;
use crate::bounded::Bounded;
use crate::jsonrpc::canonical;
use crate::names;
use crate::table::Timestamp;
use crate::tables::McpTool;
use crate::tools::sha256;
use serde_json::Value;

/// Tools that are remembered.
const MAX_TOOLS: usize = 65_536;

/// The hashes of a tool's description and schema.
type Hashes = (Option<String>, Option<String>);

pub(super) struct Listed {
    last: Bounded<(Option<String>, String), Hashes>,
}

impl Default for Listed {
    fn default() -> Self {
        Listed { last: Bounded::new(MAX_TOOLS) }
    }
}

impl Listed {
    /// Takes a tool that a server lists.
    pub fn take(
        &mut self,
        (capture_id, mcp_id, ts): (&str, i64, Timestamp),
        server_name: &Option<String>,
        tool: &Value,
        out: &mut Rows<'_>,
    ) {
        let Some(tool_name) = tool.get("name").and_then(Value::as_str) else { return };
        let description = tool.get("description").and_then(Value::as_str);
        let hashes = (description.map(sha256), tool.get("inputSchema").map(|schema| sha256(&canonical(schema))));
        let key = (server_name.clone(), names::brief(tool_name));
        if self.last.get(&key) == Some(&hashes) {
            return;
        }
        out(&McpTool {
            capture_id: capture_id.to_owned(),
            server_name: server_name.clone(),
            tool_name: tool_name.to_owned(),
            description: description.map(str::to_owned),
            description_hash: hashes.0.clone(),
            schema_hash: hashes.1.clone(),
            ts,
            mcp_id,
        });
        self.last.insert(key, hashes);
    }
}
