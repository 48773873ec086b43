//! What are a request's blocks called? The hashes of a sequence's beginnings, made as far as they are needed.

use plimsoll_kv::{BlockHash, Chain, Follow};

use crate::Request;

/// The hashes of one sequence. Used again for the next one, so that no memory is taken in steady state.
#[derive(Clone, Debug)]
pub(super) struct Trail {
    hashes: Vec<BlockHash>,
    /// Walks the prompt's full blocks.
    chain: Chain,
    /// Goes on behind them.
    follow: Option<Follow>,
}

impl Trail {
    pub fn new(block: u32) -> Self {
        Trail { hashes: Vec::new(), chain: Chain::new(block), follow: None }
    }

    pub fn clear(&mut self) {
        self.hashes.clear();
        self.chain.restart();
        self.follow = None;
    }

    /// Makes the hashes of the first so many blocks, which the request has.
    pub fn extend(&mut self, request: &Request, blocks: u32) -> &[BlockHash] {
        if self.follow.is_some() || blocks as usize <= self.hashes.len() {
            return self.go_on(blocks);
        }
        let full = request.prompt_tokens / self.chain.block_tokens();
        while self.chain.blocks() < blocks.min(full) {
            let Some(hash) = self.chain.next(&request.content) else { break };
            self.hashes.push(hash);
        }
        if blocks > full {
            self.prepare(request);
        }
        self.go_on(blocks)
    }

    /// Makes sure that hashes behind the prompt can be made without the request.
    pub fn prepare(&mut self, request: &Request) {
        if self.follow.is_some() {
            return;
        }
        self.extend(request, request.prompt_tokens / self.chain.block_tokens());
        self.follow = Some(self.chain.follow(&request.content, request.prompt_tokens, request.output_stream));
    }

    /// Makes the hashes of the first so many blocks without the request, which was prepared for.
    pub fn go_on(&mut self, blocks: u32) -> &[BlockHash] {
        if let Some(follow) = &mut self.follow {
            while (self.hashes.len() as u32) < blocks {
                self.hashes.push(follow.next());
            }
        }
        &self.hashes
    }

    /// Returns the hashes made so far.
    pub fn hashes(&self) -> &[BlockHash] {
        &self.hashes
    }
}
