//! Go's crypto/tls: three functions by name, from the table that Go's runtime needs.
//!
//! Go moves a goroutine's stack while it runs, which a return probe does not survive: the places of a function's `ret`
//! instructions are probed in its place. A function begins with a look at whether its stack has to grow, and starts again after
//! it has grown; the instruction behind that is reached once a call, with the registers as at the entry, and is mostly a `push`,
//! which is cheap to probe.

use super::cookie::{Library, cookie, count, op};
use super::image::{Image, Machine};
use super::pclntab::{self, Found, Range, Table};
use super::{Site, Stack, arm64, entry, moduledata};
use iced_x86::{Decoder, DecoderOptions, FlowControl, Instruction, Mnemonic, OpKind, Register};

const METHOD: &str = "Go's function table";
const READ: &str = "crypto/tls.(*Conn).Read";
const WRITE: &str = "crypto/tls.(*Conn).Write";
const CLOSE: &str = "crypto/tls.(*Conn).Close";
const NAMES: &[&str] = &[READ, WRITE, CLOSE];
/// Operations at the entry and at each return, and what the latter is called.
const KINDS: [(u64, Option<(u64, &str)>); 3] = [
    (op::GO_READ, Some((op::GO_READ_RETURN, "crypto/tls.(*Conn).Read returns"))),
    (op::GO_WRITE, Some((op::GO_WRITE_RETURN, "crypto/tls.(*Conn).Write returns"))),
    (op::GO_CLOSE, None),
];
/// A function is not longer than this; `Write` has two kilobytes.
const LONGEST: u64 = 1 << 16;
/// How far into a function the look at its stack is looked for, in instructions.
const PROLOGUE: usize = 10;

/// The stack, if the file is a Go program that has crypto/tls; `anchors` are where the table's first bytes were found.
pub(super) fn find(image: &Image<'_>, anchors: &[u64]) -> Option<Stack> {
    pclntab::places(image, anchors).into_iter().find_map(|place| match Table::read(image, place)? {
        Found::Table(table) => stack(image, &table),
        Found::Old(version) => old(image, version),
    })
}

fn stack(image: &Image<'_>, table: &Table) -> Option<Stack> {
    let mut stack = Stack::new(Library::Go, METHOD);
    let Some(functions) = table.functions(image, NAMES) else {
        stack.why.push(format!("the function table at {:#x} is damaged", table.address));
        return Some(stack);
    };
    if functions.is_empty() {
        return None;
    }
    // All of them have to begin as Go's functions do, or the start of the code is another.
    let located = moduledata::texts(image, table).find_map(|(text, how)| {
        Some((how, functions.iter().map(|found| locate(image, text, *found)).collect::<Option<Vec<_>>>()?))
    });
    let Some((how, functions)) = located else {
        stack
            .why
            .push(format!("functions at {:#x} from the start of the code, which was not found", functions[0].1.start));
        return Some(stack);
    };
    stack.why.push(format!("function table at {:#x}; the code's start is known from {how}", table.address));
    for (index, name) in NAMES.iter().enumerate() {
        let found: Vec<&Function> = functions.iter().filter(|function| function.name == index).collect();
        match found[..] {
            [only] => only.add(image, &mut stack),
            _ => stack.why.push(format!("{name}: {} functions have this name", found.len())),
        }
    }
    Some(stack)
}

/// A table that is too old matters only where there is something to see.
fn old(image: &Image<'_>, version: &str) -> Option<Stack> {
    let names = super::search::within(image, &image.ranges(), &[READ.as_bytes()]).ok()?;
    (!names.first()?.is_empty()).then_some(())?;
    let mut stack = Stack::new(Library::Go, METHOD);
    stack.why.push(format!("Go {version} is not supported: it passes arguments in other ways than Go 1.18 and later"));
    Some(stack)
}

/// A function with its code.
struct Function {
    /// Index of the name.
    name: usize,
    start: u64,
    code: Vec<u8>,
    /// Where the entry is probed.
    entry: u64,
}

/// A function, if it begins as Go's functions do where it ought to be.
fn locate(image: &Image<'_>, text: u64, (name, range): (usize, Range)) -> Option<Function> {
    let start = text.checked_add(range.start)?;
    let size = range.end.checked_sub(range.start).filter(|size| *size <= LONGEST)?;
    let code = image.at(start, size).filter(|code| code.len() as u64 == size)?;
    let entry = match image.machine {
        Machine::X86_64 => after_check_x86(&code, start)?,
        Machine::Aarch64 => after_check_arm64(&code, start)?,
    };
    Some(Function { name, start, code, entry })
}

