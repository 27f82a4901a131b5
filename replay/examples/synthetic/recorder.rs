//! Writes records as the capturer does: pieces of a megabyte or a second, segments of 64 megabytes or five minutes.

use crate::common::clocks;
use agentsight_formats::record::Header;
use agentsight_formats::{Error, Head, Metadata, Writer};
use std::fs::File;
use std::io::BufWriter;
use zerocopy::FromBytes;

const PIECE_BYTES: u64 = 1 << 20;
const PIECE_TIME: u64 = 1_000_000_000;
const SEGMENT_BYTES: u64 = 64 << 20;
const SEGMENT_TIME: u64 = 300 * PIECE_TIME;

/// CPUs of the recorded machine.
const CPUS: u32 = 4;

pub struct Recorder {
    writer: Writer<BufWriter<File>>,
    sequences: [u32; CPUS as usize],
    now: u64,
    piece_began: u64,
    segment_began: u64,
}

impl Recorder {
    pub fn create(path: &str) -> Result<Self, Error> {
        let metadata = Metadata { clocks: clocks(0), arch: "x86_64".into(), ..Metadata::default() };
        let mut writer = Writer::new(BufWriter::new(File::create(path)?), &Head::new([7; 16], metadata))?;
        writer.begin_segment(&[], clocks(0), &[])?;
        Ok(Recorder { writer, sequences: [0; CPUS as usize], now: 0, piece_began: 0, segment_began: 0 })
    }

    pub fn raw_bytes(&self) -> u64 {
        self.writer.raw_bytes()
    }

    /// Writes a record that happens at `now`.
    pub fn record(&mut self, now: u64, mut record: Vec<u8>) -> Result<(), Error> {
        if let Ok((header, _)) = Header::mut_from_prefix(&mut record) {
            let cpu = header.tgid.get() % CPUS;
            header.time = now.into();
            header.cpu = (cpu as u16).into();
            header.seq = self.sequences[cpu as usize].into();
            self.sequences[cpu as usize] += 1;
        }
        self.now = now;
        self.writer.push(&record)?;
        if self.writer.segment_bytes() >= SEGMENT_BYTES || now - self.segment_began >= SEGMENT_TIME {
            self.writer.begin_segment(&[], clocks(now), &[])?;
            (self.segment_began, self.piece_began) = (now, now);
        } else if self.writer.piece_bytes() >= PIECE_BYTES || now - self.piece_began >= PIECE_TIME {
            self.writer.checkpoint(clocks(now), &[])?;
            self.piece_began = now;
        }
        Ok(())
    }

    pub fn finish(mut self) -> Result<(), Error> {
        self.writer.checkpoint(clocks(self.now), &[])?;
        self.writer.finish().map(drop)
    }
}
