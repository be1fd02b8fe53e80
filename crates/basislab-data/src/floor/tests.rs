use basislab_config::LanguageSpec;
use basislab_stats::{Purpose, stream};

use super::*;

fn tiny() -> LanguageSpec {
    LanguageSpec {
        seed: 5,
        d_vocab: 9,
        zipf_exponent: 1.0,
        classes: 3,
        successors: 2,
        stay: 0.3,
        overlap: 0.4,
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

/// Everything that decides the floor: BOS, documents, both, neither, and a class that the tokens show.
fn cases() -> Vec<LanguageSpec> {
    vec![
        tiny(),
        LanguageSpec { document_length: 4, ..tiny() },
        LanguageSpec { bos: true, document_length: 4, ..tiny() },
        LanguageSpec { bos: true, ..tiny() },
        LanguageSpec { overlap: 0.0, stay: 0.0, successors: 1, ..tiny() },
        LanguageSpec { classes: 1, successors: 1, document_length: 2, bos: true, ..tiny() },
    ]
}

/// Probability of the tokens, by summing over every path of (document begins?, class) with nothing shared with the filter:
/// the paths are walked as the process is told, one token at a time.
fn by_paths(language: &Language, tokens: &[u32], class: Option<usize>) -> f64 {
    let Some((token, rest)) = tokens.split_first() else { return 1.0 };
    let spec = language.spec();
    let restart = if spec.document_length > 0 { 1.0 / spec.document_length as f64 } else { 0.0 };
    if spec.bos && *token == 0 {
        return restart * by_paths(language, rest, None);
    }
    let mut total = 0.0;
    for next in 0..spec.classes {
        let emitted: f64 =
            language.owners(*token).iter().filter(|(owner, _)| *owner as usize == next).map(|(_, share)| share).sum();
        let moved = class.map_or(language.stationary()[next], |class| {
            let moves = language.moves(class as u32).filter(|(target, _)| *target as usize == next);
            let stays = if class == next { spec.stay } else { 0.0 };
            stays + (1.0 - spec.stay) * moves.map(|(_, share)| share).sum::<f64>()
        });
        let continued = (1.0 - restart) * moved;
        let began = if spec.bos { 0.0 } else { restart * language.stationary()[next] };
        total += (continued + began) * emitted * by_paths(language, rest, Some(next));
    }
    total
}

#[test]
fn the_floor_is_the_sum_over_hidden_paths() {
    for spec in cases() {
        let language = Language::new(&spec).expect("small");
        for index in 0..40 {
            let tokens = language.window(5, &mut stream(1, Purpose::HeldOut, index));
            // A window whose first token is a given BOS has no probability of its own.
            let (first, rest) = (tokens[0], &tokens[1..]);
            let expected = if spec.bos && first == BOS {
                by_paths(&language, rest, None)
            } else {
                by_paths(&language, &tokens, None) / by_paths(&language, &tokens[..1], None)
            };
            let floor = language.floor(std::slice::from_ref(&tokens)).expect("no structure");
            assert!((floor + expected.ln() / 4.0).abs() < 1e-12, "{spec:?} {tokens:?}: {floor}");
        }
    }
}

#[test]
fn next_token_probabilities_sum_to_one() {
    for spec in cases() {
        let language = Language::new(&spec).expect("small");
        let mut filter = Filter::new(&language);
        for token in language.window(50, &mut stream(2, Purpose::HeldOut, 0)) {
            filter.observe(token);
            let total: f64 = (0..spec.d_vocab as u32).map(|next| filter.probability(next)).sum();
            assert!((total - 1.0).abs() < 1e-13, "{spec:?}: {total}");
        }
    }
}

#[test]
fn a_filter_forgets_the_window_before() {
    let language = Language::new(&tiny()).expect("small");
    let windows: Vec<Vec<u32>> =
        (0..9).map(|index| language.window(6, &mut stream(3, Purpose::HeldOut, index))).collect();
    let together = language.floor(&windows).expect("no structure");
    let apart: f64 = windows.iter().filter_map(|window| language.floor(std::slice::from_ref(window))).sum();
    assert!((together - apart / 9.0).abs() < 1e-13);
}

#[test]
fn there_is_no_floor_with_structure_or_without_tokens() {
    for spec in [
        LanguageSpec { copy: 0.1, ..tiny() },
        LanguageSpec { burst: 0.1, ..tiny() },
        LanguageSpec { bigram: 0.1, ..tiny() },
    ] {
        let language = Language::new(&spec).expect("small");
        assert_eq!(language.floor(&[vec![1, 2, 3]]), None);
    }
    let language = Language::new(&tiny()).expect("small");
    assert_eq!(language.floor(&[]), None);
    assert_eq!(language.floor(&[vec![1]]), None);
}

#[test]
fn tokens_that_cannot_follow_have_an_infinite_floor() {
    let language = Language::new(&LanguageSpec { bos: true, ..tiny() }).expect("small");
    assert_eq!(language.floor(&[vec![1, 0, 1]]), Some(f64::INFINITY));
}
