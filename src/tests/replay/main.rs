//! `agentsight replay` on the command line, on the committed captures: neither root nor Linux is needed.

mod assertions;
mod cut;
mod golden;
mod made;
mod prices;
#[path = "../support/records.rs"]
mod records;
mod rows;

use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

const AGENTSIGHT: &str = env!("CARGO_BIN_EXE_agentsight");

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// A folder with some of the committed captures.
fn folder() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, as_name) in [("stub-anthropic", "run.asc"), ("stub-openai-parallel", "parallel.asc")] {
        std::fs::copy(fixtures().join(format!("captures/{name}.asc")), folder.path().join(as_name)).unwrap();
    }
    folder
}

fn command(folder: &TempDir, args: &str) -> Command {
    let mut command = Command::new(AGENTSIGHT);
    command.current_dir(folder).arg("replay").args(args.split_whitespace()).stdin(Stdio::null());
    command
}

fn replay(folder: &TempDir, args: &str) -> Output {
    command(folder, args).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What is written when all goes well.
#[track_caller]
fn lines(folder: &TempDir, args: &str) -> String {
    let output = replay(folder, args);
    assert_eq!((output.status.code(), text(&output.stderr).as_str()), (Some(0), ""), "{args}");
    text(&output.stdout)
}

/// Rows, without the first line.
#[track_caller]
fn rows(folder: &TempDir, args: &str) -> Vec<Value> {
    lines(folder, args).lines().skip(1).map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Runs it and compares exit status, standard output and standard error.
#[track_caller]
fn check(folder: &TempDir, args: &str, status: i32, stdout: &str, stderr: &str) {
    let output = replay(folder, args);
    assert_eq!((text(&output.stdout).as_str(), text(&output.stderr).as_str()), (stdout, stderr), "{args}");
    assert_eq!(output.status.code(), Some(status), "{args}");
}

/// Tables that have golden rows: a file each.
fn golden_tables(folder: &TempDir) -> usize {
    files_in(&folder.path().join("golden"), "ndjson")
}

fn files_in(folder: &Path, extension: &str) -> usize {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    names.filter(|path| path.extension().is_some_and(|it| it == extension)).count()
}

fn edit(folder: &TempDir, name: &str, from: &str, to: &str) {
    let path = folder.path().join(name);
    let before = std::fs::read_to_string(&path).unwrap();
    assert!(before.contains(from), "{before}");
    std::fs::write(path, before.replacen(from, to, 1)).unwrap();
}

#[test]
fn help_leads_with_examples() {
    assert!(replay(&folder(), "--help").stdout.starts_with(b"EXAMPLES:"));
}
