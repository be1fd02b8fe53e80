//! The answer on a terminal.

use super::{CheckpointLine, MeasuredAnswer, MeasuredModel, SiteLine};
use crate::answer::decimals;
use crate::figures::{digits, evenly};
use basislab_config::{Tokens, count};
use basislab_tables::{InterventionRow, ModelRow, Verified};
use comfy_table::{CellAlignment, Table, presets};
use std::fmt::{self, Display, Formatter};

/// Lines of a table at most.
const LINES: usize = 14;
/// Dimensions, and tokens of each kind, that are listed.
const LISTED: usize = 4;

impl Display for MeasuredAnswer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for model in &self.models {
            writeln!(f, "{model}")?;
        }
        writeln!(f, "{}: {}", self.directory, self.files.join(", "))?;
        for step in &self.next {
            writeln!(f, "next: {step}")?;
        }
        Ok(())
    }
}

impl Display for MeasuredModel {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(CheckpointLine { model, .. }) = self.checkpoints.last() else { return Ok(()) };
        writeln!(f, "{}\n{}\n", about(model), tokens(model))?;
        if self.checkpoints.len() > 1 {
            writeln!(f, "{}\n", self.checkpoint_table())?;
        }
        for line in &self.checkpoints {
            let series = self.checkpoints.len() > 1;
            let at = if series { format!(" at step {}", line.model.step) } else { String::new() };
            if line.model.verified != Verified::Loss || line.model.step == model.step {
                writeln!(f, "{}", verification(&line.model, &at))?;
            }
        }
        if let Some(row) = &self.interventions {
            writeln!(f, "{}", intervention(row))?;
        }
        writeln!(f)?;
        for paragraph in [self.kurtosis(), self.special(), self.massive(), self.dominating()] {
            if !paragraph.is_empty() {
                writeln!(f, "{paragraph}\n")?;
            }
        }
        Ok(())
    }
}

pub(crate) fn about(model: &ModelRow) -> String {
    let ModelRow { model: name, architecture, format, n_layers, d_model, d_vocab, step, .. } = model;
    let at_step = if *step > 0 { format!(" at step {step}") } else { String::new() };
    format!(
        "{name}{at_step}: {architecture} ({format}), {} parameters, {} of width {d_model}, vocabulary of {d_vocab}.",
        large(model.parameters),
        count(*n_layers, "block")
    )
}

pub(crate) fn tokens(model: &ModelRow) -> String {
    let measured = format!("Measured on {} in {}", count(model.tokens, "token"), count(model.sequences, "sequence"));
    match model.predicted_tokens {
        0 => format!("{measured}."),
        n if model.predicted_bytes == 0 => format!("{measured}; {n} of them are predicted."),
        n => format!("{measured}; {n} of them are predicted, {} of text.", count(model.predicted_bytes, "byte")),
    }
}

/// `134.5 million`.
fn large(number: u64) -> String {
    match number as f64 {
        n if n >= 1e9 => format!("{:.2} billion", n / 1e9),
        n if n >= 1e6 => format!("{:.1} million", n / 1e6),
        _ => number.to_string(),
    }
}

/// The loss of a checkpoint, and what it says of everything else. `at` is empty or ` at step N`.
pub(crate) fn verification(model: &ModelRow, at: &str) -> String {
    let per_byte = model.bits_per_byte.map_or(String::new(), |bits| format!(", {bits:.3} bits per byte"));
    let loss = model.loss.map(|loss| format!("{loss:.3} nats per token{per_byte}"));
    let unigram = model.unigram_loss.map(|loss| format!("{loss:.3} nats per token"));
    match model.verified {
        Verified::NoHead => format!("No head{at}: not verified by loss."),
        Verified::Loss => format!(
            "Loss{at}: {}. A unigram code needs {} for the same tokens.",
            loss.unwrap_or_default(),
            unigram.unwrap_or_default()
        ),
        Verified::NoBetterThanUnigram => {
            let loss = loss.unwrap_or_else(|| "not a finite number".to_owned());
            let against = unigram.map_or(String::new(), |unigram| {
                format!(", no better than that of a unigram code of the same tokens ({unigram})")
            });
            let what = if at.is_empty() { "below" } else { "there" };
            format!(
                "WARNING: the loss{at} is {loss}{against}. The forward pass or the tokenizer is wrong, or the model is hardly \
                 trained or does not know such text: nothing measured {what} can be trusted before that is known."
            )
        }
    }
}

