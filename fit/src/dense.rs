//! What did LLMServingSim measure? Per-layer times of vLLM 0.19 on an RTX 4090 and an RTX PRO 6000, by tokens (`dense.csv`)
//! and by sequences (`per_sequence.csv`), with the matrices' sizes worked out from the models' configurations.

use std::path::Path;

use anyhow::Result;
use plimsoll_cost::measured::gemm::{Base, Product, Read, Table, write};
use plimsoll_cost::{Format, Hardware};

use crate::gemm::{Sample, WAVES};
use crate::smooth::{self, Settings};
use crate::stats::{Line, quantile};
use crate::{Fitted, card, rows};

/// A model that was profiled: numbers of its `config.json`.
#[derive(Debug)]
pub struct Model {
    /// Folder.
    pub name: &'static str,
    /// Width of the stream.
    pub hidden: u32,
    /// Query heads.
    pub heads: u32,
    /// Key and value heads.
    pub kv_heads: u32,
    /// Width of a head.
    pub head_dim: u32,
    /// Width inside the feed-forward block; `None` where it has experts.
    pub inter: Option<u32>,
    /// Words.
    pub vocabulary: u32,
}

/// The models.
pub const MODELS: [Model; 3] = [
    Model {
        name: "meta-llama/Llama-3.1-8B",
        hidden: 4096,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        inter: Some(14336),
        vocabulary: 128_256,
    },
    Model {
        name: "Qwen/Qwen3-32B",
        hidden: 5120,
        heads: 64,
        kv_heads: 8,
        head_dim: 128,
        inter: Some(25600),
        vocabulary: 151_936,
    },
    Model {
        name: "Qwen/Qwen3-30B-A3B-Instruct-2507",
        hidden: 2048,
        heads: 32,
        kv_heads: 4,
        head_dim: 128,
        inter: None,
        vocabulary: 151_936,
    },
];

/// Folder and card.
pub const CARDS: [(&str, &str); 2] = [("RTX4090", "rtx-4090"), ("RTXPRO6000", "rtx-pro-6000")];

/// One measured layer.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// `qkv_proj`, `layernorm`, `lm_head`, …
    pub name: &'a str,
    /// Whose.
    pub model: &'static Model,
    /// Ranks among which it is divided.
    pub tp: u32,
    /// Tokens, or sequences.
    pub tokens: f64,
    /// Measured.
    pub seconds: f64,
}

impl Layer<'_> {
    /// Kind, outputs and inputs of a layer that is a matrix product.
    fn matrix(&self) -> Option<(&'static str, u32, u32)> {
        let Model { hidden, heads, kv_heads, head_dim, inter, vocabulary, .. } = *self.model;
        let tp = self.tp;
        Some(match self.name {
            "qkv_proj" => ("qkv_proj", (heads + 2 * kv_heads) * head_dim / tp, hidden),
            "o_proj" => ("o_proj", hidden, heads * head_dim / tp),
            "gate_up_proj" => ("gate_up_proj", 2 * inter? / tp, hidden),
            "down_proj" => ("down_proj", hidden, inter? / tp),
            "lm_head" => ("lm_head", vocabulary / tp, hidden),
            _ => return None,
        })
    }
}

/// Hands every measured layer of a card to `each`.
///
/// # Errors
/// A file that cannot be read.
pub fn layers(perf: &Path, folder: &str, each: &mut dyn FnMut(Layer<'_>)) -> Result<()> {
    for model in &MODELS {
        for tp in [1, 2] {
            let root = perf.join("llmservingsim").join(folder).join(model.name).join(format!("bf16/tp{tp}"));
            if !root.is_dir() {
                continue;
            }
            for (file, count) in [("dense.csv", "tokens"), ("per_sequence.csv", "sequences")] {
                let rows = rows::csv(&root.join(file))?;
                let (names, tokens) = (rows.text("layer")?, rows.number(count)?);
                for ((name, tokens), time) in names.iter().zip(tokens).zip(rows.number("time_us")?) {
                    each(Layer { name, model, tp, tokens: *tokens, seconds: time * 1e-6 });
                }
            }
        }
    }
    Ok(())
}

/// Points over tokens: plateaus of decoding batches end at 16 and 32 and 64; then powers of two and halves between.
const TOKENS: [f64; 16] =
    [1.0, 2.0, 8.0, 16.0, 20.0, 32.0, 40.0, 64.0, 96.0, 128.0, 192.0, 256.0, 384.0, 512.0, 1024.0, 2048.0];

/// A product and what it may be left out by: the model, or the layer's kind where there is one model only.
struct Named {
    sample: Sample,
    name: &'static str,
}

/// The products of a card.
struct Dense {
    hardware: Hardware,
    all: Vec<Named>,
}

/// Fits the products of both cards. There are few matrices, so the corrections are over tokens and weights.
///
/// # Errors
/// A file that cannot be read.
pub fn gemm(perf: &Path, fitted: &mut Fitted) -> Result<()> {
    for (folder, card) in CARDS {
        let dense = Dense { hardware: card::hardware(card)?, all: products(perf, folder)? };
        if dense.all.is_empty() {
            continue;
        }
        let tried = WAVES.map(|wave| (wave, dense.left_out(wave)));
        let off = |errors: &[(f64, f64)]| median(errors.iter().map(|(_, ratio)| libm::log(*ratio).abs()).collect());
        let best = tried.iter().min_by(|(_, one), (_, other)| off(one).total_cmp(&off(other)));
        let Some((wave, errors)) = best else { continue };
        let by = if folder == "RTX4090" { "layer" } else { "model" };
        for (kind, most) in [("", f64::INFINITY), (", m <= 64", 64.0)] {
            let ratios: Vec<f64> = errors.iter().filter(|(m, _)| *m <= most).map(|(_, ratio)| *ratio).collect();
            let (card, backend) = (card.to_owned(), "vllm".to_owned());
            fitted.errors.push(Line {
                card,
                backend,
                kind: format!("bf16, by {by}{kind}"),
                fitted: ratios.len(),
                ratios,
            });
        }
        let whole = dense.fit(*wave, |_| true);
        let decoding = dense.all.iter().filter(|one| one.sample.product.m <= 64.0);
        let own = median(decoding.map(|one| (dense.ratio(&whole, one).1 - 1.0).abs()).collect()) * 100.0;
        fitted.notes.push(format!("{card}: the table is off its own rows of m <= 64 by {own:.1}% in the median"));
        write(&mut fitted.table, &format!("{card} vllm bf16"), &whole);
    }
    Ok(())
}

/// Returns the median; NaN of none.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    quantile(&values, 0.5)
}

