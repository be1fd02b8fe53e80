//! The models of a command line: where they come from, what they are called, and the text that they are measured on.

use super::checkpoint;
use crate::args::MeasureArgs;
use crate::backend::OpenDevice;
use crate::exit::{Code, Exit};
use crate::terminal::quoted;
use basislab_config::{ModelSpec, RunName, count};
use basislab_data::{BUILTIN_PREFIX, BUILTIN_TEXTS};
use basislab_import::{Source, Tokenizer};
use basislab_measure::Sequences;
use basislab_store::{Hasher, is_lfs_pointer, sha256};
use serde_json::{Value, json};
use std::io::Read;
use std::path::Path;

/// Tokens per sequence where neither the user nor the model asks for fewer.
const WINDOW: usize = 512;

/// Reads the values of a parameter by its path and shape.
pub(super) type Weights = Box<dyn Fn(&str, [usize; 2]) -> Result<Vec<f32>, Exit>>;

/// A model and what it is measured on.
pub(super) struct Model {
    /// Its name in tables.
    pub(super) name: RunName,
    /// Training step, 0 where it is not known.
    pub(super) step: u64,
    pub(super) format: &'static str,
    pub(super) architecture: String,
    pub(super) spec: ModelSpec,
    pub(super) d_vocab: usize,
    pub(super) has_head: bool,
    pub(super) parameters: u64,
    pub(super) sequences: Sequences,
    /// The text of every token of `sequences`.
    pub(super) texts: Vec<String>,
    /// Bytes of text that the predicted tokens cover.
    pub(super) predicted_bytes: u64,
    /// What a reader of the numbers must know of it.
    pub(super) datasheet: Value,
    pub(super) weights: Weights,
}

/// A text to measure on.
pub(super) struct Text {
    /// As the user named it.
    pub(super) name: String,
    pub(super) sha256: String,
    text: String,
}

