//! Choices from a grid: which point, from which numbers, and what follows from it.

use crate::Beside;
use crate::fixture::{Outcome, effect, experiment_with, name, rows, write_part};
use crate::summary::summarise;
use crate::*;
use basislab_config::Experiment;
use basislab_tables::{EvalRow, SelectionRow, Split, Status, StepRow, SummaryRow, Tables, data_package, read_table};
use std::fs;
use std::path::Path;

const GRID: &str = r#"
[[grid]]
arms = ["adam"]
"optimizer.lr" = [1e-3, 3e-3, 1e-2]
choose = { by = "loss", on_seeds = [1000, 1001] }
"#;

const LAST: u64 = 600;
const POINTS: [&str; 3] = ["adam-lr-0.001", "adam-lr-0.003", "adam-lr-0.01"];

/// A held-out loss of each run, on seeds 1000 and 1001 for each point: 9.0 stands for no run, infinity for one that diverged.
fn losses(of_points: &[[f64; 2]]) -> Tables {
    let mut tables = Tables::default();
    for (arm, losses) in POINTS.into_iter().zip(of_points) {
        for (seed, &loss) in [1000, 1001].into_iter().zip(losses) {
            let (arm, split) = (name(arm), Split::HeldOut);
            let eval =
                |step, loss| EvalRow { arm: arm.clone(), seed, step, split, loss: Some(loss), loss_above_floor: None };
            // An earlier loss, in another order than the last.
            tables.evals.push(eval(300, 10.0 - loss.min(8.0)));
            if loss.is_infinite() {
                let (train_loss, grad_norm, status) = (None, None, Status::Diverged);
                let row =
                    StepRow { arm: arm.clone(), seed, step: 301, tokens: 1, lr: 0.1, train_loss, grad_norm, status };
                tables.steps.push(row);
            } else if loss < 9.0 {
                tables.evals.push(eval(LAST, loss));
            }
        }
    }
    tables
}

fn chosen(rows: &[SelectionRow]) -> Option<&str> {
    let chosen: Vec<&str> = rows.iter().filter(|row| row.chosen).map(|row| row.point.as_str()).collect();
    assert!(chosen.len() <= 1, "{chosen:?}");
    chosen.first().copied()
}

#[test]
fn the_least_mean_loss_is_chosen_and_the_rows_say_from_what() {
    let experiment = experiment_with(2, GRID);
    // Means 2.5, 2.25 and 2.375; the least single loss is of the third.
    let rows = choose(&experiment, &losses(&[[2.4, 2.6], [2.2, 2.3], [2.0, 2.75]]));
    assert_eq!(chosen(&rows), Some("adam-lr-0.003"));
    let row = &rows[2];
    assert_eq!(
        (row.arm.as_str(), row.values.as_str(), row.seeds.as_str()),
        ("adam", "optimizer.lr = 0.01", "1000, 1001")
    );
    assert_eq!((row.mean_loss, row.n_diverged, row.n_missing), (Some(2.375), 0, 0));
    // (0.75 / 2)^2 * 2 / 1
    assert!((row.sd.unwrap() - 0.28125f64.sqrt()).abs() < 1e-12);
    // Behind the second point by 0.2, 0.3 and by -0.2, 0.45: means 0.25 and 0.125, standard errors 0.05 and 0.325.
    let near: Vec<bool> = rows.iter().map(|row| row.near_best).collect();
    assert_eq!(near, [false, true, true]);
    let close = |found: Option<f64>, expected: f64| (found.unwrap() - expected).abs() < 1e-12;
    assert!(close(rows[0].behind, 0.25) && close(rows[0].behind_se, 0.05), "{:?}", rows[0]);
    assert!(close(rows[1].behind, 0.0) && close(rows[1].behind_se, 0.0), "{:?}", rows[1]);
    assert!(close(rows[2].behind, 0.125) && close(rows[2].behind_se, 0.325), "{:?}", rows[2]);
    // One and a half standard errors behind is behind: 0.05 and 0.25 have the mean 0.15 and the standard error 0.1.
    let farther = choose(&experiment, &losses(&[[2.4, 2.6], [2.2, 2.3], [2.25, 2.55]]));
    assert_eq!(farther.iter().map(|row| row.near_best).collect::<Vec<_>>(), [false, true, false]);
    let resolved = resolve(&experiment, &rows);
    assert_eq!(resolved.arm("adam").unwrap().run.optimizer.lr(), 3e-3);
    assert_eq!(resolved.arm("adam").unwrap().seeds, [0, 1]);
}

