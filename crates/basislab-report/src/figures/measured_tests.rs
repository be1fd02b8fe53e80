//! What the figures of `basislab measure` hold, against the tables.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

use super::mark::{Figure, Key, Mark};
use super::measured::{evenly, over_depth, over_training, special_dimensions};
use crate::measured::{MeasuredTables, Readings};
use crate::tests::measured::{kurtosis, measured, model};
use basislab_config::{Basis, Site, Tokens};

const LOSSES: (Option<f64>, Option<f64>) = (Some(3.0), Some(9.5));
/// The mean of the random bases of the fixture.
const NULL: f64 = 2.4;

pub(super) fn tables(models: &[(&str, u64, usize, f64)]) -> MeasuredTables {
    let mut tables = MeasuredTables::default();
    for &(name, step, n_layers, slope) in models {
        measured(&mut tables, model(name, step, n_layers, LOSSES), slope);
    }
    tables
}

/// Label and points of each line, in order.
fn lines(figure: &Figure) -> Vec<(String, Vec<(f64, f64)>)> {
    let mut found = Vec::new();
    for key in &figure.keys {
        let Key::Line { label, colour: wanted, .. } = key else { continue };
        let line = figure.marks.iter().find_map(|mark| match mark {
            Mark::Line { points, colour, .. } if colour == wanted => Some(points.clone()),
            _ => None,
        });
        found.push((label.clone(), line.unwrap()));
    }
    found
}

fn band(figure: &Figure) -> Option<&Vec<(f64, f64, f64)>> {
    figure.marks.iter().find_map(|mark| if let Mark::Band { points, .. } = mark { Some(points) } else { None })
}

fn assert_points(found: &[(f64, f64)], expected: impl IntoIterator<Item = (f64, f64)>) {
    let expected: Vec<(f64, f64)> = expected.into_iter().collect();
    assert_eq!(found.len(), expected.len(), "{found:?}, expected {expected:?}");
    for (found, expected) in found.iter().zip(&expected) {
        let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
        assert!(near(found.0, expected.0) && near(found.1, expected.1), "{found:?}, expected {expected:?}");
    }
}

