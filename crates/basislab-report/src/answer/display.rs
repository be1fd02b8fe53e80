//! The answer on a terminal.

use super::{Answer, ArmLine, decimals};
use crate::figures::in_words;
use crate::narrative::outlier_sentences;
use crate::self_tests::SelfTest;
use comfy_table::{CellAlignment, Table, presets};
use std::fmt::{self, Display, Formatter};

impl Display for Answer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n", self.question)?;
        if !self.finding.is_empty() {
            writeln!(f, "{}\n", self.finding)?;
        }
        writeln!(f, "{}\n", self.arm_table().trim_fmt())?;
        for line in &self.verdicts {
            writeln!(f, "{:<13} {}", line.verdict, line.sentence)?;
        }
        writeln!(f)?;
        for sentence in self.sentences() {
            writeln!(f, "{sentence}")?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        writeln!(f, "\n{}: {}", self.directory, self.files.join(", "))?;
        for step in &self.next {
            writeln!(f, "next: {step}")?;
        }
        Ok(())
    }
}

impl ArmLine {
    /// `8/8 above`: seeds in which the metric lies outside all random bases.
    fn outside(&self) -> String {
        match (self.seeds_above, self.seeds_below) {
            _ if self.bases == 0 => "-".to_owned(),
            (above, 0) if above > 0 => format!("{above}/{} above", self.n_seeds),
            (0, below) if below > 0 => format!("{below}/{} below", self.n_seeds),
            (0, _) => format!("0/{}", self.n_seeds),
            (above, below) => format!("{above} above, {below} below"),
        }
    }
}

impl Answer {
    /// The tests that p values come from, with the kinds of claims that they decide; nothing where there is no p.
    fn tests_in_words(&self) -> Option<String> {
        let mut tests: Vec<(&str, Vec<&str>)> = Vec::new();
        for line in self.verdicts.iter().filter(|line| !line.p_test.is_empty()) {
            match tests.iter_mut().find(|(test, _)| *test == line.p_test) {
                Some((_, kinds)) if kinds.contains(&line.kind.as_str()) => {}
                Some((_, kinds)) => kinds.push(&line.kind),
                None => tests.push((&line.p_test, vec![&line.kind])),
            }
        }
        let parts: Vec<String> = tests.iter().map(|(test, kinds)| format!("{test} ({})", kinds.join(", "))).collect();
        (!parts.is_empty()).then(|| format!("p values: {}.", parts.join("; ")))
    }

    /// What follows the verdicts: choices, remarks, the dimensions that stand out, self-tests, and where p values come from.
    pub(crate) fn sentences(&self) -> Vec<String> {
        let self_tests: Vec<String> = self.self_tests.iter().map(SelfTest::sentence).collect();
        let before = self.choices.iter().chain(&self.remarks).cloned();
        before.chain(outlier_sentences(&self.outliers)).chain(self_tests).chain(self.tests_in_words()).collect()
    }

    fn arm_table(&self) -> Table {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        let (header, rows) = self.arm_cells();
        table.set_header(header);
        for row in rows {
            table.add_row(row);
        }
        for column in table.column_iter_mut().skip(2) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        table
    }

    /// The header and a row for each arm and basis. From the third column on they are numbers.
    pub(crate) fn arm_cells(&self) -> ([String; 9], Vec<[String; 9]>) {
        let metric = in_words(&self.metric);
        let header = ["arm", "basis", "seeds", "loss", "above floor", &metric, "random bases", "ratio", "outside all"];
        let row = |line: &ArmLine| {
            let null = match (line.null_mean, line.null_sd) {
                (Some(mean), Some(sd)) => format!("{mean:.2} ± {sd:.2}"),
                (Some(mean), None) => format!("{mean:.2}"),
                _ => "-".to_owned(),
            };
            [
                line.arm.clone(),
                line.basis.to_string(),
                format!("{}/{}", line.n_seeds, line.seeds_planned),
                decimals(line.loss, 3),
                decimals(line.loss_above_floor, 3),
                decimals(line.value, 2),
                null,
                decimals(line.ratio, 2),
                line.outside(),
            ]
        };
        (header.map(str::to_owned), self.arms.iter().map(row).collect())
    }
}
