use crate::tokenizer::{Piece, PieceKind, Scores, Tokenizer, byte_token};
use std::path::Path;

/// `<unk>`, `<s>`, `</s>`: the export of llama2.c keeps their places.
const SPECIAL: usize = 3;
const BOS: u32 = 1;

/// Bytes of the longest spelling that a vocabulary may have.
const LONGEST: u64 = 1 << 16;

/// The longest piece as u32; then per token its score as f32, its length as i32, its bytes.
pub(super) fn read(path: &Path, d_vocab: usize) -> Result<Tokenizer, String> {
    let failed = |error: std::io::Error| format!("cannot be read: {error}");
    let size = std::fs::metadata(path).map_err(failed)?.len();
    let most = (d_vocab as u64).saturating_mul(LONGEST);
    if size > most {
        return Err(format!("has {size} bytes; expected at most {most} for {d_vocab} tokens: is it tokenizer.bin?"));
    }
    let pieces = parse(&std::fs::read(path).map_err(failed)?, d_vocab)?;
    Ok(Tokenizer::from_scores(path, Scores::new(pieces, " ", true)?, vec![BOS], Vec::new()))
}

pub(super) fn parse(bytes: &[u8], d_vocab: usize) -> Result<Vec<Piece>, String> {
    let cut =
        |id: usize| format!("ends within token {id}; expected {d_vocab} tokens: is it this model's tokenizer.bin?");
    let (_, mut rest) = bytes.split_first_chunk::<4>().ok_or_else(|| cut(0))?;
    let mut pieces = Vec::new();
    for id in 0..d_vocab {
        let (score, after) = rest.split_first_chunk().ok_or_else(|| cut(id))?;
        let (length, after) = after.split_first_chunk().ok_or_else(|| cut(id))?;
        let length = i32::from_le_bytes(*length);
        let length = usize::try_from(length).map_err(|_| format!("token {id} has length {length}"))?;
        let (text, after) = after.split_at_checked(length).ok_or_else(|| cut(id))?;
        let text = std::str::from_utf8(text).map_err(|_| format!("token {id} is not UTF-8"))?.to_owned();
        let kind = match byte_token(&text) {
            _ if id < SPECIAL => PieceKind::Control,
            Some(byte) => PieceKind::Byte(byte),
            None => PieceKind::Normal,
        };
        pieces.push(Piece { text, score: f32::from_le_bytes(*score), kind });
        rest = after;
    }
    if !rest.is_empty() {
        return Err(format!(
            "has {} bytes after token {}; expected {d_vocab} tokens",
            rest.len(),
            d_vocab.saturating_sub(1)
        ));
    }
    Ok(pieces)
}
