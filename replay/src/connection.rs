//! One connection: what its socket says of it, and the streams of plaintext that go through it.
//!
//! Plaintext comes under ids of its own (raw ids): that of the socket itself where there is no TLS, of an object of the TLS
//! library, or of one direction where TLS is seen below its connections (AWS-LC, ring). What carries the HTTP of a connection
//! depends on it: two such directions are halves of one conversation; two objects of OpenSSL are two.

use crate::conversation::Conversation;
use crate::ends::{self, End as SocketEnd};
use crate::exchange::{Context, End};
use crate::hello;
use crate::memory::Share;
use crate::peers::Peers;
use crate::processes::{signed, text};
use crate::signals::Ends;
use crate::streams::{Carrier, Carrying, Finished, Placed, Raw};
use crate::table::Timestamp;
use crate::{errno, resolved, tables};
use agentsight_formats::forwarding::Greeting;
use agentsight_formats::handshake::{Handshake, Random};
use agentsight_formats::record::{self, CAPTURER_CPU, direction, family, ip_address, library, socket_op};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Kinds of sockets, by Linux's numbers: those of a stream, and those whose messages go one by one (SOCK_DGRAM, SOCK_RAW).
const STREAM: u16 = 1;
const MESSAGES: [u16; 2] = [2, 3];

pub(crate) const PORT_DNS: u16 = 53;

const LISTENER: &str = "listener";

/// Results of connect that are no failure: EINPROGRESS, EALREADY, EISCONN, EINTR.
const CONNECTING: [i32; 4] = [-115, -114, -106, -4];

