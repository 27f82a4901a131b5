//! Reads a BPF ring buffer (`BPF_MAP_TYPE_RINGBUF`; Documentation/bpf/ringbuf.rst of the kernel).
//!
//! libbpf's reader maps all of the buffer twice, one behind the other, so that no record is cut in two by its end. Here only its
//! start follows again, as much as a record may be long: the rest would count as memory of ours a second time.

use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Records are shorter.
const LONGEST: usize = 1 << 17;
/// Before each record stand its length, of which two bits say more, and a number that is the kernel's own.
const HEADER: usize = 8;
const BUSY: u32 = 1 << 31;
const DISCARDED: u32 = 1 << 30;
/// The kernel side is told after so much of the buffer, 1/8, that it has been read.
const TOLD_SHIFT: u32 = 3;

/// A mapped buffer, of which this is the only reader.
pub(crate) struct RingBuffer {
    consumer: Mapping,
    /// A page with the producers' position, and the records.
    producer: Mapping,
    page: usize,
    size: usize,
}

impl RingBuffer {
    /// Maps a buffer of `size` bytes, a power of 2.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn map(map: impl AsFd, size: usize, page: usize) -> io::Result<Self> {
        let consumer = Mapping::new(&map, 0, page, libc::PROT_READ | libc::PROT_WRITE)?;
        let producer = Mapping::new(&map, page, page + size + LONGEST.min(size), libc::PROT_READ)?;
        Ok(RingBuffer { consumer, producer, page, size })
    }

    /// Shows every record that is there, oldest first, those that come meanwhile too. Returns whether there is one more, which is
    /// still being written: nobody may tell of its end.
    ///
    /// # Errors
    /// When the buffer holds what no producer puts there.
    pub(crate) fn consume(&mut self, mut show: impl FnMut(&[u8])) -> io::Result<bool> {
        let mut told = self.consumer.position().load(Ordering::Relaxed);
        let mut position = told;
        loop {
            // What stands before the position was written before it.
            let end = self.producer.position().load(Ordering::Acquire);
            while position < end {
                let at = self.page + (position as usize & (self.size - 1));
                let length = self.producer.length_at(at).load(Ordering::Acquire);
                if length & BUSY != 0 {
                    // What comes after it waits for it.
                    self.consumer.position().store(position, Ordering::Release);
                    return Ok(true);
                }
                let bytes = (length & !DISCARDED) as usize;
                if length & DISCARDED == 0 {
                    let record = self.producer.record(at + HEADER, bytes);
                    show(record.ok_or_else(|| io::Error::other(format!("the ring holds a record of {bytes} bytes")))?);
                }
                position += (HEADER + bytes).next_multiple_of(HEADER) as u64;
                if position - told >= self.size as u64 >> TOLD_SHIFT {
                    self.consumer.position().store(position, Ordering::Release);
                    told = position;
                }
            }
            self.consumer.position().store(position, Ordering::Release);
            told = position;
            if self.producer.position().load(Ordering::Acquire) == end {
                return Ok(false);
            }
        }
    }
}

/// Shared memory of a map.
struct Mapping {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the mapping belongs to no thread.
unsafe impl Send for Mapping {}

impl Mapping {
    fn new(map: &impl AsFd, offset: usize, len: usize, protection: libc::c_int) -> io::Result<Mapping> {
        let descriptor = map.as_fd().as_raw_fd();
        // SAFETY: a new mapping, at an address that the kernel chooses.
        let start = unsafe {
            libc::mmap(std::ptr::null_mut(), len, protection, libc::MAP_SHARED, descriptor, offset as libc::off_t)
        };
        match NonNull::new(start.cast()).filter(|_| start != libc::MAP_FAILED) {
            Some(start) => Ok(Mapping { start, len }),
            None => Err(io::Error::last_os_error()),
        }
    }

    /// The position at the start of the consumer's and of the producers' page.
    fn position(&self) -> &AtomicU64 {
        // SAFETY: it is mapped, page-aligned, as long as `self`; whoever else writes it does so in one piece.
        unsafe { AtomicU64::from_ptr(self.start.as_ptr().cast()) }
    }

    /// The length before a record; positions are multiples of 8.
    fn length_at(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(HEADER) && at + HEADER <= self.len);
        // SAFETY: within the mapping, and aligned.
        unsafe { AtomicU32::from_ptr(self.start.as_ptr().add(at).cast()) }
    }

    /// A record whose producer has ended: until the consumer's position is behind it nobody writes there. `None` where it is not in
    /// the mapping.
    fn record(&self, at: usize, len: usize) -> Option<&[u8]> {
        (at.checked_add(len)? <= self.len).then_some(())?;
        // SAFETY: within the mapping.
        Some(unsafe { std::slice::from_raw_parts(self.start.as_ptr().add(at), len) })
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: nobody else knows of this mapping.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
