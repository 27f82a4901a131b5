//! Who is recorded: what was asked for, as the names and cgroups that the kernel side looks for, and as the processes that
//! have them already.

use crate::{Error, Options, cgroups, procfs};
use std::collections::BTreeSet;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// A name as the kernel keeps it: 15 bytes and a NUL.
pub(crate) type Comm = [u8; 16];

/// Characters of a container's id that are enough to name it.
const SHORTEST_CONTAINER_ID: usize = 8;

/// The longest path of a cgroup that the kernel side compares: its key is 256 bytes, and one that fills it may go on.
const LONGEST_CGROUP: usize = 254;

/// A cgroup of cgroup2.
#[derive(Debug)]
struct Cgroup {
    folder: PathBuf,
    /// Where it is in the hierarchy, as the kernel says it.
    path: String,
}

/// What [`find`] found.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    /// Processes that were named by their numbers.
    pids: Vec<u32>,
    /// Processes with a thread or an executable of one of these names are recorded.
    pub names: Vec<String>,
    /// Processes in these cgroups and those below are recorded.
    cgroups: Vec<Cgroup>,
    /// Ids of containers, as they were given.
    containers: Vec<String>,
    all: bool,
    /// What is not as it was asked for, one line each.
    pub warnings: Vec<String>,
}

/// Looks up what the options name.
///
/// # Errors
/// When a process, a cgroup or a container is not there.
pub(crate) fn find(options: &Options) -> Result<Targets, Error> {
    let mut targets =
        Targets { pids: options.pids.clone(), names: options.comms.clone(), all: options.all, ..Targets::default() };
    for pid in &options.pids {
        procfs::check(*pid)?;
    }
    for path in &options.cgroups {
        targets.add_cgroup(path)?;
    }
    for id in &options.containers {
        targets.add_container(id)?;
    }
    Ok(targets)
}

impl Targets {
    /// The targets that run now, without their descendants. Ask once the kernel side looks for those of the future: otherwise
    /// whoever comes in between is missed.
    pub(crate) fn running(&self) -> BTreeSet<u32> {
        let mut pids: BTreeSet<u32> = self.pids.iter().copied().collect();
        // Of a cgroup that has been removed meanwhile nobody is left.
        pids.extend(self.cgroups.iter().filter_map(|cgroup| members(&cgroup.folder).ok()).flatten());
        if self.all || !self.names.is_empty() || !self.containers.is_empty() {
            let is_in = |pid, id: &String| container_cgroup(pid, id).is_some();
            pids.extend(procfs::processes().filter(|pid| {
                self.all || is_named(*pid, &self.names) || self.containers.iter().any(|id| is_in(*pid, id))
            }));
        }
        // A capturer that records its own writing never ends.
        pids.remove(&std::process::id());
        pids
    }

    /// Where the cgroups are in the hierarchy: one that is made there anew (a service is restarted) is the same to the user.
    pub(crate) fn cgroup_paths(&self) -> Vec<String> {
        self.cgroups.iter().map(|cgroup| cgroup.path.clone()).collect()
    }

    /// The ids of the cgroups that are there now.
    pub(crate) fn cgroup_ids(&self) -> Vec<u64> {
        self.cgroups.iter().filter_map(|cgroup| Some(cgroup.folder.metadata().ok()?.ino())).collect()
    }

    /// `given`: a cgroup, by its path in the file system or below where cgroup2 is mounted.
    fn add_cgroup(&mut self, given: &Path) -> Result<(), Error> {
        let root = cgroups::root().ok_or(Error::NoCgroup2)?;
        self.add_folder(&cgroup_folder(given, &root)?, &root)
    }

