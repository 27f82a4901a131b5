//! Bodies: content codings are removed as the bytes come, so that a streamed event has the time of its arrival. Output is
//! capped: a few kilobytes may be compressed gigabytes.

use std::borrow::Cow;
use std::io::{self, Write};

/// Largest body that is kept, in bytes after decoding.
pub(crate) const MAX_BODY: usize = 256 << 20;

/// Compressed bytes given to a decoder at once.
const SLICE: usize = 16 << 10;

/// Largest window of zstd, as RFC 9659 has it for content codings: 8 MiB.
const MAX_WINDOW_LOG: u32 = 23;

/// Largest window of brotli (RFC 7932, 9.1). What "Large Window Brotli" starts with, which is no content coding, stands for one of up
/// to a gigabyte.
const MAX_BROTLI_WINDOW: usize = 1 << 24;
const LARGE_WINDOW: u8 = 0x11;

/// Most codings of one body; each takes the memory of a decoder.
const MAX_CODINGS: usize = 4;

/// Bytes that a decoder takes besides its window, about.
const DECODER: usize = 64 << 10;

/// Where decoders put their output; refuses more than [`MAX_BODY`] in all.
#[derive(Default)]
struct Capped {
    out: Vec<u8>,
    total: usize,
    full: bool,
}

impl Write for Capped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.total + bytes.len() > MAX_BODY {
            self.full = true;
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.total += bytes.len();
        self.out.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Codings that show themselves, by what they start with (RFC 1952, 2.3.1; RFC 8878, 3.1.1).
const SHOWN: [(&str, &[u8]); 2] = [("gzip", b"\x1f\x8b\x08"), ("zstd", b"\x28\xb5\x2f\xfd")];

enum Coding {
    Gzip(Box<flate2::write::MultiGzDecoder<Capped>>),
    Zlib(Box<flate2::write::ZlibDecoder<Capped>>),
    Deflate(Box<flate2::write::DeflateDecoder<Capped>>),
    /// And whether something was written to it.
    Brotli(Box<brotli::DecompressorWriter<Capped>>, bool),
    Zstd(Box<zstd::stream::write::Decoder<'static, Capped>>),
}

impl Coding {
    fn sink(&mut self) -> &mut Capped {
        match self {
            Coding::Gzip(decoder) => decoder.get_mut(),
            Coding::Zlib(decoder) => decoder.get_mut(),
            Coding::Deflate(decoder) => decoder.get_mut(),
            Coding::Brotli(decoder, _) => decoder.get_mut(),
            Coding::Zstd(decoder) => decoder.get_mut(),
        }
    }

    /// Bytes of memory that its decoder takes: its window, as far as it is in use, and its tables.
    fn held(&self) -> usize {
        match self {
            Coding::Gzip(_) | Coding::Zlib(_) | Coding::Deflate(_) => DECODER,
            Coding::Brotli(decoder, _) => DECODER + decoder.get_ref().total.min(MAX_BROTLI_WINDOW),
            Coding::Zstd(decoder) => DECODER + decoder.get_ref().total.min(1 << MAX_WINDOW_LOG),
        }
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let (Coding::Brotli(_, begun), Some(first)) = (&mut *self, bytes.first())
            && !std::mem::replace(begun, true)
            && first & 0x7f == LARGE_WINDOW
        {
            return Err(io::ErrorKind::InvalidData.into());
        }
        let writer: &mut dyn Write = match self {
            Coding::Gzip(decoder) => decoder,
            Coding::Zlib(decoder) => decoder,
            Coding::Deflate(decoder) => decoder,
            Coding::Brotli(decoder, _) => decoder,
            Coding::Zstd(decoder) => decoder,
        };
        for slice in bytes.chunks(SLICE) {
            writer.write_all(slice)?;
        }
        writer.flush()
    }
}

/// What is wrong with a body; the first thing that went wrong stays.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum BodyState {
    #[default]
    Complete,
    Gap,
    Cut,
    TooLarge,
    Undecodable,
    /// The bodies are whole, but header fields of the exchange are unknown; a coding of the body may be among them.
    UnknownFields,
}

impl BodyState {
    pub fn name(self) -> &'static str {
        match self {
            BodyState::Complete => "complete",
            BodyState::Gap => "gap",
            BodyState::Cut => "cut",
            BodyState::TooLarge => "too_large",
            BodyState::Undecodable => "undecodable",
            BodyState::UnknownFields => "unknown_fields",
        }
    }
}

/// A body on its way.
pub(crate) struct Body {
    codings: Option<Vec<Coding>>,
    /// `deflate` may be zlib or raw: the first byte tells.
    names: Vec<String>,
    /// The first bytes of a body whose coding is not known, while they may be those of one that shows itself.
    unsure: Option<Vec<u8>>,
    /// Bytes on the wire, gaps included.
    pub wire_len: u64,
    /// Decoded bytes; as they came where they cannot be decoded.
    pub data: Vec<u8>,
    raw: Vec<u8>,
    /// Bytes taken that are in no coding.
    plain: usize,
    pub state: BodyState,
}

