//! What a figure is made of, before it is drawn: as SVG, on the page, as PNG and as Vega-Lite.

use super::scale::Scale;
use plotters::style::RGBColor;

/// Okabe and Ito's colours in an order that keeps neighbours apart for every kind of colour vision; their yellow, which is
/// too light on white, replaced by Tol's wine.
const COLOURS: [RGBColor; 8] = [
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(230, 159, 0),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
    RGBColor(136, 34, 85),
];

/// How the lines of the first, second and third eight arms are dashed, in the standard basis and in the optimizer's.
const DASHES: [[Dash; 2]; 3] = [[Dash(1, 0), Dash(8, 5)], [Dash(18, 5), Dash(18, 14)], [Dash(3, 3), Dash(3, 10)]];

/// Pixels of a dash and of the gap after it; a solid line has no gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Dash(pub(crate) i32, pub(crate) i32);

impl Dash {
    pub(crate) const SOLID: Self = DASHES[0][0];
}

/// The dash of the arm at that place of the configuration: with [`colour`], 24 arms can be distinguished.
pub(crate) fn dash(index: usize, own_basis: bool) -> Dash {
    DASHES[index / COLOURS.len() % DASHES.len()][usize::from(own_basis)]
}

/// The colour of the arm at that place of the configuration, the same in every figure.
pub(crate) fn colour(index: usize) -> RGBColor {
    COLOURS[index % COLOURS.len()]
}

/// What stands above and beside the axes.
pub(crate) struct Labels {
    pub(crate) title: String,
    pub(crate) subtitle: String,
    pub(crate) x: String,
    pub(crate) y: String,
}

/// Whose numbers a line or dots show: the place in the legend, and the seed where they are one run's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Of {
    pub(crate) key: usize,
    pub(crate) seed: Option<u64>,
}

impl Of {
    /// Of all runs of the key at that place of the legend.
    pub(crate) fn key(key: usize) -> Self {
        Self { key, seed: None }
    }
}

/// A thing to draw, in data coordinates.
#[derive(Clone)]
pub(crate) enum Mark {
    Line {
        points: Vec<(f64, f64)>,
        colour: RGBColor,
        weight: Weight,
        of: Of,
    },
    /// From low to high at each place, and what is in the middle: a bar at each place, or one area over all of them.
    Band {
        points: Vec<(f64, f64, f64)>,
        middle: Vec<(f64, f64)>,
        bars: bool,
    },
    Level {
        y: f64,
    },
    /// Small dots, one for each run; hollow ones are of the optimizer's basis.
    Dots {
        points: Vec<(f64, f64)>,
        colour: RGBColor,
        hollow: bool,
        of: Of,
    },
    /// Rings around points.
    Ring {
        points: Vec<(f64, f64)>,
    },
    /// Squares around points.
    Square {
        points: Vec<(f64, f64)>,
    },
    /// Crosses at the upper edge of the panel.
    Cross {
        at: Vec<f64>,
    },
}

/// What a line is, which decides how it is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    /// A single seed.
    Thin,
    /// A mean over seeds, or a model.
    Thick(Dash),
    /// What the others are compared with.
    Reference(Dash),
}

impl Weight {
    /// A mean, without gaps.
    pub(crate) const SOLID: Self = Self::Thick(Dash::SOLID);
    /// A [`Mark::Level`].
    pub(crate) const LEVEL: Self = Self::Reference(Dash(3, 4));

    /// Pixels of the line.
    pub(crate) fn pixels(self) -> u32 {
        match self {
            Self::Thin => width::SEED,
            Self::Thick(_) => width::MEAN,
            Self::Reference(_) => width::REFERENCE,
        }
    }
}

/// Pixels of all that is drawn, the same in every figure.
pub(crate) mod width {
    pub(crate) const SEED: u32 = 1;
    pub(crate) const MEAN: u32 = 3;
    pub(crate) const REFERENCE: u32 = 2;
    /// The line within a band of random bases.
    pub(crate) const MIDDLE: u32 = 1;
    /// Rings, squares and crosses.
    pub(crate) const OUTLINE: u32 = 2;
    /// Axes, the grid and hollow dots.
    pub(crate) const HAIR: u32 = 1;
}

impl Mark {
    /// The random bases at each place where they were measured: one area, or bars where the lines have places between two of
    /// these, at which the null is not known, and where there is a single place.
    pub(super) fn band(
        points: Vec<(f64, f64, f64)>,
        middle: Vec<(f64, f64)>,
        places: impl IntoIterator<Item = f64>,
    ) -> Self {
        let (first, last) = (points.first().map(|point| point.0), points.last().map(|point| point.0));
        let is_between = |x: f64| first.is_some_and(|first| x > first) && last.is_some_and(|last| x < last);
        let is_measured = |x: f64| points.iter().any(|point| point.0 == x);
        let bars = first == last || places.into_iter().any(|x| is_between(x) && !is_measured(x));
        Self::Band { points, middle, bars }
    }
}

/// A line of the legend.
pub(crate) enum Key {
    Line { label: String, detail: String, colour: RGBColor, weight: Weight },
    Band { label: String, detail: String },
    Level { label: String, detail: String },
    Dots { label: String, colour: RGBColor, hollow: bool },
    Ring { label: String, detail: String },
    Square { label: String, detail: String },
    Cross { label: String },
}

/// A figure before it is drawn.
pub(crate) struct Figure {
    pub(crate) labels: Labels,
    pub(crate) x: Scale,
    pub(crate) y: Scale,
    pub(crate) marks: Vec<Mark>,
    pub(crate) keys: Vec<Key>,
    /// Whether each point of the thick lines carries a dot.
    pub(crate) dots: bool,
    /// A second panel over the same x axis.
    pub(crate) below: Option<Panel>,
}

/// What the lower of two panels holds.
pub(crate) struct Panel {
    pub(crate) y: Scale,
    pub(crate) label: String,
    pub(crate) marks: Vec<Mark>,
}
