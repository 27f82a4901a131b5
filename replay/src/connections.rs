//! Connections: their streams with gaps where bytes are missing, and the HTTP that they carry.

use crate::exchange::{self, Context, Exchange};
use crate::pipeline::{Output, Wanted};
use crate::processes::signed;
use crate::table::Timestamp;
use crate::tables;
use agentsight_formats::record::{self, Header, direction, library};
use std::collections::BTreeMap;

/// An exchange that is done, with the process that had it.
pub(crate) struct Done {
    pub exchange: Exchange,
    pub proc_id: i64,
}

struct Open {
    tgid: u32,
    row: tables::Connection,
    /// Offset of the next byte, sent and received.
    next: [u64; 2],
    http: exchange::Connection,
}

/// The connections of a capture.
pub(crate) struct Connections {
    capture_id: String,
    open: BTreeMap<u64, Open>,
    count: i64,
    tls_rows: i64,
    http_ids: i64,
    /// Exchanges that wait for the next stage.
    pub done: Vec<Done>,
}

impl Connections {
    pub fn new(capture_id: String) -> Self {
        Connections { capture_id, open: BTreeMap::new(), count: 0, tls_rows: 0, http_ids: 0, done: Vec::new() }
    }

    /// Takes a piece of plaintext.
    pub fn data(
        &mut self,
        header: &Header,
        tls: &record::TlsData,
        data: &[u8],
        (proc_id, ts): (i64, Timestamp),
        wanted: &Wanted,
        output: &mut Output<'_>,
    ) {
        let raw_id = tls.conn_id.get();
        let received = tls.direction.get() == direction::RECEIVED;
        let side = usize::from(received);
        let mut open = match self.open.remove(&raw_id) {
            Some(open) => open,
            None => self.new_connection(header.tgid.get(), tls.library.get(), proc_id, ts),
        };
        let (offset, len) = (tls.stream_offset.get(), u64::from(tls.len.get()));
        self.tls_rows += 1;
        if output.wants(tables::TlsData::TABLE) {
            let with_data = output.wants_column(tables::TlsData::TABLE, "data");
            output.row(&tables::TlsData {
                capture_id: self.capture_id.clone(),
                seq: self.tls_rows - 1,
                ts,
                proc_id,
                tid: header.tid.get().into(),
                conn_id: open.row.conn_id,
                direction: if received { "received" } else { "sent" },
                stream_offset: signed(offset),
                len: signed(len),
                captured_len: data.len() as i64,
                data: if with_data { data.to_vec() } else { Vec::new() },
            });
        }
        let missing = offset.saturating_sub(open.next[side]);
        let uncaptured = len.saturating_sub(data.len() as u64);
        // What comes late was taken for missing already.
        let late = open.next[side].saturating_sub(offset);
        open.next[side] = open.next[side].max(offset.saturating_add(len));
        let bytes_so_far = signed(open.next[side]);
        if received {
            open.row.bytes_received = bytes_so_far
        } else {
            open.row.bytes_sent = bytes_so_far
        }
        open.row.gap_bytes = open.row.gap_bytes.saturating_add(signed(missing.saturating_add(uncaptured)));
        if wanted.http {
            let fresh = data.get(usize::try_from(late).unwrap_or(usize::MAX)..).unwrap_or_default();
            let mut context = Context { next_http_id: &mut self.http_ids, keep_bodies: wanted.bodies };
            let mut done = Vec::new();
            if missing > 0 {
                open.http.gap(side, ts, missing, &mut context, &mut done);
            }
            if !fresh.is_empty() {
                open.http.push(side, ts, fresh, &mut context, &mut done);
            }
            if uncaptured > 0 && late == 0 {
                open.http.gap(side, ts, uncaptured, &mut context, &mut done);
            }
            self.take(&mut open, done, output);
        }
        self.open.insert(raw_id, open);
    }

    /// A connection that was open when a segment started. Of one that is not known, everything before is missing.
    pub fn snapshot(&mut self, tgid: u32, connection: &record::Connection, proc_id: i64, opened: Timestamp) {
        let raw_id = connection.conn_id.get();
        if self.open.contains_key(&raw_id) {
            return;
        }
        let mut open = self.new_connection(tgid, connection.library.get(), proc_id, opened);
        let (sent, received) = (connection.sent.get(), connection.received.get());
        open.next = [sent, received];
        open.row.bytes_sent = signed(sent);
        open.row.bytes_received = signed(received);
        open.row.gap_bytes = signed(sent.saturating_add(received));
        self.open.insert(raw_id, open);
    }

    pub fn close(&mut self, raw_id: u64, ts: Timestamp, wanted: &Wanted, output: &mut Output<'_>) {
        if let Some(open) = self.open.remove(&raw_id) {
            self.end(open, ts, true, wanted, output);
        }
    }

    /// The process is gone, or has become another program: its connections are closed.
    pub fn close_all_of(&mut self, tgid: u32, ts: Timestamp, wanted: &Wanted, output: &mut Output<'_>) {
        let ids: Vec<u64> = self.open.iter().filter(|(_, open)| open.tgid == tgid).map(|(id, _)| *id).collect();
        ids.into_iter().for_each(|id| self.close(id, ts, wanted, output));
    }

