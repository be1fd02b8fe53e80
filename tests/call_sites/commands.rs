//! What the commands print, computed again from what they read. Numbers in text are found by their place in a line, so that
//! wording is free.

use crate::cli::{basislab, stderr, stdout};
use crate::support::{EXPERIMENT, experiment, flex, never, rows_of};
use basislab_config::{Basis, Dtype, RunName, RunSpec};
use basislab_data::Corpus;
use basislab_stats::{METRICS, MetricFn, Purpose, Residuals, Rotation, gaussian, stream};
use basislab_tables::{DimensionRow, ResidualRow, Row, SummaryRow, TimingRow, VerdictRow, read_table, read_tables};
use basislab_train::{Context, certify, train};
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use tempfile::TempDir;

fn printed(dir: &Path, args: &[&str]) -> String {
    let output = basislab(dir, args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

fn json(dir: &Path, args: &[&str]) -> Value {
    serde_json::from_str(&printed(dir, args)).unwrap()
}

/// The words of the first line that begins with `start`.
fn words<'a>(text: &'a str, start: &str) -> Vec<&'a str> {
    let line = text.lines().find(|line| line.trim_start().starts_with(start));
    line.unwrap_or_else(|| panic!("no line begins with {start:?} in\n{text}")).split_whitespace().collect()
}

fn assert_near(found: &Value, expected: Option<f64>, what: &str) {
    match (found.as_f64(), expected) {
        (None, None) => assert!(found.is_null(), "{what}: {found}"),
        (Some(a), Some(b)) if (a - b).abs() <= 1e-9 * b.abs() => {}
        _ => panic!("{what}: found {found}, expected {expected:?}"),
    }
}