    fn add_folder(&mut self, folder: &Path, root: &Path) -> Result<(), Error> {
        let failed = |source| Error::Cgroup { path: folder.to_owned(), source };
        let (folder, root) = (folder.canonicalize().map_err(failed)?, root.canonicalize().map_err(failed)?);
        members(&folder).map_err(failed)?;
        let path = format!("/{}", folder.strip_prefix(root).unwrap_or(&folder).display());
        if path.len() > LONGEST_CGROUP {
            self.warnings.push(format!(
                "cgroup {path}: when it is made anew it is not followed, because its path has more than {LONGEST_CGROUP} bytes"
            ));
        }
        self.cgroups.push(Cgroup { folder, path });
        Ok(())
    }

    fn add_container(&mut self, id: &str) -> Result<(), Error> {
        if id.len() < SHORTEST_CONTAINER_ID || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(Error::ContainerId { id: id.to_owned() });
        }
        let inside: Vec<(u32, String)> =
            procfs::processes().filter_map(|pid| Some((pid, container_cgroup(pid, id)?))).collect();
        if inside.is_empty() {
            return Err(Error::NoContainer { id: id.to_owned() });
        }
        let paths: BTreeSet<&str> =
            inside.iter().map(|(_, path)| path.as_str()).filter(|path| !path.is_empty()).collect();
        if paths.is_empty() {
            self.warnings.push(format!(
                "container {id} is in no cgroup of version 2: what runs in it now is recorded with its descendants, but not \
                 what is started in it from outside (docker exec)"
            ));
        }
        for path in paths {
            self.add_cgroup(Path::new(path))?;
        }
        self.containers.push(id.to_owned());
        Ok(())
    }
}

/// A name, cut to what the kernel keeps.
pub(crate) fn comm(name: &str) -> Comm {
    let mut comm = [0; 16];
    let len = name.len().min(15);
    comm[..len].copy_from_slice(&name.as_bytes()[..len]);
    comm
}

/// Whether a thread of a process has one of these names, or its executable's file.
fn is_named(pid: u32, names: &[String]) -> bool {
    let executable = std::fs::read_link(format!("/proc/{pid}/exe")).unwrap_or_default();
    let file_name = executable.file_name().unwrap_or_default().as_bytes();
    // An update takes the file from below those who run it.
    let file_name = file_name.strip_suffix(b" (deleted)").unwrap_or(file_name);
    names.iter().any(|name| file_name == name.as_bytes())
        || procfs::comms(pid).any(|thread| names.iter().any(|name| comm(name) == comm(&thread)))
}

/// The folder of a cgroup that is named by its path in the file system, or below where cgroup2 is mounted.
fn cgroup_folder(path: &Path, root: &Path) -> Result<PathBuf, Error> {
    let folder =
        if path.starts_with(root) { path.to_owned() } else { root.join(path.strip_prefix("/").unwrap_or(path)) };
    let there = folder.join("cgroup.procs").exists();
    if there { Ok(folder) } else { Err(Error::NoCgroup { path: path.to_owned(), root: root.to_owned() }) }
}

/// The processes in a cgroup and in those below it.
fn members(folder: &Path) -> std::io::Result<BTreeSet<u32>> {
    let mut found = BTreeSet::new();
    let mut waiting = vec![folder.to_owned()];
    while let Some(folder) = waiting.pop() {
        // A cgroup of threads has no list of processes that may be read; its threads' processes are above it.
        let procs = std::fs::read_to_string(folder.join("cgroup.procs")).unwrap_or_default();
        found.extend(procs.lines().filter_map(|line| line.parse::<u32>().ok()).filter(|pid| *pid != 0));
        for entry in std::fs::read_dir(&folder)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                waiting.push(entry.path());
            }
        }
    }
    Ok(found)
}

/// The cgroup of a container that a process is in: the path up to the component with the id, in cgroup2; empty if only
/// older cgroups know the container.
fn container_cgroup(pid: u32, id: &str) -> Option<String> {
    let cgroups = std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
    container_in(&cgroups, id)
}

