//! `agentsight info`: what a capture holds, and whether it is whole. It reads and checks every byte.

use crate::{fail, inputs, say, status, time};
use agentsight_formats::record::{Body, DropCounter, Source, kind};
use agentsight_formats::{Clocks, Damage, Error, Head, Item, Reader};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
#[command(before_help = "EXAMPLES:\n    agentsight info run.asc\n    agentsight info --json runs/ | jq .health")]
pub struct Args {
    /// Captures, folders or globs; `-` is standard input [default: the newest *.asc here]
    captures: Vec<PathBuf>,
    /// One JSON object a line
    #[arg(long)]
    json: bool,
}

pub fn run(args: Args) -> ExitCode {
    let captures = match inputs::captures(&args.captures) {
        Ok(captures) => captures,
        Err(message) => return fail(&message),
    };
    let mut worst = 0;
    let mut out = String::new();
    for path in captures.iter() {
        match Info::read(path) {
            Ok(info) => {
                worst = worst.max(if info.lossy() { status::LOSS } else { 0 });
                if args.json {
                    out.push_str(&format!("{}\n", info.to_json()));
                } else {
                    out.push_str(&info.to_text());
                }
            }
            Err(error) => {
                say(format_args!("{}: {error}", path.display()));
                worst = status::FAILED;
            }
        }
    }
    match std::io::stdout().write_all(out.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => fail(&error),
        _ => ExitCode::from(worst),
    }
}

struct Info {
    path: PathBuf,
    head: Head,
    disk_bytes: u64,
    raw_bytes: u64,
    segments: BTreeSet<u64>,
    kinds: BTreeMap<u16, u64>,
    probes: BTreeMap<String, Value>,
    notes: Vec<Value>,
    drops: BTreeMap<String, (u64, u64)>,
    end: Option<Clocks>,
    damage: Vec<Damage>,
    finished: bool,
}

impl Info {
    fn read(path: &Path) -> Result<Info, Error> {
        let file = File::open(path)?;
        let disk_bytes = file.metadata()?.len();
        let mut reader = Reader::open(file)?;
        let mut info = Info {
            path: path.to_owned(),
            head: reader.head().clone(),
            disk_bytes,
            raw_bytes: 0,
            segments: BTreeSet::new(),
            kinds: BTreeMap::new(),
            probes: BTreeMap::new(),
            notes: Vec::new(),
            drops: BTreeMap::new(),
            end: None,
            damage: Vec::new(),
            finished: false,
        };
        while let Some(item) = reader.next_item()? {
            match item {
                Item::Damage(damage) => info.damage.push(damage),
                Item::Piece(piece) => info.take(&piece),
            }
        }
        info.finished = reader.finished();
        Ok(info)
    }

    fn take(&mut self, piece: &agentsight_formats::Piece) {
        self.raw_bytes += piece.bytes().len() as u64;
        self.segments.insert(piece.segment);
        self.end = Some(piece.clocks());
        self.drops = by_source(piece.drops());
        for record in piece.records().map_while(Result::ok) {
            *self.kinds.entry(record.header.kind.get()).or_default() += 1;
            let parse = |json| serde_json::from_slice::<Value>(json).ok();
            match record.body() {
                Ok(Body::Probe { json }) => {
                    let probe = parse(json).unwrap_or_default();
                    let path = probe["path"].as_str().unwrap_or_default().to_owned();
                    self.probes.insert(path, probe);
                }
                Ok(Body::Note { json }) => self.notes.extend(parse(json)),
                _ => {}
            }
        }
    }

    fn lossy(&self) -> bool {
        !self.damage.is_empty() || !self.drops.is_empty()
    }

