//! An agent in a long conversation: every call sends all that was said before, and tools run in between.

use crate::common::{chunked, request};
use crate::scene::{Actor, Ids, Line, MILLISECOND, Scene};
use crate::text::{Random, json, pieces};
use agentsight_formats::record::direction::{RECEIVED, SENT};
use agentsight_formats::record::metric;

/// Bytes of a piece of a streamed answer.
const PIECE: usize = 18;

/// Which API the agent speaks.
#[derive(Clone, Copy, PartialEq)]
enum Api {
    Anthropic,
    OpenAi,
}

/// A tool call that the model asks for.
struct Asked {
    id: String,
    name: &'static str,
    input: String,
}

pub struct Agent {
    api: Api,
    random: Random,
    pid: u32,
    /// The connection to the model.
    line: Option<Line>,
    /// What stands before the conversation in each request: instructions and tools.
    preamble: String,
    /// The messages so far, as JSON, joined by commas.
    history: String,
    calls_left: u64,
    calls: u64,
}

impl Agent {
    pub fn new(ids: &mut Ids, mut random: Random) -> Self {
        let api = if random.of(0..3) == 0 { Api::OpenAi } else { Api::Anthropic };
        let preamble = preamble(api, &mut random);
        let calls_left = random.of(90..150);
        Agent { api, random, pid: ids.process(), line: None, preamble, history: String::new(), calls_left, calls: 0 }
    }

    fn add(&mut self, message: &str) {
        if !self.history.is_empty() {
            self.history.push(',');
        }
        self.history.push_str(message);
    }

