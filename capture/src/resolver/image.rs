//! An ELF file as the resolver sees it: headers that are parsed, and ranges of bytes that are read when they are wanted.
//!
//! Nothing is mapped: a file that somebody cuts short under a mapping would end the capturer with a signal. Everything that
//! a file claims of itself is taken as a claim: sizes are bounded before memory is asked for.

use super::ResolveError;
use super::functions::Called;
use object::elf::{FileHeader64, ProgramHeader64, SectionHeader64};
use object::read::elf::{Dyn, FileHeader, ProgramHeader, SectionHeader, SectionTable};
use object::{Endianness, ReadCache, ReadRef};
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Files are looked through in windows of this size. Those of code overlap by what two instructions that belong together may
/// be apart.
const WINDOW: u64 = 1 << 20;
const OVERLAP: u64 = 64;
/// More threads than this would only wait for memory.
const MOST_THREADS: usize = 4;
/// Bytes that are looked through in the time that a thread takes to start, a few times over.
const WORTH_A_THREAD: u64 = 4 << 20;
/// More code than this in one file is not read.
const MOST_CODE: u64 = 1 << 30;
/// Tables that are read in one piece (symbols, names, unwind index) are smaller than this.
pub(super) const LARGEST_TABLE: u64 = 1 << 25;
/// Names of libraries: their length in bytes, their number in one file.
const LONGEST_NAME: u64 = 256;
const MOST_NAMES: usize = 1000;

pub(super) type Data<'data> = &'data ReadCache<&'data File>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machine {
    X86_64,
    Aarch64,
}

/// Bytes of the file at the address where they are loaded.
pub(super) struct Piece {
    pub address: u64,
    pub bytes: Vec<u8>,
}

impl Piece {
    /// The bytes from an address on.
    pub(super) fn from(&self, address: u64) -> Option<&[u8]> {
        self.bytes.get(usize::try_from(address.checked_sub(self.address)?).ok()?..)
    }
}

pub(super) struct Image<'data> {
    pub machine: Machine,
    pub endian: Endianness,
    pub data: Data<'data>,
    pub sections: SectionTable<'data, FileHeader64<Endianness>, Data<'data>>,
    /// Whether it is loaded at the addresses that it names, so that code may hold them.
    pub is_fixed: bool,
    /// What code calls, where a pass over all of it has found that out by the way.
    pub called: OnceLock<Called>,
    segments: &'data [ProgramHeader64<Endianness>],
    file: &'data File,
    length: u64,
}

impl<'data> Image<'data> {
    pub(super) fn parse(file: &'data File, data: Data<'data>) -> Result<Self, ResolveError> {
        let length = file.metadata()?.len();
        // Magic number and class (elf(5)).
        match data.read_bytes_at(0, 5) {
            Ok([0x7f, b'E', b'L', b'F', 2]) => {}
            Ok([0x7f, b'E', b'L', b'F', 1]) => return Err(ResolveError::Elf32),
            _ => return Err(ResolveError::NoElf),
        }
        let header = FileHeader64::<Endianness>::parse(data)?;
        let endian = header.endian()?;
        let machine = match (endian, header.e_machine(endian)) {
            (Endianness::Little, object::elf::EM_X86_64) => Machine::X86_64,
            (Endianness::Little, object::elf::EM_AARCH64) => Machine::Aarch64,
            (_, machine) => return Err(ResolveError::Machine { machine }),
        };
        let segments = header.program_headers(endian, data)?;
        // A file without a table of sections, or with a damaged one, can run: its segments say what is loaded.
        let sections = header.sections(endian, data).unwrap_or_default();
        let is_fixed = header.e_type(endian) != object::elf::ET_DYN;
        Ok(Image { machine, endian, data, sections, is_fixed, called: OnceLock::new(), segments, file, length })
    }

    /// Where the byte at an address is in the file.
    pub(super) fn offset(&self, address: u64) -> Option<u64> {
        let (_, from, _, offset) = self.holding(address)?;
        Some(offset + (address - from))
    }

