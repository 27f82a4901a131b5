//! Which golden row is which of those that were seen. In order: rows that occur once on both sides hold the rest in place
//! (patience diff), in time n log n whatever the rows are. As a set: rows are sorted and merged.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::ops::Range;

/// What is known of a row while rows are put together.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Entry {
    /// Where its line starts.
    pub offset: u64,
    /// Stands for everything that has to be equal.
    pub key: u128,
    /// The numbers that may be a little different.
    pub loose: Vec<f64>,
}

/// Pairs of equal keys (golden, seen), and what is between them: rows that have no equal.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Alignment {
    pub equal: Vec<(usize, usize)>,
    pub gaps: Vec<(Vec<usize>, Vec<usize>)>,
}

pub(super) fn align(golden: &[Entry], seen: &[Entry], set: bool) -> Alignment {
    if set { as_set(golden, seen) } else { in_order(golden, seen) }
}

fn as_set(golden: &[Entry], seen: &[Entry]) -> Alignment {
    let sorted = |rows: &[Entry]| {
        let mut order: Vec<usize> = (0..rows.len()).collect();
        order.sort_by(|a, b| compare(&rows[*a], &rows[*b]).then(a.cmp(b)));
        order
    };
    let (left, right) = (sorted(golden), sorted(seen));
    let (mut i, mut j) = (0, 0);
    let mut found = Alignment::default();
    let mut rest = (Vec::new(), Vec::new());
    while let (Some(a), Some(b)) = (left.get(i), right.get(j)) {
        match golden[*a].key.cmp(&seen[*b].key) {
            Ordering::Equal => {
                found.equal.push((*a, *b));
                (i, j) = (i + 1, j + 1);
            }
            Ordering::Less => {
                rest.0.push(*a);
                i += 1;
            }
            Ordering::Greater => {
                rest.1.push(*b);
                j += 1;
            }
        }
    }
    rest.0.extend(left.get(i..).unwrap_or_default());
    rest.1.extend(right.get(j..).unwrap_or_default());
    rest.0.sort_unstable();
    rest.1.sort_unstable();
    found.equal.sort_unstable();
    if !rest.0.is_empty() || !rest.1.is_empty() {
        found.gaps.push(rest);
    }
    found
}

fn compare(a: &Entry, b: &Entry) -> Ordering {
    let loose = || a.loose.iter().zip(&b.loose).map(|(a, b)| a.total_cmp(b)).find(|order| order.is_ne());
    a.key.cmp(&b.key).then_with(|| loose().unwrap_or(Ordering::Equal))
}

fn in_order(golden: &[Entry], seen: &[Entry]) -> Alignment {
    let mut found = Alignment::default();
    // What is left to do, the first last.
    let mut todo = vec![(0..golden.len(), 0..seen.len())];
    while let Some((mut left, mut right)) = todo.pop() {
        let same = |a: usize, b: usize| golden[a].key == seen[b].key;
        while !left.is_empty() && !right.is_empty() && same(left.start, right.start) {
            found.equal.push((left.start, right.start));
            (left.start, right.start) = (left.start + 1, right.start + 1);
        }
        let mut tail = 0;
        while !left.is_empty() && !right.is_empty() && same(left.end - 1, right.end - 1) {
            (left.end, right.end, tail) = (left.end - 1, right.end - 1, tail + 1);
        }
        if tail > 0 {
            // Comes after what is between: as a part of its own, which is all prefix.
            todo.push((left.end..left.end + tail, right.end..right.end + tail));
        }
        if left.is_empty() && right.is_empty() {
            continue;
        }
        let anchors = anchors(golden, seen, left.clone(), right.clone());
        if anchors.is_empty() {
            found.gaps.push((left.collect(), right.collect()));
            continue;
        }
        let mut parts = Vec::new();
        let (mut i, mut j) = (left.start, right.start);
        for (a, b) in anchors {
            parts.push((i..a, j..b));
            parts.push((a..a + 1, b..b + 1));
            (i, j) = (a + 1, b + 1);
        }
        parts.push((i..left.end, j..right.end));
        todo.extend(parts.into_iter().rev());
    }
    found
}

/// Rows that occur once on either side: the longest series that rises on both.
fn anchors(golden: &[Entry], seen: &[Entry], left: Range<usize>, right: Range<usize>) -> Vec<(usize, usize)> {
    let once = |rows: &[Entry], range: Range<usize>| {
        let mut at: HashMap<u128, Option<usize>> = HashMap::new();
        for index in range {
            at.entry(rows[index].key).and_modify(|known| *known = None).or_insert(Some(index));
        }
        at
    };
    let (in_golden, in_seen) = (once(golden, left.clone()), once(seen, right));
    let unique = |index: &usize| in_golden.get(&golden[*index].key).is_some_and(Option::is_some);
    let pairs: Vec<(usize, usize)> =
        left.filter(unique).filter_map(|index| Some((index, (*in_seen.get(&golden[index].key)?)?))).collect();
    // Piles of patience: of each length the series that ends lowest; `before` leads back through them.
    let mut piles: Vec<usize> = Vec::new();
    let mut before = vec![None; pairs.len()];
    for (index, (_, b)) in pairs.iter().enumerate() {
        let pile = piles.partition_point(|top| pairs[*top].1 < *b);
        before[index] = pile.checked_sub(1).map(|pile| piles[pile]);
        if pile == piles.len() {
            piles.push(index);
        } else {
            piles[pile] = index;
        }
    }
    let mut series: Vec<_> =
        std::iter::successors(piles.last().copied(), |index| before[*index]).map(|index| pairs[index]).collect();
    series.reverse();
    series
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str) -> Vec<Entry> {
        text.bytes().map(|byte| Entry { key: byte.into(), ..Entry::default() }).collect()
    }

    /// Gaps as text: what is golden, `/`, what was seen.
    fn gaps(golden: &str, seen: &str, set: bool) -> Vec<String> {
        let found = align(&entries(golden), &entries(seen), set);
        let rows: usize = found.gaps.iter().map(|(a, b)| a.len() + b.len()).sum();
        assert_eq!(2 * found.equal.len() + rows, golden.len() + seen.len());
        assert!(set || found.equal.is_sorted());
        let text = |of: &str, rows: &[usize]| rows.iter().map(|row| of.as_bytes()[*row] as char).collect::<String>();
        found.gaps.iter().map(|(a, b)| format!("{}/{}", text(golden, a), text(seen, b))).collect()
    }

    #[test]
    fn rows_in_order() {
        assert_eq!(gaps("abc", "abc", false), [""; 0]);
        assert_eq!(gaps("abcd", "abXd", false), ["c/X"]);
        assert_eq!(gaps("abcdef", "abXcdf", false), ["/X", "e/"]);
        assert_eq!(gaps("aabaa", "aaaa", false), ["b/"]);
        assert_eq!(gaps("", "ab", false), ["/ab"]);
        assert_eq!(gaps("xxayybzz", "xayyybz", false), ["x/", "/y", "z/"]);
        assert_eq!(gaps("abc", "cab", false), ["/c", "c/"]);
    }

    #[test]
    fn rows_as_a_set() {
        assert_eq!(gaps("abca", "acab", true), [""; 0]);
        assert_eq!(gaps("abc", "cdaa", true), ["b/da"]);
    }
}
