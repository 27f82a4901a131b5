//! Writes results: as a table for people, and as CSV, JSON, Markdown and Parquet for programs.
//!
//! Bytes are shown as text where they are UTF-8, else in hexadecimal; in JSON always in hexadecimal, so that a program need
//! not guess.

use crate::Error;
use crate::session::ResultSink;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringBuilder};
use arrow::csv::WriterBuilder;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::json::writer::{JsonArray, LineDelimited};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches_with_schema;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use std::io::Write;
use std::sync::Arc;

/// How a result is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Table,
    Csv,
    /// One JSON array.
    Json,
    /// One JSON object a line.
    Ndjson,
    Markdown,
    Parquet,
}

/// A sink that writes a format.
pub fn writer<'w>(format: Format, out: impl Write + Send + 'w) -> Box<dyn ResultSink + 'w> {
    match format {
        Format::Table => Box::new(TableWriter { out, schema: None, batches: Vec::new() }),
        Format::Csv => Box::new(CsvWriter { out, first: true }),
        Format::Json => Box::new(JsonWriter { writer: json().build::<_, JsonArray>(out) }),
        Format::Ndjson => Box::new(JsonWriter { writer: json().build::<_, LineDelimited>(out) }),
        Format::Markdown => Box::new(MarkdownWriter { out }),
        Format::Parquet => Box::new(ParquetWriter { out: Some(out), writer: None }),
    }
}

/// Every key in every object, so that rows of one table look alike.
fn json() -> arrow::json::WriterBuilder {
    arrow::json::WriterBuilder::new().with_explicit_nulls(true)
}

struct TableWriter<W> {
    out: W,
    schema: Option<SchemaRef>,
    batches: Vec<RecordBatch>,
}

impl<W: Write> ResultSink for TableWriter<W> {
    fn begin(&mut self, schema: SchemaRef) -> Result<(), Error> {
        self.schema = Some(readable_schema(&schema));
        Ok(())
    }

    fn batch(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        self.batches.push(readable(batch)?);
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        let schema = self.schema.take().unwrap_or_else(|| Arc::new(Schema::empty()));
        let text = pretty_format_batches_with_schema(schema, &std::mem::take(&mut self.batches))?;
        writeln!(self.out, "{text}")?;
        Ok(self.out.flush()?)
    }
}

struct CsvWriter<W> {
    out: W,
    first: bool,
}

impl<W: Write> CsvWriter<W> {
    fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let header = std::mem::replace(&mut self.first, false);
        WriterBuilder::new().with_header(header).build(&mut self.out).write(&readable(batch)?)?;
        Ok(())
    }
}

impl<W: Write> ResultSink for CsvWriter<W> {
    fn begin(&mut self, schema: SchemaRef) -> Result<(), Error> {
        self.first = true;
        self.write(&RecordBatch::new_empty(schema))
    }

    fn batch(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        self.write(batch)
    }

    fn end(&mut self) -> Result<(), Error> {
        Ok(self.out.flush()?)
    }
}

struct JsonWriter<W: Write, F: arrow::json::writer::JsonFormat> {
    writer: arrow::json::Writer<W, F>,
}

impl<W: Write, F: arrow::json::writer::JsonFormat> ResultSink for JsonWriter<W, F> {
    fn begin(&mut self, _schema: SchemaRef) -> Result<(), Error> {
        Ok(())
    }

    fn batch(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        Ok(self.writer.write(batch)?)
    }

    fn end(&mut self) -> Result<(), Error> {
        self.writer.finish()?;
        Ok(self.writer.get_mut().flush()?)
    }
}

struct MarkdownWriter<W> {
    out: W,
}

impl<W: Write> MarkdownWriter<W> {
    fn line(&mut self, cells: impl Iterator<Item = String>) -> Result<(), Error> {
        let cells: Vec<String> =
            cells.map(|cell| cell.replace('|', "\\|").replace('\r', "").replace('\n', "<br>")).collect();
        Ok(writeln!(self.out, "| {} |", cells.join(" | "))?)
    }
}

