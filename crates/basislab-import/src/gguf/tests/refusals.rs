use super::build::{self, File, array, llama, text, texts, u32s, with_merges};
use super::{all_steps, opened};

/// The error of a file that must be refused.
#[track_caller]
fn refused(file: File, expected: &str) {
    let error = all_steps(&file.bytes()).expect_err(expected);
    assert!(error.contains(expected), "{error:?} does not say {expected:?}");
    assert!(!error.contains('\n'));
}

fn set(key: &str, kind: u32, bytes: &[u8]) -> File {
    llama().without(key).value(key, kind, bytes)
}

#[test]
fn the_tiny_files_pass() {
    all_steps(&llama().bytes()).unwrap();
    all_steps(&with_merges().bytes()).unwrap();
    let mut second = llama();
    second.version = 2;
    all_steps(&second.bytes()).unwrap();
}

#[test]
fn versions_and_byte_orders() {
    for (version, expected) in [
        (1, "is GGUF of version 1; expected 2 or 3"),
        (4, "is GGUF of version 4; expected 2 or 3"),
        (3_u32.swap_bytes(), "is big-endian GGUF"),
    ] {
        let mut file = llama();
        file.version = version;
        refused(file, expected);
    }
    assert!(opened(b"GGML\x03\0\0\0").unwrap_err().contains("starts with \"GGML\"; expected \"GGUF\""));
}

#[test]
fn hyperparameters_that_are_missing_or_not_understood() {
    for key in [
        "general.architecture",
        "llama.block_count",
        "llama.context_length",
        "llama.embedding_length",
        "llama.feed_forward_length",
        "llama.attention.head_count",
        "llama.attention.layer_norm_rms_epsilon",
    ] {
        refused(llama().without(key), &format!("has no {key:?}, which is required"));
    }
    let cases: [(&str, u32, Vec<u8>, &str); 21] = [
        ("general.architecture", 8, text("gemma"), "has architecture \"gemma\"; expected llama, qwen2 or qwen3"),
        ("general.architecture", 4, u32s(1), "\"general.architecture\" has a value of an unexpected type"),
        ("llama.rope.scaling.type", 8, text("yarn"), "\"llama.rope.scaling.type\" is \"yarn\": such a forward pass"),
        ("llama.rope.scaling.factor", 6, 8_f32.to_le_bytes().to_vec(), "\"llama.rope.scaling.factor\" is 8: such"),
        ("llama.expert_count", 4, u32s(8), "\"llama.expert_count\" is 8: such a forward pass is not computed here"),
        ("llama.attention.causal", 7, vec![0], "\"llama.attention.causal\" is false: such"),
        ("llama.attention.sliding_window", 4, u32s(4096), "\"llama.attention.sliding_window\" is 4096: such"),
        ("llama.something_new", 9, texts(&["a"]), "\"llama.something_new\" is an array: such"),
        ("llama.attention.head_count", 4, u32s(0), "\"llama.attention.head_count\" is 0; expected a size"),
        (
            "llama.attention.head_count",
            9,
            array(5, &[u32s(2)]),
            "\"llama.attention.head_count\" has a value of an unex",
        ),
        ("llama.attention.head_count", 4, u32s(3), "has width 4 and 3 heads of 1; expected an even width"),
        ("llama.attention.head_count", 4, u32s(8), "has width 4 and 8 heads of 0; expected an even width"),
        ("llama.attention.head_count_kv", 4, u32s(0), "has 2 heads and 0 of keys and values; expected a divisor"),
        ("llama.attention.head_count_kv", 4, u32s(4), "has 2 heads and 4 of keys and values; expected a divisor"),
        ("llama.block_count", 4, u32s(u32::MAX), "\"llama.block_count\" has a value of an unexpected type or size"),
        ("llama.block_count", 5, (-1_i32).to_le_bytes().to_vec(), "\"llama.block_count\" has a value of an unexp"),
        (
            "llama.attention.value_length",
            4,
            u32s(4),
            "\"llama.attention.value_length\" is 4; expected the width of a h",
        ),
        ("llama.rope.dimension_count", 4, u32s(1), "\"llama.rope.dimension_count\" is 1; expected the width of a head"),
        ("llama.rope.freq_base", 6, f32::NAN.to_le_bytes().to_vec(), "\"llama.rope.freq_base\" is NaN; expected 1 to"),
        ("llama.vocab_size", 4, u32s(6), "\"llama.vocab_size\" is 6; \"token_embd.weight\" has 5 rows"),
        (
            "llama.attention.layer_norm_rms_epsilon",
            6,
            0_f32.to_le_bytes().to_vec(),
            "\"llama.attention.layer_norm_rms_epsilon\" is 0; expected a number above 0",
        ),
    ];
    for (key, kind, bytes, expected) in cases {
        refused(set(key, kind, &bytes), expected);
    }
    all_steps(&set("llama.rope.scaling.type", 8, &text("none")).bytes()).unwrap();
    all_steps(&set("llama.expert_count", 4, &u32s(0)).bytes()).unwrap();
    refused(llama().value("llama.block_count", 4, &u32s(1)), "has \"llama.block_count\" twice");
    refused(set("x", 13, &[]), "has type 13; expected 0 to 12");
    refused(set("x", 9, &array(9, &[])), "has elements of type 9");
    refused(set("x", 8, &[1, 0, 0, 0, 0, 0, 0, 0, 0xFF]), "is not UTF-8");
    refused(set("x", 9, &[8, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255]), "does not fit the");
    let long = [u32s(6), (1_u64 << 20).to_le_bytes().to_vec()].concat();
    refused(set("x", 9, &long), "an array of 1048576 elements does not fit the");
    refused(set("general.alignment", 4, &u32s(24)), "aligns its tensors to 24 bytes; expected a power of two");
}

