//! Text that looks like what agents and their tools say, out of a seeded generator.

/// SplitMix64.
pub struct Random(u64);

const WORDS: [&str; 64] = [
    "the",
    "function",
    "returns",
    "a",
    "value",
    "when",
    "buffer",
    "is",
    "empty",
    "and",
    "test",
    "fails",
    "with",
    "error",
    "in",
    "module",
    "parse",
    "line",
    "of",
    "config",
    "file",
    "should",
    "be",
    "read",
    "before",
    "thread",
    "starts",
    "to",
    "write",
    "record",
    "let",
    "mut",
    "impl",
    "struct",
    "self",
    "match",
    "None",
    "Some(index)",
    "usize",
    "return",
    "if",
    "else",
    "for",
    "while",
    "vec![]",
    "assert_eq!",
    "pub",
    "fn",
    "const",
    "static",
    "use",
    "crate::io",
    "std::mem",
    "path",
    "/src/lib.rs",
    "Cargo.toml",
    "warning:",
    "unused",
    "variable",
    "note:",
    "consider",
    "borrowed",
    "here",
    "0x7f",
];

impl Random {
    pub fn new(seed: u64) -> Self {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number of this range.
    pub fn of(&mut self, range: std::ops::Range<u64>) -> u64 {
        range.start + self.next() % (range.end - range.start)
    }

    /// So many bytes of lines: words, numbers, quotes and tabs as sources and the output of tools have them.
    pub fn text(&mut self, bytes: usize) -> String {
        let mut out = String::with_capacity(bytes + 32);
        while out.len() < bytes {
            let bits = self.next();
            match bits % 29 {
                0 => out.push_str("\n\t"),
                1 => out.push_str(";\n    "),
                2 => out.push_str(&format!("\"{:x}\" ", bits >> 40)),
                3 => out.push_str(&format!("{} ", bits >> 48)),
                4 => out.push_str("→ "),
                _ => {
                    out.push_str(WORDS[(bits >> 8) as usize % WORDS.len()]);
                    out.push(' ');
                }
            }
        }
        out
    }

    /// A name of a file.
    pub fn file(&mut self) -> String {
        format!("/home/me/project/src/part_{}/file_{}.rs", self.of(0..20), self.of(0..40))
    }
}

/// A text as JSON.
pub fn json(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The pieces in which a text is streamed: a few characters each.
pub fn pieces(text: &str, size: usize) -> Vec<&str> {
    let mut rest = text;
    let mut out = Vec::new();
    while !rest.is_empty() {
        let mut at = size.min(rest.len());
        while !rest.is_char_boundary(at) {
            at += 1;
        }
        let (piece, after) = rest.split_at(at);
        out.push(piece);
        rest = after;
    }
    out
}
