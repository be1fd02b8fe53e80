use super::{answer_of, verdict};
use crate::Beside;
use crate::fixture::{Outcome, effect, experiment, experiment_with, no_effect, rows, tables, write_part};
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
            let text = format!("{answer}{}", serde_json::to_string(&answer).unwrap());
            for word in ["NaN", "inf ", "inf,", "inf)", "nan", "None", "Some"] {
                assert!(!text.contains(word), "{word} in {text}");
            }
        }
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
    assert_eq!(verdict(&experiment, &tables, "sgd-loss-equals-adam-loss").verdict, Verdict::Refuted);
    let text = answer_of(&experiment, &tables).remarks.join("\n");
    assert!(text.contains("see adam-differs-from-sgd-at-matched-loss (supported), at matched loss."), "{text}");
}

#[test]
fn unequal_losses_point_to_a_third_arm_that_ends_at_the_loss() {
    let claims = r#"
        [[arm]]
        name = "shorter"

        [[claim]]
        name = "shorter-at-loss"
        text = "t"
        test = { kind = "equal-loss", arm = "shorter", other = "sgd" }
        primary = false

        [[claim]]
        name = "shorter-above"
        text = "t"
        test = { kind = "arms-differ", arm = "shorter", other = "sgd", reading = "final" }
        primary = true
    "#;
    let experiment = experiment_with(8, claims);
    let said = |apart: f64| {
        let outcome = |arm: &str, seed| {
            let outcome = effect(arm, seed);
            let behind = match arm {
                "sgd" => 0.08,
                "shorter" => 0.08 + apart,
                _ => 0.0,
            };
            Outcome { loss: outcome.loss + behind, ..outcome }
        };
        answer_of(&experiment, &tables(&experiment, outcome)).remarks.join("\n")
    };
    let third = "see shorter-above (negligible), of shorter, which ends at the loss of sgd; and adam-differs";
    assert!(said(0.0).contains(third), "{}", said(0.0));
    assert!(said(0.02).contains("see adam-differs"), "{}", said(0.02));
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
    let first = report_so_far(dir.path(), &experiment, Beside::default()).unwrap();
    assert_eq!(first.runs_complete, 9);
    let read = |file: &str| fs::read_to_string(dir.path().join(file)).unwrap();
    let before: Vec<String> = first.files.iter().map(|file| read(file)).collect();
    // What is there already is not written again; what was spoilt is.
    for file in first.files.iter().filter(|file| *file != "config.toml") {
        fs::write(dir.path().join(file), "spoilt").unwrap();
    }
    assert_eq!(rebuild(dir.path(), &experiment, Beside::default()).unwrap(), first);
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
    let thinned = rebuild(dir.path(), &experiment, Beside::default()).unwrap();
    assert!(!thinned.files.iter().any(|file| file.ends_with("dimension_rms.svg")));
}
