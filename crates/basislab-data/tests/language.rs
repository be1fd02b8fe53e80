//! The synthetic language: what it draws, and that it draws the same again.

use basislab_config::{CorpusSpec, LanguageSpec};
use basislab_data::{Corpus, Language, describe};

fn spec() -> LanguageSpec {
    LanguageSpec {
        seed: 0,
        d_vocab: 64,
        zipf_exponent: 1.0,
        classes: 5,
        successors: 2,
        stay: 0.2,
        overlap: 0.25,
        bigram: 0.0,
        bigram_fan: 4,
        copy: 0.0,
        copy_length: 4,
        burst: 0.0,
        burst_window: 8,
        bos: false,
        document_length: 0,
    }
}

fn corpus(spec: LanguageSpec) -> Corpus {
    Corpus::open(&CorpusSpec::Language(spec), 64).expect("a small language")
}

fn language(spec: &LanguageSpec) -> Language {
    Language::new(spec).expect("a small language")
}

#[test]
fn the_generator_has_not_changed() {
    // If this fails on purpose, raise the generator's version: results of older runs no longer apply.
    let structured =
        LanguageSpec { bigram: 0.2, copy: 0.1, burst: 0.2, bos: true, document_length: 9, d_vocab: 32, ..spec() };
    let plain = corpus(LanguageSpec { d_vocab: 32, ..spec() });
    assert_eq!(
        plain.batch(3, 7, 2, 12),
        [[5, 16, 16, 14, 3, 17, 29, 16, 5, 10, 27, 23], [17, 19, 5, 7, 7, 27, 29, 1, 5, 3, 26, 5]]
    );
    assert_eq!(
        corpus(structured).batch(3, 7, 1, 24),
        [[11, 0, 29, 29, 26, 7, 21, 0, 29, 29, 29, 3, 23, 29, 13, 28, 11, 0, 8, 14, 20, 27, 8, 14]]
    );
    assert_eq!(plain.sha256(), "c204021e5a8508030e745d44e31e5dc8949cc8235592ae1e72695a82f155c74b");
}

#[test]
fn batches_are_paired() {
    let (one, two) = (corpus(spec()), corpus(spec()));
    let batch = one.batch(1, 10, 8, 33);
    assert_eq!(batch, two.batch(1, 10, 8, 33), "another arm sees the same tokens");
    assert_eq!(batch[..3], one.batch(1, 10, 3, 33), "a part of a batch is a prefix of it");
    assert_ne!(batch, one.batch(1, 11, 8, 33));
    assert_ne!(batch, one.batch(2, 10, 8, 33));
    assert_ne!(batch, one.held_out(1, 8, 33));
    assert_ne!(batch[0], batch[1]);
    assert_eq!(one.held_out(1, 8, 33)[..3], two.held_out(1, 3, 33));
    assert_ne!(one.held_out(1, 8, 33), one.held_out(2, 8, 33));
    let other = corpus(LanguageSpec { seed: 1, ..spec() });
    assert_ne!(batch, other.batch(1, 10, 8, 33));
    assert_ne!(one.sha256(), other.sha256());
}

/// Every token's frequency over many independent windows, at the first and the last position alike, is stationary times
/// emission. Windows are independent, so the counts at one position are multinomial.
#[test]
fn frequencies_are_stationary_times_emission() {
    for (bos, document_length) in [(false, 0), (false, 6), (true, 6)] {
        let spec = LanguageSpec { bos, document_length, ..spec() };
        let language = language(&spec);
        let restart = if bos { 1.0 / document_length as f64 } else { 0.0 };
        let expected: Vec<f64> = (0..spec.d_vocab as u32)
            .map(|token| {
                let word: f64 = language
                    .owners(token)
                    .iter()
                    .map(|(class, share)| language.stationary()[*class as usize] * share)
                    .sum();
                if bos && token == 0 { restart } else { (1.0 - restart) * word }
            })
            .collect();
        assert!((expected.iter().sum::<f64>() - 1.0).abs() < 1e-13);
        let windows = corpus(spec).held_out(0, 40_000, 7);
        for position in [0, 6] {
            let mut counts = vec![0.0; expected.len()];
            windows.iter().for_each(|window| counts[window[position] as usize] += 1.0);
            let n = windows.len() as f64;
            let chi_square: f64 =
                counts.iter().zip(&expected).map(|(count, p)| (count - n * p).powi(2) / (n * p)).sum();
            // 63 degrees of freedom: mean 63, standard deviation 11.2.
            assert!(chi_square < 63.0 + 6.0 * 11.2, "bos {bos}, position {position}: {chi_square}");
        }
    }
}

