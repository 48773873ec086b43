use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use parquet::file::reader::{FileReader, SerializedFileReader};
use plimsoll_api::sweep::SweepRequest;
use plimsoll_api::{Desk, NoFiles};
use proptest::prelude::*;

use super::*;

/// Three groups of rows, the last one not full.
fn request() -> SweepRequest {
    SweepRequest {
        models: vec!["llama-3.1-8b".into(), "no-such-model".into()],
        gpus: vec!["h100-sxm".into(), "rtx-4090".into()],
        context: vec![2048, 8192],
        batch: (1..=4096).collect(),
        ..SweepRequest::default()
    }
}

/// Stops when so many rows were planned.
struct After {
    rows: u64,
    planned: AtomicU64,
}

impl After {
    fn rows(rows: u64) -> After {
        After { rows, planned: AtomicU64::new(0) }
    }
}

impl Watch for After {
    fn planned(&self, rows: u64) {
        self.planned.fetch_add(rows, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.planned.load(Ordering::Relaxed) >= self.rows
    }
}

struct Folder {
    folder: tempfile::TempDir,
    name: &'static str,
}

impl Folder {
    fn new(name: &'static str) -> Folder {
        Folder { folder: tempfile::tempdir().unwrap(), name }
    }

    fn place(&self) -> PathBuf {
        self.folder.path().join(self.name)
    }

    fn partial(&self) -> PathBuf {
        beside(&self.place(), ".partial")
    }

    fn write(&self, watch: &dyn Watch) -> Result<Outcome, Error> {
        self.write_as(&request(), false, watch)
    }

    fn write_as(&self, request: &SweepRequest, fresh: bool, watch: &dyn Watch) -> Result<Outcome, Error> {
        let desk = Desk::new(&NoFiles);
        write(&Sweep::new(request, &desk).unwrap(), &self.place(), fresh, watch)
    }

    /// Names in the folder, in order.
    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
        names.sort();
        names
    }
}

/// The file of a sweep that nothing interrupted.
fn whole(name: &'static str) -> Vec<u8> {
    let folder = Folder::new(name);
    assert_eq!(folder.write(&Silent).unwrap(), Outcome::Written { rows: 32_768, planned: 32_768 });
    fs::read(folder.place()).unwrap()
}

#[test]
fn an_interrupted_sweep_goes_on_and_comes_out_the_same() {
    for name in ["s.parquet", "s.csv", "s.jsonl", "s.json", "s.md"] {
        let whole = whole(name);
        let folder = Folder::new(name);
        let stopped = folder.write(&After::rows(20_000)).unwrap();
        assert_eq!(stopped, Outcome::Stopped { there: 16_384, rows: 32_768 }, "{name}");
        assert!(!folder.place().exists());
        let watch = After::rows(u64::MAX);
        let outcome = folder.write(&watch).unwrap();
        assert_eq!(outcome, Outcome::Written { rows: 32_768, planned: 16_384 }, "{name}");
        assert_eq!(watch.planned.into_inner(), 16_384, "nothing is planned twice");
        assert!(fs::read(folder.place()).unwrap() == whole, "{name} differs");
        let beside: &[&str] = if name == "s.parquet" { &[] } else { &[".sweep"] };
        assert_eq!(folder.names().len(), 1 + beside.len(), "{:?}", folder.names());
    }
}

#[test]
fn whatever_is_torn_is_planned_again() {
    let whole = whole("s.parquet");
    let folder = Folder::new("s.parquet");
    folder.write(&After::rows(20_000)).unwrap();
    let kept = fs::read(folder.partial()).unwrap();
    let cut = |at: usize| kept[..at].to_vec();
    let flipped = |at: usize| {
        let mut bytes = kept.clone();
        bytes[at] ^= 1;
        bytes
    };
    let longer = [&kept[..], &[7; 100]].concat();
    let zeros = [&kept[..], &[0; 100]].concat();
    let head = kept.len() - 16_000;
    for (what, bytes, planned) in [
        ("nothing is torn", kept.clone(), 16_384),
        ("bytes follow", longer, 16_384),
        ("zeros follow", zeros, 16_384),
        ("the last byte is missing", cut(kept.len() - 1), 32_768),
        ("half a group", cut(head), 32_768),
        ("half a head", cut(20), 32_768),
        ("nothing", Vec::new(), 32_768),
        ("zeros for a head", vec![0; 300], 32_768),
        ("a flipped bit", flipped(kept.len() - 5), 32_768),
    ] {
        fs::write(folder.partial(), bytes).unwrap();
        let _ = fs::remove_file(folder.place());
        assert_eq!(folder.write(&Silent).unwrap(), Outcome::Written { rows: 32_768, planned }, "{what}");
        assert!(fs::read(folder.place()).unwrap() == whole, "{what}: the file differs");
    }
}

