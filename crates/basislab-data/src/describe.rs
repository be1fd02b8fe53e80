use crate::Corpus;

/// A rank enters the fit of the Zipf exponent if its token occurs at least this often.
pub const LEAST_COUNT: usize = 10;

/// The window of [`Description::burstiness`], in tokens.
pub const BURST_REACH: usize = 64;

/// Statistics of a corpus that can be compared across corpora. Entropies are in nats per token.
#[derive(Debug, Clone, PartialEq)]
pub struct Description {
    /// Size of the sample, in tokens.
    pub tokens: usize,
    /// Size of the vocabulary.
    pub d_vocab: usize,
    /// Distinct tokens in the sample.
    pub distinct_tokens: usize,
    /// Minus the slope of the least-squares line through log frequency against log rank, over the ranks whose token occurs
    /// at least [`LEAST_COUNT`] times; `None` with fewer than two of them.
    pub zipf_exponent: Option<f64>,
    /// Entropy of the observed token frequencies. Too low by about `distinct_tokens / (2 tokens)`.
    pub unigram_entropy: f64,
    /// Entropy of a token given the one before, from observed pair frequencies. Too low in small samples, and far too low
    /// unless `tokens` is well above the number of different pairs.
    pub bigram_conditional_entropy: f64,
    /// How often a token recurs within the next [`BURST_REACH`] tokens, relative to independent draws with the same
    /// frequencies (`1 - (1 - p)^reach`, averaged over the same positions); 1 means no burstiness. `None` if the sample is
    /// not longer than the reach.
    pub burstiness: Option<f64>,
    /// Nats per token of the true process on the sample taken as one window; `None` where there is no exact floor.
    pub floor: Option<f64>,
    /// Bytes of the file; `None` for the language.
    pub size_bytes: Option<u64>,
    /// SHA-256 of the file, or of the language's parameters.
    pub sha256: String,
}

/// Describes a corpus by a sample of at most `tokens` consecutive tokens.
pub fn describe(corpus: &Corpus, tokens: usize) -> Description {
    let sample = corpus.sample(tokens);
    let mut counts = vec![0_usize; corpus.d_vocab()];
    sample.iter().for_each(|token| counts[*token as usize] += 1);
    Description {
        tokens: sample.len(),
        d_vocab: corpus.d_vocab(),
        distinct_tokens: counts.iter().filter(|count| **count > 0).count(),
        zipf_exponent: zipf_exponent(&counts),
        unigram_entropy: entropy(&counts),
        bigram_conditional_entropy: conditional_entropy(&sample),
        burstiness: burstiness(&sample, &counts),
        size_bytes: corpus.size_bytes(),
        sha256: corpus.sha256().to_owned(),
        floor: corpus.floor(&[sample]),
    }
}

fn zipf_exponent(counts: &[usize]) -> Option<f64> {
    let mut counts: Vec<usize> = counts.iter().copied().filter(|count| *count >= LEAST_COUNT).collect();
    counts.sort_unstable_by_key(|count| std::cmp::Reverse(*count));
    if counts.len() < 2 {
        return None;
    }
    let points: Vec<(f64, f64)> =
        counts.iter().enumerate().map(|(rank, count)| (((rank + 1) as f64).ln(), (*count as f64).ln())).collect();
    let n = points.len() as f64;
    let x_mean = points.iter().map(|(x, _)| x).sum::<f64>() / n;
    let y_mean = points.iter().map(|(_, y)| y).sum::<f64>() / n;
    let covariance: f64 = points.iter().map(|(x, y)| (x - x_mean) * (y - y_mean)).sum();
    let variance: f64 = points.iter().map(|(x, _)| (x - x_mean).powi(2)).sum();
    Some(-covariance / variance)
}

fn entropy(counts: &[usize]) -> f64 {
    let total: usize = counts.iter().sum();
    if total == 0 {
        return 0.0;
    }
    let term = |count: usize| count as f64 * (count as f64).ln();
    let within: f64 = counts.iter().filter(|count| **count > 0).map(|count| term(*count)).sum();
    // Rounding must not turn the zero of a constant sample negative.
    ((total as f64).ln() - within / total as f64).max(0.0)
}

/// H(pair) - H(first of pair).
fn conditional_entropy(sample: &[u32]) -> f64 {
    let mut pairs: Vec<(u32, u32)> = sample.windows(2).map(|pair| (pair[0], pair[1])).collect();
    pairs.sort_unstable();
    let runs =
        |same: fn(&(u32, u32), &(u32, u32)) -> bool| -> Vec<usize> { pairs.chunk_by(same).map(<[_]>::len).collect() };
    (entropy(&runs(|a, b| a == b)) - entropy(&runs(|a, b| a.0 == b.0))).max(0.0)
}

fn burstiness(sample: &[u32], counts: &[usize]) -> Option<f64> {
    let positions = sample.len().checked_sub(BURST_REACH).filter(|positions| *positions > 0)?;
    let total = sample.len() as f64;
    let recurs: Vec<f64> =
        counts.iter().map(|count| 1.0 - (1.0 - *count as f64 / total).powi(BURST_REACH as i32)).collect();
    let mut next_seen = vec![usize::MAX; counts.len()];
    let (mut observed, mut expected) = (0.0, 0.0);
    for (position, token) in sample.iter().enumerate().rev() {
        let token = *token as usize;
        if position < positions {
            observed += f64::from(u8::from(next_seen[token] <= position + BURST_REACH));
            expected += recurs[token];
        }
        next_seen[token] = position;
    }
    Some(observed / expected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_perfect_power_law_has_its_exponent() {
        let counts: Vec<usize> = (1..=100).map(|rank| (1e9 / f64::from(rank).powf(1.3)).round() as usize).collect();
        let exponent = zipf_exponent(&counts).expect("many ranks");
        assert!((exponent - 1.3).abs() < 1e-4, "{exponent}");
        assert_eq!(zipf_exponent(&[10, 9, 9]), None);
    }

    #[test]
    fn entropies_of_known_samples() {
        assert!((entropy(&[5, 5, 0]) - 2.0_f64.ln()).abs() < 1e-12);
        assert_eq!(entropy(&[7]), 0.0);
        assert_eq!(entropy(&[]), 0.0);
        assert_eq!(conditional_entropy(&[0, 1, 0, 1, 0]), 0.0);
        // After 0 come 0 and 1 once each, after 1 only 0: two of three pairs start with 0.
        assert!((conditional_entropy(&[0, 0, 1, 0]) - 2.0 / 3.0 * 2.0_f64.ln()).abs() < 1e-12);
    }

    #[test]
    fn a_pair_of_twins_far_apart_is_bursty() {
        let sample: Vec<u32> = (0..1000).flat_map(|token| [token, token]).collect();
        let burst = burstiness(&sample, &vec![2; 1000]).expect("long enough");
        // Half of the tokens recur at once; independent draws would with 1 - (1 - 1/1000)^64.
        assert!((burst - 0.5 / (1.0 - 0.999_f64.powi(64))).abs() < 0.01, "{burst}");
        assert_eq!(burstiness(&sample[..64], &vec![2; 1000]), None);
    }
}
