//! What lies between a tested function and a cell: which arm, seed, step, site, tokens and basis a number belongs to, and
//! what was done to it on the way. Every cell that a run writes is computed again by hand (`reference.rs`), and what the
//! commands print is computed again from what they read (`commands.rs`).

mod commands;
mod reference;

use crate::support::{edit, flex, muon_and_adam, never, optimizer, rows_of, small, typed};
use basislab_config::{
    Arm, BasisSpec, CorpusSpec, Dtype, Experiment, LanguageSpec, Moments, OptimizerSpec, Phase, RotatedAxes,
    RotationSpec, RunName, RunSpec, ScheduleKind, Sharing, Tokens,
};
use basislab_data::Corpus;
use basislab_tables::{DimensionRow, DimensionStepRow, EvalRow, ResidualRow, Row, StepRow};
use basislab_train::{Context, Event, Expected, Outcome, State, certify, rotated_share, train};
use reference::{Cells, Matrix, Reference, slots};

const SEEDS: [u64; 2] = [5, 2];

/// Unlike the defaults wherever a default could hide a mistake: clipping that bites in some updates only, micro-batches,
/// chunks of unequal size, weights large enough for outliers, a decaying rate.
fn unlike_the_defaults(changes: &[(&str, &str)]) -> Experiment {
    let mut all = vec![
        ("model.n_ctx", "5"),
        ("model.d_model", "8"),
        ("model.d_mlp", "12"),
        ("model.init_std", "0.8"),
        ("corpus.d_vocab", "24"),
        ("corpus.stay", "0.25"),
        ("train.steps", "7"),
        ("train.micro_batches", "2"),
        ("train.final_lr_fraction", "0.3"),
        ("train.schedule", "linear"),
        ("probe.log_until", "3"),
        ("probe.every", "5"),
        ("probe.residual_sequences", "3"),
        ("probe.loss_sequences", "8"),
    ];
    all.extend_from_slice(changes);
    let mut experiment = small(&all);
    edit(&mut experiment, |run| (run.probe.random_bases, run.probe.null_bases) = (3, 7));
    experiment
}

/// An arm of this experiment.
fn arm(experiment: &Experiment, name: &str, optimizer: OptimizerSpec, basis: BasisSpec) -> Arm {
    let run = RunSpec { optimizer, basis, ..experiment.shared.clone() };
    Arm { name: RunName::new(name).unwrap(), seeds: SEEDS.to_vec(), run }
}

fn sgd(momentum: &str, nesterov: &str) -> OptimizerSpec {
    let decays = [("weight_decay", "0.02"), ("decoupled_weight_decay", "0.03")];
    let own = [("lr", "0.03"), ("momentum", momentum), ("nesterov", nesterov)];
    optimizer("sgd", &[&own[..], &decays].concat())
}

fn adam() -> OptimizerSpec {
    let own = [("lr", "0.02"), ("beta_1", "0.8"), ("beta_2", "0.95"), ("epsilon", "1e-4"), ("weight_decay", "0.01")];
    optimizer("adam", &own)
}

fn adamw() -> OptimizerSpec {
    let own = [("lr", "0.01"), ("beta_1", "0.7"), ("beta_2", "0.9"), ("epsilon", "1e-3")];
    optimizer("adamw", &[&own[..], &[("decoupled_weight_decay", "0.2")]].concat())
}

fn lion() -> OptimizerSpec {
    let own = [("lr", "0.004"), ("beta_1", "0.8"), ("beta_2", "0.9"), ("decoupled_weight_decay", "0.3")];
    optimizer("lion", &own)
}

fn rotated(rotation: RotationSpec, sharing: Sharing, axes: RotatedAxes) -> BasisSpec {
    BasisSpec::RotatedOptimizer { rotation, sharing, axes }
}

