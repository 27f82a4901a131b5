//! Which function an address belongs to, in code without symbols: the unwind table says so where it covers the address; else
//! the nearest aligned target of a direct call before it is where the function starts, or, where the compiler keeps frame
//! pointers and aligns nothing, the nearest `push rbp; mov rbp, rsp`.

use super::arm64;
use super::image::{Image, LARGEST_TABLE, Machine, Piece};
use super::references::Reference;
use super::x86;

/// A function is not longer than this.
const LONGEST: u64 = 0x1_0000;
const PUSH_FRAME: &[u8] = &[0x55, 0x48, 0x89, 0xe5];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Function {
    pub start: u64,
    /// Where it ends, if that is known.
    pub end: Option<u64>,
}

/// What is known of the functions around some references.
pub(super) struct Functions {
    unwind: Option<Unwind>,
    /// Aligned targets of calls, sorted.
    called: Vec<u64>,
    prologue: bool,
}

impl Functions {
    pub(super) fn around(image: &Image<'_>, code: &[Piece], references: &[Reference], prologue: bool) -> Self {
        let unwind = Unwind::read(image);
        let covered = |at: u64| unwind.as_ref().is_some_and(|unwind| unwind.function(image, at).is_some());
        let bare: Vec<u64> = references.iter().map(|reference| reference.at).filter(|at| !covered(*at)).collect();
        let called = match (bare.first(), bare.last()) {
            (Some(first), Some(last)) => {
                called(image.machine, code, first.saturating_sub(LONGEST), last.saturating_add(LONGEST))
            }
            _ => Vec::new(),
        };
        Functions { unwind, called, prologue: prologue && image.machine == Machine::X86_64 }
    }

    /// The function that an address is in.
    pub(super) fn of(&self, image: &Image<'_>, code: &[Piece], at: u64) -> Option<Function> {
        let unwound = self.unwind.as_ref().and_then(|unwind| unwind.function(image, at));
        // A program without frame pointers has no such prologue nearby, and one that aligns nothing has few aligned targets.
        unwound.or_else(|| self.nearest_called(at).max(self.nearest_prologue(code, at)))
    }

    fn nearest_called(&self, at: u64) -> Option<Function> {
        let next = self.called.partition_point(|target| *target <= at);
        let start = *self.called.get(next.checked_sub(1)?)?;
        (at - start < LONGEST).then(|| Function { start, end: self.called.get(next).copied() })
    }

    fn nearest_prologue(&self, code: &[Piece], at: u64) -> Option<Function> {
        let piece = code.iter().find(|piece| piece.contains(at)).filter(|_| self.prologue)?;
        let before = &piece.bytes[..(at - piece.address) as usize];
        let window = &before[before.len().saturating_sub(LONGEST as usize)..];
        let within = memchr::memmem::rfind(window, PUSH_FRAME)?;
        Some(Function { start: at - (window.len() - within) as u64, end: None })
    }
}

/// Targets of direct calls in a range, aligned as compilers align functions.
fn called(machine: Machine, code: &[Piece], from: u64, to: u64) -> Vec<u64> {
    let wanted = |target: &u64| target.is_multiple_of(16) && (from..=to).contains(target);
    let mut called: Vec<u64> = match machine {
        Machine::X86_64 => code.iter().flat_map(|piece| x86::calls(piece).filter(wanted)).collect(),
        Machine::Aarch64 => code.iter().flat_map(|piece| arm64::calls(piece).filter(wanted)).collect(),
    };
    called.sort_unstable();
    called.dedup();
    called
}

/// Those of the addresses that are called directly somewhere. Other parts of a function that the compiler moved away (errors,
/// mostly) look like functions of their own to the unwind table, but are only jumped to.
pub(super) fn are_called(machine: Machine, code: &[Piece], mut starts: Vec<u64>) -> Vec<u64> {
    let mut called = Vec::new();
    for piece in code {
        let mut take = |target: u64| {
            if let Some(at) = starts.iter().position(|start| *start == target) {
                called.push(starts.swap_remove(at));
            }
            starts.is_empty()
        };
        let _ = match machine {
            Machine::X86_64 => x86::calls(piece).any(&mut take),
            Machine::Aarch64 => arm64::calls(piece).any(&mut take),
        };
    }
    called
}

