//! Small tables with known numbers, each different from every other, and around every number that counts others that must
//! not: of another site, of other tokens, of another metric, of another step.

use crate::fixture::{self, name};
use basislab_config::{Basis, Cell, Claim, ClaimKind, Direction, Experiment, Reading, Site, SitePattern, Tokens};
use basislab_stats::{Purpose, gaussian, stream, uniform};
use basislab_tables::{DimensionRow, EvalRow, ResidualRow, Split, Status, StepRow, Tables, TimingRow};
use std::collections::BTreeMap;

pub(crate) const LAST: u64 = 40;
pub(crate) const STEPS: [u64; 5] = [0, 10, 20, 30, LAST];
pub(crate) const TOKENS_USED: u64 = 37;
const SEEDS: [u64; 6] = [3, 1, 8, 2, 13, 5];
const METRIC: &str = "max_median_ratio";
pub(crate) const SITE: Site = Site::ResidMid(0);

/// A run at a step.
type Place<'a> = (&'a str, u64, u64);

/// An experiment, what was drawn for it, and the tables that hold it.
pub(crate) struct Case {
    pub(crate) experiment: Experiment,
    pub(crate) tables: Tables,
    values: BTreeMap<(String, u64, u64, Basis), f64>,
    draws: BTreeMap<(String, u64, u64), Vec<f64>>,
    losses: BTreeMap<(String, u64, u64), (f64, f64)>,
    /// The other metrics at the verdict's site, which have no random bases, at the last step: by name, arm and seed.
    pub(crate) others: BTreeMap<(String, String, u64), f64>,
    number: u64,
    drawn: u64,
}

/// Case `number`: 5 or 6 seeds, a rule unlike the defaults, and effects of about the size at which verdicts change.
pub(crate) fn case(number: u64) -> Case {
    let mut case = Case {
        experiment: fixture::experiment(8),
        tables: Tables::default(),
        values: BTreeMap::new(),
        draws: BTreeMap::new(),
        losses: BTreeMap::new(),
        others: BTreeMap::new(),
        number,
        drawn: 0,
    };
    case.plan();
    case.fill();
    case
}

impl Case {
    fn plan(&mut self) {
        let choices = [0, 1, 2, 3].map(|_| self.uniform());
        let pick = |at: usize, from: &[f64]| from[(choices[at] * from.len() as f64) as usize];
        let experiment = &mut self.experiment;
        experiment.seeds = SEEDS[..5 + (self.number % 2) as usize].to_vec();
        for arm in &mut experiment.arms {
            (arm.run.train.steps, arm.run.model.d_model) = (LAST, 6);
        }
        let rule = &mut experiment.verdict;
        rule.alpha = pick(0, &[0.02, 0.1, 0.2, 0.25]);
        rule.min_seeds = if self.number % 7 == 6 { 7 } else { 4 };
        rule.smallest_effect = pick(1, &[0.07, 0.15, 0.4]);
        rule.equivalence_margin = pick(2, &[0.03, 0.12, 0.3]);
        rule.equal_loss_margin = pick(3, &[0.004, 0.02, 0.11]);
        (rule.metric, rule.site, rule.tokens) = (METRIC.to_owned(), SitePattern::At(SITE), Tokens::First);
        let cell = experiment.verdict.cell();
        for claim in &mut experiment.claims {
            claim.cell = Cell { basis: claim.cell.basis, ..cell.clone() };
        }
        let seeds = experiment.seeds.clone();
        for arm in &mut experiment.arms {
            arm.seeds = if arm.seeds.len() == 1 { vec![SEEDS[1]] } else { seeds.clone() };
        }
        let [adam, turned, sgd] = ["adam", "adam-rotated", "sgd"].map(name);
        let own = ClaimKind::EquivalentToNull { arm: turned.clone() };
        let back = ClaimKind::ArmsDiffer { arm: sgd, other: adam, reading: Reading::MatchedLoss, direction: None };
        let null = ClaimKind::DiffersFromNull { arm: turned, direction: None };
        let side =
            [None, Some(Direction::Above), Some(Direction::Below), Some(Direction::Either)][self.number as usize % 4];
        let claim = |text: &str, basis, test, primary| {
            let (name, text, cell) = (name(text), format!("It is so: {text}"), Cell { basis, ..cell.clone() });
            Claim { name, text, cell, test, primary, symmetry: None }
        };
        experiment.claims.extend([
            claim("own-basis-equals-its-null", Basis::Optimizer, own, false),
            claim("sgd-differs-from-adam", Basis::Standard, back, false),
            claim("rotated-adam-differs-from-its-null", Basis::Standard, null, true),
        ]);
        for claim in &mut experiment.claims {
            if let ClaimKind::DiffersFromNull { direction, .. } | ClaimKind::ArmsDiffer { direction, .. } =
                &mut claim.test
            {
                *direction = side;
            }
        }
    }

