//! Captures taken apart into their records, to be put together otherwise.

use agentsight_formats::record::{DropCounter, Header, Record, kind, records};
use agentsight_formats::{Clocks, Head, Item, Reader, Writer};
use agentsight_replay::table::{Row, TableDef};
use agentsight_replay::{Sink, json, replay};
use std::collections::BTreeMap;
use std::io::Cursor;
use std::ops::ControlFlow;
use std::path::Path;
use zerocopy::IntoBytes;

/// A segment: the state in which it starts, and what follows.
#[derive(Clone, Default)]
pub struct Segment {
    pub snapshot: Vec<Vec<u8>>,
    pub records: Vec<Vec<u8>>,
    pub begins: Clocks,
    pub ends: Clocks,
}

#[derive(Clone)]
pub struct Recorded {
    pub name: String,
    pub head: Head,
    pub segments: Vec<Segment>,
}

impl Recorded {
    pub fn read(name: &str, file: &[u8]) -> Self {
        let mut reader = Reader::open(Cursor::new(file)).unwrap();
        let head = reader.head().clone();
        let mut segments: Vec<Segment> = Vec::new();
        while let Some(item) = reader.next_item().unwrap() {
            let Item::Piece(piece) = item else { panic!("{name} is damaged") };
            let taken =
                piece.records().map(Result::unwrap).filter(|record| record.header.kind.get() != kind::CHECKPOINT);
            let taken: Vec<Vec<u8>> = taken.map(padded).collect();
            if piece.snapshot {
                segments.push(Segment { snapshot: taken, begins: piece.clocks(), ..Segment::default() });
            } else {
                segments.last_mut().unwrap().records.extend(taken);
            }
            segments.last_mut().unwrap().ends = piece.clocks();
        }
        Recorded { name: name.to_owned(), head, segments }
    }

    /// The captures of `fixtures/`.
    pub fn fixtures() -> Vec<Self> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fixtures/captures");
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "asc"));
        files.sort();
        assert!(!files.is_empty());
        let name = |path: &Path| path.file_stem().unwrap().to_string_lossy().into_owned();
        files.iter().map(|path| Recorded::read(&name(path), &std::fs::read(path).unwrap())).collect()
    }

    /// Numbers the records as their CPUs do, so that none is missing.
    pub fn renumber(&mut self) {
        let mut next: BTreeMap<u16, u32> = BTreeMap::new();
        for bytes in self.segments.iter_mut().flat_map(|segment| &mut segment.records) {
            let header = header(bytes);
            let seq = next.entry(header.cpu.get()).or_default();
            let numbered = Header { seq: (*seq).into(), ..header };
            bytes[..size_of::<Header>()].copy_from_slice(numbered.as_bytes());
            *seq += 1;
        }
    }

    pub fn write(&self) -> Vec<u8> {
        self.write_in(usize::MAX, &[])
    }

    /// With a checkpoint after so many records; at the last, this was lost.
    pub fn write_in(&self, piece: usize, drops: &[DropCounter]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), &self.head).unwrap();
        let last = self.segments.len() - 1;
        for (number, segment) in self.segments.iter().enumerate() {
            writer.begin_segment(&segment.snapshot.concat(), segment.begins, &[]).unwrap();
            for records in segment.records.chunks(piece) {
                writer.push(&records.concat()).unwrap();
                writer.checkpoint(segment.ends, &[]).unwrap();
            }
            let drops = if number == last { drops } else { &[] };
            writer.checkpoint(segment.ends, drops).unwrap();
        }
        writer.finish().unwrap()
    }
}

fn padded(record: Record<'_>) -> Vec<u8> {
    let mut bytes = record.bytes.to_vec();
    bytes.resize(bytes.len().next_multiple_of(8), 0);
    bytes
}

pub fn header(record: &[u8]) -> Header {
    *records(record).next().unwrap().unwrap().header
}

/// The rows as JSON lines, as the command prints them.
#[derive(Default)]
pub struct Lines {
    pub bytes: Vec<u8>,
    except: &'static [&'static str],
}

impl Sink for Lines {
    fn wants(&self, table: &TableDef) -> bool {
        !self.except.contains(&table.name)
    }

    fn row(&mut self, row: &dyn Row) -> ControlFlow<()> {
        json::line(row, &mut self.bytes).unwrap();
        ControlFlow::Continue(())
    }
}

pub fn lines(files: &[Vec<u8>], except: &'static [&'static str]) -> String {
    let names: Vec<String> = (0..files.len()).map(|index| format!("{index}.asc")).collect();
    let mut sink = Lines { except, ..Lines::default() };
    replay(&names, &mut |index| Reader::open(Cursor::new(&files[index])), &mut sink).unwrap();
    String::from_utf8(sink.bytes).unwrap()
}

/// Numbers that look random and are the same every time (xorshift).
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, most: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % most
    }
}
