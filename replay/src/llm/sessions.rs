//! Calls of models over WebSocket, where one connection carries one call after the other: a message that asks, and the messages
//! that answer it. They are put together to exchanges as HTTP has them.

use super::openai_responses::is_end;
use crate::body::BodyState;
use crate::bounded::Bounded;
use crate::exchange::{Exchange, Kind};
use crate::values;
use serde_json::Value;
use std::rc::Rc;

/// WebSockets that are in the middle of a call.
const MAX_OPEN: usize = 4096;

/// The calls that are on their way, by the exchange that agreed on WebSocket.
pub(crate) struct Sessions {
    open: Bounded<i64, Exchange>,
}

impl Default for Sessions {
    fn default() -> Self {
        Sessions { open: Bounded::new(MAX_OPEN) }
    }
}

/// What a message is to a call.
enum Is {
    Request,
    Answer { last: bool },
    Nothing,
}

impl Sessions {
    /// Whether a call is on its way over this WebSocket.
    pub fn asks(&self, http_id: i64) -> bool {
        self.open.get(&http_id).is_some()
    }

    /// Takes a piece of a WebSocket; returns the calls that are done.
    pub fn take(&mut self, mut piece: Exchange) -> Vec<Exchange> {
        let (http_id, ended) = (piece.http_id, piece.end_ts);
        let mut done = Vec::new();
        match piece.kind {
            Kind::Message => {
                let Some(event) = piece.events.pop() else { return done };
                let what = if event.name.is_some() { Is::Nothing } else { what(&event.data, event.sent) };
                match what {
                    Is::Request => {
                        // The one before got no end.
                        done.extend(self.open.remove(&http_id).map(cut));
                        let mut call = piece.into_call();
                        call.request.iter_mut().for_each(|head| Rc::make_mut(head).ts = event.ts);
                        call.take_request_body(event.data.as_bytes(), true);
                        done.extend(self.open.insert(http_id, call).map(cut));
                    }
                    Is::Answer { last } => {
                        let mut call = self.open.remove(&http_id).unwrap_or_else(|| asked_unseen(piece));
                        call.end_ts = ended;
                        call.add(event);
                        if last {
                            done.push(call);
                        } else {
                            done.extend(self.open.insert(http_id, call).map(cut));
                        }
                    }
                    Is::Nothing => {}
                }
            }
            Kind::Missing => {
                if let Some(mut call) = self.open.remove(&http_id) {
                    call.response_body.fail(BodyState::Gap);
                    self.open.insert(http_id, call);
                }
            }
            _ => done.extend(self.open.remove(&http_id).map(cut)),
        }
        done
    }
}

/// A call that got no end.
fn cut(mut call: Exchange) -> Exchange {
    call.response_body.fail(BodyState::Cut);
    call
}

/// A call whose request is missing.
fn asked_unseen(piece: Exchange) -> Exchange {
    let mut call = piece.into_call();
    call.request_body.fail(BodyState::Gap);
    call
}

fn what(data: &str, sent: bool) -> Is {
    let Some(message) = values::parse(data.as_bytes()) else { return Is::Nothing };
    match (message.get("type").and_then(Value::as_str).unwrap_or_default(), sent) {
        ("response.create", true) => Is::Request,
        ("error", false) => Is::Answer { last: true },
        (kind, false) if kind.starts_with("response.") => Is::Answer { last: is_end(kind) },
        _ => Is::Nothing,
    }
}
