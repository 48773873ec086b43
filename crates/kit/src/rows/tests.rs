//! What is written in one form is what is written in the others.

use ::parquet::file::reader::{FileReader, SerializedFileReader};
use ::parquet::record::Field;
use proptest::prelude::*;

use super::*;

/// Writes rows to a file of this ending, and returns its folder and place.
fn write(
    rows: &[Vec<Option<u64>>],
    ending: &str,
    columns: &'static [Column],
) -> (tempfile::TempDir, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let place = folder.path().join(format!("rows.{ending}"));
    let mut file = Rows::create(&place, columns).unwrap();
    rows.iter().for_each(|row| file.row(row));
    assert_eq!(file.finish().unwrap(), rows.len() as u64);
    (folder, place)
}

/// A row's cells as numbers.
type Cells = Vec<Option<f64>>;

fn csv(rows: &[Vec<Option<u64>>], columns: &'static [Column]) -> Vec<Cells> {
    let (_folder, place) = write(rows, "csv", columns);
    let text = std::fs::read_to_string(place).unwrap();
    let mut lines = text.lines();
    let names: Vec<&str> = columns.iter().map(|column| column.name).collect();
    assert_eq!(lines.next().unwrap(), names.join(","));
    let cell = |cell: &str| (!cell.is_empty()).then(|| cell.parse().unwrap());
    lines.map(|line| line.split(',').map(cell).collect()).collect()
}

fn jsonl(rows: &[Vec<Option<u64>>], columns: &'static [Column]) -> Vec<Cells> {
    let (_folder, place) = write(rows, "jsonl", columns);
    let text = std::fs::read_to_string(place).unwrap();
    let line = |line: &str| {
        let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(line).unwrap();
        assert_eq!(object.len(), columns.len());
        columns.iter().map(|column| object[column.name].as_f64()).collect()
    };
    text.lines().map(line).collect()
}

fn parquet(rows: &[Vec<Option<u64>>], columns: &'static [Column]) -> Vec<Cells> {
    let (_folder, place) = write(rows, "parquet", columns);
    let reader = SerializedFileReader::new(File::open(place).unwrap()).unwrap();
    let row = |row: ::parquet::record::Row| {
        let cells = row.get_column_iter().zip(columns).map(|((name, field), column)| {
            assert_eq!(name, column.name);
            if let Field::Null = field {
                return None;
            }
            if let Field::Long(number) = field {
                return Some(*number as f64);
            }
            let Field::Double(number) = field else { panic!("{name} is {field:?}") };
            Some(*number)
        });
        cells.collect()
    };
    reader.get_row_iter(None).unwrap().map(|found| row(found.unwrap())).collect()
}

fn rows(columns: &'static [Column]) -> impl Strategy<Value = Vec<Vec<Option<u64>>>> {
    let cell = |column: &Column| {
        let number = prop_oneof![0u64..4, 0u64..1 << 53];
        if column.optional { prop::option::of(number).boxed() } else { number.prop_map(Some).boxed() }
    };
    prop::collection::vec(columns.iter().map(cell).collect::<Vec<_>>(), 0..40)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn forms_agree(requests in rows(&REQUEST), steps in rows(&STEP)) {
        for (rows, columns) in [(requests, &REQUEST[..]), (steps, &STEP[..])] {
            let right = csv(&rows, columns);
            prop_assert_eq!(right.len(), rows.len());
            prop_assert_eq!(&jsonl(&rows, columns), &right);
            prop_assert_eq!(&parquet(&rows, columns), &right);
        }
    }
}

#[test]
fn many_rows_are_several_groups() {
    let rows: Vec<Vec<Option<u64>>> = (0..40_000u64).map(|at| vec![Some(at); STEP.len()]).collect();
    assert_eq!(parquet(&rows, &STEP), csv(&rows, &STEP));
    let (_folder, place) = write(&rows, "parquet", &STEP);
    let reader = SerializedFileReader::new(File::open(place).unwrap()).unwrap();
    assert_eq!(reader.metadata().num_row_groups(), 3);
}

#[test]
fn names_without_a_form_and_places_that_are_none_are_said() {
    let form = Rows::create("rows.xlsx".as_ref(), &STEP).err().unwrap().to_string();
    assert_eq!(form, "cannot tell what to write to rows.xlsx: its name should end in .csv, .jsonl or .parquet");
    let none = Rows::create("/nowhere/at/all.csv".as_ref(), &STEP).err().unwrap().to_string();
    assert!(none.starts_with("cannot write /nowhere/at/all.csv: "), "{none}");
}

#[test]
fn a_full_disk_stops_the_run_and_is_told() {
    let full = std::path::Path::new("/dev/full");
    if !full.exists() {
        eprintln!("skipped: this system has no full disk to try");
        return;
    }
    for ending in ["csv", "jsonl", "parquet"] {
        let out = BufWriter::new(std::fs::OpenOptions::new().write(true).open(full).unwrap());
        let sink = sink(out, ending, &STEP).unwrap();
        let mut rows = Rows { place: "full".into(), sink: Some(sink), failed: None, written: 0 };
        (0..100_000).for_each(|_| rows.row(&[Some(u64::from(u32::MAX) * 77); STEP.len()]));
        assert!(rows.proceed().is_break(), "{ending}");
        assert!(rows.finish().unwrap_err().to_string().starts_with("cannot write full: "), "{ending}");
    }
}
