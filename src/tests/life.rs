//! What processes do to each other and to their files while they are recorded: nothing of it may confuse the capture, and
//! nothing the capturer does may show in the process.

#![cfg(all(feature = "capture", target_os = "linux"))]

mod support;

use serde_json::{Value, json};
use std::io::Write;
use support::{TALK, certificate, folder, kill, piped, python, query, record, record_command, sent};

#[test]
fn two_processes_that_had_one_pid_are_two() {
    let Some(folder) = folder() else { return };
    // Other programs of the machine take numbers as well: it is tried until the number comes again.
    let program = r#"
import itertools
for attempt in range(2000):
    first = os.spawnv(os.P_NOWAIT, "/bin/true", ["true", "first"]); os.waitpid(first, 0)
    open("/proc/sys/kernel/ns_last_pid", "w").write(str(first - 1))
    second = os.spawnv(os.P_NOWAIT, "/bin/sh", ["sh", "-c", "exit 7"]); os.waitpid(second, 0)
    if first == second: break
print(first, second)"#;
    let printed = record(&folder, program);
    let (first, second) = printed.trim().split_once(' ').unwrap();
    assert_eq!(first, second, "the number never came again");
    let sql = format!(
        "SELECT args[1] AS program, exit_code FROM processes JOIN execs USING (proc_id) WHERE pid = {first} ORDER BY ts DESC LIMIT 2"
    );
    let expected = [json!({"program": "sh", "exit_code": 7}), json!({"program": "true", "exit_code": 0})];
    assert_eq!(query(&folder, &sql), expected);
}

#[test]
fn a_thread_that_executes_a_program_takes_the_process_along() {
    let Some(folder) = certificate() else { return };
    // The main thread is in the middle of a read of TLS that will never return.
    let program = r#"
end, other = pair(); other.sendall(b"before"); assert end.recv(100) == b"before"
threading.Thread(target=lambda: os.execv("/bin/sh", ["sh", "-c", "echo after; exit 0"])).start()
end.recv(100)"#;
    assert_eq!(record(&folder, program), "after\n");
    let execs = query(&folder, "SELECT proc_id, args[1] AS program FROM execs ORDER BY ts");
    let expected = [json!({"proc_id": 1, "program": python()}), json!({"proc_id": 1, "program": "sh"})];
    assert_eq!(execs, expected);
    let processes = query(&folder, "SELECT count(*) AS n, max(exit_code) AS code FROM processes");
    assert_eq!(processes, [json!({"n": 1, "code": 0})]);
    assert_eq!(sent(&folder), [json!({"proc_id": 1, "said": "before"})]);
}

#[test]
fn a_fork_without_exec_writes_on_in_its_own_name() {
    let Some(folder) = certificate() else { return };
    let program = r#"
end, other = pair(); end.sendall(b"parent ")
if os.fork() == 0:
    end.sendall(b"child"); os._exit(0)
os.wait()"#;
    record(&folder, program);
    let expected = [json!({"proc_id": 1, "said": "parent "}), json!({"proc_id": 2, "said": "child"})];
    assert_eq!(sent(&folder), expected);
    let child = query(&folder, "SELECT parent_proc_id, exit_code FROM processes WHERE proc_id = 2");
    assert_eq!(child, [json!({"parent_proc_id": 1, "exit_code": 0})]);
}

#[test]
fn a_child_of_vfork_is_a_process_like_any() {
    let Some(folder) = folder() else { return };
    let program = r#"
child = os.posix_spawn("/bin/echo", ["echo", "spawned"], os.environ); os.waitpid(child, 0)
try: os.posix_spawn("/no/such/program", ["none"], os.environ)
except FileNotFoundError: print("none")"#;
    assert_eq!(record(&folder, program), "spawned\nnone\n");
    let sql = "SELECT parent_proc_id, exit_code, command_line FROM processes AS p LEFT JOIN execs USING (proc_id)
        WHERE p.proc_id > 1 ORDER BY p.proc_id";
    let expected = [
        json!({"parent_proc_id": 1, "exit_code": 0, "command_line": "echo spawned"}),
        // It lived, and ended before it executed anything.
        json!({"parent_proc_id": 1, "exit_code": 127, "command_line": null}),
    ];
    assert_eq!(query(&folder, sql), expected);
}

