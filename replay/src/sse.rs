//! Server-sent events, as the WHATWG HTML standard defines the event stream format (9.2.6).

/// An event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    /// The `event:` field, if there was one.
    pub name: Option<String>,
    /// The `data:` lines, joined by newlines.
    pub data: String,
}

/// Parses a stream that may be cut anywhere, inside a character too.
#[derive(Default)]
pub(crate) struct Parser {
    line: Vec<u8>,
    started: bool,
    after_cr: bool,
    name: Option<String>,
    data: Option<String>,
}

impl Parser {
    /// Takes bytes; appends the events that they complete.
    pub fn push(&mut self, bytes: &[u8], events: &mut Vec<Event>) {
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
            self.take_line(&line, events);
        }
    }

    fn take_line(&mut self, line: &[u8], events: &mut Vec<Event>) {
        let line = if std::mem::replace(&mut self.started, true) {
            line
        } else {
            line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line)
        };
        if line.is_empty() {
            let name = self.name.take().filter(|name| !name.is_empty());
            if let Some(data) = self.data.take() {
                events.push(Event { name, data });
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
    use super::*;

    const STREAM: &str =
        "\u{feff}: hello\nevent: a\ndata: one\ndata:two\n\ndata: déjà ✓\r\n\r\nid: 7\nevent: none\n\ndata\r\rdata: cut";

    fn event(name: Option<&str>, data: &str) -> Event {
        Event { name: name.map(str::to_owned), data: data.to_owned() }
    }

    #[test]
    fn events_are_the_same_however_the_stream_is_cut() {
        for size in 1..STREAM.len() {
            let mut parser = Parser::default();
            let mut events = Vec::new();
            STREAM.as_bytes().chunks(size).for_each(|chunk| parser.push(chunk, &mut events));
            assert_eq!(events, [event(Some("a"), "one\ntwo"), event(None, "déjà ✓"), event(None, "")], "by {size}");
        }
    }
}
