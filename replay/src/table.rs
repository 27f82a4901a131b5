//! What a table is. Every table of agentsight is defined once, with the [`table!`](crate::table) macro in
//! [`crate::tables`]: the row as a Rust structure, and beside it the name, type, unit, documentation and OpenTelemetry name
//! of each column. JSON keys, the Arrow schema and `--schema` all come from that one definition.

use std::any::Any;

/// A table's public face.
#[derive(Debug)]
pub struct TableDef {
    /// SQL name.
    pub name: &'static str,
    /// What one row is.
    pub doc: &'static str,
    pub columns: &'static [Column],
}

impl TableDef {
    /// Position of a column, by name.
    pub fn column(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }
}

/// A column's public face.
#[derive(Debug)]
pub struct Column {
    pub name: &'static str,
    pub kind: ColumnType,
    /// Whether a row may have no value here.
    pub nullable: bool,
    pub doc: &'static str,
    /// Unit of a number: `ns`, `bytes`, `tokens`, or empty.
    pub unit: &'static str,
    /// Name of the attribute in the OpenTelemetry semantic conventions, or empty.
    pub otel: &'static str,
}

/// SQL type of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ColumnType {
    /// UTC time in nanoseconds since 1970-01-01.
    Timestamp,
    /// 64-bit signed integer.
    BigInt,
    Double,
    Boolean,
    /// UTF-8 text.
    Varchar,
    /// Bytes.
    Varbinary,
    /// List of texts.
    VarcharList,
}

/// A cell, borrowed from its row.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Null,
    /// Nanoseconds since 1970-01-01 UTC.
    Timestamp(i64),
    BigInt(i64),
    Double(f64),
    Boolean(bool),
    Varchar(&'a str),
    Varbinary(&'a [u8]),
    VarcharList(&'a [String]),
}

/// A row of some table.
pub trait Row: Any {
    fn table(&self) -> &'static TableDef;
    /// The cell of the column at `index` of [`TableDef::columns`]; [`Value::Null`] past the last one.
    fn value(&self, index: usize) -> Value<'_>;
    /// A copy to keep.
    fn boxed(&self) -> Box<dyn Row>;
}

impl dyn Row {
    /// The row as a structure, if it is of this one.
    pub fn downcast<T: Row>(&self) -> Option<&T> {
        (self as &dyn Any).downcast_ref()
    }
}

/// UTC time in nanoseconds since 1970-01-01, as a column's Rust type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// A Rust type that can be a cell.
pub trait Cell {
    const KIND: ColumnType;
    const NULLABLE: bool = false;
    fn value(&self) -> Value<'_>;
}

macro_rules! cell {
    ($rust:ty, $kind:ident, |$it:ident| $value:expr) => {
        impl Cell for $rust {
            const KIND: ColumnType = ColumnType::$kind;
            fn value(&self) -> Value<'_> {
                let $it = self;
                Value::$kind($value)
            }
        }
    };
}

cell!(Timestamp, Timestamp, |it| it.0);
cell!(i64, BigInt, |it| *it);
cell!(f64, Double, |it| *it);
cell!(bool, Boolean, |it| *it);
cell!(String, Varchar, |it| it);
cell!(&'static str, Varchar, |it| it);
cell!(Vec<u8>, Varbinary, |it| it);
cell!(Vec<String>, VarcharList, |it| it);

impl<T: Cell> Cell for Option<T> {
    const KIND: ColumnType = T::KIND;
    const NULLABLE: bool = true;
    fn value(&self) -> Value<'_> {
        self.as_ref().map_or(Value::Null, T::value)
    }
}

/// Defines a table: its row structure and its [`TableDef`].
///
/// The doc comments are the documentation that users see. After a column's type may stand `, unit = "…"` and
/// `, otel = "…"` in brackets.
#[macro_export]
macro_rules! table {
    (
        $(#[doc = $doc:literal])+
        pub struct $row:ident in $name:literal {
            $( $(#[doc = $column_doc:literal])+ $column:ident : $type:ty $([ $($key:ident = $text:literal),* ])? ,)+
        }
    ) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct $row { $( $(#[doc = $column_doc])+ pub $column: $type, )+ }

        impl $row {
            pub const TABLE: &'static $crate::table::TableDef = &$crate::table::TableDef {
                name: $name,
                doc: concat!($($doc,)+),
                columns: &[ $( {
                    #[allow(unused_mut)]
                    let mut column = $crate::table::Column {
                        name: stringify!($column),
                        kind: <$type as $crate::table::Cell>::KIND,
                        nullable: <$type as $crate::table::Cell>::NULLABLE,
                        doc: concat!($($column_doc,)+),
                        unit: "",
                        otel: "",
                    };
                    $($( column.$key = $text; )*)?
                    column
                }, )+ ],
            };
        }

        impl $crate::table::Row for $row {
            fn table(&self) -> &'static $crate::table::TableDef { Self::TABLE }
            fn value(&self, index: usize) -> $crate::table::Value<'_> {
                let mut at = 0;
                $(
                    if at == index { return $crate::table::Cell::value(&self.$column); }
                    at += 1;
                )+
                let _ = at;
                $crate::table::Value::Null
            }
            fn boxed(&self) -> Box<dyn $crate::table::Row> { Box::new(self.clone()) }
        }
    };
}
