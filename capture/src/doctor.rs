//! What this machine can do, feature by feature. Each is tried where that can be done without recording anybody, and what
//! does not work comes with the way out.

use crate::error::perf_way_out;
use crate::kernel::{self, Attach, Kernel, Settings};
use crate::prober::{self, Prober};
use crate::{DEFAULT_RING, Stdio, cgroups, libraries, preflight, privilege, tracepoints};
use std::mem::MaybeUninit;
use std::path::Path;

/// How a feature is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Works,
    /// Recording goes on without it.
    Limited,
    /// Nothing can be recorded without it.
    Fails,
}

/// One feature.
#[derive(Clone, Debug)]
pub struct Check {
    pub feature: &'static str,
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do about it; empty if it works.
    pub way_out: String,
}

impl Check {
    fn works(feature: &'static str, found: impl Into<String>) -> Check {
        Check { feature, verdict: Verdict::Works, found: found.into(), way_out: String::new() }
    }

    fn limited(feature: &'static str, found: impl Into<String>, way_out: impl Into<String>) -> Check {
        Check { feature, verdict: Verdict::Limited, found: found.into(), way_out: way_out.into() }
    }

    fn fails(feature: &'static str, found: impl Into<String>, way_out: impl Into<String>) -> Check {
        Check { feature, verdict: Verdict::Fails, found: found.into(), way_out: way_out.into() }
    }
}

/// Tries every feature. What needs the eBPF programs is tried only where they can be loaded.
pub fn examine() -> Vec<Check> {
    let mut checks = vec![release(), btf(), rights(), lockdown(), namespace(), system_calls(), cgroups(), cache()];
    let settings = Settings {
        ring: DEFAULT_RING as u32,
        max_payload: 0,
        plain: true,
        stdio: Stdio::All,
        names: Vec::new(),
        cgroups: Vec::new(),
    };
    let mut storage = [const { MaybeUninit::uninit() }; 3];
    match kernel::load(&mut storage, &settings) {
        Ok(kernel) => {
            checks.extend([Check::works("eBPF programs", "loaded"), attaching(kernel.attach), probes(&kernel)])
        }
        Err(error) => checks.push(Check::fails(
            "eBPF programs",
            error.to_string(),
            "AGENTSIGHT_DEBUG=1 prints the kernel's reasons; what stands above with a cross is the likely one",
        )),
    }
    checks
}

fn release() -> Check {
    let found = format!("Linux {}", preflight::release());
    match preflight::kernel(&preflight::release()) {
        Ok(()) => Check::works("kernel", found),
        Err(_) => Check::fails("kernel", found, "5.15 is the oldest that has what is needed"),
    }
}

fn btf() -> Check {
    match Path::new(preflight::BTF).exists() {
        true => Check::works("kernel types (BTF)", preflight::BTF),
        false => {
            let out = "use a kernel built with CONFIG_DEBUG_INFO_BTF, as those of the distributions are";
            Check::fails("kernel types (BTF)", format!("no {}", preflight::BTF), out)
        }
    }
}

fn rights() -> Check {
    if let Err(error) = preflight::user_namespace() {
        return Check::fails("rights", "in a user namespace", error.to_string());
    }
    let held = privilege::held();
    let missing = |wanted: &[caps::Capability]| -> Vec<String> {
        wanted.iter().filter(|capability| !held.contains(capability)).map(ToString::to_string).collect()
    };
    let (load, look) = (missing(&privilege::LOAD), missing(&privilege::LOOK));
    if !privilege::suffices(&held) {
        let way_out = "run it with sudo, or give the program file capabilities: scripts/setup --capabilities";
        return Check::fails("rights", format!("without {}", load.join(", ")), way_out);
    }
    if privilege::perf_takes_admin() && !held.contains(&privilege::ADMIN) {
        return Check::fails("rights", "kernel.perf_event_paranoid is above 2", perf_way_out());
    }
    if !look.is_empty() {
        let way_out = "without them only processes of this user can be looked into: run it with sudo";
        return Check::limited("rights", format!("without {}", look.join(", ")), way_out);
    }
    Check::works(
        "rights",
        if nix::unistd::geteuid().is_root() { "root" } else { "the capabilities that recording needs" },
    )
}

