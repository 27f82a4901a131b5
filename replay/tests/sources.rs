//! Sockets, names, files, standard streams and measurements, over captures that are made here.

mod common;

use agentsight_formats::record::{
    self, CAPTURER_CPU, Descriptor, Endpoint, Exit, File, Fork, Header, Metric, Socket, SocketData, StdioData, Sums,
    TlsBind, TlsClose, direction, family, file_op, kind, library, metric, socket_content, socket_op, stdio_type,
    sums_of,
};
use common::*;
use zerocopy::{FromZeros, IntoBytes};

/// Records in order of time, each a nanosecond after the one before, of process 10 unless said otherwise.
#[derive(Default)]
struct Log {
    script: Script,
}

impl Log {
    fn header(&mut self, kind: u16) -> Header {
        self.script.time += 1;
        header(kind, self.script.time, 10)
    }

    fn push<T: zerocopy::IntoBytes + zerocopy::Immutable>(&mut self, fixed: &T, parts: &[&[u8]]) {
        self.script.records.push(bytes(fixed, parts));
    }

    fn say(&mut self, library: u16, conn_id: u64, direction: u16, data: &[u8]) {
        self.script.library = library;
        self.script.say(conn_id, direction, data);
    }

    fn bind(&mut self, conn_id: u64, socket_id: u64) {
        let header = self.header(kind::TLS_BIND);
        self.push(&TlsBind { header, conn_id: conn_id.into(), socket_id: socket_id.into() }, &[]);
    }

    fn socket(&mut self, id: u64, op: u16, change: impl FnOnce(&mut Socket)) {
        let mut socket = Socket::new_zeroed();
        socket.header = self.header(kind::SOCKET);
        (socket.socket_id, socket.op, socket.family) = (id.into(), op.into(), family::INET.into());
        (socket.socket_type, socket.protocol) = (1.into(), 6.into());
        (socket.local_port, socket.peer_port) = (40_000.into(), 443.into());
        socket.local[..4].copy_from_slice(&[10, 0, 0, 1]);
        socket.peer[..4].copy_from_slice(&[10, 0, 0, 7]);
        change(&mut socket);
        let path: &[u8] = if socket.family.get() == family::UNIX { b"/run/bus" } else { b"" };
        socket.path_len = (path.len() as u16).into();
        self.push(&socket, &[path]);
    }

    fn socket_data(&mut self, id: u64, content: u16, direction: u16, data: &[u8]) {
        let mut fixed = SocketData::new_zeroed();
        fixed.header = self.header(kind::SOCKET_DATA);
        (fixed.socket_id, fixed.content, fixed.direction) = (id.into(), content.into(), direction.into());
        fixed.len = (data.len() as u32).into();
        fixed.captured = fixed.len;
        self.push(&fixed, &[data]);
    }

    fn file(&mut self, op: u16, parts: [&str; 4], change: impl FnOnce(&mut File)) {
        let mut file = File::new_zeroed();
        file.header = self.header(kind::FILE);
        file.op = op.into();
        [file.base_len, file.path_len, file.new_base_len, file.new_path_len] =
            parts.map(|part| (part.len() as u16).into());
        change(&mut file);
        self.push(&file, &parts.map(str::as_bytes));
    }

    fn sums(&mut self, what: u16, id: u64, [sent, received]: [u64; 2]) {
        let mut sums = Sums::new_zeroed();
        sums.header = Header { tgid: 0.into(), tid: 0.into(), cpu: CAPTURER_CPU.into(), ..self.header(kind::SUMS) };
        (sums.what, sums.id) = (what.into(), id.into());
        (sums.sent, sums.received) = (sent.into(), received.into());
        self.push(&sums, &[]);
    }

    fn exit(&mut self) {
        let exit = Exit { header: self.header(kind::EXIT), ..Exit::new_zeroed() };
        self.push(&exit, &[]);
    }

    fn rows(&self) -> Collected {
        rows(&self.script.records)
    }
}

