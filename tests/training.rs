//! The training loop: pairing, determinism, divergence, probes.

use crate::support::{backends, flex, muon_and_adam, never, optimizer, relative, rows_of, small, typed, values};
use basislab_config::{
    Arm, Basis, BasisSpec, Dtype, Experiment, Moments, OptimizerSpec, Phase, RotatedAxes, RotationSpec, RunName,
    RunSpec, ScheduleKind, Sharing, Site, Tokens,
};
use basislab_data::Corpus;
use basislab_runs::{in_parallel, jobs};
use basislab_tables::{Row, Status};
use basislab_train::{Context, Control, Event, Outcome, State, Trainee, train, update};
use burn::tensor::Device;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn open(run: &RunSpec) -> Corpus {
    Corpus::open(&run.corpus, run.model.n_ctx).unwrap()
}

fn rows(experiment: &Experiment, arm: &str, seed: u64, device: &Device) -> (Vec<Row>, Outcome) {
    let arm = experiment.arm(arm).unwrap();
    let on = Context { corpus: &open(&arm.run), device, ahead: 1 };
    trained(arm, seed, on)
}

fn trained(arm: &Arm, seed: u64, on: Context<'_>) -> (Vec<Row>, Outcome) {
    let mut all = Vec::new();
    let mut record = |event| {
        all.extend(rows_of(arm, seed, &event));
        Ok(())
    };
    let finished = train(&arm.run, seed, on, None, never(), &mut record).unwrap();
    (all, finished.outcome)
}

#[test]
fn rows_do_not_depend_on_jobs_or_threads() {
    let experiment = small(&[("seeds", "[0, 1]")]);
    let corpus = open(&experiment.shared);
    let with = |workers, threads| {
        let seen: Mutex<BTreeMap<(String, u64), Vec<String>>> = Mutex::default();
        let all = jobs(&experiment);
        let pool = |_| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let pools: Vec<_> = (0..workers).map(pool).collect();
        in_parallel(&all, &pools, &AtomicBool::new(false), &|job, _| {
            let on = Context { corpus: &corpus, device: &flex(), ahead: 1 };
            let texts = trained(job.arm, job.seed, on).0.iter().map(|row| format!("{row:?}")).collect();
            let before = seen.lock().unwrap().insert((job.arm.name.to_string(), job.seed), texts);
            assert!(before.is_none(), "each job once");
            Ok(())
        })
        .unwrap();
        seen.into_inner().unwrap()
    };
    let alone = with(1, 1);
    assert_eq!(alone.len(), 9, "five arms, two seeds, one of them with one seed only");
    // Without a pool the calling thread trains.
    for (workers, threads) in [(0, 1), (2, 1), (4, 1), (1, 2), (1, 3), (2, 4)] {
        assert_eq!(with(workers, threads), alone, "{workers} workers of {threads} threads");
    }
}

#[test]
fn a_parameter_of_eight_million_elements_trains_to_the_same_bits_on_any_thread_count() {
    // Backends may split large sums over threads; loss and norm are reduced in our own order.
    let experiment = small(&[
        ("corpus.d_vocab", "524288"),
        ("train.steps", "2"),
        ("train.warmup_steps", "0"),
        ("probe.loss_sequences", "4"),
        ("train.batch_size", "2"),
    ]);
    let run = &experiment.arm("adam-rotated").unwrap().run;
    let corpus = open(run);
    let losses = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut trainee = Trainee::new(run, 0, corpus.d_vocab(), &flex());
            let mut seen = Vec::new();
            for step in 1..=2 {
                let batch = corpus.batch(0, step, 2, 9);
                let (loss, norm) = update(&mut trainee, &run.train, 1.0, &batch).unwrap();
                seen.push((loss.to_bits(), norm.to_bits()));
            }
            seen
        })
    };
    assert_eq!(losses(1), losses(2));
    assert_eq!(losses(1), losses(3));
}

