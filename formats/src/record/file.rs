//! Records of files.

use super::Header;
use zerocopy::little_endian::{I32, U16, U32, U64};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

/// [`kind::FILE`](super::kind::FILE); followed by `base_len` bytes of folder, `path_len` bytes of path, and the same two of the new path
/// (rename, link, symlink). No terminators. A path that is not absolute is relative to its folder; the path of a file that
/// was opened has its links resolved. Paths are as the process sees them, below its root.
#[derive(FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned, Clone, Copy, Debug)]
#[repr(C)]
pub struct File {
    pub header: Header,
    /// Names the open file (open file description) from its open to its close, unique in the capture; 0 where there is none.
    pub file_id: U64,
    pub inode: U64,
    /// Device of the inode, as the kernel numbers it: major << 20 | minor.
    pub device: U32,
    /// [`file_op`].
    pub op: U16,
    pub reserved: U16,
    /// What the call returned: a descriptor, 0, or an errno, negative.
    pub result: I32,
    /// Flags of open(2), renameat2(2) or unlinkat(2).
    pub flags: U32,
    /// Mode of open(2), mkdir(2), chmod(2).
    pub mode: U32,
    pub base_len: U16,
    pub path_len: U16,
    pub new_base_len: U16,
    pub new_path_len: U16,
    pub reserved2: U32,
    /// Bytes read through this open file; at its close. The length of truncate(2).
    pub bytes_read: U64,
    /// Bytes written through this open file; at its close.
    pub bytes_written: U64,
}

/// Values of [`File::op`].
pub mod file_op {
    pub const OPEN: u16 = 1;
    pub const CLOSE: u16 = 2;
    pub const RENAME: u16 = 3;
    pub const UNLINK: u16 = 4;
    pub const MKDIR: u16 = 5;
    pub const RMDIR: u16 = 6;
    pub const LINK: u16 = 7;
    pub const SYMLINK: u16 = 8;
    pub const CHMOD: u16 = 9;
    pub const TRUNCATE: u16 = 10;

    pub fn name(op: u16) -> Option<&'static str> {
        const NAMES: [&str; 10] =
            ["open", "close", "rename", "unlink", "mkdir", "rmdir", "link", "symlink", "chmod", "truncate"];
        NAMES.get(usize::from(op).checked_sub(1)?).copied()
    }
}
