//! The report on rounded models, from rows made by hand whose answers are known.

use super::measured::model;
use crate::fixture::name;
use crate::{Beside, Provenance, QuantizedAnswer, report_quantized, seal_quantized};
use basislab_stats::{Granularity, Levels};
use basislab_tables::{QuantizationRow, Quantized, QuantizedModelRow, SUMS, SpecialDimensions, write_table};
use std::fs;

const REFERENCE: f64 = 2.0;

/// A row whose loss is `increase` above the reference; `(rotated, special)` says what was done besides.
fn row(
    model: &str,
    quantized: Quantized,
    how: Option<(Levels, Granularity)>,
    (rotated, special): (bool, SpecialDimensions),
    increase: f64,
) -> QuantizationRow {
    QuantizationRow {
        model: name(model),
        step: 0,
        quantized,
        levels: how.map(|how| how.0),
        granularity: how.map(|how| how.1),
        rotated,
        special,
        loss: Some(REFERENCE + increase),
        perplexity: Some((REFERENCE + increase).exp()),
        loss_increase: Some(increase),
        loss_increase_alike: Some(increase),
        standard_error: Some(0.001),
        relative_error: Some(increase.abs()),
        relative_error_later: Some(increase.abs()),
        destroyed: increase > 10_f64.ln(),
    }
}

const PLAIN: (bool, SpecialDimensions) = (false, SpecialDimensions::Plain);
const ROTATED: (bool, SpecialDimensions) = (true, SpecialDimensions::Plain);

/// A model whose int8 activations cost these amounts per tensor and per token, and per tensor when rotated, kept and with
/// special dimensions ablated.
fn rows(model: &str, [tensor, token, rotated, kept, ablated]: [f64; 5]) -> Vec<QuantizationRow> {
    let int8 = |granularity| Some((Levels::Int8, granularity));
    let activations =
        |granularity, done, increase| row(model, Quantized::Activations, int8(granularity), done, increase);
    vec![
        row(model, Quantized::Nothing, None, PLAIN, 0.0),
        row(model, Quantized::Nothing, None, ROTATED, 1e-7),
        row(model, Quantized::Nothing, None, (false, SpecialDimensions::Ablated), ablated),
        activations(Granularity::Tensor, PLAIN, tensor),
        activations(Granularity::Token, PLAIN, token),
        activations(Granularity::Tensor, ROTATED, rotated),
        activations(Granularity::Tensor, (false, SpecialDimensions::Kept), kept),
    ]
}

fn stream(model: &str, kurtosis: f64) -> QuantizedModelRow {
    QuantizedModelRow {
        model: name(model),
        step: 0,
        kurtosis: Some(kurtosis),
        max_median: Some(12.0),
        first_token_size: Some(30.0),
        special_dimensions: "5, 2".to_owned(),
        hadamard_block: Some(8),
        weights_left_out: "they are stored as integers".to_owned(),
        rotation_left_out: String::new(),
        special_left_out: String::new(),
    }
}

/// Models with their kurtosis and costs.
pub(crate) fn answer(models: &[(&str, f64, [f64; 5])]) -> (QuantizedAnswer, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let all: Vec<_> = models.iter().map(|one| model(one.0, 0, 2, (Some(REFERENCE), Some(5.0)))).collect();
    write_table(dir.path(), &all).unwrap();
    write_table(dir.path(), &models.iter().map(|one| stream(one.0, one.1)).collect::<Vec<_>>()).unwrap();
    write_table(dir.path(), &models.iter().flat_map(|one| rows(one.0, one.2)).collect::<Vec<_>>()).unwrap();
    (report_quantized(dir.path(), Beside::default(), &Provenance::default()).unwrap(), dir)
}

