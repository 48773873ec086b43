//! Lines and dots over two quantities, alone or several below one another.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Axis, Dot, Line, Panel, Plot, Stroke, Tone};
use super::colour::{Shape, shape};
use super::course::{beads, thin};
use super::frame::{Frame, LABELLED, SMALL, TIER, WORDS, draw_x, names_above, tiers};
use super::labels::{MOST_LIMITS, limit_lines, limit_names, mark_name};
use super::legend::{self, Sign};
use super::place::{Taken, spread};
use super::ruler::{Extent, Reach, Ruler};
use super::sheet::{At, Face, MARGIN, Pen, Rect, Sheet, WIDTH};
use super::words::clean;

/// The most lines, dots, and panels.
const MOST_LINES: usize = 48;
const MOST_DOTS: usize = 4000;
const MOST_PANELS: usize = 24;
/// How wide names at the ends of lines may be.
const GUTTER: f64 = 170.0;
/// How high a name at the end of a line is.
const NAME: f64 = 16.0;

/// Draws a plot.
pub(super) fn draw(sheet: &mut Sheet, plot: &Plot, top: f64) -> Result<f64, &'static str> {
    let shown = Shown::of(sheet, plot).ok_or("it has no points with finite numbers")?;
    let entries = shown.legend(&BTreeSet::new());
    let y = legend::draw(sheet, &entries, top);
    let marks = marks(plot);
    let gutters = Gutters { left: shown.left(sheet, 300.0), right: shown.right(sheet) };
    let width = gutters.part(0.0, 0.0).width();
    let above = tiers(sheet, &marks, (MARGIN, WIDTH - MARGIN)) as f64 * TIER;
    let top = y + 26.0 + above;
    let high = if shown.dots.len() > 60 { 400.0 } else { 300.0 };
    let part = gutters.part(top, top + high);
    let frame = shown.frame(sheet, part, shown.x_ruler(sheet, width));
    frame.draw(sheet);
    draw_marks(sheet, &frame, &marks, &frame.y.label);
    let unnamed = shown.draw(sheet, &frame);
    let bottom = part.bottom + LABELLED;
    // Lines whose names found no place have them below.
    let names: Vec<(Sign, String)> = unnamed.iter().map(|line| (line.sign(), line.name.clone())).collect();
    Ok(if names.is_empty() { bottom } else { legend::draw(sheet, &names, bottom + 6.0) })
}

/// Draws plots below one another with the same axis along.
pub(super) fn draw_panels(sheet: &mut Sheet, panels: &[Panel], top: f64) -> Result<f64, &'static str> {
    let all: Vec<(String, Shown<'_>)> = panels
        .iter()
        .take(MOST_PANELS)
        .filter_map(|panel| Some((clean(&panel.title), Shown::of(sheet, &panel.plot)?)))
        .collect();
    let Some((_, first)) = all.first() else { return Err("none of its plots has points with finite numbers") };
    if panels.len() > all.len() {
        sheet.notes.push(format!("{} of {} plots are shown: the others have no numbers.", all.len(), panels.len()));
    }
    let high = match all.len() {
        1 => 220.0,
        2 => 150.0,
        3 => 120.0,
        4 | 5 => 96.0,
        _ => 76.0,
    };
    let mut entries: Vec<(Sign, String)> = Vec::new();
    for (_, shown) in &all {
        for entry in shown.legend(&BTreeSet::new()) {
            if entries.iter().all(|(_, name)| *name != entry.1) {
                entries.push(entry);
            }
        }
    }
    let mut y = legend::draw(sheet, &entries, top);
    let gutters = Gutters {
        left: all.iter().map(|(_, shown)| shown.left(sheet, high)).fold(0.0, f64::max),
        right: all.iter().map(|(_, shown)| shown.right(sheet)).fold(0.0, f64::max),
    };
    let mut extent = first.x;
    all.iter().for_each(|(_, shown)| extent.join(shown.x));
    let width = gutters.part(0.0, 0.0).width();
    let reach = if all.iter().all(|(_, shown)| shown.dots.is_empty()) { Reach::Whole } else { Reach::Zero };
    let x = ruler_along(sheet, &first.plot.x, extent, width, reach);
    let mut bottom = y;
    let mut unnamed: Vec<Named> = Vec::new();
    for (at, (title, shown)) in all.iter().enumerate() {
        let marks = marks(shown.plot);
        let above = tiers(sheet, &marks, (MARGIN, WIDTH - MARGIN)) as f64 * TIER;
        let part = gutters.part(y + 24.0 + above, y + 24.0 + above + high);
        let frame = shown.frame(sheet, part, x.clone());
        panel_title(sheet, title, &frame.y.label, y + 15.0);
        frame.draw_y(sheet);
        draw_x(sheet, &frame.x, part, at + 1 == all.len());
        draw_marks(sheet, &frame, &marks, "");
        for line in shown.draw(sheet, &frame) {
            if unnamed.iter().all(|other| other.name != line.name) {
                unnamed.push(line);
            }
        }
        bottom = part.bottom;
        y = bottom + 10.0;
    }
    let names: Vec<(Sign, String)> = unnamed.iter().map(|line| (line.sign(), line.name.clone())).collect();
    let bottom = bottom + LABELLED;
    Ok(if names.is_empty() { bottom } else { legend::draw(sheet, &names, bottom + 6.0) })
}

