//! Copies records out of the ring, in batches, and does nothing else that takes time.

use crate::Error;
use crate::batches::Batches;
use crate::courtesy::Courtesy;
use crate::events::Event;
use crate::kernel::{self, Ring, WakeFor};
use crate::ringbuf::RingBuffer;
use agentsight_formats::record::{Body, Header, Record, kind, padded_len};
use libbpf_rs::MapCore;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use std::ffi::OsStr;
use std::io::PipeReader;
use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc::Sender;
use zerocopy::FromBytes;

/// Bytes of records that are handed over at once.
const BATCH: usize = 1 << 20;
/// With the record that fills it.
const FULL: usize = BATCH + BATCH / 4;

/// The kernel side wakes us when much is waiting; this often, in milliseconds, we look anyway.
const INTERVAL: u16 = 100;

/// When nothing has come for so many of these, we sleep for as long as nothing comes.
const QUIET: u32 = 10;

/// Drains the ring until the other end of `stop` is closed and the ring is empty.
///
/// # Errors
/// When the ring cannot be mapped or polled.
pub(crate) fn run(ring: &Ring, stop: &PipeReader, mut outlet: Outlet) -> Result<(), Error> {
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
    let mut quiet = 0;
    loop {
        let (what, mut timeout) = match quiet {
            QUIET => (WakeFor::Any, EpollTimeout::NONE),
            _ => (WakeFor::Much, EpollTimeout::from(INTERVAL)),
        };
        ring.ask(what).map_err(Error::Load)?;
        if what == WakeFor::Any {
            // What came before that wakes nobody. Otherwise it waits for more, so that batches are large.
            let more = buffer.consume(|record| outlet.append(record)).map_err(cannot_read)?;
            if more || !outlet.batch.is_empty() {
                timeout = EpollTimeout::ZERO;
            }
        }
        let mut ready = [EpollEvent::empty(); 2];
        let count = match waiting.wait(&mut ready, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(errno) => return Err(cannot_wait(errno)),
        };
        let more = buffer.consume(|record| outlet.append(record)).map_err(cannot_read)?;
        quiet = if outlet.batch.is_empty() { (quiet + 1).min(QUIET) } else { 0 };
        outlet.hand_over();
        if !more && ready[..count].iter().any(|event| event.data() == from_stop) {
            return Ok(());
        }
    }
}

/// Where records go: in batches to the recorder, and what the session has to act on to the session.
pub(crate) struct Outlet {
    batch: Vec<u8>,
    batches: Batches,
    courtesy: Courtesy,
    events: Sender<Event>,
}

impl Outlet {
    pub(crate) fn new(batches: Batches, courtesy: Courtesy, events: Sender<Event>) -> Self {
        Outlet { batch: Vec::with_capacity(FULL), batches, courtesy, events }
    }

    /// Hands over what there is, and sees how the recorder gets on.
    fn hand_over(&mut self) {
        self.courtesy.look();
        if !self.batch.is_empty() {
            self.batches.send(std::mem::replace(&mut self.batch, Vec::with_capacity(FULL)));
        }
    }

    /// Keeps as much of a reservation as its record is long.
    fn append(&mut self, reserved: &[u8]) {
        let Ok((header, _)) = Header::ref_from_prefix(reserved) else { return };
        let len = header.len.get() as usize;
        let Some(record) = reserved.get(..len) else { return };
        let start = self.batch.len();
        self.batch.extend_from_slice(record);
        self.batch.resize(start + padded_len(len), 0);
        let tgid = header.tgid.get();
        let event = match header.kind.get() {
            kind::EXEC => Some(Event::Exec(tgid)),
            kind::EXIT => Some(Event::Exit(tgid)),
            kind::ADOPT => Some(Event::Adopt(tgid)),
            kind::MAP => match (Record { header, bytes: record }).body() {
                Ok(Body::Map { path, .. }) => Some(Event::Map(tgid, OsStr::from_bytes(path).to_owned().into())),
                _ => None,
            },
            _ => None,
        };
        if let Some(event) = event {
            // A session that has ended acts on nothing more.
            let _ = self.events.send(event);
        }
        if self.batch.len() >= BATCH {
            self.hand_over();
        }
    }
}