fn drawn(tables: &MeasuredTables, of: impl Fn(&MeasuredTables, &Readings<'_>) -> Option<Figure>) -> Option<Figure> {
    of(tables, &Readings::of(&tables.residual))
}

#[test]
fn one_model_is_drawn_by_tokens_with_the_band_of_its_random_bases() {
    let figure = drawn(&tables(&[("smol", 0, 2, 1.5)]), over_depth).unwrap();
    let lines = lines(&figure);
    let labels: Vec<&str> = lines.iter().map(|(label, _)| label.as_str()).collect();
    assert_eq!(labels, ["first tokens", "all tokens", "later tokens"]);
    for ((_, points), more) in lines.iter().zip([-2.0, 1.0, 0.0]) {
        assert_points(points, (0..6).map(|place| (place as f64, kurtosis(place, 1.5) + more)));
    }
    let band = band(&figure).unwrap();
    assert_eq!(band.len(), 6);
    for (place, &(at, low, high)) in band.iter().enumerate() {
        // Three bases 0.2 apart.
        assert!(at == place as f64 && (low - 2.0).abs() < 1e-9 && (high - 2.8).abs() < 1e-9, "{low} {high}");
    }
    let ticks: Vec<&str> = figure.x.ticks.iter().map(|(_, label)| label.as_str()).collect();
    assert_eq!(ticks, ["embed", "0.mid", "0.post", "1.mid", "1.post", "final"]);
    assert!(figure.labels.title.contains("smol") && figure.labels.subtitle.contains("random bases of 6 later tokens"));
}

#[test]
fn several_models_are_drawn_over_their_random_bases_and_by_their_share_of_depth() {
    let figure = drawn(&tables(&[("one", 0, 2, 1.0), ("two", 0, 3, 0.5)]), over_depth).unwrap();
    let lines = lines(&figure);
    assert_eq!(lines.len(), 2);
    assert_points(&lines[0].1, (0..6).map(|place| (place as f64 / 5.0, kurtosis(place, 1.0) / NULL)));
    assert_points(&lines[1].1, (0..8).map(|place| (place as f64 / 7.0, kurtosis(place, 0.5) / NULL)));
    assert!(band(&figure).is_none() && figure.marks.iter().any(|mark| matches!(mark, Mark::Level { y } if *y == 1.0)));
    // Equally deep ones share the names of their sites.
    let figure = drawn(&tables(&[("one", 0, 2, 1.0), ("two", 0, 2, 0.5)]), over_depth).unwrap();
    assert_eq!(figure.x.ticks[1].1, "0.mid");
}

#[test]
fn dimensions_are_drawn_where_they_stand_out_with_what_random_bases_reach() {
    let tables = tables(&[("smol", 0, 2, 1.5)]);
    let of = |tables: &MeasuredTables| drawn(tables, |tables, all| special_dimensions(tables, all, &tables.models[0]));
    let figure = of(&tables).unwrap();
    let found = lines(&figure);
    let labels: Vec<&str> = found.iter().map(|(label, _)| label.as_str()).collect();
    assert_eq!(labels, ["dimension 5", "dimension 2", "random bases"]);
    assert_points(&found[0].1, [(2.0, 9.0), (4.0, 9.0)]);
    assert_points(&found[1].1, [(0.0, 3.0), (2.0, 4.5)]);
    assert_points(&found[2].1, [(0.0, 1.75), (2.0, 1.75), (4.0, 1.75)]);
    assert!(of(&MeasuredTables { special: Vec::new(), ..tables }).is_none());
}

#[test]
fn a_series_is_drawn_over_its_steps() {
    let series = [("run", 2000, 2, 1.0), ("run", 500, 2, 0.0), ("run", 0, 2, 0.5)];
    let figure = drawn(&tables(&series), over_training).unwrap();
    // The last block's end is the fifth site.
    assert_points(&lines(&figure)[0].1, [(0.0, 5.0), (500.0, 3.0), (2000.0, 7.0)]);
    assert_eq!(band(&figure).unwrap().iter().map(|point| point.0).collect::<Vec<_>>(), [0.0, 500.0, 2000.0]);
    assert!(figure.labels.subtitle.contains("blocks.1.resid_post") && figure.labels.subtitle.contains("3 checkpoints"));
    let depth = drawn(&tables(&series), over_depth).unwrap();
    let labels: Vec<String> = lines(&depth).into_iter().map(|(label, _)| label).collect();
    assert_eq!(labels, ["step 0", "step 500", "step 2000"]);
    let with_another = [&series[..], &[("other", 0, 2, 2.0), ("other", 10, 2, 3.0)]].concat();
    let figure = drawn(&tables(&with_another), over_training).unwrap();
    assert_points(&lines(&figure)[0].1, [(0.0, 5.0 / NULL), (500.0, 3.0 / NULL), (2000.0, 7.0 / NULL)]);
    assert_points(&lines(&figure)[1].1, [(0.0, 11.0 / NULL), (10.0, 15.0 / NULL)]);
    assert!(band(&figure).is_none());
    assert!(drawn(&tables(&series[..1]), over_training).is_none(), "one checkpoint is no series");
}

#[test]
fn what_was_not_measured_is_not_drawn() {
    let nothing = MeasuredTables::default();
    assert!(drawn(&nothing, over_depth).is_none() && drawn(&nothing, over_training).is_none());
    let mut one = tables(&[("tiny", 0, 1, 0.0)]);
    one.residual.retain(|row| row.site == Site::Embed && row.tokens == Tokens::All && row.basis == Basis::Standard);
    let figure = drawn(&one, over_depth).unwrap();
    assert_points(&lines(&figure)[0].1, [(0.0, 4.0)]);
    assert!(lines(&figure).len() == 1 && band(&figure).is_none() && !figure.labels.subtitle.contains("random"));
}

#[test]
fn places_are_even_with_both_ends() {
    assert_eq!(evenly(3, 5), [0, 1, 2]);
    assert_eq!(evenly(10, 4), [0, 3, 6, 9]);
    assert_eq!(evenly(31, 3), [0, 15, 30]);
    assert!(evenly(0, 4).is_empty());
    for n in 2..70 {
        for most in 2..20 {
            let places = evenly(n, most);
            assert!(places.len() == n.min(most) && places[0] == 0 && places.last() == Some(&(n - 1)), "{n} {most}");
            assert!(places.is_sorted_by(|a, b| a < b), "{n} {most}: {places:?}");
        }
    }
}
