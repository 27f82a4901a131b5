//! Writes a capture: head, segments, tail. Nothing written is ever written again, so the output may be a pipe.

use crate::frame::{self, Marker};
use crate::piece::finish_piece_crc;
use crate::record::{self, CAPTURER_CPU, Checkpoint, DropCounter, Header, kind};
use crate::{Clocks, Error, Head, SegmentInfo, Tail};
use std::io::{self, Write};
use zerocopy::IntoBytes;
use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer};

/// Level 1 with a window of 8 MiB: agents send their whole conversation again with every call, so what was said before is
/// the best dictionary there is.
const LEVEL: i32 = 1;
const WINDOW_LOG: u32 = 23;
/// Level 1 has 14 and 6 to 7: with 15, text that hardly repeats takes half the space and less time, and conversations stay as
/// they are. With 16 it takes a third more time for a few percent of space: the table leaves the CPU's nearest caches.
const HASH_LOG: u32 = 15;
const MIN_MATCH: u32 = 6;
/// In a hurry: longer steps where nothing repeats, and no entropy code for what is new. Half the time, twice the space for
/// text that hardly repeats.
const HURRIED_TARGET_LENGTH: u32 = 8;

/// Writes records into segments. The caller decides when to flush and when to begin a new segment.
pub struct Writer<W> {
    out: W,
    uuid: [u8; 16],
    encoder: Encoder<'static>,
    in_a_hurry: bool,
    buffer: Vec<u8>,
    tail: Tail,
    segment: Option<Segment>,
    sequence: u64,
    crc: crc32fast::Hasher,
    piece_bytes: u64,
    raw_bytes: u64,
    disk_bytes: u64,
    safe_bytes: u64,
    records: u64,
}

struct Segment {
    info: SegmentInfo,
    crc: crc32fast::Hasher,
}

