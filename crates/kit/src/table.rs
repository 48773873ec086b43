//! How does a table become a Parquet file? Rows of text with a header, each column typed by what stands in it.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use parquet::basic::{Compression, LogicalType, Repetition, Type as Physical};
use parquet::data_type::{ByteArray, ByteArrayType, DoubleType, Int64Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::Type;

use crate::rows::Error;

/// What a column holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Whole,
    Number,
    Text,
}

/// Writes a table (CSV with a header) as Parquet: whole numbers as 64-bit integers, others as doubles, the rest as text;
/// an empty cell is null.
///
/// # Errors
/// [`Error::Write`] when the text is no table or the file cannot be written.
pub fn parquet(place: &Path, csv: &str) -> Result<u64, Error> {
    let name = place.display().to_string();
    let failed = |why: String| Error::Write { place: name.clone(), why: std::io::Error::other(why) };
    let mut reader = csv::ReaderBuilder::new().from_reader(csv.as_bytes());
    let header: Vec<String> =
        reader.headers().map_err(|error| failed(error.to_string()))?.iter().map(str::to_owned).collect();
    let rows: Vec<csv::StringRecord> =
        reader.records().collect::<Result<_, _>>().map_err(|error| failed(error.to_string()))?;
    let kinds: Vec<Kind> = (0..header.len()).map(|at| kind(&rows, at)).collect();
    let written = File::create(place).map_err(|why| Error::Write { place: name.clone(), why })?;
    write(written, &header, &kinds, &rows).map_err(|error| failed(error.to_string()))?;
    Ok(rows.len() as u64)
}

/// What a column's cells have in common.
fn kind(rows: &[csv::StringRecord], at: usize) -> Kind {
    let cells = || rows.iter().filter_map(|row| row.get(at)).filter(|cell| !cell.is_empty());
    if cells().next().is_none() {
        Kind::Text
    } else if cells().all(|cell| cell.parse::<i64>().is_ok()) {
        Kind::Whole
    } else if cells().all(|cell| cell.parse::<f64>().is_ok()) {
        Kind::Number
    } else {
        Kind::Text
    }
}

/// Writes all columns in one group of rows.
fn write(
    file: File,
    header: &[String],
    kinds: &[Kind],
    rows: &[csv::StringRecord],
) -> Result<(), parquet::errors::ParquetError> {
    let mut fields = Vec::new();
    for (name, kind) in header.iter().zip(kinds) {
        let (physical, logical) = match kind {
            Kind::Whole => (Physical::INT64, None),
            Kind::Number => (Physical::DOUBLE, None),
            Kind::Text => (Physical::BYTE_ARRAY, Some(LogicalType::String)),
        };
        let field = Type::primitive_type_builder(name, physical).with_repetition(Repetition::OPTIONAL);
        fields.push(Arc::new(field.with_logical_type(logical).build()?));
    }
    let schema = Arc::new(Type::group_type_builder("rows").with_fields(fields).build()?);
    let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
    let mut writer = SerializedFileWriter::new(file, schema, Arc::new(properties))?;
    let mut group = writer.next_row_group()?;
    for (at, kind) in kinds.iter().enumerate() {
        let Some(mut column) = group.next_column()? else { break };
        let cells = || rows.iter().map(|row| row.get(at).unwrap_or_default());
        let levels: Vec<i16> = cells().map(|cell| i16::from(!cell.is_empty())).collect();
        let present = || cells().filter(|cell| !cell.is_empty());
        match kind {
            Kind::Whole => {
                let values: Vec<i64> = present().filter_map(|cell| cell.parse().ok()).collect();
                column.typed::<Int64Type>().write_batch(&values, Some(&levels), None)?;
            }
            Kind::Number => {
                let values: Vec<f64> = present().filter_map(|cell| cell.parse().ok()).collect();
                column.typed::<DoubleType>().write_batch(&values, Some(&levels), None)?;
            }
            Kind::Text => {
                let values: Vec<ByteArray> = present().map(ByteArray::from).collect();
                column.typed::<ByteArrayType>().write_batch(&values, Some(&levels), None)?;
            }
        }
        column.close()?;
    }
    group.close()?;
    writer.close()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_the_type_of_what_stands_in_them() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("rows.parquet");
        let csv = "name,bytes,share,nothing\nkv,12,0.5,\n\"a, b\",,1,\n";
        assert_eq!(parquet(&place, csv).unwrap(), 2);
        let reader = parquet::file::reader::SerializedFileReader::new(File::open(&place).unwrap()).unwrap();
        let rows: Vec<String> = reader.into_iter().map(|row| row.unwrap().to_string()).collect();
        assert_eq!(
            rows,
            [
                "{name: \"kv\", bytes: 12, share: 0.5, nothing: null}",
                "{name: \"a, b\", bytes: null, share: 1.0, nothing: null}"
            ]
        );
        assert!(parquet(&place, "a,b\n1\n").is_err());
    }
}
