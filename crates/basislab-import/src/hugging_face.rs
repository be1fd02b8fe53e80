//! Directories of Hugging Face: `config.json` decides the forward pass, .safetensors files hold the weights.

mod bert;
mod config;
mod gpt2;
mod gpt_neox;
mod imagegpt;
mod layout;
mod llama;
mod write;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
pub(crate) mod tests;

use crate::description::Description;
use crate::error::ImportError;
use crate::rows::assemble;
use crate::safetensors::{Weights, float_bytes, read_json, shorten, wrong_type};
use config::Config;
use layout::{Layout, Stored};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use write::{HuggingFaceFiles, as_hugging_face};

/// Most bytes of a `config.json` and of a `README.md`.
const MOST_TEXT_BYTES: u64 = 1 << 24;
/// What a pickle is called.
const PICKLES: [&str; 4] = ["bin", "ckpt", "pt", "pth"];
/// What to do about a pickle.
pub(crate) const PICKLE: &str = "a pickle, which runs code when it is read; expected .safetensors: convert it in Python, \
    transformers.AutoModelForCausalLM.from_pretrained(OLD).save_pretrained(NEW, safe_serialization=True), \
    with AutoModel for an encoder";

/// A directory of Hugging Face whose headers have been read.
#[derive(Debug)]
pub(crate) struct HuggingFace {
    weights: Weights,
    /// Where the parameters of the model are stored.
    parameters: BTreeMap<String, Stored>,
    description: Description,
    /// The files that were read.
    files: Vec<PathBuf>,
}

/// Reads the configuration and the headers of the weights; every weight must be there, with its shape, and no other.
///
/// # Errors
/// What is wrong with the files.
pub(crate) fn open(folder: &Path) -> Result<HuggingFace, ImportError> {
    let path = folder.join("config.json");
    let mut files = vec![path.clone()];
    let weights = open_weights(folder, &mut files)?;
    let bytes = read_json(&path, MOST_TEXT_BYTES)?;
    let layout = parse(&bytes).map_err(|what| ImportError::new(&path, what))?;
    files.extend(weights.paths().map(Path::to_owned));
    HuggingFace::new(folder, weights, layout, files)
}

/// What a `config.json` says.
fn parse(bytes: &[u8]) -> Result<Layout, String> {
    let mut config = Config::parse(bytes)?;
    let layout = match config
        .text("model_type", &["llama", "mistral", "qwen2", "qwen3", "gpt2", "gpt_neox", "imagegpt", "bert"])?
    {
        "gpt2" => gpt2::layout(&mut config),
        "gpt_neox" => gpt_neox::layout(&mut config),
        "imagegpt" => imagegpt::layout(&mut config),
        "bert" => bert::layout(&mut config),
        family => llama::layout(&mut config, family),
    }?;
    config.finish(layout.ignored_keys)?;
    Ok(layout)
}

/// The weights of a directory with a `config.json`.
fn open_weights(folder: &Path, files: &mut Vec<PathBuf>) -> Result<Weights, ImportError> {
    let fail = |what: String| Err(ImportError::new(folder, what));
    let names = file_names(folder)?;
    let has = |name: &str| names.iter().any(|found| found == name);
    if has("adapter_config.json") {
        return fail(
            "holds a LoRA adapter, whose base is elsewhere; expected a whole model: merge them with \
                     merge_and_unload() of peft and save the result"
                .to_owned(),
        );
    }
    let (single, index) = ("model.safetensors", "model.safetensors.index.json");
    match (has("config.json"), has(single), has(index)) {
        (true, true, true) => fail(format!("holds {single} and {index}, expected one of both: remove the other one")),
        (true, true, false) => Weights::open(&folder.join(single)),
        (true, false, true) => {
            files.push(folder.join(index));
            Weights::open_index(&folder.join(index))
        }
        (has_config, ..) => {
            let ends = |extensions: &[&str]| {
                let is = |name: &&String| {
                    Path::new(name).extension().is_some_and(|found| extensions.iter().any(|known| found == *known))
                };
                names.iter().filter(is).map(|name| format!("{:?}", shorten(name))).collect::<Vec<_>>()
            };
            if let Some(pickle) = ends(&PICKLES).first()
                && has_config
            {
                return fail(format!("{pickle} is {PICKLE}"));
            }
            let others = ends(&["gguf", "bin", "safetensors"]);
            let missing = if has_config { format!("{single} or {index}") } else { "config.json".to_owned() };
            match (&others[..], has_config) {
                ([], _) => fail(format!("has no {missing}, expected the directory of a model of Hugging Face")),
                (others, true) => fail(format!("has no {missing}, found {}: rename it", others.join(", "))),
                (others, false) => fail(format!(
                    "has no {missing}, expected a directory with it or one of its files: {}",
                    others.join(", ")
                )),
            }
        }
    }
}

