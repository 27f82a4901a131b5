//! The arm64 halves of the methods: instructions are words of four bytes, and those that matter have fixed bit patterns.

use super::cookie::count;
use super::image::Piece;
use super::reasons::Constants;
use super::references::{MOST, Reference};
use std::collections::BTreeSet;

pub(super) const RET: u32 = 0xd65f_03c0;
/// An `add` follows its `adrp` within so many instructions.
const PAIR: usize = 12;
/// Arguments of an error report are set within so many instructions of the file name's.
const BEFORE: usize = 10;
const AFTER: usize = 8;

/// The words of some code.
pub(super) fn words(bytes: &[u8]) -> impl Iterator<Item = u32> + '_ {
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]]))
}

fn word(piece: &Piece, index: usize) -> Option<u32> {
    let bytes = piece.bytes.get(index.checked_mul(4)?..)?.first_chunk::<4>()?;
    Some(u32::from_le_bytes(*bytes))
}

fn signed(value: u32, bits: u32) -> i64 {
    i64::from((value << (32 - bits)) as i32 >> (32 - bits))
}

/// `adrp x, page` with an `add x', x, rest` soon after it.
pub(super) fn references(piece: &Piece, wanted: &[u64], found: &mut Vec<Reference>) {
    for (index, adrp) in words(&piece.bytes).enumerate() {
        if adrp & 0x9f00_0000 != 0x9000_0000 {
            continue;
        }
        let here = piece.address.wrapping_add(index as u64 * 4);
        let pages = signed((adrp >> 5 & 0x7_ffff) << 2 | adrp >> 29 & 3, 21);
        let page = (here & !0xfff).wrapping_add_signed(pages << 12);
        if !wanted.iter().any(|address| address & !0xfff == page) {
            continue;
        }
        let adds = |add: u32| add & 0xffc0_0000 == 0x9100_0000 && add >> 5 & 31 == adrp & 31;
        let pair = (index + 1..index + PAIR).find(|at| word(piece, *at).is_some_and(adds));
        let Some((at, add)) = pair.and_then(|at| Some((at, word(piece, at)?))) else { continue };
        let to = page + u64::from(add >> 10 & 0xfff);
        if wanted.contains(&to) {
            let register = (add & 31) as usize;
            found.push(Reference { at: piece.address.wrapping_add(at as u64 * 4), register, to });
        }
        if found.len() >= MOST {
            return;
        }
    }
}

/// The constants in registers at the call or jump that follows a reference.
pub(super) fn constants(piece: &Piece, reference: &Reference) -> Constants {
    let mut constants = [None; 32];
    let here = (reference.at.wrapping_sub(piece.address) / 4) as usize;
    for index in here.saturating_sub(BEFORE)..=here.saturating_add(AFTER) {
        let Some(word) = word(piece, index) else { break };
        if is_branch(word) {
            if index > here {
                break;
            }
            // What comes after a jump is reached from elsewhere, and a call leaves nothing of its arguments.
            constants = [None; 32];
        }
        match word {
            _ if word & 0xffe0_0000 == 0x5280_0000 => constants[(word & 31) as usize] = Some(word >> 5 & 0xffff),
            _ if word & 0xffff_ffe0 == 0x2a1f_03e0 => constants[(word & 31) as usize] = Some(0),
            _ => {}
        }
    }
    // x0 to x7 are the arguments.
    let mut arguments = Constants::default();
    arguments.0.copy_from_slice(&constants[..8]);
    arguments
}

/// `b`, `bl` or `ret`.
pub(super) fn is_branch(word: u32) -> bool {
    word & 0x7c00_0000 == 0x1400_0000 || word == RET
}

/// Places and targets of `bl`.
pub(super) fn calls(piece: &Piece) -> impl Iterator<Item = (u64, u64)> + '_ {
    words(&piece.bytes).enumerate().filter(|(_, word)| word & 0xfc00_0000 == 0x9400_0000).map(|(index, word)| {
        let at = piece.address.wrapping_add(index as u64 * 4);
        (at, at.wrapping_add_signed(signed(word & 0x3ff_ffff, 26) * 4))
    })
}

/// Which argument of a call is an address in the frame of who calls, and is behind three that are its own; `before` is all that it
/// does until then.
pub(super) fn count_of(before: &[u8]) -> Option<u64> {
    let mut counts = BTreeSet::new();
    for word in words(before) {
        let (to, base) = (word & 31, word >> 5 & 31);
        match word {
            // add register,sp,#… or register,x29,#…
            _ if word & 0xffc0_0000 == 0x9100_0000 && [29, 31].contains(&base) => {
                counts.extend([(3, count::ARGUMENT_4), (4, count::ARGUMENT_5)].iter().find(|count| count.0 == to));
            }
            _ if is_branch(word) => return None,
            // A length of 32 bits is widened.
            _ if word & 0xffff_fc1f == 0x9340_7c02 => {}
            _ if changes(word) && to <= 2 => return None,
            _ => {}
        }
    }
    let mut counts = counts.into_iter().map(|(_, count)| count);
    counts.next().filter(|_| counts.next().is_none())
}

