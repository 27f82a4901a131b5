//! The head of a frame (RFC 9113, 4.1 and 6), what it must be like, and how frames are found again in a stream whose place was
//! lost.

/// What a client starts with (RFC 9113, 3.4).
pub(super) const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub(super) const HEAD: usize = 9;

/// Largest payload that every endpoint takes (RFC 9113, 4.2).
const USUAL_PAYLOAD: u32 = 1 << 14;

/// Frames that must follow each other where nothing else proves the place.
const PROOF: usize = 3;

pub(super) mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
    pub const ALTSVC: u8 = 10;
    pub const ORIGIN: u8 = 12;
    pub const PRIORITY_UPDATE: u8 = 16;
}

pub(super) mod flag {
    pub const END_STREAM: u8 = 1;
    pub const ACK: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 32;
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct FrameHead {
    pub length: u32,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

impl FrameHead {
    pub fn parse(bytes: &[u8; HEAD]) -> Self {
        let [l0, l1, l2, kind, flags, s0, s1, s2, s3] = *bytes;
        let stream = u32::from_be_bytes([s0 & 0x7f, s1, s2, s3]);
        FrameHead { length: u32::from_be_bytes([0, l0, l1, l2]), kind, flags, stream }
    }

    pub fn has(&self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Whether it may come after a part of a header block, or none, on `block`.
    pub fn valid(&self, block: Option<u32>) -> bool {
        let one = self.stream != 0;
        let padding = u32::from(self.has(flag::PADDED));
        let priority = if self.has(flag::PRIORITY) { 5 } else { 0 };
        match (self.kind, block) {
            (kind::CONTINUATION, Some(stream)) => stream == self.stream,
            (kind::CONTINUATION, None) | (_, Some(_)) => false,
            (kind::DATA, _) => one && self.length >= padding,
            (kind::HEADERS, _) => one && self.length >= padding + priority,
            (kind::PRIORITY, _) => one && self.length == 5,
            (kind::RST_STREAM, _) => one && self.length == 4,
            (kind::SETTINGS, _) if self.has(flag::ACK) => !one && self.length == 0,
            (kind::SETTINGS, _) => !one && self.length.is_multiple_of(6),
            (kind::PUSH_PROMISE, _) => one && self.length >= padding + 4,
            (kind::PING, _) => !one && self.length == 8,
            (kind::GOAWAY, _) => !one && self.length >= 8,
            (kind::WINDOW_UPDATE, _) => self.length == 4,
            // What is not known is to be ignored (5.5).
            _ => true,
        }
    }

    /// Whether it is the first frame of a connection: settings, and no acknowledgement.
    pub fn opens(&self) -> bool {
        self.kind == kind::SETTINGS && !self.has(flag::ACK) && self.valid(None)
    }

    /// Whether it is what programs send, not only what they may: asked where the place is not sure.
    fn likely(&self, raw: &[u8; HEAD], block: Option<u32>) -> bool {
        use flag::{ACK, END_HEADERS, END_STREAM, PADDED, PRIORITY};
        let flags = match self.kind {
            kind::DATA => END_STREAM | PADDED,
            kind::HEADERS => END_STREAM | END_HEADERS | PADDED | PRIORITY,
            kind::SETTINGS | kind::PING => ACK,
            kind::PUSH_PROMISE => END_HEADERS | PADDED,
            kind::CONTINUATION => END_HEADERS,
            kind::PRIORITY | kind::RST_STREAM | kind::GOAWAY | kind::WINDOW_UPDATE => 0,
            kind::ALTSVC | kind::ORIGIN | kind::PRIORITY_UPDATE => 0,
            _ => return false,
        };
        let from_a_client = self.stream == 0 || self.stream % 2 == 1;
        // Eight million requests into a connection its place is given up.
        let early = raw[5] == 0;
        self.flags & !flags == 0 && from_a_client && early && self.length <= USUAL_PAYLOAD && self.valid(block)
    }
}

/// Whether frames start where bytes do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Found,
    Unlikely,
    /// More bytes will tell.
    Open,
}

/// Looks whether frames start at the start of `bytes`, which end where a piece of plaintext does: they do if likely frames
/// fill them exactly, or if several follow each other.
pub(super) fn place(bytes: &[u8]) -> Place {
    let mut rest = bytes;
    let mut block = None;
    for seen in 0..PROOF {
        let Some(raw) = rest.first_chunk::<HEAD>() else {
            return if rest.is_empty() && seen > 0 { Place::Found } else { Place::Open };
        };
        let head = FrameHead::parse(raw);
        if !head.likely(raw, block) {
            return Place::Unlikely;
        }
        if matches!(head.kind, kind::HEADERS | kind::PUSH_PROMISE | kind::CONTINUATION) {
            block = Some(head.stream).filter(|_| !head.has(flag::END_HEADERS));
        }
        if head.has(flag::PADDED) && rest.get(HEAD).is_some_and(|padding| u32::from(*padding) >= head.length) {
            return Place::Unlikely;
        }
        let Some(after) = rest.get(HEAD + head.length as usize..) else { return Place::Open };
        rest = after;
    }
    Place::Found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    #[test]
    fn frames_that_fill_a_piece_or_follow_each_other_are_found() {
        let data = frame(kind::DATA, 0, 7, b"hello");
        let ping = frame(kind::PING, flag::ACK, 0, &[0; 8]);
        assert_eq!(place(&data), Place::Found);
        assert_eq!(place(&data[..12]), Place::Open);
        assert_eq!(place(&[&data[..], &ping, &data[..3]].concat()), Place::Open);
        assert_eq!(place(&[&data[..], &ping, &data[..], &data[..1]].concat()), Place::Found);
    }

    #[test]
    fn text_zeros_and_the_middle_of_a_header_block_are_no_place() {
        for bytes in [&b"data: {\"type\":\"ping\"}\n\n"[..], &[0; 100], &[0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3]] {
            assert_eq!(place(bytes), Place::Unlikely, "{bytes:?}");
        }
        assert_eq!(place(&frame(kind::CONTINUATION, 4, 1, b"x")), Place::Unlikely);
        let between = [frame(kind::HEADERS, 0, 1, b"x"), frame(kind::DATA, 0, 1, b"x")].concat();
        assert_eq!(place(&between), Place::Unlikely);
        assert_eq!(place(&frame(kind::DATA, 0, 2, b"pushed")), Place::Unlikely);
    }
}
