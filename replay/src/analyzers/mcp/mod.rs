//! The Model Context Protocol: which client asked which server for what, and what it answered.
//!
//! Everything that is JSON-RPC 2.0 could be it, and is taken for it only once a method (or a header of HTTP) shows that it is. An
//! `initialize` need not have been seen: a capture may start later, and the newest version has none.

#[cfg(any(fuzzing, test))]
pub(crate) mod fuzz;
mod http;
mod methods;
mod sessions;
mod stdio;
mod tools;

use super::{Analyzer, Inputs, Rows, reads};
use crate::signals::{Ends, Posted};
use crate::table::Row;
use crate::tables::{self, StreamEvent};

pub(super) const READS: Inputs = reads(&[
    (tables::Stdio::TABLE, &["data"]),
    (tables::Http::TABLE, &["request_body", "response_body"]),
    (StreamEvent::TABLE, &[]),
    (Ends::TABLE, &[]),
    (Posted::TABLE, &[]),
]);

pub(super) struct Mcp {
    stdio: stdio::Stdio,
    http: http::Http,
    sessions: sessions::Sessions,
}

impl Mcp {
    pub fn boxed(capture_id: &str) -> Box<dyn Analyzer> {
        let sessions = sessions::Sessions::new(capture_id);
        Box::new(Mcp { stdio: stdio::Stdio::default(), http: http::Http::default(), sessions })
    }
}

impl Analyzer for Mcp {
    fn row(&mut self, row: &dyn Row, out: &mut Rows<'_>) {
        if let Some(piece) = row.downcast::<tables::Stdio>() {
            self.stdio.piece(piece, &mut self.sessions, out);
        } else if let Some(event) = row.downcast::<StreamEvent>() {
            self.http.event(event);
        } else if let Some(http) = row.downcast::<tables::Http>() {
            self.http.exchange(http, &mut self.sessions, out);
        } else if let Some(ends) = row.downcast::<Ends>() {
            self.http.ends(ends);
        } else if let Some(posted) = row.downcast::<Posted>() {
            self.http.posted(posted).iter().for_each(|serving| out(serving));
        }
    }

    fn finish(&mut self, out: &mut Rows<'_>) {
        self.sessions.finish(out);
    }
}
