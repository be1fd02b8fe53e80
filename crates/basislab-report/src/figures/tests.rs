//! What is drawn, against the tables: which arm's numbers a line holds, where the band lies, what the legend says, and
//! which pixel a number comes to.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

use super::mark::{Figure, Key, Mark, Weight, colour, dash};
use super::{Drawing, Scene, dimensions, figures, layers, losses, steps};
use crate::index::Runs;
use crate::tests::cases::{Case, LAST, SITE, STEPS, case};
use basislab_config::{Basis, Tokens};
use basislab_store::FileError;
use basislab_tables::DimensionRow;
use plotters::style::RGBColor;

type Points = Vec<(f64, f64)>;

/// Drawings as SVG.
pub(super) fn svgs(drawings: &[(String, Option<Drawing>)]) -> Result<Vec<(String, Option<String>)>, FileError> {
    let svg = |(name, drawing): &(String, Option<Drawing>)| {
        Ok((name.clone(), drawing.as_ref().map(|drawing| drawing.svg(name)).transpose()?))
    };
    drawings.iter().map(svg).collect()
}

/// Title, subtitle and axes hold these words.
fn assert_labels(figure: &Figure, title: &str, subtitle: &[&str], x: &str, y: &str) {
    let labels = &figure.labels;
    assert!(labels.title.contains(title), "{}", labels.title);
    assert!(subtitle.iter().all(|part| labels.subtitle.contains(part)), "{}", labels.subtitle);
    assert!(labels.x.contains(x) && labels.y.contains(y), "{}, {}", labels.x, labels.y);
}

const PLACE: [&str; 3] = ["blocks.0.resid_mid", "first token of each sequence", "6 seeds"];

