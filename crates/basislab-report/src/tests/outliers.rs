//! Dimensions that stand out, planted in tables by hand.

use crate::fixture::{edit_residual, effect, experiment, experiment_with, name, tables};
use crate::narrative::{OutlierLine, outlier_lines, outlier_sentences};
use crate::outliers::{Search, StandingOut, outliers};
use basislab_config::{Basis, Experiment, Site, Tokens};
use basislab_tables::{DimensionRow, DimensionStepRow, Numbers, OutlierRow, ResidualRow, Tables};

const SITES: [Site; 4] = [Site::Embed, Site::ResidPost(0), Site::ResidPost(1), Site::Final];
/// Shares of the largest dimension of eight random bases, of eight dimensions; at the embedding 1.1 times these.
const DRAWS: [f64; 8] = [0.20, 0.21, 0.20, 0.22, 0.19, 0.21, 0.20, 0.21];

/// `exp(mean + t sd sqrt(1 + 1/n))` of the logarithms, with the 99 % quantile of Student's t for 7 degrees of freedom from a
/// printed table.
fn limit() -> f64 {
    let logs = DRAWS.map(f64::ln);
    let mean = logs.iter().sum::<f64>() / 8.0;
    let sd = (logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / 7.0).sqrt();
    (mean + 2.997_951_6 * sd * 1.125_f64.sqrt()).exp()
}

/// The probes of single dimensions.
fn probes(experiment: &Experiment, arm: &str) -> [u64; 3] {
    let run = &experiment.arm(arm).unwrap().run;
    let full = run.probe.steps(run.train.steps).into_iter().filter(|step| run.probe.is_full(run.train.steps, *step));
    full.collect::<Vec<_>>().try_into().unwrap()
}

type At<'a> = (&'a str, u64, usize, Site, Basis);