/// What interventions did.
fn intervention(row: &InterventionRow) -> String {
    let losses = match (row.loss_before, row.mean_change, row.largest_change) {
        (Some(before), Some(mean), Some(largest)) => format!(
            "the loss was {before:.3} without it; a token's loss changed by {} nats on average and {} at most; ",
            digits(mean),
            digits(largest)
        ),
        _ => String::new(),
    };
    let what = if row.loss_before.is_some() { "logits" } else { "stream at the last site" };
    let changed = row.relative_change.map_or_else(|| "beyond measure".to_owned(), |change| format!("by {change:.1e}"));
    format!("With {}: {losses}the {what} changed {changed} of their norm.", row.interventions)
}

/// What was left out of the measurement, for a parenthesis.
fn which(tokens: Tokens) -> &'static str {
    match tokens {
        Tokens::All => "all tokens",
        Tokens::First => "first token of each sequence",
        Tokens::Rest | Tokens::Sample => "first token of each sequence left out",
    }
}

pub(crate) fn plain(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(header);
    table
}

/// The table as text, its numbers to the right.
pub(crate) fn aligned(mut table: Table) -> String {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.trim_fmt()
}

pub(crate) fn number(value: Option<f64>) -> String {
    value.map_or_else(|| "-".to_owned(), digits)
}

fn null(line: &SiteLine) -> String {
    match (line.null_mean, line.null_sd) {
        (Some(mean), Some(sd)) => format!("{} ± {sd:.2}", digits(mean)),
        (mean, _) => number(mean),
    }
}

impl MeasuredModel {
    fn checkpoint_table(&self) -> String {
        let mut table =
            plain(&["step", "loss", "bits per byte", "kurtosis at the end", "random bases", "ratio", "dimensions"]);
        for place in evenly(self.checkpoints.len(), LINES) {
            let CheckpointLine { model, end, special_at_end } = &self.checkpoints[place];
            table.add_row([
                model.step.to_string(),
                decimals(model.loss, 3),
                decimals(model.bits_per_byte, 3),
                number(end.as_ref().and_then(|end| end.value)),
                end.as_ref().map_or_else(|| "-".to_owned(), null),
                number(end.as_ref().and_then(|end| end.ratio)),
                special_at_end.to_string(),
            ]);
        }
        aligned(table)
    }

    /// Sites to print: those before and after the blocks, and all of some blocks, the first and the last among them.
    fn shown(&self) -> Vec<&SiteLine> {
        let mut blocks: Vec<usize> = self.sites.iter().filter_map(|line| line.site.layer()).collect();
        let outside = self.sites.len() - blocks.len();
        blocks.dedup();
        let of_block = (self.sites.len() - outside).div_ceil(blocks.len().max(1)).max(1);
        let kept = evenly(blocks.len(), (LINES.saturating_sub(outside) / of_block).max(2));
        let kept: Vec<usize> = kept.into_iter().map(|place| blocks[place]).collect();
        self.sites.iter().filter(|line| line.site.layer().is_none_or(|layer| kept.contains(&layer))).collect()
    }

    fn kurtosis(&self) -> String {
        let Some(first) = self.sites.first() else { return "Kurtosis was measured at no site.".to_owned() };
        let bases = self.sites.iter().map(|line| line.bases).max().unwrap_or(0);
        let shown = self.shown();
        let against = match bases {
            0 => "without random bases".to_owned(),
            n => format!("against the same tokens in {}", count(n, "random basis")),
        };
        let of = count(self.sites.len(), "site");
        let tokens = count(first.sampled, "token");
        let left_out = which(first.tokens);
        let mut text = format!("Token kurtosis of {tokens} ({left_out}) {against}, {} of {of}:\n", shown.len());
        let all: fn(&SiteLine) -> Option<f64> = |line| line.all;
        // What nothing was measured of has no column.
        let varying: fn(&SiteLine) -> Option<f64> = |line| line.varying;
        let optional = [("less the mean token", varying), ("all tokens", all)];
        let optional = optional.into_iter().chain([("first tokens", (|line| line.first) as fn(&SiteLine) -> _)]);
        let is_all = first.tokens == Tokens::All;
        let optional: Vec<_> = optional
            .filter(|(name, of)| self.sites.iter().any(|line| of(line).is_some()) && !(is_all && *name == "all tokens"))
            .collect();
        let header =
            ["site", "kurtosis", "random bases", "ratio"].into_iter().chain(optional.iter().map(|(name, _)| *name));
        let mut table = plain(&header.collect::<Vec<_>>());
        for line in shown {
            let cells = [line.site.to_string(), number(line.value), null(line), number(line.ratio)];
            table.add_row(cells.into_iter().chain(optional.iter().map(|(_, of)| number(of(line)))));
        }
        text += &aligned(table);
        if bases > 0 {
            let [above, below] = [|line: &SiteLine| line.above, |line: &SiteLine| line.below]
                .map(|is_beyond| self.sites.iter().filter(|line| is_beyond(line)).count());
            text += &format!(
                "\nIt is above all random bases at {above} of {}, below all of them at {below}",
                count(self.sites.len(), "site")
            );
            let ratios = self.sites.iter().filter_map(|line| Some((line.site, line.ratio?)));
            if let Some((site, ratio)) = ratios.reduce(|most, next| if next.1 > most.1 { next } else { most }) {
                text += &format!("; the largest ratio is {} at {site}", digits(ratio));
            }
            text += ".";
        }
        text
    }

