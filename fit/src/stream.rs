//! How are norms, activations and the like fitted? Corrections over the bytes of a launch, by card.

use std::path::Path;

use anyhow::Result;
use plimsoll_cost::Hardware;
use plimsoll_cost::measured::grid::{Grid, write};
use plimsoll_cost::measured::stream::{Kind, Moved};

use crate::dense::{CARDS, Layer, MODELS, layers};
use crate::gemm::within;
use crate::smooth::{self, Settings};
use crate::stats::Line;
use crate::{Fitted, card};

const HEAD: &str = "\
# How long norms, activations and the like took, over the model in crates/cost/src/measured/stream.rs. Written by
# `cargo xtask fit stream`. [card kind]: thousandths of ln(measured / modelled) over the larger of a launch's bytes read
# and written against the level-2 cache.
# Fitted from measurements of LLMServingSim (MIT, commit 5daddb21a545).
";

/// Points: the larger of what a launch reads and writes as parts of the level-2 cache.
const FILLS: [f64; 12] = [1e-4, 1e-3, 3e-3, 0.01, 0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 1.5, 2.5];

/// Where nothing is left in the cache.
const PAST: f64 = 1.5;

/// One launch: whose, its tokens, bytes and time.
struct Launch {
    model: &'static str,
    tokens: f64,
    moved: Moved,
    seconds: f64,
}

/// What a layer's one launch reads and writes, as operators count it: 16-bit numbers, each read and written once.
fn launch(layer: &Layer<'_>) -> Option<Launch> {
    let model = layer.model;
    let rotated = (model.heads + model.kv_heads) * model.head_dim / layer.tp;
    let (read, written) = match layer.name {
        // The residual is added on the way.
        "layernorm" => (2 * model.hidden, 2 * model.hidden),
        "final_layernorm" => (2 * model.hidden, 2 * model.hidden),
        "act_fn" => (2 * model.inter? / layer.tp, model.inter? / layer.tp),
        "rotary_emb" => (rotated, rotated),
        "embedding" => (model.hidden, model.hidden),
        _ => return None,
    };
    let bytes = |numbers: u32| f64::from(numbers) * 2.0 * layer.tokens;
    let moved = Moved { read: bytes(read), written: bytes(written) };
    Some(Launch { model: model.name, tokens: layer.tokens, moved, seconds: layer.seconds })
}

/// The launches of a card.
struct Card {
    name: &'static str,
    hardware: Hardware,
    all: Vec<Launch>,
}

/// Fits the tables of both cards. Left out are whole models where there are several; and what the other card's table says
/// about a card, as it would about a third, is shown too.
///
/// # Errors
/// A file that cannot be read.
pub fn fit(perf: &Path) -> Result<Fitted> {
    let mut fitted = Fitted { table: HEAD.to_owned(), errors: Vec::new(), notes: Vec::new() };
    let mut cards: Vec<Card> = Vec::new();
    for (folder, name) in CARDS {
        let mut card = Card { name, hardware: card::hardware(name)?, all: Vec::new() };
        layers(perf, folder, &mut |layer| card.all.extend(launch(&layer)))?;
        cards.push(card);
    }
    for kind in [Kind::Even, Kind::Reading] {
        for card in &cards {
            for model in MODELS.iter().filter(|_| card.name == "rtx-pro-6000") {
                let part = card.table(kind, |one| one.model != model.name);
                let short = model.name.rsplit('/').next().unwrap_or(model.name);
                let launches = card.of(kind).filter(|one| one.model == model.name);
                report(&mut fitted, card, &format!("{}, {short}", kind.name()), &part, launches);
            }
            for other in cards.iter().filter(|other| other.name != card.name) {
                let heading = format!("{}, by {}", kind.name(), other.name);
                report(&mut fitted, card, &heading, &other.table(kind, |_| true), card.of(kind));
            }
        }
    }
    for card in cards.iter().filter(|card| !card.all.is_empty()) {
        for kind in [Kind::Even, Kind::Reading] {
            let mut table = card.table(kind, |_| true);
            if kind == Kind::Even {
                past_the_cache(&mut table, &card.table(Kind::Reading, |_| true));
            }
            write(&mut fitted.table, &format!("{} {}", card.name, kind.name()), &table);
        }
    }
    Ok(fitted)
}

/// Norms were not measured beyond half the cache, activations were: past it both run at the memory's rate.
fn past_the_cache(table: &mut Grid, reading: &Grid) {
    if let Some((_, points)) = table.axes.first_mut() {
        points.push(PAST);
        table.values.push((reading.at(&[PAST]).0 * 1000.0).round() as i32);
    }
}

/// Adds the errors of a table on a card's launches.
fn report<'a>(
    fitted: &mut Fitted,
    card: &Card,
    heading: &str,
    table: &Grid,
    launches: impl Iterator<Item = &'a Launch>,
) {
    let ratios: Vec<(f64, f64)> =
        launches.map(|one| (one.tokens, seconds(table, &card.hardware, &one.moved) / one.seconds)).collect();
    for (few, most) in [("", f64::INFINITY), (", m <= 64", 64.0)] {
        let ratios: Vec<f64> = ratios.iter().filter(|(m, _)| *m <= most).map(|(_, ratio)| *ratio).collect();
        if ratios.is_empty() {
            continue;
        }
        let (card, backend) = (card.name.to_owned(), "vllm".to_owned());
        fitted.errors.push(Line { card, backend, kind: format!("{heading}{few}"), fitted: 0, ratios });
    }
}

impl Card {
    fn of(&self, kind: Kind) -> impl Iterator<Item = &Launch> {
        self.all.iter().filter(move |one| one.moved.kind() == kind)
    }

    fn table(&self, kind: Kind, few: impl Fn(&Launch) -> bool) -> Grid {
        let (mut points, mut values) = (Vec::new(), Vec::new());
        for one in self.of(kind).filter(|one| few(one)) {
            points.push(vec![one.moved.fill(&self.hardware)]);
            values.push(libm::log(one.seconds / one.moved.modelled(&self.hardware)));
        }
        let mut seen: Vec<f64> = points.iter().flatten().copied().collect();
        seen.sort_by(f64::total_cmp);
        let mut axis = within(&FILLS, &seen);
        axis.iter_mut().for_each(|point| *point = (*point * 1e6).round() / 1e6);
        let axes = [("fill".to_owned(), axis)];
        smooth::fit(&axes, &points, &values, &Settings { outlier: 0.1, ..Settings::default() })
    }
}

fn seconds(table: &Grid, hardware: &Hardware, moved: &Moved) -> f64 {
    moved.modelled(hardware) * libm::exp(table.at(&[moved.fill(hardware)]).0)
}