/// Every update rule, every kind of basis, and every way into another phase.
fn arms(experiment: &Experiment) -> Vec<Arm> {
    let haar = || RotationSpec::Haar { seed: 7 };
    let signed = RotationSpec::SignedPermutation { seed: 4 };
    let of_model = |sharing| BasisSpec::RotatedModel { rotation: haar(), sharing };
    let shared = || rotated(haar(), Sharing::Shared, RotatedAxes::Residual);
    let independent = || rotated(haar(), Sharing::Independent, RotatedAxes::Residual);
    let both = || rotated(haar(), Sharing::Shared, RotatedAxes::Both);
    let arm = |name, optimizer, basis| arm(experiment, name, optimizer, basis);
    let muon = || muon_and_adam(", momentum = 0.8, lr = 0.03, ns_steps = 3, decoupled_weight_decay = 0.2");
    let phased = |name, (optimizer, basis), phases: Vec<Phase>| {
        let mut arm = arm(name, optimizer, basis);
        arm.run.phases = phases;
        arm
    };
    let phase = |from, optimizer, basis, moments| Phase { from, optimizer, basis, moments };
    let standard = || BasisSpec::Standard {};
    vec![
        arm("plain", adam(), standard()),
        arm("shared", adam(), shared()),
        arm("independent", adamw(), independent()),
        arm("both", adam(), both()),
        arm("sgd", sgd("0.9", "true"), standard()),
        arm("signed", sgd("0.6", "false"), rotated(signed, Sharing::Shared, RotatedAxes::Residual)),
        arm("slow", sgd("0.0", "false"), rotated(RotationSpec::Hadamard {}, Sharing::Shared, RotatedAxes::Residual)),
        arm("identity", adamw(), rotated(RotationSpec::Identity {}, Sharing::Shared, RotatedAxes::Residual)),
        arm("in-the-model", adam(), of_model(Sharing::Shared)),
        arm("each-its-own", adamw(), of_model(Sharing::Independent)),
        arm("lion", lion(), standard()),
        arm("lion-shared", lion(), shared()),
        arm("muon", muon(), standard()),
        arm("muon-both", muon(), both()),
        phased("keeps", (adam(), standard()), vec![phase(4, adamw(), shared(), Moments::Keep)]),
        phased("resets", (adam(), independent()), vec![phase(3, sgd("0.9", "true"), shared(), Moments::Reset)]),
        phased(
            "rotates",
            (adam(), shared()),
            vec![phase(3, adam(), both(), Moments::Rotate), phase(6, adamw(), standard(), Moments::Rotate)],
        ),
        phased("muon-rotates", (muon(), independent()), vec![phase(4, muon(), both(), Moments::Rotate)]),
        phased(
            "resets-in-the-model",
            (adam(), of_model(Sharing::Shared)),
            vec![phase(5, lion(), of_model(Sharing::Shared), Moments::Reset)],
        ),
    ]
}

/// What one run sent: cells by key, the order of updates and probes, and the last checkpoint.
#[derive(Default)]
struct Sent {
    cells: Cells,
    order: Vec<String>,
    last: Option<State>,
}

impl Sent {
    fn take(&mut self, arm: &Arm, seed: u64, event: Event) {
        rows_of(arm, seed, &event).into_iter().for_each(|row| self.row(row));
        if let Event::Checkpoint { state, .. } = event {
            self.last = Some(state);
        }
    }

    fn row(&mut self, row: Row) {
        let mut cell = |key: String, value| {
            assert!(self.cells.insert(key.clone(), value).is_none(), "written twice: {key}");
        };
        let number = |layer: Option<usize>| layer.map_or(String::new(), |layer| layer.to_string());
        // Every column by name: one that is added does not compile before it is computed by hand as well.
        match row {
            Row::Step(StepRow { arm, seed, step, tokens, lr, train_loss, grad_norm, status }) => {
                let key = format!("steps {arm} {seed} {step} {tokens} {status}");
                cell(format!("{key} lr"), Some(lr));
                cell(format!("{key} train_loss"), train_loss);
                cell(format!("{key} grad_norm"), grad_norm);
                self.order.push(format!("update {step}"));
            }
            Row::Eval(EvalRow { arm, seed, step, split, loss, loss_above_floor }) => {
                let key = format!("evals {arm} {seed} {step} {split}");
                cell(format!("{key} loss"), loss);
                cell(format!("{key} loss_above_floor"), loss_above_floor);
                self.order.push(format!("probe {step}"));
            }
            Row::Residual(row) => {
                let ResidualRow { arm, seed, step, site, layer, tokens, tokens_used, basis, metric, value } = row;
                let place = format!("{site} {} {tokens} {tokens_used} {basis}", number(layer));
                cell(format!("residual {arm} {seed} {step} {place} {metric}"), value);
            }
            Row::Dimension(row) => {
                let DimensionRow {
                    arm,
                    seed,
                    step,
                    site,
                    layer,
                    dim,
                    mean,
                    rms,
                    variance,
                    skewness,
                    kurtosis,
                    min,
                    max,
                    max_abs,
                    share_of_energy,
                    basis,
                    tokens,
                } = row;
                let key = format!("dimensions {arm} {seed} {step} {site} {} {tokens} {basis} {dim}", number(layer));
                for (name, value) in [
                    ("mean", Some(mean)),
                    ("rms", Some(rms)),
                    ("variance", Some(variance)),
                    ("skewness", skewness),
                    ("kurtosis", kurtosis),
                    ("min", Some(min)),
                    ("max", Some(max)),
                    ("max_abs", Some(max_abs)),
                    ("share_of_energy", Some(share_of_energy)),
                ] {
                    cell(format!("{key} {name}"), value);
                }
            }
            Row::DimensionStep(row) => {
                let DimensionStepRow { arm, seed, step, site, layer, basis, tokens, rms, fourth_moment, null_shares } =
                    row;
                let key = format!("dimension_steps {arm} {seed} {step} {site} {} {tokens} {basis}", number(layer));
                for (name, list) in [("rms", rms), ("fourth_moment", fourth_moment), ("null_shares", null_shares)] {
                    for (place, value) in list.values().iter().enumerate() {
                        cell(format!("{key} {name} {place}"), Some(*value));
                    }
                }
            }
        }
    }
}

