//! The frames of the container: what stands between and around the zstd frames that hold records.

use crate::Error;
use crate::head::{Head, Metadata};

/// Magic numbers of zstd skippable frames (RFC 8878, 3.1.2), which hold what is no record.
pub(crate) const HEAD: [u8; 4] = 0x184D_2A50u32.to_le_bytes();
pub(crate) const MARKER: [u8; 4] = 0x184D_2A51u32.to_le_bytes();
pub(crate) const TAIL: [u8; 4] = 0x184D_2A52u32.to_le_bytes();

/// The first bytes of every segment: zstd's magic number, a descriptor byte (checksum, no dictionary, no content size),
/// and the window byte for windowLog 23. A reader compares them, since zstd itself ignores some of their bits.
pub(crate) const SEGMENT_START: [u8; 6] = [0x28, 0xB5, 0x2F, 0xFD, 0x04, 0x68];

pub(crate) const HEAD_MAGIC: &[u8; 8] = b"ASCAPTUR";
pub(crate) const MARKER_MAGIC: &[u8; 8] = b"ASCSEGMT";
pub(crate) const TAIL_MAGIC: &[u8; 8] = b"ASCINDEX";

/// Length of a segment marker, with the header of its skippable frame.
pub(crate) const MARKER_LEN: usize = 8 + MARKER_BODY;
const MARKER_BODY: usize = 8 + 16 + 8 + 8 + 4;

/// Length of the footer, the last bytes of a finished capture: length of the tail frame (u32) and [`TAIL_MAGIC`].
pub(crate) const FOOTER_LEN: usize = 12;

/// Wraps a body into a skippable frame.
fn skippable(magic: [u8; 4], body: &[u8]) -> Result<Vec<u8>, Error> {
    let len = u32::try_from(body.len()).map_err(|_| Error::Encode("metadata is larger than 4 GiB"))?;
    Ok([&magic, &len.to_le_bytes(), body].concat())
}

fn with_crc(mut body: Vec<u8>) -> Vec<u8> {
    let crc = crc32fast::hash(&body);
    body.extend_from_slice(&crc.to_le_bytes());
    body
}

/// The body without its CRC, if that is right.
fn checked(body: &[u8]) -> Option<&[u8]> {
    let (body, crc) = body.split_last_chunk::<4>().map(|(body, crc)| (body, u32::from_le_bytes(*crc)))?;
    (crc32fast::hash(body) == crc).then_some(body)
}

pub(crate) fn encode_head(head: &Head) -> Result<Vec<u8>, Error> {
    let json = serde_json::to_vec(&head.metadata).map_err(|_| Error::Encode("metadata is no JSON"))?;
    let body = [
        &HEAD_MAGIC[..],
        &head.version.to_le_bytes(),
        &head.minor.to_le_bytes(),
        &head.uuid,
        &(json.len() as u32).to_le_bytes(),
        &json,
    ];
    skippable(HEAD, &with_crc(body.concat()))
}

/// Takes the body of a head apart; `None` if it is damaged.
pub(crate) fn decode_head(body: &[u8]) -> Option<Head> {
    let body = checked(body)?.strip_prefix(&HEAD_MAGIC[..])?;
    let (version, rest) = body.split_first_chunk()?;
    let (minor, rest) = rest.split_first_chunk()?;
    let (uuid, rest) = rest.split_first_chunk()?;
    let (len, rest) = rest.split_first_chunk()?;
    let json = rest.get(..u32::from_le_bytes(*len) as usize)?;
    let metadata: Metadata = serde_json::from_slice(json).ok()?;
    Some(Head { version: u16::from_le_bytes(*version), minor: u16::from_le_bytes(*minor), uuid: *uuid, metadata })
}

/// Stands before every segment, so that it can be found by scanning.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Marker {
    pub uuid: [u8; 16],
    /// Number of the segment, from 0.
    pub segment: u64,
    /// Sequence of its first checkpoint.
    pub sequence: u64,
}

impl Marker {
    pub fn encode(&self) -> Result<Vec<u8>, Error> {
        let body = [&MARKER_MAGIC[..], &self.uuid, &self.segment.to_le_bytes(), &self.sequence.to_le_bytes()];
        skippable(MARKER, &with_crc(body.concat()))
    }

    /// Takes a whole marker apart, the header of its frame included; `None` if it is none or is damaged.
    pub fn decode(frame: &[u8]) -> Option<Marker> {
        let body = frame.strip_prefix(&MARKER[..])?;
        let body = body.strip_prefix(&(MARKER_BODY as u32).to_le_bytes()[..])?;
        let body = checked(body)?.strip_prefix(&MARKER_MAGIC[..])?;
        let (uuid, rest) = body.split_first_chunk()?;
        let (segment, rest) = rest.split_first_chunk()?;
        let (sequence, _) = rest.split_first_chunk()?;
        Some(Marker { uuid: *uuid, segment: u64::from_le_bytes(*segment), sequence: u64::from_le_bytes(*sequence) })
    }
}

/// Wraps the index of a finished capture: UUID, JSON, CRC, footer.
pub(crate) fn encode_tail(uuid: &[u8; 16], json: &[u8]) -> Result<Vec<u8>, Error> {
    let mut body = with_crc([&TAIL_MAGIC[..], uuid, json].concat());
    let whole = (8 + body.len() + FOOTER_LEN) as u32;
    body.extend_from_slice(&whole.to_le_bytes());
    body.extend_from_slice(TAIL_MAGIC);
    skippable(TAIL, &body)
}

/// The JSON in the body of a tail; `None` if it is damaged or of another capture.
pub(crate) fn decode_tail<'a>(body: &'a [u8], uuid: &[u8; 16]) -> Option<&'a [u8]> {
    let (rest, footer) = body.split_last_chunk::<FOOTER_LEN>()?;
    let right = (body.len() as u32 + 8).to_le_bytes();
    if footer[..4] != right || footer[4..] != TAIL_MAGIC[..] {
        return None;
    }
    checked(rest)?.strip_prefix(&TAIL_MAGIC[..])?.strip_prefix(&uuid[..])
}
