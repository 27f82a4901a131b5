//! TLS whose plaintext was not seen, in one direction or both: what went through it is in no table.
//!
//! One finding for a process, the host it talks to and what is missing, however often it connects.

use super::{Analyzer, Inputs, Rows, reads};
use crate::bounded::Bounded;
use crate::names;
use crate::signals::TlsUnseen;
use crate::table::Row;
use crate::tables::{Connection, Finding};

pub(super) const READS: Inputs = reads(&[(Connection::TABLE, &[]), (TlsUnseen::TABLE, &[])]);

/// Processes with their hosts that are remembered.
const MAX_REMEMBERED: usize = 65_536;

pub(super) struct Unseen {
    told: Bounded<(i64, String, &'static str), ()>,
    /// What was not seen of the connection whose row comes next.
    unseen: Option<TlsUnseen>,
}

impl Unseen {
    pub fn boxed(_: &str) -> Box<dyn Analyzer> {
        Box::new(Unseen { told: Bounded::new(MAX_REMEMBERED), unseen: None })
    }
}

impl Analyzer for Unseen {
    fn row(&mut self, row: &dyn Row, out: &mut Rows<'_>) {
        if let Some(unseen) = row.downcast::<TlsUnseen>() {
            self.unseen = Some(TlsUnseen { ..*unseen });
        }
        let Some(connection) = row.downcast::<Connection>() else { return };
        let unseen = self.unseen.take().filter(|unseen| unseen.conn_id == connection.conn_id);
        let what = match unseen {
            Some(TlsUnseen { sent: true, received: true, .. }) => "what went through TLS to",
            Some(TlsUnseen { sent: true, .. }) => "what was sent over TLS to",
            Some(_) => "what was received over TLS from",
            None => return,
        };
        let name = connection.server_name.as_ref().or(connection.peer_address.as_ref());
        let host = name.cloned().unwrap_or_else(|| "an unknown host".to_owned());
        let key = (connection.proc_id, names::brief(&host), what);
        if !self.told.is_first(key) {
            return;
        }
        let Connection { bytes_sent, bytes_received, .. } = connection;
        out(&Finding {
            capture_id: connection.capture_id.clone(),
            rule_id: "tls-without-plaintext".to_owned(),
            severity: "low",
            ts: connection.opened_at,
            subject_kind: "connection",
            subject_key: connection.conn_id.to_string(),
            message: format!("{what} {host} was not seen"),
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
        let (mut analyzer, mut told) = (Unseen::boxed(""), Vec::new());
        let mut out = |row: &dyn Row| told.extend(row.downcast::<Finding>().map(|finding| finding.message.clone()));
        let mut connection = |conn_id, proc_id, host: Option<&str>, unseen: [bool; 2]| {
            let [sent, received] = unseen;
            if sent || received {
                analyzer.row(&TlsUnseen { conn_id, sent, received }, &mut out);
            }
            let server_name = host.map(str::to_owned);
            let peer_address = Some("10.0.0.7".to_owned());
            analyzer
                .row(&Connection { conn_id, proc_id, server_name, peer_address, ..Connection::default() }, &mut out);
        };
        connection(1, 1, Some("a.example"), [true, true]);
        connection(2, 1, Some("a.example"), [true, true]);
        connection(3, 1, Some("b.example"), [false, false]);
        connection(4, 2, Some("a.example"), [true, true]);
        connection(5, 1, None, [true, true]);
        connection(6, 1, Some("a.example"), [true, false]);
        connection(7, 1, Some("a.example"), [false, true]);
        connection(8, 1, Some("a.example"), [false, true]);
        let expected = [
            "what went through TLS to a.example was not seen",
            "what went through TLS to a.example was not seen",
            "what went through TLS to 10.0.0.7 was not seen",
            "what was sent over TLS to a.example was not seen",
            "what was received over TLS from a.example was not seen",
        ];
        assert_eq!(told, expected);
    }
}
