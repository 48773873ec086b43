//! Lying bars of parts: where the memory of each rank goes.

use std::collections::BTreeSet;

use super::super::{Bar, Bars, Limit, Scale, Series, Tone};
use super::colour::hatch;
use super::frame::{SMALL, TIER, WORDS, draw_x, names_above, tiers};
use super::legend::{self, Sign};
use super::place::spread;
use super::ruler::{Extent, Reach, Ruler};
use super::sheet::{Face, MARGIN, Pen, Rect, Sheet, WIDTH};
use super::words::{clean, value};

/// The most bars.
const MOST: usize = 64;
/// The most parts of a bar.
const MOST_PARTS: usize = 200;

/// How wide names before bars and notes behind them may be.
const MOST_NAME: f64 = 226.0;
const MOST_NOTE: f64 = 300.0;

/// A bar ready to be drawn.
struct Row {
    name: String,
    note: String,
    /// Series and value.
    parts: Vec<(usize, f64)>,
    sum: f64,
    /// Where a line of its own lies.
    limit: Option<Limit>,
}

/// Where the bars lie.
struct Place {
    ruler: Ruler,
    left: f64,
    right: f64,
    top: f64,
    step: f64,
    high: f64,
}

impl Place {
    fn x(&self, value: f64) -> f64 {
        self.left + (self.right - self.left) * self.ruler.part(value)
    }

    fn row(&self, at: usize) -> (f64, f64) {
        let top = self.top + self.step * at as f64 + (self.step - self.high) / 2.0;
        (top, top + self.high)
    }
}

/// Draws the bars.
pub(super) fn draw(sheet: &mut Sheet, bars: &Bars, top: f64) -> Result<f64, &'static str> {
    if bars.rows.is_empty() {
        return Err("it has no bars");
    }
    let rows: Vec<Row> = bars.rows.iter().take(MOST).map(|bar| row(bar, bars)).collect();
    if rows.iter().all(|row| row.parts.is_empty()) {
        return Err("its bars have no numbers");
    }
    if bars.rows.len() > MOST {
        sheet.notes.push(format!("The first {MOST} of {} bars are shown.", bars.rows.len()));
    }
    for row in rows.iter().take(16) {
        let named = |series: usize| bars.series.get(series).map_or_else(String::new, |series| clean(&series.name));
        let parts =
            row.parts.iter().map(|(series, part)| format!("{} {}", named(*series), value(*part, bars.axis.unit)));
        sheet.spoken.push(format!("{}: {}", row.name, parts.collect::<Vec<String>>().join(", ")));
    }
    let mut y = top;
    if bars.series.len() > 1 {
        let mut entries: Vec<(Sign, String)> = bars
            .series
            .iter()
            .enumerate()
            .filter(|(at, _)| rows.iter().any(|row| row.parts.iter().any(|(series, _)| series == at)))
            .map(|(_, series)| (Sign::Surface(series.tone), clean(&series.name)))
            .collect();
        let own = rows.iter().filter_map(|row| row.limit.as_ref()).map(|limit| clean(&limit.name));
        let own: BTreeSet<String> = own.filter(|name| !name.is_empty()).collect();
        entries.extend(own.into_iter().map(|name| (Sign::Tick, name)));
        y = legend::draw(sheet, &entries, y) + 4.0;
    }
    let limits: Vec<(f64, String)> = bars
        .limits
        .iter()
        .filter(|limit| limit.at.is_finite() && limit.at >= 0.0)
        .take(8)
        .map(|limit| (limit.at, with_value(&limit.name, limit.at, bars)))
        .collect();
    let place = place(sheet, bars, &rows, &limits, y);
    let named: Vec<(f64, String)> = limits.iter().map(|(at, name)| (place.x(*at), name.clone())).collect();
    let lines = tiers(sheet, &named, (MARGIN, WIDTH - MARGIN));
    let room = callout_room(sheet, bars, &rows, &place);
    let place = Place { top: y + TIER * lines as f64 + room, ..place };
    draw_surfaces(sheet, bars, &rows, &place);
    let bottom = place.top + place.step * rows.len() as f64;
    for (at, (_, name)) in limits.iter().zip(&named) {
        let x = place.x(at.0);
        let dash = if named.last().is_some_and(|last| last.1 == *name) { "" } else { "5 3" };
        sheet.line((x, place.top - 4.0 - room), (x, bottom + 3.0), Pen::new(sheet.palette.ink, 2.0).dashed(dash));
    }
    // Words come last: what has to stand on a line is upon it.
    draw_words(sheet, bars, &rows, &place, &limits);
    callouts(sheet, bars, &rows, &place);
    names_above(sheet, &named, (MARGIN, WIDTH - MARGIN), place.top - 4.0 - room);
    Ok(bottom + 42.0)
}

