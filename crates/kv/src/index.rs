//! Which blocks hold this content? A hash table whose chains run through the blocks themselves, so that it never grows.

/// Everything about a block, in half a cache line: nearly every change of one field needs others of the same block.
#[derive(Clone, Copy, Debug, Default)]
#[repr(align(32))]
pub(crate) struct Node {
    /// What it is found by, 0 for none.
    key: u64,
    /// Who hold it.
    pub references: u32,
    /// Neighbours in the free queue, valid while nobody holds it.
    pub next: u32,
    pub previous: u32,
    /// Next block of the bucket's chain, valid where the block stands in one: the oldest of each key does.
    chain: u32,
    /// Ring of the blocks of one key, oldest first.
    younger: u32,
    older: u32,
}

/// Blocks by key. A block has one key or none; several blocks may have the same, and the oldest is found.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    /// First block of each bucket's chain, 0 when it is empty. The bucket is the key's low bits: keys are mixed already.
    buckets: Vec<u32>,
    pub nodes: Vec<Node>,
}

impl Index {
    pub(crate) fn new(blocks: u32) -> Self {
        let blocks = blocks as usize;
        // Twice as many buckets as blocks: most chains are empty or one long.
        Index { buckets: vec![0; 2 * blocks.next_power_of_two()], nodes: vec![Node::default(); blocks] }
    }

    pub(crate) fn node(&mut self, block: u32) -> &mut Node {
        &mut self.nodes[block as usize]
    }

    fn at(&self, block: u32) -> &Node {
        &self.nodes[block as usize]
    }

    pub(crate) fn key(&self, block: u32) -> Option<u64> {
        Some(self.at(block).key).filter(|&key| key != 0)
    }

    fn bucket(&self, key: u64) -> usize {
        key as usize & (self.buckets.len() - 1)
    }

    pub(crate) fn first(&self, key: u64) -> Option<u32> {
        let mut block = self.buckets[self.bucket(key)];
        while block != 0 && self.at(block).key != key {
            block = self.at(block).chain;
        }
        (block != 0).then_some(block)
    }

    /// # Panics
    /// When the block is the null block or has a key.
    pub(crate) fn insert(&mut self, block: u32, key: u64) {
        assert!(block != 0 && self.at(block).key == 0, "block {block} is remembered already");
        let oldest = self.first(key);
        if let Some(oldest) = oldest {
            let youngest = self.at(oldest).older;
            let node = self.node(block);
            (node.key, node.older, node.younger) = (key, youngest, oldest);
            self.node(youngest).younger = block;
            self.node(oldest).older = block;
        } else {
            let bucket = self.bucket(key);
            let chain = std::mem::replace(&mut self.buckets[bucket], block);
            let node = self.node(block);
            (node.key, node.older, node.younger, node.chain) = (key, block, block, chain);
        }
    }

    pub(crate) fn remove(&mut self, block: u32) -> Option<u64> {
        let Node { key, older, younger, chain: rest, .. } = *self.at(block);
        if key == 0 {
            return None;
        }
        let bucket = self.bucket(key);
        let mut before = None;
        let mut oldest = self.buckets[bucket];
        while self.at(oldest).key != key {
            before = Some(oldest);
            oldest = self.at(oldest).chain;
        }
        if oldest == block {
            // The next of the same key takes its place in the chain, or the chain closes over it.
            let heir = if younger == block { rest } else { younger };
            if younger != block {
                self.node(younger).chain = rest;
            }
            match before {
                Some(before) => self.node(before).chain = heir,
                None => self.buckets[bucket] = heir,
            }
        }
        if younger != block {
            self.node(older).younger = younger;
            self.node(younger).older = older;
        }
        self.node(block).key = 0;
        Some(key)
    }

    pub(crate) fn clear(&mut self) {
        self.buckets.fill(0);
        self.nodes.iter_mut().for_each(|node| node.key = 0);
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        size_of::<u32>() * self.buckets.capacity() + size_of::<Node>() * self.nodes.capacity()
    }

    /// # Panics
    /// When a block with a key is not found by it, or is found without.
    pub(crate) fn verify(&self) {
        let mut found = 0;
        for (bucket, &first) in self.buckets.iter().enumerate() {
            let mut oldest = first;
            while oldest != 0 {
                let key = self.at(oldest).key;
                assert!(key != 0 && self.bucket(key) == bucket, "block {oldest} is in a wrong chain");
                let mut block = oldest;
                loop {
                    assert_eq!(self.at(block).key, key, "block {block} is in a wrong ring");
                    assert_eq!(self.at(self.at(block).younger).older, block, "a torn ring");
                    found += 1;
                    block = self.at(block).younger;
                    if block == oldest {
                        break;
                    }
                }
                oldest = self.at(oldest).chain;
            }
        }
        let keyed = self.nodes.iter().filter(|node| node.key != 0).count();
        assert_eq!(found, keyed, "blocks with a key that nobody finds");
    }
}
