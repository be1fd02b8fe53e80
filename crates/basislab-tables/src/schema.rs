//! Tables and their columns, and `datapackage.json`, which tells programs about them.

use crate::cell::CellType;
use crate::rows::TABLES;
use serde_json::{Value, json};
use std::path::Path;

/// A CSV file of an experiment directory.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub file: &'static str,
    about: &'static str,
    /// Its columns in order. New ones are only ever added at the end.
    pub columns: &'static [Column],
}

/// A column.
#[derive(Debug)]
pub struct Column {
    /// Its name in the header.
    pub name: &'static str,
    /// What its cells hold.
    pub cell: CellType,
    about: &'static str,
}

impl Table {
    #[doc(hidden)]
    pub const fn new(file: &'static str, about: &'static str, columns: &'static [Column]) -> Self {
        Self { file, about, columns }
    }

    /// What a row is.
    pub fn about(&self) -> &'static str {
        sentence(self.about)
    }

    /// The header line, without its newline.
    pub fn header(&self) -> String {
        self.columns.iter().map(|column| column.name).collect::<Vec<_>>().join(",")
    }
}

impl Column {
    #[doc(hidden)]
    pub const fn new(name: &'static str, cell: CellType, about: &'static str) -> Self {
        Self { name, cell, about }
    }

    /// Definition and unit.
    pub fn about(&self) -> &'static str {
        sentence(self.about)
    }
}

/// A doc comment as a description.
fn sentence(about: &'static str) -> &'static str {
    about.trim().trim_end_matches('.')
}

/// A row struct and the file it belongs to.
pub trait TableRow: serde::Serialize + serde::de::DeserializeOwned {
    /// The file.
    const TABLE: &'static Table;
}

/// Declares a row struct and its table: each field is a column, its doc comment the description, its type the kind of cell.
macro_rules! rows {
    ($(
        $(#[doc = $about:literal])+
        pub struct $row:ident in $file:literal {
            $($(#[doc = $column:literal])+ $name:ident: $type:ty $(= $cell:expr)?,)*
        }
    )*) => {$(
        $(#[doc = $about])+
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
        pub struct $row {
            $($(#[doc = $column])+ #[serde(serialize_with = "crate::cell::write")] pub $name: $type,)*
        }

        impl crate::schema::TableRow for $row {
            const TABLE: &'static crate::schema::Table = &crate::schema::Table::new(
                $file,
                concat!($($about),+),
                &[$(crate::schema::Column::new(
                    stringify!($name),
                    crate::schema::rows!(@cell $type $(, $cell)?),
                    concat!($($column),+),
                )),*],
            );
        }
    )*};
    (@cell $type:ty) => { <$type as crate::cell::CellValue>::CELL };
    (@cell $type:ty, $cell:expr) => { $cell };
}
pub(crate) use rows;

/// The name under which programs look for a data package.
pub const PACKAGE: &str = "datapackage.json";

/// `datapackage.json`: a Frictionless data package of the tables that are in `dir`, each with its schema.
pub fn data_package(dir: &Path) -> Value {
    let there = TABLES.iter().filter(|table| dir.join(table.file).is_file());
    json!({
        "profile": "tabular-data-package",
        "name": "basislab-experiment",
        "resources": there.map(|table| resource(table)).collect::<Vec<_>>(),
    })
}

/// A table as the data package describes it.
pub fn resource(table: &Table) -> Value {
    json!({
        "name": table.file.trim_end_matches(".csv"),
        "profile": "tabular-data-resource",
        "path": table.file,
        "description": table.about(),
        "format": "csv",
        "encoding": "utf-8",
        "schema": {
            "fields": table.columns.iter().map(field).collect::<Vec<_>>(),
            "missingValues": [""],
        },
    })
}

fn field(column: &Column) -> Value {
    let (kind, constraints) = match column.cell {
        CellType::Text => ("string", json!({})),
        CellType::Name => ("string", json!({ "required": true })),
        CellType::Names(names) => ("string", json!({ "enum": names })),
        CellType::Basis => ("string", json!({ "pattern": "(standard|optimizer|random:[0-9]+)" })),
        CellType::Integer => ("integer", json!({ "required": true, "minimum": 0 })),
        CellType::MaybeInteger => ("integer", json!({ "minimum": 0 })),
        CellType::Number => ("number", json!({ "required": true })),
        CellType::MaybeNumber => ("number", json!({})),
        CellType::Numbers => ("string", json!({ "pattern": "(-?[0-9.]+(e-?[0-9]+)?( -?[0-9.]+(e-?[0-9]+)?)*)?" })),
        CellType::Boolean => ("boolean", json!({ "required": true })),
    };
    json!({ "name": column.name, "type": kind, "description": column.about(), "constraints": constraints })
}
