//! How processes that run already come to be recorded. They are followed first and looked at then, and that once the programs
//! in the kernel are attached: whoever is forked or named meanwhile is seen by these, or by the next look at /proc.

use crate::kernel::Kernel;
use crate::prober::Prober;
use crate::targets::Targets;
use crate::{Error, procfs};
use std::collections::BTreeSet;

/// Generations of processes that are recorded from the start; the kernel side counts its own from 1.
pub(crate) const FIRST_GENERATION: u64 = 1 << 63;

/// Records the targets that run, with their descendants. Appends what is to be said of them to `out`.
///
/// # Errors
/// When the table of targets is full.
pub(crate) fn adopt_all(
    kernel: &Kernel<'_>,
    prober: &mut Prober,
    targets: &Targets,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    for id in targets.cgroup_ids() {
        kernel.select_cgroup(id)?;
    }
    let ourselves = BTreeSet::from([std::process::id()]);
    for pid in follow(kernel, || targets.running(), ourselves)? {
        describe(kernel, prober, pid, out);
    }
    Ok(())
}

/// Records the descendants of a process that the kernel side has adopted. Appends what is to be said of it and of them to `out`.
///
/// # Errors
/// When the table of targets is full.
pub(crate) fn adopt_descendants(
    kernel: &Kernel<'_>,
    prober: &mut Prober,
    pid: u32,
    out: &mut Vec<u8>,
) -> Result<(), Error> {
    let known = BTreeSet::from([std::process::id(), pid]);
    for pid in std::iter::once(pid).chain(follow(kernel, || BTreeSet::from([pid]), known)?) {
        describe(kernel, prober, pid, out);
    }
    Ok(())
}

/// Follows processes and their descendants except those that were `seen` already, and returns those that were not followed
/// before. Of the others the kernel side tells: that it adopted them, or that a process which is recorded forked them.
fn follow(
    kernel: &Kernel<'_>,
    roots: impl Fn() -> BTreeSet<u32>,
    mut seen: BTreeSet<u32>,
) -> Result<BTreeSet<u32>, Error> {
    let mut added = BTreeSet::new();
    loop {
        let before = added.len();
        for pid in procfs::trees(roots()) {
            if !seen.insert(pid) || !kernel.add_target(pid, FIRST_GENERATION | u64::from(pid))? {
                continue;
            }
            if procfs::is_gone(pid) {
                // Nobody would tell of its exit any more, and the next process with its number would be taken for it.
                kernel.forget_target(pid);
            } else {
                added.insert(pid);
            }
        }
        if added.len() == before {
            return Ok(added);
        }
    }
}

fn describe(kernel: &Kernel<'_>, prober: &mut Prober, pid: u32, out: &mut Vec<u8>) {
    let mut records = Vec::new();
    procfs::append_process(&mut records, pid);
    // Said after its exit, it would be another process.
    if kernel.is_target(pid) {
        out.append(&mut records);
    }
    out.extend(prober.probe_mapped(kernel, pid));
}
