//! What is sent again. An agent gives its whole conversation with every call: of a megabyte, all but the last kilobytes stood in
//! the call before. What is byte for byte as it was is not parsed again, and its messages are those that were made of it then.
//!
//! A request's history is the array `messages` at its top. What a request shares with an earlier one of its process is compared
//! in bytes, from the start up to the end of some item of that array; then these items are cut out, and only the rest is parsed.
//! That makes the same messages as all of it would: in the APIs that say so ([`Api::one_by_one`](super::Api)), each item is a message
//! of its own, whatever stands around it.

use super::message::Said;
use serde::de::IgnoredAny;
use serde_json::Deserializer;
use std::collections::VecDeque;
use std::rc::Rc;

/// Requests that are remembered: as many, and as many bytes of them and of what was made of them.
const MAX_REQUESTS: usize = 256;
const MAX_BYTES: usize = 128 << 20;

/// What a message takes besides its text, about.
const OVERHEAD: usize = 128;

/// Requests of a process that are compared, the newest first.
const MAX_COMPARED: usize = 16;

/// A request that is smaller is parsed as fast as it is compared.
const MIN_BODY: usize = 4096;

/// A request that was parsed.
struct Known {
    proc_id: i64,
    wire_api: &'static str,
    body: Vec<u8>,
    /// Where its history begins, and where each item of it ends.
    history: History,
    /// Its messages, one of each item.
    messages: Vec<Rc<Said>>,
}

/// A request, without what is known of it.
pub(crate) struct Request<'b> {
    body: &'b [u8],
    /// What is to be parsed, if it is not all of the body.
    rest: Option<Vec<u8>>,
    /// The messages of the items that were cut out, and the API that made them.
    known: Vec<Rc<Said>>,
    wire_api: &'static str,
    ends: Vec<usize>,
}

/// The requests of late.
#[derive(Default)]
pub(crate) struct Resent {
    requests: VecDeque<Known>,
    bytes: usize,
}

impl Known {
    /// Bytes of memory, about.
    fn cost(&self) -> usize {
        2 * self.body.len() + OVERHEAD * self.messages.len()
    }
}

impl<'b> Request<'b> {
    /// All of it.
    pub fn whole(body: &'b [u8]) -> Self {
        Request { body, rest: None, known: Vec::new(), wire_api: "", ends: Vec::new() }
    }

    /// The JSON that is to be parsed.
    pub fn json(&self) -> &[u8] {
        self.rest.as_deref().unwrap_or(self.body)
    }

    pub fn is_cut(&self) -> bool {
        self.rest.is_some()
    }

    /// Whether what was cut out is of this API.
    pub fn is_of(&self, wire_api: &str) -> bool {
        self.wire_api == wire_api
    }
}

impl Resent {
    /// A request of a process, without what the process has sent before.
    pub fn request<'b>(&self, proc_id: i64, body: &'b [u8]) -> Request<'b> {
        let shared = |known: &Known| {
            let common = common(&known.body, body);
            known.history.ends.partition_point(|end| *end <= common)
        };
        let candidates = self.requests.iter().rev().filter(|known| known.proc_id == proc_id).take(MAX_COMPARED);
        let best = candidates.map(|known| (shared(known), known)).max_by_key(|(count, _)| *count);
        best.and_then(|(count, known)| cut(known, count, body)).unwrap_or_else(|| Request::whole(body))
    }

    /// Takes the messages that were made of what was to be parsed; returns those of the whole request.
    pub fn all(
        &mut self,
        proc_id: i64,
        wire_api: &'static str,
        request: Request<'_>,
        mut messages: Vec<Rc<Said>>,
    ) -> Vec<Rc<Said>> {
        let history = if request.body.len() < MIN_BODY { None } else { history(request.json()) };
        // What stands besides comes before.
        let Some((history, besides)) = history
            .and_then(|history| messages.len().checked_sub(history.ends.len()).map(|besides| (history, besides)))
        else {
            return messages;
        };
        let shift = request.body.len() - request.json().len();
        let ends = request.ends.iter().copied().chain(history.ends.iter().map(|end| end + shift));
        let history = History { open: history.open, ends: ends.collect() };
        messages.splice(besides..besides, request.known);
        let said = messages.get(besides..).unwrap_or_default().to_vec();
        self.remember(Known { proc_id, wire_api, body: request.body.to_vec(), history, messages: said });
        messages
    }

    fn remember(&mut self, new: Known) {
        // One that this goes on from is of no use any more.
        let continued = |old: &Known| {
            let end = old.history.ends.last().copied().unwrap_or(old.history.open);
            old.proc_id == new.proc_id && old.body.get(..end).is_some_and(|start| new.body.starts_with(start))
        };
        if let Some(at) = self.requests.iter().rposition(continued) {
            self.bytes -= self.requests.remove(at).map_or(0, |old| old.cost());
        }
        self.bytes += new.cost();
        self.requests.push_back(new);
        while self.requests.len() > MAX_REQUESTS || self.bytes > MAX_BYTES {
            let Some(oldest) = self.requests.pop_front() else { break };
            self.bytes -= oldest.cost();
        }
    }
}

