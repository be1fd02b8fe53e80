//! The files that only `basislab measure` writes, beside `residual.csv`, `dimensions.csv`, `evals.csv` and `summary.csv`: one
//! struct per file.

use crate::cell::{CellType, CellValue, plain};
use crate::schema::rows;
use basislab_config::{RunName, Site, choice};
use serde::{Serialize, Serializer};

choice! {
    /// Whether the loss on the text speaks for a right forward pass and tokenizer.
    pub enum Verified {
        /// The loss is below that of the unigram code.
        Loss = "below-unigram",
        /// It is not: forward pass or tokenizer are probably wrong.
        NoBetterThanUnigram = "no-better-than-unigram",
        /// The model has no language head, so that there is no loss.
        NoHead = "no-head",
    }
}

impl Verified {
    /// From the losses, nats per token, of a model with or without a head. A loss that is not finite, and one without anything
    /// to be compared with, speak for nothing.
    pub fn of(has_head: bool, loss: Option<f64>, unigram_loss: Option<f64>) -> Self {
        match (loss, unigram_loss) {
            _ if !has_head => Self::NoHead,
            (Some(loss), Some(unigram)) if loss < unigram => Self::Loss,
            _ => Self::NoBetterThanUnigram,
        }
    }
}

plain! {
    Verified: CellType::Names(Verified::NAMES),
}

rows! {
    /// One measured model, or one checkpoint of it.
    pub struct ModelRow in "models.csv" {
        /// The model's name, which is the arm in other tables.
        model: RunName,
        /// Training step of the checkpoint; 0 where it is not known.
        step: u64,
        /// Format of its files: `safetensors`, `gguf`, `llama2.c` or `checkpoint`.
        format: String = CellType::Name,
        /// The architecture as the files name it.
        architecture: String = CellType::Name,
        /// Numbers in all parameters.
        parameters: u64,
        /// Width of the residual stream.
        d_model: usize,
        /// Blocks.
        n_layers: usize,
        /// Entries of the vocabulary.
        d_vocab: usize,
        /// Sequences that were measured.
        sequences: usize,
        /// Tokens in all sequences.
        tokens: u64,
        /// Tokens whose loss was measured: not the first of each sequence; 0 without a head.
        predicted_tokens: u64,
        /// Bytes of the text that the predicted tokens cover.
        predicted_bytes: u64,
        /// Mean cross-entropy, nats per predicted token; empty without a head.
        loss: Option<f64>,
        /// The loss of all predicted tokens in bits, over the bytes that they cover; empty without a head.
        bits_per_byte: Option<f64>,
        /// What a prequential add-half unigram code over the vocabulary needs for the predicted tokens, nats per token; empty without a head.
        unigram_loss: Option<f64>,
        /// Whether the loss speaks for a right forward pass and tokenizer.
        verified: Verified,
    }

    /// One dimension that stands out at one site: its size over the median dimension's exceeds that of every dimension in every random basis.
    pub struct SpecialDimensionRow in "special_dimensions.csv" {
        /// The model's name.
        model: RunName,
        /// Training step of the checkpoint; 0 where it is not known.
        step: u64,
        /// Point on the residual stream.
        site: Site,
        /// Block of the site, where it has one.
        layer: Option<usize>,
        /// The dimension, from 0.
        dim: usize,
        /// Root mean square over the sampled tokens, each of which is scaled to a root mean square of 1.
        size: f64,
        /// `size` over its median over dimensions.
        ratio: f64,
        /// The largest such ratio of any dimension in any random basis of the same tokens.
        threshold: f64,
        /// Its place at the site by `size`, from 1.
        rank: usize,
        /// At how many of the model's `resid_post` sites the dimension stands out.
        persistence: usize,
    }

    /// One of the largest values of a site: 8 at first tokens of sequences, 8 at other tokens.
    pub struct MassiveRow in "massive.csv" {
        /// The model's name.
        model: RunName,
        /// Training step of the checkpoint; 0 where it is not known.
        step: u64,
        /// Point on the residual stream.
        site: Site,
        /// Block of the site, where it has one.
        layer: Option<usize>,
        /// The sequence, from 0.
        sequence: usize,
        /// Place of the token in its sequence, from 0.
        position: usize,
        /// Number of the token in the vocabulary.
        token: u64,
        /// Text of the token in double quotes; what cannot be printed is escaped.
        text: String,
        /// The dimension, from 0.
        dim: usize,
        /// The value.
        value: f64,
        /// Its magnitude over the median magnitude of the site's values; empty where that is 0.
        ratio: Option<f64>,
        /// Whether the token is the first of its sequence.
        first: bool,
    }

    /// One of the tokens that hold most of the sum of squares of a site: 8 first tokens of sequences, 8 other tokens.
    pub struct DominantTokenRow in "dominant_tokens.csv" {
        /// The model's name.
        model: RunName,
        /// Training step of the checkpoint; 0 where it is not known.
        step: u64,
        /// Point on the residual stream.
        site: Site,
        /// Block of the site, where it has one.
        layer: Option<usize>,
        /// The sequence, from 0.
        sequence: usize,
        /// Place of the token in its sequence, from 0.
        position: usize,
        /// Number of the token in the vocabulary.
        token: u64,
        /// Text of the token in double quotes; what cannot be printed is escaped.
        text: String,
        /// Its sum of squares over that of all tokens.
        share: f64,
        /// Its sum of squares over that of all first tokens, or of all other tokens, whichever it belongs to.
        share_of_group: f64,
        /// Whether the token is the first of its sequence.
        first: bool,
    }

    /// What interventions did to one model. The file exists where there were any; the other tables are of the model with them.
    pub struct InterventionRow in "interventions.csv" {
        /// The model's name.
        model: RunName,
        /// Training step of the checkpoint; 0 where it is not known.
        step: u64,
        /// What was done, and where.
        interventions: String,
        /// Mean cross-entropy without them, nats per predicted token; empty without a head.
        loss_before: Option<f64>,
        /// Mean cross-entropy with them, nats per predicted token; empty without a head.
        loss: Option<f64>,
        /// Mean absolute change of a predicted token's loss, nats; empty without a head.
        mean_change: Option<f64>,
        /// Largest absolute change of a predicted token's loss, nats; empty without a head.
        largest_change: Option<f64>,
        /// Norm of the change of the logits at 64 tokens, spread over all, over their norm; without a head, of the stream at the last site.
        relative_change: Option<f64>,
    }
}
