//! Where a capture goes, and what happens where it cannot go there.

#![cfg(all(feature = "capture", target_os = "linux"))]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::process::{ChildStdin, Command, Stdio};
use support::{AGENTSIGHT, agentsight, folder};

/// A tmpfs of this many kB at `small`, in a mount namespace of its own, and there a recording of `cat`. What it says on standard
/// error comes line by line.
fn record_in_tmpfs(folder: &tempfile::TempDir, size: &str, args: &str) -> (std::process::Child, ChildStdin) {
    let script = format!(
        "mkdir small && mount -t tmpfs -o size={size} tmpfs small && exec \"$0\" capture -o small/run.asc {args}"
    );
    let mut child = Command::new("unshare")
        .args(["-m", "sh", "-c", &script, AGENTSIGHT])
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let stdin = child.stdin.take().unwrap();
    (child, stdin)
}

/// Bytes that no compressor makes smaller.
fn noise(len: usize) -> Vec<u8> {
    use std::io::Read;
    let mut noise = vec![0; len];
    std::fs::File::open("/dev/urandom").unwrap().read_exact(&mut noise).unwrap();
    noise
}

#[test]
fn a_full_disk_is_told_at_once_and_the_command_goes_on() {
    let Some(folder) = folder() else { return };
    let (mut child, mut stdin) = record_in_tmpfs(&folder, "64k", "-- cat");
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let sent = noise(1 << 20);
    let writer = std::thread::spawn(move || {
        stdin.write_all(&sent).unwrap();
        stdin
    });
    let mut echoed = vec![0; 1 << 20];
    std::io::Read::read_exact(&mut stdout, &mut echoed).unwrap();
    let mut stdin = writer.join().unwrap();
    let mut said = String::new();
    stderr.read_line(&mut said).unwrap();
    assert!(said.contains("No space left") && said.contains("the command runs on"), "{said}");
    // It does, and that is not told twice.
    stdin.write_all(b"still there\n").unwrap();
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "still there\n");
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(125));
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut rest).unwrap();
    assert_eq!(rest, "");
}

#[test]
fn where_the_next_file_cannot_be_created_the_recording_goes_on_in_the_last() {
    let Some(folder) = folder() else { return };
    let mut child = Command::new(AGENTSIGHT)
        .current_dir(&folder)
        .args([
            "capture",
            "-o",
            "run.asc",
            "--rotate-size",
            "100k",
            "--",
            "sh",
            "-c",
            "echo running; cat >/dev/null; exit 5",
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut stderr = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    std::fs::create_dir(folder.path().join("run-0002.asc")).unwrap();
    stdin.write_all(&noise(300_000)).unwrap();
    let mut said = String::new();
    stderr.read_line(&mut said).unwrap();
    assert!(said.contains("run-0002.asc is a folder") && said.contains("recording goes on in run-"), "{said}");
    drop(stdin);
    assert_eq!(child.wait().unwrap().code(), Some(5));
    let mut rest = String::new();
    std::io::Read::read_to_string(&mut stderr, &mut rest).unwrap();
    assert!(!rest.contains("is a folder") && rest.contains("nothing dropped"), "{rest}");
    let complete =
        agentsight(&folder, &["query", "--format", "csv", "SELECT exit_code, complete FROM captures", "run-0001.asc"]);
    assert_eq!(String::from_utf8_lossy(&complete.stdout), "exit_code,complete\n5,true\n");
}

#[test]
fn a_rotated_capture_is_read_as_one_where_no_file_is_named_and_as_the_hint_names_it() {
    let Some(folder) = folder() else { return };
    agentsight(&folder, &["capture", "-q", "-o", "earlier.asc", "--", "true"]);
    let script = "/bin/echo first; head -c 2000000 /dev/urandom | cat >/dev/null; /bin/echo last";
    let args = ["capture", "-o", "run.asc", "--rotate-size", "1M", "--ring", "64M", "--", "sh", "-c", script];
    let recorded = agentsight(&folder, &args);
    assert_eq!(recorded.status.code(), Some(0));
    assert!(folder.path().join("run-0002.asc").exists());
    let said = String::from_utf8(recorded.stderr).unwrap();
    let hinted = said.trim_end().rsplit_once(' ').unwrap().1;
    let sql = "SELECT command_line FROM execs WHERE command_line LIKE '/bin/echo%' ORDER BY ts";
    for captures in [&[][..], &[hinted]] {
        let output = agentsight(&folder, &[&["query", "--format", "csv", sql], captures].concat());
        let rows = String::from_utf8(output.stdout).unwrap();
        assert_eq!(rows, "command_line\n/bin/echo first\n/bin/echo last\n", "{captures:?}");
    }
    let followed = agentsight(&folder, &["replay", "--follow", "--table", "execs"]);
    let rows = String::from_utf8(followed.stdout).unwrap();
    assert!(rows.contains("/bin/echo first") && rows.contains("/bin/echo last"), "{rows}");
}

#[test]
fn a_file_that_may_not_grow_is_a_write_error_not_the_end_of_the_capturer() {
    let Some(folder) = folder() else { return };
    let script = "ulimit -f 64; exec \"$0\" capture -o run.asc -- sh -c 'head -c 3000000 /dev/urandom | cat >/dev/null; echo done'";
    let output = Command::new("sh").args(["-c", script, AGENTSIGHT]).current_dir(&folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout), "done\n", "{said}");
    assert!(output.status.code() == Some(125) && said.contains("File too large"), "{said}");
}

#[test]
fn a_capture_that_was_removed_meanwhile_is_not_passed_off_as_there() {
    let Some(folder) = folder() else { return };
    for script in ["rm run.asc", "mv run.asc other.asc", "cp run.asc copy.asc; mv copy.asc run.asc"] {
        let output = agentsight(&folder, &["capture", "-f", "-o", "run.asc", "--", "sh", "-c", script]);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("run.asc was removed, renamed or replaced"), "{script}: {said}");
        assert_eq!(output.status.code(), Some(0));
    }
    let output = agentsight(&folder, &["capture", "-f", "-o", "run.asc", "--", "true"]);
    assert!(!String::from_utf8_lossy(&output.stderr).contains("removed"));
}

#[test]
fn the_status_line_is_no_wider_than_the_terminal() {
    let Some(folder) = folder() else { return };
    let program = r#"
import fcntl, os, pty, struct, sys, termios
pid, terminal = pty.fork()
if pid == 0:
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 50, 0, 0))
    os.environ["TERM"] = "xterm"
    os.execv(sys.argv[1], [sys.argv[1], "capture", "-o", "run.asc", "--pid", str(os.getppid()), "--duration", "500ms"])
while True:
    try: sys.stdout.buffer.write(os.read(terminal, 65536))
    except OSError: break
os.waitpid(pid, 0)"#;
    let output = Command::new("python3").args(["-c", program, AGENTSIGHT]).current_dir(&folder).output().unwrap();
    let shown = String::from_utf8(output.stdout).unwrap();
    // The summary may be as long as it is.
    let status = shown.split("agentsight:").next().unwrap();
    let pieces = status.split(['\r', '\n', '\x1b']).map(|piece| piece.trim_start_matches("[2K"));
    let lines: Vec<&str> = pieces.filter(|piece| piece.contains("0:00:00")).collect();
    assert!(!lines.is_empty() && lines.iter().all(|line| line.contains("nothing dropped")), "{shown:?}");
    assert!(lines.iter().all(|line| line.chars().count() <= 50), "{lines:?}");
}
