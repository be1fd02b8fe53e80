//! Points of a figure as numbers in JSON: not more than a reader can use.

use super::evenly;
use super::mark::{Figure, Mark};
use plotters::style::RGBColor;

/// The most points of a figure, at all its moments. Of more, lines keep points that are evenly chosen.
pub(crate) const MOST_POINTS: usize = 100_000;

/// What is left out of a figure with very many points.
#[derive(Clone, Copy)]
pub(crate) struct Thinning {
    /// Points of each line at most; 0 where lines of single runs are left out.
    of_line: Option<usize>,
}

impl Thinning {
    /// What a figure must lose to have at most so many points.
    pub(crate) fn of(figure: &Figure, most: usize) -> Self {
        let marks = figure.marks.iter().chain(figure.below.iter().flat_map(|panel| &panel.marks));
        let sizes: Vec<usize> =
            marks.map(|mark| points_of(mark).map_or(0, <[_]>::len)).filter(|size| *size > 0).collect();
        if sizes.iter().sum::<usize>() <= most {
            return Self { of_line: None };
        }
        let most = most / sizes.len();
        Self { of_line: Some(if most < 8 { 0 } else { most }) }
    }

    pub(crate) fn is_some(self) -> bool {
        self.of_line.is_some()
    }

    pub(crate) fn points(self, points: &[(f64, f64)], is_single: bool) -> Vec<(f64, f64)> {
        match self.of_line {
            None => points.to_vec(),
            Some(0) if is_single => Vec::new(),
            Some(most) => evenly(points.len(), most.max(8)).into_iter().map(|place| points[place]).collect(),
        }
    }
}

fn points_of(mark: &Mark) -> Option<&[(f64, f64)]> {
    match mark {
        Mark::Line { points, .. } | Mark::Dots { points, .. } => Some(points),
        _ => None,
    }
}

/// Six digits, more than a reader sees.
pub(crate) fn rounded(value: f64) -> f64 {
    format!("{value:.5e}").parse().unwrap_or(value)
}

/// A colour as CSS writes it.
pub(crate) fn hex(RGBColor(r, g, b): RGBColor) -> String {
    format!("#{r:02x}{g:02x}{b:02x}")
}
