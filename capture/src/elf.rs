//! Finds TLS functions in ELF files, by symbol. Only the parts of the file that are needed are read: an executable may have
//! hundreds of megabytes.

use agentsight_bpf::function;
use object::elf::{FileHeader64, SHN_UNDEF, STT_FUNC};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, Sym};
use object::{Endianness, ReadCache, ReadRef};
use std::fs::File;

/// A function to probe.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Function {
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// What the programs take it for: one of [`agentsight_bpf::function`].
    pub cookie: u64,
    pub name: &'static str,
}

/// What was found in a binary.
#[derive(Clone, Debug, Default)]
pub(crate) struct Binary {
    /// GNU build id, hexadecimal; empty if there is none.
    pub build_id: String,
    /// By offset; each offset once.
    pub functions: Vec<Function>,
}

const FUNCTIONS: &[(&str, u64)] = &[
    ("SSL_read", function::SSL_READ),
    ("SSL_write", function::SSL_WRITE),
    ("SSL_read_ex", function::SSL_READ_EX),
    ("SSL_write_ex", function::SSL_WRITE_EX),
    ("SSL_free", function::SSL_FREE),
    ("SSL_clear", function::SSL_FREE),
];

/// Reads a 64-bit ELF file.
///
/// # Errors
/// When it is not one, or is damaged.
pub(crate) fn read(file: File) -> Result<Binary, object::read::Error> {
    let data = &ReadCache::new(file);
    let header = FileHeader64::<Endianness>::parse(data)?;
    let endian = header.endian()?;
    let segments = header.program_headers(endian, data)?;
    let sections = header.sections(endian, data)?;
    let mut functions = Vec::new();
    // Exported functions are in .dynsym; .symtab, where it was not stripped, is the larger table.
    for kind in [object::elf::SHT_DYNSYM, object::elf::SHT_SYMTAB] {
        let symbols = sections.symbols(endian, data, kind)?;
        if symbols.is_empty() {
            continue;
        }
        // The names are read at once: an executable has a hundred thousand of them, and attaching is a race with it.
        let names = sections.section(symbols.string_section())?.data(endian, data)?;
        for symbol in symbols.iter().filter(|s| s.st_type() == STT_FUNC && s.st_shndx(endian) != SHN_UNDEF) {
            let Some(&(name, cookie)) = known(names, symbol.st_name(endian)) else { continue };
            if let Some(offset) = file_offset(endian, segments, symbol.st_value(endian)) {
                functions.push(Function { offset, cookie, name });
            }
        }
        if !functions.is_empty() {
            break;
        }
    }
    functions.sort();
    functions.dedup_by_key(|function| function.offset);
    Ok(Binary { build_id: build_id(endian, data, segments), functions })
}

/// The function whose name starts at an offset of a string table.
fn known(names: &[u8], at: u32) -> Option<&'static (&'static str, u64)> {
    let rest = names.get(at as usize..).filter(|rest| rest.starts_with(b"SSL_"))?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    FUNCTIONS.iter().find(|(name, _)| name.as_bytes() == &rest[..end])
}

fn file_offset(endian: Endianness, segments: &[object::elf::ProgramHeader64<Endianness>], address: u64) -> Option<u64> {
    segments.iter().filter(|segment| segment.p_type(endian) == object::elf::PT_LOAD).find_map(|segment| {
        let within = address.checked_sub(segment.p_vaddr(endian))?;
        (within < segment.p_filesz(endian)).then(|| segment.p_offset(endian) + within)
    })
}

fn build_id<'data, R: ReadRef<'data>>(
    endian: Endianness,
    data: R,
    segments: &[object::elf::ProgramHeader64<Endianness>],
) -> String {
    for segment in segments {
        let Ok(Some(mut notes)) = segment.notes(endian, data) else { continue };
        while let Ok(Some(note)) = notes.next() {
            if note.name() == object::elf::ELF_NOTE_GNU && note.n_type(endian) == object::elf::NT_GNU_BUILD_ID {
                return note.desc().iter().map(|byte| format!("{byte:02x}")).collect();
            }
        }
    }
    String::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_without_tls_has_no_functions() {
        let binary = read(File::open("/proc/self/exe").unwrap()).unwrap();
        assert_eq!(binary.functions, []);
    }

    #[test]
    fn what_is_no_elf_file_is_an_error() {
        assert!(read(File::open("/proc/self/status").unwrap()).is_err());
    }

    #[test]
    fn libssl_has_the_six_functions_each_at_its_own_place() {
        let Some(path) = crate::libraries::installed().into_iter().next() else {
            panic!("this test needs libssl: scripts/setup installs it");
        };
        let binary = read(File::open(path).unwrap()).unwrap();
        let mut names: Vec<_> = binary.functions.iter().map(|function| function.name).collect();
        names.sort();
        assert_eq!(names, ["SSL_clear", "SSL_free", "SSL_read", "SSL_read_ex", "SSL_write", "SSL_write_ex"]);
        assert!(!binary.build_id.is_empty());
    }
}
