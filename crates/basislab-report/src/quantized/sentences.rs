//! What is said of rounded models: the published directions, checked on them.

use super::{QuantizedModel, Treatment, WAYS};
use crate::figures::digits;
use basislab_stats::{Granularity, Levels};
use basislab_tables::{QuantizationRow, Quantized};

const INT8_PER_TENSOR: Option<(Levels, Granularity)> = Some((Levels::Int8, Granularity::Tensor));
const INT8_PER_TOKEN: Option<(Levels, Granularity)> = Some((Levels::Int8, Granularity::Token));

pub(super) fn of_one(model: &QuantizedModel) -> Vec<String> {
    let mut all = Vec::new();
    all.extend(rotated_alike(model));
    all.extend(tensor_against_token(model));
    all.extend(rotation(model));
    all.extend(special(model));
    let stream = &model.stream;
    for (what, why) in [
        ("No weights are rounded", &stream.weights_left_out),
        ("The stream is not rotated", &stream.rotation_left_out),
        ("Special dimensions are neither ablated nor kept", &stream.special_left_out),
    ] {
        if !why.is_empty() {
            all.push(format!("{what}: {why}."));
        }
    }
    all
}

/// A cost with its unit.
fn amount(model: &QuantizedModel, cost: f64) -> String {
    match model.has_loss() {
        true => format!("{} nats per token", digits(cost)),
        false => format!("{} % of the last stream", digits(100.0 * cost)),
    }
}

fn rotated_alike(model: &QuantizedModel) -> Option<String> {
    let row = model.row(Quantized::Nothing, None, Treatment::Rotated)?;
    let error = row.relative_error?.max(row.relative_error_later?);
    Some(format!("Rotated, with nothing rounded, the model was the same up to {error:.1e} of its last stream."))
}

fn tensor_against_token(model: &QuantizedModel) -> Option<String> {
    let row = |how| model.row(Quantized::Activations, how, Treatment::Plain);
    let (tensor, token) = (row(INT8_PER_TENSOR)?, row(INT8_PER_TOKEN)?);
    if tensor.destroyed || token.destroyed {
        let cost = |row: &QuantizationRow| match row.destroyed {
            true => "destroyed the model".to_owned(),
            false => format!("cost {}", model.cost(row).map_or_else(|| "-".to_owned(), |cost| amount(model, cost))),
        };
        let (tensor, token) = (cost(tensor), cost(token));
        return Some(format!("Int8 activations {tensor} with one scale per tensor; with one per token they {token}."));
    }
    let noise = |row: &QuantizationRow| 2.0 * row.standard_error.unwrap_or(0.0);
    let (tensor_noise, token_noise) = (noise(tensor), noise(token));
    let (tensor, token) = (model.cost(tensor)?, model.cost(token)?);
    let costs = format!(
        "Int8 activations cost {} with one scale per tensor and {} with one per token",
        amount(model, tensor),
        amount(model, token)
    );
    let published = "published for GPT-2 and models of its size: 32 to 46 times less loss";
    Some(if tensor <= tensor_noise {
        format!("{costs}; the former is within two standard errors of 0, so that there is no ratio ({published}).")
    } else if token <= token_noise {
        let least = digits(tensor / (token.max(0.0) + token_noise));
        format!(
            "{costs}; the latter is within two standard errors of 0, and at least {least} times less ({published}): the \
             direction is the published one."
        )
    } else if tensor > token {
        format!("{costs}, {} times less ({published}): the direction is the published one.", digits(tensor / token))
    } else {
        format!("{costs} ({published}): the direction is not the published one.")
    })
}

/// In how many ways of rounding the rotation lowered the cost.
fn rotation(model: &QuantizedModel) -> Option<String> {
    let mut parts = Vec::new();
    for (quantized, granularities) in WAYS {
        let (mut lower, mut higher, mut all) = (0, 0, 0);
        let ways = Levels::ALL.iter().flat_map(|levels| granularities.iter().map(move |one| Some((*levels, *one))));
        for how in ways {
            let row = |treatment| model.row(quantized, how, treatment);
            let (Some(plain), Some(rotated)) = (row(Treatment::Plain), row(Treatment::Rotated)) else { continue };
            all += 1;
            let change = match (plain.destroyed, rotated.destroyed) {
                (true, true) => 0.0,
                (true, false) => f64::NEG_INFINITY,
                (false, true) => f64::INFINITY,
                (false, false) => model.cost(rotated)? - model.cost(plain)?,
            };
            let noise = plain.standard_error.unwrap_or(0.0).hypot(rotated.standard_error.unwrap_or(0.0));
            // The losses of what is destroyed have no use, and neither have their errors.
            let noise = if change.is_finite() { 2.0 * noise } else { 0.0 };
            lower += usize::from(change < -noise);
            higher += usize::from(change > noise);
        }
        if all > 0 {
            parts.push(format!(
                "of {all} ways to round {quantized} it lowered the cost of {lower} and raised that of {higher}"
            ));
        }
    }
    let block = model.stream.hadamard_block?;
    let rule = "by more than two standard errors; what was destroyed both ways is neither";
    (!parts.is_empty()).then(|| {
        let d = model.model.d_model;
        format!("Rotation (blocks of {block} of {d}): {} ({rule}).", parts.join("; "))
    })
}

