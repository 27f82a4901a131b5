//! OpenSSL without symbols (linked into stripped programs, codex for one): since version 3.0 a function that reports an error
//! names itself, so that the function which refers to the text `ssl_read_internal` is `ssl_read_internal`.

use super::cookie::{Library, cookie, count, op};
use super::functions::{Function, Functions};
use super::image::Image;
use super::references::Reference;
use super::{ResolveError, Site, Stack, entry};
use std::collections::BTreeSet;

/// What is looked for: the two names, and the version.
pub(super) const ANCHORS: [&[u8]; 3] = [b"\0ssl_write_internal\0", b"\0ssl_read_internal\0", b"OpenSSL 3."];
const METHOD: &str = "function names in errors";

/// Since this minor version `ssl_write_internal` has a parameter for flags before that of the count.
const MINOR_WITH_FLAGS: u32 = 3;

/// Looks for the functions, given the references to each of the names, and where versions were found.
pub(super) fn find(
    image: &Image<'_>,
    writes: &[Reference],
    reads: &[Reference],
    versions: &[u64],
) -> Result<Stack, ResolveError> {
    let mut stack = Stack::new(Library::Openssl, METHOD);
    let minors: BTreeSet<u32> = versions.iter().filter_map(|at| minor(image, *at)).collect();
    let Some(minor) = minors.first().filter(|_| minors.len() == 1) else {
        stack
            .why
            .push(format!("OpenSSL 3 names {} versions of itself: where it counts bytes is not known", minors.len()));
        return Ok(stack);
    };
    let written = if *minor >= MINOR_WITH_FLAGS { count::ARGUMENT_5 } else { count::ARGUMENT_4 };
    for (name, references, op, count) in
        [("ssl_write_internal", writes, op::WRITE, written), ("ssl_read_internal", reads, op::READ, count::ARGUMENT_4)]
    {
        let found = functions_around(image, references)?;
        let [function] = found[..] else {
            stack.why.push(format!("{name}: {} functions name it", found.len()));
            continue;
        };
        let at = entry::cheapest(image, function.start);
        if let Some(offset) = image.offset(at) {
            stack.why.push(format!("{name} at {at:#x} (OpenSSL 3.{minor}): {}", entry::cost(image, at)));
            stack.sites.push(Site::new(offset, cookie(Library::Openssl, op, count), name));
        }
    }
    Ok(stack)
}

/// The functions that the references are in.
fn functions_around(image: &Image<'_>, references: &[Reference]) -> Result<Vec<Function>, ResolveError> {
    let functions = Functions::around(image, references, false)?;
    let found: BTreeSet<Function> = references
        .iter()
        .filter_map(|reference| functions.of(image, reference.at))
        .filter(|found| !found.is_part)
        .collect();
    Ok(found.into_iter().collect())
}

/// Where a name starts, behind the terminator of the text before it.
pub(super) fn names(places: &[u64]) -> Vec<u64> {
    places.iter().map(|place| place + 1).collect()
}

/// The number behind `OpenSSL 3.`, of a text like `OpenSSL 3.6.4 25 Aug 2026`.
fn minor(image: &Image<'_>, at: u64) -> Option<u32> {
    let text = image.at(at + ANCHORS[2].len() as u64, 4)?;
    let end = text.iter().position(|byte| *byte == b'.')?;
    std::str::from_utf8(&text[..end]).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::super::{fake, resolve};
    use super::*;

    fn found(text: &[u8]) -> Vec<(u64, u64)> {
        // Functions report (reason, line); the text that they refer to is their name.
        let binary = resolve(&fake::reporting(text, &[&[(271, 2300), (194, 2310)]], [2, 7, 6])).unwrap();
        binary.sites().map(|site| (site.offset, site.cookie)).collect()
    }

    #[test]
    fn a_function_is_known_by_the_name_in_its_errors_and_counts_as_its_version_does() {
        let write = |count| vec![(fake::function(0), cookie(Library::Openssl, op::WRITE, count))];
        assert_eq!(found(b"ssl_write_internal\0OpenSSL 3.6.4 25 Aug 2026"), write(count::ARGUMENT_5));
        assert_eq!(found(b"ssl_write_internal\0OpenSSL 3.0.16 11 Feb 2025"), write(count::ARGUMENT_4));
        assert_eq!(
            found(b"ssl_read_internal\0OpenSSL 3.6.4 25 Aug 2026"),
            [(fake::function(0), cookie(Library::Openssl, op::READ, count::ARGUMENT_4))]
        );
    }

    #[test]
    fn without_one_version_nothing_is_probed() {
        assert_eq!(found(b"ssl_write_internal\0"), []);
        assert_eq!(found(b"ssl_write_internal\0OpenSSL 3.0.16 11 Feb 2025\0OpenSSL 3.6.4 25 Aug 2026"), []);
    }
}