#[test]
fn metrics_of_a_users_matrix_stand_in_their_columns() {
    let dir = TempDir::new().unwrap();
    let (n, d, bases, seed) = (13, 6, 9, 3);
    let mut rng = stream(1, Purpose::Simulation, 0);
    // One large dimension, so that values leave their nulls in both directions.
    let large = |at: usize| if at.is_multiple_of(d) { 9.0 } else { 1.0 };
    let values: Vec<f64> = (0..n * d).map(|at| large(at) * gaussian(&mut rng)).collect();
    let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_le_bytes()).collect();
    let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F64, vec![n, d], &bytes).unwrap();
    std::fs::write(dir.path().join("x.safetensors"), safetensors::serialize([("x", view)], None).unwrap()).unwrap();
    let args = ["metrics", "eval", "x.safetensors", "--bases", "9", "--seed", "3"];
    let (found, text) = (json(dir.path(), &[&args[..], &["--json"]].concat()), printed(dir.path(), &args));
    let of = |key: &str| found[key].as_u64().unwrap();
    assert_eq!((of("n_tokens"), of("d_model"), of("random_bases"), of("seed")), (13, 6, 9, 3));
    assert!(text.contains("\n\nx.safetensors: 13 tokens, d_model 6, 9 random bases"), "{text}");
    // What is said first is in the JSON too: the share of bases that are as far out, by hand in `privilege`'s own tests.
    let first = text.lines().next().unwrap();
    assert_eq!(first, found["privilege"]["sentence"]);
    assert!(
        first.starts_with("Not shown to be privileged: of 6 statistics, ")
            && first.contains("(p = 1/10; 9 random bases give"),
        "{first}"
    );
    assert_eq!(
        (found["privilege"]["privileged"].as_bool(), &found["privilege"]["test"]["p"]),
        (Some(false), &0.1.into())
    );
    let largest = &found["privilege"]["largest_dimension"];
    assert_eq!(largest["dim"], 0);
    let rms = |dim: usize| (values.chunks(d).map(|row| row[dim] * row[dim]).sum::<f64>() / n as f64).sqrt();
    let mut sizes: Vec<f64> = (0..d).map(rms).collect();
    let share = rms(0).powi(2) / sizes.iter().map(|size| size * size).sum::<f64>();
    sizes.sort_by(f64::total_cmp);
    assert_near(&largest["rms_over_median"], Some(sizes[5] / (0.5 * (sizes[2] + sizes[3]))), "over the median");
    assert_near(&largest["share_of_energy"], Some(share), "share of energy");
    let many = printed(dir.path(), &["metrics", "eval", "x.safetensors", "--bases", "40"]);
    let expected = format!(
        "Dimension 0: RMS {:.1} x the median, {:.0} % of the energy.",
        sizes[5] / (0.5 * (sizes[2] + sizes[3])),
        100.0 * share
    );
    let first = many.lines().next().unwrap();
    assert!(
        first.starts_with("Privileged: ")
            && first.contains("outside all 40 (p = 1/41, the least that 40 bases can give). ")
            && first.ends_with(&expected),
        "{first}\n{expected}"
    );

    let rotated = |k: u64| {
        let q = Rotation::haar(d, &mut stream(seed, Purpose::RandomBasis, k));
        let row = |x: &[f64]| -> Vec<f64> {
            q.as_slice().chunks(d).map(|q| q.iter().zip(x).map(|(q, x)| q * x).sum()).collect()
        };
        Residuals::new(values.chunks(d).flat_map(row).collect(), d).unwrap()
    };
    let draws: Vec<Residuals> = (0..bases).map(rotated).collect();
    let x = Residuals::new(values.clone(), d).unwrap();
    assert_eq!(found["metrics"].as_array().unwrap().len(), METRICS.len());
    for (metric, line) in METRICS.iter().zip(found["metrics"].as_array().unwrap()) {
        assert_eq!(line["metric"], metric.name);
        let MetricFn::Matrix(of) = metric.of else { continue };
        let value = of(&x);
        let drawn: Option<Vec<f64>> = draws.iter().map(of).collect();
        let null = drawn.filter(|_| metric.basis_dependent && value.is_some()).map(|drawn| {
            let mean = drawn.iter().sum::<f64>() / bases as f64;
            let sd = (drawn.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / (bases - 1) as f64).sqrt();
            let (below, above) = (
                drawn.iter().filter(|draw| **draw <= value.unwrap()).count(),
                drawn.iter().filter(|draw| **draw >= value.unwrap()).count(),
            );
            let p = (2.0 * (below.min(above) + 1) as f64 / (bases + 1) as f64).min(1.0);
            let z = (value.unwrap() - mean) / sd;
            let z = if value.unwrap() == mean { Some(0.0) } else { Some(z).filter(|z| z.is_finite()) };
            (mean, sd, z, p)
        });
        let (closed, ceiling) = (metric.null.map(|null| null(d, n)), metric.ceiling.map(|ceiling| ceiling(d, n)));
        for (key, expected) in [
            ("value", value),
            ("null_mean", null.map(|null| null.0)),
            ("null_sd", null.map(|null| null.1)),
            ("z", null.and_then(|null| null.2)),
            ("rank_p", null.map(|null| null.3)),
            ("closed_form_null", closed),
            ("ceiling", ceiling),
        ] {
            assert_near(&line[key], expected, &format!("{} {key}", metric.name));
        }
        let cell = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
        let null_cells = match null {
            Some((mean, sd, ..)) => vec![cell(Some(mean)), "+-".to_owned(), cell(Some(sd))],
            None => vec![cell(closed)],
        };
        let (mut z, p) = (cell(null.and_then(|null| null.2)), cell(null.map(|null| null.3)));
        if let (Some((mean, 0.0, None, _)), Some(value)) = (null, value) {
            z = if value > mean { "inf".to_owned() } else { "-inf".to_owned() };
        }
        let expected = [vec![metric.name.to_owned(), cell(value)], null_cells, vec![z, p, cell(ceiling)]].concat();
        assert_eq!(words(&text, &format!("{} ", metric.name)), expected);
    }
}

