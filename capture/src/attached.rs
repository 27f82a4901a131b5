//! The probes that are attached, by the file that they are in, and how they come off when it is written to.
//!
//! The kernel keeps the instruction that it has replaced by a probe, and puts the same probe into whatever bytes the file has
//! when it is mapped again. A file that is written in place, as `cp` does, would be executed with instructions of its former
//! self: whoever runs it would crash, recorded or not. So the probes come off at the first byte that is written, and when the
//! writer is done the file is looked at again.
//!
//! That is a race with the writer, who may execute the file a millisecond later. A probe that comes off is not put into
//! programs any more at once, but to look for it in those that run takes the kernel 10 to 20 ms, in which it would not even begin
//! with the next probe: each is taken off by a thread of its own.

use crate::events::Event;
use crate::regular;
use libbpf_rs::Link;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};
use std::collections::HashMap;
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// A file of this machine: device and inode.
pub(crate) type FileId = (u64, u64);

/// What tells a file from another one that has its inode, and from what it was before somebody wrote to it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Stamp {
    /// Inode, name or bytes: seconds and nanoseconds.
    changed: (i64, i64),
    written: (i64, i64),
    size: u64,
}

impl Stamp {
    pub(crate) fn of(metadata: &Metadata) -> Stamp {
        Stamp {
            changed: (metadata.ctime(), metadata.ctime_nsec()),
            written: (metadata.mtime(), metadata.mtime_nsec()),
            size: metadata.len(),
        }
    }

    /// Whether nothing was written between the two.
    pub(crate) fn same_bytes(&self, other: &Stamp) -> bool {
        (self.written, self.size) == (other.written, other.size)
    }
}

/// Files with probes. Clones share them.
#[derive(Clone, Default)]
pub(crate) struct Attached {
    files: Arc<Mutex<HashMap<FileId, Probed>>>,
    /// Not to be had where a user has too many; then a file is looked at when it is executed the next time.
    inotify: Option<Arc<Inotify>>,
}

/// A file that is watched, as it was when that began.
pub(crate) struct Watched {
    pub file: File,
    pub stamp: Stamp,
    watch: Option<WatchDescriptor>,
}

struct Probed {
    file: File,
    name: PathBuf,
    stamp: Stamp,
    watch: Option<WatchDescriptor>,
    links: Vec<Link>,
}

impl Attached {
    pub(crate) fn new() -> Attached {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC).ok().map(Arc::new);
        Attached { inotify, ..Attached::default() }
    }

    fn files(&self) -> MutexGuard<'_, HashMap<FileId, Probed>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a file has probes that are right for its bytes. Those that are not come off.
    pub(crate) fn still_fits(&self, id: FileId, stamp: &Stamp) -> bool {
        let mut files = self.files();
        match files.get(&id) {
            Some(probed) if probed.stamp.same_bytes(stamp) => true,
            Some(_) => {
                files.remove(&id);
                false
            }
            None => false,
        }
    }

    /// Begins to watch a file: what was read of it before holds if it is still the same.
    ///
    /// # Errors
    /// When the file cannot be looked at.
    pub(crate) fn watch(&self, file: File) -> std::io::Result<Watched> {
        let opened = regular::path_of(&file);
        let written = AddWatchFlags::IN_MODIFY | AddWatchFlags::IN_CLOSE_WRITE;
        let watch = self.inotify.as_ref().and_then(|inotify| inotify.add_watch(&opened, written).ok());
        let stamp = Stamp::of(&file.metadata()?);
        Ok(Watched { file, watch, stamp })
    }

    /// Keeps the probes of a file until it is written to, or until they are taken. Returns false, and takes them off, if it has
    /// been written to meanwhile.
    pub(crate) fn keep(&self, id: FileId, name: &Path, watched: Watched, links: Vec<Link>) -> bool {
        let Watched { file, watch, stamp } = watched;
        let mut files = self.files();
        let now = file.metadata().map(|metadata| Stamp::of(&metadata));
        if !now.is_ok_and(|now| now.same_bytes(&stamp)) {
            return false;
        }
        files.insert(id, Probed { file, name: name.to_owned(), stamp, watch, links });
        true
    }

    /// Starts a thread that takes the probes off files that are written to. It lives as long as the process.
    pub(crate) fn guard(&self, events: Sender<Event>) {
        let Some(inotify) = self.inotify.clone() else { return };
        let attached = self.clone();
        std::thread::spawn(move || {
            hurry();
            while let Ok(written) = inotify.read_events() {
                for event in written {
                    let done = event.mask.contains(AddWatchFlags::IN_CLOSE_WRITE);
                    attached.written(event.wd, done, &events);
                }
            }
        });
    }

    fn written(&self, watch: WatchDescriptor, done: bool, events: &Sender<Event>) {
        let mut files = self.files();
        let Some(id) = files.iter().find(|(_, probed)| probed.watch == Some(watch)).map(|(id, _)| *id) else { return };
        if done {
            if let Some(Probed { file, name, .. }) = files.remove(&id) {
                let _ = events.send(Event::Written(file, name));
            }
        } else if let Some(probed) = files.get_mut(&id) {
            for link in probed.links.drain(..) {
                std::thread::spawn(move || drop(link));
            }
        }
    }

    /// The files that have no name any more.
    pub(crate) fn deleted(&self) -> Vec<FileId> {
        let files = self.files();
        let deleted = files.iter().filter(|(_, probed)| probed.file.metadata().is_ok_and(|now| now.nlink() == 0));
        deleted.map(|(id, _)| *id).collect()
    }

    /// Takes the probes off a file that nobody uses any more: held, it would keep its place on the disk.
    pub(crate) fn release(&self, id: FileId) {
        if let Some(probed) = self.files().remove(&id) {
            // The kernel takes its time over it.
            std::thread::spawn(move || drop(probed));
        }
    }

    /// Hands over all probes, to be detached by whoever drops them.
    pub(crate) fn take(&self) -> Vec<Link> {
        self.files().drain().flat_map(|(_, probed)| probed.links).collect()
    }
}

/// Goes before everybody else, where that is allowed (CAP_SYS_NICE): this thread has little to do, and a short time for it.
fn hurry() {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: the parameters live through the call, which concerns this thread alone.
    unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const lowest) };
}
