//! Who holds the KV blocks over time.

use std::collections::{BTreeMap, BTreeSet};

use super::super::{Axis, BlockMap, Holder, Moment, Scale};
use super::colour::{Colour, Hatch};
use super::frame::{Frame, LABELLED, SMALL};
use super::legend::{self, Sign};
use super::ruler::{Extent, Reach, Ruler};
use super::sheet::{Face, MARGIN, Rect, Sheet, WIDTH, over};

/// How high the map is.
const HIGH: f64 = 320.0;
/// The most surfaces: each is some fifteen bytes.
const MOST: usize = 40_000;
/// The most runs of a moment that are looked at.
const MOST_RUNS: usize = 20_000;

/// How a surface looks; also the order in which surfaces are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Look {
    Request(Colour),
    Shared,
    Cached,
}

/// Draws the map.
pub(super) fn draw(sheet: &mut Sheet, map: &BlockMap, top: f64) -> Result<f64, &'static str> {
    let axis = Axis { scale: Scale::Linear, ..map.y.clone() };
    let (mut x, mut y) = (Extent::of(&map.x), Extent::of(&axis));
    let moments: Vec<&Moment> = map.moments.iter().filter(|moment| x.shows(moment.at)).collect();
    if moments.is_empty() || !(map.blocks > 0.0 && map.blocks < 1e28) {
        return Err("it has no moments, or no blocks");
    }
    moments.iter().for_each(|moment| x.add(moment.at));
    x.add(map.end);
    y.add(0.0);
    y.add(map.blocks);
    let top = legend::draw(sheet, &entries(&moments), top) + 26.0;
    let face = Face::new(SMALL, sheet.palette.faint);
    let y_ruler = Ruler::new(&axis, y, Reach::Whole, HIGH, &|_| 26.0);
    let left = MARGIN + y_ruler.ticks.iter().map(|tick| face.width(&tick.text)).fold(16.0, f64::max) + 8.0;
    let right = WIDTH - MARGIN - 8.0;
    let x = Ruler::new(&map.x, x, Reach::Whole, right - left, &|text| face.width(text) + 16.0);
    let frame = Frame::new(x, y_ruler, Rect::new(left, top, right, top + HIGH));
    frame.draw(sheet);
    surfaces(sheet, map, &moments, &frame);
    sheet.outline(frame.part, super::sheet::Pen::new(sheet.palette.faint, 1.0));
    Ok(frame.part.bottom + LABELLED)
}

/// What there is in the map.
fn entries(moments: &[&Moment]) -> Vec<(Sign, String)> {
    let mut kinds = BTreeSet::new();
    for run in moments.iter().flat_map(|moment| moment.runs.iter().take(MOST_RUNS)) {
        kinds.insert(match run.holder {
            Holder::Request(_) => 0,
            Holder::Shared => 1,
            Holder::Cached => 2,
            Holder::Free => 3,
        });
    }
    kinds.insert(3);
    let entry = |kind: i32| match kind {
        0 => (Sign::Requests, "held by one request, each with its colour"),
        1 => (Sign::Shared, "shared by several"),
        2 => (Sign::Hatched(Hatch::Rising), "cached, held by none"),
        _ => (Sign::Paper, "free"),
    };
    kinds.into_iter().map(entry).map(|(sign, name)| (sign, name.to_owned())).collect()
}

/// Draws the runs: coarser until there are few enough surfaces.
fn surfaces(sheet: &mut Sheet, map: &BlockMap, moments: &[&Moment], frame: &Frame) {
    let mut fine = 1.0;
    let (looks, coarse) = loop {
        let (looks, coarse) = merged(sheet, map, moments, frame, fine);
        if looks.values().map(Vec::len).sum::<usize>() <= MOST || fine > 12.0 {
            break (looks, coarse);
        }
        fine *= 1.6;
    };
    if coarse {
        sheet.notes.push("Moments and runs that are too short to be seen are joined with their neighbours.".to_owned());
    }
    for (look, parts) in looks {
        let palette = sheet.palette;
        let fill = match look {
            Look::Request(colour) => colour,
            Look::Shared => palette.paper.towards(palette.ink, 0.62),
            Look::Cached => palette.paper.towards(palette.faint, 0.15),
        };
        parts.iter().for_each(|part| sheet.rect(*part, fill));
        match look {
            Look::Request(_) => {}
            Look::Shared => parts.iter().for_each(|part| sheet.hatch(*part, Hatch::Dots, over(fill))),
            Look::Cached => {
                let ink = palette.paper.towards(palette.faint, 0.6);
                parts.iter().for_each(|part| sheet.hatch(*part, Hatch::Rising, ink));
            }
        }
    }
}