    fn health(&self) -> &'static str {
        match (&self.damage[..], self.finished) {
            ([], true) => "complete",
            (damage, _) if damage.iter().all(|damage| damage.unfinished) => "unfinished",
            _ => "damaged",
        }
    }

    fn started(&self) -> i64 {
        self.head.metadata.clocks.realtime
    }

    fn seconds(&self) -> f64 {
        let end = self.end.map_or(0, |clocks| clocks.boottime);
        end.saturating_sub(self.head.metadata.clocks.boottime) as f64 / 1e9
    }

    fn records(&self) -> u64 {
        self.kinds.values().sum()
    }

    fn exit_status(&self) -> Option<&Value> {
        self.notes.iter().find(|note| note["what"] == "command_exit").map(|note| &note["status"])
    }

    /// The recorded processes that had not ended when the command had, by name and number.
    fn running_on(&self) -> impl Iterator<Item = String> {
        let notes = self.notes.iter().filter(|note| note["what"] == "runs_on");
        let processes = notes.flat_map(|note| note["processes"].as_array().into_iter().flatten());
        processes.map(|process| format!("{} ({})", process["comm"].as_str().unwrap_or_default(), process["pid"]))
    }

    fn to_json(&self) -> Value {
        let metadata = &self.head.metadata;
        let kinds: BTreeMap<String, u64> = self.kinds.iter().map(|(kind, count)| (kind_name(*kind), *count)).collect();
        let drops: BTreeMap<_, _> = self
            .drops
            .iter()
            .map(|(source, (records, bytes))| (source, json!({"records": records, "bytes": bytes})))
            .collect();
        json!({
            "file": self.path.to_string_lossy(),
            "version": format!("{}.{}", self.head.version, self.head.minor),
            "capture": metadata,
            "started_at": time::rfc3339(self.started()),
            "seconds": self.seconds(),
            "exit_status": self.exit_status(),
            "disk_bytes": self.disk_bytes,
            "raw_bytes": self.raw_bytes,
            "segments": self.segments.len(),
            "records": self.records(),
            "kinds": kinds,
            "probes": self.probes.values().collect::<Vec<_>>(),
            "notes": self.notes,
            "drops": drops,
            "health": self.health(),
            "damage": self.damage.iter().map(Damage::to_string).collect::<Vec<_>>(),
        })
    }

    fn to_text(&self) -> String {
        let metadata = &self.head.metadata;
        let mut lines: Vec<(&str, String)> = Vec::new();
        if !metadata.command_line.is_empty() {
            lines.push(("command", metadata.command_line.join(" ")));
        }
        if let Some(status) = self.exit_status() {
            lines.push(("exit status", status.to_string()));
        }
        lines.push(("selectors", metadata.selectors.join(", ")));
        lines.push(("folder", metadata.working_directory.clone()));
        if let Some(repo) = &metadata.repo {
            let commit = metadata.vcs_commit.as_deref().unwrap_or("no commit");
            lines.push(("repository", format!("{repo} at {commit}")));
        }
        lines.push(("started", format!("{}, {:.3} s long", time::rfc3339(self.started()), self.seconds())));
        lines.push(("host", format!("{}, Linux {} {}", metadata.host, metadata.kernel, metadata.arch)));
        lines.push(("recorded by", format!("{}, agentsight {}", metadata.user_name, metadata.capturer_version)));
        let sources = metadata.sources.iter().filter(|(_, on)| **on).map(|(name, _)| name.as_str());
        lines.push(("sources", sources.collect::<Vec<_>>().join(", ")));
        for (path, probe) in &self.probes {
            let functions = probe["functions"].as_array().map_or(0, Vec::len);
            let text = |key: &str| probe[key].as_str().unwrap_or_default().to_owned();
            lines.push(("probes", format!("{path} ({}, {functions} functions, {})", text("library"), text("attach"))));
        }
        for note in self.notes.iter().filter(|note| note["what"] == "tls_unseen") {
            let path = note["path"].as_str().unwrap_or_default();
            let of = note["direction"].as_str().map_or_else(String::new, |direction| format!(", what was {direction}"));
            lines.push((
                "unseen TLS",
                format!("{path} ({} connections{of}: `agentsight probes {path}`)", note["connections"]),
            ));
        }
        for note in self.notes.iter().filter(|note| note["what"] == "unwatched") {
            let text = |key: &str| note[key].as_str().unwrap_or_default();
            lines.push(("not watched", format!("{} uses {}", text("path"), text("way"))));
        }
        lines.extend(self.running_on().map(|running| ("runs on", format!("{running}, not recorded any more"))));
        let ratio = self.raw_bytes as f64 / self.disk_bytes.max(1) as f64;
        lines.push(("size", format!("{} bytes on disk, {} raw, ratio {ratio:.1}", self.disk_bytes, self.raw_bytes)));
        lines.push(("records", format!("{} in {} segments", self.records(), self.segments.len())));
        for (kind, count) in &self.kinds {
            lines.push(("", format!("{count:>9} {}", kind_name(*kind))));
        }
        if self.drops.is_empty() {
            lines.push(("dropped", "nothing".to_owned()));
        }
        for (source, (records, bytes)) in &self.drops {
            lines.push(("dropped", format!("{source}: {records} records, {bytes} bytes of payload")));
        }
        lines.push(("health", self.health().to_owned()));
        lines.extend(self.damage.iter().map(|damage| ("", damage.to_string())));
        let body: String = lines.iter().map(|(name, value)| format!("  {name:<12} {value}\n")).collect();
        format!("{}\n{body}", self.path.display())
    }
}

pub fn kind_name(kind: u16) -> String {
    kind::name(kind).map_or_else(|| format!("{kind:#06x}"), str::to_owned)
}

fn by_source(counters: &[DropCounter]) -> BTreeMap<String, (u64, u64)> {
    let mut drops: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for counter in counters {
        let number = counter.source.get();
        let name = Source::from_number(number).map_or_else(|| number.to_string(), |source| source.name().to_owned());
        let sum = drops.entry(name).or_default();
        *sum = (sum.0 + counter.records.get(), sum.1 + counter.bytes.get());
    }
    drops
}
