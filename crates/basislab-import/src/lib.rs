//! Reads models that other people trained: safetensors directories of Hugging Face, GGUF, and llama2.c.
//!
//! A file is hostile input: nothing is allocated that its size does not allow, nothing is guessed, and every error is one
//! line. Weights stay on disk until [`Source::read`] asks for one; files are read by position, so that a file that is cut
//! while it is read gives an error where a memory map would end the program.

mod description;
mod error;
mod gguf;
mod hugging_face;
mod llama2c;
mod rows;
mod safetensors;
mod source;
mod tokenizer;

pub use error::ImportError;
pub use hugging_face::{HuggingFaceFiles, as_hugging_face};
pub use source::{Source, SourceFile, open};
pub use tokenizer::Tokenizer;
