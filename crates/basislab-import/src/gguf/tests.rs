pub(crate) mod build;
mod fixture;
pub(crate) mod hostile;
mod refusals;

use self::build::{File, llama, text, texts, u32s};
use super::{Gguf, open};
use basislab_config::{Positions, RopePairs};
use std::path::Path;

/// Opens the bytes as a file.
fn opened(bytes: &[u8]) -> Result<Gguf, String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.gguf");
    std::fs::write(&path, bytes).unwrap();
    open(&path).map_err(|error| error.what)
}

/// Every step, as a user of the file takes them.
fn all_steps(bytes: &[u8]) -> Result<(), String> {
    let gguf = opened(bytes)?;
    gguf.describe().map_err(|error| error.what)?;
    let tokenizer = gguf.tokenizer().map_err(|error| error.what)?;
    tokenizer.map_or(Ok(()), |tokenizer| tokenizer.encode("ab b").map(drop).map_err(|error| error.what))?;
    let shapes = [("w_e", [5, 4]), ("norm.gain", [1, 4]), ("blocks.0.w_q", [4, 4]), ("blocks.0.w_in", [4, 6])];
    shapes.iter().try_for_each(|(name, shape)| gguf.read(name, *shape).map(drop).map_err(|error| error.what))
}

#[test]
fn a_llama_is_described() {
    let description = opened(&llama().bytes()).unwrap().describe().unwrap();
    let spec = &description.spec;
    assert_eq!((spec.n_ctx, spec.n_layers, spec.d_model, spec.n_heads, spec.d_mlp), (16, 1, 4, 2, 6));
    assert_eq!((spec.n_kv_heads, spec.d_head, spec.tied_head, description.d_vocab), (Some(1), None, true, 5));
    assert_eq!(spec.norm_epsilon, f64::from(1e-5_f32));
    assert_eq!(spec.positions, Positions::Rope { base: 10_000.0, pairs: RopePairs::Interleaved, dims: None });
    assert_eq!((description.architecture.as_str(), description.has_head), ("llama", true));
    assert_eq!(description.types, [("F32".to_owned(), 11)]);
    assert_eq!(description.licence.as_deref(), Some("mit"));
    // w_e, 3 gains, w_q, w_k, w_v, w_o, three matrices of the MLP.
    assert_eq!(description.parameters, 20 + 12 + 16 + 8 + 8 + 16 + 72);
}

#[test]
fn parameters_are_read_with_the_input_axis_first() {
    let gguf = opened(&llama().bytes()).unwrap();
    let tensor = |index: usize, count: usize| (0..count).map(move |k| (index * 100 + k) as f32);
    // Not transposed: [V, D].
    assert_eq!(gguf.read("w_e", [5, 4]).unwrap(), tensor(0, 20).collect::<Vec<_>>());
    assert_eq!(gguf.read("norm.gain", [1, 4]).unwrap(), tensor(1, 4).collect::<Vec<_>>());
    // Stored [K, D] = [2, 4].
    assert_eq!(gguf.read("blocks.0.w_k", [4, 2]).unwrap(), [400, 404, 401, 405, 402, 406, 403, 407].map(|v| v as f32));
    // Stored [D, F] = [4, 6].
    let w_out = gguf.read("blocks.0.w_out", [6, 4]).unwrap();
    assert_eq!(w_out[..5], [1000.0, 1006.0, 1012.0, 1018.0, 1001.0]);
    for (name, shape) in
        [("blocks.0.w_k", [2, 4]), ("w_e", [4, 5]), ("norm.gain", [4, 1]), ("blocks.0.norm_1.gain", [1, 5])]
    {
        let error = gguf.read(name, shape).unwrap_err().what;
        assert!(error.contains("has shape") && error.contains(&format!("expected {shape:?}")), "{error}");
    }
    for name in ["blocks.1.w_q", "blocks.0.b_q", "blocks.x.w_q", "blocks.0", "w_u", "positions", ""] {
        assert_eq!(gguf.read(name, [4, 4]).unwrap_err().what, format!("has no tensor for the parameter {name:?}"));
    }
}

#[test]
fn an_untied_head_is_transposed() {
    let file = llama().tensor("output.weight", 0, &[4, 5], &build::floats(2000, 20));
    let gguf = opened(&file.bytes()).unwrap();
    let description = gguf.describe().unwrap();
    assert!(!description.spec.tied_head);
    assert_eq!(gguf.read("w_u", [4, 5]).unwrap()[..6], [2000.0, 2004.0, 2008.0, 2012.0, 2016.0, 2001.0]);
}

