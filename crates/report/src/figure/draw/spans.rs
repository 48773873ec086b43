//! Spans of time in rows: who runs when.

use super::super::{SpanRow, Spans, Tone};
use super::frame::{LABELLED, SMALL, WORDS, draw_x};
use super::legend::{self, Sign};
use super::ruler::{Extent, Reach, Ruler};
use super::sheet::{Face, MARGIN, Pen, Rect, Sheet, WIDTH};
use super::words::clean;

/// The most rows and groups.
const MOST_ROWS: usize = 96;
const MOST_GROUPS: usize = 24;

/// Draws the spans.
pub(super) fn draw(sheet: &mut Sheet, spans: &Spans, top: f64) -> Result<f64, &'static str> {
    let mut extent = Extent::of(&spans.x);
    let rows: usize = spans.groups.iter().take(MOST_GROUPS).map(|group| group.rows.len()).sum();
    let all = || spans.groups.iter().take(MOST_GROUPS).flat_map(|group| &group.rows).flat_map(|row| &row.spans);
    for span in all() {
        if extent.shows(span.from) && extent.shows(span.to) && span.from <= span.to {
            extent.add(span.from);
            extent.add(span.to);
        }
    }
    if extent.is_empty() {
        return Err("it has no spans with finite ends");
    }
    let entries = spans.series.iter().enumerate();
    let entries = entries.filter(|(at, _)| all().any(|span| span.series == *at));
    let entries: Vec<(Sign, String)> =
        entries.map(|(_, series)| (Sign::Surface(series.tone), clean(&series.name))).collect();
    let mut y = legend::draw(sheet, &entries, top);
    let face = Face::new(SMALL, sheet.palette.ink);
    let names = spans.groups.iter().flat_map(|group| &group.rows).take(2 * MOST_ROWS);
    let left = MARGIN + names.map(|row| face.width(&clean(&row.name))).fold(0.0, f64::max).min(150.0) + 8.0;
    let right = WIDTH - MARGIN - 6.0;
    let x = Ruler::new(&spans.x, extent, Reach::Whole, right - left, &|text| face.width(text) + 16.0);
    // Few rows are higher than many; each group has its share of the most.
    let high = (620.0 / rows.max(1) as f64).clamp(8.0, 24.0);
    let each = (MOST_ROWS / spans.groups.len().clamp(1, MOST_GROUPS)).max(2);
    let groups: Vec<_> = spans.groups.iter().filter(|group| !group.rows.is_empty()).take(MOST_GROUPS).collect();
    for (at, group) in groups.iter().enumerate() {
        let bold = Face::new(WORDS, sheet.palette.ink).bold();
        let title = bold.fit(&clean(&group.title), WIDTH - 2.0 * MARGIN);
        if !title.is_empty() {
            sheet.text((MARGIN, y + 15.0), bold, &title);
            y += 22.0;
        }
        let shown = &group.rows[..group.rows.len().min(each)];
        let part = Rect::new(left, y, right, y + high * shown.len() as f64);
        draw_x(sheet, &x, part, at + 1 == groups.len());
        for (at, row) in shown.iter().enumerate() {
            let top = y + high * at as f64;
            draw_row(sheet, spans, row, &x, Rect::new(left, top, right, top + high));
        }
        names_of(sheet, shown, part, high);
        if shown.len() < group.rows.len() {
            sheet.notes.push(format!("{title}: the first {} of {} rows are shown.", shown.len(), group.rows.len()));
        }
        sheet.spoken.push(format!("{title}: {} rows", group.rows.len()));
        y = part.bottom + 10.0;
    }
    if spans.groups.len() > MOST_GROUPS {
        sheet.notes.push(format!("The first {MOST_GROUPS} of {} groups are shown.", spans.groups.len()));
    }
    Ok(y - 10.0 + LABELLED)
}

/// Writes the names of rows, as many as have room.
fn names_of(sheet: &mut Sheet, rows: &[SpanRow], part: Rect, high: f64) {
    let face = Face::new(SMALL, sheet.palette.ink).end();
    let stride = (13.5 / high).ceil().max(1.0) as usize;
    for (at, row) in rows.iter().enumerate().step_by(stride) {
        let name = face.fit(&clean(&row.name), part.left - MARGIN - 8.0);
        let y = part.top + high * (at as f64 + 0.5) + SMALL * 0.36;
        sheet.text((part.left - 6.0, y), face, &name);
    }
}

fn draw_row(sheet: &mut Sheet, spans: &Spans, row: &SpanRow, x: &Ruler, part: Rect) {
    let gap = if part.height() > 14.0 { 3.0 } else { 1.0 };
    // Spans too short to be seen grow to half a unit; those that would lie upon the one before of their kind join it.
    let mut drawn: Vec<(f64, f64, usize)> = Vec::new();
    for span in &row.spans {
        if !(span.from.is_finite() && span.to.is_finite() && span.from <= span.to) {
            continue;
        }
        let at = |number: f64| part.left + part.width() * x.part(number);
        let (from, to) = (at(span.from), at(span.to).max(at(span.from) + 0.5));
        match drawn.last_mut() {
            Some((_, end, series)) if *series == span.series && from - *end < 0.3 && to - from < 2.0 => {
                *end = end.max(to)
            }
            Some((_, end, _)) if to <= *end + 0.2 => {}
            Some(_) | None => drawn.push((from, to, span.series)),
        }
    }
    for (from, to, series) in &drawn {
        let tone = spans.series.get(*series).map_or(Tone::Faint, |series| series.tone);
        let surface = Rect::new(*from, part.top + gap / 2.0, *to, part.bottom - gap / 2.0);
        sheet.swatch(surface, tone);
    }
    for pair in drawn.windows(2) {
        if (pair[1].0 - pair[0].1).abs() < 0.6 && pair[0].1 - pair[0].0 > 4.0 && pair[1].1 - pair[1].0 > 4.0 {
            let x = pair[1].0;
            sheet.line((x, part.top + gap / 2.0), (x, part.bottom - gap / 2.0), Pen::new(sheet.palette.paper, 0.8));
        }
    }
}
