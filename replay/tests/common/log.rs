//! Captures of what the kernel tells of a process, record by record.

use super::*;
use agentsight_formats::record::{CAPTURER_CPU, Endpoint, Exit, File, Fork, Socket, StdioData, Sums, TlsBind, family};

/// Records in order of time, each a nanosecond after the one before, of process 10 unless said otherwise.
#[derive(Default)]
pub struct Log {
    pub script: Script,
}

impl Log {
    pub fn header(&mut self, kind: u16) -> Header {
        self.script.time += 1;
        header(kind, self.script.time, 10)
    }

    pub fn push<T: zerocopy::IntoBytes + zerocopy::Immutable>(&mut self, fixed: &T, parts: &[&[u8]]) {
        self.script.records.push(bytes(fixed, parts));
    }

    pub fn say(&mut self, library: u16, conn_id: u64, direction: u16, data: &[u8]) {
        self.script.library = library;
        self.script.say(conn_id, direction, data);
    }

    pub fn bind(&mut self, conn_id: u64, socket_id: u64) {
        let header = self.header(kind::TLS_BIND);
        self.push(&TlsBind { header, conn_id: conn_id.into(), socket_id: socket_id.into() }, &[]);
    }

    pub fn socket(&mut self, id: u64, op: u16, change: impl FnOnce(&mut Socket)) {
        let mut socket = Socket::new_zeroed();
        socket.header = self.header(kind::SOCKET);
        (socket.socket_id, socket.op, socket.family) = (id.into(), op.into(), family::INET.into());
        (socket.socket_type, socket.protocol) = (1.into(), 6.into());
        (socket.local_port, socket.peer_port) = (40_000.into(), 443.into());
        socket.local[..4].copy_from_slice(&[10, 0, 0, 1]);
        socket.peer[..4].copy_from_slice(&[10, 0, 0, 7]);
        change(&mut socket);
        let path: &[u8] = if socket.family.get() == family::UNIX { b"/run/bus" } else { b"" };
        socket.path_len = (path.len() as u16).into();
        self.push(&socket, &[path]);
    }

    pub fn socket_data(&mut self, id: u64, content: u16, direction: u16, data: &[u8]) {
        let mut fixed = SocketData::new_zeroed();
        fixed.header = self.header(kind::SOCKET_DATA);
        (fixed.socket_id, fixed.content, fixed.direction) = (id.into(), content.into(), direction.into());
        fixed.len = (data.len() as u32).into();
        fixed.captured = fixed.len;
        self.push(&fixed, &[data]);
    }

    pub fn file(&mut self, op: u16, parts: [&str; 4], change: impl FnOnce(&mut File)) {
        let mut file = File::new_zeroed();
        file.header = self.header(kind::FILE);
        file.op = op.into();
        [file.base_len, file.path_len, file.new_base_len, file.new_path_len] =
            parts.map(|part| (part.len() as u16).into());
        change(&mut file);
        self.push(&file, &parts.map(str::as_bytes));
    }

    pub fn sums(&mut self, what: u16, id: u64, [sent, received]: [u64; 2]) {
        let mut sums = Sums::new_zeroed();
        sums.header = Header { tgid: 0.into(), tid: 0.into(), cpu: CAPTURER_CPU.into(), ..self.header(kind::SUMS) };
        (sums.what, sums.id) = (what.into(), id.into());
        (sums.sent, sums.received) = (sent.into(), received.into());
        self.push(&sums, &[]);
    }

    pub fn exit(&mut self) {
        let exit = Exit { header: self.header(kind::EXIT), ..Exit::new_zeroed() };
        self.push(&exit, &[]);
    }

    pub fn rows(&self) -> Collected {
        rows(&self.script.records)
    }

    pub fn fork(&mut self, child: u32) {
        let mut fork = Fork::new_zeroed();
        fork.header = self.header(kind::FORK);
        (fork.child_tgid, fork.child_start) = (child.into(), u64::from(child).into());
        self.push(&fork, &[]);
    }

    pub fn endpoint(&mut self, tgid: u32, object: u64, direction: u16) {
        let mut end = Endpoint::new_zeroed();
        end.header = self.header(kind::ENDPOINT);
        end.header.tgid = tgid.into();
        (end.object, end.direction) = (object.into(), direction.into());
        self.push(&end, &[]);
    }

    pub fn stdio(&mut self, tgid: u32, fd: u16, direction: u16, (kind_of, object, peer): (u16, u64, u64), data: &[u8]) {
        let mut fixed = StdioData::new_zeroed();
        fixed.header = self.header(kind::STDIO_DATA);
        fixed.header.tgid = tgid.into();
        (fixed.fd, fixed.direction, fixed.object_type) = (fd.into(), direction.into(), kind_of.into());
        (fixed.object, fixed.peer_object) = (object.into(), peer.into());
        fixed.len = (data.len() as u32 + 1).into();
        fixed.captured = (data.len() as u32).into();
        self.push(&fixed, &[data]);
    }
}

pub const GET: &[u8] = b"GET /v1/models HTTP/1.1\r\nHost: api.example.com\r\n\r\n";
pub const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Makes it a socket to a name server.
pub fn udp(socket: &mut Socket) {
    (socket.socket_type, socket.protocol, socket.peer_port) = (2.into(), 17.into(), 53.into());
}