/// Writes what a panel shows, and what its numbers are.
fn panel_title(sheet: &mut Sheet, title: &str, label: &str, y: f64) {
    let (bold, plain) = (Face::new(WORDS, sheet.palette.ink).bold(), Face::new(SMALL, sheet.palette.faint));
    let title = bold.fit(title, (WIDTH - 2.0 * MARGIN) * 0.7);
    sheet.text((MARGIN, y), bold, &title);
    let x = MARGIN + if title.is_empty() { 0.0 } else { bold.width(&title) + 10.0 };
    let same = label.get(..title.len()).is_some_and(|head| head.eq_ignore_ascii_case(&title));
    let unit = if same { label[title.len()..].trim() } else { label };
    let label = plain.fit(unit, (WIDTH - MARGIN - x).max(0.0));
    sheet.text((x, y), plain, &label);
}

/// What is left free at both sides of a plot.
struct Gutters {
    left: f64,
    right: f64,
}

impl Gutters {
    fn part(&self, top: f64, bottom: f64) -> Rect {
        Rect::new(MARGIN + self.left, top, WIDTH - MARGIN - self.right, bottom)
    }
}

/// The marks that can be shown, with their names.
fn marks(plot: &Plot) -> Vec<(f64, String)> {
    let extent = Extent::of(&plot.x);
    let shown = plot.marks.iter().filter(|mark| extent.shows(mark.at)).take(MOST_LIMITS);
    shown.map(|mark| (mark.at, mark_name(&mark.name, mark.at, plot.x.unit))).collect()
}

/// Draws marks and their names above the plot, off the label that stands there.
pub(super) fn draw_marks(sheet: &mut Sheet, frame: &Frame, marks: &[(f64, String)], label: &str) {
    let named: Vec<(f64, String)> = marks.iter().map(|(at, name)| (frame.at(*at, 0.0).0, name.clone())).collect();
    for (x, _) in &named {
        let ends = ((*x, frame.part.top), (*x, frame.part.bottom));
        sheet.line(ends.0, ends.1, Pen::new(sheet.palette.faint, 1.2).dashed("3 3"));
    }
    // The label of the axis stands just above the plot at its left, names above it.
    let lines = tiers(sheet, &named, (MARGIN, WIDTH - MARGIN));
    let end = Face::new(WORDS, sheet.palette.faint).width(label) + MARGIN + 12.0;
    let face = Face::new(WORDS, sheet.palette.ink).bold();
    let meets = lines > 1 || named.iter().any(|(x, name)| x - face.width(name) / 2.0 < end);
    let lift = if meets && !label.is_empty() { 18.0 } else { 0.0 };
    // Below a name that stands over the label its line begins with the plot.
    for (x, _) in named.iter().filter(|(x, _)| lift > 0.0 && *x > end) {
        sheet.line((*x, frame.part.top - lift), (*x, frame.part.top), Pen::new(sheet.palette.faint, 1.0));
    }
    names_above(sheet, &named, (MARGIN, WIDTH - MARGIN), frame.part.top - lift);
}

