//! What a line of a POSIX shell would run: its simple commands, as words without their quotes. Nothing is expanded: `$x`, `*` and
//! `$(…)` stay as they are written; what stands inside a substitution is a command like any other.

use std::iter::Peekable;
use std::str::Chars;

/// Longest script that is looked at, in bytes.
const MAX_SCRIPT: usize = 256 << 10;

/// How deep substitutions may be nested; what is deeper is text.
pub(crate) const MAX_DEPTH: usize = 8;

/// A simple command.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Command {
    /// Its words, redirections and the words behind them left in.
    pub words: Vec<Word>,
    /// Whether it reads what the command before it writes.
    pub piped: bool,
    /// What here-documents and here-strings give it to read.
    pub input: Option<String>,
}

/// A word, without its quotes.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Word {
    pub text: String,
    /// Where its first quote was, if it had one: what stands before is an operator or a pattern if it looks like one.
    quote: Option<usize>,
}

impl Word {
    /// An argument as a program gets it: nothing in it means anything to a shell.
    pub fn argument(text: &str) -> Self {
        Word { text: text.to_owned(), quote: Some(0) }
    }

    /// What stands before its first quote.
    pub fn bare(&self) -> &str {
        self.text.get(..self.quote.unwrap_or(self.text.len())).unwrap_or_default()
    }

    pub fn is_quoted(&self) -> bool {
        self.quote.is_some()
    }
}

/// The simple commands of a script, in their order: split at `;`, `&`, `|`, newlines and parentheses. A script that ends inside
/// a quote gives what it has. Commands inside of `"$(…)"` and backquotes come last.
pub(crate) fn parse(script: &str) -> Vec<Command> {
    parse_nested(script, 0)
}

/// The words of the simple commands of a script, and of what stands in its here-documents.
pub(crate) fn commands(script: &str) -> Vec<Vec<String>> {
    let of = |command: Command| {
        let inside = command.input.iter().flat_map(|input| parse(input)).collect::<Vec<_>>();
        [command].into_iter().chain(inside)
    };
    let commands = parse(script).into_iter().flat_map(of);
    commands.map(|command| command.words.into_iter().map(|word| word.text).collect()).collect()
}

fn parse_nested(script: &str, depth: usize) -> Vec<Command> {
    let end = (0..=MAX_SCRIPT.min(script.len())).rev().find(|end| script.is_char_boundary(*end)).unwrap_or_default();
    let script = script.get(..end).unwrap_or_default();
    let mut splitter = Splitter { chars: script.chars().peekable(), depth, ..Splitter::default() };
    splitter.run();
    splitter.commands.append(&mut splitter.inside);
    splitter.commands
}

/// The name of a program, without its folder.
pub(crate) fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// Whether a word sets a variable for the command behind it.
pub(crate) fn is_assignment(word: &str) -> bool {
    word.split_once('=').is_some_and(|(name, _)| {
        !name.is_empty()
            && !name.starts_with(|c: char| c.is_ascii_digit())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
    })
}

/// Whether a program is a shell, by its name.
pub(crate) fn is_shell(program: &str) -> bool {
    let name = base_name(program);
    matches!(name.trim_start_matches('-'), "sh" | "bash" | "dash" | "zsh" | "ash" | "ksh" | "fish")
}

/// What `sh -c` and its like are given to run.
pub(crate) fn script_of(args: &[String]) -> Option<&str> {
    if !is_shell(args.first()?) {
        return None;
    }
    let at = args.iter().position(|arg| arg.starts_with('-') && !arg.starts_with("--") && arg.contains('c'))?;
    let rest = args.get(at + 1..)?;
    rest.iter().find(|arg| !arg.starts_with('-')).map(String::as_str)
}

/// A here-document whose lines are still to come.
struct Awaited {
    command: usize,
    end: String,
    /// `<<-`: tabs before its lines do not count.
    indented: bool,
}

struct Splitter<'s> {
    chars: Peekable<Chars<'s>>,
    depth: usize,
    word: Option<Word>,
    words: Vec<Word>,
    piped: bool,
    input: Option<String>,
    commands: Vec<Command>,
    /// Those of substitutions.
    inside: Vec<Command>,
    awaited: Vec<Awaited>,
}

impl Default for Splitter<'_> {
    fn default() -> Self {
        Splitter {
            chars: "".chars().peekable(),
            depth: 0,
            word: None,
            words: Vec::new(),
            piped: false,
            input: None,
            commands: Vec::new(),
            inside: Vec::new(),
            awaited: Vec::new(),
        }
    }
}

