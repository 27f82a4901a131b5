//! Where Go's code starts: the table of functions counts from there, and since Go 1.26 its header no longer says it.
//!
//! The start of `.text` is right where Go's own linker made the program; with cgo, C's start-up code comes first. The runtime
//! itself looks into a structure (`runtime.moduledata`) that points to the table first, and 22 words later to the code. In a
//! program that is moved when it is loaded these pointers may stand in its table of relocations only.

use super::image::Image;
use super::pclntab::Table;
use super::relocations;
use super::search;

/// `minpc`, `maxpc` and `text`, the same in all versions since Go 1.16: bytes from the start of the structure.
const MINPC: u64 = 160;
const MAXPC: u64 = 168;
const TEXT: u64 = 176;

/// Addresses where Go's code may start, and how each is known; the likeliest and cheapest first.
pub(super) fn texts<'image>(
    image: &'image Image<'_>,
    table: &'image Table,
) -> impl Iterator<Item = (u64, &'static str)> + 'image {
    let header = Some(table.text).filter(|text| *text != 0).map(|text| (text, "the table's header"));
    let section = image.section(".text").map(|(text, _)| (text, "the section .text"));
    let pointed = std::iter::once_with(|| pointed(image, table).map(|text| (text, "runtime.moduledata"))).flatten();
    let relocated =
        std::iter::once_with(|| relocated(image, table).map(|text| (text, "runtime.moduledata, relocated")));
    header.into_iter().chain(section).chain(pointed).chain(relocated.flatten())
}

/// Whether a structure's pointers agree with the table.
fn agrees(table: &Table, [minpc, maxpc, text]: [u64; 3]) -> bool {
    minpc.checked_sub(text) == Some(table.whole.start) && maxpc.checked_sub(text) == Some(table.whole.end)
}

fn pointed(image: &Image<'_>, table: &Table) -> Option<u64> {
    let places = search::within(image, &image.ranges(), &[&table.address.to_le_bytes()]).ok()?;
    let texts = places.first()?.iter().filter_map(|place| {
        let bytes = image.at(place.checked_add(MINPC)?, 24)?;
        let word = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let pointers = [word(0)?, word(8)?, word(16)?];
        agrees(table, pointers).then_some(pointers[2])
    });
    texts.into_iter().next()
}

fn relocated(image: &Image<'_>, table: &Table) -> Option<u64> {
    let mut structures = Vec::new();
    relocations::show(image, |at, to| {
        if to == table.address {
            structures.push((at, [0; 3]));
        }
    })?;
    relocations::show(image, |at, to| {
        for (structure, pointers) in &mut structures {
            let slot = [MINPC, MAXPC, TEXT].iter().position(|field| structure.checked_add(*field) == Some(at));
            if let Some(slot) = slot {
                pointers[slot] = to;
            }
        }
    })?;
    structures.iter().find(|(_, pointers)| agrees(table, *pointers)).map(|(_, pointers)| pointers[2])
}
