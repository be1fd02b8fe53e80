//! The legend: beside the plot where its texts fit there, else below it, in columns.

use super::frame::{
    ACROSS, Area, DrawResult, INK, Key, NULL_GREY, SOFT, UP, WIDTH, cross, fitting, square, stroke, text, width,
};
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};

/// Where a legend lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Legend {
    Beside,
    /// Below the plot, in so many columns.
    Below {
        columns: usize,
    },
}

/// Pixels from the left of a key to its text.
const SWATCH: i32 = 36;
const LABEL: f64 = 17.0;
const DETAIL: f64 = 15.5;
/// Smaller labels are hard to read.
const LEAST: f64 = 13.5;
/// Left of the legend beside the plot.
const LEFT: i32 = ACROSS.1 + 22;
/// Pixels of a key: its label, then its detail.
const LINE: i32 = 18;
const GAP: i32 = 8;
const MARGIN: i32 = 24;

impl Legend {
    pub(super) fn of(keys: &[Key]) -> Self {
        let longest = keys.iter().map(|key| key.label().0.chars().count()).max().unwrap_or(0);
        let room = WIDTH - LEFT - SWATCH - 2;
        let fits = fitting(&"m".repeat(longest), LABEL, room) >= LEAST;
        if fits && keys.len() as i32 * (LINE + GAP) <= UP.0 - UP.1 {
            return Self::Beside;
        }
        let of_key = |key: &Key| {
            let (label, detail) = key.label();
            width(label, LABEL).max(width(detail, DETAIL)) as i32 + SWATCH + MARGIN
        };
        let widest = keys.iter().map(of_key).max().unwrap_or(1);
        Self::Below { columns: ((WIDTH - MARGIN) / widest).clamp(1, 4) as usize }
    }

    /// Pixels that the figure grows by.
    pub(super) fn height(self, keys: &[Key]) -> i32 {
        match self {
            Self::Beside => 0,
            Self::Below { columns } => keys.len().div_ceil(columns) as i32 * pitch(keys) + GAP,
        }
    }

    /// `beside` and `below` are the pixels of the first key.
    pub(super) fn paint(self, area: &Area<'_>, keys: &[Key], beside: i32, below: i32) -> DrawResult {
        match self {
            Self::Beside => {
                // Many arms leave room for their names only.
                let details = keys.len() as i32 * (2 * LINE + GAP) <= UP.0 - UP.1;
                let mut at = beside;
                for key in keys {
                    paint_key(area, key, (LEFT, at), WIDTH - LEFT - SWATCH - 2, details)?;
                    let lines = if details && !key.label().1.is_empty() { 2 } else { 1 };
                    at += lines * LINE + GAP;
                }
            }
            Self::Below { columns } => {
                let (rows, wide) = (keys.len().div_ceil(columns), (WIDTH - MARGIN) / columns as i32);
                for (place, key) in keys.iter().enumerate() {
                    let at =
                        (MARGIN + (place / rows) as i32 * wide, below + (place % rows) as i32 * pitch(keys) + LINE / 2);
                    paint_key(area, key, at, wide - SWATCH - MARGIN, true)?;
                }
            }
        }
        Ok(())
    }
}

/// Pixels from key to key below the plot.
fn pitch(keys: &[Key]) -> i32 {
    let detailed = keys.iter().any(|key| !key.label().1.is_empty());
    if detailed { 2 * LINE + GAP } else { LINE + GAP }
}

impl Key {
    /// Its name, and what is known of it besides.
    fn label(&self) -> (&str, &str) {
        match self {
            Self::Line { label, detail, .. }
            | Self::Band { label, detail }
            | Self::Level { label, detail }
            | Self::Ring { label, detail }
            | Self::Square { label, detail } => (label, detail),
            Self::Dots { label, .. } | Self::Cross { label } => (label, ""),
        }
    }
}

fn paint_key(area: &Area<'_>, key: &Key, (left, at): (i32, i32), room: i32, details: bool) -> DrawResult {
    let swatch = [(left, at), (left + 28, at)];
    match key {
        Key::Line { colour, weight, .. } => stroke(area, &swatch, *colour, *weight)?,
        Key::Band { .. } => {
            area.draw(&Rectangle::new([(left, at - 7), (left + 28, at + 7)], NULL_GREY.mix(0.35).filled()))?;
            area.draw(&PathElement::new(swatch, SOFT.stroke_width(1)))?;
        }
        Key::Level { .. } => area.draw(&DashedPathElement::new(swatch, 3, 4, SOFT.stroke_width(1)))?,
        Key::Dots { colour, .. } => area.draw(&Circle::new((left + 14, at), 3, colour.mix(0.5).filled()))?,
        Key::Ring { .. } => area.draw(&Circle::new((left + 14, at), 9, INK.stroke_width(2)))?,
        Key::Square { .. } => square(area, (left + 14, at))?,
        Key::Cross { .. } => cross(area, (left + 14, at))?,
    }
    let (label, detail) = key.label();
    text(area, label, (left + SWATCH, at), fitting(label, LABEL, room), INK, (HPos::Left, VPos::Center))?;
    if details && !detail.is_empty() {
        let size = fitting(detail, DETAIL, room);
        text(area, detail, (left + SWATCH, at + LINE), size, SOFT, (HPos::Left, VPos::Center))?;
    }
    Ok(())
}
