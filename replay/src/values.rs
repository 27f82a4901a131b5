//! JSON that somebody else wrote, as values: a body, an event, a line, the arguments of a tool. A value takes some hundred bytes of
//! memory where two bytes of text may make one: what would take too much is none.

use serde_json::Value;

/// Most memory that the values of one text take, in bytes, about.
pub(crate) const MOST: usize = 128 << 20;

/// What values take, about, by the byte of their text: an object, an array, and what follows in either.
const fn of_byte(byte: u8) -> usize {
    match byte {
        b'{' => 512,
        b'[' => 320,
        b',' => 192,
        _ => 0,
    }
}

/// The value that a text is; `None` if it is none, or takes too much memory.
pub(crate) fn parse(text: &[u8]) -> Option<Value> {
    if text.len() > MOST / of_byte(b'{') && cost(text) > MOST {
        return None;
    }
    serde_json::from_slice(text).ok()
}

/// What the values of a text take of memory, about, besides the text itself.
pub(crate) fn cost(text: &[u8]) -> usize {
    let mut cost = 0_usize;
    let mut rest = text;
    loop {
        // What stands in a string makes no value.
        let quote = memchr::memchr(b'"', rest);
        let (outside, behind) = rest.split_at(quote.unwrap_or(rest.len()));
        cost = outside.iter().fold(cost, |cost, byte| cost.saturating_add(of_byte(*byte)));
        let Some(string) = behind.get(1..) else { return cost };
        rest = behind_string(string);
    }
}

/// What stands behind a string whose first quote was taken.
fn behind_string(mut rest: &[u8]) -> &[u8] {
    while let Some(at) = memchr::memchr2(b'"', b'\\', rest) {
        let escaped = usize::from(rest.get(at) == Some(&b'\\'));
        rest = rest.get(at + 1 + escaped..).unwrap_or_default();
        if escaped == 0 {
            return rest;
        }
    }
    &[]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_outside_of_strings_makes_values() {
        let (object, array, item) = (of_byte(b'{'), of_byte(b'['), of_byte(b','));
        for (text, expected) in [
            (r#"{"a,[":[1,2,"{\",["],"b\\":{}}"#, 2 * object + array + 3 * item),
            (r#""[[[[" , "open [[[ \"#, item),
            ("[[1],[2]]", 3 * array + item),
            ("", 0),
        ] {
            assert_eq!(cost(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn text_of_any_length_is_read_and_values_without_end_are_not() {
        let commas = format!("[\"{}\"]", ",[{".repeat(MOST / 256));
        assert!(parse(commas.as_bytes()).is_some());
        for (item, times) in [("[1],", MOST / 512), ("{\"\":0},", MOST / 704), ("0,", MOST / 192)] {
            let text = |times: usize| format!("[{}0]", item.repeat(times));
            assert!(parse(text(times + 2).as_bytes()).is_none(), "{item}");
            assert!(parse(text(times / 2).as_bytes()).is_some(), "{item}");
        }
        assert!(parse("[".repeat(200_000).as_bytes()).is_none() && parse(b"{").is_none());
    }
}
