//! Every claim reads its own cell: tables in which each cell has a number of its own, and every kind of claim in each cell.

use super::{answer_of, rows_of_claims};
use crate::fixture::name;
use basislab_config::{
    Basis, Cell, ClaimKind, Experiment, LOSS, Reading, RunName, Site, SitePattern, StepPattern, Tokens,
};
use basislab_stats::{Purpose, stream, uniform};
use basislab_tables::{EvalRow, ResidualRow, Split, Tables};

const ARMS: [&str; 5] = ["a", "b", "c", "d", "e"];
const SEEDS: usize = 5;
const STEPS: [u64; 2] = [300, 600];
const METRICS: [&str; 2] = ["token_kurtosis", "max_median_ratio"];
const SITES: [Site; 2] = [Site::ResidPost(0), Site::Final];
const TOKENS: [Tokens; 3] = [Tokens::All, Tokens::First, Tokens::Rest];
const BASES: [Basis; 2] = [Basis::Standard, Basis::Optimizer];

/// One number for each combination of these, between 1 and 9.
fn number(which: &[usize]) -> f64 {
    let key = which.iter().fold(1u64, |key, part| key * 31 + *part as u64 + 1);
    1.0 + 8.0 * uniform(&mut stream(key, Purpose::Simulation, 77))
}

/// The places of a cell in the lists above.
#[derive(Debug, Clone, Copy, PartialEq)]
struct At {
    metric: usize,
    site: usize,
    tokens: usize,
    basis: usize,
    step: usize,
}

impl At {
    fn all() -> Vec<Self> {
        let of = |n: usize| Self { metric: n % 2, site: n / 2 % 2, tokens: n / 4 % 3, basis: n / 12 % 2, step: n / 24 };
        (0..48).map(of).collect()
    }

    fn cell(self) -> Cell {
        Cell {
            metric: METRICS[self.metric].to_owned(),
            site: SitePattern::At(SITES[self.site]),
            tokens: TOKENS[self.tokens],
            basis: BASES[self.basis],
            step: StepPattern::At(STEPS[self.step]),
        }
    }

    /// The run's number here; `basis` 2 and 3 are random ones.
    fn value(self, arm: usize, seed: usize) -> f64 {
        number(&[arm, seed, self.metric, self.site, self.tokens, self.basis, self.step])
    }

    fn null(self, arm: usize, seed: usize) -> f64 {
        let draw = |basis| Self { basis, ..self }.value(arm, seed);
        0.5 * (draw(2) + draw(3))
    }
}

/// The held-out loss falls, so that each arm reaches the higher of two final losses at its end only.
fn loss(arm: usize, seed: usize, step: usize) -> f64 {
    number(&[arm, seed, 9]) + if step == 0 { 20.0 + number(&[arm, seed, 8]) } else { 0.0 }
}

/// An experiment whose arms have a basis of their own.
fn experiment(test: ClaimKind) -> Experiment {
    let mut experiment = super::kinds::experiment(test);
    let rotated = crate::fixture::experiment(1).arm("adam-rotated").unwrap().run.basis.clone();
    experiment.arms.iter_mut().for_each(|arm| arm.run.basis = rotated.clone());
    experiment
}

fn tables(experiment: &Experiment) -> Tables {
    let mut tables = Tables::default();
    for (arm, seed) in (0..ARMS.len()).flat_map(|arm| (0..SEEDS).map(move |seed| (arm, seed))) {
        let of = &experiment.arms[arm];
        let (name, number) = (of.name.clone(), of.seeds[seed]);
        for (at, step) in STEPS.into_iter().enumerate() {
            let loss = Some(loss(arm, seed, at));
            let (arm, split) = (name.clone(), Split::HeldOut);
            tables.evals.push(EvalRow { arm, seed: number, step, split, loss, loss_above_floor: None });
        }
        for at in At::all() {
            let both = [(at.basis, BASES[at.basis]), (at.basis + 2, Basis::Random(at.basis as u32))];
            for (place, basis) in both {
                let (cell, value) = (at.cell(), Some(At { basis: place, ..at }.value(arm, seed)));
                let (arm, seed, step, site) = (name.clone(), number, STEPS[at.step], SITES[at.site]);
                let (tokens, metric, layer, tokens_used) = (cell.tokens, cell.metric, site.layer(), 9);
                tables.residual.push(ResidualRow {
                    arm,
                    seed,
                    step,
                    site,
                    layer,
                    tokens,
                    tokens_used,
                    basis,
                    metric,
                    value,
                });
            }
        }
    }
    tables
}

fn mean(of: impl Fn(usize) -> f64) -> f64 {
    (0..SEEDS).map(of).sum::<f64>() / SEEDS as f64
}

/// Spearman's correlation of distinct numbers over the arms, from the differences of ranks.
fn spearman(x: impl Fn(usize) -> f64, y: impl Fn(usize) -> f64) -> f64 {
    let rank = |of: &dyn Fn(usize) -> f64, arm: usize| (0..5).filter(|other| of(*other) < of(arm)).count() as f64;
    let squares: f64 = (0..5).map(|arm| (rank(&x, arm) - rank(&y, arm)).powi(2)).sum();
    1.0 - squares / 20.0
}

