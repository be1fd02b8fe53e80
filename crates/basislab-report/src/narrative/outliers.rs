//! Which dimensions stand out, arm by arm.

use crate::figures::digits;
use crate::index::{RunState, Runs};
use crate::note::list;
use basislab_config::{Basis, Experiment, Site, count};
use basislab_tables::{OutlierRow, Tables};
use serde::Serialize;

/// The dimensions of one arm that stand out in one basis, at the last step.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutlierLine {
    /// The arm.
    pub arm: String,
    /// Coordinates in which they are dimensions.
    pub basis: Basis,
    /// Complete runs.
    pub n_seeds: usize,
    /// Those that stand out in most seeds first, of these the largest.
    pub dimensions: Vec<OutlierDimension>,
}

/// A dimension that stands out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutlierDimension {
    /// The dimension, from 0.
    pub dim: usize,
    /// The seeds in which it stands out at any site.
    pub seeds: Vec<u64>,
    /// Its largest RMS over that of the median dimension.
    pub ratio: f64,
    /// Where it stands out, from the embedding on.
    pub sites: Vec<OutlierSite>,
}

/// A site at which a dimension stands out.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutlierSite {
    /// The site.
    pub site: Site,
    /// The seeds in which it stands out here.
    pub seeds: usize,
    /// Its largest RMS here over that of the median dimension.
    pub ratio: f64,
}

impl OutlierLine {
    /// The seeds in which any dimension stands out.
    pub(crate) fn seeds(&self) -> Vec<u64> {
        let mut seeds: Vec<u64> = self.dimensions.iter().flat_map(|one| one.seeds.iter().copied()).collect();
        seeds.sort_unstable();
        seeds.dedup();
        seeds
    }

    /// `adam-rotated, own basis`, as in legends.
    pub(crate) fn label(&self) -> String {
        format!("{}{}", self.arm, if self.basis == Basis::Optimizer { ", own basis" } else { "" })
    }

    /// `adam-rotated in its own basis`.
    fn name(&self) -> String {
        format!("{}{}", self.arm, if self.basis == Basis::Optimizer { " in its own basis" } else { "" })
    }
}

/// One line for each arm that could be compared with random bases, but those that only serve a choice, and each of its bases;
/// none where `rows` are not known. `is_shown` says which arms are wanted.
pub(crate) fn outlier_lines(
    experiment: &Experiment,
    tables: &Tables,
    rows: Option<&[OutlierRow]>,
    is_shown: impl Fn(&str) -> bool,
) -> Vec<OutlierLine> {
    let (Some(rows), runs) = (rows, Runs::of(experiment, tables)) else { return Vec::new() };
    let mut lines = Vec::new();
    for arm in experiment.arms.iter().filter(|arm| !experiment.is_selection_arm(&arm.name) && is_shown(&arm.name)) {
        let n_seeds = runs.seeds_in(arm, RunState::Complete).len();
        let (_, basis, _) = arm.run.optimizer_at(arm.run.train.steps);
        let own = basis.shared_rotation().map(|_| Basis::Optimizer);
        for basis in [Basis::Standard].into_iter().chain(own).filter(|_| n_seeds > 0 && arm.run.probe.random_bases > 1)
        {
            let of_line = rows.iter().filter(|row| row.arm == arm.name && row.basis == basis);
            lines.push(OutlierLine { arm: arm.name.to_string(), basis, n_seeds, dimensions: dimensions(of_line) });
        }
    }
    lines
}

fn dimensions<'a>(rows: impl Iterator<Item = &'a OutlierRow>) -> Vec<OutlierDimension> {
    let mut all: Vec<OutlierDimension> = Vec::new();
    for row in rows {
        let place = all.iter().position(|one| one.dim == row.dim).unwrap_or_else(|| {
            all.push(OutlierDimension { dim: row.dim, seeds: Vec::new(), ratio: 0.0, sites: Vec::new() });
            all.len() - 1
        });
        let one = &mut all[place];
        one.ratio = one.ratio.max(row.ratio);
        // Rows of one seed follow each other.
        if one.seeds.last() != Some(&row.seed) {
            one.seeds.push(row.seed);
        }
        match one.sites.iter_mut().find(|at| at.site == row.site) {
            Some(at) => (at.seeds, at.ratio) = (at.seeds + 1, at.ratio.max(row.ratio)),
            None => one.sites.push(OutlierSite { site: row.site, seeds: 1, ratio: row.ratio }),
        }
    }
    all.iter_mut().for_each(|one| one.sites.sort_by_key(|at| depth(at.site)));
    all.sort_by(|a, b| b.seeds.len().cmp(&a.seeds.len()).then(b.ratio.total_cmp(&a.ratio)).then(a.dim.cmp(&b.dim)));
    all
}

