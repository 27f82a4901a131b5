//! How connections end: closed, with their process, unheard of, or open still when recording ends.

use super::{Connections, number};
use crate::ahead::Ahead;
use crate::connection::Connection;
use crate::exchange::End;
use crate::output::Output;
use crate::signals::TlsUnseen;
use crate::table::Timestamp;
use crate::wanted::Wanted;
use agentsight_formats::record::{self, sums_of};
use std::collections::{BTreeSet, HashMap};

/// Closed connections of which more may be heard: their TLS library holds bytes, or another process has the socket too.
const MAX_LINGERING: usize = 1024;

/// How long the objects of a TLS library are waited for when their socket is closed, in nanoseconds: what they hold is read at once
/// or not at all, and not every library tells when they are gone.
const SETTLES: i64 = 10_000_000;

impl Connections {
    /// Finishes what was left open when sockets were closed, where nothing was heard of it for a while.
    pub fn settle(&mut self, now: Timestamp, wanted: &Wanted, output: &mut Output<'_>) {
        while let Some(&(key, closed)) = self.settling.front()
            && (closed.0.saturating_add(SETTLES) <= now.0 || self.settling.len() > MAX_LINGERING)
        {
            self.settling.pop_front();
            let Some(mut connection) = self.open.remove(&key) else { continue };
            self.conversations(&mut connection, closed, wanted, output, |connection, context, done| {
                connection.finish_all(closed, End::Closed, context, done);
            });
            self.open.insert(key, connection);
        }
    }

    /// The sums of a socket that was open when recording ended, or of one of its several peers. One that nothing is known of was
    /// told of already.
    pub fn stays_open(&mut self, sums: &record::Sums, ts: Timestamp, wanted: &Wanted, output: &mut Output<'_>) {
        let (key, totals) = (sums.id.get(), [sums.sent.get(), sums.received.get()]);
        let Some(mut connection) = self.open.remove(&key) else { return };
        if sums.what.get() == sums_of::PEER {
            connection.peers.count(sums.number.get(), totals);
            self.open.insert(key, connection);
            return;
        }
        connection.stays_open(totals);
        self.conversations(&mut connection, ts, wanted, output, |connection, context, done| {
            connection.reach(key, totals, ts, context, done);
        });
        self.open.insert(key, connection);
    }

    /// An object of a TLS library was freed.
    pub fn close_tls(
        &mut self,
        close: &record::TlsClose,
        ts: Timestamp,
        ahead: &Ahead,
        wanted: &Wanted,
        output: &mut Output<'_>,
    ) {
        let raw_id = close.conn_id.get();
        let key = ahead.socket_of(raw_id);
        let Some(mut connection) = self.open.remove(&key) else { return };
        let totals = [close.sent.get(), close.received.get()];
        // The socket is closed after it.
        connection.sums = ahead.sums_of(key);
        self.conversations(&mut connection, ts, wanted, output, |connection, context, done| {
            connection.reach(raw_id, totals, ts, context, done);
            connection.finish_object(raw_id, ts, context, done)
        });
        if connection.has_socket && connection.row.closed_at.is_none() {
            self.open.insert(key, connection);
        } else {
            connection.row.closed_at.get_or_insert(ts);
            self.end(key, connection, (ts, End::Capture), wanted, output);
        }
    }

    /// The process is gone, or (`exited` is false) has become another program.
    pub fn close_all_of(&mut self, tgid: u32, ts: Timestamp, exited: bool, wanted: &Wanted, output: &mut Output<'_>) {
        let active = self.active.remove(&tgid).unwrap_or_default();
        // What it has not touched since it became another program then, is as that has left it.
        let keys = if exited { self.of_process.remove(&tgid).unwrap_or_default() } else { active };
        for key in keys {
            let Some(mut connection) = self.open.remove(&key) else { continue };
            connection.active.retain(|active| *active != tgid);
            self.conversations(&mut connection, ts, wanted, output, |connection, context, done| {
                connection.finish_process(tgid, ts, context, done)
            });
            let owned = connection.processes.first() == Some(&tgid) && connection.row.closed_at.is_none();
            if owned && !connection.has_socket {
                connection.row.closed_at = Some(ts);
                self.end(key, connection, (ts, End::Capture), wanted, output);
            } else if owned && exited {
                // Should another process have the socket too, its end is told later.
                connection.row.closed_at = Some(ts);
                self.linger(key, connection, ts, wanted, output);
            } else {
                self.open.insert(key, connection);
            }
        }
    }

    /// The capture ends.
    pub fn finish(&mut self, ts: Timestamp, wanted: &Wanted, output: &mut Output<'_>) {
        let mut rest: Vec<_> = std::mem::take(&mut self.open).into_iter().collect();
        rest.sort_by_key(|(_, connection)| connection.row.conn_id);
        rest.into_iter().for_each(|(key, connection)| self.end(key, connection, (ts, End::Capture), wanted, output));
    }

    /// Keeps a closed connection a while.
    pub(super) fn linger(
        &mut self,
        key: u64,
        connection: Box<Connection>,
        ts: Timestamp,
        wanted: &Wanted,
        output: &mut Output<'_>,
    ) {
        self.open.insert(key, connection);
        self.lingering.push_back(key);
        if self.lingering.len() > MAX_LINGERING
            && let Some(key) = self.lingering.pop_front()
            && let Some(oldest) = self.open.remove(&key)
        {
            self.end(key, oldest, (ts, End::Limit), wanted, output);
        }
    }

    pub(super) fn end(
        &mut self,
        key: u64,
        mut connection: Box<Connection>,
        (ts, end): (Timestamp, End),
        wanted: &Wanted,
        output: &mut Output<'_>,
    ) {
        let end = if connection.row.closed_at.is_some() { End::Closed } else { end };
        if end == End::Closed {
            self.closed.insert(key, ());
        }
        self.conversations(&mut connection, ts, wanted, output, |connection, context, done| {
            connection.finish_all(ts, end, context, done)
        });
        forget(&mut self.of_process, &connection.processes, key);
        forget(&mut self.active, &connection.active, key);
        // What is missing of a direction may be among records that were lost.
        let lost = connection.row.plaintext_seen && self.holes.meet((connection.row.opened_at, ts));
        let [sent, received] = connection.unseen();
        if (sent || received) && !lost {
            output.tell(&TlsUnseen { conn_id: connection.row.conn_id, sent, received });
        }
        connection.into_rows(|| number(&mut self.count)).iter().for_each(|row| output.row(row));
    }
}

/// A connection is over: processes have no part in it any more.
fn forget(of_process: &mut HashMap<u32, BTreeSet<u64>>, processes: &[u32], key: u64) {
    for tgid in processes {
        if let Some(keys) = of_process.get_mut(tgid) {
            keys.remove(&key);
            if keys.is_empty() {
                of_process.remove(tgid);
            }
        }
    }
}
