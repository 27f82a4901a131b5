//! Starts the command that is recorded. The child waits until recording has begun, and only then executes the program: what
//! it does from its first instruction on is in the capture.

use crate::Error;
use crate::inherited::{self, Inherited};
use crate::privilege;
use crate::user::Invoker;
use nix::errno::Errno;
use nix::unistd::{ForkResult, Pid, execve, fork};
use std::ffi::{CStr, CString, OsStr, OsString};
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// What runs scripts that do not say what does.
const SHELL: &CStr = c"/bin/sh";
/// Where programs are looked for without PATH, as the C library has it.
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// A child that waits to become the command.
pub(crate) struct Waiting {
    pub pid: Pid,
    name: String,
    go: PipeWriter,
    failed: PipeReader,
}

/// Forks the child. Must be called while the process has one thread. With `stdout_is_taken`, where the capture goes to
/// standard output, the command's goes to standard error.
///
/// # Errors
/// When the command cannot be found, or the system refuses a pipe or a fork.
pub(crate) fn prepare(
    command: &[OsString],
    invoker: Option<&Invoker>,
    inherited: &Inherited,
    stdout_is_taken: bool,
) -> Result<Waiting, Error> {
    let name = command[0].to_string_lossy().into_owned();
    let path = find(&command[0]).ok_or_else(|| Error::CommandNotFound { command: name.clone() })?;
    let not_run = |source: std::io::Error| Error::CommandNotRun { command: name.clone(), source };
    let path = CString::new(path.into_os_string().into_vec()).map_err(|error| not_run(error.into()))?;
    let args = command
        .iter()
        .map(|arg| CString::new(arg.as_bytes()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| not_run(error.into()))?;
    let by_shell = [SHELL.to_owned(), path.clone()].into_iter().chain(args.iter().skip(1).cloned()).collect();
    let program = Program { path, args, by_shell, environment: environment(invoker) };
    let pipe = || std::io::pipe().map_err(|source| Error::System { what: "make a pipe", source });
    let (gate, go) = pipe()?;
    let (failed, report) = pipe()?;

    // SAFETY: the process has one thread here (the caller's contract), so no lock can be held by a thread that is gone;
    // everything the child needs has been allocated before.
    match unsafe { fork() }.map_err(Error::system("fork"))? {
        ForkResult::Parent { child } => Ok(Waiting { pid: child, name, go, failed }),
        ForkResult::Child => {
            drop((go, failed));
            inherited::close_descriptors();
            if stdout_is_taken && nix::unistd::dup2_stdout(std::io::stderr()).is_err() {
                // No standard error either. SAFETY: the child does not use it.
                unsafe { libc::close(libc::STDOUT_FILENO) };
            }
            become_command(&program, invoker, inherited, gate, report)
        }
    }
}

impl Waiting {
    /// Lets the child execute the program, and returns when it has.
    ///
    /// # Errors
    /// When execve failed.
    pub(crate) fn go(mut self) -> Result<Pid, Error> {
        let mut errno = [0; 4];
        let sent = self.go.write_all(&[1]);
        let told = self.failed.read(&mut errno);
        match (sent, told) {
            (Ok(()), Ok(0)) => Ok(self.pid),
            (_, Ok(4)) => Err(Error::CommandNotRun {
                command: self.name,
                source: std::io::Error::from_raw_os_error(i32::from_le_bytes(errno)),
            }),
            (sent, told) => Err(Error::CommandNotRun {
                command: self.name,
                source: sent.err().or(told.err()).unwrap_or(std::io::ErrorKind::BrokenPipe.into()),
            }),
        }
    }
}

/// What execve takes.
struct Program {
    path: CString,
    args: Vec<CString>,
    /// The arguments if it turns out to be a script without `#!`.
    by_shell: Vec<CString>,
    environment: Vec<CString>,
}

impl Program {
    /// Executes it as execvp(3) does. Returns why it could not be.
    fn execute(&self) -> Errno {
        let Err(error) = execve(&self.path, &self.args, &self.environment);
        if error != Errno::ENOEXEC {
            return error;
        }
        let Err(error) = execve(SHELL, &self.by_shell, &self.environment);
        error
    }
}

/// In the child: waits for the word, and becomes the command as the invoking user, with signals as the capturer got them.
fn become_command(
    program: &Program,
    invoker: Option<&Invoker>,
    inherited: &Inherited,
    mut gate: PipeReader,
    mut report: PipeWriter,
) -> ! {
    let mut word = [0];
    if !matches!(gate.read(&mut word), Ok(1)) {
        // The capturer could not begin, or is gone: nothing was started.
        exit_now();
    }
    let become_user = |invoker: &Invoker| {
        nix::unistd::initgroups(&invoker.name, invoker.gid)?;
        nix::unistd::setgid(invoker.gid)?;
        nix::unistd::setuid(invoker.uid)
    };
    let errno = invoker
        .map_or(Ok(()), become_user)
        .and_then(|()| privilege::give_up_those_of_the_file().map_err(|_| Errno::EPERM))
        .and_then(|()| inherited.restore_signals())
        .map_or_else(|error| error, |()| program.execute());
    // Should the report fail too, the capturer sees the child's exit.
    let _ = report.write_all(&(errno as i32).to_le_bytes());
    exit_now()
}

fn exit_now() -> ! {
    // SAFETY: _exit ends the child without running the capturer's exit handlers.
    unsafe { libc::_exit(127) }
}

fn environment(invoker: Option<&Invoker>) -> Vec<CString> {
    let restored = invoker.map_or(&[][..], |invoker| &invoker.environment);
    let is_restored = |variable: &[u8]| {
        let mut restored = restored.iter().map(|(name, _)| name.as_bytes());
        restored.any(|name| variable.strip_prefix(name).is_some_and(|rest| rest.starts_with(b"=")))
    };
    let kept = inherited_environment().into_iter().filter(|variable| !is_restored(variable));
    let restored = restored.iter().map(|(name, value)| format!("{name}={value}").into_bytes());
    kept.chain(restored).filter_map(|variable| CString::new(variable).ok()).collect()
}

/// The variables that were inherited. From a program with file capabilities the C library hides some (TMPDIR, LD_LIBRARY_PATH):
/// they are not for us, but the command gets no such rights, and needs them.
fn inherited_environment() -> Vec<Vec<u8>> {
    let hidden = || std::fs::read("/proc/self/environ").ok().filter(|_| privilege::are_of_the_file());
    let seen = || std::env::vars_os().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat()).collect();
    hidden().map_or_else(seen, |all| {
        let variables = all.split(|byte| *byte == 0).filter(|variable| !variable.is_empty());
        variables.map(<[u8]>::to_vec).collect()
    })
}

/// The file that is executed for this name.
pub(crate) fn find(name: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        return path.exists().then_some(path);
    }
    let path = std::env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into());
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| executable(file))
}

pub(crate) fn executable(file: &Path) -> bool {
    file.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// The exit code that a shell would give: the code, or 128 plus the signal's number.
pub(crate) fn exit_code(status: nix::sys::wait::WaitStatus) -> Option<i32> {
    use nix::sys::wait::WaitStatus::{Exited, Signaled};
    match status {
        Exited(_, code) => Some(code),
        Signaled(_, signal, _) => Some(128 + signal as i32),
        _ => None,
    }
}
