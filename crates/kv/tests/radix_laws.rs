//! Which laws does the radix tree keep? Random operations, against a plain set of beginnings and against itself.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use plimsoll_kv::Content;
use plimsoll_kv::radix::{Eviction, Held, Insertion, NodeId, RadixCache, Settings, SplitAge};
use proptest::prelude::*;

#[derive(Clone, Debug)]
enum Op {
    Match { prompt: Vec<(u64, u32)>, lock: bool },
    Insert { prompt: Vec<(u64, u32)>, priority: i64, inserted: u32 },
    Evict { tokens: u64 },
    Unlock { which: usize },
}

fn prompts() -> impl Strategy<Value = Vec<(u64, u32)>> {
    prop::collection::vec((0..5u64, prop_oneof![1..6u32, 1..40u32]), 0..5)
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let op = prop_oneof![
        3 => (prompts(), any::<bool>()).prop_map(|(prompt, lock)| Op::Match { prompt, lock }),
        4 => (prompts(), -2..3i64, 0..20u32)
            .prop_map(|(prompt, priority, inserted)| Op::Insert { prompt, priority, inserted }),
        1 => (0..60u64).prop_map(|tokens| Op::Evict { tokens }),
        2 => (0..8usize).prop_map(|which| Op::Unlock { which }),
    ];
    prop::collection::vec(op, 0..80)
}

fn policies() -> impl Strategy<Value = Eviction> {
    prop_oneof![
        Just(Eviction::Lru),
        Just(Eviction::Lfu),
        Just(Eviction::Fifo),
        Just(Eviction::Mru),
        Just(Eviction::Filo),
        Just(Eviction::Slru { protected_hits: 2 }),
        Just(Eviction::Priority),
        (0..40u32, 0..10u32).prop_map(|(threshold, next_prompt)| Eviction::Tlru { threshold, next_prompt }),
    ]
}

fn content(prompt: &[(u64, u32)]) -> Content {
    let mut content = Content::new();
    for &(stream, len) in prompt {
        content.push(stream, 0, len);
    }
    content
}

/// Token by token.
fn tokens(content: &Content) -> Vec<(u64, u32)> {
    content.runs().iter().flat_map(|run| (run.from..run.from + run.len).map(|at| (run.stream, at))).collect()
}

/// What a node holds, token by token.
#[derive(Clone, Debug, Default, PartialEq)]
struct Text {
    page: usize,
    tokens: Vec<(u64, u32)>,
}

impl Held for Text {
    fn split_off(&mut self, pages: u32) -> Self {
        let at = (pages as usize * self.page).min(self.tokens.len());
        Text { page: self.page, tokens: self.tokens.split_off(at) }
    }
}

/// Which beginnings of whole pages are cached: nothing else, and no structure.
#[derive(Default)]
struct Naive {
    page: usize,
    cached: BTreeSet<Vec<(u64, u32)>>,
}

impl Naive {
    fn longest(&self, tokens: &[(u64, u32)]) -> usize {
        let lengths = (1..=tokens.len() / self.page).map(|pages| pages * self.page);
        lengths.take_while(|&len| self.cached.contains(&tokens[..len])).last().unwrap_or(0)
    }

    fn insert(&mut self, tokens: &[(u64, u32)]) {
        for pages in 1..=tokens.len() / self.page {
            self.cached.insert(tokens[..pages * self.page].to_vec());
        }
    }

    /// Every beginning that is cached and no longer in the tree goes.
    fn remove(&mut self, path: &[(u64, u32)], leaf: usize) {
        for pages in 0..leaf / self.page {
            let gone = self.cached.remove(&path[..path.len() - pages * self.page]);
            assert!(gone, "what is evicted was cached");
        }
        assert!(!self.cached.iter().any(|other| other.len() > path.len() && other.starts_with(path)), "leaves only");
    }
}

fn above(cache: &RadixCache<Text>, node: NodeId) -> Vec<(u64, u32)> {
    let mut parts: Vec<Vec<(u64, u32)>> = Vec::new();
    cache.each_above(node, |held| parts.push(held.tokens.clone()));
    parts.reverse();
    parts.concat()
}

