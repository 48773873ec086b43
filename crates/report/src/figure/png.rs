//! How does a figure become pixels? The SVG that was drawn is rendered with the font that comes with the program, so that
//! every machine makes the same picture.

use std::sync::{Arc, OnceLock};

use resvg::tiny_skia::{Pixmap, Transform};
use resvg::usvg::{self, fontdb};

use super::Error;
use super::font::FILES;

/// The most pixels of a picture.
const MOST_PIXELS: u64 = 1 << 26;

/// Renders an SVG as PNG, `scale` pixels for each of its units (2 is what screens and print want).
///
/// # Errors
/// [`Error::Draw`] when it is no SVG or would be larger than 64 million pixels.
pub fn png(svg: &str, scale: f32) -> Result<Vec<u8>, Error> {
    let failed = |why: String| Error::Draw { figure: "PNG".to_owned(), why };
    let options = usvg::Options { fontdb: fonts(), font_family: "Noto Sans".to_owned(), ..usvg::Options::default() };
    let tree = usvg::Tree::from_str(svg, &options).map_err(|error| failed(error.to_string()))?;
    let size = tree.size().to_int_size().scale_by(scale).ok_or_else(|| failed(format!("a scale of {scale}")))?;
    if u64::from(size.width()) * u64::from(size.height()) > MOST_PIXELS {
        return Err(failed(format!("{} × {} pixels are too many", size.width(), size.height())));
    }
    let mut pixels = Pixmap::new(size.width(), size.height()).ok_or_else(|| failed("it has no size".to_owned()))?;
    resvg::render(&tree, Transform::from_scale(scale, scale), &mut pixels.as_mut());
    pixels.encode_png().map_err(|error| failed(error.to_string()))
}

/// The fonts, read once.
fn fonts() -> Arc<fontdb::Database> {
    static FONTS: OnceLock<Arc<fontdb::Database>> = OnceLock::new();
    let fonts = FONTS.get_or_init(|| {
        let mut fonts = fontdb::Database::new();
        for file in FILES {
            fonts.load_font_data(file.to_vec());
        }
        fonts.set_sans_serif_family("Noto Sans");
        Arc::new(fonts)
    });
    Arc::clone(fonts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_as_large_as_asked() {
        let svg = "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"20\" height=\"10\"><rect width=\"9\" height=\"9\"/></svg>";
        let picture = png(svg, 2.0).unwrap();
        assert_eq!(&picture[..8], b"\x89PNG\r\n\x1a\n");
        assert_eq!(&picture[16..24], [0, 0, 0, 40, 0, 0, 0, 20]);
        assert!(png(svg, 1e5).is_err() && png("no figure", 1.0).is_err() && png(svg, f32::NAN).is_err());
    }
}
