//! The answer in a table, a list and a few sentences.

mod display;

use crate::figures::{OVER_STEPS, figure_names};
use crate::index::{RunState, Runs};
use crate::narrative::{OutlierLine, finding, remarks, sentence};
use crate::page::PAGE;
use crate::self_tests::{SelfTest, same_start};
use crate::verdicts::{Decision, confidence, own_cell, scale};
use basislab_config::{Basis, Experiment, Site, count};
use basislab_stats::Verdict;
use basislab_tables::{PACKAGE, Registration, SummaryRow, Tables, VerdictRow};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

/// What an experiment found, for the terminal ([`Display`]) and as JSON ([`Serialize`]).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Answer {
    /// The name of the experiment directory.
    pub experiment: String,
    /// Its question.
    pub question: String,
    /// The claims that decide it in one sentence, without numbers; empty where nothing is claimed.
    pub finding: String,
    /// Runs that reached their last step.
    pub runs_complete: usize,
    /// Runs that stopped on a number that is not finite.
    pub runs_diverged: usize,
    /// Runs the configuration asks for.
    pub runs_planned: usize,
    /// The verdict's metric, e.g. `token_kurtosis`.
    pub metric: String,
    /// Where it is read, by its pattern in the configuration.
    pub site: String,
    /// One line per arm and basis, without the arms that run on selection seeds.
    pub arms: Vec<ArmLine>,
    /// One per claim.
    pub verdicts: Vec<VerdictLine>,
    /// What must be so in every experiment.
    pub self_tests: Vec<SelfTest>,
    /// The dimensions that stand out, by arm and basis; none where single dimensions were not measured.
    pub outliers: Vec<OutlierLine>,
    /// A sentence for each choice of an arm's values from a grid.
    pub choices: Vec<String>,
    /// What a reader must know beside the claims: failed self-tests, runs that are missing, unequal losses.
    pub remarks: Vec<String>,
    /// What a reader must know about the evidence: tables that were thinned, parts that are gone, verdicts that changed.
    pub notes: Vec<String>,
    /// The experiment directory.
    pub directory: String,
    /// Files worth opening, relative to it.
    pub files: Vec<String>,
    /// What to do next.
    pub next: Vec<String>,
}

/// One arm in one basis, at the last step. Numbers are means over complete runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ArmLine {
    /// The arm.
    pub arm: String,
    /// The coordinates of the measurement.
    pub basis: Basis,
    /// Complete runs.
    pub n_seeds: usize,
    /// Runs the configuration asks for.
    pub seeds_planned: usize,
    /// Held-out loss, nats per token.
    pub loss: Option<f64>,
    /// Held-out loss above that of the true model, nats per token.
    pub loss_above_floor: Option<f64>,
    /// The verdict's metric at the verdict's site.
    pub value: Option<f64>,
    /// The same in random bases.
    pub null_mean: Option<f64>,
    /// Standard deviation of one random basis.
    pub null_sd: Option<f64>,
    /// Geometric mean over seeds of the metric over its own null.
    pub ratio: Option<f64>,
    /// Random bases of each run.
    pub bases: usize,
    /// Seeds in which the metric is larger than in every random basis.
    pub seeds_above: usize,
    /// Seeds in which it is smaller than in every random basis.
    pub seeds_below: usize,
}

/// One decided claim.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct VerdictLine {
    /// The claim's name.
    pub claim: String,
    /// The claim in words.
    pub text: String,
    /// What was decided.
    pub verdict: Verdict,
    /// The numbers in one line of plain words.
    pub sentence: String,
    /// Kind of the claim in the configuration.
    pub kind: String,
    /// What was compared.
    pub comparison: String,
    /// The metric, site, tokens and step that it reads, as far as they are not those of `[verdict]`.
    pub cell: Option<String>,
    /// What the estimate is.
    pub scale: Scale,
    /// Ratio, difference, mean or correlation; empty for bits.
    pub estimate: Option<f64>,
    /// Lower end of its interval.
    pub low: Option<f64>,
    /// Upper end of its interval.
    pub high: Option<f64>,
    /// Level of the interval.
    pub confidence: f64,
    /// The claim's own p.
    pub p: Option<f64>,
    /// The test that `p` comes from, e.g. `exact sign-flip test`; empty without a p.
    pub p_test: String,
    /// Corrected over the primary claims.
    pub p_holm: Option<f64>,
    /// The rule in words.
    pub rule: String,
    /// Whether the rule was fixed before the runs began.
    pub registration: Option<Registration>,
    /// What a reader must know besides.
    pub note: String,
}

