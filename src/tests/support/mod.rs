//! What the tests on the real kernel share. Where eBPF is not to be had they say so and pass; with AGENTSIGHT_EBPF=required
//! (scripts/test sets it on a machine that has it) they fail instead.

// Each test program uses a part of it.
#![allow(dead_code)]

use serde_json::Value;
use std::io::BufRead;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
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

/// Starts to record a command into `run.asc`. Returns the capturer, the command's standard input, and the lines that it prints.
pub fn piped(
    folder: &TempDir,
    options: &[&str],
    command: &[&str],
) -> (Child, ChildStdin, impl Iterator<Item = String> + use<>) {
    let args = [&["capture", "-o", "run.asc"], options, &["--"], command].concat();
    let mut capturer = Command::new(AGENTSIGHT)
        .current_dir(folder)
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let stdin = capturer.stdin.take().unwrap();
    let lines = std::io::BufReader::new(capturer.stdout.take().unwrap()).lines().map(Result::unwrap);
    (capturer, stdin, lines)
}

/// The rows of a query on `run.asc`, which may be lossy.
#[track_caller]
pub fn query(folder: &TempDir, sql: &str) -> Vec<Value> {
    let output = agentsight(folder, &["query", "--format", "ndjson", sql, "run.asc"]);
    assert!(matches!(output.status.code(), Some(0 | 3)), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout.lines().map(|line| serde_json::from_str(&line.unwrap()).unwrap()).collect()
}

/// Two ends of a TLS connection in one process: `talk(bytes)` sends what the other end reads to the end.
pub const TALK: &str = r#"
import os, socket, ssl, sys, threading
def pair():
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); server.load_cert_chain("cert.pem", "key.pem")
    client = ssl.create_default_context(cafile="cert.pem")
    listener = socket.create_server(("127.0.0.1", 0)); ends = {}
    def accept():
        connection, _ = listener.accept()
        ends["server"] = server.wrap_socket(connection, server_side=True)
    thread = threading.Thread(target=accept); thread.start()
    end = client.wrap_socket(socket.create_connection(listener.getsockname()), server_hostname="localhost")
    thread.join()
    return end, ends["server"]
def talk(what):
    sender, receiver = pair(); sender.sendall(what); sender.shutdown(socket.SHUT_WR)
    got = b""
    while more := receiver.recv(65536): got += more
    return got
"#;

/// Records a Python program that begins with [`TALK`], and expects that it ends well; returns what it printed.
#[track_caller]
pub fn record(folder: &TempDir, program: &str) -> String {
    std::fs::write(folder.path().join("program.py"), format!("{TALK}\n{program}")).unwrap();
    record_command(folder, &[&python(), "program.py"])
}

#[track_caller]
pub fn record_command(folder: &TempDir, command: &[&str]) -> String {
    let args = [&["capture", "-f", "-o", "run.asc", "--"], command].concat();
    let output = agentsight(folder, &args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(query(folder, "SELECT * FROM drops"), Vec::<Value>::new());
    String::from_utf8(output.stdout).unwrap()
}

/// What was sent over TLS, one row a process, by the order in which they were seen.
pub fn sent(folder: &TempDir) -> Vec<Value> {
    let sql = "SELECT proc_id, string_agg(text(data), '' ORDER BY seq) AS said FROM tls_data
        WHERE direction = 'sent' GROUP BY 1 ORDER BY 1";
    query(folder, sql)
}

/// A probe on a new file may come after the first of these: a program that speaks over loopback needs no time at all.
pub const TALK_LONG: &str = "for i in range(100): talk(b'%s %d' % (sys.argv[1].encode(), i))";

/// What each process sent last.
pub fn last_said(folder: &TempDir) -> Vec<Value> {
    let sql = "SELECT last_value(text(data) ORDER BY seq) AS said FROM tls_data
        WHERE direction = 'sent' GROUP BY proc_id ORDER BY proc_id";
    query(folder, sql).into_iter().map(|row| row["said"].clone()).collect()
}

/// The machine's library of this name, which Python uses for TLS.
pub fn library(name: &str) -> PathBuf {
    let find = "import _ssl, sys; print([l.split()[-1] for l in open('/proc/self/maps') if '/' + sys.argv[1] in l][0])";
    let output = Command::new("python3").args(["-c", find, name]).output().unwrap();
    String::from_utf8(output.stdout).unwrap().trim().into()
}

/// Copies the machine's libssl to where no linker looks by itself. Returns the name it is loaded by.
pub fn copy_libssl(to: &Path) -> String {
    std::fs::create_dir_all(to).unwrap();
    let library = library("libssl");
    let copy = to.join("copy");
    std::fs::copy(&library, &copy).unwrap();
    // In one step, as a package manager does it: whoever has the old file keeps it.
    let name = library.file_name().unwrap();
    std::fs::rename(copy, to.join(name)).unwrap();
    name.to_string_lossy().into_owned()
}
