mod hugging_face;
mod models;
mod reference;
mod scores;

use crate::tokenizer::Tokenizer;

/// The tokens of a text by their spellings.
fn spelt(tokenizer: &Tokenizer, text: &str) -> Vec<String> {
    tokenizer.encode(text).unwrap().into_iter().map(|token| tokenizer.spelling(token)).collect()
}
