//! The coordinates of a measurement: site, tokens, basis, step.

use crate::keys::{Choice, Key, Kind, choice, keys};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// A point on the residual stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Site {
    /// What the embeddings write, where the stream is normalised after them (post-norm models): `embed_sum`.
    EmbedSum,
    /// After the embeddings: `embed`.
    Embed,
    /// What a block's attention writes: `blocks.N.attn_out`.
    AttnOut(usize),
    /// The stream with it, before a post-norm model normalises the sum: `blocks.N.attn_sum`.
    AttnSum(usize),
    /// After a block's attention has written: `blocks.N.resid_mid`.
    ResidMid(usize),
    /// What a block's MLP writes: `blocks.N.mlp_out`.
    MlpOut(usize),
    /// The stream with it, before a post-norm model normalises the sum: `blocks.N.mlp_sum`.
    MlpSum(usize),
    /// After a block's MLP has written: `blocks.N.resid_post`.
    ResidPost(usize),
    /// The streams after all blocks together, for metrics that compare layers: `blocks.*.resid_post`.
    EveryResidPost,
    /// After the last norm, what the head reads: `final`.
    Final,
}

impl Site {
    /// The block, where there is one.
    pub fn layer(self) -> Option<usize> {
        match self {
            Self::AttnOut(layer) | Self::AttnSum(layer) | Self::ResidMid(layer) => Some(layer),
            Self::MlpOut(layer) | Self::MlpSum(layer) | Self::ResidPost(layer) => Some(layer),
            Self::EmbedSum | Self::Embed | Self::EveryResidPost | Self::Final => None,
        }
    }

    /// Whether it is what a branch writes rather than the stream.
    pub fn is_branch(self) -> bool {
        matches!(self, Self::AttnOut(_) | Self::MlpOut(_))
    }

    /// Its place in the forward pass; an earlier site has a smaller one.
    pub fn order(self) -> (usize, usize) {
        match self {
            Self::EmbedSum => (0, 0),
            Self::Embed => (0, 1),
            Self::AttnOut(layer) => (layer + 1, 0),
            Self::AttnSum(layer) => (layer + 1, 1),
            Self::ResidMid(layer) => (layer + 1, 2),
            Self::MlpOut(layer) => (layer + 1, 3),
            Self::MlpSum(layer) => (layer + 1, 4),
            Self::ResidPost(layer) => (layer + 1, 5),
            Self::EveryResidPost => (usize::MAX, 0),
            Self::Final => (usize::MAX, 1),
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EmbedSum => f.pad("embed_sum"),
            Self::Embed => f.pad("embed"),
            Self::AttnOut(layer) => write!(f, "blocks.{layer}.attn_out"),
            Self::AttnSum(layer) => write!(f, "blocks.{layer}.attn_sum"),
            Self::ResidMid(layer) => write!(f, "blocks.{layer}.resid_mid"),
            Self::MlpOut(layer) => write!(f, "blocks.{layer}.mlp_out"),
            Self::MlpSum(layer) => write!(f, "blocks.{layer}.mlp_sum"),
            Self::ResidPost(layer) => write!(f, "blocks.{layer}.resid_post"),
            Self::EveryResidPost => f.pad("blocks.*.resid_post"),
            Self::Final => f.pad("final"),
        }
    }
}

impl FromStr for Site {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let layer = |layer: &str| layer.parse::<usize>().ok().filter(|n| n.to_string() == layer);
        let parts: Vec<&str> = text.split('.').collect();
        let site = match parts[..] {
            ["embed_sum"] => Some(Self::EmbedSum),
            ["embed"] => Some(Self::Embed),
            ["final"] => Some(Self::Final),
            ["blocks", "*", "resid_post"] => Some(Self::EveryResidPost),
            ["blocks", n, "attn_out"] => layer(n).map(Self::AttnOut),
            ["blocks", n, "attn_sum"] => layer(n).map(Self::AttnSum),
            ["blocks", n, "resid_mid"] => layer(n).map(Self::ResidMid),
            ["blocks", n, "mlp_out"] => layer(n).map(Self::MlpOut),
            ["blocks", n, "mlp_sum"] => layer(n).map(Self::MlpSum),
            ["blocks", n, "resid_post"] => layer(n).map(Self::ResidPost),
            _ => None,
        };
        site.ok_or_else(|| format!("found {text:?}, expected embed, blocks.N.resid_mid, blocks.N.resid_post or final"))
    }
}

/// A site in a configuration, where `last` stands for the last block, however many there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum SitePattern {
    /// A site by its own name.
    At(Site),
    /// `blocks.last.resid_mid`.
    LastMid,
    /// `blocks.last.resid_post`.
    LastPost,
}

