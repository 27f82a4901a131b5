//! A policy says, for each table and column, what may differ between golden rows and those of a replay. It is a JSON file:
//!
//! ```json
//! {
//!   "default": "runs",
//!   "columns": {"working_directory": "ignored"},
//!   "tables": {
//!     "metrics": "ignored",
//!     "execs": {"order": "set"},
//!     "llm_calls": {"columns": {"input_tokens": {"tolerance": "5%"}, "output_tokens": {"tolerance": 20}}}
//!   }
//! }
//! ```
//!
//! `default` is `runs` (ignores what differs between two runs of one agent) or `exact` (nothing may differ: for replays of one
//! recording). A column is `exact`, `ignored`, `set` (a list whose order does not count) or has a `tolerance`: a number in the
//! column's unit, or a percentage of what is expected. `columns` holds for every table that has them; what `tables` says goes
//! before. A table is `ignored`, or an object; its `order` is `rows` (one after the other) or `set`.

use super::defaults;
use crate::nearest::{did_you_mean, nearest};
use crate::table::{Column, ColumnType, TableDef};
use crate::tables::TABLES;
use serde_json::{Map, Value};

/// How a column is compared.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Rule {
    Exact,
    Ignored,
    /// Of a list: the order of its elements does not count.
    Set,
    /// So much more or less.
    Absolute(f64),
    /// So much more or less of what is expected: 0.05 for 5%.
    Relative(f64),
}

/// How a table is compared.
#[derive(Clone, Debug)]
pub struct TableRules {
    pub table: &'static TableDef,
    pub ignored: bool,
    /// Whether the order of rows does not count.
    pub set: bool,
    /// By position of the column.
    rules: Vec<Rule>,
}

impl TableRules {
    pub fn rule(&self, column: usize) -> Rule {
        self.rules.get(column).copied().unwrap_or(Rule::Ignored)
    }

    /// Positions of the columns that are compared: those which golden files hold.
    pub fn columns(&self) -> Vec<usize> {
        (0..self.rules.len()).filter(|column| self.rule(*column) != Rule::Ignored).collect()
    }
}

/// Rules for every table.
#[derive(Clone, Debug)]
pub struct Policy {
    tables: Vec<TableRules>,
}

/// What is wrong with a policy file; says where, and what would be right.
#[derive(Debug, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(String);

impl Default for Policy {
    fn default() -> Self {
        Policy::with_defaults(false)
    }
}

impl Policy {
    fn with_defaults(exact: bool) -> Self {
        let of = |table: &&'static TableDef| TableRules {
            table,
            ignored: !exact && defaults::is_ignored(table),
            set: !exact && defaults::is_set(table),
            rules: table.columns.iter().map(|column| defaults::rule(table, column, exact)).collect(),
        };
        Policy { tables: TABLES.iter().map(of).collect() }
    }

    /// Reads a policy file.
    ///
    /// # Errors
    /// When it is no JSON, or names or asks for what there is not.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let value: Value = serde_json::from_str(text).map_err(|error| PolicyError(format!("is no JSON: {error}")))?;
        let file = object("the policy", &value, &["default", "columns", "tables"])?;
        let exact = match file.get("default") {
            None => false,
            Some(default) => choice("default", default, &["runs", "exact"])? == "exact",
        };
        let mut policy = Policy::with_defaults(exact);
        for (name, rule) in section("columns", file.get("columns"))? {
            policy.everywhere(name, rule)?;
        }
        for (name, rules) in section("tables", file.get("tables"))? {
            let Some(of_table) = policy.tables.iter_mut().find(|rules| rules.table.name == name) else {
                let near = nearest(name, TABLES.iter().map(|table| table.name));
                return Err(PolicyError(format!("no table `{name}`{}", did_you_mean(&near))));
            };
            of_table.change(rules)?;
        }
        Ok(policy)
    }

    /// The rules of a table.
    pub fn table(&self, table: &TableDef) -> Option<&TableRules> {
        self.tables.iter().find(|rules| rules.table.name == table.name)
    }

    fn everywhere(&mut self, name: &str, value: &Value) -> Result<(), PolicyError> {
        let mut known = false;
        for rules in &mut self.tables {
            if let Some(column) = rules.table.column(name) {
                known = true;
                rules.set_rule(column, value)?;
            }
        }
        let names = || TABLES.iter().flat_map(|table| table.columns.iter().map(|column| column.name));
        let near = || did_you_mean(&nearest(name, names()));
        if known { Ok(()) } else { Err(PolicyError(format!("no table has a column `{name}`{}", near()))) }
    }
}

