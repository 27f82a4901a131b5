//! Which function an address belongs to, in code without symbols: the unwind table says so where it covers the address; else
//! the nearest aligned target of a direct call before it is where the function starts, or, where the compiler keeps frame
//! pointers and aligns nothing, the nearest `push rbp; mov rbp, rsp`.

use super::image::{Image, LARGEST_TABLE, Machine, Piece};
use super::references::Reference;
use super::{ResolveError, arm64, x86};
use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

/// A function is not longer than this.
const LONGEST: u64 = 0x1_0000;
const PUSH_FRAME: &[u8] = &[0x55, 0x48, 0x89, 0xe5];

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Function {
    pub start: u64,
    /// Where it ends, if that is known.
    pub end: Option<u64>,
    /// Not a function, but a part of one (errors, mostly) that the compiler moved away from the rest.
    pub is_part: bool,
}

/// What is known of the functions around some references.
pub(super) struct Functions {
    unwind: Option<Unwind>,
    /// Aligned targets of calls, sorted.
    called: Vec<u64>,
    /// Whether a prologue may be taken for a start.
    prologue: bool,
}

impl Functions {
    pub(super) fn around(image: &Image<'_>, references: &[Reference], prologue: bool) -> Result<Self, ResolveError> {
        let unwind = Unwind::read(image);
        let covered = |at: u64| unwind.as_ref().is_some_and(|unwind| unwind.function(image, at).is_some());
        let bare: Vec<u64> = references.iter().map(|reference| reference.at).filter(|at| !covered(*at)).collect();
        let called = match (bare.first(), bare.last()) {
            (Some(first), Some(last)) => called(image, first.saturating_sub(LONGEST), last.saturating_add(LONGEST))?,
            _ => Vec::new(),
        };
        Ok(Functions { unwind, called, prologue: prologue && image.machine == Machine::X86_64 })
    }

    /// The function that an address is in.
    pub(super) fn of(&self, image: &Image<'_>, at: u64) -> Option<Function> {
        let unwound = self.unwind.as_ref().and_then(|unwind| unwind.function(image, at));
        // A program without frame pointers has no such prologue nearby, and one that aligns nothing has few aligned targets.
        unwound.or_else(|| self.nearest_called(at).max(self.nearest_prologue(image, at)))
    }

    fn nearest_called(&self, at: u64) -> Option<Function> {
        let next = self.called.partition_point(|target| *target <= at);
        let start = *self.called.get(next.checked_sub(1)?)?;
        (at - start < LONGEST).then(|| Function { start, end: self.called.get(next).copied(), is_part: false })
    }

    fn nearest_prologue(&self, image: &Image<'_>, at: u64) -> Option<Function> {
        let before = image.around(at, LONGEST, 0).filter(|_| self.prologue)?;
        let within = memchr::memmem::rfind(&before.bytes, PUSH_FRAME)?;
        Some(Function { start: before.address + within as u64, end: None, is_part: false })
    }
}

/// Targets of direct calls in a range.
fn called(image: &Image<'_>, from: u64, to: u64) -> Result<Vec<u64>, ResolveError> {
    if let Some(called) = image.called.get() {
        return Ok(called.within(from..to.saturating_add(1)));
    }
    let Some(called) = Called::new(image) else { return Ok(Vec::new()) };
    let machine = image.machine;
    image.code()?.look(|piece, _| {
        called.mark(machine, piece);
        Vec::<()>::new()
    })?;
    Ok(called.within(from..to.saturating_add(1)))
}

/// Where a function is called directly, in all of the code.
pub(super) fn calls_of(image: &Image<'_>, function: u64) -> Result<Vec<u64>, ResolveError> {
    let machine = image.machine;
    let mut calls = image.code()?.look(|piece, _| {
        let mut found = Vec::new();
        let mut tell = |at, target| found.extend((target == function).then_some(at));
        match machine {
            Machine::X86_64 => x86::calls(piece, tell),
            Machine::Aarch64 => arm64::calls(piece).for_each(|(at, target)| tell(at, target)),
        }
        found
    })?;
    // Some were seen in two windows.
    calls.sort_unstable();
    calls.dedup();
    Ok(calls)
}

/// Whether nothing but calls tells where functions start.
pub(super) fn are_known_by_calls(image: &Image<'_>) -> bool {
    image.segment(object::elf::PT_GNU_EH_FRAME).is_none()
}

/// Code is not spread over more than this: of what is called in it there is a bit for every 16 bytes.
const WIDEST: u64 = 1 << 31;
const ALIGNMENT: u64 = 16;

/// Targets of direct calls, aligned as compilers align functions. Several threads may mark what they see.
pub(super) struct Called {
    start: u64,
    bits: Vec<AtomicU64>,
}

