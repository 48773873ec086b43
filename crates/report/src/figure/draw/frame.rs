//! What stands around a plot: axes with their marks, the grid behind, names of places above.

use plotters::coord::CoordTranslate;
use plotters::coord::cartesian::Cartesian2d;

use super::backend::tenths;
use super::place::spread;
use super::ruler::Ruler;
use super::sheet::{At, Face, MARGIN, Pen, Rect, Sheet, WIDTH};

/// The size of numbers at axes, and of words at things.
pub(super) const SMALL: f64 = 12.0;
pub(super) const WORDS: f64 = 13.0;

/// How much lies below an axis for its marks and its label.
pub(super) const LABELLED: f64 = 42.0;

/// A plot's two axes on a part of the sheet.
pub(super) struct Frame {
    pub part: Rect,
    pub x: Ruler,
    pub y: Ruler,
    plane: Cartesian2d<Ruler, Ruler>,
}

impl Frame {
    /// Returns the two axes on a part of the sheet.
    pub fn new(x: Ruler, y: Ruler, part: Rect) -> Frame {
        let ends = (tenths(part.left)..tenths(part.right), tenths(part.bottom)..tenths(part.top));
        Frame { part, plane: Cartesian2d::new(x.clone(), y.clone(), ends), x, y }
    }

    /// Returns the place of two numbers.
    pub fn at(&self, x: f64, y: f64) -> At {
        let (x, y) = self.plane.translate(&(x, y));
        (f64::from(x) / 10.0, f64::from(y) / 10.0)
    }

    /// Draws the grid, the marks at the left and below, and the labels: below, and above at the left.
    pub fn draw(&self, sheet: &mut Sheet) {
        self.draw_y(sheet);
        draw_x(sheet, &self.x, self.part, true);
        let face = Face::new(WORDS, sheet.palette.faint);
        let label = face.fit(&self.y.label, WIDTH - 2.0 * MARGIN);
        sheet.text((MARGIN, self.part.top - 12.0), face, &label);
    }

    /// Draws the grid from the left and the marks there.
    pub fn draw_y(&self, sheet: &mut Sheet) {
        let (face, grid) = (Face::new(SMALL, sheet.palette.faint).end(), Pen::new(sheet.palette.grid, 1.0));
        for tick in &self.y.ticks {
            let (_, y) = self.at(0.0, tick.at);
            sheet.line((self.part.left, y), (self.part.right, y), grid);
            sheet.text((self.part.left - 6.0, y + 4.3), face, &tick.text);
        }
    }
}

/// Draws the grid from below, the marks and the axis, with its label where asked, and returns where it ends.
pub(super) fn draw_x(sheet: &mut Sheet, x: &Ruler, part: Rect, labelled: bool) -> f64 {
    let (faint, grid) = (sheet.palette.faint, Pen::new(sheet.palette.grid, 1.0));
    let face = Face::new(SMALL, faint).middle();
    for tick in &x.ticks {
        let at = part.left + part.width() * x.part(tick.at);
        sheet.line((at, part.top), (at, part.bottom), grid);
        if labelled {
            sheet.line((at, part.bottom), (at, part.bottom + 4.0), Pen::new(faint, 1.0));
            let half = face.width(&tick.text) / 2.0;
            sheet.text((at.clamp(half + 2.0, WIDTH - half - 2.0), part.bottom + 17.0), face, &tick.text);
        }
    }
    sheet.line((part.left, part.bottom), (part.right, part.bottom), Pen::new(faint, 1.0));
    if !labelled {
        return part.bottom;
    }
    let face = Face::new(WORDS, faint).middle();
    let label = face.fit(&x.label, WIDTH - 2.0 * MARGIN);
    let half = face.width(&label) / 2.0;
    let middle = f64::midpoint(part.left, part.right).clamp(MARGIN + half, WIDTH - MARGIN - half);
    sheet.text((middle, part.bottom + 35.0), face, &label);
    part.bottom + LABELLED
}

/// How high the names of `many` places above a plot stand.
pub(super) fn tiers(sheet: &Sheet, names: &[(f64, String)], (low, high): (f64, f64)) -> usize {
    let face = Face::new(WORDS, sheet.palette.ink).bold();
    let all: f64 = names.iter().map(|(_, name)| face.width(name) + 14.0).sum();
    if names.is_empty() { 0 } else { ((all / (high - low)).ceil() as usize).clamp(1, 3) }
}

/// How high a line of names is.
pub(super) const TIER: f64 = 18.0;

/// Writes names of places above `bottom`, in as many lines as they need, each with a line down to its place. Names that
/// find no room in three lines are left out.
pub(super) fn names_above(sheet: &mut Sheet, names: &[(f64, String)], (low, high): (f64, f64), bottom: f64) {
    let lines = tiers(sheet, names, (low, high));
    let face = Face::new(WORDS, sheet.palette.ink).bold().middle().rimmed(sheet.palette.paper);
    let mut order: Vec<&(f64, String)> = names.iter().collect();
    order.sort_by(|one, two| one.0.total_cmp(&two.0));
    let mut placed: Vec<(At, f64, String)> = Vec::new();
    for line in 0..lines {
        let mut used = 0.0;
        let mut here: Vec<(f64, String)> = Vec::new();
        for (x, name) in order.iter().skip(line).step_by(lines) {
            let name = face.fit(name, (high - low) * 0.7);
            used += face.width(&name) + 14.0;
            if used <= high - low + 14.0 {
                here.push((*x, name));
            }
        }
        let sizes: Vec<f64> = here.iter().map(|(_, name)| face.width(name) + 14.0).collect();
        let wanted: Vec<f64> = here.iter().map(|(x, _)| *x).collect();
        let y = bottom - TIER * (lines - line) as f64 + 11.0;
        for ((place, (x, name)), size) in spread(&wanted, &sizes, low - 7.0, high + 7.0).iter().zip(here).zip(sizes) {
            let half = (size - 14.0) / 2.0;
            // The line leaves the words where they are nearest to the place.
            let from = x.clamp(place - half, place + half);
            placed.push(((*place, y), x, name));
            sheet.path(&[(from, y + 4.0), (x, bottom)], Pen::new(sheet.palette.faint, 1.0));
        }
    }
    for (at, _, name) in placed {
        sheet.text(at, face, &name);
    }
}
