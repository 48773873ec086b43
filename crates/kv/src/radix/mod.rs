//! Which beginnings of sequences are cached? A radix tree over runs of tokens, whole pages at a time, with locks along
//! paths and eviction from the leaves: what SGLang calls its radix cache.
//!
//! Every answer is the engine's own, operation by operation (SGLang 0.5.23, `srt/mem_cache/radix_cache.py` and
//! `evict_policy.py`; the tree that its scheduler uses by default, `unified_cache/unified_tree_core.py`, differs in one
//! rule, [`SplitAge`]). The cost is another: matching is linear in the runs of the sequence and not in its tokens, eviction
//! takes the next leaf from a heap that is kept instead of being built at each call, and nothing is allocated once the
//! arena has grown to the tree's size.
//!
//! ```
//! use plimsoll_kv::radix::{Eviction, Insertion, RadixCache, Settings};
//! use plimsoll_kv::Content;
//!
//! let page = std::num::NonZeroU32::new(16).unwrap();
//! let mut cache = RadixCache::<()>::new(Settings::new(page, Eviction::Lru));
//! let (mut first, mut second) = (Content::new(), Content::new());
//! for (content, question) in [(&mut first, 100), (&mut second, 101)] {
//!     content.push(7, 0, 40); // the system prompt
//!     content.push(question, 0, 30);
//! }
//! // 70 tokens are four whole pages and six tokens, which are not kept.
//! assert_eq!(cache.insert(&first, 70, Insertion::default(), ()).cached, 0);
//! assert_eq!(cache.evictable(), 64);
//!
//! // The second sequence shares the first 40 tokens: two whole pages.
//! let hit = cache.match_prefix(&second, 69);
//! assert_eq!(hit.tokens, 32);
//!
//! // While a request uses them they stay.
//! cache.lock(hit.node);
//! assert_eq!((cache.evict(1000), cache.protected()), (32, 32));
//! cache.unlock(hit.node);
//! assert_eq!(cache.evict(1), 32, "a node goes as a whole");
//! ```
//!
//! A tree can also carry the pages themselves, as whatever splits where a node is split ([`Held`]):
//!
//! ```
//! use plimsoll_kv::radix::{Eviction, Insertion, RadixCache, Settings};
//! use plimsoll_kv::Content;
//!
//! let page = std::num::NonZeroU32::new(16).unwrap();
//! let mut cache = RadixCache::<Vec<u32>>::new(Settings::new(page, Eviction::Lru));
//! let mut content = Content::new();
//! content.push(1, 0, 64);
//! cache.insert(&content, 64, Insertion::default(), vec![8, 9, 3, 4]);
//! content.truncate(40);
//! content.push(2, 0, 24);
//! // Pages 5 and 6 were computed in vain: the tree keeps 8 and 9 for those tokens.
//! let kept = cache.insert(&content, 64, Insertion::default(), vec![5, 6, 7, 2]);
//! assert_eq!(kept.cached, 32);
//! let mut pages: Vec<u32> = Vec::new();
//! cache.each_above(kept.node, |held| pages.splice(0..0, held.iter().copied()).for_each(drop));
//! assert_eq!(pages, [8, 9, 7, 2]);
//! let mut freed = Vec::new();
//! cache.evict_with(32, |mut held| freed.append(&mut held));
//! assert_eq!(freed, [3, 4], "least recently used first");
//! ```

mod children;
mod leaves;
mod policy;
mod runs;

use std::num::NonZeroU32;

use crate::Content;
use children::Children;
use leaves::Leaves;
pub use policy::{Eviction, SplitAge};
use policy::{Facts, Rank};
use runs::Cursor;

/// A node of a tree. Valid as long as the node is there: a node that somebody locked stays until it is unlocked, any
/// other may go with the next eviction, and its name is then used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(u32);

impl NodeId {
    /// The node above all, which holds no token.
    pub const ROOT: NodeId = NodeId(0);

