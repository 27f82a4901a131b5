//! Copies records out of the ring, in batches, and does nothing else that takes time.

use crate::Error;
use crate::kernel::{Ring, WakeFor};
use crate::session::Event;
use agentsight_formats::record::{Body, Header, Record, kind, padded_len};
use libbpf_rs::RingBufferBuilder;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::ffi::OsStr;
use std::io::PipeReader;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc::{Sender, SyncSender};
use zerocopy::FromBytes;

/// Bytes of records that are handed over at once.
const BATCH: usize = 1 << 20;

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
    let batch = std::cell::RefCell::new(Vec::with_capacity(BATCH + BATCH / 4));
    let hand_over = || {
        let full = batch.replace(Vec::with_capacity(BATCH + BATCH / 4));
        // Waits while the recorder is behind: the ring then fills, and what it cannot take is counted. A recorder that has
        // failed takes nothing more, and has said so.
        let _ = records.send(full);
    };
    let mut builder = RingBufferBuilder::new();
    builder
        .add(&ring.map, |record| {
            append(&mut batch.borrow_mut(), record, events);
            if batch.borrow().len() >= BATCH {
                hand_over();
            }
            0
        })
        .map_err(Error::Load)?;
    let buffer = builder.build().map_err(Error::Load)?;
    // SAFETY: the descriptor is the buffer's, which lives longer.
    let waiting = unsafe { BorrowedFd::borrow_raw(buffer.epoll_fd()) };
    let mut quiet = 0;
    loop {
        let (what, mut timeout) = match quiet {
            QUIET => (WakeFor::Any, PollTimeout::NONE),
            _ => (WakeFor::Much, PollTimeout::from(INTERVAL)),
        };
        ring.ask(what).map_err(Error::Load)?;
        if what == WakeFor::Any {
            // What came before that wakes nobody. Otherwise it waits for more, so that batches are large.
            buffer.consume().map_err(Error::Load)?;
            if !batch.borrow().is_empty() {
                timeout = PollTimeout::ZERO;
            }
        }
        let mut ready = [PollFd::new(waiting, PollFlags::POLLIN), PollFd::new(stop.as_fd(), PollFlags::POLLIN)];
        match poll(&mut ready, timeout) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(Error::system("wait for the ring")(errno)),
        }
        let stopped = ready[1].revents().is_some_and(|events| !events.is_empty());
        buffer.consume().map_err(Error::Load)?;
        quiet = if batch.borrow().is_empty() { (quiet + 1).min(QUIET) } else { 0 };
        if !batch.borrow().is_empty() {
            hand_over();
        }
        if stopped {
            return Ok(());
        }
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
