//! HTTP/1 messages (RFC 9112) out of one direction of a connection: framing by Content-Length, chunks or the end of the
//! connection, with gaps where bytes are missing.
//!
//! A gap inside a body of known length is accounted for, and parsing goes on behind it. Anywhere else the parser has lost its
//! place: it goes on where a piece of plaintext starts with a start line, for that is where programs start their messages,
//! and never in the middle of one, where a body may hold anything.

use crate::table::Timestamp;
use std::collections::VecDeque;

/// Longest head that is waited for, in bytes.
const MAX_HEAD: usize = 1 << 20;

/// Most header fields of a message.
const MAX_FIELDS: usize = 512;

const METHODS: [&str; 9] = ["GET ", "POST ", "PUT ", "HEAD ", "DELETE ", "PATCH ", "OPTIONS ", "CONNECT ", "TRACE "];

/// Which messages a direction carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Request,
    Response,
}

impl Kind {
    /// What bytes at the start of a message are; `None` if they are neither, or too few to tell.
    pub fn of(bytes: &[u8]) -> Option<Kind> {
        if bytes.starts_with(b"HTTP/1.") {
            Some(Kind::Response)
        } else if METHODS.iter().any(|method| bytes.starts_with(method.as_bytes())) {
            Some(Kind::Request)
        } else {
            None
        }
    }

    /// Whether more bytes could make them the start of a message.
    pub fn possible(bytes: &[u8]) -> bool {
        b"HTTP/1.".starts_with(bytes) || METHODS.iter().any(|method| method.as_bytes().starts_with(bytes))
    }
}

/// The head of a message.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// First byte of the message.
    pub ts: Timestamp,
    /// `1.0`, `1.1` or `2.0`.
    pub version: String,
    /// Empty where it is unknown, as are the others.
    pub method: String,
    pub target: String,
    /// 0 where it is unknown.
    pub status: u16,
    /// Of HTTP/2 the pseudo-header fields, too.
    pub fields: Vec<(String, String)>,
    /// How many fields there are besides, which are unknown (HTTP/2).
    pub unknown_fields: u32,
}