/// Does random operations on a tree and on a plain set.
fn check(page: u32, eviction: Eviction, split_age: SplitAge, ops: &[Op]) {
    let page_tokens = NonZeroU32::new(page).unwrap();
    let mut cache = RadixCache::<Text>::new(Settings { page_tokens, eviction, split_age });
    let mut naive = Naive { page: page as usize, ..Naive::default() };
    let mut locks: Vec<(NodeId, Vec<(u64, u32)>)> = Vec::new();
    for op in ops {
        match op {
            Op::Match { prompt, lock } => {
                let content = content(prompt);
                let text = tokens(&content);
                let before = cache.peek(&content, content.len());
                let found = cache.match_prefix(&content, content.len());
                assert_eq!(found.tokens as usize, naive.longest(&text));
                assert_eq!((before, cache.tokens(found.node)), (found.tokens, found.tokens));
                assert_eq!(above(&cache, found.node), text[..found.tokens as usize], "a match is a beginning");
                if *lock {
                    cache.lock(found.node);
                    locks.push((found.node, text[..found.tokens as usize].to_vec()));
                }
            }
            Op::Insert { prompt, priority, inserted } => {
                let content = content(prompt);
                let text = Text { page: page as usize, tokens: tokens(&content) };
                let whole = text.tokens.len() / page as usize * page as usize;
                let expected = naive.longest(&text.tokens);
                let insertion = Insertion { priority: *priority, inserted: *inserted };
                let value = Text { tokens: text.tokens[..whole].to_vec(), ..text.clone() };
                let done = cache.insert(&content, content.len(), insertion, value);
                assert_eq!(done.cached as usize, expected);
                assert_eq!(above(&cache, done.node), text.tokens[..whole]);
                naive.insert(&text.tokens);
            }
            Op::Evict { tokens } => {
                let (evictable, mut gone, mut sum) = (cache.evictable(), Vec::new(), 0);
                let evicted = cache.evict_with(*tokens, |held| gone.push(held));
                for held in &gone {
                    // The last node evicted from a path is found by its own tokens and those above, which are still cached.
                    sum += held.tokens.len();
                }
                assert_eq!(evicted, sum as u64);
                assert!(evicted >= (*tokens).min(evictable) && evicted <= evictable);
                let lost: Vec<_> = naive.cached.iter().filter(|text| !is_cached(&cache, text)).cloned().collect();
                assert_eq!(lost.len() * page as usize, sum);
                for text in lost.iter().rev() {
                    naive.remove(text, page as usize);
                }
            }
            Op::Unlock { which } if !locks.is_empty() => {
                let (node, text) = locks.swap_remove(which % locks.len());
                assert_eq!(above(&cache, node), text, "what is locked stays");
                cache.unlock(node);
            }
            Op::Unlock { .. } => {}
        }
        cache.verify();
        assert_eq!(cache.evictable() + cache.protected(), (naive.cached.len() * page as usize) as u64);
    }
    for (node, _) in locks {
        cache.unlock(node);
    }
    assert_eq!(cache.protected(), 0);
    assert_eq!(cache.evict(u64::MAX), (naive.cached.len() * page as usize) as u64);
    assert_eq!((cache.nodes(), cache.evictable()), (0, 0));
    cache.verify();
}

fn is_cached(cache: &RadixCache<Text>, text: &[(u64, u32)]) -> bool {
    let mut content = Content::new();
    for &(stream, at) in text {
        content.push(stream, at, 1);
    }
    cache.peek(&content, content.len()) == content.len()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn a_tree_is_a_set_of_beginnings(
        page in prop_oneof![Just(1u32), Just(2), Just(3), Just(8), Just(16)],
        eviction in policies(),
        inherited in any::<bool>(),
        ops in ops(),
    ) {
        check(page, eviction, if inherited { SplitAge::Inherited } else { SplitAge::Fresh }, &ops);
    }
}

#[test]
fn a_cleared_tree_begins_anew() {
    let mut cache = RadixCache::<()>::new(Settings::new(NonZeroU32::new(4).unwrap(), Eviction::Lru));
    let content = content(&[(1, 30), (2, 30)]);
    for _ in 0..3 {
        assert_eq!(cache.insert(&content, 60, Insertion::default(), ()).cached, 0);
        let found = cache.match_prefix(&content, 41);
        assert_eq!(found.tokens, 40);
        cache.lock(found.node);
        assert_eq!((cache.evictable(), cache.protected(), cache.nodes()), (20, 40, 2));
        cache.clear();
        cache.verify();
        assert_eq!((cache.evictable(), cache.protected(), cache.nodes()), (0, 0, 0));
    }
}
