//! What the arguments of a tool call say: commands, and names of files.

use crate::shell;
use crate::tables::Exec;
use serde_json::Value;
use std::collections::HashSet;

/// Most texts of one call's arguments that are looked at, and the longest of them.
const MAX_TEXTS: usize = 256;
const MAX_TEXT: usize = 64 << 10;

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
}

impl Evidence {
    /// From arguments as JSON; what is no JSON is a text.
    pub fn of(arguments: &str) -> Self {
        let mut evidence = Evidence::default();
        match serde_json::from_str(arguments) {
            Ok(json) => evidence.collect(&json),
            Err(_) => evidence.text(arguments),
        }
        for text in &evidence.texts {
            evidence.commands.extend(shell::commands(text));
        }
        let words = evidence.commands.iter().chain(&evidence.lines).flatten().chain(&evidence.texts);
        let names = words.filter(|word| word.len() >= 3 && !word.contains(['\n', '\0']));
        evidence.names =
            names.map(|word| word.trim_start_matches(['>', '<', '&']).trim_start_matches("./").to_owned()).collect();
        evidence.names.retain(|name| name.len() >= 3);
        evidence
    }

    fn collect(&mut self, json: &Value) {
        match json {
            Value::String(text) => self.text(text),
            Value::Array(items) => {
                let line: Option<Vec<String>> = items.iter().map(|item| item.as_str().map(str::to_owned)).collect();
                self.lines.extend(line.filter(|line| !line.is_empty() && self.lines.len() < MAX_TEXTS));
                items.iter().for_each(|item| self.collect(item));
            }
            Value::Object(fields) => fields.values().for_each(|value| self.collect(value)),
            _ => {}
        }
    }

    fn text(&mut self, text: &str) {
        if self.texts.len() < MAX_TEXTS && !text.is_empty() && text.len() <= MAX_TEXT {
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
        let ends = path.match_indices('/').map(|(slash, _)| path.get(slash + 1..).unwrap_or_default());
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
    fn files_are_known_by_their_end() {
        let write = Evidence::of(r#"{"file_path":"./src/a.rs","content":"x"}"#);
        assert!(write.names("/w/src/a.rs"));
        assert!(!write.names("/w/src/ba.rs") && !write.names("/w/a.rs") && !write.names("/w/x"));
        let shell = Evidence::of(r#"{"command":"cat /etc/hosts > out.txt"}"#);
        assert!(shell.names("/etc/hosts") && shell.names("/w/out.txt"));
    }
}
