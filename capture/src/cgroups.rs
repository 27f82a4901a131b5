//! The cgroups that limit a process, and what they say: one of cgroup2, or one for each controller where these are mounted apart
//! (cgroup version 1), or some of both.

use agentsight_formats::record::metric;
use std::path::{Path, PathBuf};

/// No limit, as a memory cgroup of version 1 writes it, is the largest number of pages in bytes: some number above this.
const NO_LIMIT: i64 = 1 << 62;

/// Folders of the cgroups that a process is in, where they have something to say.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Cgroups {
    memory: Option<PathBuf>,
    cpu: Option<PathBuf>,
    threads: Option<PathBuf>,
}

impl Cgroups {
    pub(crate) fn of(pid: u32) -> Cgroups {
        let read = |path: String| std::fs::read_to_string(path).unwrap_or_default();
        Cgroups::find(&read(format!("/proc/{pid}/cgroup")), &read("/proc/self/mounts".to_owned()))
    }

    /// Looks for them by the lines of /proc/PID/cgroup and of /proc/self/mounts.
    fn find(cgroups: &str, mounts: &str) -> Cgroups {
        let second = || {
            let path = cgroups.lines().find_map(|line| line.strip_prefix("0::/"))?;
            Some(mounted(mounts, "cgroup2").find(|(folder, _)| has(folder, "cgroup.procs"))?.0.join(path))
        };
        let first = |controller: &str| {
            let of_it = |list: &str| list.split(',').any(|name| name == controller);
            let path = cgroups.lines().find_map(|line| {
                let mut fields = line.splitn(3, ':');
                fields.nth(1).filter(|list| of_it(list))?;
                fields.next()
            })?;
            let mut mounts = mounted(mounts, "cgroup");
            let (root, _) = mounts.find(|(folder, options)| of_it(options) && has(folder, "cgroup.procs"))?;
            // In a container its path is told as the host sees it, and its root is mounted.
            let folder = root.join(path.trim_start_matches('/'));
            Some(if folder.exists() { folder } else { root })
        };
        // A root has no limits, and what it uses is what the machine does.
        let limited = |folder: &PathBuf| number_in(&folder.join("memory.limit_in_bytes")).is_some_and(|n| n < NO_LIMIT);
        let below = |folder: &PathBuf| folder.parent().is_some_and(|above| has(above, "memory.limit_in_bytes"));
        let pick = |controller, file| first(controller).or_else(second).filter(|folder| has(folder, file));
        Cgroups {
            memory: first("memory")
                .filter(|folder| limited(folder) || below(folder))
                .or_else(|| second().filter(|folder| has(folder, "memory.current"))),
            cpu: pick("cpu", "cpu.cfs_quota_us").or_else(|| second().filter(|folder| has(folder, "cpu.max"))),
            threads: pick("pids", "pids.max"),
        }
    }

    /// Bytes of memory that are used.
    pub(crate) fn memory(&self) -> Option<i64> {
        let folder = self.memory.as_ref()?;
        ["memory.current", "memory.usage_in_bytes"].iter().find_map(|name| number_in(&folder.join(name)))
    }

    /// What changes seldom, in the units of [`metric`]: the threads that there are, and what is limited.
    pub(crate) fn rest(&self) -> Vec<(u16, i64)> {
        let number = |folder: &Option<PathBuf>, name: &str| number_in(&folder.as_ref()?.join(name));
        let memory = || {
            let limit = number(&self.memory, "memory.max").or_else(|| number(&self.memory, "memory.limit_in_bytes"));
            limit.filter(|bytes| *bytes < NO_LIMIT)
        };
        [
            (metric::CGROUP_MEMORY_LIMIT, memory()),
            (metric::CGROUP_CPU_LIMIT, self.cpu.as_deref().and_then(cpu_limit)),
            (metric::CGROUP_THREADS, number(&self.threads, "pids.current")),
            (metric::CGROUP_THREADS_LIMIT, number(&self.threads, "pids.max")),
        ]
        .into_iter()
        .filter_map(|(name, value)| Some((name, value?)))
        .collect()
    }
}

/// Thousandths of a CPU. Both versions give a time in each period, in microseconds: `QUOTA PERIOD` in one file, `max` for none,
/// or each in a file of its own, -1 for none.
fn cpu_limit(folder: &Path) -> Option<i64> {
    let (quota, period) = match std::fs::read_to_string(folder.join("cpu.max")) {
        Ok(text) => {
            let (quota, period) = text.trim().split_once(' ')?;
            (quota.parse().ok()?, period.parse().ok()?)
        }
        Err(_) => (number_in(&folder.join("cpu.cfs_quota_us"))?, number_in(&folder.join("cpu.cfs_period_us"))?),
    };
    let limit = i64::checked_mul(quota, 1000)?.checked_div(period)?;
    (quota >= 0).then_some(limit)
}

/// Where cgroup2 is mounted; where that is hidden by another mount it does not count.
pub(crate) fn root() -> Option<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounted(&mounts, "cgroup2").map(|(folder, _)| folder).find(|folder| has(folder, "cgroup.procs"))
}

