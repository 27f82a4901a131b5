//! Where code refers to an address: on x86-64 a RIP-relative `lea` or a `mov` of the 32-bit address, on arm64 `adrp` and `add`.
//!
//! One linear pass over the code for the few bytes that all of these have in common; what looks like a reference and is none
//! does no harm, since its neighbours say nothing that makes sense.

use super::functions::{self, Called};
use super::image::{Image, Machine, Piece};
use super::{ResolveError, arm64};
use memchr::memmem;
use std::collections::BTreeSet;

/// Bytes of code that are looked through for the same upper halves of displacements.
const STRETCH: usize = 1 << 16;
/// More references than this to one string are not looked at.
pub(super) const MOST: usize = 4096;

/// An instruction that puts a wanted address into a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Reference {
    pub at: u64,
    /// Number of the register, as the machine counts them.
    pub register: usize,
    /// The address.
    pub to: u64,
}

/// References to any of the addresses, by place.
pub(super) fn find(image: &Image<'_>, wanted: &[u64]) -> Result<Vec<Reference>, ResolveError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let (machine, is_fixed) = (image.machine, image.is_fixed);
    // The code is read once: what else will be asked about it is answered as well.
    let called = if functions::are_known_by_calls(image) { Called::new(image) } else { None };
    let mut found = image.code()?.look(|piece, _| {
        let mut found = Vec::new();
        match machine {
            Machine::X86_64 => {
                relative(piece, wanted, &mut found);
                if is_fixed {
                    absolute(piece, wanted, &mut found);
                }
            }
            Machine::Aarch64 => arm64::references(piece, wanted, &mut found),
        }
        if let Some(called) = &called {
            called.mark(machine, piece);
        }
        found
    })?;
    if let Some(called) = called {
        image.called.get_or_init(|| called);
    }
    // Some were seen in two windows.
    found.sort_unstable();
    found.dedup();
    found.truncate(MOST);
    Ok(found)
}

/// Those of the references that are to one of the addresses.
pub(super) fn to(references: &[Reference], wanted: &[u64]) -> Vec<Reference> {
    references.iter().filter(|reference| wanted.contains(&reference.to)).copied().collect()
}

/// `lea r64, [rip + displacement]`: 48 or 4c, 8d, a mod-rm byte with mode 0 and base 5, four bytes. Of the displacements that
/// lead from a stretch of code to one address the upper halves are the same, or two: these are looked for.
fn relative(piece: &Piece, wanted: &[u64], found: &mut Vec<Reference>) {
    const LENGTH: usize = 7;
    for start in (0..piece.bytes.len()).step_by(STRETCH) {
        let end = (start + STRETCH).min(piece.bytes.len());
        let upper = |to: &u64, at: usize| {
            let displacement = to.wrapping_sub(piece.address.wrapping_add(at as u64)) as u32;
            (displacement >> 16) as u16
        };
        let uppers: BTreeSet<u16> = wanted.iter().flat_map(|to| [upper(to, start), upper(to, end)]).collect();
        for upper in uppers {
            // An instruction belongs to the stretch that its last byte is in.
            let from = start.saturating_sub(1);
            for at in overlapping(&piece.bytes[from..end], &upper.to_le_bytes()) {
                let next = from + at + 2;
                let Some([prefix @ (0x48 | 0x4c), 0x8d, mode, a, b, c, d]) =
                    next.checked_sub(LENGTH).and_then(|at| piece.bytes.get(at..next))
                else {
                    continue;
                };
                let next = piece.address.wrapping_add(next as u64);
                let to = next.wrapping_add_signed(i64::from(i32::from_le_bytes([*a, *b, *c, *d])));
                if mode & 0xc7 == 0x05 && wanted.contains(&to) {
                    let register = usize::from(mode >> 3 & 7) + if *prefix == 0x4c { 8 } else { 0 };
                    found.push(Reference { at: next - LENGTH as u64, register, to });
                }
                if found.len() >= MOST {
                    return;
                }
            }
        }
    }
}