    /// The loaded part that an address is in.
    fn holding(&self, address: u64) -> Option<(bool, u64, u64, u64)> {
        self.loaded().find(|(_, from, size, _)| address.checked_sub(*from).is_some_and(|within| within < *size))
    }

    /// Loaded parts: whether executable, address, size in the file, offset.
    fn loaded(&self) -> impl Iterator<Item = (bool, u64, u64, u64)> + '_ {
        let loaded = self.segments.iter().filter(|segment| segment.p_type(self.endian) == object::elf::PT_LOAD);
        loaded.filter_map(|segment| {
            let (address, offset) = (segment.p_vaddr(self.endian), segment.p_offset(self.endian));
            let size = segment.p_filesz(self.endian).min(self.length.checked_sub(offset)?);
            address.checked_add(size)?;
            offset.checked_add(size)?;
            let executable = segment.p_flags(self.endian) & object::elf::PF_X != 0;
            (size > 0).then_some((executable, address, size, offset))
        })
    }

    /// Ranges of the file that are loaded, as (address, offsets), each byte once.
    pub(super) fn ranges(&self) -> Vec<(u64, Range<u64>)> {
        let mut ranges: Vec<_> =
            self.loaded().map(|(_, address, size, offset)| (address, offset..offset.saturating_add(size))).collect();
        ranges.sort_by_key(|(_, range)| range.start);
        let mut end = 0;
        for (address, range) in &mut ranges {
            // A file may name the same bytes in a thousand segments; they are read once.
            let skip = end.max(range.start).min(range.end) - range.start;
            (*address, range.start) = (*address + skip, range.start + skip);
            end = end.max(range.end);
        }
        ranges.retain(|(_, range)| !range.is_empty());
        ranges
    }

    /// All executable bytes, to be looked at in windows that overlap by a few instructions.
    pub(super) fn code(&self) -> Result<Windows<'data>, ResolveError> {
        let parts: Vec<_> = self.loaded().filter(|(code, ..)| *code).collect();
        if parts.iter().map(|(_, _, size, _)| u128::from(*size)).sum::<u128>() > u128::from(MOST_CODE) {
            return Err(ResolveError::TooLarge { what: "code", limit: MOST_CODE });
        }
        let mut windows = Windows { file: self.file, windows: Vec::new() };
        for (_, address, size, offset) in parts {
            windows.add(address, offset..offset + size, OVERLAP);
        }
        Ok(windows)
    }

    /// The addresses that all executable bytes lie between.
    pub(super) fn span_of_code(&self) -> Option<Range<u64>> {
        let parts = || self.loaded().filter(|(code, ..)| *code);
        let start = parts().map(|(_, address, ..)| address).min()?;
        let end = parts().map(|(_, address, size, _)| address + size).max()?;
        Some(start..end)
    }

    /// Everything that is loaded and is no code; with `code`, the code and nothing else. Windows overlap by so many bytes.
    pub(super) fn loaded_bytes(&self, code: bool, overlap: u64) -> Windows<'data> {
        let executable: Vec<Range<u64>> =
            self.loaded().filter(|(code, ..)| *code).map(|(_, _, size, offset)| offset..offset + size).collect();
        let mut windows = Windows { file: self.file, windows: Vec::new() };
        for (address, range) in self.ranges() {
            if executable.iter().any(|part| part.contains(&range.start)) == code {
                windows.add(address, range, overlap);
            }
        }
        windows
    }

    /// These parts of the file: for each the address that it starts at, and where it is.
    pub(super) fn parts(&self, parts: &[(u64, Range<u64>)], overlap: u64) -> Windows<'data> {
        let mut windows = Windows { file: self.file, windows: Vec::new() };
        for (address, range) in parts {
            windows.add(*address, range.clone(), overlap);
        }
        windows
    }

    /// The bytes around an address, as far as its segment goes.
    pub(super) fn around(&self, address: u64, before: u64, after: u64) -> Option<Piece> {
        let (_, from, size, offset) = self.holding(address)?;
        let start = address.saturating_sub(before).max(from);
        let end = address.saturating_add(after).min(from + size);
        Some(Piece { address: start, bytes: self.bytes(offset + (start - from), end - start).ok()? })
    }

    /// Up to `size` bytes at an address; fewer where the segment ends.
    pub(super) fn at(&self, address: u64, size: u64) -> Option<Vec<u8>> {
        let (_, from, length, offset) = self.holding(address)?;
        let within = address - from;
        self.bytes(offset + within, size.min(length - within).min(LARGEST_TABLE)).ok()
    }

    /// Bytes of the file, which may be gone by now.
    pub(super) fn bytes(&self, offset: u64, size: u64) -> std::io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(usize::MAX)];
        self.file.read_exact_at(&mut bytes, offset)?;
        Ok(bytes)
    }

    /// Address and size of a section.
    pub(super) fn section(&self, name: &str) -> Option<(u64, u64)> {
        let (_, section) = self.sections.section_by_name(self.endian, name.as_bytes())?;
        Some((section.sh_addr(self.endian), section.sh_size(self.endian)))
    }

    /// Where a section is in the file, as far as the file goes.
    pub(super) fn stored(&self, section: &SectionHeader64<Endianness>) -> Option<Range<u64>> {
        let (offset, size) = section.file_range(self.endian)?;
        let end = offset.checked_add(size)?.min(self.length);
        (offset <= end).then_some(offset..end)
    }

    /// Address and size of the first segment of a kind.
    pub(super) fn segment(&self, kind: u32) -> Option<(u64, u64)> {
        let segment = self.segments.iter().find(|segment| segment.p_type(self.endian) == kind)?;
        Some((segment.p_vaddr(self.endian), segment.p_filesz(self.endian)))
    }

    /// A value of the dynamic linker's table.
    pub(super) fn dynamic(&self, tag: u32) -> Option<u64> {
        let (address, size) = self.segment(object::elf::PT_DYNAMIC)?;
        let entries = self.at(address, size)?;
        let word = |bytes: &[u8]| Some(u64::from_le_bytes(*bytes.first_chunk()?));
        let entry = entries.chunks_exact(16).find(|entry| word(entry) == Some(u64::from(tag)))?;
        word(entry.get(8..)?)
    }

    /// The name that a shared library gives itself.
    pub(super) fn soname(&self) -> Option<String> {
        self.dynamic_names(object::elf::DT_SONAME).pop()
    }

    /// The shared libraries that the file is linked with, by name.
    pub(super) fn needed(&self) -> Vec<String> {
        self.dynamic_names(object::elf::DT_NEEDED)
    }

    /// What entries of a kind in the dynamic linker's table name.
    fn dynamic_names(&self, tag: u32) -> Vec<String> {
        let Ok(Some((entries, strings))) = self.sections.dynamic(self.endian, self.data) else { return Vec::new() };
        let Some((_, names)) = self.sections.iter().enumerate().nth(strings.0) else { return Vec::new() };
        let name = |at: u64| {
            let at = names.sh_offset(self.endian).checked_add(at)?;
            let mut name = self.bytes(at, LONGEST_NAME.min(self.length.checked_sub(at)?)).ok()?;
            name.truncate(memchr::memchr(0, &name)?);
            String::from_utf8(name).ok()
        };
        let of_kind = entries.iter().filter(|entry| entry.d_tag(self.endian) == u64::from(tag));
        of_kind.take(MOST_NAMES).filter_map(|entry| name(entry.d_val(self.endian))).collect()
    }

    /// GNU build id, hexadecimal; empty if there is none.
    pub(super) fn build_id(&self) -> String {
        let (endian, data) = (self.endian, self.data);
        let small = |segment: &&ProgramHeader64<Endianness>| segment.p_filesz(endian) < LARGEST_TABLE;
        let segments = self.segments.iter().filter(small).filter_map(|segment| segment.notes(endian, data).ok()?);
        // Go's linker leaves it out of the segment of notes.
        let section = self.sections.section_by_name(endian, b".note.gnu.build-id").map(|(_, section)| section);
        let section = section.filter(|section| section.sh_size(endian) < LARGEST_TABLE);
        let sections = section.and_then(|section| section.notes(endian, data).ok()?);
        for mut notes in segments.chain(sections) {
            while let Ok(Some(note)) = notes.next() {
                if note.name() == object::elf::ELF_NOTE_GNU && note.n_type(endian) == object::elf::NT_GNU_BUILD_ID {
                    return note.desc().iter().map(|byte| format!("{byte:02x}")).collect();
                }
            }
        }
        String::new()
    }
}