impl TableRules {
    fn change(&mut self, value: &Value) -> Result<(), PolicyError> {
        let name = self.table.name;
        if value.is_string() {
            choice(name, value, &["ignored"])?;
            self.ignored = true;
            return Ok(());
        }
        self.ignored = false;
        let fields = object(name, value, &["order", "columns"])?;
        if let Some(order) = fields.get("order") {
            self.set = choice(&format!("{name}.order"), order, &["rows", "set"])? == "set";
        }
        for (column, rule) in section(&format!("{name}.columns"), fields.get("columns"))? {
            let Some(index) = self.table.column(column) else {
                let near = nearest(column, self.table.columns.iter().map(|column| column.name));
                return Err(PolicyError(format!("table {name} has no column `{column}`{}", did_you_mean(&near))));
            };
            self.set_rule(index, rule)?;
        }
        Ok(())
    }

    fn set_rule(&mut self, index: usize, value: &Value) -> Result<(), PolicyError> {
        let Some(column) = self.table.columns.get(index) else { return Ok(()) };
        let rule = rule(&format!("{}.{}", self.table.name, column.name), column, value)?;
        if let Some(old) = self.rules.get_mut(index) {
            *old = rule;
        }
        Ok(())
    }
}

fn rule(name: &str, column: &Column, value: &Value) -> Result<Rule, PolicyError> {
    if let Some(tolerance) = value.as_object().and_then(|object| object.get("tolerance")) {
        object(name, value, &["tolerance"])?;
        if !matches!(column.kind, ColumnType::BigInt | ColumnType::Double) {
            return Err(PolicyError(format!("{name}: a tolerance is for numbers")));
        }
        return self::tolerance(tolerance)
            .ok_or_else(|| PolicyError(format!("{name}: {tolerance} is no tolerance: write a number, or \"5%\"")));
    }
    match choice(name, value, &["exact", "ignored", "set"]) {
        Ok("exact") => Ok(Rule::Exact),
        Ok("ignored") => Ok(Rule::Ignored),
        Ok(_) if column.kind == ColumnType::VarcharList => Ok(Rule::Set),
        Ok(_) => Err(PolicyError(format!(
            "{name}: only a list can be a set; for rows in any order, give the table \"order\": \"set\""
        ))),
        Err(PolicyError(text)) => Err(PolicyError(format!("{text}, or {{\"tolerance\": 5}}"))),
    }
}

fn tolerance(value: &Value) -> Option<Rule> {
    let sane = |number: &f64| *number >= 0.0 && number.is_finite();
    match value {
        Value::Number(number) => number.as_f64().filter(sane).map(Rule::Absolute),
        Value::String(text) => {
            let percent: f64 = text.strip_suffix('%')?.trim().parse().ok()?;
            Some(percent).filter(sane).map(|percent| Rule::Relative(percent / 100.0))
        }
        _ => None,
    }
}

/// An object that has no other keys than these.
fn object<'v>(name: &str, value: &'v Value, keys: &[&str]) -> Result<&'v Map<String, Value>, PolicyError> {
    let wrong = |text: String| PolicyError(format!("{name}: {text}; its keys are {}", keys.join(", ")));
    let map = value.as_object().ok_or_else(|| wrong(format!("{value} is no object")))?;
    match map.keys().find(|key| !keys.contains(&key.as_str())) {
        Some(key) => Err(wrong(format!("no key `{key}`"))),
        None => Ok(map),
    }
}

/// The entries of an object that may be left out.
fn section<'v>(name: &str, value: Option<&'v Value>) -> Result<Vec<(&'v String, &'v Value)>, PolicyError> {
    match value {
        None => Ok(Vec::new()),
        Some(Value::Object(map)) => Ok(map.iter().collect()),
        Some(other) => Err(PolicyError(format!("{name}: {other} is no object"))),
    }
}

