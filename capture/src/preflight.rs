//! Looks for what is missing before anything is started, so that the message names the reason and not a symptom.

use crate::{Error, privilege};
use std::path::Path;

/// Inode of the host's process namespace, PROC_PID_INIT_INO of linux/proc_ns.h.
const INITIAL_PID_NAMESPACE: &str = "pid:[4026531836]";

/// Inode of the host's user namespace, PROC_USER_INIT_INO: its root is root, that of any other is so to its own things.
const INITIAL_USER_NAMESPACE: &str = "user:[4026531837]";

/// Where the kernel tells of its types.
pub(crate) const BTF: &str = "/sys/kernel/btf/vmlinux";

/// # Errors
/// The first thing that is missing.
pub(crate) fn check() -> Result<(), Error> {
    kernel(&release())?;
    if !Path::new(BTF).exists() {
        return Err(Error::NoBtf);
    }
    user_namespace()?;
    if !privilege::suffices(&privilege::held()) {
        return Err(Error::Privilege);
    }
    pid_namespace()
}

/// # Errors
/// [`Error::PidNamespace`] where process ids are not the host's.
pub(crate) fn pid_namespace() -> Result<(), Error> {
    if is_another("pid", INITIAL_PID_NAMESPACE) { Err(Error::PidNamespace) } else { Ok(()) }
}

/// # Errors
/// [`Error::UserNamespace`] where capabilities do not count for the kernel as a whole.
pub(crate) fn user_namespace() -> Result<(), Error> {
    if is_another("user", INITIAL_USER_NAMESPACE) { Err(Error::UserNamespace) } else { Ok(()) }
}

fn is_another(kind: &str, initial: &str) -> bool {
    std::fs::read_link(format!("/proc/self/ns/{kind}")).is_ok_and(|namespace| namespace.as_os_str() != initial)
}

/// The running kernel's release, like `6.12.1`.
pub(crate) fn release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// # Errors
/// [`Error::OldKernel`].
pub(crate) fn kernel(release: &str) -> Result<(), Error> {
    let mut numbers = release.split(['.', '-']).map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(major), Some(minor)) if (major, minor) < (5, 15) => Err(Error::OldKernel { release: release.to_owned() }),
        // A release that cannot be read is no reason to refuse: loading the programs will tell.
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_before_5_15_are_refused_by_name() {
        let message = kernel("4.19.0-27-amd64").unwrap_err().to_string();
        assert!(message.contains("4.19.0-27-amd64") && message.contains("5.15"), "{message}");
        assert!(kernel("5.10.0-30-amd64").is_err());
        assert!(kernel("5.15.0").is_ok());
        assert!(kernel("6.18.44-fc").is_ok());
        assert!(kernel("10.0").is_ok());
    }
}
