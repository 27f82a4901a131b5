//! Times as people write and read them.

use chrono::{DateTime, NaiveTime, SecondsFormat, Utc};
use std::time::Duration;

/// Nanoseconds since 1970 as RFC 3339 in UTC, with nanoseconds.
pub fn rfc3339(ns: i64) -> String {
    DateTime::<Utc>::from_timestamp_nanos(ns).to_rfc3339_opts(SecondsFormat::Nanos, true)
}

/// A point in a capture: an RFC 3339 time, a time of day (UTC, on the day of the start), or a time after the start (+5s).
pub fn point(text: &str, start_ns: i64) -> Result<i64, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return time.timestamp_nanos_opt().ok_or_else(|| format!("`{text}` is too far away"));
    }
    if let Ok(time) = text.parse::<NaiveTime>() {
        let day = DateTime::<Utc>::from_timestamp_nanos(start_ns).date_naive();
        let time = day.and_time(time).and_utc().timestamp_nanos_opt();
        return time.ok_or_else(|| format!("`{text}` is too far away"));
    }
    let offset = length(text.strip_prefix('+').unwrap_or(text))
        .map_err(|_| format!("`{text}` is no time: write 2026-01-31T12:00:00Z, 12:00:00, or +5s after the start"))?;
    Ok(start_ns.saturating_add(i64::try_from(offset.as_nanos()).unwrap_or(i64::MAX)))
}

/// Longer than anything is recorded; a point in time may be added to it, which not every number of seconds allows.
const LONGEST: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// A time like `30s`, `1m30s`, `500ms`, or a number of seconds; not none at all.
#[cfg(any(test, all(feature = "capture", target_os = "linux")))]
pub fn duration(text: &str) -> Result<Duration, String> {
    match length(text)? {
        Duration::ZERO => Err(format!("`{text}` is no time at all: write it like 30s, 5m or 1h30m")),
        length => Ok(length),
    }
}

fn length(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is no time: write it like 30s, 5m or 1h30m");
    let too_long = || format!("`{text}` is too long: at most 100 years, and without it there is no end");
    let seconds = |seconds: f64| match seconds {
        0.0.. => Duration::try_from_secs_f64(seconds).ok().filter(|length| *length <= LONGEST).ok_or_else(too_long),
        _ => Err(wrong()),
    };
    if let Ok(number) = text.parse() {
        return seconds(number);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() || text.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let unit = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit);
        let factor = match unit {
            "ms" => 0.001,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        let number: f64 = number.parse().map_err(|_| wrong())?;
        total += seconds(number * factor)?;
        rest = tail;
    }
    if total <= LONGEST { Ok(total) } else { Err(too_long()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        assert_eq!(duration("30s"), Ok(Duration::from_secs(30)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        assert_eq!(duration("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("2.5"), Ok(Duration::from_millis(2500)));
        for wrong in ["", "s", "5x", "-1", "1m2", "nan"] {
            assert!(duration(wrong).unwrap_err().contains("is no time:"), "{wrong}");
        }
    }

    #[test]
    fn a_time_that_is_none_or_never_ends_is_refused_however_it_is_written() {
        for none in ["0", "0s", "0.0", "0h0m", "1e-12"] {
            assert!(duration(none).unwrap_err().contains("no time at all"), "{none}");
        }
        for long in ["1e19", "1e300", "inf", "18446744073709551615s", "99999999999999999999h", "90000000h90000000h"] {
            assert!(duration(long).unwrap_err().contains("too long"), "{long}");
        }
        assert_eq!(point("+0s", 5), Ok(5));
    }

    #[test]
    fn points_are_absolute_or_after_the_start() {
        let start = 1_767_225_600_000_000_000; // 2026-01-01T00:00:00Z
        assert_eq!(point("2026-01-01T00:00:01Z", start), Ok(start + 1_000_000_000));
        assert_eq!(point("00:01:00", start), Ok(start + 60_000_000_000));
        assert_eq!(point("+1.5s", start), Ok(start + 1_500_000_000));
        assert!(point("yesterday", start).is_err());
        assert_eq!(rfc3339(start + 5), "2026-01-01T00:00:00.000000005Z");
    }
}
