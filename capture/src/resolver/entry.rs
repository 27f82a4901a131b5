//! Where in a function a probe is cheap.
//!
//! The kernel emulates a probed `push` or 5-byte `nop` and single-steps most other instructions, at fifteen times the cost.
//! After `endbr64` the stack and the registers are still as at the entry, so one step into the function is as good as its
//! first byte. OpenSSL's exported functions begin with an expensive instruction, but call one internal function that begins
//! with a cheap one; it is taken only if both exported functions show how they pass their arguments on.

use super::arm64;
use super::cookie::count;
use super::image::{Image, Machine};
use iced_x86::{Code, Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

const ENDBR64: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];
const NOP5: &[u8] = &[0x0f, 0x1f, 0x44, 0x00, 0x00];
/// How far an exported function is read for its first call: longer than those of OpenSSL that only pass on.
const LONGEST_PREFIX: u64 = 160;

/// Whether the kernel emulates the instruction that these bytes begin with.
pub(super) fn is_cheap(code: &[u8]) -> bool {
    match code {
        [0x50..=0x57, ..] | [0x41, 0x50..=0x57, ..] => true,
        _ => code.starts_with(NOP5),
    }
}

/// Where to put a probe that has to see a function's arguments.
pub(super) fn cheapest(image: &Image<'_>, function: u64) -> u64 {
    let code = image.at(function, 12).filter(|_| image.machine == Machine::X86_64).unwrap_or_default();
    match code.strip_prefix(ENDBR64) {
        Some(rest) if is_cheap(rest) => function + ENDBR64.len() as u64,
        _ => function,
    }
}

/// What a probe at an address costs, in words.
pub(super) fn cost(image: &Image<'_>, at: u64) -> &'static str {
    match (image.machine, image.at(at, 8)) {
        (Machine::X86_64, Some(code)) if is_cheap(&code) => "cheap (the kernel emulates the instruction)",
        (Machine::X86_64, _) => "dear (the kernel single-steps the instruction)",
        (Machine::Aarch64, _) => "its cost on arm64 was not measured",
    }
}

/// The function that both `SSL_x(ssl, buf, num)` and `SSL_x_ex(ssl, buf, num, *count)` pass their arguments to, and which of its
/// arguments points to the count; or why there is none to be sure of.
pub(super) fn internal(image: &Image<'_>, plain: u64, ex: u64) -> Result<(u64, u64), String> {
    if image.machine != Machine::X86_64 {
        return Err("only looked for on x86-64".to_owned());
    }
    let (target, here) = first_call(image, plain)?;
    let (other, there) = first_call(image, ex)?;
    if target != other {
        return Err(format!("the two call different functions, {target:#x} and {other:#x}"));
    }
    // `SSL_x` keeps the count in a variable of its own; `SSL_x_ex` passes the caller's pointer on.
    let count = match (here.count(Value::Stack)?, there.count(Value::Argument(3))?) {
        (one, other) if one == other => one,
        _ => return Err("the two pass the count in different arguments".to_owned()),
    };
    let at = cheapest(image, target);
    match image.at(at, 8) {
        Some(code) if is_cheap(&code) => Ok((target, count)),
        _ => Err(format!("the function at {target:#x} begins with an expensive instruction as well")),
    }
}

/// Which argument of the function that another calls first of all points to a count that the other keeps for itself, as
/// `SSL_write(ssl, buf, num)` does.
pub(super) fn count_of(image: &Image<'_>, caller: u64, function: u64) -> Option<u64> {
    match image.machine {
        Machine::X86_64 => {
            let (target, registers) = first_call(image, caller).ok()?;
            (target == function).then(|| registers.count(Value::Stack).ok()).flatten()
        }
        Machine::Aarch64 => {
            let piece = image.around(caller, 0, LONGEST_PREFIX)?;
            let (at, target) = arm64::calls(&piece).next()?;
            let before = piece.bytes.get(..(at - caller) as usize)?;
            (target == function).then(|| arm64::count_of(before)).flatten()
        }
    }
}

/// What is known of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    /// The caller's argument of this number, from 0.
    Argument(u8),
    /// An address in the function's own frame.
    Stack,
    Other,
}

/// The registers of arguments, in order.
const ARGUMENTS: [Register; 6] =
    [Register::RDI, Register::RSI, Register::RDX, Register::RCX, Register::R8, Register::R9];

/// What is known of the 16 registers.
struct Registers([Value; 16]);

impl Registers {
    fn at_entry() -> Self {
        let mut registers = Registers([Value::Other; 16]);
        for (number, register) in (0..).zip(ARGUMENTS) {
            registers.set(register, Value::Argument(number));
        }
        registers.set(Register::RSP, Value::Stack);
        registers
    }

    fn get(&self, register: Register) -> Value {
        let full = register.full_register();
        if full.is_gpr64() { self.0.get(full.number()).copied().unwrap_or(Value::Other) } else { Value::Other }
    }

