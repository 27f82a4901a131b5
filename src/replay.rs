//! `agentsight replay`: the rows of captures as JSON lines, in the order of events, and whether they are as they should be.

use crate::follow::{Files, Follow};
use crate::inputs::{self, Recording};
use crate::{checks, fail, fail_with, output_file, query, status, time};
use agentsight_formats::Reader;
use agentsight_replay::analyzers::{self, ANALYZERS, Entry};
use agentsight_replay::nearest::{did_you_mean, nearest};
use agentsight_replay::prices::Prices;
use agentsight_replay::table::{Row, TableDef};
use agentsight_replay::tables::{TABLES, table};
use agentsight_replay::{Sink, json, span};
use std::io::{self, BufWriter, Write};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

const EXAMPLES: &str = "\
EXAMPLES:
    agentsight replay run.asc --table llm_calls,tool_calls | jq .
    agentsight replay run.asc --from +5s --to +10s -o events.ndjson
    agentsight replay run.asc --bless golden/
    agentsight replay run.asc --check golden/ --assert checks/ --junit report.xml
    agentsight replay --follow run.asc
    agentsight replay --list";

// Lines end in a backslash where the paragraph goes on: they are wrapped for the terminal.
const EXIT_STATUS: &str = "\
A row comes when it is complete: a process at its exit, a tool call at the end of the model call that carries its result, \
what the capture leaves open at its end. The first line names what the rows depend on besides the capture. They depend on \
nothing else: no clock, time zone, locale, network or number of threads. Bytes are text where they are UTF-8, else \
{\"hex\": \"…\"}.

--follow ends when the capturer closes the file (or with Ctrl-C). A socket, or the other end of a pipe, that shows itself \
more than a second after its first bytes is not known in time: there a replay of the finished capture says more. Of a \
rotated capture it goes on with the next file.

Golden rows are compared under DIR/policy.json: by default, what differs between two runs of one agent (ids, times, ports, \
addresses, headers and bodies) is ignored. README.md describes it.

EXIT STATUS: 0 done, 1 failed or a check failed, 2 wrong usage, 3 done but with loss (damage passed over, records dropped).";

#[derive(clap::Args, Debug)]
#[command(before_help = EXAMPLES, after_help = EXIT_STATUS)]
pub struct Args {
    /// Captures, folders or globs; `-` is standard input [default: the newest *.asc here]
    pub captures: Vec<PathBuf>,

    /// Only rows of these analyzers
    #[arg(short, long, value_delimiter = ',', value_name = "NAME")]
    pub analyzer: Vec<String>,
    /// Only rows of these tables
    #[arg(short, long, value_delimiter = ',', value_name = "NAME")]
    pub table: Vec<String>,
    /// Only what went on at or after this time (2026-01-31T12:00:00Z, 12:00:00, or +5s after the start)
    #[arg(long, value_name = "TIME")]
    pub from: Option<String>,
    /// Only what began before this time
    #[arg(long, value_name = "TIME")]
    pub to: Option<String>,
    /// What models cost: a table of prices in place of the built-in one
    #[arg(long, value_name = "FILE")]
    pub prices: Option<PathBuf>,
    /// How fast rows come: max, or 1x, 10x, 0.5x of the speed at which it happened
    #[arg(long, value_name = "SPEED", default_value = "max", value_parser = speed)]
    pub speed: Speed,
    /// Write the rows to this file
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Read a capture that is still being written, until it is finished
    #[arg(short, long)]
    pub follow: bool,
    /// List the analyzers and their tables
    #[arg(long, exclusive = true)]
    pub list: bool,

