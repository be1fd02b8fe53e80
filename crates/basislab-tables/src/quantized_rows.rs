//! The files that only `basislab quantize` writes, beside `models.csv`: one struct per file.

use crate::cell::{CellType, CellValue, plain};
use crate::schema::rows;
use basislab_config::{RunName, choice};
use basislab_stats::{Granularity, Levels};
use serde::{Serialize, Serializer};

choice! {
    /// What is rounded.
    pub enum Quantized {
        /// Nothing: what the other rows are compared with.
        Nothing = "nothing",
        /// The inputs of every matrix of the blocks.
        Activations = "activations",
        /// Every matrix of the blocks.
        Weights = "weights",
    }
}

choice! {
    /// What is done about special dimensions.
    pub enum SpecialDimensions {
        /// Nothing.
        Plain = "plain",
        /// They are 0 at every site of the stream.
        Ablated = "ablated",
        /// They are rounded to 16 bits instead, and share no scale, wherever the stream is read.
        Kept = "kept",
    }
}

plain! {
    Quantized: CellType::Names(Quantized::NAMES),
    SpecialDimensions: CellType::Names(SpecialDimensions::NAMES),
    Option<Levels>: CellType::Names(Levels::NAMES),
    Option<Granularity>: CellType::Names(Granularity::NAMES),
}

rows! {
    /// One forward pass of one model with rounded numbers, or with none.
    pub struct QuantizationRow in "quantization.csv" {
        /// The model's name.
        model: RunName,
        /// Training step of the checkpoint; 0 where it is not known.
        step: u64,
        /// What is rounded. Embeddings, head, norms and biases never are.
        quantized: Quantized,
        /// The integers that values are rounded to; empty where nothing is rounded.
        levels: Option<Levels>,
        /// Which values share a scale; empty where nothing is rounded.
        granularity: Option<Granularity>,
        /// Whether the stream is rotated by a block-diagonal Hadamard matrix with random signs, which is folded into the weights.
        rotated: bool,
        /// What is done about special dimensions.
        special: SpecialDimensions,
        /// Mean cross-entropy, nats per predicted token; empty without a head, and where it is not finite.
        loss: Option<f64>,
        /// The exponential of the loss; empty where the loss is.
        perplexity: Option<f64>,
        /// The loss minus that of the model with nothing done to it, nats per token.
        loss_increase: Option<f64>,
        /// The loss minus that of the row with nothing rounded that is rotated and ablated alike, nats per token.
        loss_increase_alike: Option<f64>,
        /// Standard error of `loss_increase_alike` over predicted tokens, paired and as if they were independent.
        standard_error: Option<f64>,
        /// Norm of the change of the stream after the last block over its norm, turned back where it was rotated: of all tokens.
        relative_error: Option<f64>,
        /// The same of all tokens but the first of each sequence.
        relative_error_later: Option<f64>,
        /// Whether the perplexity is above 10 times that of the model with nothing done to it, or not finite: not to be ranked. `false` without a head.
        destroyed: bool,
    }

    /// What the stream of a quantized model is like, and which variants it has.
    pub struct QuantizedModelRow in "quantized_models.csv" {
        /// The model's name.
        model: RunName,
        /// Training step of the checkpoint; 0 where it is not known.
        step: u64,
        /// Token kurtosis of all tokens but the first of each sequence, mean over `resid_post` sites.
        kurtosis: Option<f64>,
        /// Largest over median magnitude of a token, mean over the same tokens and sites.
        max_median: Option<f64>,
        /// Root mean square of first tokens over that of other tokens, mean over `resid_post` sites.
        first_token_size: Option<f64>,
        /// Special dimensions: those that stand out at more than half of the `resid_post` sites, by the number of such sites.
        special_dimensions: String,
        /// Width of the blocks of the Hadamard matrix that the stream is rotated by; empty where it is not.
        hadamard_block: Option<usize>,
        /// Why no weights are rounded; empty where they are.
        weights_left_out: String,
        /// Why the stream is not rotated; empty where it is.
        rotation_left_out: String,
        /// Why nothing is done about special dimensions; empty where something is.
        special_left_out: String,
    }
}