const GET: &[u8] = b"GET /v1/models HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn the_two_directions_below_rustls_are_one_connection_of_their_socket() {
    for (library, name) in [(library::AWS_LC, "aws-lc"), (library::RING, "ring")] {
        directions_are_one_connection(library, name);
    }
}

fn directions_are_one_connection(library: u16, name: &str) {
    let mut log = Log::default();
    log.socket(5, socket_op::CONNECT, |_| {});
    log.say(library, 6, direction::SENT, GET);
    log.bind(6, 5);
    log.bind(7, 5);
    log.say(library, 7, direction::RECEIVED, OK);
    // The keys are changed: new objects, whose streams begin at 0.
    log.bind(8, 5);
    log.say(library, 8, direction::SENT, GET);
    log.say(library, 7, direction::RECEIVED, OK);
    log.socket(5, socket_op::CLOSE, |socket| {
        (socket.sent, socket.received) = (900.into(), 3000.into());
        (socket.local_port, socket.peer_port, socket.peer) = (0.into(), 0.into(), [0; 16]);
    });
    let seen = log.rows();
    let http = seen.cells("http", &["method", "status_code", "end_reason", "scheme"]);
    assert_eq!(http, [["GET", "200", "response", "https"], ["GET", "200", "response", "https"]]);
    let connections = seen.table("connections");
    assert_eq!(connections.len(), 1);
    let names = [
        "transport",
        "role",
        "local_address",
        "local_port",
        "peer_address",
        "peer_port",
        "server_name",
        "tls_library",
        "bytes_sent",
        "bytes_received",
        "plaintext_sent",
        "plaintext_received",
        "gap_bytes",
        "closed_at",
    ];
    let (sent, received) = ((2 * GET.len()).to_string(), (2 * OK.len()).to_string());
    assert_eq!(
        cells(connections[0], &names),
        [
            "tcp",
            "client",
            "10.0.0.1",
            "40000",
            "10.0.0.7",
            "443",
            "api.example.com",
            name,
            "900",
            "3000",
            &sent,
            &received,
            "0",
            "1000009",
        ]
    );
    let pieces = seen.cells("tls_data", &["conn_id", "direction", "stream_offset"]);
    let (first, second) = (GET.len().to_string(), OK.len().to_string());
    assert_eq!(pieces, [["1", "sent", "0"], ["1", "received", "0"], ["1", "sent", &first], ["1", "received", &second]]);
}

#[test]
fn a_socket_that_is_found_late_is_that_of_the_first_bytes_too() {
    let mut log = Log::default();
    log.socket(5, socket_op::CONNECT, |_| {});
    log.say(library::OPENSSL, 6, direction::SENT, GET);
    log.say(library::OPENSSL, 6, direction::RECEIVED, OK);
    // Long after; records in between do not wait for it.
    log.script.time += 5_000_000_000;
    log.bind(6, 5);
    log.bind(6, 5);
    log.socket(5, socket_op::CLOSE, |_| {});
    let header = log.header(kind::TLS_CLOSE);
    // As older capturers wrote it: of how much went through it, nothing is known.
    let close = TlsClose { header, conn_id: 6.into(), sent: 9.into(), received: 9.into() };
    let before: [u8; size_of::<Header>() + size_of::<u64>()] = close.as_bytes()[..40].try_into().unwrap();
    log.push(&before, &[]);
    let seen = log.rows();
    let connections = seen.table("connections");
    assert_eq!(connections.len(), 1);
    assert_eq!(cells(connections[0], &["conn_id", "local_port", "tls_seen"]), ["1", "40000", "Boolean(true)"]);
    assert_eq!(cells(seen.table("http")[0], &["conn_id", "method", "status_code"]), ["1", "GET", "200"]);
}

