//! Relocations that put an address of the program itself somewhere: a program that is moved when it is loaded may hold its pointers
//! there only.

use super::image::{Image, Machine, Window};
use object::elf;

/// A structure of relocation: offset, kind, addend.
const RELOCATION: u64 = 24;
/// More relocations than this are not read.
const MOST_RELOCATIONS: u64 = 1 << 24;

/// Shows each of them: where, and which address. `None` where there are none, or the file does not hold them.
pub(super) fn show(image: &Image<'_>, mut each: impl FnMut(u64, u64)) -> Option<()> {
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
