//! Who is recorded: whoever is named, however they come to be it, and nobody else.

#![cfg(all(feature = "capture", target_os = "linux"))]

mod support;

use serde_json::json;
use std::process::{Child, Command, Stdio};
use support::{AGENTSIGHT, end, folder, query, recorder};

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

#[test]
fn a_program_that_is_started_by_a_link_is_found_by_the_name_of_its_file_and_by_the_whole_of_it() {
    let Some(folder) = folder() else { return };
    let copies = ["exe311", "an-executable-with-a-long-name", "an-executable-with-another-name"];
    for copy in copies {
        std::fs::copy("/bin/cat", folder.path().join(copy)).unwrap();
    }
    // What a link is called is what the kernel calls the process.
    let run = |link: &str, file: &str| {
        let link = folder.path().join(link);
        std::os::unix::fs::symlink(folder.path().join(file), &link).unwrap();
        Command::new(link).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap()
    };
    let mut running = vec![run("present", copies[0]), run("present-long", copies[1])];
    let updated = folder.path().join("updated");
    std::fs::copy("/bin/cat", &updated).unwrap();
    running.push(Command::new(&updated).stdin(Stdio::piped()).spawn().unwrap());
    std::fs::remove_file(&updated).unwrap();
    let names = ["--comm", copies[0], "--comm", copies[1], "--comm", "updated"];
    let recorder = recorder(&folder, &names);
    running.extend([run("future", copies[0]), run("future-long", copies[1])]);
    let mut others = [run("another", copies[2]), run("another-cat", "/bin/cat")];
    let mut expected: Vec<u32> = running.iter().map(Child::id).collect();
    expected.sort_unstable();
    for child in running.iter_mut().chain(&mut others) {
        drop(child.stdin.take());
        child.wait().unwrap();
    }
    end(recorder);
    let seen = query(&folder, "SELECT pid FROM processes ORDER BY pid");
    assert_eq!(seen.iter().map(|row| row["pid"].clone()).collect::<Vec<_>>(), expected);
}
