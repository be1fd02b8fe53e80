//! A plot area with axes, a title and a legend beside it (never over the data).

use super::scale::{Scale, Spacing};
use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

const SIZE: (u32, u32) = (900, 560);
/// Pixels from the left and right edge of the plot area.
pub(crate) const ACROSS: (i32, i32) = (82, 668);
/// Pixels of the bottom and top edge of the plot area.
pub(crate) const UP: (i32, i32) = (492, 84);
/// The same for the upper of two panels.
pub(crate) const UPPER: (i32, i32) = (276, 84);
/// The same for the lower of two panels.
pub(crate) const LOWER: (i32, i32) = (UP.0, 320);
const INK: RGBColor = RGBColor(34, 34, 34);
const SOFT: RGBColor = RGBColor(96, 96, 96);
const GRID: RGBColor = RGBColor(232, 232, 232);
const NULL_GREY: RGBColor = RGBColor(150, 150, 150);

/// Okabe and Ito's colours in an order that keeps neighbours apart for every kind of colour vision.
const COLOURS: [RGBColor; 7] = [
    RGBColor(213, 94, 0),
    RGBColor(0, 114, 178),
    RGBColor(0, 158, 115),
    RGBColor(230, 159, 0),
    RGBColor(204, 121, 167),
    RGBColor(86, 180, 233),
    RGBColor(0, 0, 0),
];

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

