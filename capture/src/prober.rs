//! Attaches probes to binaries: to each file once, whatever names and processes it has.

use crate::attached::{Attached, FileId, Stamp};
use crate::kernel::{Attach, Kernel};
use crate::procfs;
use crate::regular;
use crate::resolver::{self, Binary, Site};
use crate::warmup::WarmUp;
use agentsight_formats::record::{self, Json, kind};
use libbpf_rs::{Link, UprobeMultiOpts, UprobeOpts};
use std::collections::{HashMap, HashSet};
use std::fs::{File, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Any process: the kernel side looks the process up in its table of targets.
const ANY_PROCESS: i32 = -1;

/// Files that are remembered as looked at. Were there more, all would be looked at again, with answers that are kept on disk.
const MAX_SEEN: usize = 65_536;

/// Holds the probes; they are detached when it is dropped.
#[derive(Default)]
pub(crate) struct Prober {
    /// Files that were looked at, as they were then.
    seen: HashMap<FileId, Stamp>,
    pub attached: Attached,
    /// Files with probes.
    pub probed: Vec<PathBuf>,
    /// What could not be probed, one line each.
    pub warnings: Vec<String>,
    /// Where answers of the resolver are kept from run to run.
    cache: Option<PathBuf>,
    /// Only while recording: before it there is time.
    pub warm_up: Option<WarmUp>,
}

impl Prober {
    pub(crate) fn new() -> Self {
        Prober { attached: Attached::new(), cache: cache_folder(), ..Prober::default() }
    }

    /// Looks at a file; if it has TLS functions, attaches to them and returns the record that says so.
    ///
    /// `path` is where this process can open the file, `name` how it is called in the capture. A file that was seen before
    /// costs a stat.
    pub(crate) fn probe(&mut self, kernel: &Kernel<'_>, path: &Path, name: &Path) -> Option<Vec<u8>> {
        self.probe_file(kernel, regular::open(path).ok()?, name)
    }

    /// Looks again at a file that was written to, if it is not what it was.
    pub(crate) fn probe_again(&mut self, kernel: &Kernel<'_>, file: File, name: &Path) -> Option<Vec<u8>> {
        self.seen.remove(&id_of(&file.metadata().ok()?));
        self.probe_file(kernel, file, name)
    }

    fn probe_file(&mut self, kernel: &Kernel<'_>, file: File, name: &Path) -> Option<Vec<u8>> {
        let metadata = file.metadata().ok()?;
        let (id, stamp) = (id_of(&metadata), Stamp::of(&metadata));
        if self.seen.len() >= MAX_SEEN {
            self.seen.clear();
        }
        if self.seen.insert(id, stamp) == Some(stamp) || self.attached.still_fits(id, &stamp) {
            return None;
        }
        if let Some(warm_up) = &self.warm_up {
            warm_up.begin();
        }
        // Scripts and other things that are no ELF file of this machine have no TLS functions.
        let binary = match &self.cache {
            Some(folder) => resolver::resolve_cached(&file, folder),
            None => resolver::resolve(&file),
        };
        let binary = binary.ok().filter(|binary| binary.sites().next().is_some())?;
        let sites: Vec<&Site> = binary.sites().collect();
        let watched = self.attached.watch(file).ok()?;
        if !watched.stamp.same_bytes(&stamp) {
            // It was written to while it was read: when it is executed, it is looked at again. (One that was removed meanwhile is
            // what it was.)
            self.seen.remove(&id);
            return None;
        }
        match attach(kernel, &regular::path_of(&watched.file), &sites) {
            Ok(links) => {
                if !self.attached.keep(id, name, watched, links) {
                    self.seen.remove(&id);
                    return None;
                }
                self.probed.push(name.to_owned());
                Some(probe_record(name, &binary, kernel.attach))
            }
            Err(error) => {
                let warning = format!("{}: no TLS probes: {error}", name.display());
                let note = note_record(serde_json::json!({
                    "what": "probe_failed", "path": name.to_string_lossy(), "error": error.to_string(),
                }));
                self.warnings.push(warning);
                Some(note)
            }
        }
    }

    /// Looks at the executable of a process, which may be gone already.
    pub(crate) fn probe_executable(&mut self, kernel: &Kernel<'_>, pid: u32) -> Option<Vec<u8>> {
        let link = PathBuf::from(format!("/proc/{pid}/exe"));
        let name = std::fs::read_link(&link).ok()?;
        self.probe(kernel, &link, &name)
    }

    /// Looks at a file that a process has mapped; `path` is the process's own.
    pub(crate) fn probe_library(&mut self, kernel: &Kernel<'_>, pid: u32, path: &Path) -> Option<Vec<u8>> {
        let inside = Path::new("/proc").join(pid.to_string()).join("root").join(path.strip_prefix("/").ok()?);
        // It is mapped, and may have no name any more: some remove what they have unpacked as soon as it is loaded.
        let mapped = || procfs::mapped(pid).into_iter().find(|mapped| mapped.name == path);
        let file = regular::open(&inside).or_else(|error| regular::open(&mapped().ok_or(error)?.file));
        // A process that has ended leaves its files.
        self.probe_file(kernel, file.or_else(|_| regular::open(path)).ok()?, path)
    }

    /// Looks at everything that a running process has mapped.
    pub(crate) fn probe_mapped(&mut self, kernel: &Kernel<'_>, pid: u32) -> Vec<u8> {
        let found = procfs::mapped(pid).into_iter().filter_map(|mapped| self.probe(kernel, &mapped.file, &mapped.name));
        found.flatten().collect()
    }

    /// Lets go of files that were removed, as soon as none of the processes has them mapped.
    pub(crate) fn release_deleted(&mut self, processes: impl FnOnce() -> Vec<u32>) {
        let deleted = self.attached.deleted();
        if deleted.is_empty() {
            return;
        }
        let mapped = processes().into_iter().flat_map(procfs::mapped);
        let in_use: HashSet<FileId> = mapped.filter_map(|mapped| Some(id_of(&mapped.file.metadata().ok()?))).collect();
        for id in deleted.into_iter().filter(|id| !in_use.contains(id)) {
            self.seen.remove(&id);
            self.attached.release(id);
        }
    }
}

fn id_of(metadata: &Metadata) -> FileId {
    (metadata.dev(), metadata.ino())
}

/// The folder for what can be made again: the system's for root, else the user's.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    if nix::unistd::geteuid().is_root() {
        return Some("/var/cache/agentsight".into());
    }
    let home = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".cache"));
    let base = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute()).or_else(home)?;
    Some(base.join("agentsight/probes"))
}

