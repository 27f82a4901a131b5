//! Records that the tests of the offline verbs put into captures.

use agentsight_formats::record::{self, Header, TlsData, kind, library};

/// Plaintext of a connection: when in nanoseconds and of which process, which way and at which offset.
pub fn tls(conn_id: u64, (time, pid): (u64, u32), (direction, offset): (u16, usize), data: &str) -> Vec<u8> {
    let header = Header {
        kind: kind::TLS_DATA.into(),
        time: time.into(),
        tgid: pid.into(),
        tid: pid.into(),
        ..Header::default()
    };
    let fixed = TlsData {
        header,
        conn_id: conn_id.into(),
        stream_offset: (offset as u64).into(),
        len: (data.len() as u32).into(),
        captured: (data.len() as u32).into(),
        direction: direction.into(),
        library: library::OPENSSL.into(),
        reserved: 0.into(),
    };
    let mut out = Vec::new();
    record::append(&mut out, &fixed, &[data.as_bytes()]);
    out
}