#[test]
fn the_stationary_distribution_is_stationary_and_all_classes_occur() {
    for (classes, successors) in [(1, 1), (2, 1), (16, 1), (16, 3), (200, 2), (64, 63)] {
        for seed in 0..4 {
            let spec = LanguageSpec { seed, classes, successors, d_vocab: 400, bos: true, ..spec() };
            let language = language(&spec);
            let stationary = language.stationary();
            assert!(stationary.iter().all(|share| *share > 0.0));
            assert!((stationary.iter().sum::<f64>() - 1.0).abs() < 1e-14);
            let mut moved = vec![0.0; classes];
            for (class, at) in stationary.iter().enumerate() {
                let moves: Vec<(u32, f64)> = language.moves(class as u32).collect();
                assert_eq!(moves.len(), successors, "every class has that many successors");
                for (index, (next, share)) in moves.iter().enumerate() {
                    assert!(classes == 1 || *next as usize != class);
                    assert!(moves[..index].iter().all(|(other, _)| other != next), "they are distinct");
                    moved[*next as usize] += at * share;
                }
            }
            let worst = moved.iter().zip(stationary).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
            assert!(worst < 1e-14, "{classes} classes, {successors} successors: {worst:e}");
        }
    }
}

#[test]
fn overlap_is_the_common_share_of_each_vocabulary() {
    let sizes = |overlap: f64, d_vocab: usize, classes: usize| {
        let spec = LanguageSpec { overlap, d_vocab, classes, successors: 1, bos: true, ..spec() };
        let language = language(&spec);
        let owned: Vec<&[(u32, f64)]> = (1..d_vocab as u32).map(|token| language.owners(token)).collect();
        assert!(language.owners(0).is_empty(), "no class emits BOS");
        assert!(owned.iter().all(|owners| owners.len() == 1 || owners.len() == classes));
        let common = owned.iter().filter(|owners| owners.len() == classes).count();
        let own: Vec<usize> = (0..classes as u32)
            .map(|class| owned.iter().filter(|owners| owners.len() == 1 && owners[0].0 == class).count())
            .collect();
        (common, own)
    };
    assert_eq!(sizes(0.0, 65, 4), (0, vec![16; 4]));
    // 40 words each, 20 of them common: 20 + 4 * 20 = 100.
    assert_eq!(sizes(0.5, 101, 4), (20, vec![20; 4]));
    assert_eq!(sizes(0.9, 5, 4), (0, vec![1; 4]), "every class keeps a word of its own");
}

#[test]
fn structure_repeats_what_the_document_has() {
    let base = LanguageSpec { classes: 1, successors: 1, d_vocab: 4096, zipf_exponent: 0.0, overlap: 0.0, ..spec() };
    let plain = describe(&corpus(base.clone()), 4000);
    let bursty = describe(&corpus(LanguageSpec { burst: 0.5, ..base.clone() }), 4000);
    let bigram = describe(&corpus(LanguageSpec { bigram: 0.9, bigram_fan: 1, ..base.clone() }), 200_000);
    let (plain, bursty) = (plain.burstiness.expect("long"), bursty.burstiness.expect("long"));
    assert!(plain < 2.0 && bursty > 4.0, "{plain} {bursty}");
    assert!(bigram.bigram_conditional_entropy < 0.5 * bigram.unigram_entropy, "{bigram:?}");
    let copied = corpus(LanguageSpec { copy: 0.2, copy_length: 6, ..base }).sample(2000);
    // Six equal tokens in a row by chance have probability 4096^-6.
    let repeats =
        (12..1994).filter(|end| (0..*end - 6).any(|start| copied[start..start + 6] == copied[*end..*end + 6]));
    assert!(repeats.count() > 100);
}

