//! `agentsight doctor`: what this machine can record, and the way out where it cannot.

use crate::{print, status};
use agentsight_capture::doctor::{self, Check, Verdict};
use serde_json::json;
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
#[command(after_help = "EXIT STATUS:\n    0 this machine can record, 1 it cannot.")]
pub struct Args {
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> ExitCode {
    let checks = doctor::examine();
    let lines: String = checks.iter().map(if args.json { json_line } else { text_line }).collect();
    let printed = print(lines.as_bytes());
    if doctor::can_record(&checks) { printed } else { ExitCode::from(status::FAILED) }
}

fn text_line(check: &Check) -> String {
    let mark = match check.verdict {
        Verdict::Works => "✓",
        Verdict::Limited => "!",
        Verdict::Fails => "✗",
    };
    let mut line = format!("{mark} {:<22} {}\n", check.feature, check.found);
    if !check.way_out.is_empty() {
        line.push_str(&format!("  {:<22} → {}\n", "", check.way_out));
    }
    line
}

fn json_line(check: &Check) -> String {
    let verdict = match check.verdict {
        Verdict::Works => "works",
        Verdict::Limited => "limited",
        Verdict::Fails => "fails",
    };
    let json = json!({"feature": check.feature, "verdict": verdict, "found": check.found, "way_out": check.way_out});
    format!("{json}\n")
}
