//! Numbers of bytes, as people write and read them.

/// Takes `4096`, `64k`, `16M`, `1.5GB`, `2GiB`: without an `i`, too, K, M and G are powers of 1024, as dd and tar have it.
///
/// # Errors
/// A text that says how to write it.
pub fn parse(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is no size: write it like 4096, 64k, 16M or 2G");
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(end);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let unit = unit.to_ascii_lowercase();
    let exponent = match unit.trim_end_matches('b').trim_end_matches('i') {
        "" => 0,
        "k" => 1,
        "m" => 2,
        "g" => 3,
        "t" => 4,
        _ => return Err(wrong()),
    };
    let bytes = number * 1024f64.powi(exponent);
    if bytes >= 1.0 && bytes < u64::MAX as f64 { Ok(bytes as u64) } else { Err(wrong()) }
}

/// A size for people: 1.5 MB.
pub fn text(count: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let mut value = count as f64;
    let mut unit = 0;
    while value >= 1000.0 && unit + 1 < UNITS.len() {
        value /= 1000.0;
        unit += 1;
    }
    if unit == 0 { format!("{count} B") } else { format!("{value:.1} {}", UNITS[unit]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_rounded_for_people() {
        assert_eq!([text(999), text(1500), text(2_000_000)], ["999 B", "1.5 kB", "2.0 MB"]);
    }

    #[test]
    fn sizes_are_taken_as_people_write_them() {
        let sizes = ["4096", "64k", "16M", "16MiB", "16mb", "1.5G"].map(|text| parse(text).unwrap());
        assert_eq!(sizes, [4096, 64 << 10, 16 << 20, 16 << 20, 16 << 20, 3 << 29]);
        for text in ["", "k", "0", "-1", "12q", "1.2.3", "1e400", "NaN", "99999999T"] {
            let message = parse(text).unwrap_err();
            assert!(message.contains("write it like"), "{message}");
        }
    }
}
