//! How are the library's lines, surfaces and words written as SVG?
//!
//! The backend that comes with the drawing library knows no dashes, no hatching, no title and no description, writes the
//! sizes of words with their rounding errors, and names the font family at every word; so this one stands in its place.
//! Its coordinates are tenths of a unit. Surfaces of one colour that follow one another become one path, which keeps maps
//! of thousands of blocks small.

use std::collections::BTreeSet;
use std::fmt::{self, Write};

use plotters_backend::text_anchor::HPos;
use plotters_backend::{
    BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingBackend, DrawingErrorKind, FontStyle,
};

use super::super::font::{self, Weight};
use super::colour::{Colour, Hatch};

type Written = Result<(), DrawingErrorKind<fmt::Error>>;

/// What the library's styles cannot say, for the next thing drawn.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Extra {
    /// Lengths of dashes and gaps, in units.
    pub dash: &'static str,
    /// A surface is hatched, not filled.
    pub hatch: Option<Hatch>,
    /// Words have a rim of this colour.
    pub rim: Option<Colour>,
}

/// An SVG in the making.
#[derive(Default)]
pub(super) struct Backend {
    /// For the next thing drawn.
    pub extra: Extra,
    body: String,
    /// Fill of the path that the body ends in, if more can be added to it.
    open: Option<String>,
    hatches: BTreeSet<(Hatch, Colour)>,
}

impl Backend {
    /// Returns the whole SVG.
    pub fn finish(&mut self, (width, height): (f64, f64), paper: Colour, title: &str, description: &str) -> String {
        self.close();
        let (width, height) = (Tenths(tenths(width)), Tenths(tenths(height)));
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\" \
             role=\"img\" font-family=\"{}\">\n<title>{}</title>\n<desc>{}</desc>\n",
            font::FAMILY,
            Escaped(title),
            Escaped(description)
        );
        if !self.hatches.is_empty() {
            svg.push_str("<defs>\n");
            for (hatch, colour) in &self.hatches {
                svg.push_str(&pattern(*hatch, *colour));
            }
            svg.push_str("</defs>\n");
        }
        // How high the paper is is known last, but it lies below everything.
        svg.push_str(&format!("<rect width=\"{width}\" height=\"{height}\" fill=\"{}\"/>\n", Hex(paper)));
        svg.push_str(&self.body);
        svg.push_str("</svg>\n");
        svg
    }

    /// Ends the path that surfaces are being added to.
    fn close(&mut self) {
        if let Some(fill) = self.open.take() {
            self.body.push_str(&fill);
        }
    }

    /// Begins a path of this fill, or goes on with it.
    fn surface(&mut self, colour: BackendColor) {
        let rgb = Colour(colour.rgb.0, colour.rgb.1, colour.rgb.2);
        let mut fill = match self.extra.hatch {
            None => format!("\" fill=\"{}\"", Hex(rgb)),
            Some(hatch) => {
                self.hatches.insert((hatch, rgb));
                format!("\" fill=\"url(#{})\"", name(hatch, rgb))
            }
        };
        if colour.alpha < 1.0 {
            fill.push_str(&format!(" fill-opacity=\"{}\"", colour.alpha));
        }
        fill.push_str("/>\n");
        if self.open.as_ref() != Some(&fill) {
            self.close();
            self.body.push_str("<path d=\"");
            self.open = Some(fill);
        }
    }

    /// Writes a line from point to point, each after the first as its distance from the one before.
    fn points(&mut self, points: impl IntoIterator<Item = BackendCoord>) -> fmt::Result {
        let mut last: Option<BackendCoord> = None;
        for (x, y) in points {
            match last {
                None => write!(self.body, "M{} {}", Tenths(x), Tenths(y))?,
                Some(from) if from == (x, y) => {}
                Some((_, from)) if from == y => write!(self.body, "h{}", Tenths(x - last.map_or(0, |at| at.0)))?,
                Some((from, _)) if from == x => write!(self.body, "v{}", Tenths(y - last.map_or(0, |at| at.1)))?,
                Some((from, up)) => write!(self.body, "l{} {}", Tenths(x - from), Tenths(y - up))?,
            }
            last = Some((x, y));
        }
        Ok(())
    }

    fn stroke<S: BackendStyle>(&mut self, style: &S) -> fmt::Result {
        let colour = style.color();
        let rgb = Colour(colour.rgb.0, colour.rgb.1, colour.rgb.2);
        let width = Tenths(i32::try_from(style.stroke_width()).unwrap_or(10));
        write!(self.body, "stroke=\"{}\" stroke-width=\"{width}\"", Hex(rgb))?;
        if colour.alpha < 1.0 {
            write!(self.body, " stroke-opacity=\"{}\"", colour.alpha)?;
        }
        if !self.extra.dash.is_empty() {
            write!(self.body, " stroke-dasharray=\"{}\"", self.extra.dash)?;
        }
        Ok(())
    }
}