#[test]
fn a_text_is_described_from_its_training_part() {
    let dir = TempDir::new().unwrap();
    // 1,500 training bytes in which pairs depend on one another, then 500 of another kind.
    let mut rng = stream(2, Purpose::Simulation, 0);
    let mut train: Vec<u8> = vec![b'a'];
    while train.len() < 1500 {
        let last = *train.last().unwrap();
        let jump = (gaussian(&mut rng).abs() * 2.0) as u8;
        train.push(b'a' + (last - b'a' + jump) % 20);
    }
    let all = [train.clone(), vec![b'z'; 500]].concat();
    std::fs::write(dir.path().join("t.txt"), &all).unwrap();
    let set = ["--set", "corpus.tokenizer=bytes", "--set", "corpus.d_vocab=256", "--set", "corpus.held_out=0.25"];
    let base = [&["data", "describe", "--text", "t.txt", "--tokens", "1200"][..], &set].concat();
    let (found, text) = (json(dir.path(), &[&base[..], &["--json"]].concat()), printed(dir.path(), &base));
    let seen = &train[..1200];

    let entropy = |counts: &BTreeMap<Vec<u8>, usize>| {
        let total: usize = counts.values().sum();
        let share = |count: &usize| *count as f64 / total as f64;
        counts.values().map(|count| -share(count) * share(count).ln()).sum::<f64>()
    };
    let counted = |size: usize, of: &[u8]| {
        let mut counts = BTreeMap::new();
        of.windows(size).for_each(|part| *counts.entry(part.to_vec()).or_insert(0) += 1);
        counts
    };
    let (single, pairs) = (counted(1, seen), counted(2, seen));
    let conditional = entropy(&pairs) - entropy(&counted(1, &seen[..1199]));
    let mut sizes: Vec<f64> = single.values().filter(|count| **count >= 10).map(|count| *count as f64).collect();
    sizes.sort_by(|a, b| b.total_cmp(a));
    let points: Vec<(f64, f64)> = (1..).zip(&sizes).map(|(rank, size)| (f64::from(rank).ln(), size.ln())).collect();
    let mean = |of: &dyn Fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
    let (x, y) = (mean(&|point| point.0), mean(&|point| point.1));
    let slope = mean(&|point| (point.0 - x) * (point.1 - y)) / mean(&|point| (point.0 - x).powi(2));
    let recurs = |at: usize| f64::from(u8::from(seen[at + 1..=at + 64].contains(&seen[at])));
    let by_chance = |at: usize| 1.0 - (1.0 - single[&seen[at..=at]] as f64 / 1200.0).powi(64);
    let burst = (0..1136).map(recurs).sum::<f64>() / (0..1136).map(by_chance).sum::<f64>();
    let numbers = [
        ("zipf_exponent", "Zipf exponent", Some(-slope)),
        ("unigram_entropy", "unigram entropy", Some(entropy(&single))),
        ("bigram_conditional_entropy", "bigram entropy", Some(conditional)),
        ("burstiness", "burstiness", Some(burst)),
        ("floor", "entropy floor", None),
    ];
    for (key, label, expected) in numbers {
        assert_near(&found[key], expected, key);
        let printed = expected.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
        assert_eq!(words(&text, label)[label.split(' ').count()], printed, "{label}");
    }
    let of = |key: &str| found[key].as_u64().unwrap() as usize;
    assert_eq!((of("tokens"), of("d_vocab"), of("distinct_tokens")), (1200, 256, single.len()));
    assert_eq!(of("size_bytes"), 2000);
    assert_eq!(words(&text, "tokens looked")[3], "1200");
    assert_eq!(words(&text, "vocabulary")[1..3], ["256", &format!("({}", single.len())]);
    assert_eq!(words(&text, "size")[1], "2000");
    let sample = printed(dir.path(), &[&["data", "sample", "--text", "t.txt", "--count", "3"][..], &set].concat());
    let whole = String::from_utf8(train).unwrap();
    for line in sample.split("----\n") {
        let line = line.trim_end_matches('\n');
        assert!(line.len() == 65 && whole.contains(line), "{line:?} is not of the training part");
    }
}

