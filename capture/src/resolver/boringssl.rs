//! BoringSSL without symbols (Bun and what is compiled with it): its functions are known by the errors they report in
//! `ssl/ssl_lib.cc`. The connection's end cannot be told this way and is not probed.

use super::cookie::{self, Library, cookie, count, op};
use super::functions::Function;
use super::image::Image;
use super::reasons::{self, Reporter};
use super::references::Reference;
use super::{ResolveError, Stack, peek};

/// The source file, as its name ends.
pub(super) const ANCHOR: &[u8] = b"ssl/ssl_lib.cc\0";
/// The source file below it, of what it writes.
pub(super) const SEAL_ANCHOR: &[u8] = b"ssl/s3_pkt.cc\0";
const METHOD: &str = "reason codes";

/// `SSL_R_UNINITIALIZED`, `SSL_R_SSL_HANDSHAKE_FAILURE`, `SSL_R_BAD_LENGTH` and `ERR_R_SHOULD_NOT_HAVE_BEEN_CALLED`, in
/// BoringSSL's ssl.h and err.h.
const UNINITIALIZED: u32 = 226;
const HANDSHAKE_FAILURE: u32 = 215;
const BAD_LENGTH: u32 = 111;
const NOT_CALLED: u32 = 66;
/// `SSL_R_OUTPUT_ALIASES_INPUT`.
const OUTPUT_ALIASES_INPUT: u32 = 189;

/// Looks for the functions, given the references to the files' names.
pub(super) fn find(image: &Image<'_>, references: &[Reference], below: &[Reference]) -> Result<Stack, ResolveError> {
    let mut stack = Stack::new(Library::Boringssl, METHOD);
    let reporters = reasons::reporters(image, references, false)?;
    let reports: usize = reporters.iter().map(|reporter| reporter.reports.len()).sum();
    stack.why.push(format!("ssl/ssl_lib.cc is named {reports} times in {} functions", reporters.len()));
    let writes = |reporter: &&Reporter| reporter.has_all(&[UNINITIALIZED, HANDSHAKE_FAILURE, BAD_LENGTH]);
    let Some(write) = one(&mut stack, "SSL_write {226,215,111}", reporters.iter().filter(writes).collect()) else {
        return Ok(stack);
    };
    let read = read(image, &mut stack, &reporters, write)?;
    reasons::add(
        image,
        &mut stack,
        write.function,
        cookie(Library::Boringssl, op::WRITE, count::RETURNED),
        "SSL_write",
    );
    if let Some((function, cookie, name)) = read {
        reasons::add(image, &mut stack, function, cookie, name);
    }
    seal(image, &mut stack, below)?;
    Ok(stack)
}

/// `SSL_seal_app_data`, which a BoringSSL for Rust has (btls) in addition: what is written goes past `SSL_write` into memory of
/// the program's. Nothing else in its source file is given room for what it makes, and reports that this is where its input is.
fn seal(image: &Image<'_>, stack: &mut Stack, references: &[Reference]) -> Result<(), ResolveError> {
    const NAME: &str = "SSL_seal_app_data";
    let reporters = reasons::reporters(image, references, false)?;
    let seals: Vec<_> = reporters.iter().filter(|reporter| reporter.has(OUTPUT_ALIASES_INPUT)).collect();
    if seals.is_empty() {
        return Ok(());
    }
    if let Some(seal) = one(stack, &format!("{NAME} {{{OUTPUT_ALIASES_INPUT}}}"), seals) {
        let cookie = cookie(Library::Boringssl, op::SEAL_DATA, count::RETURNED);
        reasons::add(image, stack, seal.function, cookie, NAME);
    }
    Ok(())
}

/// `SSL_read` and `SSL_peek` report that they were called for QUIC, on a line between those of `ssl_read_impl`, which may be
/// copied into them, and `SSL_write`; or only `SSL_peek` does, where `SSL_read` calls it.
fn read(
    image: &Image<'_>,
    stack: &mut Stack,
    reporters: &[Reporter],
    write: &Reporter,
) -> Result<Option<Reader>, ResolveError> {
    let Some(last) = write.reports.iter().filter_map(|report| report.line).min() else { return Ok(None) };
    let before = |reporter: &Reporter| reporter.lines(HANDSHAKE_FAILURE).filter(|line| *line < last).max();
    let Some(first) = reporters.iter().filter_map(before).max() else {
        stack.why.push(format!("ssl_read_impl {{226,215}}: no function reports this before line {last}"));
        return Ok(None);
    };
    let reads = |reporter: &&Reporter| {
        !reporter.has(BAD_LENGTH) && reporter.lines(NOT_CALLED).any(|line| first < line && line < last)
    };
    let mut found: Vec<_> = reporters.iter().filter(reads).collect();
    // SSL_peek shares the line where the compiler copied it into SSL_read, which does more.
    let size = |reporter: &&Reporter| reporter.function.end.map_or(0, |end| end - reporter.function.start);
    found.sort_by_key(|reporter| std::cmp::Reverse(size(reporter)));
    match found[..] {
        [larger, smaller] if size(&larger) > size(&smaller) => {
            stack.why.push("SSL_read {66}: the larger of two functions; the other is SSL_peek".to_owned());
            Ok(Some(whole_read(larger.function)))
        }
        _ => match one(stack, &format!("SSL_read {{66}}, lines {first} to {last}"), found) {
            Some(only) => read_or_peek(image, stack, only.function),
            None => Ok(None),
        },
    }
}

