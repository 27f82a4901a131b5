//! Starts the command that is recorded. The child waits until recording has begun, and only then executes the program: what
//! it does from its first instruction on is in the capture.

use crate::Error;
use crate::user::Invoker;
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal, sigaction, sigprocmask};
use nix::unistd::{ForkResult, Pid, fork};
use std::ffi::{CString, OsStr, OsString};
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

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
    let environment = environment(invoker);
    let pipe = || std::io::pipe().map_err(|source| Error::System { what: "make a pipe", source });
    let (gate, go) = pipe()?;
    let (failed, report) = pipe()?;

    // SAFETY: the process has one thread here (the caller's contract), so no lock can be held by a thread that is gone;
    // everything the child needs has been allocated before.
    match unsafe { fork() }.map_err(Error::system("fork"))? {
        ForkResult::Parent { child } => Ok(Waiting { pid: child, name, go, failed }),
        ForkResult::Child => {
            drop((go, failed));
            if stdout_is_taken && nix::unistd::dup2_stdout(std::io::stderr()).is_err() {
                exit_now();
            }
            become_command(&path, &args, &environment, invoker, gate, report)
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

/// In the child: waits for the word, and becomes the command as the invoking user, with signals as a shell leaves them.
fn become_command(
    path: &CString,
    args: &[CString],
    environment: &[CString],
    invoker: Option<&Invoker>,
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
    let errno = reset_signals()
        .and_then(|()| invoker.map_or(Ok(()), become_user))
        .and_then(|()| nix::unistd::execve(path, args, environment).map(|_| ()))
        .err()
        .unwrap_or(nix::errno::Errno::UnknownErrno);
    // Should the report fail too, the capturer sees the child's exit.
    let _ = report.write_all(&(errno as i32).to_le_bytes());
    exit_now()
}

fn exit_now() -> ! {
    // SAFETY: _exit ends the child without running the capturer's exit handlers.
    unsafe { libc::_exit(127) }
}

/// Rust ignores SIGPIPE, and the capturer blocks what it waits for; the command shall notice neither.
fn reset_signals() -> nix::Result<()> {
    let default = SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty());
    // SAFETY: the default action runs no code of ours.
    unsafe { sigaction(Signal::SIGPIPE, &default) }?;
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None)
}

fn environment(invoker: Option<&Invoker>) -> Vec<CString> {
    let restored = invoker.map_or(&[][..], |invoker| &invoker.environment);
    let kept = std::env::vars_os()
        .filter(|(name, _)| !restored.iter().any(|(restored, _)| name.as_os_str() == OsStr::new(restored)));
    let restored = restored.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    kept.chain(restored)
        .filter_map(|(name, value)| CString::new([name.as_bytes(), b"=", value.as_bytes()].concat()).ok())
        .collect()
}

/// The file that a shell would execute for this name.
pub(crate) fn find(name: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        let path = PathBuf::from(name);
        return path.exists().then_some(path);
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| executable(file))
}

/// The programs that will run for this name: the file, and when it is a script, what its first line names.
pub(crate) fn programs(name: &OsStr) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut next = find(name);
    while let Some(program) = next.filter(|_| found.len() < MAX_INTERPRETERS) {
        next = interpreter(&program);
        found.push(program);
    }
    found
}

/// The programs that a command will run, as far as it says so: its own, and those that a shell, `env` or `timeout` is told to run
/// in its arguments. They are looked through before they start, which takes a large one longer than it may need to speak.
pub(crate) fn programs_of(command: &[OsString]) -> Vec<PathBuf> {
    let Some((name, arguments)) = command.split_first() else { return Vec::new() };
    let punctuation = |byte: &u8| byte.is_ascii_whitespace() || b";&|()<>{}`\"'$=,".contains(byte);
    let words = arguments.iter().flat_map(|argument| argument.as_bytes().split(punctuation));
    let words = words.filter(|word| !word.is_empty() && !word.starts_with(b"-")).take(MAX_WORDS);
    let mentioned = words.filter(|word| find(OsStr::from_bytes(word)).is_some_and(|file| executable(&file)));
    let mut found = Vec::new();
    for program in programs(name).into_iter().chain(mentioned.flat_map(|word| programs(OsStr::from_bytes(word)))) {
        if !found.contains(&program) {
            found.push(program);
        }
    }
    found
}

/// A prompt has many words, and most of them are no programs.
const MAX_WORDS: usize = 64;

/// The kernel gives up on a longer chain of scripts.
const MAX_INTERPRETERS: usize = 5;

/// What the first line of a script names, `#!/usr/bin/env NAME` looked up; `None` for what is no script.
fn interpreter(script: &Path) -> Option<PathBuf> {
    let mut start = Vec::new();
    std::fs::File::open(script).ok()?.take(256).read_to_end(&mut start).ok()?;
    let line = std::str::from_utf8(start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?).ok()?;
    let mut words = line.split_whitespace();
    let program = words.next()?;
    if !program.ends_with("/env") {
        return Some(program.into());
    }
    let name = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
    find(OsStr::new(name))
}

fn executable(file: &Path) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_says_what_its_shell_will_run() {
        let folder = tempfile::tempdir().unwrap();
        let tool = folder.path().join("tool");
        std::fs::copy("/bin/sh", &tool).unwrap();
        std::fs::write(folder.path().join("text"), "").unwrap();
        let script = format!("cd /; A=b; (exec \"{0}/tool\" --all <{0}/text)|no-such-command", folder.path().display());
        let programs = programs_of(&["env".into(), "A=b".into(), "sh".into(), "-c".into(), script.into()]);
        let [env, sh] = ["env", "sh"].map(|name| find(OsStr::new(name)).unwrap());
        assert_eq!(programs, [env, sh, tool]);
    }

    #[test]
    fn the_programs_of_a_script_are_the_script_and_its_interpreter() {
        let folder = tempfile::tempdir().unwrap();
        let script = |name: &str, first_line: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, format!("{first_line}\nrest\n")).unwrap();
            path
        };
        let sh = find(OsStr::new("sh")).unwrap();
        for first_line in ["#!/usr/bin/env sh", "#! /usr/bin/env -S A=b sh -e"] {
            let path = script("env", first_line);
            assert_eq!(programs(path.as_os_str()), [path, sh.clone()], "{first_line}");
        }
        let path = script("plain", "#!/bin/sh -e");
        assert_eq!(programs(path.as_os_str()), [path, "/bin/sh".into()]);
        let path = script("none", "echo");
        assert_eq!(programs(path.as_os_str()), [path]);
        let endless = script("loop", &format!("#!{}", folder.path().join("loop").display()));
        assert_eq!(programs(endless.as_os_str()).len(), MAX_INTERPRETERS);
    }
}
