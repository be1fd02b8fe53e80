#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

use super::agreement::expected_in;
use super::{Agreement, Profiles, writes};
use crate::fixture::name;
use basislab_config::{Basis, Site, Tokens};
use basislab_stats::{Residuals, dimensions};
use basislab_tables::DimensionRow;

/// Rows of one site as a probe makes them of activations `[n_tokens, d_model]`.
fn rows(arm: &str, seed: u64, (step, site): (u64, Site), values: &[f64], d_model: usize) -> Vec<DimensionRow> {
    let moments = dimensions(&Residuals::new(values.to_vec(), d_model).unwrap());
    let row = |m: basislab_stats::DimensionMoments| DimensionRow {
        arm: name(arm),
        seed,
        step,
        site,
        layer: site.layer(),
        dim: m.dim,
        mean: m.mean,
        rms: m.rms,
        variance: m.variance,
        skewness: m.skewness,
        kurtosis: m.kurtosis,
        min: m.min,
        max: m.max,
        max_abs: m.max_abs,
        share_of_energy: m.share_of_energy,
        basis: Basis::Standard,
        tokens: Tokens::Rest,
    };
    moments.into_iter().map(row).collect()
}

/// Values without any order; dimension 3 is constant.
fn values(key: usize, d_model: usize) -> Vec<f64> {
    let value = |place: usize| ((place * 7919 + key * 104_729) % 1009) as f64 / 250.0 - 1.3;
    (0..6 * d_model).map(|place| if place % d_model == 3 { 0.5 } else { value(place) }).collect()
}

fn of(rows: impl IntoIterator<Item = DimensionRow>, most: usize) -> Profiles {
    let mut profiles = Profiles::with(most);
    rows.into_iter().for_each(|row| profiles.visit(&row, || true));
    profiles.end();
    profiles
}

#[test]
fn parts_add_up_to_the_kurtosis_of_all_values() {
    let d = 8;
    let activations = values(1, d);
    let profiles = of(rows("adam", 0, (4, Site::Embed), &activations, d), 1000);
    let profile = &profiles.runs[0].profiles[0];
    let mean = |power: i32| activations.iter().map(|x| x.powi(power)).sum::<f64>() / activations.len() as f64;
    let kurtosis = mean(4) / (mean(2) * mean(2));
    assert!((profile.kurtosis - kurtosis).abs() < 1e-9 * kurtosis, "{} {kurtosis}", profile.kurtosis);
    for dim in 0..d {
        let of_dim = |power: i32| activations.iter().skip(dim).step_by(d).map(|x| x.powi(power)).sum::<f64>() / 6.0;
        let (rms, part) = (of_dim(2).sqrt(), of_dim(4) / (d as f64 * mean(2) * mean(2)));
        assert!((f64::from(profile.rms[dim]) - rms).abs() < 1e-6 * rms, "{dim}");
        assert!((f64::from(profile.parts[dim]) - part).abs() < 1e-6 * part, "{dim}");
    }
    let mut sizes: Vec<f64> = profile.rms.iter().map(|rms| f64::from(*rms)).collect();
    sizes.sort_by(f64::total_cmp);
    assert!((profile.median - (sizes[3] + sizes[4]) / 2.0).abs() < 1e-6);
}

fn of_runs(runs: &[(&str, u64)], d: usize) -> Vec<DimensionRow> {
    let of = |(place, &(arm, seed)): (usize, &(&str, u64))| {
        let sites = [Site::Embed, Site::ResidPost(0)].into_iter().enumerate();
        sites.flat_map(move |(site, at)| rows(arm, seed, (4, at), &values(2 * place + site, d), d)).collect::<Vec<_>>()
    };
    runs.iter().enumerate().flat_map(of).collect()
}

fn kept(profiles: &Profiles) -> Vec<(&str, u64)> {
    profiles.runs.iter().map(|run| (run.arm.as_str(), run.seed)).collect()
}

const RUNS: [(&str, u64); 7] =
    [("adam", 9), ("adam", 2), ("adam", 5), ("rotated", 9), ("sgd", 9), ("sgd", 2), ("sgd", 5)];

