//! What did caches look like before paging? Reservations of neighbouring slots in one range of addresses, each as long as
//! its sequence may ever become, with the holes between them.
//!
//! ```
//! use plimsoll_kv::{Contiguous, Fit};
//! let mut range = Contiguous::new(100, Fit::First);
//! let [a, b, c] = [40, 30, 30].map(|slots| range.reserve(slots).unwrap());
//! range.release(a);
//! range.release(c);
//! // 70 slots are free and no request for 50 can have them: external fragmentation.
//! assert_eq!((range.free(), range.largest(), range.reserve(50)), (70, 40, None));
//! assert_eq!(range.free_in_holes_below(50), 70);
//! range.release(b);
//! assert_eq!((range.holes(), range.largest()), (1, 100));
//! ```

use crate::holes::Treap;

/// Which hole a reservation goes into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fit {
    /// The first that is long enough, in order of addresses.
    First,
    /// The shortest that is long enough; of equal ones the first.
    Best,
}

/// Neighbouring slots: `start..start + len`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The first slot.
    pub start: u32,
    /// Slots.
    pub len: u32,
}

impl Span {
    /// Returns the slot behind the last one.
    pub const fn end(self) -> u32 {
        self.start + self.len
    }
}

/// A range of slots in which reservations lie side by side. Reserving and releasing take time logarithmic in the number
/// of holes.
#[derive(Clone, Debug)]
pub struct Contiguous {
    capacity: u32,
    fit: Fit,
    by_start: Treap,
    by_len: Treap,
    reservations: u32,
}

impl Contiguous {
    /// Starts with all slots free.
    pub fn new(capacity: u32, fit: Fit) -> Self {
        let mut range = Contiguous { capacity, fit, by_start: Treap::new(), by_len: Treap::new(), reservations: 0 };
        if capacity > 0 {
            range.open(Span { start: 0, len: capacity });
        }
        range
    }

    /// Reserves `slots` neighbouring slots; `None` when no hole is long enough. A reservation has at least one slot.
    ///
    /// # Panics
    /// When asked for no slot.
    pub fn reserve(&mut self, slots: u32) -> Option<Span> {
        assert!(slots > 0, "a reservation has at least one slot");
        let hole = match self.fit {
            Fit::First => {
                let (start, len) = self.by_start.first_of_at_least(slots)?;
                Span { start: start as u32, len }
            }
            Fit::Best => {
                let (key, len) = self.by_len.from(size_key(Span { start: 0, len: slots }))?;
                Span { start: key as u32, len }
            }
        };
        self.close(hole);
        if hole.len > slots {
            self.open(Span { start: hole.start + slots, len: hole.len - slots });
        }
        self.reservations += 1;
        Some(Span { start: hole.start, len: slots })
    }

    /// Gives a reservation back and joins it with the holes beside it.
    ///
    /// # Panics
    /// When the slots are not all reserved.
    pub fn release(&mut self, span: Span) {
        let (mut start, mut end) = (span.start, u64::from(span.start) + u64::from(span.len));
        assert!(span.len > 0 && end <= u64::from(self.capacity) && self.reservations > 0, "{span:?} is not reserved");
        if let Some((hole, len)) = self.by_start.before(u64::from(start) + 1) {
            let hole = Span { start: hole as u32, len };
            assert!(hole.end() <= start, "{span:?} is free in part");
            if hole.end() == start {
                self.close(hole);
                start = hole.start;
            }
        }
        if let Some((hole, len)) = self.by_start.from(u64::from(span.start)) {
            assert!(hole >= end, "{span:?} is free in part");
            if hole == end {
                self.close(Span { start: hole as u32, len });
                end += u64::from(len);
            }
        }
        self.open(Span { start, len: end as u32 - start });
        self.reservations -= 1;
    }

    /// Returns all slots there are.
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Returns the slots that nobody reserved.
    pub fn free(&self) -> u32 {
        self.by_start.sum() as u32
    }

    /// Returns the slots of the largest hole.
    pub fn largest(&self) -> u32 {
        self.by_start.longest()
    }

    /// Returns how many holes there are.
    pub fn holes(&self) -> usize {
        self.by_start.len()
    }

    /// Returns how many reservations there are.
    pub const fn reservations(&self) -> u32 {
        self.reservations
    }

    /// Returns the free slots in holes shorter than `slots`: of no use to whoever needs that many (external
    /// fragmentation).
    pub fn free_in_holes_below(&self, slots: u32) -> u32 {
        self.by_len.sum_below(size_key(Span { start: 0, len: slots })) as u32
    }

