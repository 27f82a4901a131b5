//! A capture that is still being written, read as it grows. At the end of what is there the reader waits; that the capturer has
//! closed the file shows in the index at its end.

use agentsight_formats::Reader;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a file is looked at that does not grow. A capturer flushes about once a second.
const PAUSE: Duration = Duration::from_millis(100);

pub struct Follow {
    path: PathBuf,
    file: File,
}

impl Follow {
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Follow { path: path.to_owned(), file: File::open(path)? })
    }

    /// Whether the capturer has closed the file.
    fn finished(&self) -> bool {
        let tail =
            File::open(&self.path).map_err(Into::into).and_then(Reader::open).and_then(|mut reader| reader.tail());
        matches!(tail, Ok(Some(_)))
    }
}

impl Read for Follow {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.file.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            if self.finished() {
                // It may have grown before it was closed.
                return self.file.read(buffer);
            }
            std::thread::sleep(PAUSE);
        }
    }
}

impl Seek for Follow {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}
