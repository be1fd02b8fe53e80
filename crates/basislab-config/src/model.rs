use crate::dtype::Dtype;
use crate::keys::{Kind, choice, table, tagged};
use crate::optimizer::Role;

/// Longest axis of any kind.
pub(crate) const SIZE: u64 = 1 << 20;

table! {
    /// A decoder-only, pre-norm transformer. The vocabulary is the corpus's (`corpus.d_vocab`).
    pub struct ModelSpec {
        /// Positions per sequence.
        n_ctx: usize = Kind::Integer(2, SIZE);
        /// Blocks (attention and MLP).
        n_layers: usize = Kind::Integer(1, 1024);
        /// Width of the residual stream.
        d_model: usize = Kind::Integer(4, 65_536);
        /// Attention heads; divides `d_model`.
        n_heads: usize = Kind::Integer(1, 4096);
        /// Hidden width of the MLP.
        d_mlp: usize = Kind::Integer(1, SIZE);
        /// The MLP's non-linearity.
        activation: Activation = Activation::KIND;
        /// Normalisation before each branch and before the head.
        norm: NormKind = NormKind::KIND;
        /// Added to the mean square (or variance) under the root.
        norm_epsilon: f64 = Kind::Positive(1.0);
        /// How positions enter.
        positions: Positions = Positions::KIND;
        /// Attention weights.
        attention: Attention = Attention::KIND;
        /// Whether the head is the transposed embedding.
        tied_head: bool = Kind::Bool;
        /// Whether linear maps carry biases (those written to the residual stream privilege its basis).
        biases: bool = Kind::Bool;
        /// Standard deviation of the Gaussian initial weights; writes are divided by `sqrt(2 n_layers)`.
        init_std: f64 = Kind::Positive(10.0);
        /// Type of parameters, residual stream, norms and losses; optimizers keep their state in it, but never below `f32`.
        param_dtype: Dtype = Dtype::KIND;
        /// Type in which matrices are multiplied: `param_dtype` or a narrower one.
        compute_dtype: Dtype = Dtype::KIND;
    }
}

impl ModelSpec {
    /// The roles that its parameters have.
    pub fn roles(&self) -> Vec<Role> {
        let has_vectors = self.biases || matches!(self.norm, NormKind::RmsGain | NormKind::Layernorm);
        let has_others = self.biases || self.norm == NormKind::RmsScalar;
        let all = [
            (Role::Embedding, true),
            (Role::Read, true),
            (Role::Write, true),
            (Role::Vector, has_vectors),
            (Role::Head, !self.tied_head),
            (Role::Other, has_others),
        ];
        all.into_iter().filter(|(_, has)| *has).map(|(role, _)| role).collect()
    }

    /// Whether rotating the whole residual stream leaves the function as it is: no per-dimension gain, no centring.
    pub fn is_basis_free(&self) -> bool {
        match self.norm {
            NormKind::None | NormKind::Rms | NormKind::RmsScalar => true,
            NormKind::RmsGain | NormKind::Layernorm => false,
        }
    }
}

choice! {
    /// The MLP's non-linearity.
    pub enum Activation {
        /// `x Phi(x)`, exact (error function), not the tanh approximation.
        Gelu = "gelu",
        /// `max(0, x)`.
        Relu = "relu",
        /// `x softmax(x)` over the hidden axis (Elhage et al. 2022), without the extra LayerNorm.
        Solu = "solu",
    }
}

choice! {
    /// Normalisation of the residual stream before it is read.
    pub enum NormKind {
        /// No normalisation.
        None = "none",
        /// `x / rms(x)`, no parameters.
        Rms = "rms",
        /// `g x / rms(x)` with one learned scalar `g`: basis-free.
        RmsScalar = "rms-scalar",
        /// `g * x / rms(x)` with one gain per dimension: privileges the standard basis by architecture.
        RmsGain = "rms-gain",
        /// Centre, divide by the standard deviation, gain and bias per dimension: privileges the standard basis.
        Layernorm = "layernorm",
    }
}

tagged! {
    /// How positions enter the model.
    pub enum Positions {
        /// A learned vector per position, added to the embedding.
        Learned = "learned" {}
        /// Rotary position embedding of queries and keys (Su et al. 2021), half-split pairs.
        Rope = "rope" {
            /// Wavelength base, 10000 in the literature.
            base: f64 = Kind::Float(1.0, 1e9), preset "10000.0";
        }
    }
}

choice! {
    /// Attention weights over keys.
    pub enum Attention {
        /// `exp(s_i) / sum_j exp(s_j)`.
        Softmax = "softmax",
        /// `exp(s_i) / (1 + sum_j exp(s_j))`: a head may attend to nothing (Miller 2023; Kaul et al. 2024).
        SoftmaxOne = "softmax-1",
    }
}
