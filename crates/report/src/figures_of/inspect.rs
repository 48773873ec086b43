//! What is a model made of? Its parameters by role, its kinds of layers, and what a sequence's cache takes as it grows.

use plimsoll_api::InspectAnswer;
use plimsoll_api::answer::LayerRun;

use super::{drawable, positive};
use crate::figure::{
    Axis, Bar, Bars, Body, Figure, Line, Part, Plot, Scale, Series, Span, SpanGroup, SpanRow, Spans, Stroke, Tone, Unit,
};
use crate::number::{percent, short, size};
use crate::page::{clean, cut};
use crate::plan::model_words;

/// Letters of a kind of layers' name at most.
const NAME: usize = 64;
/// Kinds of layers that are told apart at most.
const KINDS: usize = 8;
/// Layers at most.
const LAYERS: usize = 4096;

/// Returns the figures of a model.
pub(crate) fn inspect(answer: &InspectAnswer) -> Vec<Figure> {
    [parameters(answer), cache(answer), layers(answer)].into_iter().flatten().collect()
}

/// A role of tensors, in words.
fn words(role: &str) -> String {
    match role {
        "embedding" => "token embedding".to_owned(),
        "attention" => "attention".to_owned(),
        "recurrent" => "recurrent mixers".to_owned(),
        "mlp" => "dense feed-forward".to_owned(),
        "experts" => "routed experts".to_owned(),
        "norm" => "norms and the like".to_owned(),
        "lm_head" => "output projection".to_owned(),
        "tower" => "towers, projectors".to_owned(),
        "draft" => "drafting layers".to_owned(),
        other => clean(other),
    }
}

/// Parameters by role.
fn parameters(answer: &InspectAnswer) -> Option<Figure> {
    let mut roles: Vec<(&str, u64, u64)> = Vec::new();
    for line in answer.tensors.iter().filter(|line| line.parameters > 0) {
        let bytes = line.bytes.unwrap_or(0);
        match roles.iter_mut().find(|(role, _, _)| *role == line.role) {
            Some((_, parameters, stored)) => {
                *parameters = parameters.saturating_add(line.parameters);
                *stored = stored.saturating_add(bytes);
            }
            None => roles.push((line.role.as_ref(), line.parameters, bytes)),
        }
    }
    roles.sort_by_key(|(_, parameters, _)| std::cmp::Reverse(*parameters));
    let whole = roles.iter().fold(0u64, |sum, (_, parameters, _)| sum.saturating_add(*parameters));
    let most = roles.first().map_or(0, |(_, parameters, _)| *parameters);
    const SCALES: [(f64, &str); 3] = [(1e9, " (billions)"), (1e6, " (millions)"), (1e3, " (thousands)")];
    let (scale, word) = SCALES.into_iter().find(|(scale, _)| most as f64 >= *scale).unwrap_or((1.0, ""));
    let row = |(role, parameters, bytes): &(&str, u64, u64)| Bar {
        name: words(role),
        parts: vec![Part::new(0, *parameters as f64 / scale)],
        note: Some(format!("{} ({}), {}", short(*parameters), percent(*parameters, whole), size(*bytes))),
        limit: None,
    };
    let rows: Vec<Bar> = roles.iter().map(row).collect();
    if rows.is_empty() {
        return None;
    }
    let model = &answer.model;
    let mut caption = "Parameters by what they do, with the bytes in which they are stored.".to_owned();
    if model.active_parameters < model.parameters {
        caption.push_str(&format!(
            " One token goes through {} of the {}.",
            short(model.active_parameters),
            short(model.parameters)
        ));
    }
    if answer.tied {
        caption.push_str(" The output projection is the token embedding, which is counted once.");
    }
    if answer.draft_parameters > 0 {
        caption.push_str(" Drafting layers are not part of the model's count.");
    }
    Some(Figure {
        name: "parameters".to_owned(),
        title: "What are the parameters for?".to_owned(),
        subtitle: model_words(model),
        caption,
        body: Body::Bars(Bars {
            axis: Axis::of(format!("parameters{word}"), Unit::Plain),
            series: vec![Series::new("parameters", Tone::Weights)],
            rows,
            limits: Vec::new(),
        }),
    })
}

