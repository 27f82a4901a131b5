//! What went through the sockets and files that nobody has closed when recording ends: only the tables of the kernel side know.

use crate::kernel::Kernel;
use crate::procfs;
use agentsight_bpf::types::{open_file, socket_state};
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

/// The records of them. Ask when nobody is recorded any more, and write them last: they hold what every record before them did.
pub(crate) fn of_what_is_open(kernel: &Kernel<'_>) -> Vec<u8> {
    let maps = &kernel.skel.maps;
    let sockets = numbers(&maps.sockets, OF_SOCKET).into_iter().map(|sums| (sums_of::SOCKET, sums));
    let files = numbers(&maps.open_files, OF_FILE).into_iter().map(|sums| (sums_of::FILE, sums));
    let mut out = Vec::new();
    for (what, [id, sent, received]) in sockets.chain(files) {
        let sums = Sums {
            header: procfs::header(kind::SUMS, 0),
            id: id.into(),
            sent: sent.into(),
            received: received.into(),
            what: what.into(),
            reserved: [0.into(); 3],
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

fn number(value: &[u8], at: usize) -> u64 {
    value.get(at..at + SUM).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_ne_bytes)
}
