//! `agentsight capture`: the command line of the capturer, the line that says how it goes, and the summary at its end.

use crate::{say, size};
use agentsight_capture::{End, News, Options, Progress, Summary, Unseen};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const EXAMPLES: &str = "\
EXAMPLES:
    agentsight capture -o run.asc -- claude -p \"fix the bug\"
        Record a command and everything it starts.
    agentsight capture -o run.asc --pid 4242 --duration 30s
        Record a running process and its descendants for half a minute.
    agentsight capture -o agents.asc --comm claude --comm codex --rotate-size 1G --keep 10
        Record every claude and codex of this machine, from now on, in the newest ten files of a gigabyte.
    agentsight query \"SELECT tool_name, count(*) FROM tool_calls GROUP BY 1\" run.asc
        Then ask.";

const EXIT_STATUS: &str = "\
EXIT STATUS:
    That of the command. 125 if the capturer itself fails, 126 if the command cannot be run, 127 if it is not found.
    Without a command: 0 done, 3 done but records were lost.

A capture holds what the programs said and were told, keys and passwords too. Its mode is 0600, its owner whoever called sudo.";

#[derive(clap::Args, Debug)]
#[command(before_help = EXAMPLES, after_help = EXIT_STATUS)]
pub struct Args {
    /// The capture file to write; - for standard output [default: agentsight-<date>-<time>.asc]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// Replace the output if it exists
    #[arg(short, long)]
    force: bool,

    /// Stop recording after this time; what is recorded runs on (like 30s, 5m, 2h)
    #[arg(short, long, value_name = "TIME", value_parser = crate::time::duration)]
    duration: Option<Duration>,

    /// Go on when the command has ended, until all that it left running has
    #[arg(long, requires = "command")]
    until_all_exit: bool,

    /// Print no status line and no summary
    #[arg(short, long)]
    quiet: bool,

    #[command(flatten)]
    targets: Targets,

    #[command(flatten)]
    extent: Extent,

    /// The command to run and record, with its arguments
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// Who is recorded; these combine, with each other and with a command.
#[derive(clap::Args, Debug)]
#[group(id = "Targets", multiple = true)]
#[command(next_help_heading = "Targets (each may be given more than once; with all their descendants)")]
struct Targets {
    /// This running process
    #[arg(short, long = "pid", value_name = "PID")]
    pids: Vec<u32>,
    /// Processes with a thread or an executable of this name, present and future
    #[arg(long = "comm", value_name = "NAME")]
    comms: Vec<String>,
    /// Processes in this cgroup (version 2) and those below it, present and future
    #[arg(long = "cgroup", value_name = "PATH")]
    cgroups: Vec<PathBuf>,
    /// Processes of this docker, containerd or podman container
    #[arg(long = "container", value_name = "ID")]
    containers: Vec<String>,
    /// Every process of this machine
    #[arg(long)]
    all: bool,
}

/// How much is recorded, and into how many files.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Extent")]
#[command(group = clap::ArgGroup::new("rotation").args(["rotate_size", "rotate_time"]).multiple(true))]
struct Extent {
    /// Keep only this much of each write or message; the rest is counted (like 64k)
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    max_payload: Option<u64>,
    /// Whether the payload of connections that speak HTTP without TLS is recorded
    #[arg(long, value_name = "WHICH", default_value = "on")]
    plain: Switch,
    /// Which standard streams are recorded: none, those that speak MCP (JSON-RPC), or all
    #[arg(long, value_name = "WHICH", default_value = "all")]
    stdio: Stdio,
    /// A new file after this size on disk: run.asc becomes run-0001.asc and so on, each a whole capture (like 1G)
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    rotate_size: Option<u64>,
    /// A new file after this time (like 1h)
    #[arg(long, value_name = "TIME", value_parser = crate::time::duration)]
    rotate_time: Option<Duration>,
    /// Keep only the newest N of the rotated files
    #[arg(long, value_name = "N", requires = "rotation", value_parser = clap::value_parser!(u32).range(1..))]
    keep: Option<u32>,
    /// Size of the buffer between the kernel and the capturer, a power of 2 [default: 16M]
    #[arg(long, value_name = "SIZE", value_parser = size::parse)]
    ring: Option<u64>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug, PartialEq)]
