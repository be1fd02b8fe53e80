use basislab_config::CorpusSpec;
use basislab_stats::{Purpose, stream};
use sha2::{Digest, Sha256};

use crate::{CorpusError, Language, Text};

/// Streams set aside for one update; a batch has at most this many sequences.
pub const BATCH_STREAMS: u64 = 1 << 20;

/// A source of token windows.
#[derive(Debug, Clone)]
pub enum Corpus {
    /// The synthetic language.
    Language(Language),
    /// A text file.
    Text(Text),
}

impl Corpus {
    /// Builds the language, or reads the file and trains its tokenizer on the training split. `n_ctx + 1` tokens is the
    /// longest window that may be requested.
    pub fn open(spec: &CorpusSpec, n_ctx: usize) -> Result<Self, CorpusError> {
        match spec {
            CorpusSpec::Language(language) => Language::new(language).map(Self::Language),
            CorpusSpec::Text(text) => Text::open(text, n_ctx + 1).map(Self::Text),
        }
    }

    /// Size of the vocabulary.
    pub fn d_vocab(&self) -> usize {
        match self {
            Self::Language(language) => language.spec().d_vocab,
            Self::Text(text) => text.d_vocab(),
        }
    }

    /// `count` windows of `length` tokens for update `step` of run `seed`. Window `i` has its own stream, so the batch is
    /// the same for every arm and however it is split.
    ///
    /// # Panics
    /// If `count` exceeds [`BATCH_STREAMS`], or a text's training split is shorter than `length`.
    pub fn batch(&self, seed: u64, step: u64, count: usize, length: usize) -> Vec<Vec<u32>> {
        assert!(count as u64 <= BATCH_STREAMS, "a batch has at most {BATCH_STREAMS} sequences");
        let first = step * BATCH_STREAMS;
        let window = |index| {
            let mut rng = stream(seed, Purpose::Batches, index);
            match self {
                Self::Language(language) => language.window(length, &mut rng),
                Self::Text(text) => text.training_window(length, &mut rng),
            }
        };
        (first..first + count as u64).map(window).collect()
    }

    /// `count` held-out windows of `length` tokens for run `seed`; a smaller `count` gives a prefix. Windows of a text do
    /// not overlap as long as its held-out split has room for all of them.
    ///
    /// # Panics
    /// If a text's held-out split is shorter than `length`.
    pub fn held_out(&self, seed: u64, count: usize, length: usize) -> Vec<Vec<u32>> {
        match self {
            Self::Language(language) => (0..count as u64)
                .map(|index| language.window(length, &mut stream(seed, Purpose::HeldOut, index)))
                .collect(),
            Self::Text(text) => text.held_out_windows(seed, count, length),
        }
    }

    /// Nats per predicted token of the true process on exactly these windows, each filtered from its own start; `None`
    /// where there is no exact floor. See [`Language::floor`].
    pub fn floor(&self, sequences: &[Vec<u32>]) -> Option<f64> {
        match self {
            Self::Language(language) => language.floor(sequences),
            Self::Text(_) => None,
        }
    }

    /// SHA-256 in lower-case hex: of the language's parameters, or of the file.
    pub fn sha256(&self) -> &str {
        match self {
            Self::Language(language) => language.sha256(),
            Self::Text(text) => text.sha256(),
        }
    }

    /// The trained tokenizer as a Hugging Face `tokenizer.json`, if there is one.
    pub fn tokenizer_json(&self) -> Option<&str> {
        match self {
            Self::Language(_) => None,
            Self::Text(text) => text.tokenizer_json(),
        }
    }

    /// Bytes of the file; `None` for the language.
    pub fn size_bytes(&self) -> Option<u64> {
        match self {
            Self::Language(_) => None,
            Self::Text(text) => Some(text.size_bytes()),
        }
    }

    /// At most `tokens` consecutive tokens: one window of the language, or the head of the training split.
    pub fn sample(&self, tokens: usize) -> Vec<u32> {
        match self {
            Self::Language(language) => language.sample(tokens),
            Self::Text(text) => text.training_head(tokens),
        }
    }

    /// Tokens as readable text: a language's tokens are `c3.t17` (token 17 of class 3), `common.t17` and `<bos>`; a text's
    /// tokens are its own characters, control characters included, with U+FFFD for what is not UTF-8.
    pub fn decode(&self, tokens: &[u32]) -> String {
        match self {
            Self::Language(language) => language.decode(tokens),
            Self::Text(text) => text.decode(tokens),
        }
    }
}

pub(crate) fn sha256_hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
