//! Server-sent events, as the WHATWG HTML standard defines the event stream format (9.2.6).

use super::{Decoder, Found};

#[derive(Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    started: bool,
    after_cr: bool,
    name: Option<String>,
    data: Option<String>,
    torn: Torn,
}

/// How much of an event is missing.
#[derive(Default, PartialEq, Eq)]
enum Torn {
    #[default]
    Nothing,
    /// The line that comes has no start.
    Line,
    /// Lines that come belong to an event that has no start.
    Event,
}

impl Decoder for Parser {
    fn push(&mut self, bytes: &[u8], found: &mut Vec<Found>) {
        let mut rest = bytes;
        while let Some((&first, after)) = rest.split_first() {
            if std::mem::take(&mut self.after_cr) && first == b'\n' {
                rest = after;
                continue;
            }
            let Some(end) = rest.iter().position(|byte| matches!(byte, b'\n' | b'\r')) else {
                self.line.extend_from_slice(rest);
                return;
            };
            self.line.extend_from_slice(&rest[..end]);
            self.after_cr = rest[end] == b'\r';
            rest = &rest[end + 1..];
            let line = std::mem::take(&mut self.line);
            self.take_line(&line, found);
        }
    }

    fn held(&self) -> usize {
        self.line.len() + [&self.name, &self.data].into_iter().flatten().map(String::len).sum::<usize>()
    }

    /// The next event that is whole starts behind an empty line.
    fn gap(&mut self) {
        *self = Parser { started: true, torn: Torn::Line, ..Parser::default() };
    }
}

impl Parser {
    fn take_line(&mut self, line: &[u8], found: &mut Vec<Found>) {
        match self.torn {
            Torn::Nothing => {}
            // What looks empty may be the end of a line.
            Torn::Line => {
                self.torn = Torn::Event;
                return;
            }
            Torn::Event => {
                if line.is_empty() {
                    self.torn = Torn::Nothing;
                }
                return;
            }
        }
        let line = if std::mem::replace(&mut self.started, true) {
            line
        } else {
            line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line)
        };
        if line.is_empty() {
            let name = self.name.take().filter(|name| !name.is_empty());
            if let Some(data) = self.data.take() {
                found.push(Found::Event { name, data });
            }
            return;
        }
        let (field, value) = match line.iter().position(|byte| *byte == b':') {
            Some(colon) => (&line[..colon], &line[colon + 1..]),
            None => (line, &[][..]),
        };
        let value = String::from_utf8_lossy(value.strip_prefix(b" ").unwrap_or(value));
        match field {
            b"event" => self.name = Some(value.into_owned()),
            b"data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(&value);
                }
                None => self.data = Some(value.into_owned()),
            },
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::check;
    use crate::event::Framing;

    const STREAM: &str =
        "\u{feff}: hello\nevent: a\ndata: one\ndata:two\n\ndata: déjà ✓\r\n\r\nid: 7\nevent: none\n\ndata\r\rdata: cut";

    #[test]
    fn events_are_the_same_however_the_stream_is_cut() {
        check(Framing::Sse, STREAM.as_bytes(), &["a one\ntwo", "déjà ✓", ""]);
    }
}