/// The name of a limit with its value, if it does not say it itself.
fn with_value(name: &str, at: f64, bars: &Bars) -> String {
    super::labels::with_value(name, at, bars.axis.unit)
}

fn row(bar: &Bar, bars: &Bars) -> Row {
    let parts: Vec<(usize, f64)> = bar
        .parts
        .iter()
        .filter(|part| part.value.is_finite() && part.value >= 0.0 && part.value < 1e30)
        .take(MOST_PARTS)
        .map(|part| (part.series, part.value))
        .collect();
    let sum = parts.iter().map(|(_, value)| value).sum();
    let note = bar.note.as_deref().map_or_else(|| value(sum, bars.axis.unit), clean);
    let limit = bar.limit.clone().filter(|limit| limit.at >= 0.0 && limit.at < 1e30);
    Row { name: clean(&bar.name), note, parts, sum, limit }
}

/// Where the bars lie: notes behind their ends find room, past limits that they would lie upon.
fn place(sheet: &Sheet, bars: &Bars, rows: &[Row], limits: &[(f64, String)], top: f64) -> Place {
    let (step, high) = match rows.len() {
        0..=12 => (38.0, 28.0),
        13..=24 => (28.0, 20.0),
        25..=40 => (20.0, 15.0),
        _ => (17.0, 13.0),
    };
    let axis = super::super::Axis { scale: Scale::Linear, ..bars.axis.clone() };
    let mut extent = Extent::of(&axis);
    extent.add(0.0);
    rows.iter().for_each(|row| extent.add(row.sum));
    rows.iter().filter_map(|row| row.limit.as_ref()).for_each(|limit| extent.add(limit.at));
    limits.iter().for_each(|(at, _)| extent.add(*at));
    let face = Face::new(WORDS, sheet.palette.ink);
    let names = rows.iter().map(|row| face.width(&row.name)).fold(0.0, f64::max).min(MOST_NAME);
    let left = MARGIN + names + 8.0;
    let mut right = WIDTH - MARGIN;
    loop {
        let room = |text: &str| Face::new(SMALL, sheet.palette.ink).width(text) + 18.0;
        let ruler = Ruler::new(&axis, extent, Reach::Zero, right - left, &room);
        let place = Place { ruler, left, right, top, step, high };
        let ends = rows.iter().map(|row| note_at(sheet, row, &place, limits) + face.width(&row.note).min(MOST_NOTE));
        if ends.fold(0.0, f64::max) <= WIDTH - MARGIN + 4.0 || right < left + 160.0 {
            return place;
        }
        right -= 6.0;
    }
}

/// Where a bar's note begins: behind its end, or behind the limits that it would lie upon.
fn note_at(sheet: &Sheet, row: &Row, place: &Place, limits: &[(f64, String)]) -> f64 {
    let width = Face::new(WORDS, sheet.palette.ink).width(&row.note).min(MOST_NOTE);
    let mut x = place.x(row.sum) + 7.0;
    for limit in lines(row, place, limits) {
        if x - 5.0 < limit && limit < x + width + 5.0 {
            x = limit + 7.0;
        }
    }
    x
}

/// Where lines run through a bar, from the left: those through all bars, and its own.
fn lines(row: &Row, place: &Place, limits: &[(f64, String)]) -> Vec<f64> {
    let own = row.limit.iter().map(|limit| limit.at);
    let mut at: Vec<f64> = limits.iter().map(|(at, _)| *at).chain(own).map(|at| place.x(at)).collect();
    at.sort_by(f64::total_cmp);
    at
}

/// The parts of a bar that are wide enough to be seen, with their series and values.
fn surfaces(row: &Row, place: &Place, at: usize) -> Vec<(usize, f64, Rect)> {
    let (top, below) = place.row(at);
    let mut from = 0.0;
    let mut all = Vec::new();
    for (series, part) in &row.parts {
        let (left, right) = (place.x(from), place.x(from + part));
        from += part;
        if right - left >= 0.05 {
            all.push((*series, *part, Rect::new(left, top, right, below)));
        }
    }
    all
}

