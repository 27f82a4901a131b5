//! Which captures are meant: paths, folders, globs, what comes through standard input, or the newest one here.

use crate::say;
use agentsight_formats::{Error, Head, Reader};
use agentsight_replay::prices::Prices;
use agentsight_replay::{Report, Sink};
use std::fs::File;
use std::io::{self, IsTerminal};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tempfile::TempDir;

/// The captures to read.
pub struct Captures {
    files: Vec<PathBuf>,
    /// Holds the one that came through standard input, and goes with it.
    _received: Option<TempDir>,
}

impl Deref for Captures {
    type Target = [PathBuf];

    fn deref(&self) -> &[PathBuf] {
        &self.files
    }
}

/// The captures that arguments name, each once, in the order named; those of a folder or glob by name. `-` is one that comes
/// through standard input, as `capture -o -` writes it: readers go back and forth in a capture, so that it is kept in a file.
///
/// Without any, the newest `*.asc` of the current folder, of a rotated capture with its other files; stderr says which.
pub fn captures(arguments: &[PathBuf]) -> Result<Captures, String> {
    if arguments.is_empty() {
        let newest = newest(Path::new("."))
            .ok_or("no capture is named, and no *.asc is here: name one, or record one with `agentsight capture`")?;
        let parts = parts(Path::new("."), newest);
        match &parts[..] {
            [first, .., last] => {
                let (first, last) = (first.display(), last.display());
                say(format_args!("reading {first} to {last}, the newest capture here"));
            }
            [only, ..] => say(format_args!("reading {}, the newest capture here", only.display())),
            [] => {}
        }
        return Ok(Captures { files: parts, _received: None });
    }
    let mut found = Vec::new();
    let mut received = None;
    for argument in arguments {
        let paths = match (argument.as_os_str() == "-", &received) {
            (false, _) => expand(argument)?,
            (true, Some(_)) => continue,
            (true, None) => {
                let (folder, path) = receive().map_err(|error| format!("standard input: {error}"))?;
                received = Some(folder);
                vec![path]
            }
        };
        for path in paths {
            if !found.contains(&path) {
                found.push(path);
            }
        }
    }
    Ok(Captures { files: found, _received: received })
}

/// Keeps what comes through standard input in a file of a folder of its own.
fn receive() -> io::Result<(TempDir, PathBuf)> {
    let mut input = io::stdin().lock();
    if input.is_terminal() {
        return Err(io::Error::other("a terminal sends no capture: `agentsight capture -o - … |` does"));
    }
    let folder = tempfile::Builder::new().prefix("agentsight-").tempdir()?;
    let path = folder.path().join("standard-input.asc");
    io::copy(&mut input, &mut File::create(&path)?)?;
    Ok((folder, path))
}

/// The prices of models in a file; without one, those that are built in.
pub fn prices(file: Option<&Path>) -> Result<Arc<Prices>, String> {
    let Some(path) = file else { return Ok(Prices::built_in()) };
    let named = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
    let text = std::fs::read_to_string(path).map_err(|error| named(&error))?;
    Prices::parse(&text).map(Arc::new).map_err(|error| named(&error))
}

fn expand(argument: &Path) -> Result<Vec<PathBuf>, String> {
    let shown = argument.display();
    if argument.is_dir() {
        let mut inside = in_folder(argument);
        inside.sort();
        return if inside.is_empty() { Err(format!("{shown}: no *.asc in this folder")) } else { Ok(inside) };
    }
    let pattern = argument.to_string_lossy();
    if argument.exists() || !pattern.contains(['*', '?', '[']) {
        return if argument.exists() { Ok(vec![argument.to_owned()]) } else { Err(format!("{shown}: no such file")) };
    }
    let paths = glob::glob(&pattern).map_err(|error| format!("{shown}: no valid pattern: {error}"))?;
    let matching: Vec<PathBuf> = paths.filter_map(Result::ok).filter(|path| path.is_file()).collect();
    if matching.is_empty() { Err(format!("{shown}: nothing matches")) } else { Ok(matching) }
}

fn in_folder(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.is_file() && path.extension().is_some_and(|extension| extension == "asc")).collect()
}

fn newest(folder: &Path) -> Option<PathBuf> {
    let modified = |path: &PathBuf| path.metadata().and_then(|metadata| metadata.modified()).ok();
    in_folder(folder).into_iter().max_by_key(|path| (modified(path), path.clone()))
}

/// The files of the recording that a file is of, in their order, as far as they are in this folder.
fn parts(folder: &Path, file: PathBuf) -> Vec<PathBuf> {
    let part = |path: &Path| {
        let head = head(path).ok()?;
        head.metadata.part().map(|(recording, number)| (recording.to_owned(), number))
    };
    let Some((wanted, _)) = part(&file) else { return vec![file] };
    let numbered = in_folder(folder).into_iter().filter_map(|path| Some((part(&path)?, path)));
    let mut parts: Vec<(u64, PathBuf)> =
        numbered.filter(|((recording, _), _)| *recording == wanted).map(|((_, number), path)| (number, path)).collect();
    parts.sort();
    parts.into_iter().map(|(_, path)| path).collect()
}

fn head(path: &Path) -> Result<Head, Error> {
    Ok(Reader::open(File::open(path)?)?.head().clone())
}

/// Whether an argument looks like a capture rather than SQL.
pub fn looks_like_capture(argument: &str) -> bool {
    let path = Path::new(argument);
    path.exists()
        || path.extension().is_some_and(|extension| extension == "asc") && !argument.contains(char::is_whitespace)
}

/// A capture; or the files of a rotated one, in their order.
pub struct Recording {
    pub files: Vec<PathBuf>,
    /// When it started, in nanoseconds since 1970.
    pub start: i64,
}

impl Recording {
    /// Replays it. Returns how that went, file by file.
    pub fn replay(&self, sink: &mut dyn Sink) -> Result<Vec<Report>, String> {
        let mut open = |index: usize| {
            let path = self.files.get(index).ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound))?;
            Reader::open(File::open(path)?)
        };
        agentsight_replay::replay(&names(&self.files), &mut open, sink).map_err(|error| error.to_string())
    }
}

/// How files were named.
pub fn names(files: &[PathBuf]) -> Vec<String> {
    files.iter().map(|path| path.to_string_lossy().into_owned()).collect()
}

/// The recordings that captures are of.
pub fn recordings(captures: &[PathBuf]) -> Result<Vec<Recording>, String> {
    let named = |path: &PathBuf| head(path).map_err(|error| format!("{}: {error}", path.display()));
    let heads = captures.iter().map(named).collect::<Result<Vec<_>, _>>()?;
    let recording = |files: Vec<usize>| Recording {
        start: files.first().and_then(|first| heads.get(*first)).map_or(0, |head| head.metadata.clocks.realtime),
        files: files.into_iter().filter_map(|index| captures.get(index).cloned()).collect(),
    };
    Ok(agentsight_replay::together(&heads).into_iter().map(recording).collect())
}
