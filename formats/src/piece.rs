//! A piece is what one flush made safe: records up to a checkpoint. This decodes them out of a segment's zstd frame.

use crate::frame::Marker;
use crate::input::Input;
use crate::record::{self, Body, DropCounter, HEADER_LEN, Header, MAX_RECORD_LEN, Records, kind, padded_len};
use crate::{Clocks, Error, SegmentInfo};
use std::io::{Read, Seek};
use std::ops::Range;
use zerocopy::FromBytes;
use zstd::stream::raw::{DParameter, Decoder, InBuffer, Operation, OutBuffer};

/// Windows that a reader accepts: 128 MiB, sixteen times what this version writes.
const MAX_WINDOW_LOG: u32 = 27;

/// Longest piece in bytes; a longer one is damage. A capturer flushes after about 1 MiB.
pub(crate) const MAX_PIECE: usize = 64 << 20;

/// What a reader gives out.
#[derive(Clone, Debug)]
pub enum Item {
    Piece(Piece),
    Damage(Damage),
}

/// Verified records, up to and with the checkpoint that closes them.
#[derive(Clone, Debug)]
pub struct Piece {
    /// Number of the segment, from 0.
    pub segment: u64,
    /// Sequence of the checkpoint.
    pub sequence: u64,
    /// Whether this is a segment's first piece: the state in which it starts.
    pub snapshot: bool,
    /// Offset of the segment's frame in the file, in bytes.
    pub offset: u64,
    bytes: Vec<u8>,
    clocks: Clocks,
    drops: Range<usize>,
}

impl Piece {
    pub fn records(&self) -> Records<'_> {
        record::records(&self.bytes)
    }

    /// The records as they are in the stream, the checkpoint included.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The clocks at the checkpoint.
    pub fn clocks(&self) -> Clocks {
        self.clocks
    }

    /// What was lost since the capture started, counted at the checkpoint.
    pub fn drops(&self) -> &[DropCounter] {
        self.bytes.get(self.drops.clone()).and_then(|bytes| <[DropCounter]>::ref_from_bytes(bytes).ok()).unwrap_or(&[])
    }
}

/// Bytes of a file that were passed over, and why.
#[derive(Clone, Debug, PartialEq)]
pub struct Damage {
    /// The first byte, and the one after the last, as far as is known.
    pub offset: u64,
    pub end: u64,
    pub segment: Option<u64>,
    pub reason: String,
    /// Clocks of the last checkpoint before.
    pub after: Option<Clocks>,
    /// The file just ends: its capturer was killed, or still writes.
    pub unfinished: bool,
}

impl Damage {
    pub(crate) fn new(offset: u64, reason: impl Into<String>) -> Self {
        Damage { offset, end: offset, segment: None, reason: reason.into(), after: None, unfinished: false }
    }
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.segment {
            Some(segment) => write!(f, "segment {segment}, bytes {}..{}: {}", self.offset, self.end, self.reason),
            None => write!(f, "bytes {}..{}: {}", self.offset, self.end, self.reason),
        }
    }
}

/// What came of decoding.
pub(crate) enum Decoded {
    Piece(Piece),
    /// The frame ended after a checkpoint, as it should.
    End(SegmentInfo),
    Damaged {
        reason: String,
    },
    /// The input ends inside the frame; so many bytes of records have no checkpoint.
    Cut {
        lost: u64,
    },
}

/// A segment that is being decoded.
pub(crate) struct Segment {
    pub number: u64,
    /// Offset of the frame.
    pub offset: u64,
    decoder: Decoder<'static>,
    /// Decoded bytes; those before `at` were given out.
    raw: Vec<u8>,
    at: usize,
    /// Where the next record starts.
    scanned: usize,
    first: bool,
    frame_ended: bool,
    good: u64,
    info: SegmentInfo,
    crc: crc32fast::Hasher,
}

impl Segment {
    pub fn new(marker: Marker, offset: u64) -> Result<Self, Error> {
        let mut decoder = Decoder::new()?;
        decoder.set_parameter(DParameter::WindowLogMax(MAX_WINDOW_LOG))?;
        Ok(Segment {
            number: marker.segment,
            offset,
            decoder,
            raw: Vec::new(),
            at: 0,
            scanned: 0,
            first: true,
            frame_ended: false,
            good: offset,
            info: SegmentInfo { offset, ..SegmentInfo::default() },
            crc: crc32fast::Hasher::new(),
        })
    }

    /// Offset up to which the file was needed for the pieces that were given out.
    pub fn last_good(&self) -> u64 {
        self.good
    }

    /// Decodes until there is a piece, or the reason why there is none.
    pub fn decode<R: Read + Seek>(&mut self, input: &mut Input<R>) -> Result<Decoded, Error> {
        loop {
            match self.find_piece() {
                Ok(Some(piece)) => {
                    self.good = input.offset();
                    return Ok(Decoded::Piece(piece));
                }
                Ok(None) if self.frame_ended => return Ok(self.end()),
                Ok(None) => {}
                Err(reason) => return Ok(Decoded::Damaged { reason }),
            }
            if self.raw.len() - self.at > MAX_PIECE {
                return Ok(Decoded::Damaged { reason: format!("no checkpoint within {MAX_PIECE} bytes") });
            }
            if let Err(decoded) = self.decompress(input)? {
                return Ok(decoded);
            }
        }
    }

