//! A rotated recording: its files, each a whole capture, give together the rows of one.

mod common;

use agentsight_formats::record::{
    CAPTURER_CPU, Connection, Exec, Exit, File, Process, Socket, Sums, direction, family, file_op, kind, library,
    socket_op, sums_of,
};
use agentsight_formats::{Head, Metadata, Reader, Writer};
use agentsight_replay::{Error, replay};
use common::*;
use std::io::Cursor;
use zerocopy::FromZeros;

const RECORDING: &str = "00000000-0000-4000-8000-000000000001";

/// A file of a recording: what its segment starts with, and what follows.
fn part(number: u64, snapshot: &[Vec<u8>], records: &[Vec<u8>]) -> Vec<u8> {
    let mut metadata = Metadata { clocks: clocks(10 * number), ..Metadata::default() };
    metadata.extra.insert("recording".to_owned(), RECORDING.into());
    metadata.extra.insert("part".to_owned(), number.into());
    let mut writer = Writer::new(Vec::new(), &Head::new([number as u8; 16], metadata)).unwrap();
    writer.begin_segment(&snapshot.concat(), clocks(10 * number), &[]).unwrap();
    records.iter().for_each(|record| writer.push(record).unwrap());
    writer.checkpoint(clocks(10 * number + 9), &[]).unwrap();
    writer.finish().unwrap()
}

fn read(parts: &[Vec<u8>]) -> Result<(Collected, Vec<agentsight_replay::Report>), Error> {
    let names: Vec<String> = (0..parts.len()).map(|index| format!("run-{index}.asc")).collect();
    let mut sink = Collected::default();
    let reports = replay(&names, &mut |index| Reader::open(Cursor::new(&parts[index])), &mut sink)?;
    Ok((sink, reports))
}

fn exec(time: u64) -> Vec<u8> {
    let mut exec = Exec::new_zeroed();
    exec.header = header(kind::EXEC, time, 10);
    (exec.start, exec.path_len) = (1.into(), 6.into());
    bytes(&exec, &[b"/bin/a"])
}

fn opened(time: u64, cpu: u16) -> Vec<u8> {
    let mut file = File::new_zeroed();
    file.header = header(kind::FILE, time, 10);
    file.header.cpu = cpu.into();
    (file.op, file.file_id, file.path_len) = (file_op::OPEN.into(), 9.into(), 6.into());
    bytes(&file, &[b"/w/log"])
}

fn socket(time: u64, cpu: u16, op: u16) -> Vec<u8> {
    let mut socket = Socket::new_zeroed();
    socket.header = header(kind::SOCKET, time, 10);
    socket.header.cpu = cpu.into();
    (socket.socket_id, socket.op, socket.family) = (5.into(), op.into(), family::INET.into());
    (socket.socket_type, socket.protocol, socket.peer_port) = (1.into(), 6.into(), 80.into());
    bytes(&socket, &[])
}

const REQUEST: &[u8] = b"GET /v1/models HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 11\r\n\r\nhello world";

/// The state when the second file began.
fn snapshot() -> [Vec<u8>; 4] {
    let mut process = Process::new_zeroed();
    process.header = header(kind::PROCESS, 20, 10);
    process.header.cpu = CAPTURER_CPU.into();
    (process.start, process.path_len) = (1.into(), 6.into());
    let mut connection = Connection::new_zeroed();
    connection.header = header(kind::CONNECTION, 20, 10);
    connection.header.cpu = CAPTURER_CPU.into();
    (connection.conn_id, connection.library, connection.opened) = (5.into(), library::PLAIN.into(), 13.into());
    (connection.sent, connection.received) = ((REQUEST.len() as u64).into(), 20.into());
    [
        bytes(&process, &[b"/bin/a"]),
        bytes(&connection, &[]),
        opened(11, CAPTURER_CPU),
        socket(12, CAPTURER_CPU, socket_op::USE),
    ]
}

/// A process, a file and a connection that all reach over the end of the first file, in the middle of the response.
fn two_parts() -> Vec<Vec<u8>> {
    let mut script = Script { time: 12, library: library::PLAIN, ..Script::default() };
    script.say(5, direction::SENT, REQUEST);
    script.say(5, direction::RECEIVED, &RESPONSE[..20]);
    let first =
        [vec![exec(11), opened(11, 0), socket(12, 0, socket_op::CONNECT)], script.records.split_off(0)].concat();
    script.time = 21;
    script.say(5, direction::RECEIVED, &RESPONSE[20..]);
    let snapshot = snapshot();
    let mut close = File::new_zeroed();
    close.header = header(kind::FILE, 25, 10);
    (close.op, close.file_id, close.bytes_written) = (file_op::CLOSE.into(), 9.into(), 7.into());
    let second = [script.records, vec![bytes(&close, &[]), socket(26, 0, socket_op::CLOSE)]].concat();
    vec![part(1, &[], &first), part(2, &snapshot, &second)]
}

