//! The command line.

use clap::{Parser, Subcommand};

const EXAMPLES: &str = "\
EXAMPLES:
    agentsight capture -o run.asc -- claude -p \"fix the bug\"
    agentsight query \"SELECT tool_name, count(*) FROM tool_calls GROUP BY 1\" run.asc
    agentsight replay run.asc --check golden/
    agentsight info run.asc";

/// Record what an AI agent really did, then ask.
#[derive(Parser, Debug)]
#[command(name = "agentsight", version, before_help = EXAMPLES, max_term_width = 100, subcommand_required = true)]
pub struct Cli {
    #[command(subcommand)]
    pub verb: Verb,
}

#[derive(Subcommand, Debug)]
pub enum Verb {
    /// Record a command, or running processes, into a capture file
    #[cfg(all(feature = "capture", target_os = "linux"))]
    #[command(visible_alias = "record")]
    Capture(crate::capture::Args),
    /// Explain where the TLS of a program, a process or this machine would be probed, and why
    #[cfg(all(feature = "capture", target_os = "linux"))]
    Probes(crate::probes::Args),
    /// Say what this machine can record, feature by feature, and the way out where it cannot
    #[cfg(all(feature = "capture", target_os = "linux"))]
    Doctor(crate::doctor::Args),
    /// Ask captures with SQL
    Query(crate::query::Args),
    /// Replay captures as JSON lines, and check that they give what they should
    Replay(Box<crate::replay::Args>),
    /// Say what a capture holds, and whether it is whole
    Info(crate::info::Args),
    /// Print the raw records of captures as JSON lines
    Cat(crate::cat::Args),
    /// Print a completion script for a shell
    Completions { shell: clap_complete::Shell },
    /// Print the manual page
    Man,
}

#[cfg(all(feature = "capture", target_os = "linux"))]
impl Verb {
    /// Whether it takes the rights that recording takes, to record or to tell what would be recorded.
    pub fn records(&self) -> bool {
        matches!(self, Verb::Capture(_) | Verb::Probes(_) | Verb::Doctor(_))
    }
}
