//! rustls over AWS-LC without symbols (codex, deno, uv): the four functions that seal and open TLS records are known by the
//! errors they report in `crypto/fipsmodule/cipher/aead.c`.

use super::cookie::{Library, cookie, count, op};
use super::image::Image;
use super::reasons::{self, Reporter};
use super::{ResolveError, Stack, search};

/// The source file: in the copy that is built for Rust it lies in a folder of this name.
pub(super) const ANCHOR: &[u8] = b"/aws-lc/crypto/fipsmodule/cipher/aead.c";
const METHOD: &str = "reason codes";

/// Name, operation, reasons, and the reason that one of the others has and this has not.
type Kind = (&'static str, u64, &'static [u32], &'static [u32]);

const KINDS: &[Kind] = &[
    ("EVP_AEAD_CTX_seal", op::AEAD_SEAL, &[117, 103, 115], &[]),
    ("EVP_AEAD_CTX_seal_scatter", op::AEAD_SEAL_SCATTER, &[112, 115], &[117, 101]),
    ("EVP_AEAD_CTX_open", op::AEAD_OPEN, &[101, 103, 115], &[117]),
    ("EVP_AEAD_CTX_open_gather", op::AEAD_OPEN_GATHER, &[104, 115], &[101, 103]),
];

/// Looks for the functions, given where the file's name was found.
pub(super) fn find(image: &Image<'_>, anchors: &[u64]) -> Result<Stack, ResolveError> {
    let mut stack = Stack::new(Library::AwsLc, METHOD);
    let reporters = reasons::reporters(image, &search::starts(image, anchors), true)?;
    let reports: usize = reporters.iter().map(|reporter| reporter.reports.len()).sum();
    stack.why.push(format!("cipher/aead.c is named {reports} times in {} functions", reporters.len()));
    for (name, op, reasons, without) in KINDS {
        let is =
            |reporter: &&Reporter| reporter.has_all(reasons) && !without.iter().any(|reason| reporter.has(*reason));
        let found: Vec<&Reporter> = reporters.iter().filter(is).collect();
        match found[..] {
            [only] => reasons::add(image, &mut stack, only, cookie(Library::AwsLc, *op, count::RETURNED), name),
            _ => stack.why.push(format!("{name}: {} functions report {reasons:?}", found.len())),
        }
    }
    Ok(stack)
}
