//! What a run of instructions does with registers and words of memory, the same for both machines: as much of it as is needed to
//! follow a pointer and a number through a few lines of C.

use super::arm64;
use super::image::{Machine, Piece};
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

/// Registers of either machine, and [`MEMORY`].
pub(super) const REGISTERS: usize = 33;
/// Stands for a word of memory that an instruction of x86-64 changes in its place.
const MEMORY: usize = 32;

/// How jumps and calls of arm64 begin that go where a register says.
const BY_REGISTER: u32 = 0xd600_0000;

/// A register by number.
type Number = usize;

/// A part of what an instruction does. A place is a register and the distance from where it points, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Copy {
        to: Number,
        from: Number,
    },
    /// Of the lower half alone.
    CopyHalf {
        to: Number,
        from: Number,
    },
    Load {
        to: Number,
        base: Number,
        distance: u64,
    },
    Store {
        base: Number,
        distance: u64,
        from: Number,
    },
    Add {
        to: Number,
        one: Number,
        other: Number,
    },
    Subtract {
        to: Number,
        from: Number,
        less: Number,
    },
    /// Something else is put there.
    Forget {
        to: Number,
    },
}

/// The steps of so many instructions at the start of some code: until the first call, return or jump that is always taken.
pub(super) fn of(machine: Machine, piece: &Piece, instructions: usize) -> Vec<Step> {
    let mut steps = Vec::new();
    match machine {
        Machine::X86_64 => {
            let decoder = Decoder::with_ip(64, &piece.bytes, piece.address, DecoderOptions::NONE);
            let goes_on = |instruction: &Instruction| {
                matches!(instruction.flow_control(), FlowControl::Next | FlowControl::ConditionalBranch)
            };
            decoder.into_iter().take(instructions).take_while(goes_on).for_each(|one| x86(&one, &mut steps));
        }
        Machine::Aarch64 => arm64::words(&piece.bytes)
            .take(instructions)
            .take_while(|word| !arm64::is_branch(*word) && word & 0xfe00_0000 != BY_REGISTER)
            .for_each(|word| arm64(word, &mut steps)),
    }
    steps
}

fn x86(instruction: &Instruction, steps: &mut Vec<Step>) {
    let register = |number: u32| {
        let register = instruction.op_register(number);
        let is_register = number < instruction.op_count() && instruction.op_kind(number) == OpKind::Register;
        (is_register && register.full_register().is_gpr64()).then(|| (register.full_register().number(), register))
    };
    let whole = |number: u32| register(number).filter(|(_, register)| register.is_gpr64()).map(|(number, _)| number);
    let half = |number: u32| register(number).filter(|(_, register)| register.is_gpr32()).map(|(number, _)| number);
    let base = || instruction.memory_base().is_gpr64().then(|| instruction.memory_base().number());
    let place = || Some((base()?, instruction.memory_displacement64())).filter(|_| is_plain(instruction));
    let arithmetic = |to, one, other| match instruction.mnemonic() {
        Mnemonic::Add => Step::Add { to, one, other },
        _ => Step::Subtract { to, from: one, less: other },
    };
    match instruction.mnemonic() {
        Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Bt | Mnemonic::Push | Mnemonic::Nop => return,
        Mnemonic::Mov => {
            if let (Some(to), Some(from)) = (whole(0), whole(1)) {
                return steps.push(Step::Copy { to, from });
            }
            if let (Some(to), Some(from)) = (half(0), half(1)) {
                return steps.push(Step::CopyHalf { to, from });
            }
            match (place(), whole(0), whole(1)) {
                (Some((base, distance)), Some(to), _) => return steps.push(Step::Load { to, base, distance }),
                (Some((base, distance)), _, Some(from)) => return steps.push(Step::Store { base, distance, from }),
                _ => {}
            }
        }
        Mnemonic::Movsxd => {
            if let (Some(to), Some(from)) = (whole(0), half(1)) {
                return steps.push(Step::CopyHalf { to, from });
            }
        }
        Mnemonic::Lea if instruction.memory_index_scale() == 1 && instruction.memory_displacement64() == 0 => {
            let index = instruction.memory_index();
            if let (Some(to), Some(one), true) = (whole(0), base(), index.is_gpr64()) {
                return steps.push(Step::Add { to, one, other: index.number() });
            }
        }
        Mnemonic::Add | Mnemonic::Sub => match (whole(0), whole(1), place()) {
            (Some(to), Some(other), _) => return steps.push(arithmetic(to, to, other)),
            (Some(to), _, Some((base, distance))) => {
                return steps.extend([Step::Load { to: MEMORY, base, distance }, arithmetic(to, to, MEMORY)]);
            }
            (_, Some(other), Some((base, distance))) => {
                let change = arithmetic(MEMORY, MEMORY, other);
                let store = Step::Store { base, distance, from: MEMORY };
                return steps.extend([Step::Load { to: MEMORY, base, distance }, change, store]);
            }
            _ => {}
        },
        _ => {}
    }
    steps.extend(register(0).map(|(to, _)| Step::Forget { to }));
}

/// Whether an operand is a place in memory that is nothing but a register and a distance.
fn is_plain(instruction: &Instruction) -> bool {
    let kinds = [instruction.op0_kind(), instruction.op1_kind()];
    kinds.contains(&OpKind::Memory) && instruction.memory_index() == Register::None
}

