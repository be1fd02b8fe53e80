use basislab_config::{Arm, Experiment};

/// One arm with one seed.
#[derive(Debug, Clone, Copy)]
pub struct Job<'a> {
    /// The arm.
    pub arm: &'a Arm,
    /// The seed.
    pub seed: u64,
}

/// The runs of an experiment, breadth-first: every arm's first seed before any arm's second, so that a first picture comes
/// early. Selection seeds come first.
pub fn jobs(experiment: &Experiment) -> Vec<Job<'_>> {
    let selects = |arm: &&Arm| arm.seeds.iter().any(|seed| !experiment.seeds.contains(seed));
    let mut seeds: Vec<u64> = Vec::new();
    for seed in experiment.arms.iter().filter(selects).flat_map(|arm| &arm.seeds).chain(&experiment.seeds) {
        if !seeds.contains(seed) {
            seeds.push(*seed);
        }
    }
    let of_seed = |seed: u64| {
        let arms = experiment.arms.iter().filter(move |arm| arm.seeds.contains(&seed));
        arms.map(move |arm| Job { arm, seed })
    };
    seeds.into_iter().flat_map(of_seed).collect()
}
