use super::{answer_of, verdict};
use crate::fixture::{Outcome, edit_residual, effect, experiment, experiment_with, no_effect, tables, verdict_site};
use crate::summary::summarise;
use basislab_config::{Basis, Experiment, StepPattern, Tokens};
use basislab_stats::Verdict;
use basislab_tables::{ResidualRow, Tables};

fn verdicts(experiment: &Experiment, tables: &Tables) -> Vec<(String, Verdict)> {
    super::rows_of_claims(experiment, tables).into_iter().map(|row| (row.claim.to_string(), row.verdict)).collect()
}

#[test]
fn the_summary_holds_mean_null_and_distance() {
    let experiment = experiment(2);
    let mut tables = tables(&experiment, |arm, seed| Outcome { standard: 5.0 + seed as f64, ..effect(arm, seed) });
    let site = verdict_site(&experiment);
    let mut rows = tables.residual.to_rows();
    rows.retain(|row| row.site == site && !matches!(row.basis, Basis::Random(2..)));
    for row in &mut rows {
        // Two draws, 1 and 3, around 2 in seed 0 and around 4 in seed 1: the spread between runs must not enter.
        if let Basis::Random(k) = row.basis {
            row.value = Some(1.0 + 2.0 * f64::from(k) + 2.0 * row.seed as f64);
        }
        if row.basis == Basis::Standard && row.step == 600 {
            row.value = Some(5.0 + row.seed as f64);
        }
    }
    tables.residual = rows.into_iter().collect();
    let summary = summarise(&experiment, &tables);
    let row = summary.iter().find(|row| row.arm == "adam" && row.metric == "token_kurtosis").unwrap();
    assert_eq!((row.n_seeds, row.mean, row.null_mean), (2, Some(5.5), Some(3.0)));
    assert!((row.null_sd.unwrap() - 2f64.sqrt()).abs() < 1e-12);
    // 5 over 2 and 6 over 4; above both draws in both seeds.
    assert!((row.ratio.unwrap() - (2.5f64 * 1.5).sqrt()).abs() < 1e-12);
    assert_eq!((row.bases, row.seeds_above, row.seeds_below), (2, 2, 0));
    edit_residual(&mut tables, |rows| rows.retain(|row| !matches!(row.basis, Basis::Random(_))));
    let summary = summarise(&experiment, &tables);
    let row = summary.iter().find(|row| row.arm == "adam" && row.metric == "token_kurtosis").unwrap();
    assert!((row.null_mean.unwrap() - 3.0 * 63.0 / 65.0).abs() < 1e-12);
    assert_eq!((row.null_sd, row.bases, row.seeds_above), (None, 0, 0));
    assert!(summary.iter().any(|row| row.arm == "sgd" && row.metric == "loss_above_floor" && row.n_seeds == 2));
}

#[test]
fn an_effect_is_found() {
    let experiment = experiment(8);
    let tables = tables(&experiment, effect);
    let controls = [
        "rotated-adam-differs-in-its-own-basis",
        "rotated-adam-equals-its-null",
        "sgd-equals-its-null",
        "independent-adam-equals-its-null",
        "rotated-loss-equals-adam-loss",
        "identity-is-adam",
    ];
    for (claim, found) in verdicts(&experiment, &tables) {
        let expected = if controls.contains(&claim.as_str()) { Verdict::Control } else { Verdict::Supported };
        assert_eq!(found, expected, "{claim}");
    }
    let row = verdict(&experiment, &tables, "adam-differs-from-its-null");
    assert_eq!((row.n_seeds, row.p, row.margin), (8, Some(1e-5), Some(0.15)));
    assert_eq!(row.p_test, "exchangeability test over random bases, 99999 draws");
    // Two primary claims are no controls.
    assert_eq!(row.p_holm, Some(2e-5));
    assert_eq!(row.comparison, "adam / null(standard)");
    assert_eq!(row.note, "above all 64 random bases in 8 of 8 seeds");
    let between = verdict(&experiment, &tables, "adam-differs-from-sgd");
    assert_eq!((between.p, between.p_test.as_str()), (Some(2.0 / 256.0), "exact sign-flip test"));
    assert!(row.estimate.unwrap() > 0.4 && row.ci_low.unwrap() < row.estimate.unwrap());
    let own = verdict(&experiment, &tables, "rotated-adam-differs-in-its-own-basis");
    assert!((own.estimate.unwrap() - row.estimate.unwrap()).abs() < 0.2);
    assert!(!own.primary && own.p_holm.is_none(), "a control is in no family");
    assert_eq!(
        own.note,
        "above all 64 random bases in 8 of 8 seeds; settled by symmetry (adam-rotated is adam in another basis)"
    );
    assert_eq!(verdict(&experiment, &tables, "sgd-equals-its-null").p_holm, None);
}

