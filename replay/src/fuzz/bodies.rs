//! Bodies, and the streams of events in them.

use crate::body::Body;
use crate::framing::Stream;
use crate::message::Head;
use crate::table::Timestamp;

/// A streamed response of this type: the same events however it is cut.
fn stream_of(media_type: &str, data: &[u8]) {
    let fields = vec![("content-type".to_owned(), media_type.to_owned())];
    let head = Head { fields, ..Head::default() };
    let request = Head { target: "/v1/models/m:streamGenerateContent".to_owned(), ..Head::default() };
    let run = |cut: usize| {
        let (mut stream, mut events) = (Stream::of(Some(&request), &head), Vec::new());
        data.chunks(cut).for_each(|piece| stream.push(Timestamp(1), piece, &mut events));
        stream.finish(Timestamp(1), &mut events);
        (events, stream.damaged())
    };
    let whole = run(usize::MAX);
    assert_eq!(whole, run(1));
    assert_eq!(whole, run(5));
    let (mut stream, mut events) = (Stream::of(Some(&request), &head), Vec::new());
    for piece in data.chunks(40) {
        if piece.first().is_some_and(|byte| byte % 4 == 0) {
            stream.gap()
        } else {
            stream.push(Timestamp(1), piece, &mut events)
        }
    }
    stream.finish(Timestamp(1), &mut events);
}

pub fn sse(data: &[u8]) {
    stream_of("text/event-stream", data);
}

pub fn ndjson(data: &[u8]) {
    stream_of("application/x-ndjson", data);
}

pub fn json_array(data: &[u8]) {
    stream_of("application/json", data);
}

pub fn event_stream(data: &[u8]) {
    stream_of("application/vnd.amazon.eventstream", data);
}

/// A body in some coding, which the first byte names: the same however it is cut.
pub fn body(data: &[u8]) {
    let Some((coding, data)) = data.split_first() else { return };
    let coding = [None, Some("gzip"), Some("deflate"), Some("br"), Some("zstd"), Some("gzip, br"), Some("x")]
        .get(usize::from(coding % 8))
        .copied();
    let run = |cut: usize| {
        let mut body = coding.map_or_else(Body::of_unknown_coding, Body::new);
        data.chunks(cut).for_each(|piece| {
            body.push(piece);
        });
        body.finish();
        (body.state, body.data)
    };
    let (state, whole) = run(usize::MAX);
    let (cut_state, cut) = run(1);
    assert_eq!(state, cut_state);
    // How much came out before an error depends on how much went in.
    assert!(state != crate::body::BodyState::Complete || whole == cut);
}
