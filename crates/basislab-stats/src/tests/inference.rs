use super::close;
use crate::inference::{decide_difference, decide_equivalence};
use crate::{Purpose, Verdict, gaussian, holm, mean_sd, sign_flip_p, stream, t_interval, tost};
use rand_core::Rng;

const ALPHA: f64 = 0.05;

// Two copies of one arm with different seeds: whatever is "supported" is false. Three comparisons, Holm, no smallest
// effect, so that nothing but the p-values and their correction holds the rate.
#[test]
fn a_a_sweeps_rarely_find_a_difference() {
    let (sweeps, n_seeds) = (1000, 8);
    let mut rng = stream(0, Purpose::Simulation, 900);
    let mut false_findings = 0;
    for _ in 0..sweeps {
        let mut comparison = || -> Vec<f64> { (0..n_seeds).map(|_| gaussian(&mut rng) - gaussian(&mut rng)).collect() };
        let values = [comparison(), comparison(), comparison()];
        let p: Vec<f64> = values.iter().map(|v| sign_flip_p(v).expect("8 seeds")).collect();
        let mut verdicts = values.iter().zip(holm(&p)).map(|(v, p)| decide_difference(v, p, ALPHA, 0.0, None, n_seeds));
        false_findings += u32::from(verdicts.any(|verdict| verdict == Verdict::Supported));
    }
    let rate = f64::from(false_findings) / f64::from(sweeps);
    assert!(rate <= 0.064, "0.05 and its 95 % simulation error: {rate}");
    assert!(rate >= 0.02, "a test that never rejects proves nothing: {rate}");
}

#[test]
fn a_real_difference_is_found() {
    let mut rng = stream(0, Purpose::Simulation, 901);
    let mut supported = 0;
    for _ in 0..200 {
        let values: Vec<f64> = (0..8).map(|_| 0.5 + 0.2 * gaussian(&mut rng)).collect();
        let p = holm(&[sign_flip_p(&values).expect("8 seeds"), 0.6, 0.9])[0];
        supported += u32::from(decide_difference(&values, p, ALPHA, 0.15, None, 8) == Verdict::Supported);
    }
    assert!(supported >= 180, "{supported} of 200 at 2.5 standard deviations");
}

// At the margin itself arms are not equivalent: TOST may say so in 5 % of sweeps at most.
#[test]
fn equivalence_at_the_margin_is_rare() {
    let mut rng = stream(0, Purpose::Simulation, 902);
    let passes = (0..2000)
        .filter(|_| {
            let values: Vec<f64> = (0..8).map(|_| 0.1 + 0.05 * gaussian(&mut rng)).collect();
            decide_equivalence(&values, 0.1, ALPHA, 8) == Verdict::Supported
        })
        .count();
    assert!((60..=130).contains(&passes), "{passes} of 2000, expected 100");
}

#[test]
fn t_intervals_cover() {
    let mut rng = stream(0, Purpose::Simulation, 903);
    let covered = (0..4000)
        .filter(|_| {
            let values: Vec<f64> = (0..5).map(|_| 2.0 + gaussian(&mut rng)).collect();
            let interval = t_interval(&values, 0.95).expect("5 values");
            interval.low <= 2.0 && 2.0 <= interval.high
        })
        .count();
    assert!((3730..=3870).contains(&covered), "{covered} of 4000, expected 3800");
}

#[test]
fn sign_flips_are_exact() {
    for n in [1, 3, 5, 8, 10] {
        let p = sign_flip_p(&vec![1.0; n]).expect("small");
        assert_eq!(p, 2.0 / 2f64.powi(n as i32), "all of one sign: the smallest p of {n} seeds");
    }
    assert_eq!(sign_flip_p(&[0.0; 6]), Some(1.0));
    assert_eq!(sign_flip_p(&[1.0, -1.0]), Some(1.0));
    // Only (+, +) and (-, -) reach 0.3.
    assert_eq!(sign_flip_p(&[0.1, 0.2]), Some(0.5));
    // Six of eight sums are 0.4 or more in magnitude; two of them fall short of it by a bit.
    assert_eq!(sign_flip_p(&[-0.3, 0.4, 0.3]), Some(0.75));
    let values = [0.7, -0.2, 0.4, 0.1, 0.9];
    let p = sign_flip_p(&values);
    assert_eq!(p, sign_flip_p(&values.map(|v| -v)), "two-sided");
    assert_eq!(p, sign_flip_p(&values.map(|v| 1e-200 * v)), "relative ties");
    assert_eq!(sign_flip_p(&[]), None);
    // Beyond 20 values the flips are drawn: an effect is still found, and none where signs cancel.
    let draws = f64::from((1u32 << 20) + 1);
    assert!(sign_flip_p(&[1.0; 24]).is_some_and(|p| p <= 3.0 / draws));
    let mixed: Vec<f64> = (0..24).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
    assert_eq!(sign_flip_p(&mixed), Some(1.0));
}

#[test]
fn holm_steps_down_and_never_back() {
    let close_to = |p: &[f64], expected: &[f64]| holm(p).iter().zip(expected).all(|(a, b)| close(*a, *b, 1e-15));
    assert!(close_to(&[0.01, 0.04, 0.03], &[0.03, 0.06, 0.06]));
    assert!(close_to(&[0.5, 0.6, 0.7], &[1.0, 1.0, 1.0]));
    assert!(close_to(&[0.02], &[0.02]));
    assert!(holm(&[]).is_empty());
}

