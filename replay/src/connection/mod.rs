//! One connection: what its socket says of it, and the streams of plaintext that go through it.

mod plaintext;

use crate::ends::{self, End as SocketEnd};
use crate::hello;
use crate::memory::Share;
use crate::peers::Peers;
use crate::processes::{signed, text};
use crate::signals::Ends;
use crate::streams::{Carrier, Raw};
use crate::table::Timestamp;
use crate::{errno, tables};
use agentsight_formats::forwarding::Greeting;
use agentsight_formats::handshake::{Handshake, Random};
use agentsight_formats::record::{self, CAPTURER_CPU, direction, family, ip_address, socket_op};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Kinds of sockets, by Linux's numbers: those of a stream, and those whose messages go one by one (SOCK_DGRAM, SOCK_RAW).
const STREAM: u16 = 1;
const MESSAGES: [u16; 2] = [2, 3];

pub(crate) const PORT_DNS: u16 = 53;

const LISTENER: &str = "listener";

/// Results of connect that are no failure: EINPROGRESS, EALREADY, EISCONN, EINTR.
const CONNECTING: [i32; 4] = [-115, -114, -106, -4];

/// Bytes of memory that a connection takes besides itself and its names, and each of its raw ids and processes, about.
const OVERHEAD: usize = 512;
const OVERHEAD_EACH: usize = 128;

/// Processes of a connection that are known; it is closed when the first of them ends.
pub(crate) const MAX_PROCESSES: usize = 256;

#[derive(Default)]
pub(crate) struct Connection {
    pub row: tables::Connection,
    /// Those that had a part in it, the one that opened it first.
    pub processes: Vec<u32>,
    /// Those that did something with it since they became the program that they are.
    pub active: Vec<u32>,
    raws: BTreeMap<u64, Raw>,
    carriers: Vec<Carrier>,
    /// Counts what was heard of any.
    pub heard: u64,
    held: Share,
    /// Its socket was seen; and its end, which says how much went through it.
    pub has_socket: bool,
    summed: bool,
    /// It was open when recording ended, and how much had gone through it was told.
    left_open: bool,
    stream_socket: bool,
    messages: bool,
    /// Bytes went through it; it was connected, accepted or listens; it has an address (or was refused one) at which others may
    /// find it. A socket of which nothing of that is known is no connection.
    used: bool,
    opened: bool,
    bound: bool,
    pub peers: Peers,
    socket_bytes: [u64; 2],
    /// What they will be when it is closed, as far as that is known.
    pub sums: [u64; 2],
    plaintext: [u64; 2],
    server_asked_for: Option<String>,
    pub host: Option<String>,
    pub looked_up: Option<String>,
    offered: Vec<String>,
    chosen: Option<String>,
    pub seen: Option<&'static str>,
    /// Whether its plaintext is DNS; known from the first piece on.
    names: Option<bool>,
    /// What was said of its ends.
    told: Option<Ends>,
    handshake: Handshake,
}

impl Connection {
    pub fn new(row: tables::Connection, held: Share) -> Self {
        Connection { row, held, ..Connection::default() }
    }

    /// Whether there is room for what it holds now, besides its exchanges.
    pub fn fits(&mut self) -> bool {
        let carriers = self.carriers.iter().map(|carrier| size_of::<Carrier>() + carrier.http.held());
        let each = self.raws.len() + self.processes.len() + self.active.len();
        let row = &self.row;
        let names = [&row.local_address, &row.peer_address, &self.server_asked_for, &self.host, &self.looked_up];
        let names = names.into_iter().flatten().chain(&self.offered).map(|name| size_of::<String>() + name.len());
        let all = names.chain(carriers).sum::<usize>() + self.peers.held();
        self.held.hold(size_of::<Connection>() + OVERHEAD + each * OVERHEAD_EACH + all)
    }

