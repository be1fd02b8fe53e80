//! Corpora.
//!
//! A corpus is either the synthetic language, a hidden Markov model whose entropy floor is computable, or a text file.
//! Both hand out windows of tokens that depend on the run's seed, the update and the position in the batch only, so that
//! every arm of an experiment sees the same tokens however a batch is split.

mod bpe;
mod builtin;
mod corpus;
mod describe;
mod error;
mod floor;
mod language;
mod memory;
mod text;
mod weighted;

pub use builtin::{BUILTIN_PREFIX, BUILTIN_TEXTS, BuiltinText};
pub use corpus::{BATCH_STREAMS, Corpus};
pub use describe::{BURST_REACH, Description, LEAST_COUNT, describe};
pub use error::CorpusError;
pub use language::Language;
pub use memory::memory;
pub use text::Text;