#[test]
fn tensors_that_are_missing_or_not_understood() {
    let name = "blk.0.attn_k.weight";
    let replaced = |kind: u32, shape: &[usize]| llama().without_tensor(name).tensor(name, kind, shape, &[0; 32]);
    refused(llama().without_tensor("token_embd.weight"), "has no tensor \"token_embd.weight\"");
    refused(llama().without_tensor(name), "has no tensor \"blk.0.attn_k.weight\"; expected one of shape [4, 2]");
    refused(set("llama.block_count", 4, &u32s(2)), "has no tensor \"blk.1.attn_norm.weight\"");
    refused(replaced(0, &[2, 4]), "tensor \"blk.0.attn_k.weight\" has shape [2, 4]; expected [4, 2]");
    refused(
        replaced(6, &[4, 2]),
        "tensor \"blk.0.attn_k.weight\" has type Q5_0 (6), which is not read; read are F32, F16,",
    );
    refused(replaced(99, &[4, 2]), "has type unknown (99), which is not read");
    refused(replaced(8, &[4, 2]), "has shape [4, 2]; expected positive sizes, the first one a multiple of 32");
    refused(replaced(0, &[4, 0]), "has shape [4, 0]; expected positive sizes");
    refused(replaced(0, &[]), "has 0 axes; expected 1 to 4");
    refused(replaced(0, &[1, 1, 1, 1, 1]), "has 5 axes; expected 1 to 4");
    refused(replaced(0, &[usize::MAX, usize::MAX]), "expected positive sizes");
    refused(replaced(0, &[usize::MAX / 8, 1]), "is cut off: tensor \"blk.0.attn_k.weight\" takes");
    refused(llama().tensor(name, 0, &[4, 2], &[0; 32]), "has tensor \"blk.0.attn_k.weight\" twice");
    for other in
        ["blk.0.attn_q.bias", "blk.0.attn_q_norm.weight", "blk.1.attn_q.weight", "blk.0.ffn_gate_exps.weight", "x"]
    {
        refused(llama().tensor(other, 0, &[4, 4], &build::floats(0, 16)), &format!("has tensor {other:?}, which this"));
    }
    refused(llama().architecture("qwen2"), "has no tensor \"blk.0.attn_q.bias\"");
    refused(llama().architecture("qwen3"), "has no tensor \"blk.0.attn_q_norm.weight\"");
    let factors =
        |values: [f32; 1]| llama().tensor("rope_freqs.weight", 0, &[1], &values.map(f32::to_le_bytes).concat());
    all_steps(&factors([1.0]).bytes()).unwrap();
    refused(factors([8.0]), "tensor \"rope_freqs.weight\" scales the rotary positions");
    let values = [1.0, 2.0, f32::INFINITY, 4.0].map(f32::to_le_bytes).concat();
    let infinite = llama().without_tensor("output_norm.weight").tensor("output_norm.weight", 0, &[4], &values);
    refused(infinite, "tensor \"output_norm.weight\" holds inf at [0, 2]; expected finite numbers");
}

#[test]
fn tokenizers_that_are_not_understood() {
    let set = |key: &str, kind: u32, bytes: &[u8]| {
        let key = format!("tokenizer.ggml.{key}");
        with_merges().without(&key).value(&key, kind, bytes)
    };
    refused(set("model", 8, &text("bert")), "has a tokenizer of kind \"bert\"; expected llama or gpt2");
    refused(
        set("pre", 8, &text("default")),
        "has pre-tokenizer \"default\"; expected one of gpt-2, smollm, llama-bpe,",
    );
    for key in ["pre", "tokens", "token_type", "merges"] {
        let key = format!("tokenizer.ggml.{key}");
        refused(with_merges().without(&key), &format!("has no {key:?}, which is required"));
    }
    refused(set("token_type", 9, &array(5, &[u32s(1)])), "has 5 tokens and 1 types of tokens");
    refused(set("tokens", 9, &texts(&["<s>", "a", "b", "\u{120}", "a"])), "has 5 tokens, of which 4 differ");
    for merge in ["b a", "ab", "a x", "", " ", "ab ab"] {
        refused(set("merges", 9, &texts(&[merge])), &format!("has the merge {merge:?}; expected two tokens"));
    }
    refused(
        set("add_bos_token", 7, &[1]).without("tokenizer.ggml.bos_token_id"),
        "has no \"tokenizer.ggml.bos_token_id\"",
    );
    refused(
        set("add_bos_token", 7, &[1]).without("tokenizer.ggml.bos_token_id").value(
            "tokenizer.ggml.bos_token_id",
            4,
            &u32s(5),
        ),
        "\"tokenizer.ggml.bos_token_id\" is 5; there are 5 tokens",
    );
    refused(set("add_space_prefix", 7, &[1]), "puts a blank before texts");
    refused(set("model", 8, &text("llama")), "has no \"tokenizer.ggml.scores\"");
    let scores = |score: f32, count: usize| {
        set("model", 8, &text("llama")).value(
            "tokenizer.ggml.scores",
            9,
            &array(6, &vec![score.to_le_bytes().to_vec(); count]),
        )
    };
    refused(scores(0.0, 4), "has 5 tokens and 4 scores");
    refused(scores(f32::NAN, 5), "token 0 has score NaN; expected a finite number");
    refused(scores(0.0, 5), "has no token for \"\u{2581}\", nor one for its byte 0xE2");
    refused(scores(0.0, 5).value("tokenizer.ggml.remove_extra_whitespaces", 7, &[1]), "removes white space");
}
