//! Creates the capture file, or one after the other. They hold secrets: nobody but their owner may read them.

use crate::user::Invoker;
use crate::{Error, Options};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::IsTerminal;
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a capture goes.
pub(crate) struct Output {
    path: PathBuf,
    force: bool,
    invoker: Option<Invoker>,
    /// A new file after so many bytes, or so much time.
    pub rotate_size: Option<u64>,
    pub rotate_time: Option<Duration>,
    keep: Option<usize>,
    /// Files that were opened.
    opened: u32,
    /// Those of them that are kept.
    files: VecDeque<PathBuf>,
}

impl Output {
    /// Refuses an output that is there already, before anything is started.
    ///
    /// # Errors
    /// [`Error::OutputExists`], [`Error::TerminalOutput`].
    pub(crate) fn new(options: &Options, invoker: Option<Invoker>) -> Result<Output, Error> {
        let output = Output {
            path: options.output.clone(),
            force: options.force,
            invoker,
            rotate_size: options.rotate_size,
            rotate_time: options.rotate_time,
            keep: options.keep,
            opened: 0,
            files: VecDeque::new(),
        };
        if !output.is_stdout() {
            check(&output.next_path(), output.force)?;
        } else if output.rotates() {
            return Err(Error::RotatedPipe);
        } else if std::io::stdout().is_terminal() {
            return Err(Error::TerminalOutput);
        }
        Ok(output)
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
        let mut name = self.path.file_stem().unwrap_or_default().to_owned();
        name.push(format!("-{:04}", self.opened + 1));
        if let Some(extension) = self.path.extension() {
            name.push(".");
            name.push(extension);
        }
        self.path.with_file_name(name)
    }

    /// Creates the next file, and removes the oldest if there are more than are to be kept.
    ///
    /// # Errors
    /// When it cannot be created; an existing file is replaced only with `force`.
    pub(crate) fn open(&mut self) -> Result<File, Error> {
        let path = self.next_path();
        self.opened += 1;
        if self.is_stdout() {
            let failed = |source| Error::Create { path, source };
            return std::io::stdout().as_fd().try_clone_to_owned().map(File::from).map_err(failed);
        }
        let file = create(&path, self.force, self.invoker.as_ref())?;
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

    /// The files that are kept, oldest first.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.files.iter().cloned().collect()
    }
}

fn check(path: &Path, force: bool) -> Result<(), Error> {
    // A pipe or a device is written to, not replaced.
    let replaced = path.symlink_metadata().is_ok_and(|metadata| metadata.is_file() || metadata.is_dir());
    if replaced && (!force || path.is_dir()) {
        return Err(Error::OutputExists { path: path.to_owned() });
    }
    Ok(())
}

/// Creates a file with mode 0600, owned by the user behind sudo.
fn create(path: &Path, force: bool, invoker: Option<&Invoker>) -> Result<File, Error> {
    check(path, force)?;
    let failed = |source| Error::Create { path: path.to_owned(), source };
    let regular = path.symlink_metadata().map_or(true, |metadata| metadata.is_file());
    let mut options = OpenOptions::new();
    options.write(true).mode(0o600);
    if regular {
        // A new file in place of the old one: whoever reads the old one keeps it.
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
            _ => options.create_new(true),
        };
    }
    let file = options.open(path).map_err(failed)?;
    if let Some(invoker) = invoker.filter(|_| regular) {
        std::os::unix::fs::fchown(&file, Some(invoker.uid.as_raw()), Some(invoker.gid.as_raw())).map_err(failed)?;
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

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
        assert!(matches!(output(options), Err(Error::OutputExists { .. })));
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
}
