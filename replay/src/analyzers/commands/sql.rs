//! SQL that throws data away.

/// How severe the worst statement of a text is, and what it does.
pub(super) fn harm(text: &str) -> Option<(&'static str, String)> {
    let statements = text.split(';').filter_map(statement);
    statements.reduce(|worst, other| if worst.0 == "medium" { other } else { worst })
}

fn statement(text: &str) -> Option<(&'static str, String)> {
    let lines = text.lines().map(|line| line.split("--").next().unwrap_or_default());
    let words: Vec<String> = lines.flat_map(str::split_whitespace).take(64).map(str::to_ascii_lowercase).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words[..] {
        ["drop", kind @ ("database" | "schema"), _, ..] => Some(("high", format!("drops a {kind}"))),
        ["drop", "table", _, ..] => Some(("medium", "drops a table".to_owned())),
        ["truncate", "table", _, ..] => Some(("medium", "empties a table".to_owned())),
        ["truncate", table] if is_name(table) => Some(("medium", "empties a table".to_owned())),
        ["delete", "from", table] if is_name(table) => Some(("medium", "deletes all rows of a table".to_owned())),
        _ => None,
    }
}

fn is_name(word: &str) -> bool {
    word.chars().all(|c| c.is_alphanumeric() || "_.\"`[]$".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_that_throw_data_away_are_known() {
        let cases = [
            ("DROP TABLE IF EXISTS users;", Some("medium")),
            ("select 1; -- x\n drop\n database main", Some("high")),
            ("drop table a; drop schema b; drop table c", Some("high")),
            ("TRUNCATE users", Some("medium")),
            ("truncate table users cascade", Some("medium")),
            ("DELETE FROM users", Some("medium")),
            ("DELETE FROM users WHERE id = 1", None),
            ("select 'drop table x'", None),
            ("-- drop table x", None),
            ("create table drops (a int)", None),
            ("truncate -s 0 x", None),
        ];
        for (text, expected) in cases {
            assert_eq!(harm(text).map(|(severity, _)| severity), expected, "{text}");
        }
    }
}
