use crate::tokenizer::byte_level::{bytes_of_letters, spelling};
use crate::tokenizer::{Model, Tokenizer, byte_token};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;

/// Bytes of white space in a row, above which the regular expressions of pre-tokenizers may give up without an error.
const LONGEST_BLANK: usize = 100_000;

pub(super) fn read(path: &Path) -> Result<Tokenizer, String> {
    parse(&std::fs::read(path).map_err(|error| format!("cannot be read: {error}"))?, path)
}

pub(super) fn parse(bytes: &[u8], path: &Path) -> Result<Tokenizer, String> {
    let invalid = |error: &dyn std::fmt::Display| format!("is no tokenizer.json of Hugging Face: {error}");
    let file: Value = serde_json::from_slice(bytes).map_err(|error| invalid(&error))?;
    check_merges(&file["model"])?;
    check_templates(&file["post_processor"])?;
    let mut tokenizer = tokenizers::Tokenizer::from_bytes(bytes).map_err(|error| invalid(&error))?;
    tokenizer.with_truncation(None).map_err(|error| invalid(&error))?;
    tokenizer.with_padding(None);
    tokenizer.set_encode_special_tokens(true);
    let (before, after) = special_tokens(&tokenizer)?;
    let spellings = spellings(&tokenizer);
    Ok(Tokenizer { before, after, spellings, model: Model::HuggingFace(Box::new(tokenizer)), path: path.to_owned() })
}

pub(super) fn encode(tokenizer: &tokenizers::Tokenizer, text: &str) -> Result<Vec<u32>, String> {
    let blanks = text.split(|letter: char| !letter.is_whitespace());
    if blanks.map(str::len).max() > Some(LONGEST_BLANK) {
        return Err(format!("cannot encode more than {LONGEST_BLANK} bytes of white space in a row; shorten them"));
    }
    let encoding = tokenizer.encode_fast(text, false).map_err(|error| format!("cannot encode the text: {error}"))?;
    Ok(encoding.get_ids().to_vec())
}

/// `tokenizers` panics on merges whose text is longer than any token, and on a prefix of continuing subwords that a merge
/// has not.
fn check_merges(model: &Value) -> Result<(), String> {
    let (Some(tokens), Some(merges)) = (model["vocab"].as_object(), model["merges"].as_array()) else { return Ok(()) };
    if model["continuing_subword_prefix"].as_str().is_some_and(|prefix| !prefix.is_empty()) {
        return Err("has merges with continuing_subword_prefix, which is not read".to_owned());
    }
    for merge in merges {
        let pair = match merge {
            Value::String(text) => text.split_once(' '),
            Value::Array(pair) => match &pair[..] {
                [Value::String(first), Value::String(second)] => Some((first.as_str(), second.as_str())),
                _ => None,
            },
            _ => None,
        };
        if pair.is_none_or(|(first, second)| !tokens.contains_key(&format!("{first}{second}"))) {
            return Err(format!("has the merge {merge}; expected two tokens whose text together is one"));
        }
    }
    Ok(())
}

/// `tokenizers` panics on a template with a special token that it does not define, or with a second text.
fn check_templates(processor: &Value) -> Result<(), String> {
    processor["processors"].as_array().into_iter().flatten().try_for_each(check_templates)?;
    for piece in processor["single"].as_array().into_iter().flatten() {
        let is_text = piece["Sequence"]["id"] == "A";
        let special = piece["SpecialToken"]["id"].as_str();
        if !is_text && special.is_none_or(|id| processor["special_tokens"].get(id).is_none()) {
            return Err(format!("has {piece} in its template; expected sequence A or one of its special tokens"));
        }
    }
    Ok(())
}

/// What the post-processor puts before and after a text.
fn special_tokens(tokenizer: &tokenizers::Tokenizer) -> Result<(Vec<u32>, Vec<u32>), String> {
    let failed = |error: tokenizers::Error| format!("cannot encode \"a\": {error}");
    let bare = tokenizer.encode("a", false).map_err(failed)?;
    let full = tokenizer.encode("a", true).map_err(failed)?;
    if bare.get_ids().is_empty() {
        return Err("has no token for \"a\", around which its special tokens would show".to_owned());
    }
    let (ids, mask) = (full.get_ids(), full.get_special_tokens_mask());
    let before = mask.iter().take_while(|special| **special == 1).count();
    let end = ids.len() - mask[before..].iter().rev().take_while(|special| **special == 1).count();
    if ids[before..end] != *bare.get_ids() {
        return Err("changes a text's tokens where it adds special ones; expected them before and after it".to_owned());
    }
    Ok((ids[..before].to_vec(), ids[end..].to_vec()))
}

fn spellings(tokenizer: &tokenizers::Tokenizer) -> BTreeMap<u32, Vec<u8>> {
    let decoder = tokenizer.get_decoder().and_then(|decoder| serde_json::to_string(decoder).ok()).unwrap_or_default();
    let has = |kind: &str| decoder.contains(&format!("\"{kind}\""));
    let (is_byte_level, has_bytes, has_blanks) = (has("ByteLevel"), has("ByteFallback"), decoder.contains('▁'));
    let letters = bytes_of_letters();
    let bytes = |token: &str| match byte_token(token) {
        Some(byte) if has_bytes => vec![byte],
        _ if is_byte_level => spelling(&letters, token),
        _ if has_blanks => token.replace('▁', " ").into_bytes(),
        _ => token.as_bytes().to_vec(),
    };
    tokenizer.get_vocab(true).iter().map(|(token, id)| (*id, bytes(token))).collect()
}
