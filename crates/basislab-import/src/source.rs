use crate::error::ImportError;
use crate::tokenizer::Tokenizer;
use basislab_config::ModelSpec;
use std::path::{Path, PathBuf};

/// A model in files.
#[derive(Debug)]
pub struct Source {
    /// The file's name without its extension, or the directory's.
    pub name: String,
    /// `safetensors`, `gguf` or `llama2.c`.
    pub format: &'static str,
    /// The architecture as the files name it, e.g. `LlamaForCausalLM`.
    pub architecture: String,
    /// The forward pass.
    pub spec: ModelSpec,
    /// Entries of the vocabulary.
    pub d_vocab: usize,
    /// Whether there are weights of a language head (a tied one counts).
    pub has_head: bool,
    /// Numbers in all parameters.
    pub parameters: u64,
    /// Types of the stored tensors with their number, the most frequent one first, e.g. `("Q4_1", 210)`.
    pub types: Vec<(String, usize)>,
    /// What the files say of their licence.
    pub licence: Option<String>,
    /// The files that were read.
    pub files: Vec<SourceFile>,
    /// The tokenizer that came with the model, or that was named.
    pub tokenizer: Option<Tokenizer>,
}

/// A file of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

/// Opens a model: a directory of Hugging Face, a `.gguf` file, or a llama2.c `.bin` file; the content decides, not the name.
/// `tokenizer` replaces the tokenizer that comes with the model. Reads headers only.
///
/// # Errors
/// What is wrong with the files, in one line.
pub fn open(path: &Path, tokenizer: Option<&Path>) -> Result<Source, ImportError> {
    let _ = tokenizer;
    Err(ImportError::new(path, "not implemented"))
}

impl Source {
    /// The values of one parameter of `basislab_model::Transformer`, by its path there (`w_e`, `blocks.0.w_q`, ...),
    /// row-major `[in, out]`; a vector is `[1, n]`.
    ///
    /// # Errors
    /// A file that cannot be read, a tensor of another shape, a value that is not finite.
    pub fn read(&self, parameter: &str, shape: [usize; 2]) -> Result<Vec<f32>, ImportError> {
        let _ = shape;
        Err(ImportError::new(Path::new(parameter), "not implemented"))
    }
}
