//! Did the cache change in what one sequence would find? A set of keys, asked at every change.

use crate::Key;

/// The keys of one sequence, and whether one of them came or went since they were taken.
#[derive(Clone, Debug, Default)]
pub(super) struct Watch {
    /// Open addressing, 0 for empty; never more than half full.
    slots: Vec<u64>,
    active: bool,
    touched: bool,
}

impl Watch {
    /// Watches these keys from now on.
    pub fn set(&mut self, count: usize, keys: impl Iterator<Item = Key>) {
        let size = (2 * count + 1).next_power_of_two();
        self.slots.clear();
        self.slots.resize(size, 0);
        for key in keys {
            let mut at = key.get() as usize & (size - 1);
            while self.slots[at] != 0 {
                at = (at + 1) & (size - 1);
            }
            self.slots[at] = key.get();
        }
        self.active = true;
        self.touched = false;
    }

    pub fn off(&mut self) {
        self.active = false;
        self.touched = false;
    }

    /// Starts again with the same keys.
    pub fn renew(&mut self) {
        self.active = true;
        self.touched = false;
    }

    pub const fn touched(&self) -> bool {
        self.touched
    }

    pub fn note(&mut self, key: Key) {
        if !self.active || self.touched {
            return;
        }
        let mask = self.slots.len() - 1;
        let mut at = key.get() as usize & mask;
        while self.slots[at] != 0 {
            if self.slots[at] == key.get() {
                self.touched = true;
                return;
            }
            at = (at + 1) & mask;
        }
    }
}
