//! What a segment has to open with so that it decodes alone: the processes that live, the connections, sockets and files that
//! are open, the binaries that are probed. It is kept up to date from the records on their way to the file.

use crate::opaque::{Opaque, Unseen};
use crate::owned::Owned;
use crate::procfs;
use agentsight_formats::record::{
    self, Body, CAPTURER_CPU, Connection, Header, Identity, Process, Record, direction, file_op, kind, library,
    socket_op, way,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::mem::offset_of;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Files of which nobody says that they are closed, because they are mapped: the oldest are forgotten.
const MAX_REPEATED: usize = 65536;

/// SOCK_STREAM: such a socket has no more than one peer.
const STREAM: u16 = 1;

#[derive(Default)]
pub(crate) struct State {
    processes: BTreeMap<u32, Live>,
    connections: Owned<u64, Open>,
    /// PROBE records, as they were written.
    probes: Vec<u8>,
    /// What is said again of things that are open.
    repeated: Owned<Repeated, Vec<u8>>,
    opaque: Opaque,
    unwatched: BTreeSet<(PathBuf, &'static str)>,
    /// The time of the newest record of the kernel's. What is said of the state holds for then, and not for now: records may
    /// still be on their way.
    newest: u64,
}

/// A record that is said again.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Repeated {
    File(u64),
    Socket(u64),
    /// One of several peers of a socket.
    Peer(u64, i32),
    /// The hello of one direction of a socket.
    Hello(u64, u16),
    /// The socket of a connection.
    Bind(u64),
    /// That a process uses an end of a pipe or local socket.
    Endpoint(u32, u64, u16),
    /// What a process had open when its recording began.
    Descriptor(u32, i32),
}

#[derive(Clone, Default)]
struct Live {
    start: u64,
    ppid: u32,
    uid: u32,
    comm: [u8; 16],
    path: Vec<u8>,
    cwd: Vec<u8>,
    args: Vec<u8>,
    args_len: u32,
    identity: Option<Identity>,
}

struct Open {
    opened: u64,
    library: u16,
    offset: [u64; 2],
}

impl State {
    /// Takes in records in the order in which they are written.
    pub(crate) fn apply(&mut self, records: &[u8]) {
        for record in record::records(records).map_while(Result::ok) {
            if record.header.cpu.get() != CAPTURER_CPU {
                self.newest = self.newest.max(record.header.time.get());
            }
            if let Ok(body) = record.body() {
                self.apply_one(&record, body);
            }
        }
    }

    fn apply_one(&mut self, record: &Record<'_>, body: Body<'_>) {
        let tgid = record.header.tgid.get();
        match body {
            Body::Fork(fork) => {
                let parent = self.processes.get(&tgid).cloned().unwrap_or_default();
                let child = Live {
                    start: fork.child_start.get(),
                    ppid: tgid,
                    uid: fork.uid.get(),
                    comm: fork.comm,
                    identity: None,
                    ..parent
                };
                self.processes.insert(fork.child_tgid.get(), child);
            }
            Body::Exec { exec, path, cwd, .. } => {
                let live = Live {
                    start: exec.start.get(),
                    ppid: exec.ppid.get(),
                    uid: exec.uid.get(),
                    comm: exec.comm,
                    path: path.to_vec(),
                    cwd: cwd.to_vec(),
                    args: Vec::new(),
                    args_len: exec.args_len.get(),
                    identity: None,
                };
                self.opaque.ended(tgid, self.processes.get(&tgid).map(|live| live.path.as_slice()));
                self.processes.insert(tgid, live);
                // The memory that held them is gone; files and sockets that it leaves open are told of when they are used.
                self.connections.remove_all_of(tgid);
            }
            Body::ExecArgs { args, data } => {
                if let Some(live) = self.processes.get_mut(&tgid)
                    && live.args.len() == args.offset.get() as usize
                {
                    live.args.extend_from_slice(data);
                }
            }
            Body::Exit(_) => {
                let live = self.processes.remove(&tgid);
                self.opaque.ended(tgid, live.as_ref().map(|live| live.path.as_slice()));
                self.connections.remove_all_of(tgid);
                self.repeated.remove_all_of(tgid);
            }
            Body::TlsData { tls, .. } => {
                let conn_id = tls.conn_id.get();
                if tls.library.get() != library::PLAIN {
                    self.opaque.plaintext(tgid, conn_id, tls.direction.get());
                }
                if !self.connections.contains(conn_id) {
                    let opened = record.header.time.get();
                    self.connections.insert(tgid, conn_id, Open { opened, library: tls.library.get(), offset: [0; 2] });
                }
                let side = usize::from(tls.direction.get() == direction::RECEIVED);
                if let Some(open) = self.connections.get_mut(conn_id) {
                    open.offset[side] = open.offset[side].max(tls.stream_offset.get() + u64::from(tls.len.get()));
                }
            }
            Body::TlsClose(close) => {
                self.connections.remove(close.conn_id.get());
                self.opaque.unbound(close.conn_id.get(), [close.sent.get(), close.received.get()]);
                self.repeated.remove(Repeated::Bind(close.conn_id.get()));
            }
            Body::TlsBind(bind) => {
                let conn_id = bind.conn_id.get();
                self.opaque.bound(tgid, conn_id, bind.socket_id.get());
                self.repeat(Repeated::Bind(conn_id), record);
            }
            Body::Socket { socket, .. } if socket.op.get() == socket_op::CLOSE => {
                let id = socket.socket_id.get();
                self.opaque.closed(id, [socket.sent.get(), socket.received.get()]);
                for gone in [
                    Repeated::Socket(id),
                    Repeated::Hello(id, direction::SENT),
                    Repeated::Hello(id, direction::RECEIVED),
                ] {
                    self.repeated.remove(gone);
                }
                let most = if socket.socket_type.get() == STREAM { 0 } else { socket_op::OTHER_PEERS + 1 };
                (0..most).for_each(|number| self.repeated.remove(Repeated::Peer(id, number.into())));
                // Without TLS, a connection is its socket.
                self.connections.remove(id);
            }
            Body::Socket { socket, .. } if socket.op.get() == socket_op::PEER => {
                self.repeat(Repeated::Peer(socket.socket_id.get(), socket.result.get()), record);
            }
            Body::Socket { socket, .. } => {
                self.repeat(Repeated::Socket(socket.socket_id.get()), record);
            }
            Body::Endpoint(end) => self.repeat(Repeated::Endpoint(tgid, end.object.get(), end.direction.get()), record),
            Body::Descriptor { descriptor, .. } => self.repeat(Repeated::Descriptor(tgid, descriptor.fd.get()), record),
            Body::SocketData { data, bytes } if data.content.get() == record::socket_content::TLS_HELLO => {
                let ports = self.ports(data.socket_id.get());
                self.opaque.hello(data, bytes, ports);
                self.repeat(Repeated::Hello(data.socket_id.get(), data.direction.get()), record);
            }
            Body::File { file, .. } if file.file_id.get() != 0 => match file.op.get() {
                file_op::OPEN => self.repeat(Repeated::File(file.file_id.get()), record),
                file_op::CLOSE => self.repeated.remove(Repeated::File(file.file_id.get())),
                _ => {}
            },
            Body::Process { process, path, cwd, args } => {
                let live = Live {
                    start: process.start.get(),
                    ppid: process.ppid.get(),
                    uid: process.uid.get(),
                    comm: process.comm,
                    path: path.to_vec(),
                    cwd: cwd.to_vec(),
                    args: args.to_vec(),
                    args_len: process.args_len.get(),
                    identity: None,
                };
                // What the kernel side said of it is newer.
                self.processes.entry(tgid).or_insert(live);
            }
            Body::Identity(identity) => {
                if let Some(live) = self.processes.get_mut(&tgid)
                    && (live.identity.is_none() || record.header.cpu.get() != CAPTURER_CPU)
                {
                    live.uid = identity.uid.get();
                    live.identity = Some(*identity);
                }
            }
            Body::Unwatched(unwatched) => {
                let path = self.processes.get(&tgid).map_or(&[][..], |live| &live.path);
                let way = way::name(unwatched.way.get()).unwrap_or_default();
                self.unwatched.insert((OsStr::from_bytes(path).into(), way));
            }
            Body::Probe { .. } => record_again(&mut self.probes, record),
            _ => {}
        }
    }

    /// Keeps a record to be said again, as one of the capturer's own.
    fn repeat(&mut self, what: Repeated, record: &Record<'_>) {
        let mut bytes = Vec::new();
        record_again(&mut bytes, record);
        let at = offset_of!(Header, cpu);
        bytes[at..at + 2].copy_from_slice(&CAPTURER_CPU.to_le_bytes());
        self.repeated.insert(record.header.tgid.get(), what, bytes);
        if self.repeated.len() > MAX_REPEATED {
            self.repeated.remove_first();
        }
    }

    /// The ports of an open socket, local and peer; 0 where they are not known.
    fn ports(&mut self, socket: u64) -> (u16, u16) {
        let said = self.repeated.get_mut(Repeated::Socket(socket));
        let said = said.and_then(|bytes| record::records(bytes).next()?.ok());
        match said.as_ref().map(Record::body) {
            Some(Ok(Body::Socket { socket, .. })) => (socket.local_port.get(), socket.peer_port.get()),
            _ => (0, 0),
        }
    }

    /// Programs that spoke TLS of which plaintext was not seen.
    pub(crate) fn opaque(mut self) -> Vec<Unseen> {
        for (tgid, live) in &self.processes {
            self.opaque.ended(*tgid, Some(&live.path));
        }
        self.opaque.programs()
    }

    /// Programs that do what is not watched, and how.
    pub(crate) fn take_unwatched(&mut self) -> BTreeSet<(PathBuf, &'static str)> {
        std::mem::take(&mut self.unwatched)
    }

    fn header(&self, kind: u16, tgid: u32) -> Header {
        let mut header = procfs::header(kind, tgid);
        if self.newest > 0 {
            header.time = self.newest.into();
        }
        header
    }

    /// The records with which a segment opens.
    pub(crate) fn snapshot(&self) -> Vec<u8> {
        let mut out = self.probes.clone();
        for (tgid, live) in &self.processes {
            let process = Process {
                header: self.header(kind::PROCESS, *tgid),
                start: live.start.into(),
                ppid: live.ppid.into(),
                uid: live.uid.into(),
                args_len: live.args_len.into(),
                args_captured: (live.args.len() as u32).into(),
                path_len: (live.path.len() as u16).into(),
                cwd_len: (live.cwd.len() as u16).into(),
                reserved: 0.into(),
                comm: live.comm,
            };
            record::append(&mut out, &process, &[&live.path, &live.cwd, &live.args]);
            if let Some(identity) = live.identity {
                let identity = Identity { header: self.header(kind::IDENTITY, *tgid), ..identity };
                record::append(&mut out, &identity, &[]);
            }
        }
        for (id, tgid, open) in self.connections.iter() {
            let connection = Connection {
                header: self.header(kind::CONNECTION, tgid),
                conn_id: id.into(),
                opened: open.opened.into(),
                sent: open.offset[0].into(),
                received: open.offset[1].into(),
                library: open.library.into(),
                reserved: [0.into(); 3],
            };
            record::append(&mut out, &connection, &[]);
        }
        for (_, _, bytes) in self.repeated.iter() {
            out.extend_from_slice(bytes);
        }
        out
    }
}

fn record_again(out: &mut Vec<u8>, record: &Record<'_>) {
    let start = out.len();
    out.extend_from_slice(record.bytes);
    out.resize(start + record::padded_len(record.bytes.len()), 0);
}

#[cfg(test)]
mod tests {
    use super::*;
    use agentsight_formats::record::{Exit, Fork, TlsData};
    use zerocopy::FromZeros;

    fn tls(tgid: u32, conn_id: u64, side: u16, offset: u64, data: &[u8]) -> Vec<u8> {
        let fixed = TlsData {
            header: procfs::header(kind::TLS_DATA, tgid),
            conn_id: conn_id.into(),
            stream_offset: offset.into(),
            len: (data.len() as u32).into(),
            captured: (data.len() as u32).into(),
            direction: side.into(),
            library: 1.into(),
            reserved: 0.into(),
        };
        let mut out = Vec::new();
        record::append(&mut out, &fixed, &[data]);
        out
    }

    fn connections(snapshot: &[u8]) -> Vec<(u64, u64, u64)> {
        let bodies = record::records(snapshot).map(|record| record.unwrap().body().unwrap());
        bodies
            .filter_map(|body| match body {
                Body::Connection(c) => Some((c.conn_id.get(), c.sent.get(), c.received.get())),
                _ => None,
            })
            .collect()
    }

    #[test]
    fn a_snapshot_says_where_the_streams_of_open_connections_are() {
        let mut state = State::default();
        state.apply(&tls(10, 1, direction::SENT, 0, b"hello"));
        state.apply(&tls(10, 1, direction::RECEIVED, 100, b"abc"));
        state.apply(&tls(11, 2, direction::SENT, 0, b"x"));
        assert_eq!(connections(&state.snapshot()), [(1, 5, 103), (2, 1, 0)]);
    }

    fn socket(tgid: u32, id: u64, op: u16) -> Vec<u8> {
        let mut out = Vec::new();
        let mut socket = record::Socket::new_zeroed();
        socket.header = procfs::header(kind::SOCKET, tgid);
        socket.socket_id = id.into();
        socket.op = op.into();
        record::append(&mut out, &socket, &[]);
        out
    }

    #[test]
    fn an_open_socket_is_said_again_until_it_is_closed() {
        let mut state = State::default();
        state.apply(&socket(10, 7, socket_op::CONNECT));
        let snapshot = state.snapshot();
        let record = record::records(&snapshot).next().unwrap().unwrap();
        let Body::Socket { socket: said, .. } = record.body().unwrap() else { panic!("{record:?}") };
        assert_eq!((said.socket_id.get(), said.op.get()), (7, socket_op::CONNECT));
        assert_eq!(said.header.cpu.get(), CAPTURER_CPU);
        state.apply(&socket(10, 7, socket_op::CLOSE));
        assert!(state.snapshot().is_empty());
    }

    #[test]
    fn each_peer_of_a_socket_is_said_again_until_that_is_closed() {
        let mut state = State::default();
        let peer = |number: i32| {
            let mut records = socket(10, 7, socket_op::PEER);
            records[offset_of!(record::Socket, result)..][..4].copy_from_slice(&number.to_le_bytes());
            records
        };
        state.apply(&[socket(10, 7, socket_op::USE), peer(0), peer(32), peer(32)].concat());
        assert_eq!(record::records(&state.snapshot()).count(), 3);
        state.apply(&socket(10, 7, socket_op::CLOSE));
        assert!(state.snapshot().is_empty());
    }

    #[test]
    fn a_snapshot_is_of_the_time_of_the_last_record_before_it() {
        let mut state = State::default();
        let mut data = tls(10, 1, direction::SENT, 0, b"hello");
        data[offset_of!(Header, time)..][..8].copy_from_slice(&7u64.to_le_bytes());
        data[offset_of!(Header, cpu)..][..2].copy_from_slice(&0u16.to_le_bytes());
        state.apply(&data);
        let snapshot = state.snapshot();
        let times: Vec<u64> = record::records(&snapshot).map(|record| record.unwrap().header.time.get()).collect();
        assert_eq!(times, [7]);
    }

    #[test]
    fn what_ends_leaves_the_snapshot() {
        let mut state = State::default();
        let mut records = Vec::new();
        let fork = Fork {
            header: procfs::header(kind::FORK, 10),
            child_start: 5.into(),
            child_tgid: 11.into(),
            uid: 0.into(),
            comm: *b"child\0\0\0\0\0\0\0\0\0\0\0",
        };
        record::append(&mut records, &fork, &[]);
        records.extend(tls(11, 1, direction::SENT, 0, b"hello"));
        state.apply(&records);
        assert_eq!(record::records(&state.snapshot()).count(), 2);
        let exit = Exit {
            header: procfs::header(kind::EXIT, 11),
            status: 0.into(),
            reserved: 0.into(),
            user_ns: 0.into(),
            system_ns: 0.into(),
            runtime_ns: 0.into(),
            max_rss_bytes: 0.into(),
        };
        let mut records = Vec::new();
        record::append(&mut records, &exit, &[]);
        state.apply(&records);
        assert!(state.snapshot().is_empty());
    }
}
