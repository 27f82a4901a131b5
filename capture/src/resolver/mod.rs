//! Finds where in a binary TLS plaintext can be seen: file in, list of probe sites out. Nothing is attached here.
//!
//! A binary may carry several stacks, and each is looked for in its own way: by symbols where there are any, else by what
//! cannot be stripped from it (the file names and error codes that BoringSSL and AWS-LC report, the function table that Go's
//! runtime needs). Every way says why it believes what it says, and an answer that is not certain is no answer: a probe at a
//! wrong place reads memory that means something else.

mod arm64;
mod awslc;
mod boringssl;
mod cache;
pub mod cookie;
mod dense;
mod entry;
#[cfg(test)]
mod fake;
mod functions;
mod gocode;
mod golang;
mod image;
mod moduledata;
mod named;
mod openssl;
mod pclntab;
mod peek;
mod reasons;
mod references;
mod relocations;
mod ring;
mod search;
mod steps;
mod symbols;
mod x86;

pub use cache::resolve_cached;
pub use cookie::Library;

use image::Image;
use object::ReadCache;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fs::File;

/// Why a file has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    #[error("cannot be read: {0}")]
    Read(#[from] std::io::Error),
    #[error("no program: it is no ELF file")]
    NoElf,
    #[error("a 32-bit program: only 64-bit ones are looked into")]
    Elf32,
    #[error("no ELF file that can be read: {0}")]
    Elf(#[from] object::read::Error),
    #[error("ELF machine {machine} is neither x86-64 nor arm64")]
    Machine { machine: u16 },
    #[error("has more than {limit} bytes of {what}")]
    TooLarge { what: &'static str, limit: u64 },
}

/// A place to probe.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Site {
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// What the eBPF programs take it for; see [`cookie`].
    pub cookie: u64,
    /// The function.
    pub name: Cow<'static, str>,
}

impl Site {
    fn new(offset: u64, cookie: u64, name: &'static str) -> Self {
        Site { offset, cookie, name: Cow::Borrowed(name) }
    }

    /// Whether the function's return says something that is not seen otherwise.
    pub fn wants_return(&self) -> bool {
        use cookie::op::{
            AEAD_OPEN, AEAD_OPEN_GATHER, AEAD_SEAL, AEAD_SEAL_SCATTER, NSS_READ, NSS_WRITE, PEEK, READ, READ_PACKET,
            RING_OPEN, RING_SEAL, SEAL_DATA, UNCORK, WRITE,
        };
        let aead = [AEAD_SEAL, AEAD_SEAL_SCATTER, AEAD_OPEN, AEAD_OPEN_GATHER, RING_SEAL, RING_OPEN];
        [READ, PEEK, READ_PACKET, WRITE, UNCORK, SEAL_DATA, NSS_READ, NSS_WRITE]
            .iter()
            .chain(&aead)
            .any(|op| *op == cookie::op_of(self.cookie))
    }
}

/// A TLS stack in a binary.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stack {
    pub library: Library,
    /// How it was found.
    pub method: Cow<'static, str>,
    /// By offset; empty where the library is there, but its functions were not found.
    pub sites: Vec<Site>,
    /// What was found on the way, or what was not; one line each.
    pub why: Vec<String>,
}

impl Stack {
    fn new(library: Library, method: &'static str) -> Self {
        Stack { library, method: Cow::Borrowed(method), sites: Vec::new(), why: Vec::new() }
    }
}

/// What was found in a binary.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Binary {
    /// GNU build id, hexadecimal; empty if there is none.
    pub build_id: String,
    pub stacks: Vec<Stack>,
}

impl Binary {
    /// The sites of all stacks.
    pub fn sites(&self) -> impl Iterator<Item = &Site> {
        self.stacks.iter().flat_map(|stack| &stack.sites)
    }
}

/// Looks for TLS stacks in a 64-bit ELF file.
///
/// # Errors
/// When it is not one of a machine that is known, or is damaged.
pub fn resolve(file: &File) -> Result<Binary, ResolveError> {
    let data = ReadCache::new(file);
    let image = Image::parse(file, &data)?;
    let mut stacks = named::find(&image)?;
    stacks.extend(anonymous(&image, &stacks)?);
    let mut seen = std::collections::HashSet::new();
    for stack in &mut stacks {
        stack.sites.sort();
        // Two names of one function are one site, and no two stacks share one.
        stack.sites.retain(|site| seen.insert(site.offset));
    }
    Ok(Binary { build_id: image.build_id(), stacks })
}

/// The names of the shared libraries that an ELF file is linked with.
///
/// # Errors
/// As [`resolve`].
pub fn needed(file: &File) -> Result<Vec<String>, ResolveError> {
    let data = ReadCache::new(file);
    Ok(Image::parse(file, &data)?.needed())
}

/// Stacks without symbols. The strings that give them away are looked for in one pass, and what refers to them in another.
fn anonymous(image: &Image<'_>, named: &[Stack]) -> Result<Vec<Stack>, ResolveError> {
    let mut wanted = vec![boringssl::ANCHOR, boringssl::SEAL_ANCHOR, awslc::ANCHOR, ring::ANCHOR];
    wanted.extend(openssl::ANCHORS);
    if !pclntab::is_named(image) {
        wanted.push(pclntab::anchor(image.machine));
    }
    let mut places = search::find(image, &wanted)?.into_iter();
    let mut next = || places.next().unwrap_or_default();
    let is_named = |library| named.iter().any(|stack| stack.library == library);
    let unless = |known, places: Vec<u64>| if known { Vec::new() } else { places };
    let [boring, seal] =
        [next(), next()].map(|found| unless(is_named(Library::Boringssl), search::starts(image, &found)));
    let aws = search::starts(image, &next());
    let ring = next();
    let [writes, reads] = [next(), next()].map(|found| unless(is_named(Library::Openssl), openssl::names(&found)));
    let (versions, go) = (next(), next());

    let all = references::find(image, &[&boring[..], &seal, &aws, &writes, &reads].concat())?;
    let mut stacks = Vec::new();
    if !boring.is_empty() {
        stacks.push(boringssl::find(image, &references::to(&all, &boring), &references::to(&all, &seal))?);
    }
    if !aws.is_empty() {
        stacks.push(awslc::find(image, &references::to(&all, &aws))?);
    }
    if !ring.is_empty() {
        stacks.push(ring::find(image));
    }
    if !(writes.is_empty() && reads.is_empty()) {
        let [writes, reads] = [writes, reads].map(|names| references::to(&all, &names));
        stacks.push(openssl::find(image, &writes, &reads, &versions)?);
    }
    stacks.extend(golang::find(image, &go));
    Ok(stacks)
}
