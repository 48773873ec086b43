//! Predicted intervals beside what was seen.

use super::super::{Range, Ranges, Tone};
use super::colour::Shape;
use super::frame::{LABELLED, SMALL, WORDS, draw_x};
use super::legend::{self, Sign};
use super::ruler::{Extent, Reach, Ruler};
use super::sheet::{Face, MARGIN, Pen, Rect, Sheet, WIDTH};
use super::words::{clean, value};

/// The most rows.
const MOST: usize = 64;

/// Draws the intervals.
pub(super) fn draw(sheet: &mut Sheet, ranges: &Ranges, top: f64) -> Result<f64, &'static str> {
    let mut extent = Extent::of(&ranges.axis);
    let rows: Vec<&Range> = ranges.rows.iter().take(MOST).collect();
    for row in &rows {
        let (low, middle, high) = row.predicted;
        [low, middle, high].into_iter().chain(row.seen).for_each(|number| extent.add(number));
    }
    if extent.is_empty() {
        return Err("it has no intervals with finite ends");
    }
    if ranges.rows.len() > MOST {
        sheet.notes.push(format!("The first {MOST} of {} rows are shown.", ranges.rows.len()));
    }
    let (predicted, seen) = (clean(&ranges.predicted), clean(&ranges.seen));
    let (mut inside, mut outside) = (false, false);
    for row in &rows {
        inside |= missed(row) == Some(false);
        outside |= missed(row) == Some(true);
    }
    let mut entries = vec![(Sign::Interval(Tone::Weights), format!("{predicted}: interval and estimate"))];
    if inside {
        entries.push((Sign::Dot(Tone::Faint, Shape::Circle), format!("{seen}, inside")));
    }
    if outside {
        entries.push((Sign::Ring(Tone::Bad), format!("{seen}, outside")));
    }
    let y = legend::draw(sheet, &entries, top) + 20.0;
    let face = Face::new(WORDS, sheet.palette.ink);
    let step = if rows.len() <= 20 { 26.0 } else { 19.0 };
    let left = MARGIN + rows.iter().map(|row| face.width(&clean(&row.name))).fold(0.0, f64::max).min(220.0) + 10.0;
    let columns = columns(&face, &rows, ranges, (&predicted, &seen));
    let right = WIDTH - MARGIN - columns.0 - columns.1 - 34.0;
    let small = Face::new(SMALL, sheet.palette.faint);
    let x = Ruler::new(&ranges.axis, extent, Reach::Around, right - left, &|text| small.width(text) + 16.0);
    let part = Rect::new(left, y, right, y + step * rows.len() as f64);
    draw_x(sheet, &x, part, true);
    let ends = (WIDTH - MARGIN - columns.1 - 16.0, WIDTH - MARGIN);
    sheet.text((ends.0, y - 6.0), small.end(), &small.fit(&predicted, columns.0));
    sheet.text((ends.1, y - 6.0), small.end(), &small.fit(&seen, columns.1));
    for (at, row) in rows.iter().enumerate() {
        let middle = y + step * (at as f64 + 0.5);
        let line = middle + WORDS * 0.36;
        let name = face.fit(&clean(&row.name), left - MARGIN - 10.0);
        sheet.text((left - 10.0, line), face.end(), &name);
        draw_row(sheet, row, &x, part, middle);
        let planned = face.fit(&predicted_text(row, ranges), columns.0);
        sheet.text((ends.0, line), face.end(), &planned);
        let (text, missed) = (seen_text(row, ranges), missed(row) == Some(true));
        let face = if missed { Face { colour: sheet.palette.words(Tone::Bad), ..face }.bold() } else { face };
        sheet.text((ends.1, line), face.end(), &face.fit(&text, columns.1));
    }
    Ok(part.bottom + LABELLED)
}

/// How wide the columns of numbers are.
fn columns(face: &Face, rows: &[&Range], ranges: &Ranges, heads: (&str, &str)) -> (f64, f64) {
    let widest = |head: &str, text: &dyn Fn(&Range) -> String| {
        rows.iter().map(|row| face.bold().width(&text(row))).fold(face.width(head).min(100.0), f64::max).min(120.0)
    };
    (widest(heads.0, &|row| predicted_text(row, ranges)), widest(heads.1, &|row| seen_text(row, ranges)))
}

fn predicted_text(row: &Range, ranges: &Ranges) -> String {
    match &row.written {
        Some((predicted, _)) => clean(predicted),
        None => value(row.predicted.1, ranges.axis.unit),
    }
}

fn seen_text(row: &Range, ranges: &Ranges) -> String {
    if let Some((_, seen)) = &row.written {
        return clean(seen);
    }
    row.seen.map_or_else(|| "—".to_owned(), |seen| value(seen, ranges.axis.unit))
}

/// Whether what was seen lies outside of what was predicted.
fn missed(row: &Range) -> Option<bool> {
    let seen = row.seen.filter(|seen| seen.is_finite())?;
    Some(!(row.predicted.0 <= seen && seen <= row.predicted.2))
}

fn draw_row(sheet: &mut Sheet, row: &Range, x: &Ruler, part: Rect, y: f64) {
    let palette = sheet.palette;
    let at = |number: f64| part.left + part.width() * x.part(number);
    let (low, middle, high) = row.predicted;
    if low.is_finite() && high.is_finite() && low <= high {
        let (from, to) = (at(low), at(high).max(at(low) + 1.0));
        sheet.rect(Rect::new(from, y - 5.0, to, y + 5.0), palette.paper.towards(palette.fill(Tone::Weights), 0.55));
    }
    if middle.is_finite() {
        sheet.line((at(middle), y - 8.0), (at(middle), y + 8.0), Pen::new(palette.stroke(Tone::Weights), 2.4));
    }
    match (missed(row), row.seen) {
        (Some(false), Some(seen)) => sheet.dot((at(seen), y), Shape::Circle, 4.2, palette.ink),
        (Some(true), Some(seen)) => {
            sheet.ring((at(seen), y), 4.4, Pen::new(palette.paper, 4.5));
            sheet.ring((at(seen), y), 4.4, Pen::new(palette.stroke(Tone::Bad), 2.2));
        }
        (_, None) | (None, Some(_)) => {}
    }
}
