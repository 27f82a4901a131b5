//! `agentsight query`: SQL over captures.

use crate::{fail, fail_with, inputs, output_file, say, status};
use agentsight_query::{Error, ResultSink, Session, output};
use agentsight_replay::prices::Prices;
use agentsight_replay::table::{ColumnType, TableDef};
use agentsight_replay::tables::{TABLES, table};
use std::io::{BufWriter, IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const EXAMPLES: &str = "\
EXAMPLES:
    agentsight query \"SELECT request_model, input_tokens, output_tokens FROM llm_calls\" run.asc
    agentsight query \"SELECT tool_name, arguments->>'command' AS command FROM tool_calls\" runs/
    agentsight query -f report.sql --format parquet -o report.parquet 'runs/*.asc'
    agentsight query --tables
    agentsight query --schema llm_calls";

const EXIT_STATUS: &str = "\
Bytes (VARBINARY) are shown as text where they are UTF-8, as hexadecimal in JSON; text(body) makes them text in SQL.

EXIT STATUS: 0 done, 1 failed, 2 wrong usage, 3 done but with loss (damage passed over, records dropped).";

#[derive(clap::Args, Debug)]
#[command(before_help = EXAMPLES, after_help = EXIT_STATUS)]
pub struct Args {
    /// The SQL, then captures, folders or globs; `-` is standard input, for one or the other [default: the newest *.asc here]
    #[arg(value_name = "SQL] [CAPTURE")]
    arguments: Vec<String>,

    /// Read the SQL from this file
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// How to write the result [default: table on a terminal, else csv]
    #[arg(long, value_enum)]
    format: Option<Format>,

    /// Write the result to this file
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,

    /// What models cost: a table of prices in place of the built-in one
    #[arg(long, value_name = "FILE")]
    prices: Option<PathBuf>,

    /// List the tables
    #[arg(long, conflicts_with_all = ["file", "schema"])]
    tables: bool,

    /// List the columns of a table, with types, units and what they mean
    #[arg(long, value_name = "TABLE", conflicts_with = "file")]
    schema: Option<String>,
}

#[derive(clap::ValueEnum, Clone, Copy, Debug)]
enum Format {
    Table,
    Csv,
    Json,
    Ndjson,
    Markdown,
    Parquet,
}

impl From<Format> for output::Format {
    fn from(format: Format) -> Self {
        match format {
            Format::Table => output::Format::Table,
            Format::Csv => output::Format::Csv,
            Format::Json => output::Format::Json,
            Format::Ndjson => output::Format::Ndjson,
            Format::Markdown => output::Format::Markdown,
            Format::Parquet => output::Format::Parquet,
        }
    }
}

pub fn run(args: Args) -> ExitCode {
    if args.tables {
        return crate::print(tables_text().as_bytes());
    }
    if let Some(name) = &args.schema {
        return match table(name) {
            Some(table) => crate::print(schema_text(table).as_bytes()),
            None => fail(&format!("no table `{name}`; `agentsight query --tables` lists them")),
        };
    }
    let (sql, captures) = match sql_and_captures(&args) {
        Ok(both) => both,
        Err(message) => return fail_with(&message, status::USAGE),
    };
    let captures = match inputs::captures(&captures) {
        Ok(captures) => captures,
        Err(message) => return fail(&message),
    };
    let prices = match inputs::prices(args.prices.as_deref()) {
        Ok(prices) => prices,
        Err(message) => return fail(&message),
    };
    let format = args.format.unwrap_or_else(|| default_format(args.output.as_deref()));
    if matches!(format, Format::Parquet) && args.output.is_none() && std::io::stdout().is_terminal() {
        return fail_with(&"Parquet is not for a terminal: name a file with -o", status::USAGE);
    }
    match answer(&sql, (captures.to_vec(), prices), format.into(), args.output.as_deref()) {
        Ok(lossy) => ExitCode::from(if lossy { status::LOSS } else { 0 }),
        Err(_) if PIPE_BROKEN.load(Ordering::Relaxed) => ExitCode::SUCCESS,
        Err(error) => fail(&error),
    }
}

/// Whoever read our standard output has enough. The writers of the formats tell of this in words of their own.
static PIPE_BROKEN: AtomicBool = AtomicBool::new(false);

/// Standard output that notices when its reader is gone.
struct Output(BufWriter<std::io::Stdout>);

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        noticing(self.0.write(bytes))
    }

    fn flush(&mut self) -> std::io::Result<()> {
        noticing(self.0.flush())
    }
}

