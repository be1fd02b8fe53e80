//! The legend: beside the plot where its texts fit there, else below it, in columns.

use super::frame::{
    ACROSS, Area, DrawResult, INK, NULL_GREY, SOFT, UP, WIDTH, cross, dot, fitting, square, stroke, text, text_width,
};
use super::mark::{Key, Weight, width};
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
        let widest = keys.iter().map(|key| end_of_label(key) + text_width(key.label().1, DETAIL)).fold(1.0, f64::max);
        Self::Below { columns: ((WIDTH - MARGIN) / (widest as i32 + MARGIN)).clamp(1, 4) as usize }
    }

    /// Pixels that the figure grows by.
    pub(super) fn height(self, keys: &[Key]) -> i32 {
        match self {
            Self::Beside => 0,
            Self::Below { columns } => keys.len().div_ceil(columns) as i32 * (LINE + GAP) + GAP,
        }
    }

    /// `beside` and `below` are the pixels of the first key.
    pub(super) fn paint(self, area: &Area<'_>, keys: &[Key], beside: i32, below: i32) -> DrawResult {
        match self {
            Self::Beside => {
                // Many arms leave room for their names only.
                let details = keys.len() as i32 * (2 * LINE + GAP) <= UP.0 - UP.1;
                let room = WIDTH - LEFT - SWATCH - 2;
                let sizes = keys.iter().map(|key| fitting(key.label().0, LABEL, room));
                let size = sizes.fold(LABEL, f64::min);
                let mut at = beside;
                for key in keys {
                    paint_key(area, key, (LEFT, at), size)?;
                    let detail = if details { key.label().1 } else { "" };
                    if !detail.is_empty() {
                        at += LINE;
                        let size = fitting(detail, DETAIL, room);
                        text(area, detail, (LEFT + SWATCH, at), size, SOFT, (HPos::Left, VPos::Center))?;
                    }
                    at += LINE + GAP;
                }
            }
            Self::Below { columns } => {
                let (rows, wide) = (keys.len().div_ceil(columns), (WIDTH - MARGIN) / columns as i32);
                for (place, key) in keys.iter().enumerate() {
                    let left = MARGIN + (place / rows) as i32 * wide;
                    let at = below + (place % rows) as i32 * (LINE + GAP) + LINE / 2;
                    paint_key(area, key, (left, at), LABEL)?;
                    let beside = (left + end_of_label(key) as i32, at);
                    text(area, key.label().1, beside, DETAIL, SOFT, (HPos::Left, VPos::Center))?;
                }
            }
        }
        Ok(())
    }
}

/// Pixels from the left of a key to its detail, where that stands on the same line.
fn end_of_label(key: &Key) -> f64 {
    f64::from(SWATCH + GAP) + text_width(key.label().0, LABEL)
}

impl Key {
    /// Its name, and what is known of it besides.
    pub(crate) fn label(&self) -> (&str, &str) {
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

fn paint_key(area: &Area<'_>, key: &Key, (left, at): (i32, i32), size: f64) -> DrawResult {
    let swatch = [(left, at), (left + 28, at)];
    match key {
        Key::Line { colour, weight, .. } => stroke(area, &swatch, *colour, *weight)?,
        Key::Band { .. } => {
            area.draw(&Rectangle::new([(left, at - 7), (left + 28, at + 7)], NULL_GREY.mix(0.35).filled()))?;
            area.draw(&PathElement::new(swatch, SOFT.stroke_width(width::MIDDLE)))?;
        }
        Key::Level { .. } => stroke(area, &swatch, SOFT, Weight::LEVEL)?,
        Key::Dots { colour, hollow, .. } => dot(area, (left + 14, at), *colour, *hollow)?,
        Key::Ring { .. } => area.draw(&Circle::new((left + 14, at), 9, INK.stroke_width(width::OUTLINE)))?,
        Key::Square { .. } => square(area, (left + 14, at))?,
        Key::Cross { .. } => cross(area, (left + 14, at))?,
    }
    text(area, key.label().0, (left + SWATCH, at), size, INK, (HPos::Left, VPos::Center))
}
