//! The programs that a command will run, as far as it says so: its own, and those that its arguments and the scripts among them
//! mention. They are looked through before anything runs, which takes a large one longer than it may need to speak.
//!
//! Words are taken for what they look like, as nothing here knows shells, Python or JavaScript: a program too many costs a
//! look, and one that no text names (`npx` finds it at run time) is looked through while it starts.

use crate::command::{executable, find};
use std::collections::{HashMap, HashSet};
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

/// The kernel gives up on a longer chain of scripts.
const MAX_INTERPRETERS: usize = 5;
/// Of a script so much is read, of all texts so many different words, and so many scripts.
const MAX_SCRIPT: u64 = 1 << 16;
const MAX_WORDS: usize = 1024;
const MAX_SCRIPTS: usize = 16;
/// A smaller file is looked through in less time than it takes to start.
const LARGE: u64 = 1 << 20;

/// The programs that will run for this name: the file, and when it is a script, what its first line names.
pub(crate) fn programs(name: &OsStr) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut next = find(name);
    while let Some(program) = next.filter(|_| found.len() < MAX_INTERPRETERS) {
        next = interpreter(&program);
        found.push(program);
    }
    found
}

/// The programs of a command, and the large ones that it mentions.
pub(crate) fn programs_of(command: &[OsString]) -> Vec<PathBuf> {
    let Some((name, arguments)) = command.split_first() else { return Vec::new() };
    let mut mentions = Mentions { found: programs(name), ..Mentions::default() };
    if let Some(program) = mentions.found.first().cloned() {
        mentions.add_script(&program);
    }
    for argument in arguments {
        mentions.read(argument.as_bytes(), None);
    }
    // What a script mentions may be a script.
    let mut next = 0;
    while let Some(script) = mentions.scripts.get(next).cloned() {
        let text = start_of(&script, MAX_SCRIPT).unwrap_or_default();
        mentions.read(&text, script.parent());
        next += 1;
    }
    mentions.found
}

#[derive(Default)]
struct Mentions {
    found: Vec<PathBuf>,
    scripts: Vec<PathBuf>,
    words: HashSet<OsString>,
    /// What the texts assign to names.
    variables: HashMap<Vec<u8>, Vec<u8>>,
}

impl Mentions {
    /// Looks at the words of a text. `folder` is that of the script: what a name stands for that nobody gave a value is mostly
    /// that folder, which scripts work out.
    fn read(&mut self, text: &[u8], folder: Option<&Path>) {
        let unquoted: Vec<u8> = text.iter().copied().filter(|byte| !matches!(byte, b'"' | b'\'' | b'`')).collect();
        let separates = |byte: &u8| byte.is_ascii_whitespace() || b";&|()<>,[]".contains(byte);
        for word in unquoted.split(separates).filter(|word| !word.is_empty()) {
            let value = match word.iter().position(|byte| *byte == b'=') {
                None if word.starts_with(b"-") => continue,
                None => self.expand(word, folder),
                Some(at) => {
                    let value = self.expand(&word[at + 1..], folder);
                    self.variables.insert(word[..at].to_vec(), value.clone());
                    value
                }
            };
            let word = OsString::from_vec(value);
            if !word.is_empty() && self.words.len() < MAX_WORDS && self.words.insert(word.clone()) {
                self.add(&word);
            }
        }
    }

    /// A word with what its `$NAME` and `${NAME}` stand for.
    fn expand(&self, word: &[u8], folder: Option<&Path>) -> Vec<u8> {
        let mut parts = word.split(|byte| *byte == b'$');
        let mut out = parts.next().unwrap_or_default().to_vec();
        for part in parts {
            let (name, rest) = match part.strip_prefix(b"{").map(|rest| (rest, memchr::memchr(b'}', rest))) {
                Some((rest, Some(end))) => (&rest[..end], &rest[end + 1..]),
                _ => part.split_at(part.iter().position(|byte| !is_of_name(*byte)).unwrap_or(part.len())),
            };
            let value = self.variables.get(name).cloned().filter(|value| !value.is_empty());
            let value = value.or_else(|| std::env::var_os(OsStr::from_bytes(name)).map(OsString::into_vec));
            let value = value.or_else(|| Some(folder?.as_os_str().as_bytes().to_vec()));
            out.extend(value.unwrap_or_default());
            out.extend(rest);
        }
        out
    }

    fn add(&mut self, word: &OsStr) {
        let path = Path::new(word);
        if !path.is_file() && find(word).is_none() {
            return;
        }
        // A script that an interpreter is told to run needs no permission to be executed, and is no program.
        let programs = if path.is_file() && !executable(path) { vec![path.to_owned()] } else { programs(word) };
        for program in programs {
            self.add_script(&program);
            let large = program.metadata().is_ok_and(|about| about.len() >= LARGE) && executable(&program);
            if large && !self.found.contains(&program) {
                self.found.push(program);
            }
        }
    }

