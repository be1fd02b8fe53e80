//! Synthetic tables in the shape of the default experiment, for tests.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

use basislab_config::{Basis, Change, Commutes, Experiment, Key, Kind, Library, Role, RuleKeys, RunName, Site, load};
use basislab_tables::{
    DimensionRow, Ending, EvalRow, ResidualRow, Row, RunEnd, Shard, Split, Status, StepRow, Tables, part_dir,
};
use std::path::Path;

/// As much of the rules as the default experiment names.
static RULES: &[&RuleKeys] = &[
    &RuleKeys {
        name: "adam",
        keys: &[number("lr"), number("beta_1"), number("beta_2"), number("epsilon"), number("weight_decay")],
        roles: Role::ALL,
        commutes: Commutes::SignedPermutations { exactly: true },
        slots: |_| &[],
        check: |_| None,
    },
    &RuleKeys {
        name: "sgd",
        keys: &[
            number("lr"),
            number("momentum"),
            Key { kind: Kind::Bool, ..number("nesterov") },
            number("weight_decay"),
            number("decoupled_weight_decay"),
        ],
        roles: Role::ALL,
        commutes: Commutes::Rotations { permutations_exactly: true },
        slots: |_| &[],
        check: |_| None,
    },
];

const fn number(name: &'static str) -> Key {
    Key { name, kind: Kind::Finite, about: "", preset: None, optional: false }
}

/// The default experiment with seeds and rule pinned, so that tests do not follow its tuning.
pub(crate) fn experiment(n_seeds: u64) -> Experiment {
    experiment_with(n_seeds, "")
}

/// The same with more arms, claims or grids, as TOML.
pub(crate) fn experiment_with(n_seeds: u64, rest: &str) -> Experiment {
    let text = format!("{}\n{rest}", include_str!("../../../tests/support/adam-vs-sgd.toml"));
    let set = |(path, value): (&str, &str)| Change::set(path, value, "pinned");
    let pinned = [
        ("train.steps", "600"),
        ("probe.log_until", "512"),
        ("probe.every", "100"),
        ("verdict.alpha", "0.05"),
        ("verdict.min_seeds", "8"),
        ("verdict.smallest_effect", "0.15"),
        ("verdict.equivalence_margin", "0.10"),
        ("verdict.equal_loss_margin", "0.01"),
    ];
    let library = Library { rules: RULES, base: &|name| Err(format!("found {name:?}, expected none")) };
    let mut experiment = load(&text, "adam-vs-sgd.toml", &pinned.map(set), library).unwrap().experiment;
    let (all, seeds): (_, Vec<u64>) = (experiment.seeds.clone(), (0..n_seeds).collect());
    // An arm with seeds of its own keeps them.
    for arm in experiment.arms.iter_mut().filter(|arm| arm.seeds == all) {
        arm.seeds.clone_from(&seeds);
    }
    experiment.seeds = seeds;
    experiment
}

/// The site of the verdict, which is the same in all arms.
pub(crate) fn verdict_site(experiment: &Experiment) -> Site {
    experiment.verdict.site.resolve(experiment.shared.model.n_layers)
}

/// What one synthetic run ends at.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    /// The verdict's metric in the standard basis.
    pub(crate) standard: f64,
    /// The same in the optimizer's basis, where the arm has one.
    pub(crate) optimizer: Option<f64>,
    /// Final held-out loss.
    pub(crate) loss: f64,
    /// The step at which the run stops with a number that is not finite.
    pub(crate) diverges_at: Option<u64>,
}

/// What was measured when Adam makes a basis: adam and rotated Adam in its own basis leave the null, the others stay.
pub(crate) fn effect(arm: &str, seed: u64) -> Outcome {
    let wobble = |scale: f64| 1.0 + scale * noise(&[hash(arm), seed, 1]);
    let loss = 3.41 + 0.004 * noise(&[seed, 2]);
    let (standard, optimizer, loss) = match arm {
        "adam" | "adam-identity" => (5.1 * (1.0 + 0.08 * noise(&[seed, 3])), None, loss),
        "adam-rotated" => (2.91 * wobble(0.015), Some(5.2 * wobble(0.08)), loss + 0.001 * noise(&[seed, 4])),
        "sgd" => (2.88 * wobble(0.02), None, loss + 0.005 + 0.002 * noise(&[seed, 5])),
        _ => (2.95 * wobble(0.015), None, loss + 0.001),
    };
    Outcome { standard, optimizer, loss, diverges_at: None }
}

