//! A plot area with axes and a title. The legend lies beside it or below it, never over the data.

use super::legend::Legend;
use super::mark::{Dash, Figure, Mark, Weight, width};
use super::scale::{Scale, Spacing};
use plotters::coord::Shift;
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// Pixels from the middle of a bar of a band to its sides.
pub(crate) const BAR: i32 = 4;
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
/// Size of a title of one line, and of two.
const TITLE: f64 = 23.0;
const TITLE_OF_TWO: f64 = 20.0;
/// How strong the ink of a single seed is.
pub(super) const SEED_INK: f64 = 0.28;
pub(super) const INK: RGBColor = RGBColor(34, 34, 34);
pub(super) const SOFT: RGBColor = RGBColor(96, 96, 96);
pub(super) const GRID: RGBColor = RGBColor(232, 232, 232);
pub(super) const NULL_GREY: RGBColor = RGBColor(150, 150, 150);

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
    head(&area, &labels.title, &labels.subtitle)?;
    let (left, right) = x.ends();
    let size = fitting(&labels.x, 18.0, right - left);
    text(&area, &labels.x, ((left + right) / 2, UP.0 + 36), size, INK, (HPos::Center, VPos::Top))?;
    legend.paint(&area, keys, UP.1 + 10, HEIGHT + 4)?;
    area.present()?;
    Ok(())
}

/// Title and subtitle. A title that is too long for one line has two.
pub(super) fn head(area: &Area<'_>, title: &str, subtitle: &str) -> DrawResult {
    let (across, left) = (WIDTH - 48, (HPos::Left, VPos::Top));
    let below = match in_two(title).filter(|_| text_width(title, TITLE) > f64::from(across)) {
        None => {
            text(area, title, (24, 20), fitting(title, TITLE, across), INK, left)?;
            48
        }
        Some((first, second)) => {
            let size = fitting(first, TITLE_OF_TWO, across).min(fitting(second, TITLE_OF_TWO, across));
            text(area, first, (24, 10), size, INK, left)?;
            text(area, second, (24, 33), size, INK, left)?;
            59
        }
    };
    text(area, subtitle, (24, below), fitting(subtitle, 16.5, across), SOFT, left)
}

/// A text in two at the space nearest to its middle.
fn in_two(text: &str) -> Option<(&str, &str)> {
    let spaces = text.match_indices(' ').map(|(at, _)| at);
    let at = spaces.min_by_key(|at| at.abs_diff(text.len() / 2))?;
    Some((&text[..at], &text[at + 1..]))
}

