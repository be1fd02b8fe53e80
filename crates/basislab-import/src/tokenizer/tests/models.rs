//! Real models, which lie in the folder that `BASISLAB_MODELS` names.

use super::reference::fixture;
use super::spelt;
use crate::tokenizer::Tokenizer;
use std::io::Write;
use std::path::PathBuf;

/// A file of the folder; `None`, and a line that says so, where it is not there.
fn model(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os("BASISLAB_MODELS").map(PathBuf::from);
    let path = folder.map(|folder| folder.join(name)).filter(|path| path.exists());
    if path.is_none() {
        writeln!(std::io::stderr(), "skipped: no {name} in the folder BASISLAB_MODELS").unwrap();
    }
    path
}

#[test]
fn smollm2_has_the_tokens_of_the_reference() {
    let name = "SmolLM2-135M-Instruct.Q4_1.gguf";
    let Some(path) = model(name) else { return };
    let gguf = crate::gguf::open(&path).unwrap();
    let description = gguf.describe().unwrap();
    assert_eq!((description.spec.n_layers, description.spec.d_model, description.d_vocab), (30, 576, 49152));
    assert_eq!(description.parameters, 134_515_008);
    assert_eq!(description.types[0], ("Q4_1".to_owned(), 210));
    assert_eq!(description.licence.as_deref(), Some("apache-2.0"));
    let tokenizer = gguf.tokenizer().unwrap().unwrap();
    assert_eq!((tokenizer.before.len(), tokenizer.after.len(), tokenizer.d_vocab()), (0, 0, 49152));
    let fixture = fixture();
    let texts = super::reference::texts(&fixture["texts"]);
    let expected = fixture[name].as_array().unwrap();
    for (text, expected) in texts.iter().zip(expected) {
        assert_eq!(serde_json::json!(tokenizer.encode(text).unwrap()), *expected, "{text:?}");
    }
    assert_eq!(spelt(&tokenizer, "The capital of France is"), ["The", " capital", " of", " France", " is"]);
    assert_eq!(tokenizer.spelling(1), "<|im_start|>");
}

/// Values as the Python package `gguf` 0.19.0 reads them: of tensor blk.29.ffn_down.weight, [576, 1536] as stored, those
/// of row 0 at columns 0, 1, 577 and 1000; and the sum of token_embd.weight.
#[test]
fn smollm2_has_the_weights_of_the_reference() {
    let Some(path) = model("SmolLM2-135M-Instruct.Q4_1.gguf") else { return };
    let gguf = crate::gguf::open(&path).unwrap();
    let w_out = gguf.read("blocks.29.w_out", [1536, 576]).unwrap();
    assert_eq!(
        [0, 1, 577, 1000].map(|row| w_out[row * 576]),
        [-0.273_315_43, 0.186_279_3, 0.095_947_266, 0.083_923_34]
    );
    let w_e = gguf.read("w_e", [49152, 576]).unwrap();
    assert_eq!((w_e[0], w_e[1], w_e[577]), (-0.106_544_495, 0.032_978_058, -0.015_869_14));
    let sum: f64 = w_e.iter().map(|value| f64::from(*value)).sum();
    assert!((sum + 15353.04449415207).abs() < 1e-6, "{sum}");
}

#[test]
fn stories260k_has_the_published_tokens() {
    let Some(weights) = model("stories260K.bin") else { return };
    let Some(path) = model("tok512.bin") else { return };
    let source = crate::llama2c::open(&weights).unwrap();
    let description = source.describe().unwrap();
    let spec = &description.spec;
    assert_eq!((spec.d_model, spec.n_layers, spec.n_heads, spec.n_kv_heads, spec.d_mlp), (64, 5, 8, Some(4), 172));
    assert_eq!((description.d_vocab, spec.tied_head, description.parameters), (512, true, 259_776 + 256));
    let tokenizer = Tokenizer::from_llama2c(&path, description.d_vocab).unwrap();
    // The text and the tokens of doc/stories260K.md of llama2.c.
    let tokens = tokenizer.encode("Once upon a time, there was a little girl named Lily.").unwrap();
    assert_eq!(tokenizer.before, [1]);
    assert_eq!(tokens[..11], [403, 407, 261, 378, 432, 383, 286, 261, 376, 298, 315]);
}
