//! The time that a row is about. It begins with the earliest of its times, and ends with the last of its columns of times: in
//! every table that is where the end stands. Where that is null the end was not seen, and what the row is about goes on.

use crate::table::{ColumnType, Row, Value};

/// From when to when, in nanoseconds since 1970; `None` where it is open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    pub start: Option<i64>,
    pub end: Option<i64>,
}

/// The span of a row; open at both ends if the table has no time.
pub fn of(row: &dyn Row) -> Span {
    let columns = row.table().columns.iter().enumerate().filter(|(_, column)| column.kind == ColumnType::Timestamp);
    let times = columns.map(|(index, _)| match row.value(index) {
        Value::Timestamp(time) => Some(time),
        _ => None,
    });
    times.fold(Span::default(), |span, time| Span { start: [span.start, time].into_iter().flatten().min(), end: time })
}

impl Span {
    /// Whether any of it lies at or after `from` and before `to`.
    pub fn within(self, from: Option<i64>, to: Option<i64>) -> bool {
        let ends_before = from.zip(self.end).is_some_and(|(from, end)| end < from);
        let starts_after = to.zip(self.start).is_some_and(|(to, start)| start >= to);
        !ends_before && !starts_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::table::Timestamp;
    use crate::tables::{Exec, LlmCall, Process};

    #[test]
    fn a_row_spans_from_its_first_time_to_its_last() {
        let call = LlmCall { start_ts: Some(Timestamp(5)), end_ts: Some(Timestamp(9)), ..LlmCall::default() };
        assert_eq!(of(&call), Span { start: Some(5), end: Some(9) });
        let running = Process { start_ts: Some(Timestamp(5)), ..Process::default() };
        assert_eq!(of(&running), Span { start: Some(5), end: None });
        assert_eq!(of(&Exec { ts: Timestamp(5), ..Exec::default() }), Span { start: Some(5), end: Some(5) });
    }

    #[test]
    fn what_reaches_into_a_time_is_within_it() {
        let span = Span { start: Some(5), end: Some(9) };
        assert!(span.within(None, None) && span.within(Some(9), None) && span.within(Some(6), Some(7)));
        assert!(!span.within(Some(10), None) && !span.within(None, Some(5)));
        assert!(Span { start: Some(5), end: None }.within(Some(100), None));
    }
}
