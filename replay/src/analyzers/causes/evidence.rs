//! What the arguments of a tool call say: commands, and names of files.

use crate::shell;
use crate::tables::Exec;
use crate::values;
use serde_json::Value;
use std::collections::HashSet;

/// Most texts of one call's arguments that are looked at, and bytes of them; and most commands in them.
const MAX_TEXTS: usize = 256;
const MAX_TEXT: usize = 64 << 10;
const MAX_COMMANDS: usize = 512;

/// Longest text that may be a command or a path, and hardly what a file is to hold.
const SHORT: usize = 4 << 10;

/// Folders of a path that a call may leave out.
const MAX_FOLDERS: usize = 32;

/// What a text that is remembered takes besides its bytes, about.
const OVERHEAD: usize = 48;

/// Shortest text that is looked for inside another.
const MIN_INSIDE: usize = 4;

/// What the arguments of a call say.
#[derive(Default)]
pub(super) struct Evidence {
    texts: Vec<String>,
    /// Arrays of texts: command lines as some tools have them.
    lines: Vec<Vec<String>>,
    /// Simple commands of the texts.
    commands: Vec<Vec<String>>,
    /// Words that may name files.
    names: HashSet<String>,
    /// Bytes of texts and lines.
    taken: usize,
}

impl Evidence {
    /// From arguments as JSON; what is no JSON is a text.
    pub fn of(arguments: &str) -> Self {
        let mut evidence = Evidence::default();
        match values::parse(arguments.as_bytes()) {
            Some(json) => evidence.collect(&json),
            None => evidence.text(arguments),
        }
        // What is short is rather a command than the content of a file.
        evidence.texts.sort_by_key(String::len);
        for text in &evidence.texts {
            let room = MAX_COMMANDS.saturating_sub(evidence.commands.len());
            evidence.commands.extend(shell::commands(text).into_iter().take(room));
        }
        let words = evidence.commands.iter().chain(&evidence.lines).flatten().chain(&evidence.texts);
        let names = words.filter(|word| word.len() >= 3 && !word.contains(['\n', '\0']));
        evidence.names =
            names.map(|word| word.trim_start_matches(['>', '<', '&']).trim_start_matches("./").to_owned()).collect();
        evidence.names.retain(|name| name.len() >= 3);
        evidence
    }

    /// Bytes of memory that it takes, about.
    pub fn size(&self) -> usize {
        let words = self.commands.iter().chain(&self.lines).flatten();
        let all = self.texts.iter().chain(&self.names).chain(words);
        size_of::<Self>() + all.map(|text| OVERHEAD + text.len()).sum::<usize>()
    }

    /// Whether there is room for so many bytes more. For what is short there is when there is none for more of what is long.
    fn takes(&mut self, bytes: usize) -> bool {
        let most = if bytes <= SHORT { 2 * MAX_TEXT } else { MAX_TEXT };
        let fits = self.taken.saturating_add(bytes) <= most;
        self.taken += if fits { bytes } else { 0 };
        fits
    }

    fn collect(&mut self, json: &Value) {
        match json {
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                let line: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
                let line = line.filter(|line| !line.is_empty() && self.lines.len() < MAX_TEXTS);
                let bytes = line.iter().flatten().map(|word| OVERHEAD + word.len()).sum();
                let line = line.filter(|_| self.takes(bytes));
                self.lines.extend(line);
                items.iter().for_each(|item| self.collect(item));
            }
            Value::Object(fields) => fields.values().for_each(|value| self.collect(value)),
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        if self.texts.len() < MAX_TEXTS && !text.is_empty() && self.takes(text.len()) {
            self.texts.push(text.to_owned());
        }
    }