/// Names of what a directory holds, sorted.
fn file_names(folder: &Path) -> Result<Vec<String>, ImportError> {
    let failed = |error: std::io::Error| ImportError::new(folder, format!("cannot be read: {error}"));
    let mut names = Vec::new();
    for entry in folder.read_dir().map_err(failed)? {
        names.push(entry.map_err(failed)?.file_name().to_string_lossy().into_owned());
    }
    names.sort_unstable();
    Ok(names)
}

impl HuggingFace {
    fn new(folder: &Path, weights: Weights, mut layout: Layout, files: Vec<PathBuf>) -> Result<Self, ImportError> {
        let fail = |what: String| ImportError::new(folder, what);
        let mut names = BTreeMap::new();
        for name in weights.names() {
            if let Some(other) = names.insert(layout.plain_name(name), name) {
                return Err(fail(format!("found tensors {:?} and {:?}, expected one", shorten(other), shorten(name))));
            }
        }
        let mut left: BTreeMap<&str, &str> = names.iter().map(|(plain, name)| (plain.as_str(), *name)).collect();
        let mut types = BTreeMap::new();
        for stored in layout.parameters.values_mut() {
            for (tensor, shape) in stored.tensors_mut() {
                left.remove(tensor.as_str());
                let Some(name) = names.get(tensor) else {
                    return Err(fail(format!("found no tensor {tensor:?}, expected one of shape {shape:?}")));
                };
                let fail = |what| ImportError::new(weights.file(name), what);
                let place = weights.get(name).ok_or_else(|| fail("changed while it was read".to_owned()))?;
                if place.shape != shape {
                    let found = shorten(&format!("{:?}", place.shape));
                    return Err(fail(format!(
                        "tensor {name:?} has shape {found}, expected {shape:?} as config.json says"
                    )));
                }
                float_bytes(place.dtype).ok_or_else(|| fail(wrong_type(name, place.dtype)))?;
                *tensor = (*name).to_owned();
                types.insert(*name, place.dtype);
            }
        }
        let is_buffer = |plain: &&str| layout.buffers.contains(&layout::without_layer(plain).as_str());
        if layout.spec.tied_head
            && layout.has_head
            && let Some(head) = left.remove(layout.head)
        {
            let embedding = layout.parameters.get("w_e").map_or("", |stored| &stored.tensor);
            let fail = |what| ImportError::new(weights.file(head), what);
            if !is_same(&weights, head, embedding).map_err(fail)? {
                return Err(fail(format!(
                    "tensor {head:?} differs from {embedding:?}, and config.json says that they are one: \
                     set tie_word_embeddings to false in it to use both"
                )));
            }
        }
        if let Some((_, name)) = left.iter().find(|(plain, _)| !is_buffer(plain)) {
            let what = format!("tensor {:?} is none of this architecture's, expected no other tensors", shorten(name));
            return Err(ImportError::new(weights.file(name), what));
        }
        let mut counts: Vec<(String, usize)> = Vec::new();
        for dtype in types.values().map(|dtype| format!("{dtype:?}")) {
            match counts.iter_mut().find(|(known, _)| *known == dtype) {
                Some((_, count)) => *count += 1,
                None => counts.push((dtype, 1)),
            }
        }
        counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        if let [(most, _), (other, _), ..] = &counts[..] {
            let odd = types.iter().find(|(_, dtype)| format!("{dtype:?}") == *other).map_or("", |(name, _)| *name);
            let what = format!("tensor {:?} is {other} where most are {most}, expected one type", shorten(odd));
            let next = "load the model in one type and save it again, e.g. from_pretrained(DIR, dtype=\"float32\")";
            return Err(ImportError::new(weights.file(odd), format!("{what}; {next}")));
        }
        let description = Description {
            d_vocab: layout.d_vocab,
            architecture: layout.architecture.to_owned(),
            has_head: layout.has_head,
            parameters: layout.parameters.values().map(|stored| (stored.shape[0] * stored.shape[1]) as u64).sum(),
            types: counts,
            licence: licence(&folder.join("README.md")),
            spec: layout.spec,
        };
        Ok(Self { weights, parameters: layout.parameters, description, files })
    }

