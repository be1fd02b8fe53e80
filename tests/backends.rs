//! One meaning on every backend: what the other suites do not already run everywhere.

use crate::support::{backends, everywhere, flex, is_cpu, relative, small, typed, values};
use basislab_config::{Dtype, Experiment};
use basislab_data::Corpus;
use basislab_experiment::{Control, Event, Job, Outcome, Setting, State, look, prepare, train, train_together, update};
use basislab_report::Row;
use basislab_stats::{METRICS, MetricFn, Residuals};
use burn::tensor::{DType, Device, Tensor, TensorData};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// Rows and final state of the arm's first seed, with up to `ahead` updates under way.
fn trained(experiment: &Experiment, arm: &str, device: &Device, ahead: usize) -> (Vec<Row>, Option<State>, Outcome) {
    stopped(experiment, arm, device, ahead, u64::MAX)
}

/// As [`trained`], told to stop when the row of update `at` comes.
fn stopped(
    experiment: &Experiment,
    arm: &str,
    device: &Device,
    ahead: usize,
    at: u64,
) -> (Vec<Row>, Option<State>, Outcome) {
    let corpus = Corpus::open(&experiment.corpus, experiment.model.n_ctx).unwrap();
    let stop = AtomicBool::new(false);
    let control = Control { stop: &stop, checkpoint_steps: u64::MAX, checkpoint_interval: Duration::MAX };
    let job = Job { arm: experiment.arm(arm).unwrap(), seed: 0 };
    let setting = Setting { experiment, corpus: &corpus, device, ahead };
    let (mut rows, mut last) = (Vec::new(), None);
    let finished = train(setting, job, None, control, &mut |event| {
        match event {
            Event::Rows(new) => {
                let now = new.iter().any(|row| matches!(row, Row::Step(row) if row.step == at));
                stop.fetch_or(now, Ordering::Relaxed);
                rows.extend(new);
            }
            Event::Checkpoint { state, .. } => {
                // What was seen before it is written before it, though it was measured beside the updates.
                let seen = rows.iter().filter(|row| matches!(row, Row::Eval(_))).count();
                let due = experiment.probe.steps(experiment.train.steps).into_iter().filter(|step| *step < state.step);
                assert_eq!(seen, due.count(), "looks written before the checkpoint of update {}", state.step);
                last = Some(state);
            }
            Event::Finished(_) => unreachable!("`run` sends it"),
        }
        Ok(())
    });
    (rows, last, finished.unwrap().outcome)
}

/// SGD that breaks sooner or later, depending on the rate and the seed, between two probes.
fn near_breaking(lr: &str) -> Experiment {
    small(&[
        ("arm.sgd.optimizer.lr", lr),
        ("train.clip_norm", "0"),
        ("train.steps", "40"),
        ("probe.every", "40"),
        ("model.norm", "none"),
        ("model.init_std", "0.3"),
    ])
}

fn losses(rows: &[Row]) -> Vec<(u64, Option<f64>, Option<f64>)> {
    let of = |row: &Row| match row {
        Row::Step(row) => Some((false, (row.step, row.train_loss, row.grad_norm))),
        Row::Eval(row) => Some((true, (row.step, row.loss, None))),
        _ => None,
    };
    // Beside a device's updates, a look is written later than it was made.
    let mut all: Vec<_> = rows.iter().filter_map(of).collect();
    all.sort_by_key(|(look, (step, ..))| (*step, *look));
    all.into_iter().map(|(_, row)| row).collect()
}

/// What was seen of the model.
fn looks(rows: &[Row]) -> Vec<&Row> {
    rows.iter().filter(|row| !matches!(row, Row::Step(_))).collect()
}

/// What was seen of the model before any update.
fn first_look(rows: &[Row]) -> Vec<&Row> {
    looks(rows)
        .into_iter()
        .filter(|row| match row {
            Row::Step(_) => false,
            Row::Eval(row) => row.step == 0,
            Row::Residual(row) => row.step == 0,
            Row::Dimension(row) => row.step == 0,
        })
        .collect()
}

