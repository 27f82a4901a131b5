//! HPACK (RFC 7541): header blocks into fields, with a table that may have been lost.
//!
//! Each direction of a connection builds up a table of fields that later blocks name by number, counted from the newest. Of a
//! connection that is first seen in the middle, or that has a gap, the older part of the table is unknown; what is added from
//! then on is known. Numbers count from the new end, so a number either names a field that was seen to be added, or one that
//! is unknown: such a field is counted and left out, never guessed.
//!
//! For the same reason nothing here depends on the table's exact size, which may be unknown too: an encoder names no field that
//! its own table has dropped, and one that was too large to be added comes before (is older than) all that it could still name.
//! Sizes only bound what is kept.

use super::huffman;
use super::static_table::STATIC;
use std::collections::VecDeque;
use std::sync::Arc;

/// Size of a table when nothing was said (RFC 9113, 6.5.2).
const DEFAULT_SIZE: usize = 4096;

/// Largest table that is kept, in bytes; fields beyond it are unknown.
const MAX_SIZE: usize = 256 << 10;

/// What a field costs besides its bytes (RFC 7541, 4.1).
const FIELD_OVERHEAD: usize = 32;

/// Most bytes of fields that a block may decode to: a few bytes may name a large field many times.
const MAX_FIELDS: usize = 1 << 20;

/// A name, or a value. Shared: a block may name one field of the table many times.
type Text = Arc<[u8]>;

/// The fields of a block.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Fields {
    pub known: Vec<(Text, Text)>,
    /// Fields that are there, but unknown, or beyond what is kept.
    pub unknown: u32,
    size: usize,
}

impl Fields {
    fn push(&mut self, field: Option<(Text, Text)>) {
        match field {
            Some((name, value)) if self.size + name.len() + value.len() + FIELD_OVERHEAD <= MAX_FIELDS => {
                self.size += name.len() + value.len() + FIELD_OVERHEAD;
                self.known.push((name, value));
            }
            _ => self.unknown = self.unknown.saturating_add(1),
        }
    }
}

/// A field of the table. Its name is unknown if it was taken from a field that was.
struct Entry {
    name: Option<Text>,
    value: Text,
}

impl Entry {
    /// At least; what is not known is not counted.
    fn size(&self) -> usize {
        self.name.as_ref().map_or(0, |name| name.len()) + self.value.len() + FIELD_OVERHEAD
    }
}

/// The table of one direction. What lies behind its entries is unknown: where a connection was seen from its start nothing
/// does, and no number of a valid block leads there.
pub(super) struct Table {
    /// The newest first.
    entries: VecDeque<Entry>,
    size: usize,
    /// What the encoder says that it keeps, and what the decoder at the other end allows it to.
    kept: usize,
    allowed: usize,
}

impl Default for Table {
    fn default() -> Self {
        Table { entries: VecDeque::new(), size: 0, kept: DEFAULT_SIZE, allowed: DEFAULT_SIZE }
    }
}

impl Table {
    /// Bytes of memory that it takes.
    pub fn held(&self) -> usize {
        self.size
    }

    /// Blocks were missed: any number of fields may have been added, the size may have changed.
    pub fn forget(&mut self) {
        *self = Table { kept: MAX_SIZE, ..Table::default() };
    }

    /// The other end's SETTINGS_HEADER_TABLE_SIZE (RFC 9113, 6.5.2): the encoder is about to say what it makes of it.
    pub fn allow(&mut self, size: u32) {
        self.allowed = usize::try_from(size).unwrap_or(usize::MAX);
        self.evict();
    }

    /// Decodes a block. `None` if it is none; the table is worth nothing then.
    pub fn decode(&mut self, block: &[u8]) -> Option<Fields> {
        let mut fields = Fields::default();
        let mut at = Bytes(block);
        while let Some(&first) = at.0.first() {
            match first {
                // Indexed field (RFC 7541, 6.1).
                0x80.. => {
                    let index = at.integer(7)?;
                    fields.push(self.name(index)?.zip(self.value(index)));
                }
                // Literal that is added to the table (6.2.1).
                0x40.. => {
                    let entry = self.literal(&mut at, 6)?;
                    fields.push(entry.name.clone().map(|name| (name, entry.value.clone())));
                    self.add(entry);
                }
                // The encoder changes its table's size (6.3).
                0x20.. => {
                    self.kept = at.integer(5)?;
                    self.evict();
                }
                // Literal that is not added, or must never be (6.2.2, 6.2.3).
                _ => {
                    let entry = self.literal(&mut at, 4)?;
                    fields.push(entry.name.map(|name| (name, entry.value)));
                }
            }
        }
        Some(fields)
    }

    fn literal(&self, at: &mut Bytes<'_>, prefix: u32) -> Option<Entry> {
        let index = at.integer(prefix)?;
        let name = if index == 0 { Some(at.string()?) } else { self.name(index)? };
        Some(Entry { name, value: at.string()? })
    }

    /// The name at an index: `None` for an index that names nothing, `Some(None)` where it is unknown.
    fn name(&self, index: usize) -> Option<Option<Text>> {
        let index = index.checked_sub(1)?;
        Some(match STATIC.get(index) {
            Some((name, _)) => Some(name.as_bytes().into()),
            None => self.entries.get(index - STATIC.len()).and_then(|entry| entry.name.clone()),
        })
    }

