//! Remembers answers from run to run: looking through a hundred megabytes takes longer than many programs run before they
//! connect.
//!
//! One JSON file an answer. A binary is known by its build id and size, so that its copies share an answer; the bytes at the
//! sites are compared as well, because a build id is only what a file says of itself. Answers without sites, for which there
//! is nothing to compare, hold for one inode as it was last changed. Nothing here is an error: what cannot be read, does not
//! fit or could have been written by another user is looked for again, and a folder that cannot be written stays as it is.

use super::image::Image;
use super::{Binary, ResolveError, resolve};
use nix::fcntl::{OFlag, openat, renameat};
use nix::sys::stat::Mode;
use nix::unistd::{UnlinkatFlags, unlinkat};
use object::ReadCache;
use serde::{Deserialize, Serialize};
use std::fs::{DirBuilder, File};
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// To be raised with every change of the resolver that may change an answer.
const VERSION: u32 = 6;
/// Files smaller than this are looked through in no time; that they have nothing is not worth remembering.
const SMALL: u64 = 1 << 20;
/// Answers have some kilobytes.
const LARGEST: u64 = 1 << 20;
/// Bytes at a site that have to be the same.
const COMPARED: usize = 16;
/// More answers than this are not kept: the oldest go, and are looked for again should anybody ask.
const MOST: usize = 1024;

#[derive(Serialize, Deserialize)]
struct Entry {
    version: u32,
    binary: Binary,
    /// What stands at each site, in the order of sites.
    code: Vec<[u8; COMPARED]>,
}

/// As [`resolve`], with answers kept in a folder, which is made where it is missing.
///
/// # Errors
/// Those of [`resolve`].
pub fn resolve_cached(file: &File, folder: &Path) -> Result<Binary, ResolveError> {
    let names = Names::of(file)?;
    if let Some(binary) = names.all().find_map(|name| read(file, folder, name)) {
        return Ok(binary);
    }
    let binary = resolve(file)?;
    if !binary.stacks.is_empty() || names.size >= SMALL {
        let has_sites = binary.sites().next().is_some();
        let name = names.build.as_deref().filter(|_| has_sites).unwrap_or(&names.inode);
        // Next time it is looked for again, no more.
        let _ = write(file, folder, name, &binary);
    }
    Ok(binary)
}

/// What an answer is kept under.
struct Names {
    build: Option<String>,
    inode: String,
    size: u64,
}

impl Names {
    fn of(file: &File) -> Result<Self, ResolveError> {
        let data = ReadCache::new(file);
        let build = Image::parse(file, &data)?.build_id();
        let about = file.metadata()?;
        let size = about.len();
        // As long as they are made today, and some more.
        let build = (16..=80).contains(&build.len()).then(|| format!("{VERSION}-build-{build}-{size}.json"));
        let (device, inode) = (about.dev(), about.ino());
        let written = format!("{}.{:09}", about.mtime(), about.mtime_nsec());
        // Unlike the time of writing, this one cannot be set.
        let changed = format!("{}.{:09}", about.ctime(), about.ctime_nsec());
        let inode = format!("{VERSION}-inode-{device:x}-{inode}-{size}-{written}-{changed}.json");
        Ok(Names { build, inode, size })
    }

    fn all(&self) -> impl Iterator<Item = &str> {
        self.build.as_deref().into_iter().chain([self.inode.as_str()])
    }
}

fn read(file: &File, folder: &Path, name: &str) -> Option<Binary> {
    let folder = open_folder(folder)?;
    // A pipe in its place must not hold the capturer up.
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let kept = File::from(openat(&folder, name, flags, Mode::empty()).ok()?);
    let is_file = kept.metadata().ok()?.is_file();
    (is_file && is_ours(&kept)).then_some(())?;
    let mut json = Vec::new();
    kept.take(LARGEST).read_to_end(&mut json).ok()?;
    let entry: Entry = serde_json::from_slice(&json).ok()?;
    let fits = entry.version == VERSION && code(file, &entry.binary)? == entry.code;
    fits.then_some(entry.binary)
}