    /// What the headers say.
    pub(crate) fn describe(&self) -> &Description {
        &self.description
    }

    /// The files that were read.
    pub(crate) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    /// The values of a parameter, as `Source::read` gives them.
    ///
    /// # Errors
    /// A file that cannot be read, a parameter that the model does not have, a value that is not finite.
    pub(crate) fn read(&self, parameter: &str, shape: [usize; 2]) -> Result<Vec<f32>, ImportError> {
        let stored = self.parameters.get(parameter).filter(|stored| stored.shape == shape).ok_or_else(|| {
            let found = self.parameters.get(parameter).map(|stored| stored.shape);
            let found = found.map_or_else(|| "no such parameter".to_owned(), |shape| format!("{shape:?}"));
            ImportError::new(Path::new(parameter), format!("found {found}, expected shape {shape:?}"))
        })?;
        let path = self.weights.file(&stored.tensor);
        let fail = |what: String| ImportError::new(path, format!("tensor {:?} {what}", stored.tensor));
        let [inputs, outputs] = shape;
        let [rows, columns] = if stored.transposed { [outputs, inputs] } else { [inputs, outputs] };
        let read = |first: usize, out: &mut [f32]| self.weights.read(&stored.tensor, first, out);
        let values = assemble([rows, columns], stored.transposed, |range, out| {
            let Some(third) = stored.third else { return read(range.start * columns, out) };
            let width = outputs / third.heads;
            for (row, line) in range.zip(out.chunks_exact_mut(columns)) {
                if stored.transposed {
                    read(third.output(row, width) * columns, line)?;
                    continue;
                }
                for (head, part) in line.chunks_exact_mut(width).enumerate() {
                    read(row * 3 * outputs + third.output(head * width, width), part)?;
                }
            }
            Ok(())
        });
        let mut values = values.map_err(fail)?;
        if let Some((segments, _)) = &stored.plus_first_row {
            let mut row = vec![0.0; columns];
            self.weights.read(segments, 0, &mut row).map_err(fail)?;
            values.chunks_exact_mut(columns).for_each(|line| line.iter_mut().zip(&row).for_each(|(x, y)| *x += y));
            if values.iter().any(|value| !value.is_finite()) {
                return Err(fail(format!("and the first row of {segments:?} have a sum that is not finite")));
            }
        }
        Ok(values)
    }
}

/// Whether two tensors hold the same values.
fn is_same(weights: &Weights, one: &str, other: &str) -> Result<bool, String> {
    let (Some(a), Some(b)) = (weights.get(one), weights.get(other)) else { return Ok(false) };
    if a.shape != b.shape {
        return Ok(false);
    }
    let size: usize = a.shape.iter().product();
    let (mut left, mut right) = (vec![0.0; size.min(1 << 16)], vec![0.0; size.min(1 << 16)]);
    for first in (0..size).step_by(1 << 16) {
        let length = (size - first).min(1 << 16);
        weights.read(one, first, &mut left[..length])?;
        weights.read(other, first, &mut right[..length])?;
        if left[..length] != right[..length] {
            return Ok(false);
        }
    }
    Ok(true)
}

/// The licence that the head of a model card names.
fn licence(card: &Path) -> Option<String> {
    let text = String::from_utf8(basislab_store::read_capped(card, MOST_TEXT_BYTES).ok()?).ok()?;
    let mut lines = text.lines();
    lines.next().filter(|line| *line == "---")?;
    let licence = lines.take_while(|line| *line != "---").find_map(|line| line.strip_prefix("license:"))?;
    Some(shorten(licence.trim().trim_matches(['"', '\''])))
}
