//! Captures that are made here, and what the pipeline makes of them.

#![allow(dead_code)] // Each test program uses a part.

pub mod log;
pub mod piped;
pub mod run;

use agentsight_formats::record::{
    self, Header, SocketData, TlsClose, TlsData, direction, kind, library, socket_content,
};
use agentsight_formats::{Clocks, Head, Metadata, Reader, Writer};
use agentsight_replay::table::{Row, TableDef, Value};
use agentsight_replay::{Report, Sink, replay};
use std::collections::BTreeMap;
use std::io::{Cursor, Write};
use std::ops::ControlFlow;
use zerocopy::FromZeros;

/// A row: its cells by name. Columns that hold nothing are left out.
pub type Cells = BTreeMap<&'static str, String>;

#[derive(Default)]
pub struct Collected {
    pub rows: Vec<(&'static str, Cells)>,
    pub only: Option<&'static str>,
}

impl Sink for Collected {
    fn wants(&self, table: &TableDef) -> bool {
        self.only.is_none_or(|only| only == table.name)
    }

    fn row(&mut self, row: &dyn Row) -> ControlFlow<()> {
        let cells = row.table().columns.iter().enumerate().filter_map(|(index, column)| {
            let text = match row.value(index) {
                Value::Null => return None,
                Value::Varchar(text) => text.to_owned(),
                Value::Varbinary(bytes) => String::from_utf8_lossy(bytes).into_owned(),
                Value::BigInt(number) => number.to_string(),
                Value::Timestamp(time) => time.to_string(),
                other => format!("{other:?}"),
            };
            Some((column.name, text))
        });
        self.rows.push((row.table().name, cells.collect()));
        ControlFlow::Continue(())
    }
}

impl Collected {
    pub fn table(&self, name: &str) -> Vec<&Cells> {
        self.rows.iter().filter(|(table, _)| *table == name).map(|(_, cells)| cells).collect()
    }

    /// These columns of the rows of a table.
    pub fn cells(&self, table: &str, names: &[&'static str]) -> Vec<Vec<&str>> {
        self.table(table).into_iter().map(|row| cells(row, names)).collect()
    }
}

/// These columns of a row; an empty text where it holds nothing.
pub fn cells<'a>(row: &'a Cells, names: &[&'static str]) -> Vec<&'a str> {
    names.iter().map(|name| row.get(name).map_or("", String::as_str)).collect()
}

/// Numbers that look like any: xorshift, the same ones every time.
pub fn random() -> impl FnMut() -> u64 {
    let mut state = 0x2545_F491_4F6C_DD1D_u64;
    move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    }
}

pub fn header(kind: u16, time: u64, tgid: u32) -> Header {
    Header { kind: kind.into(), time: time.into(), tgid: tgid.into(), tid: tgid.into(), ..Header::default() }
}

pub fn bytes<T: zerocopy::IntoBytes + zerocopy::Immutable>(fixed: &T, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    record::append(&mut out, fixed, parts);
    out
}

pub fn clocks(time: u64) -> Clocks {
    Clocks { boottime: time, monotonic: time, realtime: 1_000_000 + time as i64 }
}

/// A capture of these records, in two segments.
pub fn capture(records: &[Vec<u8>]) -> Vec<u8> {
    let metadata = Metadata { clocks: clocks(0), ..Metadata::default() };
    let mut writer = Writer::new(Vec::new(), &Head::new([7; 16], metadata)).unwrap();
    let (first, second) = records.split_at(records.len() / 2);
    for (time, half) in [first, second].into_iter().enumerate() {
        writer.begin_segment(&[], clocks(time as u64), &[]).unwrap();
        half.iter().for_each(|record| writer.push(record).unwrap());
        writer.checkpoint(clocks(1000 * (time as u64 + 1)), &[]).unwrap();
    }
    writer.finish().unwrap()
}

pub fn rows_of(file: &[u8], only: Option<&'static str>) -> (Collected, Report) {
    let mut sink = Collected { only, ..Collected::default() };
    let mut reports = replay(&["run.asc".to_owned()], &mut |_| Reader::open(Cursor::new(file)), &mut sink).unwrap();
    (sink, reports.remove(0))
}

pub fn rows(records: &[Vec<u8>]) -> Collected {
    rows_of(&capture(records), None).0
}

/// Builds the records of connections; each piece of plaintext comes a nanosecond after the one before.
#[derive(Default)]
pub struct Script {
    pub records: Vec<Vec<u8>>,
    pub offsets: BTreeMap<(u64, u16), u64>,
    pub time: u64,
    /// OpenSSL, unless said otherwise.
    pub library: u16,
    /// 10, unless said otherwise.
    pub tgid: u32,
}

impl Script {
    pub fn say(&mut self, conn_id: u64, direction: u16, data: &[u8]) {
        self.time += 1;
        let offset = self.offsets.entry((conn_id, direction)).or_default();
        let fixed = TlsData {
            header: header(kind::TLS_DATA, self.time, if self.tgid == 0 { 10 } else { self.tgid }),
            conn_id: conn_id.into(),
            stream_offset: (*offset).into(),
            len: (data.len() as u32).into(),
            captured: (data.len() as u32).into(),
            direction: direction.into(),
            library: if self.library == 0 { library::OPENSSL } else { self.library }.into(),
            reserved: 0.into(),
        };
        *offset += data.len() as u64;
        self.records.push(bytes(&fixed, &[data]));
    }

