//! In which forms can an answer be seen? One trait, so that every answer can be had in every form.

use serde::Serialize;

use crate::Style;
use crate::figure::Figure;

/// An answer that can be seen: as text, as rows, as figures.
pub trait Show: Serialize {
    /// Returns the question that the answer answers, without the question mark's detail: the title of its report.
    fn question(&self) -> String;

    /// Returns the answer as aligned text for a terminal.
    fn table(&self, style: Style) -> String;

    /// Returns the answer as Markdown: its tables, assumptions and notes, without a title.
    fn markdown(&self) -> String;

    /// Returns the answer's main rows as CSV, names in the first line.
    fn csv(&self) -> String;

    /// Returns the answer's figures, the most telling first.
    fn figures(&self) -> Vec<Figure> {
        Vec::new()
    }
}
