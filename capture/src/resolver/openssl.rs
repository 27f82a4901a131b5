//! OpenSSL without symbols (linked into stripped programs, codex for one): since version 3.0 a function that reports an error
//! names itself, so that the function which refers to the text `ssl_read_internal` is `ssl_read_internal`. Where it counts, the
//! version says, or its callers show in a program that has no text of it.

use super::cookie::{Library, cookie, count, op};
use super::functions::{self, Function, Functions};
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
    let minor = minors.first().filter(|_| minors.len() == 1);
    for (name, references, op) in [("ssl_write_internal", writes, op::WRITE), ("ssl_read_internal", reads, op::READ)] {
        let found = functions_around(image, references)?;
        let [function] = found[..] else {
            stack.why.push(format!("{name}: {} functions name it", found.len()));
            continue;
        };
        let count = match minor {
            Some(minor) if *minor >= MINOR_WITH_FLAGS && op == op::WRITE => Some(count::ARGUMENT_5),
            Some(_) => Some(count::ARGUMENT_4),
            // This shows as well that it is what it says: other programs may speak of such functions.
            None => count_by_callers(image, &function)?.filter(|count| op == op::WRITE || *count == count::ARGUMENT_4),
        };
        let Some(count) = count else {
            let versions = minors.len();
            stack.why.push(format!(
                "{name}: OpenSSL 3 names {versions} versions of itself, and no caller shows where bytes are counted"
            ));
            continue;
        };
        let at = entry::cheapest(image, function.start);
        if let Some(offset) = image.offset(at) {
            let version = minor.map_or("OpenSSL 3".to_owned(), |minor| format!("OpenSSL 3.{minor}"));
            let cost = entry::cost(image, at);
            stack.why.push(format!("{name} at {at:#x} ({version}, its count behind argument {count}): {cost}"));
            stack.sites.push(Site::new(offset, cookie(Library::Openssl, op, count), name));
        }
    }
    Ok(stack)
}

/// Which argument of a function points to the count, as `SSL_read` and `SSL_write` call it; the other callers do not show it.
fn count_by_callers(image: &Image<'_>, function: &Function) -> Result<Option<u64>, ResolveError> {
    let at = |at| Reference { at, register: 0, to: function.start };
    let calls: Vec<Reference> = functions::calls_of(image, function.start)?.into_iter().map(at).collect();
    let functions = Functions::around(image, &calls, false)?;
    let callers: BTreeSet<Function> = calls.iter().filter_map(|call| functions.of(image, call.at)).collect();
    let whole = callers.iter().filter(|caller| !caller.is_part);
    let counts: BTreeSet<u64> =
        whole.filter_map(|caller| entry::count_of(image, caller.start, function.start)).collect();
    Ok(counts.first().copied().filter(|_| counts.len() == 1))
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

    /// What is found for a program of no version, in which two functions do this and then call the one with this name.
    fn found_by_callers(name: &[u8], does: [&[u8]; 2]) -> Vec<u64> {
        let code = |index: usize, at: u64| {
            let Some(does) = index.checked_sub(1).map(|index| does[index]) else { return Vec::new() };
            let distance = fake::function(0) as i32 - (at as i32 + does.len() as i32 + 5);
            [does, &[0xe8], &distance.to_le_bytes()].concat()
        };
        let functions: [&[(u32, u32)]; 3] = [&[(271, 2300)], &[], &[]];
        let binary = resolve(&fake::reporting_and(name, &functions, [2, 7, 6], code)).unwrap();
        assert!(binary.sites().all(|site| site.offset == fake::function(0)), "{:?}", binary.stacks);
        binary.sites().map(|site| site.cookie).collect()
    }

    #[test]
    fn without_a_version_it_counts_where_its_caller_keeps_a_count() {
        // sub rsp,8
        let passes_on: &[u8] = &[0x48, 0x83, 0xec, 8];
        // mov rcx,rsp; movsxd rdx,edx
        let old: &[u8] = &[0x48, 0x89, 0xe1, 0x48, 0x63, 0xd2];
        // xor ecx,ecx; mov r8,rsp
        let new: &[u8] = &[0x31, 0xc9, 0x49, 0x89, 0xe0];
        let write = |count| vec![cookie(Library::Openssl, op::WRITE, count)];
        let writes = |does: [&[u8]; 2]| found_by_callers(b"ssl_write_internal\0", does);
        assert_eq!(writes([passes_on, old]), write(count::ARGUMENT_4));
        assert_eq!(writes([new, passes_on]), write(count::ARGUMENT_5));
        assert_eq!(writes([new, old]), [0; 0]);
        assert_eq!(writes([passes_on, passes_on]), [0; 0]);
        let reads = |does: [&[u8]; 2]| found_by_callers(b"ssl_read_internal\0", does);
        assert_eq!(reads([old, passes_on]), [cookie(Library::Openssl, op::READ, count::ARGUMENT_4)]);
        assert_eq!(reads([new, passes_on]), [0; 0]);
    }

    #[test]
    fn without_one_version_nothing_is_probed() {
        assert_eq!(found(b"ssl_write_internal\0"), []);
        assert_eq!(found(b"ssl_write_internal\0OpenSSL 3.0.16 11 Feb 2025\0OpenSSL 3.6.4 25 Aug 2026"), []);
    }
}
