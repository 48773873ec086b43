//! Which colour, shape and hatching has a thing? Okabe's and Ito's colours, which stay apart for the colour-blind; a shape
//! or a hatching stands beside each, so that colour is never alone.

use super::super::{Theme, Tone};

/// A colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Colour(pub u8, pub u8, pub u8);

impl Colour {
    /// Returns the colour some way towards another: 0 is itself, 1 the other.
    pub fn towards(self, other: Colour, way: f64) -> Colour {
        let mix = |from: u8, to: u8| (f64::from(from) + (f64::from(to) - f64::from(from)) * way).round() as u8;
        Colour(mix(self.0, other.0), mix(self.1, other.1), mix(self.2, other.2))
    }

    /// Returns the contrast with another colour: 1 to 21, as the Web Content Accessibility Guidelines 2 count it.
    pub fn contrast(self, other: Colour) -> f64 {
        let (one, two) = (self.luminance(), other.luminance());
        (one.max(two) + 0.05) / (one.min(two) + 0.05)
    }

    /// Returns black or white, whichever is better read on this colour.
    pub fn ink(self) -> Colour {
        if self.contrast(BLACK) >= self.contrast(WHITE) { BLACK } else { WHITE }
    }

    fn luminance(self) -> f64 {
        let linear = |part: u8| {
            let part = f64::from(part) / 255.0;
            if part <= 0.04045 { part / 12.92 } else { libm::pow((part + 0.055) / 1.055, 2.4) }
        };
        0.2126 * linear(self.0) + 0.7152 * linear(self.1) + 0.0722 * linear(self.2)
    }
}

const BLACK: Colour = Colour(0x00, 0x00, 0x00);
const WHITE: Colour = Colour(0xff, 0xff, 0xff);
const BLUE: Colour = Colour(0x00, 0x72, 0xb2);
const ORANGE: Colour = Colour(0xe6, 0x9f, 0x00);
const PINK: Colour = Colour(0xcc, 0x79, 0xa7);
const YELLOW: Colour = Colour(0xf0, 0xe4, 0x42);
const GREEN: Colour = Colour(0x00, 0x9e, 0x73);
const SKY: Colour = Colour(0x56, 0xb4, 0xe9);
const RED: Colour = Colour(0xd5, 0x5e, 0x00);
const GREY: Colour = Colour(0x99, 0x99, 0x99);

/// The colours of numbered things. Red, which says bad elsewhere, comes last.
const NUMBERED: [Colour; 8] = [BLUE, ORANGE, GREEN, PINK, SKY, YELLOW, GREY, RED];

/// The colours of one background.
#[derive(Clone, Copy, Debug)]
pub(super) struct Palette {
    pub paper: Colour,
    pub ink: Colour,
    /// For what stands back: axes, captions.
    pub faint: Colour,
    /// For lines behind everything.
    pub grid: Colour,
    dark: bool,
}

impl Palette {
    /// Returns the colours of a theme.
    pub fn of(theme: Theme) -> Palette {
        match theme {
            Theme::Light => Palette {
                paper: WHITE,
                ink: Colour(0x1a, 0x1a, 0x1a),
                faint: Colour(0x59, 0x59, 0x59),
                grid: Colour(0xe4, 0xe4, 0xe4),
                dark: false,
            },
            Theme::Dark => Palette {
                paper: Colour(0x0d, 0x11, 0x17),
                ink: Colour(0xf0, 0xf6, 0xfc),
                faint: Colour(0xa0, 0xa8, 0xb3),
                grid: Colour(0x28, 0x2e, 0x37),
                dark: true,
            },
        }
    }

    /// Returns the colour of a surface.
    pub fn fill(&self, tone: Tone) -> Colour {
        match tone {
            Tone::Weights => BLUE,
            Tone::Activations => ORANGE,
            Tone::Runtime => PINK,
            Tone::Graphs => YELLOW,
            Tone::Kv => GREEN,
            Tone::Bad => RED,
            Tone::Faint => self.paper.towards(self.faint, 0.35),
            Tone::Nth(at) => {
                let colour = NUMBERED[at % NUMBERED.len()];
                match (at / NUMBERED.len()) % 3 {
                    0 => colour,
                    1 => colour.towards(WHITE, 0.45),
                    _ => colour.towards(BLACK, 0.4),
                }
            }
        }
    }

    /// Returns the colour of a line or a dot: a surface's, as far towards the ink as it needs to be seen on the paper.
    pub fn stroke(&self, tone: Tone) -> Colour {
        let colour = if tone == Tone::Faint { self.faint } else { self.fill(tone) };
        self.against(colour, 3.0)
    }

    /// Returns the colour of words about a thing.
    pub fn words(&self, tone: Tone) -> Colour {
        let colour = if tone == Tone::Faint { self.faint } else { self.fill(tone) };
        self.against(colour, 5.0)
    }