/// What a sequence's cache takes by its length, where that is no straight line.
fn cache(answer: &InspectAnswer) -> Option<Figure> {
    let real: Vec<(f64, f64)> = answer
        .kv_growth
        .iter()
        .filter_map(|at| Some((positive(at.tokens as f64)?, positive(at.bytes as f64)?)))
        .collect();
    if real.len() < 2 {
        return None;
    }
    let each = answer.kv_bytes_per_token as f64;
    let plain: Vec<(f64, f64)> =
        real.iter().filter_map(|(tokens, _)| Some((*tokens, positive(tokens * each)?))).collect();
    let line =
        |name: &str, tone, points, stroke| Line { series: Series::new(name, tone), points, band: Vec::new(), stroke };
    // What bends it: windows that fill, states that are there from the first token on, or both.
    let state = answer.state_bytes_per_sequence;
    let windows = answer
        .kv_growth
        .iter()
        .any(|at| at.bytes.saturating_sub(state) < at.tokens.saturating_mul(answer.kv_bytes_per_token));
    let without = match (windows, state > 0) {
        (true, true) => "without windows and states",
        (false, true) => "without states",
        (true, false) | (false, false) => "without windows",
    };
    let mut lines = vec![line("this model", Tone::Kv, real, Stroke::Solid)];
    if plain.len() > 1 {
        lines.push(line(without, Tone::Faint, plain, Stroke::Dashed));
    }
    let mut caption =
        "Bytes of one sequence's cache, all layers, undivided, in the model's dtype; engines round up to \
                       their blocks."
            .to_owned();
    if windows {
        caption.push_str(" Layers with a window stop growing when it is full.");
    }
    if state > 0 {
        caption.push_str(&format!(" Recurrent states take {} whatever the length.", size(state)));
    }
    Some(Figure {
        name: "cache".to_owned(),
        title: "How does a sequence's cache grow with its length?".to_owned(),
        subtitle: model_words(&answer.model),
        caption,
        body: Body::Plot(Plot {
            x: Axis::of("context (tokens)", Unit::Count).scaled(Scale::Log2),
            y: Axis::of("cache of one sequence", Unit::Bytes).scaled(Scale::Log2),
            lines,
            dots: Vec::new(),
            limits: Vec::new(),
            marks: Vec::new(),
        }),
    })
}

/// Which layer is of which kind, where there are several kinds.
fn layers(answer: &InspectAnswer) -> Option<Figure> {
    let mut series: Vec<Series> = Vec::new();
    let mut rows = Vec::new();
    let kinds = [("mixer", (|run| &run.mixer) as fn(&LayerRun) -> &String), ("feed-forward", |run| &run.ffn)];
    for (name, kind) in kinds {
        let known = series.len();
        let mut at: Vec<(usize, usize)> = Vec::new();
        for run in &answer.layers {
            let words = cut(&clean(kind(run)), NAME);
            let found = series[known..].iter().position(|series| series.name == words).map(|at| known + at);
            let place = found.unwrap_or_else(|| {
                series.push(Series::new(words, Tone::Nth(series.len())));
                series.len() - 1
            });
            at.extend(indices(&run.layers)?.into_iter().map(|layer| (layer, place)));
        }
        at.sort_unstable();
        let mut spans: Vec<Span> = Vec::new();
        for (layer, series) in at {
            match spans.last_mut().filter(|last| last.series == series && last.to.total_cmp(&(layer as f64)).is_eq()) {
                Some(last) => last.to = (layer + 1) as f64,
                None => spans.push(Span { from: layer as f64, to: (layer + 1) as f64, series }),
            }
        }
        rows.push(SpanRow { name: name.to_owned(), spans });
    }
    let end = rows.iter().flat_map(|row| &row.spans).map(|span| span.to).fold(0.0, f64::max);
    if series.len() < 3 || series.len() > KINDS || drawable(end).is_none_or(|end| end < 2.0) {
        return None;
    }
    Some(Figure {
        name: "layers".to_owned(),
        title: "Which layers are of which kind?".to_owned(),
        subtitle: model_words(&answer.model),
        caption: "Layers from the first to the last, each with its mixer and its feed-forward block.".to_owned(),
        body: Body::Spans(Spans {
            x: Axis::of("layer", Unit::Count),
            series,
            groups: vec![SpanGroup { title: String::new(), rows }],
        }),
    })
}

/// The layers that `0-2,4` names; nothing where it names too many or is no such list.
fn indices(layers: &str) -> Option<Vec<usize>> {
    let mut found = Vec::new();
    for part in layers.split(',').filter(|part| !part.is_empty()) {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last): (usize, usize) = (first.trim().parse().ok()?, last.trim().parse().ok()?);
        if last < first || last >= LAYERS {
            return None;
        }
        found.extend(first..=last);
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_layers_are_read() {
        for (text, layers) in
            [("0-2,4", Some(vec![0, 1, 2, 4])), ("7", Some(vec![7])), ("2-1", None), ("0-99999999", None), ("x", None)]
        {
            assert_eq!(indices(text), layers, "{text}");
        }
    }
}