/// Complete runs with eight dimensions at every probe of them, all of RMS 1 but those that `large` has: `(dim, rms)`. In the
/// optimizer's basis where the arm has one.
fn made(experiment: &Experiment, large: impl Fn(At<'_>) -> Vec<(usize, f64)>) -> Tables {
    let mut all = tables(experiment, effect);
    all.dimensions.clear();
    let mut draws = Vec::new();
    for arm in &experiment.arms {
        let own = arm.run.optimizer_at(u64::MAX).1.shared_rotation().map(|_| Basis::Optimizer);
        for (&seed, (place, step)) in arm
            .seeds
            .iter()
            .flat_map(|seed| probes(experiment, &arm.name).into_iter().enumerate().map(move |at| (seed, at)))
        {
            for site in SITES {
                for (k, share) in DRAWS.into_iter().enumerate() {
                    draws.push(ResidualRow {
                        arm: arm.name.clone(),
                        seed,
                        step,
                        site,
                        layer: site.layer(),
                        tokens: Tokens::Rest,
                        tokens_used: 9,
                        basis: Basis::Random(k as u32),
                        metric: "max_dim_energy_share".to_owned(),
                        value: Some(if site == Site::Embed { 1.1 * share } else { share }),
                    });
                }
                for basis in [Basis::Standard].into_iter().chain(own) {
                    let planted = large((&arm.name, seed, place, site, basis));
                    let rms = |dim| planted.iter().find(|one| one.0 == dim).map_or(1.0, |one| one.1);
                    all.dimensions.extend((0..8).map(|dim| DimensionRow {
                        arm: arm.name.clone(),
                        seed,
                        step,
                        site,
                        layer: site.layer(),
                        dim,
                        mean: 0.0,
                        rms: rms(dim),
                        variance: 1.0,
                        skewness: None,
                        kurtosis: None,
                        min: -1.0,
                        max: 1.0,
                        max_abs: 1.0,
                        share_of_energy: 0.0,
                        basis,
                        tokens: Tokens::Rest,
                    }));
                }
            }
        }
    }
    edit_residual(&mut all, |rows| rows.extend(draws));
    all
}

/// The sizes of eight dimensions at every probe, all of RMS 1 but those that `large` has.
fn sizes(experiment: &Experiment, large: impl Fn(&str, u64, u64, Site) -> Vec<(usize, f64)>) -> Vec<DimensionStepRow> {
    let mut rows = Vec::new();
    for arm in &experiment.arms {
        let own = arm.run.optimizer_at(u64::MAX).1.shared_rotation().map(|_| Basis::Optimizer);
        for (&seed, step) in arm
            .seeds
            .iter()
            .flat_map(|seed| arm.run.probe.steps(arm.run.train.steps).into_iter().map(move |step| (seed, step)))
        {
            for (site, basis) in SITES
                .into_iter()
                .flat_map(|site| [Basis::Standard].into_iter().chain(own).map(move |basis| (site, basis)))
            {
                let mut rms = [1.0; 8];
                large(&arm.name, seed, step, site).into_iter().for_each(|(dim, size)| rms[dim] = size);
                rows.push(DimensionStepRow {
                    arm: arm.name.clone(),
                    seed,
                    step,
                    site,
                    layer: site.layer(),
                    basis,
                    tokens: Tokens::Rest,
                    rms: Numbers::new(&rms),
                    fourth_moment: Numbers::new(&rms.map(|rms| 3.0 * rms.powi(4))),
                    null_shares: Numbers::new(&DRAWS),
                });
            }
        }
    }
    rows
}

fn found(experiment: &Experiment, tables: &Tables) -> Option<Vec<OutlierRow>> {
    let mut search = Search::new(tables);
    tables.dimensions.iter().for_each(|row| search.visit(row));
    let mut all: StandingOut = search.end();
    tables.dimension_steps.iter().for_each(|row| all.visit(row));
    outliers(experiment, tables, &all)
}

fn lines(experiment: &Experiment, tables: &Tables) -> Vec<OutlierLine> {
    outlier_lines(experiment, tables, found(experiment, tables).as_deref(), |_| true)
}

#[test]
fn a_planted_dimension_is_found_by_number_at_its_sites_and_from_its_first_probe() {
    let experiment = experiment(2);
    let large = |(arm, seed, probe, site, _): At<'_>| match (arm, seed, probe, site) {
        ("adam", 1, 1, Site::ResidPost(_)) => vec![(5, 4.0)],
        ("adam", 1, 2, Site::ResidPost(_)) => vec![(5, 4.0), (2, 3.0)],
        // Not in between, and so not from the start.
        ("adam", 1, 0 | 2, Site::Final) => vec![(7, 5.0)],
        ("adam", 1, _, Site::Embed) => vec![(0, 6.0)],
        // Gone at the end.
        ("sgd", 0, 0 | 1, Site::Final) => vec![(3, 9.0)],
        _ => Vec::new(),
    };
    let rows = found(&experiment, &made(&experiment, large)).unwrap();
    let [start, middle, end] = probes(&experiment, "adam");
    let of = |row: &OutlierRow| (row.site, row.dim, row.rank, row.first_step);
    let (zero, one) = (Site::ResidPost(0), Site::ResidPost(1));
    let expected = [
        (Site::Embed, 0, 1, start),
        (zero, 5, 1, middle),
        (zero, 2, 2, end),
        (one, 5, 1, middle),
        (one, 2, 2, end),
        (Site::Final, 7, 1, end),
    ];
    assert_eq!(rows.iter().map(of).collect::<Vec<_>>(), expected);
    for row in &rows {
        assert_eq!((row.arm.as_str(), row.seed, row.step, row.bases), ("adam", 1, end, 8));
        assert_eq!((row.basis, row.tokens, row.layer), (Basis::Standard, Tokens::Rest, row.site.layer()));
        // All others have an RMS of 1, which is the median.
        assert_eq!(row.ratio, row.rms);
    }
    let energy = 6.0 + 16.0 + 9.0;
    assert!((rows[1].threshold - (limit() * energy).sqrt()).abs() < 1e-6, "{}", rows[1].threshold);
    assert_eq!((rows[1].rms, rows[2].rms), (4.0, 3.0));
}

