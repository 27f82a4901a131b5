//! The same recording, cut in other ways.

use crate::*;
use agentsight_formats::record::kind;
use agentsight_formats::{Clocks, Head, Item, Reader, Writer};
use std::fs::File;

/// A record as it stands in a stream, at a multiple of eight bytes.
fn padded(record: &[u8]) -> Vec<u8> {
    let mut bytes = record.to_vec();
    bytes.resize(record.len().next_multiple_of(8), 0);
    bytes
}

/// Writes the records of a capture anew: into so many files of one recording, with so many records from flush to flush.
fn rewritten(capture: &Path, folder: &TempDir, name: &str, files: usize, flush: usize) {
    let mut reader = Reader::open(File::open(capture).unwrap()).unwrap();
    let mut metadata = reader.head().metadata.clone();
    let (mut records, mut clocks) = (Vec::new(), Clocks::default());
    while let Some(item) = reader.next_item().unwrap() {
        let Item::Piece(piece) = item else { panic!("{item:?}") };
        let of_piece = piece.records().map(|record| record.unwrap());
        records.extend(
            of_piece.filter(|record| record.header.kind.get() != kind::CHECKPOINT).map(|record| padded(record.bytes)),
        );
        clocks = piece.clocks();
    }
    for (number, part) in records.chunks(records.len().div_ceil(files)).enumerate() {
        metadata.extra.insert("recording".to_owned(), "00000000-0000-4000-8000-000000000001".into());
        metadata.extra.insert("part".to_owned(), (number + 1).into());
        let file = File::create(folder.path().join(format!("{name}-{number}.asc"))).unwrap();
        let mut writer = Writer::new(file, &Head::new([number as u8 + 1; 16], metadata.clone())).unwrap();
        writer.begin_segment(&[], metadata.clocks, &[]).unwrap();
        for piece in part.chunks(flush) {
            piece.iter().for_each(|record| writer.push(record).unwrap());
            writer.checkpoint(clocks, &[]).unwrap();
        }
        writer.finish().unwrap();
    }
}

#[test]
fn the_same_bytes_however_the_recording_is_cut() {
    let folder = folder();
    // All but what tells of the files themselves.
    let list = lines(&folder, "--list");
    let analyzers = list.lines().filter(|line| line.contains("  version ")).map(|line| line.split(' ').next().unwrap());
    let analyzers: Vec<_> = analyzers.filter(|name| *name != "recording").collect();
    assert!(analyzers.contains(&"causes"), "{list}");
    let tables = format!("--analyzer {}", analyzers.join(","));
    for entry in std::fs::read_dir(fixtures().join("captures")).unwrap() {
        let capture = entry.unwrap().path();
        rewritten(&capture, &folder, "whole", 1, usize::MAX);
        let whole = lines(&folder, &format!("whole-0.asc {tables}"));
        assert!(whole.len() > 10_000);
        for (files, flush) in [(1, 1), (1, 7), (3, 100), (4, 5)] {
            rewritten(&capture, &folder, "cut", files, flush);
            let mut names: Vec<_> = (0..files).map(|number| format!("cut-{number}.asc")).collect();
            names.reverse();
            let cut = lines(&folder, &format!("{} {tables}", names.join(" ")));
            assert!(cut == whole, "{} in {files} files, flushed every {flush} records", capture.display());
        }
    }
}
