//! Areas upon one another: memory by context.

use super::super::{Areas, Axis, Limit, Scale, Tone};
use super::colour::{Hatch, hatch};
use super::course::thin;
use super::frame::{Frame, LABELLED, SMALL, TIER, WORDS, tiers};
use super::labels::{MOST_LIMITS, limit_lines, limit_names, mark_name};
use super::legend::{self, Sign};
use super::place::{Taken, spread};
use super::plot::draw_marks;
use super::ruler::{Extent, Reach, Ruler};
use super::sheet::{At, Face, MARGIN, Pen, Rect, Sheet, WIDTH, over};
use super::words::{clean, value};

/// The most areas.
const MOST: usize = 24;
/// How high a plot of areas is.
const HIGH: f64 = 300.0;
/// How high a name at the right is.
const NAME: f64 = 16.0;
/// How high an area is in which a name has room.
const ROOM: f64 = 17.0;
/// The distance between the columns in which room for names is looked for.
const COLUMN: f64 = 3.0;

/// One area: its upper edge, and the edge of what lies below it.
struct Area {
    name: String,
    tone: Tone,
    upper: Vec<At>,
    lower: Vec<At>,
}

/// Where lines run through the areas, which names keep off.
struct Lines {
    level: Vec<f64>,
    upright: Vec<f64>,
}

impl Lines {
    /// Returns the lowest of the spaces that lines leave between two heights in which words have room, else the highest of
    /// them, as its upper and its lower end: what lies above the lowest limit is hatched.
    fn between(&self, upper: f64, lower: f64) -> (f64, f64) {
        let mut edges: Vec<f64> = self.level.iter().copied().filter(|y| upper < *y && *y < lower).collect();
        edges.sort_by(f64::total_cmp);
        let mut best = (upper, edges.first().map_or(lower, |y| y - 2.0));
        for (at, y) in edges.iter().enumerate() {
            let space = (y + 2.0, edges.get(at + 1).map_or(lower, |next| next - 2.0));
            if space.1 - space.0 >= ROOM || space.1 - space.0 > best.1 - best.0 {
                best = space;
            }
        }
        best
    }
}

