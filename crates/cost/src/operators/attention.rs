//! What does attention cost in one layer? Grouped heads, latents, sparse choices and windows: pairs of tokens, and bytes of
//! caches, for decoding and for pieces of prompts.

use std::borrow::Cow;

use super::stored::input_bytes;
use crate::{Format, Kernel, Math, Operator, Work};

/// Attention of layers that are alike.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Attention {
    pub(super) name: &'static str,
    /// Layers on the rank.
    pub(super) runs: f64,
    pub(super) form: Form,
    /// Tokens that are seen, where not all.
    pub(super) window: Option<u32>,
    /// Bytes of a number in the cache.
    pub(super) kv_bytes: f64,
    /// Ranks that deal a sequence's tokens among them.
    pub(super) dealt: f64,
}

/// How keys and values are formed. Heads are the rank's own.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Form {
    Grouped {
        heads: u32,
        kv_heads: u32,
        key_dim: u32,
        value_dim: u32,
    },
    Latent {
        heads: u32,
        rank: u32,
        rope_dim: u32,
        nope_dim: u32,
        value_dim: u32,
        /// Tokens that one cached entry stands for.
        compress: u32,
        /// Entries that the indexer chooses.
        top: Option<u32>,
        /// Tokens that are kept as they are beside compressed ones.
        recent: Option<u32>,
        /// How products into the latent space and out of it are stored, where there are any.
        absorbed: Option<Absorbed>,
        /// The projection that expands latents, where there is one.
        expand: Option<Expand>,
    },
    /// The sparse indexer's scores: queries of `heads` against one key per entry.
    Indexer {
        heads: u32,
        dim: u32,
        compress: u32,
    },
}

/// The projection from latents to keys and values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Expand {
    pub(super) n: u64,
    pub(super) k: u64,
    pub(super) format: Format,
    pub(super) weights: f64,
}

/// The matrices of the products into the latent space and out of it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Absorbed {
    pub(super) format: Format,
    /// Bytes of a number.
    pub(super) number: f64,
}

/// Returns the pairs of `new` tokens after `before` others and what each sees of itself and those before within a window:
/// all of new·before + new·(new + 1)/2 where there is none.
pub fn pairs(new: f64, before: f64, window: Option<u32>) -> f64 {
    let Some(window) = window.map(f64::from) else { return new * (before + (new + 1.0) / 2.0) };
    // Tokens that still see everything before them.
    let growing = (window - before).clamp(0.0, new);
    growing * (before + (growing + 1.0) / 2.0) + (new - growing) * window
}

fn n(number: u32) -> f64 {
    f64::from(number)
}

/// Entries that a query meets in a cache of `seen` tokens: the recent ones, and compressed or chosen ones.
fn entries(seen: f64, compress: u32, top: Option<u32>, recent: Option<u32>) -> f64 {
    let kept = seen / n(compress.max(1));
    let chosen = top.map_or(kept, |top| kept.min(n(top)));
    match recent {
        Some(recent) => seen.min(n(recent)) + if compress > 1 { chosen } else { 0.0 },
        None => chosen,
    }
}

/// Sequences that decode one token each.
#[derive(Clone, Copy, Debug)]
pub(super) struct Decode {
    pub(super) batch: f64,
    /// Mean tokens in the cache.
    pub(super) context: f64,
    /// The same, each sequence cut to the window of this layer.
    pub(super) windowed: f64,
}

/// Pieces of prompts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece {
    pub(super) batch: f64,
    pub(super) tokens: f64,
    pub(super) context: f64,
}

impl Attention {
    fn operator(&self, name: &'static str, runs: f64, kernel: Kernel, work: Work) -> Operator {
        Operator { name: Cow::Borrowed(name), runs: self.runs * runs, kernel, work }
    }

