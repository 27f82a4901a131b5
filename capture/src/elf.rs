//! Finds TLS functions in ELF files, by symbol. Only the parts of the file that are needed are read: an executable may have
//! hundreds of megabytes.

use agentsight_bpf::function;
use object::elf::{FileHeader64, ProgramHeader64, SHN_UNDEF, STT_FUNC, Sym64};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, SectionTable, Sym, VersionTable};
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
    let file = Elf { endian, data, segments, sections };
    let mut functions = match file.exported()? {
        Some(functions) => functions,
        None => file.named(object::elf::SHT_DYNSYM)?,
    };
    if functions.is_empty() {
        // What a program keeps to itself is in the larger table, where it was not stripped.
        functions = file.named(object::elf::SHT_SYMTAB)?;
    }
    functions.sort();
    functions.dedup_by_key(|function| function.offset);
    Ok(Binary { build_id: file.build_id(), functions })
}

/// The parts of a file that are looked at.
struct Elf<'data, R: ReadRef<'data>> {
    endian: Endianness,
    data: R,
    segments: &'data [ProgramHeader64<Endianness>],
    sections: SectionTable<'data, FileHeader64<Endianness>, R>,
}

impl<'data, R: ReadRef<'data>> Elf<'data, R> {
    /// Looks exported functions up in the hash table of the dynamic linker; `None` if there is none.
    ///
    /// An executable may have a hundred thousand names, and attaching is a race with it: here only those that are compared
    /// are read.
    fn exported(&self) -> object::read::Result<Option<Vec<Function>>> {
        let usable = |header: &object::elf::GnuHashHeader<Endianness>| {
            // The look-up divides by these and shifts by that; a damaged file must not end the capturer.
            let count = |field: &object::U32<Endianness>| field.get(self.endian);
            count(&header.bucket_count) > 0 && count(&header.bloom_count) > 0 && count(&header.bloom_shift) < 32
        };
        if !self.sections.gnu_hash_header(self.endian, self.data)?.is_some_and(usable) {
            return Ok(None);
        }
        // A program that exports nothing has a table that is cut short.
        let Ok(Some((table, _))) = self.sections.gnu_hash(self.endian, self.data) else { return Ok(None) };
        let symbols = self.sections.symbols(self.endian, self.data, object::elf::SHT_DYNSYM)?;
        let versions = VersionTable::default();
        let found = FUNCTIONS.iter().filter_map(|(name, cookie)| {
            let hash = object::elf::gnu_hash(name.as_bytes());
            let (_, symbol) = table.find(self.endian, name.as_bytes(), hash, None, &symbols, &versions)?;
            self.function(symbol, name, *cookie)
        });
        Ok(Some(found.collect()))
    }

    /// Looks at every name of a symbol table.
    fn named(&self, kind: u32) -> object::read::Result<Vec<Function>> {
        let symbols = self.sections.symbols(self.endian, self.data, kind)?;
        if symbols.is_empty() {
            return Ok(Vec::new());
        }
        // In one piece: reading name by name would take seconds.
        let names = self.sections.section(symbols.string_section())?.data(self.endian, self.data)?;
        let known = symbols.iter().filter_map(|symbol| Some((symbol, known(names, symbol.st_name(self.endian))?)));
        Ok(known.filter_map(|(symbol, (name, cookie))| self.function(symbol, name, *cookie)).collect())
    }

    /// A symbol as a place to probe, if it is a function of this file.
    fn function(&self, symbol: &Sym64<Endianness>, name: &'static str, cookie: u64) -> Option<Function> {
        let here = symbol.st_type() == STT_FUNC && symbol.st_shndx(self.endian) != SHN_UNDEF;
        let offset = here.then(|| self.file_offset(symbol.st_value(self.endian)))??;
        Some(Function { offset, cookie, name })
    }

    fn file_offset(&self, address: u64) -> Option<u64> {
        let mut loaded = self.segments.iter().filter(|segment| segment.p_type(self.endian) == object::elf::PT_LOAD);
        loaded.find_map(|segment| {
            let within = address.checked_sub(segment.p_vaddr(self.endian))?;
            (within < segment.p_filesz(self.endian)).then(|| segment.p_offset(self.endian).checked_add(within))?
        })
    }

    fn build_id(&self) -> String {
        for segment in self.segments {
            let Ok(Some(mut notes)) = segment.notes(self.endian, self.data) else { continue };
            while let Ok(Some(note)) = notes.next() {
                if note.name() == object::elf::ELF_NOTE_GNU && note.n_type(self.endian) == object::elf::NT_GNU_BUILD_ID
                {
                    return note.desc().iter().map(|byte| format!("{byte:02x}")).collect();
                }
            }
        }
        String::new()
    }
}

/// The function whose name starts at an offset of a string table.
fn known(names: &[u8], at: u32) -> Option<&'static (&'static str, u64)> {
    let rest = names.get(at as usize..).filter(|rest| rest.starts_with(b"SSL_"))?;
    let end = rest.iter().position(|byte| *byte == 0)?;
    FUNCTIONS.iter().find(|(name, _)| name.as_bytes() == &rest[..end])
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

    #[test]
    fn the_hash_table_and_the_list_of_names_agree() {
        let Some(path) = crate::libraries::installed().into_iter().next() else {
            panic!("this test needs libssl: scripts/setup installs it");
        };
        let data = &ReadCache::new(File::open(path).unwrap());
        let header = FileHeader64::<Endianness>::parse(data).unwrap();
        let endian = header.endian().unwrap();
        let segments = header.program_headers(endian, data).unwrap();
        let file = Elf { endian, data, segments, sections: header.sections(endian, data).unwrap() };
        let (mut hashed, mut listed) =
            (file.exported().unwrap().unwrap(), file.named(object::elf::SHT_DYNSYM).unwrap());
        hashed.sort();
        listed.sort();
        assert_eq!(hashed, listed);
    }
}
