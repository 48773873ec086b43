//! What do nearly all decoders share? Embedding, layers of two residual branches, a last norm and the head.
//!
//! The order of operations is that of the model files of llama.cpp 0c1e57098 (src/models/*.cpp), each named where it
//! is used.

use crate::engine::llamacpp::graph::build::{Build, Norm};
use crate::engine::llamacpp::graph::tensor::Id;

/// Where the rows that want an output are picked out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gather {
    /// In the last layer, between attention and feed-forward.
    InLastLayer,
    /// After the last layer, before the last norm.
    BeforeNorm,
    /// After the last norm.
    AfterNorm,
}

/// How a decoder's layers are put together.
#[derive(Clone, Copy, Debug)]
pub struct Decoder {
    /// The norm before the feed-forward.
    pub ffn_norm: &'static str,
    /// Where output rows are picked.
    pub gather: Gather,
    /// Whether the first norm of a layer is ordered before what follows.
    pub expand_norm: bool,
    /// Whether the stream is the first operand of the additions (Jamba, LFM2).
    pub stream_first: bool,
    /// Whether both branches are scaled before they are added (Granite).
    pub residual_scale: bool,
    /// Whether the logits are scaled (Granite).
    pub logit_scale: bool,
    /// The kind of all norms.
    pub norm: Norm,
    /// The norm between attention and the stream, where there is one.
    pub attn_post_norm: Option<&'static str>,
    /// The norm between the feed-forward and the stream, where there is one.
    pub ffn_post_norm: Option<&'static str>,
    /// Further parts of the embedding that the first layers add, one each (the number of them).
    pub deepstack: u64,
}

impl Default for Decoder {
    fn default() -> Self {
        Self {
            ffn_norm: "ffn_norm",
            gather: Gather::InLastLayer,
            expand_norm: false,
            stream_first: false,
            residual_scale: false,
            logit_scale: false,
            norm: Norm::Rms,
            attn_post_norm: None,
            ffn_post_norm: None,
            deepstack: 0,
        }
    }
}

impl Decoder {
    /// Builds the graph: `mix` is attention or its stand-in, of the normed stream; `feed` the feed-forward.
    pub fn run<M, F>(self, b: &mut Build<'_>, stream: Id, out_ids: Id, mut mix: M, mut feed: F)
    where
        M: FnMut(&mut Build<'_>, usize, Id) -> Id,
        F: FnMut(&mut Build<'_>, usize, Id) -> Id,
    {
        let embedding = stream;
        let mut stream = stream;
        let layers = b.layers();
        for il in 0..layers {
            let normed = b.layer_norm(stream, il, "attn_norm", self.norm);
            if self.expand_norm {
                b.g.expand(normed);
            }
            let mut cur = mix(b, il, normed);
            if il + 1 == layers && self.gather == Gather::InLastLayer {
                cur = b.g.get_rows(cur, out_ids);
                stream = b.g.get_rows(stream, out_ids);
            }
            if let Some(name) = self.attn_post_norm {
                cur = b.layer_norm(cur, il, name, self.norm);
            }
            let middle = self.join(b, cur, stream);
            let normed = b.layer_norm(middle, il, self.ffn_norm, self.norm);
            let mut cur = feed(b, il, normed);
            if let Some(name) = self.ffn_post_norm {
                cur = b.layer_norm(cur, il, name, self.norm);
            }
            stream = self.join(b, cur, middle);
            if (il as u64) < self.deepstack {
                let (ne, nb) = (b.g.ne(embedding), b.g.nb(embedding));
                let offset = ne[0].saturating_mul(4).saturating_mul(il as u64 + 1);
                let part = b.g.view_2d(embedding, [ne[0], ne[1]], nb[1], offset);
                stream = b.g.add(stream, part);
            }
        }
        self.finish(b, stream, out_ids);
    }

    /// Adds a branch to the stream.
    fn join(self, b: &mut Build<'_>, branch: Id, stream: Id) -> Id {
        let branch = if self.residual_scale { b.g.scale(branch) } else { branch };
        if self.stream_first { b.g.add(stream, branch) } else { b.g.add(branch, stream) }
    }

    /// The last norm and the head. What drafting layers would read (`t_h_nextn`) is kept as well.
    pub fn finish(self, b: &mut Build<'_>, stream: Id, out_ids: Id) {
        let mut cur = stream;
        if self.gather == Gather::BeforeNorm {
            b.g.keep(cur);
            cur = b.g.get_rows(cur, out_ids);
        }
        cur = match b.maybe("output_norm.weight") {
            // LFM2's files have it under this name.
            None if b.maybe("token_embd_norm.weight").is_some() => {
                let weight = b.maybe("token_embd_norm.weight");
                let normed = b.norm(cur, weight, None, self.norm, None);
                b.embd = Some(normed);
                normed
            }
            Some(_) | None => b.output_norm(cur, self.norm),
        };
        if self.gather == Gather::AfterNorm {
            b.g.keep(cur);
            cur = b.g.get_rows(cur, out_ids);
            b.embd = Some(cur);
        }
        cur = b.head(cur);
        if self.logit_scale {
            cur = b.g.scale(cur);
        }
        b.finish(cur);
    }
}
