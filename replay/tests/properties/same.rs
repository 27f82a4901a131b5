//! What must change nothing.

use crate::recorded::{Random, Recorded, Segment, header, lines};
use agentsight_formats::record::{self, Body, CAPTURER_CPU, StdioData, TlsData, records};
use std::collections::BTreeSet;

/// Made of the cuts themselves: how long each piece was that a program or TLS handed over.
const OF_CUTS: &[&str] = &["tls_data", "stdio", "captures"];

/// What depends on when bytes came: which table, or column of any.
const OF_TIME: &[&str] = &["captures", "tls_data", "stdio", "causes"];

#[track_caller]
fn assert_same(name: &str, seen: &str, expected: &str) {
    let (seen, expected): (Vec<_>, Vec<_>) = (seen.lines().collect(), expected.lines().collect());
    for (at, line) in expected.iter().enumerate() {
        assert_eq!(seen.get(at), Some(line), "{name}, row {at}");
    }
    assert_eq!(seen.len(), expected.len(), "{name}");
}

/// The record's bytes of a stream, cut at random places; each piece comes at the same time.
fn cut(record: &[u8], random: &mut Random) -> Vec<Vec<u8>> {
    let whole = records(record).next().unwrap().unwrap();
    let sizes = |len: usize, random: &mut Random| {
        let mut at = vec![0];
        while let Some(&last) = at.last().filter(|last| **last < len) {
            let most = if random.below(3) == 0 { 3 } else { 400 };
            at.push((last + 1 + random.below(most)).min(len));
        }
        at
    };
    let mut out = Vec::new();
    match whole.body().unwrap() {
        Body::TlsData { tls, data } if tls.captured == tls.len => {
            for range in sizes(data.len(), random).windows(2) {
                let piece = &data[range[0]..range[1]];
                let offset = tls.stream_offset.get() + range[0] as u64;
                let len = (piece.len() as u32).into();
                let mut bytes = Vec::new();
                let fixed = TlsData { stream_offset: offset.into(), len, captured: len, ..*tls };
                record::append(&mut bytes, &fixed, &[piece]);
                out.push(bytes);
            }
        }
        Body::StdioData { stdio, data } if stdio.captured == stdio.len => {
            for range in sizes(data.len(), random).windows(2) {
                let piece = &data[range[0]..range[1]];
                let offset = stdio.stream_offset.get() + range[0] as u64;
                let len = (piece.len() as u32).into();
                let mut bytes = Vec::new();
                let fixed = StdioData { stream_offset: offset.into(), len, captured: len, ..*stdio };
                record::append(&mut bytes, &fixed, &[piece]);
                out.push(bytes);
            }
        }
        _ => {}
    }
    if out.is_empty() { vec![record.to_vec()] } else { out }
}

#[test]
fn streams_may_be_cut_anywhere() {
    for (seed, recorded) in Recorded::fixtures().into_iter().enumerate() {
        let expected = lines(&[recorded.write()], OF_CUTS);
        let mut random = Random(seed as u64 + 1);
        let mut other = recorded.clone();
        for segment in &mut other.segments {
            segment.records = segment.records.iter().flat_map(|record| cut(record, &mut random)).collect();
        }
        assert_same(&recorded.name, &lines(&[other.write()], OF_CUTS), &expected);
    }
}

/// Puts together what a program sent or received in several pieces, where nothing else stands between them.
fn join(taken: &[Vec<u8>]) -> Vec<Vec<u8>> {
    let mut out: Vec<Vec<u8>> = Vec::new();
    for bytes in taken {
        let joined = out.last().and_then(|last| joined(last, bytes));
        match joined {
            Some(joined) => *out.last_mut().unwrap() = joined,
            None => out.push(bytes.clone()),
        }
    }
    out
}

fn joined(first: &[u8], second: &[u8]) -> Option<Vec<u8>> {
    let (first, second) = (records(first).next()?.ok()?, records(second).next()?.ok()?);
    let (Ok(Body::TlsData { tls: a, data }), Ok(Body::TlsData { tls: b, data: more })) = (first.body(), second.body())
    else {
        return None;
    };
    let whole = a.captured == a.len && b.captured == b.len;
    let next = a.conn_id == b.conn_id
        && a.direction == b.direction
        && a.stream_offset.get() + u64::from(a.len.get()) == b.stream_offset.get();
    (whole && next && data.len() + more.len() < 60_000).then(|| {
        let len = ((data.len() + more.len()) as u32).into();
        let mut bytes = Vec::new();
        let fixed = TlsData { stream_offset: a.stream_offset, len, captured: len, ..*b };
        record::append(&mut bytes, &fixed, &[data, more]);
        bytes
    })
}

