//! What a line of a POSIX shell would run: its simple commands, as words without their quotes. Nothing is expanded: `$x`, `*` and
//! `$(…)` stay as they are written.

/// Longest script that is looked at, in bytes.
const MAX_SCRIPT: usize = 256 << 10;

/// The simple commands of a script, in their order: split at `;`, `&`, `|`, newlines and parentheses, redirections and the words
/// behind them left in. A script that ends inside a quote gives what it has.
pub(crate) fn commands(script: &str) -> Vec<Vec<String>> {
    let mut splitter = Splitter::default();
    let mut chars = script.chars().take(MAX_SCRIPT).peekable();
    while let Some(c) = chars.next() {
        match (splitter.quote, c) {
            (Some('\''), '\'') | (Some('"'), '"') => splitter.quote = None,
            (Some('\''), c) => splitter.add(c),
            (Some(_), '\\') => match chars.next() {
                Some(next @ ('"' | '\\' | '$' | '`')) => splitter.add(next),
                Some('\n') | None => {}
                Some(next) => {
                    splitter.add('\\');
                    splitter.add(next);
                }
            },
            (Some(_), c) => splitter.add(c),
            (None, '\'' | '"') => {
                splitter.quote = Some(c);
                splitter.word.get_or_insert_default();
            }
            (None, '\\') => match chars.next() {
                Some('\n') | None => {}
                Some(next) => splitter.add(next),
            },
            (None, '#') if splitter.word.is_none() => while chars.next_if(|c| *c != '\n').is_some() {},
            (None, '\n' | ';' | '|' | '(' | ')') => splitter.end_command(),
            // `2>&1` and `&>` are redirections.
            (None, '&') if splitter.ends_with('>') || splitter.ends_with('<') || chars.peek() == Some(&'>') => {
                splitter.add('&');
            }
            (None, '&') => splitter.end_command(),
            (None, c) if c.is_whitespace() => splitter.end_word(),
            (None, c) => splitter.add(c),
        }
    }
    splitter.end_command();
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

/// What `sh -c` and its like are given to run.
pub(crate) fn script_of(args: &[String]) -> Option<&str> {
    let shell = base_name(args.first()?);
    if !matches!(shell.trim_start_matches('-'), "sh" | "bash" | "dash" | "zsh" | "ash" | "ksh" | "fish") {
        return None;
    }
    let at = args.iter().position(|arg| arg.starts_with('-') && !arg.starts_with("--") && arg.contains('c'))?;
    let rest = args.get(at + 1..)?;
    rest.iter().find(|arg| !arg.starts_with('-')).map(String::as_str)
}

#[derive(Default)]
struct Splitter {
    quote: Option<char>,
    word: Option<String>,
    words: Vec<String>,
    commands: Vec<Vec<String>>,
}

impl Splitter {
    fn add(&mut self, c: char) {
        self.word.get_or_insert_default().push(c);
    }

    fn ends_with(&self, c: char) -> bool {
        self.word.as_ref().is_some_and(|word| word.ends_with(c))
    }

    fn end_word(&mut self) {
        self.words.extend(self.word.take());
    }

    fn end_command(&mut self) {
        self.end_word();
        if !self.words.is_empty() {
            self.commands.push(std::mem::take(&mut self.words));
        }
    }
}

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
            (r#"echo "\$x \n""#, &[&["echo", "$x \\n"]]),
            ("(cd a; make) ''", &[&["cd", "a"], &["make"], &[""]]),
            ("echo 'open", &[&["echo", "open"]]),
            ("", &[]),
        ];
        for (script, expected) in cases {
            assert_eq!(commands(script), *expected, "{script}");
        }
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