/// A line without a name at it.
struct Named {
    name: String,
    tone: Tone,
    dash: &'static str,
    shape: Option<Shape>,
}

impl Named {
    fn sign(&self) -> Sign {
        Sign::Line(self.tone, self.dash, self.shape)
    }
}

/// A line as it is drawn: its pieces between gaps, in numbers.
struct Course<'a> {
    line: &'a Line,
    name: String,
    pieces: Vec<Vec<(f64, f64)>>,
    band: Vec<(f64, f64, f64)>,
}

/// What is seen of a plot.
struct Shown<'a> {
    plot: &'a Plot,
    lines: Vec<Course<'a>>,
    dots: Vec<&'a Dot>,
    x: Extent,
    y: Extent,
}

impl<'a> Shown<'a> {
    /// Returns what can be shown, if anything can.
    fn of(sheet: &mut Sheet, plot: &'a Plot) -> Option<Shown<'a>> {
        let (mut x, mut y) = (Extent::of(&plot.x), Extent::of(&plot.y));
        let mut lines: Vec<Course<'a>> = Vec::new();
        for line in plot.lines.iter().take(MOST_LINES) {
            let mut pieces = vec![Vec::new()];
            for point in &line.points {
                if x.shows(point.0) && y.shows(point.1) {
                    if let Some(piece) = pieces.last_mut() {
                        piece.push(*point);
                    }
                } else if pieces.last().is_some_and(|piece| !piece.is_empty()) {
                    pieces.push(Vec::new());
                }
            }
            pieces.retain(|piece| !piece.is_empty());
            let band = line.band.iter().filter(|(at, low, high)| x.shows(*at) && y.shows(*low) && y.shows(*high));
            let band: Vec<(f64, f64, f64)> = band.copied().collect();
            for (at, up) in pieces.iter().flatten() {
                x.add(*at);
                y.add(*up);
            }
            for (at, low, high) in &band {
                x.add(*at);
                y.add(*low);
                y.add(*high);
            }
            if !pieces.is_empty() || band.len() > 1 {
                lines.push(Course { line, name: clean(&line.series.name), pieces, band });
            }
        }
        let dots: Vec<&Dot> = plot.dots.iter().filter(|dot| x.shows(dot.x) && y.shows(dot.y)).collect();
        dots.iter().for_each(|dot| {
            x.add(dot.x);
            y.add(dot.y);
        });
        if lines.is_empty() && dots.is_empty() {
            return None;
        }
        plot.limits.iter().take(MOST_LIMITS).for_each(|limit| y.add(limit.at));
        plot.marks.iter().take(MOST_LIMITS).for_each(|mark| x.add(mark.at));
        if plot.lines.len() > MOST_LINES {
            sheet.notes.push(format!("The first {MOST_LINES} of {} lines are shown.", plot.lines.len()));
        }
        let names: Vec<&str> = lines.iter().map(|course| course.name.as_str()).take(16).collect();
        sheet.spoken.push(format!("{} by {}: {}", clean(&plot.y.label), clean(&plot.x.label), names.join(", ")));
        Some(Shown { plot, lines, dots, x, y })
    }

    /// The kinds of dots, in the order in which they appear.
    fn kinds(&self) -> Vec<(&str, Tone)> {
        let mut kinds: Vec<(&str, Tone)> = Vec::new();
        let mut seen = BTreeSet::new();
        for dot in &self.dots {
            if seen.insert(dot.series.name.as_str()) {
                kinds.push((dot.series.name.as_str(), dot.series.tone));
            }
        }
        kinds
    }

    /// What has to be said of the dots.
    fn legend(&self, said: &BTreeSet<String>) -> Vec<(Sign, String)> {
        let kinds = self.kinds().into_iter().filter(|(name, _)| !name.is_empty() && !said.contains(*name));
        kinds.map(|(name, tone)| (Sign::Dot(tone, shape(tone)), clean(name))).collect()
    }

    fn y_ruler(&self, sheet: &Sheet, high: f64) -> Ruler {
        let _ = sheet;
        Ruler::new(&self.plot.y, self.y, Reach::Zero, high, &|_| 24.0)
    }

    fn x_ruler(&self, sheet: &Sheet, width: f64) -> Ruler {
        ruler_along(sheet, &self.plot.x, self.x, width, self.reach())
    }

    /// How far the axis along goes: lines may end at its end, dots stand off it.
    fn reach(&self) -> Reach {
        if self.dots.is_empty() { Reach::Whole } else { Reach::Zero }
    }

    fn frame(&self, sheet: &Sheet, part: Rect, x: Ruler) -> Frame {
        Frame::new(x, self.y_ruler(sheet, part.height()), part)
    }

    /// How wide the numbers at the left are.
    fn left(&self, sheet: &Sheet, high: f64) -> f64 {
        let face = Face::new(SMALL, sheet.palette.faint);
        let ruler = self.y_ruler(sheet, high);
        ruler.ticks.iter().map(|tick| face.width(&tick.text)).fold(16.0, f64::max) + 8.0
    }

    /// How wide the names at the ends of lines are.
    fn right(&self, sheet: &Sheet) -> f64 {
        let face = Face::new(WORDS, sheet.palette.ink);
        let ruler = self.x_ruler(sheet, 600.0);
        let ends = self.lines.iter().filter(|course| !course.name.is_empty() && self.at_the_end(course, &ruler));
        let widest = ends.map(|course| face.width(&course.name)).fold(0.0, f64::max);
        if widest > 0.0 { widest.min(GUTTER) + 14.0 } else { 6.0 }
    }

    /// Whether a line's name can stand at the right of the plot: the line ends there.
    fn at_the_end(&self, course: &Course<'_>, x: &Ruler) -> bool {
        course.pieces.last().and_then(|piece| piece.last()).is_some_and(|(at, _)| x.part(*at) > 0.93)
    }

    /// Draws lines, dots and words, and returns the lines whose names found no place.
    fn draw(&self, sheet: &mut Sheet, frame: &Frame) -> Vec<Named> {
        let mut taken = Taken::new(Rect::new(frame.part.left, frame.part.top - 3.0, WIDTH - 4.0, frame.part.bottom));
        for course in &self.lines {
            draw_band(sheet, frame, course);
        }
        limit_lines(sheet, frame, &self.plot.limits, &mut taken);
        for (at, _) in marks(self.plot) {
            let (x, _) = frame.at(at, 0.0);
            taken.line(&[(x, frame.part.top), (x, frame.part.bottom)], u16::MAX);
        }
        let many = self.lines.len() > 1;
        let mut drawn: Vec<Vec<Vec<At>>> = Vec::new();
        for (at, course) in self.lines.iter().enumerate() {
            let pieces: Vec<Vec<At>> = course.pieces.iter().map(|piece| course.path(frame, piece)).collect();
            for piece in &pieces {
                sheet.path(piece, course.pen(sheet));
                taken.line(piece, at as u16 + 1);
            }
            drawn.push(pieces);
        }
        for (at, (course, pieces)) in self.lines.iter().zip(&drawn).enumerate() {
            let lone = pieces.iter().all(|piece| piece.len() < 2);
            // Shapes upon lines would pass for dots where there are dots.
            if many && self.dots.is_empty() && course.line.series.tone != Tone::Faint || lone {
                let colour = sheet.palette.stroke(course.line.series.tone);
                for place in beads(pieces, at) {
                    sheet.dot(place, shape(course.line.series.tone), 3.4, colour);
                }
            }
        }
        self.draw_dots(sheet, frame, &mut taken);
        limit_names(sheet, frame, &self.plot.limits, self.plot.y.unit, &mut taken);
        let unnamed = self.name_lines(sheet, frame, &drawn, &mut taken);
        self.name_dots(sheet, frame, &mut taken);
        unnamed
    }

    fn draw_dots(&self, sheet: &mut Sheet, frame: &Frame, taken: &mut Taken) {
        let crowd = self.dots.len() > 200;
        let mut order: Vec<&&Dot> = self.dots.iter().collect();
        // What stands back is drawn first; of a crowd, one kind after the other, as small as can be told apart.
        order.sort_by_key(|dot| dot.series.tone != Tone::Faint);
        if crowd {
            order.sort_by(|one, two| {
                let back = |dot: &Dot| dot.series.tone != Tone::Faint;
                (back(one), &one.series.name).cmp(&(back(two), &two.series.name))
            });
        }
        let mut seen: BTreeMap<(i64, i64, &str), ()> = BTreeMap::new();
        let mut left_out = 0_usize;
        for dot in order {
            let at = frame.at(dot.x, dot.y);
            let fine = if self.dots.len() > 500 { 0.5 } else { 10.0 };
            let square = ((at.0 * fine).round() as i64, (at.1 * fine).round() as i64, dot.series.name.as_str());
            if seen.insert(square, ()).is_some() {
                continue;
            }
            if seen.len() > MOST_DOTS {
                left_out += 1;
                continue;
            }
            let colour = sheet.palette.stroke(dot.series.tone);
            if crowd && dot.label.is_empty() {
                // The larger the crowd, the smaller its dots, and the paler those that stand back.
                let few = self.dots.len() <= 500;
                let back = dot.series.tone == Tone::Faint && !few;
                let colour = if back { sheet.palette.fill(Tone::Faint) } else { colour };
                sheet.mote(at, shape(dot.series.tone), if few { 3.2 } else { 2.3 }, colour);
                taken.line(&[(at.0 - 2.0, at.1), (at.0 + 2.0, at.1)], u16::MAX);
            } else {
                sheet.dot(at, shape(dot.series.tone), 4.4, colour);
                taken.take(Rect::new(at.0, at.1, at.0, at.1).grown(4.4));
            }
        }
        if left_out > 0 {
            sheet.notes.push(format!("{left_out} dots that lie among others are not drawn."));
        }
    }

    /// Writes the names of lines: at the right where they end there, else where there is room along them. Where many find
    /// none, all are left to the legend.
    fn name_lines(&self, sheet: &mut Sheet, frame: &Frame, drawn: &[Vec<Vec<At>>], taken: &mut Taken) -> Vec<Named> {
        let face = Face::new(WORDS, sheet.palette.ink);
        let room = WIDTH - MARGIN - frame.part.right - 8.0;
        let named: Vec<usize> = (0..self.lines.len()).filter(|at| !self.lines[*at].name.is_empty()).collect();
        let end = |at: usize| drawn[at].last().and_then(|piece| piece.last()).copied().unwrap_or_default();
        let ends: Vec<usize> = named.iter().copied().filter(|at| self.at_the_end(&self.lines[*at], &frame.x)).collect();
        let wanted: Vec<f64> = ends.iter().map(|at| end(*at).1).collect();
        let places = spread(&wanted, &vec![NAME; ends.len()], frame.part.top - 8.0, frame.part.bottom + 8.0);
        // Names far from their ends would be guessed at: lines that end together are named along their way.
        let crowded = ends.len() as f64 * NAME > frame.part.height() + 16.0
            || places.iter().zip(&wanted).any(|(place, wanted)| (place - wanted).abs() > 2.2 * NAME);
        let mut at_ends: Vec<(f64, usize)> = places.into_iter().zip(ends).collect();
        if crowded {
            at_ends.clear();
        }
        for (y, at) in &at_ends {
            let name = face.fit(&self.lines[*at].name, room);
            taken.take(face.covers((frame.part.right + 8.0, y + WORDS * 0.36), &name));
        }
        let mut along: Vec<(usize, Face, At, String)> = Vec::new();
        let mut unnamed: Vec<usize> = Vec::new();
        for at in named.iter().copied().filter(|at| at_ends.iter().all(|(_, end)| end != at)) {
            let face =
                Face::new(WORDS, sheet.palette.words(self.lines[at].line.series.tone)).rimmed(sheet.palette.paper);
            let name = face.fit(&self.lines[at].name, 260.0);
            // Of lines whose dots the legend names only what stands free is named again.
            let series = &self.lines[at].line.series.name;
            let said = self.dots.iter().any(|dot| dot.series.name == *series);
            let most = if said { 1.0 } else { 5.0 };
            match along_line(face, at as u16 + 1, &name, &drawn[at], taken, most) {
                Some((face, place)) => {
                    taken.take(face.covers(place, &name));
                    along.push((at, face, place, name));
                }
                None if said => {}
                None => unnamed.push(at),
            }
        }
        if unnamed.len() > 1 && unnamed.len() * 3 > named.len() {
            (at_ends, along, unnamed) = (Vec::new(), Vec::new(), named);
        }
        for (_, face, place, name) in along {
            sheet.text(place, face, &name);
        }
        for (y, at) in at_ends {
            self.name_end(sheet, frame, (&self.lines[at], end(at)), y);
        }
        let many = self.lines.len() > 1 && self.dots.is_empty();
        unnamed.into_iter().map(|at| self.lines[at].named(many)).collect()
    }

    /// Writes a line's name at the right of the plot, with a line to it where it was pushed away.
    fn name_end(&self, sheet: &mut Sheet, frame: &Frame, (course, end): (&Course<'_>, At), y: f64) {
        let (x, tone) = (frame.part.right + 8.0, course.line.series.tone);
        if (y - end.1).abs() > 3.0 || end.0 < frame.part.right - 6.0 {
            let pen = Pen::new(sheet.palette.stroke(tone), 0.8);
            sheet.path(&[end, (frame.part.right + 1.0, end.1), (x - 2.0, y)], pen);
        }
        let face = Face::new(WORDS, sheet.palette.words(tone));
        let name = face.fit(&course.name, WIDTH - MARGIN - x);
        sheet.text((x, y + WORDS * 0.36), face, &name);
    }

    /// Writes what stands beside dots, where there is room.
    fn name_dots(&self, sheet: &mut Sheet, frame: &Frame, taken: &mut Taken) {
        let mut left_out = 0_usize;
        let labelled = self.dots.iter().filter(|dot| !dot.label.trim().is_empty()).take(300);
        for dot in labelled {
            let (x, y) = frame.at(dot.x, dot.y);
            let face = Face::new(SMALL, sheet.palette.words(dot.series.tone)).rimmed(sheet.palette.paper);
            let label = face.fit(&clean(&dot.label), 220.0);
            let places = [
                (face, (x + 8.0, y + 4.3), 0.0),
                (face.end(), (x - 8.0, y + 4.3), 0.4),
                (face.middle(), (x, y - 8.0), 0.6),
                (face.middle(), (x, y + 17.0), 0.8),
                (face, (x + 6.0, y - 6.0), 1.0),
                (face.end(), (x - 6.0, y - 6.0), 1.2),
                (face, (x + 6.0, y + 14.0), 1.4),
                (face.end(), (x - 6.0, y + 14.0), 1.6),
            ];
            let near = places.map(|(face, at, more)| (face, at, more, false));
            let mut best: Option<(f64, Face, At, bool)> = None;
            for (face, at, more, far) in near.into_iter().chain(far(face, (x, y))) {
                let Some(cost) = taken.cost(&face.covers(at, &label), 0) else { continue };
                if best.as_ref().is_none_or(|best| cost + more < best.0) {
                    best = Some((cost + more, face, at, far));
                }
            }
            match best.filter(|(cost, _, _, _)| *cost < 14.0) {
                Some((_, face, at, far)) => {
                    let covers = face.covers(at, &label);
                    if far {
                        let end = (x.clamp(covers.left, covers.right), y.clamp(covers.top + 1.0, covers.bottom - 1.0));
                        sheet.line((x, y), end, Pen::new(sheet.palette.stroke(dot.series.tone), 0.8));
                        taken.line(&[(x, y), end], u16::MAX);
                    }
                    sheet.text(at, face, &label);
                    taken.take(covers.grown(1.0));
                }
                None => left_out += 1,
            }
        }
        if left_out > 0 && self.dots.len() <= 60 {
            let dots = if left_out == 1 { "dot has" } else { "dots have" };
            sheet.notes.push(format!("{left_out} {dots} no name for want of room."));
        }
    }
}

/// Places for words further from a dot, to which a line leads from it.
fn far(face: Face, (x, y): At) -> impl Iterator<Item = (Face, At, f64, bool)> {
    const AROUND: [At; 10] = [
        (1.0, 0.4),
        (1.0, -0.4),
        (-1.0, 0.4),
        (-1.0, -0.4),
        (0.8, 0.9),
        (0.8, -0.9),
        (-0.8, 0.9),
        (-0.8, -0.9),
        (0.3, 1.0),
        (-0.3, -1.0),
    ];
    [22.0, 38.0, 56.0].into_iter().flat_map(move |far| {
        AROUND.into_iter().enumerate().map(move |(at, (dx, dy))| {
            let face = if dx > 0.0 { face } else { face.end() };
            (face, (x + dx * far, y + dy * far + 4.3), 2.0 + far / 14.0 + 0.05 * at as f64, true)
        })
    })
}

impl Course<'_> {
    fn pen(&self, sheet: &Sheet) -> Pen {
        Pen { colour: sheet.palette.stroke(self.line.series.tone), width: 2.0, dash: self.dash() }
    }

    fn dash(&self) -> &'static str {
        match self.line.stroke {
            Stroke::Solid | Stroke::Steps => "",
            Stroke::Dashed => "7 4",
        }
    }

