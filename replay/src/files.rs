//! The table `files`: what was opened, closed and changed. The record of a close says which open file it is, and the open
//! before it what path that has.

use crate::bounded::Bounded;
use crate::processes::{signed, text};
use crate::table::Timestamp;
use crate::{errno, flags, paths, sensitive, tables};
use agentsight_formats::record::{self, CAPTURER_CPU, file_op, flag};

/// Open files that are remembered: as many as the kernel side does; and bytes of their paths. What is done with one that is not
/// has no path.
const MAX_OPEN: usize = 65536;
const MAX_BYTES: usize = 32 << 20;

/// A record's paths, each after the folder that it is relative to.
pub(crate) struct Paths<'a> {
    pub base: &'a [u8],
    pub path: &'a [u8],
    pub new_base: &'a [u8],
    pub new_path: &'a [u8],
}

/// An open file: its path, and the process that opened it.
struct Open {
    path: Option<String>,
    proc_id: i64,
}

pub(crate) struct Files {
    capture_id: String,
    /// Architecture of the recorded machine: it numbers some flags in its own way.
    arch: String,
    open: Bounded<u64, Open>,
    /// Those that had to be forgotten.
    pub forgotten: u64,
}

impl Files {
    pub fn new(capture_id: String, arch: String) -> Self {
        Files { capture_id, arch, open: Bounded::of_bytes(MAX_OPEN, MAX_BYTES), forgotten: 0 }
    }

    /// Takes a record; the row, unless it only says again what is open.
    pub fn record(
        &mut self,
        file: &record::File,
        paths: &Paths<'_>,
        proc_id: i64,
        ts: Timestamp,
    ) -> Option<tables::File> {
        let op = file.op.get();
        let id = Some(file.file_id.get()).filter(|id| *id != 0);
        let unreadable = file.header.flags.get() & flag::FAULT != 0;
        let named = |base: &[u8], path: &[u8]| {
            let path = if path.is_empty() && unreadable { None } else { Some(paths::absolute(base, path)) };
            path.map(|path| text(&path)).filter(|path| !path.is_empty())
        };
        let mut path = named(paths.base, paths.path);
        match (op, id) {
            (file_op::OPEN, Some(id)) => {
                let (path, bytes) = (path.clone(), path.as_ref().map_or(0, String::len));
                self.forgotten += self.open.insert_bytes(id, Open { path, proc_id }, bytes).len() as u64;
            }
            (file_op::CLOSE, Some(id)) => path = self.open.remove(&id).and_then(|open| open.path),
            // What a link says is relative to the link, and text.
            (file_op::SYMLINK, _) => path = Some(text(paths.path)).filter(|path| !path.is_empty()),
            _ => {}
        }
        if file.header.cpu.get() == CAPTURER_CPU {
            return None;
        }
        let new_path = named(paths.new_base, paths.new_path);
        let class = [&path, &new_path].into_iter().flatten().find_map(|path| sensitive::class(path));
        let (result, bits) = (file.result.get(), file.flags.get());
        let closes = op == file_op::CLOSE;
        let (major, minor) = (file.device.get() >> 20, file.device.get() & 0xf_ffff);
        let inode = Some(signed(file.inode.get())).filter(|inode| *inode != 0);
        let has_mode = match op {
            file_op::OPEN => flags::creates(bits),
            other => matches!(other, file_op::MKDIR | file_op::CHMOD),
        };
        Some(tables::File {
            capture_id: self.capture_id.clone(),
            ts,
            proc_id,
            op: file_op::name(op).map_or_else(|| op.to_string(), str::to_owned),
            path,
            new_path,
            flags: flags::of_file(op, bits, &self.arch),
            mode: has_mode.then(|| format!("{:04o}", file.mode.get() & 0o7777)),
            result: Some(result.into()),
            error: errno::name(result),
            file_id: id.map(signed),
            inode,
            device: inode.map(|_| format!("{major}:{minor}")),
            bytes_read: closes.then(|| signed(file.bytes_read.get())),
            bytes_written: closes.then(|| signed(file.bytes_written.get())),
            length: (op == file_op::TRUNCATE).then(|| signed(file.bytes_read.get())),
            sensitive_class: class.map(|class| class.name),
            cause_tool_call_key: None,
        })
    }

    /// The sums of a file that nobody has closed. Of one that nothing is known of there is no row: who had it?
    pub fn stays_open(&mut self, sums: &record::Sums, ts: Timestamp) -> Option<tables::File> {
        let id = sums.id.get();
        let Open { path, proc_id } = self.open.remove(&id)?;
        let class = path.as_deref().and_then(sensitive::class);
        Some(tables::File {
            capture_id: self.capture_id.clone(),
            ts,
            proc_id,
            op: file_op::name(file_op::CLOSE).unwrap_or_default().to_owned(),
            path,
            file_id: Some(signed(id)),
            bytes_read: Some(signed(sums.received.get())),
            bytes_written: Some(signed(sums.sent.get())),
            sensitive_class: class.map(|class| class.name),
            ..tables::File::default()
        })
    }
}
