//! What the matrices of outliers hold, and that they are drawn.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

use super::Scene;
use super::outliers::{Matrix, matrix, svg};
use crate::fixture::{effect, experiment, experiment_with, tables};
use crate::index::Runs;
use basislab_config::{Basis, Experiment, Site, Tokens};
use basislab_tables::{OutlierRow, VerdictRow};

fn row(experiment: &Experiment, arm: &str, seed: u64, site: Site, (dim, ratio): (usize, f64)) -> OutlierRow {
    OutlierRow {
        arm: experiment.arm(arm).unwrap().name.clone(),
        seed,
        step: experiment.arm(arm).unwrap().run.train.steps,
        site,
        layer: site.layer(),
        basis: Basis::Standard,
        tokens: Tokens::Rest,
        dim,
        rms: ratio,
        ratio,
        threshold: 1.5,
        bases: 8,
        rank: 1,
        first_step: 0,
    }
}

/// So many dimensions in every arm's every seed, at one site.
pub(crate) fn standing_out(experiment: &Experiment, n: usize) -> Vec<OutlierRow> {
    let mut rows = Vec::new();
    for arm in &experiment.arms {
        for &seed in &arm.seeds {
            rows.extend((0..n).map(|dim| row(experiment, &arm.name, seed, Site::Final, (dim, 9.0 - dim as f64))));
        }
    }
    rows
}

fn of(experiment: &Experiment, rows: Option<&[OutlierRow]>, verdicts: &[VerdictRow]) -> Option<Matrix> {
    let tables = tables(experiment, effect);
    matrix(&Scene { experiment, tables: &tables, runs: Runs::of(experiment, &tables), verdicts }, rows)
}

#[test]
fn dimensions_are_written_with_their_seeds_and_the_title_says_in_which_arms() {
    let experiment = experiment(4);
    let mut rows = Vec::new();
    for seed in 0..3 {
        for site in [Site::ResidPost(1), Site::Final] {
            rows.push(row(&experiment, "adam", seed, site, (41, 3.0 + seed as f64)));
        }
    }
    rows.push(row(&experiment, "adam", 3, Site::Embed, (17, 9.0)));
    rows.push(row(&experiment, "sgd", 2, Site::Final, (5, 2.0)));
    let drawn = of(&experiment, Some(&rows), &[]).unwrap();
    // One seed of sgd may be chance, and is shown, but is no finding.
    assert_eq!(drawn.title, "Dimensions stand out in most seeds of adam (4/4)");
    let heads: Vec<&str> = drawn.arms.iter().map(|arm| arm.head.as_str()).collect();
    assert_eq!(heads, ["adam: in 4 of 4 seeds; 2 dimensions", "sgd: in 1 of 4 seeds; 1 dimension"]);
    assert_eq!(drawn.arms[0].shown.iter().map(|one| one.dim).collect::<Vec<_>>(), [41, 17]);
    assert!(drawn.others.len() == 1 && drawn.others[0].starts_with("No dimension stands out in adam-rotated"));
    assert_eq!((drawn.sites.first(), drawn.sites.last()), (Some(&Site::Embed), Some(&Site::Final)));
    let text = svg(&drawn).unwrap();
    let texts: Vec<&str> = text.lines().filter(|line| !line.starts_with('<')).map(str::trim).collect();
    for expected in
        ["41", "17", "5", "3 of 4 seeds, up to 5.00 × median", "1 of 4 seeds, up to 9.00 × median", "1.post"]
    {
        assert!(texts.contains(&expected), "{expected}: {texts:?}");
    }
    // In the cells of dimension 41: two sites of three seeds.
    assert_eq!(texts.iter().filter(|text| **text == "3").count(), 2, "{texts:?}");
}

#[test]
fn nothing_that_stands_out_is_said_and_what_is_not_known_is_not_drawn() {
    let experiment = experiment(2);
    let none = of(&experiment, Some(&[]), &[]).unwrap();
    assert_eq!((none.title.as_str(), none.arms.len()), ("No dimension stands out of random bases", 0));
    assert!(svg(&none).unwrap().contains("No dimension stands out in 7 arms or bases"));
    assert!(of(&experiment, None, &[]).is_none());
    let one = of(&experiment, Some(&[row(&experiment, "adam", 0, Site::Final, (1, 2.0))]), &[]).unwrap();
    assert_eq!(one.title, "In no arm do dimensions stand out in most seeds");
}

#[test]
fn no_more_rows_are_drawn_than_can_be_read() {
    let experiment = experiment(1);
    let all = standing_out(&experiment, 30);
    let drawn = of(&experiment, Some(&all), &[]).unwrap();
    assert!(drawn.arms.iter().all(|arm| arm.shown.len() == 8 && arm.head.ends_with("8 of 30 dimensions are shown")));
    assert_eq!(drawn.title, "Dimensions stand out in 5 of 7 arms or bases");
    let many =
        experiment_with(1, "[[grid]]\narms = [\"adam\"]\n\"optimizer.beta_1\" = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7]\n");
    let drawn = of(&many, Some(&standing_out(&many, 30)), &[]).unwrap();
    assert!(drawn.arms.len() == 10 && drawn.arms.iter().all(|arm| arm.shown.len() == 4));
    assert_eq!(drawn.others[0], "Left out here: 2 more arms or bases.");
}
