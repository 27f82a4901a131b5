//! Responses that come as a stream of events: which framing tells the events apart, and the events as their bytes come, however
//! these are cut. A framing that is not named by the response's type is told by the first bytes.
//!
//! After missing bytes a framing goes on where it is sure again that an event starts; what it could not have takes a number,
//! so that the events that are there keep a hole between them.

mod aws;
mod json_array;
mod lines;
mod sse;

use crate::event::{Event, Framing};
use crate::message::Head;
use crate::table::Timestamp;

/// What a decoder finds.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Found {
    Event {
        name: Option<String>,
        data: String,
    },
    /// Something is damaged.
    Damaged,
}

/// Tells the events of a stream apart.
trait Decoder {
    /// Takes bytes; appends what they complete.
    fn push(&mut self, bytes: &[u8], found: &mut Vec<Found>);
    /// Bytes are missing, it is not known how many.
    fn gap(&mut self);
    /// Bytes that wait for the end of their event.
    fn held(&self) -> usize;
    /// No more comes, and the stream is whole: what is left is an event if it can stand alone.
    fn finish(&mut self, _found: &mut Vec<Found>) {}
}

fn decoder(framing: Framing) -> Box<dyn Decoder> {
    match framing {
        Framing::Sse => Box::<sse::Parser>::default(),
        Framing::Ndjson => Box::<lines::Parser>::default(),
        Framing::JsonArray => Box::<json_array::Parser>::default(),
        _ => Box::<aws::Parser>::default(),
    }
}

/// Most bytes that are looked at to tell a framing: the prelude of a message of AWS has 12.
const MAX_START: usize = 16;

enum State {
    /// No stream of events.
    None,
    /// It may be any of these; how it starts.
    Unsure(&'static [Framing], Vec<u8>),
    Sure(Framing, Box<dyn Decoder>),
}

/// A response's stream of events, on its way.
pub(crate) struct Stream {
    state: State,
    /// Number of the next event.
    next: i64,
    damaged: bool,
}

impl Stream {
    pub fn none() -> Self {
        Stream { state: State::None, next: 0, damaged: false }
    }

    /// What a response promises by its head.
    pub fn of(request: Option<&Head>, response: &Head) -> Self {
        let state = match response.field("content-type") {
            Some(media_type) => match Framing::of_media_type(media_type) {
                Some(framing) => State::Sure(framing, decoder(framing)),
                None if is_json(media_type) && request.is_some_and(|head| streams_json(&head.target)) => {
                    State::Unsure(&[Framing::JsonArray], Vec::new())
                }
                None => State::None,
            },
            None if response.unknown_fields > 0 => {
                State::Unsure(&[Framing::Sse, Framing::EventStream, Framing::JsonArray], Vec::new())
            }
            None => State::None,
        };
        Stream { state, ..Stream::none() }
    }

    /// Whether there is a stream of events.
    pub fn is_sure(&self) -> bool {
        matches!(self.state, State::Sure(..))
    }

    /// Whether what is there does not add up.
    pub fn damaged(&self) -> bool {
        self.damaged
    }

    /// Bytes of memory that it takes.
    pub fn held(&self) -> usize {
        if let State::Sure(_, decoder) = &self.state { decoder.held() } else { 0 }
    }

    /// Takes bytes of the response, content codings removed; appends the events that they complete.
    pub fn push(&mut self, ts: Timestamp, bytes: &[u8], events: &mut Vec<Event>) {
        let mut found = Vec::new();
        match &mut self.state {
            State::None => return,
            State::Sure(_, decoder) => decoder.push(bytes, &mut found),
            State::Unsure(among, start) => {
                let (first, rest) = bytes.split_at(bytes.len().min(MAX_START - start.len()));
                start.extend_from_slice(first);
                let told: Vec<_> = among.iter().map(|framing| (*framing, starts(*framing, start))).collect();
                if let Some((framing, _)) = told.iter().find(|(_, told)| *told == Some(true)) {
                    let mut decoder = decoder(*framing);
                    decoder.push(start, &mut found);
                    decoder.push(rest, &mut found);
                    self.state = State::Sure(*framing, decoder);
                } else if start.len() == MAX_START || told.iter().all(|(_, told)| *told == Some(false)) {
                    self.state = State::None;
                }
            }
        }
        self.take(ts, found, events);
    }

    /// Bytes are missing.
    pub fn gap(&mut self) {
        match &mut self.state {
            State::Sure(_, decoder) => decoder.gap(),
            state => *state = State::None,
        }
        self.next += 1;
    }

    /// The response is there to its end.
    pub fn finish(&mut self, ts: Timestamp, events: &mut Vec<Event>) {
        let mut found = Vec::new();
        if let State::Sure(_, decoder) = &mut self.state {
            decoder.finish(&mut found);
        }
        self.take(ts, found, events);
    }

