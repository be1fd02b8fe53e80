use basislab_config::ModelSpec;

/// What the headers of a model's files say.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Description {
    /// The forward pass.
    pub(crate) spec: ModelSpec,
    /// Entries of the vocabulary.
    pub(crate) d_vocab: usize,
    /// The architecture as the files name it.
    pub(crate) architecture: String,
    /// Whether there are weights of a language head (a tied one counts).
    pub(crate) has_head: bool,
    /// Numbers in all parameters.
    pub(crate) parameters: u64,
    /// Types of the stored tensors with their number, the most frequent one first.
    pub(crate) types: Vec<(String, usize)>,
    /// What the files say of their licence.
    pub(crate) licence: Option<String>,
}