#[test]
fn identity_arm_is_bit_equal_and_arms_are_paired() {
    let experiment = small(&[]);
    for (name, device) in backends() {
        let numbers = |arm: &str| {
            let (rows, _) = rows(&experiment, arm, 0, &device);
            let of = |row: &Row| match row {
                Row::Step(row) => Some((row.step, row.train_loss.unwrap().to_bits(), row.grad_norm.unwrap().to_bits())),
                _ => None,
            };
            rows.iter().filter_map(of).collect::<Vec<_>>()
        };
        let adam = numbers("adam");
        assert_eq!(adam, numbers("adam-identity"), "{name}");
        for arm in ["sgd", "adam-rotated", "adam-independent"] {
            let other = numbers(arm);
            assert_eq!(
                adam[0], other[0],
                "{name} {arm}: the first loss is before any update, on the same weights and batch"
            );
            assert_ne!(adam[5], other[5], "{name} {arm}");
        }
    }
}

#[test]
fn a_diverged_run_is_a_result_without_numbers() {
    let experiment = small(&[
        ("arm.sgd.optimizer.lr", "1e6"),
        ("train.clip_norm", "0"),
        ("train.steps", "50"),
        ("model.norm", "none"),
    ]);
    let (rows, outcome) = rows(&experiment, "sgd", 0, &flex());
    let Outcome::Diverged { step, tensor } = outcome else { panic!("lr 1e6 must diverge: {outcome:?}") };
    assert!(tensor.starts_with("weight ") || tensor.starts_with("activation "), "{tensor}");
    let Some(Row::Step(last)) = rows.last() else { panic!("the last row is the failed step") };
    assert_eq!((last.step, last.status, last.train_loss, last.grad_norm), (step, Status::Diverged, None, None));
    for row in &rows {
        match row {
            Row::Step(row) => {
                assert!(row.train_loss.is_none_or(f64::is_finite) && row.grad_norm.is_none_or(f64::is_finite))
            }
            Row::Eval(row) => assert!(row.loss.is_none_or(f64::is_finite)),
            Row::Residual(row) => assert!(row.value.is_none_or(f64::is_finite)),
            Row::Dimension(row) => assert!(row.rms.is_finite()),
            Row::DimensionStep(row) => assert!(!row.rms.values().is_empty()),
        }
    }
}

#[test]
fn an_update_that_is_not_finite_is_not_made() {
    let run = small(&[]).shared;
    let corpus = open(&run);
    // Finite weights whose activations are not.
    let mut trainee = Trainee::new(&run, 0, corpus.d_vocab(), &flex());
    let mut weights: Vec<_> = trainee.model.values().into_iter().map(|value| value.inner()).collect();
    for (weight, parameter) in weights.iter_mut().zip(trainee.model.parameters()) {
        let path = parameter.path;
        if path == "blocks.0.w_in" || path == "blocks.0.w_out" {
            *weight = weight.clone().mul_scalar(1e30);
        }
    }
    trainee.model.set_values(weights);
    let batch = corpus.batch(0, 1, 4, run.model.n_ctx + 1);
    let error = update(&mut trainee, &run.train, 1.0, &batch).unwrap_err();
    assert_eq!(error, "activation blocks.0.resid_post");
    for poisoned in [0, 3] {
        let mut trainee = Trainee::new(&run, 0, corpus.d_vocab(), &flex());
        let mut weights: Vec<_> = trainee.model.values().into_iter().map(|value| value.inner()).collect();
        weights[poisoned] = weights[poisoned].clone().mul_scalar(f64::INFINITY);
        trainee.model.set_values(weights);
        let before: Vec<Vec<f64>> = trainee.model.values().iter().map(values).collect();
        let batch = corpus.batch(0, 1, 4, run.model.n_ctx + 1);
        let error = update(&mut trainee, &run.train, 1.0, &batch).unwrap_err();
        assert_eq!(error, format!("weight {}", trainee.model.parameters()[poisoned].path));
        for (index, (after, before)) in trainee.model.values().iter().zip(&before).enumerate() {
            assert!(index == poisoned || values(after) == *before, "parameter {index} was updated");
        }
    }
}

