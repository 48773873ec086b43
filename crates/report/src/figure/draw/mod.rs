//! How is a figure put on paper? Its question above, what it rests on below, and between them what is seen, drawn with the
//! library's elements and coordinates. Every kind of figure has its file; what they share (colours, axes, places of words)
//! has its own.

mod areas;
mod backend;
mod bars;
mod blocks;
mod colour;
mod course;
mod frame;
mod heat;
mod labels;
mod legend;
mod place;
mod plot;
mod ranges;
mod ruler;
mod sheet;
mod spans;
mod words;

#[cfg(test)]
mod tests;

use super::{Body, Error, Figure, Theme};
use colour::Palette;
use sheet::{Face, MARGIN, Sheet, WIDTH};

/// Draws a figure as SVG: 720 wide, as high as it needs.
///
/// # Errors
/// [`Error::Empty`] for a figure without rows, points or finite numbers, [`Error::Draw`] when the drawing library refuses.
pub fn svg(figure: &Figure, theme: Theme) -> Result<String, Error> {
    let name = words::clean(&figure.name);
    let (title, subtitle) = (words::clean(&figure.title), words::clean(&figure.subtitle));
    let mut sheet = Sheet::new(Palette::of(theme));
    let top = head(&mut sheet, &title, &subtitle);
    let body = draw(&mut sheet, &figure.body, top);
    let bottom = body.map_err(|why| Error::Empty { figure: name.clone(), why: why.to_owned() })?;
    let caption = words::clean(&figure.caption);
    let height = foot(&mut sheet, &caption, bottom);
    let mut description = vec![subtitle];
    description.append(&mut sheet.spoken);
    description.push(caption);
    description.append(&mut sheet.notes);
    description.retain(|sentence| !sentence.is_empty());
    let title = if title.is_empty() { &name } else { &title };
    sheet.finish(height, title, &description.join(". ")).map_err(|why| Error::Draw { figure: name, why })
}

/// Draws what is seen, from `top`, and returns where it ends; or says what is missing.
fn draw(sheet: &mut Sheet, body: &Body, top: f64) -> Result<f64, &'static str> {
    match body {
        Body::Bars(bars) => bars::draw(sheet, bars, top),
        Body::Areas(areas) => areas::draw(sheet, areas, top),
        Body::Heat(heat) => heat::draw(sheet, heat, top),
        Body::Plot(plot) => plot::draw(sheet, plot, top),
        Body::Panels(panels) => plot::draw_panels(sheet, panels, top),
        Body::Spans(spans) => spans::draw(sheet, spans, top),
        Body::Blocks(blocks) => blocks::draw(sheet, blocks, top),
        Body::Ranges(ranges) => ranges::draw(sheet, ranges, top),
    }
}

/// Writes the question and what it is about, and returns where they end.
fn head(sheet: &mut Sheet, title: &str, subtitle: &str) -> f64 {
    let mut y = 14.0;
    let face = Face::new(18.0, sheet.palette.ink).bold();
    for line in face.wrap(title, WIDTH - 2.0 * MARGIN, 4) {
        y += 23.0;
        sheet.text((MARGIN, y - 5.0), face, &line);
    }
    let face = Face::new(14.0, sheet.palette.faint);
    for line in face.wrap(subtitle, WIDTH - 2.0 * MARGIN, 4) {
        y += 19.0;
        sheet.text((MARGIN, y - 3.0), face, &line);
    }
    y + 10.0
}

/// Writes what the figure rests on and how it was drawn, and returns where the sheet ends.
fn foot(sheet: &mut Sheet, caption: &str, bottom: f64) -> f64 {
    let face = Face::new(12.5, sheet.palette.faint);
    let mut y = bottom + 6.0;
    let notes = sheet.notes.clone();
    for words in std::iter::once(caption).chain(notes.iter().map(String::as_str)) {
        for line in face.wrap(words, WIDTH - 2.0 * MARGIN, 24) {
            y += 18.0;
            sheet.text((MARGIN, y - 4.0), face, &line);
        }
    }
    y + 10.0
}
