//! A map that forgets: what a capture does not close must not fill the memory of its reader. At its capacity, in entries or in
//! the bytes that these are said to take, the entry that was added first goes.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

pub(crate) struct Bounded<K, V> {
    capacity: usize,
    most_bytes: usize,
    bytes: usize,
    entries: HashMap<K, Entry<V>>,
    order: BTreeMap<u64, K>,
    next: u64,
}

struct Entry<V> {
    at: u64,
    bytes: usize,
    value: V,
}

impl<K: Clone + Eq + Hash, V> Bounded<K, V> {
    pub fn new(capacity: usize) -> Self {
        Bounded {
            capacity: capacity.max(1),
            most_bytes: usize::MAX,
            bytes: 0,
            entries: HashMap::new(),
            order: BTreeMap::new(),
            next: 0,
        }
    }

    /// With room for so many bytes.
    pub fn of_bytes(capacity: usize, most_bytes: usize) -> Self {
        Bounded { most_bytes, ..Bounded::new(capacity) }
    }

    /// Adds an entry as the newest. Returns the value that had to go for it.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.remove(&key);
        let oldest = if self.entries.len() < self.capacity { None } else { self.pop_first() };
        self.order.insert(self.next, key.clone());
        self.entries.insert(key, Entry { at: self.next, bytes: 0, value });
        self.next += 1;
        oldest
    }

    /// Adds an entry that takes so many bytes as the newest. Returns the values that had to go for it: itself, if there is no
    /// room for it at all.
    pub fn insert_bytes(&mut self, key: K, value: V, bytes: usize) -> Vec<V> {
        let mut gone: Vec<V> = self.insert(key.clone(), value).into_iter().collect();
        self.bytes += bytes;
        self.entries.entry(key).and_modify(|entry| entry.bytes = bytes);
        while self.bytes > self.most_bytes {
            let Some(oldest) = self.pop_first() else { break };
            gone.push(oldest);
        }
        gone
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|entry| &entry.value)
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|entry| &mut entry.value)
    }

    /// The value of a key; a new one if there is none.
    pub fn get_or_default(&mut self, key: &K) -> &mut V
    where
        V: Default,
    {
        if !self.entries.contains_key(key) {
            self.insert(key.clone(), V::default());
        }
        let at = self.next;
        &mut self.entries.entry(key.clone()).or_insert_with(|| Entry { at, bytes: 0, value: V::default() }).value
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        let entry = self.entries.remove(key)?;
        self.order.remove(&entry.at);
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        Some(entry.value)
    }

    /// Takes out the oldest.
    pub fn pop_first(&mut self) -> Option<V> {
        let (_, key) = self.order.pop_first()?;
        let entry = self.entries.remove(&key)?;
        self.bytes = self.bytes.saturating_sub(entry.bytes);
        Some(entry.value)
    }
}

impl<K: Clone + Eq + Hash> Bounded<K, ()> {
    /// Whether the key comes for the first time, as far as is remembered. From now on it does not.
    pub fn is_first(&mut self, key: K) -> bool {
        let is_first = self.get(&key).is_none();
        if is_first {
            self.insert(key, ());
        }
        is_first
    }
}

/// Of those that are to make room, which were last heard of: the half of them that was not for longest, and one at least, up to
/// the number that is returned; `None` if there are none.
pub(crate) fn stale(heard: impl Iterator<Item = u64>) -> Option<u64> {
    let mut heard: Vec<u64> = heard.collect();
    let middle = heard.len().checked_sub(1)? / 2;
    Some(*heard.select_nth_unstable(middle).1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_and_what_was_said_again_is_new() {
        let mut map = Bounded::new(2);
        assert_eq!(map.insert("a", 1), None);
        assert_eq!(map.insert("b", 2), None);
        assert_eq!(map.insert("a", 3), None);
        assert_eq!(map.insert("c", 4), Some(2));
        assert_eq!((map.get(&"a"), map.get(&"b")), (Some(&3), None));
        assert_eq!(map.remove(&"a"), Some(3));
        assert_eq!((map.pop_first(), map.pop_first()), (Some(4), None));
    }

    #[test]
    fn what_is_large_takes_the_place_of_several() {
        let mut map = Bounded::of_bytes(9, 10);
        for (key, bytes) in [("a", 4), ("b", 4), ("c", 2)] {
            assert!(map.insert_bytes(key, bytes, bytes).is_empty());
        }
        assert!(map.insert_bytes("b", 3, 3).is_empty());
        assert_eq!(map.insert_bytes("d", 7, 7), vec![4, 2]);
        assert_eq!(map.insert_bytes("e", 11, 11), vec![3, 7, 11]);
        assert!(map.is_empty() && map.insert_bytes("f", 10, 10).is_empty());
    }

    #[test]
    fn a_key_comes_first_once() {
        let mut told = Bounded::new(1);
        assert!(told.is_first("a") && !told.is_first("a"));
        assert!(told.is_first("b") && told.is_first("a"), "it was forgotten");
    }

    #[test]
    fn half_of_them_and_one_at_least_make_room() {
        assert_eq!(stale([].into_iter()), None);
        assert_eq!(stale([7].into_iter()), Some(7));
        assert_eq!(stale([9, 1, 5, 3].into_iter()), Some(3));
    }
}
