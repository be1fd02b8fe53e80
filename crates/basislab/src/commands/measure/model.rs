//! The models of a command line: where they come from, what they are called, and the text that they are measured on.

use super::checkpoint;
use crate::args::{MeasureArgs, QuantizeArgs};
use crate::backend::OpenDevice;
use crate::exit::Exit;
use basislab_config::{ModelSpec, RunName, count};
use basislab_data::{BUILTIN_PREFIX, BUILTIN_TEXTS};
use basislab_import::{Source, Tokenizer};
use basislab_measure::Sequences;
use basislab_store::{Extent, is_lfs_pointer, read_capped, sha256};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// Tokens per sequence where neither the user nor the model asks for fewer.
const WINDOW: usize = 512;

/// Bytes of the largest text that is read.
const MOST_TEXT: u64 = 1 << 30;

/// Reads the values of a parameter by its path and shape.
pub(in crate::commands) type Weights = Box<dyn Fn(&str, [usize; 2]) -> Result<Vec<f32>, Exit>>;

/// A model and what it is measured on.
pub(in crate::commands) struct Model {
    /// Its name in tables.
    pub(in crate::commands) name: RunName,
    /// Training step, 0 where it is not known.
    pub(in crate::commands) step: u64,
    pub(in crate::commands) format: &'static str,
    pub(in crate::commands) architecture: String,
    pub(in crate::commands) spec: ModelSpec,
    pub(in crate::commands) d_vocab: usize,
    pub(in crate::commands) has_head: bool,
    pub(in crate::commands) parameters: u64,
    pub(in crate::commands) sequences: Sequences,
    /// The text of every token of `sequences`.
    pub(in crate::commands) texts: Vec<String>,
    /// Bytes of text that the predicted tokens cover.
    pub(in crate::commands) predicted_bytes: u64,
    /// What a reader of the numbers must know of it.
    pub(in crate::commands) datasheet: Value,
    /// The types of integers that weights are stored as, with their numbers of tensors, where the file holds such.
    pub(in crate::commands) stored_as_integers: Option<String>,
    pub(in crate::commands) weights: Weights,
}

/// A text to measure on.
pub(in crate::commands) struct Text {
    /// As the user named it.
    pub(in crate::commands) name: String,
    pub(in crate::commands) sha256: String,
    text: String,
}

impl Text {
    /// Reads a file, or takes a built-in text.
    pub(in crate::commands) fn open(name: &str) -> Result<Self, Exit> {
        let bytes = match name.strip_prefix(BUILTIN_PREFIX) {
            Some(wanted) => match BUILTIN_TEXTS.iter().find(|text| text.name == wanted) {
                Some(text) => text.bytes.to_vec(),
                None => {
                    let known: Vec<&str> = BUILTIN_TEXTS.iter().map(|text| text.name).collect();
                    let what = format!("found no built-in text {wanted:?}, expected {}", known.join(" or "));
                    return Err(Exit::data(format!("--text {name}: {what}")));
                }
            },
            None => read_capped(Path::new(name), MOST_TEXT).map_err(|error| Exit::data(error.to_string()))?,
        };
        if is_lfs_pointer(&bytes) {
            return Err(Exit::data(format!("{name:?}: is {}", basislab_store::LFS_POINTER)));
        }
        let sha256 = sha256(&bytes);
        let text = String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            Exit::data(format!("{name:?}: found a byte that is not UTF-8 at offset {at}, expected text in UTF-8"))
        })?;
        Ok(Self { name: name.to_owned(), sha256, text })
    }

    /// The first `tokens` tokens, or as many as there are. A long text is encoded piece by piece until they are enough.
    fn tokens(&self, tokenizer: &Tokenizer, tokens: usize) -> Result<Vec<u32>, Exit> {
        // The last tokens of a piece may be cut otherwise than in the whole text.
        const MARGIN: usize = 64;
        let wanted = tokens + MARGIN;
        let mut bytes = 8 * wanted;
        loop {
            let end = (bytes..self.text.len()).find(|at| self.text.is_char_boundary(*at)).unwrap_or(self.text.len());
            let found = tokenizer.encode(&self.text[..end]).map_err(Exit::data)?;
            if found.len() >= wanted || end == self.text.len() {
                return Ok(found);
            }
            bytes *= 2;
        }
    }
}

/// The models that a command line names, and how much of a text they are run on.
pub(in crate::commands) struct Chosen<'a> {
    models: &'a [PathBuf],
    tokenizer: Option<&'a Path>,
    window: Option<u64>,
    tokens: u64,
}

impl<'a> From<&'a MeasureArgs> for Chosen<'a> {
    fn from(args: &'a MeasureArgs) -> Self {
        Self { models: &args.models, tokenizer: args.tokenizer.as_deref(), window: args.window, tokens: args.tokens }
    }
}

impl<'a> From<&'a QuantizeArgs> for Chosen<'a> {
    fn from(args: &'a QuantizeArgs) -> Self {
        Self { models: &args.models, tokenizer: args.tokenizer.as_deref(), window: args.window, tokens: args.tokens }
    }
}

