//! What a cell of a table holds: its type says how it is written, and what a reader may expect.

use crate::numbers::Numbers;
use basislab_config::{Basis, RunName, Site, Tokens};
use serde::{Serialize, Serializer};

/// What a cell may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CellType {
    /// Any text, possibly empty.
    Text,
    /// Text that is not empty.
    Name,
    /// One of these, or nothing.
    Names(&'static [&'static str]),
    /// `standard`, `optimizer` or `random:<k>`; empty where no basis applies.
    Basis,
    /// An integer >= 0.
    Integer,
    /// An integer >= 0 or nothing.
    MaybeInteger,
    /// A finite number.
    Number,
    /// A finite number or nothing.
    MaybeNumber,
    /// `true` or `false`.
    Boolean,
    /// Finite numbers with a space between two, or nothing.
    Numbers,
}

impl CellType {
    /// Whether a cell's text is of this kind.
    pub fn accepts(self, text: &str) -> bool {
        match self {
            Self::Text | Self::Name => true,
            Self::Names(names) => text.is_empty() || names.contains(&text),
            Self::Basis => text.is_empty() || text.parse::<Basis>().is_ok(),
            Self::Integer => text.parse::<u64>().is_ok(),
            Self::MaybeInteger => text.is_empty() || Self::Integer.accepts(text),
            Self::Number => text.parse::<f64>().is_ok_and(f64::is_finite),
            Self::MaybeNumber => text.is_empty() || Self::Number.accepts(text),
            Self::Boolean => matches!(text, "true" | "false"),
            Self::Numbers => Numbers::parse(text).is_some(),
        }
    }

    /// What it accepts, for messages.
    pub fn expected(self) -> String {
        match self {
            Self::Text | Self::Name => "text".to_owned(),
            Self::Names(names) => names.join(" or "),
            Self::Basis => "standard, optimizer or random:<k>".to_owned(),
            Self::Integer => "an integer".to_owned(),
            Self::MaybeInteger => "an integer or an empty cell".to_owned(),
            Self::Number => "a finite number".to_owned(),
            Self::MaybeNumber => "a finite number or an empty cell".to_owned(),
            Self::Boolean => "true or false".to_owned(),
            Self::Numbers => "finite numbers with a space between two".to_owned(),
        }
    }
}

/// A type whose values stand in cells.
pub trait CellValue {
    /// What such a cell holds.
    const CELL: CellType;

    /// Writes the value.
    ///
    /// # Errors
    /// A value that no reader could take back.
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>;
}

pub(crate) fn write<T: CellValue, S: Serializer>(value: &T, serializer: S) -> Result<S::Ok, S::Error> {
    value.write(serializer)
}

impl CellValue for String {
    const CELL: CellType = CellType::Text;

    /// A spreadsheet takes a cell that starts like this for a formula; the quote tells it not to (OWASP, CSV injection).
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.starts_with(['=', '+', '-', '@', '\t', '\r']) {
            return serializer.collect_str(&format_args!("'{self}"));
        }
        serializer.serialize_str(self)
    }
}

impl CellValue for f64 {
    const CELL: CellType = CellType::Number;

    /// serde would write `NaN` and `inf` as such; no reader of these files should ever meet them.
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !self.is_finite() {
            let message = format!("{self} in a column that holds finite numbers only");
            return Err(serde::ser::Error::custom(message));
        }
        serializer.serialize_f64(*self)
    }
}

impl CellValue for Option<f64> {
    const CELL: CellType = CellType::MaybeNumber;

    /// What is not finite is an empty cell.
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.filter(|value| value.is_finite()).serialize(serializer)
    }
}

/// Cells that serde writes as they should be.
macro_rules! plain {
    ($($type:ty: $cell:expr,)*) => {$(
        impl CellValue for $type {
            const CELL: CellType = $cell;

            fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.serialize(serializer)
            }
        }
    )*};
}
pub(crate) use plain;

plain! {
    RunName: CellType::Name,
    u64: CellType::Integer,
    usize: CellType::Integer,
    Option<usize>: CellType::MaybeInteger,
    Option<u64>: CellType::MaybeInteger,
    bool: CellType::Boolean,
    Site: CellType::Text,
    Option<Site>: CellType::Text,
    Tokens: CellType::Names(Tokens::NAMES),
    Option<Tokens>: CellType::Names(Tokens::NAMES),
    Basis: CellType::Basis,
    Option<Basis>: CellType::Basis,
}
