//! The pipeline: records in total order go to the processes and the connections; exchanges, model calls and tool calls grow
//! out of the connections; every finished row goes to the sink. Stages that feed no wanted table do not run.

use crate::connections::Connections;
use crate::llm;
use crate::order::Order;
use crate::processes::{Processes, signed};
use crate::table::{Row, TableDef, Timestamp};
use crate::tables;
use crate::tools::Tools;
use crate::{Report, Sink};
use agentsight_formats::record::{Body, DropCounter, Record, Source, drop_reason, kind};
use agentsight_formats::{Clocks, Damage, Error, Item, Piece, Reader};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read, Seek};
use std::ops::ControlFlow;
use zerocopy::IntoBytes;

/// Which stages have to run.
pub(crate) struct Wanted {
    pub processes: bool,
    pub tls: bool,
    pub http: bool,
    pub bodies: bool,
    pub llm: bool,
}

impl Wanted {
    fn of(sink: &dyn Sink) -> Self {
        let wants = |table: &TableDef| sink.wants(table);
        let llm = wants(tables::LlmCall::TABLE) || wants(tables::ToolCall::TABLE);
        let http =
            llm || wants(tables::Http::TABLE) || wants(tables::StreamEvent::TABLE) || wants(tables::Connection::TABLE);
        let body = |column| wants(tables::Http::TABLE) && sink.wants_column(tables::Http::TABLE, column);
        let tls = http || wants(tables::TlsData::TABLE);
        Wanted {
            // Every other row names its process by the number that it is given here.
            processes: tls || wants(tables::Process::TABLE) || wants(tables::Exec::TABLE),
            tls,
            http,
            bodies: llm || body("request_body") || body("response_body"),
            llm,
        }
    }
}

/// Hands rows to the sink, and remembers when it has enough.
pub(crate) struct Output<'s> {
    sink: &'s mut dyn Sink,
    pub stopped: bool,
}

impl Output<'_> {
    /// Whether a row of this table would be taken: if not, it need not be made.
    pub fn wants(&self, table: &TableDef) -> bool {
        !self.stopped && self.sink.wants(table)
    }

    pub fn wants_column(&self, table: &TableDef, column: &str) -> bool {
        self.sink.wants_column(table, column)
    }

    pub fn row(&mut self, row: &dyn Row) {
        if self.wants(row.table()) {
            self.stopped = self.sink.row(row) == ControlFlow::Break(());
        }
    }
}

/// Wall time of boot time, by the first sample of the clocks: a clock that is set while recording moves no record.
#[derive(Clone, Copy)]
pub(crate) struct WallClock {
    offset: i64,
}

impl WallClock {
    fn new(clocks: Clocks) -> Self {
        WallClock { offset: clocks.realtime.saturating_sub(signed(clocks.boottime)) }
    }

    pub fn at(self, boottime: u64) -> Timestamp {
        Timestamp(signed(boottime).saturating_add(self.offset))
    }
}

pub(crate) struct Pipeline<'s> {
    capture_id: String,
    wanted: Wanted,
    output: Output<'s>,
    clock: WallClock,
    order: Order,
    processes: Processes,
    connections: Connections,
    tools: Tools,
    llm_calls: i64,
    /// Drop counters at the last checkpoint, by source, CPU and reason.
    drops: BTreeMap<(u16, u16, u16), (u64, u64)>,
    last_clocks: Option<Clocks>,
    exit_code: Option<i64>,
    segments: BTreeSet<u64>,
    records: u64,
    damage: Vec<Damage>,
}

/// Runs a capture through the pipeline; see [`crate::replay`].
pub(crate) fn run<R: Read + Seek>(mut reader: Reader<R>, file: &str, sink: &mut dyn Sink) -> Result<Report, Error> {
    let capture_id = uuid(&reader.head().uuid);
    let start = reader.head().metadata.clocks;
    let mut pipeline = Pipeline {
        wanted: Wanted::of(sink),
        output: Output { sink, stopped: false },
        clock: WallClock::new(start),
        order: Order::default(),
        processes: Processes::new(capture_id.clone()),
        connections: Connections::new(capture_id.clone()),
        tools: Tools::new(capture_id.clone()),
        llm_calls: 0,
        drops: BTreeMap::new(),
        last_clocks: Some(start).filter(|clocks| *clocks != Clocks::default()),
        exit_code: None,
        segments: Default::default(),
        records: 0,
        damage: Vec::new(),
        capture_id,
    };
    while let Some(item) = reader.next_item()? {
        match item {
            Item::Piece(piece) => pipeline.piece(&piece),
            Item::Damage(damage) => pipeline.damaged(damage),
        }
        if pipeline.output.stopped {
            break;
        }
    }
    let finished = reader.finished();
    Ok(pipeline.finish(reader.head(), file, finished))
}

