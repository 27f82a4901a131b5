//! Which rights recording takes, and how those that it needs no more once it has begun are given up: what reads and compresses
//! bytes of strangers should not be able to do everything.

use crate::Error;
use crate::kernel::Attach;
use caps::{CapSet, Capability, CapsHashSet};

/// To load the programs and to attach them.
pub(crate) const LOAD: [Capability; 2] = [Capability::CAP_BPF, Capability::CAP_PERFMON];
/// What is behind /proc/PID of somebody else's process.
pub(crate) const LOOK: [Capability; 2] = [Capability::CAP_SYS_PTRACE, Capability::CAP_DAC_READ_SEARCH];
/// What a process has mapped, though its name is gone or means another file by now.
pub(crate) const MAPPED: Capability = Capability::CAP_CHECKPOINT_RESTORE;
/// In place of [`LOAD`]; where a probe is a perf event, that takes it too.
pub(crate) const ADMIN: Capability = Capability::CAP_SYS_ADMIN;
/// To come back after others went first. Whoever has not got it competes for the CPU all the time.
pub(crate) const RETURN: Capability = Capability::CAP_SYS_NICE;

/// The rights that this thread has now.
pub(crate) fn held() -> CapsHashSet {
    caps::read(None, CapSet::Effective).unwrap_or_default()
}

/// Whether the programs may be loaded with these rights.
pub(crate) fn suffices(held: &CapsHashSet) -> bool {
    held.contains(&ADMIN) || LOAD.iter().all(|capability| held.contains(capability))
}

/// Whether the system leaves perf events, which tracepoints of system calls are attached by, to CAP_SYS_ADMIN
/// (`kernel.perf_event_paranoid` above 2, as Debian and Ubuntu have it).
pub(crate) fn perf_takes_admin() -> bool {
    let level = std::fs::read_to_string("/proc/sys/kernel/perf_event_paranoid").unwrap_or_default();
    level.trim().parse::<i32>().is_ok_and(|level| level > 2)
}

/// Whether the rights are those of the program's file (capabilities of the file, set-user-ID), and not of whoever started it.
pub(crate) fn are_of_the_file() -> bool {
    // SAFETY: reads a number of the auxiliary vector.
    unsafe { libc::getauxval(libc::AT_SECURE) != 0 }
}

/// Gives up what the program's file gave, for work that takes no rights: whoever may start the program is to read no more with
/// it than without. Rights of the caller's own stay: root reads the files of others.
///
/// # Errors
/// When the system refuses.
pub fn give_up_those_of_the_file() -> Result<(), Error> {
    if !are_of_the_file() {
        return Ok(());
    }
    let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
    nix::unistd::setresgid(gid, gid, gid).map_err(Error::system("become the caller's group"))?;
    nix::unistd::setresuid(uid, uid, uid).map_err(Error::system("become the caller"))?;
    let failed = |error: caps::errors::CapsError| Error::System {
        what: "drop capabilities",
        source: std::io::Error::other(error.to_string()),
    };
    for set in [CapSet::Effective, CapSet::Permitted] {
        caps::clear(None, set).map_err(failed)?;
    }
    Ok(())
}

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
    let mut needed = [LOAD, LOOK].concat();
    needed.extend([MAPPED, RETURN]);
    if attach == Attach::Perf {
        needed.push(ADMIN);
    }
    if rotates {
        // The next file goes into the folder of whoever called sudo, and to them.
        needed.extend([Capability::CAP_DAC_OVERRIDE, Capability::CAP_CHOWN]);
    }
    needed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn root_may_load_programs_and_so_may_bpf_with_perfmon() {
        assert!(suffices(&CapsHashSet::from([ADMIN])));
        assert!(suffices(&CapsHashSet::from(LOAD)));
        assert!(!suffices(&CapsHashSet::from([Capability::CAP_BPF])));
        assert!(!suffices(&CapsHashSet::from(LOOK)));
    }
}