fn draw_surfaces(sheet: &mut Sheet, bars: &Bars, rows: &[Row], place: &Place) {
    let palette = sheet.palette;
    let bottom = place.top + place.step * rows.len() as f64;
    draw_x(sheet, &place.ruler, Rect::new(place.left, place.top, place.right, bottom), true);
    for (at, row) in rows.iter().enumerate() {
        for (series, _, surface) in surfaces(row, place, at) {
            let tone = bars.series.get(series).map_or(Tone::Faint, |series| series.tone);
            sheet.swatch(surface, tone);
            if surface.width() > 3.0 {
                let ends = ((surface.right, surface.top), (surface.right, surface.bottom));
                sheet.line(ends.0, ends.1, Pen::new(palette.paper, 1.0));
            }
        }
        if let Some(limit) = &row.limit {
            let (x, (top, below)) = (place.x(limit.at), place.row(at));
            // Rimmed by the paper, so that it is seen upon any part.
            sheet.line((x, top - 1.5), (x, below + 1.5), Pen::new(palette.paper, 5.0));
            sheet.line((x, top - 1.5), (x, below + 1.5), Pen::new(palette.ink, 2.4));
        }
    }
}

fn draw_words(sheet: &mut Sheet, bars: &Bars, rows: &[Row], place: &Place, limits: &[(f64, String)]) {
    let palette = sheet.palette;
    let size = if place.high < 18.0 { SMALL } else { WORDS };
    for (at, row) in rows.iter().enumerate() {
        let (top, below) = place.row(at);
        let line = f64::midpoint(top, below) + size * 0.36;
        let face = Face::new(size, palette.ink);
        let name = face.fit(&row.name, place.left - MARGIN - 8.0);
        sheet.text((place.left - 8.0, line), face.end(), &name);
        let crossing = lines(row, place, limits);
        for (series, part, surface) in surfaces(row, place, at) {
            // Of one kind of thing the words behind the bar say all.
            if bars.series.len() > 1 {
                label_part(sheet, surface, bars.series.get(series), &labels(bars, place, series, part), &crossing);
            }
        }
        let x = note_at(sheet, row, place, limits);
        let note = face.fit(&row.note, (WIDTH - 8.0 - x).max(0.0));
        sheet.text((x, line), face, &note);
    }
}

/// What may stand in a part, the longest first: name and value, the value, its number where the axis has its unit.
fn labels(bars: &Bars, place: &Place, series: usize, part: f64) -> Vec<String> {
    let name = bars.series.get(series).map_or_else(String::new, |series| clean(&series.name));
    let value = value(part, bars.axis.unit);
    // The groups of a count are one number.
    let number = value.trim_end_matches(char::is_alphabetic).trim_end().to_owned();
    let unit = value[number.len()..].trim();
    let same = unit.is_empty() || place.ruler.label.ends_with(&format!("({unit})"));
    let mut all = vec![format!("{name} {value}").trim().to_owned(), value];
    all.extend(same.then_some(number));
    all
}

/// Returns the middle of a place for words between two ends, off the lines from the left: the middle of all, or else of the
/// widest space between lines.
fn off_lines((left, right): (f64, f64), room: f64, lines: &[f64]) -> Option<f64> {
    let middle = f64::midpoint(left, right);
    let inside: Vec<f64> = lines.iter().copied().filter(|x| left < *x && *x < right).collect();
    if room <= right - left && inside.iter().all(|line| (line - middle).abs() >= room / 2.0) {
        return Some(middle);
    }
    let edges: Vec<f64> = [left].into_iter().chain(inside).chain([right]).collect();
    let widest = edges.windows(2).max_by(|one, two| (one[1] - one[0]).total_cmp(&(two[1] - two[0])));
    widest.filter(|gap| gap[1] - gap[0] >= room).map(|gap| f64::midpoint(gap[0], gap[1]))
}