/// Reads the matrix products of a card.
fn products(perf: &Path, folder: &str) -> Result<Vec<Named>> {
    let mut all: Vec<Named> = Vec::new();
    layers(perf, folder, &mut |layer| {
        let Some((kind, n, k)) = layer.matrix() else { return };
        // The profiled model has one layer: without a dense feed-forward block its attention's matrices fit in the L2
        // cache (128 MB) and were read from there, which they are not in a model of many layers.
        if layer.model.inter.is_none() && kind != "lm_head" {
            return;
        }
        let product = Product { m: layer.tokens, n: f64::from(n), k: f64::from(k), format: Format::Bf16 };
        let name = if folder == "RTX4090" { kind } else { layer.model.name };
        all.push(Named { sample: Sample { product, seconds: layer.seconds }, name });
    })?;
    Ok(all)
}

impl Dense {
    fn fit(&self, wave: f64, few: impl Fn(&Named) -> bool) -> Table {
        let samples: Vec<Sample> = self.all.iter().filter(|one| few(one)).map(|one| one.sample).collect();
        table(&self.hardware, Base { floor: FLOOR, wave, kept: 0.0, narrow: 0.0, host: 0.0 }, &samples)
    }

    /// Tokens, and predicted over measured time.
    fn ratio(&self, table: &Table, one: &Named) -> (f64, f64) {
        let Sample { product, seconds } = one.sample;
        (product.m, table.seconds(&self.hardware, &product, Read::Again).0 / seconds)
    }

    /// Every row's error by a table that was fitted without its model or its kind of layer.
    fn left_out(&self, wave: f64) -> Vec<(f64, f64)> {
        let mut names: Vec<&str> = self.all.iter().map(|one| one.name).collect();
        names.sort_unstable();
        names.dedup();
        let mut errors = Vec::new();
        for left in names {
            let part = self.fit(wave, |one| one.name != left);
            errors.extend(self.all.iter().filter(|one| one.name == left).map(|one| self.ratio(&part, one)));
        }
        errors
    }
}

/// Seconds of the smallest kernel in a CUDA graph. Assumed: these profiles have no small products; norms of one token take
/// 1.9 to 2.3 µs.
const FLOOR: f64 = 2e-6;

/// Fits corrections over tokens and weights.
fn table(hardware: &Hardware, base: Base, samples: &[Sample]) -> Table {
    let mut weights: Vec<f64> = samples.iter().map(|s| s.product.n * s.product.k).collect();
    weights.sort_by(f64::total_cmp);
    // Points an octave apart, from the smallest matrix to the largest.
    let (first, last) = (weights[0], weights[weights.len() - 1]);
    let octaves = libm::round(libm::log(last / first) / core::f64::consts::LN_2).max(1.0);
    let step = libm::exp(libm::log(last / first) / octaves);
    let mut points = vec![first];
    for index in 1..octaves as usize {
        points.push((first * libm::pow(step, index as f64)).round());
    }
    points.push(last);
    let axes = [("m".to_owned(), TOKENS.to_vec()), ("nk".to_owned(), points)];
    let at: Vec<Vec<f64>> = samples.iter().map(|s| vec![s.product.m, s.product.n * s.product.k]).collect();
    let values: Vec<f64> =
        samples.iter().map(|s| libm::log(s.seconds / s.product.modelled(hardware, &base, Read::Again))).collect();
    Table { base, correction: smooth::fit(&axes, &at, &values, &Settings { stiffness: 0.1, ..Settings::default() }) }
}
