use super::{gaussian_residuals, value};
use crate::{
    LargeValues, METRICS, Measured, MetricValue, Residuals, Rotation, Wanted, dimensions, measure, metric, random_basis,
};
use basislab_config::{Basis, Tokens};

const D: usize = 8;

/// 5 sequences of 3 tokens.
fn stream_of_three() -> Residuals {
    let x = gaussian_residuals(77, 15, D);
    // A dimension that some metrics call an outlier.
    Residuals::new(x.values().iter().enumerate().map(|(at, x)| if at % D == 2 { 9.0 * x } else { *x }).collect(), D)
        .expect("finite")
}

/// All values, tokens by tokens and basis by basis, one evaluation at a time.
fn by_hand(
    parts: &[(Tokens, Vec<(Basis, Residuals)>)],
    wanted: impl Fn(Basis, &str, bool) -> bool,
) -> Vec<MetricValue> {
    let mut all = Vec::new();
    for (tokens, bases) in parts {
        for (basis, x) in bases {
            let metrics = METRICS.iter().filter(|metric| matches!(metric.of, crate::MetricFn::Matrix(_)));
            all.extend(metrics.filter(|metric| wanted(*basis, metric.name, metric.basis_dependent)).map(|metric| {
                MetricValue {
                    tokens: *tokens,
                    tokens_used: x.n_tokens(),
                    basis: *basis,
                    metric: metric.name,
                    value: metric.of.of(std::slice::from_ref(x)),
                }
            }));
        }
    }
    all
}

#[test]
fn every_value_is_its_metric_of_those_tokens_in_that_basis() {
    let x = stream_of_three();
    let own = random_basis(5, 100, D);
    let random: Vec<Rotation> = (0..2).map(|k| random_basis(6, k, D)).collect();
    let names = ["token_kurtosis".to_owned(), "token_rms".to_owned()];
    let wanted = Wanted {
        n_ctx: Some(3),
        optimizer: Some(&own),
        detailed: Tokens::Rest,
        random: &random,
        further: Some((6, 2..4, &names)),
        dimensions: true,
        sizes: Some(&random),
    };
    let Measured { values, dimensions: described, sizes, large } = measure(&x, &wanted);
    let (firsts, rest): (Vec<usize>, Vec<usize>) = (0..15).partition(|token| token % 3 == 0);
    let mut parts = Vec::new();
    for (tokens, part) in
        [(Tokens::All, x.clone()), (Tokens::First, x.subset(&firsts)), (Tokens::Rest, x.subset(&rest))]
    {
        let mut bases = vec![(Basis::Standard, part.clone()), (Basis::Optimizer, part.rotated(&own))];
        if tokens == Tokens::Rest {
            bases.extend((0..4).map(|k| (Basis::Random(k as u32), part.rotated(&random_basis(6, k, D)))));
        }
        parts.push((tokens, bases));
    }
    let expected = by_hand(&parts, |basis, name, moves| match basis {
        Basis::Standard => true,
        Basis::Random(k) if k >= 2 => names.iter().any(|named| named == name),
        Basis::Optimizer | Basis::Random(_) => moves,
    });
    assert_eq!(values.len(), expected.len());
    for (found, expected) in values.iter().zip(&expected) {
        let of = |value: &MetricValue| (value.tokens, value.tokens_used, value.basis, value.metric);
        assert_eq!(of(found), of(expected));
        // A subset of what was rotated, or a rotated subset.
        let near = found.value.zip(expected.value).is_none_or(|(a, b)| (a - b).abs() <= 1e-12 * b.abs());
        assert!(near && found.value.is_some() == expected.value.is_some(), "{found:?}, by hand {expected:?}");
    }
    let part = x.subset(&rest);
    assert_eq!(described.len(), 2 * D);
    for (basis, part, found) in
        [(Basis::Standard, part.clone(), &described[..D]), (Basis::Optimizer, part.rotated(&own), &described[D..])]
    {
        for ((tokens, of, found), expected) in found.iter().zip(dimensions(&part)) {
            assert_eq!((*tokens, *of, found.dim), (Tokens::Rest, basis, expected.dim));
            assert!((found.rms - expected.rms).abs() < 1e-12 && (found.mean - expected.mean).abs() < 1e-12);
        }
    }
    assert_eq!(sizes.len(), 2);
    for (basis, part, found) in
        [(Basis::Standard, part.clone(), &sizes[0]), (Basis::Optimizer, part.rotated(&own), &sizes[1])]
    {
        assert_eq!((found.tokens, found.basis, found.null_shares.len()), (Tokens::Rest, basis, 2));
        for (dim, expected) in dimensions(&part).iter().enumerate() {
            let raw = |power| part.rows().map(|row| row[dim].powi(power)).sum::<f64>() / part.n_tokens() as f64;
            assert!((found.rms[dim] - expected.rms).abs() < 1e-12 && (found.rms[dim] - raw(2).sqrt()).abs() < 1e-12);
            assert!((found.fourth_moment[dim] - raw(4)).abs() < 1e-12 * raw(4), "{dim}: {found:?}");
            // What single dimensions say of the same moment.
            let (m2, mean) = (expected.variance, expected.mean);
            let [skewness, kurtosis] = [expected.skewness, expected.kurtosis].map(|value| value.expect("it varies"));
            let (m3, m4) = (skewness * m2.powf(1.5), kurtosis * m2 * m2);
            let about_0 = m4 + 4.0 * mean * m3 + 6.0 * mean * mean * m2 + mean.powi(4);
            assert!((found.fourth_moment[dim] - about_0).abs() < 1e-10 * raw(4));
        }
        for (share, q) in found.null_shares.iter().zip(&random) {
            let rotated = x.subset(&rest).rotated(q);
            let expected = value("max_dim_energy_share", &rotated).expect("it is defined");
            assert!((share - expected).abs() < 1e-12, "{share} {expected}");
        }
    }
    assert_eq!(large, LargeValues::of(&x));
    assert!(large.counts.iter().sum::<usize>() > 0, "outliers are there");
}

