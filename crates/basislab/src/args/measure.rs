use super::{DeviceArgs, FigureArgs, count, folder};
use basislab_config::MAX_SEED;
use clap::Args;
use std::path::PathBuf;

pub(super) const MEASURE_EXAMPLES: &str = "\
A model is a .gguf file, a directory of Hugging Face with config.json and
.safetensors files, a .bin file of llama2.c, or a run of basislab. Paths that
differ in a number at their end (step1000 step2000) are one series.

Sites: embed, blocks.N.resid_mid, blocks.N.resid_post, final; what the branches
write: blocks.N.attn_out, blocks.N.mlp_out; in BERT the sums that LayerNorm
reads: embed_sum, blocks.N.attn_sum, blocks.N.mlp_sum.

Examples:
  basislab measure smollm2.gguf --text book.txt
  basislab measure model-directory --text builtin:shakespeare-tragedies
  basislab measure stories.bin --tokenizer tok512.bin --text story.txt
  basislab measure runs/my-run/parts/adam/2000
  basislab measure step1000 step2000 step4000 --text book.txt
  basislab measure m.gguf --text book.txt --save blocks.3.resid_post=x.npy
  basislab measure m.gguf --text book.txt --ablate blocks.3.resid_post:5=zero
  basislab measure m.gguf --text book.txt --rotate embed=haar:0";

#[derive(Debug, Args)]
pub(crate) struct MeasureArgs {
    /// One or more models
    #[arg(required = true, value_name = "MODEL", value_parser = folder())]
    pub(crate) models: Vec<PathBuf>,
    /// The text to measure on: a file in UTF-8, or builtin:shakespeare-tragedies. Runs of basislab need none: they are
    /// measured on held-out sequences of their own corpus
    #[arg(long, value_name = "FILE")]
    pub(crate) text: Option<String>,
    /// A tokenizer instead of the model's own, or where it has none: tokenizer.json or a tokenizer.bin of llama2.c
    #[arg(long, value_name = "FILE")]
    pub(crate) tokenizer: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) on: DeviceArgs,
    /// Tokens per sequence, special tokens included [default: 512, or the model's context if that is shorter]
    #[arg(long, value_name = "TOKENS", allow_hyphen_values = true, value_parser = count(2, 1 << 20))]
    pub(crate) window: Option<u64>,
    /// Tokens to measure: as many whole sequences as fit, at least one; a run of basislab has its own sequences
    #[arg(long, default_value_t = 2048, allow_hyphen_values = true, value_parser = count(2, 100_000_000))]
    pub(crate) tokens: u64,
    /// Random bases for the null
    #[arg(long, value_name = "COUNT", default_value_t = 8, allow_hyphen_values = true, value_parser = count(0, 4096))]
    pub(crate) bases: u64,
    /// Tokens that are measured in random bases, spread evenly over all but the first of each sequence
    #[arg(long, value_name = "TOKENS", default_value_t = 512, allow_hyphen_values = true, value_parser = count(2, 1 << 30))]
    pub(crate) null_tokens: u64,
    /// Seed of the random bases
    #[arg(long, default_value_t = 0, allow_hyphen_values = true, value_parser = count(0, MAX_SEED))]
    pub(crate) seed: u64,
    /// Save the values at a site, `[tokens, width]` in float32, to a .npy or .safetensors file; `tokens=FILE` saves the token
    /// ids. Repeatable
    #[arg(long, value_name = "SITE=FILE")]
    pub(crate) save: Vec<String>,
    /// Overwrite dimensions of a site with 0 or with their mean over all tokens, e.g. `embed:5,40-47=mean`. Repeatable
    #[arg(long, value_name = "SITE:DIMS=zero|mean")]
    pub(crate) ablate: Vec<String>,
    /// Rotate the stream at a site, and all that reads and writes it from there on: `SITE=haar:SEED` or `SITE=hadamard`. The
    /// logits change only where the model itself singles out coordinates, as the gains of its norms do
    #[arg(long, value_name = "SITE=ROTATION")]
    pub(crate) rotate: Option<String>,
    /// Replace the values at a site by those of a .npy or .safetensors file, as `--save` writes them. Repeatable
    #[arg(long, value_name = "SITE=FILE")]
    pub(crate) patch: Vec<String>,
    /// Check that the stream after each branch is the stream before it plus what the branch wrote, bit for bit
    #[arg(long)]
    pub(crate) self_check: bool,
    /// Output directory [default: runs/measure-NAME-HASH]
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
