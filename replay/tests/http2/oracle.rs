//! Connections of another implementation (`vectors.py`), whole, cut, and with something missing.

use crate::common::{Cells, Collected, Script, rows};
use serde_json::Value;
use std::collections::BTreeSet;

struct Vector {
    name: String,
    pieces: Vec<(u16, Vec<u8>)>,
    streams: Vec<Value>,
}

fn vectors() -> Vec<Vector> {
    let all: Vec<Value> = serde_json::from_str(include_str!("vectors.json")).unwrap();
    let hex =
        |text: &str| (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect();
    let piece = |piece: &Value| (piece[0].as_u64().unwrap() as u16, hex(piece[1].as_str().unwrap()));
    all.iter()
        .map(|vector| Vector {
            name: vector["name"].as_str().unwrap().to_owned(),
            pieces: vector["pieces"].as_array().unwrap().iter().map(piece).collect(),
            streams: vector["streams"].as_array().unwrap().clone(),
        })
        .collect()
}

/// As a client says and hears it, or (`swapped`) a server.
fn script(vector: &Vector, size: usize, swapped: bool) -> Script {
    let mut script = Script::default();
    for (side, bytes) in &vector.pieces {
        bytes.chunks(size).for_each(|chunk| script.say(1, if swapped { 1 - side } else { *side }, chunk));
    }
    script
}

fn stream<'v>(vector: &'v Vector, row: &Cells) -> &'v Value {
    let id = row["stream_id"].parse().ok();
    vector.streams.iter().find(|stream| stream["stream_id"].as_u64() == id).expect("a stream of the vector")
}

/// A body as the sink of these tests has it.
fn body(stream: &Value, name: &str) -> String {
    let bytes: Vec<u8> = stream[name].as_str().unwrap().chars().map(|char| char as u8).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What the row says is what was said.
#[track_caller]
fn check_row(vector: &Vector, row: &Cells, context: &str) {
    let stream = stream(vector, row);
    let context = format!("{}, {context}, stream {}: {row:?}", vector.name, row["stream_id"]);
    let ended = row["end_reason"] == "response";
    for which in ["request", "response"] {
        let Some(seen) = row.get(format!("{which}_headers").as_str()) else { continue };
        let seen: Vec<Value> = serde_json::from_str(seen).unwrap();
        let truth = stream[format!("{which}_headers")].as_array().unwrap_or_else(|| panic!("{context}"));
        let mut rest = truth.iter();
        assert!(seen.iter().all(|field| rest.any(|said| said == field)), "{which}: {context}");
        if row["body_state"] == "complete" {
            assert_eq!(&seen, truth, "{context}");
        }
        if matches!(row["body_state"].as_str(), "complete" | "unknown_fields") && ended {
            let seen = row[format!("{which}_body").as_str()].as_str();
            assert_eq!(seen, body(stream, &format!("{which}_body")), "{context}");
        }
    }
    let field = |which: &str, name: &str| {
        let fields = stream[which].as_array()?;
        fields.iter().find(|field| field[0] == name).map(|field| field[1].as_str().unwrap().to_owned())
    };
    for (column, which, name) in
        [("method", "request_headers", ":method"), ("status_code", "response_headers", ":status")]
    {
        assert!(row.get(column).is_none_or(|seen| Some(seen) == field(which, name).as_ref()), "{context}");
    }
    let whole = stream["ended"] == serde_json::json!([true, true]);
    assert!(whole || !ended || row["body_state"] != "complete", "{context}");
}

fn ids(seen: &Collected) -> BTreeSet<u64> {
    let ids: Vec<u64> = seen.table("http").iter().map(|row| row["stream_id"].parse().unwrap()).collect();
    let set: BTreeSet<u64> = ids.iter().copied().collect();
    assert_eq!(ids.len(), set.len(), "one row for each stream");
    set
}

/// The streams that are asked for in a piece that is there.
fn begun(vector: &Vector, there: impl Fn(usize) -> bool) -> BTreeSet<u64> {
    let asked = vector.streams.iter().filter(|stream| there(stream["begins"].as_u64().unwrap() as usize));
    asked.map(|stream| stream["stream_id"].as_u64().unwrap()).collect()
}

#[test]
fn what_came_out_at_the_other_end_is_in_the_rows() {
    for vector in vectors() {
        for swapped in [false, true] {
            let seen = rows(&script(&vector, usize::MAX, swapped).records);
            assert_eq!(ids(&seen), begun(&vector, |_| true), "{}", vector.name);
            for row in seen.table("http") {
                check_row(&vector, row, "whole");
                let ended = stream(&vector, row)["ended"] == serde_json::json!([true, true]);
                assert_eq!(row["end_reason"] == "response" && row["body_state"] == "complete", ended, "{row:?}");
                assert_eq!(row["protocol_version"], "2.0");
            }
            assert_eq!(seen.table("connections")[0]["alpn"], "h2");
        }
    }
}

#[test]
fn rows_do_not_depend_on_how_the_streams_were_cut() {
    let timeless = |seen: &Collected| -> Vec<Cells> {
        let mut rows: Vec<Cells> = seen.table("http").into_iter().cloned().collect();
        rows.iter_mut().for_each(|row| row.retain(|name, _| !name.ends_with("_ts")));
        rows
    };
    for vector in vectors() {
        let whole = timeless(&rows(&script(&vector, usize::MAX, false).records));
        for size in [1, 2, 3, 7, 9, 10, 24, 100] {
            assert_eq!(timeless(&rows(&script(&vector, size, false).records)), whole, "{} by {size}", vector.name);
        }
    }
}

#[test]
fn a_connection_that_is_first_seen_in_the_middle_says_nothing_wrong() {
    for vector in vectors() {
        for first in 1..vector.pieces.len() {
            let rest =
                Vector { name: vector.name.clone(), pieces: vector.pieces[first..].to_vec(), streams: Vec::new() };
            for size in [usize::MAX, 50, 7] {
                let seen = rows(&script(&rest, size, false).records);
                for row in seen.table("http") {
                    check_row(&vector, row, &format!("from {first}, by {size}"));
                }
                if size == usize::MAX {
                    let missing = &begun(&vector, |begins| begins >= first) - &ids(&seen);
                    assert_eq!(missing, BTreeSet::new(), "{} from {first}", vector.name);
                }
            }
        }
    }
}

#[test]
fn a_missing_piece_makes_no_row_silently_wrong_and_the_others_stay() {
    for vector in vectors() {
        for size in [usize::MAX, 30, 11] {
            let script = script(&vector, size, false);
            // Of the many small pieces, some.
            for missing in (0..script.records.len()).step_by(if size == usize::MAX { 1 } else { 7 }) {
                let mut records = script.records.clone();
                records.remove(missing);
                let seen = rows(&records);
                for row in seen.table("http") {
                    check_row(&vector, row, &format!("by {size} without {missing}"));
                }
                if size == usize::MAX {
                    let vanished = &begun(&vector, |begins| begins != missing) - &ids(&seen);
                    assert_eq!(vanished, BTreeSet::new(), "{} without {missing}", vector.name);
                }
            }
        }
    }
}