#[test]
fn nothing_without_spread_is_nan() {
    // Three times 0.1 does not average to 0.1, and its dust must not become a standard deviation.
    assert_eq!(mean_sd(&[0.1; 3]), Some((0.1, 0.0)));
    let point = t_interval(&[0.1; 3], 0.95).expect("3 values");
    assert_eq!((point.estimate, point.low, point.high), (0.1, 0.1, 0.1));
    let p = |margin| tost(&[0.1; 3], margin, ALPHA).map(|t| (t.p, t.equivalent));
    assert_eq!(p(0.2), Some((0.0, true)));
    assert_eq!(p(0.1), Some((1.0, false)), "the margin itself is outside");
    assert_eq!(p(0.05), Some((1.0, false)));
    assert_eq!((mean_sd(&[1.0]), mean_sd(&[])), (None, None));
    assert!(t_interval(&[1.0], 0.95).is_none() && tost(&[1.0], 0.1, ALPHA).is_none());
}

#[test]
fn equivalent_means_p_below_alpha() {
    let mut rng = stream(0, Purpose::Simulation, 904);
    for _ in 0..300 {
        let values: Vec<f64> = (0..6).map(|_| 0.05 + 0.1 * gaussian(&mut rng)).collect();
        let t = tost(&values, 0.12, ALPHA).expect("6 values");
        assert_eq!(t.equivalent, t.p < ALPHA, "{t:?}");
    }
}

#[test]
fn differences_are_decided_by_the_whole_rule() {
    let spread = |mean: f64, half: f64| [mean - half, mean + half, mean - half, mean + half, mean];
    let decide = |mean, half, p, sign| decide_difference(&spread(mean, half), p, ALPHA, 0.15, sign, 5);
    let either = |mean, half, p| decide(mean, half, p, None);
    assert_eq!(either(0.5, 0.05, 0.01), Verdict::Supported);
    assert_eq!(either(-0.5, 0.05, 0.01), Verdict::Supported, "two-sided");
    assert_eq!(either(0.5, 0.05, ALPHA), Verdict::Supported, "at alpha");
    assert_eq!(either(0.5, 0.05, 0.0501), Verdict::Inconclusive, "the corrected p decides");
    assert_eq!(either(0.5, 2.0, 0.01), Verdict::Inconclusive, "the interval holds 0");
    assert_eq!(either(0.14, 0.005, 0.01), Verdict::Negligible, "clear, but smaller than matters");
    assert_eq!(either(0.14, 0.05, 0.01), Verdict::Inconclusive, "too small, but not surely");
    assert_eq!(either(0.0, 0.02, 1.0), Verdict::Negligible);
    for (sign, mean) in [(1.0, 0.5), (-1.0, -0.5)] {
        assert_eq!(decide(mean, 0.05, 0.01, Some(sign)), Verdict::Supported, "on the claimed side");
        assert_eq!(decide(-mean, 0.05, 0.01, Some(sign)), Verdict::Opposite, "on the other side");
        assert_eq!(decide(-mean, 0.05, 0.0501, Some(sign)), Verdict::Inconclusive);
        assert_eq!(decide(-0.2 * mean, 0.005, 0.01, Some(sign)), Verdict::Negligible, "whatever its side");
        assert_eq!(decide(-0.28 * mean, 0.05, 0.01, Some(sign)), Verdict::Inconclusive);
    }
    let few = spread(0.5, 0.05);
    assert_eq!(decide_difference(&few, 0.01, ALPHA, 0.15, None, 6), Verdict::Exploratory);
    assert_eq!(decide_difference(&few[..1], 0.01, ALPHA, 0.15, None, 1), Verdict::Exploratory, "no spread to judge by");
}

#[test]
fn equivalences_are_decided_by_the_interval() {
    let decide = |mean: f64, half: f64| decide_equivalence(&[mean - half, mean + half, mean, mean], 0.1, ALPHA, 4);
    assert_eq!(decide(0.0, 0.02), Verdict::Supported);
    assert_eq!(decide(0.3, 0.02), Verdict::Refuted);
    assert_eq!(decide(-0.3, 0.02), Verdict::Refuted);
    assert_eq!(decide(0.1, 0.02), Verdict::Inconclusive);
    assert_eq!(decide(0.0, 0.5), Verdict::Inconclusive);
    assert_eq!(decide_equivalence(&[0.0, 0.01, 0.0], 0.1, ALPHA, 4), Verdict::Exploratory);
}

#[test]
fn verdicts_are_written_in_lower_case() {
    use Verdict::*;
    let words = [Supported, Opposite, Negligible, Refuted, Inconclusive, Exploratory, Control].map(|v| v.to_string());
    assert_eq!(words, Verdict::NAMES);
    assert!(Verdict::ALL.iter().zip(Verdict::NAMES).all(|(verdict, name)| verdict.name() == *name));
}

#[test]
fn drawn_signs_are_those_of_the_stream_one_draw_after_another() {
    // Two words of bits for each draw.
    let values: Vec<f64> = (0..70).map(|at| f64::from(at % 7) - 2.7).collect();
    let (draws, n) = (1u32 << 20, values.len());
    let observed = values.iter().sum::<f64>().abs();
    let scale: f64 = values.iter().map(|value| value.abs()).sum();
    let mut rng = stream(n as u64, Purpose::Simulation, u64::MAX);
    let mut hits = 0;
    for _ in 0..draws {
        let words = [rng.next_u64(), rng.next_u64()];
        let signed = values.iter().enumerate().map(|(at, value)| match words[at / 64] >> (at % 64) & 1 {
            1 => -value,
            _ => *value,
        });
        hits += u32::from(signed.sum::<f64>().abs() >= observed - 1e-12 * scale);
    }
    assert!(hits > 100, "{hits}");
    assert_eq!(sign_flip_p(&values), Some(f64::from(1 + hits) / f64::from(1 + draws)));
}
