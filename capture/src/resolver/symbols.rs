//! Looks functions up by name: in the hash table of the dynamic linker first, then in the list of dynamic symbols, then in the
//! full table, where it was not stripped.
//!
//! An executable may have a hundred thousand names, and attaching is a race with it: in the hash table only the names that
//! are asked for are read.

use super::image::{Image, LARGEST_TABLE};
use object::elf::{SHN_UNDEF, STT_FUNC, Sym64};
use object::read::elf::{SectionHeader, Sym, VersionTable};
use object::{Endianness, U32};

/// A function of the file, by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Symbol {
    pub name: &'static str,
    pub address: u64,
}

/// Functions of the file that have one of these names; each name once.
pub(super) fn find(image: &Image<'_>, names: &'static [&'static str]) -> object::read::Result<Vec<Symbol>> {
    let large = |section: &&object::elf::SectionHeader64<Endianness>| {
        let kind = section.sh_type(image.endian);
        let table =
            [object::elf::SHT_DYNSYM, object::elf::SHT_SYMTAB, object::elf::SHT_STRTAB, object::elf::SHT_GNU_HASH];
        table.contains(&kind) && section.sh_size(image.endian) > LARGEST_TABLE
    };
    if image.sections.iter().any(|section| large(&section)) {
        return Ok(Vec::new());
    }
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

/// Looks at every name of a symbol table.
fn listed(image: &Image<'_>, names: &[&'static str], kind: u32) -> object::read::Result<Vec<Symbol>> {
    let (sections, endian) = (&image.sections, image.endian);
    let symbols = sections.symbols(endian, image.data, kind)?;
    if symbols.is_empty() {
        return Ok(Vec::new());
    }
    // In one piece: reading name by name would take seconds.
    let strings = sections.section(symbols.string_section())?.data(endian, image.data)?;
    let known = symbols.iter().filter_map(|symbol| Some((symbol, known(strings, symbol.st_name(endian), names)?)));
    Ok(known.filter_map(|(symbol, name)| function(image, symbol, name)).collect())
}

/// A symbol, if it is a function of this file and not one that is linked to.
fn function(image: &Image<'_>, symbol: &Sym64<Endianness>, name: &'static str) -> Option<Symbol> {
    let here = symbol.st_type() == STT_FUNC && symbol.st_shndx(image.endian) != SHN_UNDEF;
    let address = symbol.st_value(image.endian);
    (here && image.offset(address).is_some()).then_some(Symbol { name, address })
}

/// The name that starts at an offset of a string table, if it is one of those wanted.
fn known(strings: &[u8], at: u32, names: &[&'static str]) -> Option<&'static str> {
    let rest = strings.get(at as usize..)?;
    let is = |name: &&&str| rest.strip_prefix(name.as_bytes()).is_some_and(|rest| rest.first() == Some(&0));
    // Most names start with another letter than any of those wanted.
    matches!(rest.first(), Some(b'S' | b'g' | b'P')).then(|| names.iter().find(is).copied())?
}

#[cfg(test)]
mod tests {
    use super::*;
    use object::ReadCache;
    use std::fs::File;

    const NAMES: &[&str] = &["SSL_read", "SSL_write", "SSL_read_ex", "SSL_write_ex", "SSL_free", "SSL_clear"];

    #[test]
    fn the_hash_table_and_the_list_of_names_agree() {
        let Some(path) = crate::libraries::installed().into_iter().next() else {
            panic!("this test needs libssl: scripts/setup installs it");
        };
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

    #[test]
    fn a_name_is_whole() {
        let strings = b"\0SSL_read\0SSL_reader\0SSL_rea";
        assert_eq!(known(strings, 1, NAMES), Some("SSL_read"));
        assert_eq!(known(strings, 10, NAMES), None);
        assert_eq!(known(strings, 21, NAMES), None);
        assert_eq!(known(strings, 99, NAMES), None);
    }
}
