//! Reads a capture, piece by piece, and accounts for every byte that it passes over.
//!
//! A piece is given out when its checkpoint is there and its CRC is right, so nothing that is given out is guessed. What is
//! damaged costs its segment from that piece on; the next segment is found by its marker.

use crate::frame::{self, Marker, SEGMENT_START};
use crate::input::Input;
use crate::piece::{Decoded, Segment};
use crate::{Clocks, Damage, Error, Head, Item, Piece, SegmentInfo, Tail};
use std::collections::VecDeque;
use std::io::{Read, Seek};

/// Longest skippable frame of ours: the metadata of a head, the index of a tail. A longer one is damage.
const MAX_PLAIN: usize = 64 << 20;

/// Iterates over the pieces of a capture. A capture that is still being written can be read, too: up to the last flush.
pub struct Reader<R> {
    input: Input<R>,
    head: Head,
    segment: Option<Segment>,
    /// To be given out after the reports.
    piece: Option<Piece>,
    /// Damage that is to be reported before reading on.
    reports: VecDeque<Damage>,
    /// Number of the next segment and sequence of the next checkpoint.
    next_segment: u64,
    next_sequence: u64,
    /// The next numbers are not known: what was lost has been reported.
    lost: bool,
    clocks: Option<Clocks>,
    /// What was read of each whole segment, to be compared with the tail.
    seen: Vec<SegmentInfo>,
    finished: bool,
    ended: bool,
}

impl<R: Read + Seek> Reader<R> {
    /// Reads the head. A capture whose head is damaged is opened all the same, if a segment can be found.
    ///
    /// # Errors
    /// When the input is empty, no capture, of a newer version, or cannot be read.
    pub fn open(input: R) -> Result<Self, Error> {
        let mut input = Input::new(input)?;
        let mut reports = VecDeque::new();
        let head = match read_plain(&mut input)? {
            Plain::Frame(frame::HEAD, body) => frame::decode_head(&body),
            Plain::End if input.offset() == 0 && input.peek(1)?.is_empty() => return Err(Error::Empty),
            _ => None,
        };
        let head = match head {
            Some(head) if head.version > crate::head::VERSION => {
                return Err(Error::NewerVersion { found: head.version, known: crate::head::VERSION });
            }
            Some(head) => head,
            None => {
                input.seek(0)?;
                let marker = scan(&mut input, None)?.ok_or(Error::NotACapture)?;
                reports.push_back(Damage {
                    end: input.offset(),
                    ..Damage::new(0, "the head is damaged: what, where and when is not known")
                });
                Head { uuid: marker.uuid, ..Head::default() }
            }
        };
        let lost = !reports.is_empty();
        Ok(Reader {
            input,
            head,
            segment: None,
            piece: None,
            reports,
            next_segment: 0,
            next_sequence: 0,
            lost,
            clocks: None,
            seen: Vec::new(),
            finished: false,
            ended: false,
        })
    }

    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Whether the end was reached and the capturer had closed the file.
    pub fn finished(&self) -> bool {
        self.finished
    }

    /// The index at the end of the file; `None` if it is missing or damaged. Does not disturb the iteration.
    ///
    /// # Errors
    /// When the input cannot be read.
    pub fn tail(&mut self) -> Result<Option<Tail>, Error> {
        let back = self.input.offset();
        let tail = self.find_tail()?;
        self.input.seek(back)?;
        Ok(tail)
    }

    fn find_tail(&mut self) -> Result<Option<Tail>, Error> {
        let size = self.input.size()?;
        let Some(footer) = size.checked_sub(frame::FOOTER_LEN as u64) else { return Ok(None) };
        self.input.seek(footer)?;
        let Some(len) = self.input.peek(4)?.first_chunk::<4>().map(|len| u64::from(u32::from_le_bytes(*len))) else {
            return Ok(None);
        };
        let Some(start) = size.checked_sub(len) else { return Ok(None) };
        self.input.seek(start)?;
        Ok(match read_plain(&mut self.input)? {
            Plain::Frame(frame::TAIL, body) => self.parse_tail(&body),
            _ => None,
        })
    }

    fn parse_tail(&self, body: &[u8]) -> Option<Tail> {
        frame::decode_tail(body, &self.head.uuid).and_then(|json| serde_json::from_slice(json).ok())
    }

