//! What somebody does next, as records: each a while after the one before. Their times are filled in when they happen.

use crate::common::{bytes, client_hello, header, hello};
use agentsight_formats::record::direction::{RECEIVED, SENT};
use agentsight_formats::record::*;
use std::collections::VecDeque;
use zerocopy::FromZeros;

/// Longest piece of plaintext in a record, as a TLS record carries it.
const TLS_RECORD: usize = 16 << 10;

const MICROSECOND: u64 = 1000;
pub const MILLISECOND: u64 = 1_000_000;

/// Somebody who acts.
pub trait Actor {
    /// Adds what comes next; false when there is nothing any more.
    fn act(&mut self, ids: &mut Ids, scene: &mut Scene) -> bool;
}

/// Numbers that are given once.
#[derive(Default)]
pub struct Ids {
    last: u32,
}

impl Ids {
    pub fn process(&mut self) -> u32 {
        self.last += 1;
        1000 + self.last
    }

    pub fn object(&mut self) -> u64 {
        self.last += 1;
        1_000_000 + u64::from(self.last)
    }
}

/// A connection of a process.
pub struct Line {
    pub tgid: u32,
    pub socket_id: u64,
    /// Names its plaintext: the socket itself where there is no TLS.
    pub conn_id: u64,
    port: u16,
    offsets: [u64; 2],
}

#[derive(Default)]
pub struct Scene {
    records: VecDeque<(u64, Vec<u8>)>,
    pause: u64,
}

impl Scene {
    /// The record that is due.
    pub fn take(&mut self) -> Option<Vec<u8>> {
        self.records.pop_front().map(|(_, record)| record)
    }

    /// How long it is until the next one.
    pub fn delay(&self) -> u64 {
        self.records.front().map_or(MICROSECOND, |(delay, _)| *delay)
    }

    /// Lets time go by.
    pub fn wait(&mut self, ns: u64) {
        self.pause += ns;
    }

    fn add(&mut self, record: Vec<u8>) {
        self.records.push_back((20 * MICROSECOND + std::mem::take(&mut self.pause), record));
    }

    pub fn fork(&mut self, parent: u32, child: u32) {
        let fork = Fork { header: header(kind::FORK, 0, parent), child_tgid: child.into(), ..Fork::new_zeroed() };
        self.add(bytes(&fork, &[]));
    }

    pub fn exec(&mut self, tgid: u32, args: &[&str]) {
        let data: Vec<u8> = args.iter().flat_map(|arg| [arg.as_bytes(), b"\0"].concat()).collect();
        let (path, cwd) = (format!("/usr/bin/{}", args[0]), "/home/me/project");
        let exec = Exec {
            header: header(kind::EXEC, 0, tgid),
            args_len: (data.len() as u32).into(),
            path_len: (path.len() as u16).into(),
            cwd_len: (cwd.len() as u16).into(),
            ..Exec::new_zeroed()
        };
        let rest = ExecArgs {
            header: header(kind::EXEC_ARGS, 0, tgid),
            args_len: (data.len() as u32).into(),
            len: (data.len() as u32).into(),
            captured: (data.len() as u32).into(),
            ..ExecArgs::new_zeroed()
        };
        self.add(bytes(&exec, &[path.as_bytes(), cwd.as_bytes()]));
        self.add(bytes(&rest, &[&data]));
    }

    pub fn exit(&mut self, tgid: u32) {
        self.add(bytes(&Exit { header: header(kind::EXIT, 0, tgid), ..Exit::new_zeroed() }, &[]));
    }

    /// A file is opened, and closed again.
    pub fn file(&mut self, ids: &mut Ids, tgid: u32, path: &str, (read, written): (u64, u64)) {
        let open = self.open(ids, tgid, path);
        let (op, path_len) = (file_op::CLOSE.into(), 0.into());
        self.add(bytes(&File { op, path_len, bytes_read: read.into(), bytes_written: written.into(), ..open }, &[]));
    }

    /// A file is opened.
    pub fn open(&mut self, ids: &mut Ids, tgid: u32, path: &str) -> File {
        let open = File {
            header: header(kind::FILE, 0, tgid),
            file_id: ids.object().into(),
            op: file_op::OPEN.into(),
            result: 7.into(),
            path_len: (path.len() as u16).into(),
            ..File::new_zeroed()
        };
        self.add(bytes(&open, &[path.as_bytes()]));
        open
    }

