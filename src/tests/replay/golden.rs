//! Golden rows: made, compared, and what may differ.

use crate::*;

#[test]
fn what_was_blessed_is_as_it_should_be() {
    let folder = folder();
    let blessed = text(&replay(&folder, "run.asc --bless golden").stderr);
    let tables = golden_tables(&folder);
    assert!(tables > 10);
    assert_eq!(blessed, format!("agentsight: golden: golden rows of {tables} tables\n"));
    let golden = |name: &str| std::fs::read_to_string(folder.path().join("golden").join(name)).unwrap();
    let before = golden("llm_calls.ndjson");
    assert!(before.starts_with("{\"wire_api\":\"anthropic.messages\",") && !before.contains("_ts"), "{before}");
    check(&folder, "run.asc --check golden", 0, "", &format!("agentsight: {tables} checks passed\n"));
    // Blessing again changes nothing.
    assert_eq!(replay(&folder, "run.asc --bless golden").status.code(), Some(0));
    assert_eq!(golden("llm_calls.ndjson"), before);
    check(&folder, "run.asc --check golden --table execs", 0, "", "agentsight: 1 checks passed\n");
}

#[test]
fn a_difference_names_table_row_column_expected_and_seen() {
    let folder = folder();
    replay(&folder, "run.asc --bless golden");
    edit(&folder, "golden/llm_calls.ndjson", "\"output_tokens\":27", "\"output_tokens\":28");
    let difference = "\
golden/llm_calls.ndjson:2: llm_calls: row 2 differs in output_tokens
    output_tokens: expected 28
                       seen 27
";
    let tables = golden_tables(&folder);
    let summary = format!(
        "agentsight: 1 of {tables} checks failed\n\
         agentsight: where the new rows are right, take them with --bless golden\n"
    );
    check(&folder, "run.asc --check golden --junit junit.xml --sarif out.sarif", 1, difference, &summary);

    let junit = std::fs::read_to_string(folder.path().join("junit.xml")).unwrap();
    let start = format!("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuites tests=\"{tables}\" failures=\"1\"");
    assert!(junit.starts_with(&start), "{junit}");
    assert!(junit.contains("<failure message=\"row 2 differs in output_tokens\">"), "{junit}");
    // Well-formed: tags are closed in the order in which they were opened.
    let mut open = Vec::new();
    for tag in junit.split('<').skip(2).map(|rest| rest.split('>').next().unwrap()) {
        match tag.strip_prefix('/') {
            Some(name) => assert_eq!(open.pop(), Some(name)),
            None if tag.ends_with('/') => {}
            None => open.push(tag.split(' ').next().unwrap()),
        }
    }
    assert_eq!(open, [""; 0]);

    let sarif: Value =
        serde_json::from_str(&std::fs::read_to_string(folder.path().join("out.sarif")).unwrap()).unwrap();
    let result = &sarif["runs"][0]["results"][0];
    assert_eq!((&sarif["version"], &result["ruleId"]), (&"2.1.0".into(), &"golden/llm_calls".into()));
    let place = &result["locations"][0]["physicalLocation"];
    assert_eq!(place["artifactLocation"]["uri"], "golden/llm_calls.ndjson");
    assert_eq!(place["region"]["startLine"], 2);

    // A check that fails says more than that something is missing.
    let whole = std::fs::read(folder.path().join("run.asc")).unwrap();
    std::fs::write(folder.path().join("cut.asc"), &whole[..whole.len() - 100]).unwrap();
    assert_eq!(replay(&folder, "cut.asc --check golden").status.code(), Some(1));
}

#[test]
fn a_policy_says_what_may_differ() {
    let folder = folder();
    replay(&folder, "run.asc --bless golden");
    edit(&folder, "golden/llm_calls.ndjson", "\"output_tokens\":27", "\"output_tokens\":28");
    let policy = |text: &str| std::fs::write(folder.path().join("golden/policy.json"), text).unwrap();
    let status = |args: &str| replay(&folder, args).status.code().unwrap();
    for rule in ["\"ignored\"", "{\"tolerance\": 1}", "{\"tolerance\": \"4%\"}"] {
        policy(&format!(r#"{{"tables": {{"llm_calls": {{"columns": {{"output_tokens": {rule}}}}}}}}}"#));
        assert_eq!(status("run.asc --check golden"), 0, "{rule}");
    }
    policy(r#"{"columns": {"output_tokens": {"tolerance": "3%"}}}"#);
    assert_eq!(status("run.asc --check golden"), 1);
    policy(r#"{"tables": {"llm_calls": "ignored"}}"#);
    assert_eq!(status("run.asc --check golden"), 0);
    check(
        &folder,
        "run.asc --check golden --table llm_calls",
        1,
        "",
        "agentsight: the policy ignores the table llm_calls; to compare it, write {\"tables\": {\"llm_calls\": {}}} into golden/policy.json\n",
    );
    policy(r#"{"tables": {"llm_call": "ignored"}}"#);
    check(
        &folder,
        "run.asc --check golden",
        1,
        "",
        "agentsight: golden/policy.json: no table `llm_call` (did you mean llm_calls, llm_call_messages, llm_messages?)\n",
    );
    // Everything is compared, to the last nanosecond, if that is wanted.
    policy(r#"{"default": "exact"}"#);
    let runs = golden_tables(&folder);
    replay(&folder, "run.asc --bless golden");
    let tables = golden_tables(&folder);
    assert!(tables > runs);
    check(&folder, "run.asc --check golden", 0, "", &format!("agentsight: {tables} checks passed\n"));
}

#[test]
fn wrong_uses_of_checks_say_what_would_be_right() {
    let folder = folder();
    check(
        &folder,
        "run.asc --check none",
        1,
        "",
        "agentsight: none holds no golden rows: make them with --bless none\n",
    );
    let two = "agentsight: golden rows are of one recording, and 2 are named\n";
    check(&folder, "run.asc parallel.asc --bless golden", 2, "", two);
    let reports = "agentsight: --policy, --junit and --sarif go with --check or --assert\n";
    check(&folder, "run.asc --junit x.xml", 2, "", reports);
    assert_eq!(replay(&folder, "run.asc --bless a --check b").status.code(), Some(2));
    replay(&folder, "run.asc --bless golden");
    edit(&folder, "golden/execs.ndjson", "{", "");
    let output = replay(&folder, "run.asc --check golden");
    let message = text(&output.stderr);
    assert!(message.starts_with("agentsight: golden/execs.ndjson: line 1 is no golden row ("), "{message}");
}