    /// Take the rows as the right ones: write them into this folder, a file per table
    #[arg(long, value_name = "DIR", conflicts_with_all = ["check", "output", "follow"], help_heading = "Checks")]
    pub bless: Option<PathBuf>,
    /// Compare the rows with those in this folder
    #[arg(long, value_name = "DIR", conflicts_with_all = ["output", "follow"], help_heading = "Checks")]
    pub check: Option<PathBuf>,
    /// What may differ [default: DIR/policy.json, if there is one]
    #[arg(long, value_name = "FILE", help_heading = "Checks")]
    pub policy: Option<PathBuf>,
    /// SQL of which every row is a failure: a file, or a folder of *.sql
    #[arg(long, value_name = "FILE", conflicts_with_all = ["output", "follow"], help_heading = "Checks")]
    pub assert: Vec<PathBuf>,
    /// Write the outcome of the checks to this file as JUnit XML
    #[arg(long, value_name = "FILE", help_heading = "Checks")]
    pub junit: Option<PathBuf>,
    /// Write the outcome of the checks to this file as SARIF
    #[arg(long, value_name = "FILE", help_heading = "Checks")]
    pub sarif: Option<PathBuf>,
}

/// Times as fast as it happened; `None` for as fast as can be.
#[derive(Clone, Copy, Debug)]
pub struct Speed(pub Option<f64>);

fn speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed(None));
    }
    let times = text.strip_suffix('x').unwrap_or(text).parse().ok().filter(|times: &f64| *times > 0.0);
    let times = times.filter(|times| times.is_finite());
    times.map(|times| Speed(Some(times))).ok_or_else(|| "write max, or a number of times as 1x, 10x, 0.5x".to_owned())
}

/// Nanoseconds since 1970 between which rows are wanted.
pub type Window = (Option<i64>, Option<i64>);

/// Which rows are wanted.
pub struct Selection {
    pub tables: Vec<&'static TableDef>,
    /// The analyzers that were named; none: all.
    analyzers: Vec<&'static Entry>,
    /// Whether tables were named, one by one.
    pub by_name: bool,
    from: Option<String>,
    to: Option<String>,
    pub prices: Arc<Prices>,
}

impl Selection {
    pub fn new(args: &Args) -> Result<Self, Stop> {
        let mut tables: Vec<&'static TableDef> = Vec::new();
        let mut chosen = Vec::new();
        for name in &args.analyzer {
            let known = || ANALYZERS.iter().map(|analyzer| analyzer.name);
            let analyzer = analyzers::by_name(name).ok_or_else(|| unknown("analyzer", name, nearest(name, known())))?;
            tables.extend(analyzer.tables);
            chosen.push(analyzer);
        }
        for name in &args.table {
            let known = || TABLES.iter().map(|table| table.name);
            tables.push(table(name).ok_or_else(|| unknown("table", name, nearest(name, known())))?);
        }
        if tables.is_empty() {
            tables = TABLES.to_vec();
        }
        if !args.table.is_empty() {
            // Rows of a table that was named are of whoever makes them.
            chosen.clear();
        }
        Ok(Selection {
            tables,
            analyzers: chosen,
            by_name: !args.table.is_empty(),
            from: args.from.clone(),
            to: args.to.clone(),
            prices: inputs::prices(args.prices.as_deref()).map_err(Stop::Failed)?,
        })
    }

    pub fn has(&self, table: &TableDef) -> bool {
        self.tables.iter().any(|wanted| wanted.name == table.name)
    }

    pub fn has_analyzer(&self, entry: &Entry) -> bool {
        self.analyzers.is_empty() || self.analyzers.iter().any(|chosen| chosen.name == entry.name)
    }

    /// The first line of the output.
    pub fn pinned(&self) -> serde_json::Value {
        let makes = |entry: &&Entry| self.has_analyzer(entry) && entry.tables.iter().any(|table| self.has(table));
        let wanted = ANALYZERS.iter().filter(makes);
        json::pinned(env!("CARGO_PKG_VERSION"), wanted, &self.prices)
    }

    /// The times of a recording that started at `start`.
    pub fn window(&self, start: i64) -> Result<Window, String> {
        let point = |text: &Option<String>| text.as_ref().map(|text| time::point(text, start)).transpose();
        Ok((point(&self.from)?, point(&self.to)?))
    }
}