#[test]
fn no_effect_is_not_found() {
    let experiment = experiment(8);
    let tables = tables(&experiment, no_effect);
    for claim in ["adam-differs-from-its-null", "adam-differs-from-sgd"] {
        assert_eq!(verdict(&experiment, &tables, claim).verdict, Verdict::Negligible, "{claim}");
    }
    let control = verdict(&experiment, &tables, "sgd-equals-its-null");
    assert_eq!(control.verdict, Verdict::Control);
    assert!(control.note.ends_with("(the update rule of sgd is the same in every basis): agrees"), "{}", control.note);
}

#[test]
fn kurtosis_below_the_null_is_a_difference_too() {
    let experiment = experiment(8);
    let below = |arm: &str, seed| match arm {
        "adam" | "adam-identity" => Outcome { standard: 2.2 + 0.01 * seed as f64, ..effect(arm, seed) },
        _ => effect(arm, seed),
    };
    let tables = tables(&experiment, below);
    let row = verdict(&experiment, &tables, "adam-differs-from-its-null");
    assert_eq!(row.verdict, Verdict::Supported);
    assert!(row.estimate.unwrap() < 0.0);
    let answer = answer_of(&experiment, &tables);
    assert!(answer.finding.contains("adam is below random bases"), "{}", answer.finding);
}

#[test]
fn a_seed_that_diverged_or_is_missing_leaves_its_claims_open() {
    let experiment = experiment(8);
    let diverged =
        |arm: &str, seed| Outcome { diverges_at: (arm == "sgd" && seed == 2).then_some(300), ..effect(arm, seed) };
    let mut tables = tables(&experiment, diverged);
    tables.evals.retain(|row| !(row.arm == "adam-rotated" && row.step == 600 && row.seed > 5));
    let row = verdict(&experiment, &tables, "adam-differs-from-sgd");
    assert_eq!((row.verdict, row.n_seeds), (Verdict::Inconclusive, 7));
    assert_eq!(row.note, "sgd seed 2 diverged; in 7 of 7 seeds");
    let own = verdict(&experiment, &tables, "rotated-adam-differs-in-its-own-basis");
    assert!(own.note.starts_with("adam-rotated seeds 6, 7 missing; above all"), "{}", own.note);
    assert_eq!(verdict(&experiment, &tables, "adam-differs-from-its-null").verdict, Verdict::Supported);
    let answer = answer_of(&experiment, &tables);
    assert_eq!((answer.runs_complete, answer.runs_diverged, answer.runs_planned), (30, 1, 33));
    assert!(answer.remarks[0].contains("1 diverged (arm and seed: sgd 2), 2 still missing"), "{:?}", answer.remarks);
    let sgd = summarise(&experiment, &tables).into_iter().find(|row| row.arm == "sgd").unwrap();
    assert_eq!((sgd.n_seeds, sgd.seeds_planned), (7, 8));
}

#[test]
fn the_family_does_not_shrink_while_runs_are_missing() {
    let experiment = experiment(8);
    let mut tables = tables(&experiment, effect);
    tables.evals.retain(|row| row.arm != "sgd");
    assert_eq!(verdict(&experiment, &tables, "adam-differs-from-its-null").p_holm, Some(2e-5));
    assert_eq!(verdict(&experiment, &tables, "adam-differs-from-sgd").p_holm, None);
}

