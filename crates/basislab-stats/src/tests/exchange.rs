//! The exact tests over random bases: their p by hand, their level where no basis is special, their power.

use super::close;
use crate::inference::{exchange_p, max_t, sign_flip_p};
use crate::{Method, PERMUTATION_DRAWS, Purpose, exchange_method, gaussian, stream};
use rand_chacha::ChaCha8Rng;

const ALPHA: f64 = 0.05;

/// A skewed draw with a long tail to the right, as logs of kurtoses have.
fn skewed(rng: &mut ChaCha8Rng) -> f64 {
    (0.8 * gaussian(rng)).exp()
}

#[test]
fn p_of_one_seed_is_its_rank_by_distance_from_the_mean() {
    // Mean 2: distances 2, 1, 1, 2, 2.
    assert_eq!(exchange_p(&[vec![4.0, 1.0, 1.0, 4.0, 0.0]]), Some(3.0 / 5.0));
    assert_eq!(exchange_p(&[vec![1.0, 4.0, 1.0, 4.0, 0.0]]), Some(1.0));
    // The smallest p of 64 random bases, on either side.
    let mut list: Vec<f64> = (0..65).map(|b| 0.01 * f64::from(b % 7)).collect();
    for far in [9.0, -9.0] {
        list[0] = far;
        assert_eq!(exchange_p(std::slice::from_ref(&list)), Some(1.0 / 65.0));
    }
    assert_eq!(exchange_p(&[vec![2.0; 5]]), Some(1.0), "bases without difference");
}

#[test]
fn p_of_two_seeds_is_that_of_all_pairs_written_out() {
    let (a, b) = ([0.9, 0.1, -0.2, 0.3], [0.4, 0.7, -0.6]);
    let centre = |list: &[f64]| list.iter().sum::<f64>() / list.len() as f64;
    let sum = |x: f64, y: f64| (x - centre(&a) + y - centre(&b)).abs();
    let mut extreme = 0;
    for x in a {
        for y in b {
            extreme += u32::from(sum(x, y) >= sum(a[0], b[0]) - 1e-12);
        }
    }
    assert_eq!(exchange_p(&[a.to_vec(), b.to_vec()]), Some(f64::from(extreme) / 12.0));
    assert_eq!(exchange_p(&[b.to_vec(), a.to_vec()]), Some(f64::from(extreme) / 12.0), "seeds have no order");
    assert!(extreme > 1 && extreme < 12);
}

#[test]
fn p_depends_on_neither_scale_nor_seed_effects_and_not_on_direction() {
    let mut rng = stream(0, Purpose::Simulation, 950);
    let seeds: Vec<Vec<f64>> = (0..3).map(|_| (0..9).map(|_| skewed(&mut rng)).collect()).collect();
    let p = exchange_p(&seeds);
    let each = |change: &dyn Fn(usize, f64) -> f64| -> Vec<Vec<f64>> {
        seeds.iter().enumerate().map(|(seed, list)| list.iter().map(|v| change(seed, *v)).collect()).collect()
    };
    assert_eq!(exchange_p(&each(&|_, v| -v)), p, "two-sided");
    assert_eq!(exchange_p(&each(&|_, v| 1e-30 * v)), p, "relative ties");
    assert_eq!(exchange_p(&each(&|seed, v| v + 8.0 * seed as f64)), p, "a seed is compared with itself");
    assert_eq!(exchange_p(&[]), None);
    assert_eq!(exchange_p(&[vec![1.0]]), None);
    assert_eq!(exchange_p(&[vec![1.0, f64::NAN]]), None);
}

// 4 seeds of 65 bases have 17.9 million choices, which are drawn. Whole numbers are counted by convolution.
#[test]
fn drawn_p_values_are_those_of_the_enumeration() {
    let list = |seed: i64| -> Vec<i64> { (0..65).map(|b| (b * b * 7 + seed * 13 + b) % 29).collect() };
    let lists: Vec<Vec<i64>> = (1..5).map(list).collect();
    // Deviations times 65, so that they are whole.
    let deviations: Vec<Vec<i64>> =
        lists.iter().map(|list| list.iter().map(|v| 65 * v - list.iter().sum::<i64>()).collect()).collect();
    let mut sums = std::collections::BTreeMap::from([(0i64, 1u64)]);
    for list in &deviations {
        let mut longer = std::collections::BTreeMap::new();
        for (sum, ways) in sums {
            list.iter().for_each(|d| *longer.entry(sum + d).or_default() += ways);
        }
        sums = longer;
    }
    let observed = deviations.iter().map(|list| list[0]).sum::<i64>().abs();
    let extreme: u64 = sums.iter().filter(|(sum, _)| sum.abs() >= observed).map(|(_, ways)| ways).sum();
    let exact = extreme as f64 / 65f64.powi(4);
    let values: Vec<Vec<f64>> = lists.iter().map(|list| list.iter().map(|v| *v as f64).collect()).collect();
    let drawn = exchange_p(&values).expect("finite");
    let error = (exact * (1.0 - exact) / f64::from(PERMUTATION_DRAWS)).sqrt();
    assert!((drawn - exact).abs() < 4.0 * error && exact > 0.01 && exact < 0.9, "{drawn}, exactly {exact} ± {error}");
    assert_eq!(exchange_method([65; 4].into_iter()), Method::MonteCarlo { draws: PERMUTATION_DRAWS });
    assert_eq!(exchange_method([65; 3].into_iter()), Method::Exact);
    let mut clear = values;
    clear.iter_mut().for_each(|list| list[0] = 1e3);
    assert_eq!(exchange_p(&clear), Some(1e-5), "never 0");
    assert_eq!(exchange_p(&clear), exchange_p(&clear), "a fixed stream");
}