#[test]
fn ties_go_to_the_first_and_what_diverged_or_is_missing_is_never_chosen() {
    let experiment = experiment_with(2, GRID);
    let none = f64::INFINITY;
    for (of_points, expected, diverged_and_missing) in [
        ([[2.5, 2.5], [2.25, 2.25], [2.0, 2.5]], Some(POINTS[1]), [(0, 0); 3]),
        ([[2.5, 2.5], [1.0, none], [2.75, 2.75]], Some(POINTS[0]), [(0, 0), (1, 0), (0, 0)]),
        ([[2.5, 2.5], [1.0, 9.0], [2.75, 2.75]], None, [(0, 0), (0, 1), (0, 0)]),
        // A point that diverged is out already: nobody waits for the rest of it.
        ([[2.5, 2.5], [9.0, none], [2.75, 2.75]], Some(POINTS[0]), [(0, 0), (1, 1), (0, 0)]),
        ([[none, none], [none, 2.0], [2.0, none]], None, [(2, 0), (1, 0), (1, 0)]),
        ([[9.0, 9.0], [9.0, 9.0], [9.0, 9.0]], None, [(0, 2); 3]),
    ] {
        let rows = choose(&experiment, &losses(&of_points));
        assert_eq!(chosen(&rows), expected, "{of_points:?}");
        let found: Vec<(usize, usize)> = rows.iter().map(|row| (row.n_diverged, row.n_missing)).collect();
        assert_eq!(found, diverged_and_missing, "{of_points:?}");
        // What is compared with the chosen point is whole.
        let whole = |row: &SelectionRow| expected.is_some() && row.n_diverged == 0 && row.n_missing == 0;
        assert!(
            rows.iter().all(|row| row.behind.is_some() == whole(row) && (whole(row) || !row.near_best)),
            "{rows:?}"
        );
        if expected.is_none() {
            assert_eq!(resolve(&experiment, &rows), experiment);
        }
    }
}

#[test]
fn sentences_say_value_values_criterion_and_edge() {
    let experiment = experiment_with(2, GRID);
    let said = |of_points: &[[f64; 2]]| {
        let all = choice_sentences(&experiment, &choose(&experiment, &losses(of_points)));
        assert_eq!(all.len(), 1);
        all.into_iter().next().unwrap()
    };
    let start = "adam: optimizer.lr = ";
    let middle = " of 0.001, 0.003, 0.01, by the least mean held-out loss on seeds 1000, 1001";
    let edge = "; optimizer.lr lies at the edge of the grid.";
    for (of_points, expected) in [
        ([[2.5, 2.5], [2.25, 2.37], [2.75, 2.75]], format!("{start}0.003{middle} (2.31 nats).")),
        (
            [[2.5, 2.2], [2.25, 2.37], [2.75, 2.75]],
            format!("{start}0.003{middle} (2.31 nats); within one standard error of it: optimizer.lr = 0.001."),
        ),
        ([[2.0, 2.0], [2.25, 2.25], [2.75, 2.75]], format!("{start}0.001{middle} (2.00 nats){edge}")),
        ([[2.5, 2.5], [2.25, 2.25], [2.0, 2.0]], format!("{start}0.01{middle} (2.00 nats){edge}")),
        (
            [[2.5, 2.5], [2.25, 2.25], [2.0, f64::INFINITY]],
            format!("{start}0.003{middle} (2.25 nats); 1 point diverged."),
        ),
        (
            [[2.5, 2.5], [2.25, 9.0], [9.0, 9.0]],
            "adam: optimizer.lr is not chosen yet: 3 selection runs are missing.".to_owned(),
        ),
        ([[f64::INFINITY; 2]; 3], "adam: no point of optimizer.lr can be chosen: a run of each diverged.".to_owned()),
    ] {
        assert_eq!(said(&of_points), expected);
    }
    // A list in no order has no edge.
    let shuffled = experiment_with(2, &GRID.replace("1e-3, 3e-3, 1e-2", "3e-3, 1e-3, 1e-2"));
    let rows = choose(&shuffled, &losses(&[[2.5, 2.5], [2.25, 2.25], [2.0, 2.0]]));
    assert!(!choice_sentences(&shuffled, &rows)[0].contains("edge"));
    let two = experiment_with(2, &GRID.replace("choose", "\"model.norm\" = [\"layernorm\", \"rms\"]\nchoose"));
    let mut rows = choose(&two, &Tables::default());
    assert_eq!(rows.len(), 6);
    (rows[3].chosen, rows[3].mean_loss) = (true, Some(3.0));
    // Keys are sorted by name: the second norm with the first rate.
    let expected = "adam: model.norm = rms of layernorm, rms and optimizer.lr = 0.001 of 0.001, 0.003, 0.01, by the least mean held-out loss on seeds 1000, 1001 (3.00 nats); optimizer.lr lies at the edge of the grid.";
    assert_eq!(choice_sentences(&two, &rows), [expected]);
}

