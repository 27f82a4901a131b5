//! Connections, what went through them, and the names of their ends.

use crate::table;
use crate::table::Timestamp;

table! {
    /// One connection of a recorded process: a socket that was connected, accepted or used; or TLS whose socket is not known.
    /// A socket that waits for others is a row as well: a listener, and one of datagrams that has an address. One of datagrams
    /// that has several peers is a row for each of them; of more than 32, the others together are one without an address.
    pub struct Connection in "connections" {
        /// The capture.
        capture_id: String,
        /// Names the connection in its capture.
        conn_id: i64,
        /// The process that opened or first used it.
        proc_id: i64,
        /// When it was connected, accepted, first used, or began to listen.
        opened_at: Timestamp,
        /// When it was closed, or its process exited; null if neither was seen, or somebody else had it open still when recording ended.
        closed_at: Option<Timestamp>,
        /// `client` (connected), `server` (accepted) or `listener` (waits for clients, who have rows of their own); null where none
        /// of that was seen: of datagrams to or from whomever they name, and of a socket that did not get the address that it asked for.
        role: Option<&'static str>,
        /// `tcp`, `udp`, `unix`, `vsock`, or another protocol's number; null while the socket is not known.
        transport: Option<String> [otel = "network.transport"],
        /// Address of this end; of a local socket that others find, its name. `0.0.0.0` and `::` are all of the machine's.
        local_address: Option<String> [otel = "network.local.address"],
        /// Port of this end.
        local_port: Option<i64> [otel = "network.local.port"],
        /// Address of the other end; of a local socket, its name; of `vsock`, the number of the machine (2 is the host).
        peer_address: Option<String> [otel = "network.peer.address"],
        /// Port of the other end.
        peer_port: Option<i64> [otel = "network.peer.port"],
        /// Name of the server: as TLS asks for it (SNI), else the Host header of the first request, else the name whose DNS answer gave the address.
        server_name: Option<String> [otel = "server.address"],
        /// Application protocol: as the server chose it, else as seen in the bytes (`http/1.1`, `h2`), else the only one that was offered.
        alpn: Option<String> [otel = "network.protocol.name"],
        /// Name of the error with which connect, bind or listen failed, as `ECONNREFUSED`; `EINPROGRESS` where the connection was given up before
        /// it was answered. `EPERM` or `EACCES` of a row without addresses: the process was not allowed to make a socket.
        error: Option<String> [otel = "error.type"],
        /// The TLS library whose plaintext was seen.
        tls_library: Option<String>,
        /// Whether it speaks TLS.
        tls_seen: bool,
        /// Whether bytes that were never or no longer encrypted are in the capture.
        plaintext_seen: bool,
        /// The other connection over which the same TLS session goes: it is forwarded from one to the other, by the process or by that of the other connection with it (`nc | nc`), so that its plaintext is to be seen elsewhere.
        forwards_conn_id: Option<i64>,
        /// Bytes sent through the socket, what TLS adds included; of plaintext where the socket is not known. Of a connection that outlived the capture, so far; null where nobody told, because the record of its end was lost or the capturer was killed.
        bytes_sent: Option<i64> [unit = "bytes"],
        /// Bytes received through the socket, as `bytes_sent`.
        bytes_received: Option<i64> [unit = "bytes"],
        /// Plaintext bytes sent, those missing from the capture included.
        plaintext_sent: i64 [unit = "bytes"],
        /// Plaintext bytes received, those missing from the capture included.
        plaintext_received: i64 [unit = "bytes"],
        /// Plaintext bytes of both directions that are missing from the capture.
        gap_bytes: i64 [unit = "bytes"],
        /// The tool call that caused it, as far as is known; `causes` says how.
        cause_tool_call_key: Option<i64>,
    }
}

table! {
    /// One question to a name server (over UDP or TCP) or to systemd-resolved, with its answer.
    pub struct Dns in "dns" {
        /// The capture.
        capture_id: String,
        /// When it was asked; of an answer whose question was not seen, when that came.
        ts: Timestamp,
        /// The process that asked.
        proc_id: i64,
        /// The name, in lower case, without the last dot.
        query_name: String [otel = "dns.question.name"],
        /// Type of the record that was asked for: `A`, `AAAA`, `HTTPS`, …; `A/AAAA` where systemd-resolved is asked for whichever there is.
        query_type: String,
        /// What was answered: addresses, and the names on the way to them. Empty when nothing was.
        answers: Vec<String> [otel = "dns.answers"],
        /// `NOERROR`, `NXDOMAIN`, `SERVFAIL`, …, or what systemd-resolved says, as `QueryTimedOut`; null when no answer was seen.
        response_code: Option<String>,
        /// From the question to the answer.
        duration_ns: Option<i64> [unit = "ns"],
        /// Address of the name server; null where systemd-resolved asks one.
        server_address: Option<String>,
        /// Whether the answer was cut by the server, or is longer than the capture holds.
        truncated: bool,
    }
}

table! {
    /// One piece of plaintext: as the TLS library handed it over, or as it went through a connection without TLS.
    pub struct TlsData in "tls_data" {
        /// The capture.
        capture_id: String,
        /// Counts the rows of a capture from 0, in order of time.
        seq: i64,
        /// When the call that transferred it returned.
        ts: Timestamp,
        /// The process.
        proc_id: i64,
        /// The thread.
        tid: i64 [otel = "thread.id"],
        /// The connection.
        conn_id: i64,
        /// `sent` or `received`, seen from the process.
        direction: &'static str,
        /// Where in its stream the piece starts.
        stream_offset: i64 [unit = "bytes"],
        /// Bytes transferred.
        len: i64 [unit = "bytes"],
        /// Bytes of them in the capture.
        captured_len: i64 [unit = "bytes"],
        /// The captured bytes.
        data: Vec<u8>,
    }
}
