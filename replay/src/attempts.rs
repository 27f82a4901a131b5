//! Which exchange repeats one that failed: the same process sends the same body to the same place again.

use crate::body::BodyState;
use crate::bounded::Bounded;
use crate::exchange::{Exchange, Kind};
use crate::table::Timestamp;
use sha2::{Digest, Sha256};

/// Failures that may be followed by another try.
const MAX_FAILED: usize = 4096;

/// Statuses after which clients try again, besides those from 500 on.
const AGAIN: [u16; 4] = [408, 409, 425, 429];

/// An error within a stream is its last event, or one of the last.
const LAST: usize = 3;

struct Failed {
    http_id: i64,
    attempt: i64,
    ended: Timestamp,
}

/// The failures of a capture.
pub(crate) struct Attempts {
    failed: Bounded<[u8; 32], Failed>,
}

impl Default for Attempts {
    fn default() -> Self {
        Attempts { failed: Bounded::new(MAX_FAILED) }
    }
}

impl Attempts {
    /// Takes an exchange that is done, and fills in which one it repeats and how many tries there were.
    pub fn take(&mut self, exchange: &mut Exchange, proc_id: i64) {
        let Some(head) = &exchange.request else { return };
        let (asked, failed) = (head.ts, failed(exchange));
        // As the SDKs of Anthropic and OpenAI say it: how many tries there were before.
        let told = head.field("x-stainless-retry-count").and_then(|count| count.parse::<u16>().ok());
        exchange.attempt = told.map_or(1, |count| i64::from(count) + 1);
        if !failed && self.failed.is_empty() {
            return;
        }
        let body = &exchange.request_body;
        let kept = !body.data.is_empty() || body.wire_len == 0;
        if body.state != BodyState::Complete || !kept || head.method.is_empty() {
            return;
        }
        let mut hasher = Sha256::new().chain_update(proc_id.to_le_bytes());
        for field in [&head.method[..], head.host().unwrap_or_default(), &head.target] {
            hasher.update((field.len() as u64).to_le_bytes());
            hasher.update(field);
        }
        let key: [u8; 32] = hasher.chain_update(&body.data).finalize().into();
        let before = if self.failed.get(&key).is_some_and(|failed| failed.ended <= asked) {
            self.failed.remove(&key)
        } else {
            None
        };
        if let Some(before) = before {
            exchange.attempt = exchange.attempt.max(before.attempt.saturating_add(1));
            // What goes over a WebSocket has no exchange of its own.
            exchange.retry_of = (exchange.kind == Kind::Whole).then_some(before.http_id);
        }
        if failed {
            let ended = exchange.end_ts.unwrap_or(asked).max(asked);
            self.failed.insert(key, Failed { http_id: exchange.http_id, attempt: exchange.attempt, ended });
        }
    }
}

fn failed(exchange: &Exchange) -> bool {
    // What the capture has lost may have been an answer: only that the other side let go without one is a failure.
    let state = exchange.response_body.state;
    let Some(response) = &exchange.response else {
        return state == BodyState::Complete && matches!(exchange.end_reason, "no_response" | "reset");
    };
    let let_go = state == BodyState::Cut && matches!(exchange.end_reason, "close" | "reset");
    let status = response.status;
    let is_error = |event: &crate::event::Event| {
        let named = event.name.as_deref().is_some_and(|name| name == "error" || name == "response.failed");
        let data = event.data.trim_start();
        let starts = ["{\"error\":{", "{\"error\": {", "{\"type\":\"error\"", "{\"type\":\"response.failed\""];
        !event.sent && (named || starts.iter().any(|start| data.starts_with(start)))
    };
    let last = exchange.events.iter().rev().take(LAST);
    AGAIN.contains(&status) || status >= 500 || let_go || last.into_iter().any(is_error)
}
