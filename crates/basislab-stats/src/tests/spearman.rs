use super::close;
use crate::{
    PERMUTATION_DRAWS, Purpose, Verdict, block_means, correlation_interval, decide_correlation, gaussian,
    smallest_spearman_p, spearman, spearman_p, stream,
};
use statrs::distribution::{ContinuousCDF, StudentsT};

const ALPHA: f64 = 0.05;
const X: [f64; 8] = [1.0, 2.0, 2.0, 3.5, 5.0, 5.0, 5.0, 8.0];
const Y: [f64; 8] = [0.3, 0.1, 0.4, 0.4, 0.9, 0.2, 0.7, 0.7];

// scipy 1.17.1: stats.spearmanr(x, y).statistic.
#[test]
fn correlations_with_ties_are_those_of_scipy() {
    assert!(close(spearman(&X, &Y).expect("spread"), 0.590_164_575_871_131_2, 1e-14));
    assert!(close(spearman(&X[..7], &Y[..7]).expect("spread"), 0.481_475_006_431_467_7, 1e-14));
    // By hand, without ties: 1 - 6 * (1 + 1 + 0 + 0 + 1 + 1) / (6 * 35).
    let y = [2.0, 1.0, 3.0, 4.0, 6.0, 5.0];
    assert!(close(spearman(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &y).expect("spread"), 31.0 / 35.0, 1e-14));
}

#[test]
fn only_ranks_count() {
    let rho = spearman(&X, &Y);
    assert_eq!(spearman(&X.map(f64::exp), &Y.map(|y| y.powi(3))), rho);
    assert_eq!(spearman(&Y, &X), rho);
    assert_eq!(spearman(&X, &Y.map(|y| -y)), rho.map(|rho| -rho));
    assert_eq!(spearman(&X, &X), Some(1.0));
    assert_eq!((spearman(&[1.0, 1.0], &[1.0, 2.0]), spearman(&[1.0], &[1.0])), (None, None));
    assert_eq!((spearman(&X, &Y[..7]), spearman(&[1.0, f64::NAN], &[1.0, 2.0])), (None, None));
    assert_eq!(spearman_p(&[1.0, 1.0, 1.0], &[1.0, 2.0, 3.0]), None);
}

// scipy 1.17.1 and itertools: the share of the 7! orders of y whose |stats.spearmanr| is at least that of the data.
#[test]
fn p_is_that_of_all_orders() {
    assert_eq!(spearman_p(&X[..7], &Y[..7]), Some(1380.0 / 5040.0));
    let y = [2.0, 1.0, 3.0, 4.0, 6.0, 5.0];
    assert_eq!(spearman_p(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0], &y), Some(24.0 / 720.0));
    assert_eq!(spearman_p(&y, &y.map(|y| -y)), Some(2.0 / 720.0), "two-sided");
    for n in [4, 5, 8] {
        let line: Vec<f64> = (0..n).map(f64::from).collect();
        assert_eq!(spearman_p(&line, &line), Some(smallest_spearman_p(n as usize)), "{n}");
    }
    assert_eq!(smallest_spearman_p(4), 2.0 / 24.0);
    assert_eq!((smallest_spearman_p(1), smallest_spearman_p(12)), (1.0, 1e-5));
}

// From 10 values on orders are drawn. With 12 of them t with 10 degrees of freedom is close to the exact null.
#[test]
fn drawn_p_values_are_fixed_and_near_the_t_approximation() {
    let x: Vec<f64> = (0..12).map(f64::from).collect();
    let y: Vec<f64> = x.iter().map(|x| (x * 7.0) % 12.0 + 0.5 * x).collect();
    let (rho, p) = (spearman(&x, &y).expect("spread"), spearman_p(&x, &y).expect("spread"));
    assert_eq!(spearman_p(&x, &y), Some(p));
    let t = rho * (10.0 / (1.0 - rho * rho)).sqrt();
    let expected = 2.0 * StudentsT::new(0.0, 1.0, 10.0).expect("degrees of freedom").sf(t.abs());
    let error = (expected / f64::from(PERMUTATION_DRAWS)).sqrt();
    assert!((p - expected).abs() < 0.05 * expected + 4.0 * error, "{p}, by t {expected}");
    assert_eq!(spearman_p(&x, &x), Some(1e-5), "never 0");
}

/// Two quantities of arms in blocks: `blocks` draws for each, `strength` of the first in the second, arms of one block
/// nearly alike.
fn arms(index: u64, blocks: usize, per_block: usize, strength: f64) -> (Vec<f64>, Vec<f64>) {
    let mut rng = stream(index, Purpose::Simulation, 920);
    let (mut x, mut y) = (Vec::new(), Vec::new());
    for _ in 0..blocks {
        let (first, own) = (gaussian(&mut rng), gaussian(&mut rng));
        for _ in 0..per_block {
            x.push(first + 0.1 * gaussian(&mut rng));
            y.push(strength * first + own + 0.1 * gaussian(&mut rng));
        }
    }
    (x, y)
}

fn places(blocks: usize, per_block: usize) -> Vec<Vec<usize>> {
    (0..blocks).map(|block| (block * per_block..(block + 1) * per_block).collect()).collect()
}

