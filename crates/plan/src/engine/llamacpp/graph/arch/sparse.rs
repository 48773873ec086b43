//! How does latent attention pick its keys? An indexer scores all cached positions and only the best stay visible.
//!
//! Follows src/models/deepseek32.cpp and glm-dsa.cpp and the `build_attn` of `llm_graph_input_attn_k_dsa`
//! (llama.cpp 0c1e57098). That commit always fuses the scores (`cparams.fused_lid`; src/llama-context.cpp).

use super::decoder::Decoder;
use super::latent;
use super::moe::{self, Mixture};
use crate::engine::llamacpp::graph::build::{Attn, Build, Extra, Gating, Norm};
use crate::engine::llamacpp::graph::model::kind_of;
use crate::engine::llamacpp::graph::tensor::{Id, Kind, Op};

/// The inputs that every layer reads.
#[derive(Clone, Copy, Debug)]
struct Inputs {
    positions: Id,
    cache: Attn,
    rows: Id,
    mask: Id,
    rotation: Option<Id>,
}

/// deepseek32.cpp, glm-dsa.cpp. In GLM's, layers without an indexer of their own reuse the last one's choice.
pub fn build(b: &mut Build<'_>) {
    let stream = b.inp_embd(true);
    let positions = b.inp_pos(1);
    let cache = b.inp_attn_keys();
    let inputs = indexer_inputs(b, positions, cache);
    let out_ids = b.inp_out_ids();
    let mixture = Mixture::all_of_file(b, Gating::Sigmoid);
    let mut chosen = None;
    Decoder::default().run(
        b,
        stream,
        out_ids,
        |b, il, cur| {
            let low = b.linear(il, "attn_q_a", cur);
            let low = b.layer_norm(low, il, "attn_q_a_norm", Norm::Rms);
            if b.model.hparams.layers.get(il).is_some_and(|layer| layer.indexer) {
                chosen = Some(choose(b, il, cur, low, &inputs));
            }
            attention(b, il, cur, low, &inputs, chosen)
        },
        |b, il, cur| moe::dense_or_mixture(b, il, cur, &mixture),
    );
}

fn indexer_inputs(b: &mut Build<'_>, positions: Id, cache: Attn) -> Inputs {
    let (tokens, cells) = (b.batch.tokens, cache.full.cells);
    let streams = if b.cx.unified { 1 } else { b.batch.seqs.max(1) };
    let rows = b.g.input(Kind::I64, [tokens, 1, 1, 1]);
    let mask = b.g.input(Kind::F16, [cells, tokens / streams, 1, streams]);
    let width = b.model.hparams.indexer.head_dim;
    let mut n = 64;
    while n < 1 << 16 && width.is_multiple_of(n * 2) {
        n *= 2;
    }
    let rotation = (width > 0).then(|| b.g.input(Kind::F32, [n, n, 1, 1]));
    Inputs { positions, cache, rows, mask, rotation }
}

