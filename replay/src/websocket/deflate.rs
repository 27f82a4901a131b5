//! Compression of messages (RFC 7692, permessage-deflate): each message is a raw deflate stream without its last four bytes;
//! unless the two sides agreed otherwise, one message may refer to those before.

use super::frame::MAX_MESSAGE;
use flate2::{Decompress, FlushDecompress, Status};

/// What a sender leaves out at the end of a message.
const TAIL: [u8; 4] = [0x00, 0x00, 0xff, 0xff];

/// Output that is made room for at once.
const ROOM: usize = 64 << 10;

/// Bytes of memory that a direction takes: its window and its tables, about.
pub(super) const MEMORY: usize = 48 << 10;

/// What the two sides agreed on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Agreed {
    /// Whether each message of the client stands alone.
    pub client_alone: bool,
    pub server_alone: bool,
}

impl Agreed {
    /// By the Sec-WebSocket-Extensions of the response; `None` without permessage-deflate.
    pub fn of(extensions: &str) -> Option<Agreed> {
        let mut params = extensions.split(',').map(|extension| extension.split(';').map(str::trim));
        let params = params.find_map(|mut params| (params.next()? == "permessage-deflate").then_some(params))?;
        let mut agreed = Agreed::default();
        for param in params {
            match param.split('=').next().unwrap_or_default().trim() {
                "client_no_context_takeover" => agreed.client_alone = true,
                "server_no_context_takeover" => agreed.server_alone = true,
                _ => {}
            }
        }
        Some(agreed)
    }
}

/// Decompresses the messages of one direction.
pub(super) struct Inflater {
    stream: Decompress,
    /// Each message stands alone.
    alone: bool,
    /// A message that others may refer to is missing.
    broken: bool,
}

impl Inflater {
    pub fn new(alone: bool) -> Self {
        Inflater { stream: Decompress::new(false), alone, broken: false }
    }

    /// A compressed message is missing.
    pub fn missed(&mut self) {
        self.broken |= !self.alone;
    }

    /// The message; `None` if it cannot be had, or is too long.
    pub fn message(&mut self, payload: &[u8]) -> Option<Vec<u8>> {
        if self.broken {
            return None;
        }
        if self.alone {
            self.stream.reset(false);
        }
        let mut out = Vec::new();
        let whole = self.inflate(payload, &mut out).and_then(|()| self.inflate(&TAIL, &mut out));
        if whole.is_none() {
            self.missed();
        }
        whole.map(|()| out)
    }

    fn inflate(&mut self, input: &[u8], out: &mut Vec<u8>) -> Option<()> {
        let mut rest = input;
        loop {
            out.reserve(ROOM);
            let (before_in, before_out) = (self.stream.total_in(), out.len());
            let status = self.stream.decompress_vec(rest, out, FlushDecompress::Sync).ok()?;
            let taken = usize::try_from(self.stream.total_in() - before_in).ok()?;
            rest = rest.get(taken..)?;
            if out.len() > MAX_MESSAGE {
                return None;
            }
            if status == Status::StreamEnd {
                // A sender may end its stream with a message (7.2.3.5): the next one starts anew.
                self.stream.reset(false);
                return Some(());
            }
            if rest.is_empty() && out.len() < out.capacity() {
                return Some(());
            }
            if taken == 0 && out.len() == before_out {
                return None;
            }
        }
    }
}
