use super::{changed, gaussian_residuals, value};
use crate::{BasisExcess, METRICS, Metric, Residuals, Wanted, basis_excess, excess, measure, metric, random_basis};
use basislab_config::Tokens;

/// Each metric against itself in the first `k` random bases of that seed.
fn excess_of(metrics: &[&Metric], x: &Residuals, k: usize, seed: u64) -> Vec<Option<BasisExcess>> {
    let names: Vec<String> = metrics.iter().map(|metric| metric.name.to_owned()).collect();
    let wanted = Wanted {
        n_ctx: None,
        optimizer: None,
        detailed: Tokens::All,
        random: &[],
        further: Some((seed, 0..k, &names)),
        dimensions: false,
        sizes: None,
    };
    let values = measure(x, &wanted).values;
    metrics.iter().map(|metric| basis_excess(metric, &values)).collect()
}

#[test]
fn draws_are_the_metric_in_random_bases() {
    let x = gaussian_residuals(800, 12, 8);
    let metrics: Vec<&Metric> = METRICS.iter().collect();
    let all = excess_of(&metrics, &x, 8, 3);
    for (m, found) in metrics.iter().zip(&all) {
        let draws: Option<Vec<f64>> = (0..8).map(|k| value(m.name, &x.rotated(&random_basis(3, k, 8)))).collect();
        let skipped = !m.basis_dependent || m.name == "dettmers_outlier_features";
        let expected =
            if skipped { None } else { value(m.name, &x).zip(draws).and_then(|(v, draws)| excess(v, &draws)) };
        assert_eq!(found, &expected, "{}", m.name);
        assert_eq!(&excess_of(&[m], &x, 8, 3)[0], found, "{} alone", m.name);
    }
    let headline = metric("token_kurtosis").expect("known");
    assert_ne!(excess_of(&[headline], &x, 8, 4)[0], all[0], "another seed, other bases");
}

#[test]
fn a_planted_outlier_stands_out() {
    let x = changed(&gaussian_residuals(801, 100, 16), |_, dim, v| if dim == 2 { v + 15.0 } else { v });
    let headline = metric("token_kurtosis").expect("known");
    let found = excess_of(&[headline], &x, 19, 0)[0].clone().expect("defined");
    assert!(found.z > 5.0, "{found:?}");
    assert_eq!((found.rank_p, found.k), (2.0 / 20.0, 19));
}

// For isotropic activations the given basis is one more random basis, so p <= a happens with probability at most a.
#[test]
fn the_rank_p_is_honest_for_isotropic_activations() {
    let headline = metric("token_kurtosis").expect("known");
    let p = |i| excess_of(&[headline], &gaussian_residuals(820 + i, 3, 6), 19, i)[0].clone().expect("defined").rank_p;
    let all: Vec<f64> = (0..400).map(p).collect();
    for (level, low, high) in [(0.1, 16, 66), (0.5, 155, 245)] {
        let rejected = all.iter().filter(|p| **p <= level + 1e-12).count();
        assert!((low..=high).contains(&rejected), "{rejected} of 400 at {level}");
    }
}

#[test]
fn numbers_by_hand() {
    let draws = [1.0, 2.0, 3.0];
    let high = excess(4.0, &draws).expect("three draws");
    assert_eq!((high.value, high.null_mean, high.null_sd, high.z, high.rank_p, high.k), (4.0, 2.0, 1.0, 2.0, 0.5, 3));
    assert_eq!(excess(0.0, &draws).expect("three draws").rank_p, 0.5, "two-sided");
    assert_eq!(excess(2.0, &draws).expect("three draws").rank_p, 1.0, "never above 1");
    assert_eq!(excess(1.0, &draws).expect("three draws").rank_p, 1.0, "a tie counts on both sides");
    assert_eq!(excess(2.0, &[1.0]), None);
    let flat = |value| excess(value, &[0.1; 3]).expect("three draws").z;
    assert_eq!((flat(0.1), flat(1.0), flat(0.0)), (0.0, f64::INFINITY, f64::NEG_INFINITY));
}

#[test]
fn undefined_stays_undefined() {
    let silent = changed(&gaussian_residuals(802, 4, 6), |_, _, _| 0.0);
    let metrics: Vec<&Metric> = METRICS.iter().filter(|m| m.scale_invariant).collect();
    assert!(excess_of(&metrics, &silent, 4, 0).iter().all(Option::is_none));
    let x = gaussian_residuals(803, 4, 6);
    assert!(excess_of(&metrics, &x, 1, 0).iter().all(Option::is_none), "one basis has no spread");
}
