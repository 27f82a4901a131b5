//! Copies records out of the ring, in batches, and does nothing else that takes time.

use crate::Error;
use crate::kernel::{self, Ring, WakeFor};
use crate::ringbuf::RingBuffer;
use crate::session::Event;
use agentsight_formats::record::{Body, Header, Record, kind, padded_len};
use libbpf_rs::MapCore;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::ffi::OsStr;
use std::io::PipeReader;
use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc::{Sender, SyncSender};
use zerocopy::FromBytes;

/// Bytes of records that are handed over at once.
const BATCH: usize = 1 << 20;
/// With the record that fills it.
const FULL: usize = BATCH + BATCH / 4;

/// The kernel side wakes us when much is waiting; this often, in milliseconds, we look anyway.
const INTERVAL: u16 = 100;

/// When nothing has come for so many of these, we sleep for as long as nothing comes.
const QUIET: u32 = 10;

/// Drains the ring until the other end of `stop` is closed and the ring is empty. The batches go to `records`; what the session
/// has to act on goes to `events`.
///
/// # Errors
/// When the ring cannot be mapped or polled.
pub(crate) fn run(
    ring: &Ring,
    stop: &PipeReader,
    records: &SyncSender<Vec<u8>>,
    events: &Sender<Event>,
) -> Result<(), Error> {
    let cannot_read = |source| Error::System { what: "read the ring", source };
    let cannot_wait = Error::system("wait for the ring");
    let size = ring.map.max_entries() as usize;
    let mut buffer = RingBuffer::map(&ring.map, size, kernel::page_size() as usize).map_err(cannot_read)?;
    // Of the ring only wake-ups are told, and not that there is something in it: batches would be small.
    let (from_ring, from_stop) = (0, 1);
    let waiting = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(cannot_wait)?;
    let wake_ups = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, from_ring);
    waiting.add(&ring.map, wake_ups).map_err(cannot_wait)?;
    waiting.add(stop, EpollEvent::new(EpollFlags::EPOLLIN, from_stop)).map_err(cannot_wait)?;
    let mut batch = Vec::with_capacity(FULL);
    let mut quiet = 0;
    loop {
        let (what, mut timeout) = match quiet {
            QUIET => (WakeFor::Any, EpollTimeout::NONE),
            _ => (WakeFor::Much, EpollTimeout::from(INTERVAL)),
        };
        ring.ask(what).map_err(Error::Load)?;
        if what == WakeFor::Any {
            // What came before that wakes nobody. Otherwise it waits for more, so that batches are large.
            take(&mut buffer, &mut batch, records, events).map_err(cannot_read)?;
            if !batch.is_empty() {
                timeout = EpollTimeout::ZERO;
            }
        }
        let mut ready = [EpollEvent::empty(); 2];
        let count = match waiting.wait(&mut ready, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(errno) => return Err(cannot_wait(errno)),
        };
        take(&mut buffer, &mut batch, records, events).map_err(cannot_read)?;
        quiet = if batch.is_empty() { (quiet + 1).min(QUIET) } else { 0 };
        hand_over(&mut batch, records);
        if ready[..count].iter().any(|event| event.data() == from_stop) {
            return Ok(());
        }
    }
}

/// Takes what is in the ring, and hands over what is full.
fn take(
    buffer: &mut RingBuffer,
    batch: &mut Vec<u8>,
    records: &SyncSender<Vec<u8>>,
    events: &Sender<Event>,
) -> std::io::Result<()> {
    buffer.consume(|record| {
        append(batch, record, events);
        if batch.len() >= BATCH {
            hand_over(batch, records);
        }
    })
}

/// Waits while the recorder is behind: the ring then fills, and what it cannot take is counted.
fn hand_over(batch: &mut Vec<u8>, records: &SyncSender<Vec<u8>>) {
    if !batch.is_empty() {
        // A recorder that has failed takes nothing more, and has said so.
        let _ = records.send(std::mem::replace(batch, Vec::with_capacity(FULL)));
    }
}

/// Keeps as much of a reservation as its record is long.
fn append(batch: &mut Vec<u8>, reserved: &[u8], events: &Sender<Event>) {
    let Ok((header, _)) = Header::ref_from_prefix(reserved) else { return };
    let len = header.len.get() as usize;
    let Some(record) = reserved.get(..len) else { return };
    let start = batch.len();
    batch.extend_from_slice(record);
    batch.resize(start + padded_len(len), 0);
    // A session that has ended acts on nothing more.
    let _ = match header.kind.get() {
        kind::EXEC => events.send(Event::Exec(header.tgid.get())),
        kind::EXIT => events.send(Event::Exit(header.tgid.get())),
        kind::ADOPT => events.send(Event::Adopt(header.tgid.get())),
        kind::MAP => match (Record { header, bytes: record }).body() {
            Ok(Body::Map { path, .. }) => {
                events.send(Event::Map(header.tgid.get(), OsStr::from_bytes(path).to_owned().into()))
            }
            _ => Ok(()),
        },
        _ => Ok(()),
    };
}
