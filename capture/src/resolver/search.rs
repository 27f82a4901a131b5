//! Looks for byte strings in everything that a binary loads, in one pass and little memory: what an executable carries beyond
//! that (an appended program of a hundred megabytes) is never read.

use super::image::Image;
use memchr::memmem::Finder;
use std::ops::Range;

/// Bytes read at a time.
const WINDOW: usize = 1 << 20;
/// More places than this are not looked at: no compiler writes a string so often, but somebody else might.
const MOST_PLACES: usize = 64;
/// How far back the start of a string is looked for: file names are shorter.
const LONGEST_STRING: u64 = 1024;

/// For each of the strings, the addresses where it stands.
pub(super) fn find(image: &Image<'_>, wanted: &[&[u8]]) -> std::io::Result<Vec<Vec<u64>>> {
    within(image, &image.ranges(), wanted)
}

/// The same for parts of the file: for each the address that it starts at, and where it is.
pub(super) fn within(
    image: &Image<'_>,
    ranges: &[(u64, Range<u64>)],
    wanted: &[&[u8]],
) -> std::io::Result<Vec<Vec<u64>>> {
    let finders: Vec<Finder<'_>> = wanted.iter().map(Finder::new).collect();
    let longest = wanted.iter().map(|bytes| bytes.len()).max().unwrap_or(1);
    let mut places = vec![Vec::new(); wanted.len()];
    let mut window = vec![0; WINDOW + longest];
    for (address, range) in ranges {
        let mut at = range.start;
        while at < range.end {
            // Windows overlap by one byte less than the longest string, and a string is counted where it starts.
            let step = (range.end - at).min(WINDOW as u64) as usize;
            let size = (range.end - at).min((WINDOW + longest - 1) as u64) as usize;
            image.read(at, &mut window[..size])?;
            for (finder, places) in finders.iter().zip(&mut places) {
                let found = finder.find_iter(&window[..size]).take_while(|found| *found < step);
                let room = MOST_PLACES - places.len();
                places.extend(found.take(room).map(|found| address + (at - range.start) + found as u64));
            }
            at += step as u64;
        }
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
