//! What the columns of every CSV file mean, for the reader of this crate and for `datapackage.json`.

use crate::rows::{DimensionRow, EvalRow, ResidualRow, StepRow, SummaryRow, TimingRow, VerdictRow};
use serde_json::{Value, json};
use std::path::Path;

/// A CSV file of an experiment directory.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub file: &'static str,
    /// What a row is.
    pub about: &'static str,
    /// Its columns in order. New ones are only ever added at the end.
    pub columns: &'static [Column],
}

/// A column.
#[derive(Debug)]
pub struct Column {
    /// Its name in the header.
    pub name: &'static str,
    /// What its cells hold.
    pub cell: Cell,
    /// Definition and unit.
    pub about: &'static str,
}

/// What a cell may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    /// Any text, possibly empty.
    Text,
    /// A name from a small set; `None` where the set is open.
    Name(Option<&'static [&'static str]>),
    /// `standard`, `optimizer` or `random:<k>`; empty where no basis applies.
    Basis,
    /// A whole number >= 0.
    Integer,
    /// A whole number >= 0 or nothing.
    MaybeInteger,
    /// A finite number.
    Number,
    /// A finite number or nothing.
    MaybeNumber,
    /// `true` or `false`.
    Boolean,
}

impl Cell {
    /// Whether a cell's text is of this kind.
    pub fn accepts(self, text: &str) -> bool {
        match self {
            Self::Text | Self::Name(None) => true,
            Self::Name(Some(names)) => text.is_empty() || names.contains(&text),
            Self::Basis => {
                let draw = text.strip_prefix("random:");
                matches!(text, "" | "standard" | "optimizer") || draw.is_some_and(|k| k.parse::<u32>().is_ok())
            }
            Self::Integer => text.parse::<u64>().is_ok(),
            Self::MaybeInteger => text.is_empty() || Self::Integer.accepts(text),
            Self::Number => text.parse::<f64>().is_ok_and(f64::is_finite),
            Self::MaybeNumber => text.is_empty() || Self::Number.accepts(text),
            Self::Boolean => matches!(text, "true" | "false"),
        }
    }

    /// What it accepts, in words.
    pub fn expected(self) -> String {
        match self {
            Self::Text | Self::Name(None) => "text".to_owned(),
            Self::Name(Some(names)) => names.join(" or "),
            Self::Basis => "standard, optimizer or random:<k>".to_owned(),
            Self::Integer => "a whole number".to_owned(),
            Self::MaybeInteger => "a whole number or an empty cell".to_owned(),
            Self::Number => "a finite number".to_owned(),
            Self::MaybeNumber => "a finite number or an empty cell".to_owned(),
            Self::Boolean => "true or false".to_owned(),
        }
    }
}

/// A row struct and the file it belongs to.
pub trait TableRow: serde::Serialize + serde::de::DeserializeOwned {
    /// The file.
    const TABLE: &'static Table;
}

impl TableRow for StepRow {
    const TABLE: &'static Table = &STEPS;
}
impl TableRow for EvalRow {
    const TABLE: &'static Table = &EVALS;
}
impl TableRow for ResidualRow {
    const TABLE: &'static Table = &RESIDUAL;
}
impl TableRow for DimensionRow {
    const TABLE: &'static Table = &DIMENSIONS;
}
impl TableRow for SummaryRow {
    const TABLE: &'static Table = &SUMMARY;
}
impl TableRow for VerdictRow {
    const TABLE: &'static Table = &VERDICTS;
}
impl TableRow for TimingRow {
    const TABLE: &'static Table = &TIMING;
}

/// All files, in the order in which a reader wants them.
pub static TABLES: &[&Table] = &[&SUMMARY, &VERDICTS, &STEPS, &EVALS, &RESIDUAL, &DIMENSIONS, &TIMING];

/// The name under which programs look for a data package.
pub(crate) const PACKAGE: &str = "datapackage.json";

