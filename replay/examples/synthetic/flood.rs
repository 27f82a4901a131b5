//! A process that begins things and ends none: what a capture leaves open must not fill the memory of its reader.

use crate::common::{request, response};
use crate::scene::{Actor, Ids, Scene};
use crate::text::Random;
use agentsight_formats::record::direction::{RECEIVED, SENT};

/// What it begins.
#[derive(Clone, Copy)]
pub enum Kind {
    Processes,
    Files,
    Connections,
    ToolCalls,
}

/// As many at once.
const BATCH: usize = 500;

pub struct Flood {
    kind: Kind,
    pid: u32,
    random: Random,
}

impl Flood {
    pub fn new(kind: Kind, ids: &mut Ids, random: Random) -> Self {
        Flood { kind, pid: ids.process(), random }
    }
}

impl Actor for Flood {
    fn act(&mut self, ids: &mut Ids, scene: &mut Scene) -> bool {
        let pid = self.pid;
        match self.kind {
            Kind::Processes => (0..BATCH).for_each(|_| {
                let child = ids.process();
                scene.fork(pid, child);
                scene.exec(child, &["sleep", "infinity"]);
            }),
            Kind::Files => (0..BATCH).for_each(|_| {
                let path = format!("{}-{}", self.random.file(), ids.object());
                scene.open(ids, pid, &path);
            }),
            Kind::Connections => (0..BATCH).for_each(|_| {
                let mut line = scene.connect(ids, pid, "api.example.com", true);
                scene.say(&mut line, SENT, &request("/", "", "")[..40]);
            }),
            Kind::ToolCalls => {
                let call = |_| {
                    let input = r#"{"file_path":"/home/me/project/src/lib.rs","limit":2000}"#;
                    format!(r#"{{"type":"tool_use","id":"toolu_{:016x}","name":"read","input":{input}}}"#, ids.object())
                };
                let calls = (0..BATCH).map(call).collect::<Vec<_>>().join(",");
                let answer = format!(r#"{{"id":"m","model":"x","content":[{calls}],"stop_reason":"tool_use"}}"#);
                let asked = r#"{"model":"x","max_tokens":9,"messages":[{"role":"user","content":"go"}]}"#;
                let mut line = scene.connect(ids, pid, "api.anthropic.com", true);
                scene.say(&mut line, SENT, &request("/v1/messages", "anthropic-version: 2023-06-01\r\n", asked));
                scene.say(&mut line, RECEIVED, &response("", answer.as_bytes()));
                scene.close(&line);
            }
        }
        true
    }
}
