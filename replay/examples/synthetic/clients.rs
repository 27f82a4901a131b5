//! A program that makes many short exchanges: telemetry, lookups, and now and then a small call of a model.

use crate::common::{request, response};
use crate::scene::{Actor, Ids, MILLISECOND, Scene};
use crate::text::{Random, json};
use agentsight_formats::record::direction::{RECEIVED, SENT};

pub struct Client {
    random: Random,
    pid: u32,
    begun: bool,
    connections_left: u64,
}

impl Client {
    pub fn new(ids: &mut Ids, mut random: Random) -> Self {
        let connections_left = random.of(50..2000);
        Client { random, pid: ids.process(), begun: false, connections_left }
    }

    /// A request and its answer.
    fn exchange(&mut self, ids: &mut Ids) -> (Vec<u8>, Vec<u8>) {
        let (random, number) = (&mut self.random, ids.object());
        match random.of(0..4) {
            0 => {
                let prompt = json(&random.text(500));
                let body = format!(
                    r#"{{"model":"gpt-x-mini","messages":[{{"role":"system","content":"Say yes or no."}},{{"role":"user","content":{prompt}}}]}}"#
                );
                let said = json(&random.text(60));
                let answer = format!(
                    r#"{{"id":"chatcmpl-{number}","model":"gpt-x-mini","choices":[{{"index":0,"message":{{"role":"assistant","content":{said}}},"finish_reason":"stop"}}],"usage":{{"prompt_tokens":140,"completion_tokens":20}}}}"#
                );
                (request("/v1/chat/completions", "Authorization: Bearer k\r\n", &body), json_response(&answer))
            }
            1 => {
                let events = json(&random.text(900));
                let body = format!(r#"{{"batch":{number},"events":{events}}}"#);
                (request("/v1/metrics", "Content-Type: application/json\r\n", &body), json_response("{}"))
            }
            _ => {
                let asked = format!(
                    "GET /items/{number}?fields=all HTTP/1.1\r\nHost: api.example.com\r\nAccept: application/json\r\nUser-Agent: client/1.0\r\n\r\n"
                );
                let answer = format!(r#"{{"id":{number},"text":{}}}"#, json(&random.text(700)));
                (asked.into_bytes(), json_response(&answer))
            }
        }
    }
}

fn json_response(body: &str) -> Vec<u8> {
    response("Content-Type: application/json\r\nCache-Control: no-store\r\n", body.as_bytes())
}

impl Actor for Client {
    fn act(&mut self, ids: &mut Ids, scene: &mut Scene) -> bool {
        if !std::mem::replace(&mut self.begun, true) {
            scene.exec(self.pid, &["client", "--all"]);
        }
        if self.connections_left == 0 {
            scene.exit(self.pid);
            return false;
        }
        self.connections_left -= 1;
        let tls = self.random.of(0..5) > 0;
        let mut line = scene.connect(ids, self.pid, "api.example.com", tls);
        for _ in 0..self.random.of(1..6) {
            let (sent, received) = self.exchange(ids);
            scene.say(&mut line, SENT, &sent);
            scene.wait(self.random.of(1..20) * MILLISECOND);
            scene.say(&mut line, RECEIVED, &received);
        }
        scene.close(&line);
        scene.wait(self.random.of(1..50) * MILLISECOND);
        true
    }
}