#[test]
fn of_each_arm_the_first_seeds_are_kept_and_then_the_first_arms() {
    // A run has 2 sites of 8 dimensions, two numbers each.
    let d = 8;
    let all = of_runs(&RUNS, d);
    let whole = of(all.clone(), 7 * 32);
    assert_eq!((kept(&whole), whole.left_out()), (RUNS.to_vec(), Vec::new()));
    let fewer = of(all.clone(), 7 * 32 - 1);
    assert_eq!(kept(&fewer), [("adam", 9), ("adam", 2), ("rotated", 9), ("sgd", 9), ("sgd", 2)]);
    let said = fewer.left_out();
    assert!(said.len() == 1 && said[0].contains("of each arm the first 2 of up to 3 seeds"), "{said:?}");
    assert_eq!(kept(&of(all.clone(), 5 * 32 - 1)), [("adam", 9), ("rotated", 9), ("sgd", 9)]);
    // The seeds are of the file's order, and each run's numbers are its own.
    let run = fewer.runs.iter().find(|run| run.arm == "sgd" && run.seed == 2).unwrap();
    assert_eq!(run.profiles, of(of_runs(&RUNS[..6], d), 9999).runs[5].profiles);
    let arms: Vec<(&str, u64)> = ["a1", "a2", "a3", "a4", "a5", "a6"].map(|arm| (arm, 1)).to_vec();
    let few = of(of_runs(&arms, d), 5 * 32);
    assert_eq!(kept(&few), arms[..5]);
    assert!(few.left_out()[0].ends_with("the last ones of the configuration: a6."), "{:?}", few.left_out());
}

#[test]
fn memory_is_bounded_whatever_is_read() {
    let mut profiles = Profiles::with(20 * 32);
    for seed in 0..500 {
        for row in of_runs(&[("adam", seed)], 8) {
            profiles.visit(&row, || true);
        }
        assert!(profiles.runs.len() <= 20);
    }
    profiles.end();
    assert_eq!(kept(&profiles), (0..20).map(|seed| ("adam", seed)).collect::<Vec<_>>());
    assert_eq!(profiles.seen[0].1.len(), 500);
}

#[test]
fn of_a_wide_model_the_largest_dimensions_are_kept() {
    let d = 64;
    let mut all = of_runs(&[("adam", 1)], d);
    for (dim, site) in [(41, Site::Embed), (7, Site::ResidPost(0))] {
        all.iter_mut().filter(|row| (row.dim, row.site) == (dim, site)).for_each(|row| row.rms *= 50.0);
    }
    // A quarter of them is 32 numbers: eight dimensions at two sites.
    let profiles = of(all, 128);
    let run = &profiles.runs[0];
    assert_eq!((run.d_model, run.dims.len(), run.profiles[0].rms.len()), (64, 8, 8));
    assert!(run.dims.contains(&41) && run.dims.contains(&7) && run.dims.is_sorted(), "{:?}", run.dims);
    let place = run.dims.iter().position(|dim| *dim == 41).unwrap();
    assert!(run.profiles[0].rms[place] > 40.0, "{:?}", run.profiles[0].rms);
    assert!(profiles.left_out()[0].contains("8 of 64 of adam"), "{:?}", profiles.left_out());
}

#[test]
fn lists_of_another_table_join_those_of_their_run() {
    let runs = [("adam", 1), ("sgd", 1)];
    let mut profiles = of(of_runs(&runs, 8), 9999);
    for (arm, seed) in runs {
        for row in rows(arm, seed, (2, Site::Embed), &values(40, 8), 8) {
            profiles.visit(&row, || true);
        }
        // What is there already is not taken twice, and a list that lacks a dimension not at all.
        for row in rows(arm, seed, (4, Site::Embed), &values(41, 8), 8) {
            profiles.visit(&row, || true);
        }
        for row in rows(arm, seed, (3, Site::Embed), &values(42, 8), 8) {
            profiles.visit(&DimensionRow { dim: row.dim.max(1), ..row }, || true);
        }
    }
    profiles.end();
    assert_eq!(kept(&profiles), runs);
    for run in &profiles.runs {
        let steps: Vec<(u64, Site)> = run.profiles.iter().map(|one| (one.step, one.site)).collect();
        assert_eq!(steps, [(4, Site::Embed), (4, Site::ResidPost(0)), (2, Site::Embed)]);
    }
}

#[test]
fn rows_at_the_front_of_a_joined_table_are_put_back() {
    let rows = of_runs(&[("adam", 1), ("sgd", 1)], 8);
    let mut joined = rows.clone();
    let front: Vec<DimensionRow> = [9, 5].map(|place| joined.remove(place)).to_vec();
    assert_eq!(of(front.into_iter().chain(joined), 9999).runs, of(rows, 9999).runs);
}

