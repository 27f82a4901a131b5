//! Makes seeds for the fuzz targets out of captures: `fuzz-seeds FOLDER CAPTURE…` writes `FOLDER/TARGET/…`. Run by `scripts/fuzz`.

use agentsight_formats::record::{Body, direction, socket_content};
use agentsight_formats::{Item, Reader};
use agentsight_replay::table::{Row, TableDef};
use agentsight_replay::tables::{Exec, Http, Stdio, StreamEvent, ToolCall};
use agentsight_replay::{Sink, replay};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::BufReader;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Longest seed in bytes: what is longer finds nothing that shorter ones do not, and slowly.
const MAX_SEED: usize = 32 << 10;

struct Seeds {
    folder: PathBuf,
    count: usize,
    /// What goes through the standard streams of processes that speak JSON-RPC.
    spoken: BTreeMap<i64, Vec<u8>>,
}

impl Seeds {
    fn add(&mut self, target: &str, seed: &[u8]) {
        if seed.is_empty() || seed.len() > MAX_SEED {
            return;
        }
        self.count += 1;
        let folder = self.folder.join(target);
        let written = fs::create_dir_all(&folder).and_then(|()| fs::write(folder.join(self.count.to_string()), seed));
        written.unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    }

    /// What stands in the records themselves.
    fn records(&mut self, path: &Path) -> Result<()> {
        let mut reader = Reader::open(BufReader::new(File::open(path)?))?;
        let mut connections: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
        let mut some = Vec::new();
        while let Some(item) = reader.next_item()? {
            let Item::Piece(piece) = item else { continue };
            for record in piece.records().map_while(std::result::Result::ok) {
                let padded =
                    |record: &[u8]| [record, &[0; 8][..record.len().next_multiple_of(8) - record.len()]].concat();
                if some.len() < MAX_SEED / 2 && record.bytes.len() < 2048 {
                    some.extend(padded(record.bytes));
                }
                match record.body()? {
                    Body::TlsData { tls, data } => {
                        let side = usize::from(tls.direction.get() == direction::RECEIVED);
                        encode(side, data, connections.entry(tls.conn_id.get()).or_default());
                    }
                    Body::SocketData { data, bytes } if data.content.get() == socket_content::DNS => {
                        self.add("dns", bytes)
                    }
                    Body::SocketData { bytes, .. } => self.add("tls_hello", bytes),
                    _ => {}
                }
            }
        }
        self.add("records_of", &some);
        self.add("capture", &some);
        for stream in connections.into_values() {
            let target = if stream.windows(14).any(|bytes| bytes == b"PRI * HTTP/2.0") { "http2" } else { "http1" };
            self.add(target, &stream);
            self.add("conversation", &stream);
        }
        Ok(())
    }

    fn exchange(&mut self, http: &Http) {
        let path = http.path.as_deref().unwrap_or_default();
        let kind = http.response_content_type.as_deref().unwrap_or_default();
        let (request, response) = (http.request_body.as_deref(), http.response_body.as_deref());
        let (request, response) = (request.unwrap_or_default(), response.unwrap_or_default());
        let streams = [
            ("text/event-stream", "sse"),
            ("application/x-ndjson", "ndjson"),
            ("application/vnd.amazon.eventstream", "event_stream"),
            ("application/json", "json_array"),
        ];
        for (media, target) in streams {
            if kind.starts_with(media) {
                self.add(target, response);
            }
        }
        if is_jsonrpc(request) {
            let how = if kind.starts_with("text/event-stream") { 3 } else { 1 };
            self.add("mcp", &[&[how][..], request, &[0], response].concat());
        }
        let types =
            ["application/json", "text/event-stream", "application/x-ndjson", "application/vnd.amazon.eventstream"];
        let how = types.iter().position(|media| kind.starts_with(media)).unwrap_or_default();
        let call = [&[how as u8], request, &[0], response].concat();
        let apis =
            [("/messages", "anthropic"), ("/chat/completions", "openai_chat"), ("/responses", "openai_responses")];
        match apis.iter().find(|(end, _)| path.ends_with(end)) {
            Some((_, target)) => self.add(target, &call),
            None => self.add("calls", &[&[path.len() as u8], path.as_bytes(), &call].concat()),
        }
        for (number, coding) in (1..).zip(["gzip", "deflate", "br", "zstd"]) {
            if http.content_encoding.as_deref() == Some(coding) {
                self.add("body", &[&[number][..], response].concat());
            }
        }
    }
}

fn is_jsonrpc(bytes: &[u8]) -> bool {
    bytes.windows(9).any(|bytes| bytes == b"\"jsonrpc\"")
}

/// As `pieces` in `src/fuzz/mod.rs` takes them.
fn encode(side: usize, bytes: &[u8], out: &mut Vec<u8>) {
    for piece in bytes.chunks(255 + 64 * 63) {
        let blocks = piece.len().saturating_sub(255).div_ceil(64);
        out.extend([side as u8 | (blocks as u8) << 2, (piece.len() - 64 * blocks) as u8]);
        out.extend_from_slice(piece);
    }
}

impl Sink for Seeds {
    fn wants(&self, table: &TableDef) -> bool {
        [Http::TABLE, StreamEvent::TABLE, Exec::TABLE, ToolCall::TABLE, Stdio::TABLE]
            .iter()
            .any(|wanted| wanted.name == table.name)
    }

    fn row(&mut self, row: &dyn Row) -> ControlFlow<()> {
        if let Some(http) = row.downcast::<Http>() {
            self.exchange(http);
        } else if let Some(exec) = row.downcast::<Exec>() {
            self.add("shell_line", exec.command_line.as_bytes());
        } else if let Some(piece) = row.downcast::<Stdio>().filter(|piece| piece.fd < 2) {
            let spoken = self.spoken.entry(piece.proc_id).or_insert_with(|| vec![0]);
            encode(usize::from(piece.direction == "received"), &piece.data, spoken);
        } else if let Some(event) = row.downcast::<StreamEvent>()
            && event.framing == "ws"
        {
            let mark = if event.direction == "sent" { ">" } else { "" };
            self.add("sessions", format!("{mark}{}", event.data).as_bytes());
        }
        ControlFlow::Continue(())
    }
}

fn main() -> Result<()> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let folder = args.next().ok_or("fuzz-seeds FOLDER CAPTURE…")?;
    let mut seeds = Seeds { folder, count: 0, spoken: BTreeMap::new() };
    for path in args {
        seeds.records(&path)?;
        let open = |_| Reader::open(BufReader::new(File::open(&path)?));
        replay(&[path.display().to_string()], &mut { open }, &mut seeds)?;
        for seed in std::mem::take(&mut seeds.spoken).into_values().filter(|seed| is_jsonrpc(seed)) {
            seeds.add("mcp", &seed);
        }
    }
    // What no capture holds: frames of a WebSocket and header blocks by themselves.
    seeds.add(
        "websocket",
        b"\x01\x00\x0b\x81\x85\x01\x02\x03\x04igopn\x01\x07\x81\x05hello\x01\x06\xc1\x04\x4a\xce\x04\x00",
    );
    seeds.add(
        "websocket",
        b"\x02\x01\x09\xc1\x07\xf2\x48\xcd\xc9\xc9\x07\x00\x01\x04\x88\x02\x03\xe8\x00\x08\x89\x80\x01\x02\x03\x04",
    );
    seeds.add("hpack", b"\x11\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff\x0c\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf");
    seeds.add("hpack", b"\x0c\x40\x03key\x05value\xbe\x04\x20\x3f\xe1\x1f\x06\x7f\x07\x01x\xbe\x82");
    Ok(())
}
