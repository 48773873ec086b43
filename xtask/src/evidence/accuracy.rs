//! What does the accuracy page say? Everything from the logged launches, written by one command; medians may not get worse
//! than those that are committed beside it.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::bands::{Measured, NOMINAL, Scored, covered, measure};
use super::figures::{Held, Strip, coverage, strips};
use super::fit::quantile;
use super::sheet::{Form, number, spread};
use super::table::{Outcome, Pair, groups};
use super::{Compared, FILES, buffers_section, compared, read};

/// Where the page, its figures and the medians stand.
const PAGE: &str = "docs/accuracy.md";
const FIGURES: &str = "docs/figures";
const MEDIANS: &str = "docs/accuracy.json";
/// How the page opens.
const OPENING: &str = include_str!("page.md");
/// By how much a median may differ before it counts as worse: a share of it, and a number of its unit.
const TOLERANCE: (f64, f64) = (0.05, 0.02);

/// What the command does with what it finds.
#[derive(Clone, Copy, Debug)]
pub struct Mode {
    /// Only compares with what is committed.
    pub check: bool,
    /// Takes worse medians for the new baseline.
    pub accept: bool,
}

/// One engine's numbers of one kind.
struct Component {
    name: &'static str,
    of: fn(&Outcome) -> Option<f64>,
}

/// What is measured of a launch. Errors are absolute.
const COMPONENTS: [Component; 4] = [
    Component { name: "weights, %", of: |row| row.weights.map(Pair::percent) },
    Component {
        name: "KV budget, % of GPU memory",
        of: |row| row.budget.filter(|_| row.total > 0.0).map(|pair| 100.0 * pair.error() / row.total),
    },
    Component { name: "KV tokens, %", of: |row| row.tokens.map(Pair::percent) },
    Component { name: "sequences, %", of: |row| row.sequences.map(Pair::percent) },
];

/// One file's comparison with its residuals.
struct Engine {
    compared: Compared,
    residuals: Vec<Scored>,
}

/// Writes or checks the page, its figures and the medians; true when all stand and no median is worse.
///
/// # Errors
/// When a file cannot be read or written.
pub fn run(folder: &Path, mode: Mode) -> Result<bool> {
    let models = folder.parent().map(|data| data.join("models")).filter(|models| models.is_dir());
    let (mut engines, mut others, mut sections) = (Vec::new(), Vec::new(), String::new());
    for file in FILES {
        let path = folder.join(file);
        let rows = read(&path)?;
        let (all, left) = compared(&path, &rows, models.as_deref());
        if left > 0 {
            others.push(format!("{left} rows of {file} are of an engine whose planner is not compared with logs yet."));
        }
        sections.push_str(&buffers_section(file, &rows));
        for one in all {
            let residuals = one.residuals(&rows, models.as_deref());
            engines.push(Engine { compared: one, residuals });
        }
    }
    let medians = medians(&engines);
    let (kept, good) = judged(&medians, mode)?;
    let mut files = figures(&engines);
    files.push((PAGE.to_owned(), page(&engines, &others) + &sections));
    files.push((MEDIANS.to_owned(), serde_json::to_string_pretty(&kept)? + "\n"));
    Ok(settle(&files, mode)? && good)
}

/// Writes the files, or says which are not as they would be written.
fn settle(files: &[(String, String)], mode: Mode) -> Result<bool> {
    let mut same = true;
    for (path, text) in files {
        if !mode.check {
            fs::write(path, text).with_context(|| path.clone())?;
        } else if fs::read_to_string(path).with_context(|| path.clone())? != *text {
            eprintln!("{path} is not what `cargo xtask accuracy` would write");
            same = false;
        }
    }
    Ok(same)
}

/// Medians by engine and component.
fn medians(engines: &[Engine]) -> BTreeMap<String, f64> {
    let mut all = BTreeMap::new();
    for engine in engines {
        for component in &COMPONENTS {
            let mut errors = errors(&engine.compared.outcomes, component);
            if !errors.is_empty() {
                let median = (quantile(&mut errors, 0.5) * 1000.0).round() / 1000.0;
                all.insert(format!("{} {}: {}", engine.compared.engine, engine.compared.file, component.name), median);
            }
        }
    }
    all
}