#[test]
fn ten_agents_at_once_are_told_apart() {
    let Some(folder) = certificate() else { return };
    std::fs::write(folder.path().join("program.py"), format!("{TALK}\nfor i in range(20): talk(sys.argv[1].encode())"))
        .unwrap();
    record_command(&folder, &["sh", "-c", "for i in 0 1 2 3 4 5 6 7 8 9; do $0 program.py $i & done; wait", &python()]);
    let said: Vec<Value> = sent(&folder).into_iter().map(|row| row["said"].clone()).collect();
    let mut expected: Vec<Value> = (0..10).map(|i| i.to_string().repeat(20).into()).collect();
    let mut seen = said.clone();
    seen.sort_by_key(ToString::to_string);
    expected.sort_by_key(ToString::to_string);
    assert_eq!(seen, expected);
    // Each said its own number, and nobody else's.
    let sql = "SELECT count(*) AS n FROM execs JOIN (SELECT DISTINCT proc_id, text(data) AS said FROM tls_data) USING (proc_id)
        WHERE args[3] = said";
    assert_eq!(query(&folder, sql), [json!({"n": 10})]);
}

#[test]
fn a_capturer_that_is_stopped_costs_the_program_nothing_and_what_is_lost_is_told() {
    let Some(folder) = certificate() else { return };
    // 30 MB through a ring of 1 MB that nobody empties.
    let program = r#"
print("running", flush=True); sys.stdin.readline()
print(sum(len(talk(bytes(1_000_000))) for i in range(30)), flush=True); sys.stdin.readline()"#;
    std::fs::write(folder.path().join("program.py"), format!("{TALK}\n{program}")).unwrap();
    let (mut capturer, mut stdin, mut lines) = piped(&folder, &["--ring", "1M"], &[&python(), "program.py"]);
    assert_eq!(lines.next().unwrap(), "running");
    kill("-STOP", capturer.id());
    stdin.write_all(b"go\n").unwrap();
    assert_eq!(lines.next().unwrap(), "30000000");
    kill("-CONT", capturer.id());
    stdin.write_all(b"end\n").unwrap();
    assert!(capturer.wait().unwrap().success());
    // What is there and what is not add up to what was sent.
    let sql = "SELECT (SELECT sum(captured_len) FROM tls_data WHERE direction = 'sent') AS there,
        (SELECT sum(bytes) FROM drops WHERE source = 'tls') AS lost";
    let row = query(&folder, sql)[0].clone();
    let (there, lost) = (row["there"].as_i64().unwrap(), row["lost"].as_i64().unwrap());
    assert!(lost > 0 && there < 30_000_000, "{row}");
    let received =
        query(&folder, "SELECT sum(captured_len) AS n FROM tls_data WHERE direction = 'received'")[0]["n"].as_i64();
    assert_eq!(there + received.unwrap_or(0) + lost, 60_000_000, "both ends were recorded");
}

/// Scheduling policies of a process's threads (proc_pid_stat(5)).
fn policies(pid: u32) -> Vec<i32> {
    let policy = |task: std::fs::DirEntry| {
        let stat = std::fs::read_to_string(task.path().join("stat")).ok()?;
        stat.rsplit_once(')')?.1.split_whitespace().nth(38)?.parse().ok()
    };
    std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten().filter_map(policy).collect()
}

#[test]
fn what_compresses_and_writes_stands_behind_other_programs_while_it_keeps_up() {
    let Some(folder) = folder() else { return };
    let (mut capturer, stdin, _lines) = piped(&folder, &[], &["cat"]);
    const SCHED_IDLE: i32 = 5;
    // One thread does, and what drains the ring and attaches probes does not.
    while policies(capturer.id()).iter().filter(|policy| **policy == SCHED_IDLE).count() != 1 {
        assert!(capturer.try_wait().unwrap().is_none(), "it has ended");
        std::thread::yield_now();
    }
    drop(stdin);
    assert!(capturer.wait().unwrap().success());
}