    fn set(&mut self, register: Register, value: Value) {
        let full = register.full_register();
        if let Some(known) = self.0.get_mut(full.number()).filter(|_| full.is_gpr64()) {
            *known = value;
        }
    }

    fn step(&mut self, instruction: &Instruction) {
        let is_register = instruction.op_count() > 0 && instruction.op0_kind() == OpKind::Register;
        let register = instruction.op0_register();
        let value = match instruction.mnemonic() {
            Mnemonic::Mov if instruction.op1_kind() == OpKind::Register && register.is_gpr64() => {
                self.get(instruction.op1_register())
            }
            Mnemonic::Lea if instruction.memory_index() == Register::None && register.is_gpr64() => {
                match self.get(instruction.memory_base()) {
                    Value::Stack => Value::Stack,
                    _ => Value::Other,
                }
            }
            // A length of 32 bits is widened before it is passed on.
            Mnemonic::Movsxd if instruction.op1_kind() == OpKind::Register => self.get(instruction.op1_register()),
            Mnemonic::Sub | Mnemonic::Add | Mnemonic::And if register == Register::RSP => Value::Stack,
            Mnemonic::Cmp | Mnemonic::Test | Mnemonic::Push | Mnemonic::Bt => return,
            _ => Value::Other,
        };
        if is_register {
            self.set(register, value);
        }
    }

    /// Whether the first three arguments are where they were at the entry.
    fn keep_arguments(&self) -> bool {
        (0..3).all(|number| self.get(ARGUMENTS[number]) == Value::Argument(number as u8))
    }

    /// Which argument holds the pointer to the count, if the others are as they must be.
    fn count(&self, pointer: Value) -> Result<u64, String> {
        let argument = |number: usize| self.get(ARGUMENTS[number]);
        if !self.keep_arguments() {
            return Err("the first call does not pass the arguments on".to_owned());
        }
        match (argument(3) == pointer, argument(4) == pointer) {
            (true, false) => Ok(count::ARGUMENT_4),
            (false, true) => Ok(count::ARGUMENT_5),
            _ => Err("the first call passes no pointer to a count".to_owned()),
        }
    }
}

/// The target of the first direct call of a function, and the registers at it.
fn first_call(image: &Image<'_>, function: u64) -> Result<(u64, Registers), String> {
    let code = image.at(function, LONGEST_PREFIX).unwrap_or_default();
    let mut registers = Registers::at_entry();
    for instruction in Decoder::with_ip(64, &code, function, DecoderOptions::NONE) {
        match instruction.flow_control() {
            FlowControl::Call if instruction.code() == Code::Call_rel32_64 => {
                return Ok((instruction.near_branch_target(), registers));
            }
            FlowControl::Next | FlowControl::ConditionalBranch => registers.step(&instruction),
            _ => break,
        }
    }
    Err(format!("the function at {function:#x} calls nothing directly before its first jump"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn registers(code: &[u8]) -> Registers {
        let mut registers = Registers::at_entry();
        Decoder::with_ip(64, code, 0x1000, DecoderOptions::NONE).iter().for_each(|step| registers.step(&step));
        registers
    }

    #[test]
    fn a_push_and_a_long_nop_are_cheap() {
        assert!(is_cheap(&[0x55]) && is_cheap(&[0x41, 0x57]) && is_cheap(NOP5));
        assert!(!is_cheap(ENDBR64) && !is_cheap(&[0x48, 0x83, 0xec, 0x18]) && !is_cheap(&[]));
    }

    #[test]
    fn the_count_is_behind_argument_4_in_openssl_3_0() {
        // sub rsp,0x18; test edx,edx; mov rcx,rsp; movsxd rdx,edx
        let plain = registers(&[0x48, 0x83, 0xec, 0x18, 0x85, 0xd2, 0x48, 0x89, 0xe1, 0x48, 0x63, 0xd2]);
        assert_eq!(plain.count(Value::Stack), Ok(4));
        // sub rsp,8
        assert_eq!(registers(&[0x48, 0x83, 0xec, 0x08]).count(Value::Argument(3)), Ok(4));
    }

    #[test]
    fn the_count_is_behind_argument_5_since_openssl_3_3() {
        // lea r8,[rsp+4]; xor ecx,ecx; movsxd rdx,edx
        let plain = registers(&[0x4c, 0x8d, 0x44, 0x24, 0x04, 0x31, 0xc9, 0x48, 0x63, 0xd2]);
        assert_eq!(plain.count(Value::Stack), Ok(5));
        // mov r8,rcx; xor ecx,ecx
        assert_eq!(registers(&[0x49, 0x89, 0xc8, 0x31, 0xc9]).count(Value::Argument(3)), Ok(5));
    }

    #[test]
    fn a_call_that_passes_something_else_is_no_evidence() {
        // mov rdi,rax; mov rcx,rsp
        assert!(registers(&[0x48, 0x89, 0xc7, 0x48, 0x89, 0xe1]).count(Value::Stack).is_err());
        // nothing points to a count
        assert!(registers(&[0x31, 0xc9]).count(Value::Stack).is_err());
    }
}
