//! Records of an agent that asks a model for tools, and of what it starts.

use super::*;
use agentsight_formats::record::direction::{RECEIVED, SENT};
use agentsight_formats::record::{Exec, ExecArgs, Exit, File, Fork, file_op};
use serde_json::{Value, json};
use zerocopy::FromZeros;

/// The agent.
pub const AGENT: u32 = 10;

pub const VERSION: &str = "anthropic-version: 2023-06-01\r\n";

/// Records of an agent and what it starts, a millisecond one after the other.
#[derive(Default)]
pub struct Run {
    pub script: Script,
    files: u64,
}

impl Run {
    pub fn new() -> Self {
        let mut run = Run::default();
        run.exec(AGENT, &["agent"]);
        run
    }

    pub fn time(&mut self) -> u64 {
        self.script.time += 1_000_000;
        self.script.time
    }

    pub fn fork(&mut self, parent: u32, child: u32) {
        let time = self.time();
        let fork = Fork {
            header: header(kind::FORK, time, parent),
            child_tgid: child.into(),
            child_start: time.into(),
            ..Fork::new_zeroed()
        };
        self.script.records.push(bytes(&fork, &[]));
    }

    pub fn exec(&mut self, tgid: u32, args: &[&str]) {
        let time = self.time();
        let data: Vec<u8> = args.iter().flat_map(|arg| [arg.as_bytes(), b"\0"].concat()).collect();
        let path = format!("/usr/bin/{}", args[0]);
        let exec = Exec {
            header: header(kind::EXEC, time, tgid),
            args_len: (data.len() as u32).into(),
            path_len: (path.len() as u16).into(),
            cwd_len: 2.into(),
            ..Exec::new_zeroed()
        };
        let rest = ExecArgs {
            header: header(kind::EXEC_ARGS, time, tgid),
            len: (data.len() as u32).into(),
            captured: (data.len() as u32).into(),
            ..ExecArgs::new_zeroed()
        };
        self.script.records.push(bytes(&exec, &[path.as_bytes(), b"/w"]));
        self.script.records.push(bytes(&rest, &[&data]));
    }

    /// A process starts a program.
    pub fn start(&mut self, parent: u32, child: u32, args: &[&str]) {
        self.fork(parent, child);
        self.exec(child, args);
    }

    pub fn exit(&mut self, tgid: u32) {
        let time = self.time();
        self.script.records.push(bytes(&Exit { header: header(kind::EXIT, time, tgid), ..Exit::new_zeroed() }, &[]));
    }

    /// A process opens a file, reads so many bytes and closes it.
    pub fn read(&mut self, tgid: u32, path: &str, read: u64) {
        self.files += 1;
        let fixed = |time, op: u16, bytes_read: u64, path_len: usize| File {
            header: header(kind::FILE, time, tgid),
            op: op.into(),
            file_id: self.files.into(),
            bytes_read: bytes_read.into(),
            path_len: (path_len as u16).into(),
            ..File::new_zeroed()
        };
        let open = fixed(self.script.time + 1, file_op::OPEN, 0, path.len());
        let close = fixed(self.script.time + 2, file_op::CLOSE, read, 0);
        self.script.records.push(bytes(&open, &[path.as_bytes()]));
        self.script.records.push(bytes(&close, &[]));
        self.script.time += 2;
    }

    pub fn unlink(&mut self, tgid: u32, path: &str) {
        let time = self.time();
        let file = File {
            header: header(kind::FILE, time, tgid),
            op: file_op::UNLINK.into(),
            path_len: (path.len() as u16).into(),
            ..File::new_zeroed()
        };
        self.script.records.push(bytes(&file, &[path.as_bytes()]));
    }

    /// The model asks for tools: id, name and arguments of each.
    pub fn ask(&mut self, calls: &[(&str, &str, &str)]) {
        let blocks: Vec<String> = calls
            .iter()
            .map(|(id, name, input)| format!(r#"{{"type":"tool_use","id":"{id}","name":"{name}","input":{input}}}"#))
            .collect();
        let answer = format!(r#"{{"id":"m","model":"x","content":[{}],"stop_reason":"tool_use"}}"#, blocks.join(","));
        self.exchange(r#"{"model":"x","max_tokens":9,"messages":[{"role":"user","content":"go"}]}"#, &answer);
    }

    /// The agent sends results.
    pub fn answer(&mut self, ids: &[&str]) {
        let results: Vec<_> = ids.iter().map(|id| (*id, "ok")).collect();
        self.answer_with(&results);
    }

    /// The agent sends results: id and text of each.
    pub fn answer_with(&mut self, results: &[(&str, &str)]) {
        let part = |(id, text): &(&str, &str)| json!({"type": "tool_result", "tool_use_id": id, "content": text});
        let parts: Vec<Value> = results.iter().map(part).collect();
        let body = json!({"model": "x", "max_tokens": 9, "messages": [{"role": "user", "content": parts}]});
        self.exchange(&body.to_string(), r#"{"id":"m","model":"x","content":[],"stop_reason":"end_turn"}"#);
    }

    pub fn exchange(&mut self, body: &str, answer: &str) {
        self.time();
        self.script.say(1, SENT, &request("/v1/messages", VERSION, body));
        self.time();
        self.script.say(1, RECEIVED, &response("", answer.as_bytes()));
    }

    pub fn rows(&self) -> Collected {
        rows(&self.script.records)
    }
}
