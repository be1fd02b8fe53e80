use super::close;
use crate::{PERMUTATION_DRAWS, Purpose, Verdict, decide_difference, gaussian, ordered_p, rank_slope, stream};

use std::collections::BTreeMap;

const ALPHA: f64 = 0.05;

/// Seeds with effects of their own, the given means of the arms, and noise that is a power of a normal: normal itself, or
/// with heavy tails.
fn sweep(index: u64, n_seeds: usize, means: &[f64], power: i32) -> Vec<Vec<f64>> {
    let mut rng = stream(index, Purpose::Simulation, 910);
    let mut row = || {
        let seed = 3.0 * gaussian(&mut rng);
        means.iter().map(|mean| seed + mean + gaussian(&mut rng).powi(power)).collect()
    };
    (0..n_seeds).map(|_| row()).collect()
}

fn decided(rows: &[Vec<f64>], smallest_slope: f64) -> Verdict {
    let slopes: Vec<f64> = rows.iter().map(|row| rank_slope(row).expect("several arms")).collect();
    decide_difference(&slopes, ordered_p(rows).expect("finite"), ALPHA, smallest_slope, Some(1.0), rows.len())
}

/// Every permutation written out, ranks from 1 and nothing centred, with one nested loop per seed.
fn p_by_hand(rows: &[[f64; 3]; 2]) -> f64 {
    const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let sum = |row: &[f64; 3], order: [usize; 3]| row[order[0]] + 2.0 * row[order[1]] + 3.0 * row[order[2]];
    let mut all = Vec::new();
    for first in ORDERS {
        for second in ORDERS {
            all.push(sum(&rows[0], first) + sum(&rows[1], second));
        }
    }
    let mean = all.iter().sum::<f64>() / 36.0;
    let observed = (all[0] - mean).abs();
    all.iter().filter(|sum| (*sum - mean).abs() >= observed - 1e-9).count() as f64 / 36.0
}

#[test]
fn p_is_that_of_all_orders_written_out() {
    for rows in [
        [[1.0, 2.0, 3.0], [-5.0, 0.5, 0.75]],
        [[1.0, 3.0, 2.0], [0.0, 4.0, 5.0]],
        [[0.1, 0.1, 0.2], [0.7, 0.9, 0.1]],
        [[3.0, 2.0, 1.0], [9.0, 4.0, 1.0]],
        [[1.0, 2.0, 1.0], [2.0, 1.0, 2.0]],
    ] {
        let found = ordered_p(&rows.map(|row| row.to_vec()));
        assert_eq!(found, Some(p_by_hand(&rows)), "{rows:?}");
    }
    assert_eq!(ordered_p(&[vec![1.0, 2.0, 3.0]]), Some(2.0 / 6.0), "up and down of six orders");
    assert_eq!(ordered_p(&[vec![1.0, 2.0, 3.0], vec![5.0, 7.0, 9.0]]), Some(2.0 / 36.0));
    assert_eq!(ordered_p(&[vec![2.0; 4], vec![3.0; 4]]), Some(1.0), "nothing rises");
}

// On ranks the test is Page's. scipy 1.17.1: stats.page_trend_test(rows, ranked=True, method="exact"), whose one-sided p
// is half of this one, for the null is symmetric.
#[test]
fn on_ranks_p_is_twice_that_of_pages_test_in_scipy() {
    let first = [[1.0, 2.0, 4.0, 3.0], [2.0, 1.0, 3.0, 4.0], [1.0, 3.0, 2.0, 4.0]].map(|row| row.to_vec());
    assert!(close(ordered_p(&first).expect("finite"), 2.0 * 0.007_016_782_407_407_407, 1e-14));
    let second =
        [[1.0, 3.0, 2.0], [2.0, 1.0, 3.0], [1.0, 2.0, 3.0], [1.0, 2.0, 3.0], [3.0, 1.0, 2.0]].map(|row| row.to_vec());
    assert!(close(ordered_p(&second).expect("finite"), 2.0 * 0.079_475_308_641_975_3, 1e-14));
}

#[test]
fn p_depends_on_neither_direction_scale_nor_seed_effects() {
    let rows = sweep(1, 4, &[0.0, 0.4, 0.9], 3);
    let p = ordered_p(&rows);
    let each = |change: &dyn Fn(usize, f64) -> f64| -> Vec<Vec<f64>> {
        rows.iter().enumerate().map(|(seed, row)| row.iter().map(|value| change(seed, *value)).collect()).collect()
    };
    assert_eq!(ordered_p(&each(&|_, value| -value)), p, "two-sided");
    assert_eq!(ordered_p(&each(&|_, value| 1e-30 * value)), p, "relative ties");
    assert_eq!(ordered_p(&each(&|seed, value| value + 8.0 * seed as f64)), p, "seeds are compared with themselves");
    assert_eq!(ordered_p(&[]), None);
    assert_eq!(ordered_p(&[vec![1.0]]), None);
    assert_eq!(ordered_p(&[vec![1.0, 2.0], vec![1.0]]), None);
    assert_eq!(ordered_p(&[vec![1.0, f64::NAN]]), None);
}

