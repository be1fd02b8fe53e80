//! Which dimensions stand out at which sites, by number: a matrix for each arm and basis.

use super::frame::{Area, DrawResult, GRID, INK, SOFT, WIDTH, fitting, head, text};
use super::layers::short_site;
use super::mark::{colour, width};
use super::scale::digits;
use super::{Scene, copies};
use crate::narrative::{OutlierDimension, OutlierLine, depth, last_step, no_dimension, outlier_lines};
use basislab_config::{Site, count};
use basislab_tables::OutlierRow;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, VPos};
use std::collections::BTreeSet;

/// Rows of the figure and of one matrix, and matrices, at most: more are not read.
const ROWS: usize = 40;
const ROWS_OF_ONE: usize = 10;
const MATRICES: usize = 10;
/// The left and right end of the cells.
const CELLS: (i32, i32) = (120, 600);
const WIDEST: i32 = 80;
const ROW: i32 = 21;
const TOP: i32 = 92;

/// The figure before it is drawn.
pub(crate) struct Matrix {
    pub(super) title: String,
    subtitle: String,
    pub(super) sites: Vec<Site>,
    pub(super) arms: Vec<Rows>,
    /// What is said of the arms that are not drawn.
    pub(super) others: Vec<String>,
}

/// The dimensions of one arm in one basis.
pub(crate) struct Rows {
    pub(super) head: String,
    pub(super) shown: Vec<OutlierDimension>,
    n_seeds: usize,
}

/// `None` where nothing could be compared.
pub(super) fn matrix(scene: &Scene<'_>, rows: Option<&[OutlierRow]>) -> Option<Matrix> {
    let copies = copies(scene.experiment, scene.verdicts);
    let lines = outlier_lines(scene.experiment, scene.tables, rows, |arm| !copies.contains(&arm));
    let (some, none): (Vec<&OutlierLine>, Vec<&OutlierLine>) =
        lines.iter().partition(|line| !line.dimensions.is_empty());
    let drawn = some.len().min(MATRICES);
    let most = (ROWS / drawn.max(1)).clamp(3, ROWS_OF_ONE);
    let arms = some.iter().take(MATRICES).map(|line| rows_of(line, most)).collect();
    let left_out = (some.len() > drawn).then(|| format!("Left out here: {} more arms or bases.", some.len() - drawn));
    let tokens = rows?.first().map_or(scene.experiment.verdict.tokens, |row| row.tokens);
    let bases = rows?.iter().map(|row| row.bases).max();
    let limit = bases.map_or_else(String::new, |n| format!("; beyond the limit of {}", count(n, "random basis")));
    (!lines.is_empty()).then(|| Matrix {
        title: title(&some, &none),
        subtitle: format!("{}, {}{limit}", last_step(scene.experiment), super::of_tokens(tokens)),
        sites: sites(scene, &some),
        arms,
        others: left_out.into_iter().chain(no_dimension(&none)).collect(),
    })
}

/// The arms of which dimensions stand out in most seeds: what chance makes is in few.
fn title(some: &[&OutlierLine], none: &[&OutlierLine]) -> String {
    if some.is_empty() {
        return "No dimension stands out of random bases".to_owned();
    }
    let mostly: Vec<&&OutlierLine> = some.iter().filter(|line| 2 * line.seeds().len() > line.n_seeds).collect();
    let single = some.iter().chain(none).all(|line| line.n_seeds == 1);
    let of = |line: &&&OutlierLine| match single {
        true => line.label(),
        false => format!("{} ({}/{})", line.label(), line.seeds().len(), line.n_seeds),
    };
    let in_seeds = if single { "in" } else { "in most seeds of" };
    match &mostly.iter().map(of).collect::<Vec<_>>()[..] {
        [] => "In no arm do dimensions stand out in most seeds".to_owned(),
        [one] => format!("Dimensions stand out {in_seeds} {one}"),
        [one, two] => format!("Dimensions stand out {in_seeds} {one} and {two}"),
        all => format!("Dimensions stand out {in_seeds} {} of {} arms or bases", all.len(), some.len() + none.len()),
    }
}

fn rows_of(line: &OutlierLine, most: usize) -> Rows {
    let all = line.dimensions.len();
    let which = match all > most {
        true => format!("{most} of {} are shown", count(all, "dimension")),
        false => count(all, "dimension"),
    };
    let seeds = format!("{} of {}", line.seeds().len(), count(line.n_seeds, "seed"));
    Rows {
        head: format!("{}: in {seeds}; {which}", line.label()),
        shown: line.dimensions.iter().take(most).cloned().collect(),
        n_seeds: line.n_seeds,
    }
}

/// All sites that the arms were measured at after their last update.
fn sites(scene: &Scene<'_>, lines: &[&OutlierLine]) -> Vec<Site> {
    let rows = &scene.tables.residual;
    let last: BTreeSet<u64> = scene.experiment.arms.iter().map(|arm| arm.run.train.steps).collect();
    let metric = &scene.experiment.verdict.metric;
    let measured = rows.kinds().iter().filter(|kind| kind.metric == *metric && last.contains(&kind.step));
    let found = lines.iter().flat_map(|line| &line.dimensions).flat_map(|one| one.sites.iter().map(|at| at.site));
    let mut sites: Vec<Site> = measured.map(|kind| kind.site).chain(found).collect();
    sites.sort_by_key(|site| depth(*site));
    sites.dedup();
    sites
}

