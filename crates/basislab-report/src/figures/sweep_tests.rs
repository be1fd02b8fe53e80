//! What the figure of a sweep shows, against numbers made by hand.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

use super::frame::svg;
use super::mark::{Figure, Key, Mark};
use super::tests::svgs;
use super::{figure_names, figures, headline, sweep};
use crate::choose;
use crate::fixture::{edit_residual, experiment_with, name};
use basislab_config::{Basis, Experiment, Site, Tokens};
use basislab_tables::{EvalRow, ResidualRow, Split, Status, StepRow, Tables};

const LAST: u64 = 600;
const SITE: Site = Site::ResidPost(1);

fn grid(keys: &str, choice: bool) -> Experiment {
    let choose = if choice { "choose = { by = \"loss\", on_seeds = [1000, 1001] }" } else { "" };
    experiment_with(2, &format!("[[grid]]\narms = [\"adam\"]\n{keys}\n{choose}\n"))
}

/// Metric and loss of each run at the last step, other numbers at other places, and random bases around the run's null.
fn tables(experiment: &Experiment, of: impl Fn(usize, u64) -> (f64, f64, f64)) -> Tables {
    let mut tables = Tables::default();
    let points = experiment.sweeps.iter().flat_map(|sweep| &sweep.points);
    for (at, point) in points.enumerate() {
        for &seed in &experiment.arm(&point.arm).unwrap().seeds {
            let (value, loss, null) = of(at, seed);
            let mut residual = |step, site: Site, basis, value| {
                let (arm, tokens, metric) = (point.arm.clone(), Tokens::Rest, "token_kurtosis".to_owned());
                let (layer, value) = (site.layer(), Some(value));
                tables.residual.push(ResidualRow {
                    arm,
                    seed,
                    step,
                    site,
                    layer,
                    tokens,
                    tokens_used: 9,
                    basis,
                    metric,
                    value,
                });
            };
            residual(LAST, SITE, Basis::Standard, value);
            residual(LAST, SITE, Basis::Optimizer, value + 50.0);
            residual(LAST, Site::ResidPost(0), Basis::Standard, value + 60.0);
            residual(300, SITE, Basis::Standard, value + 70.0);
            residual(LAST, SITE, Basis::Random(0), null - 0.25);
            residual(LAST, SITE, Basis::Random(1), null + 0.25);
            for (step, loss) in [(300, loss + 5.0), (LAST, loss)] {
                let (arm, split) = (point.arm.clone(), Split::HeldOut);
                tables.evals.push(EvalRow { arm, seed, step, split, loss: Some(loss), loss_above_floor: None });
            }
        }
    }
    tables
}

fn drawn(experiment: &Experiment, tables: &Tables, at: usize) -> Figure {
    let planned = sweep::planned(experiment).swap_remove(at);
    sweep::figure(experiment, tables, &planned, &choose(experiment, tables)).unwrap()
}

fn lines(marks: &[Mark]) -> Vec<Vec<(f64, f64)>> {
    let of = |mark: &Mark| if let Mark::Line { points, .. } = mark { Some(points.clone()) } else { None };
    marks.iter().filter_map(of).collect()
}

fn dots(marks: &[Mark]) -> Vec<(f64, f64)> {
    let of = |mark: &Mark| if let Mark::Dots { points, .. } = mark { Some(points.clone()) } else { None };
    marks.iter().filter_map(of).flatten().collect()
}

fn rings(marks: &[Mark]) -> Vec<(f64, f64)> {
    let of = |mark: &Mark| if let Mark::Ring { points } = mark { Some(points.clone()) } else { None };
    marks.iter().filter_map(of).flatten().collect()
}

fn crosses(marks: &[Mark]) -> Vec<f64> {
    let of = |mark: &Mark| if let Mark::Cross { at } = mark { Some(at.clone()) } else { None };
    marks.iter().filter_map(of).flatten().collect()
}

