//! Who is recorded: whoever is named, however they come to be it, and nobody else.

#![cfg(all(feature = "capture", target_os = "linux"))]

mod support;

use serde_json::json;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use support::{AGENTSIGHT, agentsight, end, folder, python, query, recorder};
use tempfile::TempDir;

#[test]
fn processes_that_appear_while_the_capturer_starts_are_recorded_each_once() {
    let Some(folder) = folder() else { return };
    let named = folder.path().join("named-agent");
    std::fs::copy("/bin/sh", &named).unwrap();
    for option in [&["--comm", "named-agent"][..], &["--all"]] {
        let run = folder.path().join("run.asc");
        let args = [&["capture", "-q", "-f", "-o", "run.asc"], option].concat();
        let _ = std::fs::remove_file(&run);
        let recorder = Command::new(AGENTSIGHT).current_dir(&folder).args(args).spawn().unwrap();
        // All wait for its end.
        let (wait, go) = std::io::pipe().unwrap();
        let mut started: Vec<Child> = Vec::new();
        while !run.metadata().is_ok_and(|metadata| metadata.len() > 0) {
            // Where starting takes long they would be thousands, and each makes it longer.
            if started.len() == 300 {
                std::thread::yield_now();
                continue;
            }
            started
                .push(Command::new(&named).args(["-c", "read word"]).stdin(wait.try_clone().unwrap()).spawn().unwrap());
        }
        let pids: Vec<String> = started.iter().map(|child| child.id().to_string()).collect();
        drop(go);
        for mut child in started {
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
        std::fs::copy("/bin/sh", folder.path().join(copy)).unwrap();
    }
    let wait = |program: &Path| Command::new(program).args(["-c", "read word"]).stdin(Stdio::piped()).spawn().unwrap();
    // What a link is called is what the kernel calls the process.
    let run = |link: &str, file: &str| {
        let link = folder.path().join(link);
        std::os::unix::fs::symlink(folder.path().join(file), &link).unwrap();
        wait(&link)
    };
    let mut running = vec![run("present", copies[0]), run("present-long", copies[1])];
    let updated = folder.path().join("updated");
    std::fs::copy("/bin/sh", &updated).unwrap();
    running.push(wait(&updated));
    std::fs::remove_file(&updated).unwrap();
    let names = ["--comm", copies[0], "--comm", copies[1], "--comm", "updated"];
    let recorder = recorder(&folder, &names);
    running.extend([run("future", copies[0]), run("future-long", copies[1])]);
    let mut others = [run("another", copies[2]), run("another-sh", "/bin/sh")];
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

/// The id of a container that nobody has.
const CONTAINER: &str = "c0ffee0123456789abcdef0123456789abcdef0123456789abcdef0123456789";

/// Runs a script while a container's cgroup, `$group`, is recorded as `options` name it. In it `$present` waits for a line in the
/// pipe `go`, and `enter` runs a program. A mount of its own: what the machine has there stays as it is.
#[track_caller]
fn in_container(folder: &TempDir, options: &[&str], script: &str) {
    let script = format!(
        r#"
        mount -t cgroup2 cgroup2 /sys/fs/cgroup; above=/sys/fs/cgroup/agentsight-test-$$
        group=$above/docker-{CONTAINER}.scope; mkdir -p $group; [ $2 != GROUP ] || set -- $1 $group
        trap 'kill $capturer $present 2>/dev/null; wait; rmdir $group $above' EXIT
        enter() {{ sh -c 'echo $$ >"$0/cgroup.procs"; exec "$@"' $group "$@"; }}
        mkfifo go; enter sh -c 'read go <go' & present=$!
        until grep -q . $group/cgroup.procs; do :; done
        "$0" capture -q -f -o run.asc "$@" & capturer=$!
        until [ -s run.asc ]; do :; done
        {script}
        kill $capturer; wait $capturer; true"#
    );
    let _ = std::fs::remove_file(folder.path().join("run.asc"));
    let _ = std::fs::remove_file(folder.path().join("go"));
    let output = Command::new("unshare")
        .args(["-m", "sh", "-c", &script, AGENTSIGHT])
        .args(options)
        .current_dir(folder)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_cgroup_that_is_made_anew_is_recorded_as_the_one_before_it() {
    let Some(folder) = folder() else { return };
    let script = "echo go >go; wait $present; /bin/echo outside
        until rmdir $group $above; do :; done; mkdir -p $group; enter /bin/echo again
        mkdir $above/other; (group=$above/other; enter /bin/echo other); until rmdir $above/other; do :; done
        until rmdir $group; do :; done; mkdir $group $group/below; (group=$group/below; enter /bin/echo below)
        until rmdir $group/below; do :; done";
    for options in [["--cgroup", "GROUP"], ["--container", &CONTAINER[..12]]] {
        in_container(&folder, &options, script);
        let said = query(&folder, "SELECT args[2] AS word FROM execs WHERE args[1] = '/bin/echo' ORDER BY ts");
        assert_eq!(said, [json!({"word": "again"}), json!({"word": "below"})], "{options:?}");
    }
}

#[test]
fn a_child_that_is_born_in_a_cgroup_is_recorded_before_it_executes_anything() {
    let Some(folder) = folder() else { return };
    // struct clone_args of clone3(2), with CLONE_INTO_CGROUP and SIGCHLD.
    let program = "import ctypes, os, struct, sys
args = struct.pack('11Q', 0x200000000, 0, 0, 0, 17, 0, 0, 0, 0, 0, os.open(sys.argv[1], os.O_RDONLY))
child = ctypes.CDLL(None).syscall(435, args, len(args))
if child == 0: os.open('born', os.O_CREAT); os._exit(7)
assert child > 0 and os.waitpid(child, 0)[1] == 7 << 8; os.open('outside', os.O_CREAT)";
    let script = format!("{} -c \"{program}\" $group || exit 1; echo go >go; wait $present", python());
    in_container(&folder, &["--cgroup", "GROUP"], &script);
    let sql = "SELECT count(*) AS n FROM files WHERE op = 'open' AND path LIKE '%/";
    assert_eq!(query(&folder, &format!("{sql}born'")), [json!({"n": 1})]);
    assert_eq!(query(&folder, &format!("{sql}outside'")), [json!({"n": 0})]);
    assert_eq!(query(&folder, "SELECT count(*) AS n FROM processes WHERE exit_code = 7"), [json!({"n": 1})]);
}

#[test]
fn a_thread_is_no_process_and_the_process_is_named() {
    let Some(folder) = folder() else { return };
    let program = "import sys, threading
thread = threading.Thread(target=lambda: sys.stdin.read()); thread.start(); print(thread.native_id, flush=True)";
    let mut target =
        Command::new(python()).args(["-c", program]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(target.stdout.take().unwrap()).lines();
    let tid = lines.next().unwrap().unwrap();
    let output = agentsight(&folder, &["capture", "-o", "run.asc", "--pid", &tid]);
    drop(target.stdin.take());
    target.wait().unwrap();
    let message = format!("agentsight: {tid} is a thread of process {pid}: use {pid}\n", pid = target.id());
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stderr).as_ref()), (Some(125), message.as_str()));
    assert!(!folder.path().join("run.asc").exists());
}
