//! Where do blocks go instead of being computed again? A pool in host memory, and the copies that take tables there and
//! back.
//!
//! ```
//! use plimsoll_kv::{FreeOrder, Host, Pool, Table};
//! let (mut device, mut host) = (Pool::new(9, FreeOrder::Last), Host::new(4));
//! let mut tables = vec![Table::new(16)];
//! tables[0].append(40, &mut device).unwrap();
//!
//! let mut copies = Vec::new();
//! host.swap_out(&mut tables, &mut device, &mut copies).unwrap();
//! assert_eq!((copies.len(), device.held_blocks(), host.pool().held_blocks()), (3, 0, 3));
//!
//! copies.clear();
//! host.swap_in(&mut tables, &mut device, &mut copies).unwrap();
//! assert_eq!((copies.len(), device.held_blocks(), host.pool().held_blocks()), (3, 3, 0));
//! assert_eq!(tables[0].tokens(), 40);
//! ```

use crate::{BlockId, FreeOrder, Full, Pool, Table};

/// A block to copy between device and host before either is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SwapCopy {
    /// The block in the pool that is left.
    pub from: BlockId,
    /// The block in the pool that is entered.
    pub to: BlockId,
}

/// Blocks in host memory for tables that had to leave the device.
///
/// Tables of one group (the samples of one prompt, the beams of one search) go together: a block that they share is copied
/// once and shared again on the other side. A block that others share stays with them and is copied nevertheless.
#[derive(Clone, Debug)]
pub struct Host {
    pool: Pool,
}

impl Host {
    /// Starts with so many free blocks.
    ///
    /// # Panics
    /// With 2^32 − 1 blocks or more.
    pub fn new(blocks: u32) -> Self {
        let with_null = blocks.checked_add(1).expect("fewer than 2^32 - 1 blocks");
        Host { pool: Pool::new(with_null, FreeOrder::Last) }
    }

    /// Returns the blocks on the host.
    pub const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Takes a group's tables from the device to the host and adds the copies to make.
    ///
    /// # Errors
    /// [`Full`], with nothing done, when the host has not enough free blocks.
    pub fn swap_out(
        &mut self,
        tables: &mut [Table],
        device: &mut Pool,
        copies: &mut Vec<SwapCopy>,
    ) -> Result<(), Full> {
        transfer(tables, device, &mut self.pool, copies)
    }

    /// Takes a group's tables from the host to the device and adds the copies to make.
    ///
    /// # Errors
    /// [`Full`], with nothing done, when the device has not enough free blocks.
    pub fn swap_in(&mut self, tables: &mut [Table], device: &mut Pool, copies: &mut Vec<SwapCopy>) -> Result<(), Full> {
        transfer(tables, &mut self.pool, device, copies)
    }

    /// Gives the blocks of tables on the host back, their tokens being wanted no more.
    pub fn discard(&mut self, tables: &mut [Table]) {
        for table in tables {
            table.clear(&mut self.pool);
        }
    }
}

