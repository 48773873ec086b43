//! A grid of cells: largest batch and context.

use super::super::{Cell, Heat};
use super::colour::Hatch;
use super::frame::{SMALL, WORDS};
use super::legend::{self, Sign};
use super::sheet::{Face, MARGIN, Pen, Rect, Sheet, WIDTH};
use super::words::clean;

/// The most columns and rows.
const MOST: usize = 80;
/// The smallest words in cells.
const SMALLEST: f64 = 11.0;

/// The grid on the sheet.
struct Grid {
    part: Rect,
    /// Which columns and rows are shown.
    columns: Vec<usize>,
    rows: Vec<usize>,
}

impl Grid {
    fn cell(&self, column: usize, row: usize) -> Rect {
        let x = |at: usize| (self.part.left + self.part.width() * at as f64 / self.columns.len() as f64).round();
        let y = |at: usize| (self.part.top + self.part.height() * at as f64 / self.rows.len() as f64).round();
        Rect::new(x(column), y(row), x(column + 1), y(row + 1))
    }
}

/// Draws the grid.
pub(super) fn draw(sheet: &mut Sheet, heat: &Heat, top: f64) -> Result<f64, &'static str> {
    let rows = heat.rows.len().max(heat.cells.len());
    let columns = heat.columns.len().max(heat.cells.iter().map(Vec::len).max().unwrap_or(0));
    if rows == 0 || columns == 0 || heat.cells.iter().all(Vec::is_empty) {
        return Err("it has no cells");
    }
    let (columns, rows) = (picked(columns), picked(rows));
    if columns.len() < heat.columns.len() || rows.len() < heat.rows.len() {
        sheet.notes.push(format!(
            "{} of {} columns and {} of {} rows are shown, evenly chosen.",
            columns.len(),
            heat.columns.len().max(columns.len()),
            rows.len(),
            heat.rows.len().max(rows.len())
        ));
    }
    let y = legend(sheet, heat, top);
    let face = Face::new(WORDS, sheet.palette.ink);
    let name = |at: usize| clean(heat.rows.get(at).map_or("", String::as_str));
    let names = rows.iter().map(|at| face.width(&name(*at))).fold(0.0, f64::max).min(190.0);
    let left = MARGIN + names + 8.0;
    let wide = ((WIDTH - MARGIN - left) / columns.len() as f64).min(84.0);
    let high = (440.0 / rows.len() as f64).clamp(8.0, 32.0);
    let top = y + 20.0;
    let part = Rect::new(left, top, left + wide * columns.len() as f64, top + high * rows.len() as f64);
    let grid = Grid { part, columns, rows };
    let label = Face::new(WORDS, sheet.palette.faint);
    let text = label.fit(&clean(&heat.y), WIDTH - 2.0 * MARGIN);
    sheet.text((MARGIN, top - 8.0), label, &text);
    cells(sheet, heat, &grid);
    outline(sheet, heat, &grid);
    let names = names_at(sheet, heat, &grid);
    let label = label.middle();
    let text = label.fit(&clean(&heat.x), WIDTH - 2.0 * MARGIN);
    let half = label.width(&text) / 2.0;
    let middle = f64::midpoint(part.left, part.right).max(MARGIN + half).min(WIDTH - MARGIN - half);
    sheet.text((middle, names + 18.0), label, &text);
    let feasible = heat.cells.iter().flatten().filter(|cell| cell.feasible).count();
    let all: usize = heat.cells.iter().map(Vec::len).sum();
    sheet.spoken.push(format!("{} by {}: {feasible} of {all} cells are feasible", clean(&heat.y), clean(&heat.x)));
    Ok(names + 26.0)
}

/// Which of many are shown: all, or as many as have room, evenly chosen.
fn picked(many: usize) -> Vec<usize> {
    if many <= MOST { (0..many).collect() } else { (0..MOST).map(|at| at * (many - 1) / (MOST - 1)).collect() }
}

fn cell<'a>(heat: &'a Heat, grid: &Grid, column: usize, row: usize) -> Option<&'a Cell> {
    heat.cells.get(*grid.rows.get(row)?)?.get(*grid.columns.get(column)?)
}

fn shade(cell: &Cell) -> Option<f64> {
    cell.shade.filter(|shade| shade.is_finite()).map(|shade| shade.clamp(0.0, 1.0))
}