fn unknown(what: &str, name: &str, near: Vec<String>) -> Stop {
    Stop::Usage(format!("no {what} `{name}`{}; `agentsight replay --list` lists them", did_you_mean(&near)))
}

/// Why it ended early.
pub enum Stop {
    Usage(String),
    Failed(String),
    /// Whoever read the rows has enough.
    Enough,
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Stop::Enough,
            _ => Stop::Failed(format!("cannot write: {error}")),
        }
    }
}

pub fn run(args: &Args) -> ExitCode {
    if args.list {
        return crate::print(list().as_bytes());
    }
    let done = if args.bless.is_some() || args.check.is_some() || !args.assert.is_empty() {
        checks::run(args)
    } else {
        rows(args).map(|lossy| if lossy { status::LOSS } else { 0 })
    };
    match done {
        Ok(status) => ExitCode::from(status),
        Err(Stop::Enough) => ExitCode::SUCCESS,
        Err(Stop::Usage(message)) => fail_with(&message, status::USAGE),
        Err(Stop::Failed(message)) => fail(&message),
    }
}

fn list() -> String {
    let name = ANALYZERS.iter().map(|analyzer| analyzer.name.len()).max().unwrap_or(0);
    let line = |analyzer: &Entry| {
        let tables: Vec<_> = analyzer.tables.iter().map(|table| table.name).collect();
        let (tables, doc) = (tables.join(", "), analyzer.doc);
        format!("{:name$}  version {}  {tables:24}  {doc}\n", analyzer.name, analyzer.version)
    };
    ANALYZERS.iter().map(line).collect()
}

/// Writes the rows. Returns whether something is missing from the captures.
fn rows(args: &Args) -> Result<bool, Stop> {
    let selection = Selection::new(args)?;
    if args.policy.is_some() || args.junit.is_some() || args.sarif.is_some() {
        return Err(Stop::Usage("--policy, --junit and --sarif go with --check or --assert".to_owned()));
    }
    if args.follow && args.speed.0.is_some() {
        return Err(Stop::Usage("--follow shows what happens as it happens: it has no --speed".to_owned()));
    }
    if args.follow && args.captures.iter().any(|path| path.as_os_str() == "-") {
        let message = "what comes through standard input is read when it is whole: --follow takes a file";
        return Err(Stop::Usage(message.to_owned()));
    }
    let captures = inputs::captures(&args.captures).map_err(Stop::Failed)?;
    // The other files of the newest capture here come after its first.
    let newest = args.follow && args.captures.is_empty();
    let captures = if newest { captures.get(..1).unwrap_or_default() } else { &captures };
    if args.follow && captures.len() > 1 {
        return Err(Stop::Usage(format!("--follow takes one capture, and {} are named", captures.len())));
    }
    // The head of a capture that has just begun may not be there yet.
    let recordings =
        if args.follow { vec![begun(captures)?] } else { inputs::recordings(captures).map_err(Stop::Failed)? };
    for recording in &recordings {
        selection.window(recording.start).map_err(Stop::Usage)?;
    }
    let write = |out: &mut dyn Write| write_rows(args, &selection, &recordings, out);
    let Some(path) = &args.output else {
        return write(&mut BufWriter::new(io::stdout().lock()));
    };
    output_file::not_one_of(captures, path).map_err(Stop::Failed)?;
    if args.follow {
        // Somebody may want to look at it in the meantime.
        let file = std::fs::File::create(path).map_err(|error| Stop::Failed(format!("{}: {error}", path.display())))?;
        return write(&mut BufWriter::new(file));
    }
    let mut lossy = false;
    output_file::write(path, Stop::Failed, |file| {
        lossy = write(&mut BufWriter::new(file))?;
        Ok(())
    })?;
    Ok(lossy)
}

