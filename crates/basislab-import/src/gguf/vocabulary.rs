use crate::gguf::header::{Header, Value};
use crate::tokenizer::{ByteLevel, Piece, PieceKind, Scores, Tokenizer};
use std::path::Path;

/// Kinds of tokens, `tokenizer.ggml.token_type`.
const NORMAL: i32 = 1;
const USER_DEFINED: i32 = 4;
const BYTE: i32 = 6;

/// What stands for a blank in the tokens of SentencePiece.
const BLANK: &str = "\u{2581}";

/// The tokenizer of a file that has one.
pub(super) fn tokenizer(path: &Path, header: &Header) -> Result<Option<Tokenizer>, String> {
    let Some(model) = header.optional("tokenizer.ggml.model", Value::text)? else { return Ok(None) };
    let tokens = header.required("tokenizer.ggml.tokens", Value::texts)?;
    let types = header.required("tokenizer.ggml.token_type", Value::integers)?;
    if types.len() != tokens.len() {
        return Err(format!("has {} tokens and {} types of tokens", tokens.len(), types.len()));
    }
    let flag = |name: &str| header.optional(&format!("tokenizer.ggml.{name}"), Value::bool);
    let special = |flag: Option<bool>, default: bool, key: &str| {
        if !flag.unwrap_or(default) {
            return Ok(Vec::new());
        }
        let id = header.required(key, Value::size)?;
        match u32::try_from(id) {
            Ok(token) if id < tokens.len() => Ok(vec![token]),
            _ => Err(format!("{key:?} is {id}; there are {} tokens", tokens.len())),
        }
    };
    let eos = special(flag("add_eos_token")?, false, "tokenizer.ggml.eos_token_id")?;
    match model {
        "llama" => {
            let bos = special(flag("add_bos_token")?, true, "tokenizer.ggml.bos_token_id")?;
            if flag("remove_extra_whitespaces")? == Some(true) {
                return Err("has a tokenizer that removes white space; that is not supported".to_owned());
            }
            let pieces = pieces(header, tokens, types)?;
            let scores = Scores::new(pieces, BLANK, flag("add_space_prefix")?.unwrap_or(true))?;
            Ok(Some(Tokenizer::from_scores(path, scores, bos, eos)))
        }
        "gpt2" => {
            if flag("add_space_prefix")? == Some(true) {
                return Err(
                    "has a byte-level tokenizer that puts a blank before texts; that is not supported".to_owned()
                );
            }
            let user_defined = (0..).zip(types).filter(|(_, kind)| **kind == USER_DEFINED).map(|(id, _)| id);
            let parts = ByteLevel {
                tokens,
                merges: header.required("tokenizer.ggml.merges", Value::texts)?,
                user_defined: user_defined.collect(),
                pre: header.required("tokenizer.ggml.pre", Value::text)?,
            };
            let bos = special(flag("add_bos_token")?, parts.adds_bos(), "tokenizer.ggml.bos_token_id")?;
            Tokenizer::from_byte_level(path, &parts, bos, eos).map(Some)
        }
        _ => Err(format!("has a tokenizer of kind {model:?}; expected llama or gpt2: name the model's tokenizer.json")),
    }
}

fn pieces(header: &Header, tokens: &[String], types: &[i32]) -> Result<Vec<Piece>, String> {
    let scores = header.required("tokenizer.ggml.scores", Value::floats)?;
    if scores.len() != tokens.len() {
        return Err(format!("has {} tokens and {} scores", tokens.len(), scores.len()));
    }
    let piece = |((text, kind), score): ((&String, &i32), &f32)| {
        let kind = match *kind {
            NORMAL => PieceKind::Normal,
            USER_DEFINED => PieceKind::UserDefined,
            BYTE => {
                let byte = crate::tokenizer::byte_token(text);
                PieceKind::Byte(byte.ok_or_else(|| format!("has the byte token {text:?}; expected e.g. \"<0x0A>\""))?)
            }
            _ => PieceKind::Control,
        };
        Ok(Piece { text: text.clone(), score: *score, kind })
    };
    tokens.iter().zip(types).zip(scores).map(piece).collect()
}
