//! Finds bytes that are frequent in code. A search for a rare byte starts anew behind each place that it finds, which is slow where
//! there is one every few dozen bytes; here a block is looked at as a whole, in a form that compilers make vector instructions of.

const BLOCK: usize = 64;
const WORD: usize = size_of::<u64>();

/// Calls `visit` for each position, in order, of a byte for which `is` holds. It should not branch.
pub(super) fn each(bytes: &[u8], is: impl Fn(u8) -> bool, mut visit: impl FnMut(usize)) {
    let (blocks, rest) = bytes.as_chunks::<BLOCK>();
    for (number, block) in blocks.iter().enumerate() {
        let holds = block.map(|byte| u8::from(is(byte)));
        for (word, bits) in holds.as_chunks::<WORD>().0.iter().enumerate() {
            let mut left = u64::from_le_bytes(*bits);
            while left != 0 {
                visit(number * BLOCK + word * WORD + left.trailing_zeros() as usize / 8);
                left &= left - 1;
            }
        }
    }
    let start = blocks.len() * BLOCK;
    (0..rest.len()).filter(|at| is(rest[*at])).for_each(|at| visit(start + at));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_place_is_seen_once_in_order_wherever_blocks_end() {
        let bytes: Vec<u8> = (0..3 * BLOCK as u32).map(|at| ((at * at * 7) >> 3) as u8 & 3).collect();
        for end in 0..bytes.len() {
            let mut found = Vec::new();
            each(&bytes[..end], |byte| byte == 1, |at| found.push(at));
            let expected: Vec<usize> = (0..end).filter(|at| bytes[*at] == 1).collect();
            assert_eq!(found, expected, "{end} bytes");
        }
    }
}
