//! Batches of records on their way to the recorder, and how far it is behind.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::Duration;

/// So many batches wait at most: with their size, the memory that a slow disk can take.
const MOST: usize = 8;
/// With so many bytes waiting the recorder is behind.
pub(crate) const MANY: u64 = 3 << 20;

/// Where batches are put in.
#[derive(Clone)]
pub(crate) struct Batches {
    channel: SyncSender<Vec<u8>>,
    pub backlog: Arc<Backlog>,
}

/// Where the recorder takes them out.
pub(crate) struct Queue {
    channel: Receiver<Vec<u8>>,
    backlog: Arc<Backlog>,
    taken: u64,
}

/// How far the recorder is behind, for other threads to look at.
#[derive(Debug, Default)]
pub(crate) struct Backlog {
    /// Bytes that were put in, and those that were taken out and dealt with.
    sent: AtomicU64,
    done: AtomicU64,
    /// The recorder's thread; 0 until it has begun, and after its end.
    thread: AtomicI32,
}

pub(crate) fn queue() -> (Batches, Queue) {
    let (sender, receiver) = sync_channel(MOST);
    let backlog = Arc::<Backlog>::default();
    (Batches { channel: sender, backlog: backlog.clone() }, Queue { channel: receiver, backlog, taken: 0 })
}

impl Batches {
    /// Waits while the recorder is far behind: the ring then fills, and what it cannot take is counted.
    pub(crate) fn send(&self, batch: Vec<u8>) {
        self.backlog.sent.fetch_add(batch.len() as u64, Ordering::Relaxed);
        // A recorder that has failed takes nothing more, and has said so.
        let _ = self.channel.send(batch);
    }
}

impl Queue {
    /// Tells that this thread is the recorder's.
    pub(crate) fn begin(&self) {
        self.backlog.thread.store(nix::unistd::gettid().as_raw(), Ordering::Relaxed);
    }

    /// The next batch; the one before it has been dealt with.
    ///
    /// # Errors
    /// When none came in time, or none can come any more.
    pub(crate) fn next(&mut self, timeout: Duration) -> Result<Vec<u8>, RecvTimeoutError> {
        self.backlog.done.store(self.taken, Ordering::Relaxed);
        let batch = self.channel.recv_timeout(timeout)?;
        self.taken += batch.len() as u64;
        Ok(batch)
    }

    /// Whether much has come meanwhile.
    pub(crate) fn is_behind(&self) -> bool {
        self.backlog.sent.load(Ordering::Relaxed) >= self.taken + MANY
    }
}

impl Drop for Queue {
    /// The thread ends, and its number may become somebody else's.
    fn drop(&mut self) {
        self.backlog.thread.store(0, Ordering::Relaxed);
    }
}

impl Backlog {
    /// Bytes that have been dealt with.
    pub(crate) fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// Bytes that have not, those that are at work among them.
    pub(crate) fn waiting(&self) -> u64 {
        self.sent.load(Ordering::Relaxed).saturating_sub(self.done())
    }

    /// The recorder's thread, while there is one.
    pub(crate) fn thread(&self) -> Option<i32> {
        Some(self.thread.load(Ordering::Relaxed)).filter(|thread| *thread != 0)
    }
}