/// Short runs of everything; `best` has the least loss on the selection seeds.
fn made(dir: &Path, grid: &str, best: &str) -> Experiment {
    let mut experiment = experiment_with(2, grid);
    experiment.arms.iter_mut().for_each(|arm| arm.run.train.steps = 2);
    experiment.shared.train.steps = 2;
    for arm in &experiment.arms {
        for &seed in &arm.seeds {
            let loss = if arm.name == best { 2.0 } else { 2.25 };
            let outcome = Outcome { loss, ..effect("adam", seed) };
            write_part(dir, &arm.name, seed, rows(&experiment, &arm.name, seed, outcome));
        }
    }
    experiment
}

#[test]
fn a_report_writes_the_selection_and_reads_arms_with_the_chosen_values() {
    let dir = tempfile::tempdir().unwrap();
    let experiment = made(dir.path(), GRID, "adam-lr-0.003");
    let (answer, written, _) =
        report(dir.path(), &experiment, &Records::read(dir.path(), &experiment), None, Beside::default()).unwrap();
    assert_eq!(written, Written::Whole);
    assert_eq!(answer.choices.len(), 1);
    assert!(answer.choices[0].starts_with("adam: optimizer.lr = 0.003 of "), "{}", answer.choices[0]);
    assert!(answer.to_string().contains(&answer.choices[0]));
    assert_eq!(chosen(&read_table::<SelectionRow>(dir.path()).unwrap()), Some("adam-lr-0.003"));
    // Arms on selection seeds are in the summary, but not in the table of arms.
    assert!(answer.arms.iter().all(|line| !line.arm.starts_with("adam-lr-")));
    let summary = fs::read_to_string(dir.path().join("summary.csv")).unwrap();
    assert!(summary.contains("adam-lr-0.003,loss"));
    for file in ["selection.csv", "figures/sweep_adam_optimizer_lr.svg"] {
        assert!(answer.files.iter().any(|listed| listed == file), "{file} in {:?}", answer.files);
    }
    let listed = |dir: &Path| data_package(dir).to_string().contains("\"path\":\"selection.csv\"");
    assert!(listed(dir.path()));

    seal(dir.path(), &experiment).unwrap();
    assert_eq!(
        report(dir.path(), &experiment, &Records::read(dir.path(), &experiment), None, Beside::default()).unwrap().1,
        Written::Nothing
    );
    let sums = fs::read_to_string(dir.path().join("SHA256SUMS")).unwrap();
    for file in ["selection.csv", "figures/sweep_adam_optimizer_lr.svg", "figures/loss_curves.svg"] {
        assert!(sums.lines().any(|line| line.ends_with(&format!("  {file}"))), "{file} in {sums}");
        let path = dir.path().join(file);
        let good = fs::read(&path).unwrap();
        fs::write(&path, "spoilt").unwrap();
        let error = read_answer(dir.path(), &experiment, None).unwrap_err().to_string();
        assert!(error.contains("changed since it was written"), "{error}");
        fs::write(&path, good).unwrap();
    }

    // Without parts the recorded choice counts, even where the selection runs were left out of the tables.
    fs::remove_dir_all(dir.path().join("parts")).unwrap();
    fs::remove_file(dir.path().join("SHA256SUMS")).unwrap();
    let evals = dir.path().join("evals.csv");
    let kept = fs::read_to_string(&evals).unwrap();
    let kept: String =
        kept.lines().filter(|line| !line.starts_with("adam-lr-")).map(|line| format!("{line}\n")).collect();
    fs::write(&evals, kept).unwrap();
    let figure = dir.path().join("figures/sweep_adam_optimizer_lr.svg");
    fs::remove_file(&figure).unwrap();
    let (published, written, _) =
        report(dir.path(), &experiment, &Records::read(dir.path(), &experiment), None, Beside::default()).unwrap();
    assert_eq!((&published.choices, written), (&answer.choices, Written::Nothing));
    assert!(published.notes[0].contains("selection.csv would differ"), "{:?}", published.notes);
    assert!(figure.is_file(), "what is absent is made");
    fs::remove_file(dir.path().join("selection.csv")).unwrap();
    let (again, written, _) =
        report(dir.path(), &experiment, &Records::read(dir.path(), &experiment), None, Beside::default()).unwrap();
    assert_eq!(written, Written::Report);
    assert_eq!(again.choices, ["adam: optimizer.lr is not chosen yet: 6 selection runs are missing."]);
    assert!(dir.path().join("selection.csv").is_file());
}