#[test]
fn probes_come_at_their_steps_with_every_site_and_basis() {
    let experiment = small(&[]);
    let (rows, _) = rows(&experiment, "adam-rotated", 0, &flex());
    let mut probes = Vec::new();
    let (mut bases, mut sites) = (BTreeSet::new(), BTreeSet::new());
    for row in &rows {
        match row {
            Row::Eval(row) => probes.push(row.step),
            Row::Residual(row) => {
                sites.insert(row.site);
                if row.step == 6 && row.site == Site::ResidPost(1) && row.metric == "token_kurtosis" {
                    bases.insert((row.tokens, row.basis));
                }
                assert_eq!(
                    row.tokens_used,
                    match row.tokens {
                        Tokens::All => 32,
                        Tokens::First => 4,
                        Tokens::Rest => 28,
                        Tokens::Sample => panic!("no probe measures a sample"),
                    }
                );
            }
            _ => {}
        }
    }
    assert_eq!(probes, [0, 1, 2, 4, 6]);
    assert_eq!(sites.len(), 7, "{sites:?}");
    assert!(bases.contains(&(Tokens::Rest, Basis::Optimizer)) && bases.contains(&(Tokens::First, Basis::Standard)));
    let random: Vec<u32> = bases
        .iter()
        .filter_map(|(tokens, basis)| match basis {
            Basis::Random(k) => {
                assert_eq!(*tokens, Tokens::Rest, "random bases are of the detailed tokens");
                Some(*k)
            }
            _ => None,
        })
        .collect();
    assert_eq!(random, (0..10).collect::<Vec<u32>>(), "probe.null_bases at the last step");
}

#[test]
fn probe_steps_are_powers_of_two_then_multiples_then_the_last() {
    let of = |steps, log_until, every| {
        let mut probe = small(&[]).shared.probe;
        (probe.log_until, probe.every) = (log_until, every);
        probe.steps(steps)
    };
    assert_eq!(of(1000, 512, 200), [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 800, 1000]);
    assert_eq!(of(600, 8, 200), [0, 1, 2, 4, 8, 200, 400, 600]);
    assert_eq!(of(3, 512, 100), [0, 1, 2, 3]);
    assert_eq!(of(1, 1, 1), [0, 1]);
}

#[test]
fn the_learning_rate_warms_up_and_ends_where_it_should() {
    let mut train = small(&[]).shared.train;
    (train.steps, train.warmup_steps, train.final_lr_fraction) = (10, 4, 0.1);
    assert_eq!((0..4).map(|s| train.lr_factor(s)).collect::<Vec<_>>(), [0.25, 0.5, 0.75, 1.0]);
    assert!((train.lr_factor(4) - 1.0).abs() < 1e-15 && (train.lr_factor(9) - 0.1).abs() < 1e-15);
    train.schedule = ScheduleKind::Linear;
    assert!((train.lr_factor(9) - 0.1).abs() < 1e-15 && (train.lr_factor(6) - (1.0 - 0.9 * 0.4)).abs() < 1e-12);
    train.schedule = ScheduleKind::Constant;
    assert_eq!(train.lr_factor(9), 1.0);
}

