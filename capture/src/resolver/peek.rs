//! `SSL_read` or `SSL_peek`? In BoringSSL the first is made of the second, and takes what was read off what is pending, which is
//! a pointer and a length next to each other in the connection's state. Mostly the compiler copies `SSL_peek` into `SSL_read`;
//! where it does not, it may have copied `SSL_read` into those who call it, and `SSL_peek` is what they all go through. It is
//! known by what they do with its result, and that says where the state is, so that the programs can tell what is read from what
//! is read again.

use super::functions::{self, Function};
use super::image::{Image, Machine, Piece};
use super::steps::{self, Step};
use super::{ResolveError, arm64, x86};
use iced_x86::{Decoder, DecoderOptions, Instruction, Mnemonic, OpKind, Register};
use std::collections::BTreeSet;

/// `SSL_read` with all that may be copied into it is not longer than this.
const LONGEST: u64 = 1 << 13;
/// Bytes before a call in which the connection is put where an argument belongs.
const BEFORE: u64 = 32;
/// Bytes after it in which what was read is taken off, and instructions in them.
const AFTER: u64 = 256;
const INSTRUCTIONS: usize = 40;

/// A place in memory: a register and the distance from where it points.
type Place = (usize, u64);

/// Where what is pending is: the distance of the pointer to the state from the start of the connection, and in the state that of
/// the pointer to the bytes. How many they are is behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Layout {
    pub state: u16,
    pub pending: u16,
}

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

/// Calls of a function after which its result is taken off something: how many, and where that is.
pub(super) fn taken_off(image: &Image<'_>, peek: u64) -> Result<(usize, BTreeSet<Layout>), ResolveError> {
    let calls = functions::calls_of(image, peek)?;
    let found: Vec<Layout> = calls.iter().filter_map(|at| taken_off_after(image, *at)).collect();
    Ok((found.len(), found.into_iter().collect()))
}

fn taken_off_after(image: &Image<'_>, call: u64) -> Option<Layout> {
    let before = image.around(call, BEFORE, 0)?;
    let (length, connections) = match image.machine {
        Machine::X86_64 => (x86::CALL, x86::same_as_first(&before.bytes)),
        Machine::Aarch64 => (arm64::CALL, arm64::same_as_first(&before.bytes)),
    };
    let after = image.around(call + length, 0, AFTER)?;
    follow(&steps::of(image.machine, &after, INSTRUCTIONS), &connections)
}

/// What is known of a register after the call.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Value {
    #[default]
    Other,
    Result,
    Connection,
    /// What the connection points to at this distance.
    State(u16),
    /// A word of it, at that distance; and what it becomes by adding the result, or by taking it away.
    Word(Layout),
    More(Layout),
    Less(Layout),
}

/// Whether the result of a call is added to a word of the connection's state, and taken away from the next one. `connections` are
/// the registers that hold the connection.
fn follow(steps: &[Step], connections: &[usize]) -> Option<Layout> {
    let mut values = [Value::Other; steps::REGISTERS];
    values[0] = Value::Result;
    connections.iter().for_each(|register| values[*register] = Value::Connection);
    let (mut more, mut less) = (BTreeSet::new(), BTreeSet::new());
    for step in steps {
        let (to, value) = match *step {
            Step::Copy { to, from } => (to, values[from]),
            Step::CopyHalf { to, from } => {
                (to, if values[from] == Value::Result { Value::Result } else { Value::Other })
            }
            Step::Load { to, base, distance } => (to, loaded(values[base], distance)),
            Step::Add { to, one, other } => match (values[one], values[other]) {
                (Value::Word(word), Value::Result) | (Value::Result, Value::Word(word)) => (to, Value::More(word)),
                _ => (to, Value::Other),
            },
            Step::Subtract { to, from, less } => match (values[from], values[less]) {
                (Value::Word(word), Value::Result) => (to, Value::Less(word)),
                _ => (to, Value::Other),
            },
            Step::Forget { to } => (to, Value::Other),
            Step::Store { base, distance, from } => {
                let there = loaded(values[base], distance);
                match values[from] {
                    Value::More(word) if there == Value::Word(word) => more.insert(word),
                    Value::Less(word) if there == Value::Word(word) => less.insert(word),
                    _ => false,
                };
                continue;
            }
        };
        values[to] = value;
    }
    let next = |word: &Layout| Some(Layout { pending: word.pending.checked_add(8)?, ..*word });
    more.into_iter().find(|word| next(word).is_some_and(|next| less.contains(&next)))
}

