//! The files that programs are made of: they come late, are replaced, are written anew or removed while they are used. Their
//! TLS is seen all the same, and nobody runs anything but what the file says.

#![cfg(all(feature = "capture", target_os = "linux"))]

mod support;

use serde_json::{Value, json};
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use support::{
    TALK, TALK_LONG, certificate, copy_libssl, folder, kill, last_said, library, piped, python, query, record_command,
    recorder,
};
use tempfile::TempDir;

/// A folder with a copy of libssl in `lib`, and `program.py`, which says its argument over TLS a hundred times.
fn with_library() -> Option<(TempDir, String)> {
    let folder = certificate()?;
    let library = copy_libssl(&folder.path().join("lib"));
    std::fs::write(folder.path().join("program.py"), format!("{TALK}\n{TALK_LONG}")).unwrap();
    Some((folder, library))
}

#[test]
fn a_tls_library_that_is_loaded_late_is_probed() {
    let Some((folder, _)) = with_library() else { return };
    record_command(&folder, &["sh", "-c", "LD_LIBRARY_PATH=lib exec $0 program.py copy", &python()]);
    assert_eq!(last_said(&folder), ["copy 99"]);
}

#[test]
fn a_library_that_is_replaced_while_recording_is_probed_again() {
    let Some((folder, name)) = with_library() else { return };
    let script = format!(
        "export LD_LIBRARY_PATH=lib; $0 program.py old && cp lib/{name} new && mv new lib/{name} && $0 program.py new"
    );
    record_command(&folder, &["sh", "-c", &script, &python()]);
    assert_eq!(last_said(&folder), ["old 99", "new 99"]);
}

#[test]
fn a_library_that_is_removed_as_soon_as_it_is_loaded_is_probed() {
    let Some(folder) = certificate() else { return };
    let name = copy_libssl(&folder.path().join("lib"));
    std::fs::write(folder.path().join("program.py"), format!("{TALK}\nos.remove('lib/{name}')\n{TALK_LONG}")).unwrap();
    record_command(&folder, &["sh", "-c", "LD_LIBRARY_PATH=lib exec $0 program.py removed", &python()]);
    assert_eq!(last_said(&folder), ["removed 99"]);
}

#[test]
fn a_file_that_was_written_anew_is_looked_at_anew() {
    let Some((folder, name)) = with_library() else { return };
    std::fs::copy(library("libcrypto"), folder.path().join("other")).unwrap();
    // The inode stays; at first it is a library without TLS.
    let script = format!(
        "cp lib/{name} real; cat other >lib/{name}
         $0 -c 'import ctypes; ctypes.CDLL(\"lib/{name}\")' && cat real >lib/{name} &&
         LD_LIBRARY_PATH=lib $0 program.py anew"
    );
    record_command(&folder, &["sh", "-c", &script, &python()]);
    assert_eq!(last_said(&folder), ["anew 99"]);
}

/// Two programs: one with TLS functions, so large that it is looked at before a command that mentions it, and one with a long
/// function in their place. The kernel would write into that if the probes stayed.
fn with_programs() -> Option<TempDir> {
    let folder = folder()?;
    let tls = r#"
        int SSL_read(void *ssl, void *data, int len) { return len; }
        int SSL_write(void *ssl, const void *data, int len) { return len; }
        #include <stdio.h>
        char large[2 << 20] = {1};
        int main(void) { char data[8]; printf("%d\n", SSL_write(0, data, 3) + SSL_read(0, data, 4)); return 0; }"#;
    let sum = r#"
        __asm__(".globl sum\nsum:\n xorl %eax, %eax\n.rept 2000\n addl $1, %eax\n nop\n nop\n.endr\n ret");
        int sum(void);
        #include <stdio.h>
        int main(void) { printf("%d\n", sum()); return 0; }"#;
    for (name, text) in [("tls", tls), ("sum", sum)] {
        let source = folder.path().join(name).with_extension("c");
        std::fs::write(&source, text).unwrap();
        let made = Command::new("cc").args(["-rdynamic", "-o"]).arg(folder.path().join(name)).arg(&source).status();
        assert!(made.unwrap().success());
    }
    Some(folder)
}

#[test]
fn a_program_that_is_written_over_in_place_runs_as_it_is() {
    let Some(folder) = with_programs() else { return };
    let printed = record_command(&folder, &["sh", "-c", "./tls; cat sum >tls; ./tls"]);
    assert_eq!(printed, "7\n2000\n");
    assert_eq!(query(&folder, "SELECT count(*) AS n FROM tls_data"), [json!({"n": 2})]);
}

