//! `agentsight capture`: the command line of the capturer, and the summary at its end.

use agentsight_capture::{End, Options, Summary};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

const EXAMPLES: &str = "\
EXAMPLES:
    agentsight capture -o run.asc -- claude -p \"fix the bug\"
        Record a command and everything it starts.
    agentsight capture -o run.asc --pid 4242 --duration 30s
        Record a running process and its descendants for half a minute.
    agentsight query \"SELECT tool_name, count(*) FROM tool_calls GROUP BY 1\" run.asc
        Then ask.";

const EXIT_STATUS: &str = "\
EXIT STATUS:
    That of the command. 125 if the capturer itself fails, 126 if the command cannot be run, 127 if it is not found.
    With --pid: 0 done, 3 done but records were lost.

A capture holds what the programs said and were told, keys and passwords too. Its mode is 0600, its owner whoever called sudo.";

#[derive(clap::Args, Debug)]
#[command(before_help = EXAMPLES, after_help = EXIT_STATUS)]
pub struct Args {
    /// The capture file to write [default: agentsight-<date>-<time>.asc]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Replace the output if it exists
    #[arg(short, long)]
    force: bool,

    /// Record this running process, with its present and future descendants (may be given more than once)
    #[arg(short, long = "pid", value_name = "PID")]
    pids: Vec<u32>,

    /// Stop recording after this time; what is recorded runs on (like 30s, 5m, 2h)
    #[arg(short, long, value_name = "TIME", value_parser = crate::time::duration)]
    duration: Option<Duration>,

    /// Print no summary
    #[arg(short, long)]
    quiet: bool,

    /// The command to run and record, with its arguments
    #[arg(last = true, value_name = "COMMAND", required_unless_present = "pids")]
    command: Vec<OsString>,
}

pub fn run(args: Args) -> ExitCode {
    let output =
        args.output.unwrap_or_else(|| chrono::Local::now().format("agentsight-%Y%m%d-%H%M%S.asc").to_string().into());
    let options =
        Options { output, force: args.force, command: args.command, pids: args.pids, duration: args.duration, ..Options::default() };
    match agentsight_capture::capture(&options) {
        Ok(summary) => {
            if !args.quiet {
                print_summary(&options.output, &summary);
            }
            ExitCode::from(exit_status(&summary))
        }
        Err(error) => {
            eprintln!("agentsight: {error}");
            ExitCode::from(error.exit_status())
        }
    }
}

/// What a caller of the command expects; a signal that ended the recording is told as a shell would.
fn exit_status(summary: &Summary) -> u8 {
    match (summary.exit_code, summary.end) {
        (Some(code), _) => code as u8,
        (None, End::Signal(number)) if summary.command_pid.is_some() => 128 + number as u8,
        (None, _) if summary.dropped_records > 0 => 3,
        (None, _) => 0,
    }
}

fn print_summary(output: &Path, summary: &Summary) {
    for warning in &summary.warnings {
        eprintln!("agentsight: {warning}");
    }
    if let (None, Some(pid)) = (summary.exit_code, summary.command_pid) {
        eprintln!("agentsight: recording ended before the command: process {pid} runs on");
    }
    if summary.probed.is_empty() {
        eprintln!("agentsight: no TLS library was found to probe: no plaintext is in this capture");
    }
    let ratio = summary.raw_bytes as f64 / summary.disk_bytes.max(1) as f64;
    eprintln!(
        "agentsight: {} in {:.1} s: {} records, {} raw, {} on disk (ratio {ratio:.1}), {}",
        output.display(),
        summary.elapsed.as_secs_f64(),
        summary.records,
        bytes(summary.raw_bytes),
        bytes(summary.disk_bytes),
        drops(summary),
    );
    eprintln!("agentsight: next: agentsight query \"SELECT * FROM llm_calls\" {}", output.display());
}

fn drops(summary: &Summary) -> String {
    match summary.dropped_records {
        0 => "nothing dropped".to_owned(),
        lost => format!("{lost} RECORDS DROPPED ({} of payload; see the table drops)", bytes(summary.dropped_bytes)),
    }
}

/// A size for people: 1.5 MB.
fn bytes(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_for_people() {
        assert_eq!([bytes(999), bytes(1500), bytes(2_000_000)], ["999 B", "1.5 kB", "2.0 MB"]);
    }
}
