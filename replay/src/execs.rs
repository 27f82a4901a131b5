//! Rows of the table `execs`: of a program that is executed, whose arguments come in pieces behind it, and of one that ran already.

use crate::processes::text;
use crate::tables;
use agentsight_formats::record;

/// Longest arguments of one exec, in bytes: more than the kernel takes (a quarter of the stack, 6 MiB at most).
const MAX_ARGS: usize = 8 << 20;

/// An exec whose arguments are still to come.
pub(crate) struct PendingExec {
    row: tables::Exec,
    args: Vec<u8>,
    total: usize,
    /// Not all of the arguments are there.
    gap: bool,
}

impl PendingExec {
    /// `total`: bytes of all its arguments.
    pub fn new(row: tables::Exec, total: usize) -> Self {
        PendingExec { row, args: Vec::new(), total, gap: false }
    }

    /// Bytes of its paths and arguments.
    pub fn held(&self) -> usize {
        self.row.executable_path.len() + self.row.working_directory.len() + self.args.len()
    }

    /// Takes a piece of its arguments. Returns whether it was the last.
    pub fn take(&mut self, piece: &record::ExecArgs, data: &[u8]) -> bool {
        self.gap |= self.args.len() != piece.offset.get() as usize || piece.len != piece.captured;
        self.gap |= self.args.len() + data.len() > MAX_ARGS;
        if !self.gap {
            self.args.extend_from_slice(data);
        }
        piece.offset.get().saturating_add(piece.len.get()) as usize >= self.total
    }

    /// Gives its arguments up.
    pub fn let_go(&mut self) {
        self.gap = true;
        self.args = Vec::new();
    }

    pub fn finish(self) -> tables::Exec {
        let truncated = self.gap || self.args.len() < self.total;
        row(tables::Exec { truncated, ..self.row }, &self.args, self.total)
    }
}

/// The row of a program that ran already when its recording began; the rest of the row is given.
pub(crate) fn running(given: tables::Exec, args: &[u8], total: usize) -> tables::Exec {
    row(tables::Exec { was_running: true, truncated: args.len() < total, ..given }, args, total)
}

/// Puts arguments, each with its NUL, into a row.
fn row(given: tables::Exec, args: &[u8], total: usize) -> tables::Exec {
    let whole = args.strip_suffix(&[0]).unwrap_or(args);
    let args: Vec<String> = match args.len().max(total) {
        0 => Vec::new(),
        _ => whole.split(|byte| *byte == 0).map(text).collect(),
    };
    let command_line = args.iter().map(|arg| quoted(arg)).collect::<Vec<_>>().join(" ");
    tables::Exec { command_line, args, ..given }
}

/// Quotes an argument for a POSIX shell, if it needs to be.
fn quoted(arg: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_-./:=@%+,".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) { arg.to_owned() } else { format!("'{}'", arg.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_quoted_for_a_shell() {
        assert_eq!(quoted("a-b/c.d"), "a-b/c.d");
        assert_eq!(quoted("it's $1"), r"'it'\''s $1'");
        assert_eq!(quoted(""), "''");
    }
}
