use basislab_config::ModelSpec;
use std::collections::BTreeMap;

/// A model's forward pass, and where its parameters are stored.
#[derive(Debug)]
pub(super) struct Layout {
    pub(super) spec: ModelSpec,
    pub(super) d_vocab: usize,
    pub(super) architecture: &'static str,
    pub(super) has_head: bool,
    pub(super) parameters: BTreeMap<String, Stored>,
    /// What may precede the name of any tensor.
    pub(super) prefix: &'static str,
    /// The tensor of a head that is not tied.
    pub(super) head: &'static str,
    /// Tensors that the forward pass does not need, with `L` for the number of a layer.
    pub(super) buffers: &'static [&'static str],
    /// Keys of this family that do not change the forward pass.
    pub(super) ignored_keys: &'static [&'static str],
}

/// How a parameter [in, out] is stored.
#[derive(Debug)]
pub(super) struct Stored {
    pub(super) tensor: String,
    pub(super) shape: [usize; 2],
    /// Whether the tensor has one axis.
    pub(super) is_vector: bool,
    /// Whether the tensor is [out, in].
    pub(super) transposed: bool,
    /// Where queries, keys and values are one tensor.
    pub(super) third: Option<Third>,
    /// A matrix with so many rows, the first one of which is added to every row.
    pub(super) plus_first_row: Option<(String, usize)>,
    /// Rows of the tensor after those of the parameter.
    pub(super) rows_after: usize,
}

/// One of queries, keys and values in a tensor of all three, whose outputs are [heads, 3, width].
#[derive(Debug, Clone, Copy)]
pub(super) struct Third {
    /// 0 for queries, 1 for keys, 2 for values.
    pub(super) index: usize,
    pub(super) heads: usize,
}

impl Third {
    /// Where an output of this part is among those of all three.
    pub(super) fn output(self, output: usize, width: usize) -> usize {
        let (head, within) = (output / width, output % width);
        (3 * head + self.index) * width + within
    }
}

impl Stored {
    /// A vector of n values.
    pub(super) fn vector(tensor: String, n: usize) -> Self {
        Self { is_vector: true, ..Self::matrix(tensor, [1, n]) }
    }

    /// A matrix that is stored as it is.
    pub(super) fn matrix(tensor: String, shape: [usize; 2]) -> Self {
        Self { tensor, shape, is_vector: false, transposed: false, third: None, plus_first_row: None, rows_after: 0 }
    }

    /// A matrix that is stored [out, in].
    pub(super) fn transposed(tensor: String, shape: [usize; 2]) -> Self {
        Self { transposed: true, ..Self::matrix(tensor, shape) }
    }

    /// Queries, keys or values in a tensor of all three.
    pub(super) fn third(self, index: usize, heads: usize) -> Self {
        Self { third: Some(Third { index, heads }), ..self }
    }

    /// The tensors that it needs, with their shapes.
    pub(super) fn tensors_mut(&mut self) -> Vec<(&mut String, Vec<usize>)> {
        let [inputs, outputs] = self.shape;
        let outputs = if self.third.is_some() { 3 * outputs } else { outputs };
        let shape = match (self.is_vector, self.transposed) {
            (true, _) => vec![outputs],
            (false, true) => vec![outputs, inputs],
            (false, false) => vec![inputs + self.rows_after, outputs],
        };
        let more = self.plus_first_row.as_mut().map(|(tensor, rows)| (tensor, vec![*rows, self.shape[1]]));
        std::iter::once((&mut self.tensor, shape)).chain(more).collect()
    }
}

impl Layout {
    /// A tensor's name without the prefix; old files call gains and biases of a norm gamma and beta.
    pub(super) fn plain_name(&self, name: &str) -> String {
        let name = name.strip_prefix(self.prefix).unwrap_or(name);
        name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")
    }
}

/// A tensor's name with `L` for the number of its layer.
pub(super) fn without_layer(name: &str) -> String {
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    name.split('.').map(|part| if is_number(part) { "L" } else { part }).collect::<Vec<_>>().join(".")
}

/// Width of a head.
pub(super) fn head_width(d_model: usize, n_heads: usize) -> Result<usize, String> {
    if d_model.is_multiple_of(n_heads) {
        Ok(d_model / n_heads)
    } else {
        Err(format!("found {n_heads} attention heads, expected a divisor of the width {d_model}"))
    }
}