/// `mov r32, address`: b8 to bf, perhaps after 41, in programs that are linked to a fixed place. Addresses that differ in their
/// last byte alone are looked for together: mostly the two that a string is known by.
fn absolute(piece: &Piece, wanted: &[u64], found: &mut Vec<Reference>) {
    let upper = |to: &u64| u32::try_from(*to).ok().map(|address| address.to_le_bytes()).map(|[_, rest @ ..]| rest);
    let uppers: BTreeSet<[u8; 3]> = wanted.iter().filter_map(upper).collect();
    for upper in uppers {
        for at in overlapping(&piece.bytes, &upper) {
            let before = at.checked_sub(2).and_then(|from| piece.bytes.get(from..at));
            let Some([opcode @ 0xb8..=0xbf, lowest]) = before else { continue };
            let [a, b, c] = upper;
            let to = u64::from(u32::from_le_bytes([*lowest, a, b, c]));
            if !wanted.contains(&to) {
                continue;
            }
            let high = at.checked_sub(3).is_some_and(|at| piece.bytes[at] == 0x41);
            let start = piece.address + at as u64 - if high { 3 } else { 2 };
            found.push(Reference { at: start, register: usize::from(opcode - 0xb8) + if high { 8 } else { 0 }, to });
            if found.len() >= MOST {
                return;
            }
        }
    }
}

/// Every place of a byte string, those that begin within another one too.
fn overlapping<'bytes>(bytes: &'bytes [u8], wanted: &[u8]) -> impl Iterator<Item = usize> + 'bytes {
    let finder = memmem::Finder::new(wanted).into_owned();
    let mut from = 0;
    std::iter::from_fn(move || {
        let found = from + finder.find(bytes.get(from..)?)?;
        from = found + 1;
        Some(found)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relative_address_is_counted_from_the_next_instruction() {
        // nop; lea rcx,[rip+0x10]
        let piece = Piece { address: 0x1000, bytes: vec![0x90, 0x48, 0x8d, 0x0d, 0x10, 0, 0, 0] };
        let mut found = Vec::new();
        relative(&piece, &[0x1018], &mut found);
        assert_eq!(found, [Reference { at: 0x1001, register: 1, to: 0x1018 }]);
    }

    #[test]
    fn a_reference_is_found_once_wherever_stretches_end() {
        let to = 0x7_1234_5678;
        for at in (STRETCH - 9..STRETCH + 3).chain(2 * STRETCH - 9..2 * STRETCH + 3) {
            let mut piece = Piece { address: 0x7_1200_0000, bytes: vec![0; 3 * STRETCH] };
            let distance = to - (piece.address + at as u64 + 7);
            piece.bytes[at..at + 3].copy_from_slice(&[0x4c, 0x8d, 0x05]);
            piece.bytes[at + 3..at + 7].copy_from_slice(&(distance as u32).to_le_bytes());
            let mut found = Vec::new();
            relative(&piece, &[to, 0x10], &mut found);
            assert_eq!(found, [Reference { at: piece.address + at as u64, register: 8, to }], "{at:#x}");
        }
    }

    #[test]
    fn an_absolute_address_is_moved_into_a_register() {
        // mov ecx,0x401234; mov r8d,0x401234
        let bytes = vec![0xb9, 0x34, 0x12, 0x40, 0, 0x41, 0xb8, 0x34, 0x12, 0x40, 0];
        let mut found = Vec::new();
        absolute(&Piece { address: 0x1000, bytes }, &[0x40_1234], &mut found);
        assert_eq!(found, [(0x1000, 1), (0x1005, 8)].map(|(at, register)| Reference { at, register, to: 0x40_1234 }));
    }

    #[test]
    fn code_that_is_cut_short_refers_to_nothing() {
        let mut found = Vec::new();
        relative(&Piece { address: 0, bytes: vec![0x8d] }, &[0], &mut found);
        relative(&Piece { address: 0, bytes: vec![0x48, 0x8d, 0x0d, 0] }, &[7], &mut found);
        absolute(&Piece { address: 0, bytes: vec![0, 0, 0, 0] }, &[0], &mut found);
        assert_eq!(found, []);
    }
}