#[test]
fn a_connection_whose_socket_is_not_known_has_a_row_of_its_own() {
    let mut log = Log::default();
    log.socket(5, socket_op::CONNECT, |_| {});
    log.say(library::OPENSSL, 6, direction::SENT, GET);
    log.say(library::OPENSSL, 6, direction::RECEIVED, OK);
    let seen = log.rows();
    let connections = seen.cells("connections", &["local_port", "plaintext_seen"]);
    assert_eq!(connections, [["40000", "Boolean(false)"], ["", "Boolean(true)"]]);
}

#[test]
fn what_goes_through_a_socket_without_tls_is_http() {
    let mut log = Log::default();
    log.socket(5, socket_op::ACCEPT, |socket| socket.family = family::INET.into());
    log.say(library::PLAIN, 5, direction::RECEIVED, GET);
    log.say(library::PLAIN, 5, direction::SENT, OK);
    let seen = log.rows();
    assert_eq!(cells(seen.table("http")[0], &["scheme", "method", "status_code"]), ["http", "GET", "200"]);
    let row = cells(seen.table("connections")[0], &["role", "tls_seen", "plaintext_seen", "tls_library", "alpn"]);
    assert_eq!(row, ["server", "Boolean(false)", "Boolean(true)", "", "http/1.1"]);
}

/// `api.example.com` in a message; the answer is 10.0.0.7.
fn dns(response: bool, answer: bool) -> Vec<u8> {
    let mut message = vec![0xab, 0xcd, if response { 0x81 } else { 1 }, 0, 0, 1, 0, answer as u8, 0, 0, 0, 0];
    message.extend_from_slice(b"\x03api\x07EXAMPLE\x03com\x00\x00\x01\x00\x01");
    if answer {
        message.extend_from_slice(b"\xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x00\x00\x07");
    }
    if response && !answer {
        message[3] = 3;
    }
    message
}

fn udp(socket: &mut Socket) {
    (socket.socket_type, socket.protocol, socket.peer_port) = (2.into(), 17.into(), 53.into());
}

#[test]
fn a_question_has_its_answer_and_the_answer_names_the_connection() {
    let mut log = Log::default();
    log.socket(4, socket_op::CONNECT, udp);
    log.socket_data(4, socket_content::DNS, direction::SENT, &dns(false, false));
    log.socket_data(4, socket_content::DNS, direction::SENT, &dns(false, false));
    log.socket_data(4, socket_content::DNS, direction::RECEIVED, &dns(true, true));
    log.socket(5, socket_op::CONNECT, |socket| socket.result = (-115).into());
    log.socket(6, socket_op::CONNECT, |socket| socket.result = (-111).into());
    // It asks in vain, and does not wait for the third answer.
    log.socket_data(4, socket_content::DNS, direction::SENT, &dns(false, false));
    log.socket_data(4, socket_content::DNS, direction::RECEIVED, &dns(true, false));
    log.socket_data(4, socket_content::DNS, direction::SENT, &dns(false, false));
    let seen = log.rows();
    let names = ["query_name", "query_type", "answers", "response_code", "duration_ns"];
    let questions = seen.cells("dns", &names);
    assert_eq!(
        questions,
        [
            ["api.example.com", "A", "VarcharList([\"10.0.0.7\"])", "NOERROR", "2"],
            ["api.example.com", "A", "VarcharList([])", "NXDOMAIN", "1"],
            ["api.example.com", "A", "VarcharList([])", "", ""],
        ]
    );
    let connections = seen.cells("connections", &["transport", "server_name", "error"]);
    let name = "api.example.com";
    assert_eq!(connections, [["udp", "", ""], ["tcp", name, ""], ["tcp", name, "ECONNREFUSED"]]);
}