    /// The next piece, or what was passed over; `None` at the end.
    ///
    /// # Errors
    /// Only when the input cannot be read; damage is an [`Item`].
    pub fn next_item(&mut self) -> Result<Option<Item>, Error> {
        loop {
            if let Some(damage) = self.reports.pop_front() {
                return Ok(Some(Item::Damage(damage)));
            }
            if let Some(piece) = self.piece.take() {
                return Ok(Some(Item::Piece(piece)));
            }
            if self.ended {
                return Ok(None);
            }
            self.advance()?;
        }
    }

    fn advance(&mut self) -> Result<(), Error> {
        let Some(segment) = &mut self.segment else {
            return self.next_frame();
        };
        match segment.decode(&mut self.input)? {
            Decoded::Piece(piece) => {
                if !self.lost && piece.sequence != self.next_sequence {
                    let text = format!("checkpoints {}..{} are missing", self.next_sequence, piece.sequence);
                    self.report(Damage { segment: Some(piece.segment), ..Damage::new(piece.offset, text) });
                }
                self.lost = false;
                self.next_sequence = piece.sequence.wrapping_add(1);
                self.clocks = Some(piece.clocks());
                self.piece = Some(piece);
            }
            Decoded::End(info) => {
                self.segment = None;
                self.seen.push(info);
            }
            Decoded::Damaged { reason } => {
                let number = segment.number;
                let (start, from) = (segment.last_good(), segment.offset);
                self.segment = None;
                self.resync(from, Damage { segment: Some(number), ..Damage::new(start, reason) })?;
            }
            Decoded::Cut { lost } => {
                let (offset, from, number) = (segment.last_good(), segment.offset, segment.number);
                self.segment = None;
                self.end_or_resync(
                    from,
                    Damage { segment: Some(number), ..Damage::new(offset, "a length is damaged") },
                    lost,
                )?;
            }
        }
        Ok(())
    }

    /// Reads what stands between segments.
    fn next_frame(&mut self) -> Result<(), Error> {
        let offset = self.input.offset();
        match read_plain(&mut self.input)? {
            Plain::Frame(frame::MARKER, _) => {
                self.input.seek(offset)?;
                let bytes = self.input.peek(frame::MARKER_LEN)?;
                match Marker::decode(bytes).filter(|marker| marker.uuid == self.head.uuid) {
                    Some(marker) => {
                        self.input.seek(offset + frame::MARKER_LEN as u64)?;
                        self.begin(offset, marker)?;
                    }
                    None => {
                        self.resync(offset, Damage::new(offset, "a segment's marker is damaged or of another capture"))?
                    }
                }
            }
            Plain::Frame(frame::TAIL, body) => match self.parse_tail(&body) {
                Some(tail) => self.end_finished(&tail)?,
                None => self.resync(offset, Damage::new(offset, "the index at the end is damaged"))?,
            },
            Plain::End if offset == self.input.size()? => self.end_unfinished(offset, None, 0),
            Plain::End => self.end_or_resync(offset, Damage::new(offset, "a frame's length is damaged"), 0)?,
            Plain::Frame(..) | Plain::Other => {
                self.resync(offset, Damage::new(offset, "neither a segment nor an index"))?
            }
        }
        Ok(())
    }

    /// The file ends inside a frame. It may just end there; but if a segment or the index follows, a length is wrong.
    fn end_or_resync(&mut self, from: u64, damage: Damage, lost: u64) -> Result<(), Error> {
        if scan_from(&mut self.input, from + 1, self.head.uuid)?.is_some() || self.find_tail()?.is_some() {
            return self.resync(from, damage);
        }
        self.end_unfinished(damage.offset, damage.segment, lost);
        Ok(())
    }

    fn begin(&mut self, offset: u64, marker: Marker) -> Result<(), Error> {
        if !self.lost && (marker.segment, marker.sequence) != (self.next_segment, self.next_sequence) {
            let text = format!("segment {} stands where segment {} should", marker.segment, self.next_segment);
            self.report(Damage { segment: Some(marker.segment), ..Damage::new(offset, text) });
            self.lost = true;
        }
        self.next_segment = marker.segment.wrapping_add(1);
        let start = self.input.offset();
        let first = self.input.peek(SEGMENT_START.len())?;
        if first.len() < SEGMENT_START.len() && SEGMENT_START.starts_with(first) {
            self.end_unfinished(start, Some(marker.segment), 0);
        } else if first == SEGMENT_START {
            self.segment = Some(Segment::new(marker, start)?);
        } else {
            let damage = Damage { segment: Some(marker.segment), ..Damage::new(start, "its first bytes are damaged") };
            self.resync(start, damage)?;
        }
        Ok(())
    }

