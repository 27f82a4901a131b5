//! The loaded eBPF programs: which of them this kernel can take, who is recorded, what was lost.

use crate::Error;
use agentsight_bpf::{AgentsightSkel, AgentsightSkelBuilder};
use agentsight_formats::record::DropCounter;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{MapCore, MapFlags, MapHandle, OpenObject, PrintLevel, ProgramType};
use std::mem::MaybeUninit;

/// How probes are attached: the cheapest way that the kernel has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Attach {
    /// One program at entry and return (Linux 6.13).
    Session,
    /// Many places with one link (Linux 6.6).
    Multi,
    /// A perf event for each place.
    Perf,
}

impl Attach {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Attach::Session => "uprobe.session",
            Attach::Multi => "uprobe.multi",
            Attach::Perf => "uprobe",
        }
    }
}

/// Reasons for a drop that the kernel side counts, per source.
const DROP_REASONS: u32 = 2;

/// The programs, loaded and attached to the process tracepoints.
pub(crate) struct Kernel<'obj> {
    pub skel: AgentsightSkel<'obj>,
    pub attach: Attach,
}

/// Loads the programs with the best way to attach, and the next best if the kernel refuses.
///
/// # Errors
/// [`Error::Load`] when it refuses all.
pub(crate) fn load(storage: &mut [MaybeUninit<OpenObject>; 3]) -> Result<Kernel<'_>, Error> {
    libbpf_rs::set_print(Some((PrintLevel::Debug, print)));
    let mut refused = None;
    for (attach, storage) in [Attach::Session, Attach::Multi, Attach::Perf].into_iter().zip(storage) {
        match load_with(attach, storage) {
            Ok(skel) => return Ok(Kernel { skel, attach }),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.map_or(Error::Privilege, Error::Load))
}

/// libbpf explains a refusal at length; AGENTSIGHT_DEBUG shows it.
fn print(_level: PrintLevel, message: String) {
    if std::env::var_os("AGENTSIGHT_DEBUG").is_some() {
        eprint!("{message}");
    }
}

fn load_with(attach: Attach, storage: &mut MaybeUninit<OpenObject>) -> libbpf_rs::Result<AgentsightSkel<'_>> {
    let mut open = AgentsightSkelBuilder::default().open(storage)?;
    open.progs.tls_session.set_autoload(attach == Attach::Session);
    open.progs.tls_entry_multi.set_autoload(attach != Attach::Perf);
    open.progs.tls_return_multi.set_autoload(attach == Attach::Multi);
    open.progs.tls_entry.set_autoload(attach == Attach::Perf);
    open.progs.tls_return.set_autoload(attach == Attach::Perf);
    if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
        rodata.page_size = page_size();
        rodata.have_loop = have_loop();
    }
    open.load()
}

fn page_size() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().map_or(4096, |size| size as u64)
}

fn have_loop() -> bool {
    const BPF_LOOP: u32 = 181;
    ProgramType::Kprobe.is_helper_supported(BPF_LOOP).unwrap_or(false)
}

impl Kernel<'_> {
    /// Starts following the recorded processes: fork, exec, exit.
    ///
    /// # Errors
    /// When a tracepoint is not to be had.
    pub(crate) fn attach_process_source(&mut self) -> Result<Vec<libbpf_rs::Link>, Error> {
        let progs = &self.skel.progs;
        [&progs.on_fork, &progs.on_exec, &progs.on_exit]
            .into_iter()
            .map(|program| program.attach().map_err(Error::Load))
            .collect()
    }

    /// Records a process from now on, and what it forks.
    ///
    /// # Errors
    /// When the table of targets is full.
    pub(crate) fn add_target(&self, pid: u32, generation: u64) -> Result<(), Error> {
        self.skel.maps.targets.update(&pid.to_ne_bytes(), &generation.to_ne_bytes(), MapFlags::NO_EXIST).or_else(
            |error| {
                // Its parent was recorded first and told us of it.
                if error.kind() == libbpf_rs::ErrorKind::AlreadyExists { Ok(()) } else { Err(Error::Load(error)) }
            },
        )
    }

    /// The ring and the drop counters, for the other threads.
    ///
    /// # Errors
    /// When the system refuses another descriptor.
    pub(crate) fn maps(&self) -> Result<(MapHandle, Drops), Error> {
        let handle = |map| MapHandle::try_from(map).map_err(Error::Load);
        Ok((handle(&self.skel.maps.ring)?, Drops { map: handle(&self.skel.maps.drops)? }))
    }
}

/// The kernel side's counters of lost records.
pub(crate) struct Drops {
    map: MapHandle,
}

impl Drops {
    /// Every counter that is not 0, by source, CPU and reason.
    pub(crate) fn read(&self) -> Vec<DropCounter> {
        let mut counters = Vec::new();
        for key in 0..self.map.max_entries() {
            let Ok(Some(cpus)) = self.map.lookup_percpu(&key.to_ne_bytes(), MapFlags::ANY) else { continue };
            for (cpu, value) in cpus.iter().enumerate() {
                let number = |at| value.get(at..at + 8).and_then(|b| b.try_into().ok()).map_or(0, u64::from_ne_bytes);
                let (records, bytes) = (number(0), number(8));
                if records > 0 {
                    counters.push(DropCounter {
                        source: ((key / DROP_REASONS) as u16).into(),
                        cpu: (cpu as u16).into(),
                        reason: ((key % DROP_REASONS) as u16).into(),
                        reserved: 0.into(),
                        records: records.into(),
                        bytes: bytes.into(),
                    });
                }
            }
        }
        counters
    }
}
