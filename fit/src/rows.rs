//! How are measurements read? Columns of Parquet and CSV files, numbers as `f64` and the rest as text.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use parquet::basic::Type;
use parquet::column::reader::ColumnReader;
use parquet::file::reader::{FileReader, SerializedFileReader};

/// The columns of a file.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Columns of numbers.
    pub numbers: BTreeMap<String, Vec<f64>>,
    /// Columns of text.
    pub texts: BTreeMap<String, Vec<String>>,
    /// Rows.
    pub count: usize,
}

impl Rows {
    /// Returns a column of numbers.
    ///
    /// # Errors
    /// Where there is none of the name.
    pub fn number(&self, name: &str) -> Result<&[f64]> {
        self.numbers.get(name).map(Vec::as_slice).with_context(|| format!("no column of numbers {name}"))
    }

    /// Returns a column of text.
    ///
    /// # Errors
    /// Where there is none of the name.
    pub fn text(&self, name: &str) -> Result<&[String]> {
        self.texts.get(name).map(Vec::as_slice).with_context(|| format!("no column of text {name}"))
    }
}

/// One file of measured operators.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Card as the tables call it.
    pub card: &'static str,
    /// Engine as plans call it; `nccl` for its collectives.
    pub backend: String,
    /// Release of the engine.
    pub version: String,
    /// The file's name without its ending: `gemm_perf`.
    pub file: String,
    /// Where it lies.
    pub path: PathBuf,
}

/// The folders of cards.
const CARDS: [(&str, &str); 5] = [
    ("a100_sxm", "a100-sxm"),
    ("l40s", "l40s"),
    ("h100_sxm", "h100-sxm"),
    ("h200_sxm", "h200-sxm"),
    ("b200_sxm", "b200-sxm"),
];

/// Lists the files of an operator (`gemm`, `attention`, `mla`, `moe`, …) of all cards, in order of name.
///
/// # Errors
/// Where a folder cannot be listed.
pub fn list(perf: &Path, operator: &str) -> Result<Vec<Measured>> {
    let mut found = Vec::new();
    for (folder, card) in CARDS {
        let root = perf.join(folder).join(operator);
        for backend in names(&root)? {
            for version in names(&root.join(&backend))? {
                for file in names(&root.join(&backend).join(&version))? {
                    let path = root.join(&backend).join(&version).join(&file);
                    let Some(file) = file.strip_suffix(".parquet") else { continue };
                    let backend = if backend == "trtllm" { "tensorrt-llm" } else { &backend };
                    found.push(Measured {
                        card,
                        backend: backend.to_owned(),
                        version: version.clone(),
                        file: file.to_owned(),
                        path,
                    });
                }
            }
        }
    }
    Ok(found)
}

/// The names in a folder, in order; none where there is no folder.
fn names(folder: &Path) -> Result<Vec<String>> {
    if !folder.is_dir() {
        return Ok(Vec::new());
    }
    let entries = folder.read_dir().with_context(|| format!("cannot list {}", folder.display()))?;
    let mut names = Vec::new();
    for entry in entries {
        names.push(entry?.file_name().to_string_lossy().into_owned());
    }
    names.sort();
    Ok(names)
}

/// Reads a Parquet file whole.
///
/// # Errors
/// Where it cannot be read, or has nulls or types other than numbers and text.
pub fn parquet(path: &Path) -> Result<Rows> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let reader = SerializedFileReader::new(file).with_context(|| format!("{} is no Parquet", path.display()))?;
    let mut rows = Rows::default();
    for group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(group)?;
        let count = usize::try_from(group.metadata().num_rows())?;
        rows.count += count;
        for column in 0..group.num_columns() {
            let about = group.metadata().column(column).column_descr_ptr();
            let name = about.name().to_owned();
            let mut levels = Vec::new();
            macro_rules! read {
                ($reader:expr) => {{
                    let mut values = Vec::with_capacity(count);
                    $reader.read_records(count, Some(&mut levels), None, &mut values)?;
                    if values.len() != count {
                        bail!("{}: column {name} has empty cells", path.display());
                    }
                    values
                }};
            }
            let numbers: Vec<f64> = match group.get_column_reader(column)? {
                ColumnReader::Int32ColumnReader(mut reader) => read!(reader).into_iter().map(f64::from).collect(),
                ColumnReader::Int64ColumnReader(mut reader) => read!(reader).into_iter().map(|n| n as f64).collect(),
                ColumnReader::FloatColumnReader(mut reader) => read!(reader).into_iter().map(f64::from).collect(),
                ColumnReader::DoubleColumnReader(mut reader) => read!(reader),
                ColumnReader::BoolColumnReader(mut reader) => {
                    read!(reader).into_iter().map(|b| f64::from(u8::from(b))).collect()
                }
                ColumnReader::ByteArrayColumnReader(mut reader) => {
                    let texts = read!(reader);
                    let into = rows.texts.entry(name).or_default();
                    into.extend(texts.iter().map(|text| String::from_utf8_lossy(text.data()).into_owned()));
                    continue;
                }
                ColumnReader::Int96ColumnReader(_) | ColumnReader::FixedLenByteArrayColumnReader(_) => {
                    bail!("{}: column {name} is of type {}", path.display(), Type::to_string(&about.physical_type()))
                }
            };
            rows.numbers.entry(name).or_default().extend(numbers);
        }
    }
    Ok(rows)
}

/// Reads a CSV file with a header: columns whose every cell is a number as numbers, others as text.
///
/// # Errors
/// Where it cannot be read.
pub fn csv(path: &Path) -> Result<Rows> {
    let mut reader = csv::Reader::from_path(path).with_context(|| format!("cannot open {}", path.display()))?;
    let header = reader.headers()?.clone();
    let mut rows = Rows::default();
    let mut cells: Vec<Vec<String>> = vec![Vec::new(); header.len()];
    for record in reader.records() {
        rows.count += 1;
        for (column, cell) in cells.iter_mut().zip(record?.iter()) {
            column.push(cell.to_owned());
        }
    }
    for (name, column) in header.iter().zip(cells) {
        match column.iter().map(|cell| cell.parse()).collect::<Result<Vec<f64>, _>>() {
            Ok(numbers) => drop(rows.numbers.insert(name.to_owned(), numbers)),
            Err(_) => drop(rows.texts.insert(name.to_owned(), column)),
        }
    }
    Ok(rows)
}