    fn value(&self, index: usize) -> Option<Text> {
        let index = index.checked_sub(1)?;
        match STATIC.get(index) {
            Some((_, value)) => Some(value.as_bytes().into()),
            None => self.entries.get(index - STATIC.len()).map(|entry| entry.value.clone()),
        }
    }

    fn add(&mut self, entry: Entry) {
        self.size += entry.size();
        self.entries.push_front(entry);
        self.evict();
    }

    fn evict(&mut self) {
        let most = self.kept.max(if self.kept == 0 { 0 } else { self.allowed }).min(MAX_SIZE);
        while self.size > most
            && let Some(oldest) = self.entries.pop_back()
        {
            self.size -= oldest.size();
        }
    }
}

/// A block that is read from its start.
struct Bytes<'a>(&'a [u8]);

impl Bytes<'_> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// An integer whose first byte has so many bits of it (RFC 7541, 5.1). None here is longer than 32 bits.
    fn integer(&mut self, prefix: u32) -> Option<usize> {
        let most = (1u64 << prefix) - 1;
        let mut value = u64::from(self.byte()?) & most;
        if value < most {
            return usize::try_from(value).ok();
        }
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            value += u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return u32::try_from(value).ok().and_then(|value| usize::try_from(value).ok());
            }
        }
        None
    }

    /// A string (RFC 7541, 5.2).
    fn string(&mut self) -> Option<Text> {
        let coded = self.0.first()? & 0x80 != 0;
        let length = self.integer(7)?;
        let (bytes, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        if coded { huffman::decode(bytes).map(Into::into) } else { Some(bytes.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(fields: &Fields) -> Vec<String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        fields.known.iter().map(|(name, value)| format!("{}: {}", text(name), text(value))).collect()
    }

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap()).collect()
    }

    /// RFC 7541, C.4: three requests on one connection, with Huffman coding.
    const REQUESTS: [&str; 3] = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];

    #[test]
    fn the_requests_of_the_rfc() {
        let mut table = Table::default();
        let seen: Vec<_> = REQUESTS.map(|block| text(&table.decode(&bytes(block)).unwrap())).into();
        let first = [":method: GET", ":scheme: http", ":path: /", ":authority: www.example.com"];
        assert_eq!(seen[0], first);
        assert_eq!(seen[1], [&first[..], &["cache-control: no-cache"]].concat());
        let third = [":method: GET", ":scheme: https", ":path: /index.html", ":authority: www.example.com"];
        assert_eq!(seen[2], [&third[..], &["custom-key: custom-value"]].concat());
    }

    #[test]
    fn a_block_that_is_missed_makes_fields_unknown_and_none_wrong() {
        let mut table = Table::default();
        table.forget();
        let second = table.decode(&bytes(REQUESTS[1])).unwrap();
        assert_eq!(text(&second), [":method: GET", ":scheme: http", ":path: /", "cache-control: no-cache"]);
        assert_eq!(second.unknown, 1, "the authority was in the first block");
        let third = table.decode(&bytes(REQUESTS[2])).unwrap();
        assert_eq!((third.known.len(), third.unknown), (4, 1));
        // What was added since is known by its number: 62 is the newest.
        assert_eq!(text(&table.decode(&[0xbe]).unwrap()), ["custom-key: custom-value"]);
        assert_eq!(table.decode(&[0xc1]).unwrap().unknown, 1);
    }

    #[test]
    fn a_field_with_an_unknown_name_is_unknown_whenever_it_is_named() {
        let mut table = Table::default();
        table.forget();
        // A literal, added, whose name has index 70; then its own index, then it as the name of another.
        let literal = [0x7f, 70 - 63, 1, b'x'];
        let fields = table.decode(&[&literal[..], &[0xbe], &[0x7e, 1, b'y'], &[0x82]].concat()).unwrap();
        assert_eq!((text(&fields), fields.unknown), (vec![":method: GET".to_owned()], 3));
    }

    #[test]
    fn the_table_is_emptied_by_a_size_of_nothing() {
        let mut table = Table::default();
        table.decode(&bytes(REQUESTS[0])).unwrap();
        assert_eq!(table.decode(&[0x20, 0xbe]).unwrap().unknown, 1);
        assert_eq!(table.size, 0);
    }

    #[test]
    fn a_block_may_not_unpack_to_more_than_is_kept() {
        let mut table = Table::default();
        let large = [&[0x40, 1, b'n', 0x7f, 0xa1, 0x1e], &[b'v'; 4000][..]].concat();
        assert_eq!(table.decode(&large).unwrap().known.len(), 1);
        let fields = table.decode(&vec![0xbe; 1 << 20]).unwrap();
        assert!(fields.size <= MAX_FIELDS && fields.unknown > 1_000_000);
    }

    #[test]
    fn what_is_no_block_is_refused() {
        let wrong = [
            &[0x80][..],                                 // index 0
            &[0xff, 0x80, 0x80, 0x80, 0x80, 0x80, 0x01], // an endless integer
            &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff],       // larger than any index
            &[0x40, 5, b'n'],                            // a string that is cut
            &[0x40, 0x81, 0xff, 0],                      // a Huffman code that is none
            &[0x41],                                     // no value
        ];
        for block in wrong {
            assert_eq!(Table::default().decode(block), None, "{block:x?}");
        }
    }
}
