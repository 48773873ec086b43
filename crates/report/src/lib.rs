//! How do I see it? Answers as text for a terminal, as Markdown and as CSV. Nothing is computed here but places on the
//! page: everything shown is in the answer.
//!
//! ```
//! use plimsoll_report::{Style, catalogue_table};
//! use plimsoll_api::CatalogueAnswer;
//!
//! let answer = CatalogueAnswer {
//!     kind: "engines".into(),
//!     columns: vec!["engine".into(), "newest".into()],
//!     rows: vec![vec!["vllm".into(), "0.33.0".into()]],
//! };
//! assert_eq!(catalogue_table(&answer, Style::PLAIN), "engine  newest\nvllm    0.33.0\n");
//! ```

mod catalogue;
mod compare;
mod compare_figures;
mod csv;
mod explanation;
pub mod figure;
mod figures_of;
mod grow;
mod grow_figures;
mod grow_rows;
mod html;
mod inspect;
mod number;
mod page;
mod plan;
mod plan_markdown;
mod reconcile;
mod roofline;
mod roofline_explain;
mod roofline_rows;
mod roofline_what_if;
mod show;
mod shown;
mod simulate;
mod simulate_compare;
mod textbook;

pub use catalogue::{catalogue_csv, catalogue_markdown, catalogue_table};
pub use explanation::{explanation_csv, explanation_table};
pub use grow::grow_table;
pub use grow_rows::{grow_csv, grow_markdown};
pub use html::{Origin, html};
pub use inspect::{inspect_csv, inspect_markdown, inspect_table};
pub use page::Style;
pub use plan::plan_table;
pub use plan_markdown::{plan_csv, plan_markdown};
pub use reconcile::{reconcile_csv, reconcile_markdown, reconcile_table};
pub use roofline::roofline_table;
pub use roofline_explain::roofline_explained;
pub use roofline_rows::{roofline_csv, roofline_markdown};
pub use show::Show;
pub use simulate::{simulate_csv, simulate_markdown, simulate_table};
pub use simulate_compare::{simulate_compare_csv, simulate_compare_markdown, simulate_compare_table};
pub use textbook::{textbook_csv, textbook_markdown, textbook_table};