impl Pipeline<'_> {
    fn piece(&mut self, piece: &Piece) {
        if self.last_clocks.is_none() {
            // The head is damaged: the first checkpoint has the clocks as well.
            self.clock = WallClock::new(piece.clocks());
        }
        self.segments.insert(piece.segment);
        for record in piece.records().map_while(Result::ok) {
            self.records += 1;
            self.hold(&record);
        }
        while let Some(record) = self.order.pop() {
            self.record(&record);
        }
        self.count_drops(piece.drops(), piece.clocks());
        self.last_clocks = Some(piece.clocks());
    }

    /// Puts a record in its place, or as much of it as is wanted.
    fn hold(&mut self, record: &Record<'_>) {
        let header = record.header;
        let bytes = match Source::of_kind(header.kind.get()) {
            // Which number a process has must not depend on the tables that are wanted: of what is not decoded, the header
            // still names its process.
            Some(Source::Tls) if self.wanted.processes && !self.wanted.tls => header.as_bytes(),
            Some(Source::Process | Source::Tls) if !self.wanted.processes => return,
            _ if header.kind.get() == kind::CHECKPOINT => return,
            _ => record.bytes,
        };
        self.order.push(header.time.get(), header.cpu.get(), header.seq.get(), bytes);
    }

    fn record(&mut self, bytes: &[u8]) {
        let Some(record) = Record::from_bytes(bytes) else { return };
        match record.body() {
            Ok(body) => self.body(&record, body),
            // Only the header was held; or the record is too short for its kind, though its checksum was right.
            Err(_) => {
                self.processes.id(record.header.tgid.get());
            }
        }
    }

    fn body(&mut self, record: &Record<'_>, body: Body<'_>) {
        let (tgid, time) = (record.header.tgid.get(), record.header.time.get());
        let ts = self.clock.at(time);
        match body {
            Body::Fork(fork) => {
                let lost = self.processes.fork(tgid, fork, self.clock.at(fork.child_start.get()));
                lost.iter().for_each(|row| self.output.row(row));
            }
            Body::Process { process, path, .. } => {
                let lost = self.processes.snapshot(tgid, process, path, self.clock.at(process.start.get()));
                lost.iter().for_each(|row| self.output.row(row));
            }
            Body::Exec { exec, path, cwd, .. } => {
                self.close_connections_of(tgid, ts);
                let start = self.clock.at(exec.start.get());
                let unfinished = self.processes.exec(tgid, exec, (path, cwd), ts, start);
                unfinished.iter().for_each(|row| self.output.row(row));
            }
            Body::ExecArgs { args, data } => {
                self.processes.exec_args(tgid, args, data).iter().for_each(|row| self.output.row(row));
            }
            Body::Exit(exit) => {
                self.close_connections_of(tgid, ts);
                let (process, exec) = self.processes.exit(tgid, exit, ts);
                exec.iter().for_each(|row| self.output.row(row));
                self.output.row(&process);
            }
            Body::TlsData { tls, data } => {
                let proc_id = self.processes.id(tgid);
                self.connections.data(record.header, tls, data, (proc_id, ts), &self.wanted, &mut self.output);
                self.take_exchanges();
            }
            Body::TlsClose(close) => {
                self.connections.close(close.conn_id.get(), ts, &self.wanted, &mut self.output);
                self.take_exchanges();
            }
            Body::Connection(connection) if self.wanted.tls => {
                let proc_id = self.processes.id(tgid);
                self.connections.snapshot(tgid, connection, proc_id, self.clock.at(connection.opened.get()));
            }
            Body::Note { json } => self.note(json),
            Body::Connection(_) | Body::Probe { .. } | Body::Checkpoint { .. } | Body::Unknown => {}
            Body::Map { .. } | Body::Adopt(_) => {}
            Body::TlsBind(_)
            | Body::File { .. }
            | Body::Socket { .. }
            | Body::SocketData { .. }
            | Body::StdioData { .. }
            | Body::Endpoint(_)
            | Body::Metric(_)
            | Body::Descriptor { .. } => {}
        }
    }

    fn close_connections_of(&mut self, tgid: u32, ts: Timestamp) {
        self.connections.close_all_of(tgid, ts, &self.wanted, &mut self.output);
        self.take_exchanges();
    }

    /// Makes model calls and tool calls of the exchanges that are done.
    fn take_exchanges(&mut self) {
        for done in self.connections.done.drain(..) {
            let Some(mut call) = self.wanted.llm.then(|| llm::call(&done.exchange)).flatten() else { continue };
            self.llm_calls += 1;
            call.row.capture_id = self.capture_id.clone();
            call.row.llm_call_id = self.llm_calls;
            call.row.proc_id = done.proc_id;
            let rows = self.tools.take(&call, done.proc_id);
            self.output.row(&call.row);
            rows.iter().for_each(|row| self.output.row(row));
        }
    }

    fn note(&mut self, json: &[u8]) {
        let Ok(note) = serde_json::from_slice::<serde_json::Value>(json) else { return };
        if note.get("what").and_then(|what| what.as_str()) == Some("command_exit") {
            self.exit_code = note.get("status").and_then(|status| status.as_i64());
        }
    }

    fn count_drops(&mut self, counters: &[DropCounter], clocks: Clocks) {
        for counter in counters {
            let key = (counter.source.get(), counter.cpu.get(), counter.reason.get());
            let now = (counter.records.get(), counter.bytes.get());
            let before = self.drops.insert(key, now).unwrap_or_default();
            if now.0 <= before.0 {
                continue;
            }
            let source =
                Source::from_number(key.0).map_or_else(|| key.0.to_string(), |source| source.name().to_owned());
            self.output.row(&tables::Dropped {
                capture_id: self.capture_id.clone(),
                ts: self.clock.at(self.last_clocks.unwrap_or(clocks).boottime),
                end_ts: Some(self.clock.at(clocks.boottime)),
                source: Some(source),
                cpu: Some(key.1.into()),
                reason: drop_reason::name(key.2).map_or_else(|| key.2.to_string(), str::to_owned),
                records: Some(signed(now.0 - before.0)),
                bytes: Some(signed(now.1.saturating_sub(before.1))),
            });
        }
    }

    fn damaged(&mut self, damage: Damage) {
        self.output.row(&tables::Dropped {
            capture_id: self.capture_id.clone(),
            ts: self.clock.at(damage.after.or(self.last_clocks).unwrap_or_default().boottime),
            end_ts: None,
            source: None,
            cpu: None,
            reason: "damage".to_owned(),
            records: None,
            bytes: Some(signed(damage.end.saturating_sub(damage.offset))),
        });
        self.damage.push(damage);
    }

    fn finish(mut self, head: &agentsight_formats::Head, file: &str, finished: bool) -> Report {
        while let Some(record) = self.order.pop_any() {
            if self.output.stopped {
                break;
            }
            self.record(&record);
        }
        let end = self.clock.at(self.last_clocks.unwrap_or_default().boottime);
        self.connections.finish(end, &self.wanted, &mut self.output);
        self.take_exchanges();
        self.tools.finish().iter().for_each(|row| self.output.row(row));
        for (process, exec) in self.processes.finish() {
            exec.iter().for_each(|row| self.output.row(row));
            self.output.row(&process);
        }
        let dropped = self.drops.values().map(|(records, _)| records).sum();
        let metadata = &head.metadata;
        self.output.row(&tables::Capture {
            capture_id: self.capture_id.clone(),
            started_at: self.clock.at(metadata.clocks.boottime),
            ended_at: self.last_clocks.map(|clocks| self.clock.at(clocks.boottime)),
            host: metadata.host.clone(),
            kernel: metadata.kernel.clone(),
            arch: metadata.arch.clone(),
            capturer_version: metadata.capturer_version.clone(),
            command_line: metadata.command_line.clone(),
            working_directory: metadata.working_directory.clone(),
            user_name: metadata.user_name.clone(),
            exit_code: self.exit_code,
            file: file.to_owned(),
            segments: self.segments.len() as i64,
            records: signed(self.records),
            dropped_records: signed(dropped),
            complete: finished && self.damage.is_empty(),
        });
        Report {
            damage: self.damage.iter().map(Damage::to_string).collect(),
            dropped_records: dropped,
            records: self.records,
        }
    }
}

/// A UUID in its usual form (RFC 9562, 4).
fn uuid(bytes: &[u8; 16]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