fn expect(answer: &QuantizedAnswer, parts: &[&str]) {
    let said = answer.to_string();
    for part in parts {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}

#[test]
fn published_directions_are_checked() {
    let (answer, dir) = answer(&[("a", 20.0, [0.4, 0.01, 0.1, 0.3, 0.5])]);
    expect(
        &answer,
        &[
            "one scale per tensor and 0.0100 nats per token with one per token, 40.0 times less",
            "the direction is the published one",
            "of 1 ways to round activations it lowered the cost of 1 and raised that of 0",
            "cost 0.300 nats per token instead of 0.400 nats per token: they carried 25.0 % of it. Ablating them alone cost 0.500",
            "No weights are rounded: they are stored as integers.",
            "special dimensions 5, 2",
        ],
    );
    assert!(answer.sentences.is_empty(), "one model is not ranked");
    seal_quantized(dir.path()).unwrap();
    let sums = fs::read_to_string(dir.path().join(SUMS)).unwrap();
    for file in ["quantization.csv", "quantized_models.csv", "models.csv", "figures/quantization.a.svg"] {
        assert!(sums.contains(&format!("  {file}\n")), "{file}");
    }
    let json = serde_json::to_value(&answer).unwrap();
    assert_eq!(json["models"][0]["rows"].as_array().unwrap().len(), 7);
}

#[test]
fn what_is_within_its_error_or_the_other_way_round_is_said() {
    let (found, _dir) = answer(&[("a", 20.0, [0.4, 0.001, 0.4015, 0.4, 3.0])]);
    expect(
        &found,
        &[
            "the latter is within two standard errors of 0, and at least 133 times less",
            "it lowered the cost of 0 and raised that of 0",
            "they carried none of it. Ablating them destroyed the model before anything was rounded",
        ],
    );
    let (found, _dir) = answer(&[("a", 20.0, [0.01, 0.4, 0.1, 0.0, 0.0])]);
    expect(&found, &["the direction is not the published one", "lowered the cost of 0 and raised that of 1"]);
    let (found, _dir) = answer(&[("a", 20.0, [0.001, 0.4, 0.1, 0.0, 0.0])]);
    expect(&found, &["the former is within two standard errors of 0, so that there is no ratio"]);
}

#[test]
fn what_is_destroyed_is_not_ranked() {
    let (found, _dir) = answer(&[("a", 20.0, [3.0, 0.01, 0.1, 2.9, 0.0])]);
    expect(
        &found,
        &[
            "Int8 activations destroyed the model with one scale per tensor; with one per token they cost 0.0100",
            "lowered the cost of 1 and raised that of 0",
            "with and without its special dimensions in 16 bits: they do not carry the damage alone",
            "int8 tensor",
            "destroyed",
        ],
    );
    let (found, _dir) = answer(&[("a", 20.0, [3.0, 0.01, 4.0, 0.2, 0.0])]);
    expect(&found, &["cost 0.200 nats per token with its special dimensions in 16 bits: they carried the damage"]);
    expect(&found, &["lowered the cost of 0 and raised that of 0"]);
}

#[test]
fn several_models_are_ranked_by_kurtosis_and_by_cost() {
    let costs = |tensor| [tensor, 0.01, 0.1, 0.3, 0.0];
    let (found, _dir) = answer(&[("a", 20.0, costs(0.1)), ("b", 10.0, costs(0.3)), ("c", 30.0, costs(9.0))]);
    expect(
        &found,
        &[
            "By token kurtosis the models are a > b; by the cost of int8 activations per tensor b > a (1 of 3 left out: \
             destroyed, or without a head): kurtosis alone does not rank these models.",
            "All models;",
        ],
    );
    let (found, _dir) = answer(&[("a", 20.0, costs(0.4)), ("b", 10.0, costs(0.3))]);
    expect(&found, &["rank the models alike: a > b."]);
    // Two standard errors are 0.002.
    let (found, _dir) = answer(&[("a", 20.0, costs(0.4)), ("b", 10.0, costs(0.0019))]);
    expect(&found, &["cost 1 of 2 models nothing beyond two standard errors: these costs rank no models."]);
}
