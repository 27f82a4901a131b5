//! Programs whose TLS could not be looked into: nobody may take their silence for proof that they said nothing.

use agentsight_formats::record::socket_content::MOST_AFTER_HELLO;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Byte of a client's first record that says so: the type of the handshake message (RFC 8446, 4).
const MESSAGE_TYPE: usize = 5;
const CLIENT_HELLO: u8 = 1;

/// Compares the sockets on which TLS begins with the connections of which plaintext is seen.
#[derive(Default)]
pub(crate) struct Opaque {
    /// Sockets with a TLS hello, by id, until they are closed.
    sockets: HashMap<u64, Socket>,
    processes: BTreeMap<u32, Seen>,
    programs: BTreeMap<PathBuf, u64>,
}

struct Socket {
    tgid: u32,
    /// The direction in which the client's hello went, and its length.
    client: Option<(u16, u64)>,
    bound: bool,
}

#[derive(Default)]
struct Seen {
    /// Sockets that were closed, of which no connection is known, and over which more went than a handshake.
    closed: u64,
    /// Connections with plaintext whose socket is not known.
    connections: BTreeSet<u64>,
}

impl Opaque {
    /// A socket began to speak TLS in a direction. `data` is the beginning of the `len` bytes.
    pub(crate) fn hello(&mut self, tgid: u32, socket: u64, direction: u16, data: &[u8], len: u64) {
        let known = self.sockets.entry(socket).or_insert(Socket { tgid, client: None, bound: false });
        if data.get(MESSAGE_TYPE) == Some(&CLIENT_HELLO) {
            known.client = Some((direction, len));
        }
    }

    /// Plaintext of a connection was seen whose socket is not known.
    pub(crate) fn plaintext(&mut self, tgid: u32, connection: u64) {
        self.processes.entry(tgid).or_default().connections.insert(connection);
    }

    /// The socket of a connection is known.
    pub(crate) fn bound(&mut self, tgid: u32, connection: u64, socket: u64) {
        self.sockets.entry(socket).or_insert(Socket { tgid, client: None, bound: false }).bound = true;
        self.processes.entry(tgid).or_default().connections.remove(&connection);
    }

    /// A socket was closed after so many bytes, sent and received.
    pub(crate) fn closed(&mut self, socket: u64, bytes: [u64; 2]) {
        let Some(Socket { tgid, client, bound }) = self.sockets.remove(&socket) else { return };
        let spoke =
            client.is_none_or(|(direction, hello)| bytes[usize::from(direction & 1)] > hello + MOST_AFTER_HELLO);
        if spoke && !bound {
            self.processes.entry(tgid).or_default().closed += 1;
        }
    }

    /// A process ended, or became another program.
    pub(crate) fn ended(&mut self, tgid: u32, path: Option<&[u8]>) {
        let left = self.sockets.extract_if(|_, socket| socket.tgid == tgid).filter(|(_, socket)| !socket.bound).count();
        let seen = self.processes.remove(&tgid).unwrap_or_default();
        let unseen = (seen.closed + left as u64).saturating_sub(seen.connections.len() as u64);
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
    use agentsight_formats::record::direction::{RECEIVED, SENT};

    fn programs(fill: impl Fn(&mut Opaque)) -> Vec<(PathBuf, u64)> {
        let mut opaque = Opaque::default();
        fill(&mut opaque);
        opaque.ended(1, Some(b"/bin/agent"));
        opaque.programs()
    }

    /// Both hellos of a socket of a client.
    fn hellos(opaque: &mut Opaque, socket: u64) {
        opaque.hello(1, socket, SENT, &[22, 3, 1, 2, 0, CLIENT_HELLO], 500);
        opaque.hello(1, socket, RECEIVED, &[22, 3, 3, 2, 0, 2], 4000);
    }

    #[test]
    fn a_program_is_named_when_more_of_its_sockets_speak_tls_than_were_seen() {
        let named = vec![(PathBuf::from("/bin/agent"), 2)];
        assert_eq!(programs(|opaque| [7, 8].into_iter().for_each(|socket| hellos(opaque, socket))), named);
        let closed = programs(|opaque| {
            hellos(opaque, 7);
            opaque.closed(7, [700, 4000]);
            hellos(opaque, 8);
        });
        assert_eq!(closed, named);
    }

    #[test]
    fn a_program_that_says_nothing_after_its_handshake_is_not_named() {
        let refused = programs(|opaque| {
            hellos(opaque, 7);
            opaque.closed(7, [600, 4000]);
        });
        assert_eq!(refused, []);
    }

    #[test]
    fn a_program_whose_plaintext_is_seen_is_not_named() {
        let bound = programs(|opaque| {
            opaque.hello(1, 7, SENT, &[], 500);
            // Another process goes on with it, and the server's hello comes later.
            opaque.bound(2, 3, 7);
            hellos(opaque, 7);
        });
        assert_eq!(bound, []);
        let unbound = programs(|opaque| {
            hellos(opaque, 7);
            opaque.plaintext(1, 3);
        });
        assert_eq!(unbound, []);
    }
}
