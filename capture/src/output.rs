//! Creates the capture file, or one after the other. They hold secrets: nobody but their owner may read them.

use crate::user::Invoker;
use crate::{Error, Options};
use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::fs::{File, Metadata, OpenOptions, Permissions};
use std::io::{ErrorKind, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a capture goes.
pub(crate) struct Output {
    path: PathBuf,
    force: bool,
    invoker: Option<Invoker>,
    /// A pipe or a device that the path leads to.
    stream: Option<File>,
    /// A new file after so many bytes, or so much time.
    pub rotate_size: Option<u64>,
    pub rotate_time: Option<Duration>,
    keep: Option<usize>,
    /// Files that were opened.
    opened: u32,
    /// Those of them that are kept; pipes and devices are not ours to remove.
    files: VecDeque<PathBuf>,
}

impl Output {
    /// Refuses an output that is there already, before anything is started; opens a pipe.
    ///
    /// # Errors
    /// What is wrong with the output.
    pub(crate) fn new(options: &Options, invoker: Option<Invoker>) -> Result<Output, Error> {
        let mut output = Output {
            path: options.output.clone(),
            force: options.force,
            invoker,
            stream: None,
            rotate_size: options.rotate_size,
            rotate_time: options.rotate_time,
            keep: options.keep,
            opened: 0,
            files: VecDeque::new(),
        };
        let to_file = !output.is_stdout() && !output.path.metadata().is_ok_and(|metadata| is_stream(&metadata));
        if output.rotates() && !to_file {
            return Err(Error::RotatedPipe);
        }
        if output.is_stdout() && std::io::stdout().is_terminal() {
            return Err(Error::TerminalOutput);
        }
        for path in output.series() {
            if matches!(look(&path, output.force)?, Found::Stream) {
                output.stream = Some(open_stream(&path)?);
            }
        }
        Ok(output)
    }

    /// The files that are there and would be in the way of those to come: of a rotated capture all that an earlier one of this
    /// name has left. Its last files among the first ones of this would be neither the one nor the other.
    fn series(&self) -> Vec<PathBuf> {
        if !self.rotates() {
            return if self.is_stdout() { Vec::new() } else { vec![self.path.clone()] };
        }
        let (stem, ending) = self.around_number();
        let is_part = |name: &OsStr| {
            let number = name.as_bytes().strip_prefix(stem.as_bytes())?.strip_suffix(ending.as_bytes())?;
            Some(number.len() >= 4 && number.iter().all(u8::is_ascii_digit))
        };
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // A folder that cannot be read may still be written into; what is there shows when its turn comes.
        let names = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.file_name());
        let parts = names.filter(|name| is_part(name) == Some(true)).map(|name| self.path.with_file_name(name));
        let mut parts: Vec<PathBuf> = parts.collect();
        parts.sort();
        parts
    }

    /// What stands before and after the number in the names of rotated files.
    fn around_number(&self) -> (OsString, OsString) {
        let mut stem = self.path.file_stem().unwrap_or_default().to_owned();
        stem.push("-");
        let mut ending = OsString::new();
        if let Some(extension) = self.path.extension() {
            ending.push(".");
            ending.push(extension);
        }
        (stem, ending)
    }

    pub(crate) fn is_stdout(&self) -> bool {
        self.path.as_os_str() == "-"
    }

    pub(crate) fn rotates(&self) -> bool {
        self.rotate_size.is_some() || self.rotate_time.is_some()
    }

    /// The file that is opened next.
    pub(crate) fn next_path(&self) -> PathBuf {
        if !self.rotates() {
            return self.path.clone();
        }
        let (mut name, ending) = self.around_number();
        name.push(format!("{:04}", self.opened + 1));
        name.push(ending);
        self.path.with_file_name(name)
    }

    /// Creates the next file, and removes the oldest if there are more than are to be kept.
    ///
    /// # Errors
    /// When it cannot be created; an existing file is replaced only with `force`.
    pub(crate) fn open(&mut self) -> Result<File, Error> {
        let path = self.next_path();
        if let Some(stream) = self.stream.take() {
            self.opened += 1;
            return Ok(stream);
        }
        if self.is_stdout() {
            self.opened += 1;
            let failed = |source| Error::Create { path, source };
            return std::io::stdout().as_fd().try_clone_to_owned().map(File::from).map_err(failed);
        }
        if self.opened == 0 && self.rotates() {
            for old in self.series() {
                look(&old, self.force)?;
                remove(&old)?;
            }
        }
        let file = create(&path, self.force, self.invoker.as_ref())?;
        self.opened += 1;
        self.files.push_back(path);
        while self.keep.is_some_and(|keep| self.files.len() > keep.max(1)) {
            if let Some(oldest) = self.files.pop_front() {
                // Whoever has taken it away already has done our work.
                let _ = std::fs::remove_file(oldest);
            }
        }
        Ok(file)
    }

    /// Number of the file that was opened last, from 1.
    pub(crate) fn part(&self) -> u32 {
        self.opened
    }

    /// The file that was opened last.
    pub(crate) fn current(&self) -> PathBuf {
        self.files.back().unwrap_or(&self.path).clone()
    }

    /// Says which of the files that are kept are not where they were written; `last` is the one that was opened last.
    pub(crate) fn missing(&self, last: &File) -> Vec<String> {
        let identity = |metadata: Metadata| (metadata.dev(), metadata.ino());
        let last = (self.current(), last.metadata().map(identity).ok());
        let is_missing = |path: &&PathBuf| match path.symlink_metadata() {
            Ok(metadata) => **path == last.0 && last.1 != Some(identity(metadata)),
            Err(_) => true,
        };
        let missing = self.files.iter().filter(is_missing);
        missing
            .map(|path| format!("{} was removed, renamed or replaced while recording went on", path.display()))
            .collect()
    }

    /// The files that are kept, oldest first.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.files.iter().cloned().collect()
    }
}