#[test]
fn a_language_is_described_with_the_floor_of_its_sample() {
    let dir = TempDir::new().unwrap();
    let found =
        json(dir.path(), &["data", "describe", EXPERIMENT, "--json", "--tokens", "3000", "--set", "corpus.seed=3"]);
    let experiment = experiment(&[("corpus.seed", "3")]);
    let corpus = Corpus::open(&experiment.shared.corpus, experiment.shared.model.n_ctx).unwrap();
    let floor = corpus.floor(&[corpus.sample(3000)]);
    assert!(floor.is_some());
    assert_near(&found["floor"], floor, "floor");
    assert_eq!(found["sha256"], corpus.sha256());
    assert!(found["size_bytes"].is_null());
    let text = printed(dir.path(), &["data", "describe", EXPERIMENT, "--tokens", "3000", "--set", "corpus.seed=3"]);
    assert_eq!(words(&text, "entropy floor")[2], format!("{:.4}", floor.unwrap()));
}

const SIZES: [&str; 23] = [
    "model.n_ctx=6",
    "model.d_model=8",
    "model.n_heads=2",
    "model.d_mlp=12",
    "corpus.d_vocab=24",
    "corpus.classes=4",
    "corpus.successors=2",
    "train.warmup_steps=2",
    "train.steps=5",
    "train.batch_size=3",
    "train.clip_norm=0.6",
    "probe.log_until=2",
    "probe.every=4",
    "probe.residual_sequences=2",
    "probe.loss_sequences=4",
    "probe.random_bases=8",
    "probe.null_bases=11",
    "probe.tokens=all",
    "verdict.tokens=all",
    "verdict.alpha=0.1",
    "verdict.min_seeds=2",
    "arm.adam.optimizer.beta_2=0.95",
    "arm.adam-identity.optimizer.beta_2=0.95",
];

fn with_sizes<'a>(args: &[&'a str]) -> Vec<&'a str> {
    args.iter().copied().chain(SIZES.iter().flat_map(|set| ["--set", set])).collect()
}

fn of_sizes() -> basislab_config::Experiment {
    let changes: Vec<(&str, &str)> = SIZES.iter().map(|set| set.split_once('=').unwrap()).collect();
    experiment(&changes)
}

