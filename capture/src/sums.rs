//! What went through the sockets and files that nobody has closed when recording ends: only the tables of the kernel side know.

use crate::kernel::Kernel;
use crate::procfs;
use agentsight_bpf::types::{open_file, peer, peers, socket_state};
use agentsight_formats::record::{self, Sums, direction, kind, sums_of};
use libbpf_rs::{MapCore, MapFlags};
use std::mem::offset_of;

/// Where a value has its id, and its sums of sent and received bytes.
type Fields = [usize; 3];

const SUM: usize = size_of::<u64>();
const OF_SOCKET: Fields = [
    offset_of!(socket_state, id),
    offset_of!(socket_state, bytes) + SUM * direction::SENT as usize,
    offset_of!(socket_state, bytes) + SUM * direction::RECEIVED as usize,
];
const OF_FILE: Fields = [offset_of!(open_file, id), offset_of!(open_file, written), offset_of!(open_file, read)];

/// Where the peers of a socket are, and in each of them its sums.
const PEERS: usize = offset_of!(peers, at);
const OF_PEER: [usize; 2] = [
    offset_of!(peer, bytes) + SUM * direction::SENT as usize,
    offset_of!(peer, bytes) + SUM * direction::RECEIVED as usize,
];

/// The records of them. Ask when nobody is recorded any more, and write them last: they hold what every record before them did.
pub(crate) fn of_what_is_open(kernel: &Kernel<'_>) -> Vec<u8> {
    let maps = &kernel.skel.maps;
    let sockets = numbers(&maps.sockets, OF_SOCKET).into_iter().map(|sums| (sums_of::SOCKET, sums));
    let files = numbers(&maps.open_files, OF_FILE).into_iter().map(|sums| (sums_of::FILE, sums));
    let peers = of_peers(&maps.peers_of).into_iter().map(|(number, sums)| (sums_of::PEER, number, sums));
    let others = sockets.chain(files).map(|(what, sums)| (what, 0, sums));
    let mut out = Vec::new();
    for (what, number, [id, sent, received]) in peers.chain(others) {
        let sums = Sums {
            header: procfs::header(kind::SUMS, 0),
            id: id.into(),
            sent: sent.into(),
            received: received.into(),
            what: what.into(),
            number: number.into(),
            reserved: [0.into(); 2],
        };
        record::append(&mut out, &sums, &[]);
    }
    out
}

/// The fields of every value, by id.
fn numbers(map: &impl MapCore, fields: Fields) -> Vec<[u64; 3]> {
    let values = map.keys().filter_map(|key| map.lookup(&key, MapFlags::ANY).ok().flatten());
    let mut all: Vec<_> = values.map(|value| fields.map(|at| number(&value, at))).collect();
    all.sort_unstable();
    all
}

/// The sums of every peer with which anything went, with its number.
fn of_peers(map: &impl MapCore) -> Vec<(u16, [u64; 3])> {
    let mut all = Vec::new();
    for key in map.keys() {
        let Some(value) = map.lookup(&key, MapFlags::ANY).ok().flatten() else { continue };
        let each = value.get(PEERS..).unwrap_or_default().chunks_exact(size_of::<peer>());
        let sums = (0..).zip(each).map(|(index, peer)| (index, OF_PEER.map(|at| number(peer, at))));
        let used = sums.filter(|(_, sums)| *sums != [0, 0]);
        all.extend(used.map(|(index, [sent, received])| (index, [number(&key, 0), sent, received])));
    }
    all.sort_unstable_by_key(|(index, [id, ..])| (*id, *index));
    all
}

fn number(value: &[u8], at: usize) -> u64 {
    value.get(at..at + SUM).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes)
}
