//! The `agentsight` program: flags and glue. What it does is in the crates; one file here a verb.

mod assertions;
#[cfg(all(feature = "capture", target_os = "linux"))]
mod capture;
mod cat;
mod checks;
mod cli;
#[cfg(all(feature = "capture", target_os = "linux"))]
mod doctor;
mod follow;
mod golden;
mod info;
mod inputs;
mod output_file;
#[cfg(all(feature = "capture", target_os = "linux"))]
mod probes;
mod query;
mod replay;
#[cfg(all(feature = "capture", target_os = "linux"))]
mod size;
mod time;

use clap::{CommandFactory, Parser};
use cli::{Cli, Verb};
use std::io::Write;
use std::process::ExitCode;

/// Exit statuses of every verb; `capture` passes on that of the command it runs.
mod status {
    pub const FAILED: u8 = 1;
    pub const USAGE: u8 = 2;
    /// Done, but the capture is damaged or records were lost.
    pub const LOSS: u8 = 3;
}

fn main() -> ExitCode {
    let verb = Cli::parse().verb;
    #[cfg(all(feature = "capture", target_os = "linux"))]
    if !verb.records()
        && let Err(error) = agentsight_capture::privilege::give_up_those_of_the_file()
    {
        return fail(&error);
    }
    match verb {
        #[cfg(all(feature = "capture", target_os = "linux"))]
        Verb::Capture(args) => capture::run(args),
        #[cfg(all(feature = "capture", target_os = "linux"))]
        Verb::Probes(args) => probes::run(&args),
        #[cfg(all(feature = "capture", target_os = "linux"))]
        Verb::Doctor(args) => doctor::run(&args),
        Verb::Query(args) => query::run(args),
        Verb::Replay(args) => replay::run(&args),
        Verb::Info(args) => info::run(args),
        Verb::Cat(args) => cat::run(args),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "agentsight", &mut script);
            print(&script)
        }
        Verb::Man => {
            let mut page = Vec::new();
            match clap_mangen::Man::new(Cli::command()).render(&mut page) {
                Ok(()) => print(&page),
                Err(error) => fail(&error),
            }
        }
    }
}

fn print(bytes: &[u8]) -> ExitCode {
    match std::io::stdout().write_all(bytes) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => fail(&error),
        _ => ExitCode::SUCCESS,
    }
}

/// Says what went wrong.
fn fail(error: &dyn std::fmt::Display) -> ExitCode {
    fail_with(error, status::FAILED)
}

fn fail_with(error: &dyn std::fmt::Display, status: u8) -> ExitCode {
    say(error);
    ExitCode::from(status)
}

/// Says something on standard error. Where nobody can be told, all else goes on: the exit status still says what came of it.
fn say(message: impl std::fmt::Display) {
    // In one piece: others write there too.
    let _ = std::io::stderr().write_all(format!("agentsight: {message}\n").as_bytes());
}