/// Every arm at its null.
pub(crate) fn no_effect(arm: &str, seed: u64) -> Outcome {
    let key = if arm == "adam-identity" { "adam" } else { arm };
    let at_null = |which| 2.91 * (1.0 + 0.015 * noise(&[hash(key), seed, which]));
    let optimizer = (arm == "adam-rotated").then(|| at_null(6));
    Outcome { standard: at_null(5), optimizer, ..effect(key, seed) }
}

/// The tables that runs with these outcomes leave behind.
pub(crate) fn tables(experiment: &Experiment, outcome: impl Fn(&str, u64) -> Outcome) -> Tables {
    let mut tables = Tables::default();
    for arm in &experiment.arms {
        for &seed in &arm.seeds {
            for row in rows(experiment, &arm.name, seed, outcome(&arm.name, seed)) {
                match row {
                    Row::Step(row) => tables.steps.push(row),
                    Row::Eval(row) => tables.evals.push(row),
                    Row::Residual(row) => tables.residual.push(row),
                    Row::Dimension(row) => tables.dimensions.push(row),
                    Row::DimensionStep(row) => tables.dimension_steps.push(row),
                }
            }
        }
    }
    tables
}

/// Writes one run's shard.
pub(crate) fn write_part(dir: &Path, arm: &str, seed: u64, rows: Vec<Row>) {
    let mut shard = Shard::create(&part_dir(dir, &name(arm), seed)).unwrap();
    for row in rows {
        shard.push(row).unwrap();
    }
    let tables = shard.sync().unwrap();
    RunEnd { state: Ending::Complete, step: 1, tensor: None, tables }.write(&part_dir(dir, &name(arm), seed)).unwrap();
}

pub(crate) fn name(text: &str) -> RunName {
    RunName::new(text).unwrap()
}

/// Every row of one run, in the order in which it writes them.
pub(crate) fn rows(experiment: &Experiment, arm: &str, seed: u64, outcome: Outcome) -> Vec<Row> {
    let key = if arm == "adam-identity" { hash("adam") } else { hash(arm) };
    let run = Run { experiment, arm, seed, key, outcome };
    let end = outcome.diverges_at.unwrap_or(experiment.shared.train.steps);
    let mut rows = Vec::new();
    let probes = experiment.shared.probe.steps(experiment.shared.train.steps);
    for step in 0..=end {
        if step > 0 {
            rows.push(Row::Step(run.step(step, outcome.diverges_at == Some(step))));
        }
        if probes.contains(&step) && outcome.diverges_at != Some(step) {
            rows.extend(run.look(step));
        }
    }
    rows
}

struct Run<'a> {
    experiment: &'a Experiment,
    arm: &'a str,
    seed: u64,
    key: u64,
    outcome: Outcome,
}

