//! Who is next? The waiting requests, by arrival or by priority.

use std::collections::{BTreeMap, VecDeque};

use super::Policy;
use crate::{Requests, Slot};

/// Waiting requests in the order of service.
#[derive(Clone, Debug)]
pub(super) enum Queue {
    /// First come, first served; preempted ones come first.
    Fcfs(VecDeque<Slot>),
    /// By priority, then by arrival.
    Priority(BTreeMap<(i32, u64), Slot>),
}

impl Queue {
    pub fn new(policy: Policy) -> Self {
        match policy {
            Policy::Fcfs => Queue::Fcfs(VecDeque::new()),
            Policy::Priority => Queue::Priority(BTreeMap::new()),
        }
    }

    pub fn len(&self) -> usize {
        match self {
            Queue::Fcfs(queue) => queue.len(),
            Queue::Priority(queue) => queue.len(),
        }
    }

    pub fn peek(&self) -> Option<Slot> {
        match self {
            Queue::Fcfs(queue) => queue.front().copied(),
            Queue::Priority(queue) => queue.first_key_value().map(|(_, &slot)| slot),
        }
    }

    pub fn pop(&mut self) -> Option<Slot> {
        match self {
            Queue::Fcfs(queue) => queue.pop_front(),
            Queue::Priority(queue) => queue.pop_first().map(|(_, slot)| slot),
        }
    }

    /// Adds a request that arrives.
    pub fn push(&mut self, slot: Slot, requests: &Requests) {
        match self {
            Queue::Fcfs(queue) => queue.push_back(slot),
            Queue::Priority(queue) => insert(queue, slot, requests),
        }
    }

    /// Puts a request before all others, as far as there is such a place.
    pub fn prepend(&mut self, slot: Slot, requests: &Requests) {
        match self {
            Queue::Fcfs(queue) => queue.push_front(slot),
            Queue::Priority(queue) => insert(queue, slot, requests),
        }
    }

    pub fn iter(&self) -> Box<dyn Iterator<Item = Slot> + '_> {
        match self {
            Queue::Fcfs(queue) => Box::new(queue.iter().copied()),
            Queue::Priority(queue) => Box::new(queue.values().copied()),
        }
    }
}

fn insert(queue: &mut BTreeMap<(i32, u64), Slot>, slot: Slot, requests: &Requests) {
    queue.insert((requests[slot].priority, requests[slot].number), slot);
}