    const fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a tree keeps for the tokens of a node. It is cut where the node is split.
pub trait Held: Default {
    /// Keeps what belongs to the first `pages` pages and returns the rest.
    #[must_use]
    fn split_off(&mut self, pages: u32) -> Self;
}

/// Tokens are counted only.
impl Held for () {
    fn split_off(&mut self, _pages: u32) {}
}

/// The pages by number, in the order of their tokens.
impl Held for Vec<u32> {
    fn split_off(&mut self, pages: u32) -> Self {
        Vec::split_off(self, (pages as usize).min(self.len()))
    }
}

/// How a tree works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Tokens of a page; sequences are cached in whole pages.
    pub page_tokens: NonZeroU32,
    /// Who goes first.
    pub eviction: Eviction,
    /// How old the upper part of a split node is.
    pub split_age: SplitAge,
}

impl Settings {
    /// Returns the settings of SGLang's `RadixCache` class.
    pub const fn new(page_tokens: NonZeroU32, eviction: Eviction) -> Self {
        Settings { page_tokens, eviction, split_age: SplitAge::Fresh }
    }
}

/// What was found of a sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// Tokens from the beginning that are cached: whole pages.
    pub tokens: u32,
    /// The node that ends with the last of them.
    pub node: NodeId,
}

/// What goes with a sequence that is inserted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Insertion {
    /// The request's priority; a path has the highest of those that went through it.
    pub priority: i64,
    /// Tokens that the same request inserted earlier: nodes that end within them are not counted as hit again.
    pub inserted: u32,
}

/// What became of a sequence that was inserted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Inserted {
    /// Tokens that were cached already; the pages that came for them were not needed.
    pub cached: u32,
    /// The node that ends with the last whole page of the sequence.
    pub node: NodeId,
}

#[derive(Clone, Debug)]
struct Node<V> {
    runs: Vec<runs::Run>,
    tokens: u32,
    /// Tokens above it.
    above: u32,
    parent: NodeId,
    children: u32,
    locks: u32,
    /// Its place among the children of the one above.
    sibling: u64,
    facts: Facts,
    value: V,
}

/// A radix tree over sequences of tokens.
#[derive(Clone, Debug)]
pub struct RadixCache<V = ()> {
    settings: Settings,
    nodes: Vec<Node<V>>,
    free: Vec<NodeId>,
    children: Children,
    leaves: Leaves,
    clock: i64,
    evictable: u64,
    protected: u64,
}

impl<V: Held> RadixCache<V> {
    /// Starts an empty tree.
    pub fn new(settings: Settings) -> Self {
        let mut cache = RadixCache {
            settings,
            nodes: Vec::new(),
            free: Vec::new(),
            children: Children::default(),
            leaves: Leaves::default(),
            clock: 0,
            evictable: 0,
            protected: 0,
        };
        let root = cache.create(NodeId::ROOT, i64::MIN);
        debug_assert_eq!(root, NodeId::ROOT);
        cache.nodes[0].locks = 1;
        cache
    }

    /// Forgets everything, locks too, keeping the memory.
    pub fn clear(&mut self) {
        self.children.clear();
        self.leaves.clear();
        self.free.clear();
        (self.evictable, self.protected) = (0, 0);
        for (index, node) in self.nodes.iter_mut().enumerate().skip(1).rev() {
            node.value = V::default();
            node.tokens = 0;
            self.free.push(NodeId(index as u32));
        }
        let created = self.now();
        self.nodes[0].facts = Facts::new(created, i64::MIN);
        self.nodes[0].children = 0;
    }

    /// Finds the longest cached beginning of the first `tokens` tokens of a sequence, whole pages only. Everything on
    /// the path counts as used now. Where the beginning ends inside a node, the node is split there.
    pub fn match_prefix(&mut self, content: &Content, tokens: u32) -> Match {
        let mut cursor = self.cursor(content, tokens);
        let mut found = Match { tokens: 0, node: NodeId::ROOT };
        if cursor.left() == 0 {
            return found;
        }
        let now = self.now();
        self.touch(NodeId::ROOT, now);
        while let Some((child, common)) = self.child(found.node, cursor) {
            self.touch(child, now);
            found.tokens += common;
            if common < self.node(child).tokens {
                found.node = self.split(child, common);
                break;
            }
            found.node = child;
            cursor.skip(common);
        }
        found
    }

    /// Returns how many of the first `tokens` tokens of a sequence [`RadixCache::match_prefix`] would find, changing
    /// nothing.
    pub fn peek(&self, content: &Content, tokens: u32) -> u32 {
        let mut cursor = self.cursor(content, tokens);
        let (mut found, mut node) = (0, NodeId::ROOT);
        while let Some((child, common)) = self.child(node, cursor) {
            found += common;
            if common < self.node(child).tokens {
                break;
            }
            node = child;
            cursor.skip(common);
        }
        found
    }

