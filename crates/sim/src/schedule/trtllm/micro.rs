//! Whose tokens fit? The second stage: generating requests count one token, prompts all of theirs or chunks.

use super::{Chunking, TrtLlm};
use crate::schedule::{Batch, Entry};
use crate::{Requests, Slot};

/// A prompt that may get on in this step.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    slot: Slot,
    /// Tokens of it that are left.
    remaining: u32,
    /// Tokens that it computes.
    chunk: u32,
}

impl TrtLlm {
    /// Forms the batch of what fits: prompts first, those that do not end with this step in front, then generating
    /// requests.
    pub(super) fn form(&mut self, requests: &mut Requests, batch: &mut Batch) {
        let (limit, chunking) = (u64::from(self.config.max_num_tokens), self.config.chunking);
        let mut contexts = std::mem::take(&mut self.contexts);
        contexts.clear();
        self.decoding.clear();
        let (mut tokens, mut prompts) = (0, 0);
        for (count, &slot) in self.fitting.iter().enumerate() {
            if count >= self.config.max_batch_size as usize {
                break;
            }
            if self.cache.is_generating(slot) {
                if tokens + 1 > limit {
                    break;
                }
                tokens += 1;
                self.decoding.push(slot);
                continue;
            }
            let remaining = requests[slot].content.len() - self.cache.computed(slot);
            if chunking.is_none() {
                if tokens + u64::from(remaining) > limit {
                    break;
                }
                tokens += u64::from(remaining);
            }
            prompts += u64::from(remaining);
            contexts.push(Context { slot, remaining, chunk: remaining });
        }
        if let Some(policy) = chunking {
            let capacity = limit - tokens;
            if prompts > capacity {
                match policy {
                    Chunking::FirstComeFirstServed => first_come(&mut contexts, capacity, self.config.tokens_per_block),
                    Chunking::EqualProgress => equal_progress(&mut contexts, capacity, self.config.tokens_per_block),
                }
                contexts.retain(|context| context.chunk > 0);
                contexts.sort_by_key(|context| context.chunk == context.remaining);
            }
        }
        for &context in &contexts {
            self.run_context(context, requests, batch);
        }
        self.contexts = contexts;
        for at in 0..self.decoding.len() {
            let slot = self.decoding[at];
            let context = self.cache.computed(slot);
            let done = self.cache.generate(slot);
            debug_assert!(done, "the first stage counted this block");
            if done {
                batch.entries.push(Entry { slot, tokens: 1, context });
            }
        }
    }

    /// Computes a chunk; the first one takes the blocks of the whole prompt and skips what is reused.
    fn run_context(&mut self, context: Context, requests: &mut Requests, batch: &mut Batch) {
        let Context { slot, mut chunk, .. } = context;
        let request = &mut requests[slot];
        if !self.cache.is_started(slot) {
            let Some(reused) = self.cache.start(slot, &request.content) else {
                debug_assert!(false, "the first stage counted these blocks");
                return;
            };
            self.started += 1;
            let whole = request.content.len();
            chunk = match reused.saturating_add(chunk) {
                end if reused > 0 && end < whole => {
                    end / self.config.tokens_per_block * self.config.tokens_per_block - reused
                }
                end => end.min(whole) - reused,
            };
            if request.scheduled.is_none() {
                request.cached_tokens = reused;
                batch.new.push((slot, reused));
            } else {
                batch.resumed.push((slot, reused));
            }
        }
        let done = self.cache.computed(slot);
        batch.entries.push(Entry { slot, tokens: chunk, context: done });
        self.cache.compute(slot, chunk);
    }
}

/// Each prompt takes what is left; a part of a prompt is rounded down to whole blocks.
fn first_come(contexts: &mut [Context], mut capacity: u64, unit: u32) {
    for context in contexts {
        let most = u32::try_from(capacity).unwrap_or(u32::MAX);
        if most < context.remaining {
            context.chunk = most / unit * unit;
        }
        capacity -= u64::from(context.chunk);
    }
}

/// Each prompt takes a block in turn until nobody can.
fn equal_progress(contexts: &mut [Context], capacity: u64, unit: u32) {
    for context in contexts.iter_mut() {
        context.chunk = 0;
    }
    let mut tokens = 0;
    loop {
        let before = tokens;
        for context in contexts.iter_mut() {
            let more = unit.min(context.remaining - context.chunk);
            if tokens + u64::from(more) <= capacity {
                tokens += u64::from(more);
                context.chunk += more;
            }
        }
        if tokens == before || tokens >= capacity {
            return;
        }
    }
}
