//! How wide is a text? As wide as in Noto Sans, which PNGs are set in; the fonts that a browser may take in its place are
//! no wider.

use std::sync::OnceLock;

use skrifa::instance::{LocationRef, Size};
use skrifa::{FontRef, MetadataProvider};

/// The family names that SVGs ask for.
pub(super) const FAMILY: &str = "Noto Sans, Helvetica, Arial, Liberation Sans, sans-serif";

/// A weight of the font.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// For everything.
    Regular,
    /// For titles.
    Bold,
}

/// The font's files, with their licence in the crate that holds them.
pub(super) const FILES: [&[u8]; 2] = [notosans::REGULAR_TTF, notosans::BOLD_TTF];

/// Characters whose widths are kept.
const KEPT: usize = 0x2300;

/// Returns how wide a text is, in the units of `size`. Characters that the font lacks count as one em.
pub(super) fn width(text: &str, size: f64, weight: Weight) -> f64 {
    static WIDTHS: [OnceLock<Vec<f32>>; 2] = [OnceLock::new(), OnceLock::new()];
    let at = match weight {
        Weight::Regular => 0,
        Weight::Bold => 1,
    };
    let widths = WIDTHS[at].get_or_init(|| widths(FILES[at]));
    text.chars().map(|c| f64::from(widths.get(c as usize).copied().unwrap_or(1.0))).sum::<f64>() * size
}

/// The widths of the first characters of Unicode, in em.
fn widths(file: &[u8]) -> Vec<f32> {
    let Ok(font) = FontRef::new(file) else { return Vec::new() };
    let (map, metrics) = (font.charmap(), font.glyph_metrics(Size::unscaled(), LocationRef::default()));
    let em = f32::from(font.metrics(Size::unscaled(), LocationRef::default()).units_per_em);
    let of = |code: usize| {
        let c = char::from_u32(u32::try_from(code).unwrap_or(0))?;
        metrics.advance_width(map.map(c)?).map(|width| width / em)
    };
    (0..KEPT).map(|code| of(code).unwrap_or(1.0)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn widths_are_the_fonts() {
        // Noto Sans: a digit is 1171 of 2048 parts of an em.
        let digits = width("0000", 10.0, Weight::Regular);
        assert!((digits - 40.0 * 1171.0 / 2048.0).abs() < 1e-4, "{digits}");
        assert!(width("weights", 10.0, Weight::Bold) > width("weights", 10.0, Weight::Regular));
        for c in "≥≤−×µ·–…“”≈∞±".chars() {
            assert!((width(&c.to_string(), 1.0, Weight::Regular) - 1.0).abs() > 1e-9, "{c} is missing");
        }
    }
}
