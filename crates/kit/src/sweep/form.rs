//! How are rows encoded? Groups of rows as Parquet, CSV, JSON or Markdown, and groups put together into one file.

use std::fs::File;
use std::io::{self, BufWriter, Read, Write};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical, ZstdLevel};
use parquet::column::writer::ColumnCloseResult;
use parquet::data_type::{BoolType, ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::metadata::KeyValue;
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{Type, TypePtr};
use plimsoll_api::sweep::{COLUMNS, Cell, Column, Kind, SweepRow};
use twox_hash::XxHash3_64;

use super::Error;
use super::partial::{Partial, beside};

/// The key under which a Parquet file tells what it answers.
const KEY: &str = "plimsoll.sweep";

/// Forms of a sweep's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Parquet,
    Csv,
    /// One object a line.
    Jsonl,
    /// One list of objects, each on a line of its own.
    Json,
    Markdown,
}

impl Form {
    /// Tells the form from a file's name.
    pub(super) fn of(place: &Path) -> Result<Form, Error> {
        let ending = place.extension().and_then(|ending| ending.to_str()).unwrap_or_default().to_ascii_lowercase();
        match ending.as_str() {
            "parquet" => Ok(Form::Parquet),
            "csv" => Ok(Form::Csv),
            "jsonl" => Ok(Form::Jsonl),
            "json" => Ok(Form::Json),
            "md" => Ok(Form::Markdown),
            _ => Err(Error::Form { place: place.display().to_string() }),
        }
    }

    /// Encodes a group of rows.
    pub(super) fn encode(self, rows: &[SweepRow]) -> io::Result<Vec<u8>> {
        match self {
            Form::Parquet => group(rows).map_err(failed),
            Form::Csv => csv(rows),
            Form::Jsonl => jsonl(rows, "\n"),
            Form::Json => jsonl(rows, BETWEEN),
            Form::Markdown => Ok(markdown(rows)),
        }
    }

    /// Puts all groups together into a file.
    pub(super) fn assemble(self, partial: &mut Partial, asked: &str, file: File) -> Result<File, Error> {
        match self {
            Form::Parquet => parquet(partial, asked, file),
            Form::Csv | Form::Jsonl | Form::Json | Form::Markdown => text(self, partial, file),
        }
    }

    /// Returns what a finished file answers, where it says so: Parquet in its own footer, text in a file beside it, which
    /// counts as long as the file is the one that it was written for.
    pub(super) fn answers(self, place: &Path) -> io::Result<Option<String>> {
        if self == Form::Parquet {
            let Ok(reader) = SerializedFileReader::new(File::open(place)?) else { return Ok(None) };
            let pairs = reader.metadata().file_metadata().key_value_metadata();
            let found = pairs.into_iter().flatten().find(|pair| pair.key == KEY);
            return Ok(found.and_then(|pair| pair.value.clone()));
        }
        let Ok(note) = std::fs::read_to_string(beside(place, ".sweep")) else { return Ok(None) };
        let Some((sum, asked)) = note.split_once('\n') else { return Ok(None) };
        Ok((checksum(place)? == sum).then(|| asked.trim_end().to_owned()))
    }

    /// Writes beside a text file what it answers, before the file gets its name.
    pub(super) fn note(self, place: &Path, new: &Path, asked: &str) -> io::Result<()> {
        if self == Form::Parquet {
            return Ok(());
        }
        let mut note = File::create(beside(place, ".sweep"))?;
        writeln!(note, "{}\n{asked}", checksum(new)?)?;
        note.sync_all()
    }
}

/// The checksum of a file, with its length.
fn checksum(place: &Path) -> io::Result<String> {
    let mut file = File::open(place)?;
    let mut sum = XxHash3_64::with_seed(0);
    let mut piece = vec![0; 1 << 16];
    let mut length = 0;
    loop {
        let read = file.read(&mut piece)?;
        if read == 0 {
            return Ok(format!("{length} bytes, xxh3 {:016x}", std::hash::Hasher::finish(&sum)));
        }
        length += read as u64;
        std::hash::Hasher::write(&mut sum, &piece[..read]);
    }
}

/// What stands behind each row of a JSON list but the last.
const BETWEEN: &str = ",\n";

