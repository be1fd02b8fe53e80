//! The figures of `basislab measure`: kurtosis over depth, the sizes of dimensions that stand out, kurtosis over training.

use super::Drawing as FileDrawing;
use super::frame::{ACROSS, SOFT, UP, log_if_positive};
use super::layers::short_site;
use super::mark::{Dash, Figure, Key, Labels, Mark, Of, Weight, colour};
use super::scale::{Scale, Spacing, digits};
use super::units;
use crate::index::pooled_null;
use crate::measured::{KURTOSIS, MeasuredTables, Reading, Readings, over_null};
use basislab_config::{Site, Tokens, count};
use basislab_tables::{ModelRow, SpecialDimensionRow};
use std::collections::BTreeMap;

/// Lines of a figure at most, so that each has a colour of its own.
const LINES: usize = 8;
const DEPTH: &str = "kurtosis_over_depth.svg";
const TRAINING: &str = "kurtosis_over_training.svg";

/// The names of all figures that the directory can have.
pub(crate) fn measured_figure_names(tables: &MeasuredTables) -> Vec<String> {
    let sizes = tables.by_name().into_iter().map(|(name, _)| format!("special_dimensions.{name}.svg"));
    [TRAINING, DEPTH].map(str::to_owned).into_iter().chain(sizes).collect()
}

/// Every figure by its file name, in the order of [`measured_figure_names`]; `None` where there is no data for it.
pub(crate) fn measured_figures(tables: &MeasuredTables, readings: &Readings<'_>) -> Vec<(String, Option<FileDrawing>)> {
    let sizes = tables.by_name().into_iter().filter_map(|(_, checkpoints)| checkpoints.last().copied());
    let sizes = sizes.map(|model| special_dimensions(tables, readings, model));
    let figures = [over_training(tables, readings), over_depth(tables, readings)].into_iter().chain(sizes);
    measured_figure_names(tables).into_iter().zip(figures.map(|figure| figure.map(FileDrawing::Figure))).collect()
}

/// At most `most` of the places `0..n`, evenly, the first and the last among them; `most` is at least 2.
pub(crate) fn evenly(n: usize, most: usize) -> Vec<usize> {
    let most = most.min(n);
    (0..most).map(|place| place * (n - 1) / (most - 1).max(1)).collect()
}

/// Lines and bands of a figure before the axes are known.
#[derive(Default)]
struct Drawing {
    marks: Vec<Mark>,
    keys: Vec<Key>,
    values: Vec<f64>,
}

impl Drawing {
    fn line(&mut self, label: String, detail: String, points: Vec<(f64, f64)>) {
        if !points.is_empty() {
            let colour = colour(self.keys.len());
            self.values.extend(points.iter().map(|point| point.1));
            self.marks.push(Mark::Line { points, colour, weight: Weight::SOLID, of: Of::key(self.keys.len()) });
            self.keys.push(Key::Line { label, detail, colour, weight: Weight::SOLID });
        }
    }

    /// Behind the lines: mean and two standard deviations of one random basis at each place. Whether there are any.
    fn band(&mut self, places: &[(f64, &Reading)]) -> bool {
        let null = |&(x, reading): &(f64, &Reading)| {
            let (mean, sd) = pooled_null(&[&reading.draws]);
            Some((x, mean?, sd.unwrap_or(0.0)))
        };
        let nulls: Vec<(f64, f64, f64)> = places.iter().filter_map(null).collect();
        if nulls.is_empty() {
            return false;
        }
        let points: Vec<_> = nulls.iter().map(|(x, mean, sd)| (*x, mean - 2.0 * sd, mean + 2.0 * sd)).collect();
        self.values.extend(points.iter().flat_map(|&(_, low, high)| [low, high]));
        let middle = nulls.iter().map(|&(x, mean, _)| (x, mean)).collect();
        self.marks.insert(0, Mark::band(points, middle, places.iter().map(|place| place.0)));
        self.keys.push(Key::Band { label: "random bases".to_owned(), detail: "mean ± 2 sd of one".to_owned() });
        true
    }

    /// A line at 1, where each value is over its own random bases.
    fn level(&mut self) {
        self.values.push(1.0);
        self.marks.insert(0, Mark::Level { y: 1.0 });
        self.keys.push(Key::Level { label: "random bases".to_owned(), detail: String::new() });
    }

    fn finish(self, labels: Labels, x: Scale) -> Option<Figure> {
        let y = Scale::over(&self.values, log_if_positive(&self.values), 0.05, UP)?;
        Some(Figure { labels, x, y, marks: self.marks, keys: self.keys, dots: true, below: None })
    }
}

/// The sites as places of an axis.
fn axis_of_sites(sites: &[Site]) -> Option<Scale> {
    let places: Vec<f64> = (0..sites.len()).map(|place| place as f64).collect();
    let mut x = Scale::over(&places, Spacing::Linear, 0.04, ACROSS)?;
    x.ticks = evenly(sites.len(), 7).into_iter().map(|place| (places[place], short_site(sites[place]))).collect();
    Some(x)
}