/// Draws the cells with what is written in them.
fn cells(sheet: &mut Sheet, heat: &Heat, grid: &Grid) {
    let palette = sheet.palette;
    let ground = palette.paper.towards(palette.faint, 0.13);
    let first = grid.cell(0, 0);
    let (wide, high) = (first.width(), first.height());
    let face = |size: f64| Face::new(size, palette.ink).middle();
    let widest = |size: f64| {
        let shown = grid.rows.iter().filter_map(|row| heat.cells.get(*row)).flatten();
        shown.map(|cell| face(size).width(&clean(&cell.text))).fold(0.0, f64::max)
    };
    let size = [13.0, 12.0, SMALLEST].into_iter().find(|size| widest(*size) <= wide - 4.0 && size + 3.0 <= high);
    let gap = if wide > 12.0 && high > 10.0 { 1.0 } else { 0.0 };
    for row in 0..grid.rows.len() {
        for column in 0..grid.columns.len() {
            let Some(cell) = cell(heat, grid, column, row) else { continue };
            let part = grid.cell(column, row);
            let part = Rect::new(part.left, part.top, part.right - gap, part.bottom - gap);
            let fill = match shade(cell) {
                Some(shade) if cell.feasible => palette.ramp(shade),
                Some(_) | None => ground,
            };
            sheet.rect(part, fill);
            if !cell.feasible {
                sheet.hatch(part, Hatch::Rising, palette.paper.towards(palette.faint, 0.45));
            }
        }
    }
    let Some(size) = size else { return };
    for row in 0..grid.rows.len() {
        for column in 0..grid.columns.len() {
            let Some(cell) = cell(heat, grid, column, row) else { continue };
            let part = grid.cell(column, row);
            let at = (f64::midpoint(part.left, part.right), f64::midpoint(part.top, part.bottom) + size * 0.36);
            let text = clean(&cell.text);
            match shade(cell) {
                Some(shade) if cell.feasible => {
                    sheet.text(at, Face { colour: palette.ramp(shade).ink(), ..face(size) }, &text)
                }
                Some(_) | None => sheet.text(at, Face { colour: palette.faint, ..face(size) }.rimmed(ground), &text),
            }
        }
    }
}

/// Draws the border of the feasible region, if there is one.
fn outline(sheet: &mut Sheet, heat: &Heat, grid: &Grid) {
    let (columns, rows) = (grid.columns.len(), grid.rows.len());
    let inside = |column: Option<usize>, row: Option<usize>| {
        let (Some(column), Some(row)) = (column, row) else { return false };
        cell(heat, grid, column, row).is_some_and(|cell| cell.feasible)
    };
    let all = (0..rows).all(|row| (0..columns).all(|column| inside(Some(column), Some(row))));
    if all {
        return;
    }
    let pen = Pen::new(sheet.palette.ink, 2.4);
    // Along each line between rows, then between columns: pieces where one side is inside and the other is not.
    for row in 0..=rows {
        let edge = |column: usize| inside(Some(column), row.checked_sub(1)) != inside(Some(column), Some(row));
        for (from, to) in pieces(columns, edge) {
            let y = if row < rows { grid.cell(0, row).top } else { grid.cell(0, rows - 1).bottom };
            sheet.line((grid.cell(from, 0).left - 1.2, y - 0.5), (grid.cell(to, 0).right + 0.2, y - 0.5), pen);
        }
    }
    for column in 0..=columns {
        let edge = |row: usize| inside(column.checked_sub(1), Some(row)) != inside(Some(column), Some(row));
        for (from, to) in pieces(rows, edge) {
            let x = if column < columns { grid.cell(column, 0).left } else { grid.cell(columns - 1, 0).right };
            sheet.line((x - 0.5, grid.cell(0, from).top - 1.2), (x - 0.5, grid.cell(0, to).bottom + 0.2), pen);
        }
    }
}

/// Runs of places for which something holds: first and last.
fn pieces(many: usize, holds: impl Fn(usize) -> bool) -> Vec<(usize, usize)> {
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for at in (0..many).filter(|at| holds(*at)) {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == at => *last = at,
            Some(_) | None => runs.push((at, at)),
        }
    }
    runs
}

