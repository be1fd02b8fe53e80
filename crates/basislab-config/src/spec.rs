use crate::arms::{Arm, Claim};
use crate::dtype::Dtype;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Everything that decides a result. A file in `configs/` deserialises to it; `config.toml` of a run is it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Experiment {
    /// The question in one sentence; printed with the answer.
    pub question: String,
    /// Paired replicates: every arm sees the same initial weights, batches and held-out tokens for a given seed.
    pub seeds: Vec<u64>,
    /// The transformer.
    pub model: ModelSpec,
    /// Where tokens come from.
    pub corpus: CorpusSpec,
    /// How long, how much at a time, and the learning-rate schedule.
    pub train: TrainSpec,
    /// When to probe, and how many tokens.
    pub probe: ProbeSpec,
    /// The rule by which claims are decided, fixed before the first step.
    pub verdict: VerdictSpec,
    /// The lines of the final figure. They differ in optimizer and basis only.
    #[serde(rename = "arm")]
    pub arms: Vec<Arm>,
    /// What is to be decided.
    #[serde(rename = "claim")]
    pub claims: Vec<Claim>,
}

impl Experiment {
    /// The complete configuration as TOML: parsing it gives the same experiment.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).expect("an experiment holds only strings, numbers and tables")
    }

    /// SHA-256 over the effective configuration without `corpus.path`, lower-case hex. The same text in another folder is
    /// the same experiment; whoever needs to know which text it was keeps the SHA-256 of the corpus beside this.
    pub fn hash(&self) -> String {
        let mut experiment = self.clone();
        if let CorpusSpec::Text(text) = &mut experiment.corpus {
            text.path.clear();
        }
        hex(&Sha256::digest(experiment.to_toml()))
    }

    /// SHA-256 over everything that decides a verdict (rule and claims), lower-case hex. Written down before step 0.
    pub fn verdict_hash(&self) -> String {
        #[derive(Serialize)]
        struct Rule<'a> {
            seeds: &'a [u64],
            verdict: &'a VerdictSpec,
            claim: &'a [Claim],
        }
        let rule = Rule { seeds: &self.seeds, verdict: &self.verdict, claim: &self.claims };
        hex(&Sha256::digest(toml::to_string(&rule).expect("plain data")))
    }

    /// The arm of that name.
    pub fn arm(&self, name: &str) -> Option<&Arm> {
        self.arms.iter().find(|arm| arm.name == name)
    }

    /// The seeds an arm is run with: its own, or the experiment's.
    pub fn seeds_of<'a>(&'a self, arm: &'a Arm) -> &'a [u64] {
        arm.seeds.as_deref().unwrap_or(&self.seeds)
    }

    /// The verdict's site with `last` resolved, e.g. `blocks.1.resid_post`.
    pub fn verdict_site(&self) -> String {
        self.verdict.site.replace("last", &(self.model.n_layers - 1).to_string())
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A decoder-only, pre-norm transformer. The vocabulary is the corpus' (`corpus.d_vocab`).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ModelSpec {
    /// Positions per sequence.
    pub n_ctx: usize,
    /// Blocks (attention + MLP).
    pub n_layers: usize,
    /// Width of the residual stream.
    pub d_model: usize,
    /// Attention heads; divides `d_model`.
    pub n_heads: usize,
    /// Hidden width of the MLP.
    pub d_mlp: usize,
    /// The MLP's non-linearity.
    pub activation: Activation,
    /// Normalisation before each branch and before the head.
    pub norm: NormKind,
    /// Added to the mean square (or variance) under the root.
    pub norm_epsilon: f64,
    /// How positions enter.
    pub positions: Positions,
    /// Attention weights.
    pub attention: Attention,
    /// Whether the head is the transposed embedding.
    pub tied_head: bool,
    /// Whether linear maps carry biases (those written to the residual stream privilege its basis).
    pub biases: bool,
    /// Standard deviation of the Gaussian initial weights; writes are divided by `sqrt(2 n_layers)`.
    pub init_std: f64,
    /// Type of parameters, residual stream, norms and losses. Optimizers keep moments in it, but never below `f32`.
    pub param_dtype: Dtype,
    /// Type in which matrices are multiplied: `param_dtype`, or a narrower one beside it.
    pub compute_dtype: Dtype,
}

