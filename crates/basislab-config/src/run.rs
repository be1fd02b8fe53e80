use crate::basis::BasisSpec;
use crate::corpus::CorpusSpec;
use crate::hash::sha256_of;
use crate::keys::{Kind, keys};
use crate::model::ModelSpec;
use crate::optimizer::OptimizerSpec;
use crate::phase::Phase;
use crate::train::{ProbeSpec, TrainSpec};
use serde::{Deserialize, Serialize};

/// Everything in the configuration that decides the numbers of one run, but for its seed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// The transformer.
    pub model: ModelSpec,
    /// Where tokens come from.
    pub corpus: CorpusSpec,
    /// How long, how much at a time, and the learning-rate schedule.
    pub train: TrainSpec,
    /// When to measure, and how many tokens.
    pub probe: ProbeSpec,
    /// The update rule.
    pub optimizer: OptimizerSpec,
    /// What is rotated.
    pub basis: BasisSpec,
    /// Later changes of optimizer, basis or learning rate, in the order of their steps.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<Phase>,
}

impl RunSpec {
    /// The tables that arms share and may change.
    pub(crate) const KEYS: &'static [crate::keys::Key] = keys! {
        /// The transformer.
        model: ModelSpec = Kind::Table(ModelSpec::KEYS);
        /// Where tokens come from.
        corpus: CorpusSpec = CorpusSpec::KIND;
        /// How long, how much at a time, and the learning-rate schedule.
        train: TrainSpec = Kind::Table(TrainSpec::KEYS);
        /// When to measure, and how many tokens.
        probe: ProbeSpec = Kind::Table(ProbeSpec::KEYS);
        /// The update rule.
        optimizer: OptimizerSpec = Kind::Optimizer;
        /// What is rotated.
        basis: BasisSpec = BasisSpec::KIND;
        /// Later changes of optimizer, basis or learning rate.
        phases: Vec<Phase> = Kind::List(Phase::KEYS), optional;
    };

    /// SHA-256 over everything that decides the numbers, lower-case hex. The path of a text is left out, since the same
    /// text may lie anywhere; its own SHA-256 goes beside this.
    pub fn hash(&self) -> String {
        let mut run = self.clone();
        if let CorpusSpec::Text(text) = &mut run.corpus {
            text.path.clear();
        }
        sha256_of(&run)
    }
}
