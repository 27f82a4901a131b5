//! Where a text has one of some words, in any case. The first two bytes of all words are one table, and few pairs of bytes in a
//! text are in it: this reads several times what an automaton of all words does, and what it is slow at (many matches) is rare.

/// Pairs of bytes.
const PAIRS: usize = 1 << 16;

pub(super) struct Keywords {
    /// The list of the words that begin with a pair, from 1; 0 if none does.
    of_pair: Box<[u8; PAIRS]>,
    /// Words in small letters, and what each stands for.
    lists: Vec<Vec<(String, Vec<usize>)>>,
}

impl Keywords {
    /// Of words of two letters or more, and what they stand for; of those that begin alike in 255 ways at most.
    pub fn new<'w>(words: impl Iterator<Item = (&'w str, usize)>) -> Self {
        let mut keywords = Keywords { of_pair: Box::new([0; PAIRS]), lists: Vec::new() };
        for (word, what) in words {
            keywords.add(&word.to_ascii_lowercase(), what);
        }
        keywords
    }

    fn add(&mut self, word: &str, what: usize) {
        let &[first, second, ..] = word.as_bytes() else { return };
        let mut list = usize::from(self.of_pair[pair(first, second)]);
        if list == 0 {
            self.lists.push(Vec::new());
            list = self.lists.len();
            let Ok(number) = u8::try_from(list) else { return };
            for first in [first, first.to_ascii_uppercase()] {
                for second in [second, second.to_ascii_uppercase()] {
                    self.of_pair[pair(first, second)] = number;
                }
            }
        }
        let Some(list) = self.lists.get_mut(list - 1) else { return };
        match list.iter_mut().find(|(known, _)| known == word) {
            Some((_, all)) => all.push(what),
            None => list.push((word.to_owned(), vec![what])),
        }
    }

    /// Tells where a word begins, and what it stands for; in the order of the text.
    pub fn find(&self, text: &[u8], mut tell: impl FnMut(usize, usize)) {
        for (at, bytes) in text.windows(2).enumerate() {
            let list = self.of_pair[pair(bytes[0], bytes[1])];
            if list == 0 {
                continue;
            }
            for (word, all) in self.lists.get(usize::from(list) - 1).into_iter().flatten() {
                let here = text.get(at..at + word.len());
                if here.is_some_and(|here| here.eq_ignore_ascii_case(word.as_bytes())) {
                    all.iter().for_each(|what| tell(at, *what));
                }
            }
        }
    }
}

fn pair(first: u8, second: u8) -> usize {
    usize::from(first) << 8 | usize::from(second)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_found_wherever_it_stands() {
        let words = [("key", 0), ("Keys", 1), ("key", 2), ("eyJ", 3), ("x", 4), ("~~", 5)];
        let keywords = Keywords::new(words.into_iter());
        let mut found = Vec::new();
        keywords.find(b"KEYS~~keyj x ke", |at, what| found.push((at, what)));
        assert_eq!(found, [(0, 0), (0, 2), (0, 1), (4, 5), (6, 0), (6, 2), (7, 3)]);
    }
}