#[test]
fn a_dimension_of_a_rotated_optimizer_is_found_in_its_own_basis_alone() {
    let experiment = experiment(3);
    let large = |(arm, _, _, _, basis): At<'_>| match (arm, basis) {
        ("adam-rotated", Basis::Optimizer) => vec![(6, 4.0)],
        _ => Vec::new(),
    };
    let tables = made(&experiment, large);
    let rows = found(&experiment, &tables).unwrap();
    assert_eq!(rows.len(), 3 * SITES.len());
    assert!(rows.iter().all(|row| row.arm == "adam-rotated" && row.basis == Basis::Optimizer && row.dim == 6));
    let said = outlier_sentences(&lines(&experiment, &tables));
    assert_eq!(
        said[0],
        "adam-rotated in its own basis: dimensions stand out in 3 of 3 seeds (seed 0: 6), from embed to final, up to 4.00 \
         times the median one; most often 6 (3 seeds)."
    );
    assert!(said[1].starts_with("No dimension stands out in adam, adam-rotated, "), "{said:?}");
    assert!(said[2].contains("by chance at 1 to 3 of 100 sites") && said.len() == 3, "{said:?}");
}

#[test]
fn equal_dimensions_keep_their_order_and_only_what_exceeds_the_limit_counts() {
    let experiment = experiment(1);
    let tie = |(arm, ..): At<'_>| if arm == "sgd" { vec![(6, 4.0), (1, 4.0)] } else { Vec::new() };
    let rows = found(&experiment, &made(&experiment, tie)).unwrap();
    let of = |row: &OutlierRow| (row.dim, row.rank);
    assert_eq!(rows[..2].iter().map(of).collect::<Vec<_>>(), [(1, 1), (6, 2)]);
    // A dimension of RMS x beside seven of 1 has the share x^2 / (x^2 + 7).
    let edge = (7.0 * limit() / (1.0 - limit())).sqrt();
    for (factor, n) in [(1.0 - 1e-6, 0), (1.0 + 1e-6, SITES.len() - 1)] {
        let large = |(arm, ..): At<'_>| if arm == "sgd" { vec![(4, factor * edge)] } else { Vec::new() };
        assert_eq!(found(&experiment, &made(&experiment, large)).unwrap().len(), n, "{factor}");
    }
    let tables = made(&experiment, |_| Vec::new());
    assert_eq!(found(&experiment, &tables), Some(Vec::new()));
    let said = outlier_sentences(&lines(&experiment, &tables));
    assert!(said.len() == 1 && said[0] == "No dimension stands out in 7 arms or bases.", "{said:?}");
}

#[test]
fn what_cannot_be_compared_is_not_said() {
    let experiment = experiment(1);
    let everywhere = |_: At<'_>| vec![(3, 9.0)];
    let whole = made(&experiment, everywhere);
    let arms = |tables: &Tables| {
        let mut arms: Vec<String> = found(&experiment, tables).unwrap().iter().map(|row| row.arm.to_string()).collect();
        arms.dedup();
        arms
    };
    assert!(arms(&whole).contains(&"sgd".to_owned()));
    let mut running = whole.clone();
    running.evals.retain(|row| row.arm != "sgd" || row.step < 600);
    assert!(!arms(&running).contains(&"sgd".to_owned()));
    // A single random basis has no limit, and no random basis has none.
    for bases in 0..2 {
        let mut few = whole.clone();
        edit_residual(&mut few, |rows| {
            rows.retain(
                |row| !matches!(row.basis, Basis::Random(k) if k >= bases && row.metric == "max_dim_energy_share"),
            );
        });
        assert_eq!(found(&experiment, &few), None);
        assert!(lines(&experiment, &few).is_empty());
    }
    // A dimension whose row is gone would be missing in sums and median.
    let mut gap = whole.clone();
    gap.dimensions.retain(|row| row.dim != 6 || row.arm != "adam");
    assert!(arms(&gap).iter().all(|arm| arm != "adam") && !arms(&gap).is_empty());
    // Half of the dimensions are dead: there is no median to compare with.
    let dead = made(&experiment, |_| [(0, 9.0)].into_iter().chain((1..6).map(|dim| (dim, 0.0))).collect());
    assert_eq!(found(&experiment, &dead), Some(Vec::new()));
}

