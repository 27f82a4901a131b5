//! The machine's shared libraries. Those that speak TLS are probed before anything is recorded, because a program that links
//! one may speak within a millisecond of its start.

use crate::{regular, resolver};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Where the dynamic linker keeps the paths of the libraries it knows.
const LINKER_CACHE: &str = "/etc/ld.so.cache";

/// Folders that the linker searches without a cache (musl, or a cache that is old).
const FOLDERS: &[&str] = &["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"];

/// Names of TLS libraries, up to their versions. NSS (`libssl3.so`) is not among them: its reads and writes go through functions
/// that Firefox uses for everything, and would slow that down unasked. It is probed when a recorded process maps it.
const TLS: &[&str] = &["libssl", "libgnutls"];

/// Every TLS library on the machine, each file once.
pub(crate) fn installed() -> Vec<PathBuf> {
    let cache = std::fs::read(LINKER_CACHE).unwrap_or_default();
    let mut found: BTreeSet<PathBuf> = cached(&cache).filter(|path| speaks_tls(path)).collect();
    let given = std::env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let folders = FOLDERS.iter().map(PathBuf::from).chain(std::env::split_paths(&given));
    for folder in folders {
        found.extend(in_folder(&folder));
        // Debian's folders of one architecture: /usr/lib/x86_64-linux-gnu.
        let below = std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
        found.extend(below.filter(|path| path.to_string_lossy().contains("-linux-")).flat_map(|path| in_folder(&path)));
    }
    let real: BTreeSet<PathBuf> = found.into_iter().filter_map(|path| path.canonicalize().ok()).collect();
    real.into_iter().collect()
}

/// The libraries that the dynamic linker would load for a program, those that libraries need too, where its cache knows them.
pub(crate) fn linked(program: &Path) -> BTreeSet<PathBuf> {
    let cache = std::fs::read(LINKER_CACHE).unwrap_or_default();
    let known: Vec<PathBuf> = cached(&cache).collect();
    let needed = |path: &Path| regular::open(path).ok().and_then(|file| resolver::needed(&file).ok());
    let mut found = BTreeSet::new();
    let mut waiting = needed(program).unwrap_or_default();
    while let Some(name) = waiting.pop() {
        for library in known.iter().filter(|library| library.ends_with(&name)) {
            let library = library.canonicalize().unwrap_or_else(|_| library.clone());
            // One of the same name may be for programs of another architecture.
            if !found.contains(&library)
                && let Some(its) = needed(&library)
            {
                waiting.extend(its);
                found.insert(library);
            }
        }
    }
    found
}

/// Whether a file name is that of a TLS library.
pub(crate) fn speaks_tls(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| {
        // Wheels of Python packages carry a copy whose name has a hash: libssl-60250281.so.3.
        let hashed = |rest: &str| {
            rest.len() > 8 && rest.bytes().take(8).all(|byte| byte.is_ascii_hexdigit()) && rest.contains(".so")
        };
        let versioned = |rest: &str| rest.starts_with(".so") || rest.strip_prefix('-').is_some_and(hashed);
        TLS.iter().any(|library| name.strip_prefix(library).is_some_and(versioned))
    })
}

/// The cache holds its strings with terminators; whatever looks like a path of a library is one.
fn cached(cache: &[u8]) -> impl Iterator<Item = PathBuf> + '_ {
    cache
        .split(|byte| *byte == 0)
        .filter_map(|text| std::str::from_utf8(text).ok())
        .filter(|text| text.starts_with('/') && text.contains(".so"))
        .map(PathBuf::from)
}

fn in_folder(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| speaks_tls(path))
}

/// The machine's libssl, for tests of what is done with one.
#[cfg(test)]
pub(crate) fn libssl() -> PathBuf {
    let named = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("libssl.so"));
    installed().into_iter().find(named).expect("this test needs libssl: scripts/setup installs it")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_libraries_are_told_from_their_neighbours_by_name() {
        for name in ["libssl.so.3", "libssl.so", "libssl.so.1.1", "libssl-60250281.so.1.1.1k", "libgnutls.so.30"] {
            assert!(speaks_tls(Path::new(name)), "{name}");
        }
        for name in [
            "libssl3.so",
            "libsslcommon.so",
            "libssl.a",
            "libssl.pc",
            "libcrypto.so.3",
            "libgnutlsxx.so.30",
            "libgnutls-dane.so.0",
        ] {
            assert!(!speaks_tls(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn paths_are_found_in_the_linker_cache() {
        let cache = b"glibc-ld.so.cache1.1\0\x01\x02\0libssl.so.3\0/lib/x/libssl.so.3\0libz.so.1\0/lib/x/libz.so.1\0";
        let found: Vec<PathBuf> = cached(cache).collect();
        assert_eq!(found, [PathBuf::from("/lib/x/libssl.so.3"), PathBuf::from("/lib/x/libz.so.1")]);
    }

    #[test]
    fn a_program_is_linked_with_the_libraries_of_its_libraries() {
        let names = |program: &str| -> Vec<String> {
            let linked = linked(Path::new(program));
            linked.iter().map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
        };
        // curl needs libcurl, and that one libssl.
        let curl = names("/usr/bin/curl");
        assert!(curl.iter().any(|name| name.starts_with("libcurl")), "{curl:?}");
        assert!(curl.iter().any(|name| name.starts_with("libssl.so")), "{curl:?}");
        assert_eq!(names("/etc/passwd"), [""; 0]);
    }
}