#[test]
fn documents_keep_to_themselves() {
    let spec = LanguageSpec { bos: true, document_length: 20, burst: 0.9, burst_window: 1, d_vocab: 4096, ..spec() };
    let tokens = corpus(spec).sample(100_000);
    let starts = tokens.iter().filter(|token| **token == 0).count();
    assert!((4600..5400).contains(&starts), "one BOS in twenty tokens, found {starts}");
    let repeated = |first: u32| {
        let pairs: Vec<&[u32]> =
            tokens.windows(2).filter(|pair| (pair[0] == 0) == (first == 0) && pair[1] != 0).collect();
        pairs.iter().filter(|pair| pair[0] == pair[1]).count() as f64 / pairs.len() as f64
    };
    assert!(repeated(1) > 0.85, "within a document the last token is repeated");
    // The word after BOS is as varied as independent draws.
    let after: Vec<&[u32]> =
        tokens.windows(3).filter(|three| three[1] == 0 && three[0] != 0 && three[2] != 0).collect();
    let same = after.iter().filter(|three| three[0] == three[2]).count() as f64 / after.len() as f64;
    assert!(same < 0.1, "{same}");
}

#[test]
fn endless_documents_put_bos_first_only() {
    let corpus = corpus(LanguageSpec { bos: true, ..spec() });
    for window in corpus.batch(0, 0, 20, 50) {
        assert_eq!(window[0], 0);
        assert!(window[1..].iter().all(|token| *token != 0));
    }
}

#[test]
fn independent_zipf_draws_give_their_exponent_back() {
    for exponent in [0.7, 1.0, 1.5] {
        let spec =
            LanguageSpec { classes: 1, successors: 1, zipf_exponent: exponent, d_vocab: 512, overlap: 0.0, ..spec() };
        let found = describe(&corpus(spec), 150_000).zipf_exponent.expect("many ranks");
        assert!((found - exponent).abs() < 0.05, "{exponent}: {found}");
    }
}

#[test]
fn the_floor_is_below_the_entropies() {
    for (overlap, stay) in [(0.0, 0.0), (0.5, 0.6)] {
        let spec = LanguageSpec { overlap, stay, ..spec() };
        let about = describe(&corpus(spec), 100_000);
        let floor = about.floor.expect("no structure");
        assert!(floor < about.bigram_conditional_entropy + 0.02, "{about:?}");
        assert!(about.bigram_conditional_entropy < about.unigram_entropy, "{about:?}");
    }
    // Independent draws: the floor is the entropy of the law itself.
    let spec = LanguageSpec { classes: 1, successors: 1, overlap: 0.0, ..spec() };
    let law: Vec<f64> = (1..=64).map(|rank| 1.0 / f64::from(rank)).collect();
    let total: f64 = law.iter().sum();
    let entropy: f64 = law.iter().map(|weight| -(weight / total) * (weight / total).ln()).sum();
    let floor = describe(&corpus(spec), 100_000).floor.expect("no structure");
    assert!((floor - entropy).abs() < 0.02, "{floor} {entropy}");
}

#[test]
fn words_show_their_class() {
    let language = corpus(LanguageSpec { bos: true, document_length: 10, ..spec() });
    let text = language.decode(&(0..64).collect::<Vec<u32>>());
    let words: Vec<&str> = text.split(' ').collect();
    assert_eq!(words[0], "<bos>");
    assert!(words.iter().any(|word| word.starts_with("c4.t")) && words.iter().any(|word| word.starts_with("common.t")));
    assert_eq!(language.decode(&[99]), "<unknown 99>");
}

#[test]
fn a_language_that_would_not_fit_is_refused() {
    let spec = LanguageSpec { bigram: 0.1, bigram_fan: 65_536, d_vocab: 1 << 20, ..spec() };
    let error = Language::new(&spec).expect_err("too large").to_string();
    assert_eq!(
        error,
        "corpus.bigram_fan: found 68719476736 bigrams, expected at most 16777216; lower it or corpus.d_vocab"
    );
}
