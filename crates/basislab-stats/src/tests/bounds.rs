//! Means against a threshold, and against a published number.

use super::close;
use crate::{Purpose, Side, Verdict, bound_p, decide_bound, decide_near, gaussian, near_margin, near_p, stream};

const ALPHA: f64 = 0.05;
const VALUES: [f64; 6] = [2.1, 2.4, 1.9, 2.6, 2.2, 2.3];

fn drawn(index: u64, mean: f64, sd: f64) -> Vec<f64> {
    let mut rng = stream(index, Purpose::Simulation, 930);
    (0..8).map(|_| mean + sd * gaussian(&mut rng)).collect()
}

fn decided(values: &[f64], threshold: f64, side: Side) -> Verdict {
    decide_bound(values, threshold, side, bound_p(values, threshold, side).expect("8 seeds"), ALPHA, 8)
}

// scipy 1.17.1: stats.ttest_1samp(values, threshold, alternative=...).pvalue, for near-value the larger of two.
#[test]
fn p_values_are_those_of_scipy() {
    let p = bound_p(&VALUES, 2.5, Side::AtMost).expect("6 values");
    assert!(close(p, 0.026_551_745_875_898_935, 1e-10), "{p}");
    let p = bound_p(&VALUES, 2.1, Side::AtLeast).expect("6 values");
    assert!(close(p, 0.09538797575555127, 1e-10), "{p}");
    let p = near_p(&VALUES, 2.2, 0.1, ALPHA).expect("6 values");
    assert!(close(p, 0.073_565_214_748_868_21, 1e-10), "{p}");
    assert_eq!(bound_p(&[1.0], 2.0, Side::AtMost), None);
}

// The mean is the threshold itself, where an error is most likely: each of the four verdicts "supported" and
// "refuted" of the two sides comes out in 5 % of 4000 sets of 8 seeds. The bounds are 3 binomial standard errors from
// that, for there are several rates to be held.
#[test]
fn at_the_threshold_errors_are_rare() {
    let sets: Vec<Vec<f64>> = (0..4000).map(|index| drawn(index, 3.0, 0.5)).collect();
    for side in [Side::AtMost, Side::AtLeast] {
        for verdict in [Verdict::Supported, Verdict::Refuted] {
            let count = sets.iter().filter(|values| decided(values, 3.0, side) == verdict).count();
            let rate = count as f64 / 4000.0;
            assert!((0.0397..=0.0603).contains(&rate), "{side:?} {verdict}: {rate}");
        }
    }
}

// The mean is 1.5 standard deviations from the threshold, 8 seeds: the power of the one-sided test is 0.99.
#[test]
fn a_mean_on_one_side_of_its_threshold_is_told() {
    for (mean, side, expected) in [
        (2.25, Side::AtMost, Verdict::Supported),
        (3.75, Side::AtMost, Verdict::Refuted),
        (3.75, Side::AtLeast, Verdict::Supported),
        (2.25, Side::AtLeast, Verdict::Refuted),
    ] {
        let found = (0..300).filter(|index| decided(&drawn(*index, mean, 0.5), 3.0, side) == expected).count();
        assert!(found >= 285, "{side:?} of {mean}: {expected} {found} of 300");
    }
}

#[test]
fn a_bound_is_decided_by_the_whole_rule() {
    let of = |values: &[f64], p, side| decide_bound(values, 3.0, side, p, ALPHA, 4);
    assert_eq!(of(&[2.0, 2.1, 2.0, 2.1], 0.05, Side::AtMost), Verdict::Supported);
    assert_eq!(of(&[2.0, 2.1, 2.0, 2.1], 0.0501, Side::AtMost), Verdict::Inconclusive, "the corrected p decides");
    assert_eq!(of(&[2.0, 3.9, 2.0, 3.9], 0.01, Side::AtMost), Verdict::Inconclusive, "the bound decides too");
    assert_eq!(of(&[2.0, 2.1, 2.0, 2.1], 1.0, Side::AtLeast), Verdict::Refuted);
    assert_eq!(of(&[2.0, 2.1, 2.0], 0.01, Side::AtMost), Verdict::Exploratory);
    assert_eq!(of(&[2.0], 0.01, Side::AtMost), Verdict::Exploratory);
    // Without spread the mean decides, and the threshold itself is on both sides.
    for (value, most, least) in [(2.9, 0.0, 1.0), (3.0, 0.0, 0.0), (3.1, 1.0, 0.0)] {
        let values = [value; 4];
        for (side, p) in [(Side::AtMost, most), (Side::AtLeast, least)] {
            assert_eq!(bound_p(&values, 3.0, side), Some(p), "{value} {side:?}");
            let verdict = if p == 0.0 { Verdict::Supported } else { Verdict::Refuted };
            assert_eq!(of(&values, p, side), verdict, "{value} {side:?}");
        }
    }
}

// The mean is at the edge of the band, on either side: a TOST calls it near in at most 5 % of 3000 sets, here about 5 %,
// and far in at most 5 %. The bounds are 3 binomial standard errors from 5 %.
#[test]
fn at_the_edge_of_the_band_errors_are_rare() {
    for mean in [-4.4, -3.6] {
        let verdicts: Vec<Verdict> =
            (0..3000).map(|index| decide_near(&drawn(index, mean, 0.2), -4.0, 0.1, ALPHA, 8)).collect();
        for verdict in [Verdict::Supported, Verdict::Refuted] {
            let rate = verdicts.iter().filter(|one| **one == verdict).count() as f64 / 3000.0;
            assert!((0.0381..=0.0619).contains(&rate), "{mean} {verdict}: {rate}");
        }
    }
}

// A mean at the published number with seeds that spread by half the tolerance is near it; one off by three times the
// tolerance is far.
#[test]
fn a_mean_near_its_number_is_told() {
    let count = |mean: f64, verdict: Verdict| {
        (0..300).filter(|index| decide_near(&drawn(*index, mean, 0.2), 4.0, 0.1, ALPHA, 8) == verdict).count()
    };
    let (near, far) = (count(4.0, Verdict::Supported), count(5.2, Verdict::Refuted));
    assert!(near >= 285 && far >= 285, "{near} and {far} of 300");
    assert_eq!(near_margin(-4.0, 0.1), 0.4);
    assert_eq!(decide_near(&[4.0; 3], 4.0, 0.1, ALPHA, 4), Verdict::Exploratory);
    assert_eq!(decide_near(&[4.5; 4], 4.0, 0.1, ALPHA, 4), Verdict::Refuted, "no spread");
}