/// Cuts the first items of the history out of a body that shares them with a known request.
fn cut<'b>(known: &Known, count: usize, body: &'b [u8]) -> Option<Request<'b>> {
    let ends = known.history.ends.get(..count).filter(|ends| !ends.is_empty())?;
    let mut walk = Walk { json: body, at: *ends.last()? };
    // At the end of the array nothing may be left to parse; an item may go on where the known one ended.
    let goes_on = walk.take(b',');
    if goes_on == (walk.peek()? == b']') {
        return None;
    }
    let before = body.get(..known.history.open)?;
    let rest = [before, body.get(walk.at..)?].concat();
    let messages = known.messages.get(..count)?.to_vec();
    Some(Request { body, rest: Some(rest), known: messages, wire_api: known.wire_api, ends: ends.to_vec() })
}

/// How many bytes two have in common from the start.
fn common(a: &[u8], b: &[u8]) -> usize {
    const BLOCK: usize = 4096;
    let blocks = a.chunks(BLOCK).zip(b.chunks(BLOCK)).take_while(|(a, b)| a == b).count();
    let at = (blocks * BLOCK).min(a.len()).min(b.len());
    let (a, b) = (a.get(at..).unwrap_or_default(), b.get(at..).unwrap_or_default());
    at + a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// Where the items of a history are: offsets in the request.
#[derive(Debug, PartialEq)]
struct History {
    /// Behind the bracket that opens it.
    open: usize,
    /// Behind each item.
    ends: Vec<usize>,
}

/// Finds the history of a request; nothing if there is none, or anything speaks against it.
fn history(json: &[u8]) -> Option<History> {
    let mut walk = Walk { json, at: 0 };
    let mut found = None;
    if !walk.take(b'{') {
        return None;
    }
    loop {
        let name = walk.value()?;
        // A name may be written in several ways, and stand there twice.
        if !walk.take(b':') || name.contains(&b'\\') {
            return None;
        }
        if name != b"\"messages\"" {
            walk.value()?;
        } else if found.is_some() || !walk.take(b'[') {
            return None;
        } else {
            found = Some(History { open: walk.at, ends: walk.items()? });
        }
        if !walk.take(b',') {
            return found.filter(|_| walk.take(b'}'));
        }
    }
}

/// Walks through JSON without making anything of it.
struct Walk<'j> {
    json: &'j [u8],
    at: usize,
}

impl<'j> Walk<'j> {
    /// The next byte that is no space.
    fn peek(&mut self) -> Option<u8> {
        let rest = self.json.get(self.at..)?;
        self.at += rest.iter().position(|byte| !b" \t\r\n".contains(byte))?;
        self.json.get(self.at).copied()
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn value(&mut self) -> Option<&'j [u8]> {
        self.peek()?;
        let rest = self.json.get(self.at..)?;
        let mut values = Deserializer::from_slice(rest).into_iter::<IgnoredAny>();
        values.next()?.ok()?;
        self.at += values.byte_offset();
        rest.get(..values.byte_offset())
    }