/// Sorts sites in the order in which tokens pass them.
pub(crate) fn depth(site: Site) -> (usize, usize) {
    let in_block = match site {
        Site::EmbedSum | Site::EveryResidPost => 0,
        Site::Embed | Site::Final => 1,
        Site::AttnOut(_) => 2,
        Site::AttnSum(_) => 3,
        Site::ResidMid(_) => 4,
        Site::MlpOut(_) => 5,
        Site::MlpSum(_) => 6,
        Site::ResidPost(_) => 7,
    };
    let block = match site {
        Site::EmbedSum | Site::Embed => 0,
        Site::EveryResidPost | Site::Final => usize::MAX,
        _ => site.layer().map_or(0, |layer| layer + 1),
    };
    (block, in_block)
}

/// Arms with a sentence of their own at most, and names in a list.
const LISTED: usize = 6;

/// The lines in words: arms of which dimensions stand out, one by one, then the others together.
pub(crate) fn outlier_sentences(lines: &[OutlierLine]) -> Vec<String> {
    let (some, none): (Vec<&OutlierLine>, Vec<&OutlierLine>) =
        lines.iter().partition(|line| !line.dimensions.is_empty());
    let mut said: Vec<String> = some.iter().take(LISTED).map(|line| sentence(line)).collect();
    if some.len() > LISTED {
        said.push(format!("outliers.csv names those of {} more arms or bases.", some.len() - LISTED));
    }
    said.extend(no_dimension(&none));
    if !some.is_empty() {
        said.push("A random basis has such dimensions by chance at 1 to 3 of 100 sites.".to_owned());
    }
    said
}

/// `No dimension stands out in sgd and adam-rotated.`
pub(crate) fn no_dimension(lines: &[&OutlierLine]) -> Option<String> {
    let names: Vec<String> = lines.iter().map(|line| line.name()).collect();
    let names = match &names[..] {
        [] => return None,
        [one] => one.clone(),
        [others @ .., last] if names.len() <= LISTED => format!("{} and {last}", others.join(", ")),
        _ => format!("{} arms or bases", names.len()),
    };
    Some(format!("No dimension stands out in {names}."))
}

/// `adam: dimensions stand out in 2 of 8 seeds (seed 3: 15, 31), from embed to final, up to 4.1 times the median one; ...`
fn sentence(line: &OutlierLine) -> String {
    let (seeds, name) = (line.seeds(), line.name());
    let mut of_first: Vec<&OutlierDimension> =
        line.dimensions.iter().filter(|one| one.seeds.first() == seeds.first()).collect();
    of_first.sort_by(|a, b| b.ratio.total_cmp(&a.ratio));
    let mut dims = of_first.iter().take(LISTED).map(|one| one.dim.to_string()).collect::<Vec<_>>().join(", ");
    if of_first.len() > LISTED {
        dims += &format!(" and {} more", of_first.len() - LISTED);
    }
    let first = list(&seeds[..1]);
    let who = match (line.n_seeds, of_first.len()) {
        (1, 1) => format!("{name} seed {first}: dimension {dims} stands out"),
        (1, _) => format!("{name} seed {first}: dimensions {dims} stand out"),
        _ => {
            let of = count(line.n_seeds, "seed");
            format!("{name}: dimensions stand out in {} of {of} (seed {first}: {dims})", seeds.len())
        }
    };
    let mut sites: Vec<Site> = line.dimensions.iter().flat_map(|one| one.sites.iter().map(|at| at.site)).collect();
    sites.sort_by_key(|site| depth(*site));
    let place = match (sites.first(), sites.last()) {
        (Some(first), Some(last)) if first != last => format!("from {first} to {last}"),
        (only, _) => only.map_or_else(String::new, |site| format!("at {site}")),
    };
    let most = line.dimensions.iter().map(|one| one.ratio).fold(0.0, f64::max);
    let several = line.dimensions.iter().filter(|one| one.seeds.len() > 1).take(3);
    let several: Vec<String> = several.map(|one| format!("{} ({} seeds)", one.dim, one.seeds.len())).collect();
    let agreement = match (line.n_seeds, seeds.len()) {
        (1, _) | (_, 1) => String::new(),
        _ if several.is_empty() => "; none in more than one seed".to_owned(),
        _ => format!("; most often {}", several.join(", ")),
    };
    format!("{who}, {place}, up to {} times the median one{agreement}.", digits(most))
}
