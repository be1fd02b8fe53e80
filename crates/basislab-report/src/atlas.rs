//! Single dimensions of runs, for the page: from rows that are read once, as many runs as a page can hold.
//!
//! A [`Profile`] has every dimension at one site, in one basis, after one update, whichever table it is from.

mod agreement;
mod writes;

pub(crate) use agreement::Agreement;
pub(crate) use writes::writes;

use crate::figures::median_of_sorted;
use basislab_config::{Basis, RunName, Site, Tokens};
use basislab_tables::DimensionRow;
use std::collections::BTreeMap;

/// The most numbers that are kept, about six bytes of the page each.
const MOST_NUMBERS: usize = 200_000;

/// Every dimension that is kept of a run, at one site in one basis.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Profile {
    pub(crate) step: u64,
    pub(crate) site: Site,
    pub(crate) basis: Basis,
    pub(crate) tokens: Tokens,
    /// Root of each dimension's mean square.
    pub(crate) rms: Vec<f32>,
    /// Each dimension's part of the kurtosis about zero of all values: `m_i / (d e^2)` with its fourth moment about zero `m_i`
    /// and the mean square `e` of all values.
    pub(crate) parts: Vec<f32>,
    /// The RMS of the median dimension, of all.
    pub(crate) median: f64,
    /// The kurtosis about zero of all values: the sum of all parts.
    pub(crate) kurtosis: f64,
}

impl Profile {
    /// `rms` and `fourth` moments about zero of every dimension.
    pub(crate) fn of((step, site, basis, tokens): Place, rms: &[f64], fourth: &[f64]) -> Self {
        let d = rms.len() as f64;
        let energy = rms.iter().map(|rms| rms * rms).sum::<f64>() / d;
        let mut sorted = rms.to_vec();
        sorted.sort_by(f64::total_cmp);
        let parts: Vec<f64> = fourth.iter().map(|fourth| fourth / (d * energy * energy)).collect();
        Self {
            step,
            site,
            basis,
            tokens,
            rms: rms.iter().map(|&rms| rms as f32).collect(),
            kurtosis: parts.iter().sum(),
            parts: parts.into_iter().map(|part| part as f32).collect(),
            median: median_of_sorted(&sorted),
        }
    }

    fn keep(&mut self, dims: &[usize]) {
        self.rms = dims.iter().map(|&dim| self.rms[dim]).collect();
        self.parts = dims.iter().map(|&dim| self.parts[dim]).collect();
    }
}

/// A dimension's fourth moment about zero over tokens, from its moments about the mean; a constant one has none of these.
fn fourth_about_zero(row: &DimensionRow) -> f64 {
    let DimensionRow { mean, variance, skewness, kurtosis, .. } = *row;
    let third = skewness.unwrap_or(0.0) * variance.powf(1.5);
    let fourth = kurtosis.unwrap_or(0.0) * variance * variance;
    fourth + mean * (4.0 * third + mean * (6.0 * variance + mean * mean))
}

/// A run that is kept.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct RunProfiles {
    pub(crate) arm: RunName,
    pub(crate) seed: u64,
    pub(crate) d_model: usize,
    /// The dimensions that are kept, ascending; all where there are few enough.
    pub(crate) dims: Vec<usize>,
    pub(crate) profiles: Vec<Profile>,
    /// Its place among the runs of its arm.
    rank: usize,
}

impl RunProfiles {
    fn numbers(&self) -> usize {
        2 * self.dims.len() * self.profiles.len()
    }

    /// Keeps the dimensions that are largest anywhere, against the median dimension there, so that no more than `most` numbers
    /// remain.
    fn thin(&mut self, most: usize) {
        let fit = (most / (2 * self.profiles.len()).max(1)).max(1);
        if self.dims.len() <= fit {
            return;
        }
        let largest = |place: usize| {
            let ratios = self.profiles.iter().map(|one| f64::from(one.rms[place]) / one.median);
            ratios.filter(|ratio| ratio.is_finite()).fold(0.0, f64::max)
        };
        let mut order: Vec<(f64, usize)> = (0..self.dims.len()).map(|place| (largest(place), place)).collect();
        order.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut places: Vec<usize> = order.into_iter().take(fit).map(|(_, place)| place).collect();
        places.sort_unstable();
        self.dims = places.iter().map(|&place| self.dims[place]).collect();
        self.profiles.iter_mut().for_each(|profile| profile.keep(&places));
    }
}

