//! What is free, what is cached, and what does each request hold? SGLang's token pool under its prefix cache.

use plimsoll_kv::radix::{Insertion, NodeId, RadixCache, Settings};

use super::Config;
use crate::Request;

/// The tokens of the pool, in whole pages, and the tree over those that are remembered.
#[derive(Debug)]
pub(super) struct Pool {
    page: u32,
    pub capacity: u64,
    pub free: u64,
    /// Absent where nothing is remembered.
    pub tree: Option<RadixCache>,
}

/// What a request holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Held {
    /// Tokens from its beginning that are the tree's; the pages behind are its own.
    pub protected: u32,
    /// Tokens that it put into the tree.
    pub inserted: u32,
    /// Where the tokens that it was found to share end.
    pub node: NodeId,
    /// The node that it keeps from being evicted.
    pub lock: Option<NodeId>,
}

impl Held {
    pub const NOTHING: Held = Held { protected: 0, inserted: 0, node: NodeId::ROOT, lock: None };
}

impl Pool {
    pub fn new(config: &Config) -> Self {
        let page = config.page_size.get();
        let capacity = config.max_total_tokens / u64::from(page) * u64::from(page);
        let settings =
            Settings { split_age: config.split_age, ..Settings::new(config.page_size, config.radix_eviction_policy) };
        Pool { page, capacity, free: capacity, tree: (!config.disable_radix_cache).then(|| RadixCache::new(settings)) }
    }

    pub const fn page(&self) -> u32 {
        self.page
    }

    /// Returns the tokens' pages in tokens.
    pub fn ceil(&self, tokens: u32) -> u64 {
        u64::from(tokens).next_multiple_of(u64::from(self.page))
    }

    const fn floor(&self, tokens: u32) -> u32 {
        tokens / self.page * self.page
    }

    /// Returns the tokens that a request with `tokens` tokens in the pool holds alone: its own pages, and what of the tree
    /// nobody else keeps.
    pub fn alone(&self, held: &Held, tokens: u32) -> u64 {
        let own = self.ceil(tokens).saturating_sub(u64::from(held.protected));
        let kept = self.tree.as_ref().zip(held.lock).map_or(0, |(tree, node)| tree.locked_alone(node));
        own + kept
    }

    /// Returns the tokens that are cached and that nobody holds.
    pub fn evictable(&self) -> u64 {
        self.tree.as_ref().map_or(0, RadixCache::evictable)
    }

    /// Evicts until so many tokens are free, or nothing is left to evict (`evict_to_free_tokens`).
    pub fn evict_to(&mut self, tokens: u64) {
        if self.free < tokens
            && let Some(tree) = &mut self.tree
        {
            self.free += tree.evict(tokens - self.free);
        }
    }

    /// Finds what is cached of a request's first `tokens` tokens.
    pub fn find(&mut self, held: &mut Held, request: &Request, tokens: u32) -> u32 {
        let Some(tree) = &mut self.tree else { return 0 };
        let found = tree.match_prefix(&request.content, tokens);
        held.node = found.node;
        found.tokens
    }

    /// Keeps what a request was found to share.
    pub fn lock(&mut self, held: &mut Held) {
        if let Some(tree) = &mut self.tree {
            tree.lock(held.node);
            held.lock = Some(held.node);
        }
    }

    pub fn unlock(&mut self, held: &mut Held) {
        if let (Some(tree), Some(node)) = (&mut self.tree, held.lock.take()) {
            tree.unlock(node);
        }
    }

    /// Puts a request's first `tokens` tokens, which it computed, into the tree and keeps them there; frees those that
    /// others had put there before (`UnifiedRadixCache.checkpoint_into_tree`). The prompt ends at a node of its own, so
    /// that outputs can be evicted without it.
    pub fn checkpoint(&mut self, held: &mut Held, request: &Request, tokens: u32) {
        let (whole, prompt) = (self.floor(tokens), self.floor(request.prompt_tokens));
        let Some(tree) = &mut self.tree else { return };
        let priority = i64::from(request.priority);
        let done = tree.insert(&request.content, whole, Insertion { priority, inserted: held.inserted }, ());
        held.inserted = held.inserted.max(whole);
        if 0 < prompt && prompt < whole {
            let insertion = Insertion { priority: priority + 1, inserted: prompt };
            tree.insert(&request.content, prompt, insertion, ());
        }
        self.free += u64::from(done.cached.saturating_sub(held.protected));
        tree.lock(done.node);
        if let Some(node) = held.lock.replace(done.node) {
            tree.unlock(node);
        }
        held.protected = whole;
        held.node = done.node;
    }

    /// Takes back all that a request with `tokens` tokens in the pool holds.
    pub fn release(&mut self, held: &mut Held, tokens: u32) {
        self.free += self.ceil(tokens) - u64::from(held.protected);
        self.unlock(held);
        *held = Held::NOTHING;
    }
}
