//! Tokens without variance, for which most metrics are undefined: all zero (padding), or all coordinates equal.

use basislab_config::count;
use basislab_stats::{Metric, MetricFn, Residuals};
use serde_json::{Value, json};

/// Tokens of some kind: how many, and where the first of them are.
#[derive(Default)]
pub(super) struct Tokens {
    pub(super) count: usize,
    /// First and last of each run of neighbours, a few of them.
    runs: Vec<[usize; 2]>,
}

const RUNS: usize = 5;

impl Tokens {
    /// Those for which `is` holds.
    pub(super) fn of(x: &Residuals, is: impl Fn(&[f64]) -> bool) -> Self {
        let mut found = Self::default();
        for (token, _) in x.rows().enumerate().filter(|(_, row)| is(row)) {
            found.count += 1;
            if let Some([_, last]) = found.runs.last_mut().filter(|[_, last]| *last + 1 == token) {
                *last = token;
            } else if found.runs.len() < RUNS {
                found.runs.push([token, token]);
            }
        }
        found
    }

    /// Such as `3 of 24 tokens are all zero (4, 21 to 22)`.
    pub(super) fn sentence(&self, n_tokens: usize, what: &str) -> String {
        let run = |[first, last]: &[usize; 2]| match last - first {
            0 => first.to_string(),
            1 => format!("{first}, {last}"),
            _ => format!("{first} to {last}"),
        };
        let shown: usize = self.runs.iter().map(|[first, last]| last - first + 1).sum();
        let rest = if shown < self.count { ", ..." } else { "" };
        let runs = self.runs.iter().map(run).collect::<Vec<_>>().join(", ");
        let verb = if self.count == 1 { "is" } else { "are" };
        format!("{} of {} {verb} {what} ({runs}{rest})", self.count, count(n_tokens, "token"))
    }

    pub(super) fn json(&self) -> Value {
        json!({ "count": self.count, "first_runs": self.runs })
    }
}

pub(super) fn is_zero(token: &[f64]) -> bool {
    token.iter().all(|value| *value == 0.0)
}

pub(super) fn is_constant(token: &[f64]) -> bool {
    token[0] != 0.0 && token.iter().all(|value| *value == token[0])
}

/// Whether one token of this value everywhere leaves the metric undefined for all.
pub(super) fn is_undefined_by(metric: &Metric, everywhere: f64) -> bool {
    let values = [[1.0, -2.0, 3.0, 5.0], [everywhere; 4]].concat();
    match (metric.of, Residuals::new(values, 4)) {
        (MetricFn::Matrix(of), Ok(x)) => of(&x).is_none(),
        _ => false,
    }
}