    /// Caches the first `tokens` tokens of a sequence, cut to whole pages. `value` belongs to all those pages; the tree
    /// keeps the part for the pages that it did not have.
    pub fn insert(&mut self, content: &Content, tokens: u32, insertion: Insertion, mut value: V) -> Inserted {
        let mut cursor = self.cursor(content, tokens);
        let now = self.now();
        self.touch(NodeId::ROOT, now);
        self.raise(NodeId::ROOT, insertion.priority);
        let mut done = Inserted { cached: 0, node: NodeId::ROOT };
        while let Some((child, common)) = self.child(done.node, cursor) {
            self.touch(child, now);
            done.cached += common;
            done.node = if common < self.node(child).tokens { self.split(child, common) } else { child };
            self.raise(done.node, insertion.priority);
            if done.cached > insertion.inserted {
                self.hit(done.node);
            }
            cursor.skip(common);
        }
        if cursor.left() > 0 {
            let value = value.split_off(done.cached / self.settings.page_tokens);
            done.node = self.append(done, cursor, insertion, value);
        }
        done
    }

    /// Keeps a node and all above it from being evicted, once more.
    pub fn lock(&mut self, node: NodeId) {
        let mut at = node;
        while at != NodeId::ROOT {
            let node = &mut self.nodes[at.index()];
            if node.locks == 0 {
                self.evictable -= u64::from(node.tokens);
                self.protected += u64::from(node.tokens);
                self.leaves.remove(at.0);
            }
            node.locks += 1;
            at = node.parent;
        }
    }

    /// Takes one lock back from a node and all above it.
    ///
    /// # Panics
    /// When one of them is not locked.
    pub fn unlock(&mut self, node: NodeId) {
        let mut at = node;
        while at != NodeId::ROOT {
            let node = &mut self.nodes[at.index()];
            assert!(node.locks > 0, "a node is unlocked as often as it was locked");
            node.locks -= 1;
            let parent = node.parent;
            if node.locks == 0 {
                self.evictable += u64::from(node.tokens);
                self.protected -= u64::from(node.tokens);
                if node.children == 0 {
                    self.leaves.set(at.0, self.settings.eviction.rank(&self.nodes[at.index()].facts));
                }
            }
            at = parent;
        }
    }

    /// Evicts unlocked leaves, whole ones, until `tokens` tokens are free or none is left. Returns the tokens evicted.
    pub fn evict(&mut self, tokens: u64) -> u64 {
        self.evict_with(tokens, drop)
    }

    /// As [`RadixCache::evict`], handing over what was kept for each leaf, in order.
    pub fn evict_with(&mut self, tokens: u64, mut freed: impl FnMut(V)) -> u64 {
        let mut evicted = 0;
        while evicted < tokens {
            let Some(leaf) = self.leaves.pop() else { break };
            let leaf = NodeId(leaf);
            let node = &mut self.nodes[leaf.index()];
            evicted += u64::from(node.tokens);
            let parent = node.parent;
            freed(std::mem::take(&mut node.value));
            node.tokens = 0;
            self.children.remove(leaf.0);
            self.free.push(leaf);
            let above = &mut self.nodes[parent.index()];
            above.children -= 1;
            if above.children == 0 && above.locks == 0 {
                self.leaves.set(parent.0, self.settings.eviction.rank(&above.facts));
            }
        }
        self.evictable -= evicted;
        evicted
    }

    /// Returns the tokens in nodes that nobody locked.
    pub const fn evictable(&self) -> u64 {
        self.evictable
    }

    /// Returns the tokens in locked nodes.
    pub const fn protected(&self) -> u64 {
        self.protected
    }

    /// Returns the settings.
    pub const fn settings(&self) -> Settings {
        self.settings
    }

    /// Returns the nodes of the tree, the root not counted.
    pub fn nodes(&self) -> usize {
        self.nodes.len() - 1 - self.free.len()
    }

    /// Returns the tokens from the beginning to a node's last one.
    pub fn tokens(&self, node: NodeId) -> u32 {
        self.node(node).above + self.node(node).tokens
    }

    /// Returns the node above; the root is above itself.
    pub fn parent(&self, node: NodeId) -> NodeId {
        self.node(node).parent
    }

