//! What would change if the launch were another, as tables?

use plimsoll_api::RooflineAnswer;
use plimsoll_api::roofline::answer::{DisaggregatedAnswer, FormatAnswer, LinkAnswer, SpeculativeAnswer, SplitAnswer};

use crate::number::{count, size};
use crate::simulate::three;

/// A table: its title, its heads, which of its columns are numbers, its rows.
pub(crate) struct Table {
    pub(crate) title: String,
    pub(crate) heads: Vec<String>,
    pub(crate) numeric: Vec<bool>,
    pub(crate) rows: Vec<Vec<String>>,
    /// What its heads mean.
    pub(crate) key: &'static str,
}

/// The tables of what was asked.
pub(crate) fn tables(answer: &RooflineAnswer) -> Vec<Table> {
    let asked = &answer.what_if;
    let found = [
        splits(&asked.parallel),
        formats(&asked.formats),
        speculative(&asked.speculative),
        transfers(&asked.disaggregated),
        balance(&asked.disaggregated),
    ];
    found.into_iter().flatten().collect()
}

fn table(title: &str, heads: &[&str], rows: Vec<Vec<String>>, key: &'static str) -> Option<Table> {
    let words = ["weights"];
    (!rows.is_empty()).then(|| Table {
        title: title.to_owned(),
        heads: heads.iter().map(|head| (*head).to_owned()).collect(),
        numeric: heads.iter().map(|head| !words.contains(head)).collect(),
        rows,
        key,
    })
}

/// A link's name in a column's head.
fn short(link: &LinkAnswer) -> &str {
    if link.link.starts_with("PCI") {
        "PCIe"
    } else if link.link.contains("etwork") {
        "net"
    } else {
        link.link.split(' ').next().unwrap_or_default()
    }
}

fn splits(rows: &[SplitAnswer]) -> Option<Table> {
    let first = rows.first()?;
    let mut heads = vec!["tp", "pp", "batch", "GiB", "a layer", "MB"];
    heads.extend(first.links.iter().map(short));
    heads.extend(["decode", "tokens/s", "prompt"]);
    let cells = |row: &SplitAnswer| {
        let place = [row.tp.to_string(), row.pp.to_string(), count(u64::from(row.batch))];
        let told = [three(row.weights_bytes / GIB), three(row.messages_per_layer), three(row.sent_bytes / 1e6)];
        let times = [three(row.decode_ms), three(row.tokens_per_s), three(row.prefill_ms)];
        place.into_iter().chain(told).chain(row.links.iter().map(|link| three(link.ms))).chain(times).collect()
    };
    table(
        "What if: tensor against pipeline parallel",
        &heads,
        rows.iter().map(cells).collect(),
        "GiB: weights of a rank; a layer: messages per layer in a decode step; MB: sent by a rank in it; then the \
         messages' ms over each link in a ring, the decode step and a prompt alone in ms as predicted over the launch's own",
    )
}

/// Bytes of a GiB.
const GIB: f64 = 1_073_741_824.0;

fn formats(rows: &[FormatAnswer]) -> Option<Table> {
    let cells = |row: &FormatAnswer| {
        let times = |ms: f64, speed: f64| [three(ms), format!("{}×", three(speed))];
        let mut cells = vec![
            format!("{}{}", row.weights, if row.native { "" } else { "*" }),
            three(row.kv_bits).trim_end_matches(".0").trim_end_matches(".00").to_owned(),
            count(u64::from(row.batch)),
            three(row.weights_bytes / GIB),
            three(row.kv_tokens),
        ];
        cells.extend(times(row.decode_ms, row.decode_speed_up));
        cells.extend(times(row.prefill_ms, row.prefill_speed_up));
        cells
    };
    table(
        "What if: other formats",
        &["weights", "KV bits", "batch", "GiB", "KV tokens", "decode", "speed", "prompt", "speed"],
        rows.iter().map(cells).collect(),
        "GiB: weights of a rank; decode: a step in ms; prompt: one alone in ms; speed: against the launch's own; *: the \
         card lacks the arithmetic, products run in 16 bits",
    )
}

fn speculative(rows: &[SpeculativeAnswer]) -> Option<Table> {
    let first = rows.first()?;
    let cells = |row: &SpeculativeAnswer| {
        vec![
            count(u64::from(row.batch)),
            count(u64::from(row.context)),
            three(row.tokens_per_step),
            three(row.plain_ms),
            three(row.draft_ms),
            three(row.verify_ms),
            three(row.tpot_ms),
            format!("{}×", three(row.speed_up)),
            row.break_even.map_or_else(|| "never".to_owned(), three),
            format!("{} ({}×)", row.best_drafted, three(row.best_speed_up)),
        ]
    };
    let title = format!(
        "What if: speculative decoding, {} tokens at {} by {}",
        first.drafted,
        three(first.acceptance),
        first.drafter
    );
    table(
        &title,
        &["batch", "context", "tokens", "step", "drafts", "check", "TPOT", "speed", "pays from", "best"],
        rows.iter().map(cells).collect(),
        "tokens: of a step and sequence in the mean; step, drafts, check, TPOT: ms; pays from: the acceptance above which \
         it does; best: tokens to draft, and the speed-up then",
    )
}

fn transfers(rows: &[DisaggregatedAnswer]) -> Option<Table> {
    let first = rows.first()?;
    let mut heads = vec!["context".to_owned(), "cache".to_owned()];
    for link in &first.links {
        heads.extend([short(link).to_owned(), "shows".to_owned()]);
    }
    heads.push("prompt".to_owned());
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let cells = |row: &DisaggregatedAnswer| {
        let mut cells = vec![count(u64::from(row.context)), size(row.transfer_bytes as u64)];
        for link in &row.links {
            cells.extend([three(link.ms), link.exposed_ms.map_or_else(String::new, three)]);
        }
        cells.push(three(row.prefill_ms));
        cells
    };
    let batch = first.batch;
    table(
        "What if: prefill and decoding on separate cards, the cache on its way",
        &heads,
        rows.iter().filter(|row| row.batch == batch).map(cells).collect(),
        "cache: of one prompt on a rank; then ms over each link, and what of it shows when layers are sent as they are \
         computed; prompt: its prefill in ms",
    )
}

fn balance(rows: &[DisaggregatedAnswer]) -> Option<Table> {
    let first = rows.first()?;
    let cells = |row: &DisaggregatedAnswer| {
        vec![
            count(u64::from(row.context)),
            count(u64::from(row.batch)),
            three(row.prefill_ms),
            three(row.decode_ms),
            three(row.workers),
            three(row.requests_per_s),
        ]
    };
    table(
        &format!("What if: separate cards, answers of {} tokens", count(u64::from(first.output))),
        &["context", "batch", "prompt", "decode", "prefill per decode worker", "requests/s"],
        rows.iter().map(cells).collect(),
        "prompt, decode: ms; workers at which neither kind waits, each of as many cards as the launch; requests/s: of one \
         decode worker",
    )
}
