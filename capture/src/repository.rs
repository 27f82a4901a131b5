//! Which git repository a folder is in, and which commit is checked out there. Its few files are read, no program is run: git may
//! not be there, and its settings may name programs of somebody else.
//!
//! Formats: gitrepository-layout(5), git-config(5), git-worktree(1), git-pack-refs(1).

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

/// The most that is read of a file.
const MAX_FILE: u64 = 1 << 20;
const MAX_PACKED_REFS: u64 = 64 << 20;

/// References that name others.
const MAX_SYMBOLIC: usize = 5;

/// A repository.
#[derive(Debug, PartialEq)]
pub(crate) struct Repository {
    /// URL of its origin, else of its only remote, without credentials; else the name of its folder.
    pub name: String,
    /// The commit that HEAD names, hexadecimal; `None` before the first one.
    pub commit: Option<String>,
}

/// The repository that a folder is in.
pub(crate) fn of(folder: &Path) -> Option<Repository> {
    let (top, own) = folder.ancestors().find_map(|top| Some((top, git_folder(top)?)))?;
    // A worktree has its own HEAD, and shares the rest.
    let common = text(&own.join("commondir")).map_or_else(|| own.clone(), |common| own.join(common.trim_end()));
    let url = text(&common.join("config")).and_then(|config| without_credentials(&remote(&config)?));
    let name = url.or_else(|| Some(top.file_name()?.to_string_lossy().into_owned()))?;
    Some(Repository { name, commit: commit(&own, &common) })
}

/// The folder of git for a top folder: `.git`, or what a file of that name (of a worktree, or a submodule) leads to.
fn git_folder(top: &Path) -> Option<PathBuf> {
    let path = top.join(".git");
    let folder = if path.is_dir() {
        path
    } else {
        top.join(text(&path)?.strip_prefix("gitdir:")?.trim_start().trim_end_matches(['\r', '\n']))
    };
    folder.join("HEAD").is_file().then_some(folder)
}

fn open(path: &Path) -> Option<File> {
    // Whatever stands there must not make us wait.
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY).open(path).ok()?;
    file.metadata().ok()?.is_file().then_some(file)
}

fn text(path: &Path) -> Option<String> {
    let mut text = String::new();
    open(path)?.take(MAX_FILE).read_to_string(&mut text).ok()?;
    Some(text)
}

fn commit(own: &Path, common: &Path) -> Option<String> {
    let mut value = text(&own.join("HEAD"))?;
    for _ in 0..MAX_SYMBOLIC {
        let Some(name) = value.strip_prefix("ref:").map(str::trim) else { return hash(&value) };
        let inside = |part: Component<'_>| matches!(part, Component::Normal(_));
        if !name.starts_with("refs/") || !Path::new(name).components().all(inside) {
            return None;
        }
        let loose = text(&own.join(name)).or_else(|| text(&common.join(name)));
        match loose {
            Some(next) => value = next,
            None => return packed(&common.join("packed-refs"), name),
        }
    }
    None
}

/// A reference among those that are packed into one file: a hash and a name in each line.
fn packed(path: &Path, name: &str) -> Option<String> {
    let lines = BufReader::new(open(path)?.take(MAX_PACKED_REFS)).lines().map_while(Result::ok);
    { lines }.find_map(|line| hash(line.strip_suffix(name)?.strip_suffix(' ')?))
}

/// A hash of a commit: SHA-1 or SHA-256.
fn hash(text: &str) -> Option<String> {
    let text = text.trim();
    let is_hash = matches!(text.len(), 40 | 64) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hash.then(|| text.to_owned())
}

/// The URL of the origin, else of the only remote.
fn remote(config: &str) -> Option<String> {
    let mut remotes: Vec<(&str, String)> = Vec::new();
    let mut section = None;
    for line in config.lines().map(str::trim) {
        if let Some(header) = line.strip_prefix('[') {
            let named = header.split_once(" \"").filter(|(kind, _)| kind.eq_ignore_ascii_case("remote"));
            section = named.and_then(|(_, rest)| Some(rest.rsplit_once("\"]")?.0));
        } else if let Some((name, (key, url))) = section.zip(line.split_once('=')) {
            // Of several, the first is fetched from.
            if key.trim().eq_ignore_ascii_case("url") && remotes.iter().all(|(other, _)| *other != name) {
                remotes.push((name, value(url)));
            }
        }
    }
    let origin = remotes.iter().position(|(name, _)| *name == "origin").or((remotes.len() == 1).then_some(0))?;
    Some(remotes.swap_remove(origin).1)
}

/// A value without quotes, escapes and comments.
fn value(text: &str) -> String {
    let (mut out, mut quoted) = (String::new(), false);
    let mut letters = text.trim().chars();
    while let Some(letter) = letters.next() {
        match letter {
            '"' => quoted = !quoted,
            '\\' => out.extend(letters.next()),
            '#' | ';' if !quoted => break,
            other => out.push(other),
        }
    }
    out.trim_end().to_owned()
}

