//! What programs try and do not get, and what they do where nobody watches: both are told.

#![cfg(all(feature = "capture", target_os = "linux"))]

mod support;

use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use support::{agentsight, folder, python, query, record_command};

/// Filters of seccomp: what the system call of a number is answered with.
const SECCOMP: &str = r#"
import ctypes, os, socket, struct, sys
libc = ctypes.CDLL(None)
KILL, ERRNO = 0x80000000, 0x50000
def answer(number, what):
    # struct sock_filter: load the number; where it is this one, return `what`, else allow.
    code = [(0x20, 0, 0, 0), (0x15, 0, 1, number), (6, 0, 0, what), (6, 0, 0, 0x7fff0000)]
    program = ctypes.create_string_buffer(b"".join(struct.pack("HBBI", *line) for line in code))
    libc.prctl(38, 1, 0, 0, 0)
    assert libc.prctl(22, 2, ctypes.byref(ctypes.create_string_buffer(struct.pack("HxxxxxxP", 4, ctypes.addressof(program))))) == 0
def in_child(work):
    if os.fork() == 0: work(); os._exit(0)
    return os.wait()[1]
"#;

#[test]
#[cfg(target_arch = "x86_64")]
fn a_call_that_seccomp_answers_with_a_signal_was_not_made() {
    let Some(folder) = folder() else { return };
    let program = r#"
def unlink(): answer(87, KILL); os.unlink("kept")
def write(): answer(1, KILL); os.write(os.open("empty", os.O_CREAT | os.O_WRONLY), b"hello")
open("kept", "w").close()
assert in_child(unlink) == in_child(write) == 31 and os.path.exists("kept")"#;
    std::fs::write(folder.path().join("program.py"), format!("{SECCOMP}{program}")).unwrap();
    record_command(&folder, &[&python(), "program.py"]);
    let files = query(&folder, "SELECT op, error FROM files WHERE op = 'unlink'");
    assert_eq!(files, [json!({"op": "unlink", "error": "ENOSYS"})]);
    let sql = "SELECT bytes_written AS n FROM files WHERE op = 'close' AND file_id IN
        (SELECT file_id FROM files WHERE op = 'open' AND path LIKE '%/empty')";
    assert_eq!(query(&folder, sql), [json!({"n": 0})]);
}

#[test]
#[cfg(target_arch = "x86_64")]
fn who_may_not_make_a_socket_wanted_to_reach_the_network() {
    let Some(folder) = folder() else { return };
    let program = r#"
def ask():
    answer(41, ERRNO | 1)
    try: socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    except PermissionError: os._exit(7)
assert in_child(ask) == 7 << 8"#;
    std::fs::write(folder.path().join("program.py"), format!("{SECCOMP}{program}")).unwrap();
    record_command(&folder, &[&python(), "program.py"]);
    let seen = query(&folder, "SELECT transport, error, peer_address FROM connections");
    assert_eq!(seen, [json!({"transport": "tcp", "error": "EPERM", "peer_address": null})]);
}

#[test]
fn a_connection_that_was_given_up_before_it_was_answered_says_so() {
    let Some(folder) = folder() else { return };
    // The server's queue has room for one: who comes then is not answered.
    let program = r#"
import socket
server = socket.socket(); server.bind(("127.0.0.1", 0)); server.listen(0)
first = socket.create_connection(server.getsockname())
second = socket.socket(); second.setblocking(False)
assert second.connect_ex(server.getsockname()) == 115
second.close()
print(server.getsockname()[1], end="")"#;
    let port: u16 = record_command(&folder, &[&python(), "-c", program]).parse().unwrap();
    let sql = format!("SELECT error FROM connections WHERE role = 'client' AND peer_port = {port} ORDER BY conn_id");
    assert_eq!(query(&folder, &sql), [json!({"error": null}), json!({"error": "EINPROGRESS"})]);
}

#[test]
fn a_raw_socket_has_a_peer_and_no_ports() {
    let Some(folder) = folder() else { return };
    let program = r#"
import socket
echo = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
echo.sendto(b"\x08\0\xf7\xff\0\0\0\0", ("127.0.0.7", 0))"#;
    record_command(&folder, &[&python(), "-c", program]);
    let seen = query(&folder, "SELECT transport, local_port, peer_address, peer_port, bytes_sent FROM connections");
    let expected =
        json!({"transport": "1", "local_port": null, "peer_address": "127.0.0.7", "peer_port": null, "bytes_sent": 8});
    assert_eq!(seen, [expected]);
}

