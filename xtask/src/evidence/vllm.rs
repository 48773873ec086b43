//! What does a logged launch of vLLM compare with?

use std::path::Path;

use plimsoll_plan::engine::vllm::{Case, plan};
use plimsoll_plan::interval::{Scale, group_of};
use plimsoll_plan::{Given, Item, Plan, Rank};
use plimsoll_units::Bytes;

use super::fit::quantile;
use super::launch::options;
use super::reasons::reason;
use super::resolve;
use super::row::Row;
use super::sheet::Form;
use super::table::{Outcome, Pair};

/// The campaign whose planner claims 0.89% on weights and 0.34% on KV memory.
const CAMPAIGN: &str = "llm-d-planner#205";

/// Compares one row.
pub fn compare(row: &Row, models: Option<&Path>) -> Outcome {
    let mut outcome = Outcome {
        line: row.line,
        thread: row.thread().to_owned(),
        model: row.text("model").to_owned(),
        gpu: row.text("gpu").to_owned(),
        complete: row.text("row_quality") == "complete",
        reason: reason(row.thread(), &row.words()).map(str::to_owned),
        ..Outcome::default()
    };
    if let Err(error) = fill(row, models, &mut outcome) {
        outcome.unusable = Some(format!("{error:#}"));
    }
    outcome
}

fn fill(row: &Row, models: Option<&Path>, outcome: &mut Outcome) -> anyhow::Result<()> {
    let known = resolve::find(row, models)?;
    // Without utilisation the card decides nothing that is compared.
    let card = match resolve::card(row) {
        Err(_) if row.number("gpu_memory_utilization").is_none() || row.text("gpu").is_empty() => {
            resolve::any_card(row)
        }
        found => found?,
    };
    let assumed = card.name.is_empty() && row.number("total_gpu_memory_gib").is_none();
    let Some((version, inferred)) = row.version() else { anyhow::bail!("the release is not known") };
    outcome.version = version.to_string();
    outcome.gpu = if card.name.is_empty() { "unnamed".to_owned() } else { card.name.clone() };
    outcome.total = card.total.bytes.as_gib();
    outcome.notes.extend(known.note.clone());
    if inferred {
        outcome.notes.push(format!("release {version} inferred"));
    }
    let options = options(row, version)?;
    let planned = |given: &Given| plan(&Case { model: &known.model, card: &card, version, options: &options, given });
    let full = planned(&Given::default())?;
    let first = &full.ranks[0];
    let weights = row.number("weights_gib").filter(|gib| *gib > 0.0);
    outcome.weights = weights.map(|logged| Pair { ours: first.ledger.weights().as_gib(), logged });
    let logged = row.number("kv_cache_gib");
    if let (Some(logged), true) = (logged, row.number("gpu_memory_utilization").is_some() && !assumed) {
        let budget = |plan: &Plan| plan.ranks[0].kv_budget.bytes.as_gib() - plan.ranks[0].short.as_gib();
        outcome.budget = Some(Pair { ours: budget(&full), logged });
        outcome.interval = Some((first.kv_budget.low.as_gib(), first.kv_budget.high.as_gib()));
        group_of(&first.kv_budget.source).clone_into(&mut outcome.group);
        outcome.scale = Some(scale(first, 1.0));
        if let Some(weights) = weights {
            let told = planned(&Given { weights: Some(Bytes::gib(weights)), ..Given::default() })?;
            outcome.estimates = Some(Pair { ours: budget(&told), logged });
        }
    }
    let tokens = row.count("kv_tokens");
    let blocks = row.count("gpu_blocks");
    if assumed {
        outcome
            .notes
            .push("the card is not known: only what follows from the weights and the budget is compared".to_owned());
    } else if let Some(tokens) = tokens {
        let ours = full.kv.logged.kv_tokens.unwrap_or(full.kv.tokens);
        outcome.tokens = Some(Pair { ours: ours as f64, logged: tokens as f64 });
    } else if let Some(blocks) = blocks {
        outcome.tokens = Some(Pair { ours: full.kv.blocks as f64, logged: blocks as f64 });
    }
    if let Some((low, high)) = told_budget(row, &full) {
        let count = |gib: f64| -> Option<u64> {
            let plan = planned(&Given { kv_budget: Some(Bytes::gib(gib)), ..Given::default() }).ok()?;
            if tokens.is_some() { plan.kv.logged.kv_tokens.or(Some(plan.kv.tokens)) } else { Some(plan.kv.blocks) }
        };
        outcome.given = tokens.or(blocks).and_then(|wanted| reachable(low, high, wanted, count));
    }
    if outcome.weights.is_none() && outcome.budget.is_none() && outcome.given.is_none() {
        anyhow::bail!("neither weights, nor budget with utilisation, nor budget with tokens are stated");
    }
    Ok(())
}

/// The scale of a rank's doubt, GiB, as a share of what is left is taken.
pub fn scale(rank: &Rank, share: f64) -> (f64, f64) {
    let fixed = rank.ledger.entries.iter().filter(|entry| !matches!(entry.item, Item::Kv | Item::Reserve));
    let scale = Scale::of(fixed.map(|entry| &entry.size)).times(share);
    (Bytes::from_f64(scale.below).as_gib(), Bytes::from_f64(scale.above).as_gib())
}

