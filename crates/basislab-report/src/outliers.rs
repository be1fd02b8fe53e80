//! Dimensions that stand out of random bases in runs, by number: from the rows of single dimensions, and of their sizes at every
//! probe, read once and not kept.

use crate::index::{RunState, Runs};
use basislab_config::{Arm, Basis, Experiment, RunName, Site, Tokens};
use basislab_stats::{SpecialDimension, chance_limit, ratio_of_share, standing_out};
use basislab_tables::{DimensionRow, DimensionStepRow, OutlierRow, ResidualRow, Tables};
use std::collections::BTreeMap;

/// The metric of random bases that dimensions are compared with: the largest dimension's share of the energy.
const LARGEST: &str = "max_dim_energy_share";

/// Whether a row is a random basis of [`LARGEST`].
pub(crate) fn is_null_of_outliers(row: &ResidualRow) -> bool {
    row.metric == LARGEST && matches!(row.basis, Basis::Random(_))
}

/// Dimensions of which one stands out, in one basis at one probe.
struct Group {
    step: u64,
    site: Site,
    basis: Basis,
    tokens: Tokens,
    threshold: f64,
    bases: usize,
    found: Vec<SpecialDimension>,
    /// Of the last probe: at which ones each of these stood out, where the sizes at every probe are known.
    births: Option<Vec<Vec<u64>>>,
}

/// What stands out at any probe of any run.
#[derive(Default)]
pub(crate) struct StandingOut {
    runs: BTreeMap<(RunName, u64), Vec<Group>>,
    /// Whether anything could be compared.
    compared: bool,
}

/// A limit that the largest dimension's share of the energy exceeds by chance, and the random bases that it comes from.
type Limits = BTreeMap<(u32, u64, Site, Tokens), (f64, usize)>;

/// Gets the rows of `dimensions.csv` in their order: those of one basis at one probe follow each other.
pub(crate) struct Search<'a> {
    tables: &'a Tables,
    limits: Limits,
    /// The first row of a group and the sizes so far; `None` where rows are missing.
    last: Option<(DimensionRow, Option<Vec<f64>>)>,
    all: StandingOut,
}

impl<'a> Search<'a> {
    /// `tables` has the rows of [`is_null_of_outliers`].
    pub(crate) fn new(tables: &'a Tables) -> Self {
        let rows = &tables.residual;
        let mut draws: BTreeMap<(u32, u64, Site, Tokens), Vec<f64>> = BTreeMap::new();
        for row in rows.of_kinds(|kind| kind.metric == LARGEST && matches!(kind.basis, Basis::Random(_))) {
            let kind = rows.kind_of(row);
            draws.entry((row.run, kind.step, kind.site, kind.tokens)).or_default().extend(row.value());
        }
        let limit = |(at, draws): (_, Vec<f64>)| Some((at, (chance_limit(&draws)?, draws.len())));
        let limits = draws.into_iter().filter_map(limit).collect();
        Self { tables, limits, last: None, all: StandingOut::default() }
    }

    pub(crate) fn visit(&mut self, row: &DimensionRow) {
        let key = |row: &DimensionRow| (row.step, row.site, row.basis, row.tokens, row.seed);
        let is_same = |last: &DimensionRow| key(last) == key(row) && last.arm == row.arm;
        match &mut self.last {
            Some((last, Some(sizes))) if is_same(last) && sizes.len() == row.dim => sizes.push(row.rms),
            Some((last, sizes)) if is_same(last) => *sizes = None,
            _ => {
                self.compare();
                self.last = Some((row.clone(), (row.dim == 0).then(|| vec![row.rms])));
            }
        }
    }

    /// After the last row.
    pub(crate) fn end(mut self) -> StandingOut {
        self.compare();
        self.all
    }

