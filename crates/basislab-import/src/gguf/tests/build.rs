//! Files made by hand, byte by byte.

/// A GGUF file in parts.
#[derive(Clone)]
pub(crate) struct File {
    pub(crate) version: u32,
    /// Key, type of the value, bytes of the value.
    values: Vec<(String, u32, Vec<u8>)>,
    /// Name, type, sizes, bytes.
    tensors: Vec<(String, u32, Vec<u64>, Vec<u8>)>,
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u64).to_le_bytes(), text.as_bytes()].concat()
}

pub(crate) fn u32s(value: u32) -> Vec<u8> {
    value.to_le_bytes().to_vec()
}

pub(crate) fn array(kind: u32, elements: &[Vec<u8>]) -> Vec<u8> {
    [u32s(kind), (elements.len() as u64).to_le_bytes().to_vec(), elements.concat()].concat()
}

pub(crate) fn texts(elements: &[&str]) -> Vec<u8> {
    array(8, &elements.iter().map(|element| text(element)).collect::<Vec<_>>())
}

/// `count` floats from `first` on, in steps of 1.
pub(crate) fn floats(first: usize, count: usize) -> Vec<u8> {
    (first..first + count).flat_map(|value| (value as f32).to_le_bytes()).collect()
}

impl File {
    pub(crate) fn value(mut self, key: &str, kind: u32, bytes: &[u8]) -> Self {
        self.values.push((key.to_owned(), kind, bytes.to_vec()));
        self
    }

    pub(crate) fn tensor(mut self, name: &str, kind: u32, shape: &[usize], bytes: &[u8]) -> Self {
        let shape = shape.iter().map(|size| *size as u64).collect();
        self.tensors.push((name.to_owned(), kind, shape, bytes.to_vec()));
        self
    }

    pub(crate) fn without(mut self, key: &str) -> Self {
        self.values.retain(|value| value.0 != key);
        self
    }

    pub(crate) fn without_tensor(mut self, name: &str) -> Self {
        self.tensors.retain(|tensor| tensor.0 != name);
        self
    }

    /// Another architecture with the same sizes.
    pub(crate) fn architecture(mut self, name: &str) -> Self {
        for (key, _, value) in &mut self.values {
            if key == "general.architecture" {
                *value = text(name);
            }
            *key = key.replace("llama.", &format!("{name}."));
        }
        self
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        let counts = [self.tensors.len() as u64, self.values.len() as u64].map(u64::to_le_bytes).concat();
        let mut bytes = [b"GGUF".to_vec(), u32s(self.version), counts].concat();
        for (key, kind, value) in &self.values {
            bytes.extend([text(key), u32s(*kind), value.clone()].concat());
        }
        let mut data = Vec::<u8>::new();
        for (name, kind, shape, values) in &self.tensors {
            let sizes = shape.iter().flat_map(|size| size.to_le_bytes()).collect();
            let offset = (data.len() as u64).to_le_bytes().to_vec();
            bytes.extend([text(name), u32s(shape.len() as u32), sizes, u32s(*kind), offset].concat());
            data.extend(values);
            data.resize(data.len().next_multiple_of(32), 0);
        }
        bytes.resize(bytes.len().next_multiple_of(32), 0);
        bytes.extend(data);
        bytes
    }
}

/// A Llama of one block: width 4, 2 heads of 2, 1 of keys and values, MLP of 6, vocabulary of 5. Tensor i holds 100 i,
/// 100 i + 1, ...
pub(crate) fn llama() -> File {
    let mut file = File { version: 3, values: Vec::new(), tensors: Vec::new() };
    file = file.value("general.architecture", 8, &text("llama")).value("general.license", 8, &text("mit"));
    let sizes = [
        ("block_count", 1),
        ("context_length", 16),
        ("embedding_length", 4),
        ("feed_forward_length", 6),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
    ];
    for (name, size) in sizes {
        file = file.value(&format!("llama.{name}"), 4, &u32s(size));
    }
    file = file.value("llama.attention.layer_norm_rms_epsilon", 6, &1e-5_f32.to_le_bytes());
    let tensors: [(&str, &[usize]); 11] = [
        ("token_embd.weight", &[4, 5]),
        ("output_norm.weight", &[4]),
        ("blk.0.attn_norm.weight", &[4]),
        ("blk.0.attn_q.weight", &[4, 4]),
        ("blk.0.attn_k.weight", &[4, 2]),
        ("blk.0.attn_v.weight", &[4, 2]),
        ("blk.0.attn_output.weight", &[4, 4]),
        ("blk.0.ffn_norm.weight", &[4]),
        ("blk.0.ffn_gate.weight", &[4, 6]),
        ("blk.0.ffn_up.weight", &[4, 6]),
        ("blk.0.ffn_down.weight", &[6, 4]),
    ];
    for (index, (name, shape)) in tensors.iter().enumerate() {
        file = file.tensor(name, 0, shape, &floats(100 * index, shape.iter().product()));
    }
    file
}

/// As `llama`, with a byte-level tokenizer: a, b, blank, ab and the special token.
pub(crate) fn with_merges() -> File {
    llama()
        .value("tokenizer.ggml.model", 8, &text("gpt2"))
        .value("tokenizer.ggml.pre", 8, &text("gpt-2"))
        .value("tokenizer.ggml.tokens", 9, &texts(&["<s>", "a", "b", "\u{120}", "ab"]))
        .value("tokenizer.ggml.token_type", 9, &array(5, &[3, 1, 1, 1, 1].map(u32s)))
        .value("tokenizer.ggml.merges", 9, &texts(&["a b"]))
        .value("tokenizer.ggml.bos_token_id", 4, &u32s(0))
}
