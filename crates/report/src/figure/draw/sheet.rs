//! On what is a figure drawn? A sheet of paper with a palette, upon which things are put in units of the finished figure.

use std::cell::RefCell;
use std::rc::Rc;

use plotters::coord::Shift;
use plotters::drawing::DrawingArea;
use plotters::element::{Circle, PathElement, Polygon, Rectangle, Text};
use plotters::style::{Color, FontDesc, FontFamily, FontStyle, RGBAColor, ShapeStyle, TextStyle};
use plotters_backend::BackendCoord;
use plotters_backend::text_anchor::{HPos, Pos, VPos};

use super::super::Tone;
use super::super::font::{self, Weight};
use super::backend::{Backend, Extra, tenths};
use super::colour::{Colour, Hatch, Palette, Shape, hatch};
use super::words;

/// How wide every figure is.
pub(super) const WIDTH: f64 = 720.0;
/// What is left free at its sides.
pub(super) const MARGIN: f64 = 16.0;

/// A place on the sheet.
pub(super) type At = (f64, f64);

/// A part of the sheet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rect {
    pub left: f64,
    pub top: f64,
    pub right: f64,
    pub bottom: f64,
}

impl Rect {
    /// Returns a part of the sheet.
    pub fn new(left: f64, top: f64, right: f64, bottom: f64) -> Rect {
        Rect { left, top, right, bottom }
    }

    /// Returns how wide it is.
    pub fn width(&self) -> f64 {
        self.right - self.left
    }

    /// Returns how high it is.
    pub fn height(&self) -> f64 {
        self.bottom - self.top
    }

    /// Whether two parts share anything.
    pub fn meets(&self, other: &Rect) -> bool {
        self.left < other.right && other.left < self.right && self.top < other.bottom && other.top < self.bottom
    }

    /// Returns it with more on every side.
    pub fn grown(&self, by: f64) -> Rect {
        Rect::new(self.left - by, self.top - by, self.right + by, self.bottom + by)
    }
}

/// How a line is drawn.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pen {
    pub colour: Colour,
    pub width: f64,
    /// Lengths of dashes and gaps; empty for none.
    pub dash: &'static str,
}

impl Pen {
    /// Returns a pen without dashes.
    pub fn new(colour: Colour, width: f64) -> Pen {
        Pen { colour, width, dash: "" }
    }

    /// Returns it with dashes.
    pub fn dashed(self, dash: &'static str) -> Pen {
        Pen { dash, ..self }
    }
}

/// Where words stand beside their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// How words are set.
#[derive(Clone, Copy, Debug)]
pub(super) struct Face {
    pub size: f64,
    pub bold: bool,
    pub colour: Colour,
    pub anchor: Anchor,
    /// A rim that keeps lines behind the words off them.
    pub rim: Option<Colour>,
}

impl Face {
    /// Returns regular words that begin at their place.
    pub fn new(size: f64, colour: Colour) -> Face {
        Face { size, bold: false, colour, anchor: Anchor::Start, rim: None }
    }

    /// Returns it bold.
    pub fn bold(self) -> Face {
        Face { bold: true, ..self }
    }

    /// Returns it in the middle of its place.
    pub fn middle(self) -> Face {
        Face { anchor: Anchor::Middle, ..self }
    }

    /// Returns it ending at its place.
    pub fn end(self) -> Face {
        Face { anchor: Anchor::End, ..self }
    }

    /// Returns it with a rim.
    pub fn rimmed(self, rim: Colour) -> Face {
        Face { rim: Some(rim), ..self }
    }

    fn weight(&self) -> Weight {
        if self.bold { Weight::Bold } else { Weight::Regular }
    }

    /// Returns how wide words are.
    pub fn width(&self, words: &str) -> f64 {
        font::width(words, self.size, self.weight())
    }

    /// Returns the words, cut in their middle so that they are no wider.
    pub fn fit(&self, words: &str, width: f64) -> String {
        words::fit(words, width, |words| self.width(words))
    }

    /// Returns the words in lines that are no wider.
    pub fn wrap(&self, words: &str, width: f64, lines: usize) -> Vec<String> {
        words::wrap(words, width, lines, |words| self.width(words))
    }

    /// Returns what words at a place cover.
    pub fn covers(&self, (x, y): At, words: &str) -> Rect {
        let width = self.width(words);
        let left = match self.anchor {
            Anchor::Start => x,
            Anchor::Middle => x - width / 2.0,
            Anchor::End => x - width,
        };
        Rect::new(left, y - self.size * 0.78, left + width, y + self.size * 0.24)
    }
}

/// A sheet of paper.
pub(super) struct Sheet {
    /// Its colours.
    pub palette: Palette,
    /// What is to be said about how it was drawn, below the caption.
    pub notes: Vec<String>,
    /// Names and numbers of what is drawn, for those who do not see it.
    pub spoken: Vec<String>,
    backend: Rc<RefCell<Backend>>,
    area: DrawingArea<Backend, Shift>,
    failed: Option<String>,
}

