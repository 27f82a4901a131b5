//! Under sudo the command runs as the user who called it, and the capture is theirs.

use crate::Error;
use nix::unistd::{Gid, Uid, User, setfsgid, setfsuid};
use std::ffi::CString;

/// The user behind sudo.
#[derive(Clone)]
pub(crate) struct Invoker {
    pub uid: Uid,
    pub gid: Gid,
    pub name: CString,
    /// Environment that sudo changed and the command gets back.
    pub environment: Vec<(&'static str, String)>,
}

/// The user who called sudo; `None` when it was not sudo that started us as root.
///
/// # Errors
/// [`Error::User`] when SUDO_UID names nobody.
pub(crate) fn invoker() -> Result<Option<Invoker>, Error> {
    let id = |name| std::env::var(name).ok().and_then(|value| value.parse::<u32>().ok());
    let (Some(uid), Some(gid)) = (id("SUDO_UID"), id("SUDO_GID")) else { return Ok(None) };
    if uid == 0 || !nix::unistd::geteuid().is_root() {
        return Ok(None);
    }
    let failed = |source| Error::User { user: uid.to_string(), source };
    let user = User::from_uid(Uid::from_raw(uid))
        .map_err(|errno| failed(errno.into()))?
        .ok_or_else(|| failed(std::io::Error::new(std::io::ErrorKind::NotFound, "no such user")))?;
    let name = CString::new(user.name.as_str()).map_err(|error| failed(error.into()))?;
    let environment = vec![
        ("HOME", user.dir.to_string_lossy().into_owned()),
        ("SHELL", user.shell.to_string_lossy().into_owned()),
        ("USER", user.name.clone()),
        ("LOGNAME", user.name),
    ];
    Ok(Some(Invoker { uid: Uid::from_raw(uid), gid: Gid::from_raw(gid), name, environment }))
}

/// Does something with the rights to files of the user who called sudo: where they lead us, we read no more than they may.
pub(crate) fn with_files_of<T>(invoker: Option<&Invoker>, work: impl FnOnce() -> T) -> T {
    let Some(invoker) = invoker else { return work() };
    let before = (setfsgid(invoker.gid), setfsuid(invoker.uid));
    let done = work();
    setfsuid(before.1);
    setfsgid(before.0);
    done
}

/// Name of the user who records, as far as it is known.
pub(crate) fn name(uid: Uid) -> String {
    User::from_uid(uid).ok().flatten().map(|user| user.name).unwrap_or_default()
}