/// What an output may be.
enum Found {
    Nothing,
    /// To be replaced.
    File,
    /// A pipe or a device is written to, not replaced; also where a link leads to it, as /dev/stdout may.
    Stream,
}

fn look(path: &Path, force: bool) -> Result<Found, Error> {
    let Ok(metadata) = path.symlink_metadata() else { return Ok(Found::Nothing) };
    if metadata.is_symlink() && !path.metadata().is_ok_and(|target| is_stream(&target)) {
        // We may be root, and who has put the link there may not.
        let target = path.canonicalize().or_else(|_| path.read_link()).unwrap_or_default();
        return Err(Error::OutputLink { path: path.to_owned(), target });
    }
    match (metadata.is_file(), metadata.is_dir()) {
        (_, true) => Err(Error::OutputFolder { path: path.to_owned() }),
        (true, _) if !force => Err(Error::OutputExists { path: path.to_owned() }),
        (true, _) => Ok(Found::File),
        (false, false) => Ok(Found::Stream),
    }
}

fn is_stream(metadata: &Metadata) -> bool {
    !metadata.is_file() && !metadata.is_dir()
}

fn remove(path: &Path) -> Result<(), Error> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::Create { path: path.to_owned(), source: error })
        }
        _ => Ok(()),
    }
}

/// Waits for the reader of a FIFO. So it comes first, while Ctrl-C still simply ends the process.
fn open_stream(path: &Path) -> Result<File, Error> {
    let failed = |source| Error::Create { path: path.to_owned(), source };
    let stream = OpenOptions::new().write(true).open(path).map_err(failed)?;
    // It may have become another one meanwhile.
    let is_stream = is_stream(&stream.metadata().map_err(failed)?);
    if is_stream { Ok(stream) } else { Err(Error::OutputExists { path: path.to_owned() }) }
}