#[test]
fn few_seeds_are_exploratory_but_bits_need_one() {
    let experiment = experiment(3);
    let mut tables = tables(&experiment, effect);
    for (claim, found) in verdicts(&experiment, &tables) {
        // What holds by symmetry holds with any number of seeds.
        let control = experiment.claims.iter().any(|one| one.name == claim.as_str() && one.symmetry.is_some());
        assert_eq!(found, if control { Verdict::Control } else { Verdict::Exploratory }, "{claim}");
    }
    tables.evals.retain(|row| row.arm != "sgd" || row.seed != 1);
    let row = verdict(&experiment, &tables, "adam-differs-from-sgd");
    assert_eq!(row.verdict, Verdict::Exploratory);
    assert_eq!(row.note, "sgd seed 1 missing; in 2 of 2 seeds; 2 seeds give no p below 0.50");
}

#[test]
fn one_bit_refutes_identity() {
    let experiment = experiment(8);
    let mut tables = tables(&experiment, effect);
    let row = tables.steps.iter_mut().find(|row| row.arm == "adam-identity" && row.step == 417).unwrap();
    row.train_loss = row.train_loss.map(f64::next_up);
    let found = verdict(&experiment, &tables, "identity-is-adam");
    assert_eq!((found.verdict, found.p, found.n_seeds), (Verdict::Refuted, None, 1));
    assert!(found.note.contains("seed 0 step 417 train_loss: "), "{}", found.note);
    assert!(answer_of(&experiment, &tables).remarks[0].starts_with("Self-test FAILED"));
    tables.steps.retain(|row| row.arm != "adam-identity" || row.step != 417);
    assert!(verdict(&experiment, &tables, "identity-is-adam").note.contains("only adam has it"));
}

#[test]
fn bits_that_a_backend_does_not_promise_refute_nothing() {
    let experiment = experiment(8);
    let mut tables = tables(&experiment, effect);
    tables.timing = super::cases::case(1).tables.timing;
    let on = |tables: &Tables, backend: &str| {
        let mut tables = tables.clone();
        for row in tables.timing.iter_mut().filter(|row| row.arm == "adam") {
            row.backend = backend.to_owned();
        }
        verdict(&experiment, &tables, "identity-is-adam")
    };
    assert_eq!(on(&tables, "wgpu").verdict, Verdict::Control);
    let row = tables.steps.iter_mut().find(|row| row.arm == "adam-identity" && row.step == 2).unwrap();
    row.grad_norm = row.grad_norm.map(f64::next_up);
    for backend in ["flex", "ndarray"] {
        assert_eq!(on(&tables, backend).verdict, Verdict::Refuted);
    }
    let found = on(&tables, "wgpu");
    assert_eq!(found.verdict, Verdict::Inconclusive);
    assert!(found.note.contains("seed 0 step 2 grad_norm: "), "{}", found.note);
    assert!(found.note.ends_with("; wgpu does not promise to repeat its own bits"), "{}", found.note);
}