fn drawn(case: &Case, of: fn(&Scene<'_>) -> Option<Figure>) -> Figure {
    let Case { experiment, tables, .. } = case;
    of(&Scene { experiment, tables, runs: Runs::of(experiment, tables), verdicts: &[] }).unwrap()
}

/// Whether a line is drawn as that of the optimizer's basis in the first eight arms.
fn is_own(weight: Weight) -> bool {
    matches!(weight, Weight::Thick(found) if found == dash(0, true))
}

/// Every line of that colour: single runs, and the mean, which is solid or dashed.
fn lines(figure: &Figure, wanted: RGBColor) -> (Vec<Points>, Vec<(bool, Points)>) {
    let (mut thin, mut thick) = (Vec::new(), Vec::new());
    for mark in &figure.marks {
        match mark {
            Mark::Line { points, colour, weight: Weight::Thin, .. } if *colour == wanted => thin.push(points.clone()),
            Mark::Line { points, colour, weight, .. } if *colour == wanted => {
                thick.push((is_own(*weight), points.clone()));
            }
            _ => {}
        }
    }
    (thin, thick)
}

fn assert_points(found: &Points, expected: &Points, what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}: {found:?}");
    for (found, expected) in found.iter().zip(expected) {
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9 * b.abs().max(1.0);
        assert!(near(found.0, expected.0) && near(found.1, expected.1), "{what}: {found:?}, expected {expected:?}");
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// A curve of every run, and their mean at each place.
fn by_hand(case: &Case, arm: &str, places: &[f64], of: &dyn Fn(u64, usize) -> f64) -> (Vec<Points>, Points) {
    let seeds = case.seeds(arm);
    let run = |seed: &u64| places.iter().enumerate().map(|(at, x)| (*x, of(*seed, at))).collect::<Points>();
    let average = |(at, x): (usize, &f64)| (*x, mean(&seeds.iter().map(|seed| of(*seed, at)).collect::<Vec<_>>()));
    (seeds.iter().map(run).collect(), places.iter().enumerate().map(average).collect())
}

/// The legend's entries of that colour: label, detail, and whether it is dashed.
fn keys(figure: &Figure, wanted: RGBColor) -> Vec<(String, String, bool)> {
    let of = |key: &Key| match key {
        Key::Line { label, detail, colour, weight } if *colour == wanted => {
            Some((label.clone(), detail.clone(), is_own(*weight)))
        }
        _ => None,
    };
    figure.keys.iter().filter_map(of).collect()
}

/// What an arm's curves must be in each basis: thin lines in the order of bases, one thick line each, one key each.
fn assert_arm(
    figure: &Figure,
    case: &Case,
    (index, arm): (usize, &str),
    places: &[f64],
    of: &dyn Fn(Basis, u64, usize) -> f64,
    detail: &dyn Fn(&Points) -> String,
    own: bool,
) {
    let (thin, thick) = lines(figure, colour(index));
    let mut singles = thin.iter();
    let bases = if own { &[Basis::Standard, Basis::Optimizer][..] } else { &[Basis::Standard] };
    assert_eq!(thick.len(), bases.len(), "{arm}");
    for (at, &basis) in bases.iter().enumerate() {
        let (runs, average) = by_hand(case, arm, places, &|seed, place| of(basis, seed, place));
        // The mean of one run is that run, and is drawn once.
        for run in runs.iter().filter(|_| runs.len() > 1) {
            assert_points(singles.next().unwrap(), run, arm);
        }
        assert_eq!(thick[at].0, basis == Basis::Optimizer, "{arm}: dashed");
        assert_points(&thick[at].1, &average, arm);
        let label = if basis == Basis::Optimizer { format!("{arm}, own basis") } else { arm.to_owned() };
        assert_eq!(keys(figure, colour(index))[at], (label, detail(&average), basis == Basis::Optimizer), "{arm}");
    }
    assert_eq!(singles.next(), None, "{arm}");
}

fn arms(case: &Case) -> Vec<(usize, String, bool)> {
    let own = |name: &str| ["adam-rotated", "adam-identity"].contains(&name);
    let arms = case.experiment.arms.iter().enumerate();
    arms.map(|(index, arm)| (index, arm.name.to_string(), own(&arm.name))).collect()
}

/// Three significant digits of a number between 1 and 100.
fn three(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}") } else { format!("{value:.1}") }
}

/// Mean and spread of all arms' random bases at a step: means of runs, and the spread around them.
fn null(case: &Case, step: u64) -> (f64, f64) {
    let runs: Vec<&[f64]> = arms(case)
        .iter()
        .flat_map(|(_, arm, _)| case.seeds(arm).into_iter().map(|seed| case.null(arm, seed, step)).collect::<Vec<_>>())
        .collect();
    let squares = |draws: &[f64]| draws.iter().map(|x| (x - mean(draws)).powi(2)).sum::<f64>();
    let freedom: usize = runs.iter().map(|draws| draws.len() - 1).sum();
    let spread = (runs.iter().map(|draws| squares(draws)).sum::<f64>() / freedom as f64).sqrt();
    (mean(&runs.iter().map(|draws| mean(draws)).collect::<Vec<_>>()), spread)
}

fn band(figure: &Figure) -> Vec<(f64, f64, f64, f64)> {
    let of = |mark: &Mark| match mark {
        Mark::Band { points, middle, .. } => {
            Some(points.iter().zip(middle).map(|(p, m)| (p.0, p.1, p.2, m.1)).collect::<Vec<_>>())
        }
        _ => None,
    };
    figure.marks.iter().find_map(of).unwrap()
}

fn assert_band(found: &[(f64, f64, f64, f64)], expected: &[(f64, (f64, f64))]) {
    assert_eq!(found.len(), expected.len());
    for (found, (x, (centre, spread))) in found.iter().zip(expected) {
        let expected = (*x, centre - 2.0 * spread, centre + 2.0 * spread, *centre);
        let near = [found.0 - expected.0, found.1 - expected.1, found.2 - expected.2, found.3 - expected.3];
        assert!(near.iter().all(|off| off.abs() < 1e-9), "{found:?}, expected {expected:?}");
    }
}

#[test]
fn metrics_over_steps_are_those_of_each_arm_and_basis() {
    let case = case(1);
    let figure = drawn(&case, steps::figure);
    assert_labels(&figure, "Max median ratio", &PLACE, "step", "max median ratio");
    let places = STEPS.map(|step| step as f64);
    for (index, arm, own) in arms(&case) {
        let of = |basis: Basis, seed: u64, at: usize| case.at(&arm, seed, STEPS[at], basis);
        let detail = |mean: &Points| format!("{} at the end", three(mean.last().unwrap().1));
        assert_arm(&figure, &case, (index, &arm), &places, &of, &detail, own);
    }
    let expected: Vec<_> = [0, 20, LAST].iter().map(|step| (*step as f64, null(&case, *step))).collect();
    assert_band(&band(&figure), &expected);
    let (centre, spread) = expected[2].1;
    let legend = figure.keys.iter().any(|key| match key {
        Key::Band { detail, .. } => *detail == format!("{} ± 2 × {spread:.2}", three(centre)),
        _ => false,
    });
    assert!(legend, "{centre} {spread}");
}

#[test]
fn metrics_over_layers_are_those_of_the_last_step() {
    let case = case(1);
    let figure = drawn(&case, layers::figure);
    assert_labels(&figure, "step 40", &PLACE[1..], "site", "max median ratio");
    // The site before the verdict's holds the other numbers of `Case::residual`; sites come as they are in the file.
    let other = |value: f64| value * 1.7 + 0.3;
    for (index, arm, own) in arms(&case) {
        let of = |basis: Basis, seed: u64, at: usize| {
            let value = case.at(&arm, seed, LAST, basis);
            if at == 0 { other(value) } else { value }
        };
        assert_arm(&figure, &case, (index, &arm), &[0.0, 1.0], &of, &|_| String::new(), own);
    }
    let (centre, spread) = null(&case, LAST);
    assert_band(&band(&figure), &[(0.0, (other(centre), 1.7 * spread)), (1.0, (centre, spread))]);
    let ticks: Vec<(f64, &str)> = figure.x.ticks.iter().map(|(at, label)| (*at, label.as_str())).collect();
    assert_eq!(ticks, [(0.0, "1.mid"), (1.0, "0.mid")]);
}

#[test]
fn dimensions_are_sorted_shares_of_the_median_one() {
    let case = case(1);
    let figure = drawn(&case, dimensions::figure);
    assert_labels(&figure, "step 40", &PLACE, "rank", "RMS / RMS of the median");
    let sorted = |arm: &str, basis: Basis, seed: u64| {
        let wanted = |row: &&DimensionRow| {
            let place = (row.arm.as_str(), row.seed, row.step, row.basis);
            place == (arm, seed, LAST, basis) && row.site == SITE && row.tokens == Tokens::First
        };
        let mut sizes: Vec<f64> = case.tables.dimensions.iter().filter(wanted).map(|row| row.rms).collect();
        sizes.sort_by(|a, b| b.total_cmp(a));
        assert_eq!(sizes.len(), 6);
        let median = 0.5 * (sizes[2] + sizes[3]);
        sizes.into_iter().map(|size| size / median).collect::<Vec<f64>>()
    };
    let ranks = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    for (index, arm, own) in arms(&case) {
        let of = |basis: Basis, seed: u64, at: usize| sorted(&arm, basis, seed)[at];
        let detail = |mean: &Points| format!("largest {} × median", three(mean[0].1));
        assert_arm(&figure, &case, (index, &arm), &ranks, &of, &detail, own);
    }
}

#[test]
fn losses_are_those_of_each_arm_and_the_floor_is_below_them() {
    let case = case(1);
    let figure = drawn(&case, losses::figure);
    assert_labels(&figure, "Held-out loss", &PLACE[2..], "step", "nats per token");
    let places = STEPS.map(|step| step as f64);
    let mut floors = Vec::new();
    for (index, arm, _) in arms(&case) {
        let of = |_: Basis, seed: u64, at: usize| case.loss_of(&arm, seed, STEPS[at]).0;
        let detail = |mean: &Points| format!("{:.3} at the end", mean.last().unwrap().1);
        assert_arm(&figure, &case, (index, &arm), &places, &of, &detail, false);
        let all = case.seeds(&arm).into_iter().flat_map(|seed| STEPS.map(|step| case.loss_of(&arm, seed, step)));
        floors.extend(all.map(|(loss, above)| loss - above));
    }
    let floor = mean(&floors);
    let level = figure.marks.iter().find_map(|mark| match mark {
        Mark::Level { y } => Some(*y),
        _ => None,
    });
    assert!((level.unwrap() - floor).abs() < 1e-9);
    let said = |key: &Key| matches!(key, Key::Level { detail, .. } if *detail == format!("{floor:.3}"));
    assert!(figure.keys.iter().any(said), "{floor}");
}

/// The SVG's polylines of one colour and width.
fn polylines(svg: &str, colour: &str, width: &str) -> Vec<Vec<(f64, f64)>> {
    let attribute = |line: &str, name: &str| {
        let rest = line.split(&format!(" {name}=\"")).nth(1)?;
        Some(rest.split('"').next()?.to_owned())
    };
    let wanted = |line: &&str| {
        line.starts_with("<polyline")
            && attribute(line, "stroke").is_some_and(|found| found == colour)
            && attribute(line, "stroke-width").is_some_and(|found| found == width)
    };
    let point = |pair: &str| pair.split_once(',').map(|(x, y)| (x.parse().unwrap(), y.parse().unwrap()));
    let points = |line: &str| attribute(line, "points").unwrap().split_whitespace().filter_map(point).collect();
    svg.lines().filter(wanted).map(points).collect()
}

/// Where the SVG puts texts that are numbers, `(number, x, y)`, with their anchor.
fn ticks(svg: &str, anchor: &str) -> Vec<(f64, f64, f64)> {
    let mut found = Vec::new();
    for (tag, text) in svg.lines().zip(svg.lines().skip(1)) {
        let Ok(number) = text.trim().parse::<f64>() else { continue };
        if !tag.starts_with("<text") || !tag.contains(&format!("text-anchor=\"{anchor}\"")) {
            continue;
        }
        let of = |name: &str| {
            tag.split(&format!(" {name}=\"")).nth(1).and_then(|rest| rest.split('"').next()).unwrap().parse::<f64>()
        };
        found.push((number, of("x").unwrap(), of("y").unwrap()));
    }
    found
}

#[test]
fn a_number_comes_to_the_pixel_that_the_axis_says() {
    let case = case(1);
    let all = svgs(&figures(&case.experiment, &case.tables, &[], &[], None)).unwrap();
    let svg = all.into_iter().find(|(name, _)| name == "loss_curves.svg").and_then(|(_, svg)| svg).unwrap();
    // Two labels of each axis say how it runs.
    let (down, across) = (ticks(&svg, "end"), ticks(&svg, "middle"));
    let (a, b) = (down.first().unwrap(), down.last().unwrap());
    assert!(b.0 > a.0 && b.2 < a.2, "losses grow upwards: {down:?}");
    let y = |loss: f64| a.2 + (loss - a.0) / (b.0 - a.0) * (b.2 - a.2);
    let at = |step: f64| across.iter().find(|tick| tick.0 == step).unwrap().1;
    let x = |step: f64| at(0.0) + (1.0 + step).ln() / (1.0 + LAST as f64).ln() * (at(LAST as f64) - at(0.0));
    for (arm, hex) in [("adam", "#D55E00"), ("adam-rotated", "#0072B2"), ("sgd", "#009E73")] {
        let line = polylines(&svg, hex, "3").into_iter().find(|line| line.len() == STEPS.len()).unwrap();
        for (point, step) in line.iter().zip(STEPS) {
            let losses: Vec<f64> = case.seeds(arm).iter().map(|seed| case.loss_of(arm, *seed, step).0).collect();
            let expected = (x(step as f64), y(mean(&losses)));
            let near = (point.0 - expected.0).abs() < 2.0 && (point.1 - expected.1).abs() < 2.5;
            assert!(near, "{arm} at step {step}: drawn at {point:?}, expected {expected:?}");
        }
    }
}
