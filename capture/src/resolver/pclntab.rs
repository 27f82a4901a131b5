//! The table of functions that Go's runtime cannot do without (`runtime/symtab.go`, `pclntab`): it survives `-ldflags "-s -w"`,
//! and gives the name, the start and the end of every function.
//!
//! Starts are counted from the start of Go's code, which is found elsewhere: see [`super::moduledata`].

use super::image::{Image, Machine, Window};

/// What stands at the start of the table: a magic number of the layout, two zeros, the size of the smallest instruction, the
/// size of a pointer. The last seven bytes are the same for all layouts, and are looked for where no section has the name.
pub(super) fn anchor(machine: Machine) -> &'static [u8] {
    match machine {
        Machine::X86_64 => &[0xff, 0xff, 0xff, 0, 0, 1, 8],
        Machine::Aarch64 => &[0xff, 0xff, 0xff, 0, 0, 4, 8],
    }
}

/// Go 1.20 and later; Go 1.18 and 1.19. The two are laid out alike.
const KNOWN: [u32; 2] = [0xffff_fff1, 0xffff_fff0];
/// Go 1.16 and 1.17; Go 1.2 to 1.15. The layouts differ, and so do the places of arguments.
const OLD: [(u32, &str); 2] = [(0xffff_fffa, "1.16 or 1.17"), (0xffff_fffb, "1.2 to 1.15")];
/// More functions than this no program has: the largest of today have some hundred thousand.
const MOST_FUNCTIONS: u64 = 1 << 23;
const HEADER: u64 = 72;
/// Paths of packages are not longer than this.
const LONGEST_PACKAGE: u64 = 256;

/// Names of the sections that hold the table; the second in position-independent programs before Go 1.26.
const SECTIONS: [&str; 2] = [".gopclntab", ".data.rel.ro.gopclntab"];

/// Where a table may be: by the names of sections, else wherever its first bytes were found.
pub(super) fn places(image: &Image<'_>, anchors: &[u64]) -> Vec<u64> {
    let named: Vec<u64> = SECTIONS.iter().filter_map(|name| Some(image.section(name)?.0)).collect();
    if named.is_empty() { anchors.iter().filter_map(|at| at.checked_sub(1)).collect() } else { named }
}

/// Whether the search for the first bytes of a table can be spared.
pub(super) fn is_named(image: &Image<'_>) -> bool {
    SECTIONS.iter().any(|name| image.section(name).is_some())
}

/// What stands at an address.
#[derive(Debug)]
pub(super) enum Found {
    Table(Table),
    /// A table of a version that is too old: which.
    Old(&'static str),
}

/// A function, as distances from the start of Go's code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub start: u64,
    pub end: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Table {
    pub address: u64,
    count: u64,
    /// Start of Go's code, as the header says; 0 since Go 1.26, and in programs that are moved when they are loaded.
    pub text: u64,
    /// Addresses of the names, of what follows them, and of the functions.
    names: u64,
    names_end: u64,
    functions: u64,
    /// The first function's start and the last one's end.
    pub whole: Range,
}

impl Table {
    /// Reads the header; `None` where what it says cannot be.
    pub(super) fn read(image: &Image<'_>, address: u64) -> Option<Found> {
        let header = image.at(address, HEADER)?;
        let magic = u32::from_le_bytes(*header.first_chunk()?);
        (header.get(1..8)? == anchor(image.machine)).then_some(())?;
        if let Some((_, version)) = OLD.iter().find(|(old, _)| *old == magic) {
            return Some(Found::Old(version));
        }
        KNOWN.contains(&magic).then_some(())?;
        let word = |index: usize| Some(u64::from_le_bytes(*header.get(index * 8..)?.first_chunk()?));
        let (count, text) = (word(1)?, word(3)?);
        // Names, compilation units, files, values by address, functions: in this order, one after the other.
        let parts = [word(4)?, word(5)?, word(6)?, word(7)?, word(8)?];
        (parts[0] >= HEADER - 8 && parts.is_sorted() && (1..=MOST_FUNCTIONS).contains(&count)).then_some(())?;
        let at = |part: u64| address.checked_add(part);
        let (names, names_end, functions) = (at(parts[0])?, at(parts[1])?, at(parts[4])?);
        let entry =
            |index: u64| Some(u64::from(u32::from_le_bytes(*image.at(functions + index * 8, 4)?.first_chunk()?)));
        image.offset(functions.checked_add(count * 8 + 3)?)?;
        let whole = Range { start: entry(0)?, end: entry(count)? };
        (whole.start < whole.end).then_some(())?;
        Some(Found::Table(Table { address, count, text, names, names_end, functions, whole }))
    }