    /// Takes what was said of its socket. Returns the peer's address where it is new.
    pub fn socket(&mut self, socket: &record::Socket, path: &[u8], ts: Timestamp) -> Option<IpAddr> {
        let op = socket.op.get();
        self.has_socket = true;
        self.stream_socket = socket.socket_type.get() == STREAM;
        self.messages = MESSAGES.contains(&socket.socket_type.get());
        self.row.transport = ends::transport(socket);
        let snapshot = socket.header.cpu.get() == CAPTURER_CPU;
        match op {
            socket_op::CONNECT => {
                let failed = socket.result.get() < 0 && !CONNECTING.contains(&socket.result.get());
                self.opened |= self.stream_socket || socket.family.get() == family::UNIX;
                self.row.error = if failed { errno::name(socket.result.get()) } else { None };
                self.row.role = Some("client");
            }
            socket_op::ACCEPT => {
                self.opened = true;
                self.row.role = Some("server");
            }
            socket_op::BIND => {
                self.row.error = errno::name(socket.result.get());
                self.bound = self.messages || self.row.error.is_some();
            }
            socket_op::LISTEN => {
                self.row.error = errno::name(socket.result.get());
                self.opened = true;
                if self.row.role.replace(LISTENER) != Some(LISTENER) {
                    self.row.opened_at = ts;
                }
            }
            socket_op::CLOSE => {
                self.row.closed_at = Some(ts);
                if socket.result.get() < 0 {
                    self.row.error = errno::name(socket.result.get());
                }
                self.summed = true;
            }
            socket_op::REFUSED => {
                self.opened = true;
                self.row.error = errno::name(socket.result.get());
                self.row.closed_at = Some(ts);
            }
            // The capturer says so of any socket that is open when a segment starts.
            socket_op::USE => self.used |= !snapshot,
            _ => {}
        }
        self.count([socket.sent.get(), socket.received.get()]);
        if socket.family.get() == family::UNIX && !path.is_empty() {
            let name = local_name(path);
            match op {
                socket_op::BIND | socket_op::ACCEPT | socket_op::LISTEN => self.row.local_address = Some(name),
                _ => self.row.peer_address = Some(name),
            }
        }
        let new_peer = self.addresses(socket);
        if self.messages && op == socket_op::CONNECT {
            let address = self.row.peer_address.clone();
            self.peers.connected(&SocketEnd { address, port: self.row.peer_port, ip: None });
        }
        new_peer
    }

    /// Takes what was said of one of several peers. Returns the address of a new one.
    pub fn peer(
        &mut self,
        (socket, path): (&record::Socket, &[u8]),
        ts: Timestamp,
        conn_id: impl FnOnce() -> i64,
    ) -> Option<(u16, IpAddr)> {
        (self.has_socket, self.messages) = (true, true);
        self.row.transport = ends::transport(socket);
        self.local(socket);
        let number = u16::try_from(socket.result.get()).ok()?;
        let bytes = [socket.sent.get(), socket.received.get()];
        self.count(bytes);
        if self.peers.count(number, bytes) {
            return None;
        }
        let mut end = ends::peer(socket);
        if socket.family.get() == family::UNIX {
            // Of the first the socket's own records have told.
            let first = self.row.peer_address.clone().filter(|_| number == 0);
            end.address = if path.is_empty() { first } else { Some(local_name(path)) };
        }
        let begun = if number == 0 { (self.row.conn_id, self.row.opened_at) } else { (conn_id(), ts) };
        let ip = end.ip;
        self.peers.add(number, begun, end, bytes);
        ip.map(|ip| (number, ip))
    }

    /// So many bytes went through the socket so far, sent and received.
    fn count(&mut self, bytes: [u64; 2]) {
        self.used |= bytes != [0, 0];
        for (so_far, now) in self.socket_bytes.iter_mut().zip(bytes) {
            *so_far = (*so_far).max(now);
        }
    }

    /// The socket was open when recording ended: if its process has exited, somebody else has it.
    pub fn stays_open(&mut self, bytes: [u64; 2]) {
        self.row.closed_at = None;
        self.left_open = true;
        self.count(bytes);
    }

    /// A socket that is closed or was refused has lost its addresses: what was said before stays.
    fn addresses(&mut self, socket: &record::Socket) -> Option<IpAddr> {
        self.local(socket);
        let peer = ends::peer(socket);
        let named = peer.address?;
        let new = self.row.peer_address.as_deref() != Some(&named);
        (self.row.peer_address, self.row.peer_port) = (Some(named), peer.port.or(self.row.peer_port));
        peer.ip.filter(|_| new)
    }

    fn local(&mut self, socket: &record::Socket) {
        let local = ends::local(socket);
        self.row.local_address = local.address.or(self.row.local_address.take());
        self.row.local_port = local.port.or(self.row.local_port);
    }

