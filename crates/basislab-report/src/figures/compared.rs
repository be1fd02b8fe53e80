//! The figure of `basislab compare`: each arm's metric in each directory.

use super::Drawing;
use super::frame::{ACROSS, UP, log_if_positive};
use super::mark::{Figure, Key, Labels, Mark, Of, Weight, colour, dash};
use super::scale::{Scale, Spacing};
use super::{in_words, units};
use crate::compare::Comparison;
use basislab_config::count;

/// The figure's file.
pub(crate) const ARMS: &str = "arms.svg";

/// The figure by its name; `None` where arms have different metrics, or none.
pub(crate) fn compared_figures(comparison: &Comparison) -> Vec<(String, Option<Drawing>)> {
    vec![(ARMS.to_owned(), arms(comparison).map(Drawing::Figure))]
}

fn arms(comparison: &Comparison) -> Option<Figure> {
    let metric = comparison.shared_metric()?;
    let labels = comparison.labels();
    let (mut marks, mut keys, mut heights) = (Vec::new(), Vec::new(), Vec::new());
    for arm in &comparison.arms {
        let numbers = arm.numbers.iter().enumerate();
        let mean = numbers.filter_map(|(place, one)| Some((place as f64, one.as_ref()?.mean?)));
        let points: Vec<(f64, f64)> = mean.collect();
        if points.is_empty() {
            continue;
        }
        heights.extend(points.iter().map(|point| point.1));
        let index = keys.len();
        let weight = Weight::Thick(dash(index, false));
        marks.push(Mark::Line { points, colour: colour(index), weight, of: Of::key(index) });
        keys.push(Key::Line { label: arm.arm.clone(), detail: String::new(), colour: colour(index), weight });
    }
    let places: Vec<f64> = (0..labels.len()).map(|place| place as f64).collect();
    let mut x = Scale::over(&places, Spacing::Linear, 0.1, ACROSS)?;
    x.ticks = places.into_iter().zip(labels.iter().cloned()).collect();
    x.keep_apart(|label| 8.2 * label.chars().count() as f64 + 8.0);
    let y = Scale::over(&heights, log_if_positive(&heights), 0.08, UP)?;
    let names = labels.iter().zip(&comparison.directories).map(|(label, name)| format!("{label}: {name}"));
    let words = in_words(metric);
    let first = words.chars().next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let rest: String = words.chars().skip(1).collect();
    let labels = Labels {
        title: format!("{first}{rest} of each arm in {}", count(comparison.directories.len(), "directory")),
        subtitle: "means over complete runs at the last step".to_owned(),
        x: format!("directory ({})", names.collect::<Vec<_>>().join(", ")),
        y: units::of_metric(metric),
    };
    Some(Figure { labels, x, y, marks, keys, dots: true, below: None })
}