fn choice<'c>(name: &str, value: &Value, choices: &[&'c str]) -> Result<&'c str, PolicyError> {
    let found = value.as_str().and_then(|text| choices.iter().find(|choice| **choice == text));
    let quoted: Vec<_> = choices.iter().map(|choice| format!("\"{choice}\"")).collect();
    found.copied().ok_or_else(|| PolicyError(format!("{name}: {value} is not one of {}", quoted.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tables::table;

    fn rule_of(policy: &Policy, name: &str, column: &str) -> Rule {
        let table = table(name).unwrap();
        policy.table(table).unwrap().rule(table.column(column).unwrap())
    }

    #[test]
    fn by_default_ids_times_and_durations_are_ignored() {
        let policy = Policy::default();
        for (table, column) in [
            ("http", "http_id"),
            ("http", "request_ts"),
            ("llm_calls", "duration_ns"),
            ("connections", "peer_port"),
            ("processes", "pid"),
            ("tool_calls", "tool_call_key"),
        ] {
            assert_eq!(rule_of(&policy, table, column), Rule::Ignored, "{table}.{column}");
        }
        for (table, column) in [("http", "path"), ("llm_calls", "output_tokens"), ("execs", "args")] {
            assert_eq!(rule_of(&policy, table, column), Rule::Exact, "{table}.{column}");
        }
    }

    #[test]
    fn the_more_particular_rule_wins() {
        let policy = Policy::parse(
            r#"{"default": "exact", "columns": {"proc_id": "ignored"}, "tables": {
                "execs": {"order": "set", "columns": {"proc_id": "exact", "args": "set"}}, "http": "ignored",
                "llm_calls": {"columns": {"input_tokens": {"tolerance": "5%"}, "output_tokens": {"tolerance": 2}}}}}"#,
        )
        .unwrap();
        assert_eq!(rule_of(&policy, "files", "proc_id"), Rule::Ignored);
        assert_eq!(rule_of(&policy, "execs", "proc_id"), Rule::Exact);
        assert_eq!(rule_of(&policy, "execs", "args"), Rule::Set);
        assert_eq!(rule_of(&policy, "files", "ts"), Rule::Exact);
        assert_eq!(rule_of(&policy, "captures", "file"), Rule::Ignored);
        assert_eq!(rule_of(&policy, "llm_calls", "input_tokens"), Rule::Relative(0.05));
        assert_eq!(rule_of(&policy, "llm_calls", "output_tokens"), Rule::Absolute(2.0));
        let of = |name| policy.table(table(name).unwrap()).unwrap();
        assert!(of("http").ignored && of("execs").set && !of("files").set && !of("metrics").ignored);
    }

    #[test]
    fn errors_say_where_and_what_would_be_right() {
        for (text, expected) in [
            ("[", "is no JSON: EOF while parsing a list at line 1 column 1"),
            (r#"{"table": {}}"#, "the policy: no key `table`; its keys are default, columns, tables"),
            (r#"{"default": "all"}"#, r#"default: "all" is not one of "runs", "exact""#),
            (r#"{"tables": {"llm_call": {}}}"#, "no table `llm_call` (did you mean llm_calls, "),
            (
                r#"{"tables": {"execs": {"columns": {"arg": "set"}}}}"#,
                "table execs has no column `arg` (did you mean args?)",
            ),
            (r#"{"columns": {"proc_idd": "exact"}}"#, "no table has a column `proc_idd` (did you mean proc_id, "),
            (
                r#"{"columns": {"path": "some"}}"#,
                r#"files.path: "some" is not one of "exact", "ignored", "set", or {"tolerance": 5}"#,
            ),
            (r#"{"columns": {"path": {"tolerance": 1}}}"#, "files.path: a tolerance is for numbers"),
            (r#"{"columns": {"path": "set"}}"#, "files.path: only a list can be a set"),
            (
                r#"{"columns": {"idx": {"tolerance": "x"}}}"#,
                r#"stream_events.idx: "x" is no tolerance: write a number, or "5%""#,
            ),
        ] {
            let error = Policy::parse(text).unwrap_err().to_string();
            assert!(error.starts_with(expected), "{error}");
        }
    }
}