    /// Reports damage up to the next segment, and goes on there; or up to the end of the file.
    fn resync(&mut self, from: u64, damage: Damage) -> Result<(), Error> {
        self.lost = true;
        let found = scan_from(&mut self.input, from + 1, self.head.uuid)?;
        // Behind the last segment there may be an index: it tells that the file itself was finished.
        if found.is_none() {
            let end = self.input.size()?;
            self.report(Damage { end, ..damage });
            if let Some(tail) = self.find_tail()? {
                self.finished = true;
                self.compare(&tail);
            }
            self.ended = true;
            return Ok(());
        }
        self.report(Damage { end: self.input.offset(), ..damage });
        Ok(())
    }

    fn end_unfinished(&mut self, offset: u64, segment: Option<u64>, lost: u64) {
        let reason = match lost {
            0 => "the file was not closed: the capturer was killed, or still writes".to_owned(),
            lost => format!("the file was not closed: {lost} bytes of records after the last flush are lost"),
        };
        let end = self.input.size().unwrap_or(offset);
        self.report(Damage { end, segment, unfinished: true, ..Damage::new(offset, reason) });
        self.ended = true;
    }

    fn end_finished(&mut self, tail: &Tail) -> Result<(), Error> {
        self.finished = true;
        self.ended = true;
        self.compare(tail);
        let (at, size) = (self.input.offset(), self.input.size()?);
        if at < size {
            self.report(Damage { end: size, ..Damage::new(at, "there are bytes after the end of the capture") });
        }
        Ok(())
    }

    /// The index knows how the bytes of a segment were written: a difference that decoding did not notice shows here.
    fn compare(&mut self, tail: &Tail) {
        let reported = |reader: &Self, offset| reader.lost && !reader.seen.iter().any(|info| info.offset == offset);
        for info in &tail.segments {
            let text = match self.seen.iter().find(|seen| seen.offset == info.offset) {
                Some(seen) if (seen.crc, seen.disk_bytes) != (info.crc, info.disk_bytes) => {
                    "bytes of this segment differ from what was written, though its records are whole"
                }
                Some(_) => continue,
                None if reported(self, info.offset) => continue,
                None => "a segment of the index is not there",
            };
            self.report(Damage { end: info.offset + info.disk_bytes, ..Damage::new(info.offset, text) });
        }
    }

    fn report(&mut self, damage: Damage) {
        self.reports.push_back(Damage { after: self.clocks, ..damage });
    }
}

enum Plain {
    /// A whole skippable frame: magic number and body.
    Frame([u8; 4], Vec<u8>),
    /// The input ends here, or inside the frame that starts here.
    End,
    /// Something else; the input stays where it was.
    Other,
}

fn read_plain<R: Read + Seek>(input: &mut Input<R>) -> Result<Plain, Error> {
    let Some((magic, len)) = input.peek(8)?.first_chunk::<8>().map(|bytes| {
        let [a, b, c, d, len @ ..] = *bytes;
        ([a, b, c, d], u32::from_le_bytes(len) as usize)
    }) else {
        return Ok(Plain::End);
    };
    if ![frame::HEAD, frame::MARKER, frame::TAIL].contains(&magic) || len > MAX_PLAIN {
        return Ok(Plain::Other);
    }
    let bytes = input.peek(8 + len)?;
    if bytes.len() < 8 + len {
        return Ok(Plain::End);
    }
    let body = bytes[8..].to_vec();
    input.consume(8 + len);
    Ok(Plain::Frame(magic, body))
}

/// Finds the next whole segment marker at or after an offset, and leaves the input there.
fn scan_from<R: Read + Seek>(input: &mut Input<R>, from: u64, uuid: [u8; 16]) -> Result<Option<Marker>, Error> {
    input.seek(from)?;
    scan(input, Some(uuid))
}

fn scan<R: Read + Seek>(input: &mut Input<R>, uuid: Option<[u8; 16]>) -> Result<Option<Marker>, Error> {
    const WINDOW: usize = 1 << 16;
    loop {
        let bytes = input.peek(WINDOW)?;
        if bytes.len() < frame::MARKER_LEN {
            return Ok(None);
        }
        let found = bytes.windows(frame::MARKER_LEN).enumerate().find_map(|(at, window)| {
            let marker = window.starts_with(&frame::MARKER).then(|| Marker::decode(window)).flatten()?;
            uuid.is_none_or(|uuid| uuid == marker.uuid).then_some((at, marker))
        });
        if let Some((at, marker)) = found {
            input.consume(at);
            return Ok(Some(marker));
        }
        let passed = bytes.len() - (frame::MARKER_LEN - 1);
        input.consume(passed);
    }
}