#[test]
fn a_run_goes_on_from_any_checkpoint_to_the_same_rows_and_weights() {
    let experiment = small(&[
        ("arm", "adamw=adam,optimizer.kind=adamw"),
        ("arm", "lion=adam-rotated,optimizer.kind=lion"),
        ("arm.sgd.optimizer.nesterov", "true"),
    ]);
    let mut arms = experiment.arms.clone();
    let mut muon = experiment.arm("adam-independent").unwrap().clone();
    (muon.name, muon.run.optimizer) = (RunName::new("muon").unwrap(), muon_and_adam(""));
    arms.push(muon);
    // From every update of every phase.
    for moments in [Moments::Keep, Moments::Rotate, Moments::Reset] {
        for arm in ["adam", "adam-rotated", "lion"] {
            let mut arm = experiment.arm(arm).unwrap().clone();
            let (before, there) = (arm.run.basis.clone(), signed(9, Sharing::Independent, RotatedAxes::Both));
            let phase = |from, basis| Phase { from, optimizer: arm.run.optimizer.clone(), basis, moments };
            arm.run.phases = vec![phase(3, there), phase(5, before)];
            arms.push(arm);
        }
    }
    let corpus = open(&experiment.shared);
    for (name, device) in backends() {
        for arm in &arms {
            let on = Context { corpus: &corpus, device: &device, ahead: 1 };
            let seed = arm.seeds[0];
            // Rows after each checkpoint, and the states.
            let go = |start: Option<&State>, stop_at: Option<u64>| {
                let stop = AtomicBool::new(false);
                let control = Control { stop: &stop, checkpoint_steps: 1, checkpoint_interval: Duration::MAX };
                let (mut rows, mut states) = (Vec::new(), Vec::new());
                let finished = train(&arm.run, seed, on, start, control, &mut |event| {
                    let new = rows_of(arm, seed, &event);
                    let at = |row: &Row| matches!(row, Row::Step(row) if Some(row.step) == stop_at);
                    stop.fetch_or(new.iter().any(at), Ordering::Relaxed);
                    rows.extend(new);
                    if let Event::Checkpoint { state, .. } = event {
                        states.push((state, rows.len()));
                    }
                    Ok(())
                });
                (finished.unwrap().outcome, rows, states)
            };
            let (outcome, rows, states) = go(None, None);
            assert_eq!((outcome, states.len()), (Outcome::Complete, 6));
            for (state, offset) in &states {
                let (outcome, rest, later) = go(Some(state), None);
                assert_eq!(outcome, Outcome::Complete);
                assert_eq!(rest, rows[*offset..], "{name} {} from step {}", arm.name, state.step);
                let last = later.last().map_or(state, |(state, _)| state);
                assert_eq!(*last, states[5].0, "{name} {} from step {}", arm.name, state.step);
            }
            let (outcome, stopped, states_then) = go(None, Some(3));
            assert_eq!((outcome, states_then.last().unwrap()), (Outcome::Stopped(3), &states[2]));
            assert_eq!(stopped[..], rows[..states[2].1]);
        }
    }
}

#[test]
fn a_checkpoint_of_another_run_is_refused_by_name() {
    let experiment = small(&[]);
    let run = |arm: &str| &experiment.arm(arm).unwrap().run;
    let of = |arm: &str| Trainee::new(run(arm), 0, 32, &flex());
    let batch = open(&experiment.shared).batch(0, 1, 4, 9);
    let mut adam = of("adam");
    update(&mut adam, &experiment.shared.train, 1.0, &batch).unwrap();
    let error = of("sgd").restore(run("sgd"), 0, &adam.state(1)).unwrap_err().to_string();
    assert!(error.contains("w_e.second is unknown"), "{error}");
    let mut state = adam.state(1);
    state.files.remove("optimizer.safetensors");
    assert!(of("adam").restore(run("adam"), 0, &state).is_err(), "Adam's moments must not vanish");
}

fn signed(seed: u64, sharing: Sharing, axes: RotatedAxes) -> BasisSpec {
    BasisSpec::RotatedOptimizer { rotation: RotationSpec::SignedPermutation { seed }, sharing, axes }
}

/// The small run with this optimizer in this basis, and later phases `(from, basis, moments)` of the same optimizer.
fn phased(optimizer: &OptimizerSpec, basis: &BasisSpec, later: &[(u64, &BasisSpec, Moments)]) -> RunSpec {
    let phase = |&(from, basis, moments): &(u64, &BasisSpec, Moments)| Phase {
        from,
        optimizer: optimizer.clone(),
        basis: basis.clone(),
        moments,
    };
    let (optimizer, basis, phases) = (optimizer.clone(), basis.clone(), later.iter().map(phase).collect());
    RunSpec { optimizer, basis, phases, ..small(&[]).shared }
}

/// The weights after the last update.
fn weights(run: &RunSpec, device: &Device) -> Vec<f64> {
    let on = Context { corpus: &open(run), device, ahead: 1 };
    let mut last = None;
    let mut record = |event| {
        if let Event::Checkpoint { state, .. } = event {
            last = Some(state);
        }
        Ok(())
    };
    train(run, 0, on, None, never(), &mut record).unwrap();
    let mut trainee = Trainee::new(run, 1, on.corpus.d_vocab(), device);
    trainee.restore(run, 1, &last.unwrap()).unwrap();
    trainee.model.values().iter().flat_map(values).collect()
}

