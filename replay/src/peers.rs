//! The peers of a socket whose messages go one by one, each to whomever it names. Where it has several, each has a row of its own
//! among the connections, with what went to it and came from it.

use crate::ends::End;
use crate::processes::signed;
use crate::table::Timestamp;
use crate::tables;
use agentsight_formats::record::socket_op::OTHER_PEERS;
use std::collections::BTreeMap;

/// Peers to which a socket was connected that are remembered.
const MAX_CONNECTED: usize = 64;

/// Bytes of memory that a peer takes besides its names, about.
const OVERHEAD: usize = 192;

/// One of several peers.
struct Peer {
    conn_id: i64,
    opened_at: Timestamp,
    end: End,
    looked_up: Option<String>,
    bytes: [u64; 2],
    client: bool,
}

#[derive(Default)]
pub(crate) struct Peers {
    /// By the number that the kernel side gives them.
    several: BTreeMap<u16, Peer>,
    connected: Vec<(Option<String>, Option<i64>)>,
}

impl Peers {
    /// The socket was connected to this peer.
    pub fn connected(&mut self, end: &End) {
        let name = (end.address.clone(), end.port);
        let of_name = |peer: &&mut Peer| peer.end.address == end.address && peer.end.port == end.port;
        self.several.values_mut().filter(of_name).for_each(|peer| peer.client = true);
        if self.connected.len() < MAX_CONNECTED && !self.connected.contains(&name) {
            self.connected.push(name);
        }
    }

    /// So many bytes went with a peer so far. Returns whether it is known: else it is to be added.
    pub fn count(&mut self, number: u16, bytes: [u64; 2]) -> bool {
        let Some(peer) = self.several.get_mut(&number) else { return number > OTHER_PEERS };
        for (so_far, now) in peer.bytes.iter_mut().zip(bytes) {
            *so_far = (*so_far).max(now);
        }
        true
    }

    /// Another peer.
    pub fn add(&mut self, number: u16, (conn_id, opened_at): (i64, Timestamp), end: End, bytes: [u64; 2]) {
        let client = self.connected.contains(&(end.address.clone(), end.port)) && number != OTHER_PEERS;
        let peer = Peer { conn_id, opened_at, end, looked_up: None, bytes, client };
        self.several.entry(number).or_insert(peer);
    }

    /// The name behind a peer's address.
    pub fn looked_up(&mut self, number: u16, name: Option<&str>) {
        if let Some(peer) = self.several.get_mut(&number) {
            peer.looked_up = name.map(str::to_owned);
        }
    }

    /// How much memory they take, about.
    pub fn held(&self) -> usize {
        let text = |text: &Option<String>| text.as_ref().map_or(0, String::len);
        let of_peer = |peer: &Peer| OVERHEAD + text(&peer.end.address) + text(&peer.looked_up);
        let connected = self.connected.iter().map(|(address, _)| size_of::<End>() + text(address));
        self.several.values().map(of_peer).chain(connected).sum()
    }

    /// The rows of those with whom anything went; none if there were not several. `row` is that of the whole socket, which has the
    /// sums of all: what went with nobody of these is told as that of others, whose number `conn_id` makes if need be.
    pub fn into_rows(self, row: &tables::Connection, conn_id: impl FnOnce() -> i64) -> Vec<tables::Connection> {
        let mut rows: Vec<tables::Connection> = Vec::new();
        let all = row.bytes_sent.zip(row.bytes_received);
        let (mut sent_elsewhere, mut received_elsewhere) = all.unwrap_or_default();
        let several = !self.several.is_empty();
        for peer in self.several.into_values().filter(|peer| peer.bytes != [0, 0]) {
            let [sent, received] = peer.bytes.map(signed);
            sent_elsewhere = sent_elsewhere.saturating_sub(sent);
            received_elsewhere = received_elsewhere.saturating_sub(received);
            // Two that come to one peer first, at the same time, may have made two of it.
            let same = |row: &&mut tables::Connection| {
                row.peer_address.is_some() && row.peer_address == peer.end.address && row.peer_port == peer.end.port
            };
            if let Some(row) = rows.iter_mut().find(same) {
                row.bytes_sent = row.bytes_sent.map(|so_far| so_far.saturating_add(sent));
                row.bytes_received = row.bytes_received.map(|so_far| so_far.saturating_add(received));
                continue;
            }
            rows.push(tables::Connection {
                conn_id: peer.conn_id,
                opened_at: peer.opened_at,
                role: peer.client.then_some("client"),
                peer_address: peer.end.address,
                peer_port: peer.end.port,
                server_name: peer.looked_up,
                error: None,
                bytes_sent: all.map(|_| sent),
                bytes_received: all.map(|_| received),
                ..row.clone()
            });
        }
        if several && (sent_elsewhere > 0 || received_elsewhere > 0) {
            rows.push(tables::Connection {
                conn_id: conn_id(),
                role: None,
                peer_address: None,
                peer_port: None,
                server_name: None,
                error: None,
                bytes_sent: Some(sent_elsewhere),
                bytes_received: Some(received_elsewhere),
                ..row.clone()
            });
        }
        rows
    }
}
