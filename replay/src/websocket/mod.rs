//! WebSocket (RFC 6455), from the response that agrees to it on. Each message is handed on when it is whole, for these
//! connections last for hours.

mod deflate;
mod frame;

use crate::event::{Event, Framing};
use crate::exchange::{End, Exchange, Kind};
use crate::hex::hex;
use crate::memory::Share;
use crate::message::Head;
use crate::table::Timestamp;
use deflate::{Agreed, Inflater};
use frame::{Parser, Said, opcode};
use std::rc::Rc;

/// Whether a response agrees to speak WebSocket.
pub(crate) fn agreed(response: &Head) -> bool {
    response.status == 101 && response.has_token("upgrade", "websocket")
}

/// Most bytes of a head that goes with every message; fields beyond it are left out there.
const MAX_HEAD: usize = 16 << 10;

struct Side {
    parser: Parser,
    inflater: Option<Inflater>,
}

/// A WebSocket.
pub(crate) struct Connection {
    sides: [Side; 2],
    http_id: i64,
    request: Option<Rc<Head>>,
    response: Option<Rc<Head>>,
    /// Messages so far, those among them that could not be had.
    count: i64,
    memory: Share,
}

impl Connection {
    /// What the exchange agreed on; `client` is the direction of its request.
    pub fn new(client: usize, exchange: &Exchange) -> Self {
        let extensions = exchange.response.as_ref().and_then(|head| head.field("sec-websocket-extensions"));
        let deflate = extensions.and_then(Agreed::of);
        let side = |side: usize| {
            let alone = |agreed: Agreed| if side == client { agreed.client_alone } else { agreed.server_alone };
            let inflater = deflate.map(|agreed| Inflater::new(alone(agreed)));
            Side { parser: Parser::new(side == client, deflate.is_some()), inflater }
        };
        Connection {
            sides: [side(0), side(1)],
            http_id: exchange.http_id,
            request: exchange.request.as_deref().map(brief),
            response: exchange.response.as_deref().map(brief),
            count: 0,
            memory: exchange.memory(),
        }
    }

    /// Takes bytes of a direction; messages that are complete are appended to `done`.
    pub fn push(&mut self, side: usize, ts: Timestamp, bytes: &[u8], done: &mut Vec<Exchange>) {
        let mut said = Vec::new();
        self.sides[side].parser.push(bytes, &mut said);
        let held = |sides: &[Side; 2]| sides.iter().map(|side| side.parser.held()).sum();
        if !self.memory.hold(held(&self.sides)) {
            self.sides[side].parser.give_up();
            self.memory.hold(held(&self.sides));
        }
        self.take(side, ts, said, done);
    }

    pub fn gap(&mut self, side: usize, ts: Timestamp, len: u64, done: &mut Vec<Exchange>) {
        let mut said = Vec::new();
        self.sides[side].parser.gap(len, &mut said);
        self.take(side, ts, said, done);
    }

    /// Bytes of memory that it takes besides the messages that are on their way.
    pub fn held(&self) -> usize {
        let heads = [&self.request, &self.response].into_iter().flatten().map(|head| head.size());
        let inflaters = self.sides.iter().filter(|side| side.inflater.is_some()).count();
        size_of::<Connection>() + heads.sum::<usize>() + inflaters * deflate::MEMORY
    }

    /// Nothing more comes.
    pub fn finish(&mut self, ts: Timestamp, end: End, done: &mut Vec<Exchange>) {
        let mut last = self.piece(ts, Kind::End, None);
        last.end_reason = end.of(&last);
        done.push(last);
    }

    fn take(&mut self, side: usize, ts: Timestamp, said: Vec<Said>, done: &mut Vec<Exchange>) {
        for said in said {
            let event = self.event(side, ts, said);
            self.count += 1;
            let kind = if event.is_some() { Kind::Message } else { Kind::Missing };
            done.push(self.piece(ts, kind, event));
        }
    }

    /// The event that a message is; `None` if it cannot be had.
    fn event(&mut self, side: usize, ts: Timestamp, said: Said) -> Option<Event> {
        let Side { inflater, .. } = &mut self.sides[side];
        let (name, data) = match said {
            Said::Message { opcode, compressed, payload } => {
                let payload = match (compressed, inflater) {
                    (true, Some(inflater)) => inflater.message(&payload)?,
                    (true, None) => return None,
                    (false, _) => payload,
                };
                match String::from_utf8(payload) {
                    Ok(text) if opcode == opcode::TEXT => (None, text),
                    Ok(text) => (Some("binary"), hex(text.as_bytes())),
                    Err(error) => (Some("binary"), hex(error.as_bytes())),
                }
            }
            Said::Control { opcode, payload } => control(opcode, &payload),
            Said::Damaged { compressed } => {
                inflater.iter_mut().filter(|_| compressed).for_each(Inflater::missed);
                return None;
            }
            Said::Lost => return None,
        };
        let (idx, sent, name) = (self.count, side == 0, name.map(str::to_owned));
        Some(Event { idx, ts, framing: Framing::WebSocket, sent, name, data })
    }

    /// A message as a piece of its exchange.
    fn piece(&self, ts: Timestamp, kind: Kind, event: Option<Event>) -> Exchange {
        let mut piece = Exchange::piece(self.http_id, kind, self.memory.other());
        (piece.request, piece.response) = (self.request.clone(), self.response.clone());
        piece.end_ts = Some(ts);
        piece.events.extend(event);
        piece
    }
}

/// A head, or of one that is very long its beginning.
fn brief(head: &Head) -> Rc<Head> {
    let mut brief = Head { fields: Vec::new(), ..head.clone() };
    let mut left = MAX_HEAD.saturating_sub(head.target.len());
    for (name, value) in &head.fields {
        left = left.saturating_sub(name.len() + value.len());
        if left > 0 {
            brief.fields.push((name.clone(), value.clone()));
        } else {
            brief.unknown_fields = brief.unknown_fields.saturating_add(1);
        }
    }
    if head.target.len() > MAX_HEAD {
        brief.target = String::new();
    }
    Rc::new(brief)
}

/// A control frame: of a close, its code and reason (RFC 6455, 5.5.1).
fn control(opcode: u8, payload: &[u8]) -> (Option<&'static str>, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match (opcode, payload) {
        (opcode::CLOSE, [high, low, reason @ ..]) => {
            let code = u16::from_be_bytes([*high, *low]);
            (Some("close"), format!("{code} {}", text(reason)).trim_end().to_owned())
        }
        (opcode::CLOSE, _) => (Some("close"), String::new()),
        (opcode::PING, payload) => (Some("ping"), text(payload)),
        (_, payload) => (Some("pong"), text(payload)),
    }
}
