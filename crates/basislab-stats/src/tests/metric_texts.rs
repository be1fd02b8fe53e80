//! Numbers that the texts of the table quote, computed.

use super::{changed, close, gaussian_residuals, mean_and_error, residuals, value};
use crate::{METRICS, metric};

fn quotes(name: &str, text: &str) {
    let m = metric(name).expect("known");
    let texts = [m.estimator, m.null_text, m.ceiling_text, m.known_failure];
    assert!(texts.iter().any(|quoted| quoted.contains(text)), "{name} does not say {text:?}");
}

#[test]
fn a_ceiling_is_none_in_words_and_in_numbers() {
    for m in METRICS {
        assert_eq!(m.ceiling.is_none(), m.ceiling_text.starts_with("none"), "{}", m.name);
    }
}

// d = 64: mean 3 * 63 / 65, sd from the closed form of a random direction.
#[test]
fn the_headline_quotes_its_null() {
    let null = metric("token_kurtosis").expect("known").null.expect("closed")(64, 2);
    assert_eq!(format!("{null:.3}"), "2.908");
    quotes("token_kurtosis", "2.908 at d = 64");
    let sd = |d: f64| (24.0 * d * (d - 2.0) * (d - 3.0) / ((d + 1.0).powi(2) * (d + 3.0) * (d + 5.0))).sqrt();
    assert_eq!(format!("{:.3}", sd(64.0)), "0.545");
    quotes("token_kurtosis", "0.545 at d = 64, about sqrt(24/d)");
    assert!(close(sd(4096.0), (24.0f64 / 4096.0).sqrt(), 0.01));
    quotes("token_kurtosis", "where sd < 1e-6 |mean|");
    let x = gaussian_residuals(620, 4000, 64);
    assert!(value("token_kurtosis_median", &x) < Some(null - 0.05), "below the mean's null");
}

#[test]
fn nulls_in_words_hold_for_gaussian_tokens() {
    let null = metric("dim_rms_kurtosis").expect("known").null.expect("closed");
    assert!(close(null(512, 40), 1.0 + 2.0 / 40.0, 1e-3), "about 1 + 2/n");
    let at = |name: &str, d| value(name, &gaussian_residuals(621, 2000, d)).expect("defined");
    let ratios = [16, 64, 256, 1024].map(|d| at("max_median_ratio", d));
    assert!(ratios.is_sorted() && ratios[3] < 2.0 * ratios[0], "grows slowly: {ratios:?}");
    let share = at("max_dim_energy_share", 64) * 64.0;
    assert!(share > 1.0 && share < 1.2, "slightly above 1/d: {share}");
}

// The clamp makes them positive. Quoted for five widths; two are in `metric_laws`.
#[test]
fn clamped_nulls_are_quoted_right() {
    let quoted = [(64, "0.178", "0.132"), (128, "0.139", "0.117"), (256, "0.106", "0.095"), (512, "0.078", "0.072")];
    for (d, osp, lesswrong) in quoted.into_iter().chain([(2048, "0.040", "0.039")]) {
        for (name, text) in [("osp_excess_kurtosis", osp), ("lesswrong_excess_kurtosis", lesswrong)] {
            quotes(name, text);
            let of = |i: u64| value(name, &gaussian_residuals(10_000 + i, 40, d)).expect("defined");
            let (mean, error) = mean_and_error(&(0..100).map(of).collect::<Vec<_>>());
            let expected: f64 = text.parse().expect("a number");
            assert!((mean - expected).abs() < 4.0 * error + 5e-4, "{name} at {d}: {mean} +- {error}, not {expected}");
        }
    }
}

#[test]
fn the_one_hot_value_of_the_lesswrong_form_is_about_d_less_seven() {
    quotes("lesswrong_excess_kurtosis", "(d - 2 + 1/(d-1)) ((d-1)/d)^2 - 3) for a one-hot token, about d - 7");
    for d in [4, 5, 7, 64, 1000] {
        let one_hot = residuals((0..2 * d).map(|i| f64::from(u8::from(i % d == 1))).collect(), d);
        let f = d as f64;
        let exact = ((f - 2.0 + 1.0 / (f - 1.0)) * ((f - 1.0) / f).powi(2) - 3.0).max(0.0);
        assert!(close(value("lesswrong_excess_kurtosis", &one_hot).expect("defined"), exact, 1e-12), "{d}");
        assert!(d < 64 || (exact - (f - 7.0)).abs() < 0.1, "{d}");
    }
}

#[test]
fn a_common_offset_takes_the_osp_form_beyond_any_bound() {
    quotes("osp_excess_kurtosis", "a common offset of 1000 sd gives 1e12");
    let offset = changed(&gaussian_residuals(622, 200, 512), |_, _, v| v + 1000.0);
    let found = value("osp_excess_kurtosis", &offset).expect("defined");
    assert!((0.9e12..1.1e12).contains(&found), "{found:e}");
}

#[test]
fn one_loud_token_has_the_pooled_kurtosis_that_is_quoted() {
    quotes("pooled_kurtosis", "one of 128 tokens with 50 times the norm makes it 337 at d = 64");
    quotes("pooled_kurtosis", "3 d/(d+2) mean(r^4)/mean(r^2)^2");
    let norms = |power: i32| (50f64.powi(power) + 127.0) / 128.0;
    let expected = 3.0 * 64.0 / 66.0 * norms(4) / norms(2).powi(2);
    assert_eq!(format!("{expected:.0}"), "337");
    let draw = |i: u64| {
        let noise = gaussian_residuals(20_000 + i, 128, 64);
        let norms: Vec<f64> = noise.rows().map(|row| row.iter().map(|v| v * v).sum::<f64>().sqrt()).collect();
        let x = changed(&noise, |token, _, v| v / norms[token] * if token == 9 { 50.0 } else { 1.0 });
        value("pooled_kurtosis", &x).expect("defined")
    };
    let (mean, error) = mean_and_error(&(0..200).map(draw).collect::<Vec<_>>());
    assert!((mean - expected).abs() < 4.0 * error + 2.0, "{mean} +- {error}, not {expected}");
}

#[test]
fn nulls_of_random_directions_are_quoted_right() {
    let at = |name: &str, d| value(name, &gaussian_residuals(624, 4000, d)).expect("defined");
    for (name, d, quoted, text) in [
        ("incoherence", 64, 2.61, "2.61 (d 64)"),
        ("incoherence", 512, 3.25, "3.25 (512)"),
        ("incoherence", 4096, 3.81, "3.81 (4096)"),
        ("top4_energy_share", 64, 0.314, "0.314 (d 64)"),
        ("top4_energy_share", 512, 0.068, "0.068 (512)"),
    ] {
        quotes(name, text);
        assert!(close(at(name, d), quoted, 0.01), "{name}: {}, not {text}", at(name, d));
    }
    let hoyer = metric("hoyer_sparsity").expect("known").null.expect("closed");
    assert_eq!(format!("{:.3}", hoyer(64, 2)), "0.227");
    quotes("hoyer_sparsity", "0.227 at d = 64");
}
