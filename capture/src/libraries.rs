//! The machine's shared TLS libraries. They are probed before anything is recorded, because a program that links one may
//! speak within a millisecond of its start.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

/// Where the dynamic linker keeps the paths of the libraries it knows.
const LINKER_CACHE: &str = "/etc/ld.so.cache";

/// Folders that the linker searches without a cache (musl, or a cache that is old).
const FOLDERS: &[&str] = &["/lib", "/lib64", "/usr/lib", "/usr/lib64", "/usr/local/lib", "/usr/local/lib64"];

/// Every libssl on the machine, each file once.
pub(crate) fn installed() -> Vec<PathBuf> {
    let cache = std::fs::read(LINKER_CACHE).unwrap_or_default();
    let mut found: BTreeSet<PathBuf> = cached(&cache).collect();
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

/// Whether a file name is that of OpenSSL's library; `libssl3.so` is NSS.
pub(crate) fn is_libssl(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| {
        // Wheels of Python packages carry a copy whose name has a hash: libssl-60250281.so.3.
        name.strip_prefix("libssl")
            .is_some_and(|rest| rest.starts_with(".so") || rest.starts_with('-') && rest.contains(".so"))
    })
}

/// The cache holds its strings with terminators; whatever looks like a path of libssl is one.
fn cached(cache: &[u8]) -> impl Iterator<Item = PathBuf> + '_ {
    cache
        .split(|byte| *byte == 0)
        .filter_map(|text| std::str::from_utf8(text).ok())
        .filter(|text| text.starts_with('/'))
        .map(PathBuf::from)
        .filter(|path| is_libssl(path))
}

fn in_folder(folder: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.path()).filter(|path| is_libssl(path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libssl_is_told_from_its_neighbours_by_name() {
        for name in ["libssl.so.3", "libssl.so", "libssl.so.1.1", "libssl-60250281.so.1.1.1k"] {
            assert!(is_libssl(Path::new(name)), "{name}");
        }
        for name in ["libssl3.so", "libsslcommon.so", "libssl.a", "libssl.pc", "libcrypto.so.3"] {
            assert!(!is_libssl(Path::new(name)), "{name}");
        }
    }

    #[test]
    fn paths_are_found_in_the_linker_cache() {
        let cache = b"glibc-ld.so.cache1.1\0\x01\x02\0libssl.so.3\0/lib/x/libssl.so.3\0libz.so.1\0/lib/x/libz.so.1\0";
        assert_eq!(cached(cache).collect::<Vec<_>>(), [PathBuf::from("/lib/x/libssl.so.3")]);
    }
}
