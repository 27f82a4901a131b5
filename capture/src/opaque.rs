//! Programs whose TLS could not be looked into: nobody may take their silence for proof that they said nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Compares the sockets on which TLS begins with the connections of which plaintext is seen.
#[derive(Default)]
pub(crate) struct Opaque {
    processes: BTreeMap<u32, Seen>,
    programs: BTreeMap<PathBuf, u64>,
}

#[derive(Default)]
struct Seen {
    /// Sockets with a TLS hello that no connection is known to use.
    sockets: BTreeSet<u64>,
    /// Connections with plaintext whose socket is not known.
    connections: BTreeSet<u64>,
}

impl Opaque {
    /// A socket began to speak TLS.
    pub(crate) fn hello(&mut self, tgid: u32, socket: u64) {
        self.processes.entry(tgid).or_default().sockets.insert(socket);
    }

    /// Plaintext of a connection was seen whose socket is not known.
    pub(crate) fn plaintext(&mut self, tgid: u32, connection: u64) {
        self.processes.entry(tgid).or_default().connections.insert(connection);
    }

    /// The socket of a connection is known.
    pub(crate) fn bound(&mut self, tgid: u32, connection: u64, socket: u64) {
        let seen = self.processes.entry(tgid).or_default();
        seen.sockets.remove(&socket);
        seen.connections.remove(&connection);
    }

    /// A process ended, or became another program.
    pub(crate) fn ended(&mut self, tgid: u32, path: Option<&[u8]>) {
        let Some(seen) = self.processes.remove(&tgid) else { return };
        let unseen = seen.sockets.len().saturating_sub(seen.connections.len()) as u64;
        if unseen > 0 {
            let path = PathBuf::from(OsStr::from_bytes(path.unwrap_or_default()));
            *self.programs.entry(path).or_default() += unseen;
        }
    }

    /// Executables of the processes that have ended, with the number of such connections.
    pub(crate) fn programs(self) -> Vec<(PathBuf, u64)> {
        self.programs.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs(fill: impl Fn(&mut Opaque)) -> Vec<(PathBuf, u64)> {
        let mut opaque = Opaque::default();
        fill(&mut opaque);
        opaque.ended(1, Some(b"/bin/agent"));
        opaque.programs()
    }

    #[test]
    fn a_program_is_named_when_more_of_its_sockets_speak_tls_than_were_seen() {
        let named = |count| vec![(PathBuf::from("/bin/agent"), count)];
        assert_eq!(programs(|opaque| [7, 8].map(|socket| opaque.hello(1, socket)).into_iter().collect()), named(2));
        // A hello goes both ways: one socket is one connection.
        assert_eq!(programs(|opaque| [7, 7].map(|socket| opaque.hello(1, socket)).into_iter().collect()), named(1));
    }

    #[test]
    fn a_program_whose_plaintext_is_seen_is_not_named() {
        let bound = programs(|opaque| {
            opaque.hello(1, 7);
            opaque.bound(1, 3, 7);
        });
        assert_eq!(bound, []);
        let unbound = programs(|opaque| {
            opaque.hello(1, 7);
            opaque.plaintext(1, 3);
        });
        assert_eq!(unbound, []);
    }
}
