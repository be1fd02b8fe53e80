//! The lines of the figure and what is decided about them.

use crate::name::RunName;
use serde::{Deserialize, Serialize};

/// One optimizer in one basis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Arm {
    /// Its name in files, tables and `--set arm.NAME...`.
    pub name: RunName,
    /// Seeds of this arm alone, where fewer than the experiment's suffice.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seeds: Option<Vec<u64>>,
    /// The update rule.
    pub optimizer: OptimizerSpec,
    /// What is rotated, if anything.
    pub basis: BasisSpec,
}

/// An update rule. Every number means what it means in PyTorch.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum OptimizerSpec {
    /// Gradient descent with momentum.
    Sgd {
        /// Peak learning rate.
        lr: f64,
        /// Momentum (dampening 0); 0 is plain SGD.
        momentum: f64,
        /// Nesterov's look-ahead.
        nesterov: bool,
        /// Added to the gradient, times the weight.
        weight_decay: f64,
        /// The weight shrinks by `lr` times this, outside the gradient.
        decoupled_weight_decay: f64,
    },
    /// Adam (Kingma & Ba 2015) with L2 decay inside the gradient.
    Adam {
        /// Peak learning rate.
        lr: f64,
        /// Decay of the first moment.
        beta_1: f64,
        /// Decay of the second moment.
        beta_2: f64,
        /// Added to the root of the second moment.
        epsilon: f64,
        /// Added to the gradient, times the weight.
        weight_decay: f64,
    },
    /// Adam with decoupled decay (Loshchilov & Hutter 2019).
    Adamw {
        /// Peak learning rate.
        lr: f64,
        /// Decay of the first moment.
        beta_1: f64,
        /// Decay of the second moment.
        beta_2: f64,
        /// Added to the root of the second moment.
        epsilon: f64,
        /// The weight shrinks by `lr` times this, outside the gradient.
        decoupled_weight_decay: f64,
    },
}

impl OptimizerSpec {
    /// How many of (momentum or first moment, second moment) the rule keeps for each parameter.
    pub fn slots(&self) -> usize {
        match self {
            Self::Sgd { momentum: 0.0, .. } => 0,
            Self::Sgd { .. } => 1,
            Self::Adam { .. } | Self::Adamw { .. } => 2,
        }
    }

    /// Peak learning rate.
    pub fn lr(&self) -> f64 {
        match self {
            Self::Sgd { lr, .. } | Self::Adam { lr, .. } | Self::Adamw { lr, .. } => *lr,
        }
    }

    /// Its name in configs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Sgd { .. } => "sgd",
            Self::Adam { .. } => "adam",
            Self::Adamw { .. } => "adamw",
        }
    }
}

/// What is rotated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum BasisSpec {
    /// Nothing: optimizer and model share the standard basis.
    Standard {},
    /// The optimizer works on rotated gradients; its moments live in the rotated basis.
    RotatedOptimizer {
        /// The orthogonal map.
        rotation: RotationSpec,
        /// One map for all parameters, or one each.
        sharing: Sharing,
        /// The residual axis only, or every axis of each matrix (OrthoAdam).
        axes: RotatedAxes,
    },
    /// The model applies a fixed rotation at every read from and write to the residual stream.
    RotatedModel {
        /// The orthogonal map.
        rotation: RotationSpec,
        /// One map for all reads and writes, or one per parameter.
        sharing: Sharing,
    },
}

impl BasisSpec {
    /// The rotation, where one shared map makes a single basis that the optimizer works in.
    pub fn shared_rotation(&self) -> Option<&RotationSpec> {
        match self {
            Self::RotatedOptimizer { rotation, sharing: Sharing::Shared, axes: RotatedAxes::Residual }
            | Self::RotatedModel { rotation, sharing: Sharing::Shared } => Some(rotation),
            _ => None,
        }
    }
}

/// A family of orthogonal maps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum RotationSpec {
    /// The identity: a live self-test, for it must change no bit.
    Identity {},
    /// A permutation with random signs: Adam is exactly equivariant to it.
    SignedPermutation {
        /// With the run's seed, fixes the map.
        seed: u64,
    },
    /// Sylvester's Hadamard matrix over `sqrt(d)`; `d` a power of two.
    Hadamard {},
    /// Uniform over the orthogonal group.
    Haar {
        /// With the run's seed, fixes the map.
        seed: u64,
    },
}

/// One map for all parameters, or one each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sharing {
    /// One map.
    Shared,
    /// A map per parameter.
    Independent,
}

/// Which axes of a parameter are rotated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RotatedAxes {
    /// The axis that faces the residual stream.
    Residual,
    /// Both axes of each matrix.
    Both,
}

/// One thing to be decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// Its name in `verdicts.csv`.
    pub name: String,
    /// The claim in words; printed beside its verdict.
    pub text: String,
    /// What is compared.
    pub test: ClaimKind,
    /// Whether it belongs to the Holm family of primary claims; controls do not.
    pub primary: bool,
}

/// What a claim compares. Kurtosis-like metrics are compared as log ratios, paired by seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum ClaimKind {
    /// The arm's metric differs from the mean over Haar bases of the same activations.
    DiffersFromNull {
        /// The arm.
        arm: String,
        /// `standard`, or `optimizer` for the basis the optimizer works in.
        basis: String,
    },
    /// The arm's metric equals the mean over Haar bases of the same activations, within the margin.
    EquivalentToNull {
        /// The arm.
        arm: String,
        /// `standard`, or `optimizer` for the basis the optimizer works in.
        basis: String,
    },
    /// Two arms' metrics differ.
    ArmsDiffer {
        /// The arm in the numerator.
        arm: String,
        /// The arm in the denominator.
        other: String,
        /// When the two are read.
        reading: Reading,
    },
    /// Two arms' final validation losses are equal within the margin.
    EqualLoss {
        /// One arm.
        arm: String,
        /// The other.
        other: String,
    },
    /// Two arms' recorded losses and metrics are the same bits: a live self-test.
    BitEqual {
        /// One arm.
        arm: String,
        /// The other.
        other: String,
    },
}

/// When the two arms of a comparison are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reading {
    /// Both arms at the last step.
    Final,
    /// Each arm at its first probe whose validation loss is at or below the higher of their two final losses.
    MatchedLoss,
}
