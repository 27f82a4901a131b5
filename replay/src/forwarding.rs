//! The sessions of TLS whose hellos were seen, and which connections forward them.

use crate::bounded::Bounded;
use agentsight_formats::forwarding::{Greeting, Journey};
use agentsight_formats::handshake::Random;

/// Sessions that are remembered: the hellos of one come close together.
const MAX_SESSIONS: usize = 4096;

pub(crate) struct Sessions {
    /// By socket and number of a connection.
    journeys: Bounded<Random, Journey<(u64, i64)>>,
}

impl Default for Sessions {
    fn default() -> Self {
        Sessions { journeys: Bounded::new(MAX_SESSIONS) }
    }
}

impl Sessions {
    /// The hello of a session passed a connection. Returns the socket and the number of the one from which it was forwarded, or to
    /// which.
    pub fn pass(&mut self, session: Random, connection: (u64, i64), greeting: Greeting) -> Option<(u64, i64)> {
        self.journeys.get_or_default(&session).pass(connection, greeting)
    }
}