    /// How surely an exec is what the call asks for; `None` if nothing says so.
    pub fn runs(&self, exec: &Exec) -> Option<f64> {
        if self.lines.contains(&exec.args) || self.commands.iter().any(|command| same(command, &exec.args)) {
            return Some(0.95);
        }
        let script = shell::script_of(&exec.args)?;
        if self.texts.iter().any(|text| text.trim() == script.trim()) {
            return Some(0.95);
        }
        let inside = |text: &String| {
            let (text, script) = (text.trim(), script.trim());
            text.len() >= MIN_INSIDE && script.contains(text) || script.len() >= MIN_INSIDE && text.contains(script)
        };
        self.texts.iter().any(inside).then_some(0.85)
    }

    /// Whether the arguments name this file, whole or from some folder on.
    pub fn names(&self, path: &str) -> bool {
        let slashes = path.rmatch_indices('/').take(MAX_FOLDERS);
        let ends = slashes.map(|(slash, _)| path.get(slash + 1..).unwrap_or_default());
        self.names.contains(path) || ends.into_iter().any(|end| self.names.contains(end))
    }

    /// Whether the arguments name this host.
    pub fn mentions(&self, host: &str) -> bool {
        host.contains('.') && self.texts.iter().any(|text| text.contains(host))
    }
}

/// Whether a simple command is what was executed.
fn same(command: &[String], args: &[String]) -> bool {
    let variables = command.iter().take_while(|word| shell::is_assignment(word)).count();
    let words = command.get(variables..).unwrap_or_default().iter().filter(|word| !is_redirection(word));
    let mut words = words.map(String::as_str);
    let mut args = args.iter().map(String::as_str);
    let first = (words.next().map(shell::base_name), args.next().map(shell::base_name));
    matches!(first, (Some(a), Some(b)) if a == b) && words.eq(args)
}

fn is_redirection(word: &str) -> bool {
    word.trim_start_matches(|c: char| c.is_ascii_digit() || c == '&').starts_with(['>', '<'])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exec(args: &[&str]) -> Exec {
        Exec { args: args.iter().map(|arg| arg.to_string()).collect(), ..Exec::default() }
    }

    #[test]
    fn commands_are_known_however_an_agent_wraps_them() {
        let bash = Evidence::of(r#"{"command":"cd x && A=1 make -j2 2>log"}"#);
        assert_eq!(bash.runs(&exec(&["/bin/bash", "-c", "cd x && A=1 make -j2 2>log"])), Some(0.95));
        assert_eq!(bash.runs(&exec(&["bash", "-c", "source rc; cd x && A=1 make -j2 2>log; pwd"])), Some(0.85));
        assert_eq!(bash.runs(&exec(&["/usr/bin/make", "-j2"])), Some(0.95));
        assert_eq!(bash.runs(&exec(&["/usr/bin/make", "-j4"])), None);
        assert_eq!(bash.runs(&exec(&["bash", "-c", "other"])), None);
        let line = Evidence::of(r#"{"command":["bash","-lc","ls"],"workdir":"/w"}"#);
        assert_eq!(line.runs(&exec(&["bash", "-lc", "ls"])), Some(0.95));
    }

    #[test]
    fn what_a_file_is_to_hold_does_not_hide_its_name() {
        let content = "a;\n".repeat(MAX_TEXT / 3);
        let arguments = serde_json::json!({"content": content, "file_path": "src/a.rs", "command": "make -j2"});
        let write = Evidence::of(&arguments.to_string());
        assert!(write.names("/w/src/a.rs") && write.runs(&exec(&["make", "-j2"])).is_some());
        assert!(write.size() < 64 * MAX_TEXT);
    }

    #[test]
    fn files_are_known_by_their_end() {
        let write = Evidence::of(r#"{"file_path":"./src/a.rs","content":"x"}"#);
        assert!(write.names("/w/src/a.rs"));
        assert!(!write.names("/w/src/ba.rs") && !write.names("/w/a.rs") && !write.names("/w/x"));
        let shell = Evidence::of(r#"{"command":"cat /etc/hosts > out.txt"}"#);
        assert!(shell.names("/etc/hosts") && shell.names("/w/out.txt"));
    }
}
