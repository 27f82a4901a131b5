//! rustls over AWS-LC without symbols (codex, deno, uv): the four functions that seal and open TLS records are known by the
//! errors they report in `crypto/fipsmodule/cipher/aead.c`.

use super::cookie::{Library, cookie, count, op};
use super::image::Image;
use super::reasons::{self, Reporter};
use super::references::Reference;
use super::{ResolveError, Stack};

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

/// Looks for the functions, given the references to the file's name.
pub(super) fn find(image: &Image<'_>, references: &[Reference]) -> Result<Stack, ResolveError> {
    let mut stack = Stack::new(Library::AwsLc, METHOD);
    let reporters = reasons::reporters(image, references, true)?;
    let reports: usize = reporters.iter().map(|reporter| reporter.reports.len()).sum();
    stack.why.push(format!("cipher/aead.c is named {reports} times in {} functions", reporters.len()));
    for (name, op, reasons, without) in KINDS {
        let is =
            |reporter: &&Reporter| reporter.has_all(reasons) && !without.iter().any(|reason| reporter.has(*reason));
        let found: Vec<&Reporter> = reporters.iter().filter(is).collect();
        match found[..] {
            [only] => {
                reasons::add(image, &mut stack, only.function, cookie(Library::AwsLc, *op, count::RETURNED), name)
            }
            _ => stack.why.push(format!("{name}: {} functions report {reasons:?}", found.len())),
        }
    }
    Ok(stack)
}

#[cfg(test)]
mod tests {
    use super::super::{fake, resolve};
    use super::*;

    const NAME: &[u8] = b"/build/aws-lc/crypto/fipsmodule/cipher/aead.c";
    const SEAL: &[(u32, u32)] = &[(117, 172), (103, 177), (115, 182)];
    const SEAL_SCATTER: &[(u32, u32)] = &[(115, 214), (112, 219)];
    const OPEN: &[(u32, u32)] = &[(115, 244), (101, 261), (103, 267)];
    const OPEN_GATHER: &[(u32, u32)] = &[(115, 292), (104, 297)];

    fn found(functions: &[&[(u32, u32)]]) -> Vec<(u64, String)> {
        let binary = resolve(&fake::reporting(NAME, functions, [2, 1, 8])).unwrap();
        binary.sites().map(|site| (site.offset, site.name.to_string())).collect()
    }

    #[test]
    fn the_four_functions_are_known_by_their_errors() {
        let names = KINDS.iter().map(|(name, ..)| (*name).to_owned());
        let expected: Vec<_> = names.enumerate().map(|(index, name)| (fake::function(index), name)).collect();
        assert_eq!(found(&[SEAL, SEAL_SCATTER, OPEN, OPEN_GATHER, &[(124, 59)]]), expected);
    }

    /// As in codex, where the compiler copied one into the other.
    #[test]
    fn a_function_within_another_is_not_told_apart() {
        let both = [OPEN, OPEN_GATHER].concat();
        let found = found(&[SEAL, SEAL_SCATTER, &both]);
        assert_eq!(found.last(), Some(&(fake::function(2), "EVP_AEAD_CTX_open".to_owned())));
        assert_eq!(found.len(), 3);
    }
}
