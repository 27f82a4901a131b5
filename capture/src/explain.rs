//! What would be probed, and why: the resolver's answers, without attaching to anything.

use crate::resolver::{self, Binary, ResolveError};
use crate::{Error, libraries, mentioned, procfs, regular};
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};

/// Whose probes are asked for.
#[derive(Clone, Debug)]
pub enum Subject {
    /// The TLS libraries that are installed, which any program may use.
    Machine,
    /// A running process, by id: its executable and every library that it has mapped.
    Process(u32),
    /// A program, by path or by name: the file, the interpreter it names if it is a script, the libraries it is linked with.
    Program(OsString),
    /// A command, program and arguments: what recording it would look at before it starts, the machine's TLS libraries too.
    Command(Vec<OsString>),
}

/// A file that recording would look at.
#[derive(Debug)]
pub struct Explanation {
    /// As the program sees it.
    pub path: PathBuf,
    pub answer: Result<Binary, ResolveError>,
}

/// Looks at every file of the subject; programs come before libraries.
///
/// # Errors
/// When the process or the program is not there.
pub fn explain(subject: &Subject) -> Result<Vec<Explanation>, Error> {
    let files: Vec<(PathBuf, PathBuf)> = match subject {
        Subject::Machine => libraries::installed().into_iter().map(|path| (path.clone(), path)).collect(),
        Subject::Process(pid) => {
            procfs::check(*pid)?;
            let executable = PathBuf::from(format!("/proc/{pid}/exe"));
            let name = std::fs::read_link(&executable).unwrap_or_else(|_| executable.clone());
            let name = procfs::without_deleted(&name);
            let mapped = procfs::mapped(*pid).into_iter().map(|mapped| (mapped.name, mapped.file));
            let libraries: Vec<_> = mapped.filter(|(library, _)| *library != name).collect();
            std::iter::once((name, executable)).chain(libraries).collect()
        }
        Subject::Program(name) => {
            let mut programs = mentioned::programs(name);
            if programs.is_empty() && Path::new(name).exists() {
                programs.push(name.into());
            }
            with_libraries(name, programs)?
        }
        Subject::Command(command) => {
            let name = command.first().map(OsString::as_os_str).unwrap_or_default();
            let mut files = with_libraries(name, mentioned::programs_of(command))?;
            let known: BTreeSet<PathBuf> = files.iter().map(|(path, _)| path.clone()).collect();
            let installed = libraries::installed().into_iter().filter(|library| !known.contains(library));
            files.extend(installed.map(|path| (path.clone(), path)));
            files
        }
    };
    let look = |(path, there): (PathBuf, PathBuf)| {
        let answer = regular::open(&there).map_err(ResolveError::Read).and_then(|file| resolver::resolve(&file));
        Explanation { path, answer }
    };
    Ok(files.into_iter().map(look).collect())
}

/// Programs that were found for a name, and after them the libraries that they are linked with.
fn with_libraries(name: &OsStr, programs: Vec<PathBuf>) -> Result<Vec<(PathBuf, PathBuf)>, Error> {
    if programs.is_empty() {
        return Err(Error::CommandNotFound { command: name.to_string_lossy().into_owned() });
    }
    let programs: Vec<PathBuf> = programs.into_iter().map(|path| path.canonicalize().unwrap_or(path)).collect();
    let linked: BTreeSet<PathBuf> = programs.iter().flat_map(|program| libraries::linked(program)).collect();
    let linked = linked.into_iter().filter(|library| !programs.contains(library));
    Ok(programs.iter().cloned().chain(linked).map(|path| (path.clone(), path)).collect())
}
