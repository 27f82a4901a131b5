//! What the fuzz targets in `fuzz/` run: each takes any bytes, and says more than that nothing panics where more can be said: that
//! a stream gives the same however it is cut. Built for fuzzing and for tests only, which run what fuzzing has found again.

mod bodies;
mod calls;
mod connections;
mod mcp;

use crate::table::{Row, TableDef};
use crate::{Sink, dns_message, hello, shell};
use agentsight_formats::record::{Header, records};
use agentsight_formats::{Clocks, Head as FileHead, Metadata, Reader, Writer};
pub use bodies::*;
pub use calls::*;
pub use connections::*;
pub use mcp::mcp;
use std::io::Cursor;
use std::ops::ControlFlow;
use zerocopy::IntoBytes;

/// A sink that wants everything and looks at every cell.
struct Everything;

impl Sink for Everything {
    fn wants(&self, _: &TableDef) -> bool {
        true
    }

    fn row(&mut self, row: &dyn Row) -> ControlFlow<()> {
        let _ = crate::json::line(row, &mut std::io::sink());
        ControlFlow::Continue(())
    }
}

fn replay(file: &[u8]) {
    let _ = crate::replay(&["run.asc".to_owned()], &mut |_| Reader::open(Cursor::new(file)), &mut Everything);
}

/// A file that may be a capture, or was one.
pub fn container(data: &[u8]) {
    if let Ok(mut reader) = Reader::open(Cursor::new(data)) {
        let _ = reader.tail();
        while let Ok(Some(_)) = reader.next_item() {}
    }
    replay(data);
}

/// Records, as they stand in a segment: of a capture whose checksums are right.
pub fn capture(data: &[u8]) {
    let metadata = Metadata { clocks: Clocks { boottime: 1, monotonic: 1, realtime: 1 }, ..Metadata::default() };
    let Ok(mut writer) = Writer::new(Vec::new(), &FileHead::new([7; 16], metadata)) else { return };
    let _ = writer.begin_segment(&[], Clocks::default(), &[]);
    for record in records(data).map_while(Result::ok) {
        let _ = record.body();
        let mut padded = record.bytes.to_vec();
        padded.resize(padded.len().next_multiple_of(8), 0);
        let _ = writer.push(&padded);
    }
    let _ = writer.checkpoint(Clocks { boottime: u64::MAX / 2, ..Clocks::default() }, &[]);
    if let Ok(file) = writer.finish() {
        replay(&file);
    }
}

/// A piece of plaintext, or (no bytes) so many that are missing.
struct Piece<'a> {
    side: usize,
    bytes: &'a [u8],
    missing: u64,
}

/// Takes bytes as pieces of two directions. Each is a byte (1: received; 2: missing; the rest: 64 bytes each), one for the length,
/// and what the piece holds.
fn pieces(mut data: &[u8]) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    while let [first, length, rest @ ..] = data {
        let length = usize::from(*length) + 64 * usize::from(first >> 2);
        let side = usize::from(first & 1);
        if first & 2 != 0 {
            pieces.push(Piece { side, bytes: &[], missing: length as u64 });
            data = rest;
        } else {
            let (bytes, after) = rest.split_at(length.min(rest.len()));
            pieces.push(Piece { side, bytes, missing: 0 });
            data = after;
        }
    }
    pieces
}

/// The pieces of [`pieces`] as it takes them.
pub fn encode(side: usize, mut bytes: &[u8], out: &mut Vec<u8>) {
    while !bytes.is_empty() {
        let (piece, rest) = bytes.split_at(bytes.len().min(255 + 64 * 63));
        let blocks = piece.len().saturating_sub(255).div_ceil(64);
        out.extend([side as u8 | (blocks as u8) << 2, (piece.len() - 64 * blocks) as u8]);
        out.extend_from_slice(piece);
        bytes = rest;
    }
}

/// A DNS message.
pub fn dns(data: &[u8]) {
    if let Some(message) = dns_message::parse(data) {
        message.answers.iter().for_each(|answer| drop(answer.text()));
    }
}

/// The first bytes of TLS.
pub fn tls_hello(data: &[u8]) {
    drop(hello::parse(data));
}

/// A line for a shell: its commands hold nothing that the line does not; what is substituted stands in the words around it, too.
pub fn shell_line(data: &[u8]) {
    let script = String::from_utf8_lossy(data);
    let words: usize = shell::commands(&script).iter().flatten().map(String::len).sum();
    assert!(words <= script.len() * (shell::MAX_DEPTH + 1));
}

/// Records, whatever they hold.
pub fn records_of(data: &[u8]) {
    for record in records(data).map_while(Result::ok) {
        let _ = format!("{:?}", record.body());
        assert!(record.bytes.len() >= size_of::<Header>());
        assert_eq!(record.header.as_bytes(), &record.bytes[..size_of::<Header>()]);
    }
}

#[cfg(test)]
mod tests {
    use super::connections::parts;
    use super::*;
    use crate::message;

    #[test]
    fn what_is_no_message_of_http_is_lost_at_once_however_it_is_cut() {
        http1(b"\0\x14PATAA\0CH nothing of that.");
        assert_eq!(
            parts(message::Kind::Request, b"POSTER without a line that ends", usize::MAX),
            [("Lost".to_owned(), Vec::new())]
        );
    }

    #[test]
    fn what_is_substituted_stands_in_the_word_around_it_too() {
        shell_line(b"cut`\xdf-c2");
        shell_line("`".repeat(99).as_bytes());
        shell_line("$(a ".repeat(99).as_bytes());
    }

    #[test]
    fn pieces_are_taken_as_they_were_written() {
        let mut out = Vec::new();
        encode(1, &[7; 5000], &mut out);
        encode(0, b"hello", &mut out);
        let taken: Vec<_> = pieces(&out).iter().map(|piece| (piece.side, piece.bytes.len())).collect();
        assert_eq!(taken, [(1, 4287), (1, 713), (0, 5)]);
    }
}