#[test]
fn a_finished_sweep_is_not_planned_again() {
    for name in ["s.parquet", "s.csv"] {
        let folder = Folder::new(name);
        folder.write(&Silent).unwrap();
        // What a program leaves that ends after the file got its name.
        fs::write(folder.partial(), b"plimsoll").unwrap();
        let watch = After::rows(0);
        assert_eq!(folder.write(&watch).unwrap(), Outcome::Already { rows: 32_768 });
        assert!(!folder.partial().exists());
        let anew = folder.write_as(&request(), true, &Silent).unwrap();
        assert_eq!(anew, Outcome::Written { rows: 32_768, planned: 32_768 });
    }
}

#[test]
fn another_sweep_is_refused() {
    for name in ["s.parquet", "s.jsonl"] {
        let other = SweepRequest { context: vec![4096], ..request() };
        let folder = Folder::new(name);
        folder.write(&After::rows(20_000)).unwrap();
        let error = folder.write_as(&other, false, &Silent).unwrap_err();
        assert!(matches!(error, Error::Another { .. }) && error.hint().unwrap().contains("--fresh"), "{error}");
        folder.write(&Silent).unwrap();
        let error = folder.write_as(&other, false, &Silent).unwrap_err();
        assert!(matches!(error, Error::Another { .. }) && error.is_malformed(), "{error}");
        let written = folder.write_as(&other, true, &Silent).unwrap();
        assert_eq!(written, Outcome::Written { rows: 16_384, planned: 16_384 });
        fs::write(folder.place(), "mine").unwrap();
        assert!(
            matches!(folder.write(&Silent).unwrap_err(), Error::Foreign { .. }),
            "a file of the user's own is kept"
        );
        fs::remove_file(folder.place()).unwrap();
        fs::write(folder.partial(), "something else altogether, and long enough for a head of a sweep").unwrap();
        assert!(matches!(folder.write(&Silent).unwrap_err(), Error::Foreign { .. }));
    }
}

#[test]
fn two_programs_do_not_write_the_same_file() {
    let folder = Folder::new("s.parquet");
    let held = fs::File::create(folder.partial()).unwrap();
    held.try_lock().unwrap();
    assert!(matches!(folder.write(&Silent).unwrap_err(), Error::Busy { .. }));
}

#[test]
fn errors_name_the_place() {
    let folder = Folder::new("s.txt");
    assert_eq!(
        folder.write(&Silent).unwrap_err().to_string(),
        format!(
            "cannot tell what to write to {}: its name should end in .parquet, .csv, .jsonl, .json or .md",
            folder.place().display()
        )
    );
    let folder = Folder::new("no/such/folder/s.csv");
    let error = folder.write(&Silent).unwrap_err().to_string();
    assert!(error.starts_with("cannot write ") && error.contains("s.csv.partial: "), "{error}");
    // A folder where the finished file should stand.
    let folder = Folder::new("s.csv");
    fs::create_dir(beside(&folder.place(), ".new")).unwrap();
    let error = folder.write(&Silent).unwrap_err().to_string();
    assert!(error.contains("s.csv.new: "), "{error}");
    assert!(folder.partial().exists(), "what was planned is kept");
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let files = [1, 3].map(|threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| whole("s.parquet"))
    });
    assert!(files[0] == files[1]);
}

