//! A map that forgets: what a capture does not close must not fill the memory of its reader. At its capacity, the entry that
//! was added first goes.

use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;

pub(crate) struct Bounded<K, V> {
    capacity: usize,
    entries: HashMap<K, (u64, V)>,
    order: BTreeMap<u64, K>,
    next: u64,
}

impl<K: Clone + Eq + Hash, V> Bounded<K, V> {
    pub fn new(capacity: usize) -> Self {
        Bounded { capacity: capacity.max(1), entries: HashMap::new(), order: BTreeMap::new(), next: 0 }
    }

    /// Adds an entry as the newest. Returns the value that had to go for it.
    pub fn insert(&mut self, key: K, value: V) -> Option<V> {
        self.remove(&key);
        let oldest = if self.entries.len() < self.capacity { None } else { self.pop_first() };
        self.order.insert(self.next, key.clone());
        self.entries.insert(key, (self.next, value));
        self.next += 1;
        oldest
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn get(&self, key: &K) -> Option<&V> {
        self.entries.get(key).map(|(_, value)| value)
    }

    pub fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.entries.get_mut(key).map(|(_, value)| value)
    }

    /// The value of a key; a new one if there is none.
    pub fn get_or_default(&mut self, key: &K) -> &mut V
    where
        V: Default,
    {
        if !self.entries.contains_key(key) {
            self.insert(key.clone(), V::default());
        }
        let next = self.next;
        &mut self.entries.entry(key.clone()).or_insert_with(|| (next, V::default())).1
    }

    pub fn remove(&mut self, key: &K) -> Option<V> {
        let (at, value) = self.entries.remove(key)?;
        self.order.remove(&at);
        Some(value)
    }

    /// Takes out the oldest.
    pub fn pop_first(&mut self) -> Option<V> {
        let (_, key) = self.order.pop_first()?;
        self.entries.remove(&key).map(|(_, value)| value)
    }
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
}
