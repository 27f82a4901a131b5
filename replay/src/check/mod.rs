//! Whether a replay gave what it should: rows compared with golden ones ([`golden`]), under a policy ([`policy`]) that says what
//! may differ; and what comes of that, and of other checks, as text, JUnit and SARIF ([`report`]).
//!
//! Nothing here opens a file: golden and seen rows are handed in as anything that can be read.

mod align;
mod defaults;
pub mod golden;
pub mod policy;
pub mod report;

/// What became of one check: of a table against its golden file, or of an assertion.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outcome {
    /// The kind of check: `golden` or `assert`.
    pub kind: &'static str,
    /// The table, or the assertion's title.
    pub name: String,
    /// The file that says what should be.
    pub file: String,
    /// Line of the check in that file, from 1.
    pub line: u64,
    /// What is wrong; empty if the check passed. The first ones only, when they are many.
    pub problems: Vec<Problem>,
    /// How many problems there are besides.
    pub more: u64,
}

impl Outcome {
    pub fn failed(&self) -> bool {
        !self.problems.is_empty()
    }
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Problem {
    /// Line in the outcome's file, from 1; the check's own if there is no better one.
    pub line: u64,
    /// One line.
    pub title: String,
    /// More lines; or nothing.
    pub detail: String,
}