    fn fill(&mut self) {
        let rule = self.experiment.verdict.clone();
        let arms: Vec<String> = self.experiment.arms.iter().map(|arm| arm.name.to_string()).collect();
        for (number, arm) in arms.iter().enumerate() {
            // As far from the null as a verdict wants it, more or less, with a spread that decides.
            let size = if number % 2 == 0 { rule.smallest_effect } else { rule.equivalence_margin };
            let effect = size * (4.0 * self.uniform() - 2.0);
            let spread = size * (0.05 + 0.8 * self.uniform());
            let behind = rule.equal_loss_margin * (3.0 * self.uniform() - 1.5);
            let loss_spread = rule.equal_loss_margin * (0.1 + self.uniform());
            let has_own = ["adam-rotated", "adam-identity"].contains(&arm.as_str());
            for seed in self.seeds(arm) {
                let null = 3.0 * (0.2 * self.gaussian()).exp();
                let end = 3.4 + behind + loss_spread * self.gaussian();
                self.steps_of(arm, seed);
                for step in STEPS {
                    let (at, progress) = ((arm.as_str(), seed, step), step as f64 / LAST as f64);
                    // Losses may rise again: the first probe that is low enough is not the last.
                    let wobble = 0.2 * rule.equal_loss_margin * self.gaussian() + 0.5 * (1.0 - progress).powi(6);
                    self.loss(at, if step == LAST { end } else { end + wobble }, 3.1 + 0.01 * seed as f64);
                    self.draws_of(at, null);
                    for basis in [Basis::Standard, Basis::Optimizer]
                        .into_iter()
                        .filter(|basis| has_own || *basis == Basis::Standard)
                    {
                        let value = null * (effect * progress + spread * self.gaussian()).exp();
                        self.values.insert((arm.clone(), seed, step, basis), value);
                        self.residual(at, basis, value);
                        self.dimensions_of(at, basis);
                    }
                }
                self.others_of(arm, seed);
                self.tables.timing.push(timing(arm, seed, number));
            }
        }
    }

    fn uniform(&mut self) -> f64 {
        self.drawn += 1;
        uniform(&mut stream(self.number, Purpose::Simulation, self.drawn))
    }

    fn gaussian(&mut self) -> f64 {
        self.drawn += 1;
        gaussian(&mut stream(self.number, Purpose::Simulation, self.drawn))
    }

    fn steps_of(&mut self, arm: &str, seed: u64) {
        for step in 1..=3 {
            let train_loss = Some(3.5 + 0.1 * self.gaussian());
            let (arm, status) = (name(arm), Status::Ok);
            let row = StepRow { arm, seed, step, tokens: 64 * step, lr: 0.1, train_loss, grad_norm: Some(0.5), status };
            self.tables.steps.push(row);
        }
    }

    fn loss(&mut self, (arm, seed, step): Place<'_>, loss: f64, floor: f64) {
        self.losses.insert((arm.to_owned(), seed, step), (loss, loss - floor));
        let (arm, split) = (name(arm), Split::HeldOut);
        let row = EvalRow { arm, seed, step, split, loss: Some(loss), loss_above_floor: Some(loss - floor) };
        self.tables.evals.push(row);
    }