impl ModelSpec {
    /// Whether rotating the whole residual stream leaves the function as it is: no per-dimension gain, no centring.
    pub fn is_basis_free(&self) -> bool {
        match self.norm {
            NormKind::None | NormKind::Rms | NormKind::RmsScalar => true,
            NormKind::RmsGain | NormKind::Layernorm => false,
        }
    }
}

/// The MLP's non-linearity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Activation {
    /// `x Phi(x)`, exact (error function), not the tanh approximation.
    Gelu,
    /// `max(0, x)`.
    Relu,
    /// `x softmax(x)` over the hidden axis (Elhage et al. 2022), without the extra LayerNorm.
    Solu,
}

/// Normalisation of the residual stream before it is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NormKind {
    /// No normalisation.
    None,
    /// `x / rms(x)`, no parameters.
    Rms,
    /// `g x / rms(x)` with one learned scalar `g`: basis-free.
    RmsScalar,
    /// `g * x / rms(x)` with one gain per dimension: privileges the standard basis by architecture.
    RmsGain,
    /// Centre, divide by the standard deviation, gain and bias per dimension: privileges the standard basis.
    Layernorm,
}

/// How positions enter the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Positions {
    /// A learned vector per position, added to the embedding.
    Learned {},
    /// Rotary position embedding of queries and keys (Su et al. 2021), half-split pairs.
    Rope {
        /// Wavelength base, 10000 in the literature.
        base: f64,
    },
}

/// Attention weights over keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Attention {
    /// `exp(s_i) / sum_j exp(s_j)`.
    #[serde(rename = "softmax")]
    Softmax,
    /// `exp(s_i) / (1 + sum_j exp(s_j))`: a head may attend to nothing (Miller 2023; Kaul et al. 2024).
    #[serde(rename = "softmax-1")]
    SoftmaxOne,
}

/// Where tokens come from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum CorpusSpec {
    /// The built-in synthetic language.
    Language(LanguageSpec),
    /// A text file.
    Text(TextSpec),
}

impl CorpusSpec {
    /// Size of the vocabulary the model must have.
    pub fn d_vocab(&self) -> usize {
        match self {
            Self::Language(language) => language.d_vocab,
            Self::Text(text) => text.d_vocab,
        }
    }
}

/// The synthetic language: a hidden Markov model over classes, plus optional structure.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LanguageSpec {
    /// Fixes the language itself (class graph, emissions, bigrams); run seeds only draw from it.
    pub seed: u64,
    /// Vocabulary size, including the BOS token (id 0) when there is one.
    pub d_vocab: usize,
    /// Exponent `a` of the emission law inside a class: `p(rank r) ~ (r + 1)^-a`. 0 is uniform.
    pub zipf_exponent: f64,
    /// Latent classes; 1 gives independent draws.
    pub classes: usize,
    /// Distinct classes that can follow a class (besides itself when `stay` > 0).
    pub successors: usize,
    /// Probability of staying in the class at each token.
    pub stay: f64,
    /// Share of each class's vocabulary taken from one pool common to all classes; 0 makes the class visible.
    pub overlap: f64,
    /// Probability that a token is drawn from the previous token's own successor list instead of the class.
    pub bigram: f64,
    /// Length of each token's successor list.
    pub bigram_fan: usize,
    /// Probability that a copy of an earlier span of the document starts at a token.
    pub copy: f64,
    /// Tokens per copied span.
    pub copy_length: usize,
    /// Probability that a token repeats one of the last `burst_window` tokens of the document.
    pub burst: f64,
    /// How far back bursts reach.
    pub burst_window: usize,
    /// Whether each document starts with token 0.
    pub bos: bool,
    /// Mean document length in tokens (geometric); 0 means one endless document.
    pub document_length: usize,
}

/// A text file as corpus.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextSpec {
    /// The file.
    pub path: String,
    /// Bytes, or a byte-level BPE trained on the training split.
    pub tokenizer: TokenizerKind,
    /// Vocabulary size; 256 for bytes.
    pub d_vocab: usize,
    /// Share of the file, taken from its end, that is held out.
    pub held_out: f64,
}