    /// The items of an array up to its end, which is taken, too: where each ends.
    fn items(&mut self) -> Option<Vec<usize>> {
        let mut ends = Vec::new();
        if self.take(b']') {
            return Some(ends);
        }
        loop {
            self.value()?;
            ends.push(self.at);
            if !self.take(b',') {
                return self.take(b']').then_some(ends);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::anthropic::API;
    use super::super::message::Message;
    use super::*;
    use serde_json::Value;

    const LONG: usize = MIN_BODY;

    fn body(before: &str, items: &[String], after: &str) -> String {
        format!("{{{before}\"messages\" : [ {} ]{after}}}", items.join(" ,\n"))
    }

    fn user(text: &str) -> String {
        format!(r#"{{"role":"user","content":"{text}"}}"#)
    }

    /// The messages of a request, and how many bytes of it were parsed.
    fn sent(resent: &mut Resent, proc_id: i64, body: &str) -> (Vec<Message>, usize) {
        let request = resent.request(proc_id, body.as_bytes());
        let parsed = request.json().len();
        let json: Value = serde_json::from_slice(request.json()).unwrap();
        let made = (API.messages)(&json).into_iter().map(|message| Rc::new(Said::new(message))).collect();
        let all = resent.all(proc_id, API.wire_api, request, made);
        (all.iter().map(|message| Message::clone(message)).collect(), parsed)
    }

    #[track_caller]
    fn check(resent: &mut Resent, body: &str, most: usize) {
        let whole = (API.messages)(&serde_json::from_str(body).unwrap());
        let (messages, parsed) = sent(resent, 1, body);
        assert_eq!(messages, whole);
        assert!(parsed <= most, "{parsed} bytes of {} were parsed", body.len());
    }

    #[test]
    fn only_what_is_new_is_parsed_and_the_messages_are_the_same() {
        let mut resent = Resent::default();
        let (a, b, c) = (user(&"a".repeat(LONG)), user("b"), user(&"c".repeat(LONG)));
        let system = r#""system":"be brief","#;
        check(&mut resent, &body(system, std::slice::from_ref(&a), ""), usize::MAX);
        check(&mut resent, &body(system, &[a.clone(), b.clone()], r#","stream":true"#), 200);
        check(&mut resent, &body(system, &[a.clone(), b.clone(), c.clone()], ""), LONG + 200);
        // Sent once more, edited at its end, and shortened.
        check(&mut resent, &body(system, &[a.clone(), b.clone(), c.clone()], ""), 200);
        check(&mut resent, &body(system, &[a.clone(), b.clone(), user("d")], ""), 200);
        check(&mut resent, &body(system, std::slice::from_ref(&a), ""), 200);
        // Other instructions.
        check(&mut resent, &body(r#""system":"be long","#, &[a.clone(), b.clone()], ""), usize::MAX);
        let (messages, parsed) = sent(&mut resent, 2, &body(system, &[a, b], ""));
        assert_eq!((messages.len(), parsed > LONG), (3, true), "of another process");
    }

    #[test]
    fn where_items_end_is_found_only_in_json_that_says_it_once() {
        let found = |json: &str| history(json.as_bytes()).map(|history| history.ends.len());
        assert_eq!(found(r#"{"a":{"messages":[1]},"messages":[{"b":"]"},[2,3] , 4],"c":null}"#), Some(3));
        assert_eq!(found(r#" { "messages" : [ ] } "#), Some(0));
        for bad in [
            "",
            "[]",
            r#"{"a":1}"#,
            r#"{"messages":1}"#,
            r#"{"messages":[1,]}"#,
            r#"{"messages":[1]"#,
            r#"{"messages":[1],"messages":[2]}"#,
            r#"{"messages":[1],"mess\u0061ges":[2]}"#,
        ] {
            assert_eq!(found(bad), None, "{bad}");
        }
    }

    #[test]
    fn an_item_that_goes_on_where_a_known_one_ended_is_another() {
        let mut resent = Resent::default();
        let long = user(&"a".repeat(LONG));
        check(&mut resent, &body("", &[long.clone(), "1".to_owned()], ""), usize::MAX);
        check(&mut resent, &body("", &[long.clone(), "12".to_owned()], ""), usize::MAX);
        let request = format!("{{\"messages\" : [ {long} ,\n1,]}}");
        assert!(serde_json::from_slice::<Value>(resent.request(1, request.as_bytes()).json()).is_err());
    }
}
