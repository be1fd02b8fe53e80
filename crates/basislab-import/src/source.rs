#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
mod tests;

use crate::description::Description;
use crate::error::ImportError;
use crate::gguf::{self, Gguf};
use crate::hugging_face::{self, HuggingFace, PICKLE};
use crate::llama2c::{self, Llama2c};
use crate::tokenizer::Tokenizer;
use basislab_config::ModelSpec;
use basislab_store::{LFS_POINTER, is_lfs_pointer};
use std::fs::File;
use std::io::Read;
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
    weights: Weights,
}

/// A file of a model.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
}

#[derive(Debug)]
enum Weights {
    HuggingFace(HuggingFace),
    Gguf(Gguf),
    Llama2c(Llama2c),
}

/// Opens a model: a directory of Hugging Face, a `.gguf` file, or a llama2.c `.bin` file; the content decides, not the name.
/// `tokenizer` replaces the tokenizer that comes with the model: a `tokenizer.json`, or a `tokenizer.bin` of llama2.c.
/// Reads headers only.
///
/// # Errors
/// What is wrong with the files, in one line.
pub fn open(path: &Path, tokenizer: Option<&Path>) -> Result<Source, ImportError> {
    let is_folder =
        path.metadata().map_err(|error| ImportError::new(path, format!("cannot be read: {error}")))?.is_dir();
    let own = path.join("tokenizer.json");
    let named = tokenizer.or_else(|| (is_folder && own.is_file()).then_some(own.as_path()));
    let mut paths = vec![path.to_owned()];
    let mut inside = None;
    let first = if is_folder { Vec::new() } else { head(path)? };
    let (format, description, weights) = if is_folder {
        let model = hugging_face::open(path)?;
        paths = model.files().to_vec();
        ("safetensors", model.describe().clone(), Weights::HuggingFace(model))
    } else if gguf::is_gguf(&first) {
        let model = gguf::open(path)?;
        let description = model.describe()?;
        if named.is_none() {
            inside = model.tokenizer()?;
        }
        ("gguf", description, Weights::Gguf(model))
    } else if llama2c::is_llama2c(&first) {
        let model = llama2c::open(path)?;
        ("llama2.c", model.describe()?, Weights::Llama2c(model))
    } else {
        let what = "is no model that is read, expected a directory of Hugging Face with config.json, a GGUF file, or a \
                    .bin file of llama2.c in the legacy format";
        return Err(ImportError::new(path, what));
    };
    let Description { spec, d_vocab, architecture, has_head, parameters, types, licence } = description;
    let tokenizer = match named {
        Some(named) if head(named)?.starts_with(b"{") => Some(Tokenizer::from_hugging_face(named)?),
        Some(named) => Some(Tokenizer::from_llama2c(named, d_vocab)?),
        None => inside,
    };
    if let Some(tokens) = tokenizer.as_ref().map(Tokenizer::d_vocab).filter(|tokens| *tokens > d_vocab) {
        let what = format!("has {tokens} tokens, expected at most the model's {d_vocab}: name the model's tokenizer");
        return Err(ImportError::new(named.unwrap_or(path), what));
    }
    paths.extend(named.map(Path::to_owned));
    let mut files = Vec::new();
    for path in paths {
        let info = path.metadata().map_err(|error| ImportError::new(&path, format!("cannot be read: {error}")))?;
        files.push(SourceFile { bytes: info.len(), path });
    }
    // The directory `.` has a name, too.
    let whole = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = if is_folder { whole.file_name() } else { path.file_stem() };
    let name = name.map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned());
    Ok(Source {
        name,
        format,
        architecture,
        spec,
        d_vocab,
        has_head,
        parameters,
        types,
        licence,
        files,
        tokenizer,
        weights,
    })
}

/// The first bytes of a file, unless they tell that it is no model, or one that is not read.
fn head(path: &Path) -> Result<Vec<u8>, ImportError> {
    let fail = |what: String| Err(ImportError::new(path, what));
    let failed = |error| ImportError::new(path, format!("cannot be read: {error}"));
    if !path.metadata().map_err(failed)?.is_file() {
        return fail("found something that is neither a file nor a directory".to_owned());
    }
    let mut head = Vec::new();
    File::open(path).and_then(|file| file.take(512).read_to_end(&mut head)).map_err(failed)?;
    let is_zip = head.starts_with(b"PK\x03\x04");
    if is_lfs_pointer(&head) {
        return fail(format!("is {LFS_POINTER}"));
    }
    let is_pickle = matches!(head[..], [0x80, 2..=5, third, ..] if third != 0);
    if is_pickle || is_zip && head.windows(8).any(|bytes| bytes == b"data.pkl") {
        return fail(format!("is {PICKLE}"));
    }
    if is_zip {
        return fail("is a zip file, expected a model: unpack it".to_owned());
    }
    if head.get(8..).is_some_and(|rest| rest.starts_with(b"{\"")) {
        return fail("is a part of a model of Hugging Face, expected its directory, with config.json in it".to_owned());
    }
    Ok(head)
}

impl Source {
    /// The values of one parameter of `basislab_model::Transformer`, by its path there (`w_e`, `blocks.0.w_q`, ...),
    /// row-major `[in, out]`; a vector is `[1, n]`.
    ///
    /// # Errors
    /// A file that cannot be read, a tensor of another shape, a value that is not finite.
    pub fn read(&self, parameter: &str, shape: [usize; 2]) -> Result<Vec<f32>, ImportError> {
        match &self.weights {
            Weights::HuggingFace(model) => model.read(parameter, shape),
            Weights::Gguf(model) => model.read(parameter, shape),
            Weights::Llama2c(model) => model.read(parameter, shape),
        }
    }
}
