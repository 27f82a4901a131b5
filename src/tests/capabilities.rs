//! agentsight with capabilities of its file (`scripts/setup --capabilities`), started by a user who has none: it may record,
//! and that is all.

#![cfg(all(feature = "capture", target_os = "linux"))]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output, Stdio};
use support::{AGENTSIGHT, folder};
use tempfile::TempDir;

/// A folder of everybody's with a copy of the program that has the capabilities.
fn folder_with_capable_program() -> Option<TempDir> {
    let folder = folder()?;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
    std::fs::copy(AGENTSIGHT, folder.path().join("capable")).unwrap();
    // As scripts/setup gives them: CAP_BPF, CAP_PERFMON, CAP_SYS_PTRACE, CAP_DAC_READ_SEARCH, and where it takes that as well,
    // CAP_SYS_ADMIN; permitted and effective (struct vfs_cap_data).
    let give = "import os, struct
have = 1 << 39 | 1 << 38 | 1 << 19 | 1 << 2
kernel = [int(number) for number in os.uname().release.split('.')[:2]]
if kernel < [6, 6] or int(open('/proc/sys/kernel/perf_event_paranoid').read()) > 2: have |= 1 << 21
os.setxattr('capable', 'security.capability', struct.pack('<5I', 0x02000001, have & 0xffffffff, 0, have >> 32, 0))";
    assert!(Command::new("python3").args(["-c", give]).current_dir(&folder).status().unwrap().success());
    Some(folder)
}

/// Runs something as nobody, where the system calls' tracepoints can be read.
fn as_nobody(folder: &TempDir, command: &[&str]) -> Output {
    let script = "mount -t tracefs tracefs /sys/kernel/tracing; \
        exec setpriv --reuid=65534 --regid=65534 --clear-groups env HOME=/tmp TMPDIR=/of/mine LD_LIBRARY_PATH=/of/mine \"$@\"";
    Command::new("unshare")
        .args(["-m", "sh", "-c", script, "sh"])
        .args(command)
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

#[test]
fn the_command_gets_the_whole_environment_and_none_of_the_rights() {
    let Some(folder) = folder_with_capable_program() else { return };
    // Shells count themselves, each in its way.
    let command = ["sh", "-c", "env | grep -Ev '^(_|SHLVL)=' | sort; grep ^Cap /proc/self/status; id -u"];
    let plain = as_nobody(&folder, &command);
    let recorded = as_nobody(&folder, &[&["./capable", "capture", "-q", "-o", "run.asc", "--"], &command[..]].concat());
    assert!(recorded.status.success(), "{}", String::from_utf8_lossy(&recorded.stderr));
    let seen = String::from_utf8_lossy(&plain.stdout);
    assert!(seen.contains("TMPDIR=/of/mine") && seen.contains("LD_LIBRARY_PATH=/of/mine"), "{seen}");
    assert_eq!(String::from_utf8_lossy(&recorded.stdout), seen);
}

#[test]
fn a_verb_that_reads_reads_no_more_than_the_user_may() {
    let Some(folder) = folder_with_capable_program() else { return };
    std::fs::write(folder.path().join("secret"), "SELECT 'of root'").unwrap();
    std::fs::set_permissions(folder.path().join("secret"), std::fs::Permissions::from_mode(0o600)).unwrap();
    for verb in ["query SELECT* secret", "query -f secret", "info secret", "cat secret", "replay secret"] {
        let args: Vec<&str> = verb.split(' ').collect();
        let output = as_nobody(&folder, &[&["./capable"], &args[..]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && said.contains("Permission denied"), "{verb}: {said}");
    }
}