/// Reads small things that mostly lie one after the other.
pub(super) struct Window<'image, 'data> {
    image: &'image Image<'data>,
    offset: u64,
    bytes: Vec<u8>,
}

impl<'image, 'data> Window<'image, 'data> {
    const SIZE: u64 = 1 << 18;

    pub(super) fn new(image: &'image Image<'data>) -> Self {
        Window { image, offset: 0, bytes: Vec::new() }
    }

    /// The bytes at an address, if they are all in the file.
    pub(super) fn at(&mut self, address: u64, size: usize) -> Option<&[u8]> {
        self.in_file(self.image.offset(address)?, size)
    }

    /// The bytes at an offset of the file.
    pub(super) fn in_file(&mut self, offset: u64, size: usize) -> Option<&[u8]> {
        let ahead = |window: &Self| usize::try_from(offset.checked_sub(window.offset)?).ok();
        let holds = |window: &Self| ahead(window)?.checked_add(size).filter(|end| *end <= window.bytes.len());
        if holds(self).is_none() {
            let left = self.image.length.checked_sub(offset)?;
            self.bytes = self.image.bytes(offset, Self::SIZE.max(size as u64).min(left)).ok()?;
            self.offset = offset;
        }
        self.bytes.get(ahead(self)?..holds(self)?)
    }
}