    fn take(&mut self, ts: Timestamp, found: Vec<Found>, events: &mut Vec<Event>) {
        let State::Sure(framing, _) = self.state else { return };
        for found in found {
            match found {
                Found::Event { name, data } => {
                    events.push(Event { idx: self.next, ts, framing, sent: false, name, data });
                }
                Found::Damaged => self.damaged = true,
            }
            self.next += 1;
        }
    }
}

fn is_json(media_type: &str) -> bool {
    media_type.trim_start().starts_with("application/json")
}

/// Methods of Google's APIs that stream are named so (`…/models/m:streamGenerateContent`). Over plain HTTP they answer with an
/// array whose items come over time, if nothing else is asked for.
fn streams_json(target: &str) -> bool {
    let path = target.split('?').next().unwrap_or_default();
    path.rsplit_once(':').is_some_and(|(_, method)| method.starts_with("stream"))
}

/// What a stream of server-sent events may start with: names of fields, or a comment.
const SSE_STARTS: [&[u8]; 5] = [b"event:", b"data:", b"id:", b"retry:", b": "];

/// Whether a stream that starts so is framed so; `None` if more must be seen.
fn starts(framing: Framing, start: &[u8]) -> Option<bool> {
    match framing {
        Framing::Sse if SSE_STARTS.iter().any(|name| start.starts_with(name)) => Some(true),
        Framing::Sse if SSE_STARTS.iter().any(|name| name.starts_with(start)) => None,
        Framing::EventStream => aws::starts(start),
        Framing::JsonArray => json_array::starts(start),
        _ => Some(false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Events (and what is damaged) of a stream that comes in pieces of a size; a piece that is left out is a gap.
    pub(super) fn seen(framing: Framing, stream: &[u8], size: usize, lost: Option<usize>) -> Vec<String> {
        let mut decoder = decoder(framing);
        let mut found = Vec::new();
        for (index, piece) in stream.chunks(size).enumerate() {
            if lost == Some(index) { decoder.gap() } else { decoder.push(piece, &mut found) }
        }
        decoder.finish(&mut found);
        let text = |found| match found {
            Found::Event { name, data } => name.map(|name| format!("{name} ")).unwrap_or_default() + &data,
            Found::Damaged => "damaged".to_owned(),
        };
        found.into_iter().map(text).collect()
    }

    /// Events are the same however the stream is cut; with a piece missing, those that are there are none but these.
    #[track_caller]
    pub(super) fn check(framing: Framing, stream: &[u8], expected: &[&str]) {
        for size in 1..=stream.len() {
            assert_eq!(seen(framing, stream, size, None), expected, "by {size}");
        }
        for size in [1, 2, 5, 11] {
            for lost in 0..stream.len().div_ceil(size) {
                let left = seen(framing, stream, size, Some(lost));
                let mut all = expected.iter();
                for event in left.iter().filter(|event| *event != "damaged") {
                    assert!(all.any(|one| one == event), "{event} is no event, by {size} without {lost}");
                }
            }
        }
    }

    #[test]
    fn a_framing_that_is_not_named_shows_itself() {
        let head = Head { unknown_fields: 1, ..Head::default() };
        let aws = aws::tests::message(&[(":event-type", "chunk")], b"{}");
        let cases: [(&[u8], Option<Framing>); 6] = [
            (b"data: {}\n\n", Some(Framing::Sse)),
            (b"event: a\ndata: {}\n\n", Some(Framing::Sse)),
            (&aws, Some(Framing::EventStream)),
            (b"[ {\"a\":1}\n,\r\n{}]", Some(Framing::JsonArray)),
            (b"{\"data:\": 1, \"x\": 2}", None),
            (b"\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", None),
        ];
        for (bytes, framing) in cases {
            for size in [1, 7, 100] {
                let mut stream = Stream::of(None, &head);
                let mut events = Vec::new();
                bytes.chunks(size).for_each(|piece| stream.push(Timestamp(1), piece, &mut events));
                assert_eq!(events.first().map(|event| event.framing), framing, "{bytes:?} by {size}");
                assert_eq!(stream.is_sure(), framing.is_some());
            }
        }
    }

    #[test]
    fn what_is_missing_takes_a_number() {
        let field = ("content-type".to_owned(), "application/x-ndjson".to_owned());
        let mut stream = Stream::of(None, &Head { fields: vec![field], ..Head::default() });
        let mut events = Vec::new();
        stream.push(Timestamp(1), b"{\"a\":1}\n{\"b", &mut events);
        stream.gap();
        stream.push(Timestamp(2), b"}\n{\"c\":3}\n", &mut events);
        assert_eq!(
            events.iter().map(|event| (event.idx, &event.data[..])).collect::<Vec<_>>(),
            [(0, "{\"a\":1}"), (2, "{\"c\":3}")]
        );
    }
}
