//! Looks functions up by name: in the hash table of the dynamic linker first, then in the list of dynamic symbols, then in the
//! full table, where it was not stripped.
//!
//! An executable may have a hundred thousand names, and attaching is a race with it: in the hash table only the names that
//! are asked for are read.

use super::image::{Image, LARGEST_TABLE, Window};
use super::{ResolveError, search};
use object::elf::{SHN_UNDEF, STT_FUNC, Sym64};
use object::read::elf::{SectionHeader, Sym, VersionTable};
use object::{Endianness, U32};
use std::ops::Range;

/// Bytes of a symbol.
const SYMBOL: u64 = 24;

/// A function of the file, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Symbol {
    pub name: &'static str,
    pub address: u64,
}

/// Functions of the file that have one of these names; each name once.
pub(super) fn find(image: &Image<'_>, names: &'static [&'static str]) -> Result<Vec<Symbol>, ResolveError> {
    let mut symbols = match exported(image, names)? {
        Some(symbols) => symbols,
        None => listed(image, names, object::elf::SHT_DYNSYM)?,
    };
    if symbols.is_empty() {
        // What a program keeps to itself is in the larger table.
        symbols = listed(image, names, object::elf::SHT_SYMTAB)?;
    }
    symbols.sort();
    symbols.dedup_by_key(|symbol| symbol.name);
    Ok(symbols)
}

/// Looks names up in the hash table; `None` if there is none that can be used.
fn exported(image: &Image<'_>, names: &[&'static str]) -> object::read::Result<Option<Vec<Symbol>>> {
    let (sections, endian) = (&image.sections, image.endian);
    let large = |section: &object::elf::SectionHeader64<Endianness>| {
        let table = [object::elf::SHT_DYNSYM, object::elf::SHT_GNU_HASH];
        table.contains(&section.sh_type(endian)) && section.sh_size(endian) > LARGEST_TABLE
    };
    if sections.iter().any(large) {
        return Ok(None);
    }
    let usable = |header: &object::elf::GnuHashHeader<Endianness>| {
        // The look-up divides by these and shifts by that; a damaged file must not end the capturer.
        let count = |field: &U32<Endianness>| field.get(endian);
        count(&header.bucket_count) > 0 && count(&header.bloom_count) > 0 && count(&header.bloom_shift) < 32
    };
    if !sections.gnu_hash_header(endian, image.data)?.is_some_and(usable) {
        return Ok(None);
    }
    // A program that exports nothing has a table that is cut short.
    let Ok(Some((table, _))) = sections.gnu_hash(endian, image.data) else { return Ok(None) };
    let symbols = sections.symbols(endian, image.data, object::elf::SHT_DYNSYM)?;
    let versions = VersionTable::default();
    let found = names.iter().filter_map(|name| {
        let hash = object::elf::gnu_hash(name.as_bytes());
        let (_, symbol) = table.find(endian, name.as_bytes(), hash, None, &symbols, &versions)?;
        function(image, symbol, name)
    });
    Ok(Some(found.collect()))
}

/// Looks for the names among the strings of a symbol table, and then for the symbols that have them: tables of a hundred
/// megabytes are read piece by piece.
fn listed(image: &Image<'_>, names: &[&'static str], kind: u32) -> std::io::Result<Vec<Symbol>> {
    let tables = image.sections.iter().filter(|section| section.sh_type(image.endian) == kind);
    let mut symbols = Vec::new();
    for table in tables.take(1) {
        let Ok(strings) = image.sections.section(table.link(image.endian)) else { continue };
        let (Some(table), Some(strings)) = (image.stored(table), image.stored(strings)) else { continue };
        let strings = named(image, strings, names)?;
        let count = if strings.is_empty() { 0 } else { (table.end - table.start) / SYMBOL };
        let mut window = Window::new(image);
        for index in 0..count {
            let Some(bytes) = window.in_file(table.start + index * SYMBOL, SYMBOL as usize) else { break };
            let Ok((symbol, _)) = object::pod::from_bytes::<Sym64<Endianness>>(bytes) else { break };
            let at = symbol.st_name(image.endian);
            if let Ok(found) = strings.binary_search_by_key(&at, |(at, _)| *at) {
                symbols.extend(function(image, symbol, strings[found].1));
            }
        }
    }
    Ok(symbols)
}

/// Where the names are in a table of strings, by offset. The end of a longer string serves as a shorter one.
fn named(image: &Image<'_>, strings: Range<u64>, names: &[&'static str]) -> std::io::Result<Vec<(u32, &'static str)>> {
    let whole: Vec<Vec<u8>> = names.iter().map(|name| [name.as_bytes(), b"\0"].concat()).collect();
    let whole: Vec<&[u8]> = whole.iter().map(Vec::as_slice).collect();
    let places = search::within(image, &[(0, strings)], &whole)?;
    let each = names.iter().zip(places).flat_map(|(name, places)| places.into_iter().map(move |at| (at, *name)));
    let mut named: Vec<_> = each.filter_map(|(at, name)| Some((u32::try_from(at).ok()?, name))).collect();
    named.sort_unstable();
    Ok(named)
}

/// A symbol, if it is a function of this file and not one that is linked to.
fn function(image: &Image<'_>, symbol: &Sym64<Endianness>, name: &'static str) -> Option<Symbol> {
    let here = symbol.st_type() == STT_FUNC && symbol.st_shndx(image.endian) != SHN_UNDEF;
    let address = symbol.st_value(image.endian);
    (here && image.offset(address).is_some()).then_some(Symbol { name, address })
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::ReadCache;
    use std::fs::File;

    const NAMES: &[&str] = &["SSL_read", "SSL_write", "SSL_read_ex", "SSL_write_ex", "SSL_free", "SSL_clear"];

    #[test]
    fn the_hash_table_and_the_list_of_names_agree() {
        let path = crate::libraries::libssl();
        let file = File::open(path).unwrap();
        let data = ReadCache::new(&file);
        let image = Image::parse(&file, &data).unwrap();
        let mut hashed = exported(&image, NAMES).unwrap().unwrap();
        let mut listed = listed(&image, NAMES, object::elf::SHT_DYNSYM).unwrap();
        hashed.sort();
        listed.sort();
        assert_eq!(hashed.len(), NAMES.len());
        assert_eq!(hashed, listed);
    }
}
