//! Every key of an experiment: its type, its range, what it means, and the value a preset gives it.

/// One key.
#[derive(Debug)]
pub struct Key {
    /// Name inside its table.
    pub name: &'static str,
    /// Type and range.
    pub kind: Kind,
    /// One line for people.
    pub about: &'static str,
    /// The value, as TOML, that `--set TABLE.kind=K` gives it; `None` means that it must be set by hand.
    pub preset: Option<&'static str>,
    /// Whether it may be left out.
    pub optional: bool,
}

/// Type and range of a key.
#[derive(Debug)]
pub enum Kind {
    /// A whole number, bounds included.
    Integer(u64, u64),
    /// A finite number, bounds included.
    Float(f64, f64),
    /// A finite number, lower bound included, upper excluded.
    FloatBelow(f64, f64),
    /// A finite number above the first bound (excluded), up to the second (included).
    Positive(f64),
    /// `true` or `false`.
    Bool,
    /// Any text of at most this many characters.
    Text(usize),
    /// A [`crate::RunName`].
    Name,
    /// A residual site, `last` standing for the last block.
    Site,
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A list of distinct seeds.
    Seeds,
    /// A table with these keys.
    Table(&'static [Key]),
    /// A table whose `kind` names the variant.
    Tagged(&'static [Variant]),
    /// A list of tables with these keys, told apart by `name`.
    Tables(&'static [Key]),
}

impl Kind {
    /// Whether its values are text, which `--set` takes as it stands.
    pub(crate) fn is_text(&self) -> bool {
        matches!(self, Self::Text(_) | Self::Name | Self::Site | Self::Choice(_))
    }
}

/// One value of `kind` and the keys that go with it.
#[derive(Debug)]
pub struct Variant {
    /// The value of `kind`.
    pub name: &'static str,
    /// The other keys of the table.
    pub keys: &'static [Key],
}

const fn key(name: &'static str, kind: Kind, about: &'static str) -> Key {
    Key { name, kind, about, preset: None, optional: false }
}

const fn preset(name: &'static str, kind: Kind, value: &'static str, about: &'static str) -> Key {
    Key { name, kind, about, preset: Some(value), optional: false }
}

/// The largest seed.
pub const MAX_SEED: u64 = (1 << 40) - 1;
/// Seeds of an experiment at most.
pub const MAX_SEEDS: usize = 4096;
const SIZE: u64 = 1 << 20;

/// The keys of an experiment file.
pub static ROOT: &[Key] = &[
    key("question", Kind::Text(400), "the question in one sentence"),
    key("seeds", Kind::Seeds, "paired replicates"),
    key("model", Kind::Table(MODEL), "the transformer"),
    key("corpus", Kind::Tagged(CORPUS), "where tokens come from"),
    key("train", Kind::Table(TRAIN), "how long, how much at a time, and the schedule"),
    key("probe", Kind::Table(PROBE), "when to probe, and how many tokens"),
    key("verdict", Kind::Table(VERDICT), "the rule by which claims are decided"),
    key("arm", Kind::Tables(ARM), "one optimizer in one basis"),
    key("claim", Kind::Tables(CLAIM), "one thing to be decided"),
];

const DTYPE: Kind = Kind::Choice(&["f64", "f32", "bf16", "f16"]);

static MODEL: &[Key] = &[
    key("n_ctx", Kind::Integer(2, SIZE), "positions per sequence"),
    key("n_layers", Kind::Integer(1, 1024), "blocks"),
    key("d_model", Kind::Integer(4, 65_536), "width of the residual stream"),
    key("n_heads", Kind::Integer(1, 4096), "attention heads; divides d_model"),
    key("d_mlp", Kind::Integer(1, SIZE), "hidden width of the MLP"),
    key("activation", Kind::Choice(&["gelu", "relu", "solu"]), "the MLP's non-linearity"),
    key(
        "norm",
        Kind::Choice(&["none", "rms", "rms-scalar", "rms-gain", "layernorm"]),
        "normalisation before each read",
    ),
    key("norm_epsilon", Kind::Positive(1.0), "added under the root"),
    key("positions", Kind::Tagged(POSITIONS), "how positions enter"),
    key("attention", Kind::Choice(&["softmax", "softmax-1"]), "attention weights"),
    key("tied_head", Kind::Bool, "whether the head is the transposed embedding"),
    key("biases", Kind::Bool, "whether linear maps carry biases"),
    key("init_std", Kind::Positive(10.0), "standard deviation of the Gaussian initial weights"),
    key("param_dtype", DTYPE, "type of parameters, residual stream, norms and losses"),
    key("compute_dtype", DTYPE, "type in which matrices are multiplied: param_dtype or a narrower one"),
];

static POSITIONS: &[Variant] = &[
    Variant { name: "learned", keys: &[] },
    Variant { name: "rope", keys: &[preset("base", Kind::Float(1.0, 1e9), "10000.0", "wavelength base")] },
];

static CORPUS: &[Variant] = &[Variant { name: "language", keys: LANGUAGE }, Variant { name: "text", keys: TEXT }];

static LANGUAGE: &[Key] = &[
    preset("seed", Kind::Integer(0, MAX_SEED), "0", "fixes the language; run seeds only draw from it"),
    preset("d_vocab", Kind::Integer(2, 1 << 20), "512", "vocabulary size, BOS included"),
    preset("zipf_exponent", Kind::Float(0.0, 10.0), "1.0", "exponent of the emission law inside a class"),
    preset("classes", Kind::Integer(1, 65_536), "16", "latent classes"),
    preset("successors", Kind::Integer(1, 65_536), "3", "classes that can follow a class"),
    preset("stay", Kind::FloatBelow(0.0, 1.0), "0.0", "probability of staying in the class"),
    preset("overlap", Kind::FloatBelow(0.0, 1.0), "0.0", "share of each class's vocabulary common to all classes"),
    preset("bigram", Kind::FloatBelow(0.0, 1.0), "0.0", "probability that the previous token decides the next"),
    preset("bigram_fan", Kind::Integer(1, 65_536), "4", "length of each token's successor list"),
    preset("copy", Kind::FloatBelow(0.0, 1.0), "0.0", "probability that a copied span starts at a token"),
    preset("copy_length", Kind::Integer(1, 65_536), "8", "tokens per copied span"),
    preset("burst", Kind::FloatBelow(0.0, 1.0), "0.0", "probability that a token repeats a recent one"),
    preset("burst_window", Kind::Integer(1, 65_536), "32", "how far back bursts reach"),
    preset("bos", Kind::Bool, "false", "whether each document starts with token 0"),
    preset("document_length", Kind::Integer(0, 1 << 30), "0", "mean document length; 0 is endless"),
];

static TEXT: &[Key] = &[
    key("path", Kind::Text(4096), "the file"),
    preset("tokenizer", Kind::Choice(&["bytes", "bpe"]), "\"bpe\"", "bytes, or a byte-level BPE trained on the file"),
    preset("d_vocab", Kind::Integer(256, 65_536), "512", "vocabulary size; 256 for bytes"),
    preset("held_out", Kind::Float(0.001, 0.5), "0.1", "share of the file, from its end, that is held out"),
];

static TRAIN: &[Key] = &[
    key("steps", Kind::Integer(1, 1 << 40), "optimizer updates"),
    key("batch_size", Kind::Integer(1, SIZE), "sequences per update"),
    key("micro_batches", Kind::Integer(1, SIZE), "parts of a batch whose gradients are averaged; divides batch_size"),
    key("clip_norm", Kind::Float(0.0, 1e9), "largest global gradient norm; 0 is off"),
    key("schedule", Kind::Choice(&["constant", "linear", "cosine"]), "learning rate after warm-up"),
    key("warmup_steps", Kind::Integer(0, 1 << 40), "updates over which the learning rate rises"),
    key("final_lr_fraction", Kind::Float(0.0, 1.0), "the schedule's last value as a share of the peak"),
];

static PROBE: &[Key] = &[
    key("log_until", Kind::Integer(1, 1 << 40), "probe at steps 0, 1, 2, 4, ... up to this one"),
    key("every", Kind::Integer(1, 1 << 40), "then at each multiple of this"),
    key("loss_sequences", Kind::Integer(1, SIZE), "held-out sequences for the validation loss"),
    key("residual_sequences", Kind::Integer(2, SIZE), "of those, how many are measured; at most loss_sequences"),
    key("random_bases", Kind::Integer(8, 4096), "Haar bases at the first, middle and last probe"),
];

static VERDICT: &[Key] = &[
    key("metric", Kind::Name, "the primary metric"),
    key("site", Kind::Site, "the primary site"),
    key("tokens", Kind::Choice(&["all", "first", "rest"]), "which tokens of a sequence"),
    key("alpha", Kind::Float(1e-6, 0.5), "error rate of the family of primary claims"),
    key("min_seeds", Kind::Integer(2, 4096), "fewer seeds: exploratory"),
    key("smallest_effect", Kind::Float(0.0, 100.0), "smallest |log ratio| that counts"),
    key("equivalence_margin", Kind::Positive(100.0), "largest |log ratio| that counts as equal"),
    key("equal_loss_margin", Kind::Positive(100.0), "largest difference of losses, in nats, that counts as equal"),
    key("null_bases", Kind::Integer(8, 4096), "Haar bases for the null of the primary cell"),
];

static ARM: &[Key] = &[
    key("name", Kind::Name, "its name in files and tables"),
    Key { name: "seeds", kind: Kind::Seeds, about: "seeds of this arm alone", preset: None, optional: true },
    key("optimizer", Kind::Tagged(OPTIMIZER), "the update rule"),
    key("basis", Kind::Tagged(BASIS), "what is rotated"),
];

const BETA_ABOUT: &str = "decay of the moment";

/// The update rules. One row per optimizer; a test holds it against [`crate::OptimizerSpec`].
static OPTIMIZER: &[Variant] = &[
    Variant {
        name: "sgd",
        keys: &[
            preset("lr", Kind::Positive(1e6), "0.5", "peak learning rate"),
            preset("momentum", Kind::FloatBelow(0.0, 1.0), "0.9", "momentum, dampening 0"),
            preset("nesterov", Kind::Bool, "false", "Nesterov's look-ahead; wants momentum"),
            preset("weight_decay", Kind::Float(0.0, 1e3), "0.0", "decay inside the gradient"),
            preset("decoupled_weight_decay", Kind::Float(0.0, 1e3), "0.0", "decay outside the gradient"),
        ],
    },
    Variant {
        name: "adam",
        keys: &[
            preset("lr", Kind::Positive(1e6), "1e-2", "peak learning rate"),
            preset("beta_1", Kind::FloatBelow(0.0, 1.0), "0.9", BETA_ABOUT),
            preset("beta_2", Kind::FloatBelow(0.0, 1.0), "0.999", BETA_ABOUT),
            preset("epsilon", Kind::Positive(1e3), "1e-8", "added to the root of the second moment"),
            preset("weight_decay", Kind::Float(0.0, 1e3), "0.0", "decay inside the gradient"),
        ],
    },
    Variant {
        name: "adamw",
        keys: &[
            preset("lr", Kind::Positive(1e6), "1e-2", "peak learning rate"),
            preset("beta_1", Kind::FloatBelow(0.0, 1.0), "0.9", BETA_ABOUT),
            preset("beta_2", Kind::FloatBelow(0.0, 1.0), "0.999", BETA_ABOUT),
            preset("epsilon", Kind::Positive(1e3), "1e-8", "added to the root of the second moment"),
            preset("decoupled_weight_decay", Kind::Float(0.0, 1e3), "0.01", "decay outside the gradient"),
        ],
    },
];

const SHARING: Kind = Kind::Choice(&["shared", "independent"]);

static BASIS: &[Variant] = &[
    Variant { name: "standard", keys: &[] },
    Variant {
        name: "rotated-optimizer",
        keys: &[
            preset("rotation", Kind::Tagged(ROTATION), "{ kind = \"haar\", seed = 7 }", "the orthogonal map"),
            preset("sharing", SHARING, "\"shared\"", "one map, or one per parameter"),
            preset("axes", Kind::Choice(&["residual", "both"]), "\"residual\"", "which axes of a matrix"),
        ],
    },
    Variant {
        name: "rotated-model",
        keys: &[
            preset("rotation", Kind::Tagged(ROTATION), "{ kind = \"haar\", seed = 7 }", "the orthogonal map"),
            preset("sharing", SHARING, "\"shared\"", "one map, or one per parameter"),
        ],
    },
];

const Q_SEED: &str = "with the run's seed, fixes the map";

static ROTATION: &[Variant] = &[
    Variant { name: "identity", keys: &[] },
    Variant { name: "signed-permutation", keys: &[preset("seed", Kind::Integer(0, MAX_SEED), "7", Q_SEED)] },
    Variant { name: "hadamard", keys: &[] },
    Variant { name: "haar", keys: &[preset("seed", Kind::Integer(0, MAX_SEED), "7", Q_SEED)] },
];

static CLAIM: &[Key] = &[
    key("name", Kind::Name, "its name in verdicts.csv"),
    key("text", Kind::Text(400), "the claim in words"),
    key("test", Kind::Tagged(TEST), "what is compared"),
    key("primary", Kind::Bool, "whether it belongs to the Holm family"),
];

const AN_ARM: &str = "the name of an arm";

static TEST: &[Variant] = &[
    Variant { name: "differs-from-null", keys: NULL_TEST },
    Variant { name: "equivalent-to-null", keys: NULL_TEST },
    Variant {
        name: "arms-differ",
        keys: &[
            key("arm", Kind::Name, AN_ARM),
            key("other", Kind::Name, AN_ARM),
            preset("reading", Kind::Choice(&["final", "matched-loss"]), "\"final\"", "where the first arm is read"),
        ],
    },
    Variant { name: "equal-loss", keys: PAIR },
    Variant { name: "bit-equal", keys: PAIR },
];

static NULL_TEST: &[Key] = &[
    key("arm", Kind::Name, AN_ARM),
    preset("basis", Kind::Choice(&["standard", "optimizer"]), "\"standard\"", "the basis measured in"),
];

static PAIR: &[Key] = &[key("arm", Kind::Name, AN_ARM), key("other", Kind::Name, AN_ARM)];