    /// Attention of sequences that decode, `runs` times a layer.
    pub(super) fn decode(&self, step: Decode, runs: f64, into: &mut Vec<Operator>) {
        let Decode { batch, context, windowed } = step;
        // A token sees itself too, inside its window. What lies outside a window is not known here.
        let held = if self.window.is_some() { windowed } else { context };
        let seen = self.window.map_or(held + 1.0, |window| (held + 1.0).min(n(window))) / self.dealt;
        let held = held / self.dealt;
        match &self.form {
            Form::Grouped { heads, kv_heads, key_dim, value_dim } => {
                let width = n(*key_dim) + n(*value_dim);
                let heads = self.gathered(*heads);
                let work = Work {
                    flops: 2.0 * batch * n(heads) * width * seen,
                    read: batch * (held * n(*kv_heads) * width * self.kv_bytes + 2.0 * n(heads) * n(*key_dim)),
                    written: 2.0 * batch * n(heads) * n(*value_dim),
                    math: Math::Half,
                };
                let kernel = Kernel::GenerationAttention {
                    batch,
                    context: held,
                    heads,
                    kv_heads: *kv_heads,
                    head_dim: (*key_dim).max(*value_dim),
                    window: self.window,
                    kv_bytes: self.kv_bytes,
                };
                into.push(self.operator(self.name, runs, kernel, work));
            }
            Form::Latent { .. } => {
                self.absorbed(batch, runs, into);
                self.latents(Decode { batch, context: held, windowed: held }, seen, f64::INFINITY, runs, into);
            }
            Form::Indexer { heads, dim, compress } => {
                let seen = seen / n((*compress).max(1));
                let held = held / n((*compress).max(1));
                let work = Work {
                    flops: 2.0 * batch * n(*heads) * n(*dim) * seen,
                    read: batch * (held * n(*dim) * self.kv_bytes + n(*heads) * n(*dim)),
                    written: 4.0 * batch * seen,
                    math: Math::Fp8,
                };
                let kernel = Kernel::GenerationAttention {
                    batch,
                    context: held,
                    heads: *heads,
                    kv_heads: 1,
                    head_dim: *dim,
                    window: None,
                    kv_bytes: self.kv_bytes,
                };
                into.push(self.operator(self.name, runs, kernel, work));
            }
        }
    }

    /// Attention of queries over latents themselves: each of `step.batch` queries with `step.windowed` tokens held, of which
    /// there are no more than `distinct` in all.
    fn latents(&self, step: Decode, seen: f64, distinct: f64, runs: f64, into: &mut Vec<Operator>) {
        let Form::Latent { heads, rank, rope_dim, compress, top, recent, .. } = &self.form else { return };
        let heads = self.gathered(*heads);
        let (batch, key) = (step.batch, n(*rank) + n(*rope_dim));
        let met = entries(seen, *compress, *top, *recent);
        let read = entries(step.windowed, *compress, *top, *recent);
        let work = Work {
            flops: 2.0 * batch * n(heads) * (key + n(*rank)) * met,
            read: (batch * read).min(distinct) * key * self.kv_bytes + 2.0 * batch * n(heads) * key,
            written: 2.0 * batch * n(heads) * n(*rank),
            math: Math::Half,
        };
        let kernel = Kernel::GenerationLatent {
            batch,
            context: read,
            heads,
            rank: *rank,
            rope_dim: *rope_dim,
            kv_bytes: self.kv_bytes,
        };
        into.push(self.operator(self.name, runs, kernel, work));
    }

    /// The products into the latent space and out of it.
    fn absorbed(&self, tokens: f64, runs: f64, into: &mut Vec<Operator>) {
        let Form::Latent { heads, rank, nope_dim, value_dim, absorbed: Some(absorbed), .. } = &self.form else {
            return;
        };
        let Absorbed { format, number } = *absorbed;
        let products = [("latent_query", *nope_dim, *rank), ("latent_value", *rank, *value_dim)];
        for (name, inputs, outputs) in products {
            let numbers = n(*heads) * n(inputs) * n(outputs);
            let work = Work {
                flops: 2.0 * tokens * numbers,
                read: numbers * number + tokens * n(*heads) * n(inputs) * input_bytes(format),
                written: 2.0 * tokens * n(*heads) * n(outputs),
                math: format.math(),
            };
            let kernel = Kernel::LatentProduct { tokens, heads: *heads, k: inputs, n: outputs, format };
            into.push(self.operator(name, runs, kernel, work));
        }
    }

    /// Ranks that deal tokens look at each other's queries.
    fn gathered(&self, heads: u32) -> u32 {
        (n(heads) * self.dealt).min(f64::from(u32::MAX)) as u32
    }