#[test]
fn chance_is_that_of_all_placements_written_out() {
    // Every way to choose two and one and one of four dimensions.
    let (d, mut of) = (4, [0usize; 4]);
    let mut ways = 0;
    for first in 0..d {
        for second in first + 1..d {
            for (one, other) in (0..d).flat_map(|one| (0..d).map(move |other| (one, other))) {
                ways += 1;
                for dim in 0..d {
                    let seeds = usize::from(dim == first || dim == second);
                    of[seeds + usize::from(dim == one) + usize::from(dim == other)] += 1;
                }
            }
        }
    }
    let expected = expected_in(d, &[2, 1, 1]);
    for (seeds, count) in of.into_iter().enumerate() {
        assert!((expected[seeds] - count as f64 / f64::from(ways)).abs() < 1e-12, "{seeds}: {expected:?}");
    }
}

#[test]
fn what_stands_out_in_several_seeds_is_counted_and_compared_with_chance() {
    // A dimension at two sites of a seed counts once.
    let found = [(1, 5), (1, 5), (1, 9), (2, 5), (3, 5), (3, 0)];
    let agreement = Agreement::of(("adam", Basis::Standard), 64, 4, found);
    assert_eq!(agreement.shared(), [(5, 3)]);
    let rows = agreement.rows();
    let counts: Vec<(usize, usize)> = rows.iter().map(|(seeds, found, _)| (*seeds, *found)).collect();
    assert_eq!(counts, [(1, 2), (2, 0), (3, 1)]);
    // Two, one and two of 64 at random: 64 (2/64 1/64 + 2/64 2/64 + 1/64 2/64) but for those in all three.
    let two_or_more = 8.0 / 64.0 - 2.0 * 4.0 / 64.0_f64.powi(2);
    assert!((rows[1].2 + rows[2].2 - two_or_more).abs() < 1e-12, "{rows:?}");
    assert_eq!(
        agreement.sentence(),
        "1 dimension stands out in two or more of 4 seeds; if the dimensions of each seed (1.2 of 64 on average) were drawn at \
         random, 0.12 would be expected."
    );
    let alone = Agreement::of(("adam", Basis::Standard), 64, 1, [(1, 5)]);
    assert!(alone.sentence().contains("one seed") && alone.rows().is_empty(), "{}", alone.sentence());
    let none = Agreement::of(("adam", Basis::Standard), 64, 3, []);
    assert_eq!((none.sentence(), none.rows()), ("No dimension stands out in any of 3 seeds.".to_owned(), Vec::new()));
}

/// The labels of the writes, which must follow each other from nothing to the last site of the stream.
fn labels(sites: &[Site], is_post: bool) -> (Vec<String>, usize) {
    let (all, lacking) = writes(sites, is_post);
    let mut before = None;
    for write in &all {
        assert_eq!(write.from, before, "{all:?}");
        before = Some(write.to);
    }
    (all.into_iter().map(|write| write.label).collect(), lacking.len())
}

#[test]
fn writes_lie_between_sites_that_follow_each_other() {
    use Site::{AttnSum, Embed, EmbedSum, Final, MlpSum, ResidMid, ResidPost};
    let plain = [Embed, ResidMid(0), ResidPost(0), ResidMid(1), ResidPost(1), Final];
    let blocks = ["block 0: attention", "block 0: MLP", "block 1: attention", "block 1: MLP"];
    let expected: Vec<&str> = ["embeddings and positions"].into_iter().chain(blocks).collect();
    assert_eq!(labels(&plain, false), (expected.into_iter().map(str::to_owned).collect(), 0));
    let of = |sites: &[Site], is_post| {
        let (labels, lacking) = labels(sites, is_post);
        (labels.join("; "), lacking)
    };
    let parallel = "embeddings and positions; block 0: attention and MLP; block 1: attention and MLP";
    assert_eq!(of(&[Embed, ResidPost(0), ResidPost(1)], false), (parallel.to_owned(), 1));
    let post = "embeddings, positions and norm; block 0: attention and norm; block 0: MLP and norm";
    assert_eq!(of(&[Embed, ResidMid(0), ResidPost(0)], true), (post.to_owned(), 1));
    let sums = "embeddings and positions; norm of the embeddings; block 0: attention; block 0: norm after attention; block 0: \
                MLP; block 0: norm after MLP";
    let all = [EmbedSum, Embed, AttnSum(0), ResidMid(0), MlpSum(0), ResidPost(0)];
    assert_eq!(of(&all, true), (sums.to_owned(), 1));
    assert_eq!(of(&[ResidPost(1)], false), ("all up to blocks.1.resid_post".to_owned(), 1));
    let gap = "embeddings and positions; from embed to blocks.2.resid_post";
    assert_eq!(of(&[Embed, ResidPost(2)], false), (gap.to_owned(), 1));
}