fn alone(on: Context<'_>, arm: &Arm, seed: u64) -> (Sent, Outcome) {
    let mut sent = Sent::default();
    let take = &mut |event| {
        sent.take(arm, seed, event);
        Ok(())
    };
    let finished = train(&arm.run, seed, on, None, never(), take).unwrap();
    (sent, finished.outcome)
}

fn is_near(found: f64, expected: f64, tolerance: f64) -> bool {
    (found - expected).abs() <= tolerance * expected.abs().max(1.0)
}

/// The same keys, and the same numbers within the tolerance.
fn assert_cells(found: &Cells, expected: &Cells, tolerance: f64, what: &str) {
    let only = |a: &Cells, b: &Cells| a.keys().filter(|key| !b.contains_key(*key)).take(3).cloned().collect::<Vec<_>>();
    let (more, less) = (only(found, expected), only(expected, found));
    assert!(more.is_empty() && less.is_empty(), "{what}: written but not expected {more:?}, expected {less:?}");
    for (key, expected) in expected {
        let found = found[key];
        let same = found.is_some() == expected.is_some();
        // Learning rates are small, and computed in f64 whatever the type of the model.
        let is_rate = key.ends_with(" lr");
        // Lists are of single precision.
        let tolerance = if key.starts_with("dimension_steps ") { tolerance.max(1e-7) } else { tolerance };
        let near = found.zip(*expected).is_none_or(|(a, b)| match is_rate {
            true => (a - b).abs() <= 1e-12 * b.abs(),
            false => is_near(a, b, tolerance),
        });
        assert!(same && near, "{what}: {key}: found {found:?}, expected {expected:?}");
    }
}

fn assert_file(file: &[u8], expected: &[(String, Matrix)], tolerance: f64, what: &str) {
    let file = safetensors::SafeTensors::deserialize(file).unwrap();
    assert_eq!(file.names().len(), expected.len(), "{what}: {:?}", file.names());
    for (path, expected) in expected {
        let view = file.tensor(path).unwrap();
        assert_eq!(view.shape(), expected.shape, "{what} {path}");
        let found: Vec<f64> = match view.dtype() {
            safetensors::Dtype::F64 => view.data().as_chunks().0.iter().map(|x| f64::from_le_bytes(*x)).collect(),
            _ => view.data().as_chunks().0.iter().map(|x| f64::from(f32::from_le_bytes(*x))).collect(),
        };
        assert_eq!(found.len(), expected.values.len(), "{what} {path}");
        for (found, expected) in found.iter().zip(&expected.values) {
            assert!(is_near(*found, *expected, tolerance), "{what} {path}: found {found}, expected {expected}");
        }
    }
}

fn assert_state(state: &State, reference: &Reference<'_>, tolerance: f64, what: &str) {
    assert_file(&state.files["weights.safetensors"], &reference.held(), tolerance, what);
    let mut moments = Vec::new();
    for (number, (path, w)) in reference.held().into_iter().enumerate() {
        for (slot, name) in slots(reference.rule(number)).iter().enumerate() {
            let values = reference.moments[number][slot].clone();
            moments.push((format!("{path}.{name}"), Matrix { values, shape: w.shape }));
        }
    }
    assert_file(&state.files["optimizer.safetensors"], &moments, tolerance, what);
}

