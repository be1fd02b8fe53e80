//! The answer on a terminal.

use super::{QuantizedAnswer, QuantizedModel, Treatment, WAYS};
use crate::answer::decimals;
use crate::figures::digits;
use crate::measured::display::{about, aligned, number, plain, tokens, verification};
use basislab_stats::{Granularity, Levels};
use basislab_tables::{QuantizationRow, Quantized};
use std::fmt::{self, Display, Formatter};

impl Display for QuantizedAnswer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for model in &self.models {
            writeln!(f, "{model}")?;
        }
        if self.models.len() > 1 {
            writeln!(f, "{}\n", self.comparison())?;
        }
        for sentence in &self.sentences {
            writeln!(f, "{sentence}\n")?;
        }
        writeln!(f, "{}: {}", self.directory, self.files.join(", "))?;
        for step in &self.next {
            writeln!(f, "next: {step}")?;
        }
        Ok(())
    }
}

impl QuantizedAnswer {
    /// Every model with what its stream is like and what some ways of rounding cost.
    pub(super) fn comparison(&self) -> String {
        let (int8, int4) = (Levels::Int8, Levels::Int4);
        let columns = [
            ("activations int8 tensor", Quantized::Activations, (int8, Granularity::Tensor)),
            ("int8 token", Quantized::Activations, (int8, Granularity::Token)),
            ("int4 token", Quantized::Activations, (int4, Granularity::Token)),
            ("weights int8 tensor", Quantized::Weights, (int8, Granularity::Tensor)),
            ("int4 group-32", Quantized::Weights, (int4, Granularity::Group32)),
        ];
        let mut header = vec!["model", "loss", "kurtosis", "max/median", "first tokens"];
        header.extend(columns.iter().map(|column| column.0));
        let mut table = plain(&header);
        for model in &self.models {
            let stream = &model.stream;
            let sizes = [stream.kurtosis, stream.max_median, stream.first_token_size].map(number);
            let costs = columns.iter().map(|(_, quantized, how)| {
                model
                    .row(*quantized, Some(*how), Treatment::Plain)
                    .map_or_else(|| "-".to_owned(), |row| cell(model, row))
            });
            let name = [model.name(), decimals(model.model.loss, 3)];
            table.add_row(name.into_iter().chain(sizes).chain(costs));
        }
        let unit = "what rounding costs, nats per token (without a head: relative error of the last stream)";
        format!("All models; {unit}:\n{}", aligned(table))
    }
}

impl Display for QuantizedModel {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}\n{}", about(&self.model), tokens(&self.model))?;
        writeln!(f, "{}\n{}\n", verification(&self.model, ""), self.stream())?;
        for (quantized, granularities) in WAYS {
            if let Some(table) = self.table(quantized, granularities) {
                writeln!(f, "{table}\n")?;
            }
        }
        for sentence in &self.sentences {
            writeln!(f, "{sentence}")?;
        }
        Ok(())
    }
}

impl QuantizedModel {
    /// What the stream is like.
    fn stream(&self) -> String {
        let stream = &self.stream;
        let special = match stream.special_dimensions.as_str() {
            "" => "no special dimension".to_owned(),
            dims => format!("special dimensions {dims}"),
        };
        format!(
            "At the ends of blocks: token kurtosis {}, largest over median magnitude {}, first tokens {} times as large as \
             others; {special}.",
            number(stream.kurtosis),
            number(stream.max_median),
            number(stream.first_token_size)
        )
    }

    fn table(&self, quantized: Quantized, granularities: &[Granularity]) -> Option<String> {
        let is_there = |treatment: &Treatment| {
            let how = |row: &QuantizationRow| row.levels.zip(row.granularity);
            let mut rows = self.rows.iter().filter(|row| row.quantized == quantized);
            rows.any(|row| self.row(quantized, how(row), *treatment).is_some())
        };
        let treatments: Vec<Treatment> = Treatment::ALL.into_iter().filter(is_there).collect();
        let header = ["levels, scale per"].into_iter().chain(treatments.iter().map(|one| one.in_words()));
        let mut table = plain(&header.collect::<Vec<_>>());
        for levels in Levels::ALL {
            for granularity in granularities {
                let cells = treatments.iter().map(|treatment| {
                    let row = self.row(quantized, Some((*levels, *granularity)), *treatment);
                    row.map_or_else(|| "-".to_owned(), |row| cell(self, row))
                });
                table.add_row([format!("{levels} {granularity}")].into_iter().chain(cells));
            }
        }
        let (what, whose) = match quantized {
            Quantized::Weights => ("weights", "every matrix of the blocks"),
            _ => ("activations", "the input of every matrix of the blocks"),
        };
        let unit = match self.has_loss() {
            true => "increase of the loss, nats per token",
            false => "relative error of the last stream, first token of each sequence left out",
        };
        (!treatments.is_empty()).then(|| format!("Rounded {what} ({whose}): {unit}:\n{}", aligned(table)))
    }
}

fn cell(model: &QuantizedModel, row: &QuantizationRow) -> String {
    match (row.destroyed, model.cost(row)) {
        (true, _) => "destroyed".to_owned(),
        (false, Some(cost)) => digits(cost),
        (false, None) => "-".to_owned(),
    }
}
