//! Rows to Arrow: the schema of a table from its one definition, and batches of the columns that are wanted.

use agentsight_replay::table::{Column, ColumnType, Row, TableDef, Value};
use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Float64Builder, Int64Builder, ListBuilder, RecordBatch,
    RecordBatchOptions, StringBuilder, TimestampNanosecondBuilder,
};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use arrow::error::ArrowError;
use std::collections::HashMap;
use std::sync::Arc;

/// A batch is handed on at this many rows, or about this many bytes.
const MAX_ROWS: usize = 8192;
const MAX_BYTES: usize = 32 << 20;

/// The Arrow schema of a table. Field metadata: `unit` and `otel.name` where there are any.
///
/// The documentation is not in it: a recursive query wants the two sides of its union to be alike in metadata, and ids and
/// times are described differently in each table.
pub fn schema(table: &TableDef) -> SchemaRef {
    Arc::new(Schema::new(table.columns.iter().map(field).collect::<Vec<_>>()))
}

fn field(column: &Column) -> Field {
    let mut metadata = HashMap::new();
    for (key, value) in [("unit", column.unit), ("otel.name", column.otel)] {
        if !value.is_empty() {
            metadata.insert(key.to_owned(), value.to_owned());
        }
    }
    Field::new(column.name, data_type(column.kind), column.nullable).with_metadata(metadata)
}

fn data_type(kind: ColumnType) -> DataType {
    match kind {
        ColumnType::Timestamp => DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into())),
        ColumnType::BigInt => DataType::Int64,
        ColumnType::Double => DataType::Float64,
        ColumnType::Boolean => DataType::Boolean,
        ColumnType::Varchar => DataType::Utf8,
        ColumnType::Varbinary => DataType::Binary,
        ColumnType::VarcharList => DataType::List(Arc::new(Field::new_list_field(DataType::Utf8, true))),
    }
}

enum Builder {
    Timestamp(TimestampNanosecondBuilder),
    BigInt(Int64Builder),
    Double(Float64Builder),
    Boolean(BooleanBuilder),
    Varchar(StringBuilder),
    Varbinary(BinaryBuilder),
    VarcharList(ListBuilder<StringBuilder>),
}

impl Builder {
    fn new(kind: ColumnType) -> Self {
        match kind {
            ColumnType::Timestamp => Builder::Timestamp(TimestampNanosecondBuilder::new().with_timezone("UTC")),
            ColumnType::BigInt => Builder::BigInt(Int64Builder::new()),
            ColumnType::Double => Builder::Double(Float64Builder::new()),
            ColumnType::Boolean => Builder::Boolean(BooleanBuilder::new()),
            ColumnType::Varchar => Builder::Varchar(StringBuilder::new()),
            ColumnType::Varbinary => Builder::Varbinary(BinaryBuilder::new()),
            ColumnType::VarcharList => Builder::VarcharList(ListBuilder::new(StringBuilder::new())),
        }
    }

    /// Appends a cell; returns about how many bytes it takes. A row's cells have their column's type, or are null.
    fn append(&mut self, value: Value<'_>) -> usize {
        match (self, value) {
            (Builder::Timestamp(builder), Value::Timestamp(time)) => builder.append_value(time),
            (Builder::Timestamp(builder), _) => builder.append_null(),
            (Builder::BigInt(builder), Value::BigInt(number)) => builder.append_value(number),
            (Builder::BigInt(builder), _) => builder.append_null(),
            (Builder::Double(builder), Value::Double(number)) => builder.append_value(number),
            (Builder::Double(builder), _) => builder.append_null(),
            (Builder::Boolean(builder), Value::Boolean(value)) => builder.append_value(value),
            (Builder::Boolean(builder), _) => builder.append_null(),
            (Builder::Varchar(builder), Value::Varchar(text)) => {
                builder.append_value(text);
                return text.len();
            }
            (Builder::Varchar(builder), _) => builder.append_null(),
            (Builder::Varbinary(builder), Value::Varbinary(bytes)) => {
                builder.append_value(bytes);
                return bytes.len();
            }
            (Builder::Varbinary(builder), _) => builder.append_null(),
            (Builder::VarcharList(builder), Value::VarcharList(texts)) => {
                builder.append_value(texts.iter().map(Some));
                return texts.iter().map(String::len).sum();
            }
            (Builder::VarcharList(builder), _) => builder.append_null(),
        }
        8
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Builder::Timestamp(builder) => Arc::new(builder.finish()),
            Builder::BigInt(builder) => Arc::new(builder.finish()),
            Builder::Double(builder) => Arc::new(builder.finish()),
            Builder::Boolean(builder) => Arc::new(builder.finish()),
            Builder::Varchar(builder) => Arc::new(builder.finish()),
            Builder::Varbinary(builder) => Arc::new(builder.finish()),
            Builder::VarcharList(builder) => Arc::new(builder.finish()),
        }
    }
}

/// Collects rows of one table into batches of some of its columns.
pub(crate) struct Batches {
    schema: SchemaRef,
    /// Positions of the columns in the table.
    columns: Vec<usize>,
    builders: Vec<Builder>,
    rows: usize,
    bytes: usize,
}

impl Batches {
    /// `schema` is that of the table with just these columns.
    pub fn new(table: &TableDef, columns: &[usize], schema: SchemaRef) -> Self {
        let builders =
            columns.iter().filter_map(|index| table.columns.get(*index)).map(|column| Builder::new(column.kind));
        Batches { schema, columns: columns.to_vec(), builders: builders.collect(), rows: 0, bytes: 0 }
    }

    /// Adds a row; true when a batch is full.
    pub fn push(&mut self, row: &dyn Row) -> bool {
        for (builder, index) in self.builders.iter_mut().zip(&self.columns) {
            self.bytes += builder.append(row.value(*index));
        }
        self.rows += 1;
        self.rows >= MAX_ROWS || self.bytes >= MAX_BYTES
    }

    /// What was collected since the last batch; `None` if nothing was.
    pub fn take(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        if rows == 0 {
            return Ok(None);
        }
        let arrays = self.builders.iter_mut().map(Builder::finish).collect();
        // A query that only counts takes no column at all.
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        RecordBatch::try_new_with_options(self.schema.clone(), arrays, &options).map(Some)
    }
}