#[test]
fn moments_that_are_rotated_into_a_signed_permutation_change_no_bit() {
    let standard = BasisSpec::Standard {};
    let both = signed(3, Sharing::Shared, RotatedAxes::Both);
    let each = signed(4, Sharing::Independent, RotatedAxes::Residual);
    let optimizers = [
        optimizer("adam", &[("weight_decay", "0.1")]),
        optimizer("adamw", &[]),
        optimizer("lion", &[]),
        optimizer("sgd", &[]),
    ];
    for (name, device) in backends() {
        for optimizer in &optimizers {
            let never = weights(&phased(optimizer, &standard, &[]), &device);
            let later = [(3, &both, Moments::Rotate), (5, &each, Moments::Rotate), (6, &standard, Moments::Rotate)];
            let rotated = weights(&phased(optimizer, &standard, &later), &device);
            assert!(rotated == never, "{name}: {optimizer:?}");
            // Kept as they are, they belong to other coordinates.
            let kept = weights(&phased(optimizer, &standard, &[(3, &both, Moments::Keep)]), &device);
            assert!(relative(&kept, &never) > 1e-4, "{name}: {optimizer:?}");
        }
    }
}

#[test]
fn moments_that_are_rotated_into_a_haar_basis_change_nothing_where_the_rule_commutes_with_it() {
    let haar = |seed, axes| {
        let rotation = RotationSpec::Haar { seed };
        BasisSpec::RotatedOptimizer { rotation, sharing: Sharing::Shared, axes }
    };
    let (residual, both) = (haar(1, RotatedAxes::Residual), haar(2, RotatedAxes::Both));
    let still = optimizer("adam", &[("lr", "1e-30")]);
    let mut muon = muon_and_adam("");
    if let (OptimizerSpec::Groups { groups }, OptimizerSpec::One(rule)) = (&mut muon, still) {
        groups.get_mut("rest").unwrap().rule = rule;
    }
    for optimizer in [optimizer("sgd", &[("nesterov", "true")]), muon] {
        let of = |later: &[(u64, &BasisSpec, Moments)]| {
            let run = phased(&optimizer, &residual, later);
            let mut experiment = typed(small(&[]), Dtype::F64);
            experiment.shared = RunSpec { model: experiment.shared.model, ..run };
            weights(&experiment.shared, &flex())
        };
        let never = of(&[]);
        let rotated = of(&[(3, &both, Moments::Rotate), (5, &BasisSpec::Standard {}, Moments::Rotate)]);
        assert!(relative(&rotated, &never) < 1e-10, "{optimizer:?}: {:e}", relative(&rotated, &never));
        let kept = of(&[(3, &both, Moments::Keep)]);
        assert!(relative(&kept, &never) > 1e-4, "{optimizer:?}: {:e}", relative(&kept, &never));
    }
}

#[test]
fn a_phase_that_resets_is_a_fresh_optimizer_on_those_weights() {
    let adam = optimizer("adam", &[]);
    for next in [optimizer("adam", &[]), optimizer("lion", &[]), muon_and_adam("")] {
        let basis = signed(3, Sharing::Shared, RotatedAxes::Residual);
        let mut run = phased(&adam, &BasisSpec::Standard {}, &[(4, &basis, Moments::Reset)]);
        run.phases[0].optimizer = next.clone();
        let corpus = open(&run);
        let batch = |step| corpus.batch(0, step, run.train.batch_size, run.model.n_ctx + 1);
        let mut trainee = Trainee::new(&run, 0, corpus.d_vocab(), &flex());
        for step in 1..4 {
            update(&mut trainee, &run.train, run.lr_factor(step), &batch(step)).unwrap();
        }
        let fresh = RunSpec { optimizer: next.clone(), basis, phases: Vec::new(), ..run.clone() };
        trainee.optimizer = Trainee::new(&fresh, 0, corpus.d_vocab(), &flex()).optimizer;
        for step in 4..=run.train.steps {
            update(&mut trainee, &run.train, run.lr_factor(step), &batch(step)).unwrap();
        }
        let by_hand: Vec<f64> = trainee.model.values().iter().flat_map(values).collect();
        assert!(weights(&run, &flex()) == by_hand, "{next:?}");
    }
}