impl Splitter<'_> {
    fn run(&mut self) {
        while let Some(c) = self.chars.next() {
            match c {
                '\'' => self.single_quoted(),
                '"' => self.double_quoted(),
                '`' => self.backquoted(),
                '\\' => match self.chars.next() {
                    Some('\n') | None => {}
                    Some(next) => {
                        self.quote();
                        self.add(next);
                    }
                },
                '#' if self.word.is_none() => while self.chars.next_if(|c| *c != '\n').is_some() {},
                '\n' => {
                    self.end_command(false);
                    self.here_documents();
                }
                '|' if self.ends_with('>') => self.add('|'),
                '|' => {
                    // `||` is no pipe, `|&` is one.
                    let either = self.chars.next_if_eq(&'|').is_some();
                    self.chars.next_if_eq(&'&');
                    self.end_command(!either);
                }
                ';' | '(' | ')' => self.end_command(false),
                // `2>&1` and `&>` are redirections.
                '&' if self.ends_with('>') || self.ends_with('<') => self.add('&'),
                '&' if self.chars.peek() == Some(&'>') => {
                    self.end_word();
                    self.add('&');
                }
                '&' => self.end_command(false),
                '<' | '>' => {
                    // `a>b` is `a >b`; digits before it are of the redirection.
                    let of_it = |word: &Word| word.text.bytes().all(|byte| b"0123456789<>&".contains(&byte));
                    if !self.word.as_ref().is_some_and(|word| !word.is_quoted() && of_it(word)) {
                        self.end_word();
                    }
                    self.add(c);
                }
                c if c.is_whitespace() => self.end_word(),
                c => self.add(c),
            }
        }
        self.end_command(false);
    }

    fn single_quoted(&mut self) {
        self.quote();
        while let Some(c) = self.chars.next().filter(|c| *c != '\'') {
            self.add(c);
        }
    }

    fn double_quoted(&mut self) {
        self.quote();
        while let Some(c) = self.chars.next() {
            match c {
                '"' => break,
                '\\' => match self.chars.next() {
                    Some(next @ ('"' | '\\' | '$' | '`')) => self.add(next),
                    Some('\n') | None => {}
                    Some(next) => {
                        self.add('\\');
                        self.add(next);
                    }
                },
                '`' => self.backquoted(),
                '$' if self.chars.peek() == Some(&'(') => self.substituted(),
                c => self.add(c),
            }
        }
    }

    /// Up to the next backquote: a command, and text of the word.
    fn backquoted(&mut self) {
        self.quote();
        let mut inside = String::new();
        while let Some(c) = self.chars.next().filter(|c| *c != '`') {
            inside.push(if c == '\\' { self.chars.next_if(|c| matches!(c, '`' | '\\' | '$')).unwrap_or(c) } else { c });
        }
        self.nested(&inside);
        for c in ["`", &inside, "`"].iter().flat_map(|part| part.chars()) {
            self.add(c);
        }
    }

    /// `$(…)` in double quotes, behind its `$`: commands, and text of the word.
    fn substituted(&mut self) {
        let (mut inside, mut open, mut quote) = (String::new(), 0, None);
        for c in self.chars.by_ref() {
            match (quote, c) {
                (Some(end), c) if c == end => quote = None,
                (Some(_), _) => {}
                (None, '\'' | '"') => quote = Some(c),
                (None, '(') => open += 1,
                (None, ')') => open -= 1,
                _ => {}
            }
            inside.push(c);
            if open == 0 {
                break;
            }
        }
        let script = inside.strip_prefix('(').unwrap_or(&inside);
        self.nested(script.strip_suffix(')').unwrap_or(script));
        self.add('$');
        inside.chars().for_each(|c| self.add(c));
    }

    fn nested(&mut self, script: &str) {
        if self.depth < MAX_DEPTH {
            self.inside.extend(parse_nested(script, self.depth + 1));
        }
    }

    fn add(&mut self, c: char) {
        self.word.get_or_insert_default().text.push(c);
    }

    fn quote(&mut self) {
        let word = self.word.get_or_insert_default();
        word.quote.get_or_insert(word.text.len());
    }

    fn ends_with(&self, c: char) -> bool {
        self.word.as_ref().is_some_and(|word| word.text.ends_with(c) && !word.is_quoted())
    }

    fn end_word(&mut self) {
        let Some(word) = self.word.take() else { return };
        // `<<` and the word behind it, in one or in two.
        let (operator, rest) = match HERE.iter().find(|operator| word.bare().starts_with(**operator)) {
            Some(operator) => (*operator, word.text.get(operator.len()..).unwrap_or_default()),
            None => (self.words.last().map(Word::bare).unwrap_or_default(), word.text.as_str()),
        };
        match operator {
            _ if rest.is_empty() => {}
            "<<<" => self.input = Some(rest.to_owned()),
            "<<" | "<<-" => {
                let command = self.commands.len();
                self.awaited.push(Awaited { command, end: rest.to_owned(), indented: operator.ends_with('-') });
            }
            _ => {}
        }
        self.words.push(word);
    }

    fn end_command(&mut self, pipe: bool) {
        self.end_word();
        if !self.words.is_empty() {
            let (words, input) = (std::mem::take(&mut self.words), self.input.take());
            self.commands.push(Command { words, piped: self.piped, input });
            self.piped = pipe;
        }
    }

    /// Reads the here-documents of the line that has ended.
    fn here_documents(&mut self) {
        for awaited in std::mem::take(&mut self.awaited) {
            let mut text = String::new();
            loop {
                let line: String = std::iter::from_fn(|| self.chars.next_if(|c| *c != '\n')).collect();
                let ended = self.chars.next().is_none();
                let line = if awaited.indented { line.trim_start_matches('\t') } else { &line };
                if line == awaited.end {
                    break;
                }
                text.push_str(line);
                text.push('\n');
                if ended {
                    break;
                }
            }
            if let Some(command) = self.commands.get_mut(awaited.command) {
                command.input = Some(text);
            }
        }
    }
}

