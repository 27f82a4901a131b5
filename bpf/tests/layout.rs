//! The record layouts exist once in C and once in Rust: size and every offset are compared through the BTF of the compiled
//! programs.

#![cfg(target_os = "linux")]

use agentsight_formats::record;
use libbpf_rs::btf::Btf;
use libbpf_rs::btf::types::{MemberAttr, Struct};
use std::collections::BTreeMap;
use std::mem::offset_of;

/// Bit offsets of the members of a C structure, by name, and its size in bytes.
fn layout_in_c(name: &str) -> (BTreeMap<String, u32>, usize) {
    let btf = Btf::from_raw("agentsight", agentsight_bpf::OBJECT).unwrap().expect("the object has BTF");
    let structure: Struct<'_> = btf.type_by_name(name).unwrap_or_else(|| panic!("no struct {name} in the BTF"));
    let members = structure.iter().map(|member| {
        let MemberAttr::Normal { offset } = member.attr else { panic!("{name} has a bit field") };
        (member.name.expect("records have no anonymous members").to_string_lossy().into_owned(), offset)
    });
    let size = libbpf_rs::btf::HasSize::size(&structure);
    (members.collect(), size)
}

macro_rules! assert_layout {
    ($c:literal, $rust:ty, $($field:ident),+) => {
        let (members, size) = layout_in_c($c);
        assert_eq!(size, size_of::<$rust>(), "size of {}", $c);
        let fields = BTreeMap::from([$((stringify!($field).to_owned(), 8 * offset_of!($rust, $field) as u32)),+]);
        assert_eq!(members, fields, "offsets in {}", $c);
    };
}

#[test]
fn records_have_one_layout_in_c_and_rust() {
    use record::*;
    assert_layout!("asc_header", Header, len, kind, flags, time, tgid, tid, cpu, reserved, seq);
    assert_layout!("asc_fork", Fork, header, child_start, child_tgid, uid, comm);
    assert_layout!(
        "asc_exec",
        Exec,
        header,
        start,
        ppid,
        uid,
        gid,
        args_len,
        path_len,
        cwd_len,
        filename_len,
        reserved,
        comm
    );
    assert_layout!("asc_exec_args", ExecArgs, header, args_len, offset, len, captured);
    assert_layout!("asc_exit", Exit, header, status, reserved, user_ns, system_ns, runtime_ns, max_rss_bytes);
    assert_layout!("asc_map", Map, header, inode, device, path_len, reserved);
    assert_layout!("asc_adopt", Adopt, header);
    assert_layout!("asc_unwatched", Unwatched, header, way, reserved);
    assert_layout!(
        "asc_identity",
        Identity,
        header,
        uid,
        effective_uid,
        gid,
        effective_gid,
        namespace_pid,
        pid_namespace,
        mnt_namespace,
        net_namespace,
        user_namespace,
        reserved
    );
    assert_layout!(
        "asc_tls_data",
        TlsData,
        header,
        conn_id,
        stream_offset,
        len,
        captured,
        direction,
        library,
        reserved
    );
    assert_layout!("asc_tls_close", TlsClose, header, conn_id, sent, received);
    assert_layout!("asc_tls_bind", TlsBind, header, conn_id, socket_id);
    assert_layout!(
        "asc_file",
        File,
        header,
        file_id,
        inode,
        device,
        op,
        reserved,
        result,
        flags,
        mode,
        base_len,
        path_len,
        new_base_len,
        new_path_len,
        reserved2,
        bytes_read,
        bytes_written
    );
    assert_layout!(
        "asc_socket",
        Socket,
        header,
        socket_id,
        inode,
        op,
        family,
        socket_type,
        protocol,
        result,
        fd,
        local_port,
        peer_port,
        path_len,
        reserved,
        local,
        peer,
        sent,
        received
    );
    assert_layout!(
        "asc_socket_data",
        SocketData,
        header,
        socket_id,
        len,
        captured,
        direction,
        content,
        family,
        peer_port,
        peer
    );
    assert_layout!(
        "asc_stdio_data",
        StdioData,
        header,
        object,
        peer_object,
        stream_offset,
        len,
        captured,
        fd,
        direction,
        object_type,
        reserved
    );
    assert_layout!("asc_endpoint", Endpoint, header, object, direction, reserved);
}