/// Trains every arm in every way of training and compares all that is written with the reference.
fn assert_runs(arms: &[Arm], tolerance: f64, what: &str) -> Cells {
    let device = flex();
    let mut all = Cells::new();
    for arm in arms {
        let corpus = Corpus::open(&arm.run.corpus, arm.run.model.n_ctx).unwrap();
        let on = |ahead| Context { corpus: &corpus, device: &device, ahead };
        for seed in SEEDS {
            let mut reference = Reference::new(arm, seed, &corpus, &device);
            let (expected, order) = reference.run();
            for (way, sent) in [("at once", alone(on(1), arm, seed).0), ("ahead", alone(on(3), arm, seed).0)] {
                let what = format!("{what} {} seed {seed}, {way}", arm.name);
                assert_cells(&sent.cells, &expected, tolerance, &what);
                // Probes come after the update they follow; beside a device's updates they are written later.
                let of = |order: &[String], kind: &str| {
                    order.iter().filter(|at| at.starts_with(kind)).cloned().collect::<Vec<_>>()
                };
                assert_eq!(of(&sent.order, "update"), of(&order, "update"), "{what}");
                assert_eq!(of(&sent.order, "probe"), of(&order, "probe"), "{what}");
                if way == "at once" {
                    assert_eq!(sent.order, order, "{what}");
                }
                assert_state(&sent.last.unwrap(), &reference, tolerance, &what);
            }
            all.extend(expected);
        }
    }
    all
}

fn of_column<'a>(cells: &'a Cells, part: &'a str, column: &'a str) -> impl Iterator<Item = f64> + 'a {
    let wanted = move |key: &&String| key.contains(part) && key.ends_with(column);
    cells.keys().filter(wanted).filter_map(|key| cells[key])
}

#[test]
fn every_cell_of_every_run_is_what_its_row_and_column_say() {
    let experiment = typed(unlike_the_defaults(&[("train.clip_norm", "2.5")]), Dtype::F64);
    let cells = assert_runs(&arms(&experiment), 1e-8, "f64");
    // The numbers must be able to tell one mistake from another: clipping bites in some updates, outliers are there.
    let norms: Vec<f64> = of_column(&cells, "steps ", " grad_norm").collect();
    assert!(norms.iter().any(|norm| *norm > 2.6) && norms.iter().any(|norm| *norm < 2.4), "{norms:?}");
    for metric in [" outlier_dims_abs6", " dettmers_outlier_features"] {
        assert!(of_column(&cells, "residual ", metric).any(|count| count > 0.0), "{metric}");
    }
}

#[test]
fn other_tokens_sites_and_metrics_are_measured_as_asked() {
    let mut experiment = unlike_the_defaults(&[
        ("train.clip_norm", "0"),
        ("train.schedule", "cosine"),
        ("train.micro_batches", "1"),
        ("train.warmup_steps", "0"),
        ("verdict.tokens", "first"),
        ("probe.tokens", "first"),
        ("probe.null_sites", "[\"blocks.0.resid_mid\", \"final\"]"),
        ("probe.null_metrics", "[\"max_median_ratio\", \"token_rms\"]"),
        ("probe.band_metrics", "[\"max_median_ratio\"]"),
        ("probe.band_bases", "10"),
    ]);
    // In f32 clipping, moments and the descent run in kernels of their own.
    let some = |experiment: &Experiment| {
        let named = |arm: &Arm| ["shared", "sgd", "lion"].contains(&arm.name.as_str());
        arms(experiment).into_iter().filter(named).collect::<Vec<_>>()
    };
    assert_runs(&some(&experiment), 2e-3, "f32");
    edit(&mut experiment, |run| {
        run.train.clip_norm = 0.7;
        run.probe.tokens = Tokens::All;
        run.train.schedule = ScheduleKind::Constant;
    });
    let cells = assert_runs(&some(&experiment), 2e-3, "f32, clipped");
    assert!(of_column(&cells, "steps ", " grad_norm").all(|norm| norm > 0.7));
}

#[test]
fn a_diverged_run_tells_rate_and_tokens_of_the_update_that_was_not_made() {
    let experiment = unlike_the_defaults(&[("train.clip_norm", "0"), ("model.norm", "none")]);
    let corpus = Corpus::open(&experiment.shared.corpus, experiment.shared.model.n_ctx).unwrap();
    let keys = [("lr", "1e4"), ("momentum", "0.9"), ("weight_decay", "0.02"), ("decoupled_weight_decay", "0.03")];
    let arm = arm(&experiment, "wild", optimizer("sgd", &keys), BasisSpec::Standard {});
    for ahead in [1, 3] {
        let on = Context { corpus: &corpus, device: &flex(), ahead };
        let (sent, outcome) = alone(on, &arm, 5);
        let Outcome::Diverged { step, .. } = outcome else { panic!("lr 1e4 must diverge: {outcome:?}") };
        // Warm-up over two updates, then a straight line from the peak to 0.3 of it at update 7.
        let share = [0.5, 1.0, 1.0, 0.825, 0.65, 0.475, 0.3][step as usize - 1];
        let row = format!("steps wild 5 {step} {} diverged", step * 4 * 5);
        let last: Vec<_> = sent.cells.iter().filter(|(key, _)| key.starts_with(&row)).collect();
        let values: Vec<Option<f64>> = last.iter().map(|(_, value)| **value).collect();
        assert_eq!(values.len(), 3, "{row}: {:?}", sent.order);
        // By name: gradient norm, rate, loss.
        assert!(is_near(values[1].unwrap(), 1e4 * share, 1e-12), "{values:?}");
        assert_eq!((values[0], values[2]), (None, None));
    }
}

