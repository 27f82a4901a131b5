//! Source "metric": what recorded processes use of the machine, looked up once a second.

use crate::cgroups::Cgroups;
use crate::procfs;
use agentsight_formats::record::{self, Metric, kind, metric};
use std::collections::BTreeMap;
use std::time::Duration;

/// Time between two samples.
pub(crate) const INTERVAL: Duration = Duration::from_secs(1);

/// Remembers what was said before: what does not change in general is said once.
#[derive(Default)]
pub(crate) struct Sampler {
    last: BTreeMap<u32, Last>,
    page_size: u64,
}

#[derive(Default)]
struct Last {
    threads: u64,
    cgroups: Option<Cgroups>,
    /// What these have said.
    said: Vec<(u16, i64)>,
}

impl Sampler {
    pub(crate) fn new(page_size: u64) -> Self {
        Sampler { page_size, ..Sampler::default() }
    }

    /// The records of one sample of these processes. Those that are gone are left out.
    pub(crate) fn sample(&mut self, pids: &[u32]) -> Vec<u8> {
        let mut out = Vec::new();
        self.last.retain(|pid, _| pids.contains(pid));
        for pid in pids {
            if let Some(usage) = procfs::usage(*pid) {
                self.process(*pid, usage, &mut out);
            }
        }
        out
    }

    fn process(&mut self, pid: u32, usage: procfs::Usage, out: &mut Vec<u8>) {
        let last = self.last.entry(pid).or_default();
        let mut say = |name, value| append(out, pid, name, value);
        say(metric::USER_TIME, usage.user_ns as i64);
        say(metric::SYSTEM_TIME, usage.system_ns as i64);
        say(metric::RSS, (usage.rss_pages * self.page_size) as i64);
        if last.threads != usage.threads {
            last.threads = usage.threads;
            say(metric::THREADS, usage.threads as i64);
        }
        let cgroups = last.cgroups.get_or_insert_with(|| Cgroups::of(pid));
        if let Some(used) = cgroups.memory() {
            say(metric::CGROUP_MEMORY, used);
        }
        let rest = cgroups.rest();
        for (name, value) in rest.iter().filter(|said| !last.said.contains(said)) {
            say(*name, *value);
        }
        last.said = rest;
    }
}

fn append(out: &mut Vec<u8>, pid: u32, name: u16, value: i64) {
    let fixed = Metric {
        header: procfs::header(kind::METRIC, pid),
        value: value.into(),
        name: name.into(),
        reserved: [0.into(); 3],
    };
    record::append(out, &fixed, &[]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentsight_formats::record::Body;

    fn values(records: &[u8]) -> Vec<(u32, u16, i64)> {
        let read = record::records(records).map(|record| {
            let record = record.unwrap();
            let Body::Metric(value) = record.body().unwrap() else { panic!("{record:?}") };
            (record.header.tgid.get(), value.name.get(), value.value.get())
        });
        read.collect()
    }

    #[test]
    fn a_running_process_has_memory_and_threads_and_one_that_is_gone_has_nothing() {
        let me = std::process::id();
        let mut sampler = Sampler::new(4096);
        let seen = values(&sampler.sample(&[me, u32::MAX]));
        assert!(seen.iter().all(|(pid, _, _)| *pid == me), "{seen:?}");
        let of = |name| seen.iter().find(|(_, n, _)| *n == name).map(|(_, _, value)| *value);
        assert!(of(metric::RSS).unwrap() > 100_000 && of(metric::THREADS).unwrap() >= 1, "{seen:?}");
        assert!(of(metric::USER_TIME).is_some() && of(metric::SYSTEM_TIME).is_some(), "{seen:?}");
    }
}
