//! `SSL_read` or `SSL_peek`? In BoringSSL the first is made of the second, and takes what was read off what is pending, which is
//! a pointer and a length next to each other in the connection's state. Mostly the compiler copies `SSL_peek` into `SSL_read`;
//! where it does not, `SSL_read` reports no errors, and is known by its call.

use super::functions::{Function, Functions};
use super::image::{Image, Machine, Piece};
use super::references::Reference;
use super::{ResolveError, arm64, entry, x86};
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use std::collections::BTreeSet;

/// A caller of `SSL_peek` is looked for this far before and after it: they are neighbours in one source file.
const NEAR: u64 = 1 << 14;
/// `SSL_read` with all that may be copied into it is not longer than this.
const LONGEST: u64 = 1 << 13;

/// A place in memory: a register and the distance from where it points.
type Place = (usize, u64);

/// Whether a function takes something off what is pending.
pub(super) fn consumes(image: &Image<'_>, function: &Function) -> bool {
    let end = function.end.unwrap_or(u64::MAX).min(function.start.saturating_add(LONGEST));
    let Some(piece) = image.around(function.start, 0, end - function.start) else { return false };
    let stored = match image.machine {
        Machine::X86_64 => stored_x86(&piece),
        Machine::Aarch64 => stored_arm64(&piece),
    };
    stored.iter().any(|(base, distance)| stored.contains(&(*base, distance + 8)))
}

/// The functions near `peek` that first of all call it with their own arguments, and take what it says off what is pending.
pub(super) fn readers(image: &Image<'_>, peek: u64) -> Result<Vec<Function>, ResolveError> {
    let Some(near) = image.around(peek, NEAR, NEAR) else { return Ok(Vec::new()) };
    let calls: Vec<Reference> =
        calls_of(image.machine, &near, peek).into_iter().map(|at| Reference { at, register: 0, to: peek }).collect();
    let functions = Functions::around(image, &calls, false)?;
    let callers: BTreeSet<Function> = calls.iter().filter_map(|call| functions.of(image, call.at)).collect();
    let passes_on = |caller: &Function| match image.machine {
        Machine::X86_64 => entry::passes_on(image, caller.start) == Some(peek),
        Machine::Aarch64 => {
            image.around(caller.start, 0, NEAR).is_some_and(|piece| arm64::passes_on(&piece) == Some(peek))
        }
    };
    Ok(callers.into_iter().filter(|caller| !caller.is_part && passes_on(caller) && consumes(image, caller)).collect())
}

/// Where a function is called.
fn calls_of(machine: Machine, piece: &Piece, function: u64) -> Vec<u64> {
    let mut found = Vec::new();
    match machine {
        Machine::X86_64 => x86::calls(piece, |at, target| found.extend((target == function).then_some(at))),
        Machine::Aarch64 => {
            found.extend(arm64::calls(piece).filter(|(_, target)| *target == function).map(|(at, _)| at));
        }
    }
    found
}

/// Where words are stored, other than on the stack.
fn stored_x86(piece: &Piece) -> BTreeSet<Place> {
    let steps = Decoder::with_ip(64, &piece.bytes, piece.address, DecoderOptions::NONE);
    steps
        .into_iter()
        .filter(stores_word)
        .map(|step| (step.memory_base().number(), step.memory_displacement64()))
        .collect()
}

fn stores_word(step: &Instruction) -> bool {
    matches!(step.mnemonic(), Mnemonic::Mov | Mnemonic::Add | Mnemonic::Sub)
        && step.op0_kind() == OpKind::Memory
        && step.op1_kind() == OpKind::Register
        && step.op1_register().is_gpr64()
        && step.memory_index() == Register::None
        && step.memory_base().is_gpr64()
        && !matches!(step.memory_base(), Register::RSP | Register::RBP)
}

/// The same on arm64: `str` and `stp` of 64-bit registers.
fn stored_arm64(piece: &Piece) -> BTreeSet<Place> {
    const STACK: u32 = 31;
    let stores = |word: u32| {
        let base = word >> 5 & 31;
        let at = |distance: u32| (base as usize, u64::from(distance) * 8);
        match word & 0xffc0_0000 {
            _ if base == STACK => vec![],
            0xf900_0000 => vec![at(word >> 10 & 0xfff)],
            // Only forward: the distance is signed.
            0xa900_0000 if word >> 21 & 1 == 0 => vec![at(word >> 15 & 0x3f), at((word >> 15 & 0x3f) + 1)],
            _ => vec![],
        }
    };
    arm64::words(&piece.bytes).flat_map(stores).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_on_the_stack_is_not_looked_at() {
        // mov [rbx+8],rax; mov [rsp+16],rax; mov [rbp-8],rax; mov [rbx+0x10],eax; add [rcx+0x80],rdx
        let bytes = [
            &[0x48, 0x89, 0x43, 8][..],
            &[0x48, 0x89, 0x44, 0x24, 16],
            &[0x48, 0x89, 0x45, 0xf8],
            &[0x89, 0x43, 0x10],
            &[0x48, 0x01, 0x91, 0x80, 0, 0, 0],
        ]
        .concat();
        let stored = stored_x86(&Piece { address: 0x1000, bytes });
        assert_eq!(stored, [(Register::RCX.number(), 0x80), (Register::RBX.number(), 8)].into());
    }

    #[test]
    fn a_pair_is_stored_at_once_on_arm64() {
        // stp x8,x9,[x10,#0x80]; str x1,[x2,#0x88]; stp x29,x30,[sp,#16]; str w1,[x2,#4]
        let words = [0xa908_2548_u32, 0xf900_4441, 0xa901_7bfd, 0xb900_0441];
        let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(stored_arm64(&Piece { address: 0, bytes }), [(10, 0x80), (10, 0x88), (2, 0x88)].into());
    }
}