/// What reads: the function, the cookie and the name.
type Reader = (Function, u64, &'static str);

fn whole_read(function: Function) -> Reader {
    (function, cookie(Library::Boringssl, op::READ, count::RETURNED), "SSL_read")
}

/// What reads, given the one function that is `SSL_read` or `SSL_peek`.
fn read_or_peek(image: &Image<'_>, stack: &mut Stack, either: Function) -> Result<Option<Reader>, ResolveError> {
    let start = either.start;
    let (calls, layouts) = peek::taken_off(image, start)?;
    match layouts.iter().collect::<Vec<_>>()[..] {
        [layout] => {
            let peek::Layout { state, pending } = *layout;
            stack.why.push(format!(
                "SSL_read {{66}}: {start:#x} is SSL_peek, and {calls} of its calls take what it read off what is pending, at \
                 {pending:#x} behind what {state:#x} points to"
            ));
            Ok(Some((either, cookie::peek(Library::Boringssl, state, pending), "SSL_peek")))
        }
        [] if peek::consumes(image, &either) => Ok(Some(whole_read(either))),
        [] => {
            stack
                .why
                .push(format!("SSL_read {{66}}: {start:#x} is SSL_peek, and no call of it is like that of SSL_read"));
            Ok(None)
        }
        ref layouts => {
            let places = layouts.len();
            stack.why.push(format!("SSL_read {{66}}: what {start:#x} read is taken off in {places} different places"));
            Ok(None)
        }
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

    /// mov rax,[rdi+0x30]; add [rax+0x80],rcx; mov [rax+0x88],rdx
    const CONSUMES: &[u8] = &[0x48, 0x8b, 0x47, 0x30, 0x48, 0x01, 0x88, 0x80, 0, 0, 0, 0x48, 0x89, 0x90, 0x88, 0, 0, 0];

    /// A program in which one of the functions takes something off what is pending.
    fn consuming(functions: &[&[(u32, u32)]], which: usize, slots: [u8; 3]) -> Binary {
        let does = |index, _| if index == which { CONSUMES.to_vec() } else { Vec::new() };
        resolve(&fake::reporting_and(NAME, functions, slots, does)).unwrap()
    }

    /// A program in which some of the functions call one, with what is then in this register as the connection, and take what
    /// it read off what is pending behind `pending`.
    fn calling(functions: &[&[(u32, u32)]], called: usize, callers: &[(usize, [u8; 3], u8)]) -> Binary {
        let does = |index, at: u64| {
            let Some((_, connection, pending)) = callers.iter().find(|caller| caller.0 == index) else {
                return Vec::new();
            };
            let distance = fake::function(called) as i32 - (at as i32 + connection.len() as i32 + 5);
            // mov rdx,[rbx+0x30]; mov ecx,eax; sub [rdx+pending+8],rcx; add [rdx+pending],rcx
            let takes_off =
                [0x48, 0x8b, 0x53, 0x30, 0x89, 0xc1, 0x48, 0x29, 0x4a, pending + 8, 0x48, 0x01, 0x4a, *pending];
            [&connection[..], &[0xe8], &distance.to_le_bytes(), &takes_off].concat()
        };
        resolve(&fake::reporting_and(NAME, functions, WHOLE, does)).unwrap()
    }

    fn found(binary: &Binary) -> Vec<(u64, &str)> {
        binary.sites().map(|site| (site.offset, site.name.as_ref())).collect()
    }

    #[test]
    fn functions_are_known_by_their_errors() {
        for slots in [WHOLE, SHORT] {
            let functions = [OTHER, HANDSHAKE, IMPLEMENTATION, WRITE, READ];
            let binary = consuming(&functions, 4, slots);
            let expected = [(fake::function(3), "SSL_write"), (fake::function(4), "SSL_read")];
            assert_eq!(found(&binary), expected, "{:?}", binary.stacks);
            assert_eq!(binary.stacks[0].library, Library::Boringssl);
        }
    }

    /// mov rbx,rdi; mov rdi,rbx; mov rbx,rsi
    const KEPT: [u8; 3] = [0x48, 0x89, 0xfb];
    const GIVEN: [u8; 3] = [0x48, 0x89, 0xdf];
    const ANOTHER: [u8; 3] = [0x48, 0x89, 0xf3];

    /// As in QtWebEngine, where the compiler did not copy SSL_peek into SSL_read, and in a Chromium, where it copied SSL_read into
    /// those who call it.
    #[test]
    fn a_read_may_report_nothing_and_call_what_does() {
        for peek in [READ, &[(134, 700), (226, 800), (215, 820), (66, 900)]] {
            let functions = [HANDSHAKE, IMPLEMENTATION, WRITE, peek, &[], &[]];
            for callers in
                [&[(4, KEPT, 0x50)][..], &[(4, GIVEN, 0x50), (5, KEPT, 0x50)], &[(4, KEPT, 0x50), (5, ANOTHER, 0x60)]]
            {
                let binary = calling(&functions, 3, callers);
                let expected = [(fake::function(2), "SSL_write"), (fake::function(3), "SSL_peek")];
                assert_eq!(found(&binary), expected, "{:?}", binary.stacks);
                assert_eq!(binary.sites().last().unwrap().cookie, cookie::peek(Library::Boringssl, 0x30, 0x50));
            }
        }
    }

    #[test]
    fn a_peek_is_no_read() {
        let functions = [HANDSHAKE, IMPLEMENTATION, WRITE, READ, &[], &[]];
        let nothing = consuming(&functions, 4, WHOLE);
        let another = calling(&functions, 3, &[(4, ANOTHER, 0x50)]);
        let differing = calling(&functions, 3, &[(4, KEPT, 0x50), (5, KEPT, 0x60)]);
        for (binary, said) in [(nothing, "is SSL_peek"), (another, "is SSL_peek"), (differing, "2 different places")] {
            assert_eq!(found(&binary), [(fake::function(2), "SSL_write")]);
            assert!(binary.stacks[0].why.iter().any(|why| why.contains(said)), "{:?}", binary.stacks);
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