#[test]
fn means_and_runs_stand_at_the_values_of_the_key() {
    // Written in another order than that of the axis.
    let experiment = grid("\"optimizer.lr\" = [3e-3, 1e-3, 1e-2]", true);
    let odd = |seed| if seed == 1001 { 1.0 } else { 0.0 };
    let tables = tables(&experiment, |at, seed| {
        ([4.0, 3.0, 8.0][at] + odd(seed), [2.25, 2.5, 3.0][at] - 0.5 * odd(seed), [3.0, 2.5, 3.5][at])
    });
    let figure = drawn(&experiment, &tables, 0);
    assert_eq!(lines(&figure.marks), [[(1e-3, 3.5), (3e-3, 4.5), (1e-2, 8.5)]]);
    assert_eq!(dots(&figure.marks), [(1e-3, 3.0), (1e-3, 4.0), (3e-3, 4.0), (3e-3, 5.0), (1e-2, 8.0), (1e-2, 9.0)]);
    let below = figure.below.as_ref().unwrap();
    assert_eq!(lines(&below.marks), [[(1e-3, 2.25), (3e-3, 2.0), (1e-2, 2.75)]]);
    assert_eq!((rings(&figure.marks), rings(&below.marks)), (vec![(3e-3, 4.5)], vec![(3e-3, 2.0)]));
    // Two bases of each of two runs lie 0.25 around the null: sd = sqrt(4 * 0.25^2 / 2).
    let sd = 0.125f64.sqrt();
    let band = figure.marks.iter().find_map(|mark| match mark {
        Mark::Band { points, middle, .. } => Some((points.clone(), middle.clone())),
        _ => None,
    });
    let (points, middle) = band.unwrap();
    assert_eq!(middle.iter().map(|point| point.0).collect::<Vec<_>>(), [1e-3, 3e-3, 1e-2]);
    for ((x, low, high), null) in points.into_iter().zip([2.5, 3.0, 3.5]) {
        assert!(
            (low - (null - 2.0 * sd)).abs() < 1e-12 && (high - (null + 2.0 * sd)).abs() < 1e-12,
            "{x}: {low} {high}"
        );
    }
    let ticks: Vec<&str> = figure.x.ticks.iter().map(|tick| tick.1.as_str()).collect();
    assert_eq!(ticks, ["0.001", "0.003", "0.01"]);
    assert_eq!(figure.labels.x, "optimizer.lr (dimensionless), log axis; step 600");
    assert!(figure.labels.title.starts_with("adam: token kurtosis and held-out loss against optimizer.lr"));
    assert!(figure.labels.subtitle.starts_with("blocks.1.resid_post, ") && figure.labels.subtitle.contains("2 seeds"));
    assert!(crosses(&figure.marks).is_empty());
}

#[test]
fn a_run_that_diverged_is_marked_and_counts_in_no_mean() {
    let experiment = grid("\"optimizer.lr\" = [1e-3, 3e-3]", true);
    let mut tables = tables(&experiment, |at, _| (3.0 + at as f64, 2.0 - at as f64, 3.0));
    let arm = name("adam-lr-0.003");
    tables.evals.retain(|row| !(row.arm == arm && row.seed == 1000 && row.step == LAST));
    edit_residual(&mut tables, |rows| {
        rows.iter_mut().filter(|row| row.arm == arm && row.seed == 1000).for_each(|row| row.value = Some(99.0));
    });
    let (train_loss, grad_norm, status) = (None, None, Status::Diverged);
    tables.steps.push(StepRow { arm, seed: 1000, step: 400, tokens: 1, lr: 0.1, train_loss, grad_norm, status });
    let figure = drawn(&experiment, &tables, 0);
    assert_eq!(crosses(&figure.marks), [3e-3]);
    assert_eq!(lines(&figure.marks), [[(1e-3, 3.0), (3e-3, 4.0)]]);
    // 3e-3 has the lower loss, but a run of it diverged.
    assert_eq!(rings(&figure.marks), [(1e-3, 3.0)]);
    assert_eq!(figure.labels.x, "optimizer.lr (dimensionless); step 600", "less than a decade");
}