    fn end(&mut self) -> Decoded {
        if self.raw.len() > self.at {
            return Decoded::Damaged { reason: "records after its last checkpoint".to_owned() };
        }
        let crc = std::mem::take(&mut self.crc).finalize();
        Decoded::End(SegmentInfo { crc, ..std::mem::take(&mut self.info) })
    }

    fn decompress<R: Read + Seek>(&mut self, input: &mut Input<R>) -> Result<Result<(), Decoded>, Error> {
        if self.at > 0 {
            self.raw.drain(..self.at);
            self.scanned -= self.at;
            self.at = 0;
        }
        let bytes = input.available()?;
        let at_end = bytes.is_empty();
        let start = self.raw.len();
        let room = zstd::zstd_safe::DCtx::out_size();
        self.raw.resize(start + room, 0);
        let mut source = InBuffer::around(bytes);
        let mut target = OutBuffer::around_pos(&mut self.raw[..], start);
        let result = self.decoder.run(&mut source, &mut target);
        let (used, end) = (source.pos(), target.pos());
        self.raw.truncate(end);
        self.crc.update(&bytes[..used]);
        input.consume(used);
        self.info.disk_bytes += used as u64;
        self.info.raw_bytes += (end - start) as u64;
        Ok(match result {
            Ok(0) => {
                self.frame_ended = true;
                Ok(())
            }
            Ok(_) if at_end && end == start => Err(Decoded::Cut { lost: (self.raw.len() - self.at) as u64 }),
            Ok(_) => Ok(()),
            Err(error) => Err(Decoded::Damaged { reason: format!("cannot be decompressed ({error})") }),
        })
    }

    /// Takes a piece off the decoded bytes if its checkpoint is there.
    fn find_piece(&mut self) -> Result<Option<Piece>, String> {
        while let Some((header, _)) = self.raw.get(self.scanned..).and_then(|rest| Header::ref_from_prefix(rest).ok()) {
            let len = header.len.get() as usize;
            if !(HEADER_LEN..=MAX_RECORD_LEN).contains(&len) {
                return Err(format!("a record of {len} bytes is not possible"));
            }
            let end = self.scanned + padded_len(len);
            if self.raw.len() < end {
                return Ok(None);
            }
            let closes = header.kind.get() == kind::CHECKPOINT;
            let start = std::mem::replace(&mut self.scanned, end);
            if closes {
                return self.take_piece(start, end).map(Some);
            }
        }
        Ok(None)
    }

    fn take_piece(&mut self, checkpoint_at: usize, end: usize) -> Result<Piece, String> {
        let bytes = self.raw[self.at..end].to_vec();
        let (records, closing) = bytes.split_at(checkpoint_at - self.at);
        let record = record::records(closing).next().and_then(Result::ok).ok_or("a checkpoint is no record")?;
        let Ok(Body::Checkpoint { checkpoint, drops }) = record.body() else {
            return Err("a checkpoint is too short".to_owned());
        };
        if checkpoint.piece_len.get() != records.len() as u64
            || checkpoint.crc.get() != piece_crc(records, record.bytes)
        {
            return Err("a checksum is wrong".to_owned());
        }
        let drops_at = records.len() + size_of::<record::Checkpoint>();
        let piece = Piece {
            segment: self.number,
            sequence: checkpoint.sequence.get(),
            snapshot: std::mem::replace(&mut self.first, false),
            offset: self.offset,
            clocks: Clocks {
                boottime: checkpoint.boottime.get(),
                monotonic: checkpoint.monotonic.get(),
                realtime: checkpoint.realtime.get(),
            },
            drops: drops_at..drops_at + size_of_val(drops),
            bytes: Vec::new(),
        };
        self.at = end;
        Ok(Piece { bytes, ..piece })
    }
}

/// CRC-32 of a piece: of its records, and of the checkpoint with its own `crc` taken as 0.
pub(crate) fn piece_crc(records: &[u8], checkpoint: &[u8]) -> u32 {
    let mut crc = crc32fast::Hasher::new();
    crc.update(records);
    finish_piece_crc(crc, checkpoint)
}

/// As [`piece_crc`], when the records have been hashed already.
pub(crate) fn finish_piece_crc(mut crc: crc32fast::Hasher, checkpoint: &[u8]) -> u32 {
    let at = std::mem::offset_of!(record::Checkpoint, crc);
    let (before, after) = checkpoint.split_at(at.min(checkpoint.len()));
    crc.update(before);
    crc.update(&[0; 4]);
    crc.update(after.get(4..).unwrap_or_default());
    crc.finalize()
}
