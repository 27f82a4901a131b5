//! The container: what is written is read, and whatever happens to the file, nothing is silent and nothing is made up.

use agentsight_formats::record::{self, DropCounter, Header, Json, kind};
use agentsight_formats::{Clocks, Damage, Error, Head, Item, Metadata, Piece, Reader, Writer};
use std::io::{Cursor, Read};

const UUID: [u8; 16] = *b"0123456789abcdef";

fn note(text: &str, time: u64) -> Vec<u8> {
    let mut out = Vec::new();
    let header = Header { kind: kind::NOTE.into(), time: time.into(), ..Header::default() };
    record::append(&mut out, &Json { header }, &[text.as_bytes()]);
    out
}

fn clocks(n: u64) -> Clocks {
    Clocks { boottime: n * 1000, monotonic: n * 900, realtime: n as i64 * 1_000_000 }
}

/// Three segments of three flushes each, the second written in a hurry.
fn capture() -> Vec<u8> {
    let metadata = Metadata { host: "host".into(), command_line: vec!["true".into()], ..Metadata::default() };
    let mut writer = Writer::new(Vec::new(), &Head::new(UUID, metadata)).unwrap();
    let drop = DropCounter {
        source: 2.into(),
        cpu: 1.into(),
        reason: 0.into(),
        reserved: 0.into(),
        records: 5.into(),
        bytes: 500.into(),
    };
    for segment in 0..3u64 {
        writer.hurry(segment == 1);
        writer.begin_segment(&note("snapshot", segment), clocks(segment), &[]).unwrap();
        for flush in 0..3u64 {
            let time = segment * 10 + flush;
            writer.push(&note(&format!("record {time} of a small capture"), time)).unwrap();
            writer.push(&note(&"x".repeat(time as usize), time)).unwrap();
            writer.checkpoint(clocks(time), if time > 10 { std::slice::from_ref(&drop) } else { &[] }).unwrap();
        }
    }
    writer.finish().unwrap()
}

struct Seen {
    pieces: Vec<Piece>,
    damage: Vec<Damage>,
    finished: bool,
}

fn read(bytes: &[u8]) -> Result<Seen, Error> {
    let mut reader = Reader::open(Cursor::new(bytes))?;
    let mut seen = Seen { pieces: Vec::new(), damage: Vec::new(), finished: false };
    while let Some(item) = reader.next_item()? {
        match item {
            Item::Piece(piece) => seen.pieces.push(piece),
            Item::Damage(damage) => seen.damage.push(damage),
        }
    }
    seen.finished = reader.finished();
    Ok(seen)
}

#[test]
fn what_is_written_is_read() {
    let seen = read(&capture()).unwrap();
    assert_eq!(seen.damage, []);
    assert!(seen.finished);
    let sequences: Vec<_> = seen.pieces.iter().map(|piece| (piece.segment, piece.sequence, piece.snapshot)).collect();
    let expected: Vec<_> = (0..12).map(|n| (n / 4, n, n % 4 == 0)).collect();
    assert_eq!(sequences, expected);
    assert_eq!(seen.pieces[11].clocks(), clocks(22));
    assert_eq!(seen.pieces[11].drops()[0].records.get(), 5);
    assert!(seen.pieces.iter().all(|piece| piece.records().all(|record| record.is_ok())));
}

#[test]
fn zstd_alone_prints_the_records() {
    let bytes = capture();
    let mut plain = Vec::new();
    zstd::stream::Decoder::new(&bytes[..]).unwrap().read_to_end(&mut plain).unwrap();
    let pieces = read(&bytes).unwrap().pieces;
    assert_eq!(plain, pieces.iter().flat_map(|piece| piece.bytes()).copied().collect::<Vec<u8>>());
}

#[test]
fn the_tail_is_an_index_of_the_segments() {
    let bytes = capture();
    let mut reader = Reader::open(Cursor::new(&bytes)).unwrap();
    let tail = reader.tail().unwrap().unwrap();
    assert_eq!(tail.segments.len(), 3);
    assert_eq!(tail.dropped_records, 5);
    for segment in &tail.segments {
        assert_eq!(bytes[segment.offset as usize..][..4], 0xFD2F_B528u32.to_le_bytes());
        assert_eq!(segment.kinds[&kind::NOTE], 7);
    }
    assert!(matches!(reader.next_item().unwrap(), Some(Item::Piece(Piece { sequence: 0, .. }))));
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    assert_eq!(capture(), capture());
}

