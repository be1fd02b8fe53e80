//! One struct per CSV file, one field per column, in the file's order.

use crate::cell::{CellType, CellValue, plain};
use crate::dimension_rows::DimensionStepRow;
use crate::measured_rows::{DominantTokenRow, InterventionRow, MassiveRow, ModelRow, SpecialDimensionRow};
use crate::outlier_rows::OutlierRow;
use crate::quantized_rows::{QuantizationRow, QuantizedModelRow};
use crate::schema::{Table, TableRow, rows};
use basislab_config::{Basis, Direction, RunName, Site, Tokens, choice};
use basislab_stats::{Alignment, Verdict};
use serde::{Serialize, Serializer};

/// All files, in the order in which a reader wants them.
pub static TABLES: &[&Table] = &[
    SummaryRow::TABLE,
    VerdictRow::TABLE,
    PrivilegeRow::TABLE,
    OutlierRow::TABLE,
    SelectionRow::TABLE,
    StepRow::TABLE,
    EvalRow::TABLE,
    ResidualRow::TABLE,
    DimensionRow::TABLE,
    DimensionStepRow::TABLE,
    TimingRow::TABLE,
    ModelRow::TABLE,
    SpecialDimensionRow::TABLE,
    MassiveRow::TABLE,
    DominantTokenRow::TABLE,
    InterventionRow::TABLE,
    QuantizationRow::TABLE,
    QuantizedModelRow::TABLE,
];

/// The files that a run writes while it trains.
pub const RUN_TABLES: [&Table; 5] =
    [StepRow::TABLE, EvalRow::TABLE, ResidualRow::TABLE, DimensionRow::TABLE, DimensionStepRow::TABLE];

/// Whether directories of earlier versions, and published ones, may lack such a file of [`RUN_TABLES`].
pub(crate) fn may_lack(table: &Table) -> bool {
    table.file == DimensionStepRow::TABLE.file
}

choice! {
    /// How an update went.
    pub enum Status {
        /// It was made.
        Ok = "ok",
        /// It was not made: a number was not finite.
        Diverged = "diverged",
    }
}

choice! {
    /// Which sequences a loss is of.
    pub enum Split {
        /// Sequences that are never trained on.
        HeldOut = "held-out",
    }
}

choice! {
    /// Whether the rule of a claim was fixed before the runs that it reads began.
    pub enum Registration {
        /// Before all of them.
        Registered = "registered",
        /// Before all of them, and seeds were added later.
        Extended = "extended",
        /// Not before all of them.
        PostHoc = "post-hoc",
        /// Not before all of them, and another experiment trained some.
        ExistingRuns = "existing-runs",
    }
}

plain! {
    Option<Direction>: CellType::Names(Direction::NAMES),
    Option<Registration>: CellType::Names(Registration::NAMES),
    Alignment: CellType::Names(Alignment::NAMES),
    Status: CellType::Names(Status::NAMES),
    Split: CellType::Names(Split::NAMES),
    Verdict: CellType::Names(Verdict::NAMES),
}

