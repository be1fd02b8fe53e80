//! Against NumPy (`scripts/special_fixture.py` writes the fixture), and by hand where there is little to find.

use super::{gaussian_residuals, residuals};
use crate::{dominant_tokens, largest_dimension_ratio, largest_values, random_basis, special_dimensions};
use serde_json::Value;

fn fixture() -> Value {
    serde_json::from_str(include_str!("../../../../tests/parity/special.json")).expect("the script writes JSON")
}

fn numbers(value: &Value) -> Vec<f64> {
    value.as_array().expect("a list").iter().map(|number| number.as_f64().expect("a number")).collect()
}

fn whole(value: &Value) -> usize {
    value.as_u64().expect("a whole number") as usize
}

/// All numbers of a column, in order.
fn same(found: impl IntoIterator<Item = f64>, expected: &Value, what: &str) {
    let (found, expected) = (found.into_iter().collect::<Vec<_>>(), numbers(expected));
    assert!(!expected.is_empty(), "{what}");
    assert_eq!(found.len(), expected.len(), "{what}: {found:?}");
    for (found, expected) in found.iter().zip(&expected) {
        assert!((found - expected).abs() <= 1e-12 * expected.abs(), "{what}: {found}, not {expected}");
    }
}

#[test]
fn special_dimensions_large_values_and_dominant_tokens_match_numpy() {
    let fixture = fixture();
    let rows: Vec<Vec<f64>> = fixture["x"].as_array().expect("rows").iter().map(numbers).collect();
    let x = residuals(rows.concat(), rows[0].len());
    let (n_ctx, count) = (whole(&fixture["n_ctx"]), whole(&fixture["count"]));
    let expected = &fixture["special"];
    let found = special_dimensions(&x, fixture["threshold"].as_f64().expect("a number"));
    same(found.iter().map(|one| one.dim as f64), &expected["dim"], "dim");
    same(found.iter().map(|one| one.size), &expected["size"], "size");
    same(found.iter().map(|one| one.ratio), &expected["ratio"], "ratio");
    assert!(found.iter().map(|one| one.rank).eq(1..=found.len()));
    same(largest_dimension_ratio(&x), &Value::from(vec![fixture["largest_dimension_ratio"].clone()]), "largest ratio");
    let (found, expected) = (largest_values(&x, n_ctx, count), &fixture["largest"]);
    same(found.iter().map(|one| one.token as f64), &expected["token"], "token of a large value");
    same(found.iter().map(|one| one.dim as f64), &expected["dim"], "dim of a large value");
    same(found.iter().map(|one| one.value), &expected["value"], "value");
    same(found.iter().filter_map(|one| one.ratio), &expected["ratio"], "ratio to the median magnitude");
    assert!(found.iter().all(|one| one.first == (one.token % n_ctx == 0)));
    let (found, expected) = (dominant_tokens(&x, n_ctx, count), &fixture["dominant"]);
    same(found.iter().map(|one| one.token as f64), &expected["token"], "dominant token");
    same(found.iter().map(|one| one.share), &expected["share"], "share");
    same(found.iter().map(|one| one.share_of_group), &expected["share_of_group"], "share of its group");
    assert!(found.iter().all(|one| one.first == (one.token % n_ctx == 0)));
}

#[test]
fn a_dimension_stands_out_of_random_bases_only_where_it_was_made_large() {
    let plain = gaussian_residuals(31, 400, 16);
    let threshold = |x: &crate::Residuals| {
        let ratios = (0..8).filter_map(|k| largest_dimension_ratio(&x.rotated(&random_basis(7, k, 16))));
        ratios.fold(0.0, f64::max)
    };
    assert!(special_dimensions(&plain, 1.2 * threshold(&plain)).is_empty());
    let large = super::changed(&plain, |_, dim, value| if dim == 11 { 30.0 * value } else { value });
    let found = special_dimensions(&large, threshold(&large));
    assert_eq!(found.iter().map(|one| one.dim).collect::<Vec<_>>(), [11]);
    // A single token of any norm does not make a dimension special.
    let one = super::changed(&plain, |token, dim, value| value + if dim == 3 && token == 40 { 1e6 } else { 0.0 });
    assert!(special_dimensions(&one, 1.2 * threshold(&plain)).is_empty());
    assert!(largest_dimension_ratio(&one).is_some_and(|ratio| ratio < 1.5));
}

#[test]
fn where_nothing_can_be_compared_nothing_is_found() {
    let dead = residuals([vec![5.0, 0.0, 0.0, 0.0], vec![3.0, 0.0, 0.0, 0.0]].concat(), 4);
    assert!(special_dimensions(&dead, 1.0).is_empty() && largest_dimension_ratio(&dead).is_none());
    let largest = largest_values(&dead, 2, 3);
    assert_eq!(
        largest.iter().map(|one| (one.token, one.dim, one.ratio)).collect::<Vec<_>>(),
        [(0, 0, None), (1, 0, None)]
    );
    // Sequences of one token have first tokens alone.
    let x = gaussian_residuals(32, 6, 4);
    assert!(largest_values(&x, 1, 3).iter().all(|one| one.first) && dominant_tokens(&x, 1, 3).len() == 3);
    assert!(largest_values(&x, 3, 0).is_empty() && dominant_tokens(&x, 3, 0).is_empty());
    let zero = residuals(vec![0.0; 8], 4);
    assert!(largest_values(&zero, 2, 3).is_empty() && dominant_tokens(&zero, 2, 3).is_empty());
}

#[test]
fn of_equal_ones_the_earlier_is_kept() {
    let equal = residuals(vec![1.0; 12], 4);
    let largest: Vec<_> = largest_values(&equal, 2, 2).iter().map(|one| (one.token, one.dim)).collect();
    assert_eq!(largest, [(0, 0), (0, 1), (1, 0), (1, 1)]);
    let dominant: Vec<_> = dominant_tokens(&equal, 3, 2).iter().map(|one| (one.token, one.share)).collect();
    assert_eq!(dominant, [(0, 1.0 / 3.0), (1, 1.0 / 3.0), (2, 1.0 / 3.0)]);
}