/// A thing to draw, in data coordinates.
#[derive(Clone)]
pub(crate) enum Mark {
    Line {
        points: Vec<(f64, f64)>,
        colour: RGBColor,
        weight: Weight,
    },
    Band {
        points: Vec<(f64, f64, f64)>,
        middle: Vec<(f64, f64)>,
    },
    Level {
        y: f64,
    },
    /// Small dots, one for each run.
    Dots {
        points: Vec<(f64, f64)>,
        colour: RGBColor,
    },
    /// Rings around points.
    Ring {
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
    Thick(u32),
    /// A mean over seeds, dashed.
    Dashed,
}

/// A line of the legend.
pub(crate) enum Key {
    Line { label: String, detail: String, colour: RGBColor, weight: Weight },
    Band { label: String, detail: String },
    Level { label: String, detail: String },
    Dots { label: String, colour: RGBColor },
    Ring { label: String, detail: String },
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

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type DrawResult = Result<(), Box<dyn std::error::Error>>;

fn paint(svg: &mut String, figure: &Figure) -> DrawResult {
    let Figure { labels, x, y, marks, keys, dots, below } = figure;
    let area = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let below = below.as_ref().map(|panel| (&panel.y, &panel.label, &panel.marks));
    for (y, label, marks) in [(y, &labels.y, marks)].into_iter().chain(below) {
        grid(&area, x, y)?;
        for mark in marks {
            paint_mark(&area, x, y, mark, *dots)?;
        }
        axes(&area, x, y, label)?;
    }
    for (value, label) in &x.ticks {
        text(&area, label, (x.pixel(*value), UP.0 + 10), 17.0, INK, (HPos::Center, VPos::Top))?;
    }
    text(&area, &labels.title, (24, 20), 23.0, INK, (HPos::Left, VPos::Top))?;
    text(&area, &labels.subtitle, (24, 48), 16.5, SOFT, (HPos::Left, VPos::Top))?;
    text(&area, &labels.x, ((ACROSS.0 + ACROSS.1) / 2, UP.0 + 36), 18.0, INK, (HPos::Center, VPos::Top))?;
    legend(&area, keys)?;
    area.present()?;
    Ok(())
}

fn paint_mark(area: &Area<'_>, x: &Scale, y: &Scale, mark: &Mark, dots: bool) -> DrawResult {
    match mark {
        Mark::Band { points, middle } => {
            let above = points.iter().map(|&(at, _, high)| (x.pixel(at), y.pixel(high)));
            let below = points.iter().rev().map(|&(at, low, _)| (x.pixel(at), y.pixel(low)));
            area.draw(&Polygon::new(above.chain(below).collect::<Vec<_>>(), NULL_GREY.mix(0.35).filled()))?;
            let middle: Vec<_> = middle.iter().map(|&(at, value)| (x.pixel(at), y.pixel(value))).collect();
            area.draw(&PathElement::new(middle, SOFT.stroke_width(1)))?;
        }
        Mark::Level { y: level } => {
            let line = [(ACROSS.0, y.pixel(*level)), (ACROSS.1, y.pixel(*level))];
            area.draw(&DashedPathElement::new(line, 3, 4, SOFT.stroke_width(1)))?;
        }
        Mark::Dots { points, colour } => {
            for &(at, value) in points {
                area.draw(&Circle::new((x.pixel(at), y.pixel(value)), 3, colour.mix(0.5).filled()))?;
            }
        }
        Mark::Ring { points } => {
            for &(at, value) in points {
                area.draw(&Circle::new((x.pixel(at), y.pixel(value)), 9, INK.stroke_width(2)))?;
            }
        }
        Mark::Cross { at } => {
            for &at in at {
                cross(area, (x.pixel(at), y.ends().1 + 8))?;
            }
        }
        Mark::Line { points, colour, weight } => {
            let pixels: Vec<_> = points.iter().map(|&(at, value)| (x.pixel(at), y.pixel(value))).collect();
            match weight {
                Weight::Thin => area.draw(&PathElement::new(pixels.clone(), colour.mix(0.28).stroke_width(1)))?,
                Weight::Thick(width) => area.draw(&PathElement::new(pixels.clone(), colour.stroke_width(*width)))?,
                Weight::Dashed => area.draw(&DashedPathElement::new(pixels.clone(), 8, 5, colour.stroke_width(3)))?,
            }
            if dots && *weight != Weight::Thin {
                for pixel in pixels {
                    area.draw(&Circle::new(pixel, 4, colour.filled()))?;
                    if *weight == Weight::Dashed {
                        area.draw(&Circle::new(pixel, 2, WHITE.filled()))?;
                    }
                }
            }
        }
    }
    Ok(())
}

fn cross(area: &Area<'_>, (x, y): (i32, i32)) -> DrawResult {
    for lean in [-5, 5] {
        area.draw(&PathElement::new(vec![(x - 5, y - lean), (x + 5, y + lean)], INK.stroke_width(2)))?;
    }
    Ok(())
}

fn grid(area: &Area<'_>, x: &Scale, y: &Scale) -> DrawResult {
    let (bottom, top) = y.ends();
    for (value, _) in &x.ticks {
        area.draw(&PathElement::new(vec![(x.pixel(*value), bottom), (x.pixel(*value), top)], GRID.stroke_width(1)))?;
    }
    for (value, _) in &y.ticks {
        area.draw(&PathElement::new(
            vec![(ACROSS.0, y.pixel(*value)), (ACROSS.1, y.pixel(*value))],
            GRID.stroke_width(1),
        ))?;
    }
    Ok(())
}

fn axes(area: &Area<'_>, x: &Scale, y: &Scale, label: &str) -> DrawResult {
    let (bottom, top) = y.ends();
    let corner = vec![(ACROSS.0, top), (ACROSS.0, bottom), (ACROSS.1, bottom)];
    area.draw(&PathElement::new(corner, INK.stroke_width(1)))?;
    for (value, _) in &x.ticks {
        let at = x.pixel(*value);
        area.draw(&PathElement::new(vec![(at, bottom), (at, bottom + 5)], INK.stroke_width(1)))?;
    }
    for (value, label) in &y.ticks {
        let at = y.pixel(*value);
        area.draw(&PathElement::new(vec![(ACROSS.0 - 5, at), (ACROSS.0, at)], INK.stroke_width(1)))?;
        text(area, label, (ACROSS.0 - 9, at), 17.0, INK, (HPos::Right, VPos::Center))?;
    }
    let style = ("sans-serif", 18.0).into_font().transform(FontTransform::Rotate270).color(&INK);
    let style = style.pos(Pos::new(HPos::Center, VPos::Top));
    area.draw(&Text::new(label.to_owned(), (18, (bottom + top) / 2), style))?;
    Ok(())
}

fn legend(area: &Area<'_>, keys: &[Key]) -> DrawResult {
    let left = ACROSS.1 + 22;
    let mut at = UP.1 + 10;
    let none = String::new();
    // Many arms leave room for their names only.
    let roomy = keys.len() as i32 * 44 <= UP.0 - UP.1;
    for key in keys {
        let swatch = [(left, at), (left + 28, at)];
        let (label, detail) = match key {
            Key::Line { label, detail, colour, weight } => {
                match weight {
                    Weight::Dashed => area.draw(&DashedPathElement::new(swatch, 8, 5, colour.stroke_width(3)))?,
                    Weight::Thick(width) => area.draw(&PathElement::new(swatch, colour.stroke_width(*width)))?,
                    Weight::Thin => area.draw(&PathElement::new(swatch, colour.stroke_width(1)))?,
                }
                (label, detail)
            }
            Key::Band { label, detail } => {
                area.draw(&Rectangle::new([(left, at - 7), (left + 28, at + 7)], NULL_GREY.mix(0.35).filled()))?;
                area.draw(&PathElement::new(swatch, SOFT.stroke_width(1)))?;
                (label, detail)
            }
            Key::Level { label, detail } => {
                area.draw(&DashedPathElement::new(swatch, 3, 4, SOFT.stroke_width(1)))?;
                (label, detail)
            }
            Key::Dots { label, colour } => {
                area.draw(&Circle::new((left + 14, at), 3, colour.mix(0.5).filled()))?;
                (label, &none)
            }
            Key::Ring { label, detail } => {
                area.draw(&Circle::new((left + 14, at), 9, INK.stroke_width(2)))?;
                (label, detail)
            }
            Key::Cross { label } => {
                cross(area, (left + 14, at))?;
                (label, &none)
            }
        };
        text(area, label, (left + 36, at), 17.0, INK, (HPos::Left, VPos::Center))?;
        at += 18;
        if roomy && !detail.is_empty() {
            text(area, detail, (left + 36, at), 15.5, SOFT, (HPos::Left, VPos::Center))?;
            at += 18;
        }
        at += 8;
    }
    Ok(())
}

fn text(area: &Area<'_>, text: &str, at: (i32, i32), size: f64, colour: RGBColor, anchor: (HPos, VPos)) -> DrawResult {
    let style = ("sans-serif", size).into_font().color(&colour).pos(Pos::new(anchor.0, anchor.1));
    area.draw(&Text::new(text.to_owned(), at, style))?;
    Ok(())
}

/// Logarithmic where every value allows it.
pub(crate) fn log_if_positive(values: &[f64]) -> Spacing {
    if values.iter().all(|&value| value > 0.0) { Spacing::Log } else { Spacing::Linear }
}