    /// Remembers a text to be read.
    fn add_script(&mut self, path: &Path) {
        let is_text = || start_of(path, 512).is_some_and(|start| !start.is_empty() && !start.contains(&0));
        if self.scripts.len() < MAX_SCRIPTS && !self.scripts.iter().any(|script| script == path) && is_text() {
            self.scripts.push(path.to_owned());
        }
    }
}

fn is_of_name(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// The first bytes of a file; `None` if it is none, or may not be read.
fn start_of(path: &Path, size: u64) -> Option<Vec<u8>> {
    let mut start = Vec::new();
    // A pipe in its place would be waited for.
    path.metadata().ok()?.is_file().then_some(())?;
    File::open(path).ok()?.take(size).read_to_end(&mut start).ok()?;
    Some(start)
}

/// What the first line of a script names, `#!/usr/bin/env NAME` looked up; `None` for what is no script.
fn interpreter(script: &Path) -> Option<PathBuf> {
    let start = start_of(script, 256)?;
    let line = std::str::from_utf8(start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?).ok()?;
    let mut words = line.split_whitespace();
    let program = words.next()?;
    if !program.ends_with("/env") {
        return Some(program.into());
    }
    let name = words.find(|word| !word.starts_with('-') && !word.contains('='))?;
    find(OsStr::new(name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;
    use tempfile::TempDir;

    /// A folder with a large program `bin/tool`.
    fn scene() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("bin")).unwrap();
        let tool = folder.path().join("bin/tool");
        File::create(&tool).unwrap().set_len(LARGE).unwrap();
        std::fs::set_permissions(&tool, std::fs::Permissions::from_mode(0o755)).unwrap();
        (folder, tool)
    }

    fn script(folder: &TempDir, name: &str, text: &str) -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn named(name: &str) -> PathBuf {
        find(OsStr::new(name)).unwrap()
    }

    fn found(command: &[&OsStr]) -> Vec<PathBuf> {
        programs_of(&command.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn a_command_says_what_its_shell_will_run() {
        let (folder, tool) = scene();
        let top = folder.path().display();
        script(&folder, "text", "no-such-command");
        for text in [
            format!("cd /; A=b; (exec \"{top}/bin/tool\" --all <{top}/text)|no-such-command"),
            format!("TOP={top} && \"$TOP\"/bin/tool -x"),
            format!("--agent='{top}/bin/tool'"),
        ] {
            let programs = found(&["env", "A=b", "sh", "-c", &text].map(OsStr::new));
            assert_eq!(programs, [named("env"), tool.clone()], "{text}");
        }
    }

    #[test]
    fn a_script_says_what_it_will_run() {
        let (folder, tool) = scene();
        let top = format!("TOP={}", folder.path().display());
        for text in [
            "exec \"$TOP/bin/tool\" run",
            "exec ${TOP}/bin/tool run",
            "here=$(cd \"$(dirname \"$0\")\" && pwd)\nexec \"$here/bin/tool\" \"$@\"",
            "import os\nos.execv(os.path.expandvars('${TOP}/bin/tool'), ['tool', '-v'])",
        ] {
            let path = script(&folder, "script", text);
            let command = ["env", "-i", top.as_str(), "sh"].map(OsStr::new);
            assert_eq!(found(&[&command[..], &[path.as_os_str()]].concat()), [named("env"), tool.clone()], "{text}");
        }
    }

    #[test]
    fn a_script_that_another_one_starts_is_read_as_well() {
        let (folder, tool) = scene();
        let inner = script(&folder, "inner", &format!("#!/bin/sh\n{}\n", tool.display()));
        let outer =
            script(&folder, "outer", &format!("#!/bin/sh\nexec {} {}\n", inner.display(), folder.path().display()));
        for path in [&inner, &outer] {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
        }
        assert_eq!(found(&[outer.as_os_str()]), [outer.clone(), "/bin/sh".into(), tool]);
        // Two that start each other have an end.
        std::fs::write(&inner, format!("{}\n", outer.display())).unwrap();
        assert_eq!(found(&[outer.as_os_str()]), [outer, "/bin/sh".into()]);
    }

    #[test]
    fn the_programs_of_a_script_are_the_script_and_its_interpreter() {
        let (folder, _) = scene();
        let sh = named("sh");
        for first_line in ["#!/usr/bin/env sh", "#! /usr/bin/env -S A=b sh -e"] {
            let path = script(&folder, "env", &format!("{first_line}\nrest\n"));
            assert_eq!(programs(path.as_os_str()), [path, sh.clone()], "{first_line}");
        }
        let path = script(&folder, "plain", "#!/bin/sh -e\nrest\n");
        assert_eq!(programs(path.as_os_str()), [path, "/bin/sh".into()]);
        let path = script(&folder, "none", "echo");
        assert_eq!(programs(path.as_os_str()), [path]);
        let endless = script(&folder, "loop", &format!("#!{}\n", folder.path().join("loop").display()));
        assert_eq!(programs(endless.as_os_str()).len(), MAX_INTERPRETERS);
    }
}
