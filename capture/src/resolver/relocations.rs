//! Relocations that put an address of the program itself somewhere: a program that is moved when it is loaded may hold its pointers
//! there only. They are listed one by one (DT_RELA), or packed (DT_RELR) with the addresses in their places.

use super::image::{Image, Machine, Window};
use object::elf;

/// A structure of relocation: offset, kind, addend.
const RELOCATION: u64 = 24;
/// More relocations than this are not read.
const MOST_RELOCATIONS: u64 = 1 << 24;
const WORD: u64 = 8;

/// Packed relocations: size and address of their table (System V gABI).
const DT_RELRSZ: u32 = 35;
const DT_RELR: u32 = 36;

/// Shows each of them: where, and which address. `None` where there are none, or the file does not hold them.
pub(super) fn show(image: &Image<'_>, mut each: impl FnMut(u64, u64)) -> Option<()> {
    let listed = show_listed(image, &mut each);
    let packed = show_packed(image, &mut each);
    listed.or(packed)
}

fn show_listed(image: &Image<'_>, mut each: impl FnMut(u64, u64)) -> Option<()> {
    let relative = match image.machine {
        Machine::X86_64 => elf::R_X86_64_RELATIVE,
        Machine::Aarch64 => elf::R_AARCH64_RELATIVE,
    };
    let (address, size) = (image.dynamic(elf::DT_RELA)?, image.dynamic(elf::DT_RELASZ)?);
    let mut window = Window::new(image);
    for index in 0..(size / RELOCATION).min(MOST_RELOCATIONS) {
        let bytes = window.at(address.checked_add(index * RELOCATION)?, RELOCATION as usize)?;
        let word = |at: usize| Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        if word(8)? == u64::from(relative) {
            each(word(0)?, word(16)?);
        }
    }
    Some(())
}

/// An even word is the place of a pointer; an odd one after it has, from its second bit on, a bit for each of the 63 words behind
/// the last one that was told of.
fn show_packed(image: &Image<'_>, mut each: impl FnMut(u64, u64)) -> Option<()> {
    let (address, size) = (image.dynamic(DT_RELR)?, image.dynamic(DT_RELRSZ)?);
    let (mut table, mut data) = (Window::new(image), Window::new(image));
    let word =
        |window: &mut Window<'_, '_>, at: u64| Some(u64::from_le_bytes(*window.at(at, WORD as usize)?.first_chunk()?));
    let mut next = 0_u64;
    for index in 0..(size / WORD).min(MOST_RELOCATIONS) {
        let entry = word(&mut table, address.checked_add(index * WORD)?)?;
        let (places, first) = if entry & 1 == 0 { (1, entry) } else { (entry >> 1, next) };
        for bit in (0..63).filter(|bit| places >> bit & 1 == 1) {
            let place = first.checked_add(bit * WORD)?;
            each(place, word(&mut data, place)?);
        }
        next = first.checked_add(if entry & 1 == 0 { WORD } else { 63 * WORD })?;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::fake::{self, BASE};
    use super::super::image::Image;
    use super::*;
    use object::ReadCache;

    /// What is told of a program with these words, of which some are its dynamic linker's table.
    fn shown(words: &[u64], dynamic: u64) -> Option<Vec<(u64, u64)>> {
        let content: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let size = content.len() as u64 - dynamic * WORD;
        let file = fake::file(elf::EM_X86_64, &content, &[(elf::PT_DYNAMIC, BASE + dynamic * WORD, size)]);
        let data = ReadCache::new(&file);
        let image = Image::parse(&file, &data).unwrap();
        let mut found = Vec::new();
        show(&image, |at, to| found.push((at - BASE, to)))?;
        Some(found)
    }

    #[test]
    fn packed_and_listed_relocations_are_told() {
        let [relr, relr_size] = [DT_RELR, DT_RELRSZ].map(u64::from);
        let [rela, rela_size] = [elf::DT_RELA, elf::DT_RELASZ].map(u64::from);
        // Pointers; the packed table: the first, and the second and the last of those behind it; a listed one; where these are.
        let mut words = vec![0x10, 0x20, 0x30, 0x40, BASE, 0b1011, 0x50, u64::from(elf::R_X86_64_RELATIVE), 0x60];
        words.extend([relr, BASE + 4 * WORD, relr_size, 2 * WORD, rela, BASE + 6 * WORD, rela_size, RELOCATION]);
        let packed = [(0, 0x10), (WORD, 0x20), (3 * WORD, 0x40)];
        assert_eq!(shown(&words[..13], 9).unwrap(), packed);
        assert_eq!(shown(&words[..9], 9), None);
        words[6] += BASE;
        assert_eq!(shown(&words, 9).unwrap(), [&[(0x50, 0x60)], &packed[..]].concat());
    }

    #[test]
    fn a_table_that_points_out_of_the_file_ends() {
        let [relr, relr_size] = [DT_RELR, DT_RELRSZ].map(u64::from);
        for entry in [u64::MAX, u64::MAX - 1, BASE + 0x1000] {
            assert_eq!(shown(&[entry, relr, BASE, relr_size, WORD], 1), None, "{entry:#x}");
        }
    }
}
