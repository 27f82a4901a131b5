//! A JSON array whose items come over time, as Google's APIs stream them over plain HTTP: each item is an event, as it stands
//! there. Brackets are counted outside of strings; nothing else is looked at. After missing bytes it is not known how deep the
//! next one stands, and no more events are found.

use super::{Decoder, Found};

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum At {
    /// Before the array.
    #[default]
    Start,
    /// Between items.
    Between,
    /// In an item, this deep, in a string or not.
    Item { depth: u32, string: bool, escaped: bool },
    /// Behind the array, or lost.
    End,
}

#[derive(Default)]
pub(super) struct Parser {
    at: At,
    item: Vec<u8>,
}

/// Whether bytes start an array of objects; `None` if there are too few to tell.
pub(super) fn starts(start: &[u8]) -> Option<bool> {
    let Some(rest) = start.trim_ascii_start().strip_prefix(b"[") else {
        return if start.trim_ascii().is_empty() { None } else { Some(false) };
    };
    rest.trim_ascii_start().first().map(|byte| *byte == b'{')
}

impl Decoder for Parser {
    fn push(&mut self, bytes: &[u8], found: &mut Vec<Found>) {
        for byte in bytes {
            self.at = self.take(*byte, found);
        }
    }

    fn held(&self) -> usize {
        self.item.len()
    }

    fn gap(&mut self) {
        self.at = At::End;
        self.item.clear();
    }

    fn finish(&mut self, found: &mut Vec<Found>) {
        if self.at != At::End {
            found.push(Found::Damaged);
        }
    }
}

impl Parser {
    fn take(&mut self, byte: u8, found: &mut Vec<Found>) -> At {
        match self.at {
            At::Start if byte == b'[' => At::Between,
            At::Between if byte == b']' => At::End,
            At::Between if byte == b',' || byte.is_ascii_whitespace() => At::Between,
            At::Between => {
                self.item.push(byte);
                let depth = u32::from(matches!(byte, b'{' | b'['));
                At::Item { depth, string: byte == b'"', escaped: false }
            }
            At::Item { depth: 0, string: false, .. } if matches!(byte, b',' | b']') => {
                self.end_item(found);
                if byte == b']' { At::End } else { At::Between }
            }
            At::Item { depth, string, escaped } => {
                self.item.push(byte);
                let depth = match byte {
                    b'{' | b'[' if !string => depth.saturating_add(1),
                    b'}' | b']' if !string => depth.saturating_sub(1),
                    _ => depth,
                };
                let string = string ^ (byte == b'"' && !escaped);
                if depth == 0 && matches!(byte, b'}' | b']') && !string {
                    self.end_item(found);
                    return At::Between;
                }
                At::Item { depth, string, escaped: string && byte == b'\\' && !escaped }
            }
            at => at,
        }
    }

    fn end_item(&mut self, found: &mut Vec<Found>) {
        let item = std::mem::take(&mut self.item);
        found.push(Found::Event { name: None, data: String::from_utf8_lossy(item.trim_ascii()).into_owned() });
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{check, seen};
    use crate::event::Framing;

    #[test]
    fn each_item_is_an_event() {
        let stream = "[{\n \"a\": \"}]\\\"{é\"}\n,\r\n{\"b\":[{},[1,2]]}\n, 7, \"x,]\\\\\"\n]\n";
        check(
            Framing::JsonArray,
            stream.as_bytes(),
            &["{\n \"a\": \"}]\\\"{é\"}", "{\"b\":[{},[1,2]]}", "7", "\"x,]\\\\\""],
        );
    }

    #[test]
    fn an_array_without_its_end_is_damaged() {
        assert_eq!(seen(Framing::JsonArray, b"[{\"a\":1},\n{\"b\":", 4, None), ["{\"a\":1}", "damaged"]);
    }
}