#[test]
fn a_question_over_tcp_is_a_row_however_it_is_cut() {
    let framed = |message: Vec<u8>| [&(message.len() as u16).to_be_bytes()[..], &message].concat();
    let (question, answer) = (framed(dns(false, false)), framed(dns(true, true)));
    for cut in [1, 2, 9, answer.len() - 1] {
        let mut log = Log::default();
        log.socket(5, socket_op::CONNECT, |socket| socket.peer_port = 53.into());
        log.say(library::PLAIN, 5, direction::SENT, &question);
        log.say(library::PLAIN, 5, direction::RECEIVED, &answer[..cut]);
        log.say(library::PLAIN, 5, direction::RECEIVED, &answer[cut..]);
        let seen = log.rows();
        let names = ["query_name", "answers", "response_code", "server_address", "truncated", "duration_ns"];
        let row = cells(seen.table("dns")[0], &names);
        let answers = "VarcharList([\"10.0.0.7\"])";
        assert_eq!(row, ["api.example.com", answers, "NOERROR", "10.0.0.7", "Boolean(false)", "2"], "{cut}");
        assert_eq!(seen.table("http").len(), 0);
        let row = cells(seen.table("connections")[0], &["transport", "plaintext_seen", "tls_seen", "server_name"]);
        assert_eq!(row, ["tcp", "Boolean(true)", "Boolean(false)", ""]);
    }
}

#[test]
fn http_on_the_port_of_name_servers_is_http() {
    let mut log = Log::default();
    log.socket(5, socket_op::CONNECT, |socket| socket.peer_port = 53.into());
    log.say(library::PLAIN, 5, direction::SENT, GET);
    log.say(library::PLAIN, 5, direction::RECEIVED, OK);
    let seen = log.rows();
    assert_eq!((seen.table("http").len(), seen.table("dns").len()), (1, 0));
}

/// A ClientHello that asks for `shown.example.com` and offers HTTP/2 alone.
const HELLO: &[u8] =
    b"\x16\x03\x01\x00\x57\x01\x00\x00\x53\x03\x03rrrrrrrrrrrrrrrrrrrrrrrrrrrrrrrr\x00\x00\x02\x13\x01\x01\x00\
\x00\x28\x00\x00\x00\x16\x00\x14\x00\x00\x11shown.example.com\x00\x10\x00\x05\x00\x03\x02h2\x00\x17\x00\x01x";

#[test]
fn tls_that_nobody_could_look_into_is_named_by_its_hello() {
    let mut log = Log::default();
    log.socket(5, socket_op::CONNECT, |_| {});
    log.socket_data(5, socket_content::TLS_HELLO, direction::SENT, HELLO);
    let seen = log.rows();
    let row = cells(seen.table("connections")[0], &["server_name", "alpn", "tls_seen", "plaintext_seen"]);
    assert_eq!(row, ["shown.example.com", "h2", "Boolean(true)", "Boolean(false)"]);
}

#[test]
fn sockets_that_only_wait_or_carry_nothing_are_no_connections() {
    let mut log = Log::default();
    let nobody = |socket: &mut Socket| (socket.peer, socket.peer_port) = ([0; 16], 0.into());
    log.socket(3, socket_op::BIND, nobody);
    log.socket(3, socket_op::CLOSE, nobody);
    // How a resolver finds out which address to use first.
    log.socket(4, socket_op::CONNECT, udp);
    log.socket(4, socket_op::CLOSE, udp);
    // One end of a pair; a local server.
    log.socket(5, socket_op::CLOSE, |socket| (socket.family, socket.sent) = (family::UNIX.into(), 9.into()));
    log.socket(6, socket_op::CONNECT, |socket| socket.family = family::UNIX.into());
    let seen = log.rows();
    let connections = seen.cells("connections", &["transport", "peer_address"]);
    assert_eq!(connections, [["unix", "/run/bus"]]);
}