/// Copies text groups one after the other, between the form's head and tail.
fn text(form: Form, partial: &mut Partial, file: File) -> Result<File, Error> {
    let mut out = BufWriter::new(file);
    let write = |out: &mut BufWriter<File>, bytes: &[u8]| out.write_all(bytes).map_err(Error::Disk);
    let names: Vec<&str> = COLUMNS.iter().map(|column| column.name).collect();
    let (head, between, tail) = match form {
        Form::Csv => (format!("{}\n", names.join(",")), "", ""),
        Form::Markdown => (format!("| {} |\n|{}\n", names.join(" | "), " --- |".repeat(names.len())), "", ""),
        Form::Json => ("[\n".to_owned(), BETWEEN, "\n]\n"),
        Form::Jsonl | Form::Parquet => (String::new(), "", ""),
    };
    write(&mut out, head.as_bytes())?;
    for at in 0..partial.groups() {
        let group = partial.read(at)?;
        // Behind the last row of a list stands nothing.
        let last = at + 1 == partial.groups();
        write(&mut out, if last { group.strip_suffix(between.as_bytes()).unwrap_or(&group) } else { &group })?;
    }
    write(&mut out, tail.as_bytes())?;
    out.into_inner().map_err(|error| Error::Disk(error.into_error()))
}

/// Rows of comma-separated values, without a head; an empty cell is empty.
fn csv(rows: &[SweepRow]) -> io::Result<Vec<u8>> {
    let mut out = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::with_capacity(rows.len() * 256));
    let mut digits = String::new();
    for row in rows {
        for column in &COLUMNS {
            let field = match (column.cell)(row) {
                Cell::Text(text) => text.unwrap_or_default(),
                Cell::Flag(flag) => flag.map_or("", |flag| if flag { "true" } else { "false" }),
                Cell::Count(number) => put(&mut digits, number),
                Cell::Number(number) => put(&mut digits, number),
            };
            out.write_field(field).map_err(io::Error::other)?;
        }
        out.write_record(None::<&[u8]>).map_err(io::Error::other)?;
    }
    out.into_inner().map_err(|error| error.into_error())
}

/// Writes a number, or nothing.
fn put(digits: &mut String, number: Option<impl std::fmt::Display>) -> &str {
    use std::fmt::Write;
    digits.clear();
    if let Some(number) = number {
        // Writing to a string does not fail.
        let _ = write!(digits, "{number}");
    }
    digits
}

/// Rows of a Markdown table; an empty cell is empty.
fn markdown(rows: &[SweepRow]) -> Vec<u8> {
    let mut out = String::with_capacity(rows.len() * 300);
    for row in rows {
        for column in &COLUMNS {
            out.push_str("| ");
            match (column.cell)(row) {
                // What models and errors say may hold the table's own sign.
                Cell::Text(text) => {
                    out.push_str(&text.unwrap_or_default().replace('|', "\\|").replace(['\n', '\r'], " "));
                }
                Cell::Flag(flag) => out.push_str(flag.map_or("", |flag| if flag { "yes" } else { "no" })),
                Cell::Count(number) => out.push_str(&number.map(|number| number.to_string()).unwrap_or_default()),
                Cell::Number(number) => out.push_str(&number.map(|number| number.to_string()).unwrap_or_default()),
            }
            out.push(' ');
        }
        out.push_str("|\n");
    }
    out.into_bytes()
}

/// One object a row, with `end` behind each; what a row lacks is null.
fn jsonl(rows: &[SweepRow], end: &str) -> io::Result<Vec<u8>> {
    let mut out = Vec::with_capacity(rows.len() * 600);
    for row in rows {
        for (at, column) in COLUMNS.iter().enumerate() {
            out.extend_from_slice(if at == 0 { b"{\"" } else { b",\"" });
            out.extend_from_slice(column.name.as_bytes());
            out.extend_from_slice(b"\":");
            match (column.cell)(row) {
                Cell::Text(text) => serde_json::to_writer(&mut out, &text)?,
                Cell::Flag(flag) => serde_json::to_writer(&mut out, &flag)?,
                Cell::Count(number) => serde_json::to_writer(&mut out, &number)?,
                Cell::Number(number) => serde_json::to_writer(&mut out, &number)?,
            }
        }
        out.push(b'}');
        out.extend_from_slice(end.as_bytes());
    }
    Ok(out)
}

