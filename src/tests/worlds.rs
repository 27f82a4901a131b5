//! Who a process is, and in which world: its user and its namespaces, what it was before recording began, and paths that mean
//! something else to others.

#![cfg(all(feature = "capture", target_os = "linux"))]

mod support;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use support::{end, folder, python, query, record_command, recorder};
use tempfile::TempDir;

/// Records a Python program. Returns what it printed.
#[track_caller]
fn record(folder: &TempDir, program: &str) -> String {
    record_command(folder, &[&python(), "-c", program])
}

#[test]
fn what_ran_already_is_told_with_its_arguments_its_folder_and_what_it_has_open() {
    let Some(folder) = folder() else { return };
    let below = folder.path().canonicalize().unwrap().join("below");
    std::fs::create_dir(&below).unwrap();
    let mut running = Command::new("sh")
        .args(["-c", "exec 7<.; echo ready; read word; exec cat /dev/null", "it's running"])
        .current_dir(&below)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(running.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    let recorder = recorder(&folder, &["--pid", &running.id().to_string()]);
    drop(running.stdin.take());
    running.wait().unwrap();
    end(recorder);
    let sql = "SELECT args[4] AS name, args[2] AS second, working_directory AS folder, truncated, was_running FROM execs ORDER BY ts";
    let expected = [
        json!({"name": "it's running", "second": "-c", "folder": below, "truncated": false, "was_running": true}),
        json!({"name": null, "second": "/dev/null", "folder": below, "truncated": false, "was_running": false}),
    ];
    assert_eq!(query(&folder, sql), expected);
    let open = query(&folder, "SELECT target FROM descriptors WHERE fd = 7");
    assert_eq!(open, [json!({"target": below})]);
    let own = std::fs::read_link("/proc/self/ns/pid").unwrap();
    let seen = query(&folder, "SELECT concat('pid:[', pid_namespace, ']') AS pids FROM processes");
    assert_eq!(seen, [json!({"pids": own})]);
}

#[test]
fn a_program_that_is_recorded_from_its_exec_on_did_not_run_before() {
    let Some(folder) = folder() else { return };
    let named = folder.path().join("named-agent");
    std::fs::copy("/bin/sh", &named).unwrap();
    let recorder = recorder(&folder, &["--comm", "named-agent"]);
    for _ in 0..50 {
        assert!(Command::new(&named).args(["-c", ":"]).status().unwrap().success());
    }
    end(recorder);
    let sql =
        "SELECT count(*) AS rows, count(DISTINCT proc_id) AS processes, count(*) FILTER (WHERE was_running) AS running
        FROM execs";
    assert_eq!(query(&folder, sql), [json!({"rows": 50, "processes": 50, "running": 0})]);
}

#[test]
fn who_changes_its_user_without_an_exec_is_told_as_it_is_then() {
    let Some(folder) = folder() else { return };
    let program = r#"
import os, threading
def child(work):
    if os.fork() == 0: work(); os._exit(0)
    os.wait()
def user(): os.setgid(1002); os.setuid(1001)
def effective(): os.setresuid(-1, 1003, -1)
def of_a_thread():
    thread = threading.Thread(target=lambda: os.setuid(1004)); thread.start(); thread.join()
child(user); child(effective); child(of_a_thread)"#;
    record(&folder, program);
    let sql = "SELECT uid, effective_uid, gid, effective_gid FROM processes ORDER BY proc_id";
    let row = |[uid, effective_uid, gid, effective_gid]: [u32; 4]| json!({"uid": uid, "effective_uid": effective_uid, "gid": gid, "effective_gid": effective_gid});
    let own = row([0, 0, 0, 0]);
    let expected = [own, row([1001, 1001, 1002, 1002]), row([0, 1003, 0, 0]), row([1004, 1004, 0, 0])];
    assert_eq!(query(&folder, sql), expected);
}

#[test]
fn processes_say_in_which_namespaces_they_are() {
    let Some(folder) = folder() else { return };
    let program = r#"
import ctypes, os
def told(what): print(what, os.getpid(), *(os.stat(f"/proc/self/ns/{name}").st_ino for name in ("mnt", "net", "user")), flush=True)
told("outside")
if os.fork() == 0:
    NEWNS, NEWNET, NEWUSER, NEWPID = 0x20000, 0x40000000, 0x10000000, 0x20000000
    assert ctypes.CDLL(None).unshare(NEWUSER | NEWNS | NEWNET | NEWPID) == 0
    told("unshared")
    if os.fork() == 0: told("born"); os._exit(0)
    os.wait(); os._exit(0)
os.wait()"#;
    let printed = record(&folder, program);
    let rows = query(
        &folder,
        "SELECT namespace_pid, mnt_namespace, net_namespace, user_namespace, pid_namespace FROM processes ORDER BY proc_id",
    );
    let columns = ["namespace_pid", "mnt_namespace", "net_namespace", "user_namespace"];
    let seen: Vec<String> = rows.iter().map(|row| columns.map(|column| row[column].to_string()).join(" ")).collect();
    let said: Vec<&str> = printed.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(seen, said);
    assert_eq!(rows[2]["namespace_pid"], 1, "the first of a namespace");
    assert!(
        rows[0]["pid_namespace"] == rows[1]["pid_namespace"] && rows[1]["pid_namespace"] != rows[2]["pid_namespace"]
    );
}

#[test]
fn one_file_that_has_two_paths_in_two_worlds_is_known_by_its_inode() {
    let Some(folder) = folder() else { return };
    let script = "printf hello >file; mkdir inside
        unshare -m sh -c 'mount --bind . inside && cd inside && cat file >/dev/null'";
    record_command(&folder, &["sh", "-c", script]);
    let sql = "SELECT count(DISTINCT path) AS paths, count(DISTINCT concat(device, ' ', inode)) AS files FROM files
        WHERE path LIKE '%/file'";
    assert_eq!(query(&folder, sql), [json!({"paths": 2, "files": 1})]);
}

#[test]
fn a_path_that_lost_its_front_is_not_taken_for_one_that_is_whole() {
    let Some(folder) = folder() else { return };
    let program = r#"
import os
for _ in range(30): os.mkdir("x" * 200); os.chdir("x" * 200)
os.close(os.open("target", os.O_CREAT | os.O_WRONLY))
try: os.open("none", os.O_RDONLY)
except FileNotFoundError: pass
os.spawnv(os.P_WAIT, "/bin/true", ["true"])"#;
    record(&folder, program);
    let sql = "SELECT op, error FROM files WHERE path LIKE '…/xxx%/target' OR path LIKE '…/xxx%/none' ORDER BY ts";
    let row = |op: &str, error: Option<&str>| json!({"op": op, "error": error});
    assert_eq!(query(&folder, sql), [row("open", None), row("close", None), row("open", Some("ENOENT"))]);
    let whole = query(&folder, "SELECT path FROM files WHERE path LIKE '/xxx%'");
    assert_eq!(whole, Vec::<Value>::new());
    let folders = query(&folder, "SELECT left(working_directory, 3) AS start FROM execs WHERE args[1] = 'true'");
    assert_eq!(folders, [json!({"start": "…/x"})]);
}

#[test]
fn what_lies_below_another_root_is_marked() {
    let Some(folder) = folder() else { return };
    // What is mounted nowhere (open_tree), and what a process has open that changes its root.
    let program = r#"
import ctypes, os
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def child(work):
    if os.fork() == 0: work(); os._exit(1)
    os.wait()
tree = libc.syscall(428, -100, os.path.realpath("/bin/true").encode(), 1); assert tree >= 0
child(lambda: os.execve(tree, ["detached"], {}))
os.mkdir("root"); open("outside", "w").close(); here = os.open(".", os.O_RDONLY)
def inside():
    os.chroot("root"); os.close(os.open("outside", os.O_RDONLY, dir_fd=here))
    try: os.open("none", os.O_RDONLY, dir_fd=here)
    except FileNotFoundError: pass
child(inside)
# openat2, with RESOLVE_IN_ROOT: the folder is the root.
root = os.open("root", os.O_RDONLY)
how = (ctypes.c_uint64 * 3)(0, 0, 0x10)
assert libc.syscall(437, root, b"/none/such", ctypes.byref(how), 24) == -1"#;
    record(&folder, program);
    let detached = query(&folder, "SELECT executable_path AS path FROM execs WHERE args[1] = 'detached'");
    let path = detached[0]["path"].as_str().unwrap();
    let program = Path::new("/bin/true").canonicalize().unwrap();
    assert!(path.starts_with("(unreachable)/") && Path::new(path).ends_with(program.file_name().unwrap()), "{path}");
    let sql = "SELECT DISTINCT regexp_replace(path, '/.*/', '/…/') AS path, op FROM files WHERE path LIKE '(%' ORDER BY path, op";
    let row = |op: &str, name: &str| json!({"op": op, "path": format!("(unreachable)/…/{name}")});
    assert_eq!(query(&folder, sql), [row("open", "none"), row("close", "outside"), row("open", "outside")]);
    let root = folder.path().canonicalize().unwrap().join("root/none/such");
    let found = query(&folder, &format!("SELECT error FROM files WHERE path = '{}'", root.display()));
    assert_eq!(found, [json!({"error": "ENOENT"})]);
}