/// Draws the areas.
pub(super) fn draw(sheet: &mut Sheet, areas: &Areas, top: f64) -> Result<f64, &'static str> {
    let x_axis = &areas.x;
    let y_axis = Axis { scale: Scale::Linear, ..areas.y.clone() };
    let (mut x, mut y) = (Extent::of(x_axis), Extent::of(&y_axis));
    let places: Vec<(usize, f64)> = areas.xs.iter().copied().enumerate().filter(|(_, at)| x.shows(*at)).collect();
    if places.is_empty() || areas.areas.is_empty() {
        return Err("it has no areas with finite numbers");
    }
    if areas.areas.len() > MOST {
        sheet.notes.push(format!("The lowest {MOST} of {} areas are shown.", areas.areas.len()));
    }
    let sums = sums(areas, &places);
    places.iter().for_each(|(_, at)| x.add(*at));
    sums.iter().flatten().for_each(|sum| y.add(*sum));
    y.add(0.0);
    areas.limits.iter().take(MOST_LIMITS).filter(|limit| limit.at >= 0.0).for_each(|limit| y.add(limit.at));
    let marks: Vec<(f64, String)> = areas
        .marks
        .iter()
        .filter(|mark| x.shows(mark.at))
        .take(MOST_LIMITS)
        .map(|mark| (mark.at, mark_name(&mark.name, mark.at, x_axis.unit)))
        .collect();
    marks.iter().for_each(|(at, _)| x.add(*at));
    speak(sheet, areas, &sums);
    let face = Face::new(SMALL, sheet.palette.faint);
    let y_ruler = Ruler::new(&y_axis, y, Reach::Zero, HIGH, &|_| 26.0);
    let left = MARGIN + y_ruler.ticks.iter().map(|tick| face.width(&tick.text)).fold(16.0, f64::max) + 8.0;
    let top = top + 26.0 + tiers(sheet, &marks, (MARGIN, WIDTH - MARGIN)) as f64 * TIER;
    let lay = |right: f64| {
        let x = Ruler::new(x_axis, x, Reach::Whole, right - left, &|text| face.width(text) + 16.0);
        let frame = Frame::new(x, y_ruler.clone(), Rect::new(left, top, right, top + HIGH));
        let stacked = stack(areas, &places, &sums, &frame);
        (frame, stacked)
    };
    // Names of areas that are too thin for them stand at the right, for which the plot makes room.
    let (frame, stacked) = lay(WIDTH - MARGIN - 8.0);
    let words = Face::new(WORDS, sheet.palette.ink);
    let lines = |frame: &Frame| -> Lines {
        let limits = areas.limits.iter().filter(|limit| limit.at.is_finite()).take(MOST_LIMITS);
        Lines {
            level: limits.map(|limit| frame.at(0.0, limit.at).1).collect(),
            upright: marks.iter().map(|(at, _)| frame.at(*at, 0.0).0).collect(),
        }
    };
    let outside = stacked.iter().filter(|area| inside(area, &frame, words, &lines(&frame)).is_none());
    let widest = outside.map(|area| words.width(&area.name)).fold(0.0, f64::max);
    let (frame, stacked) = if widest > 0.0 { lay(WIDTH - MARGIN - widest.min(170.0) - 16.0) } else { (frame, stacked) };
    frame.draw(sheet);
    draw_areas(sheet, &frame, &stacked);
    let mut taken = Taken::new(Rect::new(left, top - 3.0, WIDTH - 4.0, frame.part.bottom));
    draw_limits(sheet, &frame, areas, &stacked, &mut taken);
    draw_marks(sheet, &frame, &marks, &frame.y.label);
    let crossing = lines(&frame);
    let unnamed = name_areas(sheet, &frame, &stacked, &crossing, &mut taken);
    limit_names(sheet, &frame, &areas.limits, areas.y.unit, &mut taken);
    let bottom = frame.part.bottom + LABELLED;
    Ok(if unnamed.is_empty() { bottom } else { legend::draw(sheet, &unnamed, bottom + 6.0) })
}

/// Says how high the areas are at the last place.
fn speak(sheet: &mut Sheet, areas: &Areas, sums: &[Vec<f64>]) {
    let mut below = 0.0;
    let mut said = Vec::new();
    for ((series, _), sums) in areas.areas.iter().zip(sums).take(12) {
        let up = sums.last().copied().unwrap_or(0.0);
        said.push(format!("{} {}", clean(&series.name), value(up - below, areas.y.unit)));
        below = up;
    }
    sheet.spoken.push(format!("At the right: {}", said.join(", ")));
}

/// The upper edges of the areas, in numbers; what is no height counts as none.
fn sums(areas: &Areas, places: &[(usize, f64)]) -> Vec<Vec<f64>> {
    let mut below = vec![0.0; places.len()];
    let mut all = Vec::new();
    for (_, heights) in areas.areas.iter().take(MOST) {
        for (sum, (at, _)) in below.iter_mut().zip(places) {
            let height = heights.get(*at).copied().unwrap_or(0.0);
            *sum += if height.is_finite() && (0.0..1e28).contains(&height) { height } else { 0.0 };
        }
        all.push(below.clone());
    }
    all
}

/// The areas on the sheet. A single place becomes a whole width.
fn stack(areas: &Areas, places: &[(usize, f64)], sums: &[Vec<f64>], frame: &Frame) -> Vec<Area> {
    let edge = |sums: &dyn Fn(usize) -> f64| {
        let mut points: Vec<At> = places.iter().enumerate().map(|(at, (_, x))| frame.at(*x, sums(at))).collect();
        if let [only] = points[..] {
            points = vec![(frame.part.left, only.1), (frame.part.right, only.1)];
        }
        thin(points)
    };
    let mut all = Vec::new();
    for (at, (series, _)) in areas.areas.iter().take(MOST).enumerate() {
        let lower = if at == 0 { edge(&|_| 0.0) } else { edge(&|place| sums[at - 1][place]) };
        let upper = edge(&|place| sums[at][place]);
        all.push(Area { name: clean(&series.name), tone: series.tone, upper, lower });
    }
    all
}

