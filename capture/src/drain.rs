//! Copies records out of the ring, in batches, and does nothing else that takes time.

use crate::Error;
use crate::session::Event;
use agentsight_formats::record::{Body, Header, Record, kind, padded_len};
use libbpf_rs::{MapHandle, RingBufferBuilder};
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Sender, SyncSender};
use std::time::Duration;
use zerocopy::FromBytes;

/// Bytes of records that are handed over at once.
const BATCH: usize = 1 << 20;

/// The kernel side wakes us when much is waiting; this often we look anyway.
const INTERVAL: Duration = Duration::from_millis(100);

/// Drains the ring until `stop` is set and the ring is empty. The batches go to `records`; what the session has to act on
/// goes to `events`.
///
/// # Errors
/// When the ring cannot be mapped or polled.
pub(crate) fn run(
    ring: &MapHandle,
    stop: &AtomicBool,
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
        .add(ring, |record| {
            append(&mut batch.borrow_mut(), record, events);
            if batch.borrow().len() >= BATCH {
                hand_over();
            }
            0
        })
        .map_err(Error::Load)?;
    let ring = builder.build().map_err(Error::Load)?;
    loop {
        let last = stop.load(Ordering::Acquire);
        if last {
            ring.consume().map_err(Error::Load)?;
        } else if let Err(error) = ring.poll(INTERVAL)
            && error.kind() != libbpf_rs::ErrorKind::Interrupted
        {
            return Err(Error::Load(error));
        }
        if !batch.borrow().is_empty() {
            hand_over();
        }
        if last {
            return Ok(());
        }
        // What is below the wake-up mark when poll returns at its timeout.
        ring.consume().map_err(Error::Load)?;
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