/// Writes the names of rows and columns, as many as have room, and returns where they end.
fn names_at(sheet: &mut Sheet, heat: &Heat, grid: &Grid) -> f64 {
    let face = Face::new(WORDS, sheet.palette.ink);
    let high = grid.cell(0, 0).height();
    let stride = (15.0 / high).ceil().max(1.0) as usize;
    for (row, at) in grid.rows.iter().enumerate().step_by(stride) {
        let part = grid.cell(0, row);
        let name = face.fit(&clean(heat.rows.get(*at).map_or("", String::as_str)), grid.part.left - MARGIN - 7.0);
        sheet.text((part.left - 8.0, f64::midpoint(part.top, part.bottom) + WORDS * 0.36), face.end(), &name);
    }
    let face = Face::new(SMALL, sheet.palette.ink).middle();
    let names: Vec<String> = grid
        .columns
        .iter()
        .map(|at| face.fit(&clean(heat.columns.get(*at).map_or("", String::as_str)), 150.0))
        .collect();
    let wide = grid.part.width() / grid.columns.len() as f64;
    let widest = names.iter().map(|name| face.width(name)).fold(0.0, f64::max);
    // Two lines in turn where one does not do, then fewer names.
    let lines = if widest + 6.0 <= wide { 1 } else { 2 };
    let stride = if lines == 1 { 1 } else { ((widest + 6.0) / wide / 2.0).ceil().max(1.0) as usize };
    let bottom = grid.part.bottom;
    for (shown, column) in (0..names.len()).step_by(stride).enumerate() {
        let part = grid.cell(column, 0);
        let half = face.width(&names[column]) / 2.0;
        let x = f64::midpoint(part.left, part.right).clamp(half + 4.0, WIDTH - half - 4.0);
        let y = bottom + 16.0 + if lines == 2 && shown % 2 == 1 { 15.0 } else { 0.0 };
        if lines == 2 {
            let middle = f64::midpoint(part.left, part.right);
            sheet.line((middle, bottom), (middle, y - 10.0), Pen::new(sheet.palette.grid, 1.0));
        }
        sheet.text((x, y), face, &names[column]);
    }
    bottom + 16.0 + if lines == 2 { 15.0 } else { 0.0 }
}

/// Draws what the colours say.
fn legend(sheet: &mut Sheet, heat: &Heat, top: f64) -> f64 {
    const RAMP: f64 = 120.0;
    const STEPS: u32 = 40;
    let face = Face::new(WORDS, sheet.palette.ink);
    let shaded =
        || heat.cells.iter().flatten().filter(|cell| cell.feasible).filter_map(|cell| Some((shade(cell)?, cell)));
    let low = shaded().min_by(|one, two| one.0.total_cmp(&two.0));
    let high = shaded().max_by(|one, two| one.0.total_cmp(&two.0));
    let mut y = top;
    if let (Some((from, low)), Some((to, high))) = (low, high) {
        let name = face.fit(&clean(&heat.legend), 360.0);
        let (low, high) = (face.fit(&clean(&low.text), 90.0), face.fit(&clean(&high.text), 90.0));
        let mut x = MARGIN;
        let only = low == high;
        sheet.text((x, y + 13.0), face.bold(), &name);
        x += face.bold().width(&name) + 12.0;
        if !only {
            sheet.text((x, y + 13.0), face, &low);
            x += face.width(&low) + 6.0;
        }
        // Whole units, or the seams of the ramp would show.
        x = x.round();
        let ramp = if only { 18.0 } else { RAMP };
        for step in 0..STEPS {
            let left = x + ramp * f64::from(step) / f64::from(STEPS);
            // Each step reaches to the end and is covered by the next: no seams.
            let part = Rect::new(left, y + 2.0, x + ramp, y + 14.0);
            let way = from + (to - from) * f64::from(step) / f64::from(STEPS - 1);
            sheet.rect(part, sheet.palette.ramp(way));
        }
        sheet.outline(Rect::new(x, y + 2.0, x + ramp, y + 14.0), Pen::new(sheet.palette.faint, 0.8));
        sheet.text((x + ramp + 6.0, y + 13.0), face, &high);
        y += 22.0;
    }
    let (mut feasible, mut not) = (false, false);
    for cell in heat.cells.iter().flatten() {
        feasible |= cell.feasible;
        not |= !cell.feasible;
    }
    let mut entries = Vec::new();
    if not && feasible {
        entries.push((Sign::Rim, "feasible".to_owned()));
    }
    if not {
        let name = clean(&heat.infeasible);
        entries.push((Sign::Hatched(Hatch::Rising), if name.is_empty() { "not feasible".to_owned() } else { name }));
    }
    legend::draw(sheet, &entries, y)
}
