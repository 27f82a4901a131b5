//! Names that somebody else gives, of tools, servers, sessions, hosts: what is remembered by them must not be of any length.

use crate::tools::sha256;

/// Longest name that is kept as it is, and how much is of one that is longer, in bytes.
const LONGEST: usize = 512;
const START: usize = 64;

/// A name; of one that is longer than any, its start and its hash.
pub(crate) fn brief(name: &str) -> String {
    if name.len() <= LONGEST {
        return name.to_owned();
    }
    let start = name.get(..name.floor_char_boundary(START)).unwrap_or_default();
    format!("{start}…sha256:{}", sha256(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_short_and_still_apart() {
        assert_eq!(brief("search"), "search");
        let (one, other) = (brief(&"ä".repeat(1000)), brief(&"ä".repeat(1001)));
        assert!(one != other && one.len() < LONGEST && one.starts_with("ää"));
    }
}
