//! Standard streams, over captures that are made here.

mod common;

use agentsight_formats::record::{Descriptor, direction, kind, stdio_type};
use common::log::*;
use zerocopy::FromZeros;

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
