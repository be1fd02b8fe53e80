//! Numbers: which of them a key takes, and what to write for one that was written in another way.

use crate::check::expected;
use crate::keys::Kind;

/// Beyond this, not every integer is an `f64`.
const EXACT: f64 = 9_007_199_254_740_992.0;

/// Whether a value is a number in the range of `kind`.
pub(crate) fn fits(kind: &Kind, value: &toml::Value) -> bool {
    let number = match value {
        toml::Value::Integer(number) => *number as f64,
        toml::Value::Float(number) => *number,
        _ => return false,
    };
    match kind {
        Kind::Integer(low, high) => value
            .as_integer()
            .and_then(|number| u64::try_from(number).ok())
            .is_some_and(|number| (*low..=*high).contains(&number)),
        Kind::Float(low, high) => number >= *low && number <= *high,
        Kind::FloatBelow(low, high) => number >= *low && number < *high,
        Kind::Positive(high) => number > 0.0 && number <= *high,
        Kind::Finite => number.is_finite(),
        _ => false,
    }
}

/// `; write 1000`, where a value that does not fit stands for a number that does; else nothing.
pub(crate) fn advice(kind: &Kind, value: &toml::Value) -> String {
    let number = match value {
        toml::Value::String(text) => meaning(text),
        other => Some(other.clone()),
    };
    let whole = |number: f64| number.fract() == 0.0 && number.abs() < EXACT;
    let number = match (kind, number) {
        (Kind::Integer(..), Some(toml::Value::Float(x))) if whole(x) => Some(toml::Value::Integer(x as i64)),
        (_, number) => number,
    };
    match number.filter(|number| fits(kind, number)) {
        Some(toml::Value::Float(number)) => format!("; write {number:?}"),
        Some(number) => format!("; write {number}"),
        None => String::new(),
    }
}

/// The number that a text stands for, in the ways numbers are written elsewhere: `1e3`, `+5`, `.5`, `5.`, `007`,
/// `1,000`, `1 000`, `0,5`, `0X1F`.
pub(crate) fn meaning(text: &str) -> Option<toml::Value> {
    let text = text.trim();
    let (sign, digits) = match text.strip_prefix(['+', '-']) {
        Some(digits) => (if text.starts_with('-') { "-" } else { "" }, digits),
        None => ("", text),
    };
    let digits = ungrouped(&digits.to_ascii_lowercase())?;
    for (prefix, radix) in [("0x", 16), ("0o", 8), ("0b", 2)] {
        if let Some(digits) = digits.strip_prefix(prefix) {
            return i64::from_str_radix(&format!("{sign}{digits}"), radix).ok().map(toml::Value::Integer);
        }
    }
    // Rust reads `inf` and `nan` too.
    if !digits.starts_with(|c: char| c.is_ascii_digit() || c == '.') {
        return None;
    }
    let signed = format!("{sign}{digits}");
    let float = || signed.parse::<f64>().ok().filter(|number| number.is_finite()).map(toml::Value::Float);
    signed.parse::<i64>().ok().map(toml::Value::Integer).or_else(float)
}

/// Without the signs that part thousands, and with a decimal point for a decimal comma. `1,000` is a thousand.
fn ungrouped(digits: &str) -> Option<String> {
    let digits = digits.replace('_', "");
    let mut parts = digits.split([',', ' ', '\'']);
    let (first, rest) = (parts.next()?, parts.collect::<Vec<_>>());
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let last = rest.len().wrapping_sub(1);
    let three = |(at, group): (usize, &&str)| {
        let whole = if at == last { group.split('.').next().unwrap_or_default() } else { group };
        whole.len() == 3 && is_number(whole)
    };
    if rest.is_empty() {
        Some(digits)
    } else if is_number(first) && first.len() <= 3 && !first.starts_with('0') && rest.iter().enumerate().all(three) {
        Some(first.to_owned() + &rest.concat())
    } else if rest.len() == 1 && digits.contains(',') && is_number(first) && is_number(rest[0]) {
        Some(format!("{first}.{}", rest[0]))
    } else {
        None
    }
}

/// The parts of a list on the command line, at commas that stand in no brackets and no quotes.
pub(crate) fn split_list(text: &str) -> Vec<&str> {
    let (mut parts, mut start, mut depth, mut quote) = (Vec::new(), 0, 0usize, None);
    for (at, c) in text.char_indices() {
        match (c, quote) {
            (_, Some(open)) => quote = (c != open).then_some(open),
            ('"' | '\'', None) => quote = Some(c),
            ('[' | '{', None) => depth += 1,
            (']' | '}', None) => depth = depth.saturating_sub(1),
            (',', None) if depth == 0 => {
                parts.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

/// An integer of the command line from `low` to `high`.
///
/// # Errors
/// What was found, what was expected, and how to write it where that is known.
pub fn integer(text: &str, low: u64, high: u64) -> Result<u64, String> {
    let kind = Kind::Integer(low, high);
    let found = toml::Value::String(text.to_owned());
    let number = text.parse().ok().filter(|number| (low..=high).contains(number));
    number.ok_or_else(|| format!("found {text:?}, expected {}{}", expected(&kind), advice(&kind, &found)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_to_write_is_in_range_and_is_what_was_meant() {
        let steps = Kind::Integer(1, 1 << 40);
        let text = |text: &str| toml::Value::String(text.to_owned());
        for (found, write) in [
            ("1e3", "1000"),
            ("1000.0", "1000"),
            ("1E+3", "1000"),
            ("1,000", "1000"),
            ("12,345,678", "12345678"),
            ("1 000", "1000"),
            ("1__000", "1000"),
            ("+5", "5"),
            (" 5 ", "5"),
            ("5.", "5"),
            ("007", "7"),
            ("0X10", "16"),
            ("4503599627370497", ""),
            ("1.5", ""),
            ("0", ""),
            ("-3", ""),
            ("1e99", ""),
            ("inf", ""),
            ("", ""),
            (".", ""),
            ("1,00,000", ""),
            ("ten", ""),
            ("1-2", ""),
            ("+-5", ""),
        ] {
            let expected = if write.is_empty() { String::new() } else { format!("; write {write}") };
            assert_eq!(advice(&steps, &text(found)), expected, "{found}");
        }
        assert_eq!(advice(&steps, &toml::Value::Float(1e3)), "; write 1000");
        assert_eq!(advice(&steps, &toml::Value::Float(0.5)), "");
        let rate = Kind::Positive(1e6);
        for (found, write) in [
            (".001", "0.001"),
            ("1.", "1.0"),
            ("1e-3", "0.001"),
            ("1e-8", "1e-8"),
            ("0,5", "0.5"),
            ("0,001", "0.001"),
            ("1,000.5", "1000.5"),
            ("3", "3"),
            ("0", ""),
            ("-.5", ""),
            ("nan", ""),
            ("1.000,5", ""),
            ("1,000e2", ""),
        ] {
            let expected = if write.is_empty() { String::new() } else { format!("; write {write}") };
            assert_eq!(advice(&rate, &text(found)), expected, "{found}");
        }
        assert_eq!(advice(&Kind::FloatBelow(0.0, 1.0), &text("1.")), "");
        assert_eq!(integer("1e3", 1, 50), Err("found \"1e3\", expected an integer from 1 to 50".to_owned()));
    }
}