#[test]
fn crossed_keys_give_lines_and_more_than_six_are_told() {
    let experiment =
        grid("\"optimizer.lr\" = [1e-3, 1e-2]\n\"optimizer.beta_1\" = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8]", true);
    assert_eq!(experiment.sweeps[0].keys, ["optimizer.beta_1", "optimizer.lr"]);
    // The first key is the slowest: point 15 is (0.8, 1e-2), and has the least loss.
    let tables = tables(&experiment, |at, _| (10.0 + at as f64, 2.0 - 0.01 * at as f64, 3.0));
    let over_lr = drawn(&experiment, &tables, 1);
    let found = lines(&over_lr.marks);
    assert_eq!(found.len(), 6);
    assert_eq!(found[1], [(1e-3, 12.0), (1e-2, 13.0)]);
    assert_eq!(found[5], [(1e-3, 24.0), (1e-2, 25.0)], "the line of the chosen point takes the last place");
    assert_eq!(rings(&over_lr.marks), [(1e-2, 25.0)]);
    assert!(over_lr.labels.title.ends_with("optimizer.lr (6 of 8 combinations)"), "{}", over_lr.labels.title);
    let label = |key: &Key| if let Key::Line { label, .. } = key { Some(label.clone()) } else { None };
    let labels: Vec<String> = over_lr.keys.iter().filter_map(label).collect();
    assert_eq!(labels[0], "beta_1 = 0.1");
    assert_eq!(labels[5], "beta_1 = 0.8");
    let over_beta = drawn(&experiment, &tables, 0);
    assert_eq!(lines(&over_beta.marks).iter().map(Vec::len).collect::<Vec<_>>(), [8, 8]);
    assert!(!over_beta.labels.title.contains("combinations"));
    // Zipped keys go together: one line.
    let zipped = grid("zip = { \"model.d_model\" = [32, 64], \"model.d_mlp\" = [128, 256] }", false);
    let tables = self::tables(&zipped, |at, _| (3.0 + at as f64, 2.0, 3.0));
    let figure = drawn(&zipped, &tables, 0);
    assert_eq!(lines(&figure.marks), [[(128.0, 3.0), (256.0, 4.0)]]);
    assert_eq!(figure.labels.x, "model.d_mlp (dimensions) with model.d_model; step 600");
    assert!(rings(&figure.marks).is_empty());
}

#[test]
fn names_follow_from_the_experiment_and_are_distinct() {
    let sweeps = "[[grid]]\narms = [\"adam\", \"sgd\"]\n\"optimizer.lr\" = [1e-3, 1e-2]\n\"model.norm\" = [\"rms\", \"layernorm\"]\n";
    let experiment =
        experiment_with(2, &format!("{sweeps}[[grid]]\narms = [\"adam\"]\n\"optimizer.lr\" = [0.5, 0.6]\n"));
    let fixed = [
        "kurtosis_over_steps.svg",
        "kurtosis_over_layers.svg",
        "dimension_rms.svg",
        "loss_curves.svg",
        "outlier_dimensions.svg",
    ];
    let names = figure_names(&experiment);
    assert_eq!(names[..5], fixed);
    assert_eq!(
        names[5..],
        ["sweep_adam_optimizer_lr.svg", "sweep_sgd_optimizer_lr.svg", "sweep_adam_optimizer_lr_2.svg"]
    );
    let all = svgs(&figures(&experiment, &Tables::default(), &[], &[], None)).unwrap();
    assert_eq!(all.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>(), names);
    assert!(all.iter().all(|(_, svg)| svg.is_none()), "nothing was recorded");
    assert_eq!(figure_names(&experiment_with(2, "")), fixed);
}

#[test]
fn headline_figures_leave_out_the_points_of_grids() {
    let names = |experiment: &Experiment| {
        let all: Vec<String> = headline(experiment).arms.iter().map(|arm| arm.name.to_string()).collect();
        assert_eq!(all[..5], ["adam", "adam-rotated", "sgd", "adam-identity", "adam-independent"]);
        all[5..].to_vec()
    };
    let none: [&str; 0] = [];
    assert_eq!(names(&grid("\"optimizer.lr\" = [1e-3, 3e-3]", true)), none);
    assert_eq!(names(&grid("\"optimizer.lr\" = [1e-3, 3e-3]", false)), none);
    // Without a number no other figure shows them, but a choice is not for the headlines.
    assert_eq!(
        names(&grid("\"model.norm\" = [\"rms\", \"layernorm\"]", false)),
        ["adam-norm-rms", "adam-norm-layernorm"]
    );
    assert_eq!(names(&grid("\"model.norm\" = [\"rms\", \"layernorm\"]", true)), none);
    let claim = "[[claim]]\nname = \"c\"\ntext = \"t\"\nprimary = false\ntest = { kind = \"equal-loss\", arm = \"adam-lr-0.003\", other = \"adam\" }\n";
    let sweep = "[[grid]]\narms = [\"adam\"]\n\"optimizer.lr\" = [1e-3, 3e-3]\n";
    assert_eq!(names(&experiment_with(2, &format!("{claim}{sweep}"))), ["adam-lr-0.003"]);
}