#[test]
fn matched_loss_reads_the_first_look_at_or_below_the_others_final_loss() {
    let experiment = experiment(8);
    // SGD ends where Adam was at step 128, so Adam is read there.
    let tables = tables(&experiment, |arm, seed| {
        let seed = if arm == "adam" || arm == "sgd" { 0 } else { seed };
        effect(arm, seed)
    });
    let mut slow = tables.clone();
    let at_128 = slow.evals.iter().find(|row| row.arm == "adam" && row.step == 128).unwrap().loss;
    for row in slow.evals.iter_mut().filter(|row| row.arm == "sgd") {
        row.loss = if row.step == 600 { at_128 } else { Some(9.0) };
    }
    let claim = "adam-differs-from-sgd-at-matched-loss";
    let early = verdict(&experiment, &slow, claim);
    let site = verdict_site(&experiment);
    let cell = |arm: &str, seed, step| {
        let of_run = |row: &&ResidualRow| (row.arm.as_str(), row.seed, row.step) == (arm, seed, step);
        let rows = tables.residual.to_rows();
        let mut rows = rows.iter().filter(|row| row.site == site && row.basis == Basis::Standard);
        rows.find(of_run).unwrap().value.unwrap()
    };
    let logs = (0..8).map(|seed| (cell("adam", seed, 128) / cell("sgd", seed, 600)).ln());
    let expected = logs.sum::<f64>() / 8.0;
    assert!((early.estimate.unwrap() - expected).abs() < 1e-12);
    // Where Adam ends behind, SGD is read where it had come as far: here at its own end, the only look that low.
    for row in slow.evals.iter_mut().filter(|row| row.arm == "sgd" && row.step == 600 && row.seed == 4) {
        row.loss = Some(1.0);
    }
    let behind = verdict(&experiment, &slow, claim);
    let logs = (0..8).map(|seed| (cell("adam", seed, if seed == 4 { 600 } else { 128 }) / cell("sgd", seed, 600)).ln());
    assert!((behind.estimate.unwrap() - logs.sum::<f64>() / 8.0).abs() < 1e-12);
    for row in slow.evals.iter_mut().filter(|row| row.arm == "sgd" && row.seed == 4 && row.step == 256) {
        row.loss = Some(1.0);
    }
    let earlier = verdict(&experiment, &slow, claim);
    assert!(earlier.note.contains("seed 4: adam ended behind, so sgd is read at step 256"), "{}", earlier.note);
    // Seeds that are read at one step share a note.
    for row in slow.evals.iter_mut().filter(|row| row.arm == "sgd" && [5, 6].contains(&row.seed) && row.step >= 256) {
        row.loss = Some(1.0);
    }
    let earlier = verdict(&experiment, &slow, claim);
    assert!(earlier.note.contains("seeds 4-6: adam ended behind, so sgd is read at step 256"), "{}", earlier.note);
}

#[test]
fn a_claim_with_a_cell_of_its_own_says_which() {
    let mut experiment = experiment(8);
    let of = |experiment: &Experiment, tables: &basislab_tables::Tables| {
        let row = verdict(experiment, tables, "adam-differs-from-sgd");
        (
            row.tokens,
            row.basis,
            row.step,
            answer_of(experiment, tables).verdicts.into_iter().map(|line| line.sentence).collect::<Vec<_>>().join("\n"),
        )
    };
    let tables = tables(&experiment, effect);
    let (tokens, basis, step, said) = of(&experiment, &tables);
    assert_eq!((tokens, basis, step), (Some(Tokens::Rest), Some(Basis::Standard), Some(600)));
    assert!(said.contains("adam is 68 % higher than sgd"), "{said}");
    let at = experiment.claims.iter().position(|claim| claim.name == "adam-differs-from-sgd").unwrap();
    experiment.claims[at].cell.step = StepPattern::At(512);
    experiment.claims[at].cell.tokens = Tokens::All;
    let (tokens, basis, step, said) = of(&experiment, &tables);
    assert_eq!((tokens, basis, step), (Some(Tokens::All), Some(Basis::Standard), Some(512)));
    assert!(said.contains("adam (all tokens, step 512)"), "{said}");
    // Neither losses nor bits are read in a cell, and a matched loss is at no one step.
    for claim in ["sgd-loss-equals-adam-loss", "identity-is-adam"] {
        let row = verdict(&experiment, &tables, claim);
        assert_eq!((row.tokens, row.basis, row.step), (None, None, None), "{claim}");
    }
    assert_eq!(verdict(&experiment, &tables, "adam-differs-from-sgd-at-matched-loss").step, None);
}

#[test]
fn a_family_that_is_too_large_for_its_seeds_is_told_so() {
    let claim = |number: usize| {
        let test = "test = { kind = \"arms-differ\", arm = \"adam\", other = \"sgd\", reading = \"final\" }";
        format!("[[claim]]\nname = \"again-{number}\"\ntext = \"t\"\nprimary = true\n{test}\n")
    };
    for (more, said) in [(4, None), (6, Some("8 seeds give no p below 0.055"))] {
        let experiment = experiment_with(8, &(0..more).map(claim).collect::<String>());
        let row = verdict(&experiment, &tables(&experiment, effect), "again-0");
        match said {
            Some(said) => assert!(row.note.contains(said), "{more}: {}", row.note),
            None => assert!(!row.note.contains("no p below"), "{more}: {}", row.note),
        }
    }
}
