//! Files that a verb writes: each is put in its place when it is whole, so that a verb that fails destroys nothing.

use std::fs::File;
use std::path::{Path, PathBuf};

/// Writes beside the file, and puts it in its place at the end. `named` makes an error of what is wrong with the file itself.
pub fn write<E>(path: &Path, named: impl Fn(String) -> E, write: impl FnOnce(File) -> Result<(), E>) -> Result<(), E> {
    let failed = |error: std::io::Error| named(format!("{}: {error}", path.display()));
    if path.exists() && !path.is_file() {
        return write(File::create(path).map_err(failed)?);
    }
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(name);
    let written = File::create(&part).map_err(failed).and_then(write);
    match written {
        Ok(()) => std::fs::rename(&part, path).map_err(failed),
        Err(error) => {
            // The error that is told is the first one.
            let _ = std::fs::remove_file(&part);
            Err(error)
        }
    }
}

/// Refuses to write a result over a capture that it is made of.
pub fn not_one_of(captures: &[PathBuf], path: &Path) -> Result<(), String> {
    let same = |capture: &PathBuf| matches!((capture.canonicalize(), path.canonicalize()), (Ok(a), Ok(b)) if a == b);
    if captures.iter().any(same) { Err(format!("{} is the capture itself", path.display())) } else { Ok(()) }
}