fn arm64(word: u32, steps: &mut Vec<Step>) {
    let field = |at: u32| (word >> at & 31) as usize;
    let (first, base, second, other) = (field(0), field(5), field(10), field(16));
    let distance = u64::from(word >> 10 & 0xfff) * 8;
    // That of two registers is signed.
    let pair = u64::from(word >> 15 & 0x3f) * 8;
    match word {
        _ if word & 0xffc0_0000 == 0xf940_0000 => steps.push(Step::Load { to: first, base, distance }),
        _ if word & 0xffc0_0000 == 0xf900_0000 => steps.push(Step::Store { base, distance, from: first }),
        _ if word & 0xffe0_0000 == 0xa940_0000 => {
            let loads = [(first, pair), (second, pair + 8)].map(|(to, distance)| Step::Load { to, base, distance });
            // What it is loaded by comes last.
            steps.extend(if first == base { [loads[1], loads[0]] } else { loads });
        }
        _ if word & 0xffe0_0000 == 0xa900_0000 => {
            steps.extend([(first, pair), (second, pair + 8)].map(|(from, distance)| Step::Store {
                base,
                distance,
                from,
            }));
        }
        // Whole, or the lower half of the second one, widened.
        _ if [0x8b00_0000, 0x8b20_4000, 0x8b20_c000].contains(&(word & 0xffe0_fc00)) => {
            steps.push(Step::Add { to: first, one: base, other });
        }
        _ if [0xcb00_0000, 0xcb20_4000, 0xcb20_c000].contains(&(word & 0xdfe0_fc00)) => {
            steps.push(Step::Subtract { to: first, from: base, less: other });
        }
        _ if word & 0xffe0_ffe0 == 0xaa00_03e0 => steps.push(Step::Copy { to: first, from: other }),
        _ if word & 0xffe0_ffe0 == 0x2a00_03e0 => steps.push(Step::CopyHalf { to: first, from: other }),
        // Three ways to widen it.
        _ if [0x9340_7c00, 0xd340_7c00, 0x9240_7c00].contains(&(word & 0xffff_fc00)) => {
            steps.push(Step::CopyHalf { to: first, from: base });
        }
        _ if arm64::changes(word) => steps.push(Step::Forget { to: first }),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(machine: Machine, bytes: &[u8]) -> Vec<Step> {
        of(machine, &Piece { address: 0x1000, bytes: bytes.to_vec() }, 10)
    }

    #[test]
    fn what_x86_does_to_a_word_of_memory_are_several_steps() {
        // mov eax,esi; mov rcx,[rbx+0x30]; cmp rax,rcx; add [rcx+8],rax; sub rdx,rax; xor eax,eax; mov [rcx],edx; ret; nop
        let code = [
            &[0x89, 0xf0][..],
            &[0x48, 0x8b, 0x4b, 0x30],
            &[0x48, 0x39, 0xc8],
            &[0x48, 0x01, 0x41, 8],
            &[0x48, 0x29, 0xc2],
            &[0x31, 0xc0],
            &[0x89, 0x11],
            &[0xc3, 0x90],
        ]
        .concat();
        let expected = [
            Step::CopyHalf { to: 0, from: 6 },
            Step::Load { to: 1, base: 3, distance: 0x30 },
            Step::Load { to: MEMORY, base: 1, distance: 8 },
            Step::Add { to: MEMORY, one: MEMORY, other: 0 },
            Step::Store { base: 1, distance: 8, from: MEMORY },
            Step::Subtract { to: 2, from: 2, less: 0 },
            Step::Forget { to: 0 },
        ];
        assert_eq!(steps(Machine::X86_64, &code), expected);
        // lea rdx,[rcx+rax]; movsxd rsi,eax; lea rdx,[rcx+rax*2]
        let code = [0x48, 0x8d, 0x14, 0x01, 0x48, 0x63, 0xf0, 0x48, 0x8d, 0x14, 0x41];
        let expected =
            [Step::Add { to: 2, one: 1, other: 0 }, Step::CopyHalf { to: 6, from: 0 }, Step::Forget { to: 2 }];
        assert_eq!(steps(Machine::X86_64, &code), expected);
    }

    #[test]
    fn arm64_loads_and_stores_two_words_at_once() {
        // mov w19,w0; cmp w0,#0; b.le; ldp x8,x9,[x8,#0x80]; subs x9,x9,w19,uxtw; add x8,x8,x19; stp x8,x9,[x10,#0x80];
        // str w9,[x10]; blr x8
        let words = [
            0x2a00_03f3_u32,
            0x7100_001f,
            0x5400_006d,
            0xa948_2508,
            0xeb33_4129,
            0x8b13_0108,
            0xa908_2548,
            0xb900_0149,
            0xd63f_0100,
            0xd503_201f,
        ];
        let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let expected = [
            Step::CopyHalf { to: 19, from: 0 },
            Step::Forget { to: 31 },
            Step::Load { to: 9, base: 8, distance: 0x88 },
            Step::Load { to: 8, base: 8, distance: 0x80 },
            Step::Subtract { to: 9, from: 9, less: 19 },
            Step::Add { to: 8, one: 8, other: 19 },
            Step::Store { base: 10, distance: 0x80, from: 8 },
            Step::Store { base: 10, distance: 0x88, from: 9 },
        ];
        assert_eq!(steps(Machine::Aarch64, &code), expected);
    }
}