/// Objects of a TLS library that may share a socket: it has one, or the next one before the last is freed. Of one that had to go
/// for others, what comes once more has bytes missing before it.
const MAX_CARRIERS: usize = 8;
const MAX_RAWS: usize = 64;

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

    fn raw(&mut self, raw_id: u64, tgid: u32, library: u16) -> &mut Raw {
        let plain = library == library::PLAIN;
        let of = match library {
            library::PLAIN => Carrying::Plain,
            library::AWS_LC | library::RING => Carrying::Halves,
            _ => Carrying::Object(raw_id),
        };
        self.row.plaintext_seen = true;
        self.row.tls_seen |= !plain;
        if !plain {
            self.row.tls_library = library::name(library).map(str::to_owned);
        }
        if self.raws.len() >= MAX_RAWS && !self.raws.contains_key(&raw_id) {
            self.raws.pop_first();
        }
        self.raws.entry(raw_id).or_insert(Raw { tgid, next: [0; 2], base: [None; 2], of })
    }

    /// Finds the place of a piece of plaintext, and counts it.
    pub fn place(&mut self, tls: &record::TlsData, tgid: u32, side: usize, captured: usize) -> Placed {
        let plaintext = self.plaintext[side];
        let raw = self.raw(tls.conn_id.get(), tgid, tls.library.get());
        let (offset, len) = (tls.stream_offset.get(), u64::from(tls.len.get()));
        let base = *raw.base[side].get_or_insert(plaintext.saturating_sub(raw.next[side]));
        let missing = offset.saturating_sub(raw.next[side]);
        // What comes late was taken for missing already.
        let late = raw.next[side].saturating_sub(offset);
        let before = raw.next[side];
        raw.next[side] = before.max(offset.saturating_add(len));
        let (advance, of) = (raw.next[side] - before, raw.of);
        self.plaintext[side] = plaintext.saturating_add(advance);
        let uncaptured = len.saturating_sub(captured as u64);
        self.row.gap_bytes = self.row.gap_bytes.saturating_add(signed(missing.saturating_add(uncaptured)));
        Placed { offset: base.saturating_add(offset), missing, late, of }
    }

    /// Whether this is what goes to a name server and comes from it, or to systemd-resolved. A first message is short, which letters
    /// say of none.
    pub fn is_dns(&mut self, tls: &record::TlsData, data: &[u8]) -> bool {
        let port = Some(i64::from(PORT_DNS));
        let named = self.row.peer_port == port || self.row.local_port == port;
        let resolved = self.row.peer_address.as_deref() == Some(resolved::SOCKET);
        let plain = tls.library.get() == library::PLAIN;
        let message = || data.first().is_none_or(|first| *first < b'A');
        plain && *self.names.get_or_insert_with(|| resolved || named && message())
    }

    /// Hands a piece on to what understands it; exchanges that are complete are appended to `done`.
    pub fn carry(
        &mut self,
        (placed, data, len): (&Placed, &[u8], u64),
        (tgid, proc_id, side, ts): (u32, i64, usize, Timestamp),
        context: &mut Context<'_>,
        done: &mut Vec<Finished>,
    ) {
        let of = placed.of;
        if self.carriers.len() > MAX_CARRIERS {
            let mut oldest = self.carriers.remove(0);
            let mut exchanges = Vec::new();
            oldest.http.finish(ts, End::Limit, context, &mut exchanges);
            done.extend(oldest.finished(exchanges));
        }
        let at = self.carriers.iter().position(|carrier| carrier.of == of).unwrap_or_else(|| {
            let agreed = self.chosen.as_deref() == Some("h2");
            let http = if agreed { Conversation::http2() } else { Conversation::default() };
            self.carriers.push(Carrier { of, tgid, proc_id, http });
            self.carriers.len() - 1
        });
        let Some(carrier) = self.carriers.get_mut(at) else { return };
        let (fresh, uncaptured) = (placed.fresh(data), placed.uncaptured(data, len));
        let mut exchanges = Vec::new();
        context.proc_id = carrier.proc_id;
        if placed.missing > 0 {
            carrier.http.gap(side, ts, placed.missing, context, &mut exchanges);
        }
        if !fresh.is_empty() {
            carrier.http.push(side, ts, fresh, context, &mut exchanges);
        }
        if uncaptured > 0 {
            carrier.http.gap(side, ts, uncaptured, context, &mut exchanges);
        }
        if carrier.http.is_http2() {
            self.seen = Some("h2");
        }
        done.extend(carrier.finished(exchanges));
    }

    /// So many bytes went through a raw id in all: what lacks at the end of its streams is missing.
    pub fn reach(
        &mut self,
        raw_id: u64,
        totals: [u64; 2],
        ts: Timestamp,
        context: &mut Context<'_>,
        done: &mut Vec<Finished>,
    ) {
        let Some(raw) = self.raws.get_mut(&raw_id) else { return };
        let mut carrier = self.carriers.iter_mut().find(|carrier| carrier.of == raw.of);
        // Of what only began as HTTP does, the rest was never to be recorded.
        if raw.of == Carrying::Plain && !carrier.as_ref().is_some_and(|carrier| carrier.http.is_certain()) {
            return;
        }
        let missing = [0, 1].map(|side| totals[side].saturating_sub(raw.next[side]));
        let mut exchanges = Vec::new();
        for (side, missing) in missing.into_iter().enumerate().filter(|(_, missing)| *missing > 0) {
            raw.next[side] = totals[side];
            self.plaintext[side] = self.plaintext[side].saturating_add(missing);
            self.row.gap_bytes = self.row.gap_bytes.saturating_add(signed(missing));
            if let Some(carrier) = &mut carrier {
                carrier.http.gap(side, ts, missing, context, &mut exchanges);
            }
        }
        if let Some(carrier) = carrier {
            done.extend(carrier.finished(exchanges));
        }
    }

    /// A raw id that was there when a segment started. Of one that is not known, everything before is missing.
    pub fn snapshot(&mut self, connection: &record::Connection, tgid: u32) {
        let raw_id = connection.conn_id.get();
        if self.raws.contains_key(&raw_id) {
            return;
        }
        let before = [connection.sent.get(), connection.received.get()];
        let raw = self.raw(raw_id, tgid, connection.library.get());
        raw.next = before;
        for (sum, before) in self.plaintext.iter_mut().zip(before) {
            *sum = sum.saturating_add(before);
        }
        let missing = signed(before[0].saturating_add(before[1]));
        self.row.gap_bytes = self.row.gap_bytes.saturating_add(missing);
    }

    /// Ends the conversations that match.
    fn finish(
        &mut self,
        matching: impl Fn(&Carrier) -> bool,
        (ts, end): (Timestamp, End),
        context: &mut Context<'_>,
        done: &mut Vec<Finished>,
    ) {
        for mut carrier in self.carriers.extract_if(.., |carrier| matching(carrier)) {
            let mut exchanges = Vec::new();
            carrier.http.finish(ts, end, context, &mut exchanges);
            done.extend(carrier.finished(exchanges));
        }
    }

    /// The object of the TLS library was freed.
    pub fn finish_object(&mut self, raw_id: u64, ts: Timestamp, context: &mut Context<'_>, done: &mut Vec<Finished>) {
        self.finish(|carrier| carrier.of == Carrying::Object(raw_id), (ts, End::Closed), context, done);
        self.raws.remove(&raw_id);
    }

    /// The socket was closed: the objects of a TLS library may still hold what it has received.
    pub fn finish_socket(&mut self, ts: Timestamp, context: &mut Context<'_>, done: &mut Vec<Finished>) {
        self.finish(|carrier| !matches!(carrier.of, Carrying::Object(_)), (ts, End::Closed), context, done);
    }

    /// The memory of a process is gone: it has exited, or become another program. Its sockets may go on, in that or in others:
    /// one reads a request, and another answers.
    pub fn finish_process(&mut self, tgid: u32, ts: Timestamp, context: &mut Context<'_>, done: &mut Vec<Finished>) {
        let gone = |of: Carrying, owner: u32| owner == tgid && of != Carrying::Plain;
        self.finish(|carrier| gone(carrier.of, carrier.tgid), (ts, End::Closed), context, done);
        self.raws.retain(|_, raw| !gone(raw.of, raw.tgid));
    }

    pub fn finish_all(&mut self, ts: Timestamp, end: End, context: &mut Context<'_>, done: &mut Vec<Finished>) {
        self.finish(|_| true, (ts, end), context, done);
    }

    /// Whether plaintext may still come.
    pub fn has_streams(&self) -> bool {
        !self.raws.is_empty()
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