#[test]
fn losses_and_probes_agree_over_backends() {
    // Short enough for rounding not to have grown.
    let experiment = small(&[]);
    let reference = trained(&experiment, "adam-rotated", &flex(), 1).0;
    for (name, device) in everywhere() {
        let rows = trained(&experiment, "adam-rotated", &device, 4).0;
        assert_eq!(rows.len(), reference.len(), "{name}");
        for (ours, theirs) in losses(&rows).iter().zip(losses(&reference)) {
            let close = |a: Option<f64>, b: Option<f64>| {
                a.is_some() == b.is_some() && a.zip(b).is_none_or(|(a, b)| (a - b).abs() < 1e-4 * b.abs())
            };
            assert!(
                ours.0 == theirs.0 && close(ours.1, theirs.1) && close(ours.2, theirs.2),
                "{name}: {ours:?} {theirs:?}"
            );
        }
    }
}

#[test]
fn metrics_of_the_same_activations_are_the_same() {
    let mut rng = basislab_stats::stream(0, basislab_stats::Purpose::Simulation, 0);
    let numbers: Vec<f32> = (0..96 * 16).map(|_| (3.0 * basislab_stats::gaussian(&mut rng)).exp() as f32).collect();
    let metrics = |x: &Residuals| {
        let matrix = METRICS.iter().filter_map(|metric| match metric.of {
            MetricFn::Matrix(of) => Some((metric.name, of(x))),
            MetricFn::Stack(_) => None,
        });
        matrix.collect::<Vec<_>>()
    };
    let reference = metrics(&Residuals::new(numbers.iter().map(|x| f64::from(*x)).collect(), 16).unwrap());
    assert!(reference.len() > 10);
    for (name, device) in everywhere() {
        let there = Tensor::<2>::from_data(TensorData::new(numbers.clone(), [96, 16]), (&device, DType::F32));
        let found = metrics(&Residuals::new(values(&there), 16).unwrap());
        for ((metric, found), (_, expected)) in found.iter().zip(&reference) {
            let close = found.zip(*expected).map(|(a, b)| (a - b).abs() <= 1e-6 * b.abs());
            assert_ne!(close, Some(false), "{name} {metric}: {found:?}, not {expected:?}");
            assert_eq!(found.is_some(), expected.is_some(), "{name} {metric}");
        }
    }
}

#[test]
fn a_probe_sees_the_same_stream_on_every_backend() {
    let experiment = small(&[]);
    let corpus = Corpus::open(&experiment.corpus, 8).unwrap();
    let sequences = corpus.held_out(0, 7, 9);
    let seen_on = |device: &Device, batch: usize| {
        let trainee = prepare(&experiment, experiment.arm("adam").unwrap(), 0, 32, device);
        look(&trainee.model, &sequences, 5, batch, &AtomicBool::new(false)).unwrap().observation()
    };
    let reference = seen_on(&flex(), 7);
    // Batches that straddle nothing, and sites in order, in whatever pieces the stream came back.
    for (name, device) in everywhere() {
        for batch in [2, 3, 7] {
            let seen = seen_on(&device, batch);
            assert!((seen.loss - reference.loss).abs() < 1e-5 * reference.loss, "{name}: {}", seen.loss);
            assert_eq!(seen.residuals.len(), 6);
            for ((site, found), (expected_site, expected)) in seen.residuals.iter().zip(&reference.residuals) {
                let (found, expected) = (found.as_ref().unwrap(), expected.as_ref().unwrap());
                assert_eq!((site, found.n_tokens()), (expected_site, 5 * 8), "{name}");
                assert!(relative(found.values(), expected.values()) < 1e-5, "{name} {site}");
            }
        }
    }
}