impl Head {
    /// The value of a header field, by name in any case.
    pub fn field(&self, name: &str) -> Option<&str> {
        self.fields.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Bytes of memory that it takes.
    pub fn size(&self) -> usize {
        self.target.len() + self.fields.iter().map(|(name, value)| 64 + name.len() + value.len()).sum::<usize>()
    }

    /// The host that a request names.
    pub fn host(&self) -> Option<&str> {
        self.field(":authority").or_else(|| self.field("host"))
    }

    /// Whether a list, which may be in several fields, has this item.
    pub fn has_token(&self, name: &str, token: &str) -> bool {
        let values = self.fields.iter().filter(|(field, _)| field.eq_ignore_ascii_case(name));
        values.flat_map(|(_, value)| value.split(',')).any(|value| value.trim().eq_ignore_ascii_case(token))
    }
}

/// What a parser finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Part<'a> {
    Head(Head),
    Body(&'a [u8]),
    /// So many bytes of the body are missing.
    Gap(u64),
    /// The message is whole.
    End,
    /// The message ends where the connection does, as it was meant to.
    EndByClose,
    /// The connection ends inside the message.
    Cut,
    /// From here on the connection speaks something else.
    Upgraded,
    /// Bytes of that something else.
    Beyond(&'a [u8]),
    /// The place in the stream is lost; a message that was open has no end.
    Lost,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head,
    Length(u64),
    ChunkSize,
    ChunkData(u64),
    ChunkEnd,
    Trailers,
    UntilClose,
    Upgraded,
    Lost,
}

/// Parses one direction.
pub(crate) struct Parser {
    kind: Kind,
    state: State,
    buffer: Vec<u8>,
    message_ts: Timestamp,
    /// Methods of the requests that wait for a response: HEAD and CONNECT change how it is framed.
    pub methods: VecDeque<String>,
}

impl Parser {
    pub fn new(kind: Kind) -> Self {
        let message_ts = Timestamp::default();
        Parser { kind, state: State::Head, buffer: Vec::new(), message_ts, methods: VecDeque::new() }
    }

    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// Bytes of memory that it takes.
    pub fn held(&self) -> usize {
        self.buffer.len() + self.methods.len() * 2 * size_of::<String>()
    }

    /// Takes bytes that the program transferred at once.
    pub fn push<'a>(&mut self, ts: Timestamp, bytes: &'a [u8], parts: &mut Vec<Part<'a>>) {
        if self.state == State::Lost {
            if Kind::of(bytes) != Some(self.kind) {
                return;
            }
            self.state = State::Head;
            // Responses were missed: this one answers the newest request.
            self.methods.drain(..self.methods.len().saturating_sub(1));
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let taken = match self.state {
                State::Head => self.take_head(ts, rest, parts),
                State::Length(left) => self.take_length(left, rest, parts),
                State::ChunkSize => self.take_line(rest, parts, Parser::chunk_size),
                State::ChunkData(left) => self.take_chunk(left, rest, parts),
                State::ChunkEnd => self.take_line(rest, parts, Parser::chunk_end),
                State::Trailers => self.take_line(rest, parts, Parser::trailer),
                State::UntilClose => {
                    parts.push(Part::Body(rest));
                    rest.len()
                }
                State::Upgraded => {
                    parts.push(Part::Beyond(rest));
                    rest.len()
                }
                State::Lost => rest.len(),
            };
            rest = rest.get(taken..).unwrap_or_default();
        }
    }

    /// Takes note of bytes that are missing.
    pub fn gap(&mut self, len: u64, parts: &mut Vec<Part<'_>>) {
        match self.state {
            State::Length(left) if len <= left => {
                parts.push(Part::Gap(len));
                self.body_left(left - len, parts);
            }
            State::ChunkData(left) if len < left => {
                parts.push(Part::Gap(len));
                self.state = State::ChunkData(left - len);
            }
            State::UntilClose => parts.push(Part::Gap(len)),
            State::Upgraded => {}
            _ => self.lose(parts),
        }
    }

    /// The connection ends.
    pub fn close(&mut self, parts: &mut Vec<Part<'_>>) {
        match self.state {
            State::UntilClose => parts.push(Part::EndByClose),
            State::Head if self.buffer.is_empty() => {}
            State::Upgraded | State::Lost => {}
            _ => parts.push(Part::Cut),
        }
        self.state = State::Lost;
    }

    fn lose(&mut self, parts: &mut Vec<Part<'_>>) {
        self.buffer.clear();
        self.state = State::Lost;
        parts.push(Part::Lost);
    }

    fn take_head(&mut self, ts: Timestamp, bytes: &[u8], parts: &mut Vec<Part<'_>>) -> usize {
        if self.buffer.is_empty() {
            self.message_ts = ts;
            // Empty lines before a message are allowed (RFC 9112, 2.2).
            let blank = bytes.iter().take_while(|byte| matches!(byte, b'\r' | b'\n')).count();
            if blank > 0 {
                return blank;
            }
        }
        // The head is whole only where a line ends: look at no other place.
        let Some(line) = bytes.iter().position(|byte| *byte == b'\n') else {
            self.buffer.extend_from_slice(bytes);
            let begins = Kind::of(&self.buffer) == Some(self.kind) || Kind::possible(&self.buffer);
            if self.buffer.len() > MAX_HEAD || !begins {
                self.lose(parts);
            }
            return bytes.len();
        };
        self.buffer.extend_from_slice(&bytes[..=line]);
        let blank_line = self.buffer.ends_with(b"\n\r\n") || self.buffer.ends_with(b"\n\n");
        if Kind::of(&self.buffer) != Some(self.kind) || self.buffer.len() > MAX_HEAD {
            self.lose(parts);
        } else if blank_line {
            match parse_head(self.kind, &self.buffer, self.message_ts) {
                Some(head) => {
                    self.buffer.clear();
                    self.begin_body(head, parts);
                }
                None => self.lose(parts),
            }
        }
        line + 1
    }

    /// Decides how long the body is (RFC 9112, 6.3).
    fn begin_body(&mut self, head: Head, parts: &mut Vec<Part<'_>>) {
        let interim = self.kind == Kind::Response && (100..200).contains(&head.status) && head.status != 101;
        let method = match self.kind {
            Kind::Response if !interim => self.methods.pop_front().unwrap_or_default(),
            _ => String::new(),
        };
        let chunked = head.has_token("transfer-encoding", "chunked");
        let length = head.field("content-length").and_then(|value| value.trim().parse::<u64>().ok());
        let upgraded = head.status == 101 || method == "CONNECT" && (200..300).contains(&head.status);
        let no_body = interim || method == "HEAD" || matches!(head.status, 204 | 304);
        let close_delimited = self.kind == Kind::Response;
        parts.push(Part::Head(head));
        if upgraded {
            self.state = State::Upgraded;
            parts.push(Part::Upgraded);
        } else if no_body {
            self.body_left(0, parts);
        } else if chunked {
            self.state = State::ChunkSize;
        } else if let Some(length) = length {
            self.body_left(length, parts);
        } else if close_delimited {
            self.state = State::UntilClose;
        } else {
            self.body_left(0, parts);
        }
    }

    fn body_left(&mut self, left: u64, parts: &mut Vec<Part<'_>>) {
        if left == 0 {
            self.state = State::Head;
            parts.push(Part::End);
        } else {
            self.state = State::Length(left);
        }
    }

    fn take_length<'a>(&mut self, left: u64, bytes: &'a [u8], parts: &mut Vec<Part<'a>>) -> usize {
        let take = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        parts.push(Part::Body(&bytes[..take]));
        self.body_left(left - take as u64, parts);
        take
    }

