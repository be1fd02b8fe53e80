use crate::basis::BasisSpec;
use crate::corpus::CorpusSpec;
use crate::hash::sha256_of;
use crate::keys::{Kind, keys};
use crate::model::ModelSpec;
use crate::optimizer::OptimizerSpec;
use crate::phase::{Moments, Phase};
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
    pub const KEYS: &'static [crate::keys::Key] = keys! {
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
        /// What is rotated: nothing, the coordinates of the optimizer, or those of the model.
        basis: BasisSpec = BasisSpec::KIND;
        /// Later changes of optimizer, basis or learning rate.
        phases: Vec<Phase> = Kind::List(Phase::KEYS), optional;
    };

    /// The learning rate's factor on each rule's peak, at an update (from 1).
    pub fn lr_factor(&self, step: u64) -> f64 {
        self.train.lr_factor(step.saturating_sub(1))
    }

    /// The optimizer, its basis, and the update before the state was last empty, as they are at an update (from 1).
    pub fn optimizer_at(&self, step: u64) -> (&OptimizerSpec, &BasisSpec, u64) {
        let mut at = (&self.optimizer, &self.basis, 0);
        for phase in self.phases.iter().take_while(|phase| phase.from <= step) {
            let since = if phase.moments == Moments::Reset { phase.from - 1 } else { at.2 };
            at = (&phase.optimizer, &phase.basis, since);
        }
        at
    }

    /// The phase whose first update this is.
    pub fn phase_from(&self, step: u64) -> Option<&Phase> {
        self.phases.iter().find(|phase| phase.from == step)
    }

    /// The learning rate of an update (from 1); with groups that of the first one.
    pub fn lr(&self, step: u64) -> f64 {
        self.optimizer_at(step).0.lr() * self.lr_factor(step)
    }

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