/// In one step: who reads it meanwhile sees all of it or nothing.
fn write(file: &File, folder: &Path, name: &str, binary: &Binary) -> Option<()> {
    let entry = Entry { version: VERSION, binary: binary.clone(), code: code(file, binary)? };
    let json = serde_json::to_vec(&entry).ok()?;
    DirBuilder::new().recursive(true).mode(0o700).create(folder).ok()?;
    let folder = open_folder(folder)?;
    let temporary = format!("{name}.{}", std::process::id());
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut kept = File::from(openat(&folder, temporary.as_str(), flags, Mode::S_IRUSR | Mode::S_IWUSR).ok()?);
    let written = kept.write_all(&json).is_ok() && renameat(&folder, temporary.as_str(), &folder, name).is_ok();
    if !written {
        let _ = unlinkat(&folder, temporary.as_str(), UnlinkatFlags::NoRemoveDir);
    }
    prune(&folder, MOST);
    written.then_some(())
}

/// Removes the oldest files where there are more than `most`: programs that are updated every week leave their answers behind.
fn prune(folder: &File, most: usize) {
    let Ok(entries) = std::fs::read_dir(format!("/proc/self/fd/{}", folder.as_raw_fd())) else { return };
    let names: Vec<_> = entries.flatten().collect();
    if names.len() <= most {
        return;
    }
    let written = |entry: &std::fs::DirEntry| entry.metadata().and_then(|about| about.modified()).ok();
    let mut files: Vec<_> = names.iter().map(|entry| (written(entry), entry.file_name())).collect();
    files.sort_unstable();
    for (_, name) in files.iter().take(files.len() - most) {
        let _ = unlinkat(folder, name.as_os_str(), UnlinkatFlags::NoRemoveDir);
    }
}

/// The folder, if nobody else can put anything into it. From here on it is this folder, whatever its name stands for.
fn open_folder(folder: &Path) -> Option<File> {
    let folder = File::options().read(true).custom_flags(nix::libc::O_DIRECTORY).open(folder).ok()?;
    is_ours(&folder).then_some(folder)
}

/// Whether only this user can write it (and root, who needs no such way).
fn is_ours(file: &File) -> bool {
    let ours = |about: std::fs::Metadata| about.uid() == nix::unistd::geteuid().as_raw() && about.mode() & 0o022 == 0;
    file.metadata().is_ok_and(ours)
}