/// The rows without what depends on when bytes came: times, and what follows from them.
fn timeless(text: &str) -> BTreeSet<String> {
    let timed =
        |name: &str| name == "ts" || name.ends_with("_ts") || name.ends_with("_ns") || name.starts_with("cause_");
    let row = |line: &str| {
        let mut row: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        row.retain(|name, _| !timed(name));
        serde_json::to_string(&row).unwrap()
    };
    text.lines().map(row).collect()
}

#[test]
fn streams_may_be_joined_where_nothing_comes_between() {
    for recorded in Recorded::fixtures() {
        let expected = timeless(&lines(&[recorded.write()], OF_TIME));
        let mut other = recorded.clone();
        for segment in &mut other.segments {
            // In the order in which they are replayed.
            segment.records.sort_by_key(|record| {
                let header = header(record);
                (header.time.get(), header.cpu.get(), header.seq.get())
            });
            segment.records = join(&segment.records);
        }
        other.renumber();
        let seen = timeless(&lines(&[other.write()], OF_TIME));
        let differs: Vec<_> = seen.symmetric_difference(&expected).take(4).collect();
        assert!(differs.is_empty(), "{}: {differs:#?}", recorded.name);
    }
}

#[test]
fn pieces_and_segments_may_be_cut_anywhere() {
    for recorded in Recorded::fixtures() {
        let expected = lines(&[recorded.write()], &["captures"]);
        for size in [1, 7, 100] {
            assert_same(&recorded.name, &lines(&[recorded.write_in(size, &[])], &["captures"]), &expected);
        }
        let mut other = recorded.clone();
        other.segments = split(&recorded, 3);
        assert_same(&recorded.name, &lines(&[other.write()], &["captures"]), &expected);
    }
}

/// The records in so many segments.
fn split(recorded: &Recorded, count: usize) -> Vec<Segment> {
    let [first] = &recorded.segments[..] else { return recorded.segments.clone() };
    let size = first.records.len().div_ceil(count).max(1);
    let segment = |(index, records): (usize, &[Vec<u8>])| Segment {
        snapshot: if index == 0 { first.snapshot.clone() } else { Vec::new() },
        records: records.to_vec(),
        begins: if index == 0 { first.begins } else { first.ends },
        ends: first.ends,
    };
    first.records.chunks(size).enumerate().map(segment).collect()
}

#[test]
fn a_capture_in_several_files_is_the_same_capture() {
    for recorded in Recorded::fixtures() {
        let part = |number: u64, uuid: u8, segments: Vec<Segment>| {
            let mut file = Recorded { segments, ..recorded.clone() };
            file.head.metadata.extra.insert("recording".to_owned(), "11111111-1111-4111-8111-111111111111".into());
            file.head.metadata.extra.insert("part".to_owned(), number.into());
            file.head.uuid = [uuid; 16];
            file.write()
        };
        let expected = lines(&[part(1, 1, recorded.segments.clone())], &["captures"]);
        for count in [2, 5] {
            let segments = split(&recorded, count).into_iter().enumerate();
            let files: Vec<_> =
                segments.map(|(index, segment)| part(index as u64 + 1, index as u8 + 1, vec![segment])).collect();
            assert_same(&recorded.name, &lines(&files, &["captures"]), &expected);
        }
    }
}

#[test]
fn records_may_come_in_any_order_within_the_window() {
    const MOST: usize = 400_000_000;
    for (seed, recorded) in Recorded::fixtures().into_iter().enumerate() {
        let expected = lines(&[recorded.write()], &["captures"]);
        let mut random = Random(seed as u64 + 100);
        let mut other = recorded.clone();
        for segment in &mut other.segments {
            let delayed = |record: Vec<u8>| {
                let header = header(&record);
                // What the capturer writes has no sequence: its place counts.
                let delay = if header.cpu.get() == CAPTURER_CPU { MOST } else { random.below(MOST) };
                (header.time.get() + delay as u64, record)
            };
            let mut arrivals: Vec<_> = std::mem::take(&mut segment.records).into_iter().map(delayed).collect();
            arrivals.sort_by_key(|(at, _)| *at);
            segment.records = arrivals.into_iter().map(|(_, record)| record).collect();
        }
        assert_same(&recorded.name, &lines(&[other.write()], &["captures"]), &expected);
    }
}

#[test]
fn replays_side_by_side_are_the_same() {
    let captures: Vec<Vec<u8>> = Recorded::fixtures().iter().take(6).map(Recorded::write).collect();
    let all = || captures.iter().map(|file| lines(std::slice::from_ref(file), &[])).collect::<String>();
    let expected = all();
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(all)).collect();
        threads.into_iter().for_each(|thread| assert_same("side by side", &thread.join().unwrap(), &expected));
    });
}
