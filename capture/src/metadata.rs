//! What the head of a capture says of the recording: machine, command, who records and what.

use crate::user::{self, Invoker};
use crate::{Options, Stdio, clock, preflight, repository};
use agentsight_formats::Metadata;
use std::collections::BTreeMap;
use std::thread;

pub(crate) fn of(options: &Options, invoker: Option<&Invoker>) -> Metadata {
    let uid = invoker.map_or_else(nix::unistd::getuid, |invoker| invoker.uid);
    let gid = invoker.map_or_else(nix::unistd::getgid, |invoker| invoker.gid);
    let working_directory = std::env::current_dir().unwrap_or_default();
    let repository = user::with_files_of(invoker, || repository::of(&working_directory));
    let (repo, vcs_commit) = repository.map_or((None, None), |found| (Some(found.name), found.commit));
    let host = nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let sources = [
        ("process", true),
        ("tls", true),
        ("file", true),
        ("net", true),
        ("plain", !options.no_plain),
        ("stdio", options.stdio != Stdio::Off),
        ("metric", true),
    ];
    Metadata {
        host,
        kernel: preflight::release(),
        arch: std::env::consts::ARCH.to_owned(),
        cpus: thread::available_parallelism().map_or(0, |cpus| cpus.get() as u32),
        capturer_version: env!("CARGO_PKG_VERSION").to_owned(),
        command_line: options.command.iter().map(|arg| arg.to_string_lossy().into_owned()).collect(),
        working_directory: working_directory.to_string_lossy().into_owned(),
        repo,
        vcs_commit,
        uid: uid.as_raw(),
        gid: gid.as_raw(),
        user_name: user::name(uid),
        selectors: options.selectors(),
        sources: sources.into_iter().map(|(name, on)| (name.to_owned(), on)).collect(),
        payload_cap: options.max_payload.unwrap_or(0),
        clocks: clock::sample(),
        record_layouts: layouts(),
        ..Metadata::default()
    }
}

/// Sizes of the fixed parts of the records that this version writes, in bytes.
fn layouts() -> BTreeMap<String, u32> {
    use agentsight_formats::record::{
        Adopt, Descriptor, Endpoint, Exec, ExecArgs, Exit, File, Fork, Header, Identity, Map, Metric, Socket,
        SocketData, StdioData, Sums, TlsBind, TlsClose, TlsData,
    };
    let sizes = [
        ("header", size_of::<Header>()),
        ("fork", size_of::<Fork>()),
        ("exec", size_of::<Exec>()),
        ("exec_args", size_of::<ExecArgs>()),
        ("exit", size_of::<Exit>()),
        ("tls_data", size_of::<TlsData>()),
        ("tls_close", size_of::<TlsClose>()),
        ("tls_bind", size_of::<TlsBind>()),
        ("map", size_of::<Map>()),
        ("adopt", size_of::<Adopt>()),
        ("identity", size_of::<Identity>()),
        ("file", size_of::<File>()),
        ("socket", size_of::<Socket>()),
        ("socket_data", size_of::<SocketData>()),
        ("stdio_data", size_of::<StdioData>()),
        ("endpoint", size_of::<Endpoint>()),
        ("metric", size_of::<Metric>()),
        ("descriptor", size_of::<Descriptor>()),
        ("sums", size_of::<Sums>()),
    ];
    sizes.into_iter().map(|(name, size)| (name.to_owned(), size as u32)).collect()
}