impl<W: Write> ResultSink for MarkdownWriter<W> {
    fn begin(&mut self, schema: SchemaRef) -> Result<(), Error> {
        self.line(schema.fields().iter().map(|field| field.name().clone()))?;
        self.line(
            schema.fields().iter().map(|field| if field.data_type().is_numeric() { "--:" } else { "---" }.to_owned()),
        )
    }

    fn batch(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let batch = readable(batch)?;
        let options = FormatOptions::default();
        let columns = batch
            .columns()
            .iter()
            .map(|column| ArrayFormatter::try_new(column.as_ref(), &options))
            .collect::<Result<Vec<_>, _>>()?;
        for row in 0..batch.num_rows() {
            self.line(columns.iter().map(|column| column.value(row).to_string()))?;
        }
        Ok(())
    }

    fn end(&mut self) -> Result<(), Error> {
        Ok(self.out.flush()?)
    }
}

struct ParquetWriter<W: Write + Send> {
    out: Option<W>,
    writer: Option<ArrowWriter<W>>,
}

impl<W: Write + Send> ResultSink for ParquetWriter<W> {
    fn begin(&mut self, schema: SchemaRef) -> Result<(), Error> {
        let compression = Compression::ZSTD(ZstdLevel::try_new(3)?);
        let properties = WriterProperties::builder().set_compression(compression).build();
        let Some(out) = self.out.take() else {
            return Err(Error::Format("a Parquet file holds the result of one statement".to_owned()));
        };
        self.writer = Some(ArrowWriter::try_new(out, schema, Some(properties))?);
        Ok(())
    }

    fn batch(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        Ok(self.writer.as_mut().map_or(Ok(()), |writer| writer.write(batch))?)
    }

    fn end(&mut self) -> Result<(), Error> {
        if let Some(writer) = self.writer.take() {
            writer.into_inner()?.flush()?;
        }
        Ok(())
    }
}

/// Bytes and lists become text; everything else stays.
fn readable(batch: &RecordBatch) -> Result<RecordBatch, Error> {
    let columns = batch.columns().iter().map(readable_column).collect();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    Ok(RecordBatch::try_new_with_options(readable_schema(&batch.schema()), columns, &options)?)
}

fn readable_schema(schema: &SchemaRef) -> SchemaRef {
    let fields = schema.fields().iter().map(|field| match field.data_type() {
        DataType::Binary | DataType::BinaryView | DataType::LargeBinary | DataType::List(_) => {
            Arc::new(Field::new(field.name(), DataType::Utf8, true))
        }
        _ => field.clone(),
    });
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn readable_column(column: &ArrayRef) -> ArrayRef {
    let mut builder = StringBuilder::new();
    match column.data_type() {
        DataType::Binary => column.as_binary::<i32>().iter().for_each(|b| builder.append_option(b.map(text_or_hex))),
        DataType::LargeBinary => {
            column.as_binary::<i64>().iter().for_each(|b| builder.append_option(b.map(text_or_hex)))
        }
        DataType::BinaryView => column.as_binary_view().iter().for_each(|b| builder.append_option(b.map(text_or_hex))),
        DataType::List(_) => {
            for list in column.as_list::<i32>().iter() {
                builder.append_option(list.map(|list| list_text(&list)));
            }
        }
        _ => return column.clone(),
    }
    Arc::new(builder.finish())
}

fn text_or_hex(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}

/// A list as a JSON array, whatever it is a list of.
fn list_text(list: &ArrayRef) -> String {
    let options = FormatOptions::default();
    let Ok(formatter) = ArrayFormatter::try_new(list.as_ref(), &options) else { return String::new() };
    let quoted = matches!(list.data_type(), DataType::Utf8 | DataType::Utf8View | DataType::LargeUtf8);
    let items = (0..list.len()).map(|index| match (list.is_null(index), formatter.value(index).to_string()) {
        (true, _) => "null".to_owned(),
        (_, text) if quoted => serde_json::Value::from(text).to_string(),
        (_, text) => text,
    });
    format!("[{}]", items.collect::<Vec<_>>().join(","))
}
