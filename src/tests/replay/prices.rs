//! Prices of one's own.

use crate::*;

/// What `agentsight replay` and `agentsight query` say with these prices: exit status, standard output and standard error.
fn priced(folder: &TempDir, file: &str) -> [(Option<i32>, String, String); 2] {
    let mut query = Command::new(AGENTSIGHT);
    let sql = "SELECT input_tokens, cost_usd, price_table FROM llm_calls";
    query.current_dir(folder).args(["query", "--format", "ndjson", "--prices", file, sql, "run.asc"]);
    let replay = command(folder, &format!("run.asc --table llm_calls --prices {file}"));
    [replay, query].map(|mut command| {
        let output = command.output().unwrap();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    })
}

#[test]
fn other_prices_make_other_costs() {
    let folder = folder();
    let built_in = rows(&folder, "run.asc --table llm_calls");
    // A dollar for a token of the prompt.
    let table = r#"{"name": "ours", "date": "2026-01-31", "models": {"claude-sonnet-4-5":
        {"input": 1000000, "output": 0, "cache_read": 1000000, "cache_write": 1000000, "cache_write_1h": 1000000}}}"#;
    std::fs::write(folder.path().join("ours.json"), table).unwrap();
    for (status, out, err) in priced(&folder, "ours.json") {
        assert_eq!((status, err.as_str()), (Some(0), ""));
        let calls: Vec<Value> = out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        if let Some(prices) = calls[0].get("prices") {
            assert_eq!((&prices["name"], &prices["date"]), (&"ours".into(), &"2026-01-31".into()));
        }
        let calls: Vec<_> = calls.iter().filter(|row| row.get("input_tokens").is_some()).collect();
        assert_eq!(calls.len(), built_in.len());
        for (call, before) in calls.iter().zip(&built_in) {
            assert_eq!(call["cost_usd"].as_f64(), before["input_tokens"].as_f64());
            assert_ne!(call["cost_usd"], before["cost_usd"]);
            assert!(call["price_table"].as_str().unwrap().starts_with("ours 2026-01-31 "), "{call}");
        }
    }
}

#[test]
fn prices_that_cannot_be_read_are_told_with_what_would_be_right() {
    let folder = folder();
    std::fs::write(folder.path().join("bad.json"), r#"{"name": "x", "date": "y", "models": {"m": {"input": 1}}}"#)
        .unwrap();
    let bad = "agentsight: bad.json: no table of prices: missing field `output` at line 1 column 55; \
        write {\"name\": \"…\", \"date\": \"2026-01-31\", \"models\": {\"MODEL\": {\"input\": 3, \"output\": 15}}}, \
        in US dollars for a million tokens\n";
    let missing = "agentsight: none.json: No such file or directory (os error 2)\n";
    for (file, message) in [("bad.json", bad), ("none.json", missing)] {
        for said in priced(&folder, file) {
            assert_eq!(said, (Some(1), String::new(), message.to_owned()));
        }
    }
}