    /// What a person asks for.
    fn prompt(&mut self) {
        let text = json(&self.random.text(600));
        self.add(&format!(r#"{{"role":"user","content":{text}}}"#));
    }

    /// Asks the model; returns the tool calls in its answer.
    fn call(&mut self, ids: &mut Ids, scene: &mut Scene) -> Vec<Asked> {
        let said = self.random.text(300);
        let asks = if self.calls % 12 == 11 { 0 } else { self.random.of(1..3) };
        let asked: Vec<Asked> = (0..asks).map(|_| asked(ids, &mut self.random)).collect();
        let (body, events) = match self.api {
            Api::Anthropic => {
                (format!("{{{},\"messages\":[{}]}}", self.preamble, self.history), anthropic(&said, &asked))
            }
            Api::OpenAi => (format!("{{{},{}]}}", self.preamble, self.history), openai(&said, &asked)),
        };
        let (host, sent) = match self.api {
            Api::Anthropic => (
                "api.anthropic.com",
                request("/v1/messages", "anthropic-version: 2023-06-01\r\nx-api-key: k\r\n", &body),
            ),
            Api::OpenAi => ("api.openai.com", request("/v1/chat/completions", "Authorization: Bearer k\r\n", &body)),
        };
        let line = self.line.get_or_insert_with(|| scene.connect(ids, self.pid, host, true));
        scene.say(line, SENT, &sent);
        scene.wait(self.random.of(300..900) * MILLISECOND);
        // The head and each event come on their own.
        let whole = chunked("Content-Type: text/event-stream\r\n", &[]);
        let (head, end) = whole.split_at(whole.len() - b"0\r\n\r\n".len());
        scene.say(line, RECEIVED, head);
        for event in events {
            scene.wait(self.random.of(5..40) * MILLISECOND);
            scene.say(line, RECEIVED, format!("{:x}\r\n{event}\r\n", event.len()).as_bytes());
        }
        scene.say(line, RECEIVED, end);
        self.answered(&said, &asked);
        self.calls += 1;
        asked
    }

    /// Adds what the model said to the conversation.
    fn answered(&mut self, said: &str, asked: &[Asked]) {
        let said = json(said);
        let calls = asked.iter().map(|Asked { id, name, input }| match self.api {
            Api::Anthropic => format!(r#"{{"type":"tool_use","id":"{id}","name":"{name}","input":{input}}}"#),
            Api::OpenAi => format!(
                r#"{{"id":"{id}","type":"function","function":{{"name":"{name}","arguments":{}}}}}"#,
                json(input)
            ),
        });
        let calls: Vec<String> = calls.collect();
        let message = match (self.api, calls.is_empty()) {
            (Api::Anthropic, _) => {
                let text = format!(r#"{{"type":"text","text":{said}}}"#);
                let blocks = std::iter::once(text).chain(calls).collect::<Vec<_>>().join(",");
                format!(r#"{{"role":"assistant","content":[{blocks}]}}"#)
            }
            (Api::OpenAi, true) => format!(r#"{{"role":"assistant","content":{said}}}"#),
            (Api::OpenAi, false) => {
                format!(r#"{{"role":"assistant","content":{said},"tool_calls":[{}]}}"#, calls.join(","))
            }
        };
        self.add(&message);
    }

    /// Runs what was asked for, and adds the results to the conversation.
    fn run(&mut self, asked: &[Asked], ids: &mut Ids, scene: &mut Scene) {
        let mut results = Vec::new();
        for Asked { id, name, input } in asked {
            let bytes = self.random.of(500..12_000);
            let output = self.random.text(bytes as usize);
            match *name {
                "bash" => self.shell(input, &output, ids, scene),
                _ => {
                    let path = serde_json::from_str::<serde_json::Value>(input).unwrap_or_default();
                    let path = path["file_path"].as_str().unwrap_or_default();
                    scene.file(ids, self.pid, path, (output.len() as u64, 0));
                }
            }
            let output = json(&output);
            match self.api {
                Api::Anthropic => {
                    results.push(format!(r#"{{"type":"tool_result","tool_use_id":"{id}","content":{output}}}"#));
                }
                Api::OpenAi => {
                    self.add(&format!(r#"{{"role":"tool","tool_call_id":"{id}","content":{output}}}"#));
                }
            }
        }
        if self.api == Api::Anthropic {
            self.add(&format!(r#"{{"role":"user","content":[{}]}}"#, results.join(",")));
        }
    }

    /// A shell that reads some files and prints.
    fn shell(&mut self, input: &str, output: &str, ids: &mut Ids, scene: &mut Scene) {
        let arguments = serde_json::from_str::<serde_json::Value>(input).unwrap_or_default();
        let command = arguments["command"].as_str().unwrap_or_default();
        let (shell, child) = (ids.process(), ids.process());
        scene.fork(self.pid, shell);
        scene.exec(shell, &["bash", "-c", command]);
        scene.fork(shell, child);
        scene.exec(child, &command.split(' ').collect::<Vec<_>>());
        for _ in 0..self.random.of(5..40) {
            scene.file(ids, child, &self.random.file(), (4096, 0));
        }
        scene.stdio(child, ids.object(), output.as_bytes());
        if self.random.of(0..10) == 0 {
            let line = scene.connect(ids, child, "crates.example.org", true);
            scene.close(&line);
        }
        scene.wait(20 * MILLISECOND);
        scene.exit(child);
        scene.exit(shell);
    }
}

impl Actor for Agent {
    fn act(&mut self, ids: &mut Ids, scene: &mut Scene) -> bool {
        if self.line.is_none() {
            scene.exec(self.pid, &["agent", "--continue"]);
            self.prompt();
        }
        if self.calls_left == 0 {
            self.line.iter().for_each(|line| scene.close(line));
            scene.exit(self.pid);
            return false;
        }
        self.calls_left -= 1;
        let asked = self.call(ids, scene);
        if asked.is_empty() {
            scene.wait(3000 * MILLISECOND);
            self.prompt();
        } else {
            self.run(&asked, ids, scene);
        }
        scene.metric(self.pid, metric::RSS, 200_000_000);
        scene.metric(self.pid, metric::USER_TIME, self.calls as i64 * 1_000_000);
        true
    }
}

fn asked(ids: &mut Ids, random: &mut Random) -> Asked {
    let id = format!("toolu_{:012x}", ids.object());
    let file = random.file();
    let (name, input) = match random.of(0..3) {
        0 => ("read", format!(r#"{{"file_path":"{file}"}}"#)),
        1 => ("edit", format!(r#"{{"file_path":"{file}","new_text":{}}}"#, json(&random.text(400)))),
        _ => ("bash", format!(r#"{{"command":"rg -n word{} {file}"}}"#, random.of(0..1000))),
    };
    Asked { id, name, input }
}

fn preamble(api: Api, random: &mut Random) -> String {
    let instructions = json(&random.text(12_000));
    let tools: Vec<String> = (0..16)
        .map(|tool| {
            let description = json(&random.text(1200));
            let schema = r#"{"type":"object","properties":{"file_path":{"type":"string"},"limit":{"type":"integer"}}}"#;
            match api {
                Api::Anthropic => {
                    format!(r#"{{"name":"tool_{tool}","description":{description},"input_schema":{schema}}}"#)
                }
                Api::OpenAi => format!(
                    r#"{{"type":"function","function":{{"name":"tool_{tool}","description":{description},"parameters":{schema}}}}}"#
                ),
            }
        })
        .collect();
    let tools = tools.join(",");
    match api {
        Api::Anthropic => format!(
            r#""model":"claude-x-4","max_tokens":32000,"stream":true,"system":[{{"type":"text","text":{instructions}}}],"tools":[{tools}]"#
        ),
        Api::OpenAi => format!(
            r#""model":"gpt-x","stream":true,"stream_options":{{"include_usage":true}},"tools":[{tools}],"messages":[{{"role":"system","content":{instructions}}}"#
        ),
    }
}

/// An answer as Anthropic streams it.
fn anthropic(said: &str, asked: &[Asked]) -> Vec<String> {
    let event = |name: &str, rest: &str| format!("event: {name}\ndata: {{\"type\":\"{name}\"{rest}}}\n\n");
    let start = r#","message":{"id":"msg_1","type":"message","role":"assistant","model":"claude-x-4","content":[],"stop_reason":null,"usage":{"input_tokens":12,"cache_creation_input_tokens":2000,"cache_read_input_tokens":90000,"output_tokens":1}}"#;
    let mut events = vec![event("message_start", start)];
    let mut block = |index: usize, start: &str, delta: &dyn Fn(&str) -> String, whole: &str| {
        events.push(event("content_block_start", &format!(r#","index":{index},"content_block":{start}"#)));
        for piece in pieces(whole, PIECE) {
            events.push(event("content_block_delta", &format!(r#","index":{index},"delta":{}"#, delta(piece))));
        }
        events.push(event("content_block_stop", &format!(r#","index":{index}"#)));
    };
    let text = |piece: &str| format!(r#"{{"type":"text_delta","text":{}}}"#, json(piece));
    block(0, r#"{"type":"text","text":""}"#, &text, said);
    for (at, Asked { id, name, input }) in asked.iter().enumerate() {
        let start = format!(r#"{{"type":"tool_use","id":"{id}","name":"{name}","input":{{}}}}"#);
        let part = |piece: &str| format!(r#"{{"type":"input_json_delta","partial_json":{}}}"#, json(piece));
        block(at + 1, &start, &part, input);
    }
    let reason = if asked.is_empty() { "end_turn" } else { "tool_use" };
    events.push(event(
        "message_delta",
        &format!(r#","delta":{{"stop_reason":"{reason}","stop_sequence":null}},"usage":{{"output_tokens":220}}"#),
    ));
    events.push(event("message_stop", ""));
    events
}

/// An answer as OpenAI streams it.
fn openai(said: &str, asked: &[Asked]) -> Vec<String> {
    let chunk = |delta: &str, rest: &str| {
        format!(
            "data: {{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"gpt-x\",\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{rest}}}]}}\n\n"
        )
    };
    let mut events = vec![chunk(r#"{"role":"assistant","content":""}"#, "null")];
    events.extend(pieces(said, PIECE).iter().map(|piece| chunk(&format!(r#"{{"content":{}}}"#, json(piece)), "null")));
    for (index, Asked { id, name, input }) in asked.iter().enumerate() {
        let start = format!(
            r#"{{"tool_calls":[{{"index":{index},"id":"{id}","type":"function","function":{{"name":"{name}","arguments":""}}}}]}}"#
        );
        events.push(chunk(&start, "null"));
        events.extend(pieces(input, PIECE).iter().map(|piece| {
            let delta = format!(r#"{{"tool_calls":[{{"index":{index},"function":{{"arguments":{}}}}}]}}"#, json(piece));
            chunk(&delta, "null")
        }));
    }
    events.push(chunk("{}", if asked.is_empty() { "\"stop\"" } else { "\"tool_calls\"" }));
    events.push("data: {\"id\":\"chatcmpl-1\",\"choices\":[],\"usage\":{\"prompt_tokens\":92012,\"completion_tokens\":220,\"prompt_tokens_details\":{\"cached_tokens\":90000}}}\n\n".to_owned());
    events.push("data: [DONE]\n\n".to_owned());
    events
}
