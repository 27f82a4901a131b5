//! What the messages of MCP are known by, and who sends which: the methods of its schemas from 2024-11-05 to 2026-07-28.
//!
//! Other protocols are JSON-RPC 2.0 too, some of them over the same pipes: what LSP, ACP and A2A have as well (`initialize` as
//! such, `ping`, `tasks/…`, progress and cancellation) tells nothing.

use crate::jsonrpc::Message;
use serde_json::Value;

/// One of the two.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Side {
    Client,
    Server,
}

impl Side {
    pub fn other(self) -> Side {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }

    pub fn index(self) -> usize {
        self as usize
    }
}

/// What only clients send.
const OF_CLIENTS: &[&str] = &[
    "completion/complete",
    "logging/setLevel",
    "notifications/initialized",
    "notifications/roots/list_changed",
    "prompts/get",
    "prompts/list",
    "resources/list",
    "resources/read",
    "resources/subscribe",
    "resources/templates/list",
    "resources/unsubscribe",
    "server/discover",
    "subscriptions/listen",
    "tools/call",
    "tools/list",
];

/// What only servers send.
const OF_SERVERS: &[&str] = &[
    "elicitation/create",
    "notifications/elicitation/complete",
    "notifications/message",
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
    "notifications/resources/updated",
    "notifications/subscriptions/acknowledged",
    "notifications/tools/list_changed",
    "roots/list",
    "sampling/createMessage",
];

/// Who sends such a message; `None` if it does not show that it is of MCP.
pub(super) fn sender(message: &Message) -> Option<Side> {
    match message {
        // Versions of MCP are dates; that of ACP is a number, and LSP has none.
        Message::Request { method, params: Some(params), .. } if method == "initialize" => {
            params.get("protocolVersion")?.as_str().map(|_| Side::Client)
        }
        Message::Request { method, .. } | Message::Notification { method, .. } => {
            let of = |methods: &[&str]| methods.contains(&method.as_str());
            if of(OF_CLIENTS) {
                Some(Side::Client)
            } else if of(OF_SERVERS) {
                Some(Side::Server)
            } else {
                None
            }
        }
        Message::Response { .. } => None,
    }
}

/// The version that a request names: with `initialize`, or (from 2026-07-28 on) with each.
pub(super) fn version_asked(params: &Value) -> Option<String> {
    let meta = || params.get("_meta")?.get("io.modelcontextprotocol/protocolVersion");
    text(params.get("protocolVersion").or_else(meta)?)
}

/// The name of the server, in the result that it answers with.
pub(super) fn server_named(result: &Value) -> Option<String> {
    let meta = || result.get("_meta")?.get("io.modelcontextprotocol/serverInfo");
    text(result.get("serverInfo").or_else(meta)?.get("name")?)
}

pub(super) fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}
