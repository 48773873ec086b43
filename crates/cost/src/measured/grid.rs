//! How is a fitted table kept? Numbers over a few axes, a text file of them, and interpolation between.
//!
//! A file holds one table after another:
//!
//! ```text
//! # any comment
//! [h100-sxm vllm fp8]
//! m 1 16 256
//! n 1024 8192
//! = 120 80 -40 -35 10 4
//! ```
//!
//! Values are thousandths, the last axis fastest. What they mean is the family's own affair, as a rule the natural logarithm
//! of measured over modelled time.

use std::collections::BTreeMap;

/// Numbers over up to four axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Grid {
    /// Names and points of the axes, ascending, each at least one point above zero.
    pub axes: Vec<(String, Vec<f64>)>,
    /// Thousandths, the last axis fastest.
    pub values: Vec<i32>,
}

impl Grid {
    /// Interpolates linearly in the logarithms of the axes; beyond an end the end's value counts.
    ///
    /// `point` has a coordinate for each axis. The second part says whether the point lies inside.
    pub fn at(&self, point: &[f64]) -> (f64, bool) {
        let mut inside = true;
        // Index of the lower neighbour and weight of the upper one, by axis.
        let mut places = [(0_usize, 0.0_f64); 4];
        for (place, ((_, points), at)) in places.iter_mut().zip(self.axes.iter().zip(point)) {
            let last = points.len().saturating_sub(1);
            let (first, end) = (points.first().copied().unwrap_or(1.0), points.last().copied().unwrap_or(1.0));
            inside &= *at >= first && *at <= end;
            *place = match points.partition_point(|p| p <= at) {
                0 => (0, 0.0),
                above if above > last => (last, 0.0),
                above => {
                    let (low, high) = (points[above - 1], points[above]);
                    (above - 1, libm::log(at / low) / libm::log(high / low))
                }
            };
        }
        let corners = 1_usize << self.axes.len().min(4);
        let mut sum = 0.0;
        for corner in 0..corners {
            let (mut index, mut weight) = (0, 1.0);
            for (axis, ((_, points), (low, upper))) in self.axes.iter().zip(places).enumerate() {
                let high = corner >> axis & 1 == 1;
                weight *= if high { upper } else { 1.0 - upper };
                index = index * points.len() + (low + usize::from(high)).min(points.len().saturating_sub(1));
            }
            if weight > 0.0 {
                sum += weight * f64::from(self.values.get(index).copied().unwrap_or_default());
            }
        }
        (sum / 1000.0, inside)
    }
}

/// The tables of a file, by their keys.
pub type Tables = BTreeMap<String, Grid>;

/// Reads a file of tables.
///
/// # Errors
/// A line that is none of the form's, with its number.
pub fn parse(text: &str) -> Result<Tables, String> {
    let mut tables = Tables::new();
    let mut open: Option<(String, Grid)> = None;
    for (number, line) in text.lines().enumerate() {
        let bad = |what: &str| format!("line {}: {what}: {line}", number + 1);
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(key) = line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) {
            if let Some((key, grid)) = open.take() {
                close(&mut tables, key, grid).map_err(|what| bad(&what))?;
            }
            open = Some((key.to_owned(), Grid { axes: Vec::new(), values: Vec::new() }));
            continue;
        }
        let Some((_, grid)) = &mut open else { return Err(bad("a table begins with [its key]")) };
        let mut words = line.split_ascii_whitespace();
        match words.next() {
            Some("=") => {
                for word in words {
                    grid.values.push(word.parse().map_err(|_| bad("a value is a whole number"))?);
                }
            }
            Some(name) => {
                let points: Result<Vec<f64>, _> = words.map(str::parse).collect();
                grid.axes.push((name.to_owned(), points.map_err(|_| bad("a point is a number"))?));
            }
            None => {}
        }
    }
    if let Some((key, grid)) = open {
        close(&mut tables, key.clone(), grid).map_err(|what| format!("[{key}]: {what}"))?;
    }
    Ok(tables)
}

/// Checks a table and keeps it.
fn close(tables: &mut Tables, key: String, grid: Grid) -> Result<(), String> {
    let size: usize = grid.axes.iter().map(|(_, points)| points.len()).product();
    let ordered = |points: &[f64]| {
        points.first().is_some_and(|first| *first > 0.0) && points.windows(2).all(|pair| pair[0] < pair[1])
    };
    if grid.axes.len() > 4 {
        return Err(format!("[{key}] has {} axes; at most 4", grid.axes.len()));
    }
    if let Some((name, _)) = grid.axes.iter().find(|(_, points)| !ordered(points)) {
        return Err(format!("[{key}] {name}: points ascend from above zero"));
    }
    if size != grid.values.len() {
        return Err(format!("[{key}] has {} values for {size} points", grid.values.len()));
    }
    if tables.insert(key.clone(), grid).is_some() {
        return Err(format!("[{key}] is there twice"));
    }
    Ok(())
}

/// Writes a table in the file's form.
pub fn write(out: &mut String, key: &str, grid: &Grid) {
    use std::fmt::Write;
    let _ = writeln!(out, "[{key}]");
    for (name, points) in &grid.axes {
        let _ = write!(out, "{name}");
        for point in points {
            let _ = write!(out, " {point}");
        }
        out.push('\n');
    }
    // Rows of one run of the last axis keep differences readable.
    let row = grid.axes.last().map_or(1, |(_, points)| points.len()).max(1);
    for values in grid.values.chunks(row) {
        out.push('=');
        for value in values {
            let _ = write!(out, " {value}");
        }
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# two axes\n[a b]\nm 1 16 256\nn 1024 8192\n= 120 80\n= -40 -35\n= 10 4\n";

    #[test]
    fn what_is_written_is_read_again() {
        let tables = parse(TEXT).unwrap();
        let mut out = String::from("# two axes\n");
        write(&mut out, "a b", &tables["a b"]);
        assert_eq!(out, TEXT);
    }

    #[test]
    fn points_give_their_values_and_between_them_lies_between() {
        let grid = &parse(TEXT).unwrap()["a b"];
        assert_eq!(grid.at(&[16.0, 8192.0]), (-0.035, true));
        assert_eq!(grid.at(&[0.5, 1e9]), (0.08, false));
        let (middle, inside) = grid.at(&[4.0, 1024.0]);
        assert!(inside && (middle - 0.04).abs() < 1e-12, "{middle}");
    }

    #[test]
    fn broken_files_are_told() {
        for text in ["m 1 2", "[a]\nm 2 1\n= 1 2", "[a]\nm 1 2\n= 1", "[a]\nm 1\n= x", "[a]\n= 1\n[a]\n= 1"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