/// Dimensions of as many runs as fit: of each arm the first seeds, the same number of all; where not even one seed of each
/// fits, of the first arms. No run has more than a quarter of the numbers: of a wide model the largest dimensions are kept.
#[derive(Debug, Clone)]
pub(crate) struct Profiles {
    most: usize,
    pub(crate) runs: Vec<RunProfiles>,
    /// Every run that was wanted, kept or not, in the order of the file.
    pub(crate) seen: Vec<(RunName, Vec<u64>)>,
    /// Places of runs within their arm from this one on are not kept.
    end: usize,
    /// Arms from this one on are not kept.
    end_of_arms: usize,
    open: Option<RunProfiles>,
    /// The last row's run, and whether it is kept.
    now: Option<(RunName, u64, bool)>,
    group: Group,
    /// Rows that stand alone: a joined table has some of its first run in front of all others, so that types can be guessed.
    alone: Vec<(Place, (usize, f64, f64))>,
}

type Place = (u64, Site, Basis, Tokens);

/// The rows of one site, as far as they were read: dimension, RMS and fourth moment.
#[derive(Debug, Clone, Default)]
struct Group {
    of: Option<Place>,
    rows: Vec<(usize, f64, f64)>,
}

impl Default for Profiles {
    fn default() -> Self {
        Self::with(MOST_NUMBERS)
    }
}

impl Profiles {
    pub(crate) fn with(most: usize) -> Self {
        Self {
            most,
            runs: Vec::new(),
            seen: Vec::new(),
            end: usize::MAX,
            end_of_arms: usize::MAX,
            open: None,
            now: None,
            group: Group::default(),
            alone: Vec::new(),
        }
    }

    /// Gets the rows of `dimensions.csv` in their order: those of one basis at one probe follow each other. `wants` is asked once
    /// for each run.
    pub(crate) fn visit(&mut self, row: &DimensionRow, wants: impl FnOnce() -> bool) {
        if !self.now.as_ref().is_some_and(|(arm, seed, _)| *seed == row.seed && *arm == row.arm) {
            self.end_group();
            let kept = wants() && self.begin(&row.arm, row.seed);
            self.now = Some((row.arm.clone(), row.seed, kept));
        }
        if !self.now.as_ref().is_some_and(|now| now.2) {
            return;
        }
        let of = (row.step, row.site, row.basis, row.tokens);
        if self.group.of != Some(of) {
            self.end_group();
            self.group = Group { of: Some(of), rows: Vec::new() };
        }
        self.group.rows.push((row.dim, row.rms, fourth_about_zero(row)));
    }

    /// After the last row of a table.
    pub(crate) fn end(&mut self) {
        self.end_group();
        self.close();
        self.now = None;
    }

    /// Whether the run, whose rows begin, is kept.
    fn begin(&mut self, arm: &RunName, seed: u64) -> bool {
        self.close();
        self.alone.clear();
        let place = self.seen.iter().position(|(known, _)| known == arm).unwrap_or_else(|| {
            self.seen.push((arm.clone(), Vec::new()));
            self.seen.len() - 1
        });
        let seeds = &mut self.seen[place].1;
        let rank = seeds.iter().position(|known| *known == seed).unwrap_or_else(|| {
            seeds.push(seed);
            seeds.len() - 1
        });
        let kept = rank < self.end && place < self.end_of_arms;
        if kept {
            let new =
                || RunProfiles { arm: arm.clone(), seed, d_model: 0, dims: Vec::new(), profiles: Vec::new(), rank };
            let known = self.runs.iter().position(|run| run.seed == seed && run.arm == *arm);
            self.open = Some(known.map_or_else(new, |place| self.runs.remove(place)));
        }
        kept
    }