/// `datapackage.json`: a Frictionless data package of the tables that are in `dir`, each with its schema.
pub fn data_package(dir: &Path) -> Value {
    let resource = |table: &&Table| {
        json!({
            "name": table.file.trim_end_matches(".csv"),
            "profile": "tabular-data-resource",
            "path": table.file,
            "description": table.about,
            "format": "csv",
            "encoding": "utf-8",
            "schema": {
                "fields": table.columns.iter().map(field).collect::<Vec<_>>(),
                "missingValues": [""],
            },
        })
    };
    json!({
        "profile": "tabular-data-package",
        "name": "basislab-experiment",
        "resources": TABLES.iter().filter(|table| dir.join(table.file).is_file()).map(resource).collect::<Vec<_>>(),
    })
}

/// The header line of a table, without its newline.
pub(crate) fn header(table: &Table) -> String {
    table.columns.iter().map(|column| column.name).collect::<Vec<_>>().join(",")
}

fn field(column: &Column) -> Value {
    let (kind, constraints) = match column.cell {
        Cell::Text => ("string", json!({})),
        Cell::Name(None) => ("string", json!({ "required": true })),
        Cell::Name(Some(names)) => ("string", json!({ "enum": names })),
        Cell::Basis => ("string", json!({ "pattern": "(standard|optimizer|random:[0-9]+)" })),
        Cell::Integer => ("integer", json!({ "required": true, "minimum": 0 })),
        Cell::MaybeInteger => ("integer", json!({ "minimum": 0 })),
        Cell::Number => ("number", json!({ "required": true })),
        Cell::MaybeNumber => ("number", json!({})),
        Cell::Boolean => ("boolean", json!({ "required": true })),
    };
    json!({ "name": column.name, "type": kind, "description": column.about, "constraints": constraints })
}

const fn column(name: &'static str, cell: Cell, about: &'static str) -> Column {
    Column { name, cell, about }
}

const TOKENS: Cell = Cell::Name(Some(&["all", "first", "rest"]));
const ARM: Column = column("arm", Cell::Name(None), "optimizer and basis, by its name in the configuration");
const SEED: Column = column("seed", Cell::Integer, "paired replicate: arms share weights, batches and held-out tokens");
const STEP: Column = column("step", Cell::Integer, "optimizer updates made");
const SITE: Column = column("site", Cell::Text, "named point on the residual stream; empty for losses");
const LAYER: Column = column("layer", Cell::MaybeInteger, "block of the site, where it has one");
const WHICH_TOKENS: Column = column("tokens", TOKENS, "all, the first of each sequence, or the rest");
const BASIS: Column = column("basis", Cell::Basis, "coordinates of the measurement");
const METRIC: Column = column("metric", Cell::Name(None), "name of the metric, or of the loss");

static STEPS: Table = Table {
    file: "steps.csv",
    about: "one optimizer update",
    columns: &[
        ARM,
        SEED,
        column("step", Cell::Integer, "the update just made, from 1"),
        column("tokens", Cell::Integer, "tokens trained on so far"),
        column("lr", Cell::Number, "learning rate of this update"),
        column("train_loss", Cell::MaybeNumber, "cross-entropy of the batch before the update, nats per token"),
        column("grad_norm", Cell::MaybeNumber, "global gradient norm before clipping"),
        column("status", Cell::Name(Some(&["ok", "diverged"])), "diverged: the run stopped here, not finite"),
    ],
};

static EVALS: Table = Table {
    file: "evals.csv",
    about: "one look at the loss",
    columns: &[
        ARM,
        SEED,
        STEP,
        column("split", Cell::Name(Some(&["held-out"])), "which tokens"),
        column("loss", Cell::MaybeNumber, "cross-entropy, nats per token"),
        column("loss_above_floor", Cell::MaybeNumber, "loss minus that of the true model on the same tokens, nats"),
    ],
};

static RESIDUAL: Table = Table {
    file: "residual.csv",
    about: "one metric of one site of the residual stream",
    columns: &[
        ARM,
        SEED,
        STEP,
        SITE,
        LAYER,
        WHICH_TOKENS,
        column("tokens_used", Cell::Integer, "how many tokens were measured"),
        BASIS,
        METRIC,
        column("value", Cell::MaybeNumber, "empty where undefined"),
    ],
};

