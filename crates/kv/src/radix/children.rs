//! Who hangs below whom? One table for all nodes, by the hash of the node above and of their first page.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

const NONE: u32 = u32::MAX;

/// Nodes by hash. Never iterated over, so that its order cannot matter.
#[derive(Clone, Debug, Default)]
pub(super) struct Children {
    first: HashMap<u64, u32, BuildHasherDefault<Hashed>>,
    links: Vec<Link>,
    len: usize,
}

/// A node in the table: its hash, and the next node with the same.
#[derive(Clone, Copy, Debug)]
struct Link {
    hash: u64,
    next: u32,
}

impl Children {
    pub fn clear(&mut self) {
        self.first.clear();
        self.len = 0;
    }

    /// Returns how many nodes are in the table.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Returns the nodes with a hash: one, as a rule.
    pub fn alike(&self, hash: u64) -> impl Iterator<Item = u32> {
        let mut next = self.first.get(&hash).copied();
        std::iter::from_fn(move || {
            let found = next?;
            next = Some(self.links[found as usize].next).filter(|&next| next != NONE);
            Some(found)
        })
    }

    /// Puts a node in.
    pub fn insert(&mut self, node: u32, hash: u64) {
        if self.links.len() <= node as usize {
            self.links.resize(node as usize + 1, Link { hash: 0, next: NONE });
        }
        let next = self.first.insert(hash, node).unwrap_or(NONE);
        self.links[node as usize] = Link { hash, next };
        self.len += 1;
    }

    /// Puts a node in the place of another, which leaves the table.
    pub fn replace(&mut self, old: u32, new: u32) {
        let hash = self.links[old as usize].hash;
        self.remove(old);
        self.insert(new, hash);
    }

    /// Takes a node out that is in.
    pub fn remove(&mut self, node: u32) {
        let Link { hash, next } = self.links[node as usize];
        self.len -= 1;
        let Some(first) = self.first.get_mut(&hash) else { return };
        if *first == node {
            if next == NONE {
                self.first.remove(&hash);
            } else {
                *first = next;
            }
            return;
        }
        let mut at = *first;
        while at != NONE {
            let link = &mut self.links[at as usize];
            if link.next == node {
                link.next = next;
                return;
            }
            at = link.next;
        }
    }
}

/// A key that is a hash already.
#[derive(Clone, Copy, Debug, Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(byte);
        }
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_of_one_hash_stand_beside_each_other() {
        let mut table = Children::default();
        for node in [4, 7, 2] {
            table.insert(node, 99);
        }
        assert_eq!(table.alike(99).collect::<Vec<_>>(), [2, 7, 4]);
        table.remove(7);
        table.replace(4, 5);
        assert_eq!(table.alike(99).collect::<Vec<_>>(), [5, 2]);
        table.remove(5);
        table.remove(2);
        assert_eq!((table.alike(99).count(), table.len()), (0, 0));
    }
}