    /// A client greets a server of this name.
    pub fn greet(&mut self, socket_id: u64, host: &str) {
        self.time += 1;
        let hello = client_hello(host);
        let data = SocketData {
            header: header(kind::SOCKET_DATA, self.time, 10),
            socket_id: socket_id.into(),
            len: (hello.len() as u32).into(),
            captured: (hello.len() as u32).into(),
            direction: direction::SENT.into(),
            content: socket_content::TLS_HELLO.into(),
            ..SocketData::new_zeroed()
        };
        self.records.push(bytes(&data, &[&hello]));
    }

    pub fn close(&mut self, conn_id: u64) {
        self.time += 1;
        let header = header(kind::TLS_CLOSE, self.time, 10);
        let [sent, received] = [direction::SENT, direction::RECEIVED]
            .map(|direction| self.offsets.get(&(conn_id, direction)).copied().unwrap_or(0).into());
        self.records.push(bytes(&TlsClose { header, conn_id: conn_id.into(), sent, received }, &[]));
    }

    pub fn exchange(&mut self, request: &[u8], response: &[u8], size: usize) {
        request.chunks(size).for_each(|chunk| self.say(1, direction::SENT, chunk));
        response.chunks(size).for_each(|chunk| self.say(1, direction::RECEIVED, chunk));
    }
}

/// A TLS record with a hello in it (RFC 8446, 4.1.2), with one extension at most.
pub fn hello(kind: u8, ciphers: &[u8], extensions: &[u8]) -> Vec<u8> {
    let body = [&[3, 3][..], &[0; 32], &[0], ciphers, &(extensions.len() as u16).to_be_bytes(), extensions].concat();
    let message = [&[kind, 0][..], &(body.len() as u16).to_be_bytes(), &body].concat();
    [&[22, 3, 1][..], &(message.len() as u16).to_be_bytes(), &message].concat()
}

pub fn client_hello(host: &str) -> Vec<u8> {
    let len = host.len() as u16;
    let name = [&(len + 3).to_be_bytes()[..], &[0], &len.to_be_bytes(), host.as_bytes()].concat();
    let extension = [&[0, 0][..], &(len + 5).to_be_bytes(), &name].concat();
    hello(1, &[0, 2, 0x13, 1, 1, 0], &extension)
}

pub fn request(path: &str, headers: &str, body: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nHost: api.example.com\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}

pub fn response(headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 200 OK\r\n{headers}Content-Length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

pub fn chunked(headers: &str, pieces: &[&[u8]]) -> Vec<u8> {
    let mut out = format!("HTTP/1.1 200 OK\r\n{headers}Transfer-Encoding: chunked\r\n\r\n").into_bytes();
    for piece in pieces {
        write!(out, "{:x}\r\n", piece.len()).unwrap();
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}
