//! Newline-delimited JSON: a value on each line, as Ollama streams them.

use super::{Decoder, Found};

#[derive(Default)]
pub(super) struct Parser {
    line: Vec<u8>,
    /// The line that comes is not whole.
    torn: bool,
}

impl Decoder for Parser {
    fn push(&mut self, bytes: &[u8], found: &mut Vec<Found>) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            match piece.strip_suffix(b"\n") {
                Some(end) => {
                    self.line.extend_from_slice(end);
                    self.end_line(found);
                }
                None => self.line.extend_from_slice(piece),
            }
        }
    }

    fn held(&self) -> usize {
        self.line.len()
    }

    fn gap(&mut self) {
        self.torn = true;
    }

    fn finish(&mut self, found: &mut Vec<Found>) {
        let whole = serde_json::from_slice::<serde::de::IgnoredAny>(&self.line).is_ok();
        if whole || self.torn || self.line.trim_ascii().is_empty() {
            self.end_line(found);
        } else {
            found.push(Found::Damaged);
        }
    }
}

impl Parser {
    fn end_line(&mut self, found: &mut Vec<Found>) {
        let line = std::mem::take(&mut self.line);
        let text = line.trim_ascii();
        if !std::mem::take(&mut self.torn) && !text.is_empty() {
            found.push(Found::Event { name: None, data: String::from_utf8_lossy(text).into_owned() });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check, seen};
    use crate::event::Framing;

    #[test]
    fn each_line_is_an_event() {
        let stream = "{\"a\":\"é\"}\n\r\n {\"b\":[]}\r\n{\"c\":3}";
        check(Framing::Ndjson, stream.as_bytes(), &["{\"a\":\"é\"}", "{\"b\":[]}", "{\"c\":3}"]);
    }

    #[test]
    fn a_last_line_that_is_torn_is_damaged() {
        assert_eq!(seen(Framing::Ndjson, b"{}\n{\"a\":", 3, None), ["{}", "damaged"]);
    }
}