/// A matrix as SVG.
///
/// # Errors
/// What the drawing library says.
pub(super) fn svg(matrix: &Matrix) -> Result<String, String> {
    let mut svg = String::new();
    paint(&mut svg, matrix).map_err(|error| error.to_string())?;
    Ok(svg)
}

fn paint(svg: &mut String, matrix: &Matrix) -> DrawResult {
    let rows: i32 = matrix.arms.iter().map(|arm| 46 + ROW * arm.shown.len() as i32).sum();
    let (others, legend) = (24 * matrix.others.len() as i32, if matrix.arms.is_empty() { 0 } else { 64 });
    let height = TOP + rows + others + legend - if legend > 0 { 2 } else { 0 };
    let area = SVGBackend::with_string(svg, (WIDTH as u32, height as u32)).into_drawing_area();
    area.fill(&WHITE)?;
    let left = (HPos::Left, VPos::Center);
    head(&area, &matrix.title, &matrix.subtitle)?;
    let ratios = || matrix.arms.iter().flat_map(|arm| &arm.shown).flat_map(|one| one.sites.iter().map(|at| at.ratio));
    let most = ratios().fold(1.0, f64::max);
    let cell = ((CELLS.1 - CELLS.0) / matrix.sites.len().max(1) as i32).clamp(1, WIDEST);
    let mut at = TOP;
    for arm in &matrix.arms {
        text(&area, &arm.head, (24, at), fitting(&arm.head, 18.0, WIDTH - 48), INK, left)?;
        at += 22;
        for one in &arm.shown {
            paint_row(&area, matrix, (arm.n_seeds, one), (at, cell), most)?;
            at += ROW;
        }
        at += 24;
    }
    if !matrix.arms.is_empty() {
        at -= 12;
        let every = (56 / cell + 1) as usize;
        for (place, site) in matrix.sites.iter().enumerate().step_by(if cell > 56 { 1 } else { every }) {
            let middle = CELLS.0 + place as i32 * cell + cell / 2;
            text(&area, &short_site(*site), (middle, at), 16.0, INK, (HPos::Center, VPos::Center))?;
        }
        text(&area, "dimension", (CELLS.0 - 10, at), 16.0, SOFT, (HPos::Right, VPos::Center))?;
        text(&area, super::units::SITES, (CELLS.0, at + 22), 16.0, SOFT, left)?;
        at += 52;
        paint_legend(&area, at, most)?;
        at += 30;
    }
    for line in &matrix.others {
        text(&area, line, (24, at), fitting(line, 16.5, WIDTH - 48), INK, left)?;
        at += 24;
    }
    area.present()?;
    Ok(())
}

fn paint_row(
    area: &Area<'_>,
    matrix: &Matrix,
    (n_seeds, one): (usize, &OutlierDimension),
    (top, cell): (i32, i32),
    most: f64,
) -> DrawResult {
    let middle = top + ROW / 2;
    text(area, &one.dim.to_string(), (CELLS.0 - 10, middle), 16.0, INK, (HPos::Right, VPos::Center))?;
    for (place, site) in matrix.sites.iter().enumerate() {
        let left = CELLS.0 + place as i32 * cell;
        let inside = [(left, top), (left + cell - 2, top + ROW - 3)];
        area.draw(&Rectangle::new(inside, GRID.stroke_width(width::HAIR)))?;
        let Some(found) = one.sites.iter().find(|at| at.site == *site) else { continue };
        let share = shade(found.ratio, most);
        area.draw(&Rectangle::new(inside, colour(1).mix(share).filled()))?;
        if n_seeds > 1 && cell >= 14 {
            let ink = if share > 0.6 { WHITE } else { INK };
            let at = (left + cell / 2 - 1, middle - 1);
            text(area, &found.seeds.to_string(), at, 14.0, ink, (HPos::Center, VPos::Center))?;
        }
    }
    let seeds = if n_seeds > 1 { format!("{} of {n_seeds} seeds, ", one.seeds.len()) } else { String::new() };
    let said = format!("{seeds}up to {} × median", digits(one.ratio));
    let right = CELLS.0 + matrix.sites.len() as i32 * cell + 10;
    text(area, &said, (right, middle), 15.5, SOFT, (HPos::Left, VPos::Center))
}

/// From light to dark, by the logarithm of the ratio.
fn shade(ratio: f64, most: f64) -> f64 {
    0.15 + 0.85 * (ratio.ln() / most.ln()).clamp(0.0, 1.0)
}

fn paint_legend(area: &Area<'_>, at: i32, most: f64) -> DrawResult {
    let words = "number: seeds; shade: largest RMS / RMS of the median dimension";
    text(area, words, (24, at), 16.0, SOFT, (HPos::Left, VPos::Center))?;
    for (place, power) in [0.25, 0.5, 0.75, 1.0].into_iter().enumerate() {
        let (left, ratio) = (520 + 84 * place as i32, most.powf(power));
        let swatch = [(left, at - 8), (left + 24, at + 8)];
        area.draw(&Rectangle::new(swatch, colour(1).mix(shade(ratio, most)).filled()))?;
        text(area, &digits(ratio), (left + 30, at), 16.0, INK, (HPos::Left, VPos::Center))?;
    }
    Ok(())
}
