//! Programs whose TLS could not be looked into: nobody may take their silence for proof that they said nothing.

use crate::owned::Owned;
use agentsight_formats::forwarding::{Greeting, Journey};
use agentsight_formats::handshake::{Handshake, Random};
use agentsight_formats::record::SocketData;
use std::collections::{BTreeMap, HashMap};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Connections of TLS libraries whose sockets are remembered: not every library says when one is gone.
const MAX_BOUND: usize = 65536;

/// TLS connections of a program whose plaintext was not seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unseen {
    pub program: PathBuf,
    /// `sent` or `received` where the other direction was seen.
    pub direction: Option<&'static str>,
    pub connections: u64,
}

/// Compares the sockets on which TLS begins with the connections of which plaintext is seen.
#[derive(Default)]
pub(crate) struct Opaque {
    /// Sockets with a TLS hello, by id, until they are closed.
    sockets: HashMap<u64, Socket>,
    /// The sockets that the hello of a session has passed.
    sessions: HashMap<Random, Journey<u64>>,
    /// The socket of a connection of a TLS library.
    bound: Owned<u64, u64>,
    processes: BTreeMap<u32, Seen>,
    /// With the direction, if it is but one.
    programs: BTreeMap<(PathBuf, Option<usize>), u64>,
}

#[derive(Default)]
struct Socket {
    tgid: u32,
    handshake: Handshake,
    /// The session whose client's hello it has passed.
    session: Option<Random>,
    /// What others say is passed on.
    forwarded: bool,
    bound: bool,
    /// Whether plaintext was seen, sent and received.
    seen: [bool; 2],
}

#[derive(Default)]
struct Seen {
    /// Sockets that were closed, of which no connection is known, and over which more went than a handshake.
    closed: u64,
    /// Of those whose connection is known, those over which more went than a handshake in a direction that was not seen.
    half_closed: [u64; 2],
    /// Connections with plaintext whose socket is not known, with the directions.
    connections: BTreeMap<u64, [bool; 2]>,
}

impl Opaque {
    /// A socket with these ports began to speak TLS in a direction; `bytes` are the first.
    pub(crate) fn hello(&mut self, data: &SocketData, bytes: &[u8], ports: (u16, u16)) {
        let (tgid, id) = (data.header.tgid.get(), data.socket_id.get());
        let side = usize::from(data.direction.get() & 1);
        let socket = self.sockets.entry(id).or_insert(Socket { tgid, ..Socket::default() });
        let Some(random) = socket.handshake.hello(side, bytes, data.len.get().into()) else { return };
        socket.session = Some(random);
        let Some(other) = self.sessions.entry(random).or_default().pass(id, Greeting::new(data, ports)) else { return };
        for id in [id, other] {
            self.sockets.entry(id).and_modify(|socket| socket.forwarded = true);
        }
    }

    /// Plaintext of a connection was seen in a direction.
    pub(crate) fn plaintext(&mut self, tgid: u32, connection: u64, direction: u16) {
        let side = usize::from(direction & 1);
        let Some(socket) = self.bound.get_mut(connection) else {
            self.processes.entry(tgid).or_default().connections.entry(connection).or_default()[side] = true;
            return;
        };
        if let Some(socket) = self.sockets.get_mut(socket) {
            socket.seen[side] = true;
        }
    }

    /// The socket of a connection is known.
    pub(crate) fn bound(&mut self, tgid: u32, connection: u64, id: u64) {
        let before = self.processes.entry(tgid).or_default().connections.remove(&connection).unwrap_or_default();
        let socket = self.sockets.entry(id).or_insert(Socket { tgid, ..Socket::default() });
        socket.bound = true;
        socket.seen = [0, 1].map(|side| socket.seen[side] || before[side]);
        self.bound.insert(tgid, connection, id);
        if self.bound.len() > MAX_BOUND {
            self.bound.remove_first();
        }
    }

    /// A connection is gone, over which so many bytes of plaintext went, sent and received.
    pub(crate) fn unbound(&mut self, connection: u64, totals: [u64; 2]) {
        let socket = self.bound.get_mut(connection).and_then(|socket| self.sockets.get_mut(socket));
        if let Some(socket) = socket {
            socket.seen = [0, 1].map(|side| socket.seen[side] || totals[side] > 0);
        }
        self.bound.remove(connection);
    }

