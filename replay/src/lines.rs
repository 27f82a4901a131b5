//! Lines of a stream that may be cut anywhere and may have gaps: only those that may be JSON are kept until they end.

/// Longest line that is kept.
const MAX_LINE: usize = 32 << 20;

/// Splits one direction of a stream.
#[derive(Default)]
pub(crate) struct Lines {
    line: Vec<u8>,
    /// What follows, up to the end of the line, is of no use.
    skip: bool,
}

impl Lines {
    /// Takes bytes, and gives each line that they complete and that starts as an object or array does, without its newline.
    /// Returns whether something was too long to keep.
    pub fn push(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8])) -> bool {
        let mut too_long = false;
        let mut rest = bytes;
        while let Some(end) = memchr::memchr(b'\n', rest) {
            let (line, after) = rest.split_at(end);
            rest = after.get(1..).unwrap_or_default();
            if self.line.is_empty() && !self.skip {
                // The common case: nothing has to be copied.
                if !line.is_empty() && may_be_json(line) {
                    take(line);
                }
                continue;
            }
            too_long |= self.keep(line);
            if !self.skip {
                take(&self.line);
            }
            self.forget();
            self.skip = false;
        }
        too_long | self.keep(rest)
    }

    /// Bytes are missing: the line that they are in is of no use, and what follows may start a new one.
    pub fn gap(&mut self) {
        self.forget();
        self.skip = false;
    }

    /// Gives up what there is of a line. Returns how many bytes that was.
    pub fn give_up(&mut self) -> usize {
        let held = self.line.len();
        self.forget();
        self.skip = true;
        held
    }

    /// Bytes of memory that it takes.
    pub fn held(&self) -> usize {
        self.line.len()
    }

    fn keep(&mut self, part: &[u8]) -> bool {
        if self.skip || part.is_empty() {
            return false;
        }
        let fits = self.line.len().saturating_add(part.len()) <= MAX_LINE;
        if fits && (!self.line.is_empty() || may_be_json(part)) {
            self.line.extend_from_slice(part);
            return false;
        }
        self.give_up();
        !fits
    }

    fn forget(&mut self) {
        self.line = Vec::new();
    }
}

/// By its first byte that is no space, if there is one.
fn may_be_json(line: &[u8]) -> bool {
    line.iter().find(|byte| !byte.is_ascii_whitespace()).is_none_or(|byte| matches!(byte, b'{' | b'['))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_the_same_however_the_stream_is_cut() {
        let text = b"{\"a\":1}\nlog [1]\n[2]\r\n\n {\"b\":2}\n{\"cut";
        for size in 1..text.len() {
            let mut lines = Lines::default();
            let mut seen = Vec::new();
            for chunk in text.chunks(size) {
                lines.push(chunk, |line| seen.push(String::from_utf8_lossy(line).trim().to_owned()));
            }
            assert_eq!(seen, [r#"{"a":1}"#, "[2]", r#"{"b":2}"#], "by {size}");
        }
    }

    #[test]
    fn what_is_too_long_is_passed_over() {
        let mut lines = Lines::default();
        let mut seen = 0;
        assert!(!lines.push(b"[", |_| seen += 1));
        let piece = vec![b' '; 1 << 20];
        let too_long = (0..40).filter(|_| lines.push(&piece, |_| seen += 1)).count();
        assert_eq!((too_long, lines.held()), (1, 0));
        lines.push(b"]\n[]\n", |_| seen += 1);
        assert_eq!(seen, 1);
    }
}
