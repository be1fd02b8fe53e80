use std::collections::BTreeMap;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel as Bytes;
use tokenizers::pre_tokenizers::digits::Digits;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{AddedToken, SplitDelimiterBehavior, Tokenizer};

/// How text is cut into words, by the name in GGUF.
const PRE_TOKENIZERS: [(&str, Words); 7] = [
    ("gpt-2", Words::Gpt2),
    ("smollm", Words::Gpt2SingleDigits),
    ("llama-bpe", Words::Llama3),
    ("llama3", Words::Llama3),
    ("llama-v3", Words::Llama3),
    ("qwen2", Words::Qwen2),
    ("deepseek-r1-qwen", Words::Qwen2),
];

/// How text is cut into words, none of which is merged with another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Words {
    /// The pattern of GPT-2.
    Gpt2,
    /// Each digit apart, then the pattern of GPT-2.
    Gpt2SingleDigits,
    /// Up to three digits together; words that are tokens are left whole.
    Llama3,
    /// Each digit apart, otherwise as Llama 3. llama.cpp does not normalise to NFC, which the original does.
    Qwen2,
}

/// A vocabulary of byte-level BPE.
#[derive(Debug)]
pub(crate) struct ByteLevel<'a> {
    /// Spelt in GPT-2's letters for bytes.
    pub(crate) tokens: &'a [String],
    /// Two tokens each, apart by a blank; the first one is merged first.
    pub(crate) merges: &'a [String],
    /// Which tokens are cut out of the text before words are.
    pub(crate) user_defined: Vec<u32>,
    /// The name of the pre-tokenizer in GGUF.
    pub(crate) pre: &'a str,
}

impl ByteLevel<'_> {
    /// Whether a sequence starts with a special token where the file does not say so.
    pub(crate) fn adds_bos(&self) -> bool {
        matches!(self.words(), Ok(Words::Llama3))
    }

    fn words(&self) -> Result<Words, String> {
        let words = PRE_TOKENIZERS.iter().find(|entry| entry.0 == self.pre).map(|entry| entry.1);
        words.ok_or_else(|| {
            let known = PRE_TOKENIZERS.map(|entry| entry.0).join(", ");
            format!(
                "has pre-tokenizer {:?}; expected one of {known}: name the model's tokenizer.json instead",
                self.pre
            )
        })
    }

    pub(super) fn spellings(&self) -> BTreeMap<u32, Vec<u8>> {
        let letters = bytes_of_letters();
        (0..).zip(self.tokens.iter().map(|token| spelling(&letters, token))).collect()
    }

    pub(super) fn build(&self) -> Result<Tokenizer, String> {
        let words = self.words()?;
        let vocabulary: Vocab = self.tokens.iter().cloned().zip(0..).collect();
        if vocabulary.len() != self.tokens.len() {
            return Err(format!("has {} tokens, of which {} differ", self.tokens.len(), vocabulary.len()));
        }
        let mut merges = Vec::with_capacity(self.merges.len());
        for merge in self.merges {
            let (first, second) = merge
                .split_once(' ')
                .filter(|(first, second)| {
                    [*first, *second, &format!("{first}{second}")].iter().all(|part| vocabulary.contains_key(*part))
                })
                .ok_or_else(|| format!("has the merge {merge:?}; expected two tokens whose text together is one"))?;
            merges.push((first.to_owned(), second.to_owned()));
        }
        let failed = |error: tokenizers::Error| format!("has a tokenizer that cannot be built: {error}");
        let model = BPE::builder().vocab_and_merges(vocabulary, merges).ignore_merges(words == Words::Llama3);
        let mut tokenizer = Tokenizer::new(model.build().map_err(failed)?);
        tokenizer.with_pre_tokenizer(Some(pre_tokenizer(words).map_err(failed)?));
        let added = self.user_defined.iter().filter_map(|id| self.tokens.get(*id as usize));
        let added = added.map(|text| AddedToken::from(text.clone(), false).normalized(false));
        tokenizer.add_tokens(added.collect::<Vec<_>>()).map_err(failed)?;
        Ok(tokenizer)
    }
}

fn pre_tokenizer(words: Words) -> Result<Sequence, tokenizers::Error> {
    let split = |digits: &str| {
        let pattern = [
            r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|",
            digits,
            r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+",
        ];
        let pattern = SplitPattern::Regex(pattern.concat());
        Split::new(pattern, SplitDelimiterBehavior::Isolated, false).map(PreTokenizerWrapper::Split)
    };
    let bytes = |splits: bool| PreTokenizerWrapper::ByteLevel(Bytes::new(false, false, splits));
    Ok(Sequence::new(match words {
        Words::Gpt2 => vec![bytes(true)],
        Words::Gpt2SingleDigits => vec![PreTokenizerWrapper::Digits(Digits::new(true)), bytes(true)],
        Words::Llama3 => vec![split(r"\p{N}{1,3}")?, bytes(false)],
        Words::Qwen2 => vec![split(r"\p{N}")?, bytes(false)],
    }))
}

/// The byte of each of GPT-2's letters: itself where it is visible Latin-1, else the next character from U+0100 on.
pub(super) fn bytes_of_letters() -> BTreeMap<char, u8> {
    let mut free = '\u{100}'..;
    let letter = |byte: u8| match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => Some(char::from(byte)),
        _ => free.next(),
    };
    let letters: Vec<Option<char>> = (0..=u8::MAX).map(letter).collect();
    letters.into_iter().zip(0..=u8::MAX).filter_map(|(letter, byte)| Some((letter?, byte))).collect()
}

/// The bytes that a token spelt in letters stands for; a special token that has other characters stands for itself.
pub(super) fn spelling(letters: &BTreeMap<char, u8>, token: &str) -> Vec<u8> {
    let bytes: Option<Vec<u8>> = token.chars().map(|letter| letters.get(&letter).copied()).collect();
    bytes.unwrap_or_else(|| token.as_bytes().to_vec())
}
