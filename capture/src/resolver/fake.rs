//! Small ELF files for tests: one segment, no sections.

use object::elf;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// Where the segment is loaded, and where it is in the file.
pub(super) const BASE: u64 = 0x40_1000;
pub(super) const OFFSET: u64 = 0x1000;
/// Where functions that report errors are, from the start of the segment: the first, and from each to the next.
const FIRST: usize = 0x1000;
const STEP: usize = 0x100;

/// A file with these bytes as its segment, which is executable, and with other segments (kind, address, size) within it.
pub(super) fn file(machine: u16, content: &[u8], within: &[(u32, u64, u64)]) -> File {
    let all = (elf::PT_LOAD, elf::PF_R | elf::PF_X, BASE, content.len() as u64);
    let within = within.iter().map(|(kind, address, size)| (*kind, elf::PF_R, *address, *size));
    with_segments(machine, content, &std::iter::once(all).chain(within).collect::<Vec<_>>())
}

/// A file with these bytes, of which so many are code, and the rest data.
pub(super) fn data(machine: u16, content: &[u8], code: usize) -> File {
    let (code, size) = (code as u64, content.len() as u64);
    let segments = [
        (elf::PT_LOAD, elf::PF_R | elf::PF_X, BASE, code),
        (elf::PT_LOAD, elf::PF_R | elf::PF_W, BASE + code, size - code),
    ];
    with_segments(machine, content, &segments)
}

/// A file with segments: kind, flags, address, size.
fn with_segments(machine: u16, content: &[u8], segments: &[(u32, u32, u64, u64)]) -> File {
    let mut head = vec![0x7f, b'E', b'L', b'F', elf::ELFCLASS64, elf::ELFDATA2LSB, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut put = |value: u64, size: usize| head.extend_from_slice(&value.to_le_bytes()[..size]);
    // Type, machine, version; entry, program headers, sections; flags, sizes and numbers.
    let fields = [(elf::ET_EXEC.into(), 2), (machine.into(), 2), (1, 4), (BASE, 8), (64, 8), (0, 8), (0, 4), (64, 2)];
    fields.into_iter().for_each(|(value, size)| put(value, size));
    [56, segments.len() as u64, 64, 0, 0].into_iter().for_each(|value| put(value, 2));
    for (kind, flags, address, size) in segments {
        put(u64::from(*kind), 4);
        put(u64::from(*flags), 4);
        [address - BASE + OFFSET, *address, *address, *size, *size, 0x1000].into_iter().for_each(|value| put(value, 8));
    }
    let file = tempfile::tempfile().unwrap();
    file.write_all_at(&head, 0).unwrap();
    file.write_all_at(content, OFFSET).unwrap();
    file
}

/// Offset in the file of a function of [`reporting`].
pub(super) fn function(index: usize) -> u64 {
    OFFSET + (FIRST + index * STEP) as u64
}

/// An x86-64 program with functions that report errors (reason, line) in a source file, and one that calls them all. `slot` is
/// the register, as machine code counts them, of each of reason, file and line.
pub(super) fn reporting(source: &[u8], functions: &[&[(u32, u32)]], slots: [u8; 3]) -> File {
    reporting_and(source, functions, slots, |_, _| Vec::new())
}

/// The same; what a function, given its index, does first of all is code for the place that `does` is told.
pub(super) fn reporting_and(
    source: &[u8],
    functions: &[&[(u32, u32)]],
    [reason_in, source_in, line_in]: [u8; 3],
    does: impl Fn(usize, u64) -> Vec<u8>,
) -> File {
    let mut content = vec![0x90; FIRST + (functions.len() + 1) * STEP];
    let name = content.len();
    content.extend([b"\0", source, b"\0\0\0\0\0\0\0\0"].concat());
    let distance = |from: usize, to: usize| (to as i32 - from as i32).to_le_bytes();
    let set = |register: u8, value: u32| {
        let high: &[u8] = if register < 8 { &[] } else { &[0x41] };
        [high, &[0xb8 + (register & 7)], &value.to_le_bytes()].concat()
    };
    let call = |from: usize, to: usize| [&[0xe8][..], &distance(from + 5, to)].concat();
    let error = FIRST + functions.len() * STEP;
    for (index, reports) in functions.iter().enumerate() {
        let start = FIRST + index * STEP;
        let mut code = vec![0x55, 0x48, 0x89, 0xe5];
        code.extend(does(index, OFFSET + (start + code.len()) as u64));
        for (reason, line) in *reports {
            code.extend(set(reason_in, *reason));
            // lea register,[rip+distance]
            let prefix = if source_in < 8 { 0x48 } else { 0x4c };
            let next = start + code.len() + 7;
            code.extend([&[prefix, 0x8d, 0x05 | (source_in & 7) << 3][..], &distance(next, name + 1)].concat());
            code.extend(set(line_in, *line));
            code.extend(call(start + code.len(), error));
        }
        code.extend([0x5d, 0xc3]);
        assert!(code.len() <= STEP, "too many reports for a function of a test");
        content[start..start + code.len()].copy_from_slice(&code);
        content.splice(index * 5..index * 5 + 5, call(index * 5, start));
    }
    file(elf::EM_X86_64, &content, &[])
}
