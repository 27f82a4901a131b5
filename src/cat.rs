//! `agentsight cat`: the raw records, as JSON lines, in the order of the file.

use crate::info::kind_name;
use crate::{fail, fail_with, inputs, say, status, time};
use agentsight_formats::record::{
    Body, Record, direction, family, file_op, flag, ip_address, kind, library, metric, socket_content, socket_op,
    stdio_type, sums_of, vsock_address, way,
};
use agentsight_formats::{Error, Item, Reader};
use serde_json::{Map, Value, json};
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

#[derive(clap::Args, Debug)]
#[command(
    before_help = "EXAMPLES:\n    agentsight cat run.asc --kind exec,exit\n    agentsight cat run.asc --pid 4242 --from +5s --to +10s"
)]
pub struct Args {
    /// Captures, folders or globs; `-` is standard input [default: the newest *.asc here]
    captures: Vec<PathBuf>,
    /// Only records of these kinds (names, or numbers of kinds that this version does not know)
    #[arg(short, long, value_delimiter = ',', value_name = "KIND", value_parser = parse_kind)]
    kind: Vec<u16>,
    /// Only records of these processes
    #[arg(short, long, value_delimiter = ',', value_name = "PID")]
    pid: Vec<u32>,
    /// Only records from this time on (2026-01-31T12:00:00Z, 12:00:00, or +5s after the start)
    #[arg(long, value_name = "TIME")]
    from: Option<String>,
    /// Only records before this time
    #[arg(long, value_name = "TIME")]
    to: Option<String>,
}

fn parse_kind(text: &str) -> Result<u16, String> {
    let known = kind::NAMES.iter().find(|(_, name)| *name == text).map(|(kind, _)| *kind);
    let number = || text.strip_prefix("0x").map_or_else(|| text.parse().ok(), |hex| u16::from_str_radix(hex, 16).ok());
    known.or_else(number).ok_or_else(|| {
        let names: Vec<_> = kind::NAMES.iter().map(|(_, name)| *name).collect();
        format!("no such kind; the kinds are {}", names.join(", "))
    })
}

pub fn run(args: Args) -> ExitCode {
    let captures = match inputs::captures(&args.captures) {
        Ok(captures) => captures,
        Err(message) => return fail(&message),
    };
    let mut out = BufWriter::new(io::stdout().lock());
    let mut lossy = false;
    for path in captures.iter() {
        match cat(path, &args, &mut out) {
            Ok(loss) => lossy |= loss,
            Err(Failed::Usage(message)) => return fail_with(&message, status::USAGE),
            Err(Failed::Read(error)) => return fail(&format!("{}: {error}", path.display())),
            Err(Failed::Write(error)) if error.kind() == io::ErrorKind::BrokenPipe => return ExitCode::SUCCESS,
            Err(Failed::Write(error)) => return fail(&format!("cannot write: {error}")),
        }
    }
    match out.flush() {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => fail(&format!("cannot write: {error}")),
        _ => ExitCode::from(if lossy { status::LOSS } else { 0 }),
    }
}

enum Failed {
    Usage(String),
    Read(Error),
    Write(io::Error),
}

/// Prints a capture's records. Returns whether something is missing from it.
fn cat(path: &Path, args: &Args, out: &mut impl Write) -> Result<bool, Failed> {
    let read = |error: io::Error| Failed::Read(error.into());
    let mut reader = Reader::open(File::open(path).map_err(read)?).map_err(Failed::Read)?;
    let start = reader.head().metadata.clocks;
    let offset = start.realtime.saturating_sub(start.boottime as i64);
    let point = |text: &Option<String>| {
        text.as_ref().map(|text| time::point(text, start.realtime)).transpose().map_err(Failed::Usage)
    };
    let (from, to) = (point(&args.from)?, point(&args.to)?);
    let mut lossy = false;
    let mut dropped = 0;
    while let Some(item) = reader.next_item().map_err(Failed::Read)? {
        let piece = match item {
            Item::Piece(piece) => piece,
            Item::Damage(damage) => {
                say(format_args!("{}: {damage}", path.display()));
                lossy = true;
                continue;
            }
        };
        dropped = piece.drops().iter().map(|counter| counter.records.get()).sum();
        for record in piece.records().map_while(Result::ok) {
            let header = record.header;
            let wall = (header.time.get() as i64).saturating_add(offset);
            let wanted = (args.kind.is_empty() || args.kind.contains(&header.kind.get()))
                && (args.pid.is_empty() || args.pid.contains(&header.tgid.get()))
                && from.is_none_or(|from| wall >= from)
                && to.is_none_or(|to| wall < to);
            if wanted {
                writeln!(out, "{}", line(&record, wall)).map_err(Failed::Write)?;
            }
        }
    }
    if dropped > 0 {
        say(format_args!("{}: {dropped} records were dropped", path.display()));
    }
    Ok(lossy || dropped > 0)
}