/// Sizes of the file after each flush, with the number of pieces that are safe then.
fn flushes() -> Vec<(usize, usize)> {
    let metadata = Metadata { host: "host".into(), command_line: vec!["true".into()], ..Metadata::default() };
    let whole = capture();
    let all = read(&whole).unwrap().pieces;
    let (mut sizes, mut segments) = (Vec::new(), 0);
    let mut writer = Writer::new(Vec::new(), &Head::new(UUID, metadata)).unwrap();
    for (count, piece) in (1..).zip(&all) {
        let records = piece.bytes();
        let closing = records.len() - record::padded_len(size_of::<record::Checkpoint>() + size_of_val(piece.drops()));
        if piece.snapshot {
            writer.hurry(segments == 1);
            segments += 1;
            writer.begin_segment(&records[..closing], piece.clocks(), piece.drops()).unwrap();
        } else {
            writer.push(&records[..closing]).unwrap();
            writer.checkpoint(piece.clocks(), piece.drops()).unwrap();
        }
        sizes.push((writer.safe_bytes() as usize, count));
    }
    sizes
}

#[test]
fn cut_at_every_byte_everything_before_the_last_flush_is_there() {
    let whole = capture();
    let all = read(&whole).unwrap().pieces;
    let flushes = flushes();
    for cut in 0..whole.len() {
        let seen = match read(&whole[..cut]) {
            Ok(seen) => seen,
            Err(Error::Empty | Error::NotACapture) => continue,
            Err(error) => panic!("cut at {cut}: {error}"),
        };
        assert!(!seen.damage.is_empty(), "cut at {cut}: silence");
        assert!(!seen.finished, "cut at {cut}");
        for (piece, original) in seen.pieces.iter().zip(&all) {
            assert_eq!(piece.bytes(), original.bytes(), "cut at {cut}");
        }
        let safe = flushes.iter().filter(|(size, _)| *size <= cut).map(|(_, count)| *count).max().unwrap_or(0);
        assert_eq!(seen.pieces.len(), safe, "cut at {cut}");
    }
}

#[test]
fn one_flipped_bit_anywhere_is_reported_and_costs_its_segment_at_most() {
    let whole = capture();
    let all = read(&whole).unwrap().pieces;
    for at in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[at / 8] ^= 1 << (at % 8);
        let seen = match read(&bytes) {
            Ok(seen) => seen,
            Err(Error::NewerVersion { .. }) => continue,
            Err(error) => panic!("bit {at}: {error}"),
        };
        assert!(!seen.damage.is_empty(), "bit {at}: silence");
        for piece in &seen.pieces {
            assert_eq!(piece.bytes(), all[piece.sequence as usize].bytes(), "bit {at}");
        }
        let mut lost: Vec<u64> =
            all.iter().filter(|p| !seen.pieces.iter().any(|s| s.sequence == p.sequence)).map(|p| p.segment).collect();
        lost.dedup();
        assert!(lost.len() <= 1, "bit {at} cost the segments {lost:?}: {:?}", seen.damage);
    }
}

#[test]
fn what_is_no_capture_is_named() {
    assert!(matches!(read(b""), Err(Error::Empty)));
    assert!(matches!(read(b"hello, world; this is some text"), Err(Error::NotACapture)));
    let mut head = Head::new(UUID, Metadata::default());
    head.version = 99;
    let newer = Writer::new(Vec::new(), &head).unwrap().finish().unwrap();
    let message = read(&newer).err().unwrap().to_string();
    assert!(message.contains("99") && message.contains("newer"), "{message}");
}

#[test]
fn a_segment_that_is_missing_twice_there_or_out_of_order_is_reported() {
    let whole = capture();
    let mut reader = Reader::open(Cursor::new(&whole)).unwrap();
    let tail = reader.tail().unwrap().unwrap();
    let marker = 52;
    let range = |n: usize| {
        let segment = &tail.segments[n];
        (segment.offset as usize - marker)..(segment.offset + segment.disk_bytes) as usize
    };
    let (head, end) = (&whole[..range(0).start], &whole[range(2).end..]);
    let segment = |n: usize| &whole[range(n)];
    for order in [&[0, 2][..], &[0, 0, 1, 2], &[1, 0, 2], &[0, 1]] {
        let mut bytes = head.to_vec();
        order.iter().for_each(|n| bytes.extend_from_slice(segment(*n)));
        bytes.extend_from_slice(end);
        assert!(!read(&bytes).unwrap().damage.is_empty(), "{order:?}");
    }
    assert!(!read(&[&whole[..], b"more"].concat()).unwrap().damage.is_empty());
    assert!(!read(&[&whole[..], &whole[..]].concat()).unwrap().damage.is_empty());
}

#[test]
fn a_capture_can_be_read_while_it_is_written() {
    let mut writer = Writer::new(Vec::new(), &Head::new(UUID, Metadata::default())).unwrap();
    writer.begin_segment(&[], clocks(1), &[]).unwrap();
    writer.push(&note("flushed", 1)).unwrap();
    writer.checkpoint(clocks(2), &[]).unwrap();
    let safe = writer.safe_bytes() as usize;
    writer.push(&note("not yet flushed", 3)).unwrap();
    writer.checkpoint(clocks(4), &[]).unwrap();
    let bytes = writer.finish().unwrap();
    let seen = read(&bytes[..safe]).unwrap();
    assert_eq!(seen.pieces.len(), 2);
    assert!(matches!(&seen.damage[..], [Damage { unfinished: true, .. }]));
}
