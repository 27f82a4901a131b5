//! A command that is recorded is the command that it would be without: it gets what the capturer's caller gave, and its caller
//! gets its status.

#![cfg(all(feature = "capture", target_os = "linux"))]

mod support;

use serde_json::json;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Output, Stdio};
use support::{AGENTSIGHT, agentsight, folder, kill, query};
use tempfile::TempDir;

/// Bytes that a pipe holds (pipe(7)).
const PIPE: usize = 64 << 10;

/// Runs a program after a piece of Python has changed what it inherits.
fn run_after(folder: &TempDir, setup: &str, program: &[&str]) -> Output {
    let code = format!("import os, resource, signal, sys\n{setup}\nos.execvp(sys.argv[1], sys.argv[1:])");
    let python = Command::new("python3").arg("-c").arg(code).args(program).current_dir(folder).output();
    python.unwrap()
}

/// Records a command after a piece of Python has changed what it inherits.
fn record_after(folder: &TempDir, setup: &str, command: &[&str]) -> Output {
    let capture = [&[AGENTSIGHT, "capture", "-q", "-f", "-o", "run.asc", "--"], command].concat();
    run_after(folder, setup, &capture)
}

#[test]
fn the_exit_status_is_kept_where_the_caller_ignores_sigchld() {
    let Some(folder) = folder() else { return };
    let setup = "signal.signal(signal.SIGCHLD, signal.SIG_IGN)";
    let output = record_after(&folder, setup, &["sh", "-c", "exit 7"]);
    assert_eq!(output.status.code(), Some(7), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(query(&folder, "SELECT exit_code FROM captures"), [json!({"exit_code": 7})]);
}

#[test]
fn signals_and_descriptors_are_those_of_the_caller() {
    let Some(folder) = folder() else { return };
    let ignored = "[signal.signal(s, signal.SIG_IGN) for s in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ)]";
    let default = "[signal.signal(s, signal.SIG_DFL) for s in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ)]";
    let blocked = "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1, signal.SIGTERM])";
    // A shell sets its signals up anew.
    let signals = ["grep", "^Sig[BI]", "/proc/self/status"];
    let descriptors = ["sh", "-c", "ls /proc/self/fd >&2"];
    for (setup, command) in [
        (ignored, &signals),
        (default, &signals),
        (blocked, &signals),
        ("os.close(0)", &descriptors),
        ("os.close(1)", &descriptors),
        ("os.close(0); os.close(1)", &descriptors),
    ] {
        let (plain, recorded) = (run_after(&folder, setup, command), record_after(&folder, setup, command));
        let told = |output: &Output| String::from_utf8([&output.stdout[..], &output.stderr].concat()).unwrap();
        assert_eq!((recorded.status, told(&recorded)), (plain.status, told(&plain)), "{setup}");
        assert!(!told(&plain).is_empty());
    }
}

#[test]
fn a_summary_that_nobody_takes_does_not_replace_the_exit_status() {
    let Some(folder) = folder() else { return };
    let (reader, closed) = std::io::pipe().unwrap();
    drop(reader);
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    for nowhere in [Stdio::from(full), Stdio::from(closed)] {
        let args = ["capture", "-f", "-o", "run.asc", "--", "sh", "-c", "exit 3"];
        let status = Command::new(AGENTSIGHT).current_dir(&folder).args(args).stderr(nowhere).status();
        assert_eq!(status.unwrap().code(), Some(3));
    }
}

#[test]
fn a_signal_before_the_command_was_let_go_ends_the_capturer_without_it() {
    let Some(folder) = folder() else { return };
    for (signal, status) in [("-INT", 130), ("-TERM", 143)] {
        // A full pipe holds the capturer up before it lets the command go.
        let (mut reader, mut full) = std::io::pipe().unwrap();
        full.write_all(&[0; PIPE]).unwrap();
        let mut capturer = Command::new(AGENTSIGHT)
            .current_dir(&folder)
            .args(["capture", "-o", "-", "--", "touch", "started"])
            .stdout(full)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Its child waits to become the command.
        let children = format!("/proc/{0}/task/{0}/children", capturer.id());
        while std::fs::read_to_string(&children).unwrap().is_empty() {
            std::thread::yield_now();
        }
        kill(signal, capturer.id());
        std::io::copy(&mut reader, &mut std::io::sink()).unwrap();
        assert_eq!(capturer.wait().unwrap().code(), Some(status));
        let said = std::io::read_to_string(capturer.stderr.take().unwrap()).unwrap();
        assert!(said.contains("nothing was started"), "{said}");
        assert!(!folder.path().join("started").exists());
    }
}

#[test]
fn a_capturer_that_waits_for_the_reader_of_a_fifo_can_be_ended() {
    let Some(folder) = folder() else { return };
    assert!(Command::new("mkfifo").current_dir(&folder).arg("fifo").status().unwrap().success());
    let args = ["capture", "-o", "fifo", "--", "true"];
    let mut capturer = Command::new(AGENTSIGHT).current_dir(&folder).args(args).spawn().unwrap();
    while !std::fs::read_to_string(format!("/proc/{}/stat", capturer.id())).unwrap().contains(") S ") {
        std::thread::yield_now();
    }
    kill("-INT", capturer.id());
    assert_eq!(capturer.wait().unwrap().signal(), Some(2));
}

#[test]
fn a_command_that_cannot_be_run_takes_no_device_along() {
    let Some(folder) = folder() else { return };
    assert!(Command::new("mknod").current_dir(&folder).args(["null", "c", "1", "3"]).status().unwrap().success());
    let output = agentsight(&folder, &["capture", "-o", "null", "--", "/etc/passwd"]);
    assert_eq!(output.status.code(), Some(126));
    assert!(folder.path().join("null").exists());
    let output = agentsight(&folder, &["capture", "-o", "null", "--", "true"]);
    assert!(String::from_utf8_lossy(&output.stderr).starts_with("agentsight: null in "));
}

#[test]
fn programs_are_found_and_run_as_execvp_does_it() {
    let Some(folder) = folder() else { return };
    std::fs::write(folder.path().join("script"), "exit $1\n").unwrap();
    std::fs::set_permissions(folder.path().join("script"), std::fs::Permissions::from_mode(0o755)).unwrap();
    let output = agentsight(&folder, &["capture", "-q", "-o", "run.asc", "--", "./script", "9"]);
    assert_eq!(output.status.code(), Some(9), "a script without #!: {}", String::from_utf8_lossy(&output.stderr));
    let output = record_after(&folder, "del os.environ['PATH']", &["sh", "-c", "exit 6"]);
    assert_eq!(output.status.code(), Some(6), "no PATH: {}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn what_cannot_be_meant_is_refused_before_anything_is_started() {
    let Some(folder) = folder() else { return };
    let refused = |args: &[&str]| {
        let output = agentsight(&folder, &[&["capture", "-o", "run.asc"], args, &["--", "touch", "started"]].concat());
        assert!(!folder.path().join("started").exists(), "{args:?}");
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for duration in ["0", "0s", "1e19", "18446744073709551615"] {
        let (status, message) = refused(&["--duration", duration]);
        assert!(status == Some(2) && message.contains(&format!("`{duration}` is ")), "{message}");
    }
    let (status, message) = refused(&["--keep", "3"]);
    assert!(status == Some(2) && message.contains("--rotate-size"), "{message}");
    let names: Vec<String> = (0..65).flat_map(|name| ["--comm".to_owned(), format!("name{name}")]).collect();
    let (status, message) = refused(&names.iter().map(String::as_str).collect::<Vec<_>>());
    assert!(status == Some(125) && message.contains("64 names"), "{message}");
    let few = run_after(
        &folder,
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))",
        &[AGENTSIGHT, "capture", "-o", "run.asc", "--", "touch", "started"],
    );
    let message = String::from_utf8_lossy(&few.stderr);
    assert!(few.status.code() == Some(125) && message.contains("ulimit -n"), "{message}");
    assert!(!folder.path().join("started").exists());
}

#[test]
fn under_nohup_the_recording_outlives_the_terminal() {
    let Some(folder) = folder() else { return };
    let setup = "signal.signal(signal.SIGHUP, signal.SIG_IGN)";
    let output = record_after(&folder, setup, &["sh", "-c", "kill -HUP $PPID; kill -HUP $$; exit 4"]);
    assert_eq!(output.status.code(), Some(4), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(query(&folder, "SELECT exit_code FROM captures"), [json!({"exit_code": 4})]);
}
