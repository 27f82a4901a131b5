//! What has to be known before the records come in order: a TLS connection's socket is found after its first bytes, and the
//! process that reads a pipe shows itself after another has written. A first pass over the capture collects both, and where
//! records are missing; so the rows depend neither on when that was said nor on how the capture was cut into pieces.

use crate::holes::Holes;
use agentsight_formats::handshake::MOST_OF_CLIENT;
use agentsight_formats::record::{Body, Header, Record, Source, direction, kind, socket_op};
use agentsight_formats::{Error, Head, Item, Piece, Reader};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::io::{Read, Seek};

/// Bindings, uses of pipes and holders of them that are kept; those after them are not known, and counted.
const MAX_KEPT: usize = 1 << 20;

/// Holders of one pipe or socket that are looked at.
const MAX_COMPARED: usize = 256;

/// Who uses an end of a pipe or socket: the object, and whether by writing or by reading; when that began: time, CPU, sequence; and
/// the process.
type Use = ((u64, u16), (u64, u16, u32), u32);

#[derive(Default)]
pub(crate) struct Ahead {
    /// The socket of a TLS connection.
    sockets: HashMap<u64, u64>,
    /// Bytes that went through a socket until it was closed, sent and received, where they are more than a handshake's.
    sums: HashMap<u64, [u64; 2]>,
    uses: BTreeSet<Use>,
    /// Those that are known to use an end: what they transfer shows it, should the record that says so be lost.
    users: HashSet<((u64, u16), u32)>,
    /// The pipe or socket, who had it open when recording began, and as which descriptor.
    holders: BTreeSet<(u64, u32, i32)>,
    /// What could not be kept, by source.
    pub left_out: BTreeMap<&'static str, u64>,
    pub holes: Holes,
}

impl Ahead {
    /// Looks through a file.
    ///
    /// # Errors
    /// When the input cannot be read.
    pub fn read<R: Read + Seek>(&mut self, reader: &mut Reader<R>) -> Result<(), Error> {
        self.begin(reader.head());
        while let Some(item) = reader.next_item()? {
            let Item::Piece(piece) = item else { continue };
            self.piece(&piece);
        }
        Ok(())
    }

    /// A file begins.
    pub fn begin(&mut self, head: &Head) {
        self.holes.begin(head.metadata.part().map_or(1, |(_, part)| part));
    }

    /// Looks through a piece.
    pub fn piece(&mut self, piece: &Piece) {
        self.holes.lost(piece.drops());
        for record in piece.records().map_while(Result::ok) {
            self.holes.record(record.header);
            if is_wanted(record.header.kind.get()) {
                self.note(&record);
            }
        }
    }

    fn note(&mut self, record: &Record<'_>) {
        let header = record.header;
        let kept = match record.body() {
            Ok(Body::TlsBind(bind)) => {
                // Said again at the start of each segment.
                let known = self.sockets.contains_key(&bind.conn_id.get());
                let fits = known || self.sockets.len() < MAX_KEPT;
                if fits && !known {
                    self.sockets.insert(bind.conn_id.get(), bind.socket_id.get());
                }
                fits
            }
            Ok(Body::Socket { socket, .. }) => {
                let (id, sums) = (socket.socket_id.get(), [socket.sent.get(), socket.received.get()]);
                let many = socket.op.get() == socket_op::CLOSE && sums.iter().any(|sum| *sum > MOST_OF_CLIENT);
                !many || self.sums.len() < MAX_KEPT && self.sums.insert(id, sums).is_none()
            }
            Ok(Body::Endpoint(end)) => self.used((end.object.get(), end.direction.get()), header),
            Ok(Body::StdioData { stdio, .. }) => {
                let end = (stdio.object.get(), stdio.direction.get());
                self.users.contains(&(end, header.tgid.get())) || self.used(end, header)
            }
            Ok(Body::Descriptor { descriptor, target }) => inode(target)
                .is_none_or(|object| keep(&mut self.holders, (object, header.tgid.get(), descriptor.fd.get()))),
            _ => true,
        };
        if !kept && let Some(source) = Source::of_kind(header.kind.get()) {
            *self.left_out.entry(source.name()).or_default() += 1;
        }
    }

    /// A process uses an end. Returns whether that is kept.
    fn used(&mut self, end: (u64, u16), header: &Header) -> bool {
        let kept = keep(&mut self.uses, (end, place(header), header.tgid.get()));
        if kept {
            self.users.insert((end, header.tgid.get()));
        }
        kept
    }

    /// What the bytes of a connection are known by: its socket, else itself. Both are of one series of numbers.
    pub fn socket_of(&self, conn_id: u64) -> u64 {
        self.sockets.get(&conn_id).copied().unwrap_or(conn_id)
    }

    /// How many bytes go through a socket in all, as far as they are known and more than a handshake's.
    pub fn sums_of(&self, socket: u64) -> [u64; 2] {
        self.sums.get(&socket).copied().unwrap_or_default()
    }

    /// The process that uses an end of `object`, by writing or by reading, when the record of `header` is written: the last one
    /// before it, else the first one after it.
    pub fn user(&self, object: u64, way: u16, header: &Header) -> Option<u32> {
        let end = (object, way);
        let of_end = |found: &&Use| found.0 == end;
        let before = self.uses.range(..=(end, place(header), u32::MAX)).next_back().filter(of_end);
        let found = before.or_else(|| self.uses.range((end, place(header), 0)..).next().filter(of_end));
        found.map(|(_, _, tgid)| *tgid)
    }

    /// The one other process that had `object` open when recording began: as the standard stream that goes this way, or at all.
    pub fn holder(&self, object: u64, way: u16, me: u32) -> Option<u32> {
        let of_object = || self.holders.range((object, 0, i32::MIN)..=(object, u32::MAX, i32::MAX)).take(MAX_COMPARED);
        let others = || of_object().filter(|(_, tgid, _)| *tgid != me);
        let as_standard = |fd: i32| if way == direction::RECEIVED { fd == 0 } else { fd == 1 || fd == 2 };
        only(others().filter(|(_, _, fd)| as_standard(*fd))).or_else(|| only(others()))
    }
}

/// Adds one, if there is room. Returns whether it is there.
fn keep<T: Ord>(all: &mut BTreeSet<T>, one: T) -> bool {
    all.contains(&one) || all.len() < MAX_KEPT && all.insert(one)
}

fn is_wanted(kind: u16) -> bool {
    matches!(kind, kind::TLS_BIND | kind::SOCKET | kind::ENDPOINT | kind::STDIO_DATA | kind::DESCRIPTOR)
}

fn place(header: &Header) -> (u64, u16, u32) {
    (header.time.get(), header.cpu.get(), header.seq.get())
}

/// The process, if it is but one.
fn only<'a>(mut holders: impl Iterator<Item = &'a (u64, u32, i32)>) -> Option<u32> {
    let (_, first, _) = holders.next()?;
    holders.all(|(_, tgid, _)| tgid == first).then_some(*first)
}

/// The number in `pipe:[4711]` or `socket:[4711]`.
fn inode(target: &[u8]) -> Option<u64> {
    let rest = target.strip_prefix(b"pipe:[").or_else(|| target.strip_prefix(b"socket:["))?;
    std::str::from_utf8(rest.strip_suffix(b"]")?).ok()?.parse().ok()
}