#[test]
fn a_report_reads_the_arm_where_the_chosen_model_has_its_last_block() {
    let dir = tempfile::tempdir().unwrap();
    let depths = GRID.replace("optimizer.lr", "model.n_layers").replace("1e-3, 3e-3, 1e-2", "1, 2");
    let experiment = made(dir.path(), &depths, "adam-n_layers-1");
    for answer in [
        report(dir.path(), &experiment, &Records::read(dir.path(), &experiment), None, Beside::default()).unwrap().0,
        read_unsealed(dir.path(), &experiment).unwrap(),
    ] {
        assert!(answer.choices[0].starts_with("adam: model.n_layers = 1 of 1, 2,"), "{}", answer.choices[0]);
    }
    let summary: Vec<SummaryRow> = read_table(dir.path()).unwrap();
    let site = |arm: &str| {
        let row = summary.iter().find(|row| row.arm == arm && row.metric == "token_kurtosis");
        row.and_then(|row| row.site).map(|site| site.to_string())
    };
    assert_eq!(site("adam").as_deref(), Some("blocks.0.resid_post"));
    assert_eq!(site("sgd").as_deref(), Some("blocks.1.resid_post"));
}

#[test]
fn chosen_values_count_in_what_is_read_of_the_arm() {
    // The grid changes the depth, so the last block of the arm is another one once it is chosen.
    let deeper = GRID.replace("optimizer.lr", "model.n_layers").replace("1e-3, 3e-3, 1e-2", "1, 2, 3");
    let experiment = experiment_with(2, &deeper);
    let mut rows = choose(&experiment, &Tables::default());
    rows[2].chosen = true;
    let resolved = resolve(&experiment, &rows);
    let site = |experiment: &Experiment| {
        let summary = summarise(experiment, &Tables::default());
        summary.iter().find(|row| row.arm == "adam" && row.site.is_some()).and_then(|row| row.site).unwrap().to_string()
    };
    assert_eq!(
        (site(&experiment), site(&resolved)),
        ("blocks.1.resid_post".to_owned(), "blocks.2.resid_post".to_owned())
    );
}
