//! Who is tried first? The orders of the waiting queue (SGLang 0.5.23, `managers/schedule_policy.py`).

use std::collections::VecDeque;
use std::num::NonZeroU32;

use plimsoll_kv::radix::{Eviction, Insertion, NodeId, RadixCache, Settings};

use super::{Config, Policy, Pool, Seat};
use crate::{Requests, Slot};

/// Waiting requests beyond which nothing is matched any more (`WAITING_QUEUE_PREFIX_MATCH_MAX`).
const MATCHED: usize = 128;
/// Attempts between two refreshes of what waiting requests would find (`WAITING_PREFIX_REFRESH_INTERVAL`).
const REFRESH: u64 = 32;
/// Cached tokens up to which the queue itself is searched (`IN_BATCH_PREFIX_CACHING_CHECK_THRESHOLD`).
const CHECKED: u32 = 32;
/// Tokens shared with an earlier one from which on a request is put off (`…_DEPRIORITIZE_THRESHOLD`).
const PUT_OFF: u32 = 32;

/// Sorts the waiting queue.
#[derive(Debug)]
pub(super) struct Order {
    policy: Policy,
    /// 1 where lower is more important, −1 where higher is, `None` where priorities do not count.
    sign: Option<i64>,
    /// Whether waiting requests keep what they would find from being evicted first.
    refreshes: bool,
    attempts: u64,
    /// What requests earlier in the queue begin with.
    queue: RadixCache,
}

impl Order {
    pub fn new(config: &Config) -> Self {
        let sign = if config.schedule_low_priority_values_first { 1 } else { -1 };
        let aware = match config.schedule_policy {
            Policy::Lpm | Policy::DfsWeight => true,
            Policy::Fcfs | Policy::Lof => false,
        };
        Order {
            // Without a cache the orders that look at it are first come, first served.
            policy: if aware && config.disable_radix_cache { Policy::Fcfs } else { config.schedule_policy },
            sign: config.enable_priority_scheduling.then_some(sign),
            refreshes: !config.disable_radix_cache && config.radix_eviction_policy == Eviction::Lru,
            attempts: 0,
            queue: RadixCache::new(Settings::new(NonZeroU32::MIN, Eviction::Lru)),
        }
    }

    /// Puts the queue in order (`SchedulePolicy.calc_priority`).
    pub fn arrange(&mut self, waiting: &mut VecDeque<Slot>, seats: &mut [Seat], pool: &mut Pool, requests: &Requests) {
        match self.policy {
            Policy::Fcfs => {
                if let Some(sign) = self.sign {
                    sort(waiting, seats, |slot, seat| (sign * i64::from(requests[slot].priority), seat.entered as i64));
                }
            }
            Policy::Lof => {
                let sign = self.sign.unwrap_or(0);
                sort(waiting, seats, |slot, seat| {
                    (sign * i64::from(requests[slot].priority), -i64::from(seat.max_new))
                });
            }
            Policy::Lpm if waiting.len() > MATCHED => {}
            Policy::Lpm => {
                self.find(waiting, seats, pool, requests);
                sort(waiting, seats, |_, seat| {
                    let last = if seat.put_off { 1 } else { -i64::from(seat.matched) };
                    (last, 0)
                });
            }
            Policy::DfsWeight => {
                self.find(waiting, seats, pool, requests);
                if let Some(tree) = &pool.tree {
                    depth_first(waiting, seats, tree);
                }
            }
        }
        let found = match self.policy {
            Policy::DfsWeight => true,
            Policy::Lpm => waiting.len() <= MATCHED,
            Policy::Fcfs | Policy::Lof => false,
        };
        if self.refreshes && !found && !waiting.is_empty() {
            self.refresh(waiting, pool, requests);
        }
    }

    /// Counts what the first waiting requests would find as used, the first of them last (`_touch_waiting_prefixes`).
    fn refresh(&mut self, waiting: &VecDeque<Slot>, pool: &mut Pool, requests: &Requests) {
        self.attempts += 1;
        if !(self.attempts - 1).is_multiple_of(REFRESH) {
            return;
        }
        if let Some(tree) = &mut pool.tree {
            for &slot in waiting.range(..waiting.len().min(MATCHED)).rev() {
                let content = &requests[slot].content;
                tree.match_prefix(content, content.len());
            }
        }
    }

    /// Finds what is cached of every waiting request, and who shares a beginning with an earlier one that is not
    /// (`_compute_prefix_matches`).
    fn find(&mut self, waiting: &VecDeque<Slot>, seats: &mut [Seat], pool: &mut Pool, requests: &Requests) {
        self.queue.clear();
        for &slot in waiting {
            let (seat, request) = (&mut seats[slot.index()], &requests[slot]);
            let known = request.content.len();
            seat.context = pool.find(&mut seat.held, request, known);
            seat.matched = seat.context.min(known - 1);
            seat.put_off = false;
            if seat.context <= CHECKED {
                if self.queue.match_prefix(&request.content, known).tokens >= PUT_OFF {
                    seat.put_off = true;
                } else {
                    self.queue.insert(&request.content, known, Insertion::default(), ());
                }
            }
        }
    }
}

/// Sorts by a key, leaving equals in their order.
fn sort(waiting: &mut VecDeque<Slot>, seats: &mut [Seat], key: impl Fn(Slot, &Seat) -> (i64, i64)) {
    for (place, &slot) in waiting.iter().enumerate() {
        let seat = &mut seats[slot.index()];
        let (first, second) = key(slot, seat);
        seat.rank = (first, second, place);
    }
    waiting.make_contiguous().sort_unstable_by_key(|slot| seats[slot.index()].rank);
}

/// Sorts by a walk through the tree, children first, the branch with the most waiting requests before the others
/// (`_dfs_weight_order`). Only nodes above some waiting request are walked.
fn depth_first(waiting: &mut VecDeque<Slot>, seats: &[Seat], tree: &RadixCache) {
    let mut nodes: std::collections::BTreeMap<NodeId, Branch> = std::collections::BTreeMap::new();
    for (place, slot) in waiting.iter().enumerate() {
        let node = seats[slot.index()].held.node;
        nodes.entry(node).or_default().own.push(place);
        let mut at = node;
        loop {
            let branch = nodes.entry(at).or_default();
            branch.weight += 1;
            let new = branch.weight == 1;
            if at == NodeId::ROOT {
                break;
            }
            let parent = tree.parent(at);
            if new {
                nodes.entry(parent).or_default().children.push(at);
            }
            at = parent;
        }
    }
    let weights: Vec<(NodeId, usize)> = nodes.iter().map(|(node, branch)| (*node, branch.weight)).collect();
    let weight = |node: &NodeId| weights.binary_search_by_key(node, |(node, _)| *node).map_or(0, |at| weights[at].1);
    let mut order = Vec::with_capacity(waiting.len());
    let mut stack = vec![(NodeId::ROOT, false)];
    while let Some((node, seen)) = stack.pop() {
        let Some(branch) = nodes.get_mut(&node) else { continue };
        if seen {
            order.extend(branch.own.iter().map(|place| waiting[*place]));
            continue;
        }
        branch.children.sort_by_key(|child| (std::cmp::Reverse(weight(child)), tree.sibling(*child)));
        stack.push((node, true));
        stack.extend(branch.children.iter().rev().map(|child| (*child, false)));
    }
    waiting.clear();
    waiting.extend(order);
}

/// A node above some waiting request.
#[derive(Debug, Default)]
struct Branch {
    own: Vec<usize>,
    children: Vec<NodeId>,
    /// Waiting requests at it and below.
    weight: usize,
}