#[test]
fn laws_and_parameters_are_printed_beside_what_they_belong_to() {
    let dir = TempDir::new().unwrap();
    let experiment = of_sizes();
    let args = with_sizes(&["check", EXPERIMENT, "--steps", "6"]);
    let (found, text) = (json(dir.path(), &[&args[..], &["--json"]].concat()), printed(dir.path(), &args));
    assert_eq!(found["dtype"], "f64");
    // Arms with the same rule share a certificate, in the order of their first arm.
    let rules = ["adam", "adam-rotated", "sgd"].map(|arm| experiment.arm(arm).unwrap().run.optimizer.clone());
    let parts: Vec<&str> = text.split("\n\n").collect();
    assert_eq!(found["optimizers"].as_array().unwrap().len(), 3);
    for (at, rule) in rules.iter().enumerate() {
        let (line, part) = (&found["optimizers"][at], parts[at + 1]);
        assert_eq!(line["optimizer"], serde_json::to_value(rule).unwrap());
        assert_eq!(line["commutes_with_rotation"], rule.name() == "sgd");
        assert!(part.starts_with(&format!("{} (lr {:?}): ", rule.name(), rule.lr())), "{part}");
        assert_eq!(part.contains("commutes with every"), rule.name() == "sgd", "{part}");
        let run = RunSpec { optimizer: rule.clone(), ..experiment.shared.clone() };
        let laws = certify(&run, 6, (&flex(), Dtype::F64));
        for (law, printed) in laws.iter().zip(line["laws"].as_array().unwrap()) {
            assert_eq!(printed["law"], law.name);
            assert_near(&printed["difference"], law.difference, law.name);
            assert_eq!(printed["holds"].as_bool(), law.holds(), "{}", law.name);
            let text = part.lines().find(|line| line.contains(&format!("  {} ", law.name))).unwrap();
            let difference = format!("{:.1e}", law.difference.unwrap());
            let (before, after) = text.split_once(law.name).unwrap();
            assert_eq!(before.trim() == "ok", law.holds() == Some(true), "{text}");
            assert_eq!(after.split_whitespace().next(), Some(&*difference), "{text}");
            assert!(after.ends_with(printed["expected"].as_str().unwrap()), "{text}");
        }
    }
    // d 8, 24 words, 6 positions, 2 blocks of four 8 x 8 matrices and two of 8 x 12; five gains.
    let facing = 24 * 8 + 6 * 8 + 2 * (4 * 8 * 8 + 2 * 8 * 12) + 8 * 24;
    for (arm, line) in experiment.arms.iter().zip(found["arms"].as_array().unwrap()) {
        let rotated = if ["adam", "sgd"].contains(&arm.name.as_str()) { 0 } else { facing };
        assert_eq!(line["arm"], arm.name.as_str());
        let of = |key: &str| line[key].as_u64().unwrap();
        assert_eq!((of("rotated"), of("facing_the_stream"), of("parameters")), (rotated, facing, facing + 5));
        let line = words(parts.last().unwrap(), &format!("{} ", arm.name));
        assert_eq!(line[1..4], [&rotated.to_string(), "of", &facing.to_string()], "{}", arm.name);
        assert!(line.contains(&&*format!("({}", facing + 5)), "{line:?}");
    }
}

