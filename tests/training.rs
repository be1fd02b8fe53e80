//! The training loop: pairing, determinism, divergence, probes.

use crate::support::{backends, flex, never, small, values};
use basislab_config::Experiment;
use basislab_data::Corpus;
use basislab_experiment::{Control, Event, Job, Outcome, Parallelism, Setting, State, jobs, run, train};
use basislab_report::Row;
use burn::tensor::Device;
use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn open(experiment: &Experiment) -> Corpus {
    Corpus::open(&experiment.corpus, experiment.model.n_ctx).unwrap()
}

fn rows(experiment: &Experiment, arm: &str, seed: u64, device: &Device) -> (Vec<Row>, Outcome) {
    let mut all = Vec::new();
    let mut sink = |event| {
        if let Event::Rows(rows) = event {
            all.extend(rows);
        }
        Ok(())
    };
    let job = Job { arm: experiment.arm(arm).unwrap(), seed };
    let setting = Setting { experiment, corpus: &open(experiment), device, ahead: 1 };
    let finished = train(setting, job, None, never(), &mut sink).unwrap();
    (all, finished.outcome)
}

#[test]
fn rows_do_not_depend_on_jobs_or_threads() {
    let experiment = small(&[("seeds", "[0, 1]")]);
    let corpus = open(&experiment);
    let with = |workers, threads| {
        let seen: Mutex<BTreeMap<(String, u64), Vec<String>>> = Mutex::default();
        let all = jobs(&experiment);
        let setting = Setting { experiment: &experiment, corpus: &corpus, device: &flex(), ahead: 1 };
        let pool = |_| rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let pools: Vec<_> = (0..workers).map(pool).collect();
        let parallelism = Parallelism { pools: &pools, stack: 1 };
        run(setting, &all, parallelism, never(), &|jobs| Ok(vec![None; jobs.len()]), &|job, event| {
            if let Event::Rows(rows) = event {
                let text = rows.iter().map(|row| format!("{row:?}"));
                seen.lock().unwrap().entry((job.arm.name.to_string(), job.seed)).or_default().extend(text);
            }
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
    let corpus = open(&experiment);
    let arm = experiment.arm("adam-rotated").unwrap();
    let losses = |threads| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| {
            let mut trainee = basislab_experiment::prepare(&experiment, arm, 0, corpus.d_vocab(), &flex());
            let mut seen = Vec::new();
            for step in 1..=2 {
                let batch = corpus.batch(0, step, 2, 9);
                let (loss, norm) = basislab_experiment::update(&mut trainee, &experiment.train, 1e-2, &batch).unwrap();
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
    assert_eq!((last.step, last.status.as_str(), last.train_loss, last.grad_norm), (step, "diverged", None, None));
    for row in &rows {
        match row {
            Row::Step(row) => {
                assert!(row.train_loss.is_none_or(f64::is_finite) && row.grad_norm.is_none_or(f64::is_finite))
            }
            Row::Eval(row) => assert!(row.loss.is_none_or(f64::is_finite)),
            Row::Residual(row) => assert!(row.value.is_none_or(f64::is_finite)),
            Row::Dimension(row) => assert!(row.rms.is_finite()),
        }
    }
}

#[test]
fn an_update_that_is_not_finite_is_not_made() {
    let experiment = small(&[]);
    let corpus = open(&experiment);
    // Finite weights whose activations are not.
    let mut trainee = basislab_experiment::prepare(&experiment, &experiment.arms[0], 0, corpus.d_vocab(), &flex());
    let mut weights: Vec<_> = trainee.model.values().into_iter().map(|value| value.inner()).collect();
    for (weight, (path, ..)) in weights.iter_mut().zip(trainee.model.residual_axes()) {
        if path == "blocks.0.w_in" || path == "blocks.0.w_out" {
            *weight = weight.clone().mul_scalar(1e30);
        }
    }
    trainee.model.set_values(weights);
    let batch = corpus.batch(0, 1, 4, experiment.model.n_ctx + 1);
    let error = basislab_experiment::update(&mut trainee, &experiment.train, 1e-2, &batch).unwrap_err();
    assert_eq!(error, "activation blocks.0.resid_post");
    for poisoned in [0, 3] {
        let mut trainee = basislab_experiment::prepare(&experiment, &experiment.arms[0], 0, corpus.d_vocab(), &flex());
        let mut weights: Vec<_> = trainee.model.values().into_iter().map(|value| value.inner()).collect();
        weights[poisoned] = weights[poisoned].clone().mul_scalar(f64::INFINITY);
        trainee.model.set_values(weights);
        let before: Vec<Vec<f64>> = trainee.model.values().iter().map(values).collect();
        let batch = corpus.batch(0, 1, 4, experiment.model.n_ctx + 1);
        let error = basislab_experiment::update(&mut trainee, &experiment.train, 1e-2, &batch).unwrap_err();
        assert_eq!(error, format!("weight {}", trainee.model.residual_axes()[poisoned].0));
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
    let (mut bases, mut sites) = (std::collections::BTreeSet::new(), std::collections::BTreeSet::new());
    for row in &rows {
        match row {
            Row::Eval(row) => probes.push(row.step),
            Row::Residual(row) => {
                sites.insert(row.site.clone());
                if row.step == 6 && row.site == "blocks.1.resid_post" && row.metric == "token_kurtosis" {
                    bases.insert((row.tokens.clone(), row.basis.clone()));
                }
                assert_eq!(
                    row.tokens_used,
                    match row.tokens.as_str() {
                        "all" => 32,
                        "first" => 4,
                        _ => 28,
                    }
                );
            }
            _ => {}
        }
    }
    assert_eq!(probes, [0, 1, 2, 4, 6]);
    assert_eq!(sites.len(), 7, "{sites:?}");
    assert!(
        bases.contains(&("rest".into(), "optimizer".into())) && bases.contains(&("first".into(), "standard".into()))
    );
    let random = bases.iter().filter(|(tokens, basis)| tokens == "rest" && basis.starts_with("random:")).count();
    assert_eq!(random, 10, "verdict.null_bases at the last step");
}

#[test]
fn probe_steps_are_powers_of_two_then_multiples_then_the_last() {
    let of = |steps, log_until, every| {
        let mut probe = small(&[]).probe;
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
    let mut train = small(&[]).train;
    (train.steps, train.warmup_steps, train.final_lr_fraction) = (10, 4, 0.1);
    assert_eq!((0..4).map(|s| train.lr_factor(s)).collect::<Vec<_>>(), [0.25, 0.5, 0.75, 1.0]);
    assert!((train.lr_factor(4) - 1.0).abs() < 1e-15 && (train.lr_factor(9) - 0.1).abs() < 1e-15);
    train.schedule = basislab_config::ScheduleKind::Linear;
    assert!((train.lr_factor(9) - 0.1).abs() < 1e-15 && (train.lr_factor(6) - (1.0 - 0.9 * 0.4)).abs() < 1e-12);
    train.schedule = basislab_config::ScheduleKind::Constant;
    assert_eq!(train.lr_factor(9), 1.0);
}

#[test]
fn a_run_goes_on_from_any_checkpoint_to_the_same_rows_and_weights() {
    let experiment = small(&[("arm.adam.optimizer.kind", "adamw"), ("arm.sgd.optimizer.nesterov", "true")]);
    let corpus = open(&experiment);
    for (name, device) in backends() {
        for arm in &experiment.arms {
            let setting = Setting { experiment: &experiment, corpus: &corpus, device: &device, ahead: 1 };
            let job = Job { arm, seed: experiment.seeds_of(arm)[0] };
            // Rows after each checkpoint, and the states.
            let go = |start: Option<&State>, stop_at: Option<u64>| {
                let stop = AtomicBool::new(false);
                let control = Control { stop: &stop, checkpoint_steps: 1, checkpoint_interval: Duration::MAX };
                let (mut rows, mut states) = (Vec::new(), Vec::new());
                let finished = train(setting, job, start, control, &mut |event| {
                    match event {
                        Event::Rows(new) => {
                            let at = |row: &Row| matches!(row, Row::Step(row) if Some(row.step) == stop_at);
                            stop.fetch_or(new.iter().any(at), Ordering::Relaxed);
                            rows.extend(new);
                        }
                        Event::Checkpoint { state, .. } => states.push((state, rows.len())),
                        Event::Finished(_) => unreachable!("`run` sends it"),
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
    let of = |arm: &str| {
        let arm = experiment.arm(arm).unwrap();
        basislab_experiment::prepare(&experiment, arm, 0, 32, &flex())
    };
    let batch = open(&experiment).batch(0, 1, 4, 9);
    let mut adam = of("adam");
    basislab_experiment::update(&mut adam, &experiment.train, 1e-2, &batch).unwrap();
    let error = of("sgd").restore(&adam.state(1)).unwrap_err().to_string();
    assert!(error.contains("w_e.second is unknown"), "{error}");
    let mut state = adam.state(1);
    state.files.remove("optimizer.safetensors");
    assert!(of("adam").restore(&state).is_err(), "Adam's moments must not vanish");
}
