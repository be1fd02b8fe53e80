use serde::{Deserialize, Serialize};
use std::fmt;
use std::ops::Deref;
use std::path::Path;

/// A name that is safe as a folder, a table cell and a piece of a path: 1 to 64 letters, digits, `.`, `_` or `-`,
/// starting with a letter or digit, without `..`. Nor is it what a reader of tables takes for a missing value, a number,
/// a date or a boolean, or Windows for a device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct RunName(String);

/// What a name is made of.
pub(crate) const NAME: &str =
    "a name of 1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit, without '..'";

impl RunName {
    /// Takes a text that fits.
    ///
    /// # Errors
    /// What was expected instead, for messages.
    pub fn new(text: &str) -> Result<Self, String> {
        let mut chars = text.chars();
        let fits = chars.next().is_some_and(|c| c.is_ascii_alphanumeric())
            && chars.all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-'))
            && text.len() <= 64
            && !text.contains("..");
        if !fits {
            return Err(NAME.to_owned());
        }
        match taken_for(&text.to_ascii_lowercase()) {
            Some(reason) => {
                let example: String = format!("x-{}", text.trim_end_matches('.')).chars().take(64).collect();
                Err(format!("a name that {reason}, for example {example}"))
            }
            None => Ok(Self(text.to_owned())),
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What pandas, R, polars, DuckDB or a spreadsheet reads as missing, of what a name may hold.
const MISSING: [&str; 10] = ["na", "n.a", "n.a.", "n-a", "n_a", "nan", "nat", "nil", "none", "null"];
const BOOLEANS: [&str; 10] = ["true", "false", "t", "f", "yes", "no", "y", "n", "on", "off"];
const DEVICES: [&str; 4] = ["con", "prn", "aux", "nul"];
const MONTHS: &str = "january february march april may june july august september october november december";

/// What a lower-case name is and must not be, as a sentence about names that are not.
fn taken_for(name: &str) -> Option<&'static str> {
    let stem = name.split('.').next().unwrap_or_default();
    let port = stem.strip_prefix("com").or_else(|| stem.strip_prefix("lpt"));
    if MISSING.contains(&name) {
        Some("no reader of tables takes for a missing value")
    } else if BOOLEANS.contains(&name) {
        Some("no reader of tables takes for true or false")
    } else if is_number(name) {
        Some("no reader of tables takes for a number or a date")
    } else if is_date(name) {
        Some("no reader of tables takes for a date")
    } else if DEVICES.contains(&stem) || port.is_some_and(|n| n.len() == 1 && n.bytes().all(|b| b.is_ascii_digit())) {
        Some("is no device on Windows")
    } else if name.ends_with('.') {
        Some("does not end with '.', which Windows drops")
    } else {
        None
    }
}

/// No letter at all (`007`, `1-2`, `2026-01-01`), an exponent, an infinity, a base, or R's `3i`.
fn is_number(name: &str) -> bool {
    let in_base =
        |digits: &str| !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_hexdigit() || b"._-p".contains(&b));
    let no_letter = |text: &str| !text.is_empty() && !text.contains(|c: char| c.is_ascii_alphabetic());
    name.replace('_', "").parse::<f64>().is_ok()
        || ["0x", "0o", "0b"].iter().any(|base| name.strip_prefix(base).is_some_and(in_base))
        || no_letter(name.strip_suffix('i').unwrap_or(name))
}

/// Digits with the name of a month (`1-jan-2026`, `sep2`: spreadsheets), or with the `T` and `Z` of ISO 8601.
fn is_date(name: &str) -> bool {
    let mut words = name.split(|c: char| !c.is_ascii_alphabetic()).filter(|word| !word.is_empty());
    let is_month = |word: &str| word.len() >= 3 && MONTHS.split(' ').any(|month| month.starts_with(word));
    let digits = |text: &str| text.bytes().filter(u8::is_ascii_digit).count();
    let day = name.split('t').next().unwrap_or_default();
    digits(name) > 0 && (words.clone().all(is_month) || digits(day) >= 6 && words.all(|word| matches!(word, "t" | "z")))
}

impl TryFrom<String> for RunName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Self::new(&text).map_err(|expected| format!("found {text:?}, expected {expected}"))
    }
}

impl Deref for RunName {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for RunName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl PartialEq<str> for RunName {
    fn eq(&self, other: &str) -> bool {
        self.0 == other
    }
}

impl PartialEq<&str> for RunName {
    fn eq(&self, other: &&str) -> bool {
        self.0 == *other
    }
}

impl AsRef<Path> for RunName {
    fn as_ref(&self) -> &Path {
        Path::new(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_read_as_something_else_are_refused_with_the_reason() {
        let refused = |names: &str, reason: &str| {
            for name in names.split_whitespace() {
                for name in [name.to_owned(), name.to_uppercase(), name.to_lowercase()] {
                    let expected = RunName::new(&name).expect_err(&name);
                    assert!(expected.contains(reason), "{name}: {expected}");
                }
            }
        };
        refused("NA N.A. n_a NaN null None nil NaT", "missing value");
        refused("true False T f yes No Y n on off", "true or false");
        refused("1 007 1.5 1. 1_000 1e5 1.5e-3 1E5 0x1F 0b1 inf Infinity 1-2 2026-01-01 01.02.2026 3i", "number");
        refused("1-Jan 1-jan-2026 sep2 March-1 2026-01-01T00 20260101T000000Z", "date");
        refused("con NUL aux.1 prn.txt com1 LPT9.csv", "Windows");
        refused("adam.", "Windows");
        refused("-nan .5 a..b a/b", "letters");
        for name in
            "adam sgd-0.1 lr.1e-3 2x 7b 1st 3d-rope nanny na-adam nullable trust t1 false-start off-policy inf-norm \
                     may march-of-time com com10 console e5 x007 decay2 sept2-run v2026-01-01 0.1-lr"
                .split_whitespace()
        {
            assert!(RunName::new(name).is_ok(), "{name}");
        }
    }
}