impl Body {
    /// A body with the codings that a Content-Encoding field lists, in the order in which they were applied.
    pub fn new(content_encoding: Option<&str>) -> Self {
        let names = content_encoding
            .unwrap_or_default()
            .split(',')
            .map(|name| name.trim().to_ascii_lowercase())
            .filter(|name| !name.is_empty() && name != "identity")
            .take(MAX_CODINGS + 1)
            .collect();
        Body {
            codings: None,
            names,
            unsure: None,
            wire_len: 0,
            data: Vec::new(),
            raw: Vec::new(),
            plain: 0,
            state: BodyState::Complete,
        }
    }

    /// A body whose coding is not known: gzip and zstd are known by their first bytes.
    pub fn of_unknown_coding() -> Self {
        Body { unsure: Some(Vec::new()), ..Body::new(None) }
    }

    pub fn fail(&mut self, state: BodyState) {
        if self.state == BodyState::Complete {
            self.state = state;
        }
    }

    /// Takes bytes; returns what they decode to, which is also added to [`Body::data`].
    pub fn push(&mut self, bytes: &[u8]) -> &[u8] {
        self.wire_len += bytes.len() as u64;
        let Some(mut first) = self.unsure.take() else { return self.push_known(bytes) };
        first.extend_from_slice(bytes);
        let shown = SHOWN.iter().find(|(_, start)| first.starts_with(start));
        if shown.is_none() && SHOWN.iter().any(|(_, start)| start.starts_with(&first)) {
            self.unsure = Some(first);
            return &[];
        }
        self.names.extend(shown.map(|(name, _)| (*name).to_owned()));
        self.push_known(&first)
    }

    fn push_known(&mut self, bytes: &[u8]) -> &[u8] {
        let start = self.data.len();
        if matches!(self.state, BodyState::Complete | BodyState::Gap) || self.names.is_empty() {
            let done = if self.names.is_empty() { self.take_plain(bytes) } else { self.decode(bytes) };
            if let Err(state) = done {
                self.fail(state);
            }
        }
        if !self.names.is_empty() && self.raw.len() + bytes.len() <= MAX_BODY {
            self.raw.extend_from_slice(bytes);
        }
        self.data.get(start..).unwrap_or_default()
    }

    /// Bytes that are missing. A compressed body cannot be decoded any further.
    pub fn gap(&mut self, len: u64) {
        if let Some(first) = self.unsure.take() {
            self.push_known(&first);
        }
        self.wire_len += len;
        self.fail(BodyState::Gap);
        if !self.names.is_empty() {
            self.codings = Some(Vec::new());
        }
    }

    /// Bytes of memory that it takes.
    pub fn held(&self) -> usize {
        self.data.len()
            + self.raw.len()
            + self.codings.as_ref().map_or(0, |codings| codings.iter().map(Coding::held).sum())
    }

    /// Keeps no more than the first `len` bytes, since others take too much.
    pub fn give_up(&mut self, len: usize) {
        self.data.truncate(len);
        self.data.shrink_to_fit();
        self.fail(BodyState::TooLarge);
        self.names.clear();
        self.unsure = None;
        self.codings = Some(Vec::new());
        self.raw = Vec::new();
    }

    /// The end of the body: what cannot be decoded is kept as it came.
    pub fn finish(&mut self) {
        if let Some(first) = self.unsure.take() {
            self.push_known(&first);
        }
        if self.state == BodyState::Undecodable && self.data.is_empty() {
            self.data = std::mem::take(&mut self.raw);
        }
        self.raw = Vec::new();
        self.codings = None;
    }

    /// Takes bytes as they are; none after it was given up.
    fn take_plain(&mut self, bytes: &[u8]) -> Result<(), BodyState> {
        let room = if self.codings.is_none() { MAX_BODY - self.plain } else { 0 };
        let taken = bytes.get(..room).unwrap_or(bytes);
        self.plain += taken.len();
        self.data.extend_from_slice(taken);
        if taken.len() < bytes.len() { Err(BodyState::TooLarge) } else { Ok(()) }
    }

    fn decode(&mut self, bytes: &[u8]) -> Result<(), BodyState> {
        if bytes.is_empty() {
            return Ok(());
        }
        let codings = match &mut self.codings {
            Some(codings) => codings,
            None => self.codings.insert(codings(&self.names, bytes[0])?),
        };
        if codings.is_empty() {
            // After a gap in a compressed body, or it was given up.
            return Ok(());
        }
        let mut bytes = Cow::Borrowed(bytes);
        for coding in codings {
            let written = coding.write(&bytes);
            let sink = coding.sink();
            bytes = Cow::Owned(std::mem::take(&mut sink.out));
            if written.is_err() {
                let state = if sink.full { BodyState::TooLarge } else { BodyState::Undecodable };
                self.data.extend_from_slice(&bytes);
                return Err(state);
            }
        }
        self.data.extend_from_slice(&bytes);
        Ok(())
    }
}

