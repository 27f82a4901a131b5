//! Outcomes of checks: as text for people, as JUnit XML for CI, as SARIF 2.1.0 for code hosts that show results at their lines.

use super::{Outcome, Problem};
use serde_json::{Value, json};
use std::fmt::Write;

/// What failed, and how; nothing if nothing did.
pub fn text(outcomes: &[Outcome]) -> String {
    let mut out = String::new();
    for outcome in outcomes.iter().filter(|outcome| outcome.failed()) {
        for Problem { line, title, detail } in &outcome.problems {
            let _ = writeln!(out, "{}:{line}: {}: {title}", outcome.file, outcome.name);
            detail.lines().for_each(|line| out.push_str(&format!("    {line}\n")));
        }
        if outcome.more > 0 {
            let _ = writeln!(out, "{}: {}: and {} more", outcome.file, outcome.name, outcome.more);
        }
    }
    out
}

/// A test suite with a test case for each outcome. No times: they would differ from run to run.
pub fn junit(outcomes: &[Outcome], suite: &str) -> String {
    let failures = outcomes.iter().filter(|outcome| outcome.failed()).count();
    let counts = format!("tests=\"{}\" failures=\"{failures}\" errors=\"0\"", outcomes.len());
    let mut out = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites {counts}>\n");
    let _ = writeln!(out, "  <testsuite name=\"{}\" {counts}>", xml(suite));
    for outcome in outcomes {
        let (name, class) = (xml(&outcome.name), xml(&format!("agentsight.{}", outcome.kind)));
        let _ = write!(out, "    <testcase name=\"{name}\" classname=\"{class}\" file=\"{}\"", xml(&outcome.file));
        match outcome.problems.first() {
            None => out.push_str("/>\n"),
            Some(first) => {
                let text = xml(&text(std::slice::from_ref(outcome)));
                let _ = write!(out, ">\n      <failure message=\"{}\">{text}</failure>\n", xml(&first.title));
                out.push_str("    </testcase>\n");
            }
        }
    }
    out.push_str("  </testsuite>\n</testsuites>\n");
    out
}

/// Escapes text for XML 1.0, which has no place at all for most control characters.
fn xml(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\t' | '\n' => out.push(c),
            '\0'..='\x1f' | '\u{fffe}' | '\u{ffff}' => out.push('\u{fffd}'),
            _ => out.push(c),
        }
        out
    })
}

/// One run with a result for each problem.
pub fn sarif(outcomes: &[Outcome], version: &str) -> Value {
    let id = |outcome: &Outcome| format!("{}/{}", outcome.kind, outcome.name);
    let rules: Vec<Value> = outcomes
        .iter()
        .filter(|outcome| outcome.failed())
        .map(|outcome| json!({"id": id(outcome), "shortDescription": {"text": outcome.name}}))
        .collect();
    let failed = outcomes.iter().filter(|outcome| outcome.failed()).enumerate();
    let results: Vec<Value> = failed
        .flat_map(|(rule, outcome)| outcome.problems.iter().map(move |problem| (rule, outcome, problem)))
        .map(|(rule, outcome, problem)| {
            let text = [problem.title.as_str(), problem.detail.as_str()].join("\n");
            json!({
                "ruleId": id(outcome),
                "ruleIndex": rule,
                "level": "error",
                "message": {"text": text.trim_end()},
                "locations": [{"physicalLocation": {
                    "artifactLocation": {"uri": uri(&outcome.file)},
                    "region": {"startLine": problem.line.max(1)},
                }}],
            })
        })
        .collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": {"driver": {"name": "agentsight", "version": version, "rules": rules}},
            "results": results,
        }],
    })
}

/// A path as a URI reference (RFC 3986).
fn uri(path: &str) -> String {
    path.bytes().fold(String::new(), |mut out, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b'/' => out.push(char::from(byte)),
            _ => {
                let _ = write!(out, "%{byte:02X}");
            }
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcomes() -> [Outcome; 2] {
        let passed =
            Outcome { kind: "golden", name: "http".into(), file: "g/http.ndjson".into(), ..Outcome::default() };
        let problem = Problem { line: 3, title: "a < \"b\"".into(), detail: "x\u{1}\n]]>&".into() };
        let failed = Outcome { file: "g o/a.sql".into(), problems: vec![problem], more: 2, ..passed.clone() };
        [passed, failed]
    }

    #[test]
    fn text_tells_only_of_failures() {
        let expected = "g o/a.sql:3: http: a < \"b\"\n    x\u{1}\n    ]]>&\ng o/a.sql: http: and 2 more\n";
        assert_eq!(text(&outcomes()), expected);
        assert_eq!(text(&outcomes()[..1]), "");
    }

    #[test]
    fn junit_is_escaped() {
        let expected = "\
<?xml version=\"1.0\" encoding=\"UTF-8\"?>
<testsuites tests=\"2\" failures=\"1\" errors=\"0\">
  <testsuite name=\"run\" tests=\"2\" failures=\"1\" errors=\"0\">
    <testcase name=\"http\" classname=\"agentsight.golden\" file=\"g/http.ndjson\"/>
    <testcase name=\"http\" classname=\"agentsight.golden\" file=\"g o/a.sql\">
      <failure message=\"a &lt; &quot;b&quot;\">g o/a.sql:3: http: a &lt; \"b\"
    x\u{fffd}
    ]]&gt;&amp;
g o/a.sql: http: and 2 more
</failure>
    </testcase>
  </testsuite>
</testsuites>
"
        .replace("\"b\"\n", "&quot;b&quot;\n");
        assert_eq!(junit(&outcomes(), "run"), expected);
    }

    #[test]
    fn sarif_points_at_lines() {
        let sarif = sarif(&outcomes(), "1.0");
        let result = &sarif["runs"][0]["results"][0];
        assert_eq!((&result["ruleId"], &result["ruleIndex"]), (&"golden/http".into(), &0.into()));
        let place = &result["locations"][0]["physicalLocation"];
        assert_eq!(place["artifactLocation"]["uri"], "g%20o/a.sql");
        assert_eq!(place["region"]["startLine"], 3);
    }
}