    /// A socket was closed after so many bytes, sent and received.
    pub(crate) fn closed(&mut self, id: u64, bytes: [u64; 2]) {
        let Some(socket) = self.sockets.remove(&id) else { return };
        forget(&mut self.sessions, id, &socket);
        if socket.forwarded {
            return;
        }
        let seen = self.processes.entry(socket.tgid).or_default();
        if !socket.bound {
            seen.closed += u64::from(!socket.handshake.is_all(bytes));
            return;
        }
        for side in [0, 1] {
            let unseen = !socket.seen[side] && socket.handshake.is_exceeded(side, bytes[side]);
            seen.half_closed[side] += u64::from(unseen);
        }
    }

    /// A process ended, or became another program.
    pub(crate) fn ended(&mut self, tgid: u32, path: Option<&[u8]>) {
        let mut left = 0;
        for (id, socket) in self.sockets.extract_if(|_, socket| socket.tgid == tgid) {
            forget(&mut self.sessions, id, &socket);
            left += u64::from(!socket.bound && !socket.forwarded);
        }
        self.bound.remove_all_of(tgid);
        let seen = self.processes.remove(&tgid).unwrap_or_default();
        let unseen = (seen.closed + left).saturating_sub(seen.connections.len() as u64);
        let elsewhere = |side: usize| seen.connections.values().filter(|seen| seen[side]).count() as u64;
        let [sent, received] = [0, 1].map(|side| seen.half_closed[side].saturating_sub(elsewhere(side)));
        let path = PathBuf::from(OsStr::from_bytes(path.unwrap_or_default()));
        for (side, count) in [(None, unseen), (Some(0), sent), (Some(1), received)] {
            if count > 0 {
                *self.programs.entry((path.clone(), side)).or_default() += count;
            }
        }
    }

    /// What was not seen of the processes that have ended.
    pub(crate) fn programs(self) -> Vec<Unseen> {
        let directions = ["sent", "received"];
        let unseen = |((program, side), connections): ((_, Option<usize>), _)| Unseen {
            program,
            direction: side.map(|side| directions[side & 1]),
            connections,
        };
        self.programs.into_iter().map(unseen).collect()
    }
}