impl Function {
    fn add(&self, image: &Image<'_>, stack: &mut Stack) {
        let (name, (op, at_return)) = (NAMES[self.name], KINDS[self.name]);
        let returns = match image.machine {
            Machine::X86_64 => returns_x86(&self.code, self.start),
            Machine::Aarch64 => returns_arm64(&self.code, self.start),
        };
        let Some(entry) = image.offset(self.entry) else { return };
        let cost = entry::cost(image, self.entry);
        let Some((return_op, return_name)) = at_return else {
            stack.why.push(format!("{name} at {:#x}, probed at {:#x}: {cost}", self.start, self.entry));
            return stack.sites.push(Site::new(entry, cookie(Library::Go, op, count::RETURNED), name));
        };
        // An entry whose return is never seen says nothing.
        if returns.is_empty() {
            return stack.why.push(format!("{name} at {:#x}: never returns", self.start));
        }
        let (start, entry_at, places) = (self.start, self.entry, returns.len());
        stack.why.push(format!("{name} at {start:#x}, probed at {entry_at:#x}: {cost}; returns in {places} places"));
        stack.sites.push(Site::new(entry, cookie(Library::Go, op, count::RETURNED), name));
        let returns = returns.into_iter().filter_map(|at| image.offset(at));
        let cookie = cookie(Library::Go, return_op, count::RETURNED);
        stack.sites.extend(returns.map(|offset| Site::new(offset, cookie, return_name)));
    }
}

