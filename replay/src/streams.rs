//! What goes on within a connection: the streams of plaintext that it is told of, and the HTTP that they carry.

use crate::conversation::Conversation;
use crate::exchange::Exchange;

/// The streams of one raw id.
pub(crate) struct Raw {
    pub tgid: u32,
    /// Offset of the next byte, sent and received.
    pub next: [u64; 2],
    /// Where its streams start in those of the connection.
    pub base: [Option<u64>; 2],
    pub of: Carrying,
}

/// What an exchange of HTTP needs both directions of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Carrying {
    /// The socket itself.
    Plain,
    /// All that is seen below TLS connections.
    Halves,
    /// An object of a TLS library.
    Object(u64),
}

impl Carrying {
    pub fn scheme(self) -> &'static str {
        if self == Carrying::Plain { "http" } else { "https" }
    }
}

/// An exchange that is done, with the scheme of its URL.
pub(crate) struct Finished {
    pub exchange: Exchange,
    pub scheme: &'static str,
    pub proc_id: i64,
}

/// The HTTP of a connection.
pub(crate) struct Carrier {
    pub of: Carrying,
    pub tgid: u32,
    pub proc_id: i64,
    pub http: Conversation,
}

impl Carrier {
    pub fn finished(&self, exchanges: Vec<Exchange>) -> impl Iterator<Item = Finished> {
        let (scheme, proc_id) = (self.of.scheme(), self.proc_id);
        exchanges.into_iter().map(move |exchange| Finished { exchange, scheme, proc_id })
    }
}

/// What is left of a piece of plaintext once it has found its place.
pub(crate) struct Placed {
    /// Where the piece starts in the stream of the connection.
    pub offset: u64,
    /// Bytes missing before it.
    pub missing: u64,
    /// Bytes of it that had been taken for missing already.
    pub late: u64,
    pub of: Carrying,
}

impl Placed {
    /// The bytes of the piece that were not taken for missing.
    pub fn fresh<'d>(&self, data: &'d [u8]) -> &'d [u8] {
        data.get(usize::try_from(self.late).unwrap_or(usize::MAX)..).unwrap_or_default()
    }

    /// How many bytes are missing after those that were captured, of a piece of this length.
    pub fn uncaptured(&self, data: &[u8], len: u64) -> u64 {
        if self.late == 0 { len.saturating_sub(data.len() as u64) } else { 0 }
    }
}
