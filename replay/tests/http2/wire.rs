//! Frames and header blocks, made by hand.

use crate::common::Script;
use agentsight_formats::record::direction::{RECEIVED, SENT};

pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PUSH_PROMISE: u8 = 5;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;

pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const PADDED: u8 = 8;
pub const PRIORITY: u8 = 32;
pub const WHOLE: u8 = END_STREAM | END_HEADERS;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn string(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    if text.len() < 127 {
        out.push(text.len() as u8);
    } else {
        out.push(127);
        let mut rest = text.len() - 127;
        while rest >= 128 {
            out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    }
    out.extend_from_slice(text.as_bytes());
    out
}

/// A header block of literals: added to the table or not.
pub fn block(added: bool, fields: &[(&str, &str)]) -> Vec<u8> {
    let kind = if added { 0x40 } else { 0 };
    fields.iter().flat_map(|(name, value)| [vec![kind], string(name), string(value)].concat()).collect()
}

/// A header block of a POST.
pub fn post(path: &str, more: &[(&str, &str)]) -> Vec<u8> {
    let first = [(":method", "POST"), (":scheme", "https"), (":authority", "api.example.com"), (":path", path)];
    block(false, &[&first[..], more].concat())
}

pub fn ok(more: &[(&str, &str)]) -> Vec<u8> {
    block(false, &[&[(":status", "200")][..], more].concat())
}

/// What both sides begin with.
pub fn greeting(script: &mut Script) {
    script.say(1, SENT, &[PREFACE, &frame(SETTINGS, 0, 0, &[])].concat());
    script.say(1, RECEIVED, &[frame(SETTINGS, 0, 0, &[]), frame(SETTINGS, 1, 0, &[])].concat());
}

/// A connection that was greeted, on which each piece is then said at once.
pub fn connection(pieces: &[(u16, Vec<u8>)]) -> Script {
    let mut script = Script::default();
    greeting(&mut script);
    pieces.iter().for_each(|(side, bytes)| script.say(1, *side, bytes));
    script
}
