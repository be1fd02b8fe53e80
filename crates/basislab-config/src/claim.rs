//! What is decided, and by which rule.

use crate::cell::{Basis, Cell, MEASURED, PROBED, SitePattern, StepPattern, Tokens};
use crate::keys::{Key, Kind, choice, keys, table, tagged};
use crate::name::RunName;
use crate::symmetry::Symmetry;
use serde::{Deserialize, Serialize};

table! {
    /// The rule by which claims are decided, and the cell that they read unless they name another.
    pub struct VerdictSpec {
        /// The metric, by its name in `basislab metrics list`.
        metric: String = Kind::Name;
        /// The site; `blocks.last.resid_post` follows the depth of the model.
        site: SitePattern = Kind::Site;
        /// Which tokens.
        tokens: Tokens = PROBED;
        /// The basis measured in.
        basis: Basis = MEASURED;
        /// After which update: a probe, or `"last"`.
        step: StepPattern = Kind::Step;
        /// Error rate of the family of primary claims (Holm): two-sided, but one-sided against a threshold.
        alpha: f64 = Kind::Float(1e-6, 0.5);
        /// Fewer seeds than this: the verdict is `exploratory`.
        min_seeds: usize = Kind::Integer(2, 4096);
        /// A difference smaller than this in `|log ratio|` does not count, however certain; of ordered arms, that of the last
        /// and the first along the fitted slope.
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
    /// Whether it is to be decided in the Holm family of primary claims.
    pub primary: bool,
    /// Why it is settled before any run, if it is: then it is a control, and in no family.
    #[serde(skip)]
    pub symmetry: Option<Symmetry>,
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
    /// What a claim compares. Kurtosis-like metrics are compared as log ratios, paired by seed. The kinds that compare
    /// no two quantities (`ordered`, `correlates`, `near-value`, `at-most`, `at-least`) may read the held-out loss too:
    /// their cell then has the metric `loss`, in nats per token.
    pub enum ClaimKind {
        /// The arm's metric differs from the mean over Haar bases of the same activations.
        DiffersFromNull = "differs-from-null" {
            /// The arm.
            arm: RunName = Kind::Name;
            /// On which side of the null; without it, on either.
            direction: Option<Direction> = Direction::KIND, optional;
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
            /// On which side of the other arm; without it, on either.
            direction: Option<Direction> = Direction::KIND, optional;
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
        /// The metric rises along the arms in the given order: a dose. Decided on the slope of the log of the metric per
        /// rank, with p from permutations of the arms within each seed.
        Ordered = "ordered" {
            /// The arms in the order claimed, lowest first.
            arms: Vec<RunName> = Kind::Names(LEAST_ORDERED);
        }
        /// Over arms, the metric correlates with another quantity (Spearman). Its p is from permutations of blocks.
        Correlates = "correlates" {
            /// The arms.
            arms: Vec<RunName> = Kind::Names(LEAST_CORRELATED);
            /// The other quantity. What it leaves out is as in `[verdict]`.
            with: Cell = Kind::Table(Cell::KEYS);
            /// Arms that belong together, such as one rule at several rates; an arm that is in none is a block of its own.
            blocks: Option<Vec<Vec<RunName>>> = Kind::NameLists, optional;
            /// The sign claimed; without it, either supports the claim.
            sign: Option<Sign> = Sign::KIND, optional;
        }
        /// The mean of the arm's metric over seeds is near a published number (TOST).
        NearValue = "near-value" {
            /// The arm.
            arm: RunName = Kind::Name;
            /// The published number, in the unit of the metric; not 0.
            value: f64 = Kind::Finite;
            /// Near means within this share of the number: 0.1 is 10 %.
            tolerance: f64 = Kind::Positive(1.0);
            /// Where the number was published.
            source: Option<String> = Kind::Text(400), optional;
        }
        /// The mean of the arm's metric over seeds is at most a threshold (one-sided t test).
        AtMost = "at-most" {
            /// The arm.
            arm: RunName = Kind::Name;
            /// The threshold, in the unit of the metric.
            threshold: f64 = Kind::Finite;
        }
        /// The mean of the arm's metric over seeds is at least a threshold (one-sided t test).
        AtLeast = "at-least" {
            /// The arm.
            arm: RunName = Kind::Name;
            /// The threshold, in the unit of the metric.
            threshold: f64 = Kind::Finite;
        }
    }
}

/// Fewer arms have no order to speak of.
const LEAST_ORDERED: usize = 3;
/// Fewer arms, or blocks of them, have no correlation to speak of.
pub(crate) const LEAST_CORRELATED: usize = 4;

impl Claim {
    /// Whether its p is corrected together with those of the other primary claims.
    pub fn is_in_family(&self) -> bool {
        self.primary && self.symmetry.is_none()
    }

    /// The cells that it reads, by their keys: its own, and what the metric is to correlate with.
    pub fn cells(&self) -> Vec<(&'static str, &Cell)> {
        let with = if let ClaimKind::Correlates { with, .. } = &self.test { Some(("test.with", with)) } else { None };
        std::iter::once(("cell", &self.cell)).chain(with).collect()
    }
}

impl ClaimKind {
    /// The arms that it reads.
    pub fn arms(&self) -> Vec<&RunName> {
        self.named_arms().into_iter().map(|(_, arm)| arm).collect()
    }

    /// The arms that it reads, by the keys that name them.
    pub(crate) fn named_arms(&self) -> Vec<(&'static str, &RunName)> {
        match self {
            Self::DiffersFromNull { arm, .. }
            | Self::EquivalentToNull { arm }
            | Self::NearValue { arm, .. }
            | Self::AtMost { arm, .. }
            | Self::AtLeast { arm, .. } => vec![("test.arm", arm)],
            Self::ArmsDiffer { arm, other, .. } | Self::EqualLoss { arm, other } | Self::BitEqual { arm, other } => {
                vec![("test.arm", arm), ("test.other", other)]
            }
            Self::Ordered { arms } | Self::Correlates { arms, .. } => {
                arms.iter().map(|arm| ("test.arms", arm)).collect()
            }
        }
    }

    /// The places in [`ClaimKind::arms`] of the arms of each block; an arm that no block names is one of its own.
    pub fn blocks(&self) -> Vec<Vec<usize>> {
        let arms = self.arms();
        let named = if let Self::Correlates { blocks: Some(blocks), .. } = self { &blocks[..] } else { &[] };
        let place = |name: &RunName| arms.iter().position(|arm| *arm == name);
        let mut all: Vec<Vec<usize>> = named.iter().map(|block| block.iter().filter_map(place).collect()).collect();
        let alone = |at: &usize| !named.iter().flatten().any(|name| name == arms[*at]);
        all.extend((0..arms.len()).filter(alone).map(|at| vec![at]));
        all
    }

    /// The side that is claimed, for the kinds that can name one.
    pub fn direction(&self) -> Option<Direction> {
        match self {
            Self::DiffersFromNull { direction, .. } | Self::ArmsDiffer { direction, .. } => {
                Some(direction.unwrap_or(Direction::Either))
            }
            _ => None,
        }
    }

    /// Whether it says that two things are equal. Such claims are decided outside the Holm family.
    pub fn is_equality(&self) -> bool {
        match self {
            Self::EquivalentToNull { .. } | Self::EqualLoss { .. } | Self::BitEqual { .. } | Self::NearValue { .. } => {
                true
            }
            Self::DiffersFromNull { .. }
            | Self::ArmsDiffer { .. }
            | Self::Ordered { .. }
            | Self::Correlates { .. }
            | Self::AtMost { .. }
            | Self::AtLeast { .. } => false,
        }
    }

    /// Whether its cell may be the held-out loss.
    pub(crate) fn may_read_loss(&self) -> bool {
        match self {
            Self::Ordered { .. }
            | Self::Correlates { .. }
            | Self::NearValue { .. }
            | Self::AtMost { .. }
            | Self::AtLeast { .. } => true,
            Self::DiffersFromNull { .. }
            | Self::EquivalentToNull { .. }
            | Self::ArmsDiffer { .. }
            | Self::EqualLoss { .. }
            | Self::BitEqual { .. } => false,
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

choice! {
    /// The side on which a difference is claimed.
    pub enum Direction {
        /// Above what it is compared with.
        Above = "above",
        /// Below it.
        Below = "below",
        /// On either side.
        Either = "either",
    }
}

impl Direction {
    /// 1, -1, or nothing for either side.
    pub fn sign(self) -> Option<f64> {
        match self {
            Self::Above => Some(1.0),
            Self::Below => Some(-1.0),
            Self::Either => None,
        }
    }
}

choice! {
    /// The sign of a correlation.
    pub enum Sign {
        /// Above 0.
        Positive = "positive",
        /// Below 0.
        Negative = "negative",
    }
}

impl Sign {
    /// 1 or -1.
    pub fn number(self) -> f64 {
        match self {
            Self::Positive => 1.0,
            Self::Negative => -1.0,
        }
    }
}
