//! What fuzzing asserts of MCP.

use super::Mcp;
use crate::analyzers::{Analyzer, Rows};
use crate::framing::Stream;
use crate::json;
use crate::message::Head;
use crate::table::{Row, Timestamp};
use crate::tables::{Http, Stdio, StreamEvent};

/// The rows that are made, as lines.
fn rows(feed: impl FnOnce(&mut dyn Analyzer, &mut Rows<'_>)) -> Vec<u8> {
    let (mut analyzer, mut lines) = (Mcp::boxed("c"), Vec::new());
    let mut out = |row: &dyn Row| drop(json::line(row, &mut lines));
    feed(&mut *analyzer, &mut out);
    analyzer.finish(&mut out);
    lines
}

/// What goes through the standard streams of a process: whether it is received, bytes, and how many are missing. Without gaps the same
/// is said however it is cut.
pub(crate) fn stdio(pieces: &[(bool, &[u8], u64)]) {
    let run = |cut: usize, gaps: bool| {
        rows(|analyzer, out| {
            let mut offsets = [0_i64; 2];
            for (received, bytes, missing) in pieces {
                let offset = &mut offsets[usize::from(*received)];
                *offset += if gaps { *missing as i64 } else { 0 };
                for data in bytes.chunks(cut) {
                    let (direction, fd) = if *received { ("received", 0) } else { ("sent", 1) };
                    let (len, data) = (data.len() as i64, data.to_vec());
                    let (stream_offset, captured_len) = (*offset, len);
                    analyzer.row(
                        &Stdio {
                            proc_id: 1,
                            direction,
                            fd,
                            stream_offset,
                            len,
                            captured_len,
                            data,
                            ..Stdio::default()
                        },
                        out,
                    );
                    *offset += len;
                }
            }
        })
    };
    run(usize::MAX, true);
    assert_eq!(run(usize::MAX, false), run(1, false));
}

/// An exchange, twice.
pub(crate) fn http(streamed: bool, request: &[u8], response: &[u8]) {
    let media = if streamed { "text/event-stream" } else { "application/json" };
    let fields = vec![("content-type".to_owned(), media.to_owned())];
    let (mut stream, mut events) = (Stream::of(None, &Head { fields, ..Head::default() }), Vec::new());
    stream.push(Timestamp(1), response, &mut events);
    rows(|analyzer, out| {
        for http_id in 1..=2 {
            for event in &events {
                let (framing, event, data) = (event.framing.name(), event.name.clone(), event.data.clone());
                analyzer.row(&StreamEvent { http_id, framing, event, data, ..StreamEvent::default() }, out);
            }
            let http = Http {
                http_id,
                method: Some("POST".to_owned()),
                path: Some("/mcp".to_owned()),
                request_headers: Some(r#"[["accept","text/event-stream"],["mcp-session-id","s"]]"#.to_owned()),
                response_content_type: Some(media.to_owned()),
                request_body: Some(request.to_vec()),
                response_body: Some(response.to_vec()),
                body_state: "complete",
                ..Http::default()
            };
            analyzer.row(&http, out);
        }
    });
}
