//! DNS messages (RFC 1035, 4) as a resolver exchanges them over UDP. What was captured may end anywhere; the records before
//! the end count. (simple-dns takes a message whole or not at all, and allocates what its header promises.)

use std::net::{Ipv4Addr, Ipv6Addr};

#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Message {
    pub id: u16,
    pub response: bool,
    pub response_code: u8,
    /// Cut by the server to fit, or by the capture.
    pub truncated: bool,
    /// Name and type of the first question; in practice there is never another.
    pub question: Option<(String, u16)>,
    pub answers: Vec<Answer>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Address(std::net::IpAddr),
    /// A name on the way to an address, or what a name stands for.
    Name(String),
    Text(String),
    /// A record of another type.
    Other(u16),
}

/// Longest name in bytes on the wire (RFC 1035, 2.3.4).
const MAX_NAME: usize = 255;
/// Names are put together from this many places at most; each must lie before the one that refers to it.
const MAX_JUMPS: usize = 64;
/// More answers are left out.
const MAX_ANSWERS: usize = 256;

/// Reads a message; `None` if it is too short to be one.
pub(crate) fn parse(bytes: &[u8]) -> Option<Message> {
    let word = |at: usize| bytes.get(at..at + 2)?.first_chunk().map(|two| u16::from_be_bytes(*two));
    let (flags, questions, answers) = (word(2)?, word(4)?, word(6)?);
    bytes.get(..12)?;
    let mut message = Message {
        id: word(0)?,
        response: flags & 0x8000 != 0,
        response_code: (flags & 0xf) as u8,
        truncated: flags & 0x0200 != 0,
        ..Message::default()
    };
    let whole = sections(bytes, (questions, answers), &mut message).is_some();
    message.truncated |= !whole;
    Some(message)
}

fn sections(bytes: &[u8], (questions, answers): (u16, u16), message: &mut Message) -> Option<()> {
    let mut at = 12;
    for _ in 0..questions {
        let (name, end) = name(bytes, at)?;
        let kind = u16_at(bytes, end)?;
        message.question.get_or_insert((name, kind));
        at = end + 4;
    }
    for _ in 0..answers {
        let (_, end) = name(bytes, at)?;
        let (kind, len) = (u16_at(bytes, end)?, u16_at(bytes, end + 8)?);
        let data = end + 10;
        at = data + usize::from(len);
        message.answers.push(answer(bytes, kind, data, at)?);
        if message.answers.len() >= MAX_ANSWERS {
            return None;
        }
    }
    Some(())
}

fn answer(bytes: &[u8], kind: u16, from: usize, to: usize) -> Option<Answer> {
    let data = bytes.get(from..to)?;
    let named = |skipped: usize| name(bytes, from + skipped).map(|(name, _)| Answer::Name(name));
    Some(match (kind, data.len()) {
        (1, 4) => Answer::Address(Ipv4Addr::from(*data.first_chunk::<4>()?).into()),
        (28, 16) => Answer::Address(Ipv6Addr::from(*data.first_chunk::<16>()?).into()),
        // NS, CNAME, PTR, DNAME; MX after its preference; SRV after priority, weight and port.
        (2 | 5 | 12 | 39, _) => named(0)?,
        (15, _) => named(2)?,
        (33, _) => named(6)?,
        (16, _) => Answer::Text(strings(data)),
        _ => Answer::Other(kind),
    })
}

/// The strings of a TXT record, one after the other.
fn strings(mut data: &[u8]) -> String {
    let mut text = Vec::new();
    while let Some((len, rest)) = data.split_first() {
        let (piece, rest) = rest.split_at(usize::from(*len).min(rest.len()));
        text.extend_from_slice(piece);
        data = rest;
    }
    String::from_utf8_lossy(&text).into_owned()
}

