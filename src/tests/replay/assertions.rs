//! Assertions as SQL.

use crate::*;

#[test]
fn assertions_hold_or_are_told_by_their_titles() {
    let folder = folder();
    let shipped = fixtures().join("assertions");
    let args = |capture: &str| format!("{capture} --assert {}", shipped.display());
    let count = files_in(&shipped, "sql");
    check(&folder, &args("run.asc"), 0, "", &format!("agentsight: {count} checks passed\n"));
    let output = replay(&folder, &args("parallel.asc"));
    let said = text(&output.stdout);
    let title = ": No tool is called twice with the same arguments and the same result: {\"tool_name\":\"bash\",";
    assert!(said.contains(title) && said.lines().count() == 1, "{said}");
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text(&output.stderr), format!("agentsight: 1 of {count} checks failed\n"));
}

#[test]
fn a_file_may_hold_several_assertions() {
    let folder = folder();
    let sql = "\
-- About this file.

-- No call is slow;
-- 'slow' is an hour
SELECT * FROM llm_calls WHERE duration_ns > 3600000000000;

/* No model
 * but one */
SELECT request_model, count(*) AS n FROM llm_calls WHERE request_model <> ';' GROUP BY 1;
SELECT 1 WHERE false
";
    std::fs::write(folder.path().join("some.sql"), sql).unwrap();
    let expected = "some.sql:9: No model but one: {\"request_model\":\"claude-sonnet-4-5\",\"n\":3}\n";
    check(&folder, "run.asc --assert some.sql --junit j.xml", 1, expected, "agentsight: 1 of 3 checks failed\n");
    let junit = std::fs::read_to_string(folder.path().join("j.xml")).unwrap();
    let names: Vec<_> = junit.split("<testcase name=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert_eq!(names, ["No call is slow; 'slow' is an hour", "No model but one", "some"]);

    std::fs::write(folder.path().join("wrong.sql"), "\nSELECT * FROM llm_call").unwrap();
    let message = "agentsight: wrong.sql:2: no table `llm_call` (did you mean llm_calls, llm_call_messages, llm_messages?); `agentsight query --tables` lists them\n";
    check(&folder, "run.asc --assert wrong.sql", 1, "", message);
    std::fs::write(folder.path().join("empty.sql"), "-- nothing\n").unwrap();
    check(&folder, "run.asc --assert empty.sql", 1, "", "agentsight: empty.sql: no SQL in it\n");
    assert_eq!(replay(&folder, "run.asc --assert some.sql --table execs").status.code(), Some(2));
}
