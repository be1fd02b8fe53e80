//! What the map of a sweep over the length of training shows, against numbers made by hand.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

use super::frame::svg;
use super::mark::{Figure, Key, Mark};
use super::tests::svgs;
use super::{figure_names, figures, map};
use crate::fixture::experiment_with;
use basislab_config::{Arm, Basis, Experiment, Site, Tokens};
use basislab_tables::{EvalRow, ResidualRow, Split, Tables};

const NULL: f64 = 3.0 * 63.0 / 65.0;

pub(super) fn grid() -> Experiment {
    let keys = "\"optimizer.lr\" = [3e-3, 1e-3, 1e-2]\n\"train.steps\" = [600, 200]";
    experiment_with(2, &format!("[[grid]]\narms = [\"adam\"]\n{keys}\n"))
}

/// The ratio of a run at its last step, and its loss.
fn number(lr: f64, steps: u64, seed: u64) -> (f64, f64) {
    let at = [1e-3, 3e-3, 1e-2].iter().position(|other| *other == lr).unwrap();
    let ratio = [[0.5, 0.8, 2.0], [0.9, 3.0, 7.0]][usize::from(steps == 600)][at];
    let loss = [[3.0, 2.75, 2.5], [3.0, 2.0, 2.25]][usize::from(steps == 600)][at];
    (if seed == 1 { 2.0 * ratio } else { ratio }, loss)
}

pub(super) fn tables(experiment: &Experiment) -> Tables {
    let mut tables = Tables::default();
    for point in &experiment.sweeps[0].points {
        let arm = experiment.arm(&point.arm).unwrap();
        let (lr, steps) = (arm.run.optimizer.lr(), arm.run.train.steps);
        for &seed in &arm.seeds {
            let (ratio, loss) = number(lr, steps, seed);
            for (step, ratio, loss) in [(0, 1.0, 6.0), (64, 0.7, 4.0), (steps, ratio, loss)] {
                push(&mut tables, arm, seed, step, (ratio, loss));
            }
        }
    }
    tables
}

/// A probe with that ratio and loss.
fn push(tables: &mut Tables, arm: &Arm, seed: u64, step: u64, (ratio, loss): (f64, f64)) {
    let row = |site: Site, basis, value| ResidualRow {
        arm: arm.name.clone(),
        seed,
        step,
        site,
        layer: site.layer(),
        tokens: Tokens::Rest,
        tokens_used: 9,
        basis,
        metric: "token_kurtosis".to_owned(),
        value: Some(value),
    };
    tables.residual.push(row(Site::ResidPost(1), Basis::Standard, ratio * NULL));
    tables.residual.push(row(Site::ResidPost(0), Basis::Standard, 50.0));
    // Draws do not count where the null is known exactly.
    tables.residual.push(row(Site::ResidPost(1), Basis::Random(0), 9.0));
    let (arm, split) = (arm.name.clone(), Split::HeldOut);
    tables.evals.push(EvalRow { arm, seed, step, split, loss: Some(loss), loss_above_floor: None });
}

fn lines(figure: &Figure) -> Vec<Vec<(f64, f64)>> {
    let of = |mark: &Mark| if let Mark::Line { points, .. } = mark { Some(points.clone()) } else { None };
    figure.marks.iter().filter_map(of).collect()
}

fn assert_lines(found: &[Vec<(f64, f64)>], expected: &[Vec<(f64, f64)>]) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().flatten().zip(expected.iter().flatten()) {
        assert!(found.0 == expected.0 && (found.1 / expected.1 - 1.0).abs() < 1e-9, "{found:?}, not {expected:?}");
    }
}

fn labels(figure: &Figure) -> Vec<String> {
    let of =
        |key: &Key| if let Key::Line { label, detail, .. } = key { Some(format!("{label} {detail}")) } else { None };
    figure.keys.iter().filter_map(of).collect()
}