    /// Checks the books against the reservations that are held, at the cost of sorting them; for tests.
    ///
    /// # Panics
    /// When slots are lost, reservations overlap or two holes lie side by side.
    pub fn verify(&self, held: impl IntoIterator<Item = Span>) {
        let mut held: Vec<Span> = held.into_iter().collect();
        assert_eq!(held.len(), self.reservations as usize, "reservations are lost");
        held.sort_unstable();
        let (mut at, mut after_hole, mut holes) = (0, false, 0);
        let mut held = held.into_iter().peekable();
        while at < self.capacity {
            if let Some(span) = held.next_if(|span| span.start == at) {
                (at, after_hole) = (span.end(), false);
            } else {
                let hole = self.by_start.from(u64::from(at)).filter(|&(start, _)| start == u64::from(at));
                let (_, len) = hole.unwrap_or_else(|| panic!("slot {at} is neither free nor reserved"));
                assert!(!after_hole, "two holes lie side by side at {at}");
                (at, after_hole, holes) = (at + len, true, holes + 1);
            }
        }
        assert_eq!((at, held.next(), holes), (self.capacity, None, self.holes()), "reservations overlap");
        assert_eq!((self.by_len.len(), self.by_len.sum()), (self.by_start.len(), self.by_start.sum()));
    }

    fn open(&mut self, hole: Span) {
        self.by_start.insert(u64::from(hole.start), hole.len);
        self.by_len.insert(size_key(hole), hole.len);
    }

    fn close(&mut self, hole: Span) {
        self.by_start.remove(u64::from(hole.start));
        self.by_len.remove(size_key(hole));
    }
}

/// Orders holes by length, then by address.
const fn size_key(hole: Span) -> u64 {
    (hole.len as u64) << 32 | hole.start as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Contiguous, Fit, Span};

    /// A range as a row of slots, each with its reservation's start.
    struct Naive {
        slots: Vec<bool>,
        fit: Fit,
    }

    impl Naive {
        fn holes(&self) -> Vec<Span> {
            let mut holes: Vec<Span> = Vec::new();
            for (at, _) in self.slots.iter().enumerate().filter(|&(_, taken)| !taken) {
                match holes.last_mut() {
                    Some(hole) if hole.end() == at as u32 => hole.len += 1,
                    Some(_) | None => holes.push(Span { start: at as u32, len: 1 }),
                }
            }
            holes
        }

        fn reserve(&mut self, slots: u32) -> Option<Span> {
            let mut holes: Vec<Span> = self.holes().into_iter().filter(|hole| hole.len >= slots).collect();
            if self.fit == Fit::Best {
                holes.sort_by_key(|hole| hole.len);
            }
            let span = Span { len: slots, ..*holes.first()? };
            self.slots[span.start as usize..span.end() as usize].fill(true);
            Some(span)
        }

        fn release(&mut self, span: Span) {
            self.slots[span.start as usize..span.end() as usize].fill(false);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn it_reserves_what_a_row_of_slots_would(
            capacity in 1..400u32,
            best: bool,
            work in prop::collection::vec((any::<prop::sample::Index>(), 1..80u32, 0..5u8), 1..300),
        ) {
            let fit = if best { Fit::Best } else { Fit::First };
            let mut range = Contiguous::new(capacity, fit);
            let mut naive = Naive { slots: vec![false; capacity as usize], fit };
            let mut held: Vec<Span> = Vec::new();
            for (which, slots, kind) in work {
                if kind < 3 {
                    let span = range.reserve(slots);
                    prop_assert_eq!(span, naive.reserve(slots));
                    held.extend(span);
                } else if !held.is_empty() {
                    let span = held.swap_remove(which.index(held.len()));
                    range.release(span);
                    naive.release(span);
                }
                range.verify(held.iter().copied());
                let holes = naive.holes();
                prop_assert_eq!(range.holes(), holes.len());
                prop_assert_eq!(range.largest(), holes.iter().map(|hole| hole.len).max().unwrap_or(0));
                prop_assert_eq!(range.free() + held.iter().map(|span| span.len).sum::<u32>(), capacity);
                let below: u32 = holes.iter().map(|hole| hole.len).filter(|&len| len < slots).sum();
                prop_assert_eq!(range.free_in_holes_below(slots), below);
            }
            for span in held.drain(..) {
                range.release(span);
            }
            prop_assert_eq!((range.holes(), range.largest(), range.free()), (1, capacity, capacity));
        }
    }

    #[test]
    fn best_fit_leaves_the_long_hole_alone() {
        for (fit, start) in [(Fit::First, 0), (Fit::Best, 70)] {
            let mut range = Contiguous::new(100, fit);
            let spans = [50, 20, 10, 20].map(|slots| range.reserve(slots).unwrap());
            range.release(spans[0]);
            range.release(spans[2]);
            assert_eq!(range.reserve(9), Some(Span { start, len: 9 }), "{fit:?}");
        }
    }

    #[test]
    #[should_panic(expected = "free in part")]
    fn a_reservation_is_released_once() {
        let mut range = Contiguous::new(100, Fit::First);
        let (a, _b) = (range.reserve(10).unwrap(), range.reserve(10).unwrap());
        range.release(a);
        range.release(a);
    }

    #[test]
    fn the_widest_range_has_no_overflow() {
        let mut range = Contiguous::new(u32::MAX, Fit::Best);
        let all = range.reserve(u32::MAX).unwrap();
        assert_eq!((range.free(), range.reserve(1)), (0, None));
        range.release(all);
        assert_eq!((range.free(), range.free_in_holes_below(u32::MAX)), (u32::MAX, 0));
    }
}