/// Opens every model of the command line, in order.
pub(in crate::commands) fn open_all(
    chosen: &Chosen<'_>,
    text: Option<&Text>,
    device: &OpenDevice,
) -> Result<Vec<Model>, Exit> {
    let mut models: Vec<Model> = Vec::new();
    for (path, (name, step)) in chosen.models.iter().zip(names(chosen.models)) {
        let model = open(path, name, step, chosen, text, device)?;
        if let Some(other) = models.iter().find(|other| (&other.name, other.step) == (&model.name, model.step)) {
            let what =
                format!("would be {} at step {} too, and tables tell models apart by these", other.name, other.step);
            return Err(Exit::usage(format!("{}: {what}; measure it by itself", path.display())));
        }
        models.push(model);
    }
    Ok(models)
}

fn open(
    path: &Path,
    name: RunName,
    step: u64,
    chosen: &Chosen<'_>,
    text: Option<&Text>,
    device: &OpenDevice,
) -> Result<Model, Exit> {
    if checkpoint::is_own(path) {
        if text.is_some() || chosen.tokenizer.is_some() || chosen.window.is_some() {
            let what = "is a run of basislab, which is measured on held-out sequences of its own corpus";
            return Err(Exit::usage(format!("{}: {what}; leave out --text, --tokenizer and --window", path.display())));
        }
        let several = chosen.models.len() > 1;
        return checkpoint::read(path, several, device);
    }
    let source = basislab_import::open(path, chosen.tokenizer).map_err(Exit::data)?;
    let Some(text) = text else {
        let known: Vec<String> = BUILTIN_TEXTS.iter().map(|text| format!("{BUILTIN_PREFIX}{}", text.name)).collect();
        let what = format!("needs a text to be measured on: add --text FILE, or --text {}", known.join(" or "));
        return Err(Exit::usage(format!("{}: {what}", path.display())));
    };
    let Some(tokenizer) = &source.tokenizer else {
        return Err(Exit::data(format!(
            "{}: comes without a tokenizer; name its file with --tokenizer",
            path.display()
        )));
    };
    let at = path.display();
    let n_ctx = source.spec.n_ctx;
    let window = chosen.window.map_or(WINDOW.min(n_ctx), |window| window as usize);
    if window > n_ctx {
        return Err(Exit::usage(format!("--window: found {window}, expected at most {n_ctx}, the context of {at}")));
    }
    let wanted = chosen.tokens as usize;
    let ids = text.tokens(tokenizer, wanted.max(window))?;
    if let Some(id) = ids.iter().find(|id| **id as usize >= source.d_vocab) {
        let what = format!("found token {id}, expected tokens below {}, the vocabulary of {at}", source.d_vocab);
        return Err(Exit::data(format!("{}: {what}: is it another model's tokenizer?", tokenizer_name(chosen, path))));
    }
    let sequences = Sequences::cut(&ids, &tokenizer.before, &tokenizer.after, window, wanted);
    let Some(sequences) = sequences.filter(|sequences| sequences.length > 1) else {
        let needed = format!("{window} (--window), special tokens included");
        let found = count(ids.len(), "token");
        return Err(Exit::data(format!(
            "{:?}: found {found}, expected at least one sequence of {needed}; use a smaller --window",
            text.name
        )));
    };
    let texts = sequences.tokens.iter().map(|&token| tokenizer.spelling(token)).collect();
    let predicted_bytes: u64 = sequences.predicted().iter().map(|&token| tokenizer.bytes(token) as u64).sum();
    // SentencePiece puts a blank before the text.
    let predicted_bytes = predicted_bytes.min(text.text.len() as u64);
    let datasheet = datasheet(&source, tokenizer)?;
    let integers = source.types.iter().filter(|(name, _)| source.format == "gguf" && name.starts_with('Q'));
    let integers: Vec<String> =
        integers.map(|(name, tensors)| format!("{} of {name}", count(*tensors, "tensor"))).collect();
    Ok(Model {
        name,
        step,
        format: source.format,
        architecture: source.architecture.clone(),
        spec: source.spec.clone(),
        d_vocab: source.d_vocab,
        has_head: source.has_head,
        parameters: source.parameters,
        sequences,
        texts,
        predicted_bytes,
        datasheet,
        stored_as_integers: (!integers.is_empty()).then(|| integers.join(", ")),
        weights: Box::new(move |path, shape| source.read(path, shape).map_err(Exit::data)),
    })
}

fn tokenizer_name(chosen: &Chosen<'_>, model: &Path) -> String {
    chosen.tokenizer.unwrap_or(model).display().to_string()
}

