//! Which leaf goes next? A heap in which every leaf knows its place, so that a rank can change at any time.

use super::policy::Rank;

const NOWHERE: u32 = u32::MAX;

/// The leaves that may be evicted, lowest rank first. No two have the same rank.
#[derive(Clone, Debug, Default)]
pub(super) struct Leaves {
    heap: Vec<(Rank, u32)>,
    /// Where in the heap each node is.
    places: Vec<u32>,
}

impl Leaves {
    pub fn clear(&mut self) {
        self.heap.clear();
        self.places.fill(NOWHERE);
    }

    /// Returns the rank of a leaf that is in the heap.
    pub fn rank(&self, node: u32) -> Option<Rank> {
        self.place(node).map(|place| self.heap[place].0)
    }

    /// Puts a leaf in, or gives it another rank.
    pub fn set(&mut self, node: u32, rank: Rank) {
        if self.places.len() <= node as usize {
            self.places.resize(node as usize + 1, NOWHERE);
        }
        match self.place(node) {
            Some(place) => {
                let before = self.heap[place].0;
                self.heap[place].0 = rank;
                self.settle(place, rank < before);
            }
            None => {
                self.heap.push((rank, node));
                self.settle(self.heap.len() - 1, true);
            }
        }
    }

    /// Gives a leaf that is in the heap another rank.
    pub fn update(&mut self, node: u32, rank: impl FnOnce() -> Rank) {
        if self.place(node).is_some() {
            self.set(node, rank());
        }
    }

    /// Takes a leaf out, if it is in.
    pub fn remove(&mut self, node: u32) {
        let Some(place) = self.place(node) else { return };
        self.places[node as usize] = NOWHERE;
        let gone = self.heap.swap_remove(place);
        if let Some(moved) = self.heap.get(place) {
            let up = moved.0 < gone.0;
            self.settle(place, up);
        }
    }

    /// Takes the leaf of lowest rank out.
    pub fn pop(&mut self) -> Option<u32> {
        let node = self.heap.first()?.1;
        self.remove(node);
        Some(node)
    }

    fn place(&self, node: u32) -> Option<usize> {
        self.places.get(node as usize).filter(|place| **place != NOWHERE).map(|place| *place as usize)
    }

    /// Moves an entry to where it belongs.
    fn settle(&mut self, mut place: usize, up: bool) {
        let entry = self.heap[place];
        if up {
            while place > 0 && entry.0 < self.heap[(place - 1) / 2].0 {
                self.put(place, self.heap[(place - 1) / 2]);
                place = (place - 1) / 2;
            }
        } else {
            loop {
                let mut child = 2 * place + 1;
                if child + 1 < self.heap.len() && self.heap[child + 1].0 < self.heap[child].0 {
                    child += 1;
                }
                if child >= self.heap.len() || entry.0 <= self.heap[child].0 {
                    break;
                }
                self.put(place, self.heap[child]);
                place = child;
            }
        }
        self.put(place, entry);
    }

    fn put(&mut self, place: usize, entry: (Rank, u32)) {
        self.heap[place] = entry;
        self.places[entry.1 as usize] = place as u32;
    }

    /// Checks the order, and that there are so many.
    pub fn verify(&self, leaves: usize) {
        assert_eq!(self.heap.len(), leaves, "every leaf that may be evicted is in the heap");
        for (place, &(rank, node)) in self.heap.iter().enumerate() {
            assert_eq!(self.place(node), Some(place), "a leaf knows its place");
            assert!(place == 0 || self.heap[(place - 1) / 2].0 < rank, "the heap is in order");
        }
    }
}