fn write_rows(args: &Args, selection: &Selection, recordings: &[Recording], out: &mut dyn Write) -> Result<bool, Stop> {
    writeln!(out, "{}", selection.pinned())?;
    if args.follow {
        out.flush()?;
    }
    let mut lossy = false;
    for recording in recordings {
        let pace = args.speed.0.map(|speed| Pace { speed, begun: None });
        let window = selection.window(recording.start).map_err(Stop::Usage)?;
        let mut lines = Lines { selection, window, pace, at_once: args.follow, out, failed: None };
        let mut files = Files::from(recording.files.first().map(PathBuf::as_path).unwrap_or(Path::new("")));
        let replayed = if args.follow {
            agentsight_replay::follow(&mut || files.next(), &mut lines).map_err(|error| error.to_string())
        } else {
            recording.replay(&mut lines)
        };
        lines.failed.map_or(Ok(()), Err)?;
        let read = if args.follow { &files.opened } else { &recording.files };
        for (path, report) in read.iter().zip(replayed.map_err(Stop::Failed)?) {
            lossy |= report.lossy();
            query::warn(path, &report);
        }
    }
    out.flush()?;
    Ok(lossy)
}

/// A capture that is being written, once its head is there.
fn begun(captures: &[PathBuf]) -> Result<Recording, Stop> {
    let path = captures.first().map(PathBuf::as_path).unwrap_or(Path::new(""));
    let opened = Follow::open(path).map_err(Into::into).and_then(Reader::open);
    let reader = opened.map_err(|error| Stop::Failed(format!("{}: {error}", path.display())))?;
    Ok(Recording { files: captures.to_vec(), start: reader.head().metadata.clocks.realtime })
}

/// Writes rows as JSON lines.
struct Lines<'l> {
    selection: &'l Selection,
    window: Window,
    pace: Option<Pace>,
    /// Nothing is held back.
    at_once: bool,
    out: &'l mut dyn Write,
    failed: Option<io::Error>,
}

impl Sink for Lines<'_> {
    fn wants(&self, table: &TableDef) -> bool {
        self.selection.has(table)
    }

    fn wants_analyzer(&self, entry: &Entry) -> bool {
        self.selection.has_analyzer(entry)
    }

    fn prices(&self) -> Arc<Prices> {
        self.selection.prices.clone()
    }

    fn row(&mut self, row: &dyn Row) -> ControlFlow<()> {
        match self.write(row) {
            Ok(()) => ControlFlow::Continue(()),
            Err(error) => {
                self.failed = Some(error);
                ControlFlow::Break(())
            }
        }
    }
}

impl Lines<'_> {
    fn write(&mut self, row: &dyn Row) -> io::Result<()> {
        let span = span::of(row);
        if !span.within(self.window.0, self.window.1) {
            return Ok(());
        }
        let early = self.pace.as_mut().zip(span.end).map_or(Duration::ZERO, |(pace, end)| pace.early(end));
        if !early.is_zero() {
            self.out.flush()?;
            std::thread::sleep(early);
        }
        json::line(row, &mut self.out)?;
        if self.at_once { self.out.flush() } else { Ok(()) }
    }
}

/// Lets rows come at the times at which they were complete, or so many times as fast. The first one comes at once.
struct Pace {
    speed: f64,
    /// When the first row came, and its time.
    begun: Option<(Instant, i64)>,
}

impl Pace {
    /// How long a row of this time has to wait.
    fn early(&mut self, time: i64) -> Duration {
        let (begun, first) = *self.begun.get_or_insert_with(|| (Instant::now(), time));
        let after = Duration::from_nanos(time.saturating_sub(first).try_into().unwrap_or(0));
        // A number of times so small that nobody lives to see the row is as good as the longest wait.
        let due = Duration::try_from_secs_f64(after.as_secs_f64() / self.speed).unwrap_or(Duration::MAX);
        due.saturating_sub(begun.elapsed())
    }
}
