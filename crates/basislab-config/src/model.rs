use crate::cell::Site;
use crate::dtype::Dtype;
use crate::keys::{Kind, choice, is_default, table, tagged};
use crate::optimizer::Role;

/// Longest axis of any kind.
pub(crate) const SIZE: u64 = 1 << 20;

table! {
    /// A transformer. The vocabulary is the corpus's (`corpus.d_vocab`).
    pub struct ModelSpec {
        /// Positions per sequence.
        n_ctx: usize = Kind::Integer(2, SIZE);
        /// Blocks (attention and MLP).
        n_layers: usize = Kind::Integer(1, 1024);
        /// Width of the residual stream.
        d_model: usize = Kind::Integer(4, 65_536);
        /// Attention heads; divides `d_model` unless `d_head` is given.
        n_heads: usize = Kind::Integer(1, 4096);
        /// Heads that have keys and values of their own, each shared by as many query heads (Ainslie et al. 2023); divides
        /// `n_heads`, which it is unless given.
        #[serde(default, skip_serializing_if = "is_default")]
        n_kv_heads: Option<usize> = Kind::Integer(1, 4096), optional;
        /// Width of a head; `d_model / n_heads` unless given.
        #[serde(default, skip_serializing_if = "is_default")]
        d_head: Option<usize> = Kind::Integer(1, 4096), optional;
        /// Hidden width of the MLP.
        d_mlp: usize = Kind::Integer(1, SIZE);
        /// How the MLP computes its hidden layer; `plain` unless given.
        #[serde(default, skip_serializing_if = "is_default")]
        mlp: Mlp = Mlp::KIND, optional;
        /// The non-linearity of a plain MLP.
        activation: Activation = Activation::KIND;
        /// Whether the branches of a block read the stream one after the other; `sequential` unless given.
        #[serde(default, skip_serializing_if = "is_default")]
        branches: Branches = Branches::KIND, optional;
        /// Normalisation of the residual stream.
        norm: NormKind = NormKind::KIND;
        /// Where the stream is normalised; `pre` unless given.
        #[serde(default, skip_serializing_if = "is_default")]
        norm_place: NormPlace = NormPlace::KIND, optional;
        /// Added to the mean square (or variance) under the root.
        norm_epsilon: f64 = Kind::Positive(1.0);
        /// How positions enter.
        positions: Positions = Positions::KIND;
        /// Attention weights.
        attention: Attention = Attention::KIND;
        /// Which keys a query sees; `causal` unless given.
        #[serde(default, skip_serializing_if = "is_default")]
        mask: Mask = Mask::KIND, optional;
        /// Whether each head divides queries and keys by their root mean square, with gains that the heads share; `false` unless given.
        #[serde(default, skip_serializing_if = "is_default")]
        qk_norm: bool = Kind::Bool, optional;
        /// Whether the head is the transposed embedding.
        tied_head: bool = Kind::Bool;
        /// Whether linear maps carry biases (those written to the residual stream privilege its basis).
        biases: bool = Kind::Bool;
        /// Whether queries, keys and values carry biases where other maps do not; `false` unless given.
        #[serde(default, skip_serializing_if = "is_default")]
        qkv_biases: bool = Kind::Bool, optional;
        /// Standard deviation of the Gaussian initial weights; writes are divided by `sqrt(2 n_layers)`.
        init_std: f64 = Kind::Positive(10.0);
        /// Type of parameters, residual stream, norms and losses; optimizers keep their state in it, but never below `f32`.
        param_dtype: Dtype = Dtype::KIND;
        /// Type in which matrices are multiplied: `param_dtype` or a narrower one. The fused kernels multiply weights in it, and attention's scores and values in `f32`.
        compute_dtype: Dtype = Dtype::KIND;
    }
}

impl ModelSpec {
    /// Width of a head.
    pub fn d_head(&self) -> usize {
        self.d_head.unwrap_or(self.d_model / self.n_heads)
    }

    /// Heads that have keys and values of their own.
    pub fn n_kv_heads(&self) -> usize {
        self.n_kv_heads.unwrap_or(self.n_heads)
    }

