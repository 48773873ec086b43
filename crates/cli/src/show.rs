//! How is an answer shown? JSON as it is; the rest is the report crate's.

use std::io::{self, Write};

use plimsoll_api::sweep::SweepRequest;
use plimsoll_api::{
    CatalogueAnswer, ComparisonAnswer, ComparisonRequest, GrowAnswer, GrowRequest, InspectAnswer, PlanAnswer,
    PlanRequest, ReconcileAnswer, RooflineAnswer, RooflineRequest, SimulateAnswer, SimulateCompareAnswer,
    SimulateRequest, Simulated,
};
use plimsoll_report::{Show, Style};
use serde::Serialize;

use crate::arguments::{Form, SchemaOf, Shown};
use crate::{Failure, colour, file};

/// Writes indented JSON.
fn json(answer: &impl Serialize, out: &mut impl Write) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *out, answer)?;
    writeln!(out)
}

/// The style for a terminal.
fn style(shown: &Shown) -> Style {
    Style { color: colour(shown), width: 80 }
}

/// Shows an answer in the form that is wanted, or writes it to the file that is named.
pub fn answer<A: Show>(answer: &A, shown: &Shown, out: &mut impl Write) -> Result<(), Failure> {
    answer_as(answer, |answer, style| answer.table(style), shown, out)
}

/// The same, of a request that stands in reports.
pub fn answer_of<A: Show>(
    request: &impl Serialize,
    answer: &A,
    shown: &Shown,
    out: &mut impl Write,
) -> Result<(), Failure> {
    if let Some(place) = &shown.out {
        return file::write_of(Some(written(request)?), answer, place, shown);
    }
    answer_as(answer, |answer, style| answer.table(style), shown, out)
}

/// A request as it stands in a report.
fn written(request: &impl Serialize) -> io::Result<String> {
    Ok(serde_json::to_string_pretty(request)?)
}

/// The same without a request, with another text for a terminal.
pub fn answer_as<A: Show>(
    answer: &A,
    table: impl FnOnce(&A, Style) -> String,
    shown: &Shown,
    out: &mut impl Write,
) -> Result<(), Failure> {
    if let Some(place) = &shown.out {
        return file::write_of(None, answer, place, shown);
    }
    match shown.form() {
        Form::Json => json(answer, out)?,
        Form::Table => out.write_all(table(answer, style(shown)).as_bytes())?,
        Form::Csv => out.write_all(answer.csv().as_bytes())?,
        Form::Markdown => out.write_all(answer.markdown().as_bytes())?,
    }
    Ok(())
}

/// Shows a simulation, or several side by side.
pub fn simulated(
    request: &SimulateRequest,
    simulated: &Simulated,
    shown: &Shown,
    out: &mut impl Write,
) -> Result<(), Failure> {
    match simulated {
        Simulated::One(one) => answer_of(request, one.as_ref(), shown, out),
        Simulated::Compared(several) => answer_of(request, several.as_ref(), shown, out),
    }
}

/// Shows several logs' answers as one JSON list.
pub fn all_reconciled(answers: &[ReconcileAnswer], out: &mut impl Write) -> io::Result<()> {
    json(&answers, out)
}

/// Prints a schema.
pub fn schema(of: SchemaOf, out: &mut impl Write) -> io::Result<()> {
    let schema = match of {
        SchemaOf::PlanRequest => schemars::schema_for!(PlanRequest),
        SchemaOf::PlanAnswer => schemars::schema_for!(PlanAnswer),
        SchemaOf::InspectAnswer => schemars::schema_for!(InspectAnswer),
        SchemaOf::CatalogueAnswer => schemars::schema_for!(CatalogueAnswer),
        SchemaOf::ReconcileAnswer => schemars::schema_for!(ReconcileAnswer),
        SchemaOf::GrowRequest => schemars::schema_for!(GrowRequest),
        SchemaOf::GrowAnswer => schemars::schema_for!(GrowAnswer),
        SchemaOf::RooflineRequest => schemars::schema_for!(RooflineRequest),
        SchemaOf::RooflineAnswer => schemars::schema_for!(RooflineAnswer),
        SchemaOf::CompareRequest => schemars::schema_for!(ComparisonRequest),
        SchemaOf::CompareAnswer => schemars::schema_for!(ComparisonAnswer),
        SchemaOf::SweepRequest => schemars::schema_for!(SweepRequest),
        SchemaOf::SimulateRequest => schemars::schema_for!(SimulateRequest),
        SchemaOf::SimulateAnswer => schemars::schema_for!(SimulateAnswer),
        SchemaOf::SimulateCompareAnswer => schemars::schema_for!(SimulateCompareAnswer),
    };
    json(&schema, out)
}