    /// A number that counts, between numbers that do not.
    fn residual(&mut self, at: Place<'_>, basis: Basis, value: f64) {
        self.row(at, (Site::ResidMid(1), Tokens::First, TOKENS_USED), (basis, METRIC), value * 1.7 + 0.3);
        self.row(at, (SITE, Tokens::First, TOKENS_USED), (basis, METRIC), value);
        self.row(at, (SITE, Tokens::Rest, 99), (basis, METRIC), value * 0.6 - 0.2);
    }

    fn row(
        &mut self,
        (arm, seed, step): Place<'_>,
        (site, tokens, tokens_used): (Site, Tokens, u64),
        (basis, metric): (Basis, &str),
        value: f64,
    ) {
        let (arm, layer, metric, value) = (name(arm), site.layer(), metric.to_owned(), Some(value));
        let row = ResidualRow { arm, seed, step, site, layer, tokens, tokens_used, basis, metric, value };
        self.tables.residual.push(row);
    }

    /// More bases in some runs than in others: the mean of all draws is not the mean of the runs' means.
    fn draws_of(&mut self, at: Place<'_>, null: f64) {
        let (arm, seed, step) = at;
        if ![0, 20, LAST].contains(&step) {
            return;
        }
        let all: Vec<f64> = (0..2 + (seed + step) % 4).map(|_| null * (1.0 + 0.05 * self.gaussian())).collect();
        for (k, draw) in all.iter().enumerate() {
            self.residual(at, Basis::Random(k as u32), *draw);
        }
        self.draws.insert((arm.to_owned(), seed, step), all);
    }

    /// One metric whose null has a closed form, and one without any.
    fn others_of(&mut self, arm: &str, seed: u64) {
        for metric in ["dim_rms_kurtosis", "token_rms"] {
            for step in [0, LAST] {
                let value = 1.0 + self.uniform();
                self.row((arm, seed, step), (SITE, Tokens::First, TOKENS_USED), (Basis::Standard, metric), value);
                self.others.insert((metric.to_owned(), arm.to_owned(), seed), value);
            }
        }
    }

    fn dimensions_of(&mut self, (arm, seed, step): Place<'_>, basis: Basis) {
        let places = [(SITE, Tokens::First), (Site::ResidMid(1), Tokens::First), (SITE, Tokens::All)];
        for (site, tokens) in places.into_iter().filter(|_| [20, LAST].contains(&step)) {
            for dim in 0..6 {
                let rms = (0.5 * self.gaussian()).exp();
                self.tables.dimensions.push(DimensionRow {
                    arm: name(arm),
                    seed,
                    step,
                    site,
                    layer: site.layer(),
                    dim,
                    mean: 0.3,
                    rms,
                    variance: 1.5 * rms * rms,
                    skewness: None,
                    kurtosis: None,
                    min: -3.0 * rms,
                    max: 2.0 * rms * rms,
                    max_abs: 5.0 * rms.sqrt(),
                    share_of_energy: 0.1,
                    basis,
                    tokens,
                });
            }
        }
    }

    /// The verdict's metric.
    pub(crate) fn at(&self, arm: &str, seed: u64, step: u64, basis: Basis) -> f64 {
        self.values[&(arm.to_owned(), seed, step, basis)]
    }

    /// The same in random bases.
    pub(crate) fn null(&self, arm: &str, seed: u64, step: u64) -> &[f64] {
        &self.draws[&(arm.to_owned(), seed, step)]
    }

    /// Loss, and loss above the floor.
    pub(crate) fn loss_of(&self, arm: &str, seed: u64, step: u64) -> (f64, f64) {
        self.losses[&(arm.to_owned(), seed, step)]
    }

    pub(crate) fn seeds(&self, arm: &str) -> Vec<u64> {
        self.experiment.arm(arm).unwrap().seeds.clone()
    }
}

fn timing(arm: &str, seed: u64, number: usize) -> TimingRow {
    TimingRow {
        arm: name(arm),
        seed,
        seconds: 3.0,
        train_seconds: 2.0,
        probe_seconds: 1.0,
        tokens_per_second: 100.0,
        started: "2026-01-31T12:00:00Z".to_owned(),
        backend: "flex".to_owned(),
        device: format!("device {number}"),
        driver: format!("driver {number}"),
    }
}
