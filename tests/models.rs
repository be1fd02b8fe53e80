//! Models that other people trained, from the folder that `BASISLAB_MODELS` names; what is not there is skipped, and says so.

use crate::support::{flex, values};
use basislab_import::{ImportError, Source, open};
use basislab_model::InParts;
use burn::tensor::{DType, Int, Tensor, TensorData};
use std::io::Write;
use std::path::PathBuf;

/// llama2.c, doc/stories260K.md: what the model writes at temperature 0, and how it begins in tokens.
const STORY: &str = "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she \
    saw a big, red ball. She wanted to play with it, but it was too high.";
const STORY_TOKENS: [u32; 12] = [1, 403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315];

/// Abraham Lincoln at Gettysburg, 1863.
const SPEECH: &str = "Four score and seven years ago our fathers brought forth on this continent, a new nation, conceived in \
    Liberty, and dedicated to the proposition that all men are created equal.";

/// The model, with a tokenizer from a file of its own or from its own file.
fn model(name: &str, tokenizer: Option<&str>) -> Option<Source> {
    let folder = std::env::var_os("BASISLAB_MODELS").map(PathBuf::from);
    let path = |name: &str| {
        let path = folder.as_ref().map(|folder| folder.join(name)).filter(|path| path.exists());
        if path.is_none() {
            let _ = writeln!(std::io::stderr(), "skipped: no {name} in the folder BASISLAB_MODELS");
        }
        path
    };
    let (model, tokenizer) = (path(name)?, tokenizer.map(path));
    if tokenizer == Some(None) {
        return None;
    }
    Some(open(&model, tokenizer.flatten().as_deref()).unwrap())
}

/// The logits at every token of a sequence. `[T]` to `T` rows of `[V]`
fn logits(source: &Source, tokens: &[u32]) -> Vec<Vec<f64>> {
    let device = &flex();
    let ids: Vec<i32> = tokens.iter().map(|token| *token as i32).collect();
    let batch = Tensor::<2, Int>::from_data(TensorData::new(ids, [1, tokens.len()]), (device, DType::I32));
    let (spec, d_vocab, has_head) = (&source.spec, source.d_vocab, source.has_head);
    let mut read = |path: &str, shape: [usize; 2]| -> Result<Vec<f32>, ImportError> { source.read(path, shape) };
    let mut all = Vec::new();
    let mut on_logits = |rows: Tensor<2>| all.extend(values(&rows).chunks(d_vocab).map(<[f64]>::to_vec));
    let parts = InParts { spec, d_vocab, has_head, device, rotation: None, rounding: None };
    parts.forward(vec![batch], &mut read, &mut |_, _| {}, &mut on_logits).unwrap();
    all
}

/// The most likely token after a sequence.
fn next(source: &Source, tokens: &[u32]) -> u32 {
    let last = logits(source, tokens).pop().unwrap();
    last.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1)).unwrap().0 as u32
}

#[test]
fn stories260k_tells_the_published_story() {
    let Some(source) = model("stories260K.bin", Some("tok512.bin")) else { return };
    let tokenizer = source.tokenizer.as_ref().unwrap();
    let mut tokens = tokenizer.before.clone();
    while tokens.len() < 75 {
        tokens.push(next(&source, &tokens));
    }
    assert_eq!(tokens[..STORY_TOKENS.len()], STORY_TOKENS);
    let text: String = tokens[1..].iter().map(|token| tokenizer.spelling(*token)).collect();
    assert!(text.trim_start().starts_with(STORY), "{text}");
}

#[test]
fn smollm2_knows_paris_and_the_gettysburg_address() {
    let Some(source) = model("SmolLM2-135M-Instruct.Q4_1.gguf", None) else { return };
    let tokenizer = source.tokenizer.as_ref().unwrap();
    assert_eq!((tokenizer.before.len(), tokenizer.after.len()), (0, 0));
    let prompt = tokenizer.encode("The capital of France is").unwrap();
    assert_eq!(tokenizer.spelling(next(&source, &prompt)), " Paris");
    // Paris follows even where the wrong pairs rotate, which gives this sentence 4.97 nats; another rotary base gives it 3.16.
    let speech = tokenizer.encode(SPEECH).unwrap();
    let rows = logits(&source, &speech);
    let loss = |(row, token): (&Vec<f64>, &u32)| {
        let largest = row.iter().copied().fold(f64::MIN, f64::max);
        let sum: f64 = row.iter().map(|logit| (logit - largest).exp()).sum();
        largest + sum.ln() - row[*token as usize]
    };
    let mean = rows.iter().zip(&speech[1..]).map(loss).sum::<f64>() / (speech.len() - 1) as f64;
    assert!(mean < 3.1, "{mean}");
}
