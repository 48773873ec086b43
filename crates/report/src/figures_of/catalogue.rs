//! What is built in? Cards by memory and bandwidth, models by parameters and cache, formats by bits.

use std::collections::{BTreeMap, BTreeSet};

use plimsoll_api::CatalogueAnswer;
use serde_json::Value;

use super::positive;
use crate::figure::{Axis, Bar, Bars, Body, Dot, Figure, Part, Plot, Scale, Series, Tone, Unit};
use crate::page::{clean, cut};

/// Kinds that have a colour of their own; all others share one.
const KINDS: usize = 7;

/// Returns the figures of a catalogue.
pub(crate) fn catalogue(answer: &CatalogueAnswer) -> Vec<Figure> {
    let figure = match answer.kind.as_ref() {
        "gpus" => cards(answer),
        "models" => models(answer),
        "formats" => formats(answer),
        _ => None,
    };
    figure.into_iter().collect()
}

/// A column's cells, row by row.
fn column<'a>(answer: &'a CatalogueAnswer, name: &str) -> Option<Vec<&'a Value>> {
    let at = answer.columns.iter().position(|column| column == name)?;
    Some(answer.rows.iter().map(|row| row.get(at).unwrap_or(&Value::Null)).collect())
}

/// The dots of a plot over two columns of numbers, in the colours of a third column's most frequent words.
fn dots(answer: &CatalogueAnswer, name: &str, x: &str, y: &str, kind: &str, y_scale: f64) -> Option<Vec<Dot>> {
    let (names, xs, ys) = (column(answer, name)?, column(answer, x)?, column(answer, y)?);
    let of: Vec<String> =
        column(answer, kind)?.iter().map(|kind| cut(&clean(kind.as_str().unwrap_or("other")), 24)).collect();
    let mut kinds: Vec<(&str, usize)> = Vec::new();
    for kind in &of {
        match kinds.iter_mut().find(|(known, _)| known == kind) {
            Some((_, count)) => *count += 1,
            None => kinds.push((kind, 1)),
        }
    }
    kinds.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    kinds.truncate(KINDS);
    let dot = |row: usize| {
        let series = match kinds.iter().position(|(known, _)| *known == of[row]) {
            Some(at) => Series::new(of[row].clone(), Tone::Nth(at)),
            None => Series::new("others", Tone::Faint),
        };
        let label = clean(names[row].as_str().unwrap_or_default());
        let label = label.rsplit('/').next().unwrap_or_default().to_owned();
        let (x, y) = (positive(xs[row].as_f64()?)?, positive(ys[row].as_f64()? * y_scale)?);
        Some(Dot { x, y, series, label })
    };
    let dots: Vec<Dot> = (0..answer.rows.len()).filter_map(dot).collect();
    (dots.len() > 1).then_some(dots)
}

fn figure(name: &str, title: &str, subtitle: String, caption: &str, body: Body) -> Figure {
    Figure { name: name.to_owned(), title: title.to_owned(), subtitle, caption: caption.to_owned(), body }
}

fn plot(x: Axis, y: Axis, dots: Vec<Dot>) -> Body {
    Body::Plot(Plot { x, y, lines: Vec::new(), dots, limits: Vec::new(), marks: Vec::new() })
}

fn cards(answer: &CatalogueAnswer) -> Option<Figure> {
    let gib = 1_073_741_824.0;
    let dots = dots(answer, "gpu", "bandwidth_gb_s", "runtime_total_gib", "architecture", gib)?;
    let subtitle = format!("{} cards whose memory and bandwidth are known", dots.len());
    let x = Axis::of("memory bandwidth (GB/s)", Unit::Plain).scaled(Scale::Log10);
    let y = Axis::of("memory that the runtime reports", Unit::Bytes).scaled(Scale::Log2);
    let caption = "Upwards more fits, to the right every byte is read faster: decoding follows the bandwidth. Names are left \
                   out where they would lie on others; the table has every card with its source.";
    Some(figure(
        "cards",
        "How much does a card hold, and how fast does it read it?",
        subtitle,
        caption,
        plot(x, y, dots),
    ))
}

