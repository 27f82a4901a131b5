//! From a script, or the arguments of a program, to the programs that it would run: shells are opened, and what only starts
//! something else (`sudo`, `xargs`, `ssh` …) is looked through.

use super::redirections::{Redirection, Streams};
use crate::shell::{self, Command, Word, base_name};

/// How deep scripts may stand in scripts; what is deeper is not looked at.
const MAX_DEPTH: usize = 8;

/// Most programs of one script that are looked at.
const MAX_PROGRAMS: usize = 4096;

/// A program with its arguments, as somebody would start it himself.
#[derive(Clone, Debug, Default)]
pub(super) struct Simple {
    /// The name of the program, then its arguments; never empty.
    pub words: Vec<Word>,
    /// Files that a shell would write its output to.
    pub written: Vec<String>,
    /// Files that a shell would have it read.
    pub read: Vec<String>,
    /// What its descriptors are set to, in this order.
    pub redirections: Vec<Redirection>,
    /// Whether its standard streams lead into the network.
    pub network: [bool; 3],
    /// Whether it reads what the one before it writes.
    pub piped: bool,
    /// What it is given to read, if that is known.
    pub input: Option<String>,
    /// More arguments come from a list that is not known (`xargs`).
    pub listed: bool,
    /// Its arguments are as the kernel got them: nothing will be expanded.
    pub literal: bool,
}

impl Simple {
    pub fn name(&self) -> &str {
        self.words.first().map(|word| base_name(&word.text)).unwrap_or_default()
    }

    pub fn args(&self) -> &[Word] {
        self.words.get(1..).unwrap_or_default()
    }

    pub fn texts(&self) -> impl Iterator<Item = &str> {
        self.args().iter().map(|word| word.text.as_str())
    }

    /// Arguments that are no options.
    pub fn operands(&self) -> impl Iterator<Item = &Word> {
        let mut all = false;
        self.args().iter().filter(move |word| {
            let option = !all && word.text.starts_with('-') && word.text.len() > 1;
            all |= word.text == "--";
            !option
        })
    }

    /// Whether one of these letters is given as an option, alone or among others.
    pub fn has_letter(&self, letters: &str) -> bool {
        let options = self.texts().take_while(|text| *text != "--");
        let mut short = options.filter(|text| text.starts_with('-') && !text.starts_with("--"));
        short.any(|text| text.contains(|c| letters.contains(c)))
    }

    /// Whether one of these words is among the arguments.
    pub fn has(&self, words: &[&str]) -> bool {
        self.texts().any(|text| words.contains(&text))
    }

    /// As one would write it.
    pub fn line(&self) -> String {
        self.words.iter().map(|word| word.text.as_str()).collect::<Vec<_>>().join(" ")
    }
}

/// What a script would run.
pub(super) fn of_script(script: &str) -> Vec<Simple> {
    let mut out = Vec::new();
    open_script(script, 0, &mut out);
    out
}

/// What a program with these arguments would run.
pub(super) fn of_args(args: &[String]) -> Vec<Simple> {
    let mut out = Vec::new();
    let words = args.iter().map(|arg| Word::argument(arg)).collect();
    open(Simple { words, literal: true, ..Simple::default() }, 0, &mut out);
    out
}

fn open_script(script: &str, depth: usize, out: &mut Vec<Simple>) {
    if depth > MAX_DEPTH {
        return;
    }
    let mut before: Option<Simple> = None;
    let mut streams = Streams::default();
    for command in shell::parse(script) {
        if out.len() >= MAX_PROGRAMS {
            return;
        }
        let mut simple = of_command(command);
        let keeps = simple.name() == "exec" && simple.args().is_empty();
        simple.network = streams.of(&simple.redirections, keeps);
        if simple.words.is_empty() && simple.written.is_empty() {
            continue;
        }
        if simple.piped && simple.input.is_none() {
            simple.input = before.as_ref().and_then(printed);
        }
        before = Some(simple.clone());
        open(simple, depth, out);
    }
}

/// What a program is known to print.
fn printed(simple: &Simple) -> Option<String> {
    match simple.name() {
        "echo" | "printf" => Some(simple.texts().filter(|text| !text.starts_with('-')).collect::<Vec<_>>().join(" ")),
        "cat" | "tee" if simple.args().is_empty() || simple.name() == "tee" => simple.input.clone(),
        _ => None,
    }
}