static DIMENSIONS: Table = Table {
    file: "dimensions.csv",
    about: "one dimension of one site over tokens",
    columns: &[
        ARM,
        SEED,
        STEP,
        SITE,
        LAYER,
        column("dim", Cell::Integer, "the dimension, from 0"),
        column("mean", Cell::Number, "mean over tokens"),
        column("rms", Cell::Number, "root of the mean square"),
        column("variance", Cell::Number, "biased variance"),
        column("skewness", Cell::MaybeNumber, "m3 / m2^1.5"),
        column("kurtosis", Cell::MaybeNumber, "m4 / m2^2 over tokens, 3 for a Gaussian"),
        column("min", Cell::Number, "smallest value"),
        column("max", Cell::Number, "largest value"),
        column("max_abs", Cell::Number, "largest absolute value"),
        column("share_of_energy", Cell::Number, "its sum of squares over that of all dimensions"),
        BASIS,
        WHICH_TOKENS,
    ],
};

static SUMMARY: Table = Table {
    file: "summary.csv",
    about: "one quantity of one arm at the last step, over seeds",
    columns: &[
        ARM,
        METRIC,
        SITE,
        column("n_seeds", Cell::Integer, "complete runs that have a value"),
        column("mean", Cell::MaybeNumber, "mean over seeds"),
        column("sd", Cell::MaybeNumber, "standard deviation over seeds, n - 1"),
        column("ci_low", Cell::MaybeNumber, "lower end of the 95 % t interval of the mean"),
        column("ci_high", Cell::MaybeNumber, "upper end of the 95 % t interval of the mean"),
        column("null_mean", Cell::MaybeNumber, "the same activations in random bases, else the closed form"),
        column("null_sd", Cell::MaybeNumber, "standard deviation of one random basis, pooled within runs"),
        column("z", Cell::MaybeNumber, "(mean - null_mean) / null_sd; empty where null_sd is 0"),
        BASIS,
        WHICH_TOKENS,
        STEP,
        column("seeds_planned", Cell::Integer, "seeds of the arm in the configuration"),
        column("made_on", Cell::Text, "backend: device, driver of the runs; ` + ` between several"),
    ],
};

const VERDICT_NAMES: &[&str] = &["supported", "contradicted", "inconclusive", "exploratory"];
const KIND_NAMES: &[&str] = &["differs-from-null", "equivalent-to-null", "arms-differ", "equal-loss", "bit-equal"];

static VERDICTS: Table = Table {
    file: "verdicts.csv",
    about: "one decided claim",
    columns: &[
        column("claim", Cell::Name(None), "name of the claim in the configuration"),
        column("comparison", Cell::Text, "what was compared"),
        METRIC,
        SITE,
        column("n_seeds", Cell::Integer, "seeds that entered"),
        column("estimate", Cell::MaybeNumber, "mean log ratio, or mean difference in nats"),
        column("ci_low", Cell::MaybeNumber, "lower end of the interval that the rule names"),
        column("ci_high", Cell::MaybeNumber, "upper end of the interval that the rule names"),
        column(
            "p_exact",
            Cell::MaybeNumber,
            "exact sign-flip p; for an equivalence the larger one-sided p of the TOST",
        ),
        column("rule", Cell::Text, "the rule in words"),
        column("verdict", Cell::Name(Some(VERDICT_NAMES)), "the decision"),
        column("kind", Cell::Name(Some(KIND_NAMES)), "kind of the claim"),
        column("margin", Cell::MaybeNumber, "smallest effect that counts, or margin of the equivalence"),
        column("p_holm", Cell::MaybeNumber, "p_exact after Holm over the primary claims"),
        column("primary", Cell::Boolean, "whether the claim belongs to the Holm family"),
        column("note", Cell::Text, "missing seeds, exact symmetry"),
    ],
};

static TIMING: Table = Table {
    file: "timing.csv",
    about: "what one run cost; the only file that depends on the machine's speed",
    columns: &[
        ARM,
        SEED,
        column("seconds", Cell::Number, "wall clock of the run"),
        column("train_seconds", Cell::Number, "updates alone"),
        column("probe_seconds", Cell::Number, "looks alone"),
        column("tokens_per_second", Cell::Number, "tokens trained on per second of train_seconds"),
        column("started", Cell::Text, "UTC, ISO 8601"),
        column("backend", Cell::Text, "the backend that computed"),
        column("device", Cell::Text, "the device, as its driver names it"),
        column("driver", Cell::Text, "the driver and its version"),
    ],
};
