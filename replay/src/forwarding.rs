//! TLS that a process forwards: it receives the hello of a session on one socket and sends it on another. It is neither end of the
//! session, so that nobody expects its plaintext there.

use crate::bounded::Bounded;
use agentsight_formats::handshake::{Greeting, Random};

/// Sessions that are remembered: both hellos of one come close together.
const MAX_SESSIONS: usize = 4096;

/// The connection on which a process passed the hello of a session first, by its socket and its number.
pub(crate) struct Sessions {
    first: Bounded<(u32, Random), (u64, i64, Greeting)>,
}

impl Default for Sessions {
    fn default() -> Self {
        Sessions { first: Bounded::new(MAX_SESSIONS) }
    }
}

impl Sessions {
    /// A process passed the hello of a session on a connection. Returns the socket and the number of the one that it forwards it
    /// to or from.
    pub fn pass(
        &mut self,
        session: (u32, Random),
        (key, conn_id): (u64, i64),
        greeting: Greeting,
    ) -> Option<(u64, i64)> {
        let Some((other, number, first)) = self.first.get(&session) else {
            self.first.insert(session, (key, conn_id, greeting));
            return None;
        };
        (*other != key && first.is_forwarded(greeting)).then_some((*other, *number))
    }
}