#[test]
fn without_sequences_all_tokens_are_measured_together() {
    let x = stream_of_three();
    let alone = |n_ctx, detailed| Wanted {
        n_ctx,
        optimizer: None,
        detailed,
        random: &[],
        further: None,
        dimensions: true,
        sizes: None,
    };
    let measured = measure(&x, &alone(None, Tokens::All));
    let of = |x: &Residuals| by_hand(&[(Tokens::All, vec![(Basis::Standard, x.clone())])], |_, _, _| true);
    assert_eq!(measured.values, of(&x));
    assert!(measured.dimensions.len() == D && measured.sizes.is_empty());
    // One sequence has one first token: fewer than two are not measured.
    let one = measure(&x, &alone(Some(15), Tokens::First));
    assert!(one.values.iter().all(|value| value.tokens != Tokens::First) && one.dimensions.is_empty());
    assert_eq!(one.values.iter().filter(|value| value.metric == "token_kurtosis").count(), 2);
}

#[test]
fn layers_are_joined_from_their_summaries() {
    let layers: Vec<Residuals> = (0..3).map(|seed| gaussian_residuals(seed, 12, D)).collect();
    let scaled: Vec<Residuals> = layers
        .iter()
        .map(|x| {
            Residuals::new(
                x.values().iter().enumerate().map(|(at, x)| if at % D == 5 { 40.0 * x } else { *x }).collect(),
                D,
            )
            .expect("finite")
        })
        .collect();
    let feature = metric("dettmers_outlier_features").expect("known");
    assert_eq!((feature.of.of(&layers), feature.of.of(&scaled)), (Some(0.0), Some(1.0)));
    let kurtosis = metric("token_kurtosis").expect("known");
    assert_eq!(kurtosis.of.of(&layers), None, "of one matrix, not of three");
}