fn models(answer: &CatalogueAnswer) -> Option<Figure> {
    let mut dots = dots(answer, "model", "parameters", "kv_bytes_per_token", "type", 1.0)?;
    let named = telling(&dots);
    for (at, dot) in dots.iter_mut().enumerate() {
        dot.x /= 1e9;
        if !named.contains(&at) {
            dot.label.clear();
        }
    }
    let subtitle = format!("{} models", dots.len());
    let x = Axis::of("parameters (billions)", Unit::Plain).scaled(Scale::Log10);
    let y = Axis::of("KV cache of one more token", Unit::Bytes).scaled(Scale::Log2);
    let caption = "All layers, undivided, in the model's dtype, before any window is full; models without a cache are left out. Named are the \
                   largest of each type in the legend and, from one power of ten to the next, what costs most and least. \
                   Lower at the same size: fewer KV heads, latent attention, or recurrent layers.";
    Some(figure("models", "What does one more token cost, model by model?", subtitle, caption, plot(x, y, dots)))
}

/// The dots that are named, for names of all would hide them: the largest of each kind with a colour of its own, and of
/// each power of ten of sizes the highest and the lowest.
fn telling(dots: &[Dot]) -> BTreeSet<usize> {
    let mut best: BTreeMap<(u8, i64), usize> = BTreeMap::new();
    for (at, dot) in dots.iter().enumerate() {
        let decade = libm::floor(libm::log10(dot.x)) as i64;
        let mut offer = |place: (u8, i64), better: &dyn Fn(&Dot) -> bool| {
            let known = best.get(&place).copied();
            if known.is_none_or(|known| better(&dots[known])) {
                best.insert(place, at);
            }
        };
        offer((0, decade), &|known| dot.y > known.y);
        offer((1, decade), &|known| dot.y < known.y);
        if let Tone::Nth(kind) = dot.series.tone {
            offer((2, kind as i64), &|known| dot.x > known.x);
        }
    }
    best.into_values().collect()
}

/// Bits of one weight, format by format.
fn formats(answer: &CatalogueAnswer) -> Option<Figure> {
    let (names, bits) = (column(answer, "format")?, column(answer, "bits_per_weight")?);
    let mut rows: Vec<(f64, Bar)> = Vec::new();
    for (name, bits) in names.iter().zip(bits) {
        let (Some(names), Some(cells)) = (name.as_str(), bits.as_str()) else { continue };
        let (many, each): (Vec<&str>, Vec<&str>) = (names.split(" / ").collect(), cells.split(" / ").collect());
        // `fp32 / fp16` and `32 / 16` are two formats; anything else is one.
        let pairs: Vec<(String, &str)> = match many.len() == each.len() {
            true => {
                let (lead, first) = many[0].rsplit_once(": ").map_or(("", many[0]), |(lead, first)| (lead, first));
                let named = |(at, name): (usize, &&str)| {
                    let name = if at == 0 { first } else { name };
                    if lead.is_empty() { name.to_owned() } else { format!("{lead}: {name}") }
                };
                many.iter().enumerate().map(named).zip(each).collect()
            }
            false => vec![(names.to_owned(), cells)],
        };
        for (name, cell) in pairs {
            let number = cell.split(' ').next().and_then(|word| word.parse().ok()).and_then(positive);
            let Some(number) = number else { continue };
            let kind = usize::from(name.starts_with("ggml")) + 2 * usize::from(name.starts_with("KV"));
            let bar = Bar {
                name: cut(&clean(&name), 34),
                parts: vec![Part::new(kind, number)],
                note: Some(clean(cell)),
                limit: None,
            };
            rows.push((number, bar));
        }
    }
    rows.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.name.cmp(&b.1.name)));
    let rows: Vec<Bar> = rows.into_iter().map(|(_, bar)| bar).collect();
    if rows.is_empty() {
        return None;
    }
    let body = Body::Bars(Bars {
        axis: Axis::of("bits of one number, scales included", Unit::Plain),
        series: vec![
            Series::new("checkpoints", Tone::Nth(0)),
            Series::new("GGUF", Tone::Nth(1)),
            Series::new("KV cache", Tone::Kv),
        ],
        rows,
        limits: Vec::new(),
    });
    let caption = "Of the layers that are stored this way; embeddings, norms and skipped layers stay as they are. Where it \
                   depends, the bar shows the first of the numbers behind it.";
    Some(figure("bits", "How many bits does a weight take?", "formats that are read".to_owned(), caption, body))
}