#[test]
fn a_process_that_ends_closes_its_connections_unless_another_has_them_too() {
    let mut log = Log::default();
    log.socket(5, socket_op::CONNECT, |_| {});
    log.socket(6, socket_op::CONNECT, |_| {});
    let mut exit = Exit::new_zeroed();
    exit.header = log.header(kind::EXIT);
    log.push(&exit, &[]);
    log.socket(6, socket_op::CLOSE, |socket| socket.header.tgid = 11.into());
    let seen = log.rows();
    let closed = seen.cells("connections", &["conn_id", "closed_at"]);
    assert!(closed.contains(&vec!["1", "1000003"]) && closed.contains(&vec!["2", "1000004"]), "{closed:?}");
    assert_eq!(seen.table("processes").len(), 2, "what is told of a process after its end makes no new one");
}

#[test]
fn files_have_whole_paths_and_the_close_says_what_went_through() {
    let mut log = Log::default();
    log.file(file_op::OPEN, ["", "/w/notes.txt", "", ""], |file| {
        (file.file_id, file.flags, file.mode, file.result) = (9.into(), 0o1101.into(), 0o644.into(), 3.into());
    });
    log.file(file_op::CLOSE, [""; 4], |file| {
        (file.file_id, file.result, file.bytes_written) = (9.into(), 3.into(), 12.into());
    });
    log.file(file_op::OPEN, ["/w/src", "../gone", "", ""], |file| file.result = (-2).into());
    log.file(file_op::RENAME, ["/w", "a", "/w", "sub/./b"], |file| file.flags = 1.into());
    log.file(file_op::SYMLINK, ["", "../target", "/w", "link"], |_| {});
    log.file(file_op::TRUNCATE, ["/w", "a", "", ""], |file| file.bytes_read = 77.into());
    let seen = log.rows();
    let names = ["op", "path", "new_path", "flags", "mode", "result", "error", "bytes_written", "length"];
    let rows = seen.cells("files", &names);
    assert_eq!(
        rows,
        [
            ["open", "/w/notes.txt", "", "O_WRONLY|O_CREAT|O_TRUNC", "0644", "3", "", "", ""],
            ["close", "/w/notes.txt", "", "", "", "3", "", "12", ""],
            ["open", "/w/gone", "", "O_RDONLY", "", "-2", "ENOENT", "", ""],
            ["rename", "/w/a", "/w/sub/b", "RENAME_NOREPLACE", "", "0", "", "", ""],
            ["symlink", "../target", "/w/link", "", "", "0", "", "", ""],
            ["truncate", "/w/a", "", "", "", "0", "", "", "77"],
        ]
    );
}

#[test]
fn what_a_segment_says_again_is_known_and_no_row() {
    let mut log = Log::default();
    let snapshot = |cpu: &mut Header| cpu.cpu = CAPTURER_CPU.into();
    log.file(file_op::OPEN, ["", "/w/log", "", ""], |file| {
        file.file_id = 9.into();
        snapshot(&mut file.header);
    });
    for id in [5, 5] {
        log.socket(id, socket_op::USE, |socket| snapshot(&mut socket.header));
    }
    // A socket that waits for connections is said as in use, too.
    log.socket(6, socket_op::USE, |socket| {
        snapshot(&mut socket.header);
        (socket.peer, socket.peer_port) = ([0; 16], 0.into());
    });
    log.file(file_op::CLOSE, [""; 4], |file| file.file_id = 9.into());
    let seen = log.rows();
    let files = seen.cells("files", &["op", "path"]);
    assert_eq!(files, [["close", "/w/log"]]);
    let connections = seen.cells("connections", &["peer_port"]);
    assert_eq!(connections, [["443"]]);
}

impl Log {
    fn fork(&mut self, child: u32) {
        let mut fork = Fork::new_zeroed();
        fork.header = self.header(kind::FORK);
        (fork.child_tgid, fork.child_start) = (child.into(), u64::from(child).into());
        self.push(&fork, &[]);
    }

    fn endpoint(&mut self, tgid: u32, object: u64, direction: u16) {
        let mut end = Endpoint::new_zeroed();
        end.header = self.header(kind::ENDPOINT);
        end.header.tgid = tgid.into();
        (end.object, end.direction) = (object.into(), direction.into());
        self.push(&end, &[]);
    }

