//! TLS that processes forward: the hello of a session is received on one socket and sent on another, by the same process or by
//! two (`nc | nc`). Neither is an end of the session, so that nobody expects its plaintext there.

use crate::record::{SocketData, direction, family};

/// Sockets on which one session is followed; there are two for each who forwards it, and one at each of its ends.
const MAX_PASSED: usize = 16;

/// Tells inodes from ports.
const INODE: u64 = 1 << 63;

/// A client's hello as it passed a socket of a process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Greeting {
    pub tgid: u32,
    pub received: bool,
    pub time: u64,
    /// What tells this end of the connection and the other one from those of others; 0 where that is not known.
    pub here: u64,
    pub there: u64,
}

impl Greeting {
    /// As a record tells of it, with the ports of its socket, this one's and the peer's; 0 where they are not known.
    pub fn new(data: &SocketData, (local_port, peer_port): (u16, u16)) -> Self {
        let (here, there) = if data.family.get() == family::UNIX {
            let (here, there) = data.peer.split_at(8);
            (inode(here), inode(there))
        } else {
            (local_port.into(), peer_port.into())
        };
        let received = data.direction.get() == direction::RECEIVED;
        Greeting { tgid: data.header.tgid.get(), received, time: data.header.time.get(), here, there }
    }

    /// Whether one who passed a hello on two sockets forwards it from one to the other: it was received before it was sent, and
    /// not from there. Of a connection whose ends are both recorded, one sends the hello and the other receives it as well.
    fn is_forwarded(self, other: Greeting) -> bool {
        let (received, sent) = if self.received { (self, other) } else { (other, self) };
        let same_connection = sent.here != 0 && sent.here == received.there;
        received.received && !sent.received && received.time < sent.time && !same_connection
    }
}

fn inode(bytes: &[u8]) -> u64 {
    let number = bytes.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
    if number == 0 { 0 } else { number | INODE }
}

/// The hello of one session, on its way. `S` names a socket.
#[derive(Clone, Debug)]
pub struct Journey<S> {
    passed: Vec<Passed<S>>,
}

#[derive(Clone, Debug)]
struct Passed<S> {
    socket: S,
    greeting: Greeting,
    forwarded: bool,
}

impl<S> Default for Journey<S> {
    fn default() -> Self {
        Journey { passed: Vec::new() }
    }
}

impl<S: Copy + PartialEq> Journey<S> {
    /// The hello passed a socket. Returns the one from which it was forwarded, or to which: one of the same process if there is
    /// any, else the one that it passed last.
    pub fn pass(&mut self, socket: S, greeting: Greeting) -> Option<S> {
        if self.passed.len() >= MAX_PASSED || self.passed.iter().any(|passed| passed.socket == socket) {
            return None;
        }
        let other = self
            .passed
            .iter_mut()
            .filter(|passed| !passed.forwarded && passed.greeting.is_forwarded(greeting))
            .max_by_key(|passed| (passed.greeting.tgid == greeting.tgid, passed.greeting.time));
        let other = other.map(|other| {
            other.forwarded = true;
            other.socket
        });
        self.passed.push(Passed { socket, greeting, forwarded: other.is_some() });
        other
    }

    /// The socket is gone.
    pub fn forget(&mut self, socket: S) {
        self.passed.retain(|passed| passed.socket != socket);
    }

    pub fn is_empty(&self) -> bool {
        self.passed.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use zerocopy::FromZeros;

    fn received(tgid: u32, time: u64, (here, there): (u64, u64)) -> Greeting {
        Greeting { tgid, received: true, time, here, there }
    }

    fn sent(tgid: u32, time: u64, ends: (u64, u64)) -> Greeting {
        Greeting { received: false, ..received(tgid, time, ends) }
    }

    #[test]
    fn a_hello_is_forwarded_by_who_receives_it_first_and_not_from_itself() {
        let (one, other) = (received(1, 5, (3128, 50_000)), sent(1, 6, (50_001, 443)));
        assert!(one.is_forwarded(other) && other.is_forwarded(one));
        assert!(received(1, 5, (3128, 0)).is_forwarded(sent(1, 6, (0, 0))));
        assert!(!one.is_forwarded(sent(1, 4, (50_001, 443))));
        assert!(!one.is_forwarded(sent(1, 6, (50_000, 443))));
        assert!(!one.is_forwarded(received(1, 6, (50_001, 443))));
    }

    #[test]
    fn two_processes_forward_what_one_receives_and_the_other_sends() {
        let mut journey = Journey::default();
        // The client and the server are recorded as well, and so is a proxy behind the two.
        let way = [
            sent(1, 1, (50_000, 3128)),
            received(2, 2, (3128, 50_000)),
            sent(3, 3, (50_001, 8443)),
            received(4, 4, (8443, 50_001)),
            sent(4, 5, (50_002, 443)),
            received(5, 6, (443, 50_002)),
        ];
        let forwarded: Vec<_> = (0..).zip(way).map(|(socket, greeting)| journey.pass(socket, greeting)).collect();
        assert_eq!(forwarded, [None, None, Some(1), None, Some(3), None]);
        assert_eq!(journey.pass(4, way[4]), None, "it is said again when a segment begins");
        (0..6).for_each(|socket| journey.forget(socket));
        assert!(journey.is_empty());
    }

    #[test]
    fn both_ends_of_a_local_socket_are_one_connection() {
        let greeting = |tgid: u32, time: u64, way: u16, inodes: [u64; 2]| {
            let mut data = SocketData::new_zeroed();
            (data.header.tgid, data.header.time) = (tgid.into(), time.into());
            (data.direction, data.family) = (way.into(), family::UNIX.into());
            data.peer = [inodes[0].to_le_bytes(), inodes[1].to_le_bytes()].concat().try_into().unwrap();
            Greeting::new(&data, (0, 0))
        };
        let mut journey = Journey::default();
        // The call that sent it may return after the other end has it.
        assert_eq!(journey.pass('b', greeting(2, 3, direction::RECEIVED, [71, 70])), None);
        assert_eq!(journey.pass('a', greeting(1, 4, direction::SENT, [70, 0])), None);
        assert_eq!(journey.pass('c', greeting(2, 5, direction::SENT, [72, 73])), Some('b'));
    }
}
