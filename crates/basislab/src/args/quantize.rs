use super::{DeviceArgs, FigureArgs, count, folder};
use basislab_config::MAX_SEED;
use clap::Args;
use std::path::PathBuf;

pub(super) const QUANTIZE_EXAMPLES: &str = "\
One forward pass for each way of rounding, compared with the model as it is:
  weights      every matrix of the blocks (not embeddings, head, norms, biases);
               int8 and int4, a scale per tensor, channel, group of 128 and 32
  activations  the input of every matrix of the blocks; int8 and int4, a scale
               per tensor, channel (dimension) and token
  rotated      both again with the stream rotated by Hadamard blocks, folded
               into the weights; not where LayerNorm or post-norm forbid it
  special      activations with the dimensions that stand out at most ends of
               blocks ablated, and kept in 16 bits
Numbers are rounded to the nearest level and computed back (no integer kernels).
A scale is the largest magnitude over the largest level, of the tokens that go
through a block together: up to 2048. Weights of a GGUF file that are stored as
integers are not rounded again. Several models make one table.

Examples:
  basislab quantize model-directory --text book.txt
  basislab quantize smollm2.gguf --text builtin:shakespeare-tragedies
  basislab quantize stories.bin --tokenizer tok512.bin --text story.txt
  basislab quantize runs/my-run-1a2b3c4d/parts/{adam,sgd}/2000";

#[derive(Debug, Args)]
pub(crate) struct QuantizeArgs {
    /// One or more models: a .gguf file, a directory of Hugging Face, a .bin file of llama2.c, or a run of basislab
    #[arg(required = true, value_name = "MODEL", value_parser = folder())]
    pub(crate) models: Vec<PathBuf>,
    /// The text to measure on: a file in UTF-8, or builtin:shakespeare-tragedies. Runs of basislab need none: they are
    /// measured on held-out sequences of their own corpus
    #[arg(long, value_name = "FILE")]
    pub(crate) text: Option<String>,
    /// The tokenizer, where the model comes without one: tokenizer.json or a tokenizer.bin of llama2.c
    #[arg(long, value_name = "FILE")]
    pub(crate) tokenizer: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) on: DeviceArgs,
    /// Tokens per sequence, special tokens included [default: 512, or the model's context if that is shorter]
    #[arg(long, value_name = "TOKENS", allow_hyphen_values = true, value_parser = count(2, 1 << 20))]
    pub(crate) window: Option<u64>,
    /// Tokens to measure on: as many whole sequences as fit, at least one
    #[arg(long, default_value_t = 512, allow_hyphen_values = true, value_parser = count(2, 100_000_000))]
    pub(crate) tokens: u64,
    /// Seed of the signs of the rotation, and of the random bases against which dimensions stand out
    #[arg(long, default_value_t = 0, allow_hyphen_values = true, value_parser = count(0, MAX_SEED))]
    pub(crate) seed: u64,
    /// Output directory [default: runs/quantize-NAME-HASH]
    #[arg(long, value_parser = folder())]
    pub(crate) out: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) figures: FigureArgs,
    /// Do not print progress on stderr
    #[arg(long, short)]
    pub(crate) quiet: bool,
    /// Print the answer as JSON
    #[arg(long)]
    pub(crate) json: bool,
}
