//! Without the rights that recording takes, the message names what is missing.

#![cfg(all(feature = "capture", target_os = "linux"))]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use support::{AGENTSIGHT, folder};
use tempfile::TempDir;

/// What the capturer and the doctor say where a shell's command runs them.
#[track_caller]
fn said(folder: &TempDir, command: &[&str]) -> [String; 2] {
    // Where anybody can execute it.
    let program = folder.path().join("agentsight");
    std::fs::copy(AGENTSIGHT, &program).unwrap();
    std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(0o777)).unwrap();
    [(&["capture", "-o", "run.asc", "--", "true"][..], 125), (&["doctor"], 1)].map(|(args, status)| {
        let mut wrapped = Command::new(command[0]);
        wrapped.args(&command[1..]).arg(&program).args(args).current_dir(folder);
        let output = wrapped.output().unwrap();
        let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
        assert_eq!(output.status.code(), Some(status), "{text}");
        text
    })
}

#[test]
fn who_is_not_root_is_told_what_recording_takes() {
    let Some(folder) = folder() else { return };
    let [capture, doctor] =
        said(&folder, &["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "--bounding-set=-all"]);
    for right in ["root", "CAP_BPF", "CAP_PERFMON", "CAP_SYS_PTRACE", "CAP_DAC_READ_SEARCH", "sudo"] {
        assert!(capture.contains(right), "{right}: {capture}");
    }
    assert!(doctor.contains("without CAP_BPF, CAP_PERFMON"), "{doctor}");
}

#[test]
fn root_of_a_user_namespace_is_told_that_it_is_not_the_hosts() {
    let Some(folder) = folder() else { return };
    let [capture, doctor] = said(&folder, &["unshare", "-r"]);
    for text in [&capture, &doctor] {
        assert!(text.contains("user namespace") && text.contains("root of the host"), "{text}");
    }
    assert!(doctor.contains("✗ rights"), "{doctor}");
}

#[test]
fn who_may_not_read_the_list_of_tracepoints_is_told_the_right_that_lets_them() {
    let Some(folder) = folder() else { return };
    let script = "mount -t tracefs tracefs /sys/kernel/tracing && exec setpriv --reuid=65534 --regid=65534 --clear-groups \
        --inh-caps=+bpf,+perfmon --ambient-caps=+bpf,+perfmon \"$@\"";
    for text in said(&folder, &["unshare", "-m", "sh", "-c", script, "sh"]) {
        assert!(text.contains("CAP_DAC_READ_SEARCH") && text.contains("/sys/kernel/tracing"), "{text}");
        assert!(!text.contains("mount"), "it is mounted: {text}");
    }
}