/// What an estimate is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scale {
    /// The ratio of two metrics.
    Ratio,
    /// The ratio of a metric in one arm and the arm before it in an order.
    RatioPerRank,
    /// A mean in the unit of the metric.
    Value,
    /// A correlation.
    Correlation,
    /// The difference of two losses.
    Nats,
    /// None: bits were compared.
    Bits,
}

impl Scale {
    /// Whether estimates of it are logs of ratios.
    pub(crate) fn is_ratio(self) -> bool {
        matches!(self, Self::Ratio | Self::RatioPerRank)
    }

    /// A number of this scale.
    pub(crate) fn digits(self, value: f64) -> String {
        match self {
            Self::Nats => format!("{value:+.4}"),
            Self::RatioPerRank => format!("{value:.3}"),
            Self::Value => four_digits(value),
            Self::Ratio | Self::Correlation | Self::Bits => format!("{value:.2}"),
        }
    }

    /// An estimate with what it is: `1.79 times`.
    pub(crate) fn show(self, estimate: f64) -> String {
        let (before, unit) = match self {
            Self::Nats => ("", " nats"),
            Self::RatioPerRank => ("", " times per rank"),
            Self::Value => ("mean ", ""),
            Self::Correlation => ("mean Spearman ", ""),
            Self::Ratio | Self::Bits => ("", " times"),
        };
        format!("{before}{}{unit}", self.digits(estimate))
    }
}

/// Puts tables and verdicts into words. The files it names are those that exist in `dir`.
pub(crate) fn answer(
    experiment: &Experiment,
    tables: &Tables,
    summary: &[SummaryRow],
    verdicts: &[Decision],
    dir: &Path,
) -> Answer {
    let runs = Runs::of(experiment, tables);
    let count = |state| experiment.arms.iter().map(|arm| runs.seeds_in(arm, state).len()).sum::<usize>();
    let runs_planned = experiment.arms.iter().map(|arm| arm.seeds.len()).sum();
    let name = dir.file_name().map_or_else(|| ".".to_owned(), |name| name.to_string_lossy().into_owned());
    let mut answer = Answer {
        experiment: name,
        question: experiment.question.clone(),
        finding: finding(experiment, &site_of_verdict(experiment), verdicts),
        runs_complete: count(RunState::Complete),
        runs_diverged: count(RunState::Diverged),
        runs_planned,
        metric: experiment.verdict.metric.clone(),
        site: site_of_verdict(experiment),
        arms: arm_lines(experiment, summary),
        verdicts: verdict_lines(experiment, verdicts),
        self_tests: same_start(experiment, tables).into_iter().collect(),
        outliers: Vec::new(),
        choices: Vec::new(),
        remarks: Vec::new(),
        notes: Vec::new(),
        directory: dir.display().to_string(),
        files: files_in(dir, experiment),
        next: Vec::new(),
    };
    answer.remarks = remarks(experiment, &answer, &runs, verdicts);
    answer.next = next_steps(experiment, &answer);
    answer
}

/// The site of the verdict, in the one model that all arms share, or else as the configuration has it.
pub(crate) fn site_of_verdict(experiment: &Experiment) -> String {
    let cell = experiment.verdict.cell();
    let sites: Vec<Site> = experiment.arms.iter().map(|arm| experiment.site(&cell, arm)).collect();
    let shared = sites.first().filter(|first| sites.iter().all(|site| site == *first));
    shared.map_or_else(|| cell.site.to_string(), Site::to_string)
}

fn files_in(dir: &Path, experiment: &Experiment) -> Vec<String> {
    let figures = figure_names(experiment).into_iter().map(|name| format!("figures/{name}"));
    let selection = experiment.choices().next().map(|_| "selection.csv");
    let tables = ["summary.csv", "verdicts.csv", "privilege.csv", "outliers.csv"].into_iter();
    let tables = tables.chain(selection).chain([PACKAGE, "config.toml"]).map(str::to_owned);
    std::iter::once(PAGE.to_owned()).chain(figures).chain(tables).filter(|file| dir.join(file).exists()).collect()
}

fn arm_lines(experiment: &Experiment, summary: &[SummaryRow]) -> Vec<ArmLine> {
    let mut losses: BTreeMap<(&str, &str), Option<f64>> = BTreeMap::new();
    for row in summary.iter().filter(|row| ["loss", "loss_above_floor"].contains(&row.metric.as_str())) {
        losses.entry((&row.arm, &row.metric)).or_insert(row.mean);
    }
    let loss_of = |arm: &str, name: &str| losses.get(&(arm, name)).copied().flatten();
    let shown = |row: &&SummaryRow| row.metric == experiment.verdict.metric && !experiment.is_selection_arm(&row.arm);
    let of_metric = summary.iter().filter(shown);
    let line = |row: &SummaryRow| {
        Some(ArmLine {
            arm: row.arm.to_string(),
            basis: row.basis?,
            n_seeds: row.n_seeds,
            seeds_planned: row.seeds_planned,
            loss: loss_of(&row.arm, "loss"),
            loss_above_floor: loss_of(&row.arm, "loss_above_floor"),
            value: row.mean,
            null_mean: row.null_mean,
            null_sd: row.null_sd,
            ratio: row.ratio,
            bases: row.bases,
            seeds_above: row.seeds_above,
            seeds_below: row.seeds_below,
        })
    };
    of_metric.filter_map(line).collect()
}