impl DrawingBackend for Backend {
    type ErrorType = fmt::Error;

    fn get_size(&self) -> (u32, u32) {
        (7200, 1_000_000)
    }

    fn ensure_prepared(&mut self) -> Written {
        Ok(())
    }

    fn present(&mut self) -> Written {
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, colour: BackendColor) -> Written {
        self.draw_rect((x, y), (x + 1, y + 1), &colour, true)
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Written {
        self.draw_path([from, to], style)
    }

    fn draw_rect<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S, fill: bool) -> Written {
        let corners = [from, (to.0, from.1), to, (from.0, to.1)];
        if fill { self.fill_polygon(corners, style) } else { self.draw_path(corners.into_iter().chain([from]), style) }
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, path: I, style: &S) -> Written {
        self.close();
        let draw = || -> fmt::Result {
            self.body.push_str("<path d=\"");
            self.points(path)?;
            self.body.push_str("\" fill=\"none\" ");
            self.stroke(style)?;
            self.body.push_str(" stroke-linejoin=\"round\"/>\n");
            Ok(())
        };
        draw().map_err(DrawingErrorKind::DrawingError)
    }

    fn draw_circle<S: BackendStyle>(&mut self, at: BackendCoord, radius: u32, style: &S, fill: bool) -> Written {
        self.close();
        let mut draw = || -> fmt::Result {
            let radius = Tenths(i32::try_from(radius).unwrap_or(10));
            write!(self.body, "<circle cx=\"{}\" cy=\"{}\" r=\"{radius}\" ", Tenths(at.0), Tenths(at.1))?;
            if fill {
                let colour = style.color();
                write!(self.body, "fill=\"{}\"", Hex(Colour(colour.rgb.0, colour.rgb.1, colour.rgb.2)))?;
                if colour.alpha < 1.0 {
                    write!(self.body, " fill-opacity=\"{}\"", colour.alpha)?;
                }
            } else {
                self.body.push_str("fill=\"none\" ");
                self.stroke(style)?;
            }
            self.body.push_str("/>\n");
            Ok(())
        };
        draw().map_err(DrawingErrorKind::DrawingError)
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, path: I, style: &S) -> Written {
        self.surface(style.color());
        self.points(path).map_err(DrawingErrorKind::DrawingError)?;
        self.body.push('z');
        Ok(())
    }

    /// Writes words upon the line through `at`.
    fn draw_text<S: BackendTextStyle>(&mut self, words: &str, style: &S, at: BackendCoord) -> Written {
        self.close();
        let mut draw = || -> fmt::Result {
            let colour = style.color();
            let size = Tenths(tenths(style.size() / 10.0));
            write!(self.body, "<text x=\"{}\" y=\"{}\" font-size=\"{size}\" ", Tenths(at.0), Tenths(at.1))?;
            write!(self.body, "fill=\"{}\"", Hex(Colour(colour.rgb.0, colour.rgb.1, colour.rgb.2)))?;
            match style.anchor().h_pos {
                HPos::Left => {}
                HPos::Right => self.body.push_str(" text-anchor=\"end\""),
                HPos::Center => self.body.push_str(" text-anchor=\"middle\""),
            }
            let weight = if bold(&style.style()) { Weight::Bold } else { Weight::Regular };
            if weight == Weight::Bold {
                self.body.push_str(" font-weight=\"bold\"");
            }
            // Where another font stands in, words take the room that was made for them, and no more.
            let room = Tenths(tenths(font::width(words, style.size() / 10.0, weight)));
            write!(self.body, " textLength=\"{room}\" lengthAdjust=\"spacingAndGlyphs\"")?;
            if let Some(rim) = self.extra.rim {
                let rim = Hex(rim);
                write!(
                    self.body,
                    " paint-order=\"stroke\" stroke=\"{rim}\" stroke-width=\"3\" stroke-linejoin=\"round\""
                )?;
            }
            writeln!(self.body, ">{}</text>", Escaped(words))
        };
        draw().map_err(DrawingErrorKind::DrawingError)
    }

