//! AWS event stream (`application/vnd.amazon.eventstream`): messages of a prelude, headers, a payload and checksums
//! (<https://docs.aws.amazon.com/lexv2/latest/dg/event-stream-encoding.html>).
//!
//! Both checksums are verified. Behind missing bytes, and where a prelude is wrong, the next prelude that is right is looked
//! for; a message whose own checksum is wrong is passed over as its prelude says.

use super::{Decoder, Found};
use crate::hex::hex;

/// Lengths and their checksum.
const PRELUDE: usize = 12;

/// What a message has besides headers and payload.
const OVERHEAD: usize = 16;

/// Longest message, and longest headers, that AWS allows.
const MAX_MESSAGE: usize = 24 << 20;
const MAX_HEADERS: usize = 128 << 10;

#[derive(Default)]
pub(super) struct Parser {
    buffer: Vec<u8>,
    /// The place in the stream is lost, and that has been said.
    lost: bool,
}

/// Lengths of a message and of its headers.
fn prelude(bytes: &[u8]) -> Option<(usize, usize)> {
    let word = |at: usize| Some(u32::from_be_bytes(*bytes.get(at..at + 4)?.first_chunk()?));
    let (total, headers) = (usize::try_from(word(0)?).ok()?, usize::try_from(word(4)?).ok()?);
    let possible = total <= MAX_MESSAGE && headers <= MAX_HEADERS && headers.checked_add(OVERHEAD)? <= total;
    (possible && crc32fast::hash(bytes.get(..8)?) == word(8)?).then_some((total, headers))
}

/// Whether bytes start a message; `None` if there are too few to tell.
pub(super) fn starts(start: &[u8]) -> Option<bool> {
    match start {
        [first, ..] if *first > 1 => Some(false),
        _ if start.len() < PRELUDE => None,
        _ => Some(prelude(start).is_some()),
    }
}

impl Decoder for Parser {
    fn push(&mut self, bytes: &[u8], found: &mut Vec<Found>) {
        self.buffer.extend_from_slice(bytes);
        let mut taken = 0;
        while let Some(rest) = self.buffer.get(taken..).filter(|rest| rest.len() >= PRELUDE) {
            let Some((total, headers)) = prelude(rest) else {
                if !std::mem::replace(&mut self.lost, true) {
                    found.push(Found::Damaged);
                }
                taken += 1;
                continue;
            };
            let Some(message) = rest.get(..total) else { break };
            found.push(event(message, headers).unwrap_or(Found::Damaged));
            self.lost = false;
            taken += total;
        }
        self.buffer.drain(..taken);
    }

    fn held(&self) -> usize {
        self.buffer.len()
    }

    fn gap(&mut self) {
        self.buffer.clear();
        self.lost = true;
    }

    fn finish(&mut self, found: &mut Vec<Found>) {
        if !self.buffer.is_empty() && !self.lost {
            found.push(Found::Damaged);
        }
    }
}

/// The event that a message is; `None` if it is damaged.
fn event(message: &[u8], headers: usize) -> Option<Found> {
    let (body, crc) = message.split_last_chunk::<4>()?;
    if crc32fast::hash(body) != u32::from_be_bytes(*crc) {
        return None;
    }
    let (headers, payload) = body.get(PRELUDE..)?.split_at_checked(headers)?;
    let [mut kind, mut event, mut exception, mut code, mut text] = [const { None }; 5];
    let mut rest = headers;
    while !rest.is_empty() {
        let (name, value) = header(&mut rest)?;
        let place = match name {
            b":message-type" => &mut kind,
            b":event-type" => &mut event,
            b":exception-type" => &mut exception,
            b":error-code" => &mut code,
            b":error-message" => &mut text,
            _ => continue,
        };
        *place = value.map(|value| String::from_utf8_lossy(value).into_owned());
    }
    if kind.as_deref() == Some("error") {
        // One that the service has no type for: it has no payload.
        return Some(Found::Event { name: code, data: serde_json::json!({ "message": text }).to_string() });
    }
    let data = std::str::from_utf8(payload).map_or_else(|_| hex(payload), str::to_owned);
    Some(Found::Event { name: exception.or(event), data })
}

/// Takes a header off: its name, and its value if it is text.
fn header<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], Option<&'a [u8]>)> {
    let mut take = |len: usize| {
        let (taken, left) = rest.split_at_checked(len)?;
        *rest = left;
        Some(taken)
    };
    let len = *take(1)?.first()?;
    let name = take(len.into())?;
    let kind = *take(1)?.first()?;
    let fixed = match kind {
        0 | 1 => 0,
        2 => 1,
        3 => 2,
        4 => 4,
        5 | 8 => 8,
        9 => 16,
        6 | 7 => u16::from_be_bytes(*take(2)?.first_chunk()?).into(),
        _ => return None,
    };
    let value = take(fixed)?;
    Some((name, (kind == 7).then_some(value)))
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::tests::{check, seen};
    use crate::event::Framing;

    pub fn message(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
        // One of each other type comes before those that are text.
        let mut fields = b"\x01a\x00\x01b\x04\0\0\0\x07\x01c\x06\0\x02xy\x01d\x08\0\0\0\0\0\0\0\x01".to_vec();
        for (name, value) in headers {
            fields.push(name.len() as u8);
            fields.extend(name.bytes().chain([7, 0, value.len() as u8]).chain(value.bytes()));
        }
        let mut out = ((16 + fields.len() + payload.len()) as u32).to_be_bytes().to_vec();
        out.extend((fields.len() as u32).to_be_bytes());
        out.extend(crc32fast::hash(&out).to_be_bytes());
        out.extend(fields.iter().chain(payload));
        out.extend(crc32fast::hash(&out).to_be_bytes());
        out
    }

    fn stream() -> Vec<u8> {
        [
            message(&[(":message-type", "event"), (":event-type", "chunk")], "{\"a\":\"é\"}".as_bytes()),
            message(&[(":message-type", "exception"), (":exception-type", "throttlingException")], b"{}"),
            message(&[(":message-type", "error"), (":error-code", "Gone"), (":error-message", "no \"more\"")], b""),
            message(&[(":event-type", "raw")], b"\xff\0"),
        ]
        .concat()
    }

    #[test]
    fn messages_exceptions_and_errors_are_events() {
        check(
            Framing::EventStream,
            &stream(),
            &["chunk {\"a\":\"é\"}", "throttlingException {}", "Gone {\"message\":\"no \\\"more\\\"\"}", "raw ff00"],
        );
    }

    #[test]
    fn a_byte_that_is_wrong_costs_its_message_and_no_other() {
        let (good, all) = (stream(), seen(Framing::EventStream, &stream(), 9, None));
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            let left = seen(Framing::EventStream, &bad, 9, None);
            let events: Vec<_> = left.iter().filter(|event| *event != "damaged").collect();
            assert_eq!((events.len(), left.len()), (3, 4), "byte {at}");
            assert!(events.iter().all(|event| all.contains(event)), "byte {at}");
        }
    }

    #[test]
    fn a_message_that_claims_too_much_is_none() {
        let mut huge = (1u32 << 30).to_be_bytes().to_vec();
        huge.extend([0; 4]);
        huge.extend(crc32fast::hash(&huge).to_be_bytes());
        huge.extend(stream());
        assert_eq!(seen(Framing::EventStream, &huge, 50, None).len(), 5);
    }
}