// Models without a special basis: 4 seeds, the tested basis and 16 random ones, all draws of one skewed law whose centre
// and spread differ between seeds. p <= 0.05 in 5 % of 1000 sweeps: 2.9 standard errors are 0.02.
#[test]
fn models_without_a_special_basis_are_rarely_called_special() {
    let mut rng = stream(0, Purpose::Simulation, 951);
    let mut rejected = [0; 2];
    for _ in 0..1000 {
        let mut seed = |scale: f64| (0..17).map(|_| scale * skewed(&mut rng)).collect::<Vec<f64>>();
        let seeds = [seed(1.0), seed(0.2), seed(3.0), seed(1.0)];
        rejected[0] += u32::from(exchange_p(&seeds).expect("finite") <= ALPHA);
        rejected[1] += u32::from(exchange_p(&seeds[..1]).expect("finite") <= 2.0 / 17.0);
    }
    assert!((30..=70).contains(&rejected[0]), "{rejected:?} of 1000, expected 50");
    assert!((87..=149).contains(&rejected[1]), "one seed: {rejected:?} of 1000, expected 118");
}

// The rule before this test: sign flips of one log ratio per seed, whose smallest p is 2 / 2^n.
#[test]
fn few_seeds_have_power_that_sign_flips_have_not() {
    let mut rng = stream(0, Purpose::Simulation, 952);
    let (mut found, mut flipped) = (0, 0);
    for _ in 0..100 {
        let mut seed = || -> Vec<f64> {
            (0..65).map(|b| 0.05 * gaussian(&mut rng) + f64::from(u8::from(b == 0)) * 0.15).collect()
        };
        let seeds = [seed(), seed(), seed(), seed()];
        found += u32::from(exchange_p(&seeds).expect("finite") <= ALPHA);
        let ratios = seeds.map(|list| list[0] - list[1..].iter().sum::<f64>() / 64.0);
        flipped += u32::from(sign_flip_p(&ratios).expect("4 seeds") <= ALPHA);
    }
    assert!(found >= 97, "{found} of 100 at three standard deviations of one basis");
    assert_eq!(flipped, 0, "4 seeds have no p below 0.125");
}

#[test]
fn the_largest_distance_over_statistics_is_the_test() {
    // Both lists have mean 0 and standard deviation 2 over all five bases: z is half of each value.
    let (a, b) = (vec![0.0, 2.0, -2.0, 2.449489742783178, -2.449489742783178], vec![4.0, -1.0, -1.0, -1.0, -1.0]);
    let found = max_t(&[a.clone(), b.clone()]).expect("finite");
    assert_eq!((found.p, found.largest), (1.0 / 5.0, 1));
    assert!(close(found.z[1], 2.0, 1e-12) && found.z[0].abs() < 1e-12);
    let found = max_t(&[a]).expect("finite");
    assert_eq!(found.p, 1.0, "in the middle of its bases");
    let scaled = b.iter().map(|v| 1e6 * v + 7.0).collect();
    assert_eq!(max_t(&[scaled]).expect("finite").p, 1.0 / 5.0, "no unit matters");
    assert_eq!(max_t(&[vec![3.0; 6], vec![0.1 + 0.2; 6]]).map(|found| (found.p, found.z)), Some((1.0, vec![0.0, 0.0])));
    assert_eq!(max_t(&[]), None);
    assert_eq!(max_t(&[vec![1.0]]), None);
    assert_eq!(max_t(&[vec![1.0, 2.0], vec![1.0, 2.0, 3.0]]), None);
    assert_eq!(max_t(&[vec![1.0, f64::INFINITY]]), None);
}

// Four random bases and six correlated skewed statistics without a special basis: p is 1/5 in one of five sweeps, which a
// test that standardises by the random bases alone passes far more often.
#[test]
fn the_test_over_several_statistics_holds_its_level() {
    let mut rng = stream(0, Purpose::Simulation, 953);
    let mut least = 0;
    for _ in 0..2000 {
        let shared: Vec<f64> = (0..5).map(|_| gaussian(&mut rng)).collect();
        let mut statistic =
            |weight: f64| -> Vec<f64> { shared.iter().map(|s| (weight * s + skewed(&mut rng)).exp()).collect() };
        let statistics = [0.0, 0.5, 1.0, 1.0, 2.0, 0.2].map(&mut statistic);
        least += u32::from(max_t(&statistics).expect("finite").p < 0.3);
    }
    assert!((350..=450).contains(&least), "{least} of 2000, expected 400");
}

// One of six statistics is three standard deviations off: found in most sweeps, and it is the one that is named.
#[test]
fn the_statistic_that_is_off_is_found_and_named() {
    let mut rng = stream(0, Purpose::Simulation, 954);
    let (mut found, mut named) = (0, 0);
    for _ in 0..200 {
        let mut statistics: Vec<Vec<f64>> = (0..6).map(|_| (0..65).map(|_| gaussian(&mut rng)).collect()).collect();
        statistics[3][0] = -5.0;
        let test = max_t(&statistics).expect("finite");
        found += u32::from(test.p <= 1.0 / 65.0 + 1e-12);
        named += u32::from(test.largest == 3 && test.z[3] < 0.0);
    }
    assert!(found >= 190 && named == 200, "{found} found, {named} named, of 200");
}