/// A name in lower case, and where it ends. (Resolvers mix the case of what they ask, to know the answer again.)
fn name(bytes: &[u8], start: usize) -> Option<(String, usize)> {
    let (mut at, mut end, mut jumps) = (start, None, 0);
    let mut name = Vec::new();
    loop {
        let len = usize::from(*bytes.get(at)?);
        match len >> 6 {
            0 if len == 0 => break,
            0 => {
                if !name.is_empty() {
                    name.push(b'.');
                }
                name.extend_from_slice(bytes.get(at + 1..at + 1 + len)?);
                at += 1 + len;
            }
            // A reference, only ever backwards: it cannot lead round in circles.
            3 => {
                let target = usize::from(u16_at(bytes, at)? & 0x3fff);
                end.get_or_insert(at + 2);
                jumps += 1;
                if target >= at || jumps > MAX_JUMPS {
                    return None;
                }
                at = target;
            }
            _ => return None,
        }
        if name.len() > MAX_NAME {
            return None;
        }
    }
    Some((String::from_utf8_lossy(&name).to_ascii_lowercase(), end.unwrap_or(at + 1)))
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..at + 2)?.first_chunk().map(|two| u16::from_be_bytes(*two))
}

impl Answer {
    pub fn text(&self) -> String {
        match self {
            Answer::Address(address) => address.to_string(),
            Answer::Name(text) | Answer::Text(text) => text.clone(),
            Answer::Other(kind) => type_name(*kind),
        }
    }
}

/// Name of a type of records; as RFC 3597 writes it where it is not known here.
pub(crate) fn type_name(kind: u16) -> String {
    let known = match kind {
        1 => "A",
        2 => "NS",
        5 => "CNAME",
        6 => "SOA",
        12 => "PTR",
        15 => "MX",
        16 => "TXT",
        28 => "AAAA",
        33 => "SRV",
        35 => "NAPTR",
        39 => "DNAME",
        43 => "DS",
        46 => "RRSIG",
        48 => "DNSKEY",
        64 => "SVCB",
        65 => "HTTPS",
        255 => "ANY",
        257 => "CAA",
        _ => return format!("TYPE{kind}"),
    };
    known.to_owned()
}

/// Name of a response code, as resolvers print it.
pub(crate) fn code_name(code: u8) -> String {
    const NAMES: [&str; 6] = ["NOERROR", "FORMERR", "SERVFAIL", "NXDOMAIN", "NOTIMP", "REFUSED"];
    NAMES.get(usize::from(code)).map_or_else(|| format!("RCODE{code}"), |name| (*name).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &[u8] = b"\x03ApI\x07example\x03com\x00";

    fn response(answers: u16, records: &[u8]) -> Vec<u8> {
        let head = [0xab, 0xcd, 0x81, 0x80, 0, 1, 0, answers as u8, 0, 0, 0, 0];
        [&head[..], NAME, &[0, 1, 0, 1], records].concat()
    }

    const ALIAS: &[u8] = b"\xc0\x0c\x00\x05\x00\x01\x00\x00\x00\x3c\x00\x06\x03cdn\xc0\x10";
    const ADDRESS: &[u8] = b"\xc0\x2d\x00\x01\x00\x01\x00\x00\x00\x3c\x00\x04\x0a\x00\x00\x07";

    #[test]
    fn names_are_followed_to_where_they_were_written_before() {
        let seen = parse(&response(2, &[ALIAS, ADDRESS].concat())).unwrap();
        assert_eq!((seen.id, seen.response, seen.response_code, seen.truncated), (0xabcd, true, 0, false));
        assert_eq!(seen.question, Some(("api.example.com".to_owned(), 1)));
        let texts: Vec<String> = seen.answers.iter().map(Answer::text).collect();
        assert_eq!(texts, ["cdn.example.com", "10.0.0.7"]);
    }

    #[test]
    fn a_message_may_end_anywhere() {
        let whole = response(2, &[ALIAS, ADDRESS].concat());
        for cut in 0..whole.len() {
            let seen = parse(&whole[..cut]);
            assert_eq!(seen.is_some(), cut >= 12, "{cut}");
            assert!(seen.is_none_or(|seen| seen.truncated && seen.answers.len() < 2), "{cut}");
        }
    }

    #[test]
    fn names_that_lead_round_in_circles_are_no_names() {
        // Its type would be at 14; it names itself, then the byte after it.
        for circle in [&[0xc0, 12][..], &[0xc0, 14, 0xc0, 12], &[1, b'a', 0xc0, 12]] {
            let head = [0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
            let seen = parse(&[&head[..], circle, &[0, 1, 0, 1]].concat()).unwrap();
            assert_eq!((seen.question, seen.truncated), (None, true), "{circle:?}");
        }
    }
}