    fn against(&self, colour: Colour, contrast: f64) -> Colour {
        (0..=20)
            .map(|step| colour.towards(self.ink, f64::from(step) / 20.0))
            .find(|colour| colour.contrast(self.paper) >= contrast)
            .unwrap_or(self.ink)
    }

    /// Returns the colour of a request's blocks, by its number.
    pub fn request(&self, number: u64) -> Colour {
        const HUES: [Colour; 6] = [BLUE, ORANGE, GREEN, PINK, SKY, RED];
        let hue = HUES[(number % 6) as usize];
        match number / 6 % 3 {
            0 => hue,
            1 => hue.towards(WHITE, 0.42),
            _ => hue.towards(BLACK, 0.34),
        }
    }

    /// Returns the colour of a shade from 0 to 1. The more, the further from the paper: dark on light, light on dark.
    /// Brewer's yellow-green-blue, which the colour-blind and grey printers keep in order.
    pub fn ramp(&self, shade: f64) -> Colour {
        const STEPS: [Colour; 8] = [
            Colour(0xf7, 0xfb, 0xd0),
            Colour(0xdd, 0xf2, 0xb2),
            Colour(0xb5, 0xe2, 0xb6),
            Colour(0x7c, 0xcb, 0xbb),
            Colour(0x41, 0xb0, 0xc4),
            Colour(0x22, 0x86, 0xb8),
            Colour(0x23, 0x56, 0xa0),
            Colour(0x18, 0x2c, 0x70),
        ];
        let shade = if shade.is_finite() { shade.clamp(0.0, 1.0) } else { 0.0 };
        let at = if self.dark { 1.0 - shade } else { shade } * (STEPS.len() - 1) as f64;
        let below = (at.floor() as usize).min(STEPS.len() - 2);
        STEPS[below].towards(STEPS[below + 1], at - below as f64)
    }
}

/// How a surface is hatched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Hatch {
    Rising,
    Falling,
    Dots,
    Level,
    Crossed,
    Upright,
}

/// The shape of a dot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Shape {
    Circle,
    Square,
    Triangle,
    Diamond,
    Turned,
    Plus,
    Cross,
    Bar,
}

const SHAPES: [Shape; 8] = [
    Shape::Circle,
    Shape::Square,
    Shape::Triangle,
    Shape::Diamond,
    Shape::Turned,
    Shape::Plus,
    Shape::Cross,
    Shape::Bar,
];

/// Returns the hatching of a thing's surface: none for the two that are large and labelled.
pub(super) fn hatch(tone: Tone) -> Option<Hatch> {
    match tone {
        Tone::Weights | Tone::Kv | Tone::Faint => None,
        Tone::Activations => Some(Hatch::Rising),
        Tone::Runtime => Some(Hatch::Dots),
        Tone::Graphs => Some(Hatch::Level),
        Tone::Bad => Some(Hatch::Crossed),
        Tone::Nth(at) => [
            None,
            Some(Hatch::Rising),
            Some(Hatch::Dots),
            Some(Hatch::Level),
            Some(Hatch::Falling),
            Some(Hatch::Upright),
            Some(Hatch::Crossed),
        ][at % 7],
    }
}

/// Returns the shape of a thing's dots.
pub(super) fn shape(tone: Tone) -> Shape {
    match tone {
        Tone::Weights => Shape::Circle,
        Tone::Activations => Shape::Square,
        Tone::Runtime => Shape::Triangle,
        Tone::Graphs => Shape::Turned,
        Tone::Kv => Shape::Diamond,
        Tone::Faint => Shape::Circle,
        Tone::Bad => Shape::Cross,
        Tone::Nth(at) => SHAPES[at % SHAPES.len()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn everything_is_seen_on_both_papers() {
        let tones = [Tone::Weights, Tone::Activations, Tone::Runtime, Tone::Graphs, Tone::Kv, Tone::Faint, Tone::Bad];
        for theme in [Theme::Light, Theme::Dark] {
            let palette = Palette::of(theme);
            assert!(palette.ink.contrast(palette.paper) > 12.0 && palette.faint.contrast(palette.paper) > 6.0);
            for tone in tones.into_iter().chain((0..40).map(Tone::Nth)) {
                assert!(palette.stroke(tone).contrast(palette.paper) >= 3.0, "{tone:?} on {theme:?}");
                assert!(palette.words(tone).contrast(palette.paper) >= 4.5, "{tone:?} on {theme:?}");
                let fill = palette.fill(tone);
                assert!(fill.ink().contrast(fill) >= 4.5, "{tone:?} on {theme:?}");
            }
            for shade in 0..=100 {
                let fill = palette.ramp(f64::from(shade) / 100.0);
                assert!(fill.ink().contrast(fill) >= 4.4, "{shade} on {theme:?}");
            }
        }
    }

    #[test]
    fn neighbours_have_colours_of_their_own() {
        let palette = Palette::of(Theme::Light);
        for number in 0..60 {
            assert!((1..18).all(|more| palette.request(number) != palette.request(number + more)), "{number}");
        }
    }
}
