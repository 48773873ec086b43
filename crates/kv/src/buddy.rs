//! And if every reservation is a power of two? A buddy allocator: reserving splits, releasing joins, holes are few kinds,
//! and up to half of each reservation is padding.
//!
//! ```
//! use plimsoll_kv::Buddy;
//! let mut range = Buddy::new(100, 1);
//! // 100 = 64 + 32 + 4: the largest reservation is of 64 slots.
//! assert_eq!((range.largest(), range.size(33)), (64, Some(64)));
//! let span = range.reserve(33).unwrap();
//! assert_eq!((span.len, range.free(), range.reserve(33)), (64, 36, None));
//! range.release(span);
//! assert_eq!(range.free(), 100);
//! ```

use std::collections::BTreeSet;

use crate::Span;

/// A range of slots in which every reservation is a power of two long and lies at a multiple of its length. Reserving and
/// releasing take time logarithmic in the number of slots.
#[derive(Clone, Debug)]
pub struct Buddy {
    capacity: u32,
    smallest: u32,
    /// Free pieces by order: those of 2^order slots, by address.
    pieces: Vec<BTreeSet<u32>>,
    free: u32,
    reservations: u32,
}

impl Buddy {
    /// Starts with all slots free: the largest power of two first, then the largest of the rest, and so on. No piece is
    /// smaller than `smallest`; what is left of the range below that stays out of use.
    ///
    /// # Panics
    /// When `smallest` is not a power of two.
    pub fn new(capacity: u32, smallest: u32) -> Self {
        assert!(smallest.is_power_of_two(), "{smallest} is not a power of two");
        let capacity = capacity / smallest * smallest;
        let mut pieces = vec![BTreeSet::new(); 32];
        let mut start = 0;
        for order in (0..32).rev() {
            if capacity & (1 << order) != 0 {
                pieces[order].insert(start);
                start += 1 << order;
            }
        }
        Buddy { capacity, smallest, pieces, free: capacity, reservations: 0 }
    }

    /// Returns the length of the reservation that would hold `slots`; `None` when no power of two does.
    pub fn size(&self, slots: u32) -> Option<u32> {
        slots.max(self.smallest).checked_next_power_of_two()
    }

    /// Reserves the next power of two of `slots`, in the smallest free piece that holds it, of equal ones the first;
    /// `None` when there is none.
    ///
    /// # Panics
    /// When asked for no slot.
    pub fn reserve(&mut self, slots: u32) -> Option<Span> {
        assert!(slots > 0, "a reservation has at least one slot");
        let len = self.size(slots)?;
        let order = len.trailing_zeros() as usize;
        let found = (order..self.pieces.len()).find(|&order| !self.pieces[order].is_empty())?;
        let start = self.pieces[found].pop_first()?;
        for half in order..found {
            self.pieces[half].insert(start + (1 << half));
        }
        self.free -= len;
        self.reservations += 1;
        Some(Span { start, len })
    }

    /// Gives a reservation back and joins it with its buddy for as long as that one is free.
    ///
    /// # Panics
    /// When the span is none that [`Buddy::reserve`] returns, or its slots are free.
    pub fn release(&mut self, span: Span) {
        let whole = span.len.is_power_of_two() && span.start.is_multiple_of(span.len) && span.len >= self.smallest;
        let inside = u64::from(span.start) + u64::from(span.len) <= u64::from(self.capacity);
        assert!(whole && inside && self.reservations > 0, "{span:?} is not reserved");
        let (mut start, mut order) = (span.start, span.len.trailing_zeros() as usize);
        for larger in order..self.pieces.len() {
            assert!(!self.pieces[larger].contains(&(start >> larger << larger)), "{span:?} is free");
        }
        while order + 1 < self.pieces.len() && self.pieces[order].remove(&(start ^ (1 << order))) {
            start &= !(1 << order);
            order += 1;
        }
        self.pieces[order].insert(start);
        self.free += span.len;
        self.reservations -= 1;
    }

    /// Returns all slots that can be reserved.
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Returns the slots that nobody reserved.
    pub const fn free(&self) -> u32 {
        self.free
    }

    /// Returns the slots of the largest free piece.
    pub fn largest(&self) -> u32 {
        self.pieces.iter().rposition(|pieces| !pieces.is_empty()).map_or(0, |order| 1 << order)
    }

    /// Returns how many free pieces there are.
    pub fn holes(&self) -> usize {
        self.pieces.iter().map(BTreeSet::len).sum()
    }

    /// Returns how many reservations there are.
    pub const fn reservations(&self) -> u32 {
        self.reservations
    }