/// The bytes at the sites; `None` where one is not in the file.
fn code(file: &File, binary: &Binary) -> Option<Vec<[u8; COMPARED]>> {
    let at = |offset: u64| {
        let mut bytes = [0; COMPARED];
        file.read_exact_at(&mut bytes, offset).ok()?;
        Some(bytes)
    };
    binary.sites().map(|site| at(site.offset)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;
    use std::path::PathBuf;

    /// A library with sites and a build id, and a folder for answers.
    fn scene() -> (File, tempfile::TempDir, PathBuf) {
        let path = crate::libraries::libssl();
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("a/b");
        (File::open(path).unwrap(), parent, folder)
    }

    fn only_entry(folder: &Path) -> PathBuf {
        let entries: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert_eq!(entries.len(), 1, "{entries:?}");
        entries.into_iter().next().unwrap()
    }

    /// Makes a remembered answer recognisable: it is believed where this comes back.
    fn mark(entry: &Path) {
        let json = fs::read_to_string(entry).unwrap();
        fs::write(entry, json.replace("ssl_read_internal", "MARKED").replace("SSL_read", "MARKED")).unwrap();
    }

    fn is_marked(binary: &Binary) -> bool {
        binary.sites().any(|site| site.name == "MARKED")
    }

    #[test]
    fn an_answer_is_remembered() {
        let (file, _parent, folder) = scene();
        let first = resolve_cached(&file, &folder).unwrap();
        assert_eq!(first, resolve(&file).unwrap());
        assert_eq!(first, resolve_cached(&file, &folder).unwrap());
        mark(&only_entry(&folder));
        assert!(is_marked(&resolve_cached(&file, &folder).unwrap()));
    }

    #[test]
    fn of_too_many_answers_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        for (age, name) in ["newest", "older", "oldest"].into_iter().enumerate() {
            let file = File::create(folder.path().join(name)).unwrap();
            file.set_modified(std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(10 - age as u64))
                .unwrap();
        }
        prune(&File::open(folder.path()).unwrap(), 1);
        assert_eq!(only_entry(folder.path()).file_name().unwrap(), "newest");
    }

    #[test]
    fn a_damaged_answer_is_written_anew() {
        let (file, _parent, folder) = scene();
        let right = resolve_cached(&file, &folder).unwrap();
        let entry = only_entry(&folder);
        let whole = fs::read(&entry).unwrap();
        for damaged in [&whole[..whole.len() / 2], b"", b"{}", b"\xff\xfe"] {
            fs::write(&entry, damaged).unwrap();
            assert_eq!(resolve_cached(&file, &folder).unwrap(), right);
            assert_eq!(fs::read(only_entry(&folder)).unwrap(), whole);
        }
    }

    #[test]
    fn an_answer_of_another_version_is_not_believed() {
        let (file, _parent, folder) = scene();
        resolve_cached(&file, &folder).unwrap();
        let entry = only_entry(&folder);
        mark(&entry);
        let json = fs::read_to_string(&entry).unwrap();
        fs::write(&entry, json.replace(&format!("\"version\":{VERSION}"), "\"version\":0")).unwrap();
        assert!(!is_marked(&resolve_cached(&file, &folder).unwrap()));
    }

    #[test]
    fn a_file_that_only_claims_a_build_id_gets_no_answer_of_another() {
        let (file, parent, folder) = scene();
        let binary = resolve_cached(&file, &folder).unwrap();
        mark(&only_entry(&folder));
        // The same size and build id, but other code at one site.
        let mut bytes = vec![0; file.metadata().unwrap().len() as usize];
        file.read_exact_at(&mut bytes, 0).unwrap();
        let site = binary.sites().next().unwrap().offset as usize;
        bytes[site + 8] ^= 0xff;
        let path = parent.path().join("other");
        fs::write(&path, bytes).unwrap();
        assert!(!is_marked(&resolve_cached(&File::open(path).unwrap(), &folder).unwrap()));
    }

    #[test]
    fn what_another_user_can_write_is_not_believed() {
        let (file, _parent, folder) = scene();
        resolve_cached(&file, &folder).unwrap();
        let entry = only_entry(&folder);
        mark(&entry);
        let believed = || is_marked(&resolve_cached(&file, &folder).unwrap());
        let set = |path: &Path, mode| fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
        for mode in [0o770, 0o703, 0o1777] {
            set(&folder, mode);
            assert!(!believed(), "folder with mode {mode:o}");
        }
        set(&folder, 0o755);
        assert!(believed());
        set(&entry, 0o660);
        assert!(!believed());
        // It was written anew.
        assert_eq!(fs::metadata(&entry).unwrap().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_link_in_place_of_an_answer_is_not_followed() {
        let (file, parent, folder) = scene();
        resolve_cached(&file, &folder).unwrap();
        let (entry, elsewhere) = (only_entry(&folder), parent.path().join("elsewhere"));
        mark(&entry);
        fs::rename(&entry, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &entry).unwrap();
        assert!(!is_marked(&resolve_cached(&file, &folder).unwrap()));
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_no_error() {
        let (file, parent, _) = scene();
        let in_the_way = parent.path().join("file");
        fs::write(&in_the_way, "").unwrap();
        assert!(resolve_cached(&file, &in_the_way.join("folder")).unwrap().sites().next().is_some());
    }

    #[test]
    fn an_answer_without_sites_holds_for_one_inode() {
        let (_, _parent, folder) = scene();
        let file = File::open("/proc/self/exe").unwrap();
        let names = Names::of(&file).unwrap();
        assert!(names.size >= SMALL, "the test program is large");
        resolve_cached(&file, &folder).unwrap();
        assert!(only_entry(&folder).to_string_lossy().contains("inode"), "it has nothing to compare");
    }
}
