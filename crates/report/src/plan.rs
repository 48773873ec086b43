//! Does it fit, as text? The head, the ledger of the scarcest rank, the KV cache, the verdict, the command.

use plimsoll_api::PlanAnswer;
use plimsoll_api::answer::{EntryAnswer, GpuHead, ModelHead, ParallelHead, RankAnswer, RemedyAnswer};

use crate::number::{count, interval, percent, short, signed, size, three};
use crate::page::{Style, bar, clean, left, right, wrap, wrap_command};

/// Remedies shown at most.
const REMEDIES: usize = 3;

/// Shows a plan.
pub fn plan_table(answer: &PlanAnswer, style: Style) -> String {
    let mut out = format!("{}\n{}\n", style.bold(&model_line(answer)), place_line(answer));
    if let Some(rank) = answer.ranks.get(answer.scarcest) {
        out.push('\n');
        out.push_str(&ledger(answer, rank, style));
    }
    out.push_str(&devices(answer, style));
    out.push('\n');
    out.push_str(&cache(answer, style));
    out.push('\n');
    out.push_str(&verdict(answer, style));
    if !answer.launch.is_empty() {
        out.push_str(&format!("\n{}\n{}", style.bold("Launch"), wrap_command(&answer.launch, style.width)));
    }
    out.push_str(&list("Assumptions", &answer.assumptions, style));
    out.push_str(&list("Notes", &answer.notes, style));
    out
}

/// The model: name, parameters, format.
pub(crate) fn model_line(answer: &PlanAnswer) -> String {
    model_words(&answer.model)
}

/// A model: name, parameters, format.
pub(crate) fn model_words(model: &ModelHead) -> String {
    let active = if model.active_parameters < model.parameters {
        format!(" ({} active)", short(model.active_parameters))
    } else {
        String::new()
    };
    let format = match &model.quantization {
        // A file that is made up here: its type says all.
        Some(method) if method.ends_with(", derived") => method.clone(),
        Some(method) => format!("{method} over {}", model.dtype),
        None => model.dtype.to_string(),
    };
    clean(&format!("{}: {} parameters{active}, {format}", model.id, short(model.parameters)))
}

/// The engine, the cards, the parallelism.
pub(crate) fn place_line(answer: &PlanAnswer) -> String {
    place_words(&format!("{} {}", answer.engine.name, answer.engine.version), &answer.gpu, answer.parallel)
}

/// An engine on cards, and how a model is divided over them.
pub(crate) fn place_words(engine: &str, gpu: &GpuHead, parallel: ParallelHead) -> String {
    place_words_of(engine, gpu, &gpu.count.to_string(), parallel)
}

/// The same for so many cards: `4`, `1 to 8`.
pub(crate) fn place_words_of(engine: &str, gpu: &GpuHead, cards: &str, parallel: ParallelHead) -> String {
    let kinds = [("tp", parallel.tp), ("pp", parallel.pp), ("dp", parallel.dp), ("ep", parallel.ep)];
    let kinds: Vec<String> =
        kinds.iter().filter(|(_, ranks)| *ranks > 1).map(|(kind, ranks)| format!("{kind} {ranks}")).collect();
    let kinds = if kinds.is_empty() { String::new() } else { format!(", {}", kinds.join(" ")) };
    let total = format!(" of {}", size(gpu.total_bytes));
    let name = gpu.name.trim_end_matches(&total);
    if name.contains(" + ") {
        return clean(&format!("{engine} on {name}{kinds}"));
    }
    clean(&format!("{engine} on {cards} × {name}{total}{kinds}"))
}

/// The ledger of one rank, with bars over the card.
fn ledger(answer: &PlanAnswer, rank: &RankAnswer, style: Style) -> String {
    let card = rank.card_bytes;
    let which = if let (Some(device), true) = (&rank.device, answer.ranks.len() > 1) {
        format!("Memory of the scarcest device, {}", clean(device))
    } else if answer.ranks.len() > 1 {
        format!("Memory of the scarcest rank (pp {}, tp {})", rank.pp_rank, rank.tp_rank)
    } else {
        "Memory".to_owned()
    };
    let head = format!("{}{}{}{}", left(&which, 38), right("size", 9), right("90% interval", 20), right("card", 8));
    let mut out = style.bold(head.trim_end()) + "\n";
    for entry in rank.entries.iter().filter(|entry| entry.bytes > 0 || entry.high > 0) {
        out.push_str(&ledger_line(entry, card, style));
    }
    let total = |name: &str, bytes: u64| {
        format!("  {}{}{}\n", left(name, 20), right(&size(bytes), 11), right(&percent(bytes, card), 28))
    };
    out.push_str(&format!("  {}\n", style.faint(&"─".repeat(59))));
    out.push_str(&total("sum", rank.total_bytes));
    out.push_str(&total("engine's limit", rank.limit_bytes));
    out.push_str(&total("card", card));
    out
}