/// A row of Parquet as JSON.
fn object_of(row: &parquet::record::Row) -> serde_json::Value {
    use parquet::record::Field;
    let cell = |field: &Field| {
        if let Field::Str(text) = field {
            serde_json::json!(text)
        } else if let Field::Long(number) = field {
            serde_json::json!(number)
        } else if let Field::Double(number) = field {
            serde_json::json!(number)
        } else if let Field::Bool(flag) = field {
            serde_json::json!(flag)
        } else {
            assert_eq!(field, &Field::Null);
            serde_json::Value::Null
        }
    };
    row.get_column_iter().map(|(name, field)| (name.clone(), cell(field))).collect()
}

#[test]
fn the_forms_hold_the_same_rows() {
    let desk = Desk::new(&NoFiles);
    let request = SweepRequest { batch: vec![1, 300], ..request() };
    let sweep = Sweep::new(&request, &desk).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let place = |name: &str| folder.path().join(name);
    for name in ["s.parquet", "s.csv", "s.jsonl", "s.json", "s.md"] {
        write(&sweep, &place(name), false, &Silent).unwrap();
    }
    let reader = SerializedFileReader::new(fs::File::open(place("s.parquet")).unwrap()).unwrap();
    assert_eq!(reader.metadata().file_metadata().num_rows(), 16);
    let csv = fs::read_to_string(place("s.csv")).unwrap();
    let jsonl = fs::read_to_string(place("s.jsonl")).unwrap();
    let mut lines = csv::Reader::from_reader(csv.as_bytes());
    let head = lines.headers().unwrap().clone();
    let rows = reader.get_row_iter(None).unwrap().zip(lines.records()).zip(jsonl.lines());
    let mut count = 0;
    for ((packed, line), object) in rows {
        let (packed, line) = (object_of(&packed.unwrap()), line.unwrap());
        let object: serde_json::Value = serde_json::from_str(object).unwrap();
        for (name, cell) in head.iter().zip(&line) {
            assert_eq!(packed[name], object[name], "{name}");
            let shown = match &object[name] {
                serde_json::Value::Null => String::new(),
                serde_json::Value::String(text) => text.clone(),
                other @ (serde_json::Value::Bool(_)
                | serde_json::Value::Number(_)
                | serde_json::Value::Array(_)
                | serde_json::Value::Object(_)) => other.to_string(),
            };
            let same = shown == cell || shown.parse::<f64>().ok() == cell.parse::<f64>().ok();
            assert!(same, "{name}: {shown} is not {cell}");
        }
        count += 1;
    }
    assert_eq!(count, 16);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_cut_anywhere_loses_at_most_the_torn_group(at in 0.0_f64..1.0, noise in any::<u8>()) {
        let folder = Folder::new("s.csv");
        let groups: Vec<Vec<u8>> = (0..5_u8).map(|group| vec![group; 700 * usize::from(group + 1)]).collect();
        let mut partial = Partial::open(&folder.place(), "asked", false).unwrap();
        let mut ends = vec![fs::metadata(folder.partial()).unwrap().len()];
        for group in &groups {
            partial.add(group).unwrap();
            ends.push(fs::metadata(folder.partial()).unwrap().len());
        }
        drop(partial);
        let bytes = fs::read(folder.partial()).unwrap();
        let cut = ends[0] + ((bytes.len() as u64 - ends[0]) as f64 * at) as u64;
        let mut torn = bytes[..cut as usize].to_vec();
        torn.extend([noise; 40]);
        fs::write(folder.partial(), torn).unwrap();
        let mut partial = Partial::open(&folder.place(), "asked", false).unwrap();
        let whole = ends.iter().filter(|end| **end <= cut).count() as u64 - 1;
        prop_assert_eq!(partial.groups(), whole);
        for (at, group) in groups.iter().enumerate().skip(whole as usize) {
            prop_assert_eq!(partial.groups(), at as u64);
            partial.add(group).unwrap();
        }
        for (at, group) in groups.iter().enumerate() {
            prop_assert_eq!(&partial.read(at as u64).unwrap(), group);
        }
        drop(partial);
        prop_assert_eq!(fs::read(folder.partial()).unwrap(), bytes);
    }
}