impl Sheet {
    /// Returns an empty sheet.
    pub fn new(palette: Palette) -> Sheet {
        let backend = Rc::new(RefCell::new(Backend::default()));
        let area = DrawingArea::from(&backend);
        Sheet { palette, notes: Vec::new(), spoken: Vec::new(), backend, area, failed: None }
    }

    /// Returns the SVG.
    ///
    /// # Errors
    /// The first thing that the drawing library refused.
    pub fn finish(self, height: f64, title: &str, description: &str) -> Result<String, String> {
        match self.failed {
            Some(why) => Err(why),
            None => Ok(self.backend.borrow_mut().finish((WIDTH, height), self.palette.paper, title, description)),
        }
    }

    /// Fills a part of the sheet.
    pub fn rect(&mut self, part: Rect, colour: Colour) {
        self.with(Extra::default(), |area| {
            area.draw(&Rectangle::new(corners(part), filled(colour, 1.0))).map_err(|error| error.to_string())
        });
    }

    /// Fills a part of the sheet with the colour and the hatching of a thing.
    pub fn swatch(&mut self, part: Rect, tone: Tone) {
        let colour = self.palette.fill(tone);
        self.rect(part, colour);
        if let Some(hatch) = hatch(tone) {
            self.hatch(part, hatch, over(colour));
        }
    }

    /// Hatches a part of the sheet.
    pub fn hatch(&mut self, part: Rect, hatch: Hatch, colour: Colour) {
        self.with(Extra { hatch: Some(hatch), ..Extra::default() }, |area| {
            area.draw(&Rectangle::new(corners(part), filled(colour, 1.0))).map_err(|error| error.to_string())
        });
    }

    /// Draws a rim around a part of the sheet.
    pub fn outline(&mut self, part: Rect, pen: Pen) {
        self.path(
            &[
                (part.left, part.top),
                (part.right, part.top),
                (part.right, part.bottom),
                (part.left, part.bottom),
                (part.left, part.top),
            ],
            pen,
        );
    }

    /// Fills what lies within points.
    pub fn polygon(&mut self, points: &[At], colour: Colour, alpha: f64) {
        let points: Vec<BackendCoord> = points.iter().copied().map(place).collect();
        self.with(Extra::default(), |area| {
            area.draw(&Polygon::new(points, filled(colour, alpha))).map_err(|error| error.to_string())
        });
    }

    /// Hatches what lies within points.
    pub fn hatch_polygon(&mut self, points: &[At], hatch: Hatch, colour: Colour) {
        let points: Vec<BackendCoord> = points.iter().copied().map(place).collect();
        self.with(Extra { hatch: Some(hatch), ..Extra::default() }, |area| {
            area.draw(&Polygon::new(points, filled(colour, 1.0))).map_err(|error| error.to_string())
        });
    }

    /// Draws a line from point to point.
    pub fn path(&mut self, points: &[At], pen: Pen) {
        if points.len() < 2 {
            return;
        }
        let points: Vec<BackendCoord> = points.iter().copied().map(place).collect();
        let style = stroked(pen);
        self.with(Extra { dash: pen.dash, ..Extra::default() }, |area| {
            area.draw(&PathElement::new(points, style)).map_err(|error| error.to_string())
        });
    }

    /// Draws a line from one place to another.
    pub fn line(&mut self, from: At, to: At, pen: Pen) {
        self.path(&[from, to], pen);
    }

    /// Draws a ring.
    pub fn ring(&mut self, at: At, radius: f64, pen: Pen) {
        let (at, radius) = (place(at), tenths(radius).unsigned_abs());
        self.with(Extra::default(), |area| {
            area.draw(&Circle::new(at, radius, stroked(pen))).map_err(|error| error.to_string())
        });
    }