/// The claim on a cell: its row's estimate, and what is printed of it.
fn decided(plain: &Experiment, tables: &Tables, cell: Cell, test: ClaimKind) -> (f64, String) {
    let mut experiment = plain.clone();
    experiment.claims[0].primary = !test.is_equality();
    (experiment.claims[0].cell, experiment.claims[0].test) = (cell, test);
    let estimate = rows_of_claims(&experiment, tables).remove(0).estimate.unwrap();
    (estimate, answer_of(&experiment, tables).verdicts[0].sentence.clone())
}

/// Each cell's estimate is the one made by hand, and the printed ones all differ.
fn check(kind: &str, found: Vec<(f64, String)>, expected: Vec<f64>) {
    let mut printed = Vec::new();
    for ((estimate, text), expected) in found.into_iter().zip(expected) {
        assert!((estimate - expected).abs() < 1e-9, "{kind}: {estimate}, by hand {expected}");
        assert!(!printed.contains(&text), "{kind}: two cells print {text}");
        printed.push(text);
    }
}

/// A kind of claim and the estimate on a cell, by hand.
type Kind = (ClaimKind, fn(At) -> f64);

fn kinds() -> Vec<Kind> {
    let [a, b] = ["a", "b"].map(name);
    let arms: Vec<RunName> = ["a", "b", "c"].map(name).to_vec();
    let against_null = |at: At| mean(|seed| (at.value(1, seed) / at.null(1, seed)).ln());
    let against = |at: At| mean(|seed| (at.value(0, seed) / at.value(1, seed)).ln());
    let level = |at: At| mean(|seed| at.value(1, seed));
    let differs = |reading| ClaimKind::ArmsDiffer { arm: a.clone(), other: b.clone(), reading, direction: None };
    vec![
        (ClaimKind::DiffersFromNull { arm: b.clone(), direction: None }, against_null),
        (ClaimKind::EquivalentToNull { arm: b.clone() }, against_null),
        (differs(Reading::Final), against),
        (differs(Reading::MatchedLoss), against),
        (ClaimKind::Ordered { arms }, |at| mean(|seed| 0.5 * (at.value(2, seed) / at.value(0, seed)).ln())),
        (ClaimKind::NearValue { arm: b.clone(), value: 3.0, tolerance: 0.1, source: None }, level),
        (ClaimKind::AtMost { arm: b.clone(), threshold: 3.0 }, level),
        (ClaimKind::AtLeast { arm: b, threshold: 3.0 }, level),
    ]
}

#[test]
fn every_kind_of_claim_reads_its_own_cell() {
    for (test, by_hand) in kinds() {
        let plain = experiment(test.clone());
        let tables = tables(&plain);
        // A matched loss has a step of its own, which is the last here.
        let own_step = matches!(test, ClaimKind::ArmsDiffer { reading: Reading::MatchedLoss, .. });
        let cells: Vec<At> = At::all().into_iter().filter(|at| !own_step || at.step == 1).collect();
        let found = cells.iter().map(|at| decided(&plain, &tables, at.cell(), test.clone())).collect();
        check(test.kind(), found, cells.into_iter().map(by_hand).collect());
    }
}

#[test]
fn a_correlation_reads_both_of_its_cells() {
    let other = At { metric: 1, site: 0, tokens: 2, basis: 1, step: 0 };
    for own_varies in [true, false] {
        let (mut printed, plain) = (Vec::new(), experiment(ClaimKind::AtMost { arm: name("a"), threshold: 1.0 }));
        let tables = tables(&plain);
        for at in At::all().into_iter().filter(|at| *at != other) {
            let (own, with) = if own_varies { (at, other) } else { (other, at) };
            let arms = ARMS.map(name).to_vec();
            let test = ClaimKind::Correlates { arms, with: with.cell(), blocks: None, sign: None };
            let (estimate, _) = decided(&plain, &tables, own.cell(), test);
            let expected = mean(|seed| spearman(|arm| own.value(arm, seed), |arm| with.value(arm, seed)));
            assert!((estimate - expected).abs() < 1e-9, "{own:?} {with:?}: {estimate}, by hand {expected}");
            printed.push((estimate * 1e6) as i64);
        }
        // Correlations of five arms are multiples of 0.1, so that some means are equal, but not many.
        printed.sort_unstable();
        printed.dedup();
        assert!(printed.len() > 20, "{printed:?}");
    }
}

#[test]
fn a_loss_is_read_at_the_step_of_its_cell() {
    let [arm, arms] = [vec![name("b")], ["a", "b", "c"].map(name).to_vec()];
    let mut checked = 0;
    for test in [
        ClaimKind::Ordered { arms },
        ClaimKind::NearValue { arm: arm[0].clone(), value: 3.0, tolerance: 0.1, source: None },
        ClaimKind::AtMost { arm: arm[0].clone(), threshold: 3.0 },
        ClaimKind::AtLeast { arm: arm[0].clone(), threshold: 3.0 },
    ] {
        let plain = experiment(test.clone());
        let tables = tables(&plain);
        for (at, step) in STEPS.into_iter().enumerate() {
            let cell = Cell { metric: LOSS.to_owned(), step: StepPattern::At(step), ..plain.verdict.cell() };
            let expected = match test {
                ClaimKind::Ordered { .. } => mean(|seed| 0.5 * (loss(2, seed, at) / loss(0, seed, at)).ln()),
                _ => mean(|seed| loss(1, seed, at)),
            };
            let (estimate, _) = decided(&plain, &tables, cell, test.clone());
            assert!((estimate - expected).abs() < 1e-9, "{} at {step}: {estimate}, by hand {expected}", test.kind());
            checked += 1;
        }
    }
    assert_eq!(checked, 8);
}
