//! What is written at lines and limits, and where.

use super::super::{Limit, Unit};
use super::frame::{Frame, WORDS};
use super::place::Taken;
use super::sheet::{Face, Pen, Rect, Sheet};
use super::words::{clean, value};

/// The most limits and marks of a plot.
pub(super) const MOST_LIMITS: usize = 12;

/// Returns a name with its value behind, unless the name says it: `card 79.1 GiB`, `99%`.
pub(super) fn with_value(name: &str, at: f64, unit: Unit) -> String {
    let (name, value) = (clean(name), value(at, unit));
    let short = short(&value);
    if name.contains(&value) || name.contains(&short) {
        return name;
    }
    let value = if unit == Unit::Share { short } else { value };
    format!("{name} {value}").trim().to_owned()
}

/// Returns the name of a mark with its place behind, unless there is a number in the name: `the card is full: 64 000`.
pub(super) fn mark_name(name: &str, at: f64, unit: Unit) -> String {
    let name = clean(name);
    if name.chars().any(|c| c.is_ascii_digit()) {
        return name;
    }
    let value = value(at, unit);
    if name.is_empty() { value } else { format!("{name}: {value}") }
}

/// A number without zeros at its end: `99%` for `99.0%`.
fn short(value: &str) -> String {
    let end = value.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(value.len());
    let (number, unit) = value.split_at(end);
    if !number.contains('.') {
        return value.to_owned();
    }
    format!("{}{unit}", number.trim_end_matches('0').trim_end_matches('.'))
}

/// Draws limits across a plot. Their names come later, when it is known what else is there.
pub(super) fn limit_lines(sheet: &mut Sheet, frame: &Frame, limits: &[Limit], taken: &mut Taken) {
    for limit in shown(frame, limits) {
        let (_, y) = frame.at(0.0, limit.at);
        let ends = [(frame.part.left, y), (frame.part.right, y)];
        sheet.path(&ends, Pen::new(sheet.palette.ink, 1.6).dashed("7 3"));
        taken.line(&ends, u16::MAX);
    }
}

/// Writes the names of limits, above or below their lines, where least is beneath.
pub(super) fn limit_names(sheet: &mut Sheet, frame: &Frame, limits: &[Limit], unit: Unit, taken: &mut Taken) {
    let face = Face::new(WORDS, sheet.palette.ink).bold().rimmed(sheet.palette.paper);
    for limit in shown(frame, limits) {
        let (_, y) = frame.at(0.0, limit.at);
        let name = face.fit(&with_value(&limit.name, limit.at, unit), frame.part.width() * 0.6);
        let width = face.width(&name);
        let mut best: Option<(f64, (f64, f64), Rect)> = None;
        for up in [y - 5.0, y + 14.0] {
            for step in 0..=8_u32 {
                let x = frame.part.right - width - 4.0 - (frame.part.width() - width - 8.0) * f64::from(step) / 8.0;
                let covers = face.covers((x, up), &name);
                let Some(cost) = taken.cost(&covers, u16::MAX) else { continue };
                // At the right and above unless something is there.
                let cost = cost + f64::from(step) * 0.6 + if up > y { 1.5 } else { 0.0 };
                if best.as_ref().is_none_or(|best| cost < best.0) {
                    best = Some((cost, (x, up), covers));
                }
            }
        }
        if let Some((_, at, covers)) = best {
            sheet.text(at, face, &name);
            taken.take(covers);
        }
    }
}

/// The limits that have a place.
fn shown<'a>(frame: &Frame, limits: &'a [Limit]) -> impl Iterator<Item = &'a Limit> {
    let range = plotters::coord::ranged1d::Ranged::range(&frame.y);
    limits.iter().filter(move |limit| limit.at >= range.start && limit.at <= range.end).take(MOST_LIMITS)
}