    /// Returns a number by which the children of a node stand in the order in which they came.
    pub fn sibling(&self, node: NodeId) -> u64 {
        self.node(node).sibling
    }

    /// Returns the tokens of a node and those above it that one lock alone keeps: a node below which nobody else locked.
    pub fn locked_alone(&self, node: NodeId) -> u64 {
        let (mut at, mut tokens) = (node, 0);
        while at != NodeId::ROOT && self.node(at).locks == 1 {
            tokens += u64::from(self.node(at).tokens);
            at = self.node(at).parent;
        }
        tokens
    }

    /// Shows what is kept for a node and for each above it, upwards.
    pub fn each_above(&self, node: NodeId, mut show: impl FnMut(&V)) {
        let mut at = node;
        while at != NodeId::ROOT {
            show(&self.node(at).value);
            at = self.node(at).parent;
        }
    }

    fn cursor<'a>(&self, content: &'a Content, tokens: u32) -> Cursor<'a> {
        let page = self.settings.page_tokens.get();
        Cursor::new(content.runs(), tokens.min(content.len()) / page * page)
    }

    fn node(&self, node: NodeId) -> &Node<V> {
        &self.nodes[node.index()]
    }

    /// Returns the child with which a sequence goes on, and how many whole pages' tokens of it.
    fn child(&self, parent: NodeId, cursor: Cursor<'_>) -> Option<(NodeId, u32)> {
        let page = self.settings.page_tokens.get();
        if cursor.left() == 0 {
            return None;
        }
        let hash = cursor.page_hash(parent.0, page);
        self.children.alike(hash).find_map(|child| {
            let child = NodeId(child);
            let node = self.node(child);
            let common = cursor.common(&node.runs) / page * page;
            (node.parent == parent && common > 0).then_some((child, common))
        })
    }

    /// Puts the rest of a sequence below the node that was reached.
    fn append(&mut self, reached: Inserted, cursor: Cursor<'_>, insertion: Insertion, value: V) -> NodeId {
        let parent = reached.node;
        let leaf = self.create(parent, insertion.priority);
        let node = &mut self.nodes[leaf.index()];
        cursor.copy(&mut node.runs);
        node.tokens = cursor.left();
        node.above = reached.cached;
        node.value = value;
        let end = reached.cached + node.tokens;
        node.facts.hits = u64::from(end > insertion.inserted);
        node.facts.above = reached.cached;
        node.facts.reach = end;
        self.evictable += u64::from(node.tokens);
        self.children.insert(leaf.0, cursor.page_hash(parent.0, self.settings.page_tokens.get()));
        self.leaves.remove(parent.0);
        self.nodes[parent.index()].children += 1;
        self.leaves.set(leaf.0, self.rank(leaf));
        if self.settings.eviction.asks_for_reach() {
            self.reach(parent, end);
        }
        leaf
    }

    /// Notes along a path how long a sequence once was below.
    fn reach(&mut self, node: NodeId, end: u32) {
        let mut at = node;
        while at != NodeId::ROOT && self.node(at).facts.reach < end {
            let node = &mut self.nodes[at.index()];
            node.facts.reach = end;
            at = node.parent;
        }
    }

    /// Splits a node after its first `tokens` tokens and returns the new upper part. The lower part keeps its name.
    fn split(&mut self, lower: NodeId, tokens: u32) -> NodeId {
        let page = self.settings.page_tokens;
        let parent = self.node(lower).parent;
        let upper = self.create(parent, self.node(lower).facts.priority);
        let mut runs = std::mem::take(&mut self.nodes[upper.index()].runs);
        let node = &mut self.nodes[lower.index()];
        runs::split(&mut node.runs, tokens, &mut runs);
        let rest = node.value.split_off(tokens / page);
        let value = std::mem::replace(&mut node.value, rest);
        let (above, locks, sibling, facts) = (node.above, node.locks, node.sibling, node.facts);
        node.tokens -= tokens;
        node.above += tokens;
        node.facts.above += tokens;
        node.parent = upper;
        let hash = Cursor::new(&node.runs, node.tokens).page_hash(upper.0, page.get());
        let node = &mut self.nodes[upper.index()];
        node.runs = runs;
        (node.tokens, node.above, node.value) = (tokens, above, value);
        (node.children, node.locks, node.sibling) = (1, locks, sibling);
        node.facts.inherit(&facts, self.settings.split_age);
        self.children.replace(lower.0, upper.0);
        self.children.insert(lower.0, hash);
        // It begins deeper now, which a policy may look at.
        self.refresh(lower);
        upper
    }

    /// Makes a node without tokens.
    fn create(&mut self, parent: NodeId, priority: i64) -> NodeId {
        let accessed = self.now();
        let mut facts = Facts::new(accessed, priority);
        facts.created = self.now();
        if let Some(id) = self.free.pop() {
            let node = &mut self.nodes[id.index()];
            node.runs.clear();
            (node.parent, node.children, node.locks, node.facts) = (parent, 0, 0, facts);
            node.sibling = accessed as u64;
            return id;
        }
        let id = NodeId(u32::try_from(self.nodes.len()).expect("fewer than 2^32 nodes"));
        let (runs, value) = (Vec::new(), V::default());
        let sibling = accessed as u64;
        self.nodes.push(Node { runs, tokens: 0, above: 0, parent, children: 0, locks: 0, sibling, facts, value });
        id
    }

    /// Returns a time after every earlier one.
    fn now(&mut self) -> i64 {
        self.clock += 1;
        self.clock
    }

    fn rank(&self, node: NodeId) -> Rank {
        self.settings.eviction.rank(&self.node(node).facts)
    }

    fn touch(&mut self, node: NodeId, now: i64) {
        self.nodes[node.index()].facts.accessed = now;
        self.refresh(node);
    }

    fn raise(&mut self, node: NodeId, priority: i64) {
        let facts = &mut self.nodes[node.index()].facts;
        if facts.priority < priority {
            facts.priority = priority;
            self.refresh(node);
        }
    }

    fn hit(&mut self, node: NodeId) {
        self.nodes[node.index()].facts.hits += 1;
        self.refresh(node);
    }

    /// Gives a leaf its place by what it is now.
    fn refresh(&mut self, node: NodeId) {
        self.leaves.update(node.0, || self.settings.eviction.rank(&self.nodes[node.index()].facts));
    }
}