/// Holds medians against the committed ones: better ones replace them, worse ones only when accepted.
fn judged(found: &BTreeMap<String, f64>, mode: Mode) -> Result<(BTreeMap<String, f64>, bool)> {
    let stands: BTreeMap<String, f64> = match fs::read_to_string(MEDIANS) {
        Ok(text) => serde_json::from_str(&text).context(MEDIANS)?,
        Err(_) => BTreeMap::new(),
    };
    let (mut kept, mut good) = (found.clone(), true);
    for (name, base) in &stands {
        let Some(median) = found.get(name) else {
            if !mode.accept {
                eprintln!("{name}: no row gives it any more; it stood at {base}");
                kept.insert(name.clone(), *base);
                good = false;
            }
            continue;
        };
        if *median > base * (1.0 + TOLERANCE.0) + TOLERANCE.1 && !mode.accept {
            eprintln!("{name}: the median error is {median}, and stood at {base}");
            good = false;
        }
        if *median > *base && !mode.accept {
            kept.insert(name.clone(), *base);
        }
    }
    Ok((kept, good))
}

/// The errors of a component; of complete rows where a file has such.
fn errors(rows: &[Outcome], component: &Component) -> Vec<f64> {
    let complete = rows.iter().any(|row| row.complete);
    let used = rows.iter().filter(|row| row.unusable.is_none() && !row.undetermined && (row.complete || !complete));
    used.filter_map(component.of).collect()
}

/// The page.
fn page(engines: &[Engine], others: &[String]) -> String {
    let form = Form::Markdown;
    let mut text = OPENING.to_owned();
    text.push_str("\n## At a glance\n\n");
    let rows: Vec<Vec<String>> = engines.iter().flat_map(|engine| glance(&engine.compared)).collect();
    text.push_str(&form.table(&["engine, file", "what", "launches", "median / 90%"], &rows));
    for line in others {
        text.push_str(&form.line(line));
    }
    text.push_str(
        "\n![Errors by engine](figures/accuracy-engines.svg)\n\n![vLLM's by release](figures/accuracy-vllm.svg)\n",
    );
    text.push_str("\n![TensorRT-LLM's by release and card](figures/accuracy-trtllm.svg)\n");
    text.push_str(&intervals(engines));
    text.push_str(&wrong(engines));
    for engine in engines {
        let one = &engine.compared;
        text.push_str(&format!("\n## {}, {}\n\n", one.engine, one.file));
        text.push_str(&(one.report)(&one.outcomes, form, false));
        text.push_str(&super::vllm::shown(&one.targets, form));
    }
    text
}

fn glance(one: &Compared) -> Vec<Vec<String>> {
    let rows = COMPONENTS.iter().filter_map(|component| {
        let errors = errors(&one.outcomes, component);
        let launches = errors.len();
        (launches > 0).then(|| {
            vec![
                format!("{}, {}", one.engine, one.file),
                component.name.to_owned(),
                launches.to_string(),
                spread(errors),
            ]
        })
    });
    rows.collect()
}

/// How intervals hold.
fn intervals(engines: &[Engine]) -> String {
    let mut rows = Vec::new();
    for engine in engines.iter().filter(|engine| !engine.residuals.is_empty()) {
        rows.extend(measure(&engine.residuals).iter().map(|group| held(engine.compared.engine, group)));
    }
    let head = ["launches of", "launches", "units", "factor", "inside", "median width, % of GPU"];
    format!(
        "\n## Do the intervals hold?\n\nThe KV budget's interval is promised to hold nine of ten launches. Each launch below is \
         predicted, and its factor taken, without its own unit: its thread, or in a sweep of {} or more models its thread's \
         launches of that model. Rows that are wrong themselves, and launches whose deciding flags are not stated, are left \
         out here (and listed below). The method: [Intervals](formulas/intervals.md).\n\n{}\n\
         ![Promised and held](figures/accuracy-intervals.svg)\n",
        super::bands::SWEEP,
        Form::Markdown.table(&head, &rows)
    )
}

fn held(engine: &str, group: &Measured) -> Vec<String> {
    let name = if group.group.is_empty() { "all" } else { &group.group };
    vec![
        format!("{engine}: {name}"),
        group.launches.to_string(),
        group.units.to_string(),
        if group.own { number(group.factor) } else { "the engine's".to_owned() },
        format!("{} ({:.0}%)", group.inside, 100.0 * group.inside as f64 / group.launches.max(1) as f64),
        number(group.width),
    ]
}

