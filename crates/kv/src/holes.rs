//! Where is room? Free stretches of an address range by address and by size, every question in logarithmic time.

/// No node.
const NONE: u32 = u32::MAX;

/// An ordered set of keys with a length each, which knows the longest and the sum below any key. A treap: its shape
/// depends on the keys alone, so equal sets are equal on every machine.
#[derive(Clone, Debug)]
pub(crate) struct Treap {
    nodes: Vec<Node>,
    free: Vec<u32>,
    root: u32,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    key: u64,
    len: u32,
    left: u32,
    right: u32,
    /// The longest length in this subtree.
    longest: u32,
    /// The sum of the lengths in this subtree.
    sum: u64,
}

impl Treap {
    pub(crate) const fn new() -> Self {
        Treap { nodes: Vec::new(), free: Vec::new(), root: NONE }
    }

    /// Returns how many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.nodes.len() - self.free.len()
    }

    /// Returns the longest length; 0 when there is none.
    pub(crate) fn longest(&self) -> u32 {
        self.longest_of(self.root)
    }

    /// Returns the sum of all lengths.
    pub(crate) fn sum(&self) -> u64 {
        self.sum_of(self.root)
    }

    /// Adds a key that is not there.
    pub(crate) fn insert(&mut self, key: u64, len: u32) {
        let node = Node { key, len, left: NONE, right: NONE, longest: len, sum: u64::from(len) };
        let at = match self.free.pop() {
            Some(at) => {
                self.nodes[at as usize] = node;
                at
            }
            None => {
                self.nodes.push(node);
                (self.nodes.len() - 1) as u32
            }
        };
        let (below, above) = self.split(self.root, key);
        let below = self.merge(below, at);
        self.root = self.merge(below, above);
    }

    /// Takes a key out and returns its length; `None` when it is not there.
    pub(crate) fn remove(&mut self, key: u64) -> Option<u32> {
        let (below, rest) = self.split(self.root, key);
        let (at, above) = match key.checked_add(1) {
            Some(next) => self.split(rest, next),
            None => (rest, NONE),
        };
        self.root = self.merge(below, above);
        let len = self.nodes.get(at as usize)?.len;
        self.free.push(at);
        Some(len)
    }

    /// Returns the greatest key below `key` with its length.
    pub(crate) fn before(&self, key: u64) -> Option<(u64, u32)> {
        let (mut at, mut found) = (self.root, None);
        while let Some(node) = self.nodes.get(at as usize) {
            if node.key < key {
                found = Some((node.key, node.len));
                at = node.right;
            } else {
                at = node.left;
            }
        }
        found
    }

    /// Returns the least key from `key` on with its length.
    pub(crate) fn from(&self, key: u64) -> Option<(u64, u32)> {
        let (mut at, mut found) = (self.root, None);
        while let Some(node) = self.nodes.get(at as usize) {
            if node.key >= key {
                found = Some((node.key, node.len));
                at = node.left;
            } else {
                at = node.right;
            }
        }
        found
    }

    /// Returns the least key whose length is at least `len`, which is not 0.
    pub(crate) fn first_of_at_least(&self, len: u32) -> Option<(u64, u32)> {
        let mut at = self.root;
        if self.longest_of(at) < len {
            return None;
        }
        while let Some(node) = self.nodes.get(at as usize) {
            if self.longest_of(node.left) >= len {
                at = node.left;
            } else if node.len >= len {
                return Some((node.key, node.len));
            } else {
                at = node.right;
            }
        }
        None
    }

    /// Returns the sum of the lengths of all keys below `key`.
    pub(crate) fn sum_below(&self, key: u64) -> u64 {
        let (mut at, mut sum) = (self.root, 0);
        while let Some(node) = self.nodes.get(at as usize) {
            if node.key < key {
                sum += self.sum_of(node.left) + u64::from(node.len);
                at = node.right;
            } else {
                at = node.left;
            }
        }
        sum
    }

    fn longest_of(&self, at: u32) -> u32 {
        self.nodes.get(at as usize).map_or(0, |node| node.longest)
    }

    fn sum_of(&self, at: u32) -> u64 {
        self.nodes.get(at as usize).map_or(0, |node| node.sum)
    }

    /// Parts a subtree into the keys below `key` and the others.
    fn split(&mut self, at: u32, key: u64) -> (u32, u32) {
        let Some(&node) = self.nodes.get(at as usize) else { return (NONE, NONE) };
        if node.key < key {
            let (below, above) = self.split(node.right, key);
            self.nodes[at as usize].right = below;
            self.update(at);
            (at, above)
        } else {
            let (below, above) = self.split(node.left, key);
            self.nodes[at as usize].left = above;
            self.update(at);
            (below, at)
        }
    }

    /// Joins two subtrees, every key of the first below every key of the second.
    fn merge(&mut self, below: u32, above: u32) -> u32 {
        let (Some(&left), Some(&right)) = (self.nodes.get(below as usize), self.nodes.get(above as usize)) else {
            return if below == NONE { above } else { below };
        };
        if weight(left.key) >= weight(right.key) {
            self.nodes[below as usize].right = self.merge(left.right, above);
            self.update(below);
            below
        } else {
            self.nodes[above as usize].left = self.merge(below, right.left);
            self.update(above);
            above
        }
    }

    fn update(&mut self, at: u32) {
        let node = self.nodes[at as usize];
        let longest = node.len.max(self.longest_of(node.left)).max(self.longest_of(node.right));
        let sum = u64::from(node.len) + self.sum_of(node.left) + self.sum_of(node.right);
        let node = &mut self.nodes[at as usize];
        (node.longest, node.sum) = (longest, sum);
    }
}

/// A node's height in the treap: the finaliser of Steele, Lea and Flood's SplitMix64 (public domain), which is one to one.
const fn weight(key: u64) -> u64 {
    let key = (key ^ (key >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let key = (key ^ (key >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    key ^ (key >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::Treap;

    proptest! {
        #[test]
        fn it_answers_as_a_sorted_map_would(work in prop::collection::vec((0..2u8, 0..60u64, 1..50u32), 1..200)) {
            let (mut treap, mut map) = (Treap::new(), BTreeMap::new());
            for (kind, key, len) in work {
                if kind == 0 {
                    if map.insert(key, len).is_some() {
                        treap.remove(key);
                    }
                    treap.insert(key, len);
                } else {
                    prop_assert_eq!(treap.remove(key), map.remove(&key));
                }
                prop_assert_eq!(treap.len(), map.len());
                prop_assert_eq!(treap.longest(), map.values().copied().max().unwrap_or(0));
                prop_assert_eq!(treap.sum(), map.values().map(|&len| u64::from(len)).sum::<u64>());
                for key in 0..61 {
                    let pair = |(&key, &len): (&u64, &u32)| (key, len);
                    prop_assert_eq!(treap.before(key), map.range(..key).next_back().map(pair));
                    prop_assert_eq!(treap.from(key), map.range(key..).next().map(pair));
                    let sum = map.range(..key).map(|(_, &len)| u64::from(len)).sum::<u64>();
                    prop_assert_eq!(treap.sum_below(key), sum);
                    let len = key.max(1) as u32;
                    let first = map.iter().find(|&(_, &found)| found >= len);
                    prop_assert_eq!(treap.first_of_at_least(len), first.map(pair));
                }
            }
        }
    }
}
