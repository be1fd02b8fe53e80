use super::mean_and_error;
use crate::{Purpose, below, gaussian, shuffle, stream, uniform};
use rand_core::Rng;

// The literals are those of an independent ChaCha8 in Python: committed results depend on them.
#[test]
fn streams_keep_their_values() {
    let words = |seed, purpose, index| {
        let mut rng = stream(seed, purpose, index);
        [rng.next_u64(), rng.next_u64()]
    };
    assert_eq!(words(0, Purpose::Init, 0), [17578213078035004852, 14788991435430953851]);
    assert_eq!(words(7, Purpose::RandomBasis, 3), [9281095190483212058, 9243382732417751085]);
    let mut rng = stream(1, Purpose::Batches, 2);
    assert_eq!(uniform(&mut rng), 0.9680522489580633);
    assert_eq!(below(&mut rng, 1000), 421);
    let drawn = gaussian(&mut rng);
    assert!((drawn + 0.8129253615359279).abs() < 1e-14, "{drawn}");
    let mut items = [0, 1, 2, 3, 4, 5, 6, 7];
    shuffle(&mut items, &mut rng);
    assert_eq!(items, [5, 1, 3, 2, 4, 7, 0, 6]);
}

#[test]
fn every_triple_has_its_own_stream() {
    use Purpose::*;
    let mut first_words = Vec::new();
    for purpose in [Init, Batches, HeldOut, Rotation, RandomBasis, Language, Simulation, Permutation] {
        for seed in [0, 1, 2, 255, 256, u64::MAX] {
            for index in [0, 1, 2, 255, 256, u64::MAX] {
                first_words.push(stream(seed, purpose, index).next_u64());
            }
        }
    }
    let drawn = first_words.len();
    first_words.sort_unstable();
    first_words.dedup();
    assert_eq!(first_words.len(), drawn);
}

#[test]
fn below_is_uniform_and_stays_inside() {
    let mut rng = stream(0, Purpose::Simulation, 100);
    for n in [1, 2, 3, 7, 1 << 40, (1 << 63) + 1, u64::MAX] {
        assert!((0..200).all(|_| below(&mut rng, n) < n), "{n}");
    }
    let mut counts = [0.0f64; 7];
    (0..70_000).for_each(|_| counts[below(&mut rng, 7) as usize] += 1.0);
    let chi_square: f64 = counts.iter().map(|c| (c - 10_000.0).powi(2) / 10_000.0).sum();
    assert!(chi_square < 27.9, "p < 0.0001 with 6 degrees of freedom: {chi_square}");
    // With n just above 2^63, `draw % n` would favour the lower half two to one.
    let n = (1u64 << 63) + (1 << 62);
    let low = (0..20_000).filter(|_| below(&mut rng, n) < n / 2).count();
    assert!((9_700..10_300).contains(&low), "{low}");
}

#[test]
fn gaussians_have_normal_moments() {
    let mut rng = stream(0, Purpose::Simulation, 101);
    let draws: Vec<f64> = (0..200_000).map(|_| gaussian(&mut rng)).collect();
    for (power, expected) in [(1, 0.0), (2, 1.0), (3, 0.0), (4, 3.0)] {
        let powers: Vec<f64> = draws.iter().map(|v| v.powi(power)).collect();
        let (mean, error) = mean_and_error(&powers);
        assert!((mean - expected).abs() < 5.0 * error, "moment {power}: {mean} +- {error}");
    }
    let successive: Vec<f64> = draws.windows(2).map(|pair| pair[0] * pair[1]).collect();
    let (mean, error) = mean_and_error(&successive);
    assert!(mean.abs() < 5.0 * error, "successive draws correlate: {mean} +- {error}");
}

#[test]
fn shuffles_reach_every_order_equally() {
    let mut rng = stream(0, Purpose::Simulation, 102);
    let mut counts = std::collections::BTreeMap::new();
    for _ in 0..6_000 {
        let mut items = [0, 1, 2];
        shuffle(&mut items, &mut rng);
        *counts.entry(items).or_insert(0) += 1;
    }
    assert_eq!(counts.len(), 6);
    assert!(counts.values().all(|count| (850..1150).contains(count)), "{counts:?}");
}
