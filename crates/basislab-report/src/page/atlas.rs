//! The section on single dimensions: its words, and its numbers for the script.

use super::figures::for_script;
use super::markup::{escaped, paragraphs};
use crate::atlas::{Agreement, Profile, Profiles, RunProfiles, writes};
use crate::figures::{of_tokens, short_site};
use basislab_config::{Basis, Site};
use basislab_tables::OutlierRow;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

/// A dimension that stands out of random bases at a site.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark<'a> {
    pub(super) arm: &'a str,
    pub(super) seed: u64,
    pub(super) basis: Basis,
    pub(super) site: Site,
    pub(super) dim: usize,
    /// The step from which on it does so.
    pub(super) since: u64,
    /// Its size over that of the median dimension, and what this must exceed.
    pub(super) ratio: f64,
    pub(super) threshold: f64,
}

impl<'a> From<&'a OutlierRow> for Mark<'a> {
    fn from(row: &'a OutlierRow) -> Self {
        let OutlierRow { arm, seed, basis, site, dim, first_step: since, ratio, threshold, .. } = row;
        let (arm, seed, basis, site, dim) = (arm.as_str(), *seed, *basis, *site, *dim);
        Self { arm, seed, basis, site, dim, since: *since, ratio: *ratio, threshold: *threshold }
    }
}