/// The index of the unwind table (`.eh_frame_hdr`): pairs of a function's start and its entry, sorted, as distances from the
/// index itself.
struct Unwind {
    address: u64,
    pairs: Vec<u8>,
}

impl Unwind {
    /// Version 1; a pointer to the table (any encoding of 4 bytes), the number of pairs as 4 bytes, pairs of 4-byte distances:
    /// what every linker writes.
    fn read(image: &Image<'_>) -> Option<Unwind> {
        let (address, size) = image.segment(object::elf::PT_GNU_EH_FRAME)?;
        let bytes = image.at(address, size.min(LARGEST_TABLE))?;
        let (head, pairs) = bytes.split_first_chunk::<12>()?;
        let [1, pointer, 0x03, 0x3b, _, _, _, _, count @ ..] = *head else { return None };
        let size = usize::try_from(u32::from_le_bytes(count)).ok()?.checked_mul(8)?;
        (pointer & 0x0f == 0x0b).then_some(())?;
        Some(Unwind { address, pairs: pairs.get(..size)?.to_vec() })
    }

    fn function(&self, image: &Image<'_>, at: u64) -> Option<Function> {
        let pair = |index: usize| {
            let (start, entry) = self.pairs.get(index * 8..)?.first_chunk::<8>()?.split_at(4);
            let distance = |bytes: &[u8]| Some(i64::from(i32::from_le_bytes(*bytes.first_chunk()?)));
            Some((
                self.address.wrapping_add_signed(distance(start)?),
                self.address.wrapping_add_signed(distance(entry)?),
            ))
        };
        let (mut low, mut high) = (0, self.pairs.len() / 8);
        while low < high {
            let middle = low + (high - low) / 2;
            if pair(middle)?.0 <= at { low = middle + 1 } else { high = middle }
        }
        let (start, entry) = pair(low.checked_sub(1)?)?;
        let end = start.checked_add(self.length(image, start, entry)?)?;
        (at < end).then_some(Function { start, end: Some(end) })
    }

    /// The length of a function from its entry: length, distance to the common part, start, length, 4 bytes each. Other
    /// encodings exist; the start tells whether this is the usual one.
    fn length(&self, image: &Image<'_>, start: u64, entry: u64) -> Option<u64> {
        let bytes = image.at(entry, 16)?;
        let field = |at: usize| Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?));
        let begins = entry.wrapping_add(8).wrapping_add_signed(i64::from(field(8)? as i32));
        (begins == start).then(|| field(12).map(u64::from))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_starts_where_it_is_called() {
        // At 0x1000: call 0x1020; call 0x1011 (no start: not aligned)
        let code = [Piece { address: 0x1000, bytes: vec![0xe8, 0x1b, 0, 0, 0, 0xe8, 0x07, 0, 0, 0] }];
        let called = called(Machine::X86_64, &code, 0, 0x2000);
        let functions = Functions { unwind: None, called, prologue: false };
        assert_eq!(functions.nearest_called(0x1034), Some(Function { start: 0x1020, end: None }));
        assert_eq!(functions.nearest_called(0x101f), None);
        assert_eq!(functions.nearest_called(0x1020 + LONGEST), None);
    }

    #[test]
    fn what_is_only_jumped_to_is_not_called() {
        // At 0x1000: call 0x1020; jmp 0x1030
        let code = [Piece { address: 0x1000, bytes: vec![0xe8, 0x1b, 0, 0, 0, 0xe9, 0x26, 0, 0, 0] }];
        assert_eq!(are_called(Machine::X86_64, &code, vec![0x1020, 0x1030]), [0x1020]);
    }

    #[test]
    fn a_frame_is_a_start_of_last_resort() {
        let bytes = [&[0x90; 16][..], PUSH_FRAME, &[0x90; 16]].concat();
        let code = [Piece { address: 0x1000, bytes }];
        let functions = Functions { unwind: None, called: Vec::new(), prologue: true };
        assert_eq!(functions.nearest_prologue(&code, 0x1020), Some(Function { start: 0x1010, end: None }));
        assert_eq!(functions.nearest_prologue(&code, 0x1008), None);
    }
}