impl Text {
    /// Reads a file, or takes a built-in text.
    pub(super) fn open(name: &str) -> Result<Self, Exit> {
        let bytes = match name.strip_prefix(BUILTIN_PREFIX) {
            Some(wanted) => match BUILTIN_TEXTS.iter().find(|text| text.name == wanted) {
                Some(text) => text.bytes.to_vec(),
                None => {
                    let known: Vec<&str> = BUILTIN_TEXTS.iter().map(|text| text.name).collect();
                    let what = format!("found no built-in text {wanted:?}, expected {}", known.join(" or "));
                    return Err(Exit::data(format!("--text {name}: {what}")));
                }
            },
            None => std::fs::read(name).map_err(|error| Exit::data(format!("{name:?}: cannot read: {error}")))?,
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

/// Opens every model of the command line, in order.
pub(super) fn open_all(args: &MeasureArgs, text: Option<&Text>, device: &OpenDevice) -> Result<Vec<Model>, Exit> {
    let names = names(&args.models);
    args.models.iter().zip(names).map(|(path, (name, step))| open(path, name, step, args, text, device)).collect()
}

fn open(
    path: &Path,
    name: RunName,
    step: u64,
    args: &MeasureArgs,
    text: Option<&Text>,
    device: &OpenDevice,
) -> Result<Model, Exit> {
    if checkpoint::is_own(path) {
        if args.text.is_some() || args.tokenizer.is_some() || args.window.is_some() {
            let what = "is a run of basislab, which is measured on held-out sequences of its own corpus";
            return Err(Exit::usage(format!("{}: {what}; leave out --text, --tokenizer and --window", path.display())));
        }
        return checkpoint::read(path, device);
    }
    let source = basislab_import::open(path, args.tokenizer.as_deref()).map_err(Exit::data)?;
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
    let window = args.window.map_or(WINDOW.min(n_ctx), |window| window as usize);
    if window > n_ctx {
        return Err(Exit::usage(format!("--window: found {window}, expected at most {n_ctx}, the context of {at}")));
    }
    let wanted = args.tokens as usize;
    let ids = text.tokens(tokenizer, wanted.max(window))?;
    if let Some(id) = ids.iter().find(|id| **id as usize >= source.d_vocab) {
        let what = format!("found token {id}, expected tokens below {}, the vocabulary of {at}", source.d_vocab);
        return Err(Exit::data(format!("{}: {what}: is it another model's tokenizer?", tokenizer_name(args, path))));
    }
    let sequences = Sequences::cut(&ids, &tokenizer.before, &tokenizer.after, window, wanted);
    let Some(sequences) = sequences.filter(|sequences| sequences.length > 1) else {
        let needed = format!("{window} (--window), special tokens included");
        let found = count(ids.len(), "token");
        return Err(Exit::data(format!("{:?}: found {found}, expected at least one sequence of {needed}", text.name)));
    };
    let texts = sequences.tokens.iter().map(|&token| tokenizer.spelling(token)).collect();
    let predicted_bytes = sequences.predicted().iter().map(|&token| tokenizer.bytes(token) as u64).sum();
    let datasheet = datasheet(&source, tokenizer)?;
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
        weights: Box::new(move |path, shape| source.read(path, shape).map_err(Exit::data)),
    })
}

fn tokenizer_name(args: &MeasureArgs, model: &Path) -> String {
    args.tokenizer.as_deref().unwrap_or(model).display().to_string()
}

fn datasheet(source: &Source, tokenizer: &Tokenizer) -> Result<Value, Exit> {
    let mut files = Vec::new();
    for file in &source.files {
        let unreadable = |error| Exit::data(format!("{:?}: cannot read: {error}", file.path));
        let (mut hasher, mut buffer) = (Hasher::default(), vec![0; 1 << 20]);
        let mut reader = std::fs::File::open(&file.path).map_err(unreadable)?;
        loop {
            match reader.read(&mut buffer).map_err(unreadable)? {
                0 => break,
                n => hasher.update(&buffer[..n]),
            }
        }
        let name = file.path.file_name().map(|name| name.to_string_lossy());
        files.push(json!({ "name": name, "bytes": file.bytes, "sha256": hasher.extent().sha256 }));
    }
    Ok(json!({
        "name": source.name, "files": files, "format": source.format, "architecture": source.architecture,
        "licence": source.licence, "parameters": source.parameters, "stored_types": source.types,
        "d_vocab": source.d_vocab, "has_head": source.has_head, "spec": source.spec,
        "tokens_before": tokenizer.before, "tokens_after": tokenizer.after,
    }))
}

/// Name and training step of every model. Paths that differ in a number at their end alone are checkpoints of one model.
fn names(paths: &[std::path::PathBuf]) -> Vec<(RunName, u64)> {
    let stem = |path: &Path| {
        let name = if path.is_dir() { path.file_name() } else { path.file_stem() };
        name.map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
    };
    let stems: Vec<String> = paths.iter().map(|path| stem(path)).collect();
    let steps: Vec<Option<(&str, u64)>> = stems.iter().map(|stem| step_of(stem)).collect();
    if let (true, Some(Some((prefix, _)))) = (paths.len() > 1, steps.first())
        && steps.iter().all(|step| step.is_some_and(|(other, _)| other == *prefix))
    {
        let own = prefix.trim_end_matches(['-', '_', '.']);
        let parent = || paths[0].parent().and_then(Path::file_name).map(|name| name.to_string_lossy().into_owned());
        let name = match own {
            "" | "step" | "checkpoint" | "ckpt" => parent().unwrap_or_else(|| "model".to_owned()),
            _ => own.to_owned(),
        };
        return steps.iter().flatten().map(|(_, step)| (run_name(&name), *step)).collect();
    }
    let mut all: Vec<(RunName, u64)> = Vec::new();
    for stem in &stems {
        let taken = |name: &RunName| all.iter().any(|(known, _)| known == name);
        let mut name = run_name(stem);
        let mut number = 2;
        while taken(&name) {
            name = run_name(&format!("{number}-{stem}"));
            number += 1;
        }
        all.push((name, 0));
    }
    all
}

/// `step1000` is step 1000 of `step`.
fn step_of(stem: &str) -> Option<(&str, u64)> {
    let prefix = stem.trim_end_matches(|c: char| c.is_ascii_digit());
    Some((prefix, stem[prefix.len()..].parse().ok()?))
}

/// The name as tables can have it.
fn run_name(name: &str) -> RunName {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let name: String = name.chars().map(|c| if fits(c) { c } else { '-' }).collect::<String>().replace("..", ".-");
    let name: String = name.trim_start_matches(['.', '_', '-']).chars().take(57).collect();
    let prefixed = || RunName::new(&format!("model-{name}"));
    RunName::new(&name).or_else(|_| prefixed()).or_else(|_| RunName::new("model")).expect("a name that fits")
}

/// The directory of a measurement without --out.
pub(super) fn default_out(models: &[Model], identity: &str) -> std::path::PathBuf {
    let name = models.first().map_or("model", |model| model.name.as_str());
    Path::new("runs").join(format!("measure-{name}-{}", &identity[..8]))
}

/// An error of the device or of the caller, for a site that the models do not have.
pub(super) fn no_site(model: &Model, what: &str, site: basislab_config::Site) -> Exit {
    let of = quoted(model.name.as_str());
    Exit::new(
        Code::Usage,
        format!("{what}: found {site}, which {of} does not have; `embed`, `blocks.N.resid_post` are sites"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::path::PathBuf;

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
        assert_eq!(named(&["a/model.gguf", "b/model.gguf"]), pairs(&[("model", 0), ("2-model", 0)]));
        assert_eq!(named(&["a/step10"]), pairs(&[("step10", 0)]));
        assert_eq!(named(&["7.bin", "no+name.bin"]), pairs(&[("model-7", 0), ("no-name", 0)]));
    }
}
