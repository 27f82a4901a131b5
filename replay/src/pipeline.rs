//! The pipeline: records in total order go to the processes and the connections; exchanges, model calls and tool calls grow
//! out of the connections; every finished row goes to the sink. Stages that feed no wanted table do not run.

use crate::ahead::Ahead;
use crate::clock::WallClock;
use crate::connections::{Connections, Done};
use crate::dns::Dns;
use crate::exchange::{Exchange, Kind};
use crate::files::{Files, Paths};
use crate::llm;
use crate::llm::context::Contexts;
use crate::llm::resent::Resent;
use crate::llm::sessions::Sessions;
use crate::losses::Losses;
use crate::order::Order;
use crate::output::Output;
use crate::pieces::pieces;
use crate::processes::{Processes, text};
use crate::recording::Recording;
use crate::signals::{Answered, Asking, Started, Unwatched};
use crate::stdio::Stdio;
use crate::table::Timestamp;
use crate::tables;
use crate::tools::Tools;
use crate::values;
use crate::wanted::{Part, Wanted};
use crate::{Error, Named, Report, Sink};
use agentsight_formats::record::{
    self, Body, CAPTURER_CPU, Header, Record, SocketData, StdioData, Sums, TlsData, kind, socket_content, sums_of, way,
};
use agentsight_formats::{self as formats, Clocks, Damage, Head, Item, Piece, Reader};
use std::io::{Read, Seek};
use zerocopy::IntoBytes;

pub(crate) struct Pipeline<'s> {
    capture_id: String,
    wanted: Wanted,
    output: Output<'s>,
    clock: WallClock,
    order: Order,
    ahead: Ahead,
    processes: Processes,
    connections: Connections,
    dns: Dns,
    files: Files,
    stdio: Stdio,
    tools: Tools,
    contexts: Contexts,
    sessions: Sessions,
    resent: Resent,
    llm_calls: i64,
    recording: Recording,
    losses: Losses,
    last_clocks: Option<Clocks>,
    /// The one that is being read.
    segment: Option<u64>,
    /// The capture is still being written: what lies ahead is not known.
    live: bool,
}

/// See [`crate::replay`].
pub(crate) fn replay<R: Read + Seek>(
    files: &[String],
    open: &mut dyn FnMut(usize) -> Result<Reader<R>, formats::Error>,
    sink: &mut dyn Sink,
) -> Result<Vec<Report>, Error> {
    let output = Output::new(sink);
    let wanted = Wanted::of(&output);
    let mut ahead = Ahead::default();
    for (index, file) in files.iter().enumerate() {
        let mut reader = open(index).map_err(at(file))?;
        ahead.read(&mut reader).map_err(at(file))?;
    }
    let mut files = files.iter().enumerate();
    run(&mut || files.next().map(|(index, file)| (file.clone(), open(index))), (wanted, ahead, output), false)
}

/// See [`crate::follow`].
pub(crate) fn follow<R: Read + Seek>(next: &mut Next<'_, R>, sink: &mut dyn Sink) -> Result<Vec<Report>, Error> {
    let output = Output::new(sink);
    run(next, (Wanted::of(&output), Ahead::default(), output), true)
}

/// Gives the next file.
type Next<'n, R> = dyn FnMut() -> Option<Named<R>> + 'n;

fn at(file: &str) -> impl FnOnce(formats::Error) -> Error {
    let file = file.to_owned();
    move |source| Error::Read { file, source }
}