/// Takes the text of /proc/PID/cgroup: lines like `0::/system.slice/docker-0123456789ab….scope`.
fn container_in(cgroups: &str, id: &str) -> Option<String> {
    let mut older = false;
    for line in cgroups.lines() {
        let Some((hierarchy, path)) =
            line.split_once(':').and_then(|(number, rest)| Some((number, rest.split_once(':')?.1)))
        else {
            continue;
        };
        // docker-ID.scope, cri-containerd-ID.scope, libpod-ID.scope; ID itself under cgroupfs.
        let is_id = |part: &str| part.split(['-', '.', ':']).any(|word| word.starts_with(id));
        let Some(at) = path.split('/').position(is_id) else { continue };
        if hierarchy == "0" {
            return Some(path.split('/').take(at + 1).collect::<Vec<_>>().join("/"));
        }
        older = true;
    }
    older.then(String::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_container_is_found_in_the_cgroups_that_the_runtimes_make() {
        let id = "0123456789ab";
        let long = format!("{id}cdef0123456789abcdef0123456789abcdef0123456789abcdef");
        for (cgroups, found) in [
            (format!("0::/system.slice/docker-{long}.scope\n"), Some(format!("/system.slice/docker-{long}.scope"))),
            (format!("0::/docker/{long}\n"), Some(format!("/docker/{long}"))),
            (
                format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{long}.scope/init\n"),
                Some(format!("/kubepods.slice/kubepods-pod1.slice/cri-containerd-{long}.scope")),
            ),
            (
                format!("0::/machine.slice/libpod-{long}.scope/container\n"),
                Some(format!("/machine.slice/libpod-{long}.scope")),
            ),
            (format!("5:memory:/docker/{long}\n0::/\n"), Some(String::new())),
            ("0::/user.slice/session-1.scope\n".to_owned(), None),
        ] {
            assert_eq!(container_in(&cgroups, id), found, "{cgroups}");
        }
    }

    #[test]
    fn a_cgroup_that_cannot_be_followed_when_it_is_made_anew_is_named() {
        // Folders in place of cgroups; they need no list of processes to be looked at.
        let root = tempfile::tempdir().unwrap();
        let long = "slice/".repeat(50);
        std::fs::create_dir_all(root.path().join(&long)).unwrap();
        let mut targets = Targets::default();
        targets.add_folder(&root.path().join("slice/slice/"), root.path()).unwrap();
        assert_eq!((targets.cgroup_paths(), targets.warnings.len()), (vec!["/slice/slice".to_owned()], 0));
        targets.add_folder(&root.path().join(&long), root.path()).unwrap();
        assert!(targets.warnings[0].contains("/slice/slice/slice") && targets.warnings[0].contains("254"));
        assert_eq!(targets.cgroup_ids().len(), 2);
    }

    #[test]
    fn an_id_that_could_be_anything_is_refused() {
        for id in ["", "0123", "my-container", "../0123456789"] {
            let options = Options { containers: vec![id.to_owned()], ..Options::default() };
            let message = find(&options).unwrap_err().to_string();
            assert!(message.contains("container"), "{message}");
        }
    }

    #[test]
    fn a_process_is_found_by_its_executable_and_the_capturer_is_not_recorded() {
        let mut child = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
        let options = Options { comms: vec!["cat".to_owned()], all: false, ..Options::default() };
        assert!(find(&options).unwrap().running().contains(&child.id()));
        let everyone = find(&Options { all: true, ..Options::default() }).unwrap().running();
        assert!(everyone.contains(&child.id()) && !everyone.contains(&std::process::id()));
        drop(child.stdin.take());
        child.wait().unwrap();
    }

    #[test]
    fn names_are_cut_as_the_kernel_cuts_them() {
        assert_eq!(&comm("a-very-long-program-name"), b"a-very-long-pro\0");
        assert_eq!(&comm("node"), b"node\0\0\0\0\0\0\0\0\0\0\0\0");
    }
}