    /// Every site, in the order of the forward pass, with what the branches write.
    pub fn sites(&self) -> Vec<Site> {
        let is_post = self.norm_place == NormPlace::Post;
        let is_parallel = self.branches == Branches::Parallel;
        let mut all: Vec<Site> = is_post.then_some(Site::EmbedSum).into_iter().chain([Site::Embed]).collect();
        for layer in 0..self.n_layers {
            all.push(Site::AttnOut(layer));
            all.extend(is_post.then_some(Site::AttnSum(layer)));
            all.extend((!is_parallel).then_some(Site::ResidMid(layer)));
            all.push(Site::MlpOut(layer));
            all.extend(is_post.then_some(Site::MlpSum(layer)));
            all.push(Site::ResidPost(layer));
        }
        all.extend((!is_post).then_some(Site::Final));
        all
    }

    /// Why a measured site is not there, where it is not.
    pub(crate) fn lacks(&self, site: Site) -> Option<String> {
        if let Some(layer) = site.layer().filter(|layer| *layer >= self.n_layers) {
            return Some(format!("found block {layer}, expected a block below model.n_layers = {}", self.n_layers));
        }
        if site.is_branch() {
            return Some(format!("found {site}, which a branch writes, expected a site of the stream"));
        }
        let is_there = site == Site::EveryResidPost || self.sites().contains(&site);
        let why = "which norm_place = \"post\" and branches = \"parallel\" decide";
        (!is_there).then(|| format!("found {site}, expected a site that the model has, {why}"))
    }

    /// The roles that its parameters have.
    pub fn roles(&self) -> Vec<Role> {
        let has_vectors = self.biases || matches!(self.norm, NormKind::RmsGain | NormKind::Layernorm);
        let has_others = self.biases || self.qkv_biases || self.qk_norm || self.norm == NormKind::RmsScalar;
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
        /// The tanh approximation of `x Phi(x)` (GPT-2).
        GeluTanh = "gelu-tanh",
        /// `max(0, x)`.
        Relu = "relu",
        /// `x softmax(x)` over the hidden axis (Elhage et al. 2022), without the extra LayerNorm.
        Solu = "solu",
    }
}

choice! {
    /// How the MLP computes its hidden layer.
    #[derive(Default)]
    pub enum Mlp {
        /// `act(x W_in)`.
        Plain = "plain" default,
        /// `silu(x W_gate) * (x W_in)` (Shazeer 2020), with `silu(x) = x sigmoid(x)`.
        Swiglu = "swiglu",
    }
}

choice! {
    /// Whether the branches of a block read the stream one after the other.
    #[derive(Default)]
    pub enum Branches {
        /// The MLP reads what attention has written.
        Sequential = "sequential" default,
        /// Both read the stream as it enters the block (GPT-J, GPT-NeoX).
        Parallel = "parallel",
    }
}

choice! {
    /// Where the stream is normalised.
    #[derive(Default)]
    pub enum NormPlace {
        /// Before each branch reads it, and before the head does.
        Pre = "pre" default,
        /// The stream itself, after the embeddings and after each branch has written (BERT).
        Post = "post",
    }
}

choice! {
    /// Which keys a query sees.
    #[derive(Default)]
    pub enum Mask {
        /// Its own and earlier ones.
        Causal = "causal" default,
        /// All of the sequence (BERT). Such a model cannot be trained here, where the loss is of the next token.
        Bidirectional = "bidirectional",
    }
}

choice! {
    /// Which coordinates of a head rotate together.
    #[derive(Default)]
    pub enum RopePairs {
        /// `(k, k + K/2)` of the K coordinates that rotate (GPT-NeoX, and Llama as Hugging Face stores it).
        Halves = "halves" default,
        /// `(2k, 2k + 1)` (Llama as Meta and llama.cpp store it).
        Interleaved = "interleaved",
    }
}

choice! {
    /// Normalisation of the residual stream.
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
        /// Rotary position embedding of queries and keys (Su et al. 2021).
        Rope = "rope" {
            /// Wavelength base, 10000 in the literature.
            base: f64 = Kind::Float(1.0, 1e9), preset "10000.0";
            /// Which coordinates of a head rotate together; `halves` unless given.
            #[serde(default, skip_serializing_if = "is_default")]
            pairs: RopePairs = RopePairs::KIND, optional;
            /// How many of a head's first coordinates rotate, an even number; all of them unless given.
            #[serde(default, skip_serializing_if = "is_default")]
            dims: Option<usize> = Kind::Integer(2, 4096), optional;
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