impl Called {
    /// None that are known yet; `None` where code is nowhere, or everywhere.
    pub(super) fn new(image: &Image<'_>) -> Option<Called> {
        let Range { start, end } = image.span_of_code()?;
        let start = start - start % ALIGNMENT;
        let size = end.checked_sub(start).filter(|size| *size <= WIDEST)?;
        let words = size.div_ceil(ALIGNMENT * u64::from(u64::BITS));
        Some(Called { start, bits: (0..words).map(|_| AtomicU64::new(0)).collect() })
    }

    /// Marks what is called in a piece of code.
    pub(super) fn mark(&self, machine: Machine, piece: &Piece) {
        match machine {
            Machine::X86_64 => x86::calls(piece, |_, target| self.mark_one(target)),
            Machine::Aarch64 => arm64::calls(piece).for_each(|(_, target)| self.mark_one(target)),
        }
    }

    fn mark_one(&self, target: u64) {
        let Some(distance) = target.checked_sub(self.start).filter(|distance| distance.is_multiple_of(ALIGNMENT))
        else {
            return;
        };
        let number = distance / ALIGNMENT;
        if let Some(word) = self.bits.get((number / u64::from(u64::BITS)) as usize) {
            let bit = 1 << (number % u64::from(u64::BITS));
            // Most are called more than once.
            if word.load(Ordering::Relaxed) & bit == 0 {
                word.fetch_or(bit, Ordering::Relaxed);
            }
        }
    }

    /// Those in a range, in order.
    fn within(&self, range: Range<u64>) -> Vec<u64> {
        let bits = u64::from(u64::BITS);
        let word_of = |address: u64| (address.saturating_sub(self.start) / ALIGNMENT / bits) as usize;
        let last = self.bits.len().min(word_of(range.end) + 1);
        let mut found = Vec::new();
        for number in word_of(range.start)..last {
            let mut word = self.bits[number].load(Ordering::Relaxed);
            while word != 0 {
                let bit = number as u64 * bits + u64::from(word.trailing_zeros());
                found.push(self.start + bit * ALIGNMENT);
                word &= word - 1;
            }
        }
        found.retain(|target| range.contains(target));
        found
    }
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
        let bytes = image.at(entry, 32)?;
        let (length, is_part) = described(&bytes, start.wrapping_sub(entry))?;
        let end = start.checked_add(length)?;
        (at < end).then_some(Function { start, end: Some(end), is_part })
    }
}

/// Length of a function and whether it is only a part of one, from its entry in `.eh_frame`: length of the entry, distance to
/// the common part, start, length, 4 bytes each; extra data after its length; instructions. Other encodings exist; the start
/// (relative to the entry's) tells whether this is the usual one.
fn described(entry: &[u8], start: u64) -> Option<(u64, bool)> {
    let field = |at: usize| Some(u32::from_le_bytes(*entry.get(at..)?.first_chunk()?));
    if 8_u64.wrapping_add_signed(i64::from(field(8)? as i32)) != start {
        return None;
    }
    // At the first byte of a function the frame is as the caller made it. An entry that begins with a change of it, before any
    // step forward (opcodes 2 to 4 and 0x40 to 0x7f; 0 is padding), describes the middle of one.
    let extra = entry.get(16).map_or(0, |length| usize::from(*length));
    let is_part = entry.get(17 + extra).is_some_and(|opcode| !matches!(opcode, 0 | 2..=4 | 0x40..=0x7f));
    Some((u64::from(field(12)?), is_part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_function_starts_where_it_is_called() {
        let functions = Functions { unwind: None, called: vec![0x1020, 0x1080], prologue: false };
        let function = Function { start: 0x1020, end: Some(0x1080), is_part: false };
        assert_eq!(functions.nearest_called(0x1034), Some(function));
        assert_eq!(functions.nearest_called(0x101f), None);
        assert_eq!(functions.nearest_called(0x1080 + LONGEST), None);
    }

    #[test]
    fn a_part_of_a_function_has_a_frame_from_its_first_byte() {
        let entry = |instructions: [u8; 3]| {
            let mut entry = [[24, 0, 0, 0], [28, 0, 0, 0], [0xf8, 0x0f, 0, 0], [0x42, 0, 0, 0]].concat();
            entry.extend([&[0][..], &instructions, &[0; 8]].concat());
            entry
        };
        // Step 1, frame of 16; frame of 96, step 1.
        assert_eq!(described(&entry([0x41, 0x0e, 0x10]), 0x1000), Some((0x42, false)));
        assert_eq!(described(&entry([0x0e, 0x60, 0x41]), 0x1000), Some((0x42, true)));
        assert_eq!(described(&entry([0x41, 0x0e, 0x10]), 0x1001), None);
        assert_eq!(described(&[0; 9], 0), None);
    }
}
