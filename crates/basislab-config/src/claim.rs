//! What is decided, and by which rule.

use crate::cell::{Basis, Cell, MEASURED, SitePattern, StepPattern, Tokens};
use crate::keys::{Key, Kind, choice, keys, table, tagged};
use crate::name::RunName;
use serde::{Deserialize, Serialize};

table! {
    /// The rule by which claims are decided, and the cell that they read unless they name another.
    pub struct VerdictSpec {
        /// The metric, by its name in `basislab metrics list`.
        metric: String = Kind::Name;
        /// The site; `blocks.last.resid_post` follows the depth of the model.
        site: SitePattern = Kind::Site;
        /// Which tokens.
        tokens: Tokens = Tokens::KIND;
        /// The basis measured in.
        basis: Basis = MEASURED;
        /// After which update: a probe, or `"last"`.
        step: StepPattern = Kind::Step;
        /// Two-sided error rate of the family of primary claims (Holm).
        alpha: f64 = Kind::Float(1e-6, 0.5);
        /// Fewer seeds than this: the verdict is `exploratory`.
        min_seeds: usize = Kind::Integer(2, 4096);
        /// A difference smaller than this in `|log ratio|` does not count, however certain.
        smallest_effect: f64 = Kind::Float(0.0, 100.0);
        /// Two quantities are equivalent when their log ratio lies within plus or minus this (TOST).
        equivalence_margin: f64 = Kind::Positive(100.0);
        /// Two losses are equal when they differ by less than this, in nats per token (TOST).
        equal_loss_margin: f64 = Kind::Positive(100.0);
    }
}

impl VerdictSpec {
    /// The cell that claims read unless they name another.
    pub fn cell(&self) -> Cell {
        let Self { metric, site, tokens, basis, step, .. } = self.clone();
        Cell { metric, site, tokens, basis, step }
    }
}

/// One thing to be decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Its name in `verdicts.csv`.
    pub name: RunName,
    /// The claim in words; printed beside its verdict.
    pub text: String,
    /// What is read.
    pub cell: Cell,
    /// What is compared.
    pub test: ClaimKind,
    /// Whether it belongs to the Holm family of primary claims; controls do not.
    pub primary: bool,
}

impl Claim {
    /// The keys of a claim.
    pub(crate) const KEYS: &'static [Key] = keys! {
        /// Its name in `verdicts.csv`.
        name: RunName = Kind::Name;
        /// The claim in words.
        text: String = Kind::Text(400);
        /// What is read, where it is not the cell of `[verdict]`.
        cell: Cell = Kind::Table(Cell::KEYS), optional;
        /// What is compared.
        test: ClaimKind = ClaimKind::KIND;
        /// Whether it belongs to the Holm family of primary claims.
        primary: bool = Kind::Bool;
    };
}

tagged! {
    /// What a claim compares. Kurtosis-like metrics are compared as log ratios, paired by seed.
    pub enum ClaimKind {
        /// The arm's metric differs from the mean over Haar bases of the same activations.
        DiffersFromNull = "differs-from-null" {
            /// The arm.
            arm: RunName = Kind::Name;
        }
        /// The arm's metric equals the mean over Haar bases of the same activations, within the margin.
        EquivalentToNull = "equivalent-to-null" {
            /// The arm.
            arm: RunName = Kind::Name;
        }
        /// Two arms' metrics differ.
        ArmsDiffer = "arms-differ" {
            /// The arm in the numerator.
            arm: RunName = Kind::Name;
            /// The arm in the denominator.
            other: RunName = Kind::Name;
            /// When the two are read.
            reading: Reading = Reading::KIND, preset "\"final\"";
        }
        /// Two arms' final held-out losses are equal within the margin.
        EqualLoss = "equal-loss" {
            /// One arm.
            arm: RunName = Kind::Name;
            /// The other.
            other: RunName = Kind::Name;
        }
        /// Two arms' recorded losses and metrics are the same bits: a self-test.
        BitEqual = "bit-equal" {
            /// One arm.
            arm: RunName = Kind::Name;
            /// The other.
            other: RunName = Kind::Name;
        }
    }
}

impl ClaimKind {
    /// The arms that it reads.
    pub fn arms(&self) -> Vec<&RunName> {
        match self {
            Self::DiffersFromNull { arm } | Self::EquivalentToNull { arm } => vec![arm],
            Self::ArmsDiffer { arm, other, .. } | Self::EqualLoss { arm, other } | Self::BitEqual { arm, other } => {
                vec![arm, other]
            }
        }
    }

    /// Whether it says that two things are equal. Such claims are decided outside the Holm family.
    pub fn is_equality(&self) -> bool {
        match self {
            Self::EquivalentToNull { .. } | Self::EqualLoss { .. } | Self::BitEqual { .. } => true,
            Self::DiffersFromNull { .. } | Self::ArmsDiffer { .. } => false,
        }
    }
}

choice! {
    /// When the two arms of a comparison are read.
    pub enum Reading {
        /// Both at the step of the cell.
        Final = "final",
        /// Each arm at its first probe whose held-out loss is at or below the higher of their two final losses.
        MatchedLoss = "matched-loss",
    }
}