impl<V: Held> RadixCache<V> {
    /// Checks every law of the tree, at any cost; for tests.
    ///
    /// # Panics
    /// When one does not hold.
    pub fn verify(&self) {
        let page = self.settings.page_tokens.get();
        let mut gone = vec![false; self.nodes.len()];
        for free in &self.free {
            assert!(!std::mem::replace(&mut gone[free.index()], true), "a node is free once");
        }
        let (mut evictable, mut protected) = (0, 0);
        let mut children = vec![0; self.nodes.len()];
        let mut leaves = 0;
        for (index, node) in self.nodes.iter().enumerate().skip(1).filter(|(index, _)| !gone[*index]) {
            let id = NodeId(index as u32);
            let tokens: u32 = node.runs.iter().map(|run| run.len).sum();
            assert_eq!(node.tokens, tokens, "a node's runs are its tokens");
            assert!(tokens > 0 && tokens.is_multiple_of(page), "a node holds whole pages");
            let parent = self.node(node.parent);
            assert!(!gone[node.parent.index()], "a node hangs on the tree");
            assert_eq!(node.above, parent.above + parent.tokens, "a node begins where the one above ends");
            assert!(parent.locks >= node.locks || node.parent == NodeId::ROOT, "locks hold a whole path");
            let whole = Cursor::new(&node.runs, node.tokens);
            let found = self.child(node.parent, whole);
            assert_eq!(found, Some((id, node.tokens)), "a node is found from above");
            *(if node.locks > 0 { &mut protected } else { &mut evictable }) += u64::from(tokens);
            children[node.parent.index()] += 1;
            let leaf = node.children == 0 && node.locks == 0;
            assert_eq!(self.leaves.rank(id.0), leaf.then(|| self.rank(id)), "unlocked leaves may be evicted");
            leaves += usize::from(leaf);
        }
        assert_eq!((self.evictable, self.protected), (evictable, protected), "tokens are evictable or protected");
        for (index, node) in self.nodes.iter().enumerate().filter(|(index, _)| !gone[*index]) {
            assert_eq!(node.children, children[index], "children are counted");
        }
        self.leaves.verify(leaves);
        assert_eq!(self.children.len(), self.nodes(), "each node is in the table once");
    }
}
