use crate::keys::{Kind, MAX_SEED, Variant, choice, table};
use serde::{Deserialize, Serialize};

/// Where tokens come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum CorpusSpec {
    /// The built-in synthetic language.
    Language(LanguageSpec),
    /// A text file.
    Text(TextSpec),
}

impl CorpusSpec {
    pub(crate) const KIND: Kind = Kind::Tagged(&[
        Variant { name: "language", about: "The built-in synthetic language.", keys: LanguageSpec::KEYS },
        Variant { name: "text", about: "A text file.", keys: TextSpec::KEYS },
    ]);

    /// Size of the vocabulary the model must have.
    pub fn d_vocab(&self) -> usize {
        match self {
            Self::Language(language) => language.d_vocab,
            Self::Text(text) => text.d_vocab,
        }
    }
}

table! {
    /// The synthetic language: a hidden Markov model over classes, plus optional structure.
    pub struct LanguageSpec {
        /// Fixes the language itself (class graph, emissions, bigrams); run seeds only draw from it.
        seed: u64 = Kind::Integer(0, MAX_SEED), preset "0";
        /// Vocabulary size, including the BOS token (id 0) when there is one.
        d_vocab: usize = Kind::Integer(2, 1 << 20), preset "512";
        /// Exponent `a` of the emission law inside a class: `p(rank r) ~ (r + 1)^-a`; 0 is uniform.
        zipf_exponent: f64 = Kind::Float(0.0, 10.0), preset "1.0";
        /// Latent classes; 1 gives independent draws.
        classes: usize = Kind::Integer(1, 65_536), preset "16";
        /// Distinct classes that can follow a class (besides itself when `stay` > 0).
        successors: usize = Kind::Integer(1, 65_536), preset "3";
        /// Probability of staying in the class at each token.
        stay: f64 = Kind::FloatBelow(0.0, 1.0), preset "0.0";
        /// Share of each class's vocabulary taken from one pool common to all classes; 0 makes the class visible.
        overlap: f64 = Kind::FloatBelow(0.0, 1.0), preset "0.0";
        /// Probability that a token is drawn from the previous token's own successor list instead of the class.
        bigram: f64 = Kind::FloatBelow(0.0, 1.0), preset "0.0";
        /// Length of each token's successor list.
        bigram_fan: usize = Kind::Integer(1, 65_536), preset "4";
        /// Probability that a copy of an earlier span of the document starts at a token.
        copy: f64 = Kind::FloatBelow(0.0, 1.0), preset "0.0";
        /// Tokens per copied span.
        copy_length: usize = Kind::Integer(1, 65_536), preset "8";
        /// Probability that a token repeats one of the last `burst_window` tokens of the document.
        burst: f64 = Kind::FloatBelow(0.0, 1.0), preset "0.0";
        /// How far back bursts reach.
        burst_window: usize = Kind::Integer(1, 65_536), preset "32";
        /// Whether each document starts with token 0.
        bos: bool = Kind::Bool, preset "false";
        /// Mean document length in tokens (geometric); 0 means one endless document.
        document_length: usize = Kind::Integer(0, 1 << 30), preset "0";
    }
}

table! {
    /// A text file as corpus.
    pub struct TextSpec {
        /// The file, or `builtin:shakespeare-tragedies` for the text that comes with the program.
        path: String = Kind::Text(4096);
        /// Bytes, or a byte-level BPE trained on the training split.
        tokenizer: TokenizerKind = TokenizerKind::KIND, preset "\"bpe\"";
        /// Vocabulary size; 256 for bytes.
        d_vocab: usize = Kind::Integer(256, 65_536), preset "512";
        /// Share of the file, taken from its end, that is held out.
        held_out: f64 = Kind::Float(0.001, 0.5), preset "0.1";
    }
}

choice! {
    /// How text becomes tokens.
    pub enum TokenizerKind {
        /// Token = byte; accepts any file.
        Bytes = "bytes",
        /// Byte-level BPE; needs UTF-8.
        Bpe = "bpe",
    }
}