    /// Returns the free slots in pieces too small for `slots` (external fragmentation).
    pub fn free_in_holes_below(&self, slots: u32) -> u32 {
        let order = self.size(slots).map_or(self.pieces.len(), |len| len.trailing_zeros() as usize);
        (0..order).map(|order| (self.pieces[order].len() << order) as u32).sum()
    }

    /// Checks the books against the reservations that are held, at the cost of sorting them; for tests.
    ///
    /// # Panics
    /// When slots are lost, reservations overlap or two free buddies are not joined.
    pub fn verify(&self, held: impl IntoIterator<Item = Span>) {
        let mut spans: Vec<Span> = held.into_iter().collect();
        assert_eq!(spans.len(), self.reservations as usize, "reservations are lost");
        for (order, pieces) in self.pieces.iter().enumerate() {
            for &start in pieces {
                spans.push(Span { start, len: 1 << order });
                let buddy = start ^ (1 << order);
                assert!(!pieces.contains(&buddy), "two buddies of {} slots at {start} are not joined", 1 << order);
            }
        }
        spans.sort_unstable();
        let mut at = 0;
        for span in spans {
            assert_eq!(span.start, at, "slots are lost or held twice");
            at = span.end();
        }
        assert_eq!(at, self.capacity, "slots are lost");
        assert_eq!(
            self.pieces.iter().enumerate().map(|(order, pieces)| pieces.len() << order).sum::<usize>(),
            self.free as usize
        );
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::Buddy;
    use crate::Span;

    /// The smallest free aligned piece that holds `len` slots, found by looking at every slot.
    fn naive(taken: &[bool], len: u32) -> Option<u32> {
        let free = |start: u32, len: u32| {
            taken.get(start as usize..(start + len) as usize).is_some_and(|slots| slots.iter().all(|taken| !taken))
        };
        // A free aligned piece is maximal when the piece of twice its length around it is not free.
        let maximal = |start: u32, len: u32| free(start, len) && !free(start / (2 * len) * (2 * len), 2 * len);
        let lens = std::iter::successors(Some(len), |len| Some(len * 2)).take_while(|&len| len as usize <= taken.len());
        lens.flat_map(|piece| (0..taken.len() as u32 / piece).map(move |at| (at * piece, piece)))
            .find(|&(start, piece)| maximal(start, piece))
            .map(|(start, _)| start)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_reserves_what_a_row_of_slots_would(
            capacity in 1..300u32,
            smallest in 0..4u32,
            work in prop::collection::vec((any::<prop::sample::Index>(), 1..80u32, 0..5u8), 1..200),
        ) {
            let mut range = Buddy::new(capacity, 1 << smallest);
            let capacity = capacity >> smallest << smallest;
            let mut taken = vec![false; capacity as usize];
            let mut held: Vec<Span> = Vec::new();
            let whole = (range.holes(), range.largest());
            for (which, slots, kind) in work {
                if kind < 3 {
                    let len = slots.max(1 << smallest).next_power_of_two();
                    let span = range.reserve(slots);
                    prop_assert_eq!(span, naive(&taken, len).map(|start| Span { start, len }));
                    if let Some(span) = span {
                        taken[span.start as usize..span.end() as usize].fill(true);
                        held.push(span);
                    }
                } else if !held.is_empty() {
                    let span = held.swap_remove(which.index(held.len()));
                    range.release(span);
                    taken[span.start as usize..span.end() as usize].fill(false);
                }
                range.verify(held.iter().copied());
                prop_assert_eq!(range.free() + held.iter().map(|span| span.len).sum::<u32>(), capacity);
                prop_assert!(range.free_in_holes_below(slots) <= range.free());
                prop_assert_eq!(
                    range.size(slots).is_some_and(|len| len <= range.largest()),
                    range.free_in_holes_below(slots) < range.free()
                );
            }
            for span in held.drain(..) {
                range.release(span);
            }
            prop_assert_eq!((range.holes(), range.largest(), range.free()), (whole.0, whole.1, capacity));
        }
    }

    #[test]
    fn buddies_split_and_join() {
        let mut range = Buddy::new(1024, 16);
        let a = range.reserve(1).unwrap();
        assert_eq!((a, range.holes(), range.largest()), (Span { start: 0, len: 16 }, 6, 512));
        let b = range.reserve(16).unwrap();
        assert_eq!(b.start, 16, "the other half of the smallest split");
        range.release(a);
        assert_eq!(range.holes(), 6, "its buddy is not free");
        range.release(b);
        assert_eq!((range.holes(), range.largest()), (1, 1024));
        assert_eq!(range.reserve(u32::MAX), None);
    }

    #[test]
    #[should_panic(expected = "is free")]
    fn a_reservation_is_released_once() {
        let mut range = Buddy::new(64, 1);
        let (a, _b) = (range.reserve(8).unwrap(), range.reserve(8).unwrap());
        range.release(a);
        range.release(a);
    }
}
