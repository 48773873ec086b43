//! Which operators run, and what holds each back? Rows of a table, with formulas that have the numbers in.

use plimsoll_cost::{Hardware, Kernel, Math, Operator, Predictor, Shape, Timed, Work, bound};

use super::answer::OperatorAnswer;
use super::words::{scaled, three, time};

/// Returns a step's operators; equal ones in one row.
pub(super) fn rows(predictor: &Predictor, shape: &Shape) -> Vec<OperatorAnswer> {
    let mut merged: Vec<Operator> = Vec::new();
    for operator in predictor.inventory.operators(shape) {
        let same = |known: &&mut Operator| known.name == operator.name && known.kernel == operator.kernel;
        match merged.iter_mut().find(same) {
            Some(known) => known.runs += operator.runs,
            None => merged.push(operator),
        }
    }
    let row = |operator: Operator| {
        let timed = predictor.kernels.time(&operator.kernel, &operator.work);
        answer(&predictor.kernels.hardware, &operator, timed)
    };
    merged.into_iter().map(row).collect()
}

fn answer(card: &Hardware, operator: &Operator, timed: Timed) -> OperatorAnswer {
    let Operator { name, runs, kernel, work } = operator;
    let roofs = card.roofs(operator);
    let bytes = work.read + work.written;
    OperatorAnswer {
        name: name.to_string(),
        family: kernel.family().name().into(),
        runs: *runs,
        shape: shape_words(kernel),
        format: format_words(kernel),
        arithmetic: work.math.name().into(),
        flops: work.flops,
        read_bytes: work.read,
        written_bytes: work.written,
        sent_bytes: bound::sent(kernel),
        intensity_flops_per_byte: (bytes > 0.0).then(|| work.intensity()),
        flops_per_s: (work.flops > 0.0 && timed.seconds > 0.0).then(|| work.flops / timed.seconds),
        bound: roofs.bound(timed.seconds).name().into(),
        ideal_us: roofs.ideal() * 1e6,
        predicted_us: timed.seconds * 1e6,
        step_us: runs * timed.seconds * 1e6,
        basis: timed.basis.name().into(),
        formulas: formulas(card, operator, timed),
    }
}

/// The sizes of a kernel.
fn shape_words(kernel: &Kernel) -> String {
    match *kernel {
        Kernel::Gemm { m, n, k, .. } => format!("m {}, n {n}, k {k}", mean(m)),
        Kernel::ContextAttention { batch, tokens, context, heads, kv_heads, head_dim, window, .. } => format!(
            "{} × {} tokens after {}, {heads}/{kv_heads} heads of {head_dim}{}",
            mean(batch),
            mean(tokens),
            mean(context),
            within(window)
        ),
        Kernel::GenerationAttention { batch, context, heads, kv_heads, head_dim, window, .. } => {
            format!(
                "{} × {} tokens, {heads}/{kv_heads} heads of {head_dim}{}",
                mean(batch),
                mean(context),
                within(window)
            )
        }
        Kernel::ContextLatent { batch, tokens, context, heads, key_dim, value_dim, .. } => format!(
            "{} × {} tokens after {}, {heads} heads of {key_dim} and {value_dim}",
            mean(batch),
            mean(tokens),
            mean(context)
        ),
        Kernel::GenerationLatent { batch, context, heads, rank, rope_dim, .. } => {
            format!("{} × {} tokens, {heads} heads over {rank} + {rope_dim}", mean(batch), mean(context))
        }
        Kernel::LatentProduct { tokens, heads, k, n, .. } => {
            format!("{} tokens, {heads} heads, n {n}, k {k}", mean(tokens))
        }
        Kernel::Moe { tokens, hidden, inter, topk, experts, tp, ep, .. } => {
            format!("{} tokens, {topk} of {experts} experts, {hidden} × {inter}, tp {tp} ep {ep}", mean(tokens))
        }
        Kernel::Recurrent { batch, tokens, key_heads, key_dim, value_heads, value_dim, .. } => {
            format!("{} × {} tokens, {key_heads} × {key_dim}, {value_heads} × {value_dim}", mean(batch), mean(tokens))
        }
        Kernel::Stream { launches } => match launches {
            one if one <= 1.0 => "1 launch".to_owned(),
            several => format!("{} launches", mean(several)),
        },
        Kernel::Collective { kind, bytes, ranks, across } => {
            let place = if across { ", between machines" } else { "" };
            format!("{} of {} over {ranks} ranks{place}", kind.name(), scaled(bytes, "B"))
        }
    }
}

