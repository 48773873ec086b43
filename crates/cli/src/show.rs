//! How is an answer shown? JSON as it is; the rest is the report crate's.

use std::io::{self, Write};

use plimsoll_api::textbook::TextbookAnswer;
use plimsoll_api::{
    CatalogueAnswer, Explanation, InspectAnswer, PlanAnswer, PlanRequest, ReconcileAnswer, RooflineAnswer,
    RooflineRequest, SimulateAnswer, SimulateCompareAnswer, SimulateRequest, Simulated,
};
use plimsoll_report::{self as report, Style};
use serde::Serialize;

use crate::arguments::{Form, SchemaOf, Shown};
use crate::colour;

/// Writes indented JSON.
fn json(answer: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, answer)?;
    writeln!(out)
}

/// The style for a terminal.
fn style(shown: &Shown) -> Style {
    Style { color: colour(shown), width: 80 }
}

/// Shows a plan.
pub fn plan(answer: &PlanAnswer, shown: &Shown, out: &mut impl Write) -> io::Result<()> {
    match shown.form() {
        Form::Json => json(answer, out),
        Form::Table => out.write_all(report::plan_table(answer, style(shown)).as_bytes()),
        Form::Csv => out.write_all(report::plan_csv(answer).as_bytes()),
        Form::Markdown => out.write_all(report::plan_markdown(answer).as_bytes()),
    }
}

/// Shows a model.
pub fn inspect(answer: &InspectAnswer, tensors: bool, shown: &Shown, out: &mut impl Write) -> io::Result<()> {
    match shown.form() {
        Form::Json => json(answer, out),
        Form::Table => out.write_all(report::inspect_table(answer, tensors, style(shown)).as_bytes()),
        Form::Csv => out.write_all(report::inspect_csv(answer).as_bytes()),
        Form::Markdown => out.write_all(report::inspect_markdown(answer).as_bytes()),
    }
}

/// Shows a catalogue.
pub fn catalogue(answer: &CatalogueAnswer, shown: &Shown, out: &mut impl Write) -> io::Result<()> {
    match shown.form() {
        Form::Json => json(answer, out),
        Form::Table => out.write_all(report::catalogue_table(answer, style(shown)).as_bytes()),
        Form::Csv => out.write_all(report::catalogue_csv(answer).as_bytes()),
        Form::Markdown => out.write_all(report::catalogue_markdown(answer).as_bytes()),
    }
}

/// Shows a log beside its plan.
pub fn reconciled(answer: &ReconcileAnswer, shown: &Shown, out: &mut impl Write) -> io::Result<()> {
    match shown.form() {
        Form::Json => json(answer, out),
        Form::Table => out.write_all(report::reconcile_table(answer, style(shown)).as_bytes()),
        Form::Csv => out.write_all(report::reconcile_csv(answer).as_bytes()),
        Form::Markdown => out.write_all(report::reconcile_markdown(answer).as_bytes()),
    }
}

/// Shows a roofline; explained, how its figures come about.
pub fn roofline(answer: &RooflineAnswer, explain: bool, shown: &Shown, out: &mut impl Write) -> io::Result<()> {
    match shown.form() {
        Form::Json => json(answer, out),
        Form::Table if explain => out.write_all(report::roofline_explained(answer, style(shown)).as_bytes()),
        Form::Table => out.write_all(report::roofline_table(answer, style(shown)).as_bytes()),
        Form::Csv => out.write_all(report::roofline_csv(answer).as_bytes()),
        Form::Markdown => out.write_all(report::roofline_markdown(answer).as_bytes()),
    }
}

/// Shows a simulation, or several side by side.
pub fn simulated(answer: &Simulated, shown: &Shown, out: &mut impl Write) -> io::Result<()> {
    let text = match (answer, shown.form()) {
        (Simulated::One(answer), Form::Json) => return json(answer, out),
        (Simulated::One(answer), Form::Table) => report::simulate_table(answer, style(shown)),
        (Simulated::One(answer), Form::Csv) => report::simulate_csv(answer),
        (Simulated::One(answer), Form::Markdown) => report::simulate_markdown(answer),
        (Simulated::Compared(answer), Form::Json) => return json(answer, out),
        (Simulated::Compared(answer), Form::Table) => report::simulate_compare_table(answer, style(shown)),
        (Simulated::Compared(answer), Form::Csv) => report::simulate_compare_csv(answer),
        (Simulated::Compared(answer), Form::Markdown) => report::simulate_compare_markdown(answer),
    };
    out.write_all(text.as_bytes())
}

/// Shows several logs' answers as one JSON list.
pub fn all_reconciled(answers: &[ReconcileAnswer], out: &mut impl Write) -> io::Result<()> {
    json(&answers, out)
}

/// Shows the textbook's numbers.
pub fn textbook(answer: &TextbookAnswer, shown: &Shown, out: &mut impl Write) -> io::Result<()> {
    match shown.form() {
        Form::Json => json(answer, out),
        Form::Table | Form::Csv | Form::Markdown => {
            out.write_all(report::textbook_table(answer, style(shown)).as_bytes())
        }
    }
}

/// Shows an explanation.
pub fn explanation(answer: &Explanation, shown: &Shown, out: &mut impl Write) -> io::Result<()> {
    match shown.form() {
        Form::Json => json(answer, out),
        Form::Table | Form::Csv | Form::Markdown => {
            out.write_all(report::explanation_table(answer, style(shown)).as_bytes())
        }
    }
}

/// Prints a schema.
pub fn schema(of: SchemaOf, out: &mut impl Write) -> io::Result<()> {
    let schema = match of {
        SchemaOf::PlanRequest => schemars::schema_for!(PlanRequest),
        SchemaOf::PlanAnswer => schemars::schema_for!(PlanAnswer),
        SchemaOf::InspectAnswer => schemars::schema_for!(InspectAnswer),
        SchemaOf::CatalogueAnswer => schemars::schema_for!(CatalogueAnswer),
        SchemaOf::ReconcileAnswer => schemars::schema_for!(ReconcileAnswer),
        SchemaOf::RooflineRequest => schemars::schema_for!(RooflineRequest),
        SchemaOf::RooflineAnswer => schemars::schema_for!(RooflineAnswer),
        SchemaOf::SimulateRequest => schemars::schema_for!(SimulateRequest),
        SchemaOf::SimulateAnswer => schemars::schema_for!(SimulateAnswer),
        SchemaOf::SimulateCompareAnswer => schemars::schema_for!(SimulateCompareAnswer),
    };
    json(&schema, out)
}
