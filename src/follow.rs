//! A capture that is still being written, read as it grows. At the end of what is there the reader waits; that the capturer has
//! closed the file shows in the index at its end. Of a rotated capture, the capturer begins the next file before it closes the
//! last: if there is none then, that was all.

use agentsight_formats::{Error, Head, Reader};
use agentsight_replay::Named;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often a file is looked at that does not grow. A capturer flushes about once a second.
const PAUSE: Duration = Duration::from_millis(100);

pub struct Follow {
    file: File,
}

impl Follow {
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Follow { file: File::open(path)? })
    }

    /// Whether the capturer has closed the file. Its name may be gone: only so many files of a rotated capture are kept.
    fn finished(&mut self) -> io::Result<bool> {
        let at = self.file.stream_position()?;
        self.file.rewind()?;
        let tail = Reader::open(&self.file).and_then(|mut reader| reader.tail());
        self.file.seek(SeekFrom::Start(at))?;
        Ok(matches!(tail, Ok(Some(_))))
    }
}

impl Read for Follow {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let read = self.file.read(buffer)?;
            if read > 0 || buffer.is_empty() {
                return Ok(read);
            }
            if self.finished()? {
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

/// The files of a capture, one after the other as they are written.
pub struct Files {
    first: PathBuf,
    /// Those that were opened, and the head of the last.
    pub opened: Vec<PathBuf>,
    head: Head,
}

impl Files {
    pub fn from(first: &Path) -> Self {
        Files { first: first.to_owned(), opened: Vec::new(), head: Head::default() }
    }

    /// The next file, when the one before has been read to its end.
    pub fn next(&mut self) -> Option<Named<Follow>> {
        let path = match self.opened.last() {
            None => self.first.clone(),
            Some(last) => after(last, &self.head)?,
        };
        let reader = Follow::open(&path).map_err(Error::from).and_then(Reader::open);
        if let Ok(reader) = &reader {
            self.head = reader.head().clone();
        }
        let name = path.to_string_lossy().into_owned();
        self.opened.push(path);
        Some((name, reader))
    }
}

/// The file of the same recording that was begun after this one: `run-0001.asc`, `run-0002.asc` and so on. Those in between may have
/// been removed.
fn after(path: &Path, head: &Head) -> Option<PathBuf> {
    let (recording, part) = head.metadata.part()?;
    let name = path.file_name()?.to_str()?;
    let number = format!("-{part:04}");
    let at = name.rfind(&number)?;
    let (before, behind) = (name.get(..=at)?, name.get(at + number.len()..)?);
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let number_of = |name: &str| name.strip_prefix(before)?.strip_suffix(behind)?.parse::<u64>().ok();
    let names = std::fs::read_dir(folder).ok()?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    let mut later: Vec<(u64, String)> = names.filter_map(|name| Some((number_of(&name)?, name))).collect();
    later.retain(|(number, _)| *number > part);
    later.sort_unstable();
    let mut paths = later.into_iter().map(|(number, name)| (number, path.with_file_name(name)));
    let is_next = |(number, path): &(u64, PathBuf)| {
        let opened = File::open(path).map_err(Error::from).and_then(Reader::open);
        opened.is_ok_and(|reader| reader.head().metadata.part() == Some((recording, *number)))
    };
    paths.find(is_next).map(|(_, path)| path)
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentsight_formats::{Metadata, Writer};

    #[test]
    fn the_next_file_is_of_the_same_recording_even_if_some_are_gone() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let write = |name: &str, recording: &str, part: u64| {
            let mut metadata = Metadata::default();
            metadata.extra.insert("recording".to_owned(), recording.into());
            metadata.extra.insert("part".to_owned(), part.into());
            let head = Head::new([1; 16], metadata);
            Writer::new(File::create(path(name)).unwrap(), &head).unwrap();
            head
        };
        let first = write("a-1-0001.asc", "r", 1);
        write("a-1-0002.asc", "another", 2);
        write("a-1-0005.asc", "r", 5);
        let fourth = write("a-1-0004.asc", "r", 4);
        write("b-0002.asc", "r", 2);
        std::fs::write(path("a-1-0003.asc"), "no capture").unwrap();
        assert_eq!(after(&path("a-1-0001.asc"), &first), Some(path("a-1-0004.asc")));
        assert_eq!(after(&path("a-1-0004.asc"), &fourth), Some(path("a-1-0005.asc")));
        assert_eq!(after(&path("renamed.asc"), &first), None);
        assert_eq!(after(&path("a-1-0001.asc"), &Head::default()), None);
    }
}
