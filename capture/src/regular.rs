//! Opens files of strangers: a pipe in the place of a library would be waited for, and a device might do something.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, Result};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Opens a regular file to read it.
///
/// # Errors
/// When it cannot be opened, or is something else.
pub(crate) fn open(path: &Path) -> Result<File> {
    // Only looked at, not opened.
    let place = OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(path)?;
    let kind = place.metadata()?.file_type();
    let what = match kind {
        _ if kind.is_file() => return File::open(path_of(&place)),
        _ if kind.is_dir() => "a folder",
        _ if kind.is_fifo() => "a pipe",
        _ if kind.is_socket() => "a socket",
        _ => "a device",
    };
    Err(Error::new(ErrorKind::InvalidInput, format!("it is {what}")))
}

/// The file itself: its name may mean another one by now, and a process that has ended has no /proc/PID/exe.
pub(crate) fn path_of(file: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", file.as_raw_fd()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_regular_file_is_named_and_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(open(&pipe).unwrap_err().to_string(), "it is a pipe");
        assert_eq!(open(folder.path()).unwrap_err().to_string(), "it is a folder");
        assert_eq!(open(Path::new("/dev/null")).unwrap_err().to_string(), "it is a device");
        assert!(open(Path::new("/proc/self/exe")).is_ok());
    }
}