/// The rows whose own numbers are wrong.
fn wrong(engines: &[Engine]) -> String {
    let mut text =
        "\n## Rows where the evidence itself is wrong\n\nThey count in the error tables; the intervals are not \
                    fitted on them.\n\n"
            .to_owned();
    for engine in engines {
        for row in engine.compared.outcomes.iter().filter(|row| row.wrong()) {
            let why = row.reason.as_deref().unwrap_or_default().trim_start_matches(super::table::WRONG);
            let line = format!("{}, row {}, {} ({}): {why}", engine.compared.file, row.line, row.model, row.thread);
            text.push_str(&Form::Markdown.line(&line));
        }
    }
    text
}

/// Every figure with its path.
fn figures(engines: &[Engine]) -> Vec<(String, String)> {
    let path = |name: &str| format!("{FIGURES}/accuracy-{name}.svg");
    let mut all = vec![(path("engines"), by_engine(engines)), (path("intervals"), by_share(engines))];
    for (engine, name) in [("vllm", "vllm"), ("tensorrt-llm", "trtllm")] {
        let rows: Vec<&Outcome> =
            engines.iter().filter(|e| e.compared.engine == engine).flat_map(|e| &e.compared.outcomes).collect();
        let title = format!("How far off is the KV budget of {engine}, by release and card?");
        all.push((path(name), by_release(&title, &rows)));
    }
    all
}

fn by_engine(engines: &[Engine]) -> String {
    let mut rows = Vec::new();
    for (colour, engine) in engines.iter().enumerate() {
        for component in &COMPONENTS {
            let errors = errors(&engine.compared.outcomes, component);
            if !errors.is_empty() {
                let name = component.name.replace(", %", "").replace(" of GPU memory", "");
                rows.push(Strip { name: format!("{}: {name}", engine.compared.engine), errors, colour });
            }
        }
    }
    let caption = "Absolute errors of logged launches, each a dot; budgets in percent of GPU memory, the rest of what was\n\
                   logged. Complete rows where a file marks them. In brackets: launches.";
    strips("How far off is the plan, engine by engine?", caption, &rows)
}

fn by_release(title: &str, rows: &[&Outcome]) -> String {
    let budgets: Vec<&Outcome> =
        rows.iter().copied().filter(|row| row.unusable.is_none() && row.budget.is_some()).collect();
    let share = |row: &Outcome| row.budget.map_or(0.0, |pair| 100.0 * pair.error() / row.total.max(1.0));
    let mut strips_of = Vec::new();
    let kinds = [
        ("releases of one launch", groups(&budgets, |row| row.version.clone())),
        ("cards of one launch", groups(&budgets, |row| row.gpu.clone())),
    ];
    for (colour, (single, by)) in kinds.into_iter().enumerate() {
        let mut alone = Vec::new();
        for (name, of) in by {
            let errors: Vec<f64> = of.iter().map(|row| share(row)).collect();
            if errors.len() > 1 {
                strips_of.push(Strip { name, errors, colour });
            } else {
                alone.extend(errors);
            }
        }
        if !alone.is_empty() {
            strips_of.push(Strip { name: single.to_owned(), errors: alone, colour });
        }
    }
    let caption = "Absolute errors of every usable row with a logged budget, percent of GPU memory: by release (blue), then\n\
                   by card (orange). In brackets: launches.";
    strips(title, caption, &strips_of)
}

fn by_share(engines: &[Engine]) -> String {
    let mut lines = Vec::new();
    for engine in engines.iter().filter(|engine| engine.residuals.len() >= 10) {
        let rows: Vec<&Scored> = engine.residuals.iter().collect();
        let shares = [0.5, 0.6, 0.7, 0.8, NOMINAL, 0.95]
            .map(|share| (share, covered(&engine.residuals, &rows, share) as f64 / rows.len() as f64));
        let name = format!("{} ({} launches)", engine.compared.engine, rows.len());
        lines.push(Held { name, shares: shares.to_vec() });
    }
    let caption = "KV budgets whose interval holds what was logged, each launch's unit left out of all that predicts it.\n\
                   Dashed: what is promised. Grey: the 85 to 95% that a 90% interval is asked to hold.";
    coverage("Do intervals hold what they promise?", caption, &lines)
}