/// `smollm2`, with the step where there is one.
fn name(model: &ModelRow) -> String {
    if model.step == 0 { model.model.to_string() } else { format!("{}, step {}", model.model, model.step) }
}

fn which(tokens: Tokens) -> &'static str {
    match tokens {
        Tokens::All => "all tokens",
        Tokens::First => "first tokens",
        Tokens::Rest | Tokens::Sample => "later tokens",
    }
}

/// One model: kurtosis of all, first and other tokens with the band of random bases. Several: each over its random bases.
pub(super) fn over_depth(tables: &MeasuredTables, readings: &Readings<'_>) -> Option<Figure> {
    if let [model] = &tables.models[..] {
        return depth_of_one(readings, model);
    }
    let has_sites = |model: &&ModelRow| !readings.sites_of_kurtosis(model).is_empty();
    let measured: Vec<&ModelRow> =
        tables.by_name().into_iter().flat_map(|(_, checkpoints)| checkpoints).filter(has_sites).collect();
    let shown: Vec<&ModelRow> = evenly(measured.len(), LINES).into_iter().map(|place| measured[place]).collect();
    let sites = readings.sites_of_kurtosis(shown.first()?);
    let same = shown.iter().all(|model| readings.sites_of_kurtosis(model) == sites);
    let one = shown.iter().all(|model| model.model == shown[0].model);
    let mut drawing = Drawing::default();
    for model in &shown {
        let sites = readings.sites_of_kurtosis(model);
        let last = (sites.len() - 1).max(1) as f64;
        let value = |(place, site): (usize, &Site)| {
            let ratio = over_null(readings.get(model, *site, readings.detailed(model), KURTOSIS)?)?;
            Some((if same { place as f64 } else { place as f64 / last }, ratio))
        };
        let points: Vec<(f64, f64)> = sites.iter().enumerate().filter_map(value).collect();
        let most = points.iter().map(|point| point.1).fold(0.0, f64::max);
        let label = if one { format!("step {}", model.step) } else { name(model) };
        drawing.line(label, format!("at most {}", digits(most)), points);
    }
    if drawing.values.is_empty() {
        return None;
    }
    drawing.level();
    let labels = Labels {
        title: format!(
            "Token kurtosis over that of random bases, through the depth of {}",
            if one { shown[0].model.as_str() } else { "models" }
        ),
        subtitle: format!(
            "{} of {}",
            shown.len(),
            count(tables.models.len(), if one { "measured checkpoint" } else { "measured model" })
        ),
        x: if same { units::SITES } else { "depth (share of the sites), from the embedding to the last site" }
            .to_owned(),
        y: "token kurtosis / mean of random bases (ratio)".to_owned(),
    };
    let x = if same { axis_of_sites(&sites) } else { Scale::over(&[0.0, 1.0], Spacing::Linear, 0.02, ACROSS) };
    drawing.finish(labels, x?)
}

fn depth_of_one(readings: &Readings<'_>, model: &ModelRow) -> Option<Figure> {
    let sites = readings.sites_of_kurtosis(model);
    let at = |tokens| {
        let reading =
            move |(place, site): (usize, &Site)| Some((place as f64, readings.get(model, *site, tokens, KURTOSIS)?));
        sites.iter().enumerate().filter_map(reading).collect::<Vec<(f64, &Reading)>>()
    };
    let mut drawing = Drawing::default();
    for tokens in [Tokens::First, Tokens::All, Tokens::Rest] {
        let points: Vec<_> = at(tokens).iter().filter_map(|(x, reading)| Some((*x, reading.value()?))).collect();
        let most = points.iter().map(|point| point.1).fold(0.0, f64::max);
        drawing.line(which(tokens).to_owned(), format!("at most {}", digits(most)), points);
    }
    let detailed = readings.detailed(model);
    let bases = drawing.band(&at(detailed));
    let measured = format!("{} in {}", count(model.tokens, "token"), count(model.sequences, "sequence"));
    let labels = Labels {
        title: format!("Token kurtosis through the depth of {}", name(model)),
        subtitle: match (bases, detailed) {
            (false, _) => measured,
            (true, Tokens::Rest) => {
                let sampled = at(detailed).first().map_or(0, |(_, reading)| reading.tokens_compared());
                format!("{measured}; random bases of {sampled} later tokens, which are all but the first of each")
            }
            (true, _) => format!("{measured}; random bases of {}", which(detailed)),
        },
        x: units::SITES.to_owned(),
        y: units::of_metric(KURTOSIS),
    };
    drawing.finish(labels, axis_of_sites(&sites)?)
}