/// One line per device where they are named and there are several, and what lies in the host's memory.
fn devices(answer: &PlanAnswer, style: Style) -> String {
    let named: Vec<&RankAnswer> = answer.ranks.iter().filter(|rank| rank.device.is_some()).collect();
    let host = answer.host.as_ref().filter(|host| host.total_bytes > 0);
    let several = named.len() > 1;
    let mut out = String::new();
    if several {
        let head = format!("\n{}{}{}{}", left("Devices", 38), right("used", 11), right("card", 11), right("left", 11));
        out.push_str(&(style.bold(&head) + "\n"));
        for rank in named {
            let name =
                [rank.device.as_deref(), rank.card.as_deref()].into_iter().flatten().collect::<Vec<_>>().join("  ");
            let free = i128::from(rank.card_bytes) - i128::from(rank.total_bytes);
            let free = signed(i64::try_from(free).unwrap_or(i64::MAX));
            let (used, card) = (size(rank.total_bytes), size(rank.card_bytes));
            out.push_str(&format!(
                "  {}{}{}{}\n",
                left(&clean(&name), 36),
                right(&used, 11),
                right(&card, 11),
                right(&free, 11)
            ));
        }
    }
    if let Some(host) = host {
        let lead = if several { String::new() } else { "\n".to_owned() };
        let parts: Vec<String> =
            host.entries.iter().map(|entry| format!("{} {}", clean(&entry.item), size(entry.bytes))).collect();
        let words = format!("{}: {}", size(host.total_bytes), parts.join(", "));
        out.push_str(&lead);
        out.push_str(&wrap(if several { "  host  " } else { "Host memory  " }, &words, style.width));
    }
    out
}

fn ledger_line(entry: &EntryAnswer, card: u64, style: Style) -> String {
    let name = left(&clean(&entry.item), 20);
    let interval = right(&interval(entry.bytes, entry.low, entry.high), 20);
    let line = format!("  {name}{}{interval}{}", right(&size(entry.bytes), 11), right(&percent(entry.bytes, card), 8));
    let bar = style.faint(&bar(entry.bytes, card, 16));
    format!("{line}  {bar}").trim_end().to_owned() + "\n"
}

/// The KV cache's capacity, as name, number, explanation.
pub(crate) fn cache_facts(answer: &PlanAnswer) -> Vec<(&'static str, String, String)> {
    let kv = &answer.kv;
    let asked = count(kv.concurrency_at_tokens);
    let interval = interval(kv.budget_bytes, kv.budget_low, kv.budget_high);
    let interval = if interval.is_empty() { interval } else { format!("{interval} in nine of ten launches") };
    let devices = answer.ranks.iter().any(|rank| rank.device.is_some());
    let everywhere = if devices { "all layers, all devices together" } else { "on each rank, all layers" };
    let mut facts = vec![
        ("capacity", count(kv.tokens), format!("tokens: {} blocks of {}", count(kv.blocks), kv.block_tokens)),
        ("a token", size(kv.bytes_per_token), everywhere.to_owned()),
        ("budget", size(kv.budget_bytes), interval),
        ("concurrency", three(kv.max_concurrency), format!("requests of {asked} tokens at once")),
        ("longest context", count(answer.max_context_tokens), "tokens for one request alone".to_owned()),
    ];
    // Where buffers belong to devices every group has cells of its own, and the longest tells.
    let each = kv.groups.iter().map(|group| group.blocks_per_request);
    let blocks = each.fold(0, |sum: u64, blocks| if devices { sum.max(blocks) } else { sum.saturating_add(blocks) });
    if blocks > 0 {
        let share = match percent(blocks, kv.blocks).as_str() {
            "" => String::new(),
            share => format!(", {share} of them"),
        };
        facts.push(("one request", count(blocks), format!("blocks for {} tokens{share}", count(answer.max_model_len))));
    }
    facts
}

