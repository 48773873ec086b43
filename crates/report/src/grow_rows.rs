//! How does memory grow, for an issue or a spreadsheet?

use plimsoll_api::GrowAnswer;
use plimsoll_api::grow::answer::{PartAnswer, PointAnswer};

use crate::csv;
use crate::figure::Figure;
use crate::grow::{grow_table, place, tables};
use crate::grow_figures::figures;
use crate::page::{clean, markdown_row, markdown_rule};
use crate::plan::model_words;
use crate::textbook::textbook_markdown;
use crate::{Show, Style};

/// Writes growth as Markdown.
pub fn grow_markdown(answer: &GrowAnswer) -> String {
    let mut out = format!("### {}\n\n{}\n", model_words(&answer.model), clean(&place(answer)));
    out.push_str(&bullets("Findings", &answer.findings));
    for table in tables(answer, None) {
        out.push_str(&format!("\n**{}**\n\n", clean(&table.title)));
        out.push_str(&markdown_row(&table.heads));
        out.push_str(&markdown_rule(&table.numeric));
        for row in &table.rows {
            let filled: Vec<&str> = (0..table.heads.len()).map(|at| row.get(at).map_or("", String::as_str)).collect();
            out.push_str(&markdown_row(&filled));
        }
        if !table.key.is_empty() {
            out.push_str(&format!("\n{}\n", clean(&table.key)));
        }
    }
    if let Some(textbook) = &answer.textbook {
        out.push_str(&format!("\n{}", textbook_markdown(textbook)));
    }
    out.push_str(&bullets("Assumptions", &answer.assumptions));
    out.push_str(&bullets("Notes", &answer.notes));
    out
}

fn bullets(title: &str, items: &[String]) -> String {
    if items.is_empty() {
        return String::new();
    }
    let items: String = items.iter().map(|item| format!("- {}\n", clean(item))).collect();
    format!("\n**{title}**\n\n{items}")
}

/// Columns of the rows behind those of the axes.
const COLUMNS: [&str; 23] = [
    "context",
    "batch",
    "weights_bytes",
    "activations_bytes",
    "activations_low",
    "activations_high",
    "runtime_bytes",
    "runtime_low",
    "runtime_high",
    "kv_bytes",
    "total_bytes",
    "total_low",
    "total_high",
    "kv_share",
    "kv_bytes_per_token",
    "limit_bytes",
    "card_bytes",
    "fits",
    "state",
    "binding",
    "largest_batch",
    "host_bytes",
    "refused",
];

/// Writes the points as CSV: a column for every knob that is varied, then those of every answer.
pub fn grow_csv(answer: &GrowAnswer) -> String {
    let own: Vec<usize> =
        (0..answer.axes.len()).filter(|at| !["context", "batch"].contains(&answer.axes[*at].knob.as_str())).collect();
    let heads = own.iter().map(|at| answer.axes[*at].knob.as_str()).chain(COLUMNS);
    let mut out = csv::line(&heads.collect::<Vec<_>>());
    for point in &answer.points {
        let mut row: Vec<String> = own.iter().map(|at| point.at.get(*at).cloned().unwrap_or_default()).collect();
        row.extend(cells(point));
        out.push_str(&csv::line(&row));
    }
    out
}

/// The cells of a point.
fn cells(point: &PointAnswer) -> Vec<String> {
    let mut row = vec![point.context.to_string(), point.batch.to_string()];
    let part = |part: &PartAnswer| [part.bytes, part.low, part.high].map(|bytes| bytes.to_string());
    let maybe = |number: Option<u64>| number.map(|number| number.to_string()).unwrap_or_default();
    match &point.need {
        Some(need) => {
            row.push(need.weights_bytes.to_string());
            row.extend(part(&need.activations));
            row.extend(part(&need.runtime));
            row.push(need.kv_bytes.to_string());
            row.extend(part(&need.total));
            row.extend([need.kv_share.to_string(), need.kv_bytes_per_token.to_string()]);
            row.extend([maybe(need.limit_bytes), maybe(need.card_bytes)]);
            row.push(need.fits.map(|fits| fits.to_string()).unwrap_or_default());
            row.extend([need.state.clone().unwrap_or_default(), need.binding.clone().unwrap_or_default()]);
            row.extend([maybe(need.largest_batch), need.host_bytes.to_string()]);
        }
        None => row.extend(std::iter::repeat_n(String::new(), COLUMNS.len() - 3)),
    }
    row.push(point.refused.clone().unwrap_or_default());
    row
}

impl Show for GrowAnswer {
    fn question(&self) -> String {
        match self.axes.first() {
            Some(axis) => format!("How does the memory of {} grow with {}?", self.model.id, axis.knob),
            None => format!("What memory does {} take?", self.model.id),
        }
    }

    fn table(&self, style: Style) -> String {
        grow_table(self, style)
    }

    fn markdown(&self) -> String {
        grow_markdown(self)
    }

    fn csv(&self) -> String {
        grow_csv(self)
    }

    fn figures(&self) -> Vec<Figure> {
        figures(self)
    }
}
