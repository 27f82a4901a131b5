//! The plaintext of a connection: which stream a piece belongs to, where in it, and the HTTP that it carries.
//!
//! Plaintext comes under ids of its own (raw ids): that of the socket itself where there is no TLS, of an object of the TLS
//! library, or of one direction where TLS is seen below its connections (AWS-LC, ring). What carries the HTTP of a connection
//! depends on it: two such directions are halves of one conversation; two objects of OpenSSL are two.

use super::{Connection, PORT_DNS};
use crate::conversation::Conversation;
use crate::exchange::{Context, End};
use crate::processes::signed;
use crate::resolved;
use crate::streams::{Carrier, Carrying, Finished, Placed, Raw};
use crate::table::Timestamp;
use agentsight_formats::record::{self, library};

/// Objects of a TLS library that may share a socket: it has one, or the next one before the last is freed. Of one that had to go
/// for others, what comes once more has bytes missing before it.
const MAX_CARRIERS: usize = 8;
const MAX_RAWS: usize = 64;

impl Connection {
    fn raw(&mut self, raw_id: u64, tgid: u32, library: u16) -> &mut Raw {
        let plain = library == library::PLAIN;
        let of = match library {
            library::PLAIN => Carrying::Plain,
            library::AWS_LC | library::RING => Carrying::Halves,
            _ => Carrying::Object(raw_id),
        };
        self.row.plaintext_seen = true;
        self.row.tls_seen |= !plain;
        if !plain {
            self.row.tls_library = library::name(library).map(str::to_owned);
        }
        if self.raws.len() >= MAX_RAWS && !self.raws.contains_key(&raw_id) {
            self.raws.pop_first();
        }
        self.raws.entry(raw_id).or_insert(Raw { tgid, next: [0; 2], base: [None; 2], of })
    }

    /// Finds the place of a piece of plaintext, and counts it.
    pub fn place(&mut self, tls: &record::TlsData, tgid: u32, side: usize, captured: usize) -> Placed {
        let plaintext = self.plaintext[side];
        let raw = self.raw(tls.conn_id.get(), tgid, tls.library.get());
        let (offset, len) = (tls.stream_offset.get(), u64::from(tls.len.get()));
        let base = *raw.base[side].get_or_insert(plaintext.saturating_sub(raw.next[side]));
        let missing = offset.saturating_sub(raw.next[side]);
        // What comes late was taken for missing already.
        let late = raw.next[side].saturating_sub(offset);
        let before = raw.next[side];
        raw.next[side] = before.max(offset.saturating_add(len));
        let (advance, of) = (raw.next[side] - before, raw.of);
        self.plaintext[side] = plaintext.saturating_add(advance);
        let uncaptured = len.saturating_sub(captured as u64);
        self.row.gap_bytes = self.row.gap_bytes.saturating_add(signed(missing.saturating_add(uncaptured)));
        Placed { offset: base.saturating_add(offset), missing, late, of }
    }

    /// Whether this is what goes to a name server and comes from it, or to systemd-resolved. A first message is short, which letters
    /// say of none.
    pub fn is_dns(&mut self, tls: &record::TlsData, data: &[u8]) -> bool {
        let port = Some(i64::from(PORT_DNS));
        let named = self.row.peer_port == port || self.row.local_port == port;
        let resolved = self.row.peer_address.as_deref() == Some(resolved::SOCKET);
        let plain = tls.library.get() == library::PLAIN;
        let message = || data.first().is_none_or(|first| *first < b'A');
        plain && *self.names.get_or_insert_with(|| resolved || named && message())
    }

    /// Hands a piece on to what understands it; exchanges that are complete are appended to `done`.
    pub fn carry(
        &mut self,
        (placed, data, len): (&Placed, &[u8], u64),
        (tgid, proc_id, side, ts): (u32, i64, usize, Timestamp),
        context: &mut Context<'_>,
        done: &mut Vec<Finished>,
    ) {
        let of = placed.of;
        if self.carriers.len() > MAX_CARRIERS {
            let mut oldest = self.carriers.remove(0);
            let mut exchanges = Vec::new();
            oldest.http.finish(ts, End::Limit, context, &mut exchanges);
            done.extend(oldest.finished(exchanges));
        }
        let at = self.carriers.iter().position(|carrier| carrier.of == of).unwrap_or_else(|| {
            let agreed = self.chosen.as_deref() == Some("h2");
            let http = if agreed { Conversation::http2() } else { Conversation::default() };
            self.carriers.push(Carrier { of, tgid, proc_id, http });
            self.carriers.len() - 1
        });
        let Some(carrier) = self.carriers.get_mut(at) else { return };
        let (fresh, uncaptured) = (placed.fresh(data), placed.uncaptured(data, len));
        let mut exchanges = Vec::new();
        context.proc_id = carrier.proc_id;
        if placed.missing > 0 {
            carrier.http.gap(side, ts, placed.missing, context, &mut exchanges);
        }
        if !fresh.is_empty() {
            carrier.http.push(side, ts, fresh, context, &mut exchanges);
        }
        if uncaptured > 0 {
            carrier.http.gap(side, ts, uncaptured, context, &mut exchanges);
        }
        if carrier.http.is_http2() {
            self.seen = Some("h2");
        }
        done.extend(carrier.finished(exchanges));
    }

