use super::spelt;
use crate::gguf::tests::hostile::{Mutator, count};
use crate::tokenizer::{Piece, PieceKind, Scores, Tokenizer, byte_token, llama2c};
use std::path::Path;
use std::time::Instant;

fn piece(text: &str, score: f32, kind: PieceKind) -> Piece {
    Piece { text: text.to_owned(), score, kind }
}

/// Letters with low scores, and the given merged pieces; bytes from token 3 on.
fn scores(merged: &[(&str, f32)], leads_with_blank: bool) -> Scores {
    let mut pieces: Vec<Piece> = ["<unk>", "<s>", "</s>"].map(|text| piece(text, 0.0, PieceKind::Control)).to_vec();
    pieces.extend((0..=u8::MAX).map(|byte| piece(&format!("<0x{byte:02X}>"), 0.0, PieceKind::Byte(byte))));
    pieces.extend(["\u{2581}", "a", "b", "c", "<", "s", ">"].map(|text| piece(text, -1000.0, PieceKind::Normal)));
    pieces.extend(merged.iter().map(|(text, score)| piece(text, *score, PieceKind::Normal)));
    Scores::new(pieces, "\u{2581}", leads_with_blank).unwrap()
}

fn tokenizer(merged: &[(&str, f32)]) -> Tokenizer {
    Tokenizer::from_scores(Path::new("x"), scores(merged, false), vec![1], Vec::new())
}

#[test]
fn the_best_score_is_merged_first_and_of_equal_ones_the_leftmost() {
    let better = tokenizer(&[("ab", -2.0), ("bc", -1.0)]);
    assert_eq!(spelt(&better, "abc"), ["a", "bc"]);
    let worse = tokenizer(&[("ab", -1.0), ("bc", -2.0)]);
    assert_eq!(spelt(&worse, "abc"), ["ab", "c"]);
    let equal = tokenizer(&[("ab", -1.0), ("bc", -1.0)]);
    assert_eq!(spelt(&equal, "abcabc"), ["ab", "c", "ab", "c"]);
    let aa = tokenizer(&[("aa", -1.0), ("aaa", -0.5)]);
    assert_eq!(spelt(&aa, "aaaaa"), ["aaa", "aa"]);
    let nested = tokenizer(&[("ab", -3.0), ("abc", -1.0), ("cab", -2.0), ("abcab", -9.0)]);
    assert_eq!(spelt(&nested, "abcab"), ["abcab"]);
}

#[test]
fn blanks_bytes_and_special_tokens() {
    let tokenizer = tokenizer(&[("\u{2581}a", -1.0)]);
    assert_eq!(spelt(&tokenizer, " a  a"), [" a", " ", " a"]);
    assert_eq!(spelt(&tokenizer, "\n\u{e9}"), ["\n", "\\xC3", "\\xA9"]);
    assert_eq!(tokenizer.encode("<s>").unwrap(), [263, 264, 265]);
    assert_eq!(tokenizer.encode("").unwrap(), [0_u32; 0]);
    assert_eq!((tokenizer.spelling(1).as_str(), tokenizer.spelling(9999).as_str()), ("<s>", "token 9999"));
    assert_eq!(tokenizer.d_vocab(), 3 + 256 + 7 + 1);
    let leading = scores(&[("\u{2581}a", -1.0)], true);
    assert_eq!(leading.encode("a").unwrap().len(), 1);
    assert_eq!(leading.encode("").unwrap(), [0_u32; 0]);
}

#[test]
fn a_user_defined_token_in_a_text_is_refused() {
    let pieces = vec![piece("<x>", 0.0, PieceKind::UserDefined), piece("", 0.0, PieceKind::UserDefined)];
    let scores = Scores::new(pieces, " ", false).unwrap();
    let error = scores.encode("a <x>").unwrap_err();
    assert_eq!(error, "cannot encode a text with the user-defined token \"<x>\"; remove it");
    assert_eq!(scores.encode("a").unwrap_err(), "has no token for \"a\", nor one for its byte 0x61");
}

/// A model of the Python package `sentencepiece`, and its tokens: scripts/gguf_fixture.py.
#[test]
fn texts_have_the_tokens_of_sentencepiece() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scores.json");
    let fixture: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let read = |entry: &serde_json::Value| {
        let text = entry[0].as_str().unwrap();
        let kind = match entry[2].as_i64().unwrap() {
            1 => PieceKind::Normal,
            6 => PieceKind::Byte(byte_token(text).unwrap()),
            _ => PieceKind::Control,
        };
        piece(text, entry[1].as_f64().unwrap() as f32, kind)
    };
    let scores =
        Scores::new(fixture["pieces"].as_array().unwrap().iter().map(read).collect(), "\u{2581}", true).unwrap();
    let (texts, tokens) = (fixture["texts"].as_array().unwrap(), fixture["tokens"].as_array().unwrap());
    assert!(texts.len() == tokens.len() && texts.len() > 10);
    for (text, tokens) in texts.iter().zip(tokens) {
        assert_eq!(serde_json::json!(scores.encode(text.as_str().unwrap()).unwrap()), *tokens, "{text}");
    }
}