#[test]
fn an_earlier_phase_in_another_basis_has_other_dimensions() {
    let phase = "basis = { kind = \"rotated-optimizer\", rotation = { kind = \"haar\", seed = 8 }, sharing = \"shared\", \
                 axes = \"residual\" }, moments = \"reset\"";
    let text = format!(
        "[[arm]]\nname = \"turned\"\nbasis = {{ kind = \"rotated-optimizer\", rotation = {{ kind = \"haar\", seed = 7 }}, \
         sharing = \"shared\", axes = \"residual\" }}\nphases = [{{ from = 500, {phase} }}]\n"
    );
    let experiment = experiment_with(1, &text);
    let large = |(arm, ..): At<'_>| if arm == "turned" { vec![(3, 9.0)] } else { Vec::new() };
    let mut tables = made(&experiment, large);
    let first = |tables: &Tables, basis| {
        let rows = found(&experiment, tables).unwrap();
        rows.iter().filter(|row| row.basis == basis).map(|row| row.first_step).collect::<Vec<_>>()
    };
    assert_eq!(first(&tables, Basis::Standard), [0; 4]);
    assert_eq!(first(&tables, Basis::Optimizer), [600; 4]);
    // Of all probes the first one that the second phase's optimizer made.
    tables.dimension_steps = sizes(&experiment, |_, _, _, _| vec![(3, 9.0)]);
    let run = &experiment.arm("turned").unwrap().run;
    let expected = run.probe.steps(600).into_iter().find(|step| run.optimizer_at(*step).1 == run.optimizer_at(600).1);
    assert!(expected.is_some_and(|step| (500..600).contains(&step)), "{expected:?}");
    assert_eq!(first(&tables, Basis::Standard), [0; 4]);
    assert_eq!(first(&tables, Basis::Optimizer), [expected.unwrap(); 4]);
}

#[test]
fn seeds_that_agree_are_counted_and_long_lists_are_cut() {
    let experiment = experiment(4);
    let large = |(arm, seed, _, site, _): At<'_>| match (arm, site) {
        ("sgd", Site::ResidPost(_)) if seed > 0 => vec![(7, 4.0), (seed as usize, 3.0)],
        _ => Vec::new(),
    };
    let tables = made(&experiment, large);
    let all = lines(&experiment, &tables);
    let sgd = all.iter().find(|line| line.arm == "sgd").unwrap();
    assert_eq!((sgd.n_seeds, sgd.seeds()), (4, vec![1, 2, 3]));
    let of: Vec<_> = sgd.dimensions.iter().map(|one| (one.dim, one.seeds.clone(), one.sites.len())).collect();
    assert_eq!(of, [(7, vec![1, 2, 3], 2), (1, vec![1], 2), (2, vec![2], 2), (3, vec![3], 2)]);
    assert_eq!(sgd.dimensions[0].sites.iter().map(|at| at.seeds).collect::<Vec<_>>(), [3, 3]);
    let said = outlier_sentences(&all);
    let expected = "sgd: dimensions stand out in 3 of 4 seeds (seed 1: 7, 1), from blocks.0.resid_post to \
                    blocks.1.resid_post, up to 4.00 times the median one; most often 7 (3 seeds).";
    assert_eq!(said[0], expected);
    let alone = OutlierLine { n_seeds: 1, dimensions: sgd.dimensions[1..2].to_vec(), ..sgd.clone() };
    let alone = outlier_sentences(&[alone])[0].clone();
    assert!(alone.starts_with("sgd seed 1: dimension 1 stands out, from blocks.0.resid_post"), "{alone}");
    let many: Vec<OutlierLine> = (0..9).map(|_| sgd.clone()).collect();
    let said = outlier_sentences(&many);
    assert_eq!((said.len(), said[6].as_str()), (8, "outliers.csv names those of 3 more arms or bases."));
    assert_eq!(name("sgd"), *sgd.arm.as_str());
}

