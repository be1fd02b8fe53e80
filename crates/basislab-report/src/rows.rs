//! One struct per CSV file, one field per column, in the file's order.
//!
//! The key columns are repeated in every struct because the `csv` crate writes neither nested nor flattened ones.

use serde::{Deserialize, Serialize, Serializer};

/// One optimizer update.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct StepRow {
    /// The arm.
    #[serde(serialize_with = "text")]
    pub arm: String,
    /// The seed.
    pub seed: u64,
    /// The update just made, from 1.
    pub step: u64,
    /// Tokens trained on so far.
    pub tokens: u64,
    /// Learning rate of this update.
    #[serde(serialize_with = "number")]
    pub lr: f64,
    /// Mean cross-entropy of the batch before the update, in nats per token.
    #[serde(serialize_with = "maybe")]
    pub train_loss: Option<f64>,
    /// Global gradient norm before clipping.
    #[serde(serialize_with = "maybe")]
    pub grad_norm: Option<f64>,
    /// `ok`, or `diverged` in the last row of a run that stopped on a number that is not finite.
    #[serde(serialize_with = "text")]
    pub status: String,
}

/// One look at the loss.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EvalRow {
    /// The arm.
    #[serde(serialize_with = "text")]
    pub arm: String,
    /// The seed.
    pub seed: u64,
    /// Updates made.
    pub step: u64,
    /// `held-out`.
    #[serde(serialize_with = "text")]
    pub split: String,
    /// Mean cross-entropy, in nats per token.
    #[serde(serialize_with = "maybe")]
    pub loss: Option<f64>,
    /// Loss minus that of the true model on the same tokens; empty where no floor is known.
    #[serde(serialize_with = "maybe")]
    pub loss_above_floor: Option<f64>,
}

/// One metric of one site of the residual stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ResidualRow {
    /// The arm.
    #[serde(serialize_with = "text")]
    pub arm: String,
    /// The seed.
    pub seed: u64,
    /// Updates made.
    pub step: u64,
    /// The site, e.g. `blocks.1.resid_post`.
    #[serde(serialize_with = "text")]
    pub site: String,
    /// The block, where the site has one.
    pub layer: Option<usize>,
    /// `all`, `first` of each sequence, or the `rest`.
    #[serde(serialize_with = "text")]
    pub tokens: String,
    /// How many tokens were measured.
    pub tokens_used: u64,
    /// `standard`, `optimizer` or `random:<k>`.
    #[serde(serialize_with = "text")]
    pub basis: String,
    /// The metric's name.
    #[serde(serialize_with = "text")]
    pub metric: String,
    /// Its value; empty where it is undefined.
    #[serde(serialize_with = "maybe")]
    pub value: Option<f64>,
}

/// One dimension of one site over tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DimensionRow {
    /// The arm.
    #[serde(serialize_with = "text")]
    pub arm: String,
    /// The seed.
    pub seed: u64,
    /// Updates made.
    pub step: u64,
    /// The site.
    #[serde(serialize_with = "text")]
    pub site: String,
    /// The block, where the site has one.
    pub layer: Option<usize>,
    /// The dimension, from 0.
    pub dim: usize,
    /// Mean over tokens.
    #[serde(serialize_with = "number")]
    pub mean: f64,
    /// Root of the mean square.
    #[serde(serialize_with = "number")]
    pub rms: f64,
    /// Biased variance.
    #[serde(serialize_with = "number")]
    pub variance: f64,
    /// `m3 / m2^1.5`; empty for a constant dimension.
    #[serde(serialize_with = "maybe")]
    pub skewness: Option<f64>,
    /// `m4 / m2^2`, 3 for a Gaussian; empty for a constant dimension.
    #[serde(serialize_with = "maybe")]
    pub kurtosis: Option<f64>,
    /// Smallest value.
    #[serde(serialize_with = "number")]
    pub min: f64,
    /// Largest value.
    #[serde(serialize_with = "number")]
    pub max: f64,
    /// Largest absolute value.
    #[serde(serialize_with = "number")]
    pub max_abs: f64,
    /// Its sum of squares over that of all dimensions.
    #[serde(serialize_with = "number")]
    pub share_of_energy: f64,
    /// `standard` or `optimizer`.
    #[serde(serialize_with = "text")]
    pub basis: String,
    /// `all`, `first` of each sequence, or the `rest`.
    #[serde(serialize_with = "text")]
    pub tokens: String,
}

