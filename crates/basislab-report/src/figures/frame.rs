//! A plot area with axes and a title. The legend lies beside it or below it, never over the data.

use super::legend::Legend;
use super::scale::{Scale, Spacing};
use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Pixels from the middle of a bar of a band to its sides.
const BAR: i32 = 4;
/// Width of every figure.
pub(super) const WIDTH: i32 = 900;
/// Height without a legend below.
const HEIGHT: i32 = 560;
/// Pixels from the left and right edge of the plot area.
pub(crate) const ACROSS: (i32, i32) = (82, 668);
/// Pixels of the bottom and top edge of the plot area.
pub(crate) const UP: (i32, i32) = (492, 84);
/// The same for the upper of two panels.
pub(crate) const UPPER: (i32, i32) = (276, 84);
/// The same for the lower of two panels.
pub(crate) const LOWER: (i32, i32) = (UP.0, 320);
pub(super) const INK: RGBColor = RGBColor(34, 34, 34);
pub(super) const SOFT: RGBColor = RGBColor(96, 96, 96);
pub(super) const GRID: RGBColor = RGBColor(232, 232, 232);
pub(super) const NULL_GREY: RGBColor = RGBColor(150, 150, 150);

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

/// How a line is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Weight {
    /// A single seed.
    Thin,
    /// A mean over seeds, so many pixels wide.
    Thick(u32, Dash),
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

/// A figure as SVG.
///
/// # Errors
/// What the drawing library says.
pub(crate) fn svg(figure: &Figure) -> Result<String, String> {
    let mut svg = String::new();
    paint(&mut svg, figure).map_err(|error| error.to_string())?;
    Ok(svg)
}

pub(super) type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
pub(super) type DrawResult = Result<(), Box<dyn std::error::Error>>;

fn paint(svg: &mut String, figure: &Figure) -> DrawResult {
    let Figure { labels, x, y, marks, keys, dots, below } = figure;
    let legend = Legend::of(keys);
    let x = match legend {
        Legend::Beside => x.clone(),
        Legend::Below { .. } => x.clone().ending_at(WIDTH - 24),
    };
    let size = (WIDTH as u32, (HEIGHT + legend.height(keys)) as u32);
    let area = SVGBackend::with_string(svg, size).into_drawing_area();
    area.fill(&WHITE)?;
    let below = below.as_ref().map(|panel| (&panel.y, &panel.label, &panel.marks));
    for (y, label, marks) in [(y, &labels.y, marks)].into_iter().chain(below) {
        grid(&area, &x, y)?;
        for mark in marks {
            paint_mark(&area, &x, y, mark, *dots)?;
        }
        axes(&area, &x, y, label)?;
    }
    for (value, label) in &x.ticks {
        text(&area, label, (x.pixel(*value), UP.0 + 10), 17.0, INK, (HPos::Center, VPos::Top))?;
    }
    let across = WIDTH - 48;
    text(&area, &labels.title, (24, 20), fitting(&labels.title, 23.0, across), INK, (HPos::Left, VPos::Top))?;
    text(&area, &labels.subtitle, (24, 48), fitting(&labels.subtitle, 16.5, across), SOFT, (HPos::Left, VPos::Top))?;
    let (left, right) = x.ends();
    let size = fitting(&labels.x, 18.0, right - left);
    text(&area, &labels.x, ((left + right) / 2, UP.0 + 36), size, INK, (HPos::Center, VPos::Top))?;
    legend.paint(&area, keys, UP.1 + 10, HEIGHT + 4)?;
    area.present()?;
    Ok(())
}