fn paint_mark(area: &Area<'_>, x: &Scale, y: &Scale, mark: &Mark, dots: bool) -> DrawResult {
    match mark {
        Mark::Band { points, middle, bars: true } => {
            for (&(at, low, high), &(_, value)) in points.iter().zip(middle) {
                let (left, right) = (x.pixel(at) - BAR, x.pixel(at) + BAR);
                let bar = [(left, y.pixel(high)), (right, y.pixel(low))];
                area.draw(&Rectangle::new(bar, NULL_GREY.mix(0.35).filled()))?;
                let middle = vec![(left, y.pixel(value)), (right, y.pixel(value))];
                area.draw(&PathElement::new(middle, SOFT.stroke_width(width::MIDDLE)))?;
            }
        }
        Mark::Band { points, middle, bars: false } => {
            let above = points.iter().map(|&(at, _, high)| (x.pixel(at), y.pixel(high)));
            let below = points.iter().rev().map(|&(at, low, _)| (x.pixel(at), y.pixel(low)));
            area.draw(&Polygon::new(above.chain(below).collect::<Vec<_>>(), NULL_GREY.mix(0.35).filled()))?;
            let middle: Vec<_> = middle.iter().map(|&(at, value)| (x.pixel(at), y.pixel(value))).collect();
            area.draw(&PathElement::new(middle, SOFT.stroke_width(width::MIDDLE)))?;
        }
        Mark::Level { y: level } => {
            let (left, right) = x.ends();
            stroke(area, &[(left, y.pixel(*level)), (right, y.pixel(*level))], SOFT, Weight::LEVEL)?;
        }
        Mark::Dots { points, colour, hollow, .. } => {
            for &(at, value) in points {
                dot(area, (x.pixel(at), y.pixel(value)), *colour, *hollow)?;
            }
        }
        Mark::Ring { points } => {
            for &(at, value) in points {
                area.draw(&Circle::new((x.pixel(at), y.pixel(value)), 9, INK.stroke_width(width::OUTLINE)))?;
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
            if let (true, Weight::Thick(dash)) = (dots, *weight) {
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
    let wide = weight.pixels();
    match weight {
        Weight::Thin => area.draw(&PathElement::new(pixels, colour.mix(SEED_INK).stroke_width(wide)))?,
        Weight::Thick(Dash::SOLID) => area.draw(&PathElement::new(pixels, colour.stroke_width(wide)))?,
        Weight::Thick(Dash(on, off)) | Weight::Reference(Dash(on, off)) => {
            area.draw(&DashedPathElement::new(pixels.to_vec(), on, off, colour.stroke_width(wide)))?;
        }
    }
    Ok(())
}

/// A dot of the data or of the legend.
pub(super) fn dot(area: &Area<'_>, at: (i32, i32), colour: RGBColor, hollow: bool) -> DrawResult {
    let style = if hollow { colour.stroke_width(width::HAIR) } else { colour.mix(0.5).filled() };
    area.draw(&Circle::new(at, 3, style))?;
    Ok(())
}

pub(super) fn square(area: &Area<'_>, (x, y): (i32, i32)) -> DrawResult {
    area.draw(&Rectangle::new([(x - 6, y - 6), (x + 6, y + 6)], INK.stroke_width(width::OUTLINE)))?;
    Ok(())
}

pub(super) fn cross(area: &Area<'_>, (x, y): (i32, i32)) -> DrawResult {
    for lean in [-5, 5] {
        area.draw(&PathElement::new(vec![(x - 5, y - lean), (x + 5, y + lean)], INK.stroke_width(width::OUTLINE)))?;
    }
    Ok(())
}

fn grid(area: &Area<'_>, x: &Scale, y: &Scale) -> DrawResult {
    let ((bottom, top), (left, right)) = (y.ends(), x.ends());
    for (value, _) in &x.ticks {
        area.draw(&PathElement::new(
            vec![(x.pixel(*value), bottom), (x.pixel(*value), top)],
            GRID.stroke_width(width::HAIR),
        ))?;
    }
    for (value, _) in &y.ticks {
        area.draw(&PathElement::new(
            vec![(left, y.pixel(*value)), (right, y.pixel(*value))],
            GRID.stroke_width(width::HAIR),
        ))?;
    }
    Ok(())
}

fn axes(area: &Area<'_>, x: &Scale, y: &Scale, label: &str) -> DrawResult {
    let ((bottom, top), (left, right)) = (y.ends(), x.ends());
    let corner = vec![(left, top), (left, bottom), (right, bottom)];
    area.draw(&PathElement::new(corner, INK.stroke_width(width::HAIR)))?;
    for (value, _) in &x.ticks {
        let at = x.pixel(*value);
        area.draw(&PathElement::new(vec![(at, bottom), (at, bottom + 5)], INK.stroke_width(width::HAIR)))?;
    }
    for (value, label) in &y.ticks {
        let at = y.pixel(*value);
        area.draw(&PathElement::new(vec![(left - 5, at), (left, at)], INK.stroke_width(width::HAIR)))?;
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
pub(super) fn text_width(text: &str, size: f64) -> f64 {
    0.5 * size * text.chars().count() as f64
}

/// The size, or a smaller one at which the text is at most that wide.
pub(super) fn fitting(text: &str, size: f64, most: i32) -> f64 {
    size.min(size * f64::from(most) / text_width(text, size).max(1.0))
}

/// Logarithmic where every value allows it.
pub(crate) fn log_if_positive(values: &[f64]) -> Spacing {
    if values.iter().all(|&value| value > 0.0) { Spacing::Log } else { Spacing::Linear }
}