/// Operators of here-strings and here-documents.
const HERE: [&str; 3] = ["<<<", "<<-", "<<"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scripts_are_split_as_a_shell_does() {
        let cases: &[(&str, &[&[&str]])] = &[
            ("ls -la /tmp", &[&["ls", "-la", "/tmp"]]),
            ("a && b || c; d | e & f\ng", &[&["a"], &["b"], &["c"], &["d"], &["e"], &["f"], &["g"]]),
            (r#"echo "a b; c" 'd "e"' f\ g"#, &[&["echo", "a b; c", "d \"e\"", "f g"]]),
            ("x 2>&1 >out &>all # note; rm", &[&["x", "2>&1", ">out", "&>all"]]),
            ("a>b c2>|d e&>f", &[&["a", ">b", "c2", ">|d", "e", "&>f"]]),
            (r#"echo "\$x \n""#, &[&["echo", "$x \\n"]]),
            ("(cd a; make) ''", &[&["cd", "a"], &["make"], &[""]]),
            ("echo 'open", &[&["echo", "open"]]),
            (r#"x "a $(b "c)") d" | y"#, &[&["x", "a $(b \"c)\") d"], &["y"], &["b", "c)"]]),
            ("x `b c` '$(d)' '`e`'", &[&["x", "`b c`", "$(d)", "`e`"], &["b", "c"]]),
            ("", &[]),
        ];
        for (script, expected) in cases {
            assert_eq!(commands(script), *expected, "{script}");
        }
    }

    #[test]
    fn here_documents_are_input_and_pipes_are_known() {
        let inputs = |script: &str| {
            let of = |command: Command| (command.words[0].text.clone(), command.piped, command.input);
            parse(script).into_iter().map(of).collect::<Vec<_>>()
        };
        let one = |name: &str, piped, input: Option<&str>| (name.to_owned(), piped, input.map(str::to_owned));
        let cases = [
            (
                "cat <<EOF >x | sh\na; b\nEOF\nc",
                vec![one("cat", false, Some("a; b\n")), one("sh", true, None), one("c", false, None)],
            ),
            ("cat <<-'E F'\n\ta\n\tE F\nb", vec![one("cat", false, Some("a\n")), one("b", false, None)]),
            ("sh << X\na", vec![one("sh", false, Some("a\n"))]),
            ("a <<< 'b c' || d", vec![one("a", false, Some("b c")), one("d", false, None)]),
            ("a |& b; c", vec![one("a", false, None), one("b", true, None), one("c", false, None)]),
            ("sh <<X \"$(y)\"\na\nX", vec![one("sh", false, Some("a\n")), one("y", false, None)]),
            ("echo '<<Y'\nb", vec![one("echo", false, None), one("b", false, None)]),
            ("echo '<<' X\nb", vec![one("echo", false, None), one("b", false, None)]),
        ];
        for (script, expected) in cases {
            assert_eq!(inputs(script), expected, "{script}");
        }
    }

    #[test]
    fn deep_nesting_ends() {
        let script = "\"$(".repeat(1000);
        assert!(parse(&script).len() <= MAX_DEPTH + 1);
    }

    #[test]
    fn the_script_of_a_shell_is_found() {
        let of =
            |args: &[&str]| script_of(&args.iter().map(|arg| arg.to_string()).collect::<Vec<_>>()).map(str::to_owned);
        assert_eq!(of(&["/bin/bash", "-lc", "ls"]), Some("ls".into()));
        assert_eq!(of(&["sh", "-e", "-c", "--", "ls; x"]), Some("ls; x".into()));
        assert_eq!(of(&["sh", "script.sh"]), None);
        assert_eq!(of(&["python3", "-c", "1"]), None);
    }
}
