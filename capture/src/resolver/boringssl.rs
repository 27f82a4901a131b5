//! BoringSSL without symbols (Bun and what is compiled with it): its functions are known by the errors they report in
//! `ssl/ssl_lib.cc`. The connection's end cannot be told this way and is not probed.

use super::cookie::{Library, cookie, count, op};
use super::image::Image;
use super::reasons::{self, Reporter};
use super::references::Reference;
use super::{ResolveError, Stack};

/// The source file, as its name ends.
pub(super) const ANCHOR: &[u8] = b"ssl/ssl_lib.cc\0";
const METHOD: &str = "reason codes";

/// `SSL_R_UNINITIALIZED`, `SSL_R_SSL_HANDSHAKE_FAILURE`, `SSL_R_BAD_LENGTH`, `SSL_R_CONNECTION_TYPE_NOT_SET` and
/// `ERR_R_SHOULD_NOT_HAVE_BEEN_CALLED`, in BoringSSL's ssl.h and err.h.
const UNINITIALIZED: u32 = 226;
const HANDSHAKE_FAILURE: u32 = 215;
const BAD_LENGTH: u32 = 111;
const TYPE_NOT_SET: u32 = 134;
const NOT_CALLED: u32 = 66;

/// Looks for the functions, given the references to the file's name.
pub(super) fn find(image: &Image<'_>, references: &[Reference]) -> Result<Stack, ResolveError> {
    let mut stack = Stack::new(Library::Boringssl, METHOD);
    let reporters = reasons::reporters(image, references, false)?;
    let reports: usize = reporters.iter().map(|reporter| reporter.reports.len()).sum();
    stack.why.push(format!("ssl/ssl_lib.cc is named {reports} times in {} functions", reporters.len()));
    let writes = |reporter: &&Reporter| reporter.has_all(&[UNINITIALIZED, HANDSHAKE_FAILURE, BAD_LENGTH]);
    let Some(write) = one(&mut stack, "SSL_write {226,215,111}", reporters.iter().filter(writes).collect()) else {
        return Ok(stack);
    };
    let read = read(&mut stack, &reporters, write);
    let found = [(Some(write), op::WRITE, "SSL_write"), (read, op::READ, "SSL_read")];
    for (reporter, op, name) in found {
        if let Some(reporter) = reporter {
            reasons::add(image, &mut stack, reporter, cookie(Library::Boringssl, op, count::RETURNED), name);
        }
    }
    Ok(stack)
}

/// `SSL_read` reports nothing but that it was called for QUIC, on a line between those of `ssl_read_impl` and `SSL_write`.
fn read<'found>(stack: &mut Stack, reporters: &'found [Reporter], write: &Reporter) -> Option<&'found Reporter> {
    let implements = |reporter: &&Reporter| {
        reporter.has_all(&[UNINITIALIZED, HANDSHAKE_FAILURE])
            && !reporter.has(BAD_LENGTH)
            && !reporter.has(TYPE_NOT_SET)
    };
    let below = one(stack, "ssl_read_impl {226,215}", reporters.iter().filter(implements).collect())?;
    let (first, last) =
        (below.lines(HANDSHAKE_FAILURE).max()?, write.reports.iter().filter_map(|report| report.line).min()?);
    let reads = |reporter: &&Reporter| {
        reporter.reports.len() == 1 && reporter.lines(NOT_CALLED).any(|line| first < line && line < last)
    };
    let mut found: Vec<_> = reporters.iter().filter(reads).collect();
    // SSL_peek shares the line where the compiler copied it into SSL_read, which does more.
    let size = |reporter: &&Reporter| reporter.function.end.map_or(0, |end| end - reporter.function.start);
    found.sort_by_key(|reporter| std::cmp::Reverse(size(reporter)));
    match found[..] {
        [larger, smaller] if size(&larger) > size(&smaller) => {
            stack.why.push("SSL_read {66}: the larger of two functions; the other is SSL_peek".to_owned());
            Some(larger)
        }
        _ => one(stack, &format!("SSL_read {{66}}, lines {first} to {last}"), found),
    }
}

/// The one function that was looked for; that there is none, or more than one, is said.
fn one<'found>(stack: &mut Stack, what: &str, found: Vec<&'found Reporter>) -> Option<&'found Reporter> {
    match found[..] {
        [only] => Some(only),
        [] => {
            stack.why.push(format!("{what}: no function reports these errors"));
            None
        }
        _ => {
            stack.why.push(format!("{what}: {} functions report these errors", found.len()));
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Binary, fake, resolve};
    use super::*;

    /// rdx, rcx, r8: `ERR_put_error(library, unused, reason, file, line)`.
    const WHOLE: [u8; 3] = [2, 1, 8];
    /// rsi, rdx, rcx: without the argument that is not used.
    const SHORT: [u8; 3] = [6, 2, 1];
    const NAME: &[u8] = b"../vendor/boringssl/ssl/ssl_lib.cc";
    const HANDSHAKE: &[(u32, u32)] = &[(134, 700), (215, 710)];
    const IMPLEMENTATION: &[(u32, u32)] = &[(226, 800), (215, 820)];
    const READ: &[(u32, u32)] = &[(66, 900)];
    const WRITE: &[(u32, u32)] = &[(66, 950), (226, 955), (215, 960), (111, 970)];
    const OTHER: &[(u32, u32)] = &[(66, 1200)];

    fn found(binary: &Binary) -> Vec<(u64, &str)> {
        binary.sites().map(|site| (site.offset, site.name.as_ref())).collect()
    }

    #[test]
    fn functions_are_known_by_their_errors() {
        for slots in [WHOLE, SHORT] {
            let functions = [OTHER, HANDSHAKE, IMPLEMENTATION, WRITE, READ];
            let binary = resolve(&fake::reporting(NAME, &functions, slots)).unwrap();
            let expected = [(fake::function(3), "SSL_write"), (fake::function(4), "SSL_read")];
            assert_eq!(found(&binary), expected, "{:?}", binary.stacks);
            assert_eq!(binary.stacks[0].library, Library::Boringssl);
        }
    }

    #[test]
    fn two_functions_that_could_be_it_are_no_answer() {
        let binary = resolve(&fake::reporting(NAME, &[WRITE, IMPLEMENTATION, READ, WRITE], WHOLE)).unwrap();
        assert_eq!(found(&binary), []);
        assert!(binary.stacks[0].why.iter().any(|why| why.contains("2 functions")), "{:?}", binary.stacks);
    }

    #[test]
    fn without_its_read_the_write_is_found() {
        let binary = resolve(&fake::reporting(NAME, &[WRITE, IMPLEMENTATION, OTHER], WHOLE)).unwrap();
        assert_eq!(found(&binary), [(fake::function(0), "SSL_write")]);
    }

    #[test]
    fn another_source_file_is_another_library() {
        let functions = [HANDSHAKE, IMPLEMENTATION, WRITE, READ];
        assert_eq!(resolve(&fake::reporting(b"ssl/ssl_lib.c", &functions, WHOLE)).unwrap().stacks, []);
    }
}