    fn estimate_text_size<S: BackendTextStyle>(
        &self,
        words: &str,
        style: &S,
    ) -> Result<(u32, u32), DrawingErrorKind<fmt::Error>> {
        let weight = if bold(&style.style()) { Weight::Bold } else { Weight::Regular };
        let width = font::width(words, style.size(), weight);
        Ok((width.clamp(0.0, 1e6) as u32, style.size().clamp(0.0, 1e6) as u32))
    }
}

fn bold(style: &FontStyle) -> bool {
    match style {
        FontStyle::Bold => true,
        FontStyle::Normal | FontStyle::Oblique | FontStyle::Italic => false,
    }
}

/// Returns a length in tenths of a unit; what is no number or out of all bounds is put on the bound.
pub(super) fn tenths(length: f64) -> i32 {
    if length.is_nan() { 0 } else { (length * 10.0).round().clamp(-1e6, 1e6) as i32 }
}

/// A length, written in units.
struct Tenths(i32);

impl fmt::Display for Tenths {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 0 {
            f.write_char('-')?;
        }
        let (whole, rest) = (self.0.unsigned_abs() / 10, self.0.unsigned_abs() % 10);
        match (whole, rest) {
            (whole, 0) => write!(f, "{whole}"),
            (0, rest) => write!(f, ".{rest}"),
            (whole, rest) => write!(f, "{whole}.{rest}"),
        }
    }
}

/// A colour, written as SVG writes it.
struct Hex(Colour);

impl fmt::Display for Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "#{:02x}{:02x}{:02x}", self.0.0, self.0.1, self.0.2)
    }
}

/// Words, written as XML writes them.
struct Escaped<'a>(&'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '&' => f.write_str("&amp;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

/// The name of a pattern. It says all about the pattern, so that figures upon one page may share it.
fn name(hatch: Hatch, colour: Colour) -> String {
    let kind = match hatch {
        Hatch::Rising => "rising",
        Hatch::Falling => "falling",
        Hatch::Dots => "dots",
        Hatch::Level => "level",
        Hatch::Crossed => "crossed",
        Hatch::Upright => "upright",
    };
    format!("{kind}-{:02x}{:02x}{:02x}", colour.0, colour.1, colour.2)
}

fn pattern(hatch: Hatch, colour: Colour) -> String {
    let (name, hex) = (name(hatch, colour), Hex(colour));
    let lines = |path: &str| format!("<path d=\"{path}\" fill=\"none\" stroke=\"{hex}\"/>");
    let inside = match hatch {
        Hatch::Rising => lines("M-1 1l2-2M0 6l6-6M5 7l2-2"),
        Hatch::Falling => lines("M-1 5l2 2M0 0l6 6M5-1l2 2"),
        Hatch::Dots => format!(
            "<circle cx=\"1.5\" cy=\"1.5\" r=\".8\" fill=\"{hex}\"/><circle cx=\"4.5\" cy=\"4.5\" r=\".8\" fill=\"{hex}\"/>"
        ),
        Hatch::Level => lines("M0 1.5h6M0 4.5h6"),
        Hatch::Crossed => lines("M0 0l6 6M0 6l6-6"),
        Hatch::Upright => lines("M1.5 0v6M4.5 0v6"),
    };
    format!("<pattern id=\"{name}\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\">{inside}</pattern>\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_one_digit_after_the_point() {
        for (length, text) in [
            (0.0, "0"),
            (-0.04, "0"),
            (0.25, ".3"),
            (-0.5, "-.5"),
            (12.0, "12"),
            (719.96, "720"),
            (f64::NAN, "0"),
            (f64::INFINITY, "100000"),
        ] {
            assert_eq!(Tenths(tenths(length)).to_string(), text);
        }
        assert_eq!(Escaped("<a & \"b'>").to_string(), "&lt;a &amp; &quot;b&#39;&gt;");
    }
}
