//! What fuzzing asserts of frames and header blocks.

use super::frames::{Frames, Part};
use super::hpack::Table;
use crate::table::Timestamp;

/// A direction says the same however it is cut, as long as its place is not lost: then it is looked for at the start of a piece.
pub(crate) fn frames(bytes: &[u8]) {
    let run = |cut: usize| {
        let mut frames = Frames::default();
        let mut parts = Vec::new();
        bytes.chunks(cut).for_each(|piece| frames.push(Timestamp(1), piece, &mut parts));
        let mut said: Vec<Part> = Vec::new();
        for (_, part) in parts {
            match (said.last_mut(), part) {
                (_, Part::Lost) => {
                    said.push(Part::Lost);
                    break;
                }
                (Some(Part::Data { stream, bytes }), Part::Data { stream: same, bytes: more }) if *stream == same => {
                    bytes.extend(more);
                }
                (_, part) => said.push(part),
            }
        }
        said
    };
    let whole = run(usize::MAX);
    assert_eq!(whole, run(1));
    assert_eq!(whole, run(11));
}

/// Header blocks of one direction: where the first of them are missing no field is another than with them.
pub(crate) fn hpack(blocks: &[&[u8]]) {
    let mut whole = Table::default();
    let mut late = Table::default();
    late.forget();
    for (at, block) in blocks.iter().enumerate() {
        let known = whole.decode(block);
        if at == 0 {
            continue;
        }
        let Some(known) = known else { return };
        let Some(seen) = late.decode(block) else { return };
        let unknown = seen.unknown.saturating_sub(known.unknown) as usize;
        assert!(seen.known.len() + unknown == known.known.len() || known.unknown > 0);
        let mut all = known.known.iter();
        assert!(known.unknown > 0 || seen.known.iter().all(|field| all.any(|other| other == field)));
    }
}
