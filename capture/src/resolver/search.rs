//! Looks for byte strings in everything that a binary loads, in one pass and little memory: what an executable carries beyond
//! that (an appended program of a hundred megabytes) is never read.

use super::image::{Image, Windows};
use memchr::memmem::Finder;
use std::ops::Range;

/// More places than this are not looked at: no compiler writes a string so often, but somebody else might.
const MOST_PLACES: usize = 64;
/// How far back the start of a string is looked for: file names are shorter.
const LONGEST_STRING: u64 = 1024;

/// For each of the strings, the addresses where it stands, in order. Code is looked through only where nothing is found
/// elsewhere: linkers used to put constants between functions.
pub(super) fn find(image: &Image<'_>, wanted: &[&[u8]]) -> std::io::Result<Vec<Vec<u64>>> {
    let overlap = overlap(wanted);
    let places = look(&image.loaded_bytes(false, overlap), wanted)?;
    if places.iter().all(Vec::is_empty) { look(&image.loaded_bytes(true, overlap), wanted) } else { Ok(places) }
}

/// The same for parts of the file: for each the address that it starts at, and where it is.
pub(super) fn within(
    image: &Image<'_>,
    ranges: &[(u64, Range<u64>)],
    wanted: &[&[u8]],
) -> std::io::Result<Vec<Vec<u64>>> {
    look(&image.parts(ranges, overlap(wanted)), wanted)
}

/// Windows overlap by one byte less than the longest string, and a string is counted where it starts.
fn overlap(wanted: &[&[u8]]) -> u64 {
    wanted.iter().map(|bytes| bytes.len() as u64).max().unwrap_or(1) - 1
}

fn look(windows: &Windows<'_>, wanted: &[&[u8]]) -> std::io::Result<Vec<Vec<u64>>> {
    let finders: Vec<Finder<'_>> = wanted.iter().map(Finder::new).collect();
    let found = windows.look(|piece, own| {
        let all = finders.iter().enumerate().flat_map(|(which, finder)| {
            let found = finder.find_iter(&piece.bytes).take_while(|found| *found < own);
            found.take(MOST_PLACES).map(move |found| (which, piece.address + found as u64))
        });
        all.collect()
    })?;
    let mut places = vec![Vec::new(); wanted.len()];
    for (which, place) in found {
        places[which].push(place);
    }
    for places in &mut places {
        places.sort_unstable();
        places.truncate(MOST_PLACES);
    }
    Ok(places)
}

/// Addresses that code may use for a string that was found: where it starts, and where the part that was looked for does
/// (Rust's strings have no terminator, so that the start may be that of another string).
pub(super) fn starts(image: &Image<'_>, places: &[u64]) -> Vec<u64> {
    let mut starts: Vec<u64> = places.iter().flat_map(|place| [Some(*place), start(image, *place)]).flatten().collect();
    starts.sort_unstable();
    starts.dedup();
    starts
}

/// The start of the string that an address is in.
fn start(image: &Image<'_>, place: u64) -> Option<u64> {
    let from = place.saturating_sub(LONGEST_STRING);
    // Where the string is among the first of its segment, there is less before it.
    let before = (from..place).step_by(64).find_map(|from| image.at(from, place - from))?;
    let text = memchr::memrchr(0, &before).map_or(&before[..], |end| &before[end + 1..]);
    Some(place - text.len() as u64)
}
