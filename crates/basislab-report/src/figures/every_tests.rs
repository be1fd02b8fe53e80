//! What holds for every figure: widths of lines, units of axes, places of bands, titles that fit, the files beside.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

use super::mark::{Figure, Mark, Weight};
use super::png::png;
use super::vega::vega;
use super::{Drawing, figures, frame, map_tests, measured_figures, moving, quantized_figures, steps, titles};
use crate::fixture::{effect, experiment, experiment_with, name, tables};
use crate::index::Runs;
use crate::measured::Readings;
use crate::tests::cases::case;
use crate::tests::{quantized, rows_of_claims};
use basislab_config::{Claim, ClaimKind, Experiment};
use basislab_stats::Verdict;
use basislab_tables::{Tables, VerdictRow};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

fn of_experiment(experiment: &Experiment, tables: &Tables) -> Vec<(String, Figure)> {
    let verdicts = rows_of_claims(experiment, tables);
    let (moments, at_loss) = moving(experiment, tables, &verdicts);
    let drawn = figures(experiment, tables, &verdicts, &[], None).into_iter();
    let drawn = drawn.filter_map(|(name, drawing)| match drawing? {
        Drawing::Figure(figure) => Some((name, figure)),
        Drawing::Matrix(_) => None,
    });
    let moments = moments.into_iter().map(|one| (one.when, one.figure));
    drawn.chain(at_loss.map(|figure| ("at loss".to_owned(), figure))).chain(moments).collect()
}

/// A figure of each kind, and of most kinds several.
fn every() -> Vec<(String, Figure)> {
    let mut all = Vec::new();
    for number in [1, 3] {
        let case = case(number);
        all.extend(of_experiment(&case.experiment, &case.tables));
    }
    let long = format!("[[arm]]\nname = \"{}\"\n", "x".repeat(64));
    for experiment in [experiment(8), experiment(1), experiment_with(2, &long)] {
        let tables = tables(&experiment, |arm, seed| effect(if arm.starts_with("xx") { "sgd" } else { arm }, seed));
        all.extend(of_experiment(&experiment, &tables));
    }
    let grid = map_tests::grid();
    all.extend(of_experiment(&grid, &map_tests::tables(&grid)));
    for models in
        [&[("smol", 0, 2, 1.5)][..], &[("a", 1, 2, 1.5), ("a", 5, 2, 2.0)], &[("a", 0, 2, 1.0), ("b", 0, 3, 2.0)]]
    {
        let tables = super::measured_tests::tables(models);
        all.extend(only_figures(measured_figures(&tables, &Readings::of(&tables.residual))));
    }
    all.extend(only_figures(quantized_figures(
        &quantized::answer(&[("a", 20.0, [0.4, 0.01, 0.1, 0.3, 0.5])]).0.models,
    )));
    assert!(all.len() > 30, "{}", all.len());
    for kind in
        ["kurtosis_over_steps", "sweep_", "map_adam.", "within_runs", "over_depth", "over_training", "quantization"]
    {
        assert!(all.iter().any(|(name, _)| name.contains(kind)), "no {kind}");
    }
    all
}

fn only_figures(drawings: Vec<(String, Option<Drawing>)>) -> Vec<(String, Figure)> {
    let figure =
        |(name, drawing)| if let Some(Drawing::Figure(figure)) = drawing { Some((name, figure)) } else { None };
    drawings.into_iter().filter_map(figure).collect()
}

fn panels(figure: &Figure) -> Vec<&[Mark]> {
    std::iter::once(&figure.marks[..]).chain(figure.below.as_ref().map(|below| &below.marks[..])).collect()
}

fn attribute<'a>(tag: &'a str, name: &str) -> &'a str {
    tag.split(&format!(" {name}=\"")).nth(1).and_then(|rest| rest.split('"').next()).unwrap_or_default()
}

/// Widths of lines by colour and opacity, as the SVG has them.
fn widths(svg: &str) -> BTreeMap<(&str, &str), BTreeSet<&str>> {
    let mut found: BTreeMap<(&str, &str), BTreeSet<&str>> = BTreeMap::new();
    for tag in svg.lines().filter(|line| line.starts_with("<polyline")) {
        let look = (attribute(tag, "stroke"), attribute(tag, "opacity"));
        found.entry(look).or_default().insert(attribute(tag, "stroke-width"));
    }
    found
}

#[test]
fn lines_of_a_kind_are_equally_wide_in_every_figure() {
    let (mut means, mut seeds) = (0, 0);
    for (name, figure) in every() {
        let svg = frame::svg(&figure).unwrap();
        for ((colour, opacity), widths) in widths(&svg) {
            let expected: &[&str] = match (colour, opacity) {
                ("#222222" | "#FFFFFF", _) => continue,
                ("#E8E8E8", _) => &["1"],
                // What is in the middle of a band, and references.
                ("#606060", _) => &["1", "2"],
                (_, "0.28") => &["1"],
                _ => &["3"],
            };
            assert!(widths.iter().all(|width| expected.contains(width)), "{name}: {colour} {opacity}: {widths:?}");
            (means, seeds) = (means + usize::from(expected == ["3"]), seeds + usize::from(opacity == "0.28"));
        }
    }
    assert!(means > 50 && seeds > 5, "{means} {seeds}");
}

