//! Which errors a function reports: BoringSSL and AWS-LC call `ERR_put_error(library, unused, reason, file, line)`, and reason
//! codes are stable from version to version, while lines and the code around them drift.
//!
//! The optimiser may drop the arguments that are always the same, so that the file's name is in another register; the reason
//! is in the one before it and the line in the one after it.

use super::arm64;
use super::functions::{Function, Functions};
use super::image::{Image, Machine, Piece};
use super::references::Reference;
use super::x86;
use super::{ResolveError, Site, Stack, entry};
use std::collections::BTreeMap;

/// Bytes before and after a reference that may set the other arguments.
const CONTEXT: u64 = 128;

/// What is known of the registers of arguments, in order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Constants(pub [Option<u32>; 8]);

/// One report of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Report {
    pub at: u64,
    pub reason: Option<u32>,
    pub line: Option<u32>,
}

/// A function and the errors that it reports.
#[derive(Clone, Debug)]
pub(super) struct Reporter {
    pub function: Function,
    pub reports: Vec<Report>,
}

impl Reporter {
    pub(super) fn has(&self, reason: u32) -> bool {
        self.reports.iter().any(|report| report.reason == Some(reason))
    }

    pub(super) fn has_all(&self, reasons: &[u32]) -> bool {
        reasons.iter().all(|reason| self.has(*reason))
    }

    /// The lines of reports of one reason.
    pub(super) fn lines(&self, reason: u32) -> impl Iterator<Item = u32> + '_ {
        self.reports.iter().filter(move |report| report.reason == Some(reason)).filter_map(|report| report.line)
    }
}

/// Functions that report errors in a source file to whose name these are the references.
pub(super) fn reporters(
    image: &Image<'_>,
    references: &[Reference],
    prologue: bool,
) -> Result<Vec<Reporter>, ResolveError> {
    let functions = Functions::around(image, references, prologue)?;
    let mut reporters = BTreeMap::new();
    for reference in references {
        let Some(piece) = image.around(reference.at, CONTEXT, CONTEXT) else { continue };
        let Some(function) = functions.of(image, reference.at) else { continue };
        let report = report(image.machine, &piece, reference);
        let reporter = reporters.entry(function.start).or_insert_with(|| Reporter { function, reports: Vec::new() });
        reporter.reports.push(report);
    }
    Ok(reporters.into_values().collect())
}

/// Puts a probe at the entry of a function that was found, if it is one.
pub(super) fn add(image: &Image<'_>, stack: &mut Stack, function: Function, cookie: u64, name: &'static str) {
    let start = function.start;
    if function.is_part {
        // Its stack is that of a function which is well under way.
        stack.why.push(format!("{name}: what was found at {start:#x} is a part of it that the compiler moved away"));
        return;
    }
    let at = entry::cheapest(image, start);
    if let Some(offset) = image.offset(at) {
        stack.why.push(format!("{name} at {at:#x}: {}", entry::cost(image, at)));
        stack.sites.push(Site::new(offset, cookie, name));
    }
}

fn report(machine: Machine, piece: &Piece, reference: &Reference) -> Report {
    let (constants, slot) = match machine {
        Machine::X86_64 => (x86::constants(piece, reference), x86::argument(reference.register)),
        Machine::Aarch64 => (arm64::constants(piece, reference), Some(reference.register).filter(|slot| *slot < 8)),
    };
    let at = |slot: Option<usize>| slot.and_then(|slot| constants.0.get(slot).copied().flatten());
    Report {
        at: reference.at,
        reason: at(slot.and_then(|slot| slot.checked_sub(1))),
        line: at(slot.and_then(|slot| slot.checked_add(1))),
    }
}
