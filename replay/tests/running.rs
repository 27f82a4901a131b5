//! Processes that ran before they were recorded: what they run is told once, and is no exec that anything caused.

mod common;

use agentsight_formats::record::{CAPTURER_CPU, Descriptor, Exec, Identity, Process, kind};
use common::run::{AGENT, Run};
use common::*;
use std::mem::offset_of;
use zerocopy::FromZeros;

/// What the capturer says of a process: what it is, who, and one descriptor.
fn snapshot(time: u64, tgid: u32, args: &[&str]) -> [Vec<u8>; 3] {
    let by_capturer =
        |kind, time| agentsight_formats::record::Header { cpu: CAPTURER_CPU.into(), ..header(kind, time, tgid) };
    let data: Vec<u8> = args.iter().flat_map(|arg| [arg.as_bytes(), b"\0"].concat()).collect();
    let process = Process {
        header: by_capturer(kind::PROCESS, time),
        start: 1.into(),
        args_len: (data.len() as u32).into(),
        args_captured: (data.len() as u32).into(),
        path_len: 6.into(),
        cwd_len: 2.into(),
        ..Process::new_zeroed()
    };
    let identity = Identity {
        header: by_capturer(kind::IDENTITY, time),
        uid: 1000.into(),
        net_namespace: 7.into(),
        ..Identity::new_zeroed()
    };
    let descriptor = Descriptor {
        header: by_capturer(kind::DESCRIPTOR, 5),
        fd: 3.into(),
        target_len: 4.into(),
        ..Descriptor::new_zeroed()
    };
    [bytes(&process, &[b"/bin/a", b"/w", &data]), bytes(&identity, &[]), bytes(&descriptor, &[b"/log"])]
}

/// Makes an exec that of the process which started when the snapshot says.
fn started(exec: &mut [u8]) {
    exec[offset_of!(Exec, start)..][..8].copy_from_slice(&1u64.to_le_bytes());
}

#[test]
fn what_ran_already_is_told_once_and_executes_again_like_any() {
    let mut run = Run::default();
    run.script.records.extend(snapshot(1, 20, &["a", "b c"]));
    run.exec(20, &["next"]);
    started(run.script.records.iter_mut().rev().nth(1).unwrap());
    // Each segment says it again.
    let time = run.time();
    run.script.records.extend(snapshot(time, 20, &["next"]));
    let seen = run.rows();
    let execs = seen.cells("execs", &["command_line", "working_directory", "executable_path", "was_running"]);
    let expected = [["a 'b c'", "/w", "/bin/a", "Boolean(true)"], ["next", "/w", "/usr/bin/next", "Boolean(false)"]];
    assert_eq!(execs, expected);
    assert_eq!(seen.cells("descriptors", &["proc_id", "fd", "target"]), [["1", "3", "/log"]]);
}

#[test]
fn what_the_kernel_side_said_of_a_process_is_newer_than_what_the_capturer_says() {
    let mut run = Run::default();
    run.script.records.extend(snapshot(1, 20, &["a"]));
    let named = |seen: &Collected| seen.cells("processes", &["uid", "net_namespace"]).concat().join(" ");
    assert_eq!(named(&run.rows()), "1000 7");
    let time = run.time();
    let identity = Identity { header: header(kind::IDENTITY, time, 20), uid: 5.into(), ..Identity::new_zeroed() };
    run.script.records.push(bytes(&identity, &[]));
    let time = run.time();
    run.script.records.extend(snapshot(time, 20, &["a"]));
    assert_eq!(named(&run.rows()), "5 ");
}

#[test]
fn nothing_caused_what_ran_already_and_no_rule_of_commands_is_about_it() {
    let mut run = Run::new();
    run.ask(&[("a", "bash", r#"{"command":"rm -rf /tmp/x"}"#)]);
    let time = run.time();
    run.script.records.extend(snapshot(time, 20, &["rm", "-rf", "/tmp/x"]));
    run.script.records.extend(snapshot(time, 21, &["rm", "-rf", "/"]));
    run.start(AGENT, 22, &["rm", "-rf", "/tmp/x"]);
    run.answer(&["a"]);
    let seen = run.rows();
    let caused = seen.cells("execs", &["was_running", "cause_tool_call_key"]);
    let expected = [["Boolean(false)", ""], ["Boolean(true)", ""], ["Boolean(true)", ""], ["Boolean(false)", "1"]];
    assert_eq!(caused, expected);
    assert_eq!((seen.table("causes").len(), seen.table("findings").len()), (1, 0));
}
