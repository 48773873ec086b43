//! What do colours and shapes mean, where words at the things themselves do not say it?

use super::super::Tone;
use super::colour::{Hatch, Shape};
use super::sheet::{Face, MARGIN, Pen, Rect, Sheet, WIDTH, over};

/// How wide a sign is, and how high a line of signs.
const SIGN: f64 = 18.0;
const LINE: f64 = 20.0;
/// The most entries.
const MOST: usize = 24;

/// The sign of an entry.
#[derive(Clone, Copy, Debug)]
pub(super) enum Sign {
    /// A surface.
    Surface(Tone),
    /// Hatching upon faint ground.
    Hatched(Hatch),
    /// A bold rim.
    Rim,
    /// A short upright line.
    Tick,
    /// A line, with dashes, and perhaps a shape upon it.
    Line(Tone, &'static str, Option<Shape>),
    /// A dot.
    Dot(Tone, Shape),
    /// A ring.
    Ring(Tone),
    /// A bar with a tick in its middle.
    Interval(Tone),
    /// Surfaces of requests side by side.
    Requests,
    /// The paper, with a thin rim.
    Paper,
    /// Dark ground with hatching.
    Shared,
}

/// Draws signs with names, line by line, and returns where it ends. Nothing is drawn for no entries.
pub(super) fn draw(sheet: &mut Sheet, entries: &[(Sign, String)], top: f64) -> f64 {
    if entries.is_empty() {
        return top;
    }
    let face = Face::new(13.0, sheet.palette.ink);
    let (mut x, mut y) = (MARGIN, top);
    for (at, (sign, name)) in entries.iter().enumerate() {
        let name = if at == MOST { format!("and {} more", entries.len() - MOST) } else { face.fit(name, 440.0) };
        let width = SIGN + 6.0 + face.width(&name) + 18.0;
        if x + width - 18.0 > WIDTH - MARGIN && x > MARGIN {
            (x, y) = (MARGIN, y + LINE);
        }
        if at < MOST {
            draw_sign(sheet, *sign, x, y + LINE / 2.0 - 2.0);
        }
        sheet.text((x + SIGN + 6.0, y + 13.0), face, &name);
        x += width;
        if at == MOST {
            break;
        }
    }
    y + LINE + 4.0
}

fn draw_sign(sheet: &mut Sheet, sign: Sign, x: f64, y: f64) {
    let palette = sheet.palette;
    let part = Rect::new(x, y - 6.0, x + SIGN, y + 6.0);
    let middle = (x + SIGN / 2.0, y);
    match sign {
        Sign::Surface(tone) => sheet.swatch(part, tone),
        Sign::Hatched(hatch) => {
            let ground = palette.paper.towards(palette.faint, 0.15);
            sheet.rect(part, ground);
            sheet.hatch(part, hatch, palette.paper.towards(palette.faint, 0.6));
        }
        Sign::Rim => sheet.outline(part.grown(-1.0), Pen::new(palette.ink, 2.2)),
        Sign::Tick => sheet.line((middle.0, y - 8.0), (middle.0, y + 8.0), Pen::new(palette.ink, 2.4)),
        Sign::Line(tone, dash, shape) => {
            sheet.line((x, y), (x + SIGN, y), Pen::new(palette.stroke(tone), 2.0).dashed(dash));
            if let Some(shape) = shape {
                sheet.dot(middle, shape, 3.5, palette.stroke(tone));
            }
        }
        Sign::Dot(tone, shape) => sheet.dot(middle, shape, 4.5, palette.stroke(tone)),
        Sign::Ring(tone) => sheet.ring(middle, 4.5, Pen::new(palette.stroke(tone), 2.0)),
        Sign::Interval(tone) => {
            sheet.rect(Rect::new(x, y - 4.0, x + SIGN, y + 4.0), palette.paper.towards(palette.fill(tone), 0.55));
            sheet.line((middle.0, y - 6.0), (middle.0, y + 6.0), Pen::new(palette.stroke(tone), 2.4));
        }
        Sign::Requests => {
            for at in 0..3_u32 {
                let left = x + SIGN / 3.0 * f64::from(at);
                sheet.rect(Rect::new(left, y - 6.0, left + SIGN / 3.0, y + 6.0), palette.request(u64::from(at)));
            }
        }
        Sign::Paper => sheet.outline(part, Pen::new(palette.faint, 1.0)),
        Sign::Shared => {
            let ground = palette.paper.towards(palette.ink, 0.62);
            sheet.rect(part, ground);
            sheet.hatch(part, Hatch::Dots, over(ground));
        }
    }
}
