//! rustls over ring, Rust's crate of that name. What it is asked for goes through structures that lie in the program's data:
//!
//! ```text
//! struct Algorithm { init, seal, open: fn, key_len: usize, [max_input_len: u64,] id: u8 }
//! ```
//!
//! Two of them, AES-128 and AES-256, have the same `seal` and `open`, and differ in their keys and ids: that is no coincidence.
//! ChaCha20-Poly1305 lies near. Older versions (0.17.7 and before) have `max_input_len`; the order is that of all from 0.16 to
//! 0.17.14, as compilers until today leave it.

use super::cookie::{Library, cookie, count, op};
use super::entry;
use super::image::{Image, Window};
use super::relocations;
use super::{Site, Stack};
use std::collections::BTreeMap;
use std::ops::Range;

/// A source file of it, as messages of panics name it.
pub(super) const ANCHOR: &[u8] = b"/src/aead/aes_gcm.rs";
const METHOD: &str = "tables of algorithms";

/// Words of the longer form, and their bytes.
const WORDS: usize = 6;
const LONGEST: usize = 8 * WORDS;

/// `max_input_len` is larger than any id with the bytes that fill up its word.
const LONGEST_ID: u64 = u32::MAX as u64;

#[derive(Clone, Copy)]
struct Algorithm {
    at: u64,
    seal: u64,
    open: u64,
    key_len: u64,
    id: u64,
}

/// Looks for the functions in a program that has the crate.
pub(super) fn find(image: &Image<'_>) -> Stack {
    let mut stack = Stack::new(Library::Ring, METHOD);
    let algorithms = algorithms(image);
    let of = |key_len: u64, id: u64| {
        algorithms.iter().filter(move |algorithm| (algorithm.key_len, algorithm.id) == (key_len, id))
    };
    let is_pair = |short: &Algorithm, long: &Algorithm| (short.seal, short.open) == (long.seal, long.open);
    let pairs: Vec<&Algorithm> = of(16, 0).filter(|short| of(32, 1).any(|long| is_pair(short, long))).collect();
    let [aes] = pairs[..] else {
        stack.why.push(format!("{} pairs of tables are like those of AES-128 and AES-256", pairs.len()));
        return stack;
    };
    add(image, &mut stack, aes, ["aes_gcm_seal", "aes_gcm_open"]);
    match of(32, 2).min_by_key(|algorithm| algorithm.at.abs_diff(aes.at)) {
        Some(chacha) => add(image, &mut stack, chacha, ["chacha20_poly1305_seal", "chacha20_poly1305_open"]),
        None => stack.why.push("no table is like that of ChaCha20-Poly1305".to_owned()),
    }
    stack
}

fn add(image: &Image<'_>, stack: &mut Stack, algorithm: &Algorithm, names: [&'static str; 2]) {
    let functions = [(algorithm.seal, op::RING_SEAL), (algorithm.open, op::RING_OPEN)];
    for ((function, op), name) in functions.into_iter().zip(names) {
        let at = entry::cheapest(image, function);
        if let Some(offset) = image.offset(at) {
            stack.why.push(format!("{name} at {at:#x}: {}", entry::cost(image, at)));
            stack.sites.push(Site::new(offset, cookie(Library::Ring, op, count::RETURNED), name));
        }
    }
}

/// What looks like such a structure.
fn algorithms(image: &Image<'_>) -> Vec<Algorithm> {
    let code = image.span_of_code().unwrap_or_default();
    if image.is_fixed { stored(image, &code).unwrap_or_default() } else { relocated(image, &code) }
}

/// A program that is loaded where it was linked to has the pointers in its data.
fn stored(image: &Image<'_>, code: &Range<u64>) -> std::io::Result<Vec<Algorithm>> {
    image.loaded_bytes(false, LONGEST as u64 - 1).look(|piece, own| {
        let first = (piece.address.next_multiple_of(8) - piece.address) as usize;
        let algorithm = |at: usize| {
            let words = words(piece.bytes.get(at..)?)?;
            let functions = words[..3].iter().all(|word| code.contains(word));
            functions.then(|| algorithm(piece.address + at as u64, words)).flatten()
        };
        (first..own).step_by(8).filter_map(algorithm).collect()
    })
}

