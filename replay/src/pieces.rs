//! Records of streams in pieces: of one that is large no more is made at once than there is room for.

/// Most bytes of a stream that are taken at once. The capturer writes records of a few kilobytes.
const MAX_PIECE: usize = 64 << 10;

/// The pieces of a record with their offsets and lengths. What was not captured is behind the last.
pub(crate) fn pieces(data: &[u8], offset: u64, len: u32) -> impl Iterator<Item = (&[u8], u64, u32)> {
    let count = data.len().div_ceil(MAX_PIECE).max(1);
    (0..count).map(move |index| {
        let from = index * MAX_PIECE;
        let piece = data.get(from..data.len().min(from + MAX_PIECE)).unwrap_or_default();
        let left = len.saturating_sub(from as u32);
        let len = if index + 1 == count { left } else { piece.len() as u32 };
        (piece, offset.saturating_add(from as u64), len)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_piece_is_taken_in_several() {
        let data = vec![7; 2 * MAX_PIECE + 5];
        let lens: Vec<_> =
            pieces(&data, 100, data.len() as u32 + 9).map(|(data, at, len)| (data.len(), at, len)).collect();
        let most = MAX_PIECE as u64;
        let whole = MAX_PIECE as u32;
        assert_eq!(lens, [(MAX_PIECE, 100, whole), (MAX_PIECE, 100 + most, whole), (5, 100 + 2 * most, 14)]);
        assert_eq!(pieces(&[], 3, 8).collect::<Vec<_>>(), [(&[][..], 3, 8)]);
    }
}