    /// The functions that have the names, each with the index of its name.
    pub(super) fn functions(&self, image: &Image<'_>, wanted: &[&str]) -> Option<Vec<(usize, Range)>> {
        let names = self.names(image, wanted)?;
        if names.is_empty() {
            return Some(Vec::new());
        }
        let (mut found, mut last) = (Vec::new(), 0);
        // Entries and what they point to are both in ascending order.
        let (mut entries, mut functions) = (Window::new(image), Window::new(image));
        for index in 0..self.count {
            let entry = entries.at(self.functions + index * 8, 12)?;
            let (start, function, end) = (field(entry, 0)?, field(entry, 4)?, field(entry, 8)?);
            (last <= function).then_some(())?;
            last = function;
            let function = functions.at(self.functions.checked_add(u64::from(function))?, 8)?;
            // Each function repeats its start before the offset of its name.
            let name = field(function, 4).filter(|_| field(function, 0) == Some(start))?;
            if let Some((wanted, _)) = names.iter().find(|(_, at)| *at == name) {
                (start < end).then_some(())?;
                found.push((*wanted, Range { start: start.into(), end: end.into() }));
            }
        }
        Some(found)
    }

    /// The names that end so, each with the index of its end.
    pub(super) fn names_ending(&self, image: &Image<'_>, ends: &[&str]) -> Vec<(usize, String)> {
        let whole: Vec<Vec<u8>> = ends.iter().map(|end| [end.as_bytes(), b"\0"].concat()).collect();
        let whole: Vec<&[u8]> = whole.iter().map(Vec::as_slice).collect();
        let range = image.offset(self.names).zip(image.offset(self.names_end)).map(|(from, to)| (0, from..to));
        let places = range.and_then(|range| super::search::within(image, &[range], &whole).ok()).unwrap_or_default();
        let before = |at: u64| {
            let from = at.saturating_sub(LONGEST_PACKAGE);
            let bytes = image.at(self.names + from, at - from)?;
            let start = memchr::memrchr(0, &bytes)? + 1;
            String::from_utf8(bytes[start..].to_vec()).ok()
        };
        let all = places.iter().enumerate().flat_map(|(end, places)| places.iter().map(move |at| (end, *at)));
        all.filter_map(|(end, at)| Some((end, before(at)? + ends[end]))).collect()
    }

    /// Where the names are that are wanted: their indexes and their offsets.
    fn names(&self, image: &Image<'_>, wanted: &[&str]) -> Option<Vec<(usize, u32)>> {
        let whole: Vec<Vec<u8>> = wanted.iter().map(|name| [b"\0", name.as_bytes(), b"\0"].concat()).collect();
        let whole: Vec<&[u8]> = whole.iter().map(Vec::as_slice).collect();
        let (from, to) = (image.offset(self.names)?, image.offset(self.names_end)?);
        let places = super::search::within(image, &[(0, from..to)], &whole).ok()?;
        let all = places.iter().enumerate().flat_map(|(index, places)| places.iter().map(move |at| (index, at)));
        all.map(|(index, at)| Some((index, u32::try_from(at + 1).ok()?))).collect()
    }
}

fn field(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
