//! A map that remembers what was used of late: it holds two generations, and when the younger one is full, the older one goes.
//! What is looked up is young again.

use std::collections::HashMap;
use std::hash::Hash;

pub(crate) struct Recent<K, V> {
    /// Of one generation; twice as many are held at most.
    capacity: usize,
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K: Eq + Hash, V> Recent<K, V> {
    pub fn new(capacity: usize) -> Self {
        Recent { capacity: capacity.max(1), young: HashMap::new(), old: HashMap::new() }
    }

    pub fn get(&mut self, key: &K) -> Option<&V> {
        if let Some((key, value)) = self.old.remove_entry(key) {
            self.insert(key, value);
        }
        self.young.get(key)
    }

    pub fn insert(&mut self, key: K, value: V) {
        if self.young.len() >= self.capacity {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_used_stays() {
        let mut map = Recent::new(2);
        for number in 0..100 {
            map.insert(number, number);
            assert_eq!(map.get(&0), Some(&0));
        }
        assert_eq!(map.get(&50), None);
        assert_eq!(map.get(&99), Some(&99));
    }
}