fn draw_areas(sheet: &mut Sheet, frame: &Frame, stacked: &[Area]) {
    let paper = sheet.palette.paper;
    for area in stacked {
        let around: Vec<At> = area.upper.iter().chain(area.lower.iter().rev()).copied().collect();
        let colour = sheet.palette.fill(area.tone);
        sheet.polygon(&around, colour, 1.0);
        if let Some(hatch) = hatch(area.tone) {
            sheet.hatch_polygon(&around, hatch, over(colour));
        }
        sheet.path(&area.upper, Pen::new(paper, 1.0));
    }
    let ends = ((frame.part.left, frame.part.bottom), (frame.part.right, frame.part.bottom));
    sheet.line(ends.0, ends.1, Pen::new(sheet.palette.faint, 1.0));
}

/// Draws limits, hatches what lies above the highest, and rings where it is crossed.
fn draw_limits(sheet: &mut Sheet, frame: &Frame, areas: &Areas, stacked: &[Area], taken: &mut Taken) {
    let limits: Vec<&Limit> = areas.limits.iter().filter(|limit| limit.at.is_finite() && limit.at >= 0.0).collect();
    let highest = limits.iter().map(|limit| limit.at).fold(f64::NEG_INFINITY, f64::max);
    let total: &[At] = stacked.last().map_or(&[], |area| &area.upper);
    if highest.is_finite() {
        let (_, line) = frame.at(0.0, highest);
        let above: Vec<At> = clip(total, line);
        if above.iter().any(|(_, y)| *y < line - 0.5) {
            let last = above.last().map_or(frame.part.right, |at| at.0);
            let first = above.first().map_or(frame.part.left, |at| at.0);
            let around = [&above[..], &[(last, line), (first, line)]].concat();
            sheet.hatch_polygon(&around, Hatch::Crossed, sheet.palette.paper);
        }
    }
    limit_lines(sheet, frame, &areas.limits, taken);
    for limit in limits.iter().take(MOST_LIMITS) {
        let (_, line) = frame.at(0.0, limit.at);
        for pair in total.windows(2) {
            let ((x0, y0), (x1, y1)) = (pair[0], pair[1]);
            if (y0 - line) * (y1 - line) < 0.0 {
                let at = (x0 + (x1 - x0) * (line - y0) / (y1 - y0), line);
                taken.take(Rect::new(at.0, at.1, at.0, at.1).grown(8.0));
                sheet.ring(at, 5.0, Pen::new(sheet.palette.paper, 4.5));
                sheet.ring(at, 5.0, Pen::new(sheet.palette.ink, 2.0));
            }
        }
    }
}

/// The part of a line that lies above a height, and along it elsewhere.
fn clip(points: &[At], line: f64) -> Vec<At> {
    let mut above: Vec<At> = Vec::new();
    for (at, (x, y)) in points.iter().enumerate() {
        if at > 0 {
            let (before, up) = points[at - 1];
            if (up - line) * (y - line) < 0.0 {
                above.push((before + (x - before) * (line - up) / (y - up), line));
            }
        }
        above.push((*x, y.min(line)));
    }
    above
}

