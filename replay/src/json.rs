//! Rows as JSON lines. The keys are the columns of the table's one definition, in its order and all of them, so that the lines
//! of a table look alike; `table` comes first.
//!
//! Times are RFC 3339 in UTC with nine digits after the second. Bytes are text where they are UTF-8, else an object with one
//! key, `{"hex": "…"}`: a string is never anything but text.

use crate::analyzers::Entry;
use crate::prices::Prices;
use crate::table::{Row, Value};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};

/// The key that names the table; no column is called so.
pub const TABLE_KEY: &str = "table";

/// What the first line of a replay calls itself; no table is called so.
pub const PINNED: &str = "replay";

/// Writes a row as a line.
///
/// # Errors
/// When `out` refuses.
pub fn line(row: &dyn Row, out: &mut impl Write) -> io::Result<()> {
    let table = row.table();
    key("{", TABLE_KEY, out)?;
    serde_json::to_writer(&mut *out, table.name)?;
    for (index, column) in table.columns.iter().enumerate() {
        key(",", column.name, out)?;
        value(row.value(index), out)?;
    }
    out.write_all(b"}\n")
}

/// Writes the cells of some columns as a line, without the name of the table.
///
/// # Errors
/// When `out` refuses.
pub fn cells(row: &dyn Row, columns: &[usize], out: &mut impl Write) -> io::Result<()> {
    let named = columns.iter().filter_map(|index| row.table().columns.get(*index).map(|column| (*index, column)));
    let mut before = "{";
    for (index, column) in named {
        key(before, column.name, out)?;
        value(row.value(index), out)?;
        before = ",";
    }
    out.write_all(if before == "{" { b"{}\n" } else { b"}\n" })
}

/// The first line of a replay: what its rows depend on besides the capture.
pub fn pinned<'a>(version: &str, analyzers: impl IntoIterator<Item = &'a Entry>, prices: &Prices) -> serde_json::Value {
    let analyzers: BTreeMap<_, _> = analyzers.into_iter().map(|analyzer| (analyzer.name, analyzer.version)).collect();
    serde_json::json!({
        TABLE_KEY: PINNED,
        "agentsight": version,
        "format": format!("{}.{}", agentsight_formats::VERSION, agentsight_formats::MINOR),
        "analyzers": analyzers,
        "prices": prices.pinned(),
    })
}

/// Writes the name of a cell; those of columns need no escapes.
fn key(before: &str, name: &str, out: &mut impl Write) -> io::Result<()> {
    [before, "\"", name, "\":"].iter().try_for_each(|text| out.write_all(text.as_bytes()))
}

/// Writes a cell.
fn value(value: Value<'_>, out: &mut impl Write) -> io::Result<()> {
    match value {
        Value::Null => out.write_all(b"null"),
        Value::Timestamp(ns) => [&b"\""[..], &utc(ns), b"\""].iter().try_for_each(|text| out.write_all(text)),
        Value::BigInt(number) => Ok(serde_json::to_writer(out, &number)?),
        Value::Double(number) => Ok(serde_json::to_writer(out, &number)?),
        Value::Boolean(yes) => write!(out, "{yes}"),
        Value::Varchar(text) => Ok(serde_json::to_writer(out, text)?),
        Value::Varbinary(bytes) => match std::str::from_utf8(bytes) {
            Ok(text) => Ok(serde_json::to_writer(out, text)?),
            Err(_) => write!(out, "{{\"hex\":\"{}\"}}", hex(bytes)),
        },
        Value::VarcharList(texts) => Ok(serde_json::to_writer(out, texts)?),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Nanoseconds since 1970 as RFC 3339 in UTC.
pub fn rfc3339(ns: i64) -> String {
    utc(ns).map(char::from).iter().collect()
}

/// The same as bytes. The date is Howard Hinnant's `civil_from_days`, on years that start in March.
fn utc(ns: i64) -> [u8; 30] {
    let (seconds, nanos) = (ns.div_euclid(1_000_000_000), ns.rem_euclid(1_000_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let since = days + 719_468;
    let (era, day) = (since.div_euclid(146_097), since.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (day, month) = (day - (153 * month + 2) / 5 + 1, if month < 10 { month + 3 } else { month - 9 });
    let year = year + 400 * era + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    let mut out = *b"0000-00-00T00:00:00.000000000Z";
    let fields = [(0..4, year), (5..7, month), (8..10, day), (11..13, hour), (14..16, minute), (17..19, second)];
    for (place, mut number) in fields.into_iter().chain([(20..29, nanos)]) {
        for digit in out[place].iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::{Exec, Stdio, TABLES};

    fn text(row: &dyn Row) -> String {
        let mut out = Vec::new();
        line(row, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn times_are_written_in_utc() {
        let times = [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (951_782_400_000_000_001, "2000-02-29T00:00:00.000000001Z"),
            (1_767_225_599_000_000_000, "2025-12-31T23:59:59.000000000Z"),
            (i64::MAX, "2262-04-11T23:47:16.854775807Z"),
            (i64::MIN, "1677-09-21T00:12:43.145224192Z"),
        ];
        for (ns, text) in times {
            assert_eq!(rfc3339(ns), text);
        }
    }

    #[test]
    fn a_line_has_every_column_and_the_table_first() {
        let exec = Exec { args: vec!["a\"b".into(), "ü".into()], ..Exec::default() };
        let expected = concat!(
            r#"{"table":"execs","capture_id":"","ts":"1970-01-01T00:00:00.000000000Z","proc_id":0,"executable_path":"","#,
            r#""command_line":"","args":["a\"b","ü"],"working_directory":"","truncated":false,"was_running":false,"cause_tool_call_key":null}"#,
            "\n"
        );
        assert_eq!(text(&exec), expected);
    }

    #[test]
    fn bytes_are_text_or_hexadecimal() {
        let data = |data: &[u8]| text(&Stdio { data: data.to_vec(), ..Stdio::default() });
        assert!(data("é\n".as_bytes()).ends_with("\"data\":\"é\\n\"}\n"));
        assert!(data(&[0xff, 0]).ends_with("\"data\":{\"hex\":\"ff00\"}}\n"));
    }

    #[test]
    fn the_keys_of_a_line_are_apart() {
        for table in TABLES {
            assert!(table.column(TABLE_KEY).is_none() && table.name != PINNED, "{}", table.name);
        }
    }
}