#[test]
fn qwens_have_their_biases_norms_and_halves() {
    let qwen2 = llama()
        .architecture("qwen2")
        .tensor("blk.0.attn_q.bias", 0, &[4], &build::floats(1, 4))
        .tensor("blk.0.attn_k.bias", 0, &[2], &build::floats(5, 2))
        .tensor("blk.0.attn_v.bias", 0, &[2], &build::floats(7, 2));
    let gguf = opened(&qwen2.bytes()).unwrap();
    let spec = gguf.describe().unwrap().spec;
    assert!(spec.qkv_biases && !spec.qk_norm);
    assert_eq!(spec.positions, Positions::Rope { base: 10_000.0, pairs: RopePairs::Halves, dims: None });
    assert_eq!(gguf.read("blocks.0.b_k", [1, 2]).unwrap(), [5.0, 6.0]);

    // Heads of another width than d_model / n_heads.
    let mut qwen3 = llama().architecture("qwen3").value("qwen3.attention.key_length", 4, &4_u32.to_le_bytes());
    qwen3 = qwen3.value("qwen3.attention.value_length", 4, &4_u32.to_le_bytes());
    for (name, shape) in [("q.weight", [4, 8]), ("k.weight", [4, 4]), ("v.weight", [4, 4]), ("output.weight", [8, 4])] {
        let name = format!("blk.0.attn_{name}");
        qwen3 = qwen3.without_tensor(&name).tensor(&name, 0, &shape, &build::floats(0, shape[0] * shape[1]));
    }
    qwen3 = qwen3.tensor("blk.0.attn_q_norm.weight", 0, &[4], &build::floats(1, 4));
    qwen3 = qwen3.tensor("blk.0.attn_k_norm.weight", 0, &[4], &build::floats(5, 4));
    let gguf = opened(&qwen3.bytes()).unwrap();
    let spec = gguf.describe().unwrap().spec;
    assert!(spec.qk_norm && !spec.qkv_biases);
    assert_eq!((spec.d_head, spec.n_kv_heads), (Some(4), Some(1)));
    assert_eq!(gguf.read("blocks.0.k_norm.gain", [1, 4]).unwrap(), [5.0, 6.0, 7.0, 8.0]);
}

#[test]
fn scores_and_flags_make_a_tokenizer() {
    let tokens = ["<unk>", "<s>", "</s>", "\u{2581}", "a"];
    let file = || {
        let file = llama().value("tokenizer.ggml.model", 8, &text("llama"));
        let file = file.value("tokenizer.ggml.tokens", 9, &texts(&tokens));
        let file = file.value("tokenizer.ggml.token_type", 9, &build::array(5, &[2, 3, 3, 1, 1].map(u32s)));
        let scores = [0.0_f32; 5].map(|score| score.to_le_bytes().to_vec());
        let file = file.value("tokenizer.ggml.scores", 9, &build::array(6, &scores));
        file.value("tokenizer.ggml.bos_token_id", 4, &u32s(1)).value("tokenizer.ggml.eos_token_id", 4, &u32s(2))
    };
    let tokenizer = |file: File| opened(&file.bytes()).unwrap().tokenizer().unwrap().unwrap();
    let plain = tokenizer(file());
    assert_eq!((&plain.before[..], &plain.after[..], plain.d_vocab()), (&[1][..], &[][..], 5));
    assert_eq!(plain.encode("a a").unwrap(), [3, 4, 3, 4]);
    assert_eq!(plain.spelling(3), " ");
    let flagged = tokenizer(
        file().value("tokenizer.ggml.add_bos_token", 7, &[0]).value("tokenizer.ggml.add_eos_token", 7, &[1]).value(
            "tokenizer.ggml.add_space_prefix",
            7,
            &[0],
        ),
    );
    assert_eq!((&flagged.before[..], &flagged.after[..]), (&[][..], &[2][..]));
    assert_eq!(flagged.encode("a a").unwrap(), [4, 3, 4]);
    assert!(opened(&llama().bytes()).unwrap().tokenizer().unwrap().is_none());
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = open(Path::new("/nowhere/x.gguf")).unwrap_err().to_string();
    assert!(error.starts_with("\"/nowhere/x.gguf\": cannot be read: "), "{error}");
}