/// Where within an area its name has room: the middle of the thickest part that is wide enough.
fn inside(area: &Area, frame: &Frame, face: Face, lines: &Lines) -> Option<At> {
    let columns = (frame.part.width() / COLUMN).floor().max(1.0) as usize;
    let edge = |points: &[At]| -> Vec<f64> {
        let mut heights = Vec::with_capacity(columns);
        let mut at = 0;
        for column in 0..columns {
            let x = frame.part.left + (column as f64 + 0.5) * COLUMN;
            while at + 2 < points.len() && points[at + 1].0 < x {
                at += 1;
            }
            let ((x0, y0), (x1, y1)) = (points[at], points[(at + 1).min(points.len() - 1)]);
            let way = if x1 > x0 { ((x - x0) / (x1 - x0)).clamp(0.0, 1.0) } else { 0.0 };
            heights.push(if x < points[0].0 - 1.0 { f64::NAN } else { y0 + (y1 - y0) * way });
        }
        heights
    };
    let (upper, lower) = (edge(&area.upper), edge(&area.lower));
    let wide = ((face.width(&area.name) + 12.0) / COLUMN).ceil() as usize;
    let mut best: Option<(f64, At)> = None;
    for from in 0..(columns + 1).saturating_sub(wide) {
        let high = upper[from..from + wide].iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let low = lower[from..from + wide].iter().copied().fold(f64::INFINITY, f64::min);
        if upper[from..from + wide].iter().any(|y| y.is_nan()) {
            continue;
        }
        let (high, low) = lines.between(high, low);
        let (left, right) = (frame.part.left + from as f64 * COLUMN, frame.part.left + (from + wide) as f64 * COLUMN);
        let crossed = lines.upright.iter().any(|x| left < *x && *x < right);
        // The thicker the better, but no more than comfortable: then nearer to the middle.
        let thick = (low - high).min(40.0) - (from as f64 + wide as f64 / 2.0 - columns as f64 / 2.0).abs() * 0.02;
        let thick = if crossed { thick - 16.0 } else { thick };
        if low - high >= ROOM && best.is_none_or(|best| thick > best.0) {
            let x = frame.part.left + (from as f64 + wide as f64 / 2.0) * COLUMN;
            best = Some((thick, (x, f64::midpoint(low, high) + face.size * 0.36)));
        }
    }
    best.map(|(_, at)| at)
}

/// Writes the names of areas within them, or at the right, and returns those that have no room there either.
fn name_areas(
    sheet: &mut Sheet,
    frame: &Frame,
    stacked: &[Area],
    lines: &Lines,
    taken: &mut Taken,
) -> Vec<(Sign, String)> {
    let mut outside: Vec<(At, &Area)> = Vec::new();
    for area in stacked.iter().filter(|area| !area.name.is_empty()) {
        let fill = sheet.palette.fill(area.tone);
        let face = Face::new(WORDS, fill.ink()).bold().middle().rimmed(fill);
        match inside(area, frame, face, lines) {
            Some(at) => {
                sheet.text(at, face, &area.name);
                taken.take(face.covers(at, &area.name));
            }
            None => {
                let (upper, lower) = (area.upper.last().copied(), area.lower.last().copied());
                let ((x, upper), (_, lower)) = (upper.unwrap_or_default(), lower.unwrap_or_default());
                outside.push(((x, f64::midpoint(upper, lower)), area));
            }
        }
    }
    if outside.len() as f64 * NAME > frame.part.height() {
        return outside.into_iter().map(|(_, area)| (Sign::Surface(area.tone), area.name.clone())).collect();
    }
    let wanted: Vec<f64> = outside.iter().map(|(at, _)| at.1).collect();
    let sizes = vec![NAME; outside.len()];
    for (y, (end, area)) in spread(&wanted, &sizes, frame.part.top, frame.part.bottom + 4.0).iter().zip(outside) {
        let (x, pen) = (frame.part.right + 10.0, Pen::new(sheet.palette.stroke(area.tone), 1.2));
        sheet.path(&[end, (frame.part.right + 1.0, end.1), (x - 2.0, *y)], pen);
        let face = Face::new(WORDS, sheet.palette.words(area.tone));
        let name = face.fit(&area.name, WIDTH - 4.0 - x);
        sheet.text((x, y + WORDS * 0.36), face, &name);
    }
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stand_between_lines() {
        let lines = Lines { level: vec![60.0, 40.0], upright: Vec::new() };
        for ((upper, lower), space) in [
            ((70.0, 100.0), (70.0, 100.0)),
            ((0.0, 100.0), (62.0, 100.0)),
            ((0.0, 65.0), (0.0, 38.0)),
            ((30.0, 66.0), (42.0, 58.0)),
            ((0.0, 50.0), (0.0, 38.0)),
        ] {
            let (high, low) = lines.between(upper, lower);
            let off = lines.level.iter().all(|line| *line < high || low < *line);
            assert!(off && upper <= high && low <= lower, "{upper} to {lower}: {high} to {low}");
            if low - high >= ROOM {
                assert!((high - space.0).abs() < 1e-9 && (low - space.1).abs() < 1e-9, "{high} {low} {space:?}");
            }
        }
    }
}
