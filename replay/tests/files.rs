//! Files, over captures that are made here.

mod common;

use agentsight_formats::record::{CAPTURER_CPU, Header, file_op, socket_op, sums_of};
use common::log::*;

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