fn lockdown() -> Check {
    let state = std::fs::read_to_string("/sys/kernel/security/lockdown").unwrap_or_default();
    let chosen = state.split(['[', ']']).nth(1).unwrap_or("not in force, or not told").to_owned();
    match chosen.as_str() {
        "confidentiality" => {
            let way_out = "in this mode no eBPF program may read memory: boot with lockdown=integrity or lockdown=none";
            Check::fails("lockdown", chosen, way_out)
        }
        _ => Check::works("lockdown", chosen),
    }
}

fn namespace() -> Check {
    match preflight::pid_namespace() {
        Ok(()) => Check::works("process ids", "those of the host"),
        Err(error) => Check::fails("process ids", "a namespace of its own", error.to_string()),
    }
}

fn system_calls() -> Check {
    match tracepoints::available() {
        Ok((0, _)) => Check::fails("system calls", "no tracepoints", "use a kernel built with CONFIG_FTRACE_SYSCALLS"),
        Ok((found, all)) => {
            Check::works("system calls", format!("{found} tracepoints of {all}; older kernels and arm64 lack some"))
        }
        Err(error) => Check::fails("system calls", "their tracepoints are not to be had", error.to_string()),
    }
}

fn cgroups() -> Check {
    match cgroups::root() {
        Some(root) => Check::works("--cgroup, --container", format!("cgroup2 at {}", root.display())),
        None => {
            let way_out =
                "--container records what runs in it now, not what is started from outside; name processes with --pid";
            Check::limited("--cgroup, --container", "cgroup2 is not mounted", way_out)
        }
    }
}

/// Where the resolver's answers are kept.
fn cache() -> Check {
    let Some(folder) = prober::cache_folder() else {
        return Check::limited("cache of probes", "no home folder", "large programs are looked through at each start");
    };
    let made = std::fs::create_dir_all(&folder);
    let writable = made.and_then(|()| Ok(nix::unistd::access(&folder, nix::unistd::AccessFlags::W_OK)?));
    match writable {
        Ok(()) => Check::works("cache of probes", folder.display().to_string()),
        Err(error) => {
            let way_out = "large programs are looked through at each start, and their first bytes may be missed";
            Check::limited("cache of probes", format!("{}: {error}", folder.display()), way_out)
        }
    }
}

fn attaching(attach: Attach) -> Check {
    match attach {
        Attach::Session | Attach::Multi => Check::works("many probes at once", attach.name()),
        Attach::Perf => Check::limited(
            "many probes at once",
            "one perf event a probe",
            "recording works; Linux 6.6 attaches faster, and without CAP_SYS_ADMIN",
        ),
    }
}

/// Attaches to the TLS libraries that are installed: nobody is recorded, so nothing is seen.
fn probes(kernel: &Kernel<'_>) -> Check {
    let mut prober = Prober::new();
    for library in libraries::installed() {
        prober.probe(kernel, &library, &library);
    }
    match (prober.warnings.first(), prober.probed.len()) {
        (Some(warning), _) => {
            let way_out = match kernel.attach {
                Attach::Perf => "perf events take CAP_SYS_ADMIN: run it with sudo",
                _ => "AGENTSIGHT_DEBUG=1 prints what libbpf says",
            };
            Check::limited("TLS probes", warning.clone(), way_out)
        }
        (None, 0) => {
            Check::works("TLS probes", "no TLS library is installed; programs with their own are found when they start")
        }
        (None, count) => Check::works("TLS probes", format!("attached to {count} installed TLS libraries")),
    }
}

/// Whether everything that recording cannot do without is there.
pub fn can_record(checks: &[Check]) -> bool {
    checks.iter().all(|check| check.verdict != Verdict::Fails)
}