    fn end_group(&mut self) {
        let Group { of: Some(of), mut rows } = std::mem::take(&mut self.group) else { return };
        if let [row] = rows[..] {
            self.alone.push((of, row));
            return;
        }
        rows.extend(self.alone.extract_if(.., |(place, _)| *place == of).map(|(_, row)| row));
        rows.sort_by_key(|row| row.0);
        if rows.iter().enumerate().all(|(dim, row)| row.0 == dim) {
            let (rms, fourth): (Vec<f64>, Vec<f64>) = rows.into_iter().map(|(_, rms, fourth)| (rms, fourth)).unzip();
            self.add(Profile::of(of, &rms, &fourth));
        }
    }

    /// One list of the run that is read. Lists of other tokens or another length than its first are left out, and what it has
    /// already.
    fn add(&mut self, mut profile: Profile) {
        let Some(run) = &mut self.open else { return };
        let key = |one: &Profile| (one.step, one.site, one.basis);
        if run.d_model == 0 {
            run.d_model = profile.rms.len();
            run.dims = (0..run.d_model).collect();
        }
        let fits = profile.rms.len() == run.d_model
            && run.profiles.iter().all(|one| one.tokens == profile.tokens && key(one) != key(&profile));
        if fits {
            if run.dims.len() < run.d_model {
                profile.keep(&run.dims);
            }
            run.profiles.push(profile);
        }
    }

    /// Keeps the run that was read, and as many others as fit beside it.
    fn close(&mut self) {
        let Some(mut run) = self.open.take().filter(|run| !run.profiles.is_empty()) else { return };
        run.thin(self.most / 4);
        let place_of = |arm: &RunName| self.seen.iter().position(|(known, _)| known == arm);
        let key = (place_of(&run.arm), run.rank);
        let place = self.runs.partition_point(|other| (place_of(&other.arm), other.rank) < key);
        self.runs.insert(place, run);
        while self.runs.iter().map(RunProfiles::numbers).sum::<usize>() > self.most {
            match self.runs.iter().map(|run| run.rank).max() {
                Some(last) if last > 0 => {
                    self.end = last;
                    self.runs.retain(|run| run.rank < last);
                }
                _ => {
                    let Some(run) = self.runs.pop() else { return };
                    self.end_of_arms = self.seen.iter().position(|(arm, _)| *arm == run.arm).unwrap_or(0);
                }
            }
        }
    }

    /// The runs of which `is_whole` holds alone.
    pub(crate) fn retain(&mut self, is_whole: impl Fn(&RunName, u64) -> bool) {
        self.runs.retain(|run| is_whole(&run.arm, run.seed));
        self.seen.iter_mut().for_each(|(arm, seeds)| seeds.retain(|seed| is_whole(arm, *seed)));
        self.seen.retain(|(_, seeds)| !seeds.is_empty());
    }

    /// What is not here, a sentence each.
    pub(crate) fn left_out(&self) -> Vec<String> {
        let mut kept: BTreeMap<&RunName, usize> = BTreeMap::new();
        self.runs.iter().for_each(|run| *kept.entry(&run.arm).or_default() += 1);
        let most = self.seen.iter().map(|(_, seeds)| seeds.len()).max().unwrap_or(0);
        let shown = kept.values().copied().max().unwrap_or(0);
        let arms: Vec<&str> =
            self.seen.iter().filter(|(arm, _)| !kept.contains_key(arm)).map(|(arm, _)| arm.as_str()).collect();
        let mut said = Vec::new();
        if self.seen.iter().any(|(arm, seeds)| kept.get(arm).is_some_and(|shown| *shown < seeds.len())) {
            said.push(format!(
                "To keep this page small, it has of each arm the first {shown} of up to {most} seeds; dimensions.csv has all."
            ));
        }
        if !arms.is_empty() {
            said.push(format!(
                "To keep this page small, these arms are left out, the last ones of the configuration: {}.",
                arms.join(", ")
            ));
        }
        if let Some(run) = self.runs.iter().find(|run| run.dims.len() < run.d_model) {
            said.push(format!(
                "Of each wide model the dimensions with the largest RMS, against the median dimension's, at any site and step are \
                 here, so {} of {} of {}; dimensions.csv has all.",
                run.dims.len(),
                run.d_model,
                run.arm
            ));
        }
        said
    }
}

#[cfg(test)]
mod tests;
