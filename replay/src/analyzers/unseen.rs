//! TLS whose plaintext was not seen: what went through it is in no table.
//!
//! One finding for a process and the host it talks to, however often it connects.

use super::{Analyzer, Inputs, Rows, reads};
use crate::bounded::Bounded;
use crate::names;
use crate::signals::HandshakeOnly;
use crate::table::Row;
use crate::tables::{Connection, Finding};

pub(super) const READS: Inputs = reads(&[(Connection::TABLE, &[]), (HandshakeOnly::TABLE, &[])]);

/// Processes with their hosts that are remembered.
const MAX_REMEMBERED: usize = 65_536;

pub(super) struct Unseen {
    told: Bounded<(i64, String), ()>,
    /// The connection whose row comes next, if nothing was said over it.
    silent: Option<i64>,
}

impl Unseen {
    pub fn boxed(_: &str) -> Box<dyn Analyzer> {
        Box::new(Unseen { told: Bounded::new(MAX_REMEMBERED), silent: None })
    }
}

impl Analyzer for Unseen {
    fn row(&mut self, row: &dyn Row, out: &mut Rows<'_>) {
        if let Some(handshake) = row.downcast::<HandshakeOnly>() {
            self.silent = Some(handshake.conn_id);
        }
        let Some(connection) = row.downcast::<Connection>() else { return };
        let silent = self.silent.take() == Some(connection.conn_id);
        if !connection.tls_seen || connection.plaintext_seen || silent {
            return;
        }
        let name = connection.server_name.as_ref().or(connection.peer_address.as_ref());
        let host = name.cloned().unwrap_or_else(|| "an unknown host".to_owned());
        let key = (connection.proc_id, names::brief(&host));
        if self.told.get(&key).is_some() {
            return;
        }
        self.told.insert(key, ());
        let Connection { bytes_sent, bytes_received, .. } = connection;
        out(&Finding {
            capture_id: connection.capture_id.clone(),
            rule_id: "tls-without-plaintext".to_owned(),
            severity: "low",
            ts: connection.opened_at,
            subject_kind: "connection",
            subject_key: connection.conn_id.to_string(),
            message: format!("what went through TLS to {host} was not seen"),
            evidence: bytes_sent
                .zip(*bytes_received)
                .map(|(sent, received)| format!("{sent} bytes sent, {received} received")),
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_host_that_a_process_talks_to_unseen_is_told_once() {
        let connection = |conn_id: i64, proc_id, host: Option<&str>, seen| Connection {
            conn_id,
            proc_id,
            server_name: host.map(str::to_owned),
            peer_address: Some("10.0.0.7".to_owned()),
            tls_seen: true,
            plaintext_seen: seen,
            ..Connection::default()
        };
        let rows = [
            connection(1, 1, Some("a.example"), false),
            connection(2, 1, Some("a.example"), false),
            connection(3, 1, Some("b.example"), true),
            connection(4, 2, Some("a.example"), false),
            connection(5, 1, None, false),
            Connection { tls_seen: false, ..connection(6, 1, Some("c.example"), false) },
        ];
        let (mut analyzer, mut told) = (Unseen::boxed(""), Vec::new());
        let mut out = |row: &dyn Row| told.extend(row.downcast::<Finding>().map(|finding| finding.message.clone()));
        // Nothing was said over this one.
        analyzer.row(&HandshakeOnly { conn_id: 6 }, &mut out);
        analyzer.row(&connection(6, 1, Some("d.example"), false), &mut out);
        rows.iter().for_each(|row| analyzer.row(row, &mut out));
        let expected = ["a.example", "a.example", "10.0.0.7"];
        assert_eq!(told, expected.map(|host| format!("what went through TLS to {host} was not seen")));
    }
}