    fn take_chunk<'a>(&mut self, left: u64, bytes: &'a [u8], parts: &mut Vec<Part<'a>>) -> usize {
        let take = bytes.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        parts.push(Part::Body(&bytes[..take]));
        self.state = if take as u64 == left { State::ChunkEnd } else { State::ChunkData(left - take as u64) };
        take
    }

    /// Collects a line and hands it over without its end.
    fn take_line(
        &mut self,
        bytes: &[u8],
        parts: &mut Vec<Part<'_>>,
        then: fn(&mut Parser, &[u8], &mut Vec<Part<'_>>),
    ) -> usize {
        let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
            self.buffer.extend_from_slice(bytes);
            if self.buffer.len() > MAX_HEAD {
                self.lose(parts);
            }
            return bytes.len();
        };
        let mut begun = std::mem::take(&mut self.buffer);
        let line = if begun.is_empty() {
            &bytes[..end]
        } else {
            begun.extend_from_slice(&bytes[..end]);
            &begun
        };
        then(self, line.strip_suffix(b"\r").unwrap_or(line), parts);
        end + 1
    }

    fn chunk_size(&mut self, line: &[u8], parts: &mut Vec<Part<'_>>) {
        let digits = line.split(|byte| *byte == b';').next().unwrap_or_default().trim_ascii();
        let size = std::str::from_utf8(digits).ok().filter(|digits| !digits.starts_with('+'));
        match size.and_then(|digits| u64::from_str_radix(digits, 16).ok()) {
            Some(0) => self.state = State::Trailers,
            Some(size) => self.state = State::ChunkData(size),
            None => self.lose(parts),
        }
    }

    fn chunk_end(&mut self, line: &[u8], parts: &mut Vec<Part<'_>>) {
        if line.is_empty() { self.state = State::ChunkSize } else { self.lose(parts) }
    }

    fn trailer(&mut self, line: &[u8], parts: &mut Vec<Part<'_>>) {
        if line.is_empty() {
            self.body_left(0, parts);
        }
    }
}

fn parse_head(kind: Kind, bytes: &[u8], ts: Timestamp) -> Option<Head> {
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
    let mut fields = vec![httparse::EMPTY_HEADER; lines.min(MAX_FIELDS)];
    let mut head = Head { ts, ..Head::default() };
    let version = match kind {
        Kind::Request => {
            let mut request = httparse::Request::new(&mut fields);
            request.parse(bytes).ok()?.is_complete().then_some(())?;
            head.method = request.method?.to_owned();
            head.target = request.path?.to_owned();
            head.fields = owned(request.headers);
            request.version?
        }
        Kind::Response => {
            let mut response = httparse::Response::new(&mut fields);
            response.parse(bytes).ok()?.is_complete().then_some(())?;
            head.status = response.code?;
            head.fields = owned(response.headers);
            response.version?
        }
    };
    head.version = format!("1.{version}");
    Some(head)
}