/// One quantity of one arm at the last step, over seeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SummaryRow {
    /// The arm.
    #[serde(serialize_with = "text")]
    pub arm: String,
    /// A metric's name, `loss` or `loss_above_floor`.
    #[serde(serialize_with = "text")]
    pub metric: String,
    /// The verdict's site; empty for losses.
    #[serde(serialize_with = "text")]
    pub site: String,
    /// Complete runs that have a value.
    pub n_seeds: usize,
    /// Mean over seeds.
    #[serde(serialize_with = "maybe")]
    pub mean: Option<f64>,
    /// Standard deviation over seeds, `n - 1` in the denominator.
    #[serde(serialize_with = "maybe")]
    pub sd: Option<f64>,
    /// Lower end of the 95 % t interval of the mean.
    #[serde(serialize_with = "maybe")]
    pub ci_low: Option<f64>,
    /// Upper end of the 95 % t interval of the mean.
    #[serde(serialize_with = "maybe")]
    pub ci_high: Option<f64>,
    /// The same activations in random bases (else the closed form): mean over seeds of the mean over bases.
    #[serde(serialize_with = "maybe")]
    pub null_mean: Option<f64>,
    /// Standard deviation of one random basis, pooled within runs.
    #[serde(serialize_with = "maybe")]
    pub null_sd: Option<f64>,
    /// `(mean - null_mean) / null_sd`.
    #[serde(serialize_with = "maybe")]
    pub z: Option<f64>,
    /// `standard` or `optimizer`; empty for losses.
    #[serde(serialize_with = "text")]
    pub basis: String,
    /// Which tokens; empty for losses.
    #[serde(serialize_with = "text")]
    pub tokens: String,
    /// Updates made.
    pub step: u64,
    /// Seeds the experiment plans for the arm; those that diverged or are missing count here alone.
    pub seeds_planned: usize,
    /// The backends, devices and drivers that made the runs; ` + ` between several.
    #[serde(serialize_with = "text")]
    pub made_on: String,
}

/// One decided claim.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct VerdictRow {
    /// The claim's name in the configuration.
    #[serde(serialize_with = "text")]
    pub claim: String,
    /// What was compared, e.g. `adam / null(standard)`.
    #[serde(serialize_with = "text")]
    pub comparison: String,
    /// The metric, or `loss`.
    #[serde(serialize_with = "text")]
    pub metric: String,
    /// The site; empty for losses.
    #[serde(serialize_with = "text")]
    pub site: String,
    /// Seeds that entered.
    pub n_seeds: usize,
    /// Mean log ratio, or mean difference in nats.
    #[serde(serialize_with = "maybe")]
    pub estimate: Option<f64>,
    /// Lower end of the interval that the rule names.
    #[serde(serialize_with = "maybe")]
    pub ci_low: Option<f64>,
    /// Upper end of the interval that the rule names.
    #[serde(serialize_with = "maybe")]
    pub ci_high: Option<f64>,
    /// Exact sign-flip p of a difference; for an equivalence the larger one-sided p of the TOST.
    #[serde(serialize_with = "maybe")]
    pub p_exact: Option<f64>,
    /// The rule in words, with its numbers.
    #[serde(serialize_with = "text")]
    pub rule: String,
    /// `supported`, `contradicted`, `inconclusive` or `exploratory`.
    #[serde(serialize_with = "text")]
    pub verdict: String,
    /// The claim's kind in the configuration.
    #[serde(serialize_with = "text")]
    pub kind: String,
    /// Smallest effect that counts, or margin of the equivalence.
    #[serde(serialize_with = "maybe")]
    pub margin: Option<f64>,
    /// `p_exact` after Holm over the primary claims; empty for the others.
    #[serde(serialize_with = "maybe")]
    pub p_holm: Option<f64>,
    /// Whether the claim belongs to the Holm family.
    pub primary: bool,
    /// What a reader must know besides: missing seeds, exact symmetry.
    #[serde(serialize_with = "text")]
    pub note: String,
}

/// What one run cost. Wall clock lives in this file alone.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TimingRow {
    /// The arm.
    #[serde(serialize_with = "text")]
    pub arm: String,
    /// The seed.
    pub seed: u64,
    /// All of the run.
    #[serde(serialize_with = "number")]
    pub seconds: f64,
    /// Updates alone.
    #[serde(serialize_with = "number")]
    pub train_seconds: f64,
    /// Looks alone.
    #[serde(serialize_with = "number")]
    pub probe_seconds: f64,
    /// Tokens trained on per second of `train_seconds`: its own ones, where seeds were trained as one model (whose seconds
    /// these are then).
    #[serde(serialize_with = "number")]
    pub tokens_per_second: f64,
    /// When the run started: RFC 3339, UTC, with the fraction of the second, `2026-01-31T12:00:00.123456789Z`.
    #[serde(serialize_with = "text")]
    pub started: String,
    /// The backend that computed.
    #[serde(serialize_with = "text")]
    pub backend: String,
    /// The device, as its driver names it.
    #[serde(serialize_with = "text")]
    pub device: String,
    /// The driver and its version.
    #[serde(serialize_with = "text")]
    pub driver: String,
}

/// A row that a run writes while it goes.
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
}

// serde would print `NaN` and `inf` as such; no reader of these files should ever meet them.

fn number<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    if !value.is_finite() {
        return Err(serde::ser::Error::custom(format!("{value} in a column that holds finite numbers only")));
    }
    serializer.serialize_f64(*value)
}

/// A spreadsheet takes a cell that starts like this for a formula; the quote tells it not to (OWASP, CSV injection).
fn text<S: Serializer>(value: &str, serializer: S) -> Result<S::Ok, S::Error> {
    if value.starts_with(['=', '+', '-', '@', '\t', '\r']) {
        return serializer.collect_str(&format_args!("'{value}"));
    }
    serializer.serialize_str(value)
}

#[expect(clippy::ref_option, reason = "the signature serde asks for")]
fn maybe<S: Serializer>(value: &Option<f64>, serializer: S) -> Result<S::Ok, S::Error> {
    value.filter(|value| value.is_finite()).serialize(serializer)
}