/// A URL without what is to be kept secret: user and password, query and fragment. `None` if it cannot be told where these are.
fn without_credentials(url: &str) -> Option<String> {
    // `ext::command` and the like are for helpers of git.
    let helped =
        url.split_once("::").is_some_and(|(helper, _)| helper.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let shown = !url.is_empty() && !url.contains(char::is_control) && !helped;
    let Some((scheme, rest)) = url.split_once("://") else {
        // A path, or SSH's `git@host:path`, in which no password can stand.
        return shown.then(|| url.to_owned());
    };
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    let port = host.rsplit_once(':').filter(|_| !host.ends_with(']')).map_or("", |(_, port)| port);
    let plain = port.bytes().all(|byte| byte.is_ascii_digit());
    (shown && plain).then(|| format!("{scheme}://{host}{path}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    const ONE: &str = "1111111111111111111111111111111111111111";
    const TWO: &str = "2222222222222222222222222222222222222222";

    /// A folder with these files.
    fn folder(files: &[(&str, &str)]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        folder
    }

    fn commit_in(folder: &TempDir, below: &str) -> Option<String> {
        of(&folder.path().join(below)).and_then(|repository| repository.commit)
    }

    #[test]
    fn head_leads_to_a_commit() {
        let master = ("top/.git/HEAD", "ref: refs/heads/master\n");
        let packed = format!(
            "# pack-refs with: peeled\n{TWO} refs/heads/not/refs/heads/master\n{ONE} refs/heads/master\n^{TWO}\n"
        );
        let loose = ("top/.git/refs/heads/master", format!("{ONE}\n"));
        let links = ("top/.git/refs/heads/master", "ref: refs/heads/other".to_owned());
        let circle = ("top/.git/refs/heads/master", "ref: refs/heads/master".to_owned());
        for (files, expected) in [
            (vec![master, ("top/.git/packed-refs", &packed)], Some(ONE)),
            (vec![master, (loose.0, &loose.1), ("top/.git/packed-refs", &packed.replace(ONE, TWO))], Some(ONE)),
            (vec![("top/.git/HEAD", &loose.1)], Some(ONE)),
            (vec![master, (links.0, &links.1), ("top/.git/refs/heads/other", TWO)], Some(TWO)),
            (vec![master], None),
            (vec![master, (circle.0, &circle.1)], None),
            (vec![("top/.git/HEAD", "ref: refs/../../secret"), ("top/secret", ONE)], None),
            (vec![("top/.git/HEAD", "ref: refs/heads/.invalid")], None),
        ] {
            let folder = folder(&files);
            std::fs::create_dir_all(folder.path().join("top/below")).unwrap();
            assert_eq!(commit_in(&folder, "top/below").as_deref(), expected, "{files:?}");
            assert_eq!(of(&folder.path().join("top")).unwrap().name, "top");
        }
    }

    #[test]
    fn a_worktree_and_a_submodule_have_a_file_in_place_of_the_folder() {
        let folder = folder(&[
            ("main/.git/HEAD", "ref: refs/heads/master\n"),
            ("main/.git/refs/heads/master", ONE),
            ("main/.git/refs/heads/topic", TWO),
            ("main/.git/config", "[remote \"origin\"]\n\turl = https://example.com/a.git\n"),
            ("main/.git/worktrees/side/HEAD", "ref: refs/heads/topic\n"),
            ("main/.git/worktrees/side/commondir", "../..\n"),
            ("side/.git", "gitdir: ../main/.git/worktrees/side\n"),
            ("main/.git/modules/sub/HEAD", ONE),
            ("main/.git/modules/sub/config", "[remote \"origin\"]\n\turl = ../b.git\n"),
            ("main/sub/.git", "gitdir: ../.git/modules/sub\n"),
        ]);
        for (below, name, commit) in [
            ("main", "https://example.com/a.git", ONE),
            ("side", "https://example.com/a.git", TWO),
            ("main/sub", "../b.git", ONE),
        ] {
            let expected = Repository { name: name.to_owned(), commit: Some(commit.to_owned()) };
            assert_eq!(of(&folder.path().join(below)), Some(expected), "{below}");
        }
        assert_eq!(of(folder.path()), None);
    }

    #[test]
    fn what_is_no_file_is_not_waited_for() {
        let folder = folder(&[("top/.git/HEAD", "ref: refs/heads/master\n"), ("top/.git/refs/heads/x", "")]);
        let fifo = folder.path().join("top/.git/refs/heads/master");
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(commit_in(&folder, "top"), None);
    }

    #[test]
    fn the_remote_is_the_origin_or_the_only_one() {
        let one = "[core]\n\tbare = false\n[branch \"x\"]\n\turl = no\n[Remote \"up\"]\n\tfetch = +refs/*\n\tURL = \"https://e.org/#a\" ; b\n";
        let two = format!("{one}[remote \"more\"]\n  url=m\n");
        let three = format!("{two}[remote \"origin\"]\n  url = o\n  url = p\n[branch \"b\"]\n url = q\n");
        for (config, expected) in [("", None), (one, Some("https://e.org/#a")), (&two, None), (&three, Some("o"))] {
            assert_eq!(remote(config).as_deref(), expected, "{config}");
        }
    }

    #[test]
    fn no_credential_is_left_in_a_url() {
        for (url, expected) in [
            ("https://github.com/a/b.git", Some("https://github.com/a/b.git")),
            ("https://user:t0ken@github.com/a/b.git", Some("https://github.com/a/b.git")),
            ("https://t0ken@github.com:8443/a", Some("https://github.com:8443/a")),
            ("https://a@b:t@ken@github.com/a/@b", Some("https://github.com/a/@b")),
            ("https://github.com/a?token=t0ken#t0ken", Some("https://github.com/a")),
            ("ssh://git@[::1]:22/a", Some("ssh://[::1]:22/a")),
            ("ssh://git@host:22/a", Some("ssh://host:22/a")),
            ("https://user:t0/ken@github.com/a", None),
            ("ext::sh -c t0ken", None),
            ("git@github.com:a/b.git", Some("git@github.com:a/b.git")),
            ("/srv/git/a.git", Some("/srv/git/a.git")),
            ("", None),
        ] {
            assert_eq!(without_credentials(url).as_deref(), expected, "{url}");
        }
    }
}