#[test]
fn a_new_phase_tells_its_own_rate_and_its_own_basis() {
    let mut run = phased(&optimizer("adam", &[]), &BasisSpec::Standard {}, &[]);
    let basis = BasisSpec::RotatedOptimizer {
        rotation: RotationSpec::Haar { seed: 5 },
        sharing: Sharing::Shared,
        axes: RotatedAxes::Residual,
    };
    run.phases =
        vec![Phase { from: 4, optimizer: optimizer("sgd", &[("lr", "0.25")]), basis, moments: Moments::Reset }];
    let arm = Arm { name: RunName::new("switches").unwrap(), seeds: vec![0], run };
    let corpus = open(&arm.run);
    let (rows, outcome) = trained(&arm, 0, Context { corpus: &corpus, device: &flex(), ahead: 1 });
    assert_eq!(outcome, Outcome::Complete);
    let mut measured = BTreeSet::new();
    for row in &rows {
        match row {
            Row::Step(row) => {
                let peak = if row.step < 4 { 1e-2 } else { 0.25 };
                assert_eq!(row.lr, peak * arm.run.lr_factor(row.step), "update {}", row.step);
            }
            Row::Residual(row) if row.basis == Basis::Optimizer => _ = measured.insert(row.step),
            _ => {}
        }
    }
    assert_eq!(measured, BTreeSet::from([4, 6]), "probes after updates 0, 1, 2, 4 and 6");
}

/// A run's update and the probe after it are two events: where only the probe is not finite, the update has its row, and the
/// next one is the one that was not made.
#[test]
fn a_probe_that_is_not_finite_ends_the_run_in_one_state() {
    let experiment = small(&[("seeds", "[0]"), ("train.steps", "8")]);
    let arm = experiment.arm("adam").unwrap();
    let corpus = open(&arm.run);
    let control = Control { checkpoint_steps: 4, ..never() };
    for ahead in [1, 2] {
        let on = Context { corpus: &corpus, device: &flex(), ahead };
        let (mut all, mut states) = (Vec::new(), Vec::new());
        let mut record = |event: Event| {
            all.extend(rows_of(arm, 0, &event).into_iter().map(|row| (states.len(), row)));
            if let Event::Checkpoint { state, .. } = event {
                states.push(state);
            }
            Ok(())
        };
        train(&arm.run, 0, on, None, control, &mut record).unwrap();
        assert_eq!(states.iter().map(|state| state.step).collect::<Vec<_>>(), [4, 8]);
        for (number, state) in states.iter().enumerate() {
            // Weights that are finite, and whose products are not, before a probe that is due.
            let mut broken = state.clone();
            let bytes = broken.files.get_mut("weights.safetensors").unwrap();
            let mut tensors = basislab_store::decode_any(bytes).unwrap();
            for tensor in &mut tensors {
                tensor.bytes = tensor.bytes.as_chunks::<4>().0.iter().flat_map(|_| f32::MAX.to_le_bytes()).collect();
            }
            *bytes = basislab_store::encode(&tensors);
            let before = all.iter().filter(|(at, _)| *at <= number).map(|(_, row)| row.clone());
            let mut rows: Vec<Row> = before.collect();
            let mut record = |event: Event| {
                rows.extend(rows_of(arm, 0, &event));
                Ok(())
            };
            let outcome = train(&arm.run, 0, on, Some(&broken), control, &mut record).unwrap().outcome;
            let Outcome::Diverged { step, .. } = outcome else { panic!("{outcome:?}") };
            assert_eq!(step, state.step + 1);
            let steps = rows.iter().filter_map(|row| if let Row::Step(row) = row { Some(row) } else { None });
            let states: Vec<(u64, Status)> = steps.map(|row| (row.step, row.status)).collect();
            let expected = (1..=state.step).map(|step| (step, Status::Ok)).chain([(step, Status::Diverged)]);
            assert_eq!(states, expected.collect::<Vec<_>>(), "each update has one row");
        }
    }
}