/// What is at a distance from where a register points.
fn loaded(base: Value, distance: u64) -> Value {
    match (base, u16::try_from(distance)) {
        (Value::Connection, Ok(distance)) => Value::State(distance),
        (Value::State(state), Ok(pending)) => Value::Word(Layout { state, pending }),
        _ => Value::Other,
    }
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

    /// The bytes are those of Qt's WebEngine 6.9 and of a Chromium 143; what they call reads into the memory of who called them.
    #[test]
    fn what_was_read_is_taken_off_a_pointer_and_a_length() {
        // test eax,eax; jle; mov rdx,[rbx+0x30]; movsxd rsi,eax; mov rcx,[rdx+0x88]; mov rdi,[rdx+0x80]; cmp rsi,rcx; ja;
        // add rdi,rsi; sub rcx,rsi; mov [rdx+0x80],rdi; mov [rdx+0x88],rcx
        let gcc = [
            &[0x85, 0xc0, 0x7e, 0x40, 0x48, 0x8b, 0x53, 0x30, 0x48, 0x63, 0xf0][..],
            &[0x48, 0x8b, 0x8a, 0x88, 0, 0, 0, 0x48, 0x8b, 0xba, 0x80, 0, 0, 0, 0x48, 0x39, 0xce],
            &[0x0f, 0x87, 0, 1, 0, 0, 0x48, 0x01, 0xf7, 0x48, 0x29, 0xf1],
            &[0x48, 0x89, 0xba, 0x80, 0, 0, 0, 0x48, 0x89, 0x8a, 0x88, 0, 0, 0],
        ]
        .concat();
        // mov r15d,eax; test eax,eax; jle; mov rax,[rbx+0x30]; mov r15d,r15d; mov rcx,[rax+0x88]; sub rcx,r15; jb;
        // add [rax+0x80],r15; mov [rax+0x88],rcx
        let clang = [
            &[0x41, 0x89, 0xc7, 0x85, 0xc0, 0x0f, 0x8e, 0x8c, 0, 0, 0, 0x48, 0x8b, 0x43, 0x30, 0x45, 0x89, 0xff][..],
            &[0x48, 0x8b, 0x88, 0x88, 0, 0, 0, 0x4c, 0x29, 0xf9, 0x0f, 0x82, 0xf8, 2, 0, 0],
            &[0x4c, 0x01, 0xb8, 0x80, 0, 0, 0, 0x48, 0x89, 0x88, 0x88, 0, 0, 0],
        ]
        .concat();
        let rbx = Register::RBX.number();
        for code in [gcc, clang] {
            let steps = steps::of(Machine::X86_64, &Piece { address: 0x1000, bytes: code }, INSTRUCTIONS);
            assert_eq!(follow(&steps, &[rbx]), Some(Layout { state: 0x30, pending: 0x80 }));
            // Of something else than the connection; and of a result that is no more there.
            assert_eq!(follow(&steps, &[Register::R14.number()]), None);
            assert_eq!(follow(&[&[Step::Forget { to: 0 }], &steps[..]].concat(), &[rbx]), None);
        }
    }

    #[test]
    fn what_was_read_is_taken_off_on_arm64_as_well() {
        // mov w20,w0; cmp w0,#1; b.lt; ldr x8,[x19,#0x30]; ldp x9,x10,[x8,#0x80]; subs x10,x10,w20,uxtw; b.lo;
        // add x9,x9,w20,uxtw; stp x9,x10,[x8,#0x80]
        let words = [
            0x2a00_03f4_u32,
            0x7100_041f,
            0x5400_01ab,
            0xf940_1a68,
            0xa948_2909,
            0xeb34_414a,
            0x5400_0203,
            0x8b34_4129,
            0xa908_2909,
        ];
        let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let steps = steps::of(Machine::Aarch64, &Piece { address: 0x1000, bytes }, INSTRUCTIONS);
        assert_eq!(follow(&steps, &[19]), Some(Layout { state: 0x30, pending: 0x80 }));
        assert_eq!(follow(&steps, &[20]), None);
    }
}