fn noticing<T>(result: std::io::Result<T>) -> std::io::Result<T> {
    result.inspect_err(|error| PIPE_BROKEN.store(error.kind() == std::io::ErrorKind::BrokenPipe, Ordering::Relaxed))
}

/// A file's name says what goes into it; without one, a terminal gets a table.
fn default_format(output: Option<&Path>) -> Format {
    match output.and_then(|path| path.extension()?.to_str()) {
        Some("parquet") => Format::Parquet,
        Some("json") => Format::Json,
        Some("ndjson" | "jsonl") => Format::Ndjson,
        Some("md") => Format::Markdown,
        None if output.is_none() && std::io::stdout().is_terminal() => Format::Table,
        _ => Format::Csv,
    }
}

fn sql_and_captures(args: &Args) -> Result<(String, Vec<PathBuf>), String> {
    let paths = |arguments: &[String]| arguments.iter().map(PathBuf::from).collect();
    if let Some(file) = &args.file {
        let sql = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        return Ok((sql, paths(&args.arguments)));
    }
    match args.arguments.split_first() {
        None => Err("no SQL: give it as the first argument, with -f FILE, or as `-` on standard input".to_owned()),
        Some((first, rest)) if first == "-" => {
            let mut sql = String::new();
            std::io::stdin().read_to_string(&mut sql).map_err(|error| format!("standard input: {error}"))?;
            Ok((sql, paths(rest)))
        }
        Some((first, _)) if inputs::looks_like_capture(first) => {
            Err(format!("{first} is a capture, but the SQL comes first: agentsight query \"SELECT …\" {first}"))
        }
        Some((first, rest)) => Ok((first.clone(), paths(rest))),
    }
}

/// Runs the query. Returns whether something is missing from the captures that it read.
fn answer(
    sql: &str,
    (captures, prices): (Vec<PathBuf>, Arc<Prices>),
    format: output::Format,
    output: Option<&Path>,
) -> Result<bool, Error> {
    if let Some(path) = output {
        output_file::not_one_of(&captures, path).map_err(Error::Format)?;
    }
    let session = Session::open(captures, prices)?;
    match output {
        None => run_into(&session, sql, output::writer(format, Output(BufWriter::new(std::io::stdout())))),
        Some(path) => output_file::write(path, Error::Format, |file| {
            run_into(&session, sql, output::writer(format, BufWriter::new(file)))
        }),
    }?;
    let mut lossy = false;
    for (path, report) in session.reports() {
        lossy |= report.lossy();
        warn(&path, &report);
    }
    Ok(lossy)
}

fn run_into(session: &Session, sql: &str, mut sink: Box<dyn ResultSink + '_>) -> Result<(), Error> {
    session.run(sql, sink.as_mut())
}

/// Says on stderr what is missing from a capture.
pub fn warn(path: &Path, report: &agentsight_replay::Report) {
    for damage in &report.damage {
        say(format_args!("{}: {damage}", path.display()));
    }
    if report.dropped_records > 0 {
        say(format_args!("{}: {} records were dropped; see the table drops", path.display(), report.dropped_records));
    }
}

fn tables_text() -> String {
    let width = TABLES.iter().map(|table| table.name.len()).max().unwrap_or(0);
    TABLES.iter().map(|table| format!("{:width$}  {}\n", table.name, table.doc.trim())).collect()
}

fn schema_text(table: &TableDef) -> String {
    let mut out = Vec::new();
    // Writing to memory does not fail.
    let _ = writeln!(out, "{}: {}\n", table.name, table.doc.trim());
    let name = table.columns.iter().map(|column| column.name.len()).max().unwrap_or(0);
    for column in table.columns {
        let kind = format!("{}{}", type_name(column.kind), if column.nullable { "" } else { " NOT NULL" });
        let _ = write!(out, "{:name$}  {kind:20}  {}", column.name, column.doc.trim());
        if !column.unit.is_empty() {
            let _ = write!(out, " [{}]", column.unit);
        }
        if !column.otel.is_empty() {
            let _ = write!(out, " (OpenTelemetry: {})", column.otel);
        }
        out.push(b'\n');
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn type_name(kind: ColumnType) -> &'static str {
    match kind {
        ColumnType::Timestamp => "TIMESTAMP",
        ColumnType::BigInt => "BIGINT",
        ColumnType::Double => "DOUBLE",
        ColumnType::Boolean => "BOOLEAN",
        ColumnType::Varchar => "VARCHAR",
        ColumnType::Varbinary => "VARBINARY",
        ColumnType::VarcharList => "VARCHAR[]",
    }
}