fn paint_mark(area: &Area<'_>, x: &Scale, y: &Scale, mark: &Mark, dots: bool) -> DrawResult {
    match mark {
        Mark::Band { points, middle, bars: true } => {
            for (&(at, low, high), &(_, value)) in points.iter().zip(middle) {
                let (left, right) = (x.pixel(at) - BAR, x.pixel(at) + BAR);
                let bar = [(left, y.pixel(high)), (right, y.pixel(low))];
                area.draw(&Rectangle::new(bar, NULL_GREY.mix(0.35).filled()))?;
                let middle = vec![(left, y.pixel(value)), (right, y.pixel(value))];
                area.draw(&PathElement::new(middle, SOFT.stroke_width(1)))?;
            }
        }
        Mark::Band { points, middle, bars: false } => {
            let above = points.iter().map(|&(at, _, high)| (x.pixel(at), y.pixel(high)));
            let below = points.iter().rev().map(|&(at, low, _)| (x.pixel(at), y.pixel(low)));
            area.draw(&Polygon::new(above.chain(below).collect::<Vec<_>>(), NULL_GREY.mix(0.35).filled()))?;
            let middle: Vec<_> = middle.iter().map(|&(at, value)| (x.pixel(at), y.pixel(value))).collect();
            area.draw(&PathElement::new(middle, SOFT.stroke_width(1)))?;
        }
        Mark::Level { y: level } => {
            let (left, right) = x.ends();
            let line = [(left, y.pixel(*level)), (right, y.pixel(*level))];
            area.draw(&DashedPathElement::new(line, 3, 4, SOFT.stroke_width(1)))?;
        }
        Mark::Dots { points, colour, hollow, .. } => {
            for &(at, value) in points {
                dot(area, (x.pixel(at), y.pixel(value)), *colour, *hollow)?;
            }
        }
        Mark::Ring { points } => {
            for &(at, value) in points {
                area.draw(&Circle::new((x.pixel(at), y.pixel(value)), 9, INK.stroke_width(2)))?;
            }
        }
        Mark::Square { points } => {
            for &(at, value) in points {
                square(area, (x.pixel(at), y.pixel(value)))?;
            }
        }
        Mark::Cross { at } => {
            for &at in at {
                cross(area, (x.pixel(at), y.ends().1 + 8))?;
            }
        }
        Mark::Line { points, colour, weight, .. } => {
            let pixels: Vec<_> = points.iter().map(|&(at, value)| (x.pixel(at), y.pixel(value))).collect();
            stroke(area, &pixels, *colour, *weight)?;
            if let (true, Weight::Thick(_, dash)) = (dots, *weight) {
                for pixel in pixels {
                    area.draw(&Circle::new(pixel, 4, colour.filled()))?;
                    if dash != Dash::SOLID {
                        area.draw(&Circle::new(pixel, 2, WHITE.filled()))?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// A line of the data or of the legend.
pub(super) fn stroke(area: &Area<'_>, pixels: &[(i32, i32)], colour: RGBColor, weight: Weight) -> DrawResult {
    match weight {
        Weight::Thin => area.draw(&PathElement::new(pixels, colour.mix(0.28).stroke_width(1)))?,
        Weight::Thick(width, Dash::SOLID) => area.draw(&PathElement::new(pixels, colour.stroke_width(width)))?,
        Weight::Thick(width, Dash(on, off)) => {
            area.draw(&DashedPathElement::new(pixels.to_vec(), on, off, colour.stroke_width(width)))?;
        }
    }
    Ok(())
}

/// A dot of the data or of the legend.
pub(super) fn dot(area: &Area<'_>, at: (i32, i32), colour: RGBColor, hollow: bool) -> DrawResult {
    let style = if hollow { colour.stroke_width(1) } else { colour.mix(0.5).filled() };
    area.draw(&Circle::new(at, 3, style))?;
    Ok(())
}

pub(super) fn square(area: &Area<'_>, (x, y): (i32, i32)) -> DrawResult {
    area.draw(&Rectangle::new([(x - 6, y - 6), (x + 6, y + 6)], INK.stroke_width(2)))?;
    Ok(())
}

pub(super) fn cross(area: &Area<'_>, (x, y): (i32, i32)) -> DrawResult {
    for lean in [-5, 5] {
        area.draw(&PathElement::new(vec![(x - 5, y - lean), (x + 5, y + lean)], INK.stroke_width(2)))?;
    }
    Ok(())
}

fn grid(area: &Area<'_>, x: &Scale, y: &Scale) -> DrawResult {
    let ((bottom, top), (left, right)) = (y.ends(), x.ends());
    for (value, _) in &x.ticks {
        area.draw(&PathElement::new(vec![(x.pixel(*value), bottom), (x.pixel(*value), top)], GRID.stroke_width(1)))?;
    }
    for (value, _) in &y.ticks {
        area.draw(&PathElement::new(vec![(left, y.pixel(*value)), (right, y.pixel(*value))], GRID.stroke_width(1)))?;
    }
    Ok(())
}

fn axes(area: &Area<'_>, x: &Scale, y: &Scale, label: &str) -> DrawResult {
    let ((bottom, top), (left, right)) = (y.ends(), x.ends());
    let corner = vec![(left, top), (left, bottom), (right, bottom)];
    area.draw(&PathElement::new(corner, INK.stroke_width(1)))?;
    for (value, _) in &x.ticks {
        let at = x.pixel(*value);
        area.draw(&PathElement::new(vec![(at, bottom), (at, bottom + 5)], INK.stroke_width(1)))?;
    }
    for (value, label) in &y.ticks {
        let at = y.pixel(*value);
        area.draw(&PathElement::new(vec![(left - 5, at), (left, at)], INK.stroke_width(1)))?;
        text(area, label, (left - 9, at), 17.0, INK, (HPos::Right, VPos::Center))?;
    }
    let size = fitting(label, 18.0, bottom - top);
    let style = ("sans-serif", size).into_font().transform(FontTransform::Rotate270).color(&INK);
    let style = style.pos(Pos::new(HPos::Center, VPos::Top));
    area.draw(&Text::new(label.to_owned(), (18, (bottom + top) / 2), style))?;
    Ok(())
}

pub(super) fn text(
    area: &Area<'_>,
    text: &str,
    at: (i32, i32),
    size: f64,
    colour: RGBColor,
    anchor: (HPos, VPos),
) -> DrawResult {
    let style = ("sans-serif", size).into_font().color(&colour).pos(Pos::new(anchor.0, anchor.1));
    area.draw(&Text::new(text.to_owned(), at, style))?;
    Ok(())
}

/// Pixels of a text at most, in the widest of the usual fonts.
pub(super) fn width(text: &str, size: f64) -> f64 {
    0.5 * size * text.chars().count() as f64
}

/// The size, or a smaller one at which the text is at most that wide.
pub(super) fn fitting(text: &str, size: f64, most: i32) -> f64 {
    size.min(size * f64::from(most) / width(text, size).max(1.0))
}

/// Logarithmic where every value allows it.
pub(crate) fn log_if_positive(values: &[f64]) -> Spacing {
    if values.iter().all(|&value| value > 0.0) { Spacing::Log } else { Spacing::Linear }
}