    fn named(&self, many: bool) -> Named {
        let tone = self.line.series.tone;
        Named { name: self.name.clone(), tone, dash: self.dash(), shape: many.then(|| shape(tone)) }
    }

    /// The points of a piece on the sheet, no more of them than can be seen.
    fn path(&self, frame: &Frame, piece: &[(f64, f64)]) -> Vec<At> {
        let points = thin(piece.iter().map(|(x, y)| frame.at(*x, *y)).collect());
        match self.line.stroke {
            Stroke::Solid | Stroke::Dashed => points,
            Stroke::Steps => {
                let mut steps: Vec<At> = Vec::new();
                for at in points {
                    if let Some(last) = steps.last().copied() {
                        steps.push((at.0, last.1));
                    }
                    steps.push(at);
                }
                steps
            }
        }
    }
}

fn ruler_along(sheet: &Sheet, axis: &Axis, extent: Extent, width: f64, reach: Reach) -> Ruler {
    let face = Face::new(SMALL, sheet.palette.faint);
    Ruler::new(axis, extent, reach, width, &|text| face.width(text) + 16.0)
}

/// Draws the band around a line.
fn draw_band(sheet: &mut Sheet, frame: &Frame, course: &Course<'_>) {
    if course.band.len() < 2 {
        return;
    }
    let low = thin(course.band.iter().map(|(x, low, _)| frame.at(*x, *low)).collect());
    let mut high = thin(course.band.iter().map(|(x, _, high)| frame.at(*x, *high)).collect());
    high.reverse();
    let colour = sheet.palette.fill(course.line.series.tone);
    sheet.polygon(&[low, high].concat(), colour, 0.2);
}