/// How a kernel's matrix or cache is stored.
fn format_words(kernel: &Kernel) -> String {
    match kernel {
        Kernel::Gemm { format, .. } | Kernel::LatentProduct { format, .. } | Kernel::Moe { format, .. } => {
            format.name().into_owned()
        }
        Kernel::ContextAttention { kv_bytes, .. }
        | Kernel::GenerationAttention { kv_bytes, .. }
        | Kernel::ContextLatent { kv_bytes, .. }
        | Kernel::GenerationLatent { kv_bytes, .. } => format!("{}-bit cache", mean(kv_bytes * 8.0)),
        Kernel::Recurrent { .. } | Kernel::Stream { .. } | Kernel::Collective { .. } => String::new(),
    }
}

/// A count, which may be a mean.
fn mean(value: f64) -> String {
    if value.fract().abs() < 1e-9 && value.abs() < 1e15 { format!("{value:.0}") } else { format!("{value:.2}") }
}

fn within(window: Option<u32>) -> String {
    window.map(|window| format!(" within {window}")).unwrap_or_default()
}

/// How an operator's figures come about: operations, bytes, roofs, prediction.
fn formulas(card: &Hardware, operator: &Operator, timed: Timed) -> Vec<String> {
    let Operator { kernel, work, .. } = operator;
    let mut lines = Vec::new();
    let (flops, bytes) = symbols(kernel);
    if work.flops > 0.0 {
        lines.push(format!("operations = {flops} = {}", scaled(work.flops, "FLOP")));
    }
    if work.read + work.written > 0.0 {
        let (read, written) = (scaled(work.read, "B"), scaled(work.written, "B"));
        lines.push(format!("bytes = {bytes} = {read} read + {written} written"));
    }
    lines.push(ideal(card, operator, work));
    let roofs = card.roofs(operator);
    let over = match roofs.ideal() {
        ideal if ideal > 0.0 => format!(", {} × the ideal", three(timed.seconds / ideal)),
        _ => String::new(),
    };
    lines.push(format!("predicted = {} ({}){over}", time(timed.seconds), timed.basis.name()));
    lines
}

/// The roofs of an operator in numbers.
fn ideal(card: &Hardware, operator: &Operator, work: &Work) -> String {
    let roofs = card.roofs(operator);
    let mut terms = Vec::new();
    if work.flops > 0.0 {
        let peak = scaled(card.peak(work.math), "FLOP/s");
        terms.push(format!("{} / {peak} ({})", scaled(work.flops, "FLOP"), work.math.name()));
    }
    if work.read + work.written > 0.0 {
        terms.push(format!("{} / {}", scaled(work.read + work.written, "B"), scaled(card.bandwidth, "B/s")));
    }
    if let (Some(rate), sent) = (card.road(&operator.kernel), bound::sent(&operator.kernel))
        && sent > 0.0
    {
        terms.push(format!("{} / {}", scaled(sent, "B"), scaled(rate, "B/s")));
    }
    match terms.as_slice() {
        [] => format!("ideal = {}", time(roofs.ideal())),
        [one] => format!("ideal = {one} = {}", time(roofs.ideal())),
        several => format!("ideal = max({}) = {}", several.join(", "), time(roofs.ideal())),
    }
}

/// The formulas of a kernel's operations and bytes in symbols.
const fn symbols(kernel: &Kernel) -> (&'static str, &'static str) {
    match kernel {
        Kernel::Gemm { .. } => ("2 m n k", "matrix n k + inputs m k, outputs m n"),
        Kernel::ContextAttention { .. } => (
            "4 × heads × width × pairs of a token and one that it sees",
            "queries, keys and values of what is seen; outputs",
        ),
        Kernel::GenerationAttention { .. } => {
            ("4 × heads × width × tokens seen", "keys and values of the tokens seen, queries; outputs")
        }
        Kernel::ContextLatent { .. } => (
            "2 × heads × (key + value width) × pairs of a token and one that it sees",
            "queries, keys and values of what is seen; outputs",
        ),
        Kernel::GenerationLatent { .. } => {
            ("2 × heads × (2 × rank + rope) × tokens seen", "latents of the tokens seen, queries; outputs")
        }
        Kernel::LatentProduct { .. } => ("2 × tokens × heads × n k", "matrices of all heads, inputs; outputs"),
        Kernel::Moe { .. } => (
            "2 × tokens × experts per token × matrices of an expert",
            "matrices of the experts that some token is sent to, inputs; outputs",
        ),
        Kernel::Recurrent { .. } => ("of the recurrence", "states and inputs; states and outputs"),
        Kernel::Stream { .. } => ("of each number", "numbers read and written"),
        Kernel::Collective { .. } => ("sums", "buffers"),
    }
}

/// Returns the arithmetic of the card that has a peak, with it.
pub(super) fn peaks(card: &Hardware) -> Vec<(Math, f64)> {
    Math::ALL.into_iter().filter_map(|math| card.peaks[math as usize].map(|peak| (math, peak))).collect()
}
