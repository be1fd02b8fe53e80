//! A comparison as plain text for a terminal.

use super::{ArmNumbers, Comparison, Difference, VerdictComparison, VerdictNumbers};
use crate::answer::{Scale, decimals};
use crate::figures::in_words;
use comfy_table::{CellAlignment, Table, presets};
use std::fmt::{self, Display, Formatter};

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.differences.is_empty() {
            writeln!(f, "configurations: no difference\n")?;
        } else {
            writeln!(f, "configurations: what differs\n{}\n", self.difference_table().trim_fmt())?;
        }
        writeln!(f, "arms at their last step\n{}\n", self.arm_table().trim_fmt())?;
        if self.verdicts.is_empty() {
            return writeln!(f, "verdicts: no claims");
        }
        writeln!(f, "verdicts\n{}", self.verdict_table().trim_fmt())
    }
}

impl Comparison {
    fn header(&self, first: &[&str], last: &[&str]) -> Vec<String> {
        let of = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<String>>();
        [of(first), self.directories.clone(), of(last)].concat()
    }

    fn difference_table(&self) -> Table {
        let mut table = table(self.header(&["key"], &[]));
        for one in &self.differences {
            let values = one.values.iter().map(|value| value.as_deref().map_or_else(|| "-".to_owned(), shorten));
            table.add_row(std::iter::once(key_in_words(one)).chain(values));
        }
        table
    }

    fn arm_table(&self) -> Table {
        let metrics: Vec<&String> =
            self.arms.iter().flat_map(|arm| arm.numbers.iter().flatten()).map(|numbers| &numbers.metric).collect();
        let shared = metrics.first().filter(|first| metrics.iter().all(|metric| metric == *first));
        let metric = shared.map_or_else(|| "metric".to_owned(), |metric| in_words(metric));
        let header =
            ["arm", "directory", "seeds", &metric, "null", "loss", "ratio", "log ratio, paired (95 % interval)"];
        let mut table = table(header.map(str::to_owned).to_vec());
        for arm in &self.arms {
            let mut name = arm.arm.as_str();
            for (directory, numbers) in self.directories.iter().zip(&arm.numbers) {
                let mut row = vec![std::mem::take(&mut name).to_owned(), directory.clone()];
                match numbers {
                    Some(numbers) => row.extend(arm_cells(numbers, shared.is_none())),
                    None => row.push("no such arm".to_owned()),
                }
                table.add_row(row);
            }
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    fn verdict_table(&self) -> Table {
        let mut table = table(self.header(&["claim"], &[""]));
        for one in &self.verdicts {
            let cell = |verdict: &Option<VerdictNumbers>| verdict.as_ref().map_or_else(|| "-".to_owned(), verdict_cell);
            let mut row = vec![one.claim.clone()];
            row.extend(one.verdicts.iter().map(cell));
            row.push(remarks(one));
            table.add_row(row);
        }
        table
    }
}

fn table(header: Vec<String>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header);
    table
}

/// Texts may be long; the JSON has them in full.
fn shorten(value: &str) -> String {
    const MOST: usize = 48;
    if value.chars().count() <= MOST {
        return value.to_owned();
    }
    value.chars().take(MOST - 1).chain(['…']).collect()
}

/// `optimizer.lr (adam, sgd)`, `train.steps (every arm)`, `verdict.alpha`.
fn key_in_words(one: &Difference) -> String {
    match one.every_arm {
        true => format!("{} (every arm)", one.key),
        false if one.arms.is_empty() => one.key.clone(),
        false => format!("{} ({})", one.key, one.arms.join(", ")),
    }
}

fn arm_cells(numbers: &ArmNumbers, name_metric: bool) -> Vec<String> {
    let value = match (numbers.mean, numbers.sd) {
        (Some(mean), Some(sd)) => format!("{mean:.2} ± {sd:.2}"),
        (mean, _) => decimals(mean, 2),
    };
    let value = if name_metric { format!("{} {value}", in_words(&numbers.metric)) } else { value };
    let paired = match (numbers.paired, numbers.same_seeds) {
        (Some(paired), _) => {
            let interval = match (paired.low, paired.high) {
                (Some(low), Some(high)) => format!(" ({low:+.3} to {high:+.3})"),
                _ => String::new(),
            };
            format!("{:+.3}{interval}, n = {}", paired.mean_log_ratio, paired.n_seeds)
        }
        (None, Some(false)) => "other seeds".to_owned(),
        (None, _) => "-".to_owned(),
    };
    vec![
        format!("{}/{}", numbers.n_seeds, numbers.seeds_planned),
        value,
        decimals(numbers.null_mean, 2),
        decimals(numbers.loss, 3),
        decimals(numbers.ratio, 3),
        paired,
    ]
}

fn verdict_cell(one: &VerdictNumbers) -> String {
    match (one.estimate, one.scale) {
        (Some(estimate), Scale::Ratio) => format!("{}, {estimate:.2} times", one.verdict),
        (Some(estimate), Scale::Nats) => format!("{}, {estimate:+.4} nats", one.verdict),
        _ => one.verdict.to_string(),
    }
}

fn remarks(one: &VerdictComparison) -> String {
    let differs = one.differs.then_some("verdicts differ");
    let rule = one.rule_differs.then_some("rules differ");
    differs.into_iter().chain(rule).collect::<Vec<_>>().join(", ")
}