/// Creates a file with mode 0600, owned by the user behind sudo.
fn create(path: &Path, force: bool, invoker: Option<&Invoker>) -> Result<File, Error> {
    let failed = |source| Error::Create { path: path.to_owned(), source };
    match look(path, force)? {
        // A new file in place of the old one: whoever reads the old one keeps it.
        Found::File => remove(path)?,
        Found::Nothing => {}
        // It was none when it was looked at first.
        Found::Stream => return Err(Error::OutputExists { path: path.to_owned() }),
    }
    // A link that has come meanwhile is not followed either.
    let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    file.set_permissions(Permissions::from_mode(0o600)).map_err(failed)?;
    if let Some(invoker) = invoker {
        std::os::unix::fs::fchown(&file, Some(invoker.uid.as_raw()), Some(invoker.gid.as_raw())).map_err(failed)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    fn output(options: Options) -> Result<Output, Error> {
        Output::new(&options, None)
    }

    #[test]
    fn a_capture_is_for_its_owner_alone_and_never_overwritten_by_accident() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { output: folder.path().join("run.asc"), ..Options::default() };
        let file = output(options.clone()).unwrap().open().unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let message = output(options.clone()).err().unwrap().to_string();
        assert!(message.contains("run.asc exists") && message.contains("--force"), "{message}");
        output(Options { force: true, ..options }).unwrap().open().unwrap();
    }

    #[test]
    fn a_folder_is_no_output_even_with_force() {
        let folder = tempfile::tempdir().unwrap();
        let options = Options { output: folder.path().to_owned(), force: true, ..Options::default() };
        assert!(matches!(output(options), Err(Error::OutputFolder { .. })));
    }

    #[test]
    fn rotated_files_are_numbered_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let options = Options { output: path("run.asc"), rotate_size: Some(1), keep: Some(2), ..Options::default() };
        let mut output = output(options).unwrap();
        for _ in 0..3 {
            output.open().unwrap();
        }
        assert_eq!(output.files(), [path("run-0002.asc"), path("run-0003.asc")]);
        assert!(!path("run-0001.asc").exists() && path("run-0002.asc").exists() && path("run-0003.asc").exists());
    }

    #[test]
    fn a_link_is_no_output_unless_it_leads_to_a_pipe_or_a_device() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        std::fs::write(path("precious"), "kept").unwrap();
        for (target, link) in [("precious", "to-file.asc"), ("nowhere", "dangling.asc")] {
            symlink(target, path(link)).unwrap();
            for force in [false, true] {
                let options = Options { output: path(link), force, ..Options::default() };
                let message = output(options).err().unwrap().to_string();
                assert!(message.contains(link) && message.contains(target), "{message}");
            }
        }
        assert_eq!(std::fs::read_to_string(path("precious")).unwrap(), "kept");
        assert!(!path("nowhere").exists());
        symlink("/dev/null", path("null.asc")).unwrap();
        output(Options { output: path("null.asc"), ..Options::default() }).unwrap().open().unwrap();
        assert!(path("null.asc").is_symlink());
    }

    #[test]
    fn an_earlier_series_is_refused_as_a_whole_and_replaced_as_a_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        // Its first files went as more came.
        for name in ["run-0003.asc", "run-0004.asc", "run-10000.asc", "run-old.asc", "run-5.asc"] {
            std::fs::write(path(name), "old").unwrap();
        }
        let options = Options { output: path("run.asc"), rotate_size: Some(1), ..Options::default() };
        let message = output(options.clone()).err().unwrap().to_string();
        assert!(message.contains("run-0003.asc exists") && message.contains("--force"), "{message}");
        output(Options { force: true, ..options }).unwrap().open().unwrap();
        let mut left: Vec<_> =
            std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["run-0001.asc", "run-5.asc", "run-old.asc"]);
    }

    #[test]
    fn what_is_no_file_cannot_be_rotated() {
        let options = Options { output: "/dev/null".into(), rotate_size: Some(1), ..Options::default() };
        assert!(matches!(output(options), Err(Error::RotatedPipe)));
    }
}