/// The laws' model as `certify` documents it: all widths 32, 8 positions, warm-up over all updates.
fn of_the_laws(steps: u64) -> Experiment {
    let mut experiment = typed(small(&[]), Dtype::F64);
    edit(&mut experiment, |run| {
        run.model.n_heads = 2;
        (run.model.d_model, run.model.d_mlp) = (32, 32);
        let CorpusSpec::Language(language) = run.corpus.clone() else { unreachable!() };
        let language = LanguageSpec { d_vocab: 32, bigram_fan: 1, copy_length: 1, burst_window: 1, ..language };
        run.corpus = CorpusSpec::Language(language);
        (run.train.steps, run.train.warmup_steps) = (steps, steps);
        run.train.schedule = ScheduleKind::Constant;
    });
    experiment
}

#[test]
fn differences_of_the_laws_are_those_of_trainings_made_by_hand() {
    let (experiment, steps, device) = (of_the_laws(8), 8, flex());
    let corpus = Corpus::open(&experiment.shared.corpus, 8).unwrap();
    let trained = |optimizer: &OptimizerSpec, basis: BasisSpec, steps| {
        let arm = arm(&experiment, "by-hand", optimizer.clone(), basis);
        let mut reference = Reference::new(&arm, 0, &corpus, &device);
        (1..=steps).for_each(|step| _ = reference.update(step));
        reference.weights.into_iter().flat_map(|w| w.values).collect::<Vec<f64>>()
    };
    let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    for (optimizer, commutes) in [(adam(), false), (adamw(), false), (sgd("0.9", "true"), true), (lion(), false)] {
        let run = RunSpec { optimizer: optimizer.clone(), ..experiment.shared.clone() };
        let laws = certify(&run, steps, (&device, Dtype::F64));
        let found: Vec<f64> = laws.iter().map(|law| law.difference.unwrap()).collect();
        let haar = |sharing| rotated(RotationSpec::Haar { seed: 1 }, sharing, RotatedAxes::Residual);
        let plain = trained(&optimizer, BasisSpec::Standard {}, steps);
        let way = distance(&plain, &trained(&optimizer, BasisSpec::Standard {}, 0));
        assert_eq!(found[..2], [0.0, 0.0], "identity and signed permutation");
        for (at, sharing) in [(2, Sharing::Shared), (3, Sharing::Independent)] {
            let expected = distance(&plain, &trained(&optimizer, haar(sharing), steps));
            if commutes {
                assert!(found[at] > 0.0 && found[at] < 1e-9 && expected < 1e-9, "{optimizer:?}: {}", found[at]);
                assert_eq!(laws[at].expected, Expected::Below(1e-9));
            } else {
                assert!(is_near(found[at] / expected, 1.0, 1e-6), "{optimizer:?}: {}, by hand {expected}", found[at]);
                let Expected::Above(bound) = laws[at].expected else { panic!("{:?}", laws[at]) };
                assert!(is_near(bound / (0.01 * way), 1.0, 1e-6), "{optimizer:?}: {bound}, by hand {way}");
            }
        }
        // Two trainings were compared, not one with itself: rounding shows.
        for law in &laws[4..] {
            let difference = law.difference.unwrap();
            assert!(difference > 0.0 && difference < 1e-9, "{}: {difference}", law.name);
            assert_eq!(law.expected, Expected::Below(1e-9), "{}", law.name);
        }
    }
}

#[test]
fn shares_of_rotated_parameters_are_counted_by_hand() {
    let experiment = unlike_the_defaults(&[]);
    // d 8, 24 words, 5 positions, 2 blocks of four 8 x 8 matrices and two of 8 x 12; two gains a block and the last one.
    let facing = 24 * 8 + 5 * 8 + 2 * (4 * 8 * 8 + 2 * 8 * 12) + 8 * 24;
    for arm in arms(&experiment) {
        let rotated = if matches!(arm.run.basis, BasisSpec::Standard {}) { 0 } else { facing };
        assert_eq!(rotated_share(&arm.run, &flex()), (rotated, facing, facing + 5), "{}", arm.name);
    }
}
