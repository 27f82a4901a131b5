//! MCP tools that are not what they were: a server that is trusted once may tell the model something else later.

use super::{Analyzer, Inputs, Rows, reads};
use crate::bounded::Bounded;
use crate::names;
use crate::table::Row;
use crate::tables::{Finding, McpTool};

/// Tools that are remembered, and how much of their descriptions.
const MAX_TOOLS: usize = 16_384;
const MAX_SHOWN: usize = 1024;

pub(super) const READS: Inputs = reads(&[(McpTool::TABLE, &[])]);

/// What is known of a tool.
struct Known {
    description: String,
    description_hash: Option<String>,
    schema_hash: Option<String>,
}

pub(super) struct McpTools {
    known: Bounded<(String, String), Known>,
}

impl McpTools {
    pub fn boxed(_: &str) -> Box<dyn Analyzer> {
        Box::new(McpTools { known: Bounded::new(MAX_TOOLS) })
    }
}

impl Analyzer for McpTools {
    fn row(&mut self, row: &dyn Row, out: &mut Rows<'_>) {
        let Some(tool) = row.downcast::<McpTool>() else { return };
        // What has no name may be another server.
        let Some(server) = &tool.server_name else { return };
        let description = tool.description.as_deref().unwrap_or_default().chars().take(MAX_SHOWN).collect();
        let now = Known {
            description,
            description_hash: tool.description_hash.clone(),
            schema_hash: tool.schema_hash.clone(),
        };
        let key = (names::brief(server), names::brief(&tool.tool_name));
        let said = |change: &str| format!("server {server} has changed the {change} of its tool {}", tool.tool_name);
        if let Some(was) = self.known.get(&key) {
            let words = was.description_hash != now.description_hash;
            let evidence = serde_json::json!({ "before": was.description, "after": now.description });
            let change = match (words, was.schema_hash != now.schema_hash) {
                (true, true) => "description and schema",
                (true, false) => "description",
                _ => "schema",
            };
            out(&Finding {
                capture_id: tool.capture_id.clone(),
                rule_id: "mcp-tool-changed".to_owned(),
                severity: if words { "high" } else { "medium" },
                ts: tool.ts,
                subject_kind: "mcp",
                subject_key: tool.mcp_id.to_string(),
                message: said(change),
                evidence: words.then(|| evidence.to_string()),
            });
        }
        self.known.insert(key, now);
    }
}