    /// Something goes through a standard stream.
    pub fn stdio(&mut self, tgid: u32, object: u64, data: &[u8]) {
        for piece in data.chunks(TLS_RECORD) {
            let stdio = StdioData {
                header: header(kind::STDIO_DATA, 0, tgid),
                object: object.into(),
                peer_object: object.into(),
                stream_offset: 0.into(),
                len: (piece.len() as u32).into(),
                captured: (piece.len() as u32).into(),
                fd: 1.into(),
                direction: SENT.into(),
                object_type: stdio_type::PIPE.into(),
                reserved: 0.into(),
            };
            self.add(bytes(&stdio, &[piece]));
        }
    }

    pub fn metric(&mut self, tgid: u32, name: u16, value: i64) {
        let metric = Metric { name: name.into(), value: value.into(), ..Metric::new_zeroed() };
        self.add(bytes(&Metric { header: header(kind::METRIC, 0, tgid), ..metric }, &[]));
    }

    /// A connection is made, and its handshake.
    pub fn connect(&mut self, ids: &mut Ids, tgid: u32, host: &str, tls: bool) -> Line {
        let socket_id = ids.object();
        let conn_id = if tls { ids.object() } else { socket_id };
        let line = Line { tgid, socket_id, conn_id, port: if tls { 443 } else { 8080 }, offsets: [0; 2] };
        self.socket(&line, socket_op::CONNECT);
        if tls {
            self.add(bytes(
                &TlsBind {
                    header: header(kind::TLS_BIND, 0, tgid),
                    conn_id: conn_id.into(),
                    socket_id: socket_id.into(),
                },
                &[],
            ));
            for (way, hello) in [(SENT, client_hello(host)), (RECEIVED, server_hello())] {
                let data = SocketData {
                    header: header(kind::SOCKET_DATA, 0, tgid),
                    socket_id: socket_id.into(),
                    len: (hello.len() as u32).into(),
                    captured: (hello.len() as u32).into(),
                    direction: way.into(),
                    content: socket_content::TLS_HELLO.into(),
                    ..SocketData::new_zeroed()
                };
                self.add(bytes(&data, &[&hello]));
            }
        }
        line
    }

    fn socket(&mut self, line: &Line, op: u16) {
        let mut socket = Socket {
            header: header(kind::SOCKET, 0, line.tgid),
            socket_id: line.socket_id.into(),
            op: op.into(),
            family: family::INET.into(),
            socket_type: 1.into(),
            protocol: 6.into(),
            local_port: (32_768 + (line.socket_id % 28_000) as u16).into(),
            peer_port: line.port.into(),
            ..Socket::new_zeroed()
        };
        socket.local[..4].copy_from_slice(&[10, 0, 0, 2]);
        socket.peer[..4].copy_from_slice(&[192, 0, 2, (line.socket_id % 200) as u8]);
        let [sent, received] = line.offsets;
        (socket.sent, socket.received) = (sent.into(), received.into());
        self.add(bytes(&socket, &[]));
    }

    /// Plaintext of a connection.
    pub fn say(&mut self, line: &mut Line, way: u16, data: &[u8]) {
        for piece in data.chunks(TLS_RECORD) {
            let offset = &mut line.offsets[usize::from(way)];
            let fixed = TlsData {
                header: header(kind::TLS_DATA, 0, line.tgid),
                conn_id: line.conn_id.into(),
                stream_offset: (*offset).into(),
                len: (piece.len() as u32).into(),
                captured: (piece.len() as u32).into(),
                direction: way.into(),
                library: if line.conn_id == line.socket_id { library::PLAIN } else { library::OPENSSL }.into(),
                reserved: 0.into(),
            };
            *offset += piece.len() as u64;
            self.add(bytes(&fixed, &[piece]));
        }
    }

    pub fn close(&mut self, line: &Line) {
        if line.conn_id != line.socket_id {
            let [sent, received] = line.offsets.map(Into::into);
            let header = header(kind::TLS_CLOSE, 0, line.tgid);
            let close = TlsClose { header, conn_id: line.conn_id.into(), sent, received };
            self.add(bytes(&close, &[]));
        }
        self.socket(line, socket_op::CLOSE);
    }
}

fn server_hello() -> Vec<u8> {
    hello(2, &[0x13, 1, 0], &[])
}