/// Where a line's name stands beside it with least beneath, if there is room.
fn along_line(face: Face, own: u16, name: &str, pieces: &[Vec<At>], taken: &Taken, most: f64) -> Option<(Face, At)> {
    let points: Vec<At> = pieces.iter().flatten().copied().collect();
    let mut best: Option<(f64, Face, At)> = None;
    let stops = points.len().min(40);
    for stop in 0..stops {
        // From the end of the line backwards.
        let index = points.len() - 1 - stop * (points.len() - 1) / stops.max(1);
        let (x, y) = points[index];
        let places = [
            (face, (x + 7.0, y + 4.5)),
            (face, (x + 5.0, y - 7.0)),
            (face, (x + 5.0, y + 17.0)),
            (face.end(), (x - 5.0, y - 7.0)),
            (face.end(), (x - 5.0, y + 17.0)),
            (face.end(), (x - 7.0, y + 4.5)),
        ];
        for (side, (face, at)) in places.into_iter().enumerate() {
            let Some(cost) = taken.cost(&face.covers(at, name), own) else { continue };
            let order = 0.08 * stop as f64 + 0.1 * side as f64;
            if best.as_ref().is_none_or(|best| cost + order < best.0) && cost < most {
                best = Some((cost + order, face, at));
            }
        }
    }
    best.map(|(_, face, at)| (face, at))
}