/// The verdict of 6 seeds that see the arms with noise, and its p.
fn decided(index: u64, blocks: usize, per_block: usize, strength: f64) -> (Verdict, f64) {
    let (x, y) = arms(index, blocks, per_block, strength);
    let mut rng = stream(index, Purpose::Simulation, 921);
    let mut seen =
        |values: &[f64]| -> Vec<f64> { values.iter().map(|value| value + 0.2 * gaussian(&mut rng)).collect() };
    let (of_x, of_y): (Vec<_>, Vec<_>) = (0..6).map(|_| (seen(&x), seen(&y))).unzip();
    let per_seed: Vec<f64> = of_x.iter().zip(&of_y).map(|(x, y)| spearman(x, y).expect("spread")).collect();
    let means = |seeds: &[Vec<f64>]| -> Vec<f64> {
        let of_arm = |arm: usize| seeds.iter().map(|seed| seed[arm]).sum::<f64>() / seeds.len() as f64;
        let arms: Vec<f64> = (0..blocks * per_block).map(of_arm).collect();
        block_means(&arms, &places(blocks, per_block)).expect("places of arms")
    };
    let (x, y) = (means(&of_x), means(&of_y));
    let (rho, p) = (spearman(&x, &y).expect("spread"), spearman_p(&x, &y).expect("spread"));
    (decide_correlation(&per_seed, rho, p, ALPHA, None, 6), p)
}

// Unrelated quantities of 6 blocks of 2 arms, 1500 experiments. The test is discrete: with 6 blocks the largest p below
// 0.05 is 0.033, which is its level. The bound is 5 % plus 1.645 binomial standard errors, as for the verdict.
#[test]
fn unrelated_quantities_rarely_correlate() {
    let all: Vec<(Verdict, f64)> = (0..1500).map(|index| decided(index, 6, 2, 0.0)).collect();
    let rate = |count: usize| count as f64 / all.len() as f64;
    let small = rate(all.iter().filter(|(_, p)| *p <= ALPHA).count());
    let supported = rate(all.iter().filter(|(verdict, _)| *verdict == Verdict::Supported).count());
    assert!((0.02..=0.059).contains(&small), "{small}");
    assert!(supported <= small && supported > 0.01, "{supported}");
}

// What blocks are for: 4 blocks of 2 arms taken for 8 arms. The null of 8 exchangeable arms is then wrong.
#[test]
fn arms_of_one_block_taken_for_independent_ones_correlate_too_often() {
    let small = |index: &u64| {
        let (x, y) = arms(*index, 4, 2, 0.0);
        spearman_p(&x, &y).expect("spread") <= ALPHA
    };
    let found = (0..60).filter(small).count();
    assert!(found >= 8, "{found} of 60, where 3 are right");
}

// 8 blocks of 1 arm, a Pearson correlation of 2 / sqrt(5) = 0.89 over arms: the power is about 0.8.
#[test]
fn a_correlation_is_found() {
    let found = (0..60).filter(|index| decided(*index, 8, 1, 2.0).0 == Verdict::Supported).count();
    assert!(found >= 42, "{found} of 60");
}

#[test]
fn blocks_have_the_means_of_their_arms() {
    let values = [1.0, 2.0, 4.0, 8.0];
    assert_eq!(block_means(&values, &[vec![0, 3], vec![1], vec![2]]), Some(vec![4.5, 2.0, 4.0]));
    assert_eq!((block_means(&values, &[vec![4]]), block_means(&values, &[vec![]])), (None, None));
}

#[test]
fn a_correlation_is_decided_by_the_whole_rule() {
    let spread = |mean: f64, half: f64| [mean - half, mean + half, mean, mean];
    let decide = |mean, half, p, sign| decide_correlation(&spread(mean, half), mean, p, ALPHA, sign, 4);
    assert_eq!(decide(0.8, 0.1, 0.01, None), Verdict::Supported);
    assert_eq!(decide(-0.8, 0.1, 0.01, None), Verdict::Supported, "without a sign, either");
    assert_eq!(decide(0.8, 0.1, 0.01, Some(1.0)), Verdict::Supported);
    assert_eq!(decide(0.8, 0.1, 0.01, Some(-1.0)), Verdict::Opposite);
    assert_eq!(decide(-0.8, 0.1, 0.01, Some(1.0)), Verdict::Opposite);
    assert_eq!(decide(0.8, 0.1, 0.0501, Some(1.0)), Verdict::Inconclusive, "p decides");
    assert_eq!(decide(0.3, 0.4, 0.01, None), Verdict::Inconclusive, "the interval holds 0");
    let against = decide_correlation(&spread(0.8, 0.1), -0.6, 0.01, ALPHA, None, 4);
    assert_eq!(against, Verdict::Inconclusive, "seeds and blocks disagree");
    assert_eq!(decide_correlation(&[0.8; 4], 0.8, 0.01, ALPHA, None, 5), Verdict::Exploratory);
    let cut = correlation_interval(&[1.0, 0.9, 1.0, 0.9], 0.95).expect("4 seeds");
    assert!(cut.high == 1.0 && cut.low > 0.8, "{cut:?}");
    assert_eq!(correlation_interval(&[1.0; 4], 0.95).map(|it| (it.low, it.high)), Some((1.0, 1.0)));
}
