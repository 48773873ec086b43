//! Rows as Parquet, one row group after the other.

use std::io::{self, Write};
use std::sync::Arc;

use parquet::basic::{Compression, Encoding};
use parquet::data_type::{DoubleType, Int64Type};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use parquet::schema::types::ColumnPath;

use super::{Column, Sink, Unit};

/// Rows of a row group.
const GROUP: usize = 16_384;

/// A file of row groups; the one that is not full yet is in memory, column by column.
pub(super) struct Parquet<W: Write + Send> {
    out: SerializedFileWriter<W>,
    columns: &'static [Column],
    waiting: Vec<Vec<Option<u64>>>,
}

impl<W: Write + Send> Parquet<W> {
    pub(super) fn begin(out: W, columns: &'static [Column]) -> io::Result<Self> {
        let fields = columns.iter().map(|column| {
            let lack = if column.optional { "optional" } else { "required" };
            let kind = if column.unit == Unit::Count { "int64" } else { "double" };
            format!("{lack} {kind} {};", column.name)
        });
        let schema = format!("message rows {{ {} }}", fields.collect::<String>());
        let schema = parse_message_type(&schema).map_err(failed)?;
        let mut properties = WriterProperties::builder()
            .set_created_by("plimsoll".to_owned())
            .set_compression(Compression::SNAPPY)
            .set_dictionary_enabled(false);
        for column in columns.iter().filter(|column| column.unit == Unit::Count) {
            properties = properties.set_column_encoding(ColumnPath::from(column.name), Encoding::DELTA_BINARY_PACKED);
        }
        let out = SerializedFileWriter::new(out, Arc::new(schema), Arc::new(properties.build())).map_err(failed)?;
        Ok(Parquet { out, columns, waiting: vec![Vec::with_capacity(GROUP); columns.len()] })
    }

    /// Writes what waits as a row group.
    fn group(&mut self) -> Result<(), ParquetError> {
        if self.waiting.first().is_none_or(Vec::is_empty) {
            return Ok(());
        }
        let mut group = self.out.next_row_group()?;
        for (column, cells) in self.columns.iter().zip(&mut self.waiting) {
            let Some(mut out) = group.next_column()? else { break };
            let there: Vec<i16> = cells.iter().map(|cell| i16::from(cell.is_some())).collect();
            let there = column.optional.then_some(&there[..]);
            let numbers = cells.drain(..).flatten();
            let scale = match column.unit {
                Unit::Count => {
                    let numbers: Vec<i64> = numbers.map(|number| i64::try_from(number).unwrap_or(i64::MAX)).collect();
                    out.typed::<Int64Type>().write_batch(&numbers, there, None)?;
                    out.close()?;
                    continue;
                }
                Unit::Seconds => 1e9,
                Unit::Millis => 1e6,
            };
            let numbers: Vec<f64> = numbers.map(|nanos| nanos as f64 / scale).collect();
            out.typed::<DoubleType>().write_batch(&numbers, there, None)?;
            out.close()?;
        }
        group.close()?;
        Ok(())
    }
}

impl<W: Write + Send> Sink for Parquet<W> {
    fn row(&mut self, cells: &[Option<u64>]) -> io::Result<()> {
        for (column, cell) in self.waiting.iter_mut().zip(cells) {
            column.push(*cell);
        }
        if self.waiting.first().is_some_and(|column| column.len() >= GROUP) {
            self.group().map_err(failed)?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> io::Result<()> {
        self.group().map_err(failed)?;
        self.out.finish().map_err(failed)?;
        self.out.inner_mut().flush()
    }
}

/// Takes the system's own words where there are any.
fn failed(error: ParquetError) -> io::Error {
    if let ParquetError::External(cause) = error {
        return cause.downcast::<io::Error>().map_or_else(io::Error::other, |cause| *cause);
    }
    io::Error::other(error)
}