#[test]
fn two_files_give_the_rows_of_one_recording() {
    let (seen, reports) = read(&two_parts()).unwrap();
    assert_eq!(reports.iter().map(|report| report.damage.len()).sum::<usize>(), 0);
    let only = |table: &str| {
        let rows = seen.table(table);
        assert_eq!(rows.len(), 1, "{table}: {rows:?}");
        rows[0].clone()
    };
    let capture = only("captures");
    let expected = [
        ("capture_id", RECORDING),
        ("file", "run-0.asc"),
        ("files", "VarcharList([\"run-0.asc\", \"run-1.asc\"])"),
        ("first_part", "1"),
        ("last_part", "2"),
        ("segments", "2"),
        ("started_at", "1000010"),
        ("ended_at", "1000029"),
        ("complete", "Boolean(true)"),
    ];
    for (name, value) in expected {
        assert_eq!(capture[name], value, "{name}");
    }
    assert!(seen.rows.iter().all(|(_, cells)| cells["capture_id"] == RECORDING));
    assert_eq!((only("processes")["proc_id"].as_str(), only("execs")["executable_path"].as_str()), ("1", "/bin/a"));
    let http = only("http");
    assert_eq!((http["response_body"].as_str(), http["body_state"].as_str()), ("hello world", "complete"));
    let connection = only("connections");
    assert_eq!((connection["gap_bytes"].as_str(), connection["role"].as_str()), ("0", "client"));
    let files: Vec<_> = seen.table("files").iter().map(|row| (row["op"].clone(), row["path"].clone())).collect();
    assert_eq!(files, [("open".to_owned(), "/w/log".to_owned()), ("close".to_owned(), "/w/log".to_owned())]);
}

/// What ends while a segment begins is said behind the state that the segment opens with, and was before it.
#[test]
fn what_had_ended_when_a_segment_began_does_not_come_again() {
    let mut parts = two_parts();
    let mut exit = Exit::new_zeroed();
    exit.header = header(kind::EXIT, 19, 10);
    parts[1] = part(2, &snapshot(), &[socket(18, 0, socket_op::CLOSE), bytes(&exit, &[])]);
    let (seen, _) = read(&parts).unwrap();
    for table in ["processes", "connections"] {
        let rows = seen.table(table);
        assert_eq!(rows.len(), 1, "{table}: {rows:?}");
    }
    assert_eq!(seen.table("processes")[0]["exit_ts"], "1000019");
    assert_eq!(seen.table("connections")[0]["closed_at"], "1000018");
}

#[test]
fn a_file_alone_says_what_came_before_it_is_missing() {
    let parts = two_parts();
    let (seen, _) = read(&parts[1..]).unwrap();
    let connection = seen.table("connections")[0];
    assert_eq!(connection["gap_bytes"], (REQUEST.len() + 20).to_string());
    assert_eq!(seen.table("files")[0]["path"], "/w/log");
    assert_eq!(seen.table("captures")[0]["first_part"], "2");
}

#[test]
fn a_file_that_is_missing_in_between_is_a_loss() {
    let parts = two_parts();
    let (seen, reports) = read(&[parts[0].clone(), part(4, &[], &[])]).unwrap();
    assert!(reports[1].lossy());
    assert_eq!(seen.table("drops")[0]["reason"], "missing_part");
    assert_eq!(seen.table("captures")[0]["complete"], "Boolean(false)");
}

#[test]
fn files_of_two_recordings_are_not_read_as_one() {
    let other = capture(&[]);
    let error = read(&[two_parts().remove(0), other]).err().unwrap().to_string();
    assert_eq!(error, "run-1.asc: is not of the same recording as the files before it");
}

#[test]
fn the_last_file_has_the_sums_of_what_was_open_before_it() {
    let sums = |time: u64, what: u16, id: u64| {
        let mut sums = Sums::new_zeroed();
        sums.header = header(kind::SUMS, time, 0);
        sums.header.cpu = CAPTURER_CPU.into();
        (sums.what, sums.id, sums.sent, sums.received) = (what.into(), id.into(), 700.into(), 20.into());
        bytes(&sums, &[])
    };
    let last = [sums(27, sums_of::SOCKET, 5), sums(28, sums_of::FILE, 9)];
    let first = [exec(11), opened(11, 0), socket(12, 0, socket_op::CONNECT)];
    let parts = [part(1, &[], &first), part(2, &snapshot(), &last)];
    // Together they tell how the file was opened; alone, the last one tells that it was open before.
    for (parts, ops) in [(&parts[..], vec!["open", "close"]), (&parts[1..], vec!["close"])] {
        let (seen, _) = read(parts).unwrap();
        assert_eq!(seen.cells("files", &["op"]).concat(), ops);
        let close = *seen.table("files").last().unwrap();
        assert_eq!(cells(close, &["path", "result", "bytes_written", "bytes_read"]), ["/w/log", "", "700", "20"]);
        assert_eq!(seen.cells("connections", &["bytes_sent", "bytes_received", "closed_at"]), [["700", "20", ""]]);
    }
}