impl Run<'_> {
    fn step(&self, step: u64, diverged: bool) -> StepRow {
        let here = |value: f64| (!diverged).then_some(value);
        StepRow {
            arm: name(self.arm),
            seed: self.seed,
            step,
            tokens: step * 1024,
            lr: 0.01 * self.experiment.shared.train.lr_factor(step - 1),
            train_loss: here(self.loss(step) + 0.02 * noise(&[self.key, self.seed, step, 7])),
            grad_norm: here(0.5 + 0.1 * noise(&[self.key, self.seed, step, 8])),
            status: if diverged { Status::Diverged } else { Status::Ok },
        }
    }

    fn look(&self, step: u64) -> Vec<Row> {
        let floor = 3.331;
        let loss = self.loss(step);
        let mut rows = vec![Row::Eval(EvalRow {
            arm: name(self.arm),
            seed: self.seed,
            step,
            split: Split::HeldOut,
            loss: Some(loss),
            loss_above_floor: Some(loss - floor),
        })];
        let sites = sites(self.experiment.shared.model.n_layers);
        let verdict_site = verdict_site(self.experiment);
        for (index, &site) in sites.iter().enumerate() {
            let depth = (index + 1) as f64 / sites.len() as f64;
            let cell = |basis: Basis, value: f64| self.residual(step, site, basis, value);
            rows.push(cell(Basis::Standard, self.kurtosis(self.outcome.standard, step, depth, 9)));
            if let Some(own) = self.outcome.optimizer {
                rows.push(cell(Basis::Optimizer, self.kurtosis(own, step, depth, 10)));
            }
            if self.experiment.shared.probe.is_full(self.experiment.shared.train.steps, step) {
                let primary = site == verdict_site && step == self.experiment.shared.train.steps;
                let draws = if primary {
                    self.experiment.shared.probe.null_bases
                } else {
                    self.experiment.shared.probe.random_bases
                };
                for k in 0..draws {
                    let draw = 2.91 + 0.12 * noise(&[self.key, self.seed, step, index as u64, k as u64, 11]);
                    rows.push(cell(Basis::Random(k as u32), draw));
                }
                rows.extend(self.dimensions(step, site));
            }
        }
        rows
    }

    fn residual(&self, step: u64, site: Site, basis: Basis, value: f64) -> Row {
        Row::Residual(ResidualRow {
            arm: name(self.arm),
            seed: self.seed,
            step,
            site,
            layer: site.layer(),
            tokens: self.experiment.verdict.tokens,
            tokens_used: 2016,
            basis,
            metric: self.experiment.verdict.metric.clone(),
            value: Some(value),
        })
    }

    fn dimensions(&self, step: u64, site: Site) -> Vec<Row> {
        let bases = [(Basis::Standard, Some(self.outcome.standard)), (Basis::Optimizer, self.outcome.optimizer)];
        let mut rows = Vec::new();
        for (basis, end) in bases {
            let Some(end) = end else { continue };
            for dim in 0..self.experiment.shared.model.d_model {
                let spread = 0.03 + 0.16 * (end - 2.9).max(0.0);
                let rms = (spread * noise(&[self.key, self.seed, dim as u64, 12])).exp();
                rows.push(Row::Dimension(DimensionRow {
                    arm: name(self.arm),
                    seed: self.seed,
                    step,
                    site,
                    layer: site.layer(),
                    dim,
                    mean: 0.01 * rms,
                    rms,
                    variance: rms * rms,
                    skewness: Some(0.1),
                    kurtosis: None,
                    min: -3.0 * rms,
                    max: 3.0 * rms,
                    max_abs: 3.0 * rms,
                    share_of_energy: 1.0 / self.experiment.shared.model.d_model as f64,
                    basis,
                    tokens: self.experiment.verdict.tokens,
                }));
            }
        }
        rows
    }

    fn loss(&self, step: u64) -> f64 {
        self.outcome.loss + (6.24 - self.outcome.loss) * (1.0 - self.progress(step, 60.0))
    }

    fn kurtosis(&self, end: f64, step: u64, depth: f64, which: u64) -> f64 {
        let start = 2.91 * (1.0 + 0.01 * noise(&[self.seed, which]));
        start + (end - start) * self.progress(step, 150.0) * depth
    }

    fn progress(&self, step: u64, half: f64) -> f64 {
        let rise = |step: f64| step * step / (step * step + half * half);
        rise(step as f64) / rise(self.experiment.shared.train.steps as f64)
    }
}

fn sites(n_layers: usize) -> Vec<Site> {
    let blocks = (0..n_layers).flat_map(|n| [Site::ResidMid(n), Site::ResidPost(n)]);
    std::iter::once(Site::Embed).chain(blocks).chain([Site::Final]).collect()
}

/// About Gaussian, fixed by its key (SplitMix64).
fn noise(key: &[u64]) -> f64 {
    let mut state = 0u64;
    let mut total = 0.0;
    for &part in key.iter().chain(&[1, 2, 3, 4, 5, 6]) {
        state = mix(state ^ part);
    }
    for _ in 0..12 {
        state = mix(state);
        total += (state >> 11) as f64 / (1u64 << 53) as f64;
    }
    total - 6.0
}

fn mix(state: u64) -> u64 {
    let mut z = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn hash(text: &str) -> u64 {
    text.bytes().fold(7, |state, byte| mix(state ^ u64::from(byte)))
}

/// Changes the rows of `residual.csv`.
pub(crate) fn edit_residual(tables: &mut Tables, change: impl FnOnce(&mut Vec<ResidualRow>)) {
    let mut rows = tables.residual.to_rows();
    change(&mut rows);
    tables.residual = rows.into_iter().collect();
}
