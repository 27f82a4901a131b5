//! The connections of a capture, from their first record to their row.
//!
//! A connection is known by its socket; TLS whose socket is never found stands for itself. Which socket that is, a first pass
//! over the capture has found out ([`Ahead`]): so all that is said of one connection meets here from its first byte on.

mod ending;

use crate::ahead::Ahead;
use crate::attempts::Attempts;
use crate::bounded::{Bounded, stale};
use crate::connection::{Connection, MAX_PROCESSES, PORT_DNS};
use crate::dns::Piece;
use crate::exchange::{Context, End, Exchange, Kind};
use crate::forwarding::Sessions;
use crate::holes::Spans;
use crate::http_rows;
use crate::memory::Memory;
use crate::output::Output;
use crate::processes::signed;
use crate::signals::{Asking, Ends, Posted};
use crate::streams::Finished;
use crate::table::Timestamp;
use crate::tables;
use crate::wanted::Wanted;
use agentsight_formats::record::{self, Header, direction, socket_op};
use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;

/// Connections that are followed at once, and bytes of memory that they take besides their exchanges. Were there more, those that
/// were not heard of for longest would end where they stand.
const MAX_OPEN: usize = 65_536;
const MAX_BYTES: usize = 96 << 20;

/// Closed connections whose number is remembered: that they were open may be said after it.
const MAX_CLOSED: usize = 65_536;

/// In nanoseconds.
const SECOND: i64 = 1_000_000_000;

/// An exchange that is done, with the process that had it.
pub(crate) struct Done {
    pub exchange: Exchange,
    pub proc_id: i64,
}

pub(crate) struct Connections {
    capture_id: String,
    /// By socket, or by the id of TLS whose socket is not known: both are of one series of numbers, which grow.
    open: BTreeMap<u64, Box<Connection>>,
    /// The connections that a process has a part in, and those among them with which it did something since its last exec.
    of_process: HashMap<u32, BTreeSet<u64>>,
    active: HashMap<u32, BTreeSet<u64>>,
    lingering: VecDeque<u64>,
    /// Those among them of which exchanges may be finished yet, with the time of their close.
    settling: VecDeque<(u64, Timestamp)>,
    closed: Bounded<u64, ()>,
    count: i64,
    heard: u64,
    /// What connections take besides their exchanges.
    room: Memory,
    /// Those that had to make room.
    pub given_up: u64,
    tls_rows: i64,
    http_ids: i64,
    pub attempts: Attempts,
    sessions: Sessions,
    memory: Memory,
    /// Where records are missing.
    pub holes: Spans,
    /// Exchanges that wait for the next stage.
    pub done: Vec<Done>,
}

impl Connections {
    pub fn new(capture_id: String) -> Self {
        Connections {
            capture_id,
            open: BTreeMap::new(),
            of_process: HashMap::new(),
            active: HashMap::new(),
            lingering: VecDeque::new(),
            settling: VecDeque::new(),
            closed: Bounded::new(MAX_CLOSED),
            count: 0,
            heard: 0,
            room: Memory::new(MAX_BYTES),
            given_up: 0,
            tls_rows: 0,
            http_ids: 0,
            attempts: Attempts::default(),
            sessions: Sessions::default(),
            memory: Memory::default(),
            holes: Spans::default(),
            done: Vec::new(),
        }
    }