/// The columns as Parquet knows them.
fn schema() -> Result<TypePtr, ParquetError> {
    let field = |column: &Column| {
        let (physical, logical) = match column.kind {
            Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
            Kind::Count => (Physical::INT64, None),
            Kind::Number => (Physical::DOUBLE, None),
            Kind::Flag => (Physical::BOOLEAN, None),
        };
        let field = Type::primitive_type_builder(column.name, physical).with_repetition(Repetition::OPTIONAL);
        field.with_logical_type(logical).build().map(Arc::new)
    };
    let fields = COLUMNS.iter().map(field).collect::<Result<_, _>>()?;
    Type::group_type_builder("rows").with_fields(fields).build().map(Arc::new)
}

/// How columns are packed: the same in every group and in the whole.
fn properties(asked: Option<&str>) -> Result<Arc<WriterProperties>, ParquetError> {
    let pairs = asked.map(|asked| vec![KeyValue::new(KEY.to_owned(), asked.to_owned())]);
    let properties = WriterProperties::builder()
        .set_created_by("plimsoll".to_owned())
        .set_compression(Compression::ZSTD(ZstdLevel::try_new(1)?))
        .set_statistics_enabled(EnabledStatistics::Chunk)
        .set_offset_index_disabled(true)
        .set_key_value_metadata(pairs);
    Ok(Arc::new(properties.build()))
}

/// Encodes rows as a Parquet file of one group.
fn group(rows: &[SweepRow]) -> Result<Vec<u8>, ParquetError> {
    let mut writer = SerializedFileWriter::new(Vec::new(), schema()?, properties(None)?)?;
    let mut group = writer.next_row_group()?;
    for column in &COLUMNS {
        let Some(mut out) = group.next_column()? else { break };
        let cells = rows.iter().map(|row| (column.cell)(row));
        let mut there: Vec<i16> = Vec::with_capacity(rows.len());
        macro_rules! write {
            ($kind:ident, $type:ty, $value:expr) => {{
                let mut values = Vec::with_capacity(rows.len());
                for cell in cells {
                    let value = if let Cell::$kind(value) = cell { value } else { None };
                    there.push(i16::from(value.is_some()));
                    values.extend(value.map($value));
                }
                out.typed::<$type>().write_batch(&values, Some(&there), None)?;
            }};
        }
        match column.kind {
            Kind::Text => write!(Text, ByteArrayType, ByteArray::from),
            Kind::Count => write!(Count, Int64Type, |number| number),
            Kind::Number => write!(Number, DoubleType, |number| number),
            Kind::Flag => write!(Flag, BoolType, |flag| flag),
        }
        out.close()?;
    }
    group.close()?;
    writer.into_inner()
}

/// Puts groups together by copying their columns as they are encoded.
fn parquet(partial: &mut Partial, asked: &str, file: File) -> Result<File, Error> {
    let broken = |error| Error::Disk(failed(error));
    let schema = schema().map_err(broken)?;
    let mut out = SerializedFileWriter::new(file, schema, properties(Some(asked)).map_err(broken)?).map_err(broken)?;
    for at in 0..partial.groups() {
        copy(Bytes::from(partial.read(at)?), &mut out).map_err(broken)?;
    }
    out.into_inner().map_err(broken)
}

/// Copies the groups of rows of one encoded file into another.
fn copy(encoded: Bytes, out: &mut SerializedFileWriter<File>) -> Result<(), ParquetError> {
    let reader = SerializedFileReader::new(encoded.clone())?;
    for from in reader.metadata().row_groups() {
        let mut to = out.next_row_group()?;
        for column in from.columns() {
            let done = ColumnCloseResult {
                bytes_written: u64::try_from(column.compressed_size()).unwrap_or(0),
                rows_written: u64::try_from(from.num_rows()).unwrap_or(0),
                metadata: column.clone(),
                bloom_filter: None,
                column_index: None,
                offset_index: None,
            };
            to.append_column(&encoded, done)?;
        }
        to.close()?;
    }
    Ok(())
}

/// Takes the system's own words where there are any.
fn failed(error: ParquetError) -> io::Error {
    if let ParquetError::External(cause) = error {
        return cause.downcast::<io::Error>().map_or_else(io::Error::other, |cause| *cause);
    }
    io::Error::other(error)
}
