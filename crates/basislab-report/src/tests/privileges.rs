//! Each run's own test, from its rows at the verdict's site, tokens and last step alone.

use crate::fixture::{edit_residual, effect, experiment, name, tables, verdict_site};
use crate::privilege::privileges;
use basislab_config::{Basis, Experiment, Site, Tokens};
use basislab_stats::{Alignment, PRIVILEGE_METRICS};
use basislab_tables::{ResidualRow, ResidualRows, Tables};

/// Complete runs without metrics, and in each run 20 random bases around 3.
fn made(experiment: &Experiment, own: impl Fn(&str, &str, Basis) -> Option<f64>) -> Tables {
    let mut all = tables(experiment, effect);
    all.residual = ResidualRows::default();
    let site = verdict_site(experiment);
    for arm in &experiment.arms {
        for &seed in &arm.seeds {
            for (metric, _) in PRIVILEGE_METRICS {
                let mut push = |step, site: Site, tokens, basis, value| {
                    let (arm, metric, layer, value) =
                        (arm.name.clone(), (*metric).to_owned(), site.layer(), Some(value));
                    let row =
                        ResidualRow { arm, seed, step, site, layer, tokens, tokens_used: 9, basis, metric, value };
                    all.residual.push(row);
                };
                let last = arm.run.train.steps;
                for basis in [Basis::Standard, Basis::Optimizer] {
                    if let Some(value) = own(&arm.name, metric, basis) {
                        push(last, site, Tokens::Rest, basis, value);
                    }
                    // Elsewhere every basis would be special.
                    push(100, site, Tokens::Rest, basis, 90.0);
                    push(last, Site::Embed, Tokens::Rest, basis, 90.0);
                    push(last, site, Tokens::All, basis, 90.0);
                }
                for k in 0..20 {
                    push(last, site, Tokens::Rest, Basis::Random(k), 3.0 + 0.01 * f64::from(k));
                }
            }
        }
    }
    all
}

#[test]
fn every_run_and_basis_has_a_test_of_its_own() {
    let experiment = experiment(2);
    let own = |arm: &str, metric: &str, basis: Basis| match (arm, basis) {
        // Token kurtosis alone sees nothing, the mean vector is on a diagonal.
        ("adam", Basis::Standard) => Some(if metric == "mean_vector_kurtosis" { 1.5 } else { 3.1 }),
        ("adam-rotated", Basis::Optimizer) => Some(if metric == "token_kurtosis" { 9.0 } else { 3.1 }),
        (_, Basis::Standard) => Some(3.1),
        _ => None,
    };
    let rows = privileges(&experiment, &made(&experiment, own));
    let of = |arm: &str, seed: u64, basis: Basis| {
        rows.iter().find(|row| row.arm == arm && row.seed == seed && row.basis == basis).unwrap()
    };
    let adam = of("adam", 1, Basis::Standard);
    assert_eq!((adam.p, adam.bases, adam.metric.as_str()), (1.0 / 21.0, 20, "mean_vector_kurtosis"));
    assert_eq!((adam.value, adam.alignment), (1.5, Alignment::Corner));
    assert!((adam.null_mean - 3.095).abs() < 1e-12 && adam.z_of_log < -4.0, "{adam:?}");
    // Of the verdict's metric: 3.00 to 3.10 are at most 3.1.
    assert_eq!((adam.bases_at_most, adam.step, adam.site), (Some(11), 600, verdict_site(&experiment)));
    let turned = of("adam-rotated", 0, Basis::Optimizer);
    assert_eq!((turned.p, turned.metric.as_str(), turned.alignment), (1.0 / 21.0, "token_kurtosis", Alignment::Axis));
    assert_eq!(turned.bases_at_most, Some(20));
    assert!(of("adam-rotated", 0, Basis::Standard).p > 0.5);
    // Five arms with a standard basis, four of them with two seeds, and one arm with a basis of its own.
    assert_eq!(rows.len(), 9 + 2);
}

#[test]
fn runs_that_are_not_complete_or_have_no_random_bases_have_none() {
    let experiment = experiment(1);
    let own = |_: &str, _: &str, basis: Basis| (basis == Basis::Standard).then_some(3.1);
    let mut all = made(&experiment, own);
    all.evals.retain(|row| row.arm != "sgd" || row.step < 600);
    edit_residual(&mut all, |rows| rows.retain(|row| row.arm != "adam" || !matches!(row.basis, Basis::Random(_))));
    let arms: Vec<_> = privileges(&experiment, &all).into_iter().map(|row| row.arm).collect();
    assert_eq!(arms, ["adam-rotated", "adam-identity", "adam-independent"].map(name));
}
