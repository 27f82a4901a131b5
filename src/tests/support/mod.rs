//! What the tests on the real kernel share. Where eBPF is not to be had they say so and pass; with AGENTSIGHT_EBPF=required
//! (scripts/test sets it on a machine that has it) they fail instead.

// Each test program uses a part of it.
#![allow(dead_code)]

use serde_json::Value;
use std::io::BufRead;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use tempfile::TempDir;

pub const AGENTSIGHT: &str = env!("CARGO_BIN_EXE_agentsight");

/// A folder for a test, or `None` if this machine cannot record.
pub fn folder() -> Option<TempDir> {
    let root = std::fs::metadata("/proc/self").is_ok_and(|metadata| metadata.uid() == 0);
    if root && Path::new("/sys/kernel/btf/vmlinux").exists() {
        return Some(tempfile::tempdir().unwrap());
    }
    assert_ne!(std::env::var("AGENTSIGHT_EBPF").as_deref(), Ok("required"), "eBPF is required, but not to be had");
    eprintln!("skipped: recording needs root and a kernel with BTF");
    None
}

/// The interpreter itself, not a wrapper around it that runs other programs first.
pub fn python() -> String {
    let output = Command::new("python3").args(["-c", "import sys; print(sys.executable, end='')"]).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// Such a folder with a certificate for localhost.
pub fn certificate() -> Option<TempDir> {
    let folder = folder()?;
    let made = Command::new("openssl")
        .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"])
        .args(["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"])
        .args(["-keyout", "key.pem", "-out", "cert.pem"])
        .current_dir(&folder)
        .stderr(Stdio::null())
        .status();
    assert!(made.unwrap().success());
    Some(folder)
}

pub fn kill(signal: &str, pid: u32) {
    assert!(Command::new("kill").args([signal, &pid.to_string()]).status().unwrap().success());
}

pub fn agentsight(folder: &TempDir, args: &[&str]) -> Output {
    Command::new(AGENTSIGHT).current_dir(folder).args(args).stdin(Stdio::null()).output().unwrap()
}

/// Starts a recording of what the options name, and waits until it has begun.
pub fn recorder(folder: &TempDir, options: &[&str]) -> Child {
    let args = [&["capture", "-q", "-o", "run.asc"], options].concat();
    let child = Command::new(AGENTSIGHT).current_dir(folder).args(args).stdin(Stdio::null()).spawn().unwrap();
    while !folder.path().join("run.asc").metadata().is_ok_and(|metadata| metadata.len() > 0) {
        std::thread::yield_now();
    }
    child
}

/// Ends a recording from outside.
pub fn end(mut recorder: Child) {
    kill("-TERM", recorder.id());
    recorder.wait().unwrap();
}

/// The rows of a query on `run.asc`, which may be lossy.
#[track_caller]
pub fn query(folder: &TempDir, sql: &str) -> Vec<Value> {
    let output = agentsight(folder, &["query", "--format", "ndjson", sql, "run.asc"]);
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}