#[test]
fn a_program_that_is_not_recorded_and_written_over_in_place_runs_as_it_is() {
    let Some(folder) = with_programs() else { return };
    let (mut capturer, stdin, mut lines) = piped(&folder, &[], &["sh", "-c", "./tls; echo seen; read end"]);
    assert_eq!(lines.by_ref().take(2).collect::<Vec<_>>(), ["7", "seen"]);
    let unrecorded = Command::new("sh").current_dir(&folder).args(["-c", "cat sum >tls; ./tls"]).output().unwrap();
    drop(stdin);
    assert!(capturer.wait().unwrap().code().is_some());
    assert_eq!(String::from_utf8_lossy(&unrecorded.stdout), "2000\n", "{}", unrecorded.status);
    assert_eq!(query(&folder, "SELECT count(*) AS n FROM tls_data"), [json!({"n": 2})]);
}

#[test]
fn a_running_program_whose_library_was_replaced_is_seen() {
    let Some((folder, name)) = with_library() else { return };
    let program = format!("{TALK}\nprint('loaded', flush=True); input(); talk(b'replaced'); print('said', flush=True)");
    std::fs::write(folder.path().join("program.py"), program).unwrap();
    let mut target = Command::new(python())
        .current_dir(&folder)
        .arg("program.py")
        .env("LD_LIBRARY_PATH", "lib")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(target.stdout.take().unwrap()).lines();
    let mut stdin = target.stdin.take().unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "loaded");
    let library = folder.path().join("lib").join(name);
    std::fs::copy(&library, folder.path().join("new")).unwrap();
    std::fs::rename(folder.path().join("new"), &library).unwrap();
    let mut capturer = recorder(&folder, &["--pid", &target.id().to_string()]);
    stdin.write_all(b"go\n").unwrap();
    assert_eq!(lines.next().unwrap().unwrap(), "said");
    drop(stdin);
    target.wait().unwrap();
    assert!(capturer.wait().unwrap().success());
    assert_eq!(last_said(&folder), ["replaced"]);
    let opened = "SELECT count(*) AS n FROM connections WHERE plaintext_seen";
    assert_eq!(query(&folder, opened), [json!({"n": 2})]);
}

#[test]
fn a_library_that_the_capturer_could_not_be_told_of_is_probed_when_it_is_loaded_again() {
    let Some((folder, _)) = with_library() else { return };
    let program = r#"
import subprocess
def load(): subprocess.run([sys.executable, "program.py", "again"], env={"LD_LIBRARY_PATH": "lib"}, check=True)
print("running", flush=True); input()
for i in range(20000): os.close(os.open("cert.pem", os.O_RDONLY))
load()
print("full", flush=True); input(); load()"#;
    std::fs::write(folder.path().join("first.py"), format!("{TALK}\n{program}")).unwrap();
    let (mut capturer, mut stdin, mut lines) = piped(&folder, &["--ring", "1M"], &[&python(), "first.py"]);
    assert_eq!(lines.next().unwrap(), "running");
    kill("-STOP", capturer.id());
    stdin.write_all(b"go\n").unwrap();
    assert_eq!(lines.next().unwrap(), "full");
    kill("-CONT", capturer.id());
    stdin.write_all(b"go\n").unwrap();
    assert!(capturer.wait().unwrap().success());
    let lost = query(&folder, "SELECT count(*) AS n FROM drops WHERE source = 'process'");
    assert_ne!(lost, [json!({"n": 0})], "the ring was to be full");
    assert_eq!(last_said(&folder).last(), Some(&Value::from("again 99")));
}

/// The kernel keeps a file with probes, and its place on the disk, as long as somebody holds them.
#[test]
fn a_removed_file_is_let_go_when_nobody_uses_it_any_more_and_not_before() {
    let Some((folder, name)) = with_library() else { return };
    copy_libssl(&folder.path().join("kept"));
    let program = format!("{TALK}\nos.remove('kept/{name}'); print('removed', flush=True); input(); talk(b'held')");
    std::fs::write(folder.path().join("held.py"), program).unwrap();
    let script = "LD_LIBRARY_PATH=lib $0 program.py gone && rm -r lib && LD_LIBRARY_PATH=kept exec $0 held.py";
    let (mut capturer, mut stdin, mut lines) = piped(&folder, &[], &["sh", "-c", script, &python()]);
    assert!(lines.any(|line| line == "removed"));
    let folder_of_descriptors = format!("/proc/{}/fd", capturer.id());
    let held = || {
        let descriptors = std::fs::read_dir(&folder_of_descriptors).unwrap();
        let files: Vec<_> = descriptors.filter_map(|entry| std::fs::read_link(entry.unwrap().path()).ok()).collect();
        ["lib", "kept"].map(|of| {
            let file = format!("{}/{of}/{name} (deleted)", folder.path().display());
            files.iter().any(|held| held.as_os_str() == file.as_str())
        })
    };
    // Nothing tells when: it is looked for every few seconds.
    while held() != [false, true] {
        assert!(capturer.try_wait().unwrap().is_none(), "it is there still");
        std::thread::yield_now();
    }
    stdin.write_all(b"go\n").unwrap();
    assert!(capturer.wait().unwrap().success());
    assert_eq!(last_said(&folder), ["held", "gone 99"]);
}
