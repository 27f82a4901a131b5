//! The loaded eBPF programs: which of them this kernel can take, who is recorded, what was lost.

use crate::{Error, Stdio, targets, tracepoints};
use agentsight_bpf::{AgentsightSkel, AgentsightSkelBuilder};
use agentsight_formats::record::DropCounter;
use libbpf_rs::skel::{OpenSkel, SkelBuilder};
use libbpf_rs::{Link, MapCore, MapFlags, MapHandle, OpenObject, PrintLevel};
use std::io::Write;
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

/// What the programs are told when they are loaded.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// Size of the ring in bytes, a power of 2.
    pub ring: u32,
    /// Bytes kept of each transfer; 0 keeps all.
    pub max_payload: u64,
    /// Whether connections without TLS are recorded.
    pub plain: bool,
    pub stdio: Stdio,
    /// Processes that get one of these names are recorded, and those that execute a file of such a name.
    pub names: Vec<String>,
    /// Processes in the cgroups of cgroup2 that are made at these paths are recorded, and in those that
    /// [`Kernel::select_cgroup`] names.
    pub cgroups: Vec<String>,
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
pub(crate) fn load<'obj>(
    storage: &'obj mut [MaybeUninit<OpenObject>; 3],
    settings: &Settings,
) -> Result<Kernel<'obj>, Error> {
    libbpf_rs::set_print(Some((PrintLevel::Debug, print)));
    raise_descriptor_limit();
    let mut refused = None;
    for (attach, storage) in [Attach::Session, Attach::Multi, Attach::Perf].into_iter().zip(storage) {
        match load_with(attach, storage, settings) {
            Ok(skel) => return Kernel { skel, attach }.select(settings),
            Err(error) => refused = Some(error),
        }
    }
    Err(refused.map_or(Error::Privilege, Error::Load))
}

/// Where a probe is a perf event, each takes a descriptor, and a Go program alone has dozens.
fn raise_descriptor_limit() {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((_, most)) = getrlimit(Resource::RLIMIT_NOFILE) {
        let _ = setrlimit(Resource::RLIMIT_NOFILE, most, most);
    }
}

/// libbpf explains a refusal at length; AGENTSIGHT_DEBUG shows it.
fn print(_level: PrintLevel, message: String) {
    if std::env::var_os("AGENTSIGHT_DEBUG").is_some() {
        let _ = std::io::stderr().write_all(message.as_bytes());
    }
}

fn load_with<'obj>(
    attach: Attach,
    storage: &'obj mut MaybeUninit<OpenObject>,
    settings: &Settings,
) -> libbpf_rs::Result<AgentsightSkel<'obj>> {
    let mut open = AgentsightSkelBuilder::default().open(storage)?;
    open.progs.tls_session.set_autoload(attach == Attach::Session);
    open.progs.tls_entry_multi.set_autoload(attach != Attach::Perf);
    open.progs.tls_return_multi.set_autoload(attach == Attach::Multi);
    open.progs.tls_entry.set_autoload(attach == Attach::Perf);
    open.progs.tls_return.set_autoload(attach == Attach::Perf);
    open.progs.on_rename.set_autoload(!settings.names.is_empty());
    open.progs.on_cgroup_attach.set_autoload(!settings.cgroups.is_empty());
    open.progs.on_cgroup_mkdir.set_autoload(!settings.cgroups.is_empty());
    open.progs.on_cgroup_rmdir.set_autoload(!settings.cgroups.is_empty());
    open.maps.ring.set_max_entries(settings.ring)?;
    if let Some(rodata) = open.maps.rodata_data.as_deref_mut() {
        rodata.page_size = page_size();
        rodata.max_payload = settings.max_payload;
        rodata.want_plain = settings.plain;
        rodata.want_stdio = settings.stdio as u32;
        rodata.select_comms = !settings.names.is_empty();
        rodata.select_cgroups = !settings.cgroups.is_empty();
        // A small ring must not fill before anybody is told.
        rodata.wake_bytes = rodata.wake_bytes.min(u64::from(settings.ring / 4));
    }
    open.load()
}

/// Bytes of a page of memory.
pub(crate) fn page_size() -> u64 {
    nix::unistd::sysconf(nix::unistd::SysconfVar::PAGE_SIZE).ok().flatten().map_or(4096, |size| size as u64)
}