    /// Attention of pieces of prompts.
    pub(super) fn piece(&self, piece: Piece, into: &mut Vec<Operator>) {
        let Piece { batch, tokens, context } = piece;
        let all = pairs(tokens, context, self.window);
        let held = self.window.map_or(context, |window| context.min(n(window)));
        match &self.form {
            Form::Grouped { heads, kv_heads, key_dim, value_dim } => {
                let width = n(*key_dim) + n(*value_dim);
                let work = Work {
                    flops: 2.0 * batch * n(*heads) * width * all,
                    read: batch
                        * ((held + tokens) * n(*kv_heads) * width * self.kv_bytes
                            + 2.0 * tokens * n(*heads) * n(*key_dim)),
                    written: 2.0 * batch * tokens * n(*heads) * n(*value_dim),
                    math: Math::Half,
                };
                let kernel = Kernel::ContextAttention {
                    batch,
                    tokens,
                    context,
                    heads: *heads,
                    kv_heads: *kv_heads,
                    head_dim: (*key_dim).max(*value_dim),
                    window: self.window,
                    kv_bytes: self.kv_bytes,
                };
                into.push(self.operator(self.name, 1.0, kernel, work));
            }
            Form::Latent { expand: Some(expand), top: None, .. } => self.expanded(*expand, piece, into),
            Form::Latent { .. } => {
                // Chosen and compressed entries differ from query to query: each is a sequence of its own.
                let queries = batch * tokens;
                self.absorbed(queries, 1.0, into);
                let mean = if tokens > 0.0 { all / tokens } else { 0.0 };
                let step = Decode { batch: queries, context: mean, windowed: mean };
                self.latents(step, mean, batch * (held + tokens), 1.0, into);
            }
            Form::Indexer { heads, dim, compress } => {
                let shrunk = n((*compress).max(1));
                let work = Work {
                    flops: 2.0 * batch * n(*heads) * n(*dim) * all / shrunk,
                    read: batch * ((held + tokens) / shrunk * n(*dim) * self.kv_bytes + tokens * n(*heads) * n(*dim)),
                    written: 4.0 * batch * all / shrunk,
                    math: Math::Fp8,
                };
                let kernel = Kernel::ContextAttention {
                    batch,
                    tokens,
                    context: context / shrunk,
                    heads: *heads,
                    kv_heads: 1,
                    head_dim: *dim,
                    window: None,
                    kv_bytes: self.kv_bytes,
                };
                into.push(self.operator(self.name, 1.0, kernel, work));
            }
        }
    }

    /// Latents expanded to keys and values, those of the cache too, and attention over them.
    ///
    /// vLLM 0.19.0 `layers/attention/mla_attention.py` (`_compute_prefill_context`); SGLang 0.5.9
    /// `models/deepseek_common/attention_forward_methods/forward_mha.py` (`forward_normal_chunked_kv`).
    fn expanded(&self, expand: Expand, piece: Piece, into: &mut Vec<Operator>) {
        let Form::Latent { heads, rope_dim, nope_dim, value_dim, .. } = &self.form else { return };
        let Piece { batch, tokens, context } = piece;
        let held = self.window.map_or(context, |window| context.min(n(window)));
        let m = batch * (held + tokens);
        let (outputs, inputs) = (expand.n as f64, expand.k as f64);
        let work = Work {
            flops: 2.0 * m * outputs * inputs,
            read: expand.weights + m * inputs * input_bytes(expand.format),
            written: 2.0 * m * outputs,
            math: expand.format.math(),
        };
        let kernel = Kernel::Gemm { m, n: expand.n, k: expand.k, format: expand.format };
        into.push(self.operator("kv_b_proj", 1.0, kernel, work));
        let key = n(*nope_dim) + n(*rope_dim);
        let width = n(*heads) * (key + n(*value_dim));
        let work = Work {
            flops: 2.0 * batch * width * pairs(tokens, context, self.window),
            read: 2.0 * m * width + 2.0 * batch * tokens * n(*heads) * key,
            written: 2.0 * batch * tokens * n(*heads) * n(*value_dim),
            math: Math::Half,
        };
        let kernel = Kernel::ContextLatent {
            batch,
            tokens,
            context,
            heads: *heads,
            key_dim: nope_dim.saturating_add(*rope_dim),
            value_dim: *value_dim,
            kv_bytes: self.kv_bytes,
        };
        into.push(self.operator(self.name, 1.0, kernel, work));
    }

    /// Bytes of absorbed weights that decoding reads in one layer.
    pub(super) fn weights(&self) -> f64 {
        match &self.form {
            Form::Latent { heads, rank, nope_dim, value_dim, absorbed: Some(absorbed), .. } => {
                n(*heads) * n(*rank) * (n(*nope_dim) + n(*value_dim)) * absorbed.number
            }
            Form::Latent { .. } | Form::Grouped { .. } | Form::Indexer { .. } => 0.0,
        }
    }
}