/// The positions that a layer's queries may see.
fn choose(b: &mut Build<'_>, il: usize, cur: Id, low: Id, inputs: &Inputs) -> Id {
    let (indexer, tokens) = (b.model.hparams.indexer, b.batch.tokens);
    let q = b.linear(il, "indexer.attn_q_b", low);
    let q = b.g.reshape_3d(q, indexer.head_dim, indexer.heads, tokens);
    let mut q = b.g.rope(q, inputs.positions, None);
    let k = b.linear(il, "indexer.attn_k", cur);
    let k = b.layer_norm(k, il, "indexer.k_norm", Norm::Layer);
    let k = b.g.reshape_3d(k, indexer.head_dim, 1, tokens);
    let mut k = b.g.rope(k, inputs.positions, None);
    if let Some(rotation) = inputs.rotation {
        q = b.g.mul_mat(rotation, q);
        k = b.g.mul_mat(rotation, k);
    }
    let (kind, store) = (kind_of(b.cx.kind_k), b.state_store(il));
    let (cells, streams) = (inputs.cache.full.cells, b.streams());
    let cache = b.g.stored(kind, [indexer.head_dim, cells, streams, 1], store, false);
    let nb = b.g.nb(k)[2];
    let flat = b.g.view_2d(k, [indexer.head_dim, tokens], nb, 0);
    let all = if streams > 1 { b.g.reshape_2d(cache, indexer.head_dim, cells.saturating_mul(streams)) } else { cache };
    let stored = b.g.set_rows(all, flat, inputs.rows);
    b.g.expand(stored);
    let weights = b.linear(il, "indexer.proj", cur);
    let row = kind.row(indexer.head_dim);
    let keys = b.g.view_4d(cache, [indexer.head_dim, 1, cells, streams], [row, row, row.saturating_mul(cells)], 0);
    let (ne, nb) = (b.g.ne(q), b.g.nb(q));
    let q = b.g.view_4d(q, [ne[0], ne[1], ne[2] / streams, streams], [nb[1], nb[2], nb[3] / streams], 0);
    let (ne, nb) = (b.g.ne(weights), b.g.nb(weights));
    let each = [ne[0], ne[1] / streams, ne[2], streams];
    let weights = b.g.view_4d(weights, each, [nb[1], nb[2] / streams, nb[3] / streams], 0);
    let weights = b.g.scale(weights);
    let ne = [cells, b.g.ne(q)[2], 1, streams];
    let sources = [Some(q), Some(keys), Some(weights), Some(inputs.mask)];
    let scores = b.g.result(Op::LightningIndexer, Kind::F32, ne, &sources);
    let top = [indexer.top_k.min(cells), ne[1], ne[2], ne[3]];
    let top = b.g.result(Op::TopK, Kind::I32, top, &[Some(scores)]);
    b.g.cont(top)
}

/// Absorbed latent attention over the chosen positions.
fn attention(b: &mut Build<'_>, il: usize, cur: Id, low: Id, inputs: &Inputs, chosen: Option<Id>) -> Id {
    let q = b.linear(il, "attn_q_b", low);
    let qkv = latent::absorbed(b, il, cur, q, inputs.positions);
    b.g.expand(qkv.q);
    b.g.expand(qkv.v);
    b.g.expand(qkv.k);
    let own = inputs.cache.full;
    if let Some(rows) = own.k_idxs {
        let stored = b.store_keys(il, qkv.k, rows);
        b.g.expand(stored);
    }
    let mask = match chosen {
        Some(chosen) => mask_of(b, own.mask, chosen),
        None => own.mask,
    };
    let keys = b.cached_keys(il);
    let (mut ne, nb) = (b.g.ne(keys), b.g.nb(keys));
    ne[0] = b.g.ne(qkv.v)[0];
    let values = b.g.view_4d(keys, ne, [nb[1], nb[2], nb[3]], 0);
    let extra = Extra { v_mla: Some(b.w(il, "attn_v_b.weight")), ..Extra::default() };
    let cur = b.attn_mha([qkv.q, keys, values], mask, extra, il);
    b.linear_biased(il, "attn_output", cur)
}

/// A mask that hides all but the chosen positions, and what the causal mask hides.
fn mask_of(b: &mut Build<'_>, mask: Id, chosen: Id) -> Id {
    let hidden = b.g.fill(mask);
    let (ne, nb) = (b.g.ne(hidden), b.g.nb(hidden));
    let hidden = b.g.view_4d(hidden, [1, ne[0], ne[1], ne[3]], [nb[0], nb[1], nb[2]], 0);
    let (ne, nb) = (b.g.ne(chosen), b.g.nb(chosen));
    let rows = b.g.view_4d(chosen, [ne[0], ne[1], ne[3], 1], [nb[1], nb[2], ne[3].saturating_mul(nb[3])], 0);
    let [top, tokens, streams, _] = b.g.ne(rows);
    let zeros = b.g.new_tensor(Kind::F32, [1, top, tokens, streams]);
    let zeros = b.g.fill(zeros);
    let shown = b.g.set_rows(hidden, zeros, rows);
    let (ne, nb) = (b.g.ne(shown), b.g.nb(shown));
    let shown = b.g.view_4d(shown, [ne[1], ne[2], 1, ne[3]], [nb[2], nb[3], nb[3]], 0);
    b.g.add(shown, mask)
}
