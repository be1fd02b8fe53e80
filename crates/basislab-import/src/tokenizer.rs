mod byte_level;
mod hugging_face;
mod llama2c;
mod scores;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
mod tests;

use crate::error::ImportError;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub(crate) use byte_level::ByteLevel;
pub(crate) use scores::{Piece, PieceKind, Scores};

/// How a model cuts text into tokens.
#[derive(Debug)]
pub struct Tokenizer {
    /// Special tokens that the model expects before every sequence (`<s>`, `[CLS]`).
    pub before: Vec<u32>,
    /// Special tokens after every sequence (`[SEP]`).
    pub after: Vec<u32>,
    /// The bytes of each token.
    spellings: BTreeMap<u32, Vec<u8>>,
    model: Model,
    path: PathBuf,
}

#[derive(Debug)]
enum Model {
    Scores(Scores),
    HuggingFace(Box<tokenizers::Tokenizer>),
}

impl Tokenizer {
    /// From a `tokenizer.json` of Hugging Face. Truncation and padding are switched off.
    ///
    /// # Errors
    /// A file that cannot be read, or that is no tokenizer.
    pub(crate) fn from_hugging_face(path: &Path) -> Result<Self, ImportError> {
        hugging_face::read(path).map_err(|what| ImportError::new(path, what))
    }

    /// From a `tokenizer.bin` of llama2.c with `d_vocab` tokens.
    ///
    /// # Errors
    /// A file that cannot be read, or that has another size.
    pub(crate) fn from_llama2c(path: &Path, d_vocab: usize) -> Result<Self, ImportError> {
        llama2c::read(path, d_vocab).map_err(|what| ImportError::new(path, what))
    }

    /// BPE by scores, as SentencePiece does it.
    pub(crate) fn from_scores(path: &Path, scores: Scores, before: Vec<u32>, after: Vec<u32>) -> Self {
        let spellings = scores.spellings();
        Self { before, after, spellings, model: Model::Scores(scores), path: path.to_owned() }
    }

    /// BPE of bytes by merges, as GPT-2 does it.
    ///
    /// # Errors
    /// A pre-tokenizer that is not known, or merges that do not fit the tokens.
    pub(crate) fn from_byte_level(
        path: &Path,
        parts: &ByteLevel<'_>,
        before: Vec<u32>,
        after: Vec<u32>,
    ) -> Result<Self, String> {
        let spellings = parts.spellings();
        let model = Model::HuggingFace(Box::new(parts.build()?));
        Ok(Self { before, after, spellings, model, path: path.to_owned() })
    }

    /// The tokens of a text, without [`Tokenizer::before`] and [`Tokenizer::after`]; special tokens spelt out in the text
    /// are text. What has no token, not even by its bytes, is dropped where the model's own tokenizer drops it: byte-level
    /// ones without a token for some byte (SmolLM2 and U+0004).
    ///
    /// # Errors
    /// What the tokenizer cannot do.
    pub fn encode(&self, text: &str) -> Result<Vec<u32>, ImportError> {
        let tokens = match &self.model {
            Model::Scores(scores) => scores.encode(text),
            Model::HuggingFace(tokenizer) => hugging_face::encode(tokenizer, text),
        };
        tokens.map_err(|what| ImportError::new(&self.path, what))
    }

    /// How a token is spelt; bytes that are no text by themselves as `\xNN`.
    pub fn spelling(&self, token: u32) -> String {
        let Some(bytes) = self.spellings.get(&token) else { return format!("token {token}") };
        let mut text = String::new();
        for chunk in bytes.utf8_chunks() {
            text.push_str(chunk.valid());
            for byte in chunk.invalid() {
                text.push_str(&format!("\\x{byte:02X}"));
            }
        }
        text
    }

    /// How many bytes of text a token stands for.
    pub fn bytes(&self, token: u32) -> usize {
        self.spellings.get(&token).map_or(0, Vec::len)
    }

    /// One more than its largest token.
    pub fn d_vocab(&self) -> usize {
        self.spellings.last_key_value().map_or(0, |(last, _)| *last as usize + 1)
    }
}

/// The byte that a token such as `<0x0A>` stands for.
pub(crate) fn byte_token(text: &str) -> Option<u8> {
    let digits = text.strip_prefix("<0x")?.strip_suffix('>')?;
    if digits.len() == 2 { u8::from_str_radix(digits, 16).ok() } else { None }
}
