//! The x86-64 half of reading error reports: constants that are put into the registers of arguments, as `mov`, `xor` or, in code
//! that is made small, `push` and `pop`.

use super::dense;
use super::image::Piece;
use super::reasons::Constants;
use super::references::Reference;
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

/// rdi, rsi, rdx, rcx, r8, r9 by number of register.
const ARGUMENTS: [usize; 6] = [7, 6, 2, 1, 8, 9];
/// Decoding starts this far before a reference, or closer where that is in the middle of an instruction.
const BEFORE: u64 = 60;
const AFTER: usize = 48;

/// Which argument a register is, from 0.
pub(super) fn argument(register: usize) -> Option<usize> {
    ARGUMENTS.iter().position(|number| *number == register)
}

/// The constants in registers at the call or jump that follows a reference.
pub(super) fn constants(piece: &Piece, reference: &Reference) -> Constants {
    let mut state = State::default();
    for instruction in around(piece, reference.at) {
        let after = instruction.ip() >= reference.at;
        match instruction.flow_control() {
            FlowControl::Next | FlowControl::ConditionalBranch => state.step(&instruction),
            _ if after => break,
            // What comes after a jump is reached from elsewhere, and a call leaves nothing of its arguments.
            _ => state = State::default(),
        }
    }
    let mut constants = Constants::default();
    for (constant, number) in constants.0.iter_mut().zip(ARGUMENTS) {
        *constant = state.registers[number];
    }
    constants
}

/// Instructions from some way before an address to some way after it. The code before it has no marks where instructions
/// begin; decoding falls in step by itself, and the longest start that meets the address is the likeliest.
fn around(piece: &Piece, at: u64) -> Vec<Instruction> {
    let decode = |back: u64| {
        let start = at.checked_sub(back)?;
        let bytes = piece.from(start)?;
        let bytes = bytes.get(..back as usize + AFTER).unwrap_or(bytes);
        let instructions: Vec<_> = Decoder::with_ip(64, bytes, start, DecoderOptions::NONE).into_iter().collect();
        instructions.iter().any(|instruction| instruction.ip() == at).then_some(instructions)
    };
    (0..=BEFORE).rev().find_map(decode).unwrap_or_default()
}

#[derive(Default)]
struct State {
    registers: [Option<u32>; 16],
    pushed: Vec<Option<u32>>,
}

impl State {
    fn step(&mut self, instruction: &Instruction) {
        let is_register = instruction.op_count() > 0 && instruction.op0_kind() == OpKind::Register;
        let value = match instruction.mnemonic() {
            Mnemonic::Push => {
                let constant = (!is_register).then(|| instruction.try_immediate(0).ok()).flatten();
                return self.pushed.push(constant.map(|value| value as u32));
            }
            Mnemonic::Pop => self.pushed.pop().flatten(),
            Mnemonic::Mov => match instruction.op1_kind() {
                OpKind::Register => self.get(instruction.op1_register()),
                _ => instruction.try_immediate(1).ok().map(|value| value as u32),
            },
            Mnemonic::Xor if instruction.op0_register() == instruction.op1_register() => Some(0),
            Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Bt => return,
            _ => None,
        };
        if is_register {
            self.set(instruction.op0_register(), value);
        }
    }

    fn get(&self, register: Register) -> Option<u32> {
        number(register).and_then(|number| self.registers[number])
    }

    fn set(&mut self, register: Register, value: Option<u32>) {
        if let Some(number) = number(register) {
            self.registers[number] = value;
        }
    }
}

/// The number of a general register, whatever its width.
fn number(register: Register) -> Option<usize> {
    let full = register.full_register();
    full.is_gpr64().then(|| full.number()).filter(|number| *number < 16)
}

/// Bytes of a direct call.
pub(super) const CALL: u64 = 5;

/// Registers that a call leaves as they are, and of which it looks in the bytes before it as if they held its first argument: where
/// instructions begin in them is not known.
pub(super) fn same_as_first(before: &[u8]) -> Vec<usize> {
    const KEPT: [u8; 6] = [3, 5, 12, 13, 14, 15];
    let is_same = |number: &u8| {
        let (low, high) = (number & 7, number >> 3);
        // mov rdi,register; mov register,rdi
        let moves = [[0x48 | high << 2, 0x89, 0xc7 | low << 3], [0x48 | high, 0x89, 0xf8 | low]];
        moves.iter().any(|code| memchr::memmem::find(before, code).is_some())
    };
    KEPT.into_iter().filter(is_same).map(usize::from).collect()
}

/// Tells the places and the targets of `call`, where `e8` begins an instruction or seems to.
pub(super) fn calls(piece: &Piece, mut tell: impl FnMut(u64, u64)) {
    dense::each(
        &piece.bytes,
        |byte| byte == 0xe8,
        |at| {
            if let Some(distance) = piece.bytes.get(at + 1..).and_then(|rest| rest.first_chunk()) {
                let at = piece.address.wrapping_add(at as u64);
                tell(at, at.wrapping_add(5).wrapping_add_signed(i64::from(i32::from_le_bytes(*distance))));
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constants_of(bytes: &[u8], at: u64) -> [Option<u32>; 8] {
        let piece = Piece { address: 0x1000, bytes: bytes.to_vec() };
        constants(&piece, &Reference { at: 0x1000 + at, register: 1, to: 0 }).0
    }

    #[test]
    fn a_report_is_read_on_both_sides_of_the_name() {
        // xor esi,esi; mov edx,226; lea rcx,[rip]; mov r8d,1234; call
        let code = [
            0x31, 0xf6, 0xba, 226, 0, 0, 0, 0x48, 0x8d, 0x0d, 0, 0, 0, 0, 0x41, 0xb8, 0xd2, 0x04, 0, 0, 0xe8, 0, 0, 0,
            0, 0xba, 1, 0, 0, 0,
        ];
        assert_eq!(constants_of(&code, 7), [None, Some(0), Some(226), None, Some(1234), None, None, None]);
    }

    #[test]
    fn small_code_pushes_and_pops() {
        // push 117; pop rdx; lea rcx,[rip]; jmp
        let code = [0x6a, 117, 0x5a, 0x48, 0x8d, 0x0d, 0, 0, 0, 0, 0xeb, 0];
        assert_eq!(constants_of(&code, 3)[2], Some(117));
    }

    #[test]
    fn what_is_before_a_call_is_forgotten() {
        // mov edx,226; call; lea rcx,[rip]; call
        let code = [0xba, 226, 0, 0, 0, 0xe8, 0, 0, 0, 0, 0x48, 0x8d, 0x0d, 0, 0, 0, 0, 0xe8, 0, 0, 0, 0];
        assert_eq!(constants_of(&code, 10), [None; 8]);
    }
}
