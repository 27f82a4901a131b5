//! Where a function of Go is probed.
//!
//! Go moves a goroutine's stack while it runs, which a return probe does not survive: the places of a function's `ret`
//! instructions are probed in its place. A function begins with a look at whether its stack has to grow, and starts again after
//! it has grown; the instruction behind that is reached once a call, with the registers as at the entry, and is mostly a `push`,
//! which is cheap to probe.

use super::arm64;
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

/// How far into a function the look at its stack is looked for, in instructions.
const PROLOGUE: usize = 10;

/// The instruction after the comparison of the stack's end with the goroutine's limit (`[r14+16]`) and the jump to where it grows.
pub(super) fn after_check_x86(code: &[u8], start: u64) -> Option<u64> {
    let mut compared = false;
    for step in Decoder::with_ip(64, code, start, DecoderOptions::NONE).iter().take(PROLOGUE) {
        if compared {
            return (step.flow_control() == FlowControl::ConditionalBranch).then(|| step.next_ip());
        }
        compared = step.mnemonic() == Mnemonic::Cmp && reads_limit(&step);
    }
    None
}

fn reads_limit(step: &Instruction) -> bool {
    step.op1_kind() == OpKind::Memory && step.memory_base() == Register::R14 && step.memory_displacement64() == 16
}

/// The same on arm64: `ldr x16, [x28, #16]` first, then a comparison, then `b.ls`.
pub(super) fn after_check_arm64(code: &[u8], start: u64) -> Option<u64> {
    let mut words = (0..).zip(arm64::words(code).take(PROLOGUE));
    (words.next()?.1 == 0xf940_0b90).then_some(())?;
    let (index, _) = words.find(|(_, word)| word & 0xff00_001f == 0x5400_0009)?;
    Some(start + (index + 1) * 4)
}

pub(super) fn returns_x86(code: &[u8], start: u64) -> Vec<u64> {
    let returns = |step: &Instruction| step.mnemonic() == Mnemonic::Ret;
    Decoder::with_ip(64, code, start, DecoderOptions::NONE).iter().filter(returns).map(|step| step.ip()).collect()
}

pub(super) fn returns_arm64(code: &[u8], start: u64) -> Vec<u64> {
    (0..)
        .zip(arm64::words(code))
        .filter(|(_, word)| *word == arm64::RET)
        .map(|(index, _): (u64, _)| start + index * 4)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// cmp rsp,[r14+0x10]; jbe +5; push rbp; nop; pop rbp; ret; int3
    const SMALL: &[u8] = &[0x49, 0x3b, 0x66, 0x10, 0x76, 0x05, 0x55, 0x90, 0x5d, 0xc3, 0xcc];

    #[test]
    fn the_entry_is_probed_after_the_look_at_the_stack() {
        assert_eq!(after_check_x86(SMALL, 0x1000), Some(0x1006));
        // lea r12,[rsp-0x98]; cmp r12,[r14+0x10]; jbe
        let large =
            [&[0x4c, 0x8d, 0xa4, 0x24, 0x68, 0xff, 0xff, 0xff, 0x4d, 0x3b, 0x66, 0x10][..], &SMALL[4..]].concat();
        assert_eq!(after_check_x86(&large, 0x1000), Some(0x100e));
    }

    #[test]
    fn what_begins_otherwise_is_no_function_of_go() {
        assert_eq!(after_check_x86(&SMALL[4..], 0x1000), None);
        assert_eq!(after_check_x86(&[0x49, 0x3b, 0x66, 0x18, 0x76, 0x05], 0x1000), None);
        assert_eq!(after_check_x86(&[], 0x1000), None);
        assert_eq!(after_check_arm64(&[0; 64], 0x1000), None);
    }

    #[test]
    fn the_look_at_the_stack_on_arm64_is_known_by_its_register() {
        // ldr x16,[x28,#16]; cmp sp,x16; b.ls +16; str x30,[sp,#-32]!; ret
        let words = [0xf940_0b90_u32, 0xeb30_63ff, 0x5400_0089, 0xf81e_0ffe, arm64::RET];
        let code: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        assert_eq!(after_check_arm64(&code, 0x1000), Some(0x100c));
        assert_eq!(returns_arm64(&code, 0x1000), [0x1010]);
    }

    #[test]
    fn a_byte_within_an_instruction_is_no_return() {
        // mov eax,0xc3; ret
        assert_eq!(returns_x86(&[0xb8, 0xc3, 0, 0, 0, 0xc3], 0x1000), [0x1005]);
    }
}