    /// Takes a record of a socket. `name_of` tells the name behind an address.
    pub fn socket<'n>(
        &mut self,
        (socket, path): (&record::Socket, &[u8]),
        (proc_id, ts): (i64, Timestamp),
        name_of: impl FnOnce(i64, IpAddr) -> Option<&'n str>,
        wanted: &Wanted,
        output: &mut Output<'_>,
    ) {
        let key = socket.socket_id.get();
        let mut connection = self.take(key, socket.header.tgid.get(), (proc_id, ts));
        if socket.op.get() == socket_op::PEER {
            let new_peer = connection.peer((socket, path), ts, || number(&mut self.count));
            if let Some((peer, address)) = new_peer.filter(|_| socket.peer_port.get() != PORT_DNS) {
                connection.peers.looked_up(peer, name_of(connection.row.proc_id, address));
            }
            return self.put_back(key, connection, ts, wanted, output);
        }
        let new_peer = connection.socket(socket, path, ts);
        if output.wants(Ends::TABLE) {
            connection.ends(proc_id).iter().for_each(|ends| output.tell(ends));
        }
        // Of a connection that was accepted, the other end is no server; and a name server is not asked for its own name.
        let nameless = connection.row.role == Some("server") || socket.peer_port.get() == PORT_DNS;
        if let Some(address) = new_peer.filter(|_| !nameless) {
            connection.looked_up = name_of(connection.row.proc_id, address).map(str::to_owned);
        }
        if !matches!(socket.op.get(), socket_op::CLOSE | socket_op::REFUSED) {
            return self.put_back(key, connection, ts, wanted, output);
        }
        // What ends the TLS comes close to what ends the socket, and may be lost: nothing waits for it then.
        let near = (Timestamp(ts.0.saturating_sub(SECOND)), Timestamp(ts.0.saturating_add(SECOND)));
        let all = self.holes.meet(near);
        let totals = [socket.sent.get(), socket.received.get()];
        self.conversations(&mut connection, ts, wanted, output, |connection, context, done| {
            connection.reach(key, totals, ts, context, done);
            if all {
                connection.finish_all(ts, End::Closed, context, done)
            } else {
                connection.finish_socket(ts, context, done)
            }
        });
        if connection.has_streams() {
            self.settling.push_back((key, ts));
            self.linger(key, connection, ts, wanted, output);
        } else {
            self.end(key, connection, (ts, End::Capture), wanted, output);
        }
    }

    /// Takes the first bytes of TLS, or a datagram. Returns the address to which its socket is connected.
    pub fn socket_data(
        &mut self,
        (data, bytes): (&record::SocketData, &[u8]),
        (proc_id, ts): (i64, Timestamp),
        wanted: &Wanted,
        output: &mut Output<'_>,
    ) -> Option<String> {
        let key = data.socket_id.get();
        let tgid = data.header.tgid.get();
        let mut connection = self.take(key, tgid, (proc_id, ts));
        if data.content.get() != record::socket_content::TLS_HELLO {
            connection.datagram(data);
        } else if let Some((random, greeting)) = connection.hello(data, bytes)
            && let Some((other, conn_id)) = self.sessions.pass(random, (key, connection.row.conn_id), greeting)
        {
            connection.row.forwards_conn_id = Some(conn_id);
            let here = connection.row.conn_id;
            self.open.entry(other).and_modify(|other| other.row.forwards_conn_id = Some(here));
        }
        let connected = connection.row.role == Some("client");
        let peer = connection.row.peer_address.clone().filter(|_| connected);
        self.put_back(key, connection, ts, wanted, output);
        peer
    }

    /// Takes a piece of plaintext. Returns it where it is for others: what is said to a name server, and by it.
    pub fn data(
        &mut self,
        (header, tls, data): (&Header, &record::TlsData, &[u8]),
        (proc_id, ts): (i64, Timestamp),
        ahead: &Ahead,
        wanted: &Wanted,
        output: &mut Output<'_>,
    ) -> Option<Piece> {
        let key = ahead.socket_of(tls.conn_id.get());
        let tgid = header.tgid.get();
        let received = tls.direction.get() == direction::RECEIVED;
        let side = usize::from(received);
        let mut connection = self.take(key, tgid, (proc_id, ts));
        let placed = connection.place(tls, tgid, side, data.len());
        self.tls_rows += 1;
        if output.wants(tables::TlsData::TABLE) {
            let with_data = output.wants_column(tables::TlsData::TABLE, "data");
            output.row(&tables::TlsData {
                capture_id: self.capture_id.clone(),
                seq: self.tls_rows - 1,
                ts,
                proc_id,
                tid: header.tid.get().into(),
                conn_id: connection.row.conn_id,
                direction: if received { "received" } else { "sent" },
                stream_offset: signed(placed.offset),
                len: tls.len.get().into(),
                captured_len: data.len() as i64,
                data: if with_data { data.to_vec() } else { Vec::new() },
            });
        }
        if connection.is_dns(tls, data) {
            let server = connection.row.peer_address.clone();
            self.put_back(key, connection, ts, wanted, output);
            return Some(Piece { key, server, placed });
        }
        if wanted.http {
            let len = u64::from(tls.len.get());
            self.conversations(&mut connection, ts, wanted, output, |connection, context, done| {
                connection.carry((&placed, data, len), (tgid, proc_id, side, ts), context, done);
            });
        }
        self.put_back(key, connection, ts, wanted, output);
        None
    }

    /// A connection that was open when a segment started. That is said behind its end where that was still on its way to the file.
    pub fn snapshot(
        &mut self,
        record: &record::Connection,
        (proc_id, opened): (i64, Timestamp),
        ahead: &Ahead,
        wanted: &Wanted,
        output: &mut Output<'_>,
    ) {
        let (key, tgid) = (ahead.socket_of(record.conn_id.get()), record.header.tgid.get());
        if !self.open.contains_key(&key) && self.closed.get(&key).is_some() {
            return;
        }
        let mut connection = self.take(key, tgid, (proc_id, opened));
        connection.snapshot(record, tgid);
        self.put_back(key, connection, opened, wanted, output);
    }

    /// Takes out a connection to work on it; a new one if it is not known.
    fn take(&mut self, key: u64, tgid: u32, (proc_id, ts): (i64, Timestamp)) -> Box<Connection> {
        let mut connection = self.open.remove(&key).unwrap_or_else(|| {
            let row = tables::Connection {
                capture_id: self.capture_id.clone(),
                conn_id: number(&mut self.count),
                proc_id,
                opened_at: ts,
                ..tables::Connection::default()
            };
            Box::new(Connection::new(row, self.room.share()))
        });
        self.heard += 1;
        connection.heard = self.heard;
        for (known, of) in
            [(&mut connection.processes, &mut self.of_process), (&mut connection.active, &mut self.active)]
        {
            if known.len() < MAX_PROCESSES && !known.contains(&tgid) {
                known.push(tgid);
                of.entry(tgid).or_default().insert(key);
            }
        }
        connection
    }

    /// Puts a connection back that was worked on. Half of the others end if there is no room for it.
    fn put_back(
        &mut self,
        key: u64,
        mut connection: Box<Connection>,
        ts: Timestamp,
        wanted: &Wanted,
        output: &mut Output<'_>,
    ) {
        if (!connection.fits() || self.open.len() >= MAX_OPEN)
            && let Some(stale) = stale(self.open.values().map(|connection| connection.heard))
        {
            let gone: Vec<_> = self.open.extract_if(.., |_, connection| connection.heard <= stale).collect();
            self.given_up += gone.len() as u64;
            gone.into_iter().for_each(|(key, connection)| self.end(key, connection, (ts, End::Limit), wanted, output));
        }
        self.open.insert(key, connection);
    }

    /// Lets a connection take something in, and makes rows of the exchanges that are done thereby.
    fn conversations(
        &mut self,
        connection: &mut Connection,
        ts: Timestamp,
        wanted: &Wanted,
        output: &mut Output<'_>,
        work: impl FnOnce(&mut Connection, &mut Context<'_>, &mut Vec<Finished>),
    ) {
        let keep_bodies = wanted.bodies;
        let mut context = Context {
            next_http_id: &mut self.http_ids,
            keep_bodies,
            memory: &self.memory,
            proc_id: connection.row.proc_id,
            asking: Vec::new(),
            posted: Vec::new(),
        };
        let mut finished = Vec::new();
        work(connection, &mut context, &mut finished);
        for (http_id, proc_id) in context.asking {
            output.tell(&Asking { http_id, proc_id });
        }
        for (http_id, proc_id) in context.posted {
            output.tell(&Posted { http_id, conn_id: connection.row.conn_id, proc_id });
        }
        for Finished { mut exchange, scheme, proc_id } in finished {
            connection.seen.get_or_insert("http/1.1");
            let half_unseen = connection.unseen() != [false; 2];
            exchange.unanswered(|from| half_unseen || self.holes.meet((from, ts)));
            if let (None, Some(head)) = (&connection.host, &exchange.request) {
                connection.host = head.host().map(|host| http_rows::without_port(host).to_owned());
            }
            if exchange.request.as_ref().is_some_and(|head| head.host().is_none()) {
                exchange.server_name = connection.server_name().map(str::to_owned);
            }
            if output.wants(tables::StreamEvent::TABLE) {
                http_rows::events(&self.capture_id, &exchange, output);
            }
            if exchange.kind == Kind::Whole {
                self.attempts.take(&mut exchange, proc_id);
            }
            if exchange.kind == Kind::Whole && output.wants(tables::Http::TABLE) {
                http_rows::exchange(&connection.row, (scheme, proc_id), &mut exchange, output);
            }
            self.done.push(Done { exchange, proc_id });
        }
    }
}

/// The number of another connection.
fn number(count: &mut i64) -> i64 {
    *count += 1;
    *count
}
