use super::{answer_of, verdict};
use crate::answer::answer;
use crate::fixture::{Outcome, effect, experiment, no_effect, rows, tables, write_part};
use crate::summary::summarise;
use crate::verdicts::decide_claims;
use crate::*;
use basislab_stats::Verdict;
use basislab_tables::{DimensionRow, TableRow, Tables};
use std::fs;

#[test]
fn nothing_that_is_not_a_number_is_ever_printed() {
    let diverging = |arm: &str, seed: u64| Outcome { diverges_at: Some(1 + seed), ..effect(arm, seed) };
    let experiments = [experiment(0), experiment(1), experiment(3), experiment(8)];
    for experiment in &experiments {
        for tables in [
            tables(experiment, effect),
            tables(experiment, no_effect),
            tables(experiment, diverging),
            Tables::default(),
        ] {
            let answer = answer_of(experiment, &tables);
            assert!((3..=8).contains(&answer.sentences.len()), "{:?}", answer.sentences);
            let text = format!("{answer}{}", serde_json::to_string(&answer).unwrap());
            for word in ["NaN", "inf ", "inf,", "inf)", "nan", "None", "Some"] {
                assert!(!text.contains(word), "{word} in {text}");
            }
        }
    }
}

#[test]
fn an_infinite_z_is_shown_as_one() {
    let experiment = experiment(2);
    let tables = tables(&experiment, effect);
    let (mut summary, verdicts) = (summarise(&experiment, &tables), decide_claims(&experiment, &tables));
    let row = summary.iter().position(|row| row.arm == "adam" && row.metric == "token_kurtosis").unwrap();
    for (mean, expected) in [(4.0, " inf"), (2.0, " -inf"), (3.0, " -")] {
        (summary[row].mean, summary[row].null_mean) = (Some(mean), Some(3.0));
        (summary[row].null_sd, summary[row].z) = (Some(0.0), None);
        let answer = answer(&experiment, &tables, &summary, &verdicts, std::path::Path::new("x"));
        let text = answer.to_string();
        let line = text.lines().find(|line| line.trim_start().starts_with("adam ")).unwrap();
        assert!(line.trim_end().ends_with(expected), "{mean}: {line}");
        assert!(!serde_json::to_string(&answer).unwrap().contains("inf\""));
    }
}

#[test]
fn unequal_losses_point_to_the_matched_claim() {
    let experiment = experiment(8);
    let behind = |arm: &str, seed| {
        let outcome = effect(arm, seed);
        Outcome { loss: outcome.loss + if arm == "sgd" { 0.08 } else { 0.0 }, ..outcome }
    };
    let tables = tables(&experiment, behind);
    assert_eq!(verdict(&experiment, &tables, "sgd-loss-equals-adam-loss").verdict, Verdict::Contradicted);
    let text = answer_of(&experiment, &tables).sentences.join("\n");
    assert!(
        text.contains("see the claim at matched loss, adam-differs-from-sgd-at-matched-loss (supported)"),
        "{text}"
    );
}

#[test]
fn a_report_writes_everything_twice_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let experiment = experiment(2);
    for arm in &experiment.arms {
        for &seed in &arm.seeds {
            let outcome = effect(&arm.name, seed);
            write_part(dir.path(), &arm.name, seed, rows(&experiment, &arm.name, seed, outcome));
        }
    }
    let first = report_so_far(dir.path(), &experiment).unwrap();
    assert_eq!(first.runs_complete, 9);
    let read = |file: &str| fs::read_to_string(dir.path().join(file)).unwrap();
    let before: Vec<String> = first.files.iter().map(|file| read(file)).collect();
    // What is there already is not written again; what was spoilt is.
    for file in first.files.iter().filter(|file| *file != "config.toml") {
        fs::write(dir.path().join(file), "spoilt").unwrap();
    }
    assert_eq!(rebuild(dir.path(), &experiment).unwrap(), first);
    let after: Vec<String> = first.files.iter().map(|file| read(file)).collect();
    assert_eq!(before, after);
    for (file, text) in first.files.iter().zip(&before) {
        assert!(!text.contains("NaN"), "{file}");
        if file.ends_with(".svg") {
            assert!(text.starts_with("<svg") && text.trim_end().ends_with("</svg>"), "{file}");
            assert!(text.contains("adam-rotated"), "{file}");
            assert!(!text.contains(">adam-identity<"), "{file}: the copy would hide adam");
        }
    }
    assert_eq!(first.files.iter().filter(|file| file.ends_with(".svg")).count(), 4);

    fs::write(dir.path().join("dimensions.csv"), format!("{}\n", DimensionRow::TABLE.header())).unwrap();
    let thinned = rebuild(dir.path(), &experiment).unwrap();
    assert!(!thinned.files.iter().any(|file| file.ends_with("dimension_rms.svg")));
}