/// The interval in which the printed budget was, GiB: of the scarcest rank, where the row gives every rank's share.
fn told_budget(row: &Row, plan: &Plan) -> Option<(f64, f64)> {
    let printed = row.number("kv_cache_gib").filter(|gib| *gib > 0.0)?;
    let words = row.words();
    let most = words.split("per-rank (name,total_non_kv,act,non_torch,weights): ").nth(1).and_then(|text| {
        let shares = text.split(';').filter_map(|rank| rank.split(',').nth(1)?.trim().parse::<f64>().ok());
        shares.max_by(f64::total_cmp)
    });
    match most {
        Some(most) if plan.parallel.pp > 1 => {
            let left = plan.ranks[0].limit.as_gib() - most;
            Some((left - 0.01, left + 0.01))
        }
        Some(_) | None => Some((printed - 0.005, printed + 0.005)),
    }
}

/// Whether a count that never falls takes the value `wanted` between two budgets.
fn reachable(mut low: f64, mut high: f64, wanted: u64, count: impl Fn(f64) -> Option<u64>) -> Option<bool> {
    if count(low)? > wanted || count(high)? < wanted {
        return Some(false);
    }
    for _ in 0..40 {
        let middle = f64::midpoint(low, high);
        match count(middle)?.cmp(&wanted) {
            std::cmp::Ordering::Equal => return Some(true),
            std::cmp::Ordering::Less => low = middle,
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    Some(count(low)? == wanted || count(high)? == wanted)
}

/// The targets: what, how far, the target, and whether it is met.
pub struct Target {
    what: &'static str,
    got: f64,
    target: &'static str,
    /// Whether it is met.
    pub met: bool,
}

impl Target {
    /// A target that is met when `met` holds of a number that exists.
    pub fn new(what: &'static str, got: f64, target: &'static str, met: bool) -> Self {
        Target { what, got, target, met: met && got.is_finite() }
    }
}

/// Sets targets as a table.
pub fn shown(targets: &[Target], form: Form) -> String {
    let rows: Vec<Vec<String>> = targets
        .iter()
        .map(|t| {
            let met = if t.met { "met" } else { "MISSED" };
            match form {
                Form::Text => vec![met.to_owned(), format!("{:.2}", t.got), t.target.to_owned(), t.what.to_owned()],
                Form::Markdown => vec![t.what.to_owned(), format!("{:.2}", t.got), t.target.to_owned(), met.to_owned()],
            }
        })
        .collect();
    let mut text = form.heading("Targets");
    match form {
        Form::Text => {
            for row in rows {
                text.push_str(&format!("{:<6} {:>6} {:>7}  {}\n", row[0], row[1], row[2], row[3]));
            }
        }
        Form::Markdown => text.push_str(&form.table(&["target", "reached", "wanted", ""], &rows)),
    }
    text
}

/// What vLLM's rows must show. Every complete row counts: a reason explains a miss, it does not excuse it.
pub fn targets(rows: &[Outcome]) -> Vec<Target> {
    let used: Vec<&Outcome> = rows.iter().filter(|row| row.unusable.is_none()).collect();
    let campaign: Vec<&Outcome> = used.iter().copied().filter(|row| row.thread.contains(CAMPAIGN)).collect();
    let complete: Vec<&Outcome> = used.into_iter().filter(|row| row.complete).collect();
    let median = |mut values: Vec<f64>| quantile(&mut values, 0.5);
    let mean = |values: Vec<f64>| values.iter().sum::<f64>() / values.len() as f64;
    let weights = median(complete.iter().filter_map(|row| row.weights).map(Pair::percent).collect());
    let share = |row: &&Outcome| row.budget.map(|pair| 100.0 * pair.error() / row.total);
    let budget = median(complete.iter().filter_map(share).collect());
    let tokens = median(complete.iter().filter_map(|row| row.tokens).map(Pair::percent).collect());
    let given: Vec<bool> = complete.iter().filter_map(|row| row.given).collect();
    let equal = 100.0 * given.iter().filter(|equal| **equal).count() as f64 / given.len() as f64;
    let mut targets = vec![
        Target::new("weights, median error of complete rows, %", weights, "<= 0.5", weights <= 0.5),
        Target::new("KV budget, median error of complete rows, % of GPU memory", budget, "<= 1.5", budget <= 1.5),
        Target::new("KV tokens end to end, median error of complete rows, %", tokens, "<= 2", tokens <= 2.0),
        Target::new("KV tokens given the logged budget equal, % of complete rows", equal, ">= 95", equal >= 95.0),
    ];
    if !campaign.is_empty() {
        let weights = mean(campaign.iter().filter_map(|row| row.weights).map(Pair::percent).collect());
        let kv = mean(campaign.iter().filter_map(|row| row.budget).map(Pair::percent).collect());
        targets.push(Target::new(
            "llm-d-planner#205's launches, weights, mean error, %",
            weights,
            "< 0.89",
            weights < 0.89,
        ));
        targets.push(Target::new("llm-d-planner#205's launches, KV memory, mean error, %", kv, "< 0.34", kv < 0.34));
    }
    targets
}