fn owned(fields: &[httparse::Header<'_>]) -> Vec<(String, String)> {
    fields.iter().map(|field| (field.name.to_owned(), String::from_utf8_lossy(field.value).into_owned())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(kind: Kind, methods: &[&str], stream: &[u8], size: usize) -> Vec<String> {
        let mut parser = Parser::new(kind);
        parser.methods = methods.iter().map(|method| method.to_string()).collect();
        let mut parts = Vec::new();
        stream.chunks(size).for_each(|chunk| parser.push(Timestamp(1), chunk, &mut parts));
        parser.close(&mut parts);
        let mut seen: Vec<String> = Vec::new();
        for part in parts {
            match part {
                Part::Head(head) => seen.push(format!("{}{}", head.method, head.status)),
                Part::Body(bytes) => match seen.last_mut() {
                    Some(last) if last.starts_with('=') => last.push_str(&String::from_utf8_lossy(bytes)),
                    _ => seen.push(format!("={}", String::from_utf8_lossy(bytes))),
                },
                Part::Beyond(_) => {}
                other => seen.push(format!("{other:?}")),
            }
        }
        seen
    }

    #[track_caller]
    fn check(kind: Kind, methods: &[&str], stream: &str, expected: &[&str]) {
        for size in 1..=stream.len() {
            assert_eq!(parse(kind, methods, stream.as_bytes(), size), expected, "by {size}");
        }
    }

    #[test]
    fn requests_by_length_and_pipelined() {
        let stream = "POST /a HTTP/1.1\r\nContent-Length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\nHost: x\r\n\r\n";
        check(Kind::Request, &[], stream, &["POST0", "=hello", "End", "GET0", "End"]);
    }

    #[test]
    fn chunks_with_extensions_and_trailers() {
        let stream = "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5;a=b\r\nhello\r\n1\r\n!\r\n0\r\nX: y\r\n\r\nHTTP/1.1 204 No\r\n\r\n";
        check(Kind::Response, &["GET", "GET"], stream, &["200", "=hello!", "End", "204", "End"]);
    }

    #[test]
    fn interim_responses_head_and_not_modified_have_no_body() {
        let stream = "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nHTTP/1.1 304 Not\r\nContent-Length: 9\r\n\r\n";
        let expected = ["100", "End", "200", "=ok", "End", "200", "End", "304", "End"];
        check(Kind::Response, &["POST", "HEAD", "GET"], stream, &expected);
    }

    #[test]
    fn without_a_length_the_response_ends_with_the_connection() {
        check(Kind::Response, &["GET"], "HTTP/1.0 200 OK\r\n\r\nall of it", &["200", "=all of it", "EndByClose"]);
    }

    #[test]
    fn after_an_upgrade_nothing_is_parsed() {
        let stream = "HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\n\r\n\x01\x02HTTP/1.1 200 OK\r\n\r\n";
        check(Kind::Response, &["GET"], stream, &["101", "Upgraded"]);
    }

    #[test]
    fn a_cut_message_is_lost_not_ended() {
        check(Kind::Response, &["GET"], "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nfour", &["200", "=four", "Cut"]);
    }

    #[test]
    fn a_gap_in_a_body_of_known_length_keeps_the_place() {
        let mut parser = Parser::new(Kind::Request);
        let mut parts = Vec::new();
        parser.push(Timestamp(1), b"POST / HTTP/1.1\r\nContent-Length: 10\r\n\r\nab", &mut parts);
        parser.gap(6, &mut parts);
        parser.push(Timestamp(2), b"ijGET / HTTP/1.1\r\n\r\n", &mut parts);
        let after: Vec<_> = parts[1..5].to_vec();
        assert_eq!(after, [Part::Body(b"ab"), Part::Gap(6), Part::Body(b"ij"), Part::End]);
        assert!(matches!(&parts[5], Part::Head(head) if head.method == "GET"));
    }

    #[test]
    fn a_gap_in_a_head_loses_the_place_until_a_piece_starts_with_a_message() {
        let mut parser = Parser::new(Kind::Request);
        let mut parts = Vec::new();
        parser.push(Timestamp(1), b"POST / HTTP/1.1\r\nContent-", &mut parts);
        parser.gap(50, &mut parts);
        parser.push(Timestamp(2), b"body GET / HTTP/1.1\r\n\r\n", &mut parts);
        assert_eq!(parts, [Part::Lost]);
        parser.push(Timestamp(3), b"GET /next HTTP/1.1\r\n\r\n", &mut parts);
        assert!(matches!(&parts[1], Part::Head(head) if head.target == "/next"));
    }
}