fn datasheet(source: &Source, tokenizer: &Tokenizer) -> Result<Value, Exit> {
    let mut files = Vec::new();
    for file in &source.files {
        let unreadable = |error| Exit::data(format!("{:?}: cannot read: {error}", file.path));
        let extent = Extent::of_file(&file.path).map_err(unreadable)?;
        let name = file.path.file_name().map(|name| name.to_string_lossy());
        files.push(json!({ "name": name, "bytes": file.bytes, "sha256": extent.sha256 }));
    }
    Ok(json!({
        "name": source.name, "files": files, "format": source.format, "architecture": source.architecture,
        "licence": source.licence, "parameters": source.parameters, "stored_types": source.types,
        "d_vocab": source.d_vocab, "has_head": source.has_head, "spec": source.spec,
        "tokens_before": tokenizer.before, "tokens_after": tokenizer.after,
    }))
}

/// Name and training step of every model. Paths in one folder that differ in a number at their end alone are checkpoints of
/// one model.
fn names(paths: &[PathBuf]) -> Vec<(RunName, u64)> {
    // So that `.` and a file in this folder have names too.
    let paths: Vec<PathBuf> = paths.iter().map(|path| path.canonicalize().unwrap_or_else(|_| path.clone())).collect();
    let stem = |path: &PathBuf| {
        let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
        name.map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
    };
    let stems: Vec<String> = paths.iter().map(stem).collect();
    let steps: Vec<(&str, u64)> = stems.iter().map_while(|stem| step_of(stem)).collect();
    let is_series = steps.len() == paths.len() && steps.iter().all(|(prefix, _)| *prefix == steps[0].0);
    if paths.len() > 1 && is_series && paths.iter().all(|path| path.parent() == paths[0].parent()) {
        let parent = paths[0].parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        let name = match steps[0].0.trim_end_matches(['-', '_', '.']) {
            "" | "step" | "checkpoint" | "ckpt" => parent.unwrap_or_else(|| "model".to_owned()),
            own => own.to_owned(),
        };
        return steps.iter().map(|(_, step)| (run_name(&name), *step)).collect();
    }
    let mut all: Vec<(RunName, u64)> = Vec::new();
    for stem in &stems {
        let name = run_name(stem);
        let numbered = (2..).map(|number| run_name(&format!("model-{number}-{name}")));
        let free =
            std::iter::once(name.clone()).chain(numbered).find(|name| all.iter().all(|(known, _)| known != name));
        all.push((free.expect("endless"), 0));
    }
    all
}

/// `step1000` is step 1000 of `step`.
fn step_of(stem: &str) -> Option<(&str, u64)> {
    let prefix = stem.trim_end_matches(|c: char| c.is_ascii_digit());
    Some((prefix, stem[prefix.len()..].parse().ok()?))
}

/// The name as tables can have it.
pub(in crate::commands) fn run_name(name: &str) -> RunName {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String = name.chars().map(|c| if fits(c) { c } else { '-' }).collect::<String>().replace("..", ".-");
    let name: String = name.trim_start_matches(['.', '_', '-']).chars().take(57).collect();
    let prefixed = || RunName::new(&format!("model-{name}"));
    RunName::new(&name).or_else(|_| prefixed()).or_else(|_| RunName::new("model")).expect("a name that fits")
}

/// The directory of a measurement without --out.
pub(in crate::commands) fn default_out(command: &str, models: &[Model], identity: &str) -> PathBuf {
    let name = models.first().map_or("model", |model| model.name.as_str());
    Path::new("runs").join(format!("{command}-{name}-{}", &identity[..8]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(paths: &[&str]) -> Vec<(String, u64)> {
        let paths: Vec<PathBuf> = paths.iter().map(PathBuf::from).collect();
        names(&paths).into_iter().map(|(name, step)| (name.to_string(), step)).collect()
    }

    fn pairs(all: &[(&str, u64)]) -> Vec<(String, u64)> {
        all.iter().map(|(name, step)| ((*name).to_owned(), *step)).collect()
    }

    #[test]
    fn a_series_has_one_name_and_steps() {
        assert_eq!(named(&["pythia/step10", "pythia/step200"]), pairs(&[("pythia", 10), ("pythia", 200)]));
        assert_eq!(named(&["tiny-10.gguf", "tiny-20.gguf"]), pairs(&[("tiny", 10), ("tiny", 20)]));
    }

    #[test]
    fn other_models_have_their_own_names() {
        assert_eq!(named(&["x/stories260K.bin"]), pairs(&[("stories260K", 0)]));
        assert_eq!(named(&["a/model.gguf", "b/model.gguf"]), pairs(&[("model", 0), ("model-2-model", 0)]));
        assert_eq!(named(&["a/step10"]), pairs(&[("step10", 0)]));
        assert_eq!(named(&["a/step10", "b/step20"]), pairs(&[("step10", 0), ("step20", 0)]));
        assert_eq!(named(&["a/a..bin", "b/a..bin"]), pairs(&[("model", 0), ("model-2-model", 0)]));
        assert_eq!(named(&["7.bin", "no+name.bin"]), pairs(&[("model-7", 0), ("no-name", 0)]));
    }
}
