//! How much memory opening a corpus takes.

use crate::builtin::builtin;
use crate::language::check_entries;
use basislab_config::{CorpusSpec, TokenizerKind};
use std::fs::{File, Metadata};
use std::hash::{DefaultHasher, Hasher};
use std::io::{BufRead, BufReader};

/// Bytes that [`Corpus::open`](crate::Corpus::open) takes at its peak: within a factor of two, as measured. 0 for what
/// cannot be opened: opening it returns the error.
pub fn memory(spec: &CorpusSpec) -> f64 {
    match spec {
        // Each class keeps name, share and cumulative share of every token that it can emit, and each token its classes.
        CorpusSpec::Language(language) if check_entries(language).is_err() => 0.0,
        CorpusSpec::Language(language) => {
            let [vocab, classes, successors, fan] =
                [language.d_vocab, language.classes, language.successors, language.bigram_fan].map(|n| n as f64);
            let words = vocab * (1.0 - language.overlap) + vocab * language.overlap * classes;
            let bigrams = if language.bigram > 0.0 { vocab * fan } else { 0.0 };
            64.0 * (words + vocab + classes * successors) + 4.0 * bigrams
        }
        CorpusSpec::Text(text) => {
            if let Some(found) = builtin(&text.path) {
                return found.map_or(0.0, |found| of_text(text.tokenizer, found.bytes.len() as f64, found.bytes));
            }
            // Before it is opened: opening a pipe waits for its other end, and a device may have none.
            let Some(info) = std::fs::metadata(&text.path).ok().filter(Metadata::is_file) else { return 0.0 };
            let Ok(file) = File::open(&text.path) else { return 0.0 };
            let bytes = info.len() as f64;
            of_text(text.tokenizer, bytes, BufReader::new(file))
        }
    }
}

fn of_text(tokenizer: TokenizerKind, bytes: f64, text: impl BufRead) -> f64 {
    match tokenizer {
        TokenizerKind::Bytes => 4.5 * bytes,
        // The trainer keeps every distinct word with its symbols and pairs.
        TokenizerKind::Bpe => 6.5 * bytes + 480.0 * distinct_words(text),
    }
}

/// Bits of the table below.
const BITS: usize = 1 << 23;

/// Estimates how many distinct words a text has, by linear counting (Whang et al. 1990) in one megabyte: runs of letters,
/// digits and bytes beyond ASCII, cut at 64 bytes as the tokenizer's pieces are at 64 characters.
fn distinct_words(mut text: impl BufRead) -> f64 {
    let mut seen = vec![0_u64; BITS / 64];
    let (mut word, mut length) = (DefaultHasher::new(), 0);
    let mut count = |word: &mut DefaultHasher, length: &mut usize| {
        if *length > 0 {
            let at = word.finish() as usize % BITS;
            seen[at / 64] |= 1 << (at % 64);
            (*word, *length) = (DefaultHasher::new(), 0);
        }
    };
    while let Ok(part) = text.fill_buf()
        && !part.is_empty()
    {
        for &byte in part {
            if byte.is_ascii_alphanumeric() || !byte.is_ascii() {
                word.write_u8(byte);
                length += 1;
            }
            if length == 64 || (byte.is_ascii() && !byte.is_ascii_alphanumeric()) {
                count(&mut word, &mut length);
            }
        }
        let read = part.len();
        text.consume(read);
    }
    count(&mut word, &mut length);
    let free = seen.iter().map(|bits| u64::from(bits.count_zeros())).sum::<u64>().max(1);
    BITS as f64 * (BITS as f64 / free as f64).ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinct_words_are_counted_whatever_their_number() {
        assert_eq!(distinct_words(&b""[..]), 0.0);
        for distinct in [1, 40, 3000, 400_000] {
            let text: String = (0..2 * distinct).map(|i| format!("w{} ", i % distinct)).collect();
            let found = distinct_words(text.as_bytes());
            assert!((found / f64::from(distinct) - 1.0).abs() < 0.02, "{found} of {distinct}");
        }
        // A word of any length is cut like a piece.
        assert!((distinct_words(&[b'a'; 6400][..]) - 1.0).abs() < 0.01);
    }
}
