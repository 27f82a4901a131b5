//! Gives up the rights that recording needs no more once it has begun: what reads and compresses bytes of strangers should not
//! be able to do everything.

use crate::Error;
use crate::kernel::Attach;
use caps::{CapSet, Capability, CapsHashSet};

/// Keeps what attaching to programs of the future takes. Call it before threads are started: each has its own rights.
///
/// # Errors
/// When the system refuses.
pub(crate) fn drop_unneeded(attach: Attach, rotates: bool) -> Result<(), Error> {
    let failed = |error: caps::errors::CapsError| Error::System {
        what: "drop capabilities",
        source: std::io::Error::other(error.to_string()),
    };
    let held = caps::read(None, CapSet::Permitted).map_err(failed)?;
    let kept: CapsHashSet =
        needed(attach, rotates).into_iter().filter(|capability| held.contains(capability)).collect();
    caps::set(None, CapSet::Inheritable, &CapsHashSet::new()).map_err(failed)?;
    caps::set(None, CapSet::Effective, &kept).map_err(failed)?;
    caps::set(None, CapSet::Permitted, &kept).map_err(failed)?;
    nix::sys::prctl::set_no_new_privs().map_err(Error::system("give up gaining privileges"))
}

fn needed(attach: Attach, rotates: bool) -> Vec<Capability> {
    // Probes; and what is behind /proc/PID of somebody else's process.
    let mut needed =
        vec![Capability::CAP_BPF, Capability::CAP_PERFMON, Capability::CAP_SYS_PTRACE, Capability::CAP_DAC_READ_SEARCH];
    if attach == Attach::Perf {
        needed.push(Capability::CAP_SYS_ADMIN);
    }
    if rotates {
        // The next file goes into the folder of whoever called sudo, and to them.
        needed.extend([Capability::CAP_DAC_OVERRIDE, Capability::CAP_CHOWN]);
    }
    needed
}