rows! {
    /// One optimizer update.
    pub struct StepRow in "steps.csv" {
        /// The arm, by its name in the configuration.
        arm: RunName,
        /// Paired replicate: arms share initial weights, batches and held-out tokens.
        seed: u64,
        /// The update just made, from 1.
        step: u64,
        /// Tokens trained on so far.
        tokens: u64,
        /// Learning rate of this update.
        lr: f64,
        /// Mean cross-entropy of the batch before the update, nats per token.
        train_loss: Option<f64>,
        /// Global gradient norm before clipping.
        grad_norm: Option<f64>,
        /// `diverged` in the last row of a run that stopped on a number that is not finite.
        status: Status,
    }

    /// The loss at one probe.
    pub struct EvalRow in "evals.csv" {
        /// The arm, by its name in the configuration.
        arm: RunName,
        /// Paired replicate: arms share initial weights, batches and held-out tokens.
        seed: u64,
        /// Optimizer updates made.
        step: u64,
        /// Which sequences.
        split: Split,
        /// Mean cross-entropy, nats per token.
        loss: Option<f64>,
        /// Loss minus that of the true model on the same tokens, nats per token; empty where no floor is known.
        loss_above_floor: Option<f64>,
    }

    /// One metric at one site of the residual stream.
    pub struct ResidualRow in "residual.csv" {
        /// The arm, by its name in the configuration.
        arm: RunName,
        /// Paired replicate: arms share initial weights, batches and held-out tokens.
        seed: u64,
        /// Optimizer updates made.
        step: u64,
        /// Point on the residual stream, e.g. `blocks.1.resid_post`.
        site: Site,
        /// Block of the site, where it has one.
        layer: Option<usize>,
        /// All tokens, the first of each sequence, or the rest.
        tokens: Tokens,
        /// How many tokens were measured.
        tokens_used: u64,
        /// Coordinates of the measurement.
        basis: Basis,
        /// Name of the metric.
        metric: String = CellType::Name,
        /// Its value; empty where it is undefined.
        value: Option<f64>,
    }

    /// One dimension of one site over tokens.
    pub struct DimensionRow in "dimensions.csv" {
        /// The arm, by its name in the configuration.
        arm: RunName,
        /// Paired replicate: arms share initial weights, batches and held-out tokens.
        seed: u64,
        /// Optimizer updates made.
        step: u64,
        /// Point on the residual stream.
        site: Site,
        /// Block of the site, where it has one.
        layer: Option<usize>,
        /// The dimension, from 0.
        dim: usize,
        /// Mean over tokens.
        mean: f64,
        /// Root of the mean square.
        rms: f64,
        /// Biased variance.
        variance: f64,
        /// `m3 / m2^1.5`; empty for a constant dimension.
        skewness: Option<f64>,
        /// `m4 / m2^2` over tokens, 3 for a Gaussian; empty for a constant dimension.
        kurtosis: Option<f64>,
        /// Smallest value.
        min: f64,
        /// Largest value.
        max: f64,
        /// Largest absolute value.
        max_abs: f64,
        /// Its sum of squares over that of all dimensions.
        share_of_energy: f64,
        /// Coordinates of the measurement.
        basis: Basis,
        /// All tokens, the first of each sequence, or the rest.
        tokens: Tokens,
    }

    /// One quantity of one arm at the last step, over seeds.
    pub struct SummaryRow in "summary.csv" {
        /// The arm, by its name in the configuration.
        arm: RunName,
        /// Name of the metric, `loss` or `loss_above_floor`.
        metric: String = CellType::Name,
        /// Point on the residual stream; empty for losses.
        site: Option<Site>,
        /// Complete runs that have a value.
        n_seeds: usize,
        /// Mean over seeds.
        mean: Option<f64>,
        /// Standard deviation over seeds, `n - 1` in the denominator.
        sd: Option<f64>,
        /// Lower end of the 95 % t interval of the mean.
        ci_low: Option<f64>,
        /// Upper end of the 95 % t interval of the mean.
        ci_high: Option<f64>,
        /// The same activations in random bases (else the closed form): mean over seeds of the mean over bases.
        null_mean: Option<f64>,
        /// Standard deviation of one random basis, pooled within runs.
        null_sd: Option<f64>,
        /// Geometric mean over seeds of the metric over its own null; empty for losses and where one is not positive.
        ratio: Option<f64>,
        /// Random bases of each run that has any; 0 where none were measured.
        bases: usize,
        /// Seeds in which the metric is larger than in every random basis.
        seeds_above: usize,
        /// Seeds in which it is smaller than in every random basis.
        seeds_below: usize,
        /// Coordinates of the measurement; empty for losses.
        basis: Option<Basis>,
        /// All tokens, the first of each sequence, or the rest; empty for losses.
        tokens: Option<Tokens>,
        /// Optimizer updates made.
        step: u64,
        /// Seeds of the arm in the configuration; those that diverged or are missing count here alone.
        seeds_planned: usize,
        /// Backend, device and driver of the runs; ` + ` between several.
        made_on: String,
    }

    /// One decided claim.
    pub struct VerdictRow in "verdicts.csv" {
        /// Name of the claim in the configuration.
        claim: RunName,
        /// The decision.
        verdict: Verdict,
        /// What was compared, e.g. `adam / null(standard)`, `low < middle < high` or `adam <= 3`.
        comparison: String,
        /// The side that is claimed; empty where the kind of claim has none.
        direction: Option<Direction>,
        /// Kind of the claim in the configuration.
        kind: String = CellType::Name,
        /// Name of the metric, or `loss`.
        metric: String = CellType::Name,
        /// Point on the residual stream; empty for losses.
        site: Option<Site>,
        /// Which tokens are read; empty for losses and bits.
        tokens: Option<Tokens>,
        /// The basis that is read; empty for losses and bits.
        basis: Option<Basis>,
        /// The step that is read; empty for losses at their last step, for readings at a matched loss, and for bits.
        step: Option<u64>,
        /// Seeds that the estimate uses.
        n_seeds: usize,
        /// Mean over seeds of the log ratio, of the difference in nats, of the log slope per rank (`ordered`), of Spearman's
        /// correlation over arms (`correlates`), or of the metric itself (`near-value`, `at-most`, `at-least`).
        estimate: Option<f64>,
        /// Lower end of the interval that the rule names.
        ci_low: Option<f64>,
        /// Upper end of the interval that the rule names.
        ci_high: Option<f64>,
        /// The exponential of `estimate`, where that is a log.
        ratio: Option<f64>,
        /// The exponential of `ci_low`, where that is a log.
        ratio_low: Option<f64>,
        /// The exponential of `ci_high`, where that is a log.
        ratio_high: Option<f64>,
        /// The p of the test that `p_test` names. Two-sided for differences, orders and correlations.
        p: Option<f64>,
        /// The test that `p` comes from; a number of draws where it is not exact.
        p_test: String,
        /// `p` after Holm over the primary claims; empty for the others.
        p_holm: Option<f64>,
        /// Smallest effect that counts (of an order, per rank), margin of the equivalence, or threshold.
        margin: Option<f64>,
        /// Whether the claim belongs to the Holm family: controls do not.
        primary: bool,
        /// Whether the rule was fixed before the runs that it reads began; empty where no run is recorded.
        registration: Option<Registration>,
        /// Remarks: missing seeds, seeds outside all random bases, why it is a control, a rule that was not registered.
        note: String,
        /// The rule with its numbers.
        rule: String,
    }

    /// Whether one run ended with a special basis, in one exact test over several metrics at the verdict's site and tokens. The file
    /// exists where random bases of those metrics were measured at the last step.
    pub struct PrivilegeRow in "privilege.csv" {
        /// The arm, by its name in the configuration.
        arm: RunName,
        /// Paired replicate.
        seed: u64,
        /// Optimizer updates made.
        step: u64,
        /// Point on the residual stream.
        site: Site,
        /// All tokens, the first of each sequence, or the rest.
        tokens: Tokens,
        /// Coordinates that are tested.
        basis: Basis,
        /// Random bases of the same activations.
        bases: usize,
        /// Two-sided exact p that the tested basis is one of them (max-T over the metrics, by their logarithms).
        p: f64,
        /// The metric that is farthest from its mean over all bases.
        metric: String = CellType::Name,
        /// Its value in the tested basis.
        value: f64,
        /// Its mean over the random bases.
        null_mean: f64,
        /// Its standard deviation over the random bases, `n - 1` in the denominator.
        null_sd: f64,
        /// Its log's distance from the mean over all bases, in standard deviations over all bases.
        z_of_log: f64,
        /// What the side of the null speaks for: few large dimensions (`axis`) or all alike (`corner`).
        alignment: Alignment,
        /// Random bases in which the verdict's metric is at most as large as in the tested one; empty where it was not measured in them.
        bases_at_most: Option<usize>,
    }

    /// One point of a grid from which an arm's values are chosen. The file exists where the configuration has such a grid.
    pub struct SelectionRow in "selection.csv" {
        /// The arm that takes over the chosen point.
        arm: RunName,
        /// The arm of this point.
        point: RunName,
        /// Keys and values of this point, e.g. `optimizer.lr = 0.003`.
        values: String = CellType::Name,
        /// Selection seeds whose loss entered the mean, e.g. `1000, 1001`; no claim uses them.
        seeds: String,
        /// Mean over those seeds of the held-out cross-entropy at the last step, nats per token.
        mean_loss: Option<f64>,
        /// Standard deviation over those seeds, `n - 1` in the denominator.
        sd: Option<f64>,
        /// Mean over those seeds of the loss minus that of the chosen point, paired by seed; empty where none is chosen.
        behind: Option<f64>,
        /// Standard error of `behind` over seeds.
        behind_se: Option<f64>,
        /// Whether the point is as good as the chosen one as far as these seeds can tell: `behind` is at most `behind_se`.
        near_best: bool,
        /// Selection runs that diverged or ended at a loss that is not finite. With any, the point is not chosen.
        n_diverged: usize,
        /// Selection runs that are not complete. Until they are, no point is chosen.
        n_missing: usize,
        /// Whether the arm takes over this point: the least mean loss, the first of equal ones.
        chosen: bool,
    }

    /// What one run cost. No other file depends on the machine's speed.
    pub struct TimingRow in "timing.csv" {
        /// The arm, by its name in the configuration.
        arm: RunName,
        /// Paired replicate.
        seed: u64,
        /// Wall clock of the run, seconds.
        seconds: f64,
        /// Updates alone, seconds.
        train_seconds: f64,
        /// Seconds during which probes blocked training.
        probe_seconds: f64,
        /// Tokens trained on per second of `train_seconds`.
        tokens_per_second: f64,
        /// When the run started: RFC 3339, UTC.
        started: String,
        /// The backend that computed.
        backend: String,
        /// The device, as its driver names it.
        device: String,
        /// The driver and its version.
        driver: String,
    }
}

/// Whether the same run gives the same bits again on a backend: so it is on burn's CPU backends, and on no GPU or software
/// Vulkan, which may add in any order.
pub fn repeats_its_bits(backend: &str) -> bool {
    ["flex", "ndarray"].contains(&backend)
}

/// A row that a run writes while it trains.
#[derive(Debug, Clone, PartialEq)]
pub enum Row {
    /// To `steps.csv`.
    Step(StepRow),
    /// To `evals.csv`.
    Eval(EvalRow),
    /// To `residual.csv`.
    Residual(ResidualRow),
    /// To `dimensions.csv`.
    Dimension(DimensionRow),
    /// To `dimension_steps.csv`.
    DimensionStep(DimensionStepRow),
}
