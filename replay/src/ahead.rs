//! What has to be known before the records come in order: a TLS connection's socket is found after its first bytes, and the
//! process that reads a pipe shows itself after another has written. A first pass over the capture collects both; so the rows
//! depend neither on when that was said nor on how the capture was cut into pieces.

use agentsight_formats::record::{Body, Header, Record, direction, kind};
use agentsight_formats::{Error, Item, Piece, Reader};
use std::collections::HashMap;
use std::io::{Read, Seek};

/// Bindings, and uses of pipes, that are kept; those after them are not known.
const MAX_KEPT: usize = 1 << 20;

/// When a process began to use an end of a pipe or socket: time, CPU, sequence; and the process.
type Use = ((u64, u16, u32), u32);

#[derive(Default)]
pub(crate) struct Ahead {
    /// The socket of a TLS connection.
    sockets: HashMap<u64, u64>,
    /// Who uses an end (the object, and whether by writing or by reading).
    uses: HashMap<(u64, u16), Vec<Use>>,
    kept_uses: usize,
    /// Who had a pipe or socket open, and as which descriptor, when recording began.
    holders: HashMap<u64, Vec<(u32, i32)>>,
    kept_holders: usize,
}

impl Ahead {
    /// Looks through a file.
    ///
    /// # Errors
    /// When the input cannot be read.
    pub fn read<R: Read + Seek>(&mut self, reader: &mut Reader<R>) -> Result<(), Error> {
        if reader.tail()?.is_some_and(|tail| {
            let kinds = || tail.segments.iter().flat_map(|segment| segment.kinds.keys());
            !kinds().any(|kind| is_wanted(*kind))
        }) {
            return Ok(());
        }
        while let Some(item) = reader.next_item()? {
            let Item::Piece(piece) = item else { continue };
            self.piece(&piece);
        }
        Ok(())
    }

    /// Looks through a piece.
    pub fn piece(&mut self, piece: &Piece) {
        for record in piece.records().map_while(Result::ok).filter(|record| is_wanted(record.header.kind.get())) {
            self.note(&record);
        }
    }

    fn note(&mut self, record: &Record<'_>) {
        let header = record.header;
        match record.body() {
            Ok(Body::TlsBind(bind)) if self.sockets.len() < MAX_KEPT => {
                // Said again at the start of each segment.
                self.sockets.entry(bind.conn_id.get()).or_insert(bind.socket_id.get());
            }
            Ok(Body::Endpoint(end)) if self.kept_uses < MAX_KEPT => {
                self.kept_uses += 1;
                let uses = self.uses.entry((end.object.get(), end.direction.get())).or_default();
                uses.push((place(header), header.tgid.get()));
            }
            Ok(Body::Descriptor { descriptor, target }) if self.kept_holders < MAX_KEPT => {
                let Some(object) = inode(target) else { return };
                self.kept_holders += 1;
                self.holders.entry(object).or_default().push((header.tgid.get(), descriptor.fd.get()));
            }
            _ => {}
        }
    }

    /// To be called after the last file; of a capture that is still being written, after each piece.
    pub fn done(&mut self) {
        self.uses.values_mut().for_each(|uses| uses.sort_unstable());
    }

    /// What the bytes of a connection are known by: its socket, else itself. Both are of one series of numbers.
    pub fn socket_of(&self, conn_id: u64) -> u64 {
        self.sockets.get(&conn_id).copied().unwrap_or(conn_id)
    }

    /// The process that uses an end of `object`, by writing or by reading, when the record of `header` is written: the last one
    /// before it, else the first one after it.
    pub fn user(&self, object: u64, way: u16, header: &Header) -> Option<u32> {
        let uses = self.uses.get(&(object, way))?;
        let after = uses.partition_point(|(at, _)| *at <= place(header));
        uses.get(after.saturating_sub(1)).map(|(_, tgid)| *tgid)
    }

    /// The one other process that had `object` open when recording began: as the standard stream that goes this way, or at all.
    pub fn holder(&self, object: u64, way: u16, me: u32) -> Option<u32> {
        let others = || self.holders.get(&object).into_iter().flatten().filter(|(tgid, _)| *tgid != me);
        let as_standard = |fd: i32| if way == direction::RECEIVED { fd == 0 } else { fd == 1 || fd == 2 };
        only(others().filter(|(_, fd)| as_standard(*fd))).or_else(|| only(others()))
    }
}

fn is_wanted(kind: u16) -> bool {
    matches!(kind, kind::TLS_BIND | kind::ENDPOINT | kind::DESCRIPTOR)
}

fn place(header: &Header) -> (u64, u16, u32) {
    (header.time.get(), header.cpu.get(), header.seq.get())
}

/// The process, if it is but one.
fn only<'a>(mut holders: impl Iterator<Item = &'a (u32, i32)>) -> Option<u32> {
    let (first, _) = holders.next()?;
    holders.all(|(tgid, _)| tgid == first).then_some(*first)
}

/// The number in `pipe:[4711]` or `socket:[4711]`.
fn inode(target: &[u8]) -> Option<u64> {
    let rest = target.strip_prefix(b"pipe:[").or_else(|| target.strip_prefix(b"socket:["))?;
    std::str::from_utf8(rest.strip_suffix(b"]")?).ok()?.parse().ok()
}