/// The surfaces by look, no column narrower than `1.5 × fine`, no run lower than `0.4 × fine`; and whether anything was
/// left out for it.
fn merged(
    sheet: &Sheet,
    map: &BlockMap,
    moments: &[&Moment],
    frame: &Frame,
    fine: f64,
) -> (BTreeMap<Look, Vec<Rect>>, bool) {
    let mut done: BTreeMap<Look, Vec<Rect>> = BTreeMap::new();
    // Surfaces that reach up to the current column, by look and rows in tenths.
    let mut open: BTreeMap<(Look, i64, i64), f64> = BTreeMap::new();
    let mut coarse = false;
    let mut last = f64::NEG_INFINITY;
    let end = if map.end.is_finite() { frame.at(map.end, 0.0).0 } else { frame.part.right };
    for (at, moment) in moments.iter().enumerate() {
        let x = frame.at(moment.at, 0.0).0;
        if x - last < 1.5 * fine && at > 0 {
            coarse = true;
            continue;
        }
        last = x;
        let (runs, cut) = runs(sheet, map, moment, frame, 0.4 * fine);
        coarse |= cut;
        let closing: Vec<(Look, i64, i64)> = open.keys().filter(|key| !runs.contains(key)).copied().collect();
        for key in closing {
            if let Some(from) = open.remove(&key) {
                done.entry(key.0).or_default().push(surface(key, from, x));
            }
        }
        for key in runs {
            open.entry(key).or_insert(x);
        }
    }
    for (key, from) in open {
        let to = if moments.len() == 1 && end <= from { frame.part.right } else { end };
        done.entry(key.0).or_default().push(surface(key, from, to.max(from)));
    }
    (done, coarse)
}

fn surface((_, upper, lower): (Look, i64, i64), from: f64, to: f64) -> Rect {
    Rect::new(from, upper as f64 / 10.0, to, lower as f64 / 10.0)
}

/// The runs of a moment as looks with rows in tenths of a unit.
fn runs(
    sheet: &Sheet,
    map: &BlockMap,
    moment: &Moment,
    frame: &Frame,
    least: f64,
) -> (BTreeSet<(Look, i64, i64)>, bool) {
    let mut rows: Vec<(Option<Look>, i64, i64)> = Vec::new();
    let (mut below, mut cut) = (0.0_f64, moment.runs.len() > MOST_RUNS);
    let mut line = (frame.part.bottom * 10.0).round() as i64;
    for run in moment.runs.iter().take(MOST_RUNS) {
        if !(run.blocks.is_finite() && run.blocks > 0.0) {
            continue;
        }
        below = (below + run.blocks).min(map.blocks);
        let up = (frame.at(0.0, below).1 * 10.0).round() as i64;
        let look = match run.holder {
            Holder::Request(number) => Some(Look::Request(sheet.palette.request(number))),
            Holder::Shared => Some(Look::Shared),
            Holder::Cached => Some(Look::Cached),
            Holder::Free => None,
        };
        match rows.last_mut() {
            Some((last, upper, _)) if *last == look => *upper = up,
            Some((_, upper, _)) if ((line - up) as f64) < least * 10.0 => {
                cut |= line > up;
                *upper = up;
            }
            Some(_) | None => rows.push((look, up, line)),
        }
        line = up;
    }
    let rows = rows.into_iter().filter(|(_, upper, lower)| upper < lower);
    (rows.filter_map(|(look, upper, lower)| Some((look?, upper, lower))).collect(), cut)
}