/// Writes the longest label that fits into a part, off the lines that run through it where there is room beside them.
fn label_part(sheet: &mut Sheet, surface: Rect, series: Option<&Series>, labels: &[String], lines: &[f64]) {
    if surface.height() < 14.0 {
        return;
    }
    let tone = series.map_or(Tone::Faint, |series| series.tone);
    let fill = sheet.palette.fill(tone);
    let face = Face::new(if surface.height() < 18.0 { SMALL } else { WORDS }, fill.ink()).bold().middle();
    let line = f64::midpoint(surface.top, surface.bottom) + face.size * 0.36;
    let middle = f64::midpoint(surface.left, surface.right);
    for label in labels {
        if let Some(x) = off_lines((surface.left, surface.right), face.width(label) + 10.0, lines) {
            let face = if hatch(tone).is_some() { face.rimmed(fill) } else { face };
            sheet.text((x, line), face, label);
            return;
        }
    }
    // No room beside the lines: upon them, if at all.
    if let Some(label) = labels.iter().find(|label| face.width(label) + 10.0 <= surface.width()) {
        sheet.text((middle, line), face.rimmed(fill), label);
    }
}

/// The parts of the first bar that are too narrow for a label, with the middle of each: they have theirs above.
fn narrow(sheet: &Sheet, bars: &Bars, rows: &[Row], place: &Place) -> Vec<(f64, String)> {
    let Some(row) = rows.first().filter(|_| rows.len() <= 12 && bars.series.len() > 1) else { return Vec::new() };
    let mut names = Vec::new();
    let bold = Face::new(WORDS, sheet.palette.ink).bold();
    let mut from = 0.0;
    for (series, part) in &row.parts {
        let (left, right) = (place.x(from), place.x(from + part));
        from += part;
        let labels = labels(bars, place, *series, *part);
        let fits = labels.iter().any(|label| bold.width(label) + 10.0 <= right - left);
        if *part > 0.0 && !fits && *series < bars.series.len() {
            names.push((f64::midpoint(left, right), labels[0].clone()));
        }
    }
    let face = Face::new(SMALL, sheet.palette.ink);
    let all: f64 = names.iter().map(|(_, name)| face.width(name) + 12.0).sum();
    let (low, high) = callout_ends(place);
    if all > high - low - 6.0 { Vec::new() } else { names }
}

/// From where to where labels of narrow parts may stand: a little over the names of the bars, upon the page.
fn callout_ends(place: &Place) -> (f64, f64) {
    ((place.left - 66.0).max(MARGIN - 6.0), WIDTH - MARGIN)
}

/// How much room is above the first bar for labels of narrow parts.
fn callout_room(sheet: &Sheet, bars: &Bars, rows: &[Row], place: &Place) -> f64 {
    if narrow(sheet, bars, rows, place).is_empty() { 0.0 } else { 24.0 }
}

fn callouts(sheet: &mut Sheet, bars: &Bars, rows: &[Row], place: &Place) {
    let names = narrow(sheet, bars, rows, place);
    let face = Face::new(SMALL, sheet.palette.ink).middle().rimmed(sheet.palette.paper);
    let sizes: Vec<f64> = names.iter().map(|(_, name)| face.width(name) + 12.0).collect();
    let wanted: Vec<f64> = names.iter().map(|(x, _)| *x).collect();
    let top = place.row(0).0;
    let (low, high) = callout_ends(place);
    for ((at, (x, name)), size) in spread(&wanted, &sizes, low, high).iter().zip(&names).zip(&sizes) {
        let from = x.clamp(at - size / 2.0 + 6.0, at + size / 2.0 - 6.0);
        sheet.path(&[(from, top - 10.0), (*x, top)], Pen::new(sheet.palette.faint, 1.0));
        sheet.text((*at, top - 14.0), face, name);
    }
}

#[cfg(test)]
mod tests {
    use super::off_lines;

    #[test]
    fn words_stand_off_lines() {
        for (ends, room, lines, expected) in [
            ((0.0, 100.0), 40.0, vec![], Some(50.0)),
            ((0.0, 100.0), 40.0, vec![10.0, 90.0], Some(50.0)),
            ((0.0, 100.0), 40.0, vec![50.0, 60.0], Some(25.0)),
            ((0.0, 100.0), 40.0, vec![35.0, 70.0], None),
            ((0.0, 30.0), 40.0, vec![], None),
            ((0.0, 100.0), 40.0, vec![-5.0, 45.0, 120.0], Some(72.5)),
        ] {
            assert_eq!(off_lines(ends, room, &lines), expected, "{ends:?} {lines:?}");
        }
    }
}
