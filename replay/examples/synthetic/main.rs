//! Makes a capture of a given size, to measure replay with: the same bytes every time.
//!
//!     cargo run --release -p agentsight-replay --example synthetic -- conversations 1000 long.asc
//!     cargo run --release -p agentsight-replay --example synthetic -- exchanges 1000 small.asc
//!
//! `conversations` are agents that send their growing history with every call and run tools in between; `exchanges` are short
//! ones, some of them calls of models, on connections that live for a few of them. The number is megabytes of raw records.

mod agent;
mod clients;
#[path = "../../tests/common/mod.rs"]
mod common;
mod recorder;
mod scene;
mod text;

use recorder::Recorder;
use scene::{Actor, Ids, Scene};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use text::Random;

/// Who acts at the same time.
const AGENTS: u64 = 8;
const CLIENTS: u64 = 32;

type Make = fn(&mut Ids, Random) -> Box<dyn Actor>;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [what, megabytes, path] = &args[..] else {
        return Err("synthetic conversations|exchanges MEGABYTES FILE".into());
    };
    let (count, make): (u64, Make) = match what.as_str() {
        "conversations" => (AGENTS, |ids, random| Box::new(agent::Agent::new(ids, random))),
        "exchanges" => (CLIENTS, |ids, random| Box::new(clients::Client::new(ids, random))),
        other => return Err(format!("neither conversations nor exchanges: {other}").into()),
    };
    let mut recorder = Recorder::create(path)?;
    play(&mut recorder, count, make, megabytes.parse::<u64>()? * 1_000_000)?;
    recorder.finish()?;
    Ok(())
}

/// Lets `count` actors act side by side until there are so many bytes; one that is done is followed by another.
fn play(recorder: &mut Recorder, count: u64, make: Make, bytes: u64) -> Result<(), Box<dyn std::error::Error>> {
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