/// Runs the files of a recording through the pipeline.
fn run<R: Read + Seek>(
    next: &mut Next<'_, R>,
    prepared: (Wanted, Ahead, Output<'_>),
    live: bool,
) -> Result<Vec<Report>, Error> {
    let mut prepared = Some(prepared);
    let mut pipeline: Option<Pipeline<'_>> = None;
    let mut reports = Vec::new();
    while let Some((file, reader)) = next() {
        let mut reader = reader.map_err(at(&file))?;
        if let Some((wanted, ahead, output)) = prepared.take() {
            pipeline = Some(Pipeline::new(reader.head(), wanted, ahead, output));
            pipeline.iter_mut().for_each(|pipeline| pipeline.live = live);
        }
        let Some(pipeline) = &mut pipeline else { break };
        pipeline.begin(&file, reader.head())?;
        while let Some(item) = reader.next_item().map_err(at(&file))? {
            match item {
                Item::Piece(piece) => pipeline.piece(&piece),
                Item::Damage(damage) => pipeline.damaged(&damage),
            }
            if pipeline.output.stopped {
                break;
            }
        }
        reports.push(pipeline.end(reader.finished()));
        if pipeline.output.stopped {
            break;
        }
    }
    if let Some(pipeline) = pipeline {
        pipeline.finish();
    }
    Ok(reports)
}

impl<'s> Pipeline<'s> {
    fn new(head: &Head, wanted: Wanted, ahead: Ahead, mut output: Output<'s>) -> Self {
        let recording = Recording::new(head);
        let capture_id = recording.capture_id.clone();
        output.begin(&capture_id);
        let start = head.metadata.clocks;
        Pipeline {
            wanted,
            output,
            clock: WallClock::new(start),
            order: Order::default(),
            ahead,
            processes: Processes::new(capture_id.clone()),
            connections: Connections::new(capture_id.clone()),
            dns: Dns::new(capture_id.clone()),
            files: Files::new(capture_id.clone(), head.metadata.arch.clone()),
            stdio: Stdio::default(),
            tools: Tools::new(capture_id.clone()),
            contexts: Contexts::new(capture_id.clone()),
            sessions: Sessions::default(),
            resent: Resent::default(),
            llm_calls: 0,
            recording,
            losses: Losses::new(capture_id.clone()),
            last_clocks: Some(start).filter(|clocks| *clocks != Clocks::default()),
            segment: None,
            live: false,
            capture_id,
        }
    }

    /// A file begins.
    fn begin(&mut self, file: &str, head: &Head) -> Result<(), Error> {
        if self.live {
            self.ahead.begin(head);
        }
        let missing = self.recording.begin(file, head)?;
        if missing > 0 {
            let clocks = head.metadata.clocks;
            let row = self.losses.missing_parts(missing, (self.last_clocks.unwrap_or(clocks), clocks), self.clock);
            self.output.row(&row);
        }
        Ok(())
    }

    fn piece(&mut self, piece: &Piece) {
        let now = piece.clocks();
        if self.last_clocks.is_none() {
            // The head is damaged: the first checkpoint has the clocks as well.
            self.clock = WallClock::new(now);
        }
        if self.segment != Some(piece.segment) {
            self.segment = Some(piece.segment);
            self.recording.segments += 1;
        }
        if self.live {
            self.ahead.piece(piece);
        }
        if let Some(holes) = self.ahead.holes.spans(self.clock) {
            self.connections.holes = holes;
        }
        for (source, count) in std::mem::take(&mut self.ahead.left_out) {
            self.losses.beyond(source, count);
        }
        for record in piece.records().map_while(Result::ok) {
            self.losses.record(&record);
            self.hold(&record);
            self.in_turn();
        }
        if self.live {
            // Whatever happened before the flush is in it: nobody waits for the next event to see the last one.
            self.order.advance(now.boottime);
            self.in_turn();
        }
        let rows = self.losses.piece(piece.drops(), (self.last_clocks.unwrap_or(now), now), self.clock);
        rows.iter().for_each(|row| self.output.row(row));
        self.last_clocks = Some(now);
    }

    /// Puts a record in its place, or as much of it as is wanted.
    fn hold(&mut self, record: &Record<'_>) {
        let header = record.header;
        let bytes = match self.wanted.part_of(header.kind.get()) {
            Part::All => record.bytes,
            Part::Header => header.as_bytes(),
            Part::Nothing => return,
        };
        self.order.push((header.time.get(), header.cpu.get(), header.seq.get()), bytes, record.bytes.len());
    }

    /// Takes the records whose turn has come.
    fn in_turn(&mut self) {
        while let Some(record) = self.order.pop() {
            self.record(&record);
        }
    }

    fn record(&mut self, bytes: &[u8]) {
        let Some(record) = Record::from_bytes(bytes) else { return };
        match record.body() {
            Ok(body) => self.body(&record, body),
            Err(_) if record.header.kind.get() == kind::SUMS => {}
            // Only the header was held; or the record is too short for its kind, which has been counted.
            Err(_) => {
                self.processes.id(record.header.tgid.get());
            }
        }
        self.take_given_up();
    }

    /// Tells what there was no room for any longer.
    fn take_given_up(&mut self) {
        let gone = std::mem::take(&mut self.processes.given_up);
        self.losses.beyond("process", gone.len() as u64);
        self.tell_last(gone);
        self.losses.beyond("file", std::mem::take(&mut self.files.forgotten));
        self.losses.beyond("net", std::mem::take(&mut self.connections.given_up));
    }

    fn tell_last(&mut self, gone: Vec<(tables::Process, Option<tables::Exec>)>) {
        for (process, exec) in gone {
            exec.iter().for_each(|row| self.output.row(row));
            self.output.row(&process);
        }
    }

    fn body(&mut self, record: &Record<'_>, body: Body<'_>) {
        let (header, tgid, time) = (record.header, record.header.tgid.get(), record.header.time.get());
        let ts = self.clock.at(time);
        self.connections.settle(ts, &self.wanted, &mut self.output);
        self.take_exchanges();
        match body {
            Body::Fork(fork) => {
                let lost = self.processes.fork(tgid, fork, self.clock.at(fork.child_start.get()));
                self.started(fork.child_tgid.get());
                lost.iter().for_each(|row| self.output.row(row));
            }
            Body::Process { process, path, cwd, args } => {
                let times = (ts, self.clock.at(process.start.get()));
                let (lost, running) = self.processes.snapshot(tgid, process, (path, cwd, args), times);
                self.started(tgid);
                lost.iter().for_each(|row| self.output.row(row));
                running.iter().for_each(|row| self.output.row(row));
            }
            Body::Identity(identity) => self.processes.identity(tgid, identity),
            Body::Descriptor { descriptor, target } => {
                if let Some(proc_id) = self.processes.described(tgid, descriptor) {
                    let (capture_id, fd) = (self.capture_id.clone(), descriptor.fd.get().into());
                    self.output.row(&tables::Descriptor { capture_id, ts, proc_id, fd, target: text(target) });
                }
            }
            Body::Exec { exec, path, cwd, .. } => {
                self.close_connections_of(tgid, ts, false);
                let (start, known) = (self.clock.at(exec.start.get()), self.processes.parent(tgid).is_some());
                let unfinished = self.processes.exec(tgid, exec, (path, cwd), (ts, start), &self.connections.holes);
                unfinished.iter().for_each(|row| self.output.row(row));
                if !known {
                    self.started(tgid);
                }
            }
            Body::ExecArgs { args, data } => {
                self.processes.exec_args(tgid, args, data).iter().for_each(|row| self.output.row(row));
            }
            Body::Exit(exit) => {
                self.close_connections_of(tgid, ts, true);
                let (process, exec) = self.processes.exit(tgid, exit, ts);
                exec.iter().for_each(|row| self.output.row(row));
                self.output.row(&process);
            }
            Body::Note { json } => self.note(json),
            Body::Sums(sums) => self.stays_open(sums, ts),
            other => {
                let proc_id = self.processes.id(tgid);
                self.of_process(header, other, (proc_id, ts));
            }
        }
    }

    /// Takes what went through a file or socket that was open when recording ended.
    fn stays_open(&mut self, sums: &Sums, ts: Timestamp) {
        match sums.what.get() {
            sums_of::FILE => self.files.stays_open(sums, ts).iter().for_each(|row| self.output.row(row)),
            sums_of::SOCKET | sums_of::PEER => self.connections.stays_open(sums, ts, &self.wanted, &mut self.output),
            _ => {}
        }
        self.take_exchanges();
    }

    /// Says whose child a process is.
    fn started(&mut self, tgid: u32) {
        if let Some((proc_id, parent_proc_id)) = self.processes.parent(tgid) {
            self.output.tell(&Started { proc_id, parent_proc_id });
        }
    }

    /// Takes what a process did.
    fn of_process(&mut self, header: &Header, body: Body<'_>, by: (i64, Timestamp)) {
        let (wanted, output) = (&self.wanted, &mut self.output);
        match body {
            Body::TlsData { tls, data } => return self.plaintext((header, tls, data), by),
            Body::TlsClose(close) => {
                self.connections.close_tls(&close, by.1, &self.ahead, wanted, output);
            }
            Body::Connection(connection) => {
                let opened = self.clock.at(connection.opened.get());
                self.connections.snapshot(connection, (by.0, opened), &self.ahead, wanted, output);
            }
            Body::Socket { socket, path } => {
                let name_of = |proc_id, address| self.dns.name_of(proc_id, address);
                self.connections.socket((socket, path), by, name_of, wanted, output);
            }
            Body::SocketData { data, bytes } => self.socket_data(data, bytes, by),
            Body::File { file, base, path, new_base, new_path } => {
                let paths = Paths { base, path, new_base, new_path };
                self.files.record(file, &paths, by.0, by.1).iter().for_each(|row| output.row(row));
            }
            Body::StdioData { stdio, data } => {
                let known = (&self.ahead, &self.processes);
                for (piece, offset, len) in pieces(data, stdio.stream_offset.get(), stdio.len.get()) {
                    let stdio = StdioData { stream_offset: offset.into(), len: len.into(), ..*stdio };
                    self.stdio.data((header, &stdio, piece), (&self.capture_id, by.0, by.1), known, output);
                }
            }
            Body::Metric(metric) => self.metric(metric, by),
            Body::Unwatched(unwatched) => {
                let way = way::name(unwatched.way.get()).unwrap_or("a way that this version does not know");
                output.tell(&Unwatched { proc_id: by.0, ts: by.1, way });
            }
            _ => {}
        }
        self.take_exchanges();
    }

    fn plaintext(&mut self, (header, tls, data): (&Header, &TlsData, &[u8]), by: (i64, Timestamp)) {
        for (piece, offset, len) in pieces(data, tls.stream_offset.get(), tls.len.get()) {
            let tls = TlsData { stream_offset: offset.into(), len: len.into(), ..*tls };
            let (wanted, output) = (&self.wanted, &mut self.output);
            if let Some(of_dns) = self.connections.data((header, &tls, piece), by, &self.ahead, wanted, output) {
                let rows = self.dns.stream((&of_dns, &tls, piece), by.0, (header.time.get(), by.1));
                rows.iter().for_each(|row| output.row(row));
            }
            self.take_exchanges();
        }
    }

    fn socket_data(&mut self, data: &SocketData, bytes: &[u8], (proc_id, ts): (i64, Timestamp)) {
        let peer = self.connections.socket_data((data, bytes), (proc_id, ts), &self.wanted, &mut self.output);
        if data.content.get() == socket_content::DNS && data.header.cpu.get() != CAPTURER_CPU {
            let row = self.dns.datagram((data, bytes, peer), proc_id, (data.header.time.get(), ts));
            row.iter().for_each(|row| self.output.row(row));
        }
    }

    fn metric(&mut self, metric: &record::Metric, (proc_id, ts): (i64, Timestamp)) {
        let number = metric.name.get();
        let (name, unit) = record::metric::name(number)
            .map_or_else(|| (number.to_string(), String::new()), |(name, unit)| (name.to_owned(), unit.to_owned()));
        let value = metric.value.get();
        self.output.row(&tables::Metric { capture_id: self.capture_id.clone(), ts, proc_id, name, unit, value });
    }

    fn close_connections_of(&mut self, tgid: u32, ts: Timestamp, exited: bool) {
        self.connections.close_all_of(tgid, ts, exited, &self.wanted, &mut self.output);
        self.take_exchanges();
    }

    /// Makes model calls and tool calls of the exchanges that are done.
    fn take_exchanges(&mut self) {
        if !self.wanted.llm {
            self.connections.done.clear();
        }
        for Done { exchange, proc_id } in std::mem::take(&mut self.connections.done) {
            let http_id = exchange.http_id;
            if exchange.kind == Kind::Whole {
                self.call(&exchange, proc_id);
                self.output.tell(&Answered { http_id });
                continue;
            }
            let asked = self.sessions.asks(http_id);
            for mut exchange in self.sessions.take(exchange) {
                self.connections.attempts.take(&mut exchange, proc_id);
                self.call(&exchange, proc_id);
            }
            match (asked, self.sessions.asks(http_id)) {
                (true, false) => self.output.tell(&Answered { http_id }),
                (false, true) => self.output.tell(&Asking { http_id, proc_id }),
                _ => {}
            }
        }
    }

    /// Takes an exchange that may be a call of a model.
    fn call(&mut self, exchange: &Exchange, proc_id: i64) {
        let Some(mut call) = llm::call(exchange, proc_id, &mut self.resent) else { return };
        self.llm_calls += 1;
        call.row.capture_id = self.capture_id.clone();
        call.row.llm_call_id = self.llm_calls;
        call.row.proc_id = proc_id;
        call.row.attempt = exchange.attempt;
        let prices = self.output.prices();
        let tier = call.tier.as_deref();
        call.row.cost_usd = call.usage_is_final.then(|| prices.cost(&call.row, tier)).flatten();
        call.row.price_table = call.row.cost_usd.map(|_| prices.id.clone());
        self.recording.called(exchange.request.as_ref().and_then(|head| head.field("user-agent")));
        let context = self.contexts.take(&mut call, &mut self.output);
        let rows = self.tools.take(&call, proc_id);
        self.output.row(&call.row);
        context.iter().for_each(|row| self.output.row(row));
        self.tools.requested.drain(..).for_each(|signal| self.output.tell(&signal));
        rows.iter().for_each(|row| self.output.row(row));
    }

    fn note(&mut self, json: &[u8]) {
        let Some(note) = values::parse(json) else { return };
        if note.get("what").and_then(|what| what.as_str()) == Some("command_exit") {
            self.recording.exit_code = note.get("status").and_then(|status| status.as_i64());
        }
    }

    fn damaged(&mut self, damage: &Damage) {
        self.recording.complete = false;
        let row = self.losses.damaged(damage, self.last_clocks.unwrap_or_default(), self.clock);
        self.output.row(&row);
    }

    /// A file ends.
    fn end(&mut self, finished: bool) -> Report {
        self.recording.complete &= finished;
        self.segment = None;
        self.losses.end_file()
    }

    fn finish(mut self) {
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
        self.stdio.finish(&self.processes, &mut self.output);
        self.dns.finish().for_each(|row| self.output.row(&row));
        let rest = self.processes.finish();
        self.tell_last(rest);
        self.losses.forgotten((end, None)).iter().for_each(|row| self.output.row(row));
        let row = self.recording.row(self.clock, self.last_clocks, self.losses.records, self.losses.dropped);
        self.output.row(&row);
        self.output.finish();
    }
}