fn cache(answer: &PlanAnswer, style: Style) -> String {
    let mut out = style.bold("KV cache") + "\n";
    for (name, number, words) in cache_facts(answer) {
        out.push_str(format!("  {}{}  {words}", left(name, 16), right(&number, 12)).trim_end());
        out.push('\n');
    }
    if answer.kv.groups.len() > 1 {
        for group in &answer.kv.groups {
            let words = format!(
                "{} × {}: blocks of {} tokens, {} a page, {} blocks a request",
                group.layers,
                group.kind,
                count(group.block_tokens),
                size(group.page_bytes),
                count(group.blocks_per_request)
            );
            out.push_str(&wrap("  group           ", &words, style.width));
        }
    }
    for line in &answer.kv.logged.lines {
        out.push_str(&wrap("  log: ", line, style.width));
    }
    out
}

/// The verdict in one line.
pub(crate) fn verdict_line(answer: &PlanAnswer) -> String {
    let verdict = &answer.verdict;
    if borderline(answer) {
        let left = verdict.margin.bytes;
        let bytes = size(left.unsigned_abs());
        let estimated = if left < 0 { format!("short by {bytes}") } else { format!("{bytes} to spare") };
        return format!("BORDERLINE: {estimated} as estimated");
    }
    if verdict.fits {
        let spare = verdict.spare_bytes.map(|bytes| format!(": {} to spare", size(bytes))).unwrap_or_default();
        return format!("FITS{spare}");
    }
    let short = verdict.short_by_bytes.map(|bytes| format!(": short by {}", size(bytes))).unwrap_or_default();
    let binding = verdict.binding.as_ref().map(|what| format!(", bound by {}", clean(what))).unwrap_or_default();
    if verdict.binding.as_deref() == Some("gpus") {
        let gpus = format!("takes {} GPUs, more than there are", answer.gpu.count);
        let short =
            if verdict.short_by_bytes.is_some_and(|bytes| bytes > 0) { format!("{short}, and") } else { ":".into() };
        return format!("DOES NOT FIT{short} {gpus}");
    }
    format!("DOES NOT FIT{short}{binding}")
}

fn borderline(answer: &PlanAnswer) -> bool {
    answer.verdict.state == "borderline"
}

/// What a borderline verdict means, and what follows.
pub(crate) fn doubt(answer: &PlanAnswer) -> Option<String> {
    if !borderline(answer) {
        return None;
    }
    let margin = answer.verdict.margin;
    let next = match (answer.verdict.fits, answer.verdict.remedies.is_empty()) {
        (_, true) => "The engine's own log decides.",
        (true, false) => "What would make it safe:",
        (false, false) => "What would help:",
    };
    let (low, high) = (signed(margin.low), signed(margin.high));
    Some(format!("Nine of ten such launches have {low} to {high} to spare: it may start or not. {next}"))
}

/// A remedy with its outcome.
pub(crate) fn remedy_words(remedy: &RemedyAnswer) -> String {
    let flags = if remedy.flags.is_empty() { String::new() } else { format!(" ({})", remedy.flags.join(" ")) };
    let outcome = if remedy.fits {
        let (tokens, context) = (count(remedy.kv_tokens), count(remedy.max_context_tokens));
        format!("fits, {tokens} tokens of KV cache, longest context {context}")
    } else {
        "still does not fit".to_owned()
    };
    let cost = if remedy.cost.is_empty() { String::new() } else { format!("; costs {}", remedy.cost) };
    clean(&format!("{}{flags}: {outcome}{cost}", remedy.change))
}

fn verdict(answer: &PlanAnswer, style: Style) -> String {
    let line = verdict_line(answer);
    let sure = answer.verdict.fits && !borderline(answer);
    let mut out = wrap("", &line, style.width);
    if style.color {
        let end = if sure { style.good(out.trim_end()) } else { style.bad(out.trim_end()) };
        out = end + "\n";
    }
    if let Some(refusal) = &answer.verdict.refusal {
        let would = if borderline(answer) { "  the engine would say: " } else { "  the engine will say: " };
        out.push_str(&wrap(would, refusal, style.width));
    }
    if let Some(words) = doubt(answer) {
        out.push_str(&wrap("  ", &words, style.width));
    }
    for (at, remedy) in answer.verdict.remedies.iter().take(REMEDIES).enumerate() {
        out.push_str(&wrap(&format!("  {}. ", at + 1), &remedy_words(remedy), style.width));
    }
    out
}

fn list(title: &str, items: &[String], style: Style) -> String {
    if items.is_empty() {
        return String::new();
    }
    let items: String = items.iter().map(|item| wrap("  - ", item, style.width)).collect();
    format!("\n{}\n{items}", style.bold(title))
}
