use basislab_config::{Arm, CorpusSpec, Experiment, RunSpec};
use basislab_data::{Corpus, CorpusError};

/// The corpora of an experiment's arms, opened: each once, however many arms it has.
#[derive(Debug)]
pub struct Corpora(Vec<(CorpusSpec, usize, Corpus)>);

impl Corpora {
    /// Opens the corpora of all arms.
    ///
    /// # Errors
    /// The first arm whose corpus cannot be used, and why.
    pub fn open(experiment: &Experiment) -> Result<Self, (&Arm, CorpusError)> {
        let mut all = Self(Vec::new());
        for arm in &experiment.arms {
            if all.find(&arm.run).is_none() {
                let (spec, n_ctx) = (&arm.run.corpus, arm.run.model.n_ctx);
                let corpus = Corpus::open(spec, n_ctx).map_err(|error| (arm, error))?;
                all.0.push((spec.clone(), n_ctx, corpus));
            }
        }
        Ok(all)
    }

    /// The corpus of a run of one of the arms.
    ///
    /// # Panics
    /// If it is a run of another experiment.
    pub fn of(&self, run: &RunSpec) -> &Corpus {
        self.find(run).expect("the corpora of all arms are open")
    }

    fn find(&self, run: &RunSpec) -> Option<&Corpus> {
        let is_of = |(spec, n_ctx, _): &&(CorpusSpec, usize, Corpus)| *spec == run.corpus && *n_ctx == run.model.n_ctx;
        self.0.iter().find(is_of).map(|(.., corpus)| corpus)
    }

    /// Every corpus.
    pub fn iter(&self) -> impl Iterator<Item = &Corpus> {
        self.0.iter().map(|(.., corpus)| corpus)
    }
}