pub(crate) fn verdict_lines(experiment: &Experiment, verdicts: &[Decision]) -> Vec<VerdictLine> {
    let line = |Decision { row, notes }: &Decision| {
        let claim = experiment.claims.iter().find(|claim| claim.name == row.claim)?;
        let (scale, confidence) = (scale(claim), confidence(&claim.test, &experiment.verdict));
        let on_scale = |value: Option<f64>| if scale.is_ratio() { value.map(f64::exp) } else { value };
        Some(VerdictLine {
            claim: row.claim.to_string(),
            text: claim.text.clone(),
            verdict: row.verdict,
            sentence: sentence(experiment, claim, row, notes.as_deref(), confidence),
            kind: row.kind.clone(),
            comparison: row.comparison.clone(),
            cell: own_cell(experiment, claim),
            scale,
            estimate: on_scale(row.estimate),
            low: on_scale(row.ci_low),
            high: on_scale(row.ci_high),
            confidence,
            p: row.p,
            p_test: row.p_test.clone(),
            p_holm: row.p_holm,
            rule: row.rule.clone(),
            registration: row.registration,
            note: row.note.clone(),
        })
    };
    verdicts.iter().filter_map(line).collect()
}

fn next_steps(experiment: &Experiment, answer: &Answer) -> Vec<String> {
    let mut next = Vec::new();
    if answer.runs_complete + answer.runs_diverged < answer.runs_planned {
        next.push("re-run the `basislab run` command to train the missing runs".to_owned());
    }
    if answer.verdicts.iter().any(|line| line.verdict == Verdict::Exploratory) {
        next.push(format!("plan at least {} for a verdict", count(experiment.verdict.min_seeds, "seed")));
    }
    if answer.files.iter().any(|file| file == PAGE) {
        next.push(format!("basislab open {}", answer.directory));
    } else if let Some(figure) = answer.files.iter().find(|file| file.ends_with(OVER_STEPS)) {
        next.push(format!("open {}", Path::new(&answer.directory).join(figure).display()));
    }
    next.push(format!("load every table with types: python scripts/load_run.py {}", answer.directory));
    next
}

impl Answer {
    /// Names the page among the files and opens it next, now that it is there.
    pub(crate) fn note_page(&mut self, experiment: &Experiment) {
        if !self.files.iter().any(|file| file == PAGE) {
            self.files.insert(0, PAGE.to_owned());
            self.next = next_steps(experiment, self);
        }
    }

    /// Names the claims whose verdict is another one than was recorded.
    pub(crate) fn note_changes(&mut self, recorded: &[VerdictRow]) {
        let changed = self.verdicts.iter().filter_map(|line| {
            let before = recorded.iter().find(|row| row.claim == *line.claim)?.verdict;
            (before != line.verdict).then(|| format!("{} was {before} and is {}", line.claim, line.verdict))
        });
        let changed: Vec<String> = changed.collect();
        if !changed.is_empty() {
            self.notes.push(format!("verdicts differ from the recorded ones: {}", changed.join("; ")));
        }
    }

    /// Whether numbers that must be the same, bit for bit, are not.
    pub fn self_test_failed(&self) -> bool {
        self.verdicts.iter().any(|line| line.scale == Scale::Bits && line.verdict == Verdict::Refuted)
            || self.self_tests.iter().any(|test| test.first_difference.is_some())
    }
}

pub(crate) fn decimals(value: Option<f64>, digits: usize) -> String {
    value.map_or_else(|| "-".to_owned(), |value| format!("{value:.digits$}"))
}

/// Four significant digits, as far as they are behind the point.
fn four_digits(value: f64) -> String {
    let digits = if value == 0.0 { 3.0 } else { (3.0 - value.abs().log10().floor()).clamp(0.0, 12.0) };
    format!("{value:.0$}", digits as usize)
}

/// Two significant digits.
pub(crate) fn small(p: f64) -> String {
    if p == 0.0 || p >= 1.0 {
        return format!("{p}");
    }
    if p < 1e-4 {
        return format!("{p:.1e}");
    }
    let digits = (1.0 - p.log10().floor()) as usize;
    format!("{p:.digits$}")
}