// 8 seeds of 3 arms have 6^8 = 1.7 million permutations, which the function draws; here they are counted, in whole numbers.
#[test]
fn drawn_p_values_are_those_of_the_enumeration() {
    let rows = [[0, 4, 1], [2, 1, 3], [0, 2, 5], [1, 0, 2], [3, 1, 1], [0, 1, 6], [2, 5, 0], [1, 2, 3]];
    let trends = rows.map(|[a, b, c]: [i32; 3]| [c - a, b - a, c - b, a - b, a - c, b - c]);
    let mut sums = BTreeMap::from([(0, 1u32)]);
    for trends in trends {
        let mut longer = BTreeMap::new();
        for (sum, ways) in sums {
            trends.iter().for_each(|trend| *longer.entry(sum + trend).or_default() += ways);
        }
        sums = longer;
    }
    let observed: i32 = trends.iter().map(|trends| trends[0]).sum();
    let extreme: u32 = sums.iter().filter(|(sum, _)| sum.abs() >= observed.abs()).map(|(_, ways)| ways).sum();
    let exact = f64::from(extreme) / 6f64.powi(8);
    let lists = rows.map(|row| row.map(f64::from).to_vec());
    let drawn = ordered_p(&lists).expect("finite");
    let error = (exact * (1.0 - exact) / f64::from(PERMUTATION_DRAWS)).sqrt();
    assert!((drawn - exact).abs() < 4.0 * error && exact > 0.01 && exact < 0.2, "{drawn}, exactly {exact} ± {error}");
    let steep = vec![vec![0.0, 1.0, 2.0, 3.0, 4.0]; 3];
    let p = ordered_p(&steep);
    assert!(p.is_some_and(|p| (1e-5..=3e-5).contains(&p)), "2 of 1.7 million, and never 0");
    assert_eq!(ordered_p(&steep), p, "a fixed stream");
}

// Arms without any difference: 2000 sweeps of 5 seeds and 3 arms, with normal noise and with heavy tails. p is at most 0.05
// in at most 5 % of them, and as half of those trends fall, at most 2.5 % of the sweeps support a rise. The bounds are
// these rates plus 1.645 binomial standard errors. The rate of p is bounded from below too, for a test that never rejects
// proves nothing; the t interval is what holds the verdict further down where tails are heavy.
#[test]
fn arms_without_difference_rarely_rise() {
    let sweeps = 2000;
    for (power, least) in [(1, 0.008), (3, 0.0)] {
        let (mut small, mut supported) = (0, 0);
        for index in 0..sweeps {
            let rows = sweep(index, 5, &[0.0; 3], power);
            small += u32::from(ordered_p(&rows).expect("finite") <= ALPHA);
            supported += u32::from(decided(&rows, 0.0) == Verdict::Supported);
        }
        let rate = |count: u32| f64::from(count) / sweeps as f64;
        assert!((0.035..=0.058).contains(&rate(small)), "p, power {power}: {}", rate(small));
        assert!((least..=0.031).contains(&rate(supported)), "supported, power {power}: {}", rate(supported));
    }
}

// 5 seeds, 3 arms, normal noise, a rise of 1.5 of its standard deviations per rank: the power is at least 0.85.
#[test]
fn a_rise_is_found_and_a_fall_is_its_opposite() {
    let sweep = |index, slope: f64| sweep(index, 5, &[0.0, slope, 2.0 * slope], 1);
    let count =
        |slope: f64, verdict: Verdict| (0..200).filter(|index| decided(&sweep(*index, slope), 0.0) == verdict).count();
    let (found, fallen) = (count(1.5, Verdict::Supported), count(-1.5, Verdict::Opposite));
    assert!(found >= 170, "{found} of 200");
    assert!(fallen >= 170, "{fallen} of 200");
    assert_eq!(count(-1.5, Verdict::Supported), 0);
}

#[test]
fn the_slope_is_that_of_least_squares() {
    assert_eq!(rank_slope(&[5.0, 7.0, 9.0, 11.0]), Some(2.0));
    assert_eq!(rank_slope(&[1.0, 0.0]), Some(-1.0));
    // By hand: (-1.5 * 1 - 0.5 * 5 + 0.5 * 2 + 1.5 * 8) / 5.
    assert_eq!(rank_slope(&[1.0, 5.0, 2.0, 8.0]), Some(1.8));
    assert_eq!((rank_slope(&[1.0]), rank_slope(&[])), (None, None));
}
