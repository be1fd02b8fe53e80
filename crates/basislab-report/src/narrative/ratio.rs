//! Ratios in words.

/// `3.63 times`, `24 % higher than`, `11 % lower than`: a ratio of 2 or more as one, else as a difference in percent.
pub(crate) fn in_words(ratio: f64) -> String {
    match ratio {
        ratio if ratio >= 2.0 => format!("{} times", times(ratio)),
        ratio if ratio >= 1.0 => format!("{} % higher than", percent(ratio)),
        ratio => format!("{} % lower than", percent(ratio)),
    }
}

/// The ends of the interval of a ratio, in the unit that [`in_words`] gives it: `3.10 to 4.24`, `3 to 17 %`, or with sides,
/// where they differ.
pub(crate) fn interval(ratio: f64, low: f64, high: f64) -> String {
    let side = |end: f64| format!("{} % {}", percent(end), if end >= 1.0 { "higher" } else { "lower" });
    match ratio {
        ratio if ratio >= 2.0 => format!("{} to {}", times(low), times(high)),
        _ if high < 1.0 => format!("{} to {} %", percent(high), percent(low)),
        _ if low >= 1.0 && high < 3.0 => format!("{} to {} %", percent(low), percent(high)),
        _ => format!("{} to {}", side(low), side(high)),
    }
}

fn times(ratio: f64) -> String {
    if ratio < 10.0 { format!("{ratio:.2}") } else { format!("{ratio:.1}") }
}

/// The distance from 1 in percent.
fn percent(ratio: f64) -> String {
    let percent = 100.0 * (ratio - 1.0).abs();
    match percent {
        small if small < 0.995 => format!("{small:.2}"),
        few if few < 9.95 => format!("{few:.1}"),
        many => format!("{many:.0}"),
    }
}
