//! DNS messages over TCP (RFC 1035, 4.2.2): each comes after its length in two bytes, and pieces of the stream end where they
//! like. What is missing of a message leaves the rest of it; the next one is found if the length had come.

/// One direction of a connection to a name server. It holds one message at most, and a piece.
#[derive(Debug, Default)]
pub(crate) struct Messages {
    held: Vec<u8>,
    /// Bytes to come that belong to a message which was handed on.
    passed_over: u64,
    /// Nobody knows where the next message starts.
    lost: bool,
}

/// A message, or what is left of one.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Framed {
    pub bytes: Vec<u8>,
    pub cut: bool,
}

impl Messages {
    /// Takes the next bytes. Returns the messages that are whole by now.
    pub fn push(&mut self, data: &[u8]) -> Vec<Framed> {
        let over = usize::try_from(self.passed_over).unwrap_or(usize::MAX).min(data.len());
        self.passed_over -= over as u64;
        let mut found = Vec::new();
        if self.lost {
            return found;
        }
        self.held.extend_from_slice(&data[over..]);
        let mut rest = &self.held[..];
        while let Some((bytes, after)) = message(rest) {
            found.push(Framed { bytes: bytes.to_vec(), cut: false });
            rest = after;
        }
        let done = self.held.len() - rest.len();
        self.held.drain(..done);
        found
    }

    /// So many bytes are missing. Returns what there is of the message that they are missing in.
    pub fn gap(&mut self, missing: u64) -> Option<Framed> {
        let over = self.passed_over.min(missing);
        self.passed_over -= over;
        let missing = missing - over;
        if missing == 0 || self.lost {
            return None;
        }
        let held = std::mem::take(&mut self.held);
        let Some((len, bytes)) = held.split_first_chunk::<2>() else {
            self.lost = true;
            return None;
        };
        let wanted = (usize::from(u16::from_be_bytes(*len)) - bytes.len()) as u64;
        match wanted.checked_sub(missing) {
            Some(rest) => self.passed_over = rest,
            None => self.lost = true,
        }
        Some(Framed { bytes: bytes.to_vec(), cut: true })
    }
}

/// The first message, and what comes after it.
fn message(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, rest) = bytes.split_first_chunk::<2>()?;
    rest.split_at_checked(u16::from_be_bytes(*len).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(messages: &[&[u8]]) -> Vec<u8> {
        messages.iter().flat_map(|bytes| [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()).collect()
    }

    fn whole(bytes: &[u8]) -> Framed {
        Framed { bytes: bytes.to_vec(), cut: false }
    }

    #[test]
    fn messages_are_the_same_however_they_come() {
        let sent = stream(&[b"first", b"", b"third"]);
        for size in 1..=sent.len() {
            let mut messages = Messages::default();
            let found: Vec<_> = sent.chunks(size).flat_map(|piece| messages.push(piece)).collect();
            assert_eq!(found, [whole(b"first"), whole(b""), whole(b"third")], "{size}");
        }
    }

    #[test]
    fn what_is_missing_leaves_the_rest_of_its_message_and_the_next_one() {
        let sent = stream(&[b"first", b"second", b"third"]);
        for (from, to) in (9..15).flat_map(|from| (from + 1..=15).map(move |to| (from, to))) {
            let mut messages = Messages::default();
            let mut found = messages.push(&sent[..from]);
            found.extend(messages.gap((to - from) as u64));
            found.extend(messages.push(&sent[to..]));
            let cut = Framed { bytes: sent[9..from].to_vec(), cut: true };
            assert_eq!(found, [whole(b"first"), cut, whole(b"third")], "{from} to {to}");
        }
    }

    #[test]
    fn without_its_length_the_next_message_is_not_found() {
        for missing in [1, 100] {
            let mut messages = Messages::default();
            assert_eq!(messages.push(b"\0"), []);
            assert_eq!(messages.gap(missing), None);
            assert_eq!(messages.push(&stream(&[b"next"])), []);
        }
        // More is missing than the message had.
        let mut messages = Messages::default();
        assert_eq!(messages.push(b"\0\x04ab"), []);
        assert_eq!(messages.gap(3), Some(Framed { bytes: b"ab".to_vec(), cut: true }));
        assert_eq!(messages.push(&stream(&[b"next"])), []);
    }
}
