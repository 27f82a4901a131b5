//! Processes that go a way on which they are not watched: what they do there is in no table.
//!
//! One finding for a process and a way.

use super::{Analyzer, Inputs, Rows, reads};
use crate::bounded::Bounded;
use crate::signals;
use crate::table::Row;
use crate::tables::Finding;

pub(super) const READS: Inputs = reads(&[(signals::Unwatched::TABLE, &[])]);

/// Processes and their ways that are remembered.
const MAX_REMEMBERED: usize = 65_536;

pub(super) struct Unwatched {
    capture_id: String,
    told: Bounded<(i64, &'static str), ()>,
}

impl Unwatched {
    pub fn boxed(capture_id: &str) -> Box<dyn Analyzer> {
        Box::new(Unwatched { capture_id: capture_id.to_owned(), told: Bounded::new(MAX_REMEMBERED) })
    }
}

impl Analyzer for Unwatched {
    fn row(&mut self, row: &dyn Row, out: &mut Rows<'_>) {
        let Some(unwatched) = row.downcast::<signals::Unwatched>() else { return };
        let key = (unwatched.proc_id, unwatched.way);
        if !self.told.is_first(key) {
            return;
        }
        out(&Finding {
            capture_id: self.capture_id.clone(),
            rule_id: "not-watched".to_owned(),
            severity: "medium",
            ts: unwatched.ts,
            subject_kind: "process",
            subject_key: unwatched.proc_id.to_string(),
            message: format!("files, sockets and streams that the process uses by {} are in no table", unwatched.way),
            evidence: None,
        });
    }
}