/// Takes redirections, words of the language, and variables that are set out of a command.
fn of_command(command: Command) -> Simple {
    let mut simple = Simple { piped: command.piped, input: command.input, ..Simple::default() };
    let mut words = command.words.into_iter();
    while let Some(word) = words.next() {
        let bare = word.bare().trim_start_matches(|c: char| c.is_ascii_digit());
        let operator = bare.find(|c| !matches!(c, '<' | '>' | '&')).unwrap_or(bare.len());
        let Some(operator) = bare.get(..operator).filter(|operator| operator.contains(['<', '>'])) else {
            if !simple.words.is_empty() || !(is_keyword(&word) || shell::is_assignment(&word.text)) {
                simple.words.push(word);
            }
            continue;
        };
        let operator = operator.to_owned();
        let writes = operator.contains('>') && !operator.ends_with(">&");
        let number = word.bare().chars().take_while(char::is_ascii_digit).collect::<String>();
        let named = simple.words.pop_if(|word| number.is_empty() && is_descriptor(word));
        let behind = word.text.trim_start_matches(|c: char| c.is_ascii_digit()).get(operator.len()..);
        let target = match behind.map(|target| target.trim_start_matches('|')) {
            Some(target) if !target.is_empty() => target.to_owned(),
            // `<(…)`: what it reads is written by the command behind.
            _ => words.next().map(|word| word.text).unwrap_or_else(|| {
                simple.words.push(word);
                String::new()
            }),
        };
        if operator == "<" && !target.is_empty() {
            simple.read.push(target.clone());
        }
        let number = named.map_or(number, |word| word.text);
        simple.redirections.push(Redirection { number, operator, target: target.clone() });
        simple.written.extend(Some(target).filter(|target| writes && !target.is_empty()));
    }
    simple
}

/// `{x}` before a redirection: the shell chooses a number, and sets `x` to it.
fn is_descriptor(word: &Word) -> bool {
    let name = word.text.strip_prefix('{').and_then(|name| name.strip_suffix('}'));
    !word.is_quoted() && name.is_some_and(|name| shell::is_assignment(&format!("{name}=")))
}

fn is_keyword(word: &Word) -> bool {
    let words = ["if", "then", "else", "elif", "while", "until", "do", "!", "{", "time", "coproc"];
    !word.is_quoted() && words.contains(&word.text.as_str())
}

/// Programs that start another: the letters of their options that take a value, and how many words stand before the program.
const WRAPPERS: &[(&str, &str, usize)] = &[
    ("sudo", "CDghpRrTtUu", 0),
    ("doas", "Cu", 0),
    ("env", "uC", 0),
    ("xargs", "IdEnLPsa", 0),
    ("nohup", "", 0),
    ("setsid", "", 0),
    ("nice", "n", 0),
    ("ionice", "cnpPu", 0),
    ("timeout", "ks", 1),
    ("time", "fo", 0),
    ("stdbuf", "ioe", 0),
    ("chroot", "", 1),
    ("flock", "wE", 1),
    ("watch", "n", 0),
    ("strace", "aeopsuEPbI", 0),
    ("command", "", 0),
    ("builtin", "", 0),
    ("exec", "a", 0),
    ("busybox", "", 0),
    ("unbuffer", "", 0),
    ("caffeinate", "tw", 0),
];

/// Letters of ssh's options that take a value.
const SSH: &str = "BbcDEeFIiJLlmOopQRSWw";

/// Looks through one program, and adds what it runs.
fn open(simple: Simple, depth: usize, out: &mut Vec<Simple>) {
    if depth > MAX_DEPTH || out.len() >= MAX_PROGRAMS {
        return;
    }
    let name = simple.name().to_owned();
    if let Some((_, letters, before)) = WRAPPERS.iter().find(|(wrapper, ..)| *wrapper == name) {
        let at = behind_options(&simple.words, letters) + before;
        let words = simple.words.get(at..).unwrap_or_default();
        let set = words.iter().take_while(|word| shell::is_assignment(&word.text)).count();
        let words = words.get(set..).unwrap_or_default().to_vec();
        if !words.is_empty() {
            let listed = simple.listed || name == "xargs";
            open(Simple { words, listed, ..simple }, depth + 1, out);
        }
        return;
    }
    let texts: Vec<String> = simple.words.iter().map(|word| word.text.clone()).collect();
    let behind = |at: usize| texts.get(at..).unwrap_or_default().join(" ");
    let script = match name.as_str() {
        "eval" => Some(behind(1)),
        "ssh" => Some(behind(behind_options(&simple.words, SSH) + 1)),
        "su" | "runuser" => texts.iter().position(|text| text == "-c").and_then(|at| texts.get(at + 1).cloned()),
        _ if shell::is_shell(&name) => shell::script_of(&texts)
            .map(str::to_owned)
            .or_else(|| simple.input.clone().filter(|_| reads_program(&simple))),
        _ => None,
    };
    if name == "find" {
        for words in executed_by_find(&simple.words) {
            open(Simple { words, listed: true, literal: simple.literal, ..Simple::default() }, depth + 1, out);
        }
    }
    out.push(simple);
    if let Some(script) = script {
        open_script(&script, depth + 1, out);
    }
}

