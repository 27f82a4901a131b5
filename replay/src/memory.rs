//! How much of a recording is held at once: the bodies, heads and events of exchanges that have not ended, of all connections
//! together; likewise, what else may be of any size. Whoever would take more than there is room for keeps no more, and says so.

use std::cell::Cell;
use std::rc::Rc;

/// Most bytes that are held of exchanges: as many as the largest body.
pub(crate) const MAX_HELD: usize = crate::body::MAX_BODY;

/// What is held by all.
#[derive(Clone)]
pub(crate) struct Memory {
    held: Rc<Cell<usize>>,
    most: usize,
}

impl Default for Memory {
    fn default() -> Self {
        Memory::new(MAX_HELD)
    }
}

/// What one of them holds. It is given back when this goes.
#[derive(Default)]
pub(crate) struct Share {
    memory: Memory,
    bytes: usize,
}

impl Memory {
    /// With room for so many bytes.
    pub fn new(most: usize) -> Self {
        Memory { held: Rc::default(), most }
    }

    /// Whether more is held than there is room for.
    pub fn is_full(&self) -> bool {
        self.held.get() > self.most
    }

    pub fn share(&self) -> Share {
        Share { memory: self.clone(), bytes: 0 }
    }
}

impl Share {
    /// Says how many bytes are held now. Returns whether there is room for them; they are counted all the same.
    pub fn hold(&mut self, bytes: usize) -> bool {
        let Memory { held, most } = &self.memory;
        held.set(held.get().saturating_sub(self.bytes).saturating_add(bytes));
        self.bytes = bytes;
        held.get() <= *most
    }

    /// Another one of the same memory.
    pub fn other(&self) -> Share {
        self.memory.share()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.hold(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_one_holds_is_not_there_for_others_until_it_goes() {
        let memory = Memory::default();
        let (mut one, mut other) = (memory.share(), memory.share());
        assert!(one.hold(MAX_HELD - 10) && other.hold(10));
        assert!(!other.hold(11) && other.hold(5) && other.hold(10));
        drop(one);
        assert!(other.other().hold(MAX_HELD - 10));
    }
}