enum Switch {
    On,
    Off,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Stdio {
    Off,
    Mcp,
    All,
}

impl Args {
    fn options(self) -> Options {
        let default = || chrono::Local::now().format("agentsight-%Y%m%d-%H%M%S.asc").to_string().into();
        Options {
            output: self.output.unwrap_or_else(default),
            force: self.force,
            command: self.command,
            pids: self.targets.pids,
            comms: self.targets.comms,
            cgroups: self.targets.cgroups,
            containers: self.targets.containers,
            all: self.targets.all,
            until_all_exit: self.until_all_exit,
            duration: self.duration,
            max_payload: self.extent.max_payload,
            ring: self.extent.ring,
            no_plain: self.extent.plain == Switch::Off,
            stdio: match self.extent.stdio {
                Stdio::Off => agentsight_capture::Stdio::Off,
                Stdio::Mcp => agentsight_capture::Stdio::Mcp,
                Stdio::All => agentsight_capture::Stdio::All,
            },
            rotate_size: self.extent.rotate_size,
            rotate_time: self.extent.rotate_time,
            keep: self.extent.keep.map(|keep| keep as usize),
        }
    }
}

pub fn run(args: Args) -> ExitCode {
    let quiet = args.quiet;
    let options = args.options();
    let line = StatusLine::new(quiet, &options);
    let mut failure_told = false;
    let result = agentsight_capture::capture(&options, &mut |news| match news {
        News::Progress(progress) => line.show(&progress),
        News::Warning(warning) => line.above(|| say(warning)),
        News::RunsOn(processes) if !quiet => line.above(|| {
            let processes = names(processes);
            say(format_args!(
                "the command has ended; recording goes on until these have, or until Ctrl-C: {processes}"
            ));
        }),
        News::RunsOn(_) => {}
        News::Failed(error) => {
            line.above(|| say(format_args!("{error}; the command runs on, unrecorded")));
            failure_told = true;
        }
    });
    line.clear();
    match result {
        Ok(summary) => {
            if !quiet {
                print_summary(&options, &summary);
            }
            ExitCode::from(exit_status(&summary))
        }
        Err(error) => {
            if !failure_told {
                say(&error);
            }
            ExitCode::from(error.exit_status())
        }
    }
}

/// A line on the terminal that says how the recording goes. A command has the terminal to itself: its own output would be
/// torn by the line.
struct StatusLine {
    bar: ProgressBar,
}

impl StatusLine {
    fn new(quiet: bool, options: &Options) -> Self {
        // Off by itself when standard error is no terminal.
        let hidden = quiet || !options.command.is_empty();
        let target = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target);
        if let Ok(style) = ProgressStyle::with_template("{spinner} {wide_msg}") {
            bar.set_style(style);
        }
        StatusLine { bar }
    }

    fn show(&self, progress: &Progress) {
        let seconds = progress.elapsed.as_secs();
        let before = self.bar.position();
        self.bar.set_position(progress.records);
        let drops = match progress.dropped_records {
            0 => "nothing dropped".to_owned(),
            lost => format!("{lost} RECORDS DROPPED"),
        };
        // What matters most comes first: a narrow terminal shows no more than its width.
        self.bar.set_message(format!(
            "{}:{:02}:{:02}  {drops}, {} records/s, {}, {} probed (Ctrl-C ends)",
            seconds / 3600,
            seconds / 60 % 60,
            seconds % 60,
            progress.records.saturating_sub(before),
            size::text(progress.disk_bytes),
            progress.probed,
        ));
    }

    /// Lets something be said in the line's place; the line comes again below it.
    fn above(&self, said: impl FnOnce()) {
        self.bar.suspend(said);
    }

    fn clear(&self) {
        self.bar.finish_and_clear();
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

fn print_summary(options: &Options, summary: &Summary) {
    for warning in &summary.warnings {
        say(warning);
    }
    for Unseen { program, direction, connections } in &summary.opaque {
        let connections =
            if *connections == 1 { "a TLS connection".into() } else { format!("{connections} TLS connections") };
        let program = program.display();
        let what = direction.map_or_else(|| "plaintext".to_owned(), |direction| format!("{direction} plaintext"));
        say(format_args!("{program} made {connections} whose {what} was not seen: `agentsight probes {program}`"));
    }
    if let (None, Some(pid)) = (summary.exit_code, summary.command_pid) {
        say(format_args!("recording ended before the command: process {pid} runs on"));
    }
    if !summary.runs_on.is_empty() {
        let how = if options.until_all_exit { "" } else { "; --until-all-exit records until they have ended" };
        let running = match summary.runs_on.len() {
            1 => "a recorded process runs on, and is".to_owned(),
            count => format!("{count} recorded processes run on, and are"),
        };
        say(format_args!("{running} not recorded any more: {}{how}", names(&summary.runs_on)));
    }
    let ratio = summary.raw_bytes as f64 / summary.disk_bytes.max(1) as f64;
    say(format_args!(
        "{} in {:.1} s: {} records, {} raw, {} on disk (ratio {ratio:.1}), {}",
        name(options, summary),
        summary.elapsed.as_secs_f64(),
        summary.records,
        size::text(summary.raw_bytes),
        size::text(summary.disk_bytes),
        drops(summary)
    ));
    if let Some(capture) = all_of(&summary.files) {
        say(format_args!("next: agentsight query \"SELECT * FROM llm_calls\" {capture}"));
    }
}

/// Processes by name and number, the first of them.
fn names(processes: &[(u32, String)]) -> String {
    const MOST: usize = 5;
    let first: Vec<_> = processes.iter().take(MOST).map(|(pid, comm)| format!("{comm} ({pid})")).collect();
    match processes.len().saturating_sub(MOST) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

/// The file; or what a shell makes the files of a rotated capture of.
fn all_of(files: &[PathBuf]) -> Option<String> {
    let first = files.first()?;
    let numbered = first.file_name().and_then(|name| name.to_str()?.rsplit_once('-'));
    match numbered.filter(|_| files.len() > 1) {
        None => Some(first.display().to_string()),
        Some((name, number)) => {
            let ending = number.trim_start_matches(|digit: char| digit.is_ascii_digit());
            Some(first.with_file_name(format!("{name}-[0-9]*{ending}")).display().to_string())
        }
    }
}

/// The file, or the first and the last of several.
fn name(options: &Options, summary: &Summary) -> String {
    match &summary.files[..] {
        [] if options.output.as_os_str() == "-" => "standard output".to_owned(),
        [] => options.output.display().to_string(),
        [first, .., last] if options.rotates() => format!("{} to {}", first.display(), last.display()),
        [only, ..] => only.display().to_string(),
    }
}

fn drops(summary: &Summary) -> String {
    match summary.dropped_records {
        0 => "nothing dropped".to_owned(),
        lost => {
            format!("{lost} RECORDS DROPPED ({} of payload; see the table drops)", size::text(summary.dropped_bytes))
        }
    }
}