/// Whether an interpreter gets its program through its input.
pub(super) fn reads_program(simple: &Simple) -> bool {
    let as_option = |text: &str| matches!(text, "-" | "-s");
    let shell = shell::is_shell(simple.name());
    let mut texts = simple.texts();
    match texts.next() {
        None => true,
        Some(first) if !shell => first == "-",
        Some(first) => {
            let mut all = std::iter::once(first).chain(texts);
            simple.has_letter("s") && !simple.has_letter("c")
                || all.all(|text| as_option(text) || text.starts_with('-'))
        }
    }
}

/// Where the options of a wrapper end.
fn behind_options(words: &[Word], letters: &str) -> usize {
    let mut at = 1;
    while let Some(text) = words.get(at).map(|word| word.text.as_str()) {
        if text == "--" {
            return at + 1;
        }
        let Some(option) = text.strip_prefix('-').filter(|option| !option.is_empty()) else { break };
        let with_value = !option.starts_with('-')
            && option.chars().position(|c| letters.contains(c)).is_some_and(|at| at + 1 == option.chars().count());
        at += if with_value { 2 } else { 1 };
    }
    at
}

fn executed_by_find(words: &[Word]) -> Vec<Vec<Word>> {
    let starts = |word: &Word| matches!(word.text.as_str(), "-exec" | "-execdir" | "-ok" | "-okdir");
    let ends = |word: &Word| matches!(word.text.as_str(), ";" | "+");
    let parts = words.split(starts).skip(1);
    let of = |part: &[Word]| part.iter().take_while(|word| !ends(word)).cloned().collect::<Vec<_>>();
    parts.map(of).filter(|words| !words.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(simple: Vec<Simple>) -> Vec<String> {
        simple.iter().map(Simple::line).collect()
    }

    #[test]
    fn what_only_starts_something_else_is_looked_through() {
        let cases: &[(&str, &[&str])] = &[
            ("sudo -u root -E A=1 nice -n 5 timeout -k 2 10 rm -rf x", &["rm -rf x"]),
            ("env -i A=1 nohup rm x &", &["rm x"]),
            ("if true; then rm x; fi", &["true", "rm x", "fi"]),
            ("A=1 rm x > y 2>&1 >>z", &["rm x"]),
            ("ls | xargs -n 1 rm", &["ls", "rm"]),
            ("ssh -p 22 host 'rm x; ls'", &["ssh -p 22 host rm x; ls", "rm x", "ls"]),
            ("find . -exec rm {} \\; -execdir ls +", &["rm {}", "ls", "find . -exec rm {} ; -execdir ls +"]),
            ("bash -lc 'sh -c \"rm x\"'", &["bash -lc sh -c \"rm x\"", "sh -c rm x", "rm x"]),
            ("sh <<E\nrm x\nE", &["sh", "rm x"]),
            ("echo 'rm x' | sudo sh", &["echo rm x", "sh", "rm x"]),
            ("echo 'rm x' | sh -c true", &["echo rm x", "sh -c true", "true"]),
            ("cat > f <<E\nrm x\nE", &["cat"]),
            ("eval \"rm x\"", &["eval rm x", "rm x"]),
            ("sudo -i", &[]),
        ];
        for (script, expected) in cases {
            assert_eq!(lines(of_script(script)), *expected, "{script}");
        }
        let args = ["sudo", "bash", "-c", "rm 'a b'"].map(str::to_owned);
        assert_eq!(lines(of_args(&args)), ["bash -c rm 'a b'", "rm a b"]);
    }

    #[test]
    fn files_that_are_written_are_known() {
        let written =
            |script: &str| of_script(script).into_iter().flat_map(|simple| simple.written).collect::<Vec<_>>();
        let cases: &[(&str, &[&str])] = &[
            ("a >x 2> y &>z >> 'v w' < in 2>&1", &["x", "y", "z", "v w"]),
            ("> x", &["x"]),
            ("a >| x", &["x"]),
            ("echo '>x' \">\" y", &[]),
        ];
        for (script, expected) in cases {
            assert_eq!(written(script), *expected, "{script}");
        }
    }
}