fn line(record: &Record<'_>, wall: i64) -> Value {
    let header = record.header;
    let mut line = Map::new();
    line.insert("time".into(), time::rfc3339(wall).into());
    line.insert("boottime".into(), header.time.get().into());
    line.insert("kind".into(), kind_name(header.kind.get()).into());
    line.insert("pid".into(), header.tgid.get().into());
    line.insert("tid".into(), header.tid.get().into());
    line.insert("cpu".into(), header.cpu.get().into());
    line.insert("seq".into(), header.seq.get().into());
    for (bit, name) in [(flag::TRUNCATED, "truncated"), (flag::FAULT, "fault")] {
        if header.flags.get() & bit != 0 {
            line.insert(name.into(), true.into());
        }
    }
    match record.body() {
        Ok(body) => line.extend(fields(record, body)),
        Err(error) => drop(line.insert("error".into(), error.to_string().into())),
    }
    Value::Object(line)
}

fn fields(record: &Record<'_>, body: Body<'_>) -> Map<String, Value> {
    let value = match body {
        Body::Fork(fork) => json!({
            "child": fork.child_tgid.get(), "child_start": fork.child_start.get(), "uid": fork.uid.get(),
            "comm": comm(&fork.comm),
        }),
        Body::Exec { exec, path, cwd, filename } => json!({
            "path": lossy(path), "cwd": lossy(cwd), "filename": lossy(filename), "comm": comm(&exec.comm),
            "ppid": exec.ppid.get(), "uid": exec.uid.get(), "gid": exec.gid.get(), "start": exec.start.get(),
            "args_len": exec.args_len.get(),
        }),
        Body::ExecArgs { args, data } => {
            let fixed = json!({"args_len": args.args_len.get(), "offset": args.offset.get(), "len": args.len.get()});
            return with_data(fixed, data);
        }
        Body::Exit(exit) => json!({
            "status": exit.status.get(), "user_ns": exit.user_ns.get(), "system_ns": exit.system_ns.get(),
            "runtime_ns": exit.runtime_ns.get(), "max_rss_bytes": exit.max_rss_bytes.get(),
        }),
        Body::Map { map, path } => json!({
            "path": lossy(path), "inode": map.inode.get(), "device": map.device.get(),
        }),
        Body::Adopt(_) => json!({}),
        Body::Unwatched(unwatched) => json!({"way": way::name(unwatched.way.get())}),
        Body::Identity(identity) => json!({
            "uid": identity.uid.get(), "effective_uid": identity.effective_uid.get(), "gid": identity.gid.get(),
            "effective_gid": identity.effective_gid.get(), "namespace_pid": identity.namespace_pid.get(),
            "pid_namespace": identity.pid_namespace.get(), "mnt_namespace": identity.mnt_namespace.get(), "net_namespace": identity.net_namespace.get(),
            "user_namespace": identity.user_namespace.get(),
        }),
        Body::TlsData { tls, data } => {
            let fixed = json!({
                "conn": tls.conn_id.get(), "direction": direction_name(tls.direction.get()),
                "library": library::name(tls.library.get()), "offset": tls.stream_offset.get(), "len": tls.len.get(),
            });
            return with_data(fixed, data);
        }
        Body::TlsClose(close) => {
            json!({"conn": close.conn_id.get(), "sent": close.sent.get(), "received": close.received.get()})
        }
        Body::TlsBind(bind) => json!({"conn": bind.conn_id.get(), "socket": bind.socket_id.get()}),
        Body::File { file, base, path, new_base, new_path } => {
            let op = file.op.get();
            json!({
                "op": file_op::name(op), "file": file.file_id.get(), "inode": file.inode.get(),
                "device": file.device.get(), "result": file.result.get(), "flags": file.flags.get(),
                "mode": file.mode.get(), "base": lossy(base), "path": lossy(path), "new_base": lossy(new_base),
                "new_path": lossy(new_path), "read": file.bytes_read.get(), "written": file.bytes_written.get(),
            })
        }
        Body::Socket { socket, path } => json!({
            "op": socket_op::name(socket.op.get()), "socket": socket.socket_id.get(), "inode": socket.inode.get(),
            "local": address(socket.family.get(), &socket.local, socket.local_port.get()),
            "peer": address(socket.family.get(), &socket.peer, socket.peer_port.get()), "path": lossy(path),
            "type": socket.socket_type.get(), "protocol": socket.protocol.get(), "fd": socket.fd.get(),
            "result": socket.result.get(), "sent": socket.sent.get(), "received": socket.received.get(),
        }),
        Body::SocketData { data, bytes } => {
            let fixed = json!({
                "socket": data.socket_id.get(), "content": socket_content::name(data.content.get()),
                "direction": direction_name(data.direction.get()), "len": data.len.get(),
                "peer": address(data.family.get(), &data.peer, data.peer_port.get()),
            });
            return with_data(fixed, bytes);
        }
        Body::StdioData { stdio, data } => {
            let fixed = json!({
                "fd": stdio.fd.get(), "direction": direction_name(stdio.direction.get()),
                "type": stdio_type::name(stdio.object_type.get()), "object": stdio.object.get(),
                "peer_object": stdio.peer_object.get(), "offset": stdio.stream_offset.get(), "len": stdio.len.get(),
            });
            return with_data(fixed, data);
        }
        Body::Endpoint(end) => json!({
            "object": end.object.get(), "direction": direction_name(end.direction.get()),
        }),
        Body::Metric(value) => {
            let (name, unit) = metric::name(value.name.get()).unwrap_or_default();
            json!({"name": name, "unit": unit, "value": value.value.get()})
        }
        Body::Descriptor { descriptor, target } => json!({"fd": descriptor.fd.get(), "target": lossy(target)}),
        Body::Checkpoint { checkpoint, drops } => json!({
            "sequence": checkpoint.sequence.get(), "piece_len": checkpoint.piece_len.get(),
            "monotonic": checkpoint.monotonic.get(), "realtime": checkpoint.realtime.get(), "crc": checkpoint.crc.get(),
            "drops": drops.iter().map(|counter| json!({
                "source": counter.source.get(), "cpu": counter.cpu.get(), "reason": counter.reason.get(),
                "records": counter.records.get(), "bytes": counter.bytes.get(),
            })).collect::<Vec<_>>(),
        }),
        Body::Process { process, path, cwd, args } => {
            let fixed = json!({
                "path": lossy(path), "cwd": lossy(cwd), "comm": comm(&process.comm), "ppid": process.ppid.get(),
                "uid": process.uid.get(), "start": process.start.get(), "args_len": process.args_len.get(),
            });
            return with_data(fixed, args);
        }
        Body::Connection(connection) => json!({
            "conn": connection.conn_id.get(), "opened": connection.opened.get(), "sent": connection.sent.get(),
            "received": connection.received.get(), "library": library::name(connection.library.get()),
        }),
        Body::Sums(sums) => json!({
            "of": sums_of::name(sums.what.get()), "id": sums.id.get(), "sent": sums.sent.get(),
            "received": sums.received.get(), "number": sums.number.get(),
        }),
        Body::Probe { json } | Body::Note { json } => serde_json::from_slice(json).unwrap_or_default(),
        Body::Unknown => return with_data(json!({}), record.bytes),
    };
    object(value)
}

fn object(value: Value) -> Map<String, Value> {
    if let Value::Object(map) = value { map } else { Map::new() }
}

/// Payload as text under `data`; under `data_hex` if it is no UTF-8.
fn with_data(fixed: Value, data: &[u8]) -> Map<String, Value> {
    let mut map = object(fixed);
    match std::str::from_utf8(data) {
        Ok(text) => map.insert("data".into(), text.into()),
        Err(_) => {
            let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
            map.insert("data_hex".into(), hex.into())
        }
    };
    map
}

fn direction_name(direction: u16) -> &'static str {
    if direction == direction::SENT { "sent" } else { "received" }
}

/// An internet address with its port, or one of AF_VSOCK; null for other families.
fn address(of: u16, bytes: &[u8; 16], port: u16) -> Option<String> {
    if of == family::VSOCK {
        let (context, port) = vsock_address(bytes);
        return Some(format!("{context}:{port}"));
    }
    ip_address(of, bytes).map(|address| std::net::SocketAddr::new(address, port).to_string())
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn comm(comm: &[u8; 16]) -> String {
    lossy(comm.split(|byte| *byte == 0).next().unwrap_or_default())
}