impl SitePattern {
    /// The site in a model of that many blocks.
    pub fn resolve(self, n_layers: usize) -> Site {
        match self {
            Self::At(site) => site,
            Self::LastMid => Site::ResidMid(n_layers - 1),
            Self::LastPost => Site::ResidPost(n_layers - 1),
        }
    }
}

impl fmt::Display for SitePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(site) => site.fmt(f),
            Self::LastMid => f.pad("blocks.last.resid_mid"),
            Self::LastPost => f.pad("blocks.last.resid_post"),
        }
    }
}

impl FromStr for SitePattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "blocks.last.resid_mid" => Ok(Self::LastMid),
            "blocks.last.resid_post" => Ok(Self::LastPost),
            _ => match text.parse()? {
                Site::EveryResidPost => Err(format!("found {text:?}, expected one site")),
                site => Ok(Self::At(site)),
            },
        }
    }
}

choice! {
    /// Which tokens of the held-out sequences are measured.
    pub enum Tokens {
        /// All of them.
        All = "all",
        /// The first of each sequence.
        First = "first",
        /// All but the first of each sequence.
        Rest = "rest",
        /// Those of the rest that `basislab measure` measures in random bases too.
        Sample = "sample",
    }
}

/// A key that holds those that every probe measures.
pub(crate) const PROBED: Kind = Kind::Choice(Tokens::CHOICES.split_at(3).0);

/// The coordinates that activations are measured in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Basis {
    /// The model's own coordinates: `standard`.
    Standard,
    /// The basis that the optimizer works in, where it is one basis: `optimizer`.
    Optimizer,
    /// The k-th Haar basis of the null: `random:k`.
    Random(u32),
}

impl fmt::Display for Basis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Standard => f.pad("standard"),
            Self::Optimizer => f.pad("optimizer"),
            Self::Random(k) => write!(f, "random:{k}"),
        }
    }
}

impl FromStr for Basis {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let random = || text.strip_prefix("random:")?.parse().ok().map(Self::Random);
        match text {
            "standard" => Ok(Self::Standard),
            "optimizer" => Ok(Self::Optimizer),
            _ => random().ok_or_else(|| format!("found {text:?}, expected standard, optimizer or random:<k>")),
        }
    }
}

/// Serde through the text that [`fmt::Display`] writes and [`FromStr`] reads.
macro_rules! as_text {
    ($($name:ty),*) => {$(
        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, String> {
                text.parse()
            }
        }
    )*};
}
as_text!(Site, SitePattern, Basis);

/// After which update a cell is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum StepPattern {
    /// After this one.
    At(u64),
    /// After the last: `"last"`.
    Last(Last),
}

/// The word `last`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Last {
    /// `last`.
    Last,
}

impl StepPattern {
    /// After the last update.
    pub const LAST: Self = Self::Last(Last::Last);

    /// The step in a run of that many updates.
    pub fn resolve(self, steps: u64) -> u64 {
        match self {
            Self::At(step) => step,
            Self::Last(_) => steps,
        }
    }
}

/// Where a claim reads the tables.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cell {
    /// The metric, by its name in `basislab metrics list`, or [`LOSS`].
    pub metric: String,
    /// The site.
    pub site: SitePattern,
    /// Which tokens.
    pub tokens: Tokens,
    /// The basis measured in.
    pub basis: Basis,
    /// After which update: a probe, or `"last"`.
    pub step: StepPattern,
}

/// The metric of a cell that is the held-out loss in nats per token. It has no site, tokens or basis.
pub const LOSS: &str = "loss";

impl Cell {
    /// Whether it is the held-out loss, and no metric of the residual stream.
    pub fn is_loss(&self) -> bool {
        self.metric == LOSS
    }

    /// The keys of a claim's `cell`. What it leaves out is as in `[verdict]`.
    pub(crate) const KEYS: &'static [Key] = keys! {
        /// The metric, by its name in `basislab metrics list`.
        metric: String = Kind::Name, optional;
        /// The site.
        site: SitePattern = Kind::Site, optional;
        /// Which tokens.
        tokens: Tokens = PROBED, optional;
        /// The basis measured in.
        basis: Basis = MEASURED, optional;
        /// After which update: a probe, or `"last"`.
        step: StepPattern = Kind::Step, optional;
    };
}

/// The bases that a claim may name.
pub(crate) const MEASURED: Kind = Kind::Choice(&[
    Choice { name: "standard", about: "The model's own coordinates." },
    Choice { name: "optimizer", about: "The basis that the optimizer works in, for an arm with one shared rotation." },
]);
