//! What a path stands for that a command is about to delete or to change: some folders nobody deletes on purpose.

/// What is at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Place {
    /// Whatever is in the working directory.
    Here,
    /// The folder above the working directory, or one further up.
    Above,
    Home,
    /// A folder of the system, as `/usr`.
    System,
    Root,
}

impl Place {
    pub fn name(self) -> &'static str {
        match self {
            Place::Here => "everything in the working directory",
            Place::Above => "the folder above the working directory",
            Place::Home => "a home folder",
            Place::System => "a folder of the system",
            Place::Root => "the root folder",
        }
    }

    pub fn severity(self) -> &'static str {
        if self >= Place::Home { "high" } else { "medium" }
    }
}

const SYSTEM: &[&str] = &[
    "bin",
    "boot",
    "dev",
    "etc",
    "home",
    "lib",
    "lib32",
    "lib64",
    "opt",
    "proc",
    "sbin",
    "srv",
    "sys",
    "usr",
    "var",
    "usr/bin",
    "usr/lib",
    "usr/local",
    "usr/share",
    "var/lib",
    "var/log",
    "Users",
    "System",
    "Library",
    "Applications",
];

/// The place that a path names, if it is one of these. `literal`: the path is as the kernel got it, and `~`, `$x` and `*` are
/// names like any other.
pub(super) fn place(path: &str, literal: bool) -> Option<Place> {
    let (folder, everything) = match path.rsplit_once('/') {
        Some((folder, last)) if !literal && is_pattern(last) => (folder, true),
        None if !literal && is_pattern(path) => (".", true),
        _ => (path, false),
    };
    let parts: Vec<&str> = folder.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
    if folder.starts_with('/') || path.starts_with('/') {
        return match parts[..] {
            [] => Some(Place::Root),
            ["root"] => Some(Place::Home),
            ["home" | "Users", name] if name != "Shared" => Some(Place::Home),
            _ => SYSTEM.contains(&parts.join("/").as_str()).then_some(Place::System),
        };
    }
    match parts[..] {
        [] if everything || !folder.is_empty() => Some(Place::Here),
        ["$PWD" | "${PWD}" | "$(pwd)" | "`pwd`"] if !literal => Some(Place::Here),
        ["$HOME" | "${HOME}"] if !literal => Some(Place::Home),
        [home] if !literal && home.starts_with('~') && !home.contains('*') => Some(Place::Home),
        _ => (!parts.is_empty() && parts.iter().all(|part| *part == "..")).then_some(Place::Above),
    }
}

/// Whether a name stands for all there is in a folder.
fn is_pattern(name: &str) -> bool {
    matches!(name, "*" | ".*" | "**" | "*.*" | ".[!.]*" | ".??*" | "{*,.*}" | "{.*,*}" | "{,.}*")
}

/// Whether a path is that of a disk, or of a part of one.
pub(super) fn is_disk(path: &str) -> bool {
    const DISKS: &[&str] = &["sd", "hd", "vd", "xvd", "nvme", "mmcblk", "disk", "rdisk", "mapper/", "dm-", "md"];
    path.strip_prefix("/dev/").is_some_and(|name| DISKS.iter().any(|disk| name.starts_with(disk)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_known_however_they_are_written() {
        let cases = [
            ("/", Some(Place::Root)),
            ("/*", Some(Place::Root)),
            ("//./", Some(Place::Root)),
            ("/etc/", Some(Place::System)),
            ("/usr/*", Some(Place::System)),
            ("~", Some(Place::Home)),
            ("~/*", Some(Place::Home)),
            ("~me/", Some(Place::Home)),
            ("$HOME/.*", Some(Place::Home)),
            ("/home/me/", Some(Place::Home)),
            ("/root/*", Some(Place::Home)),
            ("*", Some(Place::Here)),
            ("./*", Some(Place::Here)),
            (".", Some(Place::Here)),
            ("..", Some(Place::Above)),
            ("../../*", Some(Place::Above)),
            ("", None),
            ("build", None),
            ("./build/*", None),
            ("*.o", None),
            ("../build", None),
            ("~/.cache/x", None),
            ("/home/me/x", None),
            ("/tmp/x", None),
            ("$DIR", None),
        ];
        for (path, expected) in cases {
            assert_eq!(place(path, false), expected, "{path}");
        }
        for (path, expected) in
            [("*", None), ("~", None), ("$HOME", None), ("/", Some(Place::Root)), ("..", Some(Place::Above))]
        {
            assert_eq!(place(path, true), expected, "{path}");
        }
    }

    #[test]
    fn disks_are_no_other_devices() {
        for (path, expected) in
            [("/dev/sda1", true), ("/dev/nvme0n1", true), ("/dev/null", false), ("/dev/stdout", false), ("sda", false)]
        {
            assert_eq!(is_disk(path), expected, "{path}");
        }
    }
}