impl Kernel<'_> {
    /// Tells the programs whom to record by name, and which cgroups of the future.
    fn select(self, settings: &Settings) -> Result<Self, Error> {
        let maps = &self.skel.maps;
        for name in &settings.names {
            maps.selected_comms.update(&targets::comm(name), &[1], MapFlags::ANY).map_err(Error::Load)?;
            let mut file_name = name.clone().into_bytes();
            // A name that fills the key, without a zero at its end, is longer than that of any file.
            file_name.resize(maps.selected_names.key_size() as usize, 0);
            maps.selected_names.update(&file_name, &[1], MapFlags::ANY).map_err(Error::Load)?;
        }
        for path in &settings.cgroups {
            let mut key = path.clone().into_bytes();
            key.resize(maps.selected_cgroup_paths.key_size() as usize, 0);
            maps.selected_cgroup_paths.update(&key, &[1], MapFlags::ANY).map_err(Error::Load)?;
        }
        Ok(self)
    }

    /// Records who comes into this cgroup of cgroup2 from now on, or into one below it.
    ///
    /// # Errors
    /// When there are too many of them.
    pub(crate) fn select_cgroup(&self, id: u64) -> Result<(), Error> {
        self.skel.maps.selected_cgroups.update(&id.to_ne_bytes(), &[1], MapFlags::ANY).map_err(Error::Load)
    }

    /// Starts watching: what processes are forked, execute, and end; and their system calls.
    ///
    /// # Errors
    /// When a tracepoint is not to be had.
    pub(crate) fn attach(&mut self, settings: &Settings) -> Result<Vec<Link>, Error> {
        let progs = &self.skel.progs;
        let mut links = tracepoints::attach(progs)?;
        let mut life = vec![&progs.on_fork, &progs.on_exec, &progs.on_exit, &progs.on_socket_state];
        if !settings.names.is_empty() {
            life.push(&progs.on_rename);
        }
        if !settings.cgroups.is_empty() {
            life.extend([&progs.on_cgroup_attach, &progs.on_cgroup_mkdir, &progs.on_cgroup_rmdir]);
        }
        for program in life {
            links.push(program.attach().map_err(Error::Load)?);
        }
        Ok(links)
    }

    /// Records a process from now on, and what it forks. Returns whether it was not recorded before.
    ///
    /// # Errors
    /// When the table of targets is full.
    pub(crate) fn add_target(&self, pid: u32, generation: u64) -> Result<bool, Error> {
        let targets = &self.skel.maps.targets;
        let mut target = vec![0; targets.value_size() as usize];
        // The first field of `struct target`.
        target[..8].copy_from_slice(&generation.to_ne_bytes());
        match targets.update(&pid.to_ne_bytes(), &target, MapFlags::NO_EXIST) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == libbpf_rs::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(Error::Load(error)),
        }
    }

    /// Whether a process is recorded, and has not exited.
    pub(crate) fn is_target(&self, pid: u32) -> bool {
        matches!(self.skel.maps.targets.lookup(&pid.to_ne_bytes(), MapFlags::ANY), Ok(Some(_)))
    }

    /// Records a process no more.
    pub(crate) fn forget_target(&self, pid: u32) {
        // It may have told of its exit just now, and then it is not there.
        let _ = self.skel.maps.targets.delete(&pid.to_ne_bytes());
    }

    /// The processes that are recorded now.
    pub(crate) fn targets(&self) -> Vec<u32> {
        let keys = self.skel.maps.targets.keys();
        let mut pids: Vec<u32> = keys.filter_map(|key| Some(u32::from_ne_bytes(key.try_into().ok()?))).collect();
        pids.sort_unstable();
        pids
    }

    /// Records nobody any more: the programs, still attached, find no target and return at once.
    pub(crate) fn forget_targets(&self) {
        let targets = &self.skel.maps.targets;
        // Whoever is forked while the table is walked is found by the next walk.
        loop {
            let pids: Vec<Vec<u8>> = targets.keys().collect();
            if pids.is_empty() || pids.iter().all(|pid| targets.delete(pid).is_err()) {
                break;
            }
        }
    }

    /// The ring, for the thread that drains it.
    ///
    /// # Errors
    /// When the system refuses another descriptor.
    pub(crate) fn ring(&self) -> Result<Ring, Error> {
        let handle = |map| MapHandle::try_from(map).map_err(Error::Load);
        Ok(Ring { map: handle(&self.skel.maps.ring)?, waiting: handle(&self.skel.maps.waiting)? })
    }

    /// The drop counters, for other threads.
    ///
    /// # Errors
    /// When the system refuses another descriptor.
    pub(crate) fn drops(&self) -> Result<Drops, Error> {
        Ok(Drops { map: MapHandle::try_from(&self.skel.maps.drops).map_err(Error::Load)? })
    }
}

/// Where the records come from.
pub(crate) struct Ring {
    pub map: MapHandle,
    waiting: MapHandle,
}

/// What the kernel side is to wake whoever polls the ring for; `enum waiting` in `common.h`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WakeFor {
    Much = 1,
    Any = 2,
}

impl Ring {
    /// Asks the kernel side for one wake-up. What is in the ring already wakes nobody: look at it after this.
    ///
    /// # Errors
    /// When the system refuses.
    pub(crate) fn ask(&self, what: WakeFor) -> libbpf_rs::Result<()> {
        self.waiting.update(&0u32.to_ne_bytes(), &(what as u32).to_ne_bytes(), MapFlags::ANY)
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
