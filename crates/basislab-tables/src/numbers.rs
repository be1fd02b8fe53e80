//! A cell with a list of numbers.

use crate::cell::{CellType, CellValue};
use serde::{Deserialize, Deserializer, Serializer};
use std::fmt::Write;

/// Numbers of single precision, one for each dimension or basis: separated by spaces in a cell, each with the fewest digits
/// that tell it from its neighbours.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Numbers(Vec<f64>);

impl Numbers {
    /// The numbers, rounded to single precision as far as its range goes; none at all where one is not finite.
    pub fn new(values: &[f64]) -> Self {
        let is_finite = values.iter().all(|value| value.is_finite());
        Self(if is_finite { values.iter().copied().map(rounded).collect() } else { Vec::new() })
    }

    /// From the text of a cell; `None` where it is anything but finite numbers with a space between two.
    pub fn parse(text: &str) -> Option<Self> {
        if text.is_empty() {
            return Some(Self::default());
        }
        let number = |text: &str| text.parse::<f64>().ok().filter(|value| value.is_finite()).map(rounded);
        text.split(' ').map(number).collect::<Option<_>>().map(Self)
    }

    /// The numbers in order.
    pub fn values(&self) -> &[f64] {
        &self.0
    }
}

/// To the nearest `f32`, but for what it cannot hold: fourth powers leave its range early.
fn rounded(value: f64) -> f64 {
    let narrow = value as f32;
    if narrow.is_normal() { f64::from(narrow) } else { value }
}

impl CellValue for Numbers {
    const CELL: CellType = CellType::Numbers;

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::new();
        for (place, value) in self.0.iter().enumerate() {
            let space = if place == 0 { "" } else { " " };
            let narrow = *value as f32;
            let written = match f64::from(narrow) == *value {
                true => write!(text, "{space}{narrow:?}"),
                false => write!(text, "{space}{value:?}"),
            };
            written.map_err(serde::ser::Error::custom)?;
        }
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Numbers {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| serde::de::Error::custom("expected numbers with a space between two"))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
mod tests {
    use super::Numbers;
    use crate::cell::CellValue;

    /// The cell as it is written.
    fn cell(values: &[f64]) -> String {
        let mut writer = csv::WriterBuilder::new().has_headers(false).from_writer(Vec::new());
        struct Row(Numbers);
        impl serde::Serialize for Row {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                self.0.write(serializer)
            }
        }
        writer.serialize(Row(Numbers::new(values))).unwrap();
        String::from_utf8(writer.into_inner().unwrap()).unwrap().trim_end().to_owned()
    }

    #[test]
    fn numbers_have_the_fewest_digits_of_single_precision_and_are_read_back_as_they_are() {
        let values = [0.1, 1.0 / 3.0, 2.0, 0.0, -1.5e-9, 16_777_217.0];
        assert_eq!(cell(&values), "0.1 0.33333334 2.0 0.0 -1.5e-9 16777216.0");
        // Beyond the range of single precision nothing is lost.
        assert_eq!(cell(&[1e-60, 3.5e40, 1e-40]), "1e-60 3.5e40 1e-40");
        for values in [&values[..], &[1e-60, 3.5e40, 1e-40, f64::MAX], &[]] {
            let numbers = Numbers::new(values);
            assert_eq!(Numbers::parse(cell(values).trim_matches('"')), Some(numbers.clone()));
            for (found, expected) in numbers.values().iter().zip(values) {
                assert!((found - expected).abs() <= 6e-8 * expected.abs(), "{found} {expected}");
            }
        }
    }

    #[test]
    fn what_is_no_list_of_finite_numbers_is_none() {
        for text in ["1.0  2.0", " 1.0", "1.0 ", "1.0,2.0", "NaN", "1.0 inf", "one"] {
            assert_eq!(Numbers::parse(text), None, "{text}");
        }
        assert_eq!(Numbers::new(&[1.0, f64::INFINITY]), Numbers::default());
    }
}
