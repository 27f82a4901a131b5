//! Agents that go round in circles: the same tool with the same arguments and the same result again and again, errors one after
//! the other, the same question to the model.
//!
//! Each is told when it has happened often enough, and once more when it has gone on for long; a retry after an error is no
//! repeated question.

use super::{Analyzer, Inputs, Rows, reads};
use crate::bounded::Bounded;
use crate::names;
use crate::table::{Row, Timestamp};
use crate::tables::{Finding, LlmCall, LlmCallMessage, ToolCall};

pub(super) const READS: Inputs = reads(&[(LlmCall::TABLE, &[]), (LlmCallMessage::TABLE, &[]), (ToolCall::TABLE, &[])]);

/// How often the same makes a loop, and how often one that has run away.
const LOOP: u32 = 3;
const RUNAWAY: u32 = 10;

/// How many errors in a row are too many.
const ERRORS: u32 = 5;

/// Calls, and what was counted, that are remembered.
const MAX_REMEMBERED: usize = 65_536;

/// Who uses tools: a conversation, or (where that is not known) a process.
type Who = (Option<i64>, i64);

/// What was done by whom: tool, arguments and result, in this turn.
type Done = (Who, [Option<String>; 3], Option<i64>);

/// A call whose messages come.
struct Asked {
    id: i64,
    agent_id: Option<i64>,
    proc_id: i64,
    ts: Timestamp,
    /// The model, and the last message that it is sent: its hash stands for all before it.
    model: String,
    last: Option<(i64, String)>,
    failed: bool,
}

pub(super) struct Loops {
    capture_id: String,
    calls: Bounded<i64, Who>,
    asked: Option<Asked>,
    same: Bounded<Done, u32>,
    /// By the tool.
    tool_errors: Bounded<(Who, Option<String>), u32>,
    /// By the agent and its process, the model and the last message.
    questions: Bounded<(Option<i64>, i64, String, String), u32>,
    /// By the process.
    model_errors: Bounded<i64, u32>,
}

impl Loops {
    pub fn boxed(capture_id: &str) -> Box<dyn Analyzer> {
        Box::new(Loops {
            capture_id: capture_id.to_owned(),
            calls: Bounded::new(MAX_REMEMBERED),
            asked: None,
            same: Bounded::new(MAX_REMEMBERED),
            tool_errors: Bounded::new(MAX_REMEMBERED),
            questions: Bounded::new(MAX_REMEMBERED),
            model_errors: Bounded::new(MAX_REMEMBERED),
        })
    }

    fn tool(&mut self, call: &ToolCall, out: &mut Rows<'_>) {
        let Some(&who) = call.llm_call_id.and_then(|id| self.calls.get(&id)) else { return };
        if call.result_hash.is_none() {
            return;
        }
        let name = call.tool_name.as_deref().unwrap_or("a tool");
        let tool = call.tool_name.as_deref().map(names::brief);
        let what = [tool.clone(), call.args_hash.clone(), call.result_hash.clone()];
        let capture_id = self.capture_id.clone();
        let finding = |rule: &str, severity, message| Finding {
            ts: call.result_ts.unwrap_or_default(),
            ..finding(&capture_id, rule, severity, ("tool_call", call.tool_call_key), message)
        };
        let count = counted(&mut self.same, (who, what, call.turn_id));
        let says = format!("{name} was called {count} times with the same arguments, and gave the same result");
        let repeated = match count {
            LOOP => Some(finding("tool-call-repeated", "low", says)),
            RUNAWAY => Some(finding("tool-call-runaway", "high", says)),
            _ => None,
        };
        let errors = (who, tool);
        let failed = if call.is_error == Some(true) {
            let count = counted(&mut self.tool_errors, errors);
            let says = format!("{name} failed {count} times in a row");
            (count == ERRORS).then(|| finding("tool-errors-repeated", "medium", says))
        } else {
            self.tool_errors.remove(&errors);
            None
        };
        repeated.into_iter().chain(failed).for_each(|finding| out(&finding));
    }

    /// The messages of the last call are known.
    fn question(&mut self, out: &mut Rows<'_>) {
        let Some(asked) = self.asked.take() else { return };
        let subject = ("llm_call", asked.id);
        let finding = if asked.failed {
            let count = counted(&mut self.model_errors, asked.proc_id);
            let says = format!("{count} calls of {} in a row failed", asked.model);
            (count == ERRORS).then(|| finding(&self.capture_id, "llm-errors-repeated", "medium", subject, says))
        } else {
            self.model_errors.remove(&asked.proc_id);
            let Some((_, last)) = asked.last else { return };
            let count = counted(&mut self.questions, (asked.agent_id, asked.proc_id, names::brief(&asked.model), last));
            let says = format!("{} was asked the same {count} times", asked.model);
            match count {
                LOOP => Some(finding(&self.capture_id, "llm-call-repeated", "low", subject, says)),
                RUNAWAY => Some(finding(&self.capture_id, "llm-call-runaway", "high", subject, says)),
                _ => None,
            }
        };
        finding.into_iter().for_each(|finding| out(&Finding { ts: asked.ts, ..finding }));
    }
}

fn finding(
    capture_id: &str,
    rule: &str,
    severity: &'static str,
    subject: (&'static str, i64),
    message: String,
) -> Finding {
    Finding {
        capture_id: capture_id.to_owned(),
        rule_id: rule.to_owned(),
        severity,
        subject_kind: subject.0,
        subject_key: subject.1.to_string(),
        message,
        ..Finding::default()
    }
}

/// Counts one more.
fn counted<K: Clone + Eq + std::hash::Hash>(counts: &mut Bounded<K, u32>, key: K) -> u32 {
    let count = counts.remove(&key).unwrap_or_default().saturating_add(1);
    counts.insert(key, count);
    count
}

impl Analyzer for Loops {
    fn row(&mut self, row: &dyn Row, out: &mut Rows<'_>) {
        if let Some(call) = row.downcast::<LlmCall>() {
            self.question(out);
            let who = (call.conversation_id, if call.conversation_id.is_some() { 0 } else { call.proc_id });
            self.calls.insert(call.llm_call_id, who);
            self.asked = Some(Asked {
                id: call.llm_call_id,
                agent_id: call.agent_id,
                proc_id: call.proc_id,
                ts: call.start_ts.unwrap_or_default(),
                model: call.request_model.clone().unwrap_or_else(|| "a model".to_owned()),
                last: None,
                failed: call.error_type.is_some() || call.aborted,
            });
        } else if let Some(message) = row.downcast::<LlmCallMessage>() {
            let of_it = |asked: &&mut Asked| asked.id == message.llm_call_id && message.direction == "sent";
            if let Some(asked) = self.asked.as_mut().filter(of_it)
                && asked.last.as_ref().is_none_or(|(position, _)| *position < message.position)
            {
                asked.last = Some((message.position, message.message_hash.clone()));
            }
        } else if let Some(call) = row.downcast::<ToolCall>() {
            self.tool(call, out);
        }
    }

    fn finish(&mut self, out: &mut Rows<'_>) {
        self.question(out);
    }
}