/// A socket is gone, on which a hello was passed.
fn forget(sessions: &mut HashMap<Random, Journey<u64>>, id: u64, socket: &Socket) {
    let Some(session) = socket.session else { return };
    if let Some(journey) = sessions.get_mut(&session) {
        journey.forget(id);
        if journey.is_empty() {
            sessions.remove(&session);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentsight_formats::record::direction::{RECEIVED, SENT};
    use zerocopy::FromZeros;

    const PORTS: (u16, u16) = (50_000, 443);

    fn unseen(direction: Option<&'static str>, connections: u64) -> Vec<Unseen> {
        vec![Unseen { program: PathBuf::from("/bin/agent"), direction, connections }]
    }

    fn programs(fill: impl Fn(&mut Opaque)) -> Vec<Unseen> {
        let mut opaque = Opaque::default();
        fill(&mut opaque);
        opaque.ended(1, Some(b"/bin/agent"));
        opaque.programs()
    }

    fn hello(opaque: &mut Opaque, (id, direction): (u64, u16), bytes: &[u8], (time, ports): (u64, (u16, u16))) {
        let mut data = SocketData::new_zeroed();
        (data.header.tgid, data.header.time) = (1.into(), time.into());
        (data.socket_id, data.direction, data.len) = (id.into(), direction.into(), 500.into());
        opaque.hello(&data, bytes, ports);
    }

    /// A client's hello of the session of this number.
    fn client(session: u8) -> Vec<u8> {
        [&[22, 3, 1, 1, 0xef, 1, 0, 1, 0xeb, 3, 3][..], &[session; 32]].concat()
    }

    /// Both hellos of a socket of a client.
    fn hellos(opaque: &mut Opaque, id: u64) {
        hello(opaque, (id, SENT), &client(id as u8), (1, PORTS));
        hello(opaque, (id, RECEIVED), &[22, 3, 3, 2, 0, 2], (2, PORTS));
    }

    #[test]
    fn a_program_is_named_when_more_of_its_sockets_speak_tls_than_were_seen() {
        let named = unseen(None, 2);
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
    fn a_program_that_asks_little_and_gets_much_is_named() {
        let asked = programs(|opaque| {
            hellos(opaque, 7);
            opaque.closed(7, [541, 40_144]);
        });
        assert_eq!(asked, unseen(None, 1));
    }

    #[test]
    fn a_program_whose_plaintext_is_seen_is_not_named() {
        let bound = programs(|opaque| {
            hello(opaque, (7, SENT), &[], (1, PORTS));
            // Another process goes on with it, and the server's hello comes later.
            opaque.bound(2, 3, 7);
            hellos(opaque, 7);
        });
        assert_eq!(bound, []);
        let unbound = programs(|opaque| {
            hellos(opaque, 7);
            opaque.plaintext(1, 3, SENT);
        });
        assert_eq!(unbound, []);
    }

    #[test]
    fn a_program_of_which_one_direction_is_not_seen_is_named_with_it() {
        let seen = |direction: Option<u16>, late: bool, totals, bytes| {
            programs(|opaque| {
                hellos(opaque, 7);
                let say = |opaque: &mut Opaque| direction.into_iter().for_each(|way| opaque.plaintext(1, 3, way));
                opaque.plaintext(1, 3, RECEIVED);
                if !late {
                    say(opaque);
                }
                opaque.bound(1, 3, 7);
                if late {
                    say(opaque);
                }
                opaque.unbound(3, totals);
                opaque.closed(7, bytes);
            })
        };
        assert_eq!(seen(None, false, [0; 2], [21_742, 90_000]), unseen(Some("sent"), 1));
        // A client may show certificates, and only read then.
        assert_eq!(seen(None, false, [0; 2], [9000, 90_000]), []);
        // The records of what was sent may be lost.
        assert_eq!(seen(None, false, [20_000, 0], [21_742, 90_000]), []);
        assert_eq!(seen(Some(SENT), false, [0; 2], [21_742, 90_000]), []);
        assert_eq!(seen(Some(SENT), true, [0; 2], [21_742, 90_000]), []);
    }

    #[test]
    fn a_program_that_forwards_tls_is_not_named() {
        let forwarded = programs(|opaque| {
            hello(opaque, (7, RECEIVED), &client(5), (1, (3128, 50_000)));
            hello(opaque, (8, SENT), &client(5), (2, (50_001, 443)));
            opaque.closed(7, [50_000, 50_000]);
            // This one is open when the program ends.
            hello(opaque, (9, RECEIVED), &client(6), (3, (3128, 50_002)));
            hello(opaque, (10, SENT), &client(6), (4, (0, 0)));
            opaque.closed(10, [50_000, 50_000]);
        });
        assert_eq!(forwarded, []);
    }

    #[test]
    fn two_programs_that_forward_tls_between_them_are_not_named() {
        let mut opaque = Opaque::default();
        hello(&mut opaque, (7, RECEIVED), &client(5), (1, (3128, 50_000)));
        let mut data = SocketData::new_zeroed();
        (data.header.tgid, data.header.time) = (2.into(), 2.into());
        (data.socket_id, data.direction, data.len) = (8.into(), SENT.into(), 500.into());
        opaque.hello(&data, &client(5), (50_001, 443));
        [7, 8].into_iter().for_each(|socket| opaque.closed(socket, [50_000, 50_000]));
        [1, 2].into_iter().for_each(|tgid| opaque.ended(tgid, Some(b"/bin/nc")));
        assert_eq!(opaque.programs(), []);
    }

    #[test]
    fn a_program_that_is_both_ends_of_tls_is_named() {
        let both = programs(|opaque| {
            // The end that receives may be told of first.
            hello(opaque, (7, RECEIVED), &client(5), (1, (443, 50_000)));
            hello(opaque, (8, SENT), &client(5), (2, PORTS));
        });
        assert_eq!(both, unseen(None, 2));
    }

    #[test]
    fn what_is_closed_is_forgotten() {
        let mut opaque = Opaque::default();
        hellos(&mut opaque, 7);
        opaque.bound(1, 3, 7);
        opaque.unbound(3, [0; 2]);
        opaque.closed(7, [0; 2]);
        assert!(opaque.sockets.is_empty() && opaque.sessions.is_empty() && opaque.bound.len() == 0);
    }
}