/// Where file systems of a type are mounted, and how.
fn mounted<'a>(mounts: &'a str, kind: &'a str) -> impl Iterator<Item = (PathBuf, &'a str)> {
    mounts.lines().filter_map(move |line| {
        let mut fields = line.split(' ').skip(1);
        let (folder, of, options) = (fields.next()?, fields.next()?, fields.next()?);
        (of == kind).then(|| (PathBuf::from(folder), options))
    })
}

fn has(folder: &Path, file: &str) -> bool {
    folder.join(file).exists()
}

/// The number that a file holds.
fn number_in(path: &Path) -> Option<i64> {
    std::fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// A folder with these files, each with its content.
    fn folder(files: &[(&str, &str)]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = folder.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, format!("{content}\n")).unwrap();
        }
        folder
    }

    fn mounts(folder: &TempDir, lines: &[&str]) -> String {
        lines.iter().map(|line| line.replace('@', &folder.path().display().to_string()) + "\n").collect()
    }

    #[test]
    fn limits_of_cgroup2_are_in_bytes_thousandths_of_a_cpu_and_threads() {
        let files = [
            ("cgroup.procs", ""),
            ("a/memory.current", "4096"),
            ("a/memory.max", "1048576"),
            ("a/cpu.max", "150000 100000"),
            ("a/pids.current", "3"),
            ("a/pids.max", "100"),
        ];
        let folder = folder(&files);
        let mounts = mounts(&folder, &["cgroup2 @ cgroup2 rw,nosuid 0 0"]);
        let cgroups = Cgroups::find("0::/a\n", &mounts);
        assert_eq!(cgroups.memory(), Some(4096));
        let all = [
            (metric::CGROUP_MEMORY_LIMIT, 1_048_576),
            (metric::CGROUP_CPU_LIMIT, 1500),
            (metric::CGROUP_THREADS, 3),
            (metric::CGROUP_THREADS_LIMIT, 100),
        ];
        assert_eq!(cgroups.rest(), all);
        for (name, none) in [("memory.max", "max"), ("cpu.max", "max 100000"), ("pids.max", "max")] {
            std::fs::write(folder.path().join("a").join(name), none).unwrap();
        }
        assert_eq!(cgroups.rest(), [(metric::CGROUP_THREADS, 3)]);
        assert_eq!(Cgroups::find("0::/\n", &mounts), Cgroups::default(), "the root has no limits");
    }

    #[test]
    fn limits_of_version_1_are_those_of_a_cgroup_for_each_controller() {
        let files = [
            ("memory/cgroup.procs", ""),
            ("memory/memory.limit_in_bytes", "9223372036854771712"),
            ("memory/m/memory.usage_in_bytes", "8192"),
            ("memory/m/memory.limit_in_bytes", "2097152"),
            ("cpu,cpuacct/cgroup.procs", ""),
            ("cpu,cpuacct/c/cpu.cfs_quota_us", "50000"),
            ("cpu,cpuacct/c/cpu.cfs_period_us", "100000"),
            ("pids/cgroup.procs", ""),
            ("pids/p/pids.current", "2"),
            ("pids/p/pids.max", "64"),
            // A hybrid: cgroup2 beside them, without controllers.
            ("unified/cgroup.procs", ""),
            ("unified/u/cgroup.procs", ""),
        ];
        let folder = folder(&files);
        let mounts = mounts(
            &folder,
            &[
                "cgroup2 @/unified cgroup2 rw 0 0",
                "cgroup @/memory cgroup rw,memory 0 0",
                "cgroup @/cpu,cpuacct cgroup rw,relatime,cpu,cpuacct 0 0",
                "cgroup @/pids cgroup rw,pids 0 0",
            ],
        );
        let of = |memory: &str, cpu: &str| {
            Cgroups::find(&format!("7:pids:/p\n6:memory:{memory}\n5:cpu,cpuacct:{cpu}\n0::/u\n"), &mounts)
        };
        let cgroups = of("/m", "/c");
        assert_eq!(cgroups.memory(), Some(8192));
        let all = [
            (metric::CGROUP_MEMORY_LIMIT, 2_097_152),
            (metric::CGROUP_CPU_LIMIT, 500),
            (metric::CGROUP_THREADS, 2),
            (metric::CGROUP_THREADS_LIMIT, 64),
        ];
        assert_eq!(cgroups.rest(), all);
        std::fs::write(folder.path().join("memory/m/memory.limit_in_bytes"), "9223372036854771712\n").unwrap();
        std::fs::write(folder.path().join("cpu,cpuacct/c/cpu.cfs_quota_us"), "-1\n").unwrap();
        assert_eq!((cgroups.memory(), cgroups.rest().len()), (Some(8192), 2));
        let root = of("/", "/");
        assert_eq!((root.memory(), root.cpu), (None, None), "what the root uses is what the machine does");
        // A container: the path is the host's, what is mounted is the container's own.
        std::fs::write(folder.path().join("memory/memory.limit_in_bytes"), "4194304\n").unwrap();
        assert_eq!(of("/docker/abc", "/c").rest()[0], (metric::CGROUP_MEMORY_LIMIT, 4_194_304));
    }
}
