//! The figure of `basislab quantize`: what each way of rounding costs, int8 above int4.

use super::Drawing;
use super::frame::{ACROSS, LOWER, UPPER};
use super::mark::{Figure, Key, Labels, Mark, Of, Panel, Weight, colour};
use super::scale::{Scale, Spacing};
use crate::quantized::{QuantizedModel, Treatment, WAYS};
use basislab_stats::{Granularity, Levels};
use basislab_tables::Quantized;

/// Costs below it are drawn there: nats per token, or relative error.
const LEAST: f64 = 1e-3;
/// Between the points of two treatments at one place, as a share of the axis.
const BESIDE: f64 = 0.012;

/// One figure for each model: `quantization.NAME.svg`, with the step where several have the name.
pub(crate) fn quantized_figure_names(models: &[QuantizedModel]) -> Vec<String> {
    let is_series =
        |one: &QuantizedModel| models.iter().filter(|other| other.model.model == one.model.model).count() > 1;
    let name = |one: &QuantizedModel| match is_series(one) {
        true => format!("quantization.{}.{}.svg", one.model.model, one.model.step),
        false => format!("quantization.{}.svg", one.model.model),
    };
    models.iter().map(name).collect()
}

/// Every figure by its file name; `None` where there is no data for it.
pub(crate) fn quantized_figures(models: &[QuantizedModel]) -> Vec<(String, Option<Drawing>)> {
    let figures = models.iter().map(|model| costs(model).map(Drawing::Figure));
    quantized_figure_names(models).into_iter().zip(figures).collect()
}

/// Places of the ways of rounding: activations, a gap, weights.
fn places() -> Vec<(f64, Quantized, Granularity)> {
    let mut all = Vec::new();
    for (group, (quantized, granularities)) in WAYS.into_iter().enumerate() {
        let start = all.len() + group;
        all.extend(granularities.iter().enumerate().map(|(at, one)| ((start + at) as f64, quantized, *one)));
    }
    all
}

fn costs(model: &QuantizedModel) -> Option<Figure> {
    let places = places();
    let there = |quantized| model.rows.iter().any(|row| row.quantized == quantized);
    let places: Vec<_> = places.into_iter().filter(|(_, quantized, _)| there(*quantized)).collect();
    let [int8, int4] = [Levels::Int8, Levels::Int4].map(|levels| panel(model, &places, levels));
    let mut values: Vec<f64> = int8.1.iter().chain(&int4.1).copied().collect();
    if values.is_empty() {
        return None;
    }
    // Small differences do not fill the panel.
    values.extend([LEAST, 1.0]);
    let mut keys: Vec<Key> = Vec::new();
    for (index, treatment) in Treatment::ALL.into_iter().enumerate() {
        let is_there = |(_, quantized, granularity): &(f64, Quantized, Granularity)| {
            model.row(*quantized, Some((Levels::Int8, *granularity)), treatment).is_some()
        };
        if places.iter().any(is_there) {
            let (label, detail) = (treatment.in_words().to_owned(), String::new());
            keys.push(Key::Line { label, detail, colour: colour(index), weight: Weight::SOLID });
        }
    }
    if model.rows.iter().any(|row| row.destroyed) {
        keys.push(Key::Cross { label: "destroyed".to_owned() });
    }
    let xs: Vec<f64> = places.iter().map(|place| place.0).collect();
    let mut x = Scale::over(&xs, Spacing::Linear, 0.06, ACROSS)?;
    x.ticks = places.iter().map(|(x, quantized, granularity)| (*x, tick(*quantized, *granularity))).collect();
    let scale = |pixels| {
        let mut scale = Scale::over(&values, Spacing::Log, 0.08, pixels)?;
        scale.keep_apart(|_| 19.0);
        Some(scale)
    };
    let (unit, what) = match model.has_loss() {
        true => ("nats", "Increase of the loss"),
        false => ("rel. error", "Relative error of the last stream"),
    };
    let labels = Labels {
        title: format!("{what} of {} with rounded numbers", model.name()),
        subtitle: format!(
            "int8 above, int4 below; costs below {LEAST} are drawn there, crosses: perplexity above 10 times"
        ),
        x: "what shares a scale (A: activations, W: weights)".to_owned(),
        y: format!("int8 ({unit}), log axis"),
    };
    let below = Panel { y: scale(LOWER)?, label: format!("int4 ({unit}), log axis"), marks: int4.0 };
    Some(Figure { labels, x, y: scale(UPPER)?, marks: int8.0, keys, dots: true, below: Some(below) })
}

fn tick(quantized: Quantized, granularity: Granularity) -> String {
    let letter = if quantized == Quantized::Weights { "W" } else { "A" };
    format!("{letter} {}", granularity.name().trim_start_matches("group-"))
}

/// The marks of one panel and every number in it: a line for each treatment of activations, and of weights, broken where the
/// model is destroyed.
fn panel(model: &QuantizedModel, places: &[(f64, Quantized, Granularity)], levels: Levels) -> (Vec<Mark>, Vec<f64>) {
    let (mut marks, mut values, mut destroyed) = (Vec::new(), Vec::new(), Vec::new());
    for (index, treatment) in Treatment::ALL.into_iter().enumerate() {
        let span = places.last().map_or(0.0, |last| last.0 - places[0].0);
        let beside = BESIDE * span * (index as f64 - 1.5);
        let mut line = |points: &mut Vec<(f64, f64)>| {
            let points = std::mem::take(points);
            if !points.is_empty() {
                marks.push(Mark::Line { points, colour: colour(index), weight: Weight::SOLID, of: Of::key(index) });
            }
        };
        for (group, _) in WAYS {
            let mut points: Vec<(f64, f64)> = Vec::new();
            for &(x, quantized, granularity) in places.iter().filter(|(_, quantized, _)| *quantized == group) {
                let x = x + beside;
                let Some(row) = model.row(quantized, Some((levels, granularity)), treatment) else { continue };
                if row.destroyed {
                    destroyed.push(x);
                    line(&mut points);
                } else if let Some(cost) = model.cost(row) {
                    values.push(cost.max(LEAST));
                    points.push((x, cost.max(LEAST)));
                }
            }
            line(&mut points);
        }
    }
    marks.push(Mark::Cross { at: destroyed });
    (marks, values)
}
