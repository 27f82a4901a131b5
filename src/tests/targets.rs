//! Who is recorded: whoever is named, however they come to be it, and nobody else.

#![cfg(all(feature = "capture", target_os = "linux"))]

mod support;

use serde_json::json;
use std::process::{Child, Command, Stdio};
use support::{AGENTSIGHT, end, folder, query};

#[test]
fn processes_that_appear_while_the_capturer_starts_are_recorded_each_once() {
    let Some(folder) = folder() else { return };
    let named = folder.path().join("named-agent");
    std::fs::copy("/bin/cat", &named).unwrap();
    for option in [&["--comm", "named-agent"][..], &["--all"]] {
        let run = folder.path().join("run.asc");
        let args = [&["capture", "-q", "-f", "-o", "run.asc"], option].concat();
        let _ = std::fs::remove_file(&run);
        let recorder = Command::new(AGENTSIGHT).current_dir(&folder).args(args).spawn().unwrap();
        let mut started: Vec<Child> = Vec::new();
        while !run.metadata().is_ok_and(|metadata| metadata.len() > 0) {
            started.push(Command::new(&named).stdin(Stdio::piped()).spawn().unwrap());
        }
        let pids: Vec<String> = started.iter().map(|child| child.id().to_string()).collect();
        for mut child in started {
            drop(child.stdin.take());
            child.wait().unwrap();
        }
        end(recorder);
        // With what they are, be they found or told of by the kernel.
        let sql = format!(
            "SELECT count(*) AS rows, count(DISTINCT pid) AS pids, count(exit_code) AS exits,
             count(*) FILTER (WHERE executable_path = '{}') AS programs FROM processes WHERE pid IN ({})",
            named.canonicalize().unwrap().display(),
            pids.join(",")
        );
        let n = pids.len();
        assert_eq!(query(&folder, &sql), [json!({"rows": n, "pids": n, "exits": n, "programs": n})], "{option:?}");
    }
}