    fn special(&self) -> String {
        // Without random bases nothing can be compared.
        if self.sites.iter().all(|line| line.bases == 0) {
            return String::new();
        }
        let beyond = "exceeds that of every dimension in every random basis";
        let size = "size (RMS over the same tokens, each scaled to RMS 1), over the median dimension's,";
        if self.dimensions.is_empty() {
            return format!("No dimension stands out: the {size} of none {beyond}.");
        }
        let always = self.dimensions.iter().filter(|line| line.of > 0 && line.persistence == line.of).count();
        let (verb, whose) = if self.dimensions.len() == 1 { ("stands", "Its") } else { ("stand", "Their") };
        let mut text = format!("{} {verb} out", count(self.dimensions.len(), "dimension"));
        if always > 0 {
            text += &format!(", {always} of them at the end of every block");
        }
        text += &format!(". {whose} {size} {beyond}:\n");
        let mut table =
            plain(&["dimension", "times the median", "at", "random bases at most", "ends of blocks", "blocks"]);
        for line in self.dimensions.iter().take(2 * LISTED) {
            table.add_row([
                line.dim.to_string(),
                digits(line.ratio),
                line.site.to_string(),
                digits(line.threshold),
                format!("{} of {}", line.persistence, line.of),
                line.blocks.map_or_else(|| "-".to_owned(), blocks),
            ]);
        }
        text + &aligned(table)
    }

    fn massive(&self) -> String {
        if self.largest.is_empty() {
            return String::new();
        }
        let rule = "magnitude above 100 and at least 1000 times the median";
        let mut text = match &self.massive_activations {
            Some((n, site)) if *n > 0.0 => {
                format!("Massive activations ({rule}): up to {n} at one site, {site}. The largest values:\n")
            }
            Some(_) => format!("No activation is massive ({rule}). The largest values:\n"),
            None => "The largest values:\n".to_owned(),
        };
        let mut table = plain(&["token", "times the median", "value", "dimension", "position", "sequence", "at"]);
        for first in [true, false] {
            for row in self.largest.iter().filter(|row| row.first == first).take(LISTED) {
                table.add_row([
                    shortened(&row.text),
                    number(row.ratio),
                    digits(row.value),
                    row.dim.to_string(),
                    row.position.to_string(),
                    row.sequence.to_string(),
                    row.site.to_string(),
                ]);
            }
        }
        text += &aligned(table);
        text
    }

    fn dominating(&self) -> String {
        let mut text = String::new();
        let most = |most: &(String, f64), next: &(String, f64)| next.1 > most.1;
        let shares = || self.first_token_share.iter();
        if let Some((site, share)) = shares().reduce(|a, b| if most(a, b) { b } else { a }) {
            text += &format!("First tokens hold {} of the sum of squares at {site}", percent(*share));
            if let Some((least, small)) = shares().reduce(|a, b| if most(a, b) { a } else { b }) {
                text += &format!(" and {} at {least}", percent(*small));
            }
            text += ".";
        }
        if self.dominant.is_empty() {
            return text;
        }
        let model = self.checkpoints.last().map(|line| &line.model);
        let others = model.map_or(0, |model| model.tokens.saturating_sub(model.sequences as u64));
        text += &format!(
            " Of what the other {others} hold, the largest shares ({} if all were alike):\n",
            percent(1.0 / others.max(1) as f64)
        );
        let mut table = plain(&["token", "share", "position", "sequence", "at"]);
        for line in self.dominant.iter().take(LISTED) {
            table.add_row([
                shortened(&line.text),
                percent(line.share),
                line.position.to_string(),
                line.sequence.to_string(),
                line.site.to_string(),
            ]);
        }
        (text + &aligned(table)).trim_start().to_owned()
    }
}

fn blocks((from, to): (usize, usize)) -> String {
    if from == to { from.to_string() } else { format!("{from} to {to}") }
}

/// A token's text, cut where it would break the table.
fn shortened(text: &str) -> String {
    const LONGEST: usize = 24;
    if text.chars().count() <= LONGEST {
        return text.to_owned();
    }
    text.chars().take(LONGEST - 3).chain("...".chars()).collect()
}

fn percent(share: f64) -> String {
    let percent = 100.0 * share;
    // Not 100 where something is left.
    if share < 1.0 && percent > 99.9 { format!("{percent:.3} %") } else { format!("{} %", digits(percent)) }
}