/// The section as HTML, with its numbers; empty where no single dimension was recorded. `marks` are `None` where it is not known
/// which dimensions stand out; `is_post` says of an arm whether its stream is normalised after each branch.
pub(super) fn section(profiles: &Profiles, marks: Option<&[Mark<'_>]>, is_post: impl Fn(&str) -> bool) -> String {
    let Some(first) = profiles.runs.first().and_then(|run| run.profiles.first()) else { return String::new() };
    let unknown = "Which dimensions stand out is not known here: that takes random bases at the same sites.".to_owned();
    let said: Vec<String> = profiles.left_out().into_iter().chain(marks.is_none().then_some(unknown)).collect();
    let about = format!(
        "Each row is a dimension, each column a site of the residual stream; {}. Enter or a click on a row shows that dimension \
         below. Energy is the mean square.",
        of_tokens(first.tokens)
    );
    format!(
        "<section id=\"dimensions\">\n<h2>Dimensions</h2>\n<p class=\"about\">{}</p>\n{}<noscript><p class=\"said\">The \
         dimensions are shown by a script; <code>dimensions.csv</code> has them.</p></noscript>\n</section>\n\
         <script type=\"application/json\" id=\"atlas\">{}</script>\n",
        escaped(&about),
        paragraphs("said", &said),
        for_script(&data(profiles, marks.unwrap_or(&[]), marks.is_some(), is_post).to_string()),
    )
}

fn data(profiles: &Profiles, marks: &[Mark<'_>], compared: bool, is_post: impl Fn(&str) -> bool) -> Value {
    let runs: Vec<Value> = profiles.runs.iter().map(|one| run(one, marks, is_post(&one.arm))).collect();
    let agreements = if compared { agreements(profiles, marks) } else { Vec::new() };
    let (start, basis) = start(profiles, marks);
    json!({ "start": start, "basis": basis.to_string(), "compared": compared, "runs": runs, "agreements": agreements })
}

/// The run in which most dimensions stand out, and in which basis: the first of several.
fn start(profiles: &Profiles, marks: &[Mark<'_>]) -> (usize, Basis) {
    let (mut best, mut most) = ((0, Basis::Standard), 0);
    for (place, run) in profiles.runs.iter().enumerate() {
        for basis in bases(run) {
            let dims: BTreeSet<usize> = of_run(marks, run, basis).map(|mark| mark.dim).collect();
            if dims.len() > most {
                (best, most) = ((place, basis), dims.len());
            }
        }
    }
    best
}

fn of_run<'a>(marks: &'a [Mark<'a>], run: &RunProfiles, basis: Basis) -> impl Iterator<Item = &'a Mark<'a>> {
    marks.iter().filter(move |mark| (mark.arm, mark.seed, mark.basis) == (run.arm.as_str(), run.seed, basis))
}

fn bases(run: &RunProfiles) -> Vec<Basis> {
    run.profiles.iter().map(|one| one.basis).collect::<BTreeSet<Basis>>().into_iter().collect()
}

fn run(run: &RunProfiles, marks: &[Mark<'_>], is_post: bool) -> Value {
    let steps: Vec<u64> = run.profiles.iter().map(|one| one.step).collect::<BTreeSet<u64>>().into_iter().collect();
    let mut sites: Vec<Site> = run.profiles.iter().map(|one| one.site).collect();
    sites.sort_by_key(|site| site.order());
    sites.dedup();
    let (writes, lacking) = writes(&sites, is_post);
    let writes: Vec<Value> = writes.iter().map(|one| json!([one.label, one.from, one.to])).collect();
    let of_basis = |basis: Basis| {
        let at = |step: u64, site: Site| {
            run.profiles.iter().find(|one| (one.step, one.site, one.basis) == (step, site, basis)).map(list)
        };
        let lists: Vec<Vec<Option<Value>>> =
            steps.iter().map(|&step| sites.iter().map(|&site| at(step, site)).collect()).collect();
        let out: Vec<Value> = of_run(marks, run, basis)
            .filter_map(|mark| {
                let site = sites.iter().position(|site| *site == mark.site)?;
                Some(json!([mark.dim, site, mark.since, rounded(mark.ratio, 4), rounded(mark.threshold, 4)]))
            })
            .collect();
        json!({ "basis": basis.to_string(), "lists": lists, "out": out })
    };
    let dims = (run.dims.len() < run.d_model).then_some(&run.dims);
    json!({
        "arm": run.arm.as_str(),
        "seed": run.seed,
        "d": run.d_model,
        "dims": dims,
        "steps": steps,
        "sites": sites.iter().map(Site::to_string).collect::<Vec<_>>(),
        "short": sites.iter().map(|&site| short_site(site)).collect::<Vec<_>>(),
        "writes": writes,
        "lacking": lacking,
        "bases": bases(run).into_iter().map(of_basis).collect::<Vec<_>>(),
    })
}

/// Four digits of an RMS, three of a part of the kurtosis.
fn list(profile: &Profile) -> Value {
    let rounded_all =
        |values: &[f32], digits| values.iter().map(|&value| rounded(value.into(), digits)).collect::<Vec<_>>();
    json!({
        "rms": rounded_all(&profile.rms, 4),
        "parts": rounded_all(&profile.parts, 3),
        "median": rounded(profile.median, 4),
        "kurtosis": rounded(profile.kurtosis, 4),
    })
}

/// So many digits; nothing where the number is not finite.
fn rounded(value: f64, digits: usize) -> Value {
    let value: f64 = format!("{value:.*e}", digits - 1).parse().unwrap_or(value);
    // Whole numbers take no point.
    match value.fract() == 0.0 && value.abs() < 1e15 {
        true => json!(value as i64),
        false => json!(value),
    }
}

/// One for each arm and basis of which a run is here, over all seeds.
fn agreements(profiles: &Profiles, marks: &[Mark<'_>]) -> Vec<Value> {
    let mut all: BTreeMap<(&str, Basis), Value> = BTreeMap::new();
    for run in &profiles.runs {
        let n_seeds = profiles.seen.iter().find(|(arm, _)| *arm == run.arm).map_or(0, |(_, seeds)| seeds.len());
        for basis in bases(run) {
            let of = |mark: &&Mark<'_>| (mark.arm, mark.basis) == (run.arm.as_str(), basis);
            let agreement = || {
                let found = marks.iter().filter(of).map(|mark| (mark.seed, mark.dim));
                agreement(&Agreement::of((&run.arm, basis), run.d_model, n_seeds, found))
            };
            all.entry((&run.arm, basis)).or_insert_with(agreement);
        }
    }
    all.into_values().collect()
}

fn agreement(agreement: &Agreement) -> Value {
    let row = |(seeds, found, expected): (usize, usize, f64)| json!([seeds, found, rounded(expected, 3)]);
    json!({
        "arm": agreement.arm,
        "basis": agreement.basis.to_string(),
        "sentence": agreement.sentence(),
        "rows": agreement.rows().into_iter().map(row).collect::<Vec<_>>(),
        "shared": agreement.shared(),
    })
}
