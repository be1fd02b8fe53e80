use crate::basis::BasisSpec;
use crate::keys::{Key, Kind, choice, keys};
use crate::optimizer::OptimizerSpec;
use serde::{Deserialize, Serialize};

/// From some update on, another optimizer, basis or learning rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// The first update of the phase, from 2.
    pub from: u64,
    /// The optimizer from then on.
    pub optimizer: OptimizerSpec,
    /// The basis from then on.
    pub basis: BasisSpec,
    /// State of the optimizer at the start of the phase.
    pub moments: Moments,
}

impl Phase {
    /// The keys of a phase. What it leaves out is as before it.
    pub(crate) const KEYS: &'static [Key] = keys! {
        /// The first update of the phase, 2 or later.
        from: u64 = Kind::Integer(2, 1 << 40);
        /// Changes to the optimizer.
        optimizer: OptimizerSpec = Kind::Optimizer, optional;
        /// Changes to the basis.
        basis: BasisSpec = BasisSpec::KIND, optional;
        /// State of the optimizer at the start of the phase.
        moments: Moments = Moments::KIND;
    };
}

choice! {
    /// State of the optimizer at the start of a phase.
    pub enum Moments {
        /// Unchanged, element by element: in another basis its meaning changes.
        Keep = "keep",
        /// Starts anew, as before the first update.
        Reset = "reset",
        /// First moments are rotated into the new basis. Second moments become those of the rotated gradients if the old
        /// coordinates are uncorrelated: `(Q * Q) v`, elementwise square.
        Rotate = "rotate",
    }
}
