//! The same numbers as NumPy and SciPy: `scripts/metric_fixture.py` writes the fixture.

use super::residuals;
use crate::{
    METRICS, MetricFn, Residuals, dimensions, exchange_p, holm, max_t, mean_sd, metric, sign_flip_p, t_interval, tost,
};
use serde_json::{Map, Value};

const TOLERANCE: f64 = 1e-12;

#[test]
fn metrics_match_numpy_and_scipy() {
    let fixture = fixture();
    for (matrix, entry) in object(&fixture["matrices"]) {
        let x = matrix_of(entry);
        for m in METRICS {
            let MetricFn::Matrix(of) = m.of else { continue };
            let expected = number(&entry["metrics"][m.name]);
            same(of(&x).expect("defined"), expected, &format!("{} of {matrix}", m.name));
        }
        assert_eq!(object(&entry["metrics"]).len(), METRICS.len() - 1, "one metric is of several layers");
    }
    let layers: Vec<Residuals> = list(&fixture["stack"]["layers"])
        .iter()
        .map(|name| matrix_of(&fixture["matrices"][name.as_str().expect("a name")]))
        .collect();
    let of = metric("dettmers_outlier_features").expect("known").of;
    assert_eq!(of.of(&layers), Some(number(&fixture["stack"]["dettmers_outlier_features"])));
}

#[test]
fn dimension_moments_match_scipy() {
    for (matrix, entry) in object(&fixture()["matrices"]) {
        for m in dimensions(&matrix_of(entry)) {
            let columns = [
                ("mean", m.mean),
                ("rms", m.rms),
                ("variance", m.variance),
                ("skewness", m.skewness.expect("spread")),
                ("kurtosis", m.kurtosis.expect("spread")),
                ("min", m.min),
                ("max", m.max),
                ("max_abs", m.max_abs),
                ("share_of_energy", m.share_of_energy),
            ];
            for (column, value) in columns {
                let expected = number(&entry["dimensions"][column][m.dim]);
                same(value, expected, &format!("{column} of dimension {} of {matrix}", m.dim));
            }
        }
    }
}

#[test]
fn paired_statistics_match_scipy() {
    for (name, entry) in object(&fixture()["samples"]) {
        let values = numbers(&entry["values"]);
        let (mean, sd) = mean_sd(&values).expect("several values");
        same(mean, number(&entry["mean"]), name);
        same(sd, number(&entry["sd"]), name);
        same(
            sign_flip_p(&values).expect("few values"),
            number(&entry["sign_flip_p"]),
            &format!("sign flips of {name}"),
        );
        for (confidence, ends) in object(&entry["t_intervals"]) {
            let found = t_interval(&values, confidence.parse().expect("a level")).expect("several values");
            let (what, size) = (format!("{confidence} interval of {name}"), mean.abs() + sd);
            // An end may lie near 0 by chance: relative to the sample's size.
            for (end, expected) in [found.low, found.high].into_iter().zip(numbers(ends)) {
                assert!((end - expected).abs() <= TOLERANCE * size, "{what}: {end}, not {expected}");
            }
        }
        for case in list(&entry["tost"]) {
            let found = tost(&values, number(&case["margin"]), number(&case["alpha"])).expect("several values");
            same(found.p, number(&case["p"]), &format!("TOST of {name}"));
            assert_eq!(Some(found.equivalent), case["equivalent"].as_bool(), "TOST of {name}");
        }
    }
}

#[test]
fn holm_matches_closed_testing() {
    for case in list(&fixture()["holm"]) {
        for (found, expected) in holm(&numbers(&case["p"])).into_iter().zip(numbers(&case["adjusted"])) {
            same(found, expected, "Holm");
        }
    }
}

#[test]
fn tests_over_random_bases_match_brute_force() {
    for case in list(&fixture()["exchange"]) {
        let lists: Vec<Vec<f64>> = list(&case["lists"]).iter().map(numbers).collect();
        let found = exchange_p(&lists).expect("finite");
        same(found, number(&case["p"]), &format!("exchangeability of {} seeds", lists.len()));
    }
    for case in list(&fixture()["max_t"]) {
        let statistics: Vec<Vec<f64>> = list(&case["values"]).iter().map(numbers).collect();
        let found = max_t(&statistics).expect("finite");
        same(found.p, number(&case["p"]), "p over several statistics");
        assert_eq!(found.largest as f64, number(&case["largest"]));
        for (z, expected) in found.z.into_iter().zip(numbers(&case["z"])) {
            assert!((z - expected).abs() < 1e-12, "{z}, not {expected}");
        }
    }
}

fn fixture() -> Value {
    serde_json::from_str(include_str!("../../../../tests/parity/metrics.json")).expect("the script writes JSON")
}

fn same(found: f64, expected: f64, what: &str) {
    assert!((found - expected).abs() <= TOLERANCE * expected.abs(), "{what}: {found}, not {expected}");
}

fn matrix_of(entry: &Value) -> Residuals {
    residuals(numbers(&entry["values"]), number(&entry["d_model"]) as usize)
}

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().expect("an object")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

fn number(value: &Value) -> f64 {
    value.as_f64().expect("a number")
}

fn numbers(value: &Value) -> Vec<f64> {
    list(value).iter().map(number).collect()
}