/// Of one that is moved they are the relocations.
fn relocated(image: &Image<'_>, code: &Range<u64>) -> Vec<Algorithm> {
    let mut pointers = BTreeMap::new();
    // Without relocations there are no pointers: then nothing is found, and that is told.
    let _ = relocations::show(image, |at, to| {
        if code.contains(&to) {
            pointers.insert(at, to);
        }
    });
    let mut window = Window::new(image);
    let mut look = |at: u64, init: u64| {
        let function = |field: u64| pointers.get(&at.checked_add(8 * field)?).copied();
        let (seal, open) = (function(1)?, function(2)?);
        if function(3).is_some() {
            return None;
        }
        let [_, _, _, rest @ ..] = words(window.at(at, LONGEST)?)?;
        let [key_len, limit_or_id, id] = rest;
        algorithm(at, [init, seal, open, key_len, limit_or_id, id])
    };
    pointers.iter().filter_map(|(at, init)| look(*at, *init)).collect()
}

fn words(bytes: &[u8]) -> Option<[u64; WORDS]> {
    let (words, _) = bytes.get(..LONGEST)?.as_chunks();
    words.iter().map(|word| u64::from_le_bytes(*word)).collect::<Vec<_>>().try_into().ok()
}

fn algorithm(at: u64, [_, seal, open, key_len, limit_or_id, id]: [u64; WORDS]) -> Option<Algorithm> {
    let id = 0xff & if limit_or_id > LONGEST_ID { id } else { limit_or_id };
    [16, 32].contains(&key_len).then_some(Algorithm { at, seal, open, key_len, id })
}

#[cfg(test)]
mod tests {
    use super::super::fake::{self, BASE};
    use super::super::resolve;
    use super::*;

    const TABLES: usize = 0x200;

    /// A program with such tables: functions (from the start of the segment), length of the key, the rest.
    fn found(tables: &[([u64; 3], &[u64])]) -> Vec<(u64, String)> {
        let mut content = vec![0x90; TABLES];
        for (functions, rest) in tables {
            functions.iter().for_each(|function| content.extend((BASE + function).to_le_bytes()));
            rest.iter().for_each(|word| content.extend(word.to_le_bytes()));
        }
        content.extend([&b"\0ring-0.17.8"[..], ANCHOR, &[0; LONGEST]].concat());
        let binary = resolve(&fake::data(object::elf::EM_X86_64, &content, TABLES)).unwrap();
        binary.sites().map(|site| (site.offset - fake::OFFSET, site.name.to_string())).collect()
    }

    fn expected(offsets: [u64; 4]) -> Vec<(u64, String)> {
        let names = ["aes_gcm_seal", "aes_gcm_open", "chacha20_poly1305_seal", "chacha20_poly1305_open"];
        offsets.into_iter().zip(names.map(str::to_owned)).collect()
    }

    #[test]
    fn two_algorithms_with_the_same_functions_are_aes() {
        let (short, long) = ([0x10, 0x40, 0x80], [0x20, 0x40, 0x80]);
        let (chacha, other) = ([0x30, 0xc0, 0x100], [0x10, 0x20, 0x30]);
        let all = [(other, &[32, 2][..]), (other, &[7; 9]), (short, &[16, 0]), (long, &[32, 1]), (chacha, &[32, 2])];
        assert_eq!(found(&all), expected([0x40, 0x80, 0xc0, 0x100]));
    }

    #[test]
    fn older_ones_say_how_much_they_take() {
        let (aes, chacha) = ([0x10, 0x40, 0x80], [0x30, 0xc0, 0x100]);
        let (most, more) = ((1 << 36) - 32, (1 << 38) - 64);
        let all = [(aes, &[16, most, 0][..]), (aes, &[32, most, 1]), (chacha, &[32, more, 2])];
        assert_eq!(found(&all), expected([0x40, 0x80, 0xc0, 0x100]));
    }

    #[test]
    fn what_may_be_something_else_is_not_probed() {
        let (short, long) = ([0x10, 0x40, 0x80], [0x20, 0x44, 0x80]);
        assert_eq!(found(&[(short, &[16, 0]), (long, &[32, 1])]), []);
        let twice = [(short, &[16, 0][..]), (short, &[32, 1]), (long, &[16, 0]), (long, &[32, 1])];
        assert_eq!(found(&twice), []);
    }
}