/// Moves tables from one pool to another, blocks that they share among themselves once.
fn transfer(tables: &mut [Table], from: &mut Pool, to: &mut Pool, copies: &mut Vec<SwapCopy>) -> Result<(), Full> {
    let mut left: Vec<BlockId> = tables.iter().flat_map(Table::blocks).copied().collect();
    left.sort_unstable();
    let entries = left.clone();
    left.dedup();
    let full = Full { needed: left.len() as u32, free: to.free_blocks() };
    if full.needed > full.free {
        return Err(full);
    }
    let first = copies.len();
    for block in left {
        copies.push(SwapCopy { from: block, to: to.allocate().ok_or(full)? });
    }
    let map = &copies[first..];
    let entered = |block: BlockId| match map.binary_search_by_key(&block, |copy| copy.from) {
        Ok(at) => map[at].to,
        Err(_) => unreachable!("every block of the tables was given a place"),
    };
    for pair in entries.windows(2) {
        if pair[0] == pair[1] {
            to.touch(entered(pair[0]));
        }
    }
    for table in tables.iter_mut() {
        from.free(table.blocks().iter().rev().copied());
        table.renumber(entered);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Groups of samples, on the device or on the host, with what each block holds.
    struct Memory {
        device: (Pool, Vec<u64>),
        host: (Host, Vec<u64>),
        /// Tables, and whether they are on the device.
        groups: Vec<(Vec<Table>, bool)>,
    }

    impl Memory {
        fn verify(&self, expected: &[Vec<Vec<u64>>]) {
            for (pool, slots, here) in
                [(&self.device.0, &self.device.1, true), (self.host.0.pool(), &self.host.1, false)]
            {
                pool.verify();
                let mut references = vec![0; pool.blocks() as usize];
                for ((tables, _), expected) in
                    self.groups.iter().zip(expected).filter(|((_, device), _)| *device == here)
                {
                    for (table, expected) in tables.iter().zip(expected) {
                        let read: Vec<u64> = table.blocks().iter().map(|block| slots[block.index()]).collect();
                        assert_eq!(&read, expected, "a swapped table reads back what it held");
                        table.blocks().iter().for_each(|block| references[block.index()] += 1);
                    }
                }
                for block in 1..pool.blocks() {
                    assert_eq!(pool.references(BlockId(block)), references[block as usize]);
                }
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(128))]
        #[test]
        fn tables_come_back_as_they_went(
            (device, host) in (4..60u32, 1..40u32),
            groups in prop::collection::vec(prop::collection::vec((1..30u32, 0..20u32), 1..4), 1..6),
            work in prop::collection::vec(any::<prop::sample::Index>(), 1..60),
        ) {
            let mut memory = Memory {
                device: (Pool::new(device, FreeOrder::Last), vec![0; device as usize]),
                host: (Host::new(host), vec![0; host as usize + 1]),
                groups: Vec::new(),
            };
            let mut expected = Vec::new();
            for lens in groups {
                let mut tables: Vec<Table> = Vec::new();
                for (len, forked) in lens {
                    let mut table = match tables.last() {
                        Some(last) => last.fork_at(forked, &mut memory.device.0),
                        None => Table::new(4),
                    };
                    let _ = table.append(len, &mut memory.device.0);
                    tables.push(table);
                }
                memory.groups.push((tables, true));
            }
            for (block, slot) in memory.device.1.iter_mut().enumerate() {
                *slot = block as u64 + 1000;
            }
            for (tables, _) in &memory.groups {
                let of = |table: &Table| table.blocks().iter().map(|block| memory.device.1[block.index()]).collect();
                expected.push(tables.iter().map(of).collect::<Vec<Vec<u64>>>());
            }
            memory.verify(&expected);
            for which in work {
                let (tables, here) = &mut memory.groups[which.index(expected.len())];
                let mut copies = Vec::new();
                let before = tables.clone();
                let (moved, from, to) = if *here {
                    let moved = memory.host.0.swap_out(tables, &mut memory.device.0, &mut copies);
                    (moved, &mut memory.device.1, &mut memory.host.1)
                } else {
                    let moved = memory.host.0.swap_in(tables, &mut memory.device.0, &mut copies);
                    (moved, &mut memory.host.1, &mut memory.device.1)
                };
                match moved {
                    Ok(()) => *here = !*here,
                    Err(full) => prop_assert!(full.needed > full.free && copies.is_empty() && *tables == before),
                }
                for copy in copies {
                    to[copy.to.index()] = std::mem::replace(&mut from[copy.from.index()], 0);
                }
                memory.verify(&expected);
            }
            for (tables, here) in &mut memory.groups {
                match here {
                    true => tables.iter_mut().for_each(|table| table.clear(&mut memory.device.0)),
                    false => memory.host.0.discard(tables),
                }
            }
            prop_assert_eq!((memory.device.0.held_blocks(), memory.host.0.pool().held_blocks()), (0, 0));
        }
    }
}