/// The size of the dimensions that stand out, over the median dimension's, at the sites where they do.
pub(super) fn special_dimensions(tables: &MeasuredTables, readings: &Readings<'_>, model: &ModelRow) -> Option<Figure> {
    let special: Vec<&SpecialDimensionRow> =
        tables.special.iter().filter(|row| row.model == model.model && row.step == model.step).collect();
    let sites = readings.sites_of_kurtosis(model);
    let place = |site: Site| sites.iter().position(|one| *one == site).map(|place| place as f64);
    // By the largest ratio, of those at most ends of blocks.
    let mut sizes: BTreeMap<usize, (usize, f64)> = BTreeMap::new();
    for row in &special {
        let size = sizes.entry(row.dim).or_insert((row.persistence, row.ratio));
        size.1 = size.1.max(row.ratio);
    }
    let mut dims: Vec<usize> = sizes.keys().copied().collect();
    dims.sort_by(|a, b| sizes[b].0.cmp(&sizes[a].0).then(sizes[b].1.total_cmp(&sizes[a].1)));
    let ends = sites.iter().filter(|site| matches!(site, Site::ResidPost(_))).count();
    let mut drawing = Drawing::default();
    for &dim in dims.iter().take(LINES - 1) {
        let of_dim = special.iter().filter(|row| row.dim == dim);
        let mut points: Vec<(f64, f64)> = of_dim.filter_map(|row| Some((place(row.site)?, row.ratio))).collect();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        drawing.line(format!("dimension {dim}"), format!("{} of {ends} blocks", sizes[&dim].0), points);
    }
    let mut thresholds: Vec<(f64, f64)> =
        special.iter().filter_map(|row| Some((place(row.site)?, row.threshold))).collect();
    thresholds.sort_by(|a, b| a.0.total_cmp(&b.0));
    thresholds.dedup();
    if drawing.values.is_empty() || thresholds.is_empty() {
        return None;
    }
    let (weight, colour) = (Weight::Reference(Dash(8, 5)), SOFT);
    drawing.values.extend(thresholds.iter().map(|point| point.1));
    let of = Of::key(drawing.keys.len());
    drawing.marks.insert(0, Mark::Line { points: thresholds, colour, weight, of });
    let (label, detail) = ("random bases".to_owned(), "largest dimension".to_owned());
    drawing.keys.push(Key::Line { label, detail, colour, weight });
    drawing.marks.insert(0, Mark::Level { y: 1.0 });
    drawing.values.push(1.0);
    drawing.keys.push(Key::Level { label: "median dimension".to_owned(), detail: String::new() });
    let labels = Labels {
        title: format!("Dimensions of {} that stand out", name(model)),
        subtitle: format!(
            "{} of {}, at the sites where they do; every token scaled to RMS 1, first ones left out",
            dims.len().min(LINES - 1),
            count(dims.len(), "dimension")
        ),
        x: units::SITES.to_owned(),
        y: "size / size of the median dimension (ratio)".to_owned(),
    };
    drawing.finish(labels, axis_of_sites(&sites)?)
}

/// Kurtosis after the last block over training steps, of every model with several checkpoints: one with its band of random
/// bases, several over their random bases.
pub(super) fn over_training(tables: &MeasuredTables, readings: &Readings<'_>) -> Option<Figure> {
    let series: Vec<_> = tables.by_name().into_iter().filter(|(_, checkpoints)| checkpoints.len() > 1).collect();
    let mut drawing = Drawing::default();
    let mut steps = Vec::new();
    let mut site = None;
    for (model, checkpoints) in series.iter().take(LINES) {
        let read = checkpoints.iter().filter_map(|&row| {
            let (at, reading) = readings.at_end(row)?;
            Some((row.step as f64, at, reading))
        });
        let read: Vec<(f64, Site, &Reading)> = read.collect();
        site = read.last().map(|(_, at, _)| *at).or(site);
        let value = |reading: &Reading| if series.len() == 1 { reading.value() } else { over_null(reading) };
        let points: Vec<(f64, f64)> = read.iter().filter_map(|(x, _, reading)| Some((*x, value(reading)?))).collect();
        steps.extend(points.iter().map(|point| point.0));
        let end = points.last().map_or(String::new(), |point| format!("{} at the end", digits(point.1)));
        drawing.line(model.to_string(), end, points);
        if series.len() == 1 {
            let _ = drawing.band(&read.iter().map(|(x, _, reading)| (*x, *reading)).collect::<Vec<_>>());
        }
    }
    if drawing.values.is_empty() {
        return None;
    }
    let over = if series.len() == 1 { "" } else { " over that of random bases" };
    if series.len() > 1 {
        drawing.level();
    }
    let labels = Labels {
        title: format!("Token kurtosis{over} during training"),
        subtitle: match site.filter(|_| series.len() == 1) {
            Some(site) => format!("{site}, {}", count(steps.len(), "checkpoint")),
            None => "after the last block".to_owned(),
        },
        x: units::STEPS.to_owned(),
        y: match series.len() {
            1 => units::of_metric(KURTOSIS),
            _ => "token kurtosis / mean of random bases (ratio)".to_owned(),
        },
    };
    let x = Scale::over(&steps, Spacing::LogOnePlus, 0.02, ACROSS)?;
    drawing.finish(labels, x)
}
