//! Which architectures have experts, latent attention or a recurrent state?

use super::decoder::Decoder;
use super::delta::Style;
use super::mixtures::{self, Plain, QkNorm};
use super::moe::Mixture;
use super::{Builder, hybrids, latent, sparse};
use crate::engine::llamacpp::graph::build::{Build, Gating, Norm};

/// The builder of an architecture of these families, if it is one.
#[must_use]
pub fn builder(arch: &str) -> Option<Builder> {
    mixture(arch).or_else(|| stateful(arch))
}

fn mixture(arch: &str) -> Option<Builder> {
    Some(match arch {
        "qwen3moe" | "qwen3vlmoe" | "hunyuan-moe" | "rnd1" => softmax,
        "llada-moe" => {
            |b: &mut Build<'_>| Plain { norm: QkNorm::Heads, ..Plain::new(Mixture::softmax(false)) }.build(b)
        }
        "qwen2moe" => mixtures::qwen2,
        "gpt-oss" => mixtures::gpt_oss,
        "granitemoe" => mixtures::granite,
        "olmoe" => |b: &mut Build<'_>| whole(b, Mixture::softmax(false)),
        "minimax-m2" => |b: &mut Build<'_>| whole(b, Mixture::of_file(b, Gating::Sigmoid, true)),
        "glm4moe" => glm4,
        "deepseek" => |b: &mut Build<'_>| Plain::new(Mixture::softmax(false)).build(b),
        "ernie4_5-moe" => |b: &mut Build<'_>| Plain::new(Mixture::softmax(true)).build(b),
        "bailingmoe" => |b: &mut Build<'_>| Plain::new(Mixture::softmax(b.flag("expert_weights_norm"))).build(b),
        "bailingmoe2" | "dots1" => |b: &mut Build<'_>| Plain::new(Mixture::all_of_file(b, Gating::Softmax)).build(b),
        "dbrx" => dbrx,
        "llama4" => mixtures::llama4,
        "phimoe" => mixtures::phi,
        "grok" => mixtures::grok,
        "step35" => mixtures::step35,
        "mimo2" => mixtures::mimo2,
        "exaone-moe" => mixtures::exaone,
        "afmoe" => mixtures::afmoe,
        _ => return None,
    })
}

fn stateful(arch: &str) -> Option<Builder> {
    Some(match arch {
        "deepseek2" | "mistral4" => latent::deepseek2,
        "qwen3next" => |b: &mut Build<'_>| hybrids::qwen_linear(b, Style::Joint),
        "qwen35" | "qwen35moe" => |b: &mut Build<'_>| hybrids::qwen_linear(b, Style::Separate),
        "granitehybrid" => hybrids::granite,
        "jamba" => hybrids::jamba,
        "falcon-h1" => hybrids::falcon,
        "nemotron_h" | "nemotron_h_moe" => hybrids::nemotron,
        "lfm2" | "lfm2moe" => hybrids::lfm2,
        "deepseek32" | "glm-dsa" => sparse::build,
        "mamba" => |b: &mut Build<'_>| hybrids::mamba(b, false),
        "mamba2" => |b: &mut Build<'_>| hybrids::mamba(b, true),
        _ => return None,
    })
}

/// qwen3moe.cpp, the text part of qwen3vlmoe.cpp, hunyuan-moe.cpp.
fn softmax(b: &mut Build<'_>) {
    let norm = if b.model.hparams.arch == "hunyuan-moe" { QkNorm::Late } else { QkNorm::Heads };
    let hparams = b.model.hparams;
    let deepstack = (hparams.embd_inp / hparams.embd.max(1)).saturating_sub(1);
    let decoder = Decoder { deepstack, ..Decoder::default() };
    Plain { norm, decoder, ..Plain::new(Mixture::softmax(true)) }.build(b);
}

/// olmoe.cpp, minimax-m2.cpp: q and k normed over all heads.
fn whole(b: &mut Build<'_>, mixture: Mixture) {
    Plain { norm: QkNorm::Whole, ..Plain::new(mixture) }.build(b);
}

/// glm4-moe.cpp.
fn glm4(b: &mut Build<'_>) {
    let decoder = Decoder { ffn_norm: "post_attention_norm", ..Decoder::default() };
    Plain { decoder, ..Plain::new(Mixture::all_of_file(b, Gating::Sigmoid)) }.build(b);
}

/// dbrx.cpp: norms that subtract the mean.
fn dbrx(b: &mut Build<'_>) {
    let decoder = Decoder { ffn_norm: "attn_output_norm", norm: Norm::Layer, ..Decoder::default() };
    Plain { decoder, ..Plain::new(Mixture::softmax(true)) }.build(b);
}
