//! Makes a capture of a given size, to measure replay with: the same bytes every time.
//!
//!     cargo run --release -p agentsight-replay --example synthetic -- conversations 1000 long.asc
//!     cargo run --release -p agentsight-replay --example synthetic -- exchanges 1000 small.asc
//!
//!     cargo run --release -p agentsight-replay --example synthetic -- processes 200 flood.asc
//!
//! `conversations` are agents that send their growing history with every call and run tools in between; `exchanges` are short
//! ones, some of them calls of models, on connections that live for a few of them; `processes`, `files`, `connections` and `tool-calls` are begun and never ended. The number is megabytes of raw records.

mod agent;
mod clients;
#[path = "../../tests/common/mod.rs"]
mod common;
mod flood;
mod recorder;
mod scene;
mod text;

use flood::{Flood, Kind};
use recorder::Recorder;
use scene::{Actor, Ids, Scene};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use text::Random;

/// Who acts at the same time.
const AGENTS: u64 = 8;
const CLIENTS: u64 = 32;

type Make = Box<dyn Fn(&mut Ids, Random) -> Box<dyn Actor>>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [what, megabytes, path] = &args[..] else {
        return Err("synthetic conversations|exchanges|processes|files|connections|tool-calls MEGABYTES FILE".into());
    };
    let flood = |kind| -> (u64, Make) { (1, Box::new(move |ids, random| Box::new(Flood::new(kind, ids, random)))) };
    let (count, make): (u64, Make) = match what.as_str() {
        "conversations" => (AGENTS, Box::new(|ids, random| Box::new(agent::Agent::new(ids, random)))),
        "exchanges" => (CLIENTS, Box::new(|ids, random| Box::new(clients::Client::new(ids, random)))),
        "processes" => flood(Kind::Processes),
        "files" => flood(Kind::Files),
        "connections" => flood(Kind::Connections),
        "tool-calls" => flood(Kind::ToolCalls),
        other => return Err(format!("nothing is called {other}").into()),
    };
    let mut recorder = Recorder::create(path)?;
    play(&mut recorder, count, &make, megabytes.parse::<u64>()? * 1_000_000)?;
    recorder.finish()?;
    Ok(())
}

/// Lets `count` actors act side by side until there are so many bytes; one that is done is followed by another.
fn play(recorder: &mut Recorder, count: u64, make: &Make, bytes: u64) -> Result<(), Box<dyn std::error::Error>> {
    let mut ids = Ids::default();
    let mut actors: Vec<Box<dyn Actor>> = (0..count).map(|seed| make(&mut ids, Random::new(seed))).collect();
    let mut scenes: Vec<Scene> = actors.iter().map(|_| Scene::default()).collect();
    let mut due: BinaryHeap<Reverse<(u64, usize)>> = (0..actors.len()).map(|at| Reverse((at as u64, at))).collect();
    let mut seed = count;
    while let Some(Reverse((now, at))) = due.pop() {
        if let Some(record) = scenes[at].take() {
            recorder.record(now, record)?;
        } else if recorder.raw_bytes() >= bytes {
            // What has begun is brought to its end.
            continue;
        } else if !actors[at].act(&mut ids, &mut scenes[at]) {
            actors[at] = make(&mut ids, Random::new(seed));
            seed += 1;
        }
        due.push(Reverse((now + scenes[at].delay(), at)));
    }
    Ok(())
}