/// Parts of a file that are read piece by piece, by as many threads as there are processors: a program is starting meanwhile.
pub(super) struct Windows<'data> {
    file: &'data File,
    /// Address, offset and size of each window, and how much of that no window before it has.
    windows: Vec<(u64, u64, u64, u64)>,
}

impl Windows<'_> {
    fn add(&mut self, address: u64, range: Range<u64>, overlap: u64) {
        let size = range.end - range.start;
        for start in (0..size).step_by(WINDOW as usize) {
            let (own, all) = ((size - start).min(WINDOW), (size - start).min(WINDOW + overlap));
            self.windows.push((address + start, range.start + start, all, own));
        }
    }

    /// Shows each window, with the number of bytes at its start that no other one starts with, and puts together what `look`
    /// finds, in no order.
    pub(super) fn look<T: Send>(&self, look: impl Fn(&Piece, usize) -> Vec<T> + Sync) -> std::io::Result<Vec<T>> {
        let next = AtomicUsize::new(0);
        let work = || -> std::io::Result<Vec<T>> {
            let mut found = Vec::new();
            let mut piece = Piece { address: 0, bytes: Vec::new() };
            while let Some((address, offset, size, own)) = self.windows.get(next.fetch_add(1, Ordering::Relaxed)) {
                piece.address = *address;
                piece.bytes.resize(*size as usize, 0);
                self.file.read_exact_at(&mut piece.bytes, *offset)?;
                found.extend(look(&piece, *own as usize));
            }
            Ok(found)
        };
        let bytes: u64 = self.windows.iter().map(|(.., own)| own).sum();
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        // Small files are done before a thread has started.
        let helpers = processors.min(MOST_THREADS).min((bytes / WORTH_A_THREAD) as usize).saturating_sub(1);
        std::thread::scope(|scope| {
            let running: Vec<_> = (0..helpers).map(|_| scope.spawn(work)).collect();
            let mut found = work()?;
            for thread in running {
                found.extend(thread.join().unwrap_or_else(|_| Err(std::io::Error::other("a thread panicked")))?);
            }
            Ok(found)
        })
    }
}