    /// The capture ends.
    pub fn finish(&mut self, ts: Timestamp, wanted: &Wanted, output: &mut Output<'_>) {
        while let Some((_, open)) = self.open.pop_first() {
            self.end(open, ts, false, wanted, output);
        }
    }

    fn end(&mut self, mut open: Open, ts: Timestamp, closed: bool, wanted: &Wanted, output: &mut Output<'_>) {
        if wanted.http {
            let mut context = Context { next_http_id: &mut self.http_ids, keep_bodies: wanted.bodies };
            let mut done = Vec::new();
            open.http.finish(ts, closed, &mut context, &mut done);
            self.take(&mut open, done, output);
        }
        open.row.closed_at = closed.then_some(ts);
        output.row(&open.row);
    }

    fn new_connection(&mut self, tgid: u32, library: u16, proc_id: i64, opened_at: Timestamp) -> Open {
        self.count += 1;
        let row = tables::Connection {
            capture_id: self.capture_id.clone(),
            conn_id: self.count,
            proc_id,
            opened_at,
            tls_library: library::name(library).map(str::to_owned),
            tls_seen: true,
            plaintext_seen: true,
            ..tables::Connection::default()
        };
        Open { tgid, row, next: [0; 2], http: exchange::Connection::default() }
    }

    fn take(&mut self, open: &mut Open, done: Vec<Exchange>, output: &mut Output<'_>) {
        if open.http.http2 {
            open.row.alpn = Some("h2".to_owned());
        }
        for mut exchange in done {
            open.row.alpn.get_or_insert_with(|| "http/1.1".to_owned());
            if let (None, Some(head)) = (&open.row.server_name, &exchange.request) {
                open.row.server_name = head.field("host").map(|host| host.split(':').next().unwrap_or(host).to_owned());
            }
            if output.wants(tables::StreamEvent::TABLE) {
                self.event_rows(&exchange, output);
            }
            if output.wants(tables::Http::TABLE) {
                self.http_row(open, &mut exchange, output);
            }
            self.done.push(Done { exchange, proc_id: open.row.proc_id });
        }
    }

    fn event_rows(&self, exchange: &Exchange, output: &mut Output<'_>) {
        for (idx, (ts, event)) in (0..).zip(&exchange.events) {
            output.row(&tables::StreamEvent {
                capture_id: self.capture_id.clone(),
                http_id: exchange.http_id,
                idx,
                ts: *ts,
                framing: "sse",
                direction: "received",
                event: event.name.clone(),
                data_len: event.data.len() as i64,
                data: event.data.clone(),
            });
        }
    }

    fn http_row(&self, open: &Open, exchange: &mut Exchange, output: &mut Output<'_>) {
        let (request, response) = (exchange.request.as_ref(), exchange.response.as_ref());
        let (path, query) = request.map(|head| split_target(&head.target)).unwrap_or_default();
        let field =
            |head: Option<&crate::message::Head>, name| head.and_then(|head| head.field(name)).map(str::to_owned);
        let version = response.or(request).map(|head| head.version.clone()).unwrap_or_default();
        let row = tables::Http {
            capture_id: self.capture_id.clone(),
            http_id: exchange.http_id,
            conn_id: open.row.conn_id,
            stream_id: exchange.stream_id,
            proc_id: open.row.proc_id,
            protocol_version: version,
            method: request.map(|head| head.method.clone()),
            scheme: "https".to_owned(),
            server_address: field(request, "host"),
            path,
            query,
            status_code: response.map(|head| head.status.into()),
            request_ts: request.map(|head| head.ts),
            response_ts: response.map(|head| head.ts),
            end_ts: exchange.end_ts,
            request_bytes: signed(exchange.request_body.wire_len),
            response_bytes: signed(exchange.response_body.wire_len),
            request_content_type: field(request, "content-type"),
            response_content_type: field(response, "content-type"),
            content_encoding: field(response, "content-encoding"),
            request_headers: request.map(fields),
            response_headers: response.map(fields),
            // The next stage reads the bodies, too: they are lent to the row.
            request_body: request.map(|_| std::mem::take(&mut exchange.request_body.data)),
            response_body: response.map(|_| std::mem::take(&mut exchange.response_body.data)),
            body_state: exchange.body_state().name(),
            end_reason: exchange.end_reason,
        };
        output.row(&row);
        exchange.request_body.data = row.request_body.unwrap_or_default();
        exchange.response_body.data = row.response_body.unwrap_or_default();
    }
}

/// Path and query of a request target, which may be a whole URL.
fn split_target(target: &str) -> (Option<String>, Option<String>) {
    let path = match target.split_once("://") {
        Some((_, rest)) => rest.find('/').map_or("/", |slash| &rest[slash..]),
        None => target,
    };
    match path.split_once('?') {
        Some((path, query)) => (Some(path.to_owned()), Some(query.to_owned())),
        None => (Some(path.to_owned()), None),
    }
}

fn fields(head: &crate::message::Head) -> String {
    serde_json::Value::from_iter(
        head.fields.iter().map(|(name, value)| serde_json::Value::from(vec![name.as_str(), value.as_str()])),
    )
    .to_string()
}