/// Each place gets links of its own: only so can all be taken off at once (see [`Attached`]).
fn attach(kernel: &Kernel<'_>, path: &Path, sites: &[&Site]) -> libbpf_rs::Result<Vec<Link>> {
    let progs = &kernel.skel.progs;
    let multi = |program: &libbpf_rs::ProgramMut<'_>, site: &Site, retprobe, session| {
        let options = UprobeMultiOpts {
            offsets: vec![site.offset as usize],
            cookies: vec![site.cookie],
            retprobe,
            session,
            ..UprobeMultiOpts::default()
        };
        program.attach_uprobe_multi_with_opts(ANY_PROCESS, path, "", options)
    };
    let perf = |program: &libbpf_rs::ProgramMut<'_>, site: &Site, retprobe| {
        let options = UprobeOpts { cookie: site.cookie, retprobe, ..UprobeOpts::default() };
        program.attach_uprobe_with_opts(ANY_PROCESS, path, site.offset as usize, options)
    };
    let (returning, entering): (Vec<&Site>, Vec<&Site>) = sites.iter().copied().partition(|site| site.wants_return());
    // What notes a call at its entry comes after what takes the note at its return: no call is left half seen.
    match kernel.attach {
        Attach::Session => {
            let both = returning.iter().map(|site| multi(&progs.tls_session, site, false, true));
            both.chain(entering.iter().map(|site| multi(&progs.tls_entry_multi, site, false, false))).collect()
        }
        Attach::Multi => {
            let returns = returning.iter().map(|site| multi(&progs.tls_return_multi, site, true, false));
            returns.chain(sites.iter().map(|site| multi(&progs.tls_entry_multi, site, false, false))).collect()
        }
        Attach::Perf => {
            let returns = returning.iter().map(|site| perf(&progs.tls_return, site, true));
            returns.chain(sites.iter().map(|site| perf(&progs.tls_entry, site, false))).collect()
        }
    }
}

fn probe_record(name: &Path, binary: &Binary, attach: Attach) -> Vec<u8> {
    let functions: Vec<_> =
        binary.sites().map(|site| serde_json::json!({"name": site.name, "offset": site.offset})).collect();
    let libraries: Vec<_> = binary.stacks.iter().map(|stack| stack.library.name()).collect();
    let json = serde_json::json!({
        "path": name.to_string_lossy(), "build_id": binary.build_id, "library": libraries.join(" "),
        "attach": attach.name(), "functions": functions,
    });
    json_record(kind::PROBE, &json)
}

/// A record that tells the reader something in JSON.
pub(crate) fn note_record(json: serde_json::Value) -> Vec<u8> {
    json_record(kind::NOTE, &json)
}

fn json_record(kind: u16, json: &serde_json::Value) -> Vec<u8> {
    let mut out = Vec::new();
    record::append(&mut out, &Json { header: procfs::header(kind, 0) }, &[json.to_string().as_bytes()]);
    out
}
