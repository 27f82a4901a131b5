//! The Huffman code of HPACK (RFC 7541, 5.2 and appendix B). It is canonical: the lengths of its codes say all of it, since
//! codes of one length follow each other in the order of their symbols, and longer ones follow shorter ones.

/// Symbols: every byte, and the end of the string, which must not occur.
const SYMBOLS: usize = 257;

const LONGEST: usize = 30;

/// Bits of each symbol's code.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28,
    28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15,
    6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20,
    20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23,
    24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22,
    22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27,
    24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26,
    26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];

/// The code, laid out for decoding.
struct Code {
    /// Symbols in the order of their codes.
    symbols: [u16; SYMBOLS],
    /// For each length: its first code, how many codes it has, and where their symbols start.
    lengths: [(u32, u32, usize); LONGEST + 1],
}

const CODE: Code = code();

const fn code() -> Code {
    let mut symbols = [0; SYMBOLS];
    let mut lengths = [(0, 0, 0); LONGEST + 1];
    let (mut length, mut next, mut at) = (1, 0, 0);
    while length <= LONGEST {
        next <<= 1;
        let (first, start) = (next, at);
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                symbols[at] = symbol as u16;
                at += 1;
                next += 1;
            }
            symbol += 1;
        }
        lengths[length] = (first, next - first, start);
        length += 1;
    }
    Code { symbols, lengths }
}

/// Decodes a string; `None` if it is none: it holds the end of the string, or ends in anything but fewer than eight bits of 1.
pub(super) fn decode(bytes: &[u8]) -> Option<Vec<u8>> {
    static DECODING: Code = CODE;
    let mut out = Vec::with_capacity(bytes.len() * 8 / 5);
    let (mut bits, mut length) = (0u32, 0usize);
    for byte in bytes {
        for shift in (0..8).rev() {
            bits = bits << 1 | u32::from(byte >> shift & 1);
            length += 1;
            let &(first, count, start) = DECODING.lengths.get(length)?;
            let place = bits.wrapping_sub(first);
            if place < count {
                let symbol = *DECODING.symbols.get(start + place as usize)?;
                // The one symbol that is no byte is the end of the string.
                out.push(u8::try_from(symbol).ok()?);
                (bits, length) = (0, 0);
            }
        }
    }
    let padding_is_ones = bits == (1 << length) - 1;
    (length < 8 && padding_is_ones).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Encodes by the same table, the long way round.
    fn encode(text: &[u8]) -> Vec<u8> {
        let mut bits = Vec::new();
        for byte in text {
            let length = usize::from(LENGTHS[usize::from(*byte)]);
            let (first, _, start) = CODE.lengths[length];
            let place = CODE.symbols[start..].iter().position(|symbol| *symbol == u16::from(*byte)).unwrap();
            let code = first + place as u32;
            bits.extend((0..length).rev().map(|shift| code >> shift & 1 == 1));
        }
        bits.resize(bits.len().next_multiple_of(8), true);
        bits.chunks(8).map(|byte| byte.iter().fold(0, |sum, bit| sum << 1 | u8::from(*bit))).collect()
    }

    #[test]
    fn the_strings_of_the_rfc() {
        // RFC 7541, C.4 and C.6.
        let www = [0xf1, 0xe3, 0xc2, 0xe5, 0xf2, 0x3a, 0x6b, 0xa0, 0xab, 0x90, 0xf4, 0xff];
        assert_eq!(decode(&www).unwrap(), b"www.example.com");
        assert_eq!(decode(&[0xa8, 0xeb, 0x10, 0x64, 0x9c, 0xbf]).unwrap(), b"no-cache");
        assert_eq!(decode(&[0x64, 0x02]).unwrap(), b"302");
    }

    #[test]
    fn every_byte_comes_back() {
        let all: Vec<u8> = (0..=255).collect();
        assert_eq!(decode(&encode(&all)).unwrap(), all);
        assert_eq!(decode(b"").unwrap(), b"");
    }

    #[test]
    fn wrong_padding_and_the_end_of_the_string_are_refused() {
        assert_eq!(decode(&[0b0000_0000]), None, "five zeros are '0', three zeros no padding");
        assert_eq!(decode(&[0b0000_0111]).unwrap(), b"0");
        assert_eq!(decode(&[0xff]), None, "padding of a whole byte");
        assert_eq!(decode(&[0xff; 4]), None, "the end of the string");
    }
}