    fn stdio(&mut self, tgid: u32, fd: u16, direction: u16, (kind_of, object, peer): (u16, u64, u64), data: &[u8]) {
        let mut fixed = StdioData::new_zeroed();
        fixed.header = self.header(kind::STDIO_DATA);
        fixed.header.tgid = tgid.into();
        (fixed.fd, fixed.direction, fixed.object_type) = (fd.into(), direction.into(), kind_of.into());
        (fixed.object, fixed.peer_object) = (object.into(), peer.into());
        fixed.len = (data.len() as u32 + 1).into();
        fixed.captured = (data.len() as u32).into();
        self.push(&fixed, &[data]);
    }
}

#[test]
fn a_standard_stream_names_the_process_at_its_other_end() {
    const PIPE: (u16, u64, u64) = (stdio_type::PIPE, 70, 70);
    let mut log = Log::default();
    log.fork(11);
    log.fork(12);
    log.endpoint(11, 70, direction::SENT);
    log.stdio(11, 1, direction::SENT, PIPE, b"out");
    // Who reads it shows only after it was written.
    log.endpoint(10, 70, direction::RECEIVED);
    // A local socket has two ends with numbers of their own.
    log.endpoint(10, 80, direction::SENT);
    log.stdio(12, 0, direction::RECEIVED, (stdio_type::SOCKET, 81, 80), b"in");
    log.stdio(12, 2, direction::SENT, (stdio_type::TERMINAL, 82, 0), b"tty");
    // Was open before: one other process has the pipe, as what it reads.
    for (tgid, fd, target) in [(12, 1, &b"pipe:[90]"[..]), (11, 0, b"pipe:[90]"), (11, 5, b"/dev/null")] {
        let mut descriptor = Descriptor::new_zeroed();
        descriptor.header = log.header(kind::DESCRIPTOR);
        descriptor.header.tgid = tgid.into();
        (descriptor.fd, descriptor.target_len) = (fd.into(), (target.len() as u16).into());
        log.push(&descriptor, &[target]);
    }
    log.stdio(12, 1, direction::SENT, (stdio_type::PIPE, 90, 90), b"more");
    let seen = log.rows();
    let names = ["seq", "proc_id", "fd", "direction", "object_type", "peer_proc_id", "len", "captured_len", "data"];
    let rows = seen.cells("stdio", &names);
    assert_eq!(
        rows,
        [
            ["0", "2", "1", "sent", "pipe", "1", "4", "3", "out"],
            ["1", "3", "0", "received", "socket", "1", "3", "2", "in"],
            ["2", "3", "2", "sent", "terminal", "", "4", "3", "tty"],
            ["3", "3", "1", "sent", "pipe", "2", "5", "4", "more"],
        ]
    );
}

#[test]
fn what_is_written_before_there_is_a_reader_has_its_reader_all_the_same() {
    const PIPE: (u16, u64, u64) = (stdio_type::PIPE, 70, 70);
    let mut log = Log::default();
    log.fork(11);
    log.stdio(11, 1, direction::SENT, PIPE, b"early");
    log.stdio(11, 2, direction::SENT, (stdio_type::TERMINAL, 82, 0), b"tty");
    log.fork(12);
    log.endpoint(12, 70, direction::RECEIVED);
    let seen = log.rows();
    let rows = seen.cells("stdio", &["seq", "peer_proc_id", "data"]);
    assert_eq!(rows, [["0", "3", "early"], ["1", "", "tty"]]);
}

#[test]
fn measurements_have_names_and_units() {
    let mut log = Log::default();
    for (name, value) in [(metric::RSS, 4096), (99, -1)] {
        let mut fixed = Metric::new_zeroed();
        fixed.header = log.header(kind::METRIC);
        (fixed.name, fixed.value) = (name.into(), value.into());
        log.push(&fixed, &[]);
    }
    let seen = log.rows();
    let rows = seen.cells("metrics", &["proc_id", "name", "unit", "value"]);
    assert_eq!(rows, [["1", "rss", "bytes", "4096"], ["1", "99", "", "-1"]]);
}

