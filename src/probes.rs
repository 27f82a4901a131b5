//! `agentsight probes`: what would be attached to a program, and why, or why not.

use crate::{fail_with, print, status};
use agentsight_capture::resolver::Stack;
use agentsight_capture::{Explanation, Subject, explain};
use serde_json::json;
use std::ffi::OsString;
use std::process::ExitCode;

const EXAMPLES: &str = "\
EXAMPLES:
    agentsight probes                  the TLS libraries of this machine
    agentsight probes codex            a program, its interpreter, the libraries it is linked with
    agentsight probes 4242             a running process, with all that it has mapped
    agentsight probes -- npx my-agent  what `capture -- npx my-agent` would look at before it starts";

#[derive(clap::Args, Debug)]
#[command(before_help = EXAMPLES, after_help = "EXIT STATUS:\n    0 something would be probed, 1 nothing.")]
pub struct Args {
    /// A process id, a program's path or its name
    #[arg(value_name = "PID|BINARY", conflicts_with = "command")]
    subject: Option<OsString>,

    /// One JSON object a file, one line each; files without TLS too
    #[arg(long)]
    json: bool,

    /// The command that would be run
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Args {
    fn subject(&self) -> Subject {
        match &self.subject {
            _ if !self.command.is_empty() => Subject::Command(self.command.clone()),
            None => Subject::Machine,
            Some(name) => match name.to_str().and_then(|name| name.parse().ok()) {
                Some(pid) => Subject::Process(pid),
                None => Subject::Program(name.clone()),
            },
        }
    }
}

pub fn run(args: &Args) -> ExitCode {
    let files = match explain(&args.subject()) {
        Ok(files) => files,
        Err(error) => return fail_with(&error, status::FAILED),
    };
    let probed = files.iter().filter(|file| sites(file) > 0).count();
    let text = if args.json { files.iter().map(|file| format!("{}\n", json(file))).collect() } else { text(&files) };
    let printed = print(text.as_bytes());
    if probed > 0 { printed } else { ExitCode::from(status::FAILED) }
}

fn stacks(file: &Explanation) -> &[Stack] {
    file.answer.as_ref().map_or(&[], |binary| &binary.stacks)
}

fn sites(file: &Explanation) -> usize {
    stacks(file).iter().map(|stack| stack.sites.len()).sum()
}

fn text(files: &[Explanation]) -> String {
    let mut out = String::new();
    let mut without = 0;
    for (position, file) in files.iter().enumerate() {
        match &file.answer {
            // The program itself is named in any case.
            Ok(binary) if binary.stacks.is_empty() && position > 0 => without += 1,
            Ok(binary) if binary.stacks.is_empty() => {
                out.push_str(&format!("{}\n  no TLS functions of its own\n", file.path.display()));
            }
            Ok(binary) => {
                out.push_str(&format!("{}\n", file.path.display()));
                if !binary.build_id.is_empty() {
                    out.push_str(&format!("  build id {}\n", binary.build_id));
                }
                binary.stacks.iter().for_each(|stack| out.push_str(&stack_text(stack)));
            }
            Err(error) => out.push_str(&format!("{}\n  {error}\n", file.path.display())),
        }
    }
    if without > 0 {
        out.push_str(&format!("{without} other files: no TLS functions\n"));
    }
    match files.iter().filter(|file| sites(file) > 0).count() {
        0 => out.push_str(
            "Nothing would be probed. Libraries that a program loads later are looked at when it maps them. Java's TLS is not \
             known; a capture tells which programs spoke TLS unseen.\n",
        ),
        1 => out.push_str("1 file would be probed.\n"),
        count => out.push_str(&format!("{count} files would be probed.\n")),
    }
    out
}

fn stack_text(stack: &Stack) -> String {
    let how = match stack.sites.len() {
        0 => "is in it, but nothing of it can be probed".to_owned(),
        1 => format!("1 probe, found by {}", stack.method),
        count => format!("{count} probes, found by {}", stack.method),
    };
    let mut out = format!("  {}: {how}\n", stack.library.name());
    for site in &stack.sites {
        out.push_str(&format!("    {:#010x}  {}\n", site.offset, site.name));
    }
    for why in &stack.why {
        out.push_str(&format!("    - {why}\n"));
    }
    out
}

fn json(file: &Explanation) -> serde_json::Value {
    let stacks: Vec<_> = stacks(file)
        .iter()
        .map(|stack| {
            let sites: Vec<_> =
                stack.sites.iter().map(|site| json!({"function": site.name, "offset": site.offset})).collect();
            json!({"library": stack.library.name(), "method": stack.method, "sites": sites, "why": stack.why})
        })
        .collect();
    json!({
        "path": file.path.to_string_lossy(),
        "build_id": file.answer.as_ref().map(|binary| &binary.build_id).ok(),
        "error": file.answer.as_ref().err().map(ToString::to_string),
        "stacks": stacks,
    })
}
