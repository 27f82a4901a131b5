//! The table `dns`: questions to name servers with their answers, over UDP or TCP, and to systemd-resolved; and the names that
//! answers have given to addresses.

use crate::bounded::Bounded;
use crate::dns_message::{self, Answer, Message};
use crate::dns_stream::{Framed, Messages};
use crate::processes::signed;
use crate::resolved::{self, Objects};
use crate::streams::Placed;
use crate::table::Timestamp;
use crate::tables;
use agentsight_formats::record::{SocketData, TlsData, direction, ip_address};
use std::collections::VecDeque;
use std::net::IpAddr;

/// Questions that wait for an answer; more are given up, the oldest first.
const MAX_WAITING: usize = 4096;
/// Connections to name servers of which a part of a message is held.
const MAX_STREAMS: usize = 256;
/// Questions to systemd-resolved over one connection that wait for an answer.
const MAX_ASKED: usize = 64;
/// Addresses whose names are remembered.
const MAX_NAMES: usize = 65536;

/// Socket, id of the message, name and type.
type Key = (u64, u16, String, u16);

/// A message that a process sent or received.
struct Heard<'a> {
    socket: u64,
    received: bool,
    bytes: &'a [u8],
    cut: bool,
    server: Option<String>,
}

/// Bytes of a connection to a name server.
pub(crate) struct Piece {
    /// The socket.
    pub key: u64,
    pub server: Option<String>,
    pub placed: Placed,
}

/// A connection to systemd-resolved.
#[derive(Default)]
struct Resolved {
    /// Sent and received.
    sides: [Objects; 2],
    /// What was asked, in order; `None` of what is no question. Such a key has a count in place of a message's id.
    asked: VecDeque<Option<Key>>,
    count: u16,
}

pub(crate) struct Dns {
    capture_id: String,
    /// By socket.
    resolved: Bounded<u64, Resolved>,
    /// By socket and direction.
    streams: Bounded<(u64, u16), Messages>,
    /// When it was asked in nanoseconds of boot time, and its row.
    waiting: Bounded<Key, (u64, tables::Dns)>,
    /// The name behind an address, as a process was told last.
    names_of_process: Bounded<(i64, IpAddr), String>,
    /// As anybody was told; `None` if it has several.
    names: Bounded<IpAddr, Option<String>>,
}

impl Dns {
    pub fn new(capture_id: String) -> Self {
        Dns {
            capture_id,
            resolved: Bounded::new(MAX_STREAMS),
            streams: Bounded::new(MAX_STREAMS),
            waiting: Bounded::new(MAX_WAITING),
            names_of_process: Bounded::new(MAX_NAMES),
            names: Bounded::new(MAX_NAMES),
        }
    }

    /// Takes a datagram, of a socket that is connected to `peer`. Returns the row that is done: its own if it is an answer, or one that is given up.
    pub fn datagram(
        &mut self,
        (data, bytes, peer): (&SocketData, &[u8], Option<String>),
        proc_id: i64,
        when: (u64, Timestamp),
    ) -> Option<tables::Dns> {
        let heard = Heard {
            socket: data.socket_id.get(),
            received: data.direction.get() == direction::RECEIVED,
            bytes,
            cut: data.captured < data.len,
            server: server(data).or(peer),
        };
        self.message(heard, proc_id, when)
    }

    /// Takes bytes of a connection to a name server. Returns the rows that are done.
    pub fn stream(
        &mut self,
        (piece, tls, data): (&Piece, &TlsData, &[u8]),
        proc_id: i64,
        when: (u64, Timestamp),
    ) -> Vec<tables::Dns> {
        if piece.server.as_deref() == Some(resolved::SOCKET) {
            return self.resolved((piece, tls, data), proc_id, when);
        }
        let messages = self.streams.get_or_default(&(piece.key, tls.direction.get()));
        let mut found: Vec<Framed> = messages.gap(piece.placed.missing).into_iter().collect();
        found.extend(messages.push(piece.placed.fresh(data)));
        found.extend(messages.gap(piece.placed.uncaptured(data, tls.len.get().into())));
        let received = tls.direction.get() == direction::RECEIVED;
        let rows = found.iter().filter_map(|Framed { bytes, cut }| {
            let heard = Heard { socket: piece.key, received, bytes, cut: *cut, server: piece.server.clone() };
            self.message(heard, proc_id, when)
        });
        rows.collect()
    }