#[test]
fn a_record_too_short_for_its_kind_is_counted() {
    let mut log = Log::default();
    let short = record::Adopt { header: log.header(kind::FILE) };
    log.push(&short, &[]);
    let (seen, report) = rows_of(&capture(&log.script.records), None);
    let drops = cells(seen.table("drops")[0], &["reason", "source", "records"]);
    assert_eq!(drops, ["malformed", "file", "1"]);
    assert!(report.lossy());
}

/// Every kind of record, with bytes of no sense in it.
#[test]
fn records_of_no_sense_never_panic() {
    let mut random = random();
    let mut records = Vec::new();
    for round in 0..4000u64 {
        let (kind, _) = kind::NAMES[round as usize % kind::NAMES.len()];
        if kind == kind::CHECKPOINT {
            continue;
        }
        let small = random().is_multiple_of(2);
        let noise: Vec<u8> = (0..random() % 200).map(|_| if small { random() % 3 } else { random() } as u8).collect();
        let fixed = record::Adopt { header: header(kind, round, (random() % 4) as u32) };
        records.push(bytes(&fixed, &[&noise]));
    }
    let file = capture(&records);
    let (all, _) = rows_of(&file, None);
    for table in agentsight_replay::tables::TABLES {
        assert_eq!(rows_of(&file, Some(table.name)).0.table(table.name), all.table(table.name), "{}", table.name);
    }
}

#[test]
fn a_file_that_nobody_closed_has_its_sums_in_a_close_without_result() {
    let mut log = Log::default();
    for (id, path) in [(7, "/w/out.txt"), (8, "/w/log")] {
        log.file(file_op::OPEN, ["", path, "", ""], |file| (file.file_id, file.result) = (id.into(), 1.into()));
    }
    log.file(file_op::CLOSE, [""; 4], |file| (file.file_id, file.bytes_written) = (8.into(), 3.into()));
    log.exit();
    log.sums(sums_of::FILE, 7, [10, 2]);
    // Of one that nothing is known of nobody knows whose it is; and one that was closed is.
    log.sums(sums_of::FILE, 8, [3, 0]);
    log.sums(sums_of::FILE, 9, [1, 1]);
    let seen = log.rows();
    let names = ["proc_id", "op", "path", "result", "bytes_written", "bytes_read"];
    let expected = [
        ["1", "open", "/w/out.txt", "1", "", ""],
        ["1", "open", "/w/log", "1", "", ""],
        ["1", "close", "/w/log", "0", "3", "0"],
        ["1", "close", "/w/out.txt", "", "10", "2"],
    ];
    assert_eq!(seen.cells("files", &names), expected);
    assert_eq!(seen.table("processes").len(), 1, "the record of sums names no process");
}

#[test]
fn bytes_of_a_connection_are_null_only_where_nobody_told() {
    let names = ["bytes_sent", "bytes_received", "closed_at"];
    let row = |log: &Log| {
        let seen = log.rows();
        let row = cells(seen.table("connections")[0], &names);
        row.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let mut log = Log::default();
    log.socket(5, socket_op::CONNECT, |_| {});
    log.say(library::OPENSSL, 6, direction::SENT, GET);
    log.bind(6, 5);
    // The capturer was killed: how much has gone through the socket is not known.
    assert_eq!(row(&log), ["", "", ""]);
    log.exit();
    assert_eq!(row(&log), ["", "", "1000004"]);
    // Somebody else has it, and the capturer came to its end.
    log.sums(sums_of::SOCKET, 5, [900, 3000]);
    log.sums(sums_of::SOCKET, 77, [1, 1]);
    assert_eq!(row(&log), ["900", "3000", ""]);
    assert_eq!(log.rows().table("connections").len(), 1);
}