/// The instruction after the comparison of the stack's end with the goroutine's limit (`[r14+16]`) and the jump to where it grows.
fn after_check_x86(code: &[u8], start: u64) -> Option<u64> {
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
fn after_check_arm64(code: &[u8], start: u64) -> Option<u64> {
    let mut words = (0..).zip(arm64::words(code).take(PROLOGUE));
    (words.next()?.1 == 0xf940_0b90).then_some(())?;
    let (index, _) = words.find(|(_, word)| word & 0xff00_001f == 0x5400_0009)?;
    Some(start + (index + 1) * 4)
}

fn returns_x86(code: &[u8], start: u64) -> Vec<u64> {
    let returns = |step: &Instruction| step.mnemonic() == Mnemonic::Ret;
    Decoder::with_ip(64, code, start, DecoderOptions::NONE).iter().filter(returns).map(|step| step.ip()).collect()
}

fn returns_arm64(code: &[u8], start: u64) -> Vec<u64> {
    (0..)
        .zip(arm64::words(code))
        .filter(|(_, word)| *word == arm64::RET)
        .map(|(index, _): (u64, _)| start + index * 4)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::{Binary, fake, resolve};
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

    /// How a made-up program says where its code starts.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    enum Says {
        Header,
        Pointers,
        Relocations,
        Nothing,
    }

    const CODE: u64 = 0x40;
    const TABLE: u64 = 0x1000;
    const FUNCTIONS: u64 = 0x230;
    const MODULE: u64 = 0x3000;
    const RELOCATIONS: u64 = 0x4000;
    const DYNAMIC: u64 = 0x5000;

    /// A program with functions of these names, 0x100 bytes each.
    fn program(magic: u32, says: Says, names: &[&str]) -> Vec<u8> {
        let mut content = vec![0; 0x6000];
        let mut put = |at: u64, bytes: &[u8]| content[at as usize..at as usize + bytes.len()].copy_from_slice(bytes);
        let text = fake::BASE + CODE;
        put(TABLE, &magic.to_le_bytes());
        put(TABLE + 6, &[1, 8]);
        let header = if says == Says::Header { text } else { 0 };
        let words = [names.len() as u64, 0, header, 72, 0x200, 0x210, 0x220, FUNCTIONS];
        (1..).zip(words).for_each(|(index, word): (u64, _)| put(TABLE + index * 8, &word.to_le_bytes()));
        let mut name_at = 1;
        for (index, name) in (0..).zip(names) {
            let (start, about) = (index * 0x100, 0x100 + index * 0x20);
            put(CODE + start, SMALL);
            put(TABLE + 72 + name_at, name.as_bytes());
            let fields = |a: u64, b: u64| [(a as u32).to_le_bytes(), (b as u32).to_le_bytes()].concat();
            put(TABLE + FUNCTIONS + index * 8, &fields(start, about));
            put(TABLE + FUNCTIONS + about, &fields(start, name_at));
            name_at += name.len() as u64 + 2;
        }
        let end = names.len() as u64 * 0x100;
        put(TABLE + FUNCTIONS + names.len() as u64 * 8, &(end as u32).to_le_bytes());
        let pointers = [(0, fake::BASE + TABLE), (160, text), (168, text + end), (176, text)];
        for (index, (at, to)) in (0..).zip(pointers) {
            let relocation =
                [fake::BASE + MODULE + at, object::elf::R_X86_64_RELATIVE.into(), to].map(u64::to_le_bytes);
            match says {
                Says::Pointers => put(MODULE + at, &to.to_le_bytes()),
                Says::Relocations => put(RELOCATIONS + index * 24, &relocation.concat()),
                Says::Header | Says::Nothing => {}
            }
        }
        let entries = [object::elf::DT_RELA.into(), fake::BASE + RELOCATIONS, object::elf::DT_RELASZ.into(), 96];
        (0..).zip(entries).for_each(|(index, word): (u64, u64)| put(DYNAMIC + index * 8, &word.to_le_bytes()));
        content
    }

    fn resolved(content: &[u8]) -> Binary {
        let dynamic = (object::elf::PT_DYNAMIC, fake::BASE + DYNAMIC, 64);
        resolve(&fake::file(object::elf::EM_X86_64, content, &[dynamic])).unwrap()
    }

    fn offsets(binary: &Binary) -> Vec<(u64, u64)> {
        binary
            .sites()
            .map(|site| (site.offset - fake::OFFSET - CODE, super::super::cookie::op_of(site.cookie)))
            .collect()
    }

    const V1_18: u32 = 0xffff_fff0;
    const V1_20: u32 = 0xffff_fff1;

    #[test]
    fn functions_are_found_wherever_the_start_of_the_code_is_said() {
        let names = ["runtime.main", READ, "crypto/tls.(*Conn).Readable", WRITE, CLOSE];
        for (magic, says) in
            [(V1_18, Says::Header), (V1_20, Says::Header), (V1_20, Says::Pointers), (V1_20, Says::Relocations)]
        {
            let binary = resolved(&program(magic, says, &names));
            let expected = [
                (0x106, op::GO_READ),
                (0x109, op::GO_READ_RETURN),
                (0x306, op::GO_WRITE),
                (0x309, op::GO_WRITE_RETURN),
                (0x406, op::GO_CLOSE),
            ];
            assert_eq!(offsets(&binary), expected, "{says:?} {:?}", binary.stacks);
        }
    }

    #[test]
    fn without_the_start_of_the_code_there_are_no_sites() {
        let binary = resolved(&program(V1_20, Says::Nothing, &[READ, WRITE]));
        assert_eq!(offsets(&binary), []);
        assert!(binary.stacks[0].why[0].contains("start of the code, which was not found"), "{:?}", binary.stacks);
    }

    #[test]
    fn a_program_without_tls_has_no_stack() {
        assert_eq!(resolved(&program(V1_20, Says::Header, &["main.main", "net.(*conn).Read"])).stacks, []);
    }

    #[test]
    fn two_functions_of_one_name_are_no_answer() {
        let binary = resolved(&program(V1_20, Says::Header, &[READ, WRITE, WRITE]));
        assert_eq!(offsets(&binary), [(0x6, op::GO_READ), (0x9, op::GO_READ_RETURN)]);
    }

    #[test]
    fn an_old_table_is_named_where_there_is_tls() {
        let binary = resolved(&program(0xffff_fffa, Says::Header, &[READ]));
        assert_eq!(offsets(&binary), []);
        assert!(binary.stacks[0].why[0].contains("Go 1.16 or 1.17 is not supported"), "{:?}", binary.stacks);
        assert_eq!(resolved(&program(0xffff_fffa, Says::Header, &["main.main"])).stacks, []);
    }

    #[test]
    fn a_damaged_table_has_no_sites() {
        let whole = program(V1_20, Says::Header, &["runtime.main", READ, WRITE]);
        let sites_with = |at: u64, value: u64| {
            let mut content = whole.clone();
            content[at as usize..at as usize + 8].copy_from_slice(&value.to_le_bytes());
            resolved(&content).sites().count()
        };
        assert_eq!(sites_with(TABLE + 8, 3), 4, "as it was");
        // Number of functions; start of the code; places of names and functions; an entry.
        assert_eq!([0, 1 << 20, u64::MAX].map(|count| sites_with(TABLE + 8, count)), [0; 3]);
        assert_eq!([1, u64::MAX].map(|text| sites_with(TABLE + 24, text)), [0; 2]);
        assert_eq!([0, u64::MAX, 1 << 40].map(|names| sites_with(TABLE + 32, names)), [0; 3]);
        assert_eq!([0, u64::MAX, 1 << 40].map(|functions| sites_with(TABLE + 64, functions)), [0; 3]);
        assert_eq!(sites_with(TABLE + FUNCTIONS + 8, u64::MAX), 0);
    }
}
