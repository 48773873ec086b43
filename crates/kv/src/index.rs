//! Which blocks hold this content? A hash table whose chains run through the blocks themselves, so that it never grows.

/// Blocks by key. A block has one key or none; several blocks may have the same, and the oldest is found.
#[derive(Clone, Debug)]
pub(crate) struct Index {
    /// First block of each bucket's chain, 0 when it is empty. The bucket is the key's low bits: keys are mixed already.
    buckets: Vec<u32>,
    /// Key of each block, 0 for none.
    keys: Vec<u64>,
    /// Next block of the chain, valid where the block stands in one: the oldest of each key does.
    chain: Vec<u32>,
    /// Ring of the blocks of one key, oldest first.
    younger: Vec<u32>,
    older: Vec<u32>,
}

impl Index {
    pub(crate) fn new(blocks: u32) -> Self {
        let blocks = blocks as usize;
        let buckets = vec![0; blocks.next_power_of_two()];
        let list = vec![0; blocks];
        Index { buckets, keys: vec![0; blocks], chain: list.clone(), younger: list.clone(), older: list }
    }

    pub(crate) fn key(&self, block: u32) -> Option<u64> {
        Some(self.keys[block as usize]).filter(|&key| key != 0)
    }

    fn bucket(&self, key: u64) -> usize {
        key as usize & (self.buckets.len() - 1)
    }

    pub(crate) fn first(&self, key: u64) -> Option<u32> {
        let mut block = self.buckets[self.bucket(key)];
        while block != 0 && self.keys[block as usize] != key {
            block = self.chain[block as usize];
        }
        (block != 0).then_some(block)
    }

    /// # Panics
    /// When the block is the null block or has a key.
    pub(crate) fn insert(&mut self, block: u32, key: u64) {
        let at = block as usize;
        assert!(block != 0 && self.keys[at] == 0, "block {block} is remembered already");
        let oldest = self.first(key);
        self.keys[at] = key;
        if let Some(oldest) = oldest {
            let youngest = self.older[oldest as usize];
            (self.older[at], self.younger[at]) = (youngest, oldest);
            self.younger[youngest as usize] = block;
            self.older[oldest as usize] = block;
        } else {
            let bucket = self.bucket(key);
            (self.older[at], self.younger[at]) = (block, block);
            self.chain[at] = self.buckets[bucket];
            self.buckets[bucket] = block;
        }
    }

    pub(crate) fn remove(&mut self, block: u32) -> Option<u64> {
        let at = block as usize;
        let key = self.key(block)?;
        let (older, younger) = (self.older[at], self.younger[at]);
        let bucket = self.bucket(key);
        let mut before = None;
        let mut oldest = self.buckets[bucket];
        while self.keys[oldest as usize] != key {
            before = Some(oldest);
            oldest = self.chain[oldest as usize];
        }
        if oldest == block {
            // The next of the same key takes its place in the chain, or the chain closes over it.
            let rest = self.chain[at];
            let heir = if younger == block { rest } else { younger };
            if younger != block {
                self.chain[younger as usize] = rest;
            }
            match before {
                Some(before) => self.chain[before as usize] = heir,
                None => self.buckets[bucket] = heir,
            }
        }
        self.younger[older as usize] = younger;
        self.older[younger as usize] = older;
        self.keys[at] = 0;
        Some(key)
    }

    pub(crate) fn clear(&mut self) {
        self.buckets.fill(0);
        self.keys.fill(0);
    }

    pub(crate) fn heap_bytes(&self) -> usize {
        let lists = self.buckets.capacity() + self.chain.capacity() + self.younger.capacity() + self.older.capacity();
        size_of::<u32>() * lists + size_of::<u64>() * self.keys.capacity()
    }

    /// # Panics
    /// When a block with a key is not found by it, or is found without.
    pub(crate) fn verify(&self) {
        let mut found = 0;
        for (bucket, &first) in self.buckets.iter().enumerate() {
            let mut oldest = first;
            while oldest != 0 {
                let key = self.keys[oldest as usize];
                assert!(key != 0 && self.bucket(key) == bucket, "block {oldest} is in a wrong chain");
                let mut block = oldest;
                loop {
                    assert_eq!(self.keys[block as usize], key, "block {block} is in a wrong ring");
                    assert_eq!(self.older[self.younger[block as usize] as usize], block, "a torn ring");
                    found += 1;
                    block = self.younger[block as usize];
                    if block == oldest {
                        break;
                    }
                }
                oldest = self.chain[oldest as usize];
            }
        }
        let keyed = self.keys.iter().filter(|&&key| key != 0).count();
        assert_eq!(found, keyed, "blocks with a key that nobody finds");
    }
}
