//! Before the first update, nothing but the seed may decide a number.

use super::answer_of;
use crate::fixture::{edit_residual, effect, experiment, tables};
use basislab_config::{Basis, Experiment};
use basislab_tables::{ResidualRow, Tables};

/// Tables in which every arm starts alike, as real runs do.
fn alike(experiment: &Experiment) -> Tables {
    let mut tables = tables(experiment, effect);
    let first = |seed: u64, what: usize| 3.0 + 0.01 * seed as f64 + 1e-3 * what as f64;
    for row in tables.evals.iter_mut().filter(|row| row.step == 0) {
        row.loss = Some(first(row.seed, 0));
    }
    edit_residual(&mut tables, |rows| {
        for row in rows.iter_mut().filter(|row| row.step == 0 && row.basis == Basis::Standard) {
            row.value = Some(first(row.seed, row.site.to_string().len()));
        }
    });
    tables
}

#[test]
fn arms_that_start_alike_pass_and_one_bit_fails() {
    let mut experiment = experiment(3);
    let tables = alike(&experiment);
    let test = |experiment: &Experiment, tables: &Tables| answer_of(experiment, tables).self_tests;
    let passed = test(&experiment, &tables);
    // The loss and one metric at six sites, of three arms with three seeds and one with one seed, against the first arm.
    let numbers = 10
        * (1 + tables
            .residual
            .to_rows()
            .iter()
            .filter(|row| row.step == 0 && row.arm == "adam" && row.seed == 0 && row.basis == Basis::Standard)
            .count());
    assert_eq!((passed.len(), passed[0].compared, &passed[0].first_difference), (1, numbers, &None));
    let text = answer_of(&experiment, &tables).to_string();
    assert!(text.contains("Self-test passed: before the first update all arms have the same numbers"), "{text}");
    assert!(!answer_of(&experiment, &tables).self_test_failed());

    let mut wrong = tables.clone();
    edit_residual(&mut wrong, |rows| {
        let is_first = |row: &&mut ResidualRow| row.arm == "sgd" && row.seed == 2 && row.step == 0;
        let row = rows.iter_mut().filter(is_first).find(|row| row.basis == Basis::Standard).unwrap();
        row.value = row.value.map(f64::next_up);
    });
    let answer = answer_of(&experiment, &wrong);
    assert!(answer.self_test_failed());
    let text = answer.to_string();
    assert!(
        text.contains("Self-test FAILED: before the first update all arms have the same numbers does not hold (embed"),
        "{text}"
    );
    assert!(text.contains("seed 2: ") && text.contains(" in sgd); trust no comparison"), "{text}");

    // Later steps, random bases, and arms of another model are free to differ.
    let mut free = tables.clone();
    edit_residual(&mut free, |rows| {
        for row in rows.iter_mut().filter(|row| row.step > 0 || row.basis != Basis::Standard) {
            row.value = row.value.map(|value| value + row.arm.len() as f64);
        }
    });
    assert_eq!(test(&experiment, &free)[0].first_difference, None);
    let sgd = experiment.arms.iter_mut().find(|arm| arm.name == "sgd").unwrap();
    sgd.run.model.n_heads = 2;
    assert_eq!(test(&experiment, &wrong)[0].first_difference, None);
    assert_eq!(test(&experiment, &Tables::default()), []);
}

#[test]
fn runs_of_different_machines_are_not_compared() {
    let experiment = experiment(2);
    let mut tables = super::cases::case(1).tables;
    let timing = tables.timing[0].clone();
    tables = Tables { timing: Vec::new(), ..alike(&experiment) };
    for arm in &experiment.arms {
        for &seed in &arm.seeds {
            let device = if arm.name == "sgd" { "another" } else { "one" }.to_owned();
            tables.timing.push(basislab_tables::TimingRow { arm: arm.name.clone(), seed, device, ..timing.clone() });
        }
    }
    for row in tables.evals.iter_mut().filter(|row| row.arm == "sgd" && row.step == 0) {
        row.loss = row.loss.map(f64::next_up);
    }
    assert_eq!(answer_of(&experiment, &tables).self_tests[0].first_difference, None);
    // On one machine they are, unless its backend promises no bits.
    tables.timing.iter_mut().for_each(|row| row.device = "one".to_owned());
    assert!(answer_of(&experiment, &tables).self_test_failed());
    tables.timing.iter_mut().for_each(|row| row.backend = "wgpu".to_owned());
    assert_eq!(answer_of(&experiment, &tables).self_tests, []);
}