/// At the first, middle and last probe alone it would be said to be born at the last.
#[test]
fn a_dimension_that_is_born_between_full_probes_has_its_exact_probe() {
    let experiment = experiment(2);
    let run = &experiment.arm("adam").unwrap().run;
    let steps = run.probe.steps(run.train.steps);
    let [start, middle, end] = probes(&experiment, "adam");
    let at = steps.iter().position(|step| *step == middle).unwrap();
    let (before, after) = (steps[at - 2], steps[at + 2]);
    assert!(start < before && after < steps[steps.len() - 2], "probes are left on both sides");
    let single = |(arm, _, place, ..): At<'_>| match (arm, place) {
        ("adam", 1) => vec![(5, 4.0)],
        ("adam", 2) => vec![(5, 4.0), (2, 3.0)],
        _ => Vec::new(),
    };
    let mut tables = made(&experiment, single);
    let coarse = found(&experiment, &tables).unwrap();
    let of = |rows: &[OutlierRow], seed, site, dim| {
        let row = rows.iter().find(|row| (row.arm.as_str(), row.seed, row.site, row.dim) == ("adam", seed, site, dim));
        row.unwrap().first_step
    };
    let zero = Site::ResidPost(0);
    assert_eq!((of(&coarse, 1, zero, 5), of(&coarse, 1, zero, 2)), (middle, end));
    tables.dimension_steps = sizes(&experiment, |arm, seed, step, site| {
        // Of seed 0 the second probe after the middle one has neither.
        let is_gap = (seed, step, site) == (0, steps[at + 2], zero);
        let born = |dim, size, from| (arm == "adam" && step >= from && !is_gap).then_some((dim, size));
        born(5, 4.0, before).into_iter().chain(born(2, 3.0, after)).collect()
    });
    for reversed in [false, true] {
        if reversed {
            tables.dimension_steps.reverse();
        }
        let rows = found(&experiment, &tables).unwrap();
        assert_eq!((of(&rows, 1, zero, 5), of(&rows, 1, zero, 2)), (before, after));
        assert_eq!((of(&rows, 0, Site::Final, 5), of(&rows, 0, Site::Final, 2)), (before, after));
        assert_eq!((of(&rows, 0, zero, 5), of(&rows, 0, zero, 2)), (steps[at + 3], steps[at + 3]));
        // Nothing else depends on the sizes at other probes.
        let others = |rows: &[OutlierRow]| rows.iter().map(|row| OutlierRow { first_step: 0, ..row.clone() }).collect();
        let (fine, coarse): (Vec<OutlierRow>, Vec<OutlierRow>) = (others(&rows), others(&coarse));
        assert_eq!(fine, coarse);
    }
    // A probe without a row breaks the chain, and so does one without random bases.
    let mut broken = tables.clone();
    broken.dimension_steps.retain(|row| row.step != steps[at + 4]);
    assert_eq!(of(&found(&experiment, &broken).unwrap(), 1, zero, 5), steps[at + 5]);
    let without = tables.dimension_steps.iter_mut().filter(|row| row.step == steps[at + 4]);
    without.for_each(|row| row.null_shares = Numbers::default());
    assert_eq!(of(&found(&experiment, &tables).unwrap(), 1, zero, 5), steps[at + 5]);
}
