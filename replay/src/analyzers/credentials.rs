//! Files with credentials that are read, and those whose content may have gone to a model.
//!
//! What a file held is not recorded. That it went to a model is concluded: a process that a tool call caused read the file, and
//! the result of that call was sent afterwards. Programs that have such a file for themselves (`ssh` and a key) use it and do not
//! show it; so they are left out there. Where nothing says which tool call it was, nothing is concluded.

use super::{Analyzer, Inputs, Rows, reads};
use crate::bounded::Bounded;
use crate::names;
use crate::sensitive::{self, Class};
use crate::shell::base_name;
use crate::table::Row;
use crate::tables::{Exec, File, Finding, ToolCall};

pub(super) const READS: Inputs = reads(&[(Exec::TABLE, &[]), (File::TABLE, &[]), (ToolCall::TABLE, &[])]);

/// Processes, tool calls and findings that are remembered.
const MAX_REMEMBERED: usize = 65_536;

/// Most files that are remembered of one tool call.
const MAX_FILES: usize = 64;

/// Bytes of files that are remembered of tool calls.
const MAX_BYTES: usize = 16 << 20;

/// Arguments that are remembered of a process: names of programs.
const ARGS: usize = 3;

/// A file that a tool call has read.
struct Read {
    path: String,
    class: &'static Class,
}

pub(super) struct Credentials {
    capture_id: String,
    /// How each process was started last.
    programs: Bounded<i64, Vec<String>>,
    /// What was read for calls whose result is still to come.
    read: Bounded<i64, Vec<Read>>,
    /// By the tool call, or else the process, and the file.
    told: Bounded<(Option<i64>, i64, String), ()>,
}

impl Credentials {
    pub fn boxed(capture_id: &str) -> Box<dyn Analyzer> {
        Box::new(Credentials {
            capture_id: capture_id.to_owned(),
            programs: Bounded::new(MAX_REMEMBERED),
            read: Bounded::of_bytes(MAX_REMEMBERED, MAX_BYTES),
            told: Bounded::new(MAX_REMEMBERED),
        })
    }

    fn file(&mut self, file: &File, out: &mut Rows<'_>) {
        // A file that was read says so when it is closed.
        let bytes = file.bytes_read.filter(|bytes| *bytes > 0);
        let (Some(path), Some(bytes)) = (&file.path, bytes) else { return };
        let Some(class) = sensitive::class(path) else { return };
        let program = self.programs.get(&file.proc_id).map(Vec::as_slice).unwrap_or_default();
        let owner = class.is_of(program);
        let cause = file.cause_tool_call_key;
        let severity = match (cause, owner) {
            (None, true) => return,
            (Some(_), false) => "medium",
            _ => "low",
        };
        let of = if cause.is_some() { 0 } else { file.proc_id };
        let key = (cause, of, names::brief(path));
        if !self.told.is_first(key) {
            return;
        }
        let who = program.first().map_or("a process", |program| base_name(program));
        out(&Finding {
            capture_id: self.capture_id.clone(),
            rule_id: "credential-file-read".to_owned(),
            severity,
            ts: file.ts,
            subject_kind: "file",
            subject_key: format!("{}@{}", file.proc_id, file.ts.0),
            message: format!("{who} read {}", class.holds),
            evidence: Some(format!("{bytes} bytes of {path}")),
        });
        let Some(call) = cause.filter(|_| !owner) else { return };
        let mut files = self.read.remove(&call).unwrap_or_default();
        if files.len() < MAX_FILES {
            files.push(Read { path: path.clone(), class });
        }
        let bytes = files.iter().map(|file| size_of::<Read>() + file.path.len()).sum();
        self.read.insert_bytes(call, files, bytes);
    }

    fn answered(&mut self, call: &ToolCall, out: &mut Rows<'_>) {
        let files = self.read.remove(&call.tool_call_key).unwrap_or_default();
        let bytes = call.result.as_ref().map_or(0, String::len);
        let Some(llm_call_id) = call.result_llm_call_id.filter(|_| bytes > 0) else { return };
        let tool = call.tool_name.as_deref().unwrap_or("a tool");
        for Read { path, class } in files {
            out(&Finding {
                capture_id: self.capture_id.clone(),
                rule_id: "credential-file-sent".to_owned(),
                severity: "high",
                ts: call.result_ts.unwrap_or_default(),
                subject_kind: "tool_call",
                subject_key: call.tool_call_key.to_string(),
                message: format!(
                    "{tool} read {}, and its result went to the model with call {llm_call_id}",
                    class.holds
                ),
                evidence: Some(format!("{path}, a result of {bytes} bytes")),
            });
        }
    }
}

impl Analyzer for Credentials {
    fn row(&mut self, row: &dyn Row, out: &mut Rows<'_>) {
        if let Some(exec) = row.downcast::<Exec>() {
            self.programs
                .insert(exec.proc_id, exec.args.iter().take(ARGS).map(|arg| names::brief(base_name(arg))).collect());
        } else if let Some(file) = row.downcast::<File>() {
            self.file(file, out);
        } else if let Some(call) = row.downcast::<ToolCall>() {
            self.answered(call, out);
        }
    }
}
