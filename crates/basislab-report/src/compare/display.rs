//! A comparison as plain text for a terminal.

use super::{ArmNumbers, Comparison, Difference, Paired, VerdictComparison, VerdictNumbers};
use crate::answer::decimals;
use crate::figures::in_words;
use comfy_table::{CellAlignment, ContentArrangement, Table, presets};
use std::fmt::{self, Display, Formatter};

/// No table is wider; what does not fit is wrapped.
const WIDTH: u16 = 100;

impl Display for Comparison {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (label, name) in self.labels().iter().zip(&self.directories) {
            writeln!(f, "{label}  {name}")?;
        }
        if self.differences.is_empty() {
            writeln!(f, "\nconfigurations: no difference\n")?;
        } else {
            writeln!(f, "\nconfigurations: what differs\n{}\n", self.difference_table().trim_fmt())?;
        }
        writeln!(f, "arms at their last step\n{}\n", self.arm_table().trim_fmt())?;
        if self.directories.len() > 1 {
            writeln!(f, "arms against those of {}\n{}\n", label(0), self.ratio_table().trim_fmt())?;
        }
        if self.verdicts.is_empty() {
            return writeln!(f, "verdicts: no claims");
        }
        writeln!(f, "verdicts\n{}", self.verdict_table().trim_fmt())
    }
}

/// What a directory is called in the tables: A, B and so on.
fn label(directory: usize) -> String {
    match u8::try_from(directory) {
        Ok(place @ 0..26) => char::from(b'A' + place).to_string(),
        _ => (directory + 1).to_string(),
    }
}

impl Comparison {
    pub(crate) fn labels(&self) -> Vec<String> {
        (0..self.directories.len()).map(label).collect()
    }

    fn difference_table(&self) -> Table {
        let mut table = table([vec!["key".to_owned()], self.labels()].concat());
        for one in &self.differences {
            let values = one.values.iter().map(|value| value.as_deref().map_or_else(|| "-".to_owned(), shorten));
            table.add_row(std::iter::once(key_in_words(one)).chain(values));
        }
        table
    }

    /// The metric that all arms have, if they have one.
    pub(crate) fn shared_metric(&self) -> Option<&str> {
        let numbers = || self.arms.iter().flat_map(|arm| arm.numbers.iter().flatten());
        let first = numbers().next()?;
        numbers().all(|one| one.metric == first.metric).then_some(first.metric.as_str())
    }

    fn arm_table(&self) -> Table {
        let shared = self.shared_metric();
        let metric = shared.map_or_else(|| "metric".to_owned(), in_words);
        let mut table = table(["arm", "", "seeds", &metric, "null", "loss"].map(str::to_owned).to_vec());
        for arm in &self.arms {
            let mut name = arm.arm.as_str();
            for (label, numbers) in self.labels().into_iter().zip(&arm.numbers) {
                let mut row = vec![std::mem::take(&mut name).to_owned(), label];
                match numbers {
                    Some(numbers) => row.extend(arm_cells(numbers, shared.is_none())),
                    None => row.push("no arm".to_owned()),
                }
                table.add_row(row);
            }
        }
        align_right(&mut table, 2);
        table
    }

    fn ratio_table(&self) -> Table {
        let mut table =
            table(["arm", "", "ratio", "mean log ratio, paired", "95 % interval", "n"].map(str::to_owned).to_vec());
        for arm in &self.arms {
            let mut name = arm.arm.as_str();
            for (label, numbers) in self.labels().into_iter().zip(&arm.numbers).skip(1) {
                let Some(numbers) = numbers else { continue };
                table.add_row([vec![std::mem::take(&mut name).to_owned(), label], ratio_cells(numbers)].concat());
            }
        }
        align_right(&mut table, 2);
        table
    }

    fn verdict_table(&self) -> Table {
        let mut table = table(["claim", "", "verdict", "estimate"].map(str::to_owned).to_vec());
        for one in &self.verdicts {
            // What differs stands below the claim's name.
            let mut first = vec![remarks(one), one.claim.clone()];
            for (label, verdict) in self.labels().into_iter().zip(&one.verdicts) {
                let mut row = vec![first.pop().unwrap_or_default(), label];
                row.extend(verdict.as_ref().map_or_else(|| vec!["no claim".to_owned()], verdict_cells));
                table.add_row(row);
            }
        }
        table
    }
}

fn table(header: Vec<String>) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_content_arrangement(ContentArrangement::Dynamic);
    table.set_width(WIDTH);
    table.set_header(header);
    table
}

fn align_right(table: &mut Table, from: usize) {
    for column in table.column_iter_mut().skip(from) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// Texts may be long; the JSON has them in full.
fn shorten(value: &str) -> String {
    const MOST: usize = 30;
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
    vec![
        format!("{}/{}", numbers.n_seeds, numbers.seeds_planned),
        value,
        decimals(numbers.null_mean, 2),
        decimals(numbers.loss, 3),
    ]
}

fn ratio_cells(numbers: &ArmNumbers) -> Vec<String> {
    let ratio = decimals(numbers.ratio, 3);
    match (numbers.paired, numbers.same_seeds) {
        (Some(Paired { n_seeds, mean_log_ratio, low, high }), _) => {
            let interval =
                low.zip(high).map_or_else(|| "-".to_owned(), |(low, high)| format!("{low:+.3} to {high:+.3}"));
            vec![ratio, format!("{mean_log_ratio:+.3}"), interval, n_seeds.to_string()]
        }
        (None, Some(false)) => vec![ratio, "other seeds".to_owned()],
        (None, _) => vec![ratio, "-".to_owned()],
    }
}

fn verdict_cells(one: &VerdictNumbers) -> Vec<String> {
    let estimate = one.estimate.map_or_else(|| "-".to_owned(), |estimate| one.scale.show(estimate));
    vec![one.verdict.to_string(), estimate]
}

fn remarks(one: &VerdictComparison) -> String {
    let differs = one.differs.then_some("verdicts differ");
    let rule = one.rule_differs.then_some("rules differ");
    let remarks: Vec<&str> = differs.into_iter().chain(rule).collect();
    if remarks.is_empty() { String::new() } else { format!("  ({})", remarks.join(", ")) }
}