/// The definition: of all neighbours that are a token together, merge the best, until there are none.
fn slowly(scores: &Scores, text: &str) -> Vec<u32> {
    let mut parts: Vec<String> = text.replace(' ', "\u{2581}").chars().map(String::from).collect();
    let score = |parts: &[String], k: usize| {
        let token = *scores.tokens.get(&format!("{}{}", parts[k], parts[k + 1]))?;
        Some(scores.pieces[token as usize].score)
    };
    loop {
        let pairs = (0..parts.len().saturating_sub(1)).filter_map(|k| Some((score(&parts, k)?, k)));
        let best = pairs.max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
        let Some((_, k)) = best else { break };
        let second = parts.remove(k + 1);
        parts[k].push_str(&second);
    }
    parts.iter().map(|part| scores.tokens[part]).collect()
}

#[test]
fn the_heap_does_what_the_definition_says() {
    let mut mutator = Mutator::new(3);
    for round in 0..300 {
        let mut merged = Vec::new();
        for _ in 0..mutator.below(30) {
            let text: String =
                (0..2 + mutator.below(4)).map(|_| ["a", "b", "c", "\u{2581}"][mutator.below(4)]).collect();
            merged.push((text, -(mutator.below(8) as f32)));
        }
        let merged: Vec<(&str, f32)> = merged.iter().map(|(text, score)| (text.as_str(), *score)).collect();
        let scores = scores(&merged, false);
        let text: String = (0..mutator.below(60)).map(|_| ["a", "b", "c", " "][mutator.below(4)]).collect();
        assert_eq!(scores.encode(&text).unwrap(), slowly(&scores, &text), "{round}: {text:?} {merged:?}");
    }
}

#[test]
fn a_long_text_takes_seconds() {
    let scores = scores(&[("ab", -1.0), ("abab", -2.0), ("\u{2581}ab", -3.0), ("aa", -1.0), ("aaaa", -1.0)], true);
    for text in ["ab ab b".repeat(100_000), "a".repeat(700_000)] {
        let begun = Instant::now();
        assert!(scores.encode(&text).unwrap().len() < text.len());
        assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
    }
}

/// A tokenizer.bin of `<unk>`, BOS, EOS, a byte, a blank, a, b, ab.
fn file() -> Vec<u8> {
    let tokens = ["<unk>", "\n<s>\n", "\n</s>\n", "<0x0A>", " ", "a", "b", "ab"];
    let entry = |(id, text): (usize, &&str)| {
        [&(-(id as f32)).to_le_bytes()[..], &(text.len() as i32).to_le_bytes(), text.as_bytes()].concat()
    };
    [7_u32.to_le_bytes().to_vec(), tokens.iter().enumerate().flat_map(entry).collect()].concat()
}

#[test]
fn a_tokenizer_of_llama2c_is_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("tokenizer.bin");
    std::fs::write(&path, file()).unwrap();
    let tokenizer = Tokenizer::from_llama2c(&path, 8).unwrap();
    assert_eq!((&tokenizer.before[..], tokenizer.after.len(), tokenizer.d_vocab()), (&[1][..], 0, 8));
    assert_eq!(spelt(&tokenizer, "ab\nb"), [" ", "ab", "\n", "b"]);
    assert!(tokenizer.encode("x").unwrap_err().to_string().contains("tokenizer.bin\": has no token for \"x\""));
    for (count, expected) in [(7, "has 10 bytes after token 6; expected 7 tokens"), (9, "ends within token 8")] {
        let error = Tokenizer::from_llama2c(&path, count).unwrap_err();
        assert!(error.what.contains(expected), "{error}");
    }
    assert!(Tokenizer::from_llama2c(&path, 0).unwrap_err().what.contains("expected at most 0 for 0 tokens"));
}

#[test]
fn damaged_tokenizers_of_llama2c_are_refused() {
    let whole = file();
    for length in 0..whole.len() {
        assert!(llama2c::parse(&whole[..length], 8).unwrap_err().contains("ends within token"), "{length}");
    }
    let mut negative = whole.clone();
    negative[8..12].copy_from_slice(&(-1_i32).to_le_bytes());
    assert_eq!(llama2c::parse(&negative, 8).unwrap_err(), "token 0 has length -1");
    let mut binary = whole.clone();
    binary[12] = 0xFF;
    assert_eq!(llama2c::parse(&binary, 8).unwrap_err(), "token 0 is not UTF-8");
    let mut mutator = Mutator::new(4);
    for _ in 0..count() {
        let mut bytes = whole.clone();
        mutator.mutate(&mut bytes);
        if let Ok(scores) = llama2c::parse(&bytes, 8).and_then(|pieces| Scores::new(pieces, " ", true)) {
            let _ = scores.encode("ab b\na");
        }
    }
}