#[test]
fn updates_under_way_change_nothing_but_when_they_are_read() {
    let experiment = small(&[("train.steps", "23"), ("arm.adam.optimizer.kind", "adamw")]);
    for (name, device) in everywhere() {
        let (rows, whole, outcome) = trained(&experiment, "adam", &device, 16);
        let all = losses(&rows);
        assert_eq!(outcome, Outcome::Complete);
        for ahead in [2, 5] {
            let other = trained(&experiment, "adam", &device, ahead);
            assert_eq!(losses(&other.0), all, "{name}, {ahead} updates ahead");
            assert_eq!(looks(&other.0), looks(&rows), "{name}, {ahead} updates ahead");
            assert_eq!(other.1, whole, "{name}, {ahead} updates ahead");
        }
        let at_once = trained(&experiment, "adam", &device, 1);
        // Measured beside the updates or between them: the same numbers of the same weights.
        assert!(first_look(&rows).len() > 100);
        assert_eq!(first_look(&rows), first_look(&at_once.0), "{name}");
        let whole_run = rows;
        for (a, b) in losses(&at_once.0).iter().zip(&all) {
            assert!((a.1.unwrap() - b.1.unwrap()).abs() < 1e-4, "{name}: {a:?}, {b:?}");
        }
        // A stop comes to rest at an update whose row is written, with its checkpoint.
        let (rows, state, outcome) = stopped(&experiment, "adam", &device, 5, 7);
        let Outcome::Stopped(step) = outcome else { panic!("{name}: {outcome:?}") };
        let state = state.unwrap();
        assert_eq!(state.step, step, "{name}");
        assert_eq!(losses(&rows).iter().filter(|(_, _, norm)| norm.is_some()).count() as u64, step, "{name}");
        // And goes on from there as if nothing had been: no look is lost, and none is written twice.
        let (rest, states, _) = together(&experiment, "adam", &device, &[(0, Some(&state))], u64::MAX);
        assert_eq!([looks(&rows), looks(&rest[0])].concat(), looks(&whole_run), "{name}, from update {step}");
        assert_eq!(states[0].last(), whole.as_ref(), "{name}, from update {step}");
        assert_eq!(losses(&rest[0])[..], all[all.len() - losses(&rest[0]).len()..], "{name}, from update {step}");
    }
}