/// Whether an instruction puts something into the register that it names first; conditional jumps and stores do not.
pub(super) fn changes(word: u32) -> bool {
    let is_conditional = word & 0xff00_0000 == 0x5400_0000 || word & 0x7c00_0000 == 0x3400_0000;
    let is_store = word & 0x3ac0_0000 == 0x3800_0000 || word & 0x3a40_0000 == 0x2800_0000;
    !is_conditional && !is_store
}

/// Bytes of a call.
pub(super) const CALL: u64 = 4;

/// Registers that a call leaves as they are, and which hold its first argument, by the instructions before it.
pub(super) fn same_as_first(before: &[u8]) -> Vec<usize> {
    const KEPT: std::ops::RangeInclusive<u32> = 19..=28;
    // mov x0,register; mov register,x0
    let moves = |number: u32, word: u32| word == 0xaa00_03e0 | number << 16 || word == 0xaa00_03e0 | number;
    let is_same = |number: &u32| words(before).any(|word| moves(*number, word));
    KEPT.filter(is_same).map(|number| number as usize).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(words: &[u32]) -> Piece {
        Piece { address: 0x1_0000, bytes: words.iter().flat_map(|word| word.to_le_bytes()).collect() }
    }

    #[test]
    fn a_page_and_its_rest_make_an_address() {
        // adrp x3, +1 page; nop; add x3, x3, #0x234
        let code = piece(&[0xb000_0003, 0xd503_201f, 0x9108_d063]);
        let mut found = Vec::new();
        references(&code, &[0x1_1234], &mut found);
        assert_eq!((found.len(), found[0].at, found[0].register), (1, 0x1_0008, 3));
        found.clear();
        references(&code, &[0x1_1238], &mut found);
        assert_eq!(found, []);
    }

    #[test]
    fn a_page_may_lie_before_the_code() {
        // adrp x3, -1 page; add x3, x3, #0
        let mut found = Vec::new();
        references(&piece(&[0xf0ff_ffe3, 0x9100_0063]), &[0xf000], &mut found);
        assert_eq!((found.len(), found[0].at, found[0].register), (1, 0x1_0004, 3));
    }

    #[test]
    fn constants_are_those_of_the_next_call() {
        // mov w2, #1; bl; mov w2, #226; add x3, x3, #0; mov w4, #1234; mov w1, wzr; bl; mov w2, #9
        let code = piece(&[
            0x5280_0022,
            0x9400_0000,
            0x5280_1c42,
            0x9100_0063,
            0x5280_9a44,
            0x2a1f_03e1,
            0x9400_0000,
            0x5280_0122,
        ]);
        let constants = constants(&code, &Reference { at: 0x1_000c, register: 3, to: 0 });
        assert_eq!(constants.0, [None, Some(0), Some(226), None, Some(1234), None, None, None]);
    }

    #[test]
    fn calls_go_forward_and_back() {
        // bl +8; bl -4
        let code = piece(&[0x9400_0002, 0x97ff_ffff]);
        assert_eq!(calls(&code).collect::<Vec<_>>(), [(0x1_0000, 0x1_0008), (0x1_0004, 0x1_0000)]);
    }

    #[test]
    fn a_count_is_behind_the_argument_that_points_into_the_frame() {
        // stp x29,x30,[sp,#-32]!; mov x29,sp; cmp w2,#0; b.lt; sxtw x2,w2; add x3,sp,#24
        let start = [0xa9be_7bfd, 0x9100_03fd, 0x7100_005f, 0x5400_00cb, 0x9340_7c42];
        let count = |rest: &[u32]| count_of(&piece(&[&start, rest].concat()).bytes);
        assert_eq!(count(&[0x9100_63e3]), Some(count::ARGUMENT_4));
        // mov w3,#0; add x4,sp,#24
        assert_eq!(count(&[0x5280_0003, 0x9100_63e4]), Some(count::ARGUMENT_5));
        // None; two; mov x1,x3 in addition
        assert_eq!(count(&[]), None);
        assert_eq!(count(&[0x9100_63e3, 0x9100_63e4]), None);
        assert_eq!(count(&[0x9100_63e3, 0xaa03_03e1]), None);
    }

    #[test]
    fn who_holds_the_first_argument_is_known_by_the_moves_before_a_call() {
        // mov x19,x0; mov x0,x21; mov x22,x1; mov w20,w0
        let code = piece(&[0xaa00_03f3, 0xaa15_03e0, 0xaa01_03f6, 0x2a00_03f4]);
        assert_eq!(same_as_first(&code.bytes), [19, 21]);
    }
}