/// An ELF program of 32 bits that exits.
fn program_of_32_bits() -> Vec<u8> {
    let code = b"\x31\xc0\x40\x31\xdb\xcd\x80"; // xor eax, eax; inc eax; xor ebx, ebx; int 0x80
    let (base, head) = (0x0804_8000u32, 52 + 32u32);
    let size = head + code.len() as u32;
    let ident = [0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let words = |words: &[u32]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
    let halves = |halves: &[u16]| halves.iter().flat_map(|half| half.to_le_bytes()).collect::<Vec<u8>>();
    [
        ident.to_vec(),
        halves(&[2, 3]),                                   // executable, 386
        words(&[1, base + head, 52, 0, 0]),                // version, entry, program headers, sections, flags
        halves(&[52, 32, 1, 0, 0, 0]),                     // sizes and counts
        words(&[1, 0, base, base, size, size, 5, 0x1000]), // load all of it, to be read and executed
        code.to_vec(),
    ]
    .concat()
}

#[test]
#[cfg(target_arch = "x86_64")]
fn who_does_what_is_not_watched_is_named() {
    let Some(folder) = folder() else { return };
    let program = folder.path().join("program32");
    std::fs::write(&program, program_of_32_bits()).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let ring = r#"
import ctypes, mmap, os, struct, subprocess
libc = ctypes.CDLL(None)
def submit(operation, file, address, len):
    parameters = ctypes.create_string_buffer(120)
    word = lambda at: struct.unpack_from("I", parameters, at)[0]
    ring = libc.syscall(425, 1, parameters) # io_uring_setup
    queue = mmap.mmap(ring, word(64) + 4 * word(0), offset=0)
    entries = mmap.mmap(ring, 64 * word(0), offset=0x10000000)
    struct.pack_into("BBHiQQI", entries, 0, operation, 0, 0, file, 0, address, len)
    struct.pack_into("I", queue, word(44), 1)
    assert libc.syscall(426, ring, 1, 1, 1, None, 0) == 1 # io_uring_enter
data = ctypes.create_string_buffer(4)
# Nothing but NOP says nothing of files, as nothing but EPOLL_CTL (node) does.
if os.fork() == 0: submit(0, -1, 0, 0); os._exit(0)
assert os.wait()[1] == 0
file = os.open("program32", os.O_RDONLY)
for _ in range(2): submit(22, file, ctypes.addressof(data), 4)
assert data.raw == b"\x7fELF"
assert subprocess.run(["./program32"]).returncode == 0"#;
    let output = agentsight(&folder, &["capture", "-o", "run.asc", "--", &python(), "-c", ring]);
    let said = String::from_utf8_lossy(&output.stderr);
    let message = |way: &str| format!("files, sockets and streams that the process uses by {way} are in no table");
    let seen = query(&folder, "SELECT rule_id, message FROM findings ORDER BY ts");
    assert_eq!(
        seen,
        ["io_uring", "system calls of 32 bits"].map(|way| json!({"rule_id": "not-watched", "message": message(way)}))
    );
    let info = agentsight(&folder, &["info", "run.asc"]);
    let info = String::from_utf8_lossy(&info.stdout);
    for (program, way) in [(python(), "io_uring"), (program.display().to_string(), "system calls of 32 bits")] {
        let named = format!("uses {way}");
        assert!(said.lines().any(|line| line.contains(&named)), "{said}");
        assert!(info.lines().any(|line| line.contains(&named)), "{program}: {info}");
    }
}

#[test]
fn tls_that_begins_later_on_a_connection_is_told() {
    let Some(folder) = folder() else { return };
    // What follows STARTTLS: the hellos of a client and of a server, through nothing that is probed.
    let program = r#"
import socket
server = socket.create_server(("127.0.0.1", 0)); client = socket.create_connection(server.getsockname()); end, _ = server.accept()
def say(one, other, data): one.sendall(data); assert other.recv(len(data), socket.MSG_WAITALL) == data
say(end, client, b"220 ready for mail\r\n"); say(client, end, b"STARTTLS\r\n"); say(end, client, b"220 go ahead\r\n")
hello = lambda kind: bytes([22, 3, 1, 0, 46, kind, 0, 0, 42, 3, 3]) + bytes(40)
say(client, end, hello(1)); say(end, client, hello(2))
say(client, end, b"\x17\3\3\2\0" + bytes(512)); client.close(); end.close()"#;
    record_command(&folder, &[&python(), "-c", program]);
    let seen =
        query(&folder, "SELECT role, tls_seen, plaintext_seen FROM connections WHERE role <> 'listener' ORDER BY role");
    let expected = ["client", "server"].map(|role| json!({"role": role, "tls_seen": true, "plaintext_seen": false}));
    assert_eq!(seen, expected);
}