    /// A process that answers is a name server: what it is asked is the business of those who ask.
    fn message(&mut self, heard: Heard<'_>, proc_id: i64, (time, ts): (u64, Timestamp)) -> Option<tables::Dns> {
        let mut message = dns_message::parse(heard.bytes)?;
        message.truncated |= heard.cut;
        if message.response != heard.received {
            return None;
        }
        let (name, kind) = message.question.clone().unwrap_or_default();
        let key = (heard.socket, message.id, name.clone(), kind);
        if !message.response {
            let row = tables::Dns {
                capture_id: self.capture_id.clone(),
                ts,
                proc_id,
                query_name: name,
                query_type: dns_message::type_name(kind),
                server_address: heard.server,
                ..tables::Dns::default()
            };
            // Asked again, it is the same question.
            let known = self.waiting.get(&key).is_some();
            return if known { None } else { self.waiting.insert(key, (time, row)).map(|(_, row)| row) };
        }
        self.learn(proc_id, &name, &message);
        let asked = self.waiting.remove(&key);
        let duration_ns = asked.as_ref().map(|(asked, _)| signed(time.saturating_sub(*asked)));
        let row = asked.map_or_else(
            || tables::Dns {
                capture_id: self.capture_id.clone(),
                ts,
                proc_id,
                query_name: name,
                query_type: dns_message::type_name(kind),
                ..tables::Dns::default()
            },
            |(_, row)| row,
        );
        Some(tables::Dns {
            answers: message.answers.iter().map(Answer::text).collect(),
            response_code: Some(dns_message::code_name(message.response_code)),
            duration_ns,
            server_address: row.server_address.or(heard.server),
            truncated: message.truncated,
            ..row
        })
    }

    fn learn(&mut self, proc_id: i64, name: &str, message: &Message) {
        for answer in &message.answers {
            if let Answer::Address(address) = answer {
                self.learn_address(proc_id, name, *address);
            }
        }
    }

    fn learn_address(&mut self, proc_id: i64, name: &str, address: IpAddr) {
        let address = address.to_canonical();
        self.names_of_process.insert((proc_id, address), name.to_owned());
        let known = self.names.get(&address);
        let same = known.is_none_or(|known| known.as_deref() == Some(name));
        self.names.insert(address, same.then(|| name.to_owned()));
    }

    /// Takes bytes of a connection to systemd-resolved. Returns the rows that are done.
    fn resolved(
        &mut self,
        (piece, tls, data): (&Piece, &TlsData, &[u8]),
        proc_id: i64,
        (time, ts): (u64, Timestamp),
    ) -> Vec<tables::Dns> {
        let received = tls.direction.get() == direction::RECEIVED;
        let connection = self.resolved.get_or_default(&piece.key);
        let objects = &mut connection.sides[usize::from(received)];
        let whole = piece.placed.missing == 0 && piece.placed.late == 0;
        if !whole || piece.placed.uncaptured(data, tls.len.get().into()) > 0 {
            objects.lose();
        }
        let mut rows = Vec::new();
        let objects = objects.push(data);
        if !received {
            for call in objects.into_iter().map(Option::unwrap_or_default) {
                rows.extend(self.resolved_question(piece.key, &call, proc_id, (time, ts)));
            }
            return rows;
        }
        for reply in objects.into_iter().map(Option::unwrap_or_default) {
            // An answer of many parts is none to a question for a name.
            let key = self.resolved.get_mut(&piece.key).and_then(|connection| connection.asked.pop_front()).flatten();
            let Some((key, (asked, row))) = key.and_then(|key| self.waiting.remove(&key).map(|asked| (key, asked)))
            else {
                continue;
            };
            let reply = resolved::reply(&reply);
            reply.addresses.iter().for_each(|address| self.learn_address(proc_id, &key.2, *address));
            let name = reply.name.filter(|name| *name != key.2);
            rows.push(tables::Dns {
                answers: name.into_iter().chain(reply.addresses.iter().map(IpAddr::to_string)).collect(),
                response_code: Some(reply.code),
                duration_ns: Some(signed(time.saturating_sub(asked))),
                ..row
            });
        }
        rows
    }

    /// Takes a call of systemd-resolved. Returns the row that is given up for it.
    fn resolved_question(
        &mut self,
        socket: u64,
        call: &serde_json::Value,
        proc_id: i64,
        (time, ts): (u64, Timestamp),
    ) -> Option<tables::Dns> {
        let connection = self.resolved.get_mut(&socket)?;
        if connection.asked.len() >= MAX_ASKED {
            connection.sides.iter_mut().for_each(Objects::lose);
            return None;
        }
        connection.count = connection.count.wrapping_add(1);
        let question = resolved::question(call);
        let key = question.as_ref().map(|(name, _)| (socket, connection.count, name.clone(), 0));
        connection.asked.push_back(key.clone());
        let (query_name, kind) = question?;
        let query_type = kind.to_owned();
        let capture_id = self.capture_id.clone();
        let row = tables::Dns { capture_id, ts, proc_id, query_name, query_type, ..tables::Dns::default() };
        self.waiting.insert(key?, (time, row)).map(|(_, row)| row)
    }

    /// The name that an address was the last answer for to this process; else the only one that it was for to any.
    pub fn name_of(&self, proc_id: i64, address: IpAddr) -> Option<&str> {
        let own = self.names_of_process.get(&(proc_id, address)).map(String::as_str);
        own.or_else(|| self.names.get(&address)?.as_deref())
    }

    /// Questions that were not answered, in the order in which they were asked.
    pub fn finish(&mut self) -> impl Iterator<Item = tables::Dns> {
        std::iter::from_fn(|| self.waiting.pop_first().map(|(_, row)| row))
    }
}

/// The other end, where the call named it.
fn server(data: &SocketData) -> Option<String> {
    let address = ip_address(data.family.get(), &data.peer)?.to_canonical();
    (!address.is_unspecified()).then(|| address.to_string())
}