    /// Draws a dot of a shape, with a thin rim of the paper that keeps it off what lies behind.
    pub fn dot(&mut self, (x, y): At, shape: Shape, radius: f64, colour: Colour) {
        let r = radius;
        let points: Vec<At> = match shape {
            Shape::Circle => {
                let (at, paper) = (place((x, y)), self.palette.paper);
                let (inner, outer) = (tenths(r).unsigned_abs(), tenths(r + 1.0).unsigned_abs());
                self.with(Extra::default(), |area| {
                    let rim = area.draw(&Circle::new(at, outer, filled(paper, 1.0)));
                    let dot = area.draw(&Circle::new(at, inner, filled(colour, 1.0)));
                    rim.and(dot).map_err(|error| error.to_string())
                });
                return;
            }
            Shape::Square => [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)].to_vec(),
            Shape::Triangle => [(0.0, -1.2), (1.15, 0.85), (-1.15, 0.85)].to_vec(),
            Shape::Turned => [(0.0, 1.2), (1.15, -0.85), (-1.15, -0.85)].to_vec(),
            Shape::Diamond => [(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)].to_vec(),
            Shape::Bar => [(-1.3, -0.45), (1.3, -0.45), (1.3, 0.45), (-1.3, 0.45)].to_vec(),
            Shape::Plus => star(0.0),
            Shape::Cross => star(std::f64::consts::FRAC_1_SQRT_2),
        };
        let mut points: Vec<At> = points.into_iter().map(|(dx, dy)| (x + dx * r, y + dy * r)).collect();
        let paper = self.palette.paper;
        points.push(points[0]);
        self.path(&points, Pen::new(paper, 2.0));
        self.polygon(&points, colour, 1.0);
    }

    /// Draws a dot without a rim, of few corners: one of a crowd. Those of one colour that follow one another are one path.
    pub fn mote(&mut self, (x, y): At, shape: Shape, radius: f64, colour: Colour) {
        let r = radius;
        let points = match shape {
            Shape::Circle | Shape::Bar => {
                [(-0.4, -1.0), (0.4, -1.0), (1.0, -0.4), (1.0, 0.4), (0.4, 1.0), (-0.4, 1.0), (-1.0, 0.4), (-1.0, -0.4)]
                    .to_vec()
            }
            Shape::Square => [(-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)].to_vec(),
            Shape::Triangle => [(0.0, -1.2), (1.15, 0.85), (-1.15, 0.85)].to_vec(),
            Shape::Turned => [(0.0, 1.2), (1.15, -0.85), (-1.15, -0.85)].to_vec(),
            Shape::Diamond => [(0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)].to_vec(),
            Shape::Plus => star(0.0),
            Shape::Cross => star(std::f64::consts::FRAC_1_SQRT_2),
        };
        let points: Vec<At> = points.into_iter().map(|(dx, dy)| (x + dx * r, y + dy * r)).collect();
        self.polygon(&points, colour, 1.0);
    }

    /// Writes words, their line at the place.
    pub fn text(&mut self, at: At, face: Face, words: &str) {
        if words.is_empty() {
            return;
        }
        let style = if face.bold { FontStyle::Bold } else { FontStyle::Normal };
        let at = place(at);
        let h_pos = match face.anchor {
            Anchor::Start => HPos::Left,
            Anchor::Middle => HPos::Center,
            Anchor::End => HPos::Right,
        };
        let Colour(red, green, blue) = face.colour;
        let style = TextStyle {
            font: FontDesc::new(FontFamily::SansSerif, face.size * 10.0, style),
            color: RGBAColor(red, green, blue, 1.0).to_backend_color(),
            pos: Pos::new(h_pos, VPos::Bottom),
        };
        self.with(Extra { rim: face.rim, ..Extra::default() }, |area| {
            area.draw(&Text::new(words, at, style)).map_err(|error| error.to_string())
        });
    }

    fn with(&mut self, extra: Extra, draw: impl FnOnce(&DrawingArea<Backend, Shift>) -> Result<(), String>) {
        self.backend.borrow_mut().extra = extra;
        if let Err(why) = draw(&self.area) {
            self.failed.get_or_insert(why);
        }
    }
}

/// The colour of hatching upon a colour: its ink, thinned.
pub(super) fn over(colour: Colour) -> Colour {
    colour.towards(colour.ink(), 0.38)
}

/// A plus, or a cross where `turned` is the sine of its turn.
fn star(turned: f64) -> Vec<At> {
    const ARM: f64 = 1.35;
    const HALF: f64 = 0.42;
    let cos = if turned > 0.0 { std::f64::consts::FRAC_1_SQRT_2 } else { 1.0 };
    [
        (-HALF, -ARM),
        (HALF, -ARM),
        (HALF, -HALF),
        (ARM, -HALF),
        (ARM, HALF),
        (HALF, HALF),
        (HALF, ARM),
        (-HALF, ARM),
        (-HALF, HALF),
        (-ARM, HALF),
        (-ARM, -HALF),
        (-HALF, -HALF),
    ]
    .into_iter()
    .map(|(x, y)| (x * cos - y * turned, x * turned + y * cos))
    .collect()
}

fn place((x, y): At) -> BackendCoord {
    (tenths(x), tenths(y))
}

fn corners(part: Rect) -> [BackendCoord; 2] {
    [place((part.left, part.top)), place((part.right, part.bottom))]
}

fn filled(Colour(red, green, blue): Colour, alpha: f64) -> ShapeStyle {
    ShapeStyle { color: RGBAColor(red, green, blue, alpha), filled: true, stroke_width: 0 }
}

fn stroked(pen: Pen) -> ShapeStyle {
    let Colour(red, green, blue) = pen.colour;
    ShapeStyle {
        color: RGBAColor(red, green, blue, 1.0),
        filled: false,
        stroke_width: tenths(pen.width).unsigned_abs(),
    }
}