    /// So many bytes went through a raw id in all: what lacks at the end of its streams is missing.
    pub fn reach(
        &mut self,
        raw_id: u64,
        totals: [u64; 2],
        ts: Timestamp,
        context: &mut Context<'_>,
        done: &mut Vec<Finished>,
    ) {
        let Some(raw) = self.raws.get_mut(&raw_id) else { return };
        let mut carrier = self.carriers.iter_mut().find(|carrier| carrier.of == raw.of);
        // Of what only began as HTTP does, the rest was never to be recorded.
        if raw.of == Carrying::Plain && !carrier.as_ref().is_some_and(|carrier| carrier.http.is_certain()) {
            return;
        }
        let missing = [0, 1].map(|side| totals[side].saturating_sub(raw.next[side]));
        let mut exchanges = Vec::new();
        for (side, missing) in missing.into_iter().enumerate().filter(|(_, missing)| *missing > 0) {
            raw.next[side] = totals[side];
            self.plaintext[side] = self.plaintext[side].saturating_add(missing);
            self.row.gap_bytes = self.row.gap_bytes.saturating_add(signed(missing));
            if let Some(carrier) = &mut carrier {
                carrier.http.gap(side, ts, missing, context, &mut exchanges);
            }
        }
        if let Some(carrier) = carrier {
            done.extend(carrier.finished(exchanges));
        }
    }

    /// A raw id that was there when a segment started. Of one that is not known, everything before is missing.
    pub fn snapshot(&mut self, connection: &record::Connection, tgid: u32) {
        let raw_id = connection.conn_id.get();
        if self.raws.contains_key(&raw_id) {
            return;
        }
        let before = [connection.sent.get(), connection.received.get()];
        let raw = self.raw(raw_id, tgid, connection.library.get());
        raw.next = before;
        for (sum, before) in self.plaintext.iter_mut().zip(before) {
            *sum = sum.saturating_add(before);
        }
        let missing = signed(before[0].saturating_add(before[1]));
        self.row.gap_bytes = self.row.gap_bytes.saturating_add(missing);
    }

    /// Ends the conversations that match.
    fn finish(
        &mut self,
        matching: impl Fn(&Carrier) -> bool,
        (ts, end): (Timestamp, End),
        context: &mut Context<'_>,
        done: &mut Vec<Finished>,
    ) {
        for mut carrier in self.carriers.extract_if(.., |carrier| matching(carrier)) {
            let mut exchanges = Vec::new();
            carrier.http.finish(ts, end, context, &mut exchanges);
            done.extend(carrier.finished(exchanges));
        }
    }

    /// The object of the TLS library was freed.
    pub fn finish_object(&mut self, raw_id: u64, ts: Timestamp, context: &mut Context<'_>, done: &mut Vec<Finished>) {
        self.finish(|carrier| carrier.of == Carrying::Object(raw_id), (ts, End::Closed), context, done);
        self.raws.remove(&raw_id);
    }

    /// The socket was closed: the objects of a TLS library may still hold what it has received.
    pub fn finish_socket(&mut self, ts: Timestamp, context: &mut Context<'_>, done: &mut Vec<Finished>) {
        self.finish(|carrier| !matches!(carrier.of, Carrying::Object(_)), (ts, End::Closed), context, done);
    }

    /// The memory of a process is gone: it has exited, or become another program. Its sockets may go on, in that or in others:
    /// one reads a request, and another answers.
    pub fn finish_process(&mut self, tgid: u32, ts: Timestamp, context: &mut Context<'_>, done: &mut Vec<Finished>) {
        let gone = |of: Carrying, owner: u32| owner == tgid && of != Carrying::Plain;
        self.finish(|carrier| gone(carrier.of, carrier.tgid), (ts, End::Closed), context, done);
        self.raws.retain(|_, raw| !gone(raw.of, raw.tgid));
    }

    pub fn finish_all(&mut self, ts: Timestamp, end: End, context: &mut Context<'_>, done: &mut Vec<Finished>) {
        self.finish(|_| true, (ts, end), context, done);
    }

    /// Whether plaintext may still come.
    pub fn has_streams(&self) -> bool {
        !self.raws.is_empty()
    }
}