/// The decoders for a list of codings, in the order in which they are removed.
fn codings(names: &[String], first_byte: u8) -> Result<Vec<Coding>, BodyState> {
    if names.len() > MAX_CODINGS {
        return Err(BodyState::Undecodable);
    }
    let sink = Capped::default;
    let decoder = |name: &String| {
        Ok(match name.as_str() {
            "gzip" | "x-gzip" => Coding::Gzip(Box::new(flate2::write::MultiGzDecoder::new(sink()))),
            // RFC 9110 says zlib; some servers send raw deflate. A zlib stream of deflate starts with 0x?8.
            "deflate" if first_byte & 0x0f == 8 => Coding::Zlib(Box::new(flate2::write::ZlibDecoder::new(sink()))),
            "deflate" => Coding::Deflate(Box::new(flate2::write::DeflateDecoder::new(sink()))),
            "br" => Coding::Brotli(Box::new(brotli::DecompressorWriter::new(sink(), 4096)), false),
            "zstd" => {
                let mut decoder = zstd::stream::write::Decoder::new(sink()).map_err(|_| BodyState::Undecodable)?;
                decoder.window_log_max(MAX_WINDOW_LOG).map_err(|_| BodyState::Undecodable)?;
                Coding::Zstd(Box::new(decoder))
            }
            _ => return Err(BodyState::Undecodable),
        })
    };
    names.iter().rev().map(decoder).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &[u8] = b"The quick brown fox jumps over the lazy dog. The quick brown fox.";

    fn encoded(name: &str, text: &[u8]) -> Vec<u8> {
        let level = flate2::Compression::default();
        match name {
            "gzip" => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            "deflate" => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            "raw" => {
                let mut encoder = flate2::write::DeflateEncoder::new(Vec::new(), level);
                encoder.write_all(text).unwrap();
                encoder.finish().unwrap()
            }
            "br" => {
                let mut out = Vec::new();
                brotli::BrotliCompress(&mut &text[..], &mut out, &Default::default()).unwrap();
                out
            }
            _ => zstd::encode_all(text, 1).unwrap(),
        }
    }

    #[test]
    fn every_coding_is_removed_however_it_is_cut() {
        for name in ["gzip", "deflate", "raw", "br", "zstd"] {
            let bytes = encoded(name, TEXT);
            for size in [1, 7, 1000] {
                let mut body = Body::new(Some(if name == "raw" { "deflate" } else { name }));
                for chunk in bytes.chunks(size) {
                    body.push(chunk);
                }
                body.finish();
                assert_eq!((body.state, &body.data[..]), (BodyState::Complete, TEXT), "{name} by {size}");
                assert_eq!(body.wire_len, bytes.len() as u64);
            }
        }
    }

    #[test]
    fn stacked_codings_are_removed_in_reverse() {
        let mut body = Body::new(Some("gzip, br"));
        body.push(&encoded("br", &encoded("gzip", TEXT)));
        assert_eq!(body.data, TEXT);
    }

    #[test]
    fn a_body_of_more_codings_than_anybody_uses_is_not_decoded() {
        let mut body = Body::new(Some(&"gzip, ".repeat(100_000)));
        body.push(&encoded("gzip", TEXT));
        assert!(body.held() < 1024);
        body.finish();
        assert_eq!((body.state, body.data), (BodyState::Undecodable, encoded("gzip", TEXT)));
    }

    #[test]
    fn a_window_that_no_coding_has_is_not_made_room_for() {
        for (large, state) in [(false, BodyState::Complete), (true, BodyState::Undecodable)] {
            let lgwin = if large { 30 } else { 24 };
            let params = brotli::enc::BrotliEncoderParams { lgwin, large_window: large, ..Default::default() };
            let mut bytes = Vec::new();
            brotli::BrotliCompress(&mut &TEXT[..], &mut bytes, &params).unwrap();
            let mut body = Body::new(Some("br"));
            body.push(&bytes);
            body.finish();
            assert_eq!(body.state, state, "{large}");
        }
    }

    #[test]
    fn a_bomb_is_capped() {
        let zeros = vec![0; 1 << 20];
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        for _ in 0..300 {
            encoder.write_all(&zeros).unwrap();
        }
        let mut body = Body::new(Some("gzip"));
        body.push(&encoder.finish().unwrap());
        assert_eq!(body.state, BodyState::TooLarge);
        assert!(body.data.len() <= MAX_BODY);
    }

    #[test]
    fn what_cannot_be_decoded_is_kept_as_it_came() {
        let mut body = Body::new(Some("gzip"));
        body.push(b"not gzip at all");
        body.finish();
        assert_eq!((body.state, &body.data[..]), (BodyState::Undecodable, &b"not gzip at all"[..]));
    }
}