impl<W: Write> Writer<W> {
    /// Writes the head.
    ///
    /// # Errors
    /// When the output refuses, or the metadata cannot be stored.
    pub fn new(out: W, head: &Head) -> Result<Self, Error> {
        let mut encoder = Encoder::new(LEVEL)?;
        encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG))?;
        encoder.set_parameter(CParameter::HashLog(HASH_LOG))?;
        encoder.set_parameter(CParameter::MinMatch(MIN_MATCH))?;
        encoder.set_parameter(CParameter::ChecksumFlag(true))?;
        let mut writer = Writer {
            out,
            uuid: head.uuid,
            encoder,
            in_a_hurry: false,
            buffer: Vec::with_capacity(zstd::zstd_safe::CCtx::out_size()),
            tail: Tail::default(),
            segment: None,
            sequence: 0,
            crc: crc32fast::Hasher::new(),
            piece_bytes: 0,
            raw_bytes: 0,
            disk_bytes: 0,
            safe_bytes: 0,
            records: 0,
        };
        writer.write_plain(&frame::encode_head(head)?)?;
        Ok(writer)
    }

    /// Whether segments that begin from now on are to take less time, and more space.
    pub fn hurry(&mut self, yes: bool) {
        self.in_a_hurry = yes;
    }

    /// Begins a segment with the records of a snapshot and a checkpoint after them. An open segment is ended first.
    ///
    /// # Errors
    /// When the output refuses.
    pub fn begin_segment(&mut self, snapshot: &[u8], clocks: Clocks, drops: &[DropCounter]) -> Result<(), Error> {
        if self.piece_bytes > 0 {
            self.checkpoint(clocks, drops)?;
        }
        self.end_segment()?;
        let marker = Marker { uuid: self.uuid, segment: self.tail.segments.len() as u64, sequence: self.sequence };
        self.write_plain(&marker.encode()?)?;
        let info = SegmentInfo {
            offset: self.disk_bytes,
            first_time: u64::MAX,
            first_sequence: self.sequence,
            ..SegmentInfo::default()
        };
        self.segment = Some(Segment { info, crc: crc32fast::Hasher::new() });
        self.encoder.reinit()?;
        // 0 is what the level has.
        let target_length = if self.in_a_hurry { HURRIED_TARGET_LENGTH } else { 0 };
        self.encoder.set_parameter(CParameter::TargetLength(target_length))?;
        self.push(snapshot)?;
        self.checkpoint(clocks, drops)
    }

    /// Adds whole, padded records to the open segment; without one they are refused.
    ///
    /// # Errors
    /// When the output refuses, or the bytes are no records.
    pub fn push(&mut self, records: &[u8]) -> Result<(), Error> {
        let segment = self.segment.as_mut().ok_or(Error::Encode("no segment is open"))?;
        for record in record::records(records) {
            let header = record.map_err(|_| Error::Encode("the bytes are no records"))?.header;
            *segment.info.kinds.entry(header.kind.get()).or_default() += 1;
            segment.info.first_time = segment.info.first_time.min(header.time.get());
            segment.info.last_time = segment.info.last_time.max(header.time.get());
            self.records += 1;
        }
        self.crc.update(records);
        self.piece_bytes += records.len() as u64;
        self.compress(records)
    }

    /// Closes the piece with a checkpoint record, and flushes: what was pushed until now survives a crash.
    ///
    /// # Errors
    /// When the output refuses, or no segment is open.
    pub fn checkpoint(&mut self, clocks: Clocks, drops: &[DropCounter]) -> Result<(), Error> {
        let checkpoint = Checkpoint {
            header: Header {
                kind: kind::CHECKPOINT.into(),
                time: clocks.boottime.into(),
                cpu: CAPTURER_CPU.into(),
                ..Header::default()
            },
            sequence: self.sequence.into(),
            piece_len: self.piece_bytes.into(),
            boottime: clocks.boottime.into(),
            monotonic: clocks.monotonic.into(),
            realtime: clocks.realtime.into(),
            crc: 0.into(),
            drop_count: (drops.len() as u32).into(),
        };
        let mut bytes = Vec::new();
        record::append(&mut bytes, &checkpoint, &[drops.as_bytes()]);
        let len = size_of::<Checkpoint>() + size_of_val(drops);
        let crc = finish_piece_crc(std::mem::take(&mut self.crc), &bytes[..len]);
        let crc_at = std::mem::offset_of!(Checkpoint, crc);
        bytes[crc_at..crc_at + 4].copy_from_slice(&crc.to_le_bytes());
        let dropped = drops.iter().map(|counter| counter.records.get()).sum();
        self.push(&bytes)?;
        if let Some(segment) = &mut self.segment {
            segment.info.dropped_records = dropped;
        }
        self.tail.dropped_records = dropped;
        self.tail.clocks = clocks;
        self.sequence += 1;
        self.piece_bytes = 0;
        self.crc = crc32fast::Hasher::new();
        self.drain_encoder(|encoder, out| encoder.flush(out))?;
        self.flush_out()
    }

    /// Ends the segment's frame. Records pushed since the last checkpoint would not be read: checkpoint first.
    ///
    /// # Errors
    /// When the output refuses.
    pub fn end_segment(&mut self) -> Result<(), Error> {
        if self.segment.is_none() {
            return Ok(());
        }
        if self.piece_bytes > 0 {
            return Err(Error::Encode("records after the last checkpoint"));
        }
        self.drain_encoder(|encoder, out| encoder.finish(out, true))?;
        if let Some(Segment { mut info, crc }) = self.segment.take() {
            info.disk_bytes = self.disk_bytes - info.offset;
            info.crc = crc.finalize();
            self.tail.segments.push(info);
        }
        self.flush_out()
    }

    /// Ends the open segment, and writes the tail.
    ///
    /// # Errors
    /// When the output refuses.
    pub fn finish(mut self) -> Result<W, Error> {
        self.end_segment()?;
        let json = serde_json::to_vec(&self.tail).map_err(|_| Error::Encode("the index is no JSON"))?;
        self.write_plain(&frame::encode_tail(&self.uuid, &json)?)?;
        Ok(self.out)
    }

    pub fn in_segment(&self) -> bool {
        self.segment.is_some()
    }

    /// Bytes of records since the last checkpoint.
    pub fn piece_bytes(&self) -> u64 {
        self.piece_bytes
    }

    /// Bytes of records in the open segment.
    pub fn segment_bytes(&self) -> u64 {
        self.segment.as_ref().map_or(0, |segment| segment.info.raw_bytes)
    }

    /// Bytes of records written, checkpoints included.
    pub fn raw_bytes(&self) -> u64 {
        self.raw_bytes
    }

    /// Bytes given to the output.
    pub fn disk_bytes(&self) -> u64 {
        self.disk_bytes
    }

    /// Size of the file at the last completed flush: so much can be read whatever happens now.
    pub fn safe_bytes(&self) -> u64 {
        self.safe_bytes
    }

    /// Records written, checkpoints included.
    pub fn records(&self) -> u64 {
        self.records
    }

    fn compress(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.raw_bytes += bytes.len() as u64;
        if let Some(segment) = &mut self.segment {
            segment.info.raw_bytes += bytes.len() as u64;
        }
        let mut input = InBuffer::around(bytes);
        while input.pos() < bytes.len() {
            self.buffer.clear();
            self.encoder.run(&mut input, &mut OutBuffer::around(&mut self.buffer))?;
            self.write_segment()?;
        }
        Ok(())
    }

    /// Repeats an operation of the encoder until it has given everything out.
    fn drain_encoder(
        &mut self,
        mut operation: impl FnMut(&mut Encoder<'static>, &mut OutBuffer<'_, Vec<u8>>) -> io::Result<usize>,
    ) -> Result<(), Error> {
        loop {
            self.buffer.clear();
            let left = operation(&mut self.encoder, &mut OutBuffer::around(&mut self.buffer))?;
            self.write_segment()?;
            if left == 0 {
                return Ok(());
            }
        }
    }

    /// Writes the buffer as part of the open segment.
    fn write_segment(&mut self) -> Result<(), Error> {
        if let Some(segment) = &mut self.segment {
            segment.crc.update(&self.buffer);
        }
        self.out.write_all(&self.buffer)?;
        self.disk_bytes += self.buffer.len() as u64;
        Ok(())
    }

    fn write_plain(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.out.write_all(bytes)?;
        self.disk_bytes += bytes.len() as u64;
        self.flush_out()
    }

    fn flush_out(&mut self) -> Result<(), Error> {
        self.out.flush()?;
        self.safe_bytes = self.disk_bytes;
        Ok(())
    }
}
