//! Captures that are made here: recorded twice, with a secret, still being written.

use crate::*;
use agentsight_formats::record::direction;
use agentsight_formats::{Clocks, Head, Metadata, Writer};
use serde_json::json;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};

/// A recording of an exchange: who, when, and what is sent to a model.
struct Made<'a> {
    uuid: u8,
    pid: u32,
    start: u64,
    said: &'a str,
}

impl Made<'_> {
    fn clocks(&self, second: u64) -> Clocks {
        let boottime = (self.start + second) * 1_000_000_000;
        Clocks { boottime, monotonic: boottime, realtime: 1_767_225_600_000_000_000 + boottime as i64 }
    }

    fn tls(&self, second: u64, direction: u16, data: &str) -> Vec<u8> {
        let at = (self.clocks(second).boottime, self.pid);
        records::tls(self.uuid.into(), at, (direction, 0), data)
    }

    fn writer<W: Write>(&self, out: W) -> Writer<W> {
        let metadata = Metadata { clocks: self.clocks(0), ..Metadata::default() };
        let mut writer = Writer::new(out, &Head::new([self.uuid; 16], metadata)).unwrap();
        writer.begin_segment(&[], self.clocks(0), &[]).unwrap();
        writer
    }

    fn request(&self) -> Vec<u8> {
        let body = json!({"model": "gpt-4o", "messages": [{"role": "user", "content": self.said}]}).to_string();
        let head =
            format!("POST /v1/chat/completions HTTP/1.1\r\nHost: api.openai.com\r\nContent-Length: {}", body.len());
        self.tls(1, direction::SENT, &format!("{head}\r\n\r\n{body}"))
    }

    fn response(&self) -> Vec<u8> {
        let answer = json!({"index": 0, "message": {"content": "ho"}, "finish_reason": "stop"});
        let id = format!("chatcmpl-{}", self.uuid);
        let body = json!({"id": id, "model": "gpt-4o-2", "choices": [answer]}).to_string();
        self.tls(2, direction::RECEIVED, &format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{body}", body.len()))
    }

    fn write(&self, folder: &TempDir, name: &str) {
        let mut writer = self.writer(File::create(folder.path().join(name)).unwrap());
        writer.push(&self.request()).unwrap();
        writer.push(&self.response()).unwrap();
        writer.checkpoint(self.clocks(3), &[]).unwrap();
        writer.finish().unwrap();
    }
}

#[test]
fn two_recordings_of_one_scenario_are_alike() {
    let folder = folder();
    Made { uuid: 1, pid: 42, start: 5, said: "hi" }.write(&folder, "a.asc");
    Made { uuid: 2, pid: 77, start: 900, said: "hi" }.write(&folder, "b.asc");
    assert_eq!(replay(&folder, "a.asc --bless golden").status.code(), Some(0));
    let passed = format!("agentsight: {} checks passed\n", golden_tables(&folder));
    check(&folder, "b.asc --check golden", 0, "", &passed);
}

#[test]
fn a_secret_that_is_sent_to_a_model_is_found() {
    let folder = folder();
    // Put together here: it must not look like a key to those who look through repositories.
    let key = format!("AKIA{}", "Q3EGRZL7NWTXK5VB");
    Made { uuid: 1, pid: 42, start: 5, said: &format!("my key is {key}") }.write(&folder, "a.asc");
    let output = replay(&folder, &format!("a.asc --assert {}", fixtures().join("assertions").display()));
    let said = text(&output.stdout);
    assert!(
        said.contains("is sent to a model: {") && said.contains("\"rule_id\":\"secret/aws-access-token\""),
        "{said}"
    );
    assert!(!said.contains(&key), "{said}");
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_capture_that_is_still_written_is_followed_to_its_end() {
    let folder = folder();
    let made = Made { uuid: 1, pid: 42, start: 5, said: "hi" };
    let path = folder.path().join("live.asc");
    let mut writer = made.writer(File::create(&path).unwrap());
    let mut child = command(&folder, "--follow live.asc").stdout(Stdio::piped()).spawn().unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut said = String::new();
    out.read_line(&mut said).unwrap();
    assert!(said.starts_with("{\"table\":\"replay\","), "{said}");
    writer.push(&made.request()).unwrap();
    writer.push(&made.response()).unwrap();
    writer.checkpoint(made.clocks(3), &[]).unwrap();
    // The rows are there before the capture is finished.
    while !said.contains("{\"table\":\"llm_calls\"") {
        assert!(out.read_line(&mut said).unwrap() > 0, "{said}");
    }
    writer.checkpoint(made.clocks(60), &[]).unwrap();
    writer.finish().unwrap();
    while out.read_line(&mut said).unwrap() > 0 {}
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert_eq!(said, lines(&folder, "live.asc"));
    assert_eq!(lines(&folder, "--follow live.asc"), said);
    assert_eq!(replay(&folder, "--follow live.asc run.asc").status.code(), Some(2));
}