/// Whether the special dimensions carry what int8 activations per tensor cost.
fn special(model: &QuantizedModel) -> Option<String> {
    let row = |treatment| model.row(Quantized::Activations, INT8_PER_TENSOR, treatment);
    let (plain, kept) = (row(Treatment::Plain)?, row(Treatment::Kept)?);
    let mut text = match (plain.destroyed, kept.destroyed) {
        (true, true) => {
            "Int8 activations per tensor destroyed the model with and without its special dimensions in 16 \
                         bits: they do not carry the damage alone"
                .to_owned()
        }
        (true, false) => format!(
            "Int8 activations per tensor destroyed the model, and cost {} with its special dimensions in 16 bits: they \
             carried the damage",
            amount(model, model.cost(kept)?)
        ),
        _ => {
            let (was, is) = (model.cost(plain)?, model.cost(kept)?);
            let costs = format!(
                "With its special dimensions in 16 bits, int8 activations per tensor cost {} instead of {}",
                amount(model, is),
                amount(model, was)
            );
            match was > 2.0 * plain.standard_error.unwrap_or(0.0) && is < was {
                true => format!("{costs}: they carried {} % of it", digits(100.0 * (1.0 - is.max(0.0) / was))),
                false => format!("{costs}: they carried none of it"),
            }
        }
    };
    if let Some(ablated) = model.row(Quantized::Nothing, None, Treatment::Ablated) {
        text += &match (ablated.destroyed, ablated.loss_increase, ablated.relative_error_later) {
            (true, ..) => ". Ablating them destroyed the model before anything was rounded".to_owned(),
            (false, Some(increase), _) => format!(". Ablating them alone cost {}", amount(model, increase)),
            (false, None, Some(error)) => format!(". Ablating them alone changed {}", amount(model, error)),
            _ => String::new(),
        };
    }
    Some(text + ".")
}

/// Whether kurtosis ranks models as the cost of int8 activations per tensor does. Costs within two standard errors of 0 rank
/// nothing.
pub(super) fn of_several(models: &[QuantizedModel]) -> Vec<String> {
    let ranked = |model: &QuantizedModel| {
        let row = model.row(Quantized::Activations, INT8_PER_TENSOR, Treatment::Plain)?;
        let cost = model.cost(row).filter(|_| model.has_loss() && !row.destroyed)?;
        let is_one = row.standard_error.is_none_or(|error| cost.abs() > 2.0 * error);
        Some((model.name(), model.stream.kurtosis?, cost, is_one))
    };
    let all: Vec<_> = models.iter().filter_map(ranked).collect();
    if all.len() < 2 {
        return Vec::new();
    }
    let without = all.iter().filter(|one| !one.3).count();
    if without > 0 {
        return vec![format!(
            "Int8 activations per tensor cost {without} of {} models nothing beyond two standard errors: these costs rank no \
             models.",
            all.len()
        )];
    }
    let all: Vec<(String, f64, f64)> =
        all.into_iter().map(|(name, kurtosis, cost, _)| (name, kurtosis, cost)).collect();
    let order = |of: fn(&(String, f64, f64)) -> f64| {
        let mut all: Vec<&(String, f64, f64)> = all.iter().collect();
        all.sort_by(|a, b| of(b).total_cmp(&of(a)));
        all.into_iter().map(|one| one.0.as_str()).collect::<Vec<_>>().join(" > ")
    };
    let (kurtosis, cost) = (order(|one| one.1), order(|one| one.2));
    let left_out = match models.len() - all.len() {
        0 => String::new(),
        n => format!(" ({n} of {} left out: destroyed, or without a head)", models.len()),
    };
    let same = kurtosis == cost;
    vec![match same {
        true => format!(
            "Token kurtosis and the cost of int8 activations per tensor rank the models alike: {cost}{left_out}."
        ),
        false => format!(
            "By token kurtosis the models are {kurtosis}; by the cost of int8 activations per tensor {cost}{left_out}: kurtosis \
             alone does not rank these models."
        ),
    }]
}