#[test]
fn merged_tables_hold_the_rows_of_each_run_and_the_answer_repeats_them() {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("o");
    let args = with_sizes(&["run", EXPERIMENT, "--seeds", "4,1", "--quiet", "--json", "--out", "o"]);
    let answer = json(dir.path(), &args);
    let mut experiment = of_sizes();
    // As `--seeds 4,1` says: an arm with seeds of its own keeps as many, the first ones.
    experiment
        .arms
        .iter_mut()
        .for_each(|arm| arm.seeds = if arm.name == "adam-identity" { vec![4] } else { vec![4, 1] });
    let corpus = Corpus::open(&experiment.shared.corpus, experiment.shared.model.n_ctx).unwrap();
    let tables = read_tables(&out).unwrap();
    let (mut steps, mut evals, mut residual) = (Vec::new(), Vec::new(), Vec::new());
    let (mut dimensions, mut sizes) = (Vec::new(), Vec::new());
    for arm in &experiment.arms {
        for &seed in &arm.seeds {
            let on = Context { corpus: &corpus, device: &flex(), ahead: 1 };
            let mut take = |event| {
                for row in rows_of(arm, seed, &event) {
                    match row {
                        Row::Step(row) => steps.push(row),
                        Row::Eval(row) => evals.push(row),
                        Row::Residual(row) => residual.push(row),
                        Row::Dimension(row) => dimensions.push(row),
                        Row::DimensionStep(row) => sizes.push(row),
                    }
                }
                Ok(())
            };
            train(&arm.run, seed, on, None, never(), &mut take).unwrap();
        }
    }
    assert_eq!(tables.steps, steps);
    assert_eq!(tables.evals, evals);
    // A row may have been brought forward, for readers that guess types from the first ones.
    let sorted = |rows: Vec<String>| {
        let mut rows = rows;
        rows.sort_unstable();
        rows
    };
    let texts = |rows: &[ResidualRow]| sorted(rows.iter().map(|row| format!("{row:?}")).collect());
    assert!(texts(&tables.residual.to_rows()) == texts(&residual));
    let texts = |rows: &[DimensionRow]| sorted(rows.iter().map(|row| format!("{row:?}")).collect());
    assert!(texts(&tables.dimensions) == texts(&dimensions));
    assert_eq!(tables.dimension_steps, sizes);

    // The first seed of each arm again, up to update 3: as many lines as its tables hold until then.
    let verified = printed(dir.path(), &["verify", "o", "--steps", "3"]);
    for arm in &experiment.arms {
        let (name, seed) = (&arm.name, arm.seeds[0]);
        let is_early = |arm: &RunName, of: u64, step: u64| arm == name && of == seed && step <= 3;
        let lines = steps.iter().filter(|row| is_early(&row.arm, row.seed, row.step)).count()
            + evals.iter().filter(|row| is_early(&row.arm, row.seed, row.step)).count()
            + residual.iter().filter(|row| is_early(&row.arm, row.seed, row.step)).count()
            + dimensions.iter().filter(|row| is_early(&row.arm, row.seed, row.step)).count()
            + sizes.iter().filter(|row| is_early(&row.arm, row.seed, row.step)).count();
        let line = words(&verified, &format!("{name} seed {seed}: ")).join(" ");
        assert!(line.contains(&format!(" {lines} lines")) && line.ends_with("step 3"), "{lines}: {line}");
    }

    let timing: Vec<TimingRow> = read_table(&out).unwrap();
    assert_eq!(timing, tables.timing);
    let runs: Vec<(&str, u64)> = timing.iter().map(|row| (row.arm.as_str(), row.seed)).collect();
    assert_eq!(runs[..4], [("adam", 4), ("adam", 1), ("adam-rotated", 4), ("adam-rotated", 1)]);
    for row in &timing {
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9 * b;
        assert!(row.probe_seconds > 0.0 && row.train_seconds > 0.0, "{row:?}");
        assert!(near(row.train_seconds + row.probe_seconds, row.seconds), "{row:?}");
        assert!(near(row.tokens_per_second * row.train_seconds, 5.0 * 3.0 * 6.0), "{row:?}");
        assert_eq!(row.backend, "flex");
    }

    let summary: Vec<SummaryRow> = read_table(&out).unwrap();
    let lines = answer["arms"].as_array().unwrap();
    assert_eq!(lines.len(), 7, "five arms, two of them with a basis of their own");
    for line in lines {
        let of = |metric: &str, basis: Option<Basis>| {
            let is_of = |row: &&SummaryRow| *row.arm == line["arm"] && row.metric == metric && row.basis == basis;
            summary.iter().find(is_of).unwrap()
        };
        let row = of("token_kurtosis", Some(line["basis"].as_str().unwrap().parse().unwrap()));
        for (key, value) in
            [("value", row.mean), ("null_mean", row.null_mean), ("null_sd", row.null_sd), ("ratio", row.ratio)]
        {
            assert_near(&line[key], value, &format!("{} {key}", row.arm));
        }
        for key in ["loss", "loss_above_floor"] {
            assert_near(&line[key], of(key, None).mean, &format!("{} {key}", row.arm));
        }
    }
    let verdicts: Vec<VerdictRow> = read_table(&out).unwrap();
    for (line, row) in answer["verdicts"].as_array().unwrap().iter().zip(&verdicts) {
        assert_eq!((&line["claim"], &line["verdict"]), (&row.claim.as_str().into(), &row.verdict.name().into()));
        let ratio = !["equal-loss", "bit-equal"].contains(&row.kind.as_str());
        let shown = |value: Option<f64>| if ratio { value.map(f64::exp) } else { value };
        for (key, value) in [("estimate", row.estimate), ("low", row.ci_low), ("high", row.ci_high)] {
            assert_near(&line[key], shown(value), &format!("{} {key}", row.claim));
        }
        for (key, value) in [("p", row.p), ("p_holm", row.p_holm)] {
            assert_near(&line[key], value, &format!("{} {key}", row.claim));
        }
    }
}
