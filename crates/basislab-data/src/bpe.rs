use std::collections::BTreeMap;
use std::sync::LazyLock;

use tokenizers::decoders::byte_level::ByteLevel as ByteLevelDecoder;
use tokenizers::models::bpe::{BPE, BpeTrainer};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::utils::SysRegex;
use tokenizers::{Model, SplitDelimiterBehavior, Tokenizer, Trainer};

/// GPT-2's split into contractions, words, numbers, signs and space, with every run cut at 64 characters: without a bound
/// a long run of spaces overflows the matcher, and a file that is one long word takes quadratic time.
const PIECE: &str = concat!(
    r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}{1,64}| ?\p{N}{1,64}| ?[^\s\p{L}\p{N}]{1,64}",
    r"|\s{1,64}(?!\S)|\s{1,64}"
);

/// A pair must occur this often to be merged.
const LEAST_PAIRS: u64 = 2;

/// Pieces handed to the trainer at a time.
const PIECES: usize = 1 << 14;

/// A byte-level BPE with its vocabulary spelt out.
#[derive(Debug, Clone)]
pub(crate) struct Bpe {
    /// The bytes of each token.
    pub(crate) spelling: Vec<Vec<u8>>,
    /// Hugging Face's file format.
    pub(crate) json: String,
}

type Fallible<T> = Result<T, tokenizers::Error>;

/// Trains on `train` towards `d_vocab` entries, the 256 bytes included, and encodes both splits. Fewer entries come out of
/// a text that is too small; `spelling` tells how many.
pub(crate) fn train_and_encode(train: &str, held_out: &str, d_vocab: usize) -> Fallible<(Bpe, Vec<u16>, Vec<u16>)> {
    // Compiling it takes longer than reading a small text.
    static REGEX: LazyLock<SysRegex> = LazyLock::new(|| SysRegex::new(PIECE).expect("a fixed pattern"));
    let regex = &*REGEX;
    let letters = letters();
    let model = train_model(regex, &letters, train, d_vocab)?;
    let bytes: BTreeMap<char, u8> = (0..=u8::MAX).map(|byte| (letters[usize::from(byte)], byte)).collect();
    let mut spelling = vec![Vec::new(); model.get_vocab_size()];
    for (token, id) in model.get_vocab() {
        spelling[id as usize] = token.chars().filter_map(|letter| bytes.get(&letter).copied()).collect();
    }
    let train = encode(regex, &letters, &model, train)?;
    let held_out = encode(regex, &letters, &model, held_out)?;
    Ok((Bpe { spelling, json: to_json(model)? }, train, held_out))
}

fn train_model(regex: &SysRegex, letters: &[char; 256], text: &str, d_vocab: usize) -> Fallible<BPE> {
    let mut trainer = BpeTrainer::builder()
        .vocab_size(d_vocab)
        .min_frequency(LEAST_PAIRS)
        .show_progress(false)
        .initial_alphabet(letters.iter().copied().collect())
        .build();
    let mut pieces = pieces(regex, text).peekable();
    // No letter is a blank, so blanks can separate spelt pieces in what the trainer is given.
    let lines = std::iter::from_fn(move || {
        pieces.peek()?;
        let spelt: Vec<String> = pieces.by_ref().take(PIECES).map(|piece| spell(piece, letters)).collect();
        Some(spelt.join(" "))
    });
    trainer.feed(lines, |line| Ok(line.split(' ').map(str::to_owned).collect()))?;
    let mut model = BPE::default();
    trainer.train(&mut model)?;
    Ok(model)
}

/// Each distinct piece is encoded once: cost grows with distinct pieces, not with length, and tokens do not depend on where
/// the text is cut.
fn encode(regex: &SysRegex, letters: &[char; 256], model: &BPE, text: &str) -> Fallible<Vec<u16>> {
    let mut known: BTreeMap<&str, Vec<u16>> = BTreeMap::new();
    let mut tokens = Vec::with_capacity(text.len() / 2);
    for piece in pieces(regex, text) {
        if !known.contains_key(piece) {
            let ids = model.tokenize(&spell(piece, letters))?.into_iter().map(|token| u16::try_from(token.id));
            known.insert(piece, ids.collect::<Result<_, _>>()?);
        }
        tokens.extend_from_slice(&known[piece]);
    }
    Ok(tokens)
}

/// Runs from the end of one match to the end of the next, so that no byte is lost even where nothing matches.
fn pieces<'a>(regex: &'a SysRegex, text: &'a str) -> impl Iterator<Item = &'a str> {
    let ends = regex.find_iter(text).map(|(_, stop)| stop).chain([text.len()]);
    let cut = ends.scan(0, |start, stop| Some(&text[std::mem::replace(start, stop)..stop]));
    cut.filter(|piece| !piece.is_empty())
}

fn spell(piece: &str, letters: &[char; 256]) -> String {
    piece.bytes().map(|byte| letters[usize::from(byte)]).collect()
}

/// GPT-2's letter for each byte: itself where it is visible Latin-1, else the next free character from U+0100 on.
fn letters() -> [char; 256] {
    let visible = |byte: u8| matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    let mut free = '\u{100}'..;
    std::array::from_fn(|index| {
        let byte = index as u8;
        if visible(byte) { char::from(byte) } else { free.next().unwrap_or(char::REPLACEMENT_CHARACTER) }
    })
}

fn to_json(model: BPE) -> Fallible<String> {
    let split = Split::new(SplitPattern::Regex(PIECE.to_owned()), SplitDelimiterBehavior::Isolated, false)?;
    let bytes = ByteLevel::new(false, false, false);
    let steps = Sequence::new(vec![PreTokenizerWrapper::Split(split), PreTokenizerWrapper::ByteLevel(bytes)]);
    let mut tokenizer = Tokenizer::new(model);
    tokenizer.with_pre_tokenizer(Some(steps)).with_decoder(Some(ByteLevelDecoder::new(false, false, false)));
    tokenizer.to_string(true)
}
