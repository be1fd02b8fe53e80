use crate::keys::{Kind, MAX_SEED, choice, tagged};

tagged! {
    /// What is rotated.
    pub enum BasisSpec {
        /// Nothing: optimizer and model share the standard basis.
        Standard = "standard" {}
        /// The optimizer works on rotated gradients; its state lives in the rotated basis.
        RotatedOptimizer = "rotated-optimizer" {
            /// The orthogonal map.
            rotation: RotationSpec = RotationSpec::KIND, preset "{ kind = \"haar\", seed = 7 }";
            /// One map for all parameters, or one each.
            sharing: Sharing = Sharing::KIND, preset "\"shared\"";
            /// The residual axis only, or both axes of each matrix (OrthoAdam).
            axes: RotatedAxes = RotatedAxes::KIND, preset "\"residual\"";
        }
        /// The model applies a fixed rotation at every read from and write to the residual stream.
        RotatedModel = "rotated-model" {
            /// The orthogonal map.
            rotation: RotationSpec = RotationSpec::KIND, preset "{ kind = \"haar\", seed = 7 }";
            /// One map for all reads and writes, or one per parameter.
            sharing: Sharing = Sharing::KIND, preset "\"shared\"";
        }
    }
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

    /// The rotation, where there is one.
    pub fn rotation(&self) -> Option<&RotationSpec> {
        match self {
            Self::Standard {} => None,
            Self::RotatedOptimizer { rotation, .. } | Self::RotatedModel { rotation, .. } => Some(rotation),
        }
    }
}

tagged! {
    /// A family of orthogonal maps.
    pub enum RotationSpec {
        /// The identity: a self-test, for it must change no bit.
        Identity = "identity" {}
        /// A permutation with random signs: Adam is exactly equivariant to it.
        SignedPermutation = "signed-permutation" {
            /// Fixes the map, together with the run's seed.
            seed: u64 = Kind::Integer(0, MAX_SEED), preset "7";
        }
        /// Sylvester's Hadamard matrix over `sqrt(d)`; `d` a power of two.
        Hadamard = "hadamard" {}
        /// Uniform over the orthogonal group.
        Haar = "haar" {
            /// Fixes the map, together with the run's seed.
            seed: u64 = Kind::Integer(0, MAX_SEED), preset "7";
        }
    }
}

choice! {
    /// One map for all parameters, or one each.
    pub enum Sharing {
        /// One map.
        Shared = "shared",
        /// A map per parameter.
        Independent = "independent",
    }
}

choice! {
    /// Which axes of a parameter are rotated.
    pub enum RotatedAxes {
        /// The axis that faces the residual stream.
        Residual = "residual",
        /// Both axes of each matrix.
        Both = "both",
    }
}