    /// The ends of a stream, where more is known of them than was said before.
    pub fn ends(&mut self, proc_id: i64) -> Option<Ends> {
        let end = |address: &Option<String>, port: Option<i64>| Some(format!("{} {}", address.as_ref()?, port?));
        let local = end(&self.row.local_address, self.row.local_port)?;
        let peer = end(&self.row.peer_address, self.row.peer_port)?;
        let ends = Ends { conn_id: self.row.conn_id, proc_id, role: self.row.role, local, peer };
        let new = self.stream_socket && self.told.as_ref() != Some(&ends);
        new.then(|| self.told.insert(ends).clone())
    }

    /// A datagram went through it, to or from this end where the socket itself is not connected.
    pub fn datagram(&mut self, data: &record::SocketData) {
        self.used = true;
        if let (None, Some(peer)) = (&self.row.peer_address, ip_address(data.family.get(), &data.peer)) {
            self.row.peer_address = Some(peer.to_canonical().to_string());
            self.row.peer_port = Some(data.peer_port.get().into());
        }
    }

    /// The first bytes of TLS in a direction. Returns what names the session if they are the client's.
    pub fn hello(&mut self, data: &record::SocketData, bytes: &[u8]) -> Option<(Random, Greeting)> {
        let side = usize::from(data.direction.get() == direction::RECEIVED);
        self.row.tls_seen = true;
        match hello::parse(bytes) {
            Some(hello) if hello.client => {
                self.server_asked_for = hello.server_name.or(self.server_asked_for.take());
                self.offered = hello.alpn;
            }
            Some(hello) => self.chosen = hello.alpn.into_iter().next(),
            None => {}
        }
        let port = |port: Option<i64>| port.and_then(|port| u16::try_from(port).ok()).unwrap_or(0);
        let greeting = Greeting::new(data, (port(self.row.local_port), port(self.row.peer_port)));
        self.handshake.hello(side, bytes, data.len.get().into()).map(|random| (random, greeting))
    }

    /// Name of the server: as it was asked for in TLS, else in HTTP, else as it was looked up.
    pub fn server_name(&self) -> Option<&str> {
        [&self.server_asked_for, &self.host, &self.looked_up].into_iter().find_map(Option::as_deref)
    }

    /// Whether TLS carried more than its handshake, sent and received, of which no plaintext was seen. Who forwards it has none.
    pub fn unseen(&self) -> [bool; 2] {
        let row = &self.row;
        if !row.tls_seen || row.forwards_conn_id.is_some() {
            return [false; 2];
        }
        if !row.plaintext_seen {
            return [!(self.summed && self.handshake.is_all(self.socket_bytes)); 2];
        }
        [0, 1].map(|side| {
            let bytes = self.socket_bytes[side].max(self.sums[side]);
            self.plaintext[side] == 0 && self.handshake.is_exceeded(side, bytes)
        })
    }

    /// Whether it is more than a socket through which nothing went and that nobody can reach. The ends of a local pair are none
    /// either: of them neither has a name.
    fn is_connection(&self) -> bool {
        let row = &self.row;
        if row.transport.as_deref() == Some("unix") {
            return self.opened || self.bound || self.messages && self.used && row.peer_address.is_some();
        }
        let known_peer = self.stream_socket && row.peer_port.is_some();
        row.plaintext_seen || row.tls_seen || self.used || self.opened || self.bound || known_peer
    }

    /// Its rows: one, or of several peers one each. None of a socket that is no connection. `conn_id` makes another number.
    pub fn into_rows(mut self, conn_id: impl FnOnce() -> i64) -> Vec<tables::Connection> {
        if !self.is_connection() {
            return Vec::new();
        }
        let only_offer = if let [one] = &self.offered[..] { Some(one.clone()) } else { None };
        self.row.server_name = self.server_name().map(str::to_owned);
        self.row.alpn = self.chosen.or(self.seen.map(str::to_owned)).or(only_offer);
        let [sent, received] = self.plaintext;
        (self.row.plaintext_sent, self.row.plaintext_received) = (signed(sent), signed(received));
        let [socket_sent, socket_received] = self.socket_bytes;
        let known = self.summed || self.left_open || !self.has_socket;
        self.row.bytes_sent = known.then(|| signed(socket_sent.max(sent)));
        self.row.bytes_received = known.then(|| signed(socket_received.max(received)));
        let rows = std::mem::take(&mut self.peers).into_rows(&self.row, conn_id);
        if rows.is_empty() { vec![self.row] } else { rows }
    }
}

/// The name of a local socket. An abstract one starts with NUL, which is written as @.
fn local_name(path: &[u8]) -> String {
    text(path).replace('\0', "@")
}
