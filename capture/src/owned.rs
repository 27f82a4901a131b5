//! A map whose values belong to processes: when one ends, what it had is found without a walk over what all the others have.

use std::collections::{BTreeMap, BTreeSet};

pub(crate) struct Owned<K, V> {
    values: BTreeMap<K, (u32, V)>,
    by_owner: BTreeMap<u32, BTreeSet<K>>,
}

impl<K, V> Default for Owned<K, V> {
    fn default() -> Self {
        Owned { values: BTreeMap::new(), by_owner: BTreeMap::new() }
    }
}

impl<K: Copy + Ord, V> Owned<K, V> {
    pub(crate) fn len(&self) -> usize {
        self.values.len()
    }

    pub(crate) fn contains(&self, key: K) -> bool {
        self.values.contains_key(&key)
    }

    pub(crate) fn get_mut(&mut self, key: K) -> Option<&mut V> {
        self.values.get_mut(&key).map(|(_, value)| value)
    }

    /// What was there before is replaced, whosever it was.
    pub(crate) fn insert(&mut self, owner: u32, key: K, value: V) {
        let before = self.values.insert(key, (owner, value)).map(|(owner, _)| owner);
        if before == Some(owner) {
            return;
        }
        if let Some(before) = before {
            self.disown(before, key);
        }
        self.by_owner.entry(owner).or_default().insert(key);
    }

    pub(crate) fn remove(&mut self, key: K) {
        if let Some((owner, _)) = self.values.remove(&key) {
            self.disown(owner, key);
        }
    }

    /// Removes the value of the first key.
    pub(crate) fn remove_first(&mut self) {
        if let Some(key) = self.values.keys().next().copied() {
            self.remove(key);
        }
    }

    /// Removes everything that a process has.
    pub(crate) fn remove_all_of(&mut self, owner: u32) {
        for key in self.by_owner.remove(&owner).into_iter().flatten() {
            self.values.remove(&key);
        }
    }

    /// Keys, owners and values, by key.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (K, u32, &V)> {
        self.values.iter().map(|(key, (owner, value))| (*key, *owner, value))
    }

    fn disown(&mut self, owner: u32, key: K) {
        if let Some(keys) = self.by_owner.get_mut(&owner) {
            keys.remove(&key);
            if keys.is_empty() {
                self.by_owner.remove(&owner);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_hands_does_not_go_with_its_first_owner() {
        let mut owned = Owned::default();
        owned.insert(1, 'a', 0);
        owned.insert(1, 'b', 0);
        owned.insert(2, 'b', 7);
        owned.remove_all_of(1);
        assert_eq!(owned.iter().collect::<Vec<_>>(), [('b', 2, &7)]);
        owned.remove_all_of(2);
        assert_eq!(owned.len(), 0);
    }

    #[test]
    fn nothing_is_left_of_owners_that_have_nothing() {
        let mut owned = Owned::default();
        for key in 0..3 {
            owned.insert(key, key, ());
            owned.insert(9, key, ());
            owned.remove_first();
        }
        assert!(owned.values.is_empty() && owned.by_owner.is_empty());
    }
}