#[test]
fn a_line_for_each_length_goes_through_its_runs() {
    let experiment = grid();
    let [planned] = &map::planned(&experiment)[..] else { panic!() };
    let figure = map::map(&experiment, &tables(&experiment), planned).unwrap();
    // The geometric mean of r and 2 r.
    let mean = |ratio: f64| 2f64.sqrt() * ratio;
    let expected = [
        vec![(1e-3, mean(0.5)), (3e-3, mean(0.8)), (1e-2, mean(2.0))],
        vec![(1e-3, mean(0.9)), (3e-3, mean(3.0)), (1e-2, mean(7.0))],
    ];
    assert_lines(&lines(&figure), &expected);
    assert_eq!(labels(&figure), ["200 steps best at 0.01, the edge", "600 steps best at 0.003"]);
    let rings =
        figure.marks.iter().find_map(|mark| if let Mark::Ring { points } = mark { Some(points.clone()) } else { None });
    assert_lines(&[rings.unwrap()], &[vec![(1e-2, mean(2.0)), (3e-3, mean(3.0))]]);
    assert!(figure.marks.iter().any(|mark| matches!(mark, Mark::Level { y } if *y == 1.0)));
    assert!(
        figure.labels.title.starts_with("Token kurtosis of adam over its null, by optimizer.lr"),
        "{}",
        figure.labels.title
    );
    assert!(svg(&figure).unwrap().contains("least mean loss"));
}

#[test]
fn within_runs_the_longest_are_followed() {
    let experiment = grid();
    let [planned] = &map::planned(&experiment)[..] else { panic!() };
    let figure = map::within_runs(&experiment, &tables(&experiment), planned).unwrap();
    let mean = |ratio: f64| 2f64.sqrt() * ratio;
    let line = |last: f64| vec![(0.0, 1.0), (64.0, 0.7), (600.0, mean(last))];
    assert_lines(&lines(&figure), &[line(0.9), line(3.0), line(7.0)]);
    assert_eq!(labels(&figure), ["0.001 ", "0.003 ", "0.01 "]);
}

#[test]
fn several_sweeps_of_one_key_share_a_map() {
    let grid = |arm: &str, rates: &str| format!("[[grid]]\narms = [\"{arm}\"]\n\"optimizer.lr\" = [{rates}]\n");
    let experiment = experiment_with(2, &(grid("adam", "1e-3, 3e-3") + &grid("sgd", "3e-3, 1e-2")));
    let mut tables = Tables::default();
    for sweep in &experiment.sweeps {
        for point in &sweep.points {
            let arm = experiment.arm(&point.arm).unwrap();
            for &seed in &arm.seeds {
                let (ratio, loss) = number(arm.run.optimizer.lr(), if sweep.arm == "adam" { 600 } else { 200 }, seed);
                push(&mut tables, arm, seed, arm.run.train.steps, (ratio, loss));
            }
        }
    }
    let [planned] = &map::planned(&experiment)[..] else { panic!() };
    assert_eq!(planned.names(), ["map_optimizer_lr.svg"]);
    let figure = map::map(&experiment, &tables, planned).unwrap();
    let mean = |ratio: f64| 2f64.sqrt() * ratio;
    let expected = [vec![(1e-3, mean(0.9)), (3e-3, mean(3.0))], vec![(3e-3, mean(0.8)), (1e-2, mean(2.0))]];
    assert_lines(&lines(&figure), &expected);
    assert_eq!(labels(&figure), ["adam best at 0.003, the edge", "sgd best at 0.01, the edge"]);
    assert!(figure.labels.title.ends_with("by optimizer.lr and arm"), "{}", figure.labels.title);
    let drawn = svgs(&figures(&experiment, &tables, &[], &[], None)).unwrap();
    assert!(drawn.iter().filter(|(name, svg)| name.starts_with("map_") && svg.is_some()).count() == 1);
}

#[test]
fn only_a_sweep_over_the_length_and_one_number_has_a_map() {
    let experiment = grid();
    assert!(figure_names(&experiment).ends_with(&["map_adam.svg".to_owned(), "map_adam_within_runs.svg".to_owned()]));
    let drawn = svgs(&figures(&experiment, &tables(&experiment), &[], &[], None)).unwrap();
    assert!(drawn.iter().filter(|(name, svg)| name.starts_with("map_") && svg.is_some()).count() == 2);
    assert!(
        svgs(&figures(&experiment, &Tables::default(), &[], &[], None)).unwrap().iter().all(|(_, svg)| svg.is_none())
    );
    for keys in
        ["\"optimizer.lr\" = [3e-3, 1e-3]", "\"train.steps\" = [200, 600]\n\"model.norm\" = [\"rms\", \"layernorm\"]"]
    {
        let other = experiment_with(2, &format!("[[grid]]\narms = [\"adam\"]\n{keys}\n"));
        assert!(map::planned(&other).is_empty(), "{keys}");
    }
}