/// How text becomes tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TokenizerKind {
    /// Token = byte; accepts any file.
    Bytes,
    /// Byte-level BPE; wants UTF-8.
    Bpe,
}

/// How long, how much at a time, and the learning-rate schedule.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainSpec {
    /// Optimizer updates.
    pub steps: u64,
    /// Sequences per update.
    pub batch_size: usize,
    /// The batch is split into this many parts whose gradients are averaged.
    pub micro_batches: usize,
    /// Largest global gradient norm, PyTorch's `max_norm / (norm + 1e-6)`; 0 switches clipping off.
    pub clip_norm: f64,
    /// Shape of the learning rate after warm-up.
    pub schedule: ScheduleKind,
    /// Updates over which the learning rate rises linearly from 0.
    pub warmup_steps: u64,
    /// The schedule's last value as a share of the peak.
    pub final_lr_fraction: f64,
}

impl TrainSpec {
    /// The factor on the peak learning rate for update `step` (0-based): linear warm-up, then the schedule, which
    /// reaches `final_lr_fraction` at the last update.
    pub fn lr_factor(&self, step: u64) -> f64 {
        if step < self.warmup_steps {
            return (step + 1) as f64 / self.warmup_steps as f64;
        }
        let span = self.steps.saturating_sub(self.warmup_steps + 1).max(1) as f64;
        let progress = (step - self.warmup_steps) as f64 / span;
        let last = self.final_lr_fraction;
        match self.schedule {
            ScheduleKind::Constant => 1.0,
            ScheduleKind::Linear => 1.0 - (1.0 - last) * progress,
            ScheduleKind::Cosine => last + (1.0 - last) * 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        }
    }
}

/// Shape of the learning rate after warm-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ScheduleKind {
    /// Stays at the peak.
    Constant,
    /// Falls in a straight line to `final_lr_fraction`.
    Linear,
    /// Falls along half a cosine to `final_lr_fraction`.
    Cosine,
}

/// When to probe, and how many tokens. All arms of a seed see the same held-out sequences.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeSpec {
    /// Probe at steps 0, 1, 2, 4, ... up to this one,
    pub log_until: u64,
    /// then at every multiple of this, and at the last step.
    pub every: u64,
    /// Held-out sequences for the validation loss.
    pub loss_sequences: usize,
    /// How many of those have their residual stream measured.
    pub residual_sequences: usize,
    /// Haar bases in which the same activations are measured again, at the first, middle and last probe.
    pub random_bases: usize,
}

impl ProbeSpec {
    /// The steps at which a run of `steps` updates is looked at, ascending; 0 and `steps` are always among them.
    pub fn steps(&self, steps: u64) -> Vec<u64> {
        let powers = (0..63).map(|power| 1u64 << power).take_while(|&step| step <= self.log_until);
        let linear = (self.log_until / self.every + 1..).map(|k| k * self.every).take_while(|&s| s < steps);
        let mut all: Vec<u64> = std::iter::once(0).chain(powers.filter(|&s| s < steps)).chain(linear).collect();
        all.push(steps);
        all.dedup();
        all
    }

    /// Whether this probe is the first, middle or last: there random bases and single dimensions are recorded too.
    pub fn is_full(&self, steps: u64, step: u64) -> bool {
        let all = self.steps(steps);
        step == 0 || step == steps || step == all[all.len() / 2]
    }
}

/// The rule by which claims are decided.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerdictSpec {
    /// The primary metric, by its name in `basislab metrics list`.
    pub metric: String,
    /// The primary site; `blocks.last.resid_post` follows the depth of the model.
    pub site: String,
    /// `all` tokens, the `first` of each sequence, or the `rest`.
    pub tokens: String,
    /// Two-sided error rate of the family of primary claims (Holm).
    pub alpha: f64,
    /// Fewer seeds than this: the verdict is `exploratory`.
    pub min_seeds: usize,
    /// A difference smaller than this in `|log ratio|` does not count, however certain.
    pub smallest_effect: f64,
    /// Two quantities are equivalent when their log ratio lies within plus or minus this (TOST).
    pub equivalence_margin: f64,
    /// Two losses are equal when they differ by less than this, in nats per token (TOST).
    pub equal_loss_margin: f64,
    /// Haar bases that make the null of the primary cell at the last step.
    pub null_bases: usize,
}