#[test]
fn every_axis_has_a_unit() {
    for (name, figure) in every() {
        let lower = figure.below.as_ref().map(|below| &below.label);
        for label in [&figure.labels.x, &figure.labels.y].into_iter().chain(lower) {
            let unit = label.split_once('(').and_then(|(what, rest)| Some((what, rest.split_once(')')?.0)));
            assert!(unit.is_some_and(|(what, unit)| !what.trim().is_empty() && !unit.is_empty()), "{name}: {label}");
        }
    }
}

#[test]
fn bands_are_where_random_bases_were_measured() {
    let (mut areas, mut bands) = (0, 0);
    for (name, figure) in every() {
        for marks in panels(&figure) {
            let xs: Vec<f64> = marks
                .iter()
                .flat_map(|mark| match mark {
                    Mark::Line { points, weight: Weight::Thin | Weight::Thick(_), .. }
                    | Mark::Dots { points, .. }
                    | Mark::Square { points } => points.iter().map(|point| point.0).collect(),
                    _ => Vec::new(),
                })
                .collect();
            for mark in marks {
                let Mark::Band { points, middle, bars } = mark else { continue };
                bands += 1;
                assert_eq!(points.len(), middle.len(), "{name}");
                assert!(points.iter().all(|point| xs.contains(&point.0)), "{name}: a band where nothing is drawn");
                if !bars {
                    areas += 1;
                    let (first, last) = (points[0].0, points[points.len() - 1].0);
                    let is_known = |x: &&f64| **x < first || **x > last || points.iter().any(|point| point.0 == **x);
                    assert_eq!(xs.iter().find(|x| !is_known(x)), None, "{name}: the area covers what was not measured");
                }
            }
        }
    }
    assert!(areas > 5 && bands > areas, "{areas} of {bands}");
}

/// The lines of the title, with their size.
fn title_of(svg: &str) -> (String, f64) {
    let tags: Vec<&str> = svg.lines().collect();
    let is_title = |at: &usize| {
        tags[*at].starts_with("<text x=\"24\"") && attribute(tags[*at], "y").parse::<f64>().unwrap() < 47.0
    };
    let lines: Vec<usize> = (0..tags.len()).filter(is_title).collect();
    let size = lines.iter().map(|&at| attribute(tags[at], "font-size").parse::<f64>().unwrap());
    let text = lines.iter().map(|&at| tags[at + 1].replace("&lt;", "<")).collect::<Vec<_>>().join(" ");
    (text, size.fold(f64::INFINITY, f64::min))
}

#[test]
fn titles_are_whole_and_can_be_read() {
    let mut two = 0;
    for (name, figure) in every() {
        let (title, size) = title_of(&frame::svg(&figure).unwrap());
        assert_eq!(title, figure.labels.title, "{name}");
        assert!(size > 12.0, "{name}: {size} {title}");
        two += usize::from(title.len() > 80);
    }
    assert!(two > 0);
}

/// The title over steps where the claims at the verdict's cell are changed.
fn title(change: impl Fn(&Claim, &mut VerdictRow)) -> String {
    let experiment = experiment(8);
    let tables = tables(&experiment, effect);
    let mut verdicts = rows_of_claims(&experiment, &tables);
    for row in &mut verdicts {
        change(experiment.claims.iter().find(|claim| claim.name == row.claim).unwrap(), row);
    }
    let runs = Runs::of(&experiment, &tables);
    steps::figure(&super::Scene { experiment: &experiment, tables: &tables, runs, verdicts: &verdicts })
        .unwrap()
        .labels
        .title
}

#[test]
fn titles_say_what_the_verdicts_say_and_no_more() {
    let set = |difference: (Verdict, f64), control: Option<f64>| {
        title(|claim, row| match claim.test {
            ClaimKind::DiffersFromNull { .. } if row.verdict != Verdict::Control => {
                (row.verdict, row.estimate, row.margin) = (difference.0, Some(difference.1), Some(0.15));
            }
            ClaimKind::EquivalentToNull { .. } if row.verdict == Verdict::Control => row.p = control,
            _ => {}
        })
    };
    let plain = "Token kurtosis of the residual stream during training";
    let controls = "adam-rotated, sgd and adam-independent do not differ from them (controls)";
    for (difference, control, expected) in [
        ((Verdict::Supported, 0.8), Some(0.5), format!("Token kurtosis: adam ends above random bases; {controls}")),
        ((Verdict::Opposite, -0.8), Some(0.5), format!("Token kurtosis: adam ends below random bases; {controls}")),
        (
            (Verdict::Negligible, 0.1),
            Some(0.5),
            "Token kurtosis: adam ends within 16 % of random bases; 3 arms do not differ from them (controls)".to_owned(),
        ),
        ((Verdict::Inconclusive, 0.8), Some(0.5), plain.to_owned()),
        ((Verdict::Exploratory, 0.8), Some(0.5), plain.to_owned()),
        ((Verdict::Supported, 0.8), None, plain.to_owned()),
        (
            (Verdict::Supported, 0.8),
            Some(0.01),
            "Token kurtosis: adam ends above random bases; adam-rotated, sgd and adam-independent deviate from them (controls)"
                .to_owned(),
        ),
    ] {
        assert_eq!(set(difference, control), expected, "{difference:?} {control:?}");
    }
    assert_eq!(title(|_, row| row.claim = name("another")), plain, "without rows");
}

