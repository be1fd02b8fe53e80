use crate::{bits_per_byte, unigram_loss};

fn near(found: Option<f64>, expected: f64) {
    let found = found.expect("defined");
    assert!((found - expected).abs() <= 1e-12 * expected, "{found}, not {expected}");
}

#[test]
fn the_unigram_code_costs_what_its_formula_says() {
    // Of 3 entries, all start at 1/2 of 3/2.
    let costs = [0.5 / 1.5, 1.5 / 2.5, 0.5 / 3.5, 2.5 / 4.5, 0.5 / 5.5_f64];
    near(unigram_loss(&[0, 0, 2, 0, 1], 3), -costs.iter().map(|p| p.ln()).sum::<f64>() / 5.0);
    near(unigram_loss(&[7], 49152), 49152f64.ln());
}

#[test]
fn the_code_does_not_depend_on_the_order_and_approaches_the_entropy() {
    // A Polya urn is exchangeable; its regret is of the order of (V - 1)/2 ln n / n.
    let n = 40_000;
    let mixed: Vec<u32> = (0..n).map(|at| u32::from(at % 4 == 0)).collect();
    let mut sorted = mixed.clone();
    sorted.sort_unstable();
    near(unigram_loss(&sorted, 2), unigram_loss(&mixed, 2).expect("defined"));
    let entropy = -(0.25f64 * 0.25f64.ln() + 0.75 * 0.75f64.ln());
    let regret = unigram_loss(&mixed, 2).expect("defined") - entropy;
    assert!(regret > 0.0 && regret < 2.0 * (f64::from(n)).ln() / f64::from(n), "{regret}");
}

#[test]
fn without_tokens_or_with_an_unknown_one_there_is_no_code() {
    assert_eq!(unigram_loss(&[], 3), None);
    assert_eq!(unigram_loss(&[0, 3], 3), None);
    assert_eq!(unigram_loss(&[0], 0), None);
}

#[test]
fn bits_per_byte_are_nats_per_token_in_another_unit() {
    // 10 tokens of 2 bits each over 4 bytes.
    near(bits_per_byte(2.0 * std::f64::consts::LN_2, 10, 4), 5.0);
    assert_eq!(bits_per_byte(1.0, 10, 0), None);
    assert_eq!(bits_per_byte(1.0, 0, 0), None);
}