#[test]
fn a_run_that_diverges_ahead_stops_where_it_would_have_stopped() {
    // At a rate where it breaks after some updates, between two probes: only the mask keeps the weights that tell why.
    let late = |lr: &&str| {
        let outcome = trained(&near_breaking(lr), "sgd", &flex(), 1).2;
        matches!(outcome, Outcome::Diverged { step, .. } if step > 3)
    };
    let lr = ["0.1", "0.2", "0.4", "0.8", "1.6", "3.2"].into_iter().find(late).expect("a rate at which it breaks late");
    // Where fusion rounds differently, a run that is about to break may break at another update.
    for (name, device) in backends() {
        let expected = trained(&near_breaking(lr), "sgd", &device, 1);
        let found = trained(&near_breaking(lr), "sgd", &device, 16);
        assert!(matches!(expected.2, Outcome::Diverged { .. }), "{name}: {:?}", expected.2);
        assert_eq!(found.2, expected.2, "{name}");
        let steps =
            |rows: &[Row]| losses(rows).iter().map(|(step, loss, _)| (*step, loss.is_some())).collect::<Vec<_>>();
        assert_eq!(steps(&found.0), steps(&expected.0), "{name}");
    }
    // And where the second update must break on every device. Were its weights kept, they would be what is not finite.
    for (name, device) in everywhere() {
        let [expected, found] = [1, 16].map(|ahead| trained(&near_breaking("1e2"), "sgd", &device, ahead).2);
        assert!(
            matches!(&expected, Outcome::Diverged { step: 2, tensor } if !tensor.starts_with("weight")),
            "{expected:?}"
        );
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn narrow_types_train_like_wide_ones() {
    // Rounded to 8 or 11 bits, the same run: losses near those of f32, and further off than another order of sums.
    for (name, device) in everywhere() {
        let of = |param: Dtype, compute: Dtype| {
            let mut experiment = small(&[("train.steps", "20"), ("arm.adam-rotated.optimizer.epsilon", "1e-6")]);
            (experiment.model.param_dtype, experiment.model.compute_dtype) = (param, compute);
            let rows = losses(&trained(&experiment, "adam-rotated", &device, 1).0);
            rows.iter().filter_map(|(_, loss, norm)| norm.and(*loss)).collect::<Vec<f64>>()
        };
        let wide = of(Dtype::F32, Dtype::F32);
        assert_eq!(wide.len(), 20);
        // Measured on flex and on a software GPU: 6e-3 and 3e-4 with narrow products, 1.4e-2 and 6e-3 with narrow weights.
        for (narrow, products, weights) in [(Dtype::Bf16, 2e-2, 4e-2), (Dtype::F16, 1e-3, 2e-2)] {
            if !device.supports_dtype(basislab_model::dtype(narrow)) {
                continue;
            }
            for (param, tolerance) in [(Dtype::F32, products), (narrow, weights)] {
                let found = of(param, narrow);
                let worst = found.iter().zip(&wide).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(worst > 1e-5 && worst < tolerance, "{name} {param:?} {narrow:?}: {worst:e}");
            }
        }
    }
}

#[test]
fn gradients_of_narrow_parameters_are_kept_in_f32() {
    let experiment = typed(small(&[]), Dtype::Bf16);
    let mut trainee = prepare(&experiment, experiment.arm("adam-rotated").unwrap(), 0, 32, &flex());
    let batch = Corpus::open(&experiment.corpus, 8).unwrap().batch(0, 1, 4, 9);
    update(&mut trainee, &experiment.train, 1e-3, &batch).unwrap();
    for slot in trainee.optimizer.memory().into_iter().flatten().flatten() {
        assert_eq!(slot.dtype(), DType::F32);
    }
    for value in trainee.model.values() {
        assert_eq!(value.dtype(), DType::BF16);
    }
    // And the state goes through its file without a change of type or bit.
    let state = trainee.state(1);
    let mut other = prepare(&experiment, experiment.arm("adam-rotated").unwrap(), 1, 32, &flex());
    other.restore(&state).unwrap();
    assert_eq!(other.state(1), state);
}

/// Rows and last states of several seeds of an arm as one model, and how each ended.
fn together(
    experiment: &Experiment,
    arm: &str,
    device: &Device,
    seeds: &[(u64, Option<&State>)],
    every: u64,
) -> (Vec<Vec<Row>>, Vec<Vec<State>>, Vec<Outcome>) {
    let corpus = Corpus::open(&experiment.corpus, experiment.model.n_ctx).unwrap();
    let stop = AtomicBool::new(false);
    let control = Control { stop: &stop, checkpoint_steps: every, checkpoint_interval: Duration::MAX };
    let setting = Setting { experiment, corpus: &corpus, device, ahead: 4 };
    let (mut rows, mut states) = (vec![Vec::new(); seeds.len()], vec![Vec::new(); seeds.len()]);
    let finished = train_together(setting, experiment.arm(arm).unwrap(), seeds, control, &mut |seed, event| {
        match event {
            Event::Rows(new) => rows[seed].extend(new),
            Event::Checkpoint { state, .. } => states[seed].push(state),
            Event::Finished(_) => unreachable!("`run` sends it"),
        }
        Ok(())
    });
    (rows, states, finished.unwrap().into_iter().map(|finished| finished.outcome).collect())
}

fn weights(state: &State) -> Vec<f64> {
    let file = safetensors::SafeTensors::deserialize(&state.files["weights.safetensors"]).unwrap();
    let mut all: Vec<_> = file.tensors();
    all.sort_by(|a, b| a.0.cmp(&b.0));
    let f64s = |bytes: &[u8]| bytes.as_chunks::<8>().0.iter().map(|x| f64::from_le_bytes(*x)).collect::<Vec<_>>();
    let f32s = |bytes: &[u8]| bytes.as_chunks().0.iter().map(|x| f64::from(f32::from_le_bytes(*x))).collect::<Vec<_>>();
    let of = |view: &safetensors::tensor::TensorView<'_>| match view.dtype() {
        safetensors::Dtype::F64 => f64s(view.data()),
        _ => f32s(view.data()),
    };
    all.iter().flat_map(|(_, view)| of(view)).collect()
}

#[test]
fn stacked_seeds_are_the_separate_runs_up_to_rounding() {
    let architectures = [
        vec![],
        vec![("model.tied_head", "true"), ("model.biases", "true"), ("model.norm", "layernorm")],
        vec![("model.positions.kind", "rope"), ("model.activation", "solu"), ("train.micro_batches", "2")],
    ];
    for (name, device) in everywhere() {
        // The software GPU takes minutes to tune its kernels to shapes: one architecture and one arm, with a map of its own
        // for every seed and parameter, are enough there.
        for changes in &architectures[..if is_cpu(name) { 3 } else { 1 }] {
            let dtype = if is_cpu(name) { Dtype::F64 } else { Dtype::F32 };
            let tolerance = if is_cpu(name) { 1e-9 } else { 1e-4 };
            let experiment = typed(small(changes), dtype);
            let arms =
                if is_cpu(name) { &["adam-independent", "adam-rotated", "sgd"][..] } else { &["adam-independent"] };
            for arm in arms {
                let what = format!("{name} {arm} {changes:?}");
                let seeds = [(3, None), (0, None), (7, None)];
                let (rows, states, outcomes) = together(&experiment, arm, &device, &seeds, u64::MAX);
                assert!(outcomes.iter().all(|outcome| *outcome == Outcome::Complete), "{what}");
                for (lane, (seed, _)) in seeds.into_iter().enumerate() {
                    let alone = together(&experiment, arm, &device, &[(seed, None)], u64::MAX);
                    // Before any update: the very same weights, tokens and bases.
                    assert_eq!(first_look(&rows[lane]), first_look(&alone.0[0]), "{what} seed {seed}");
                    let found = relative(&weights(&states[lane][0]), &weights(&alone.1[0][0]));
                    assert!(found < tolerance, "{what} seed {seed}: weights differ by {found:e}");
                    for (a, b) in losses(&rows[lane]).iter().zip(losses(&alone.0[0])) {
                        let (x, y) = (a.1.unwrap(), b.1.unwrap());
                        assert!((x - y).abs() < tolerance, "{what} seed {seed}: {a:?}, alone {b:?}");
                        let norms = a.2.zip(b.2).is_none_or(|(x, y)| (x - y).abs() < tolerance * y.max(1.0));
                        assert!(norms, "{what} seed {seed}: {a:?}, alone {b:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_stack_goes_on_from_its_checkpoints_to_the_same_rows_and_weights() {
    let experiment = small(&[]);
    let seeds = [(0, None), (1, None)];
    let (rows, states, _) = together(&experiment, "adam-rotated", &flex(), &seeds, 2);
    let from: Vec<_> = states.iter().map(|states| Some(&states[0])).collect();
    assert_eq!(from[0].unwrap().step, 2);
    let (rest, last, _) = together(&experiment, "adam-rotated", &flex(), &[(0, from[0]), (1, from[1])], 2);
    for lane in 0..2 {
        assert!(rows[lane].ends_with(&rest[lane]), "seed {lane}");
        assert_eq!(last[lane].last(), states[lane].last(), "seed {lane}");
    }
}

#[test]
fn a_seed_that_diverges_leaves_the_others_of_its_stack_alone() {
    // At a rate where one of these seeds breaks and another does not.
    let ends =
        |lr: &str, seeds: &[(u64, Option<&State>)]| together(&near_breaking(lr), "sgd", &flex(), seeds, u64::MAX);
    let mut mixed = None;
    for lr in ["0.1", "0.2", "0.4", "0.8", "1.6"] {
        let outcomes: Vec<bool> = (0..6).map(|seed| ends(lr, &[(seed, None)]).2[0] == Outcome::Complete).collect();
        if let (Some(good), Some(bad)) = (outcomes.iter().position(|ok| *ok), outcomes.iter().position(|ok| !*ok)) {
            mixed = Some((lr, good as u64, bad as u64));
        }
    }
    let (lr, good, bad) = mixed.expect("a rate at which seeds part");
    let (rows, states, outcomes) = ends(lr, &[(bad, None), (good, None)]);
    assert!(matches!(outcomes[0], Outcome::Diverged { .. }), "{outcomes:?}");
    assert_eq!(outcomes[1], Outcome::Complete);
    let alone = ends(lr, &[(bad, None)]);
    assert_eq!(alone.2[0], outcomes[0], "alone it ends at the same update, for the same reason");
    let steps = |rows: &[Row]| losses(rows).iter().map(|(step, loss, _)| (*step, loss.is_some())).collect::<Vec<_>>();
    assert_eq!(steps(&rows[0]), steps(&alone.0[0]));
    assert_eq!(losses(&rows[1]).last().unwrap().0, 40);
    assert!(weights(states[1].last().unwrap()).iter().all(|x| x.is_finite()));
}