/// The labels of the x axis, `(text, middle)`.
fn x_labels(svg: &str) -> Vec<(String, f64)> {
    let mut found = Vec::new();
    for (tag, text) in svg.lines().zip(svg.lines().skip(1)) {
        if tag.starts_with("<text") && tag.contains("text-anchor=\"middle\"") && tag.contains(" y=\"502\"") {
            let x = tag.split(" x=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap();
            found.push((text.trim().to_owned(), x.parse().unwrap()));
        }
    }
    found
}

#[test]
fn labels_of_the_axis_never_touch() {
    for (values, least) in [
        ("1e-3, 3e-3, 1e-2", 3),
        ("1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2, 1e-1, 3e-1, 1.0", 9),
        ("1e-3, 1.1e-3, 1.2e-3, 1.3e-3, 1.4e-3, 1.5e-3, 1.6e-3, 9e-2, 1e-1", 3),
        ("0.001, 0.0011, 1.0", 2),
        ("0.001, 0.99, 1.0", 2),
    ] {
        let experiment = grid(&format!("\"optimizer.lr\" = [{values}]"), true);
        let tables = tables(&experiment, |at, _| (3.0 + at as f64, 2.0, 3.0));
        let labels = x_labels(&svg(&drawn(&experiment, &tables, 0)).unwrap());
        assert!(labels.len() >= least, "{labels:?}");
        let ends: Vec<&str> = values.split(", ").collect();
        let written = |text: &str| format!("{:?}", text.parse::<f64>().unwrap());
        assert_eq!((&labels[0].0, &labels[labels.len() - 1].0), (&written(ends[0]), &written(ends[ends.len() - 1])));
        for pair in labels.windows(2) {
            // 17 pixels high, a digit of DejaVu Sans, the widest usual font, is 8 wide.
            let needed = 4.0 * (pair[0].0.len() + pair[1].0.len()) as f64;
            assert!(pair[1].1 - pair[0].1 > needed, "{pair:?}");
        }
    }
}

#[test]
fn the_swept_arm_is_a_point_of_its_own_where_its_value_is_not_swept() {
    let experiment = grid("\"optimizer.lr\" = [1e-3, 2e-2]", false);
    let lr: f64 = experiment.arm("adam").unwrap().run.settings()["optimizer.lr"].parse().unwrap();
    let mut both = tables(&experiment, |at, _| (3.0 + at as f64, 2.0, 3.0));
    let copied = |row: &ResidualRow| ResidualRow { arm: name("adam"), value: Some(7.5), ..row.clone() };
    let of_first: Vec<ResidualRow> = both
        .residual
        .to_rows()
        .iter()
        .filter(|row| row.arm == "adam-lr-0.001" && row.step == LAST && row.site == SITE)
        .map(copied)
        .collect();
    both.residual.extend(of_first);
    let copied = |row: &EvalRow| EvalRow { arm: name("adam"), loss: Some(1.25), ..row.clone() };
    let of_first: Vec<EvalRow> = both.evals.iter().filter(|row| row.arm == "adam-lr-0.001").map(copied).collect();
    both.evals.extend(of_first);
    let squares = |marks: &[Mark]| -> Vec<(f64, f64)> {
        let of = |mark: &Mark| if let Mark::Square { points } = mark { Some(points.clone()) } else { None };
        marks.iter().filter_map(of).flatten().collect()
    };
    let figure = drawn(&experiment, &both, 0);
    assert_eq!(squares(&figure.marks), [(lr, 7.5)]);
    assert_eq!(squares(&figure.below.as_ref().unwrap().marks), [(lr, 1.25)]);
    assert!(figure.keys.iter().any(|key| matches!(key, Key::Square { label, .. } if label == "adam")));
    assert!(figure.x.ticks.iter().any(|(at, label)| *at == lr && label.parse() == Ok(lr)), "{:?}", figure.x.ticks);
    assert_eq!(lines(&figure.marks)[0].len(), 2, "it is no point of the line");
    // A value that is swept is on the line.
    let swept = grid(&format!("\"optimizer.lr\" = [1e-3, {lr}]"), false);
    let mut there = tables(&swept, |at, _| (3.0 + at as f64, 2.0, 3.0));
    there.residual.extend(both.residual.to_rows().into_iter().filter(|row| row.arm == "adam"));
    there.evals.extend(both.evals.iter().filter(|row| row.arm == "adam").cloned());
    let figure = drawn(&swept, &there, 0);
    assert!(squares(&figure.marks).is_empty() && !figure.keys.iter().any(|key| matches!(key, Key::Square { .. })));
    // Without runs of the arm there is nothing to draw.
    assert!(squares(&drawn(&experiment, &tables(&experiment, |_, _| (3.0, 2.0, 3.0)), 0).marks).is_empty());
}