#[test]
fn a_title_of_losses_is_that_of_their_claims() {
    let experiment = experiment(8);
    let tables = tables(&experiment, effect);
    let of = |verdict: Verdict, estimate: f64| {
        let mut verdicts = rows_of_claims(&experiment, &tables);
        for row in verdicts.iter_mut().filter(|row| row.kind == "equal-loss" && row.verdict != Verdict::Control) {
            (row.verdict, row.estimate, row.margin) = (verdict, Some(estimate), Some(0.02));
        }
        let runs = Runs::of(&experiment, &tables);
        titles::of_losses(&super::Scene { experiment: &experiment, tables: &tables, runs, verdicts: &verdicts })
    };
    assert_eq!(of(Verdict::Supported, 0.01).unwrap(), "Held-out loss: sgd ends within 0.02 nats of adam");
    assert_eq!(of(Verdict::Refuted, 0.3).unwrap(), "Held-out loss: sgd ends above adam");
    assert_eq!(of(Verdict::Refuted, -0.3).unwrap(), "Held-out loss: sgd ends below adam");
    assert_eq!(of(Verdict::Inconclusive, 0.3), None);
}

#[test]
fn images_are_twice_as_large_and_have_letters() {
    let (_, figure) = every().swap_remove(0);
    let svg = frame::svg(&figure).unwrap();
    let bytes = png(&svg).unwrap();
    assert_eq!(&bytes[1..4], b"PNG");
    let number = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().unwrap());
    let tag = svg.lines().next().unwrap();
    let of = |name: &str| attribute(tag, name).parse::<u32>().unwrap();
    assert_eq!((number(16), number(20)), (2 * of("width"), 2 * of("height")));
    assert_eq!(bytes, png(&svg).unwrap(), "equal files, equal pixels");
    // Without its letters the image is another.
    let silent: String = svg.lines().filter(|line| !line.starts_with("<text") && line.starts_with('<')).collect();
    let silent = png(&silent.replace("</text>", "")).unwrap();
    assert!(bytes.len() > silent.len() + 5000, "{} {}", bytes.len(), silent.len());
    assert!(png("<svg").is_err());
}

/// Every number of the data of a layer's field.
fn numbers(layers: &[Value], field: &str) -> Vec<f64> {
    let values = layers.iter().flat_map(|layer| layer["data"]["values"].as_array().unwrap());
    values.filter_map(|value| value[field].as_f64()).collect()
}

#[test]
fn vega_lite_has_the_marks_axes_and_titles_of_the_figure() {
    for (name, figure) in every() {
        let value: Value = serde_json::from_str(&vega(&figure)).unwrap();
        assert_eq!(value["title"]["text"], figure.labels.title, "{name}");
        let panel = |panel: &Value| panel["layer"].as_array().unwrap().clone();
        let drawn: Vec<Vec<Value>> = match value["vconcat"].as_array() {
            Some(panels) => panels.iter().map(panel).collect(),
            None => vec![panel(&value)],
        };
        assert_eq!(drawn.len(), panels(&figure).len(), "{name}");
        for (layers, marks) in drawn.iter().zip(panels(&figure)) {
            let lines = |mark: &&Mark| matches!(mark, Mark::Line { .. });
            let is_line = |layer: &&Value| layer["mark"]["type"] == "line" && layer["encoding"]["color"].is_object();
            assert_eq!(layers.iter().filter(is_line).count(), marks.iter().filter(lines).count(), "{name}");
            let ends: Vec<f64> = marks
                .iter()
                .filter_map(|mark| if let Mark::Line { points, .. } = mark { Some(points.last()?.1) } else { None })
                .collect();
            let there = numbers(layers, "y");
            assert!(ends.iter().all(|end| there.iter().any(|y| (y - end).abs() <= 1e-5 * end.abs())), "{name}");
            let Some(x) = layers.iter().find_map(|layer| layer["encoding"].get("x")) else { continue };
            assert_eq!(
                (&x["title"], x["axis"]["values"].as_array().unwrap().len()),
                (&figure.labels.x.clone().into(), figure.x.ticks.len())
            );
        }
    }
}
