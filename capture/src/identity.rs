//! Who a process is that runs already, as /proc tells it: its user and its namespaces. Of what happens later the kernel side tells.

use crate::procfs;
use agentsight_formats::record::{Identity, kind};
use std::os::unix::fs::MetadataExt;

/// The record of it. `status` is /proc/PID/status. Of a user or group that cannot be read there is what nobody's number is.
pub(crate) fn of(pid: u32, status: &str) -> Identity {
    let ids = |name: &str| {
        let mut numbers = field(status, name).map(|number| number.parse().unwrap_or(u32::MAX));
        (numbers.next().unwrap_or(u32::MAX), numbers.next().unwrap_or(u32::MAX))
    };
    let ((uid, effective_uid), (gid, effective_gid)) = (ids("Uid:"), ids("Gid:"));
    // One in each namespace that it is in, the innermost last.
    let namespace_pid = field(status, "NSpid:").last().and_then(|number| number.parse().ok());
    let namespace = |name| std::fs::metadata(format!("/proc/{pid}/ns/{name}")).map_or(0, |link| link.ino() as u32);
    Identity {
        header: procfs::header(kind::IDENTITY, pid),
        uid: uid.into(),
        effective_uid: effective_uid.into(),
        gid: gid.into(),
        effective_gid: effective_gid.into(),
        namespace_pid: namespace_pid.unwrap_or(0).into(),
        pid_namespace: namespace("pid").into(),
        mnt_namespace: namespace("mnt").into(),
        net_namespace: namespace("net").into(),
        user_namespace: namespace("user").into(),
        reserved: 0.into(),
    }
}

/// The words of a line of /proc/PID/status.
fn field<'a>(status: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default().split_whitespace()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_and_effective_ids_and_the_innermost_number_are_taken() {
        let status = "Name:\tsh\nUid:\t1000\t0\t0\t0\nGid:\t1001\t5\t5\t5\nNSpid:\t4242\t17\t3\n";
        let seen = of(std::process::id(), status);
        assert_eq!((seen.uid.get(), seen.effective_uid.get()), (1000, 0));
        assert_eq!((seen.gid.get(), seen.effective_gid.get(), seen.namespace_pid.get()), (1001, 5, 3));
        let own = std::fs::read_link("/proc/self/ns/mnt").unwrap();
        assert_eq!(own.to_string_lossy(), format!("mnt:[{}]", seen.mnt_namespace.get()));
    }

    #[test]
    fn what_is_gone_has_neither_user_nor_namespaces() {
        let seen = of(u32::MAX, "");
        assert_eq!((seen.uid.get(), seen.namespace_pid.get(), seen.net_namespace.get()), (u32::MAX, 0, 0));
    }
}