    fn compare(&mut self) {
        let Some((row, Some(sizes))) = self.last.take() else { return };
        let run = self.tables.residual.place_of(&row.arm, row.seed);
        let limit = run.and_then(|run| self.limits.get(&(run, row.step, row.site, row.tokens)));
        let Some(&(share, bases)) = limit else { return };
        self.all.compared = true;
        let threshold = ratio_of_share(&sizes, share);
        let found = standing_out(&sizes, threshold);
        if !found.is_empty() {
            let DimensionRow { arm, seed, step, site, basis, tokens, .. } = row;
            let groups = self.all.runs.entry((arm, seed)).or_default();
            groups.push(Group { step, site, basis, tokens, threshold, bases, found, births: None });
        }
    }
}

impl StandingOut {
    /// Gets the rows of `dimension_steps.csv`, in any order, after [`Search::end`]. What stands out at no last probe is dropped.
    pub(crate) fn visit(&mut self, row: &DimensionStepRow) {
        let Some(groups) = self.runs.get_mut(&(row.arm.clone(), row.seed)) else { return };
        let last = groups.iter().map(|group| group.step).max();
        let is_here = |group: &&mut Group| {
            Some(group.step) == last && (group.site, group.basis, group.tokens) == (row.site, row.basis, row.tokens)
        };
        let Some(group) = groups.iter_mut().find(is_here) else { return };
        let births = group.births.get_or_insert_with(|| vec![Vec::new(); group.found.len()]);
        let Some(share) = chance_limit(row.null_shares.values()) else { return };
        let sizes = row.rms.values();
        let found = standing_out(sizes, ratio_of_share(sizes, share));
        for (steps, one) in births.iter_mut().zip(&group.found) {
            steps.extend(found.iter().any(|here| here.dim == one.dim).then_some(row.step));
        }
    }
}

/// The rows of `outliers.csv`, in the order of the configuration, of the sites and of the sizes; `None` where nothing could
/// be compared. Only complete runs enter.
pub(crate) fn outliers(experiment: &Experiment, tables: &Tables, all: &StandingOut) -> Option<Vec<OutlierRow>> {
    let runs = Runs::of(experiment, tables);
    let mut rows = Vec::new();
    for arm in &experiment.arms {
        for seed in runs.seeds_in(arm, RunState::Complete) {
            let groups = all.runs.get(&(arm.name.clone(), seed)).map_or(&[][..], Vec::as_slice);
            for group in groups.iter().filter(|group| group.step == arm.run.train.steps) {
                let row = |(place, one): (usize, &SpecialDimension)| OutlierRow {
                    arm: arm.name.clone(),
                    seed,
                    step: group.step,
                    site: group.site,
                    layer: group.site.layer(),
                    basis: group.basis,
                    tokens: group.tokens,
                    dim: one.dim,
                    rms: one.size,
                    ratio: one.ratio,
                    threshold: group.threshold,
                    bases: group.bases,
                    rank: one.rank,
                    first_step: first_step(arm, groups, group, place),
                };
                rows.extend(group.found.iter().enumerate().map(row));
            }
        }
    }
    all.compared.then_some(rows)
}

/// The first probe from which on a dimension of the last one stands out: of all probes where their sizes are known, else of those
/// that recorded single dimensions. In another basis of the optimizer, of an earlier phase, it is another dimension.
fn first_step(arm: &Arm, groups: &[Group], last: &Group, place: usize) -> u64 {
    let (run, probe, dim) = (&arm.run, &arm.run.probe, last.found[place].dim);
    let basis_at = |step: u64| (last.basis == Basis::Optimizer).then(|| run.optimizer_at(step).1);
    let is_found = |step: u64| {
        let same = |group: &&Group| {
            (group.step, group.site, group.basis, group.tokens) == (step, last.site, last.basis, last.tokens)
        };
        groups.iter().find(same).is_some_and(|group| group.found.iter().any(|one| one.dim == dim))
    };
    let stands_out = |step: &u64| {
        let is_found = match &last.births {
            // Its last row is that of the table that it was found in.
            Some(births) => *step == last.step || births[place].contains(step),
            None => is_found(*step),
        };
        basis_at(*step) == basis_at(last.step) && is_found
    };
    let is_known = |step: &u64| last.births.is_some() || probe.is_full(run.train.steps, *step);
    let probes = probe.steps(run.train.steps).into_iter().rev().filter(is_known);
    probes.take_while(stands_out).last().unwrap_or(last.step)
}
