//! The figures of an experiment, as SVG.

mod at_loss;
mod compared;
mod dimensions;
#[cfg(test)]
mod every_tests;
mod files;
mod frame;
mod layers;
mod legend;
#[cfg(test)]
mod legend_tests;
mod losses;
mod map;
#[cfg(test)]
mod map_tests;
mod mark;
mod measured;
#[cfg(test)]
mod measured_tests;
mod outliers;
#[cfg(test)]
pub(crate) mod outliers_tests;
mod png;
mod quantized;
mod scale;
mod steps;
mod sweep;
#[cfg(test)]
mod sweep_tests;
#[cfg(test)]
mod tests;
mod thinning;
mod titles;
mod units;
mod vega;

use crate::index::{RunState, Runs, Values};
use basislab_config::{Arm, Basis, Claim, ClaimKind, Experiment, Sweep, Tokens, count};
use basislab_stats::Verdict;
use basislab_tables::{OutlierRow, SelectionRow, Tables, VerdictRow};
pub(crate) use compared::compared_figures;
pub(crate) use dimensions::median_of_sorted;
pub use files::Beside;
pub(crate) use files::{with_those_beside, write_absent, write_figures};
pub(crate) use layers::{Moment, short_site};
pub(crate) use mark::{Dash, Figure, Key, Mark, Weight};
use mark::{Of, colour, dash};
pub(crate) use measured::{evenly, measured_figure_names, measured_figures};
use outliers::Matrix;
use plotters::style::RGBColor;
pub(crate) use quantized::{quantized_figure_names, quantized_figures};
pub(crate) use scale::{Scale, Spacing, digits};
pub(crate) use thinning::{MOST_POINTS, Thinning, hex, rounded};

/// The figures that every experiment has.
const HEADLINE: [&str; 4] = [OVER_STEPS, OVER_LAYERS, "dimension_rms.svg", "loss_curves.svg"];

/// The figure to open first.
pub const OVER_STEPS: &str = "kurtosis_over_steps.svg";

/// The dimensions that stand out.
const OUTLIERS: &str = "outlier_dimensions.svg";

/// The figure that has a slider on the page.
pub(crate) const OVER_LAYERS: &str = "kurtosis_over_layers.svg";

/// The file names of all figures that the experiment can have: the same five for all, one for each numeric key of each sweep,
/// and those of [`map::planned`]. Which exist depends on the data.
pub(crate) fn figure_names(experiment: &Experiment) -> Vec<String> {
    let sweeps = sweep::planned(experiment).into_iter().map(|planned| planned.name);
    let maps = map::planned(experiment).into_iter().flat_map(|planned| planned.names());
    HEADLINE.into_iter().chain([OUTLIERS]).map(str::to_owned).chain(sweeps).chain(maps).collect()
}

/// What a file shows.
#[expect(clippy::large_enum_variant, reason = "a report has some ten drawings")]
pub(crate) enum Drawing {
    /// Marks between axes, which the page draws too.
    Figure(Figure),
    /// The dimensions that stand out; the page links the file.
    Matrix(Matrix),
}

/// Every drawing by its file name, in the order of [`figure_names`]; `None` where there is no data for it.
pub(crate) fn figures(
    experiment: &Experiment,
    tables: &Tables,
    verdicts: &[VerdictRow],
    selection: &[SelectionRow],
    outliers: Option<&[OutlierRow]>,
) -> Vec<(String, Option<Drawing>)> {
    let headline = headline(experiment);
    let scene = Scene::of(&headline, tables, verdicts);
    let of_all = [steps::figure(&scene), layers::figure(&scene), dimensions::figure(&scene), losses::figure(&scene)];
    let drawing = |figure: Option<Figure>| figure.map(Drawing::Figure);
    let mut all: Vec<(String, Option<Drawing>)> =
        HEADLINE.into_iter().zip(of_all).map(|(name, figure)| (name.to_owned(), drawing(figure))).collect();
    all.push((OUTLIERS.to_owned(), outliers::matrix(&scene, outliers).map(Drawing::Matrix)));
    for planned in sweep::planned(experiment) {
        let figure = sweep::figure(experiment, tables, &planned, selection);
        all.push((planned.name, drawing(figure)));
    }
    for planned in map::planned(experiment) {
        let figures = [map::map, map::within_runs].map(|figure| figure(experiment, tables, &planned));
        all.extend(planned.names().into_iter().zip(figures.map(drawing)));
    }
    all
}

/// What the page shows beside the figures that are files: the metric over the depth of the model at each probed step, with
/// one axis for all, and against the held-out loss at the last one.
pub(crate) fn moving(
    experiment: &Experiment,
    tables: &Tables,
    verdicts: &[VerdictRow],
) -> (Vec<Moment>, Option<Figure>) {
    let headline = headline(experiment);
    let scene = Scene::of(&headline, tables, verdicts);
    (layers::at_each_step(&scene), at_loss::drawn(&scene))
}

/// The experiment without the arms that a sweep's figure shows, or that only serve a choice. Arms that claims read stay.
fn headline(experiment: &Experiment) -> Experiment {
    let numeric = |sweep: &&Sweep| (0..sweep.keys.len()).any(|place| sweep.is_numeric(place));
    let of_figure = |arm: &str| {
        let mut sweeps = experiment.sweeps.iter().filter(numeric);
        sweeps.any(|sweep| sweep.points.iter().any(|point| point.arm == arm))
    };
    let read = |arm: &str| experiment.claims.iter().any(|claim| claim.test.arms().iter().any(|name| **name == *arm));
    with_arms(experiment, |arm| !experiment.is_selection_arm(arm) && (read(arm) || !of_figure(arm)))
}

/// The experiment with those arms alone.
fn with_arms(experiment: &Experiment, keep: impl Fn(&str) -> bool) -> Experiment {
    let arms = experiment.arms.iter().filter(|arm| keep(&arm.name)).cloned().collect();
    Experiment { arms, ..experiment.clone() }
}

/// What every figure starts from.
struct Scene<'a> {
    experiment: &'a Experiment,
    tables: &'a Tables,
    runs: Runs<'a>,
    verdicts: &'a [VerdictRow],
}

impl<'a> Scene<'a> {
    fn of(experiment: &'a Experiment, tables: &'a Tables, verdicts: &'a [VerdictRow]) -> Self {
        Self { experiment, tables, runs: Runs::of(experiment, tables), verdicts }
    }

    /// The arms to draw and how their lines look. One that proved to be another's copy, bit for bit, would only hide it.
    fn arms(&self) -> Vec<(&'a Arm, Ink)> {
        let copies = copies(self.experiment, self.verdicts);
        let arms = self.experiment.arms.iter().enumerate();
        let colours = arms.map(|(index, arm)| (arm, Ink::of(index)));
        colours.filter(|(arm, _)| !copies.contains(&arm.name.as_str())).collect()
    }

    fn complete(&self, arm: &Arm) -> Vec<u64> {
        self.runs.seeds_in(arm, RunState::Complete)
    }

    /// The verdict's metric at the head of a title: `Token kurtosis`.
    fn metric(&self) -> String {
        let words = in_words(&self.experiment.verdict.metric);
        let mut letters = words.chars();
        letters.next().map(|first| first.to_uppercase().chain(letters).collect()).unwrap_or_default()
    }

    /// The verdict's site, `last` resolved where all arms are equally deep.
    fn site(&self) -> String {
        crate::answer::site_of_verdict(self.experiment)
    }

    fn which_tokens(&self) -> &'static str {
        of_tokens(self.experiment.verdict.tokens)
    }

    /// `8 seeds: mean (thick) and each seed (thin)`, for the most seeds any drawn arm has.
    fn seeds_phrase(&self) -> String {
        match self.arms().iter().map(|(arm, _)| self.complete(arm).len()).max().unwrap_or(0) {
            0 => "runs under way, each a thin line".to_owned(),
            1 => count(1, "seed"),
            n => format!("mean of {} (thick), each seed (thin)", count(n, "seed")),
        }
    }
}

pub(crate) fn of_tokens(tokens: Tokens) -> &'static str {
    match tokens {
        Tokens::All => "all tokens",
        Tokens::First => "first token of each sequence",
        Tokens::Rest => "first token of each sequence left out",
        Tokens::Sample => "sample of the tokens",
    }
}

/// The arms that proved to be another's copy, bit for bit.
pub(crate) fn copies<'a>(experiment: &'a Experiment, verdicts: &[VerdictRow]) -> Vec<&'a str> {
    let copy = |claim: &'a Claim| {
        let ClaimKind::BitEqual { arm, .. } = &claim.test else { return None };
        let proved = verdicts.iter().any(|row| row.claim == claim.name && row.verdict == Verdict::Control);
        proved.then_some(arm.as_str())
    };
    experiment.claims.iter().filter_map(copy).collect()
}

/// A metric's name as words: `token kurtosis`.
pub(crate) fn in_words(metric: &str) -> String {
    metric.replace('_', " ")
}

/// How the lines of an arm are drawn, the same in every figure.
#[derive(Clone, Copy)]
struct Ink {
    colour: RGBColor,
    /// In the standard basis, and in the optimizer's.
    dashes: [Dash; 2],
}

impl Ink {
    /// That of the arm at that place of the configuration.
    fn of(index: usize) -> Self {
        Self { colour: colour(index), dashes: [dash(index, false), dash(index, true)] }
    }
}

/// A mean over complete runs and the single runs.
struct Curve {
    mean: Vec<(f64, f64)>,
    /// With their seeds.
    single: Vec<(u64, Vec<(f64, f64)>)>,
}

impl Curve {
    /// `value(seed, place)` at each place `(key, x)`. The mean is taken where every complete run has a value, for else
    /// it would jump where a run is missing.
    fn over<P: Copy>(
        seeds: &[u64],
        complete: &[u64],
        places: &[(P, f64)],
        value: impl Fn(u64, P) -> Option<f64>,
    ) -> Self {
        let at = |seed: u64| places.iter().filter_map(|&(place, x)| Some((x, value(seed, place)?))).collect::<Vec<_>>();
        let mean_at = |&(place, x): &(P, f64)| {
            let values: Option<Vec<f64>> = complete.iter().map(|&seed| value(seed, place)).collect();
            Some((x, crate::index::mean(&values?)?))
        };
        let runs = seeds.iter().map(|&seed| (seed, at(seed)));
        let single = runs.filter(|(_, points)| !points.is_empty()).collect();
        Self { mean: places.iter().filter_map(mean_at).collect(), single }
    }

    fn is_empty(&self) -> bool {
        self.single.is_empty()
    }

    fn values(&self) -> impl Iterator<Item = f64> {
        self.single.iter().map(|(_, points)| points).chain([&self.mean]).flatten().map(|point| point.1)
    }

    fn marks(self, colour: RGBColor, weight: Weight, key: usize) -> (Vec<Mark>, Option<Mark>) {
        let alone = self.single.len() == 1 && self.mean.len() == self.single[0].1.len();
        let single = if alone { Vec::new() } else { self.single };
        let thin =
            |(seed, points)| Mark::Line { points, colour, weight: Weight::Thin, of: Of { key, seed: Some(seed) } };
        let drawn = !self.mean.is_empty();
        let thick = drawn.then_some(Mark::Line { points: self.mean, colour, weight, of: Of::key(key) });
        (single.into_iter().map(thin).collect(), thick)
    }
}

/// The curves of a figure, thin lines below thick ones, and their legend.
#[derive(Default)]
struct Curves {
    thin: Vec<Mark>,
    thick: Vec<Mark>,
    keys: Vec<Key>,
    values: Vec<f64>,
}

impl Curves {
    /// Adds an arm's curve.
    fn add(&mut self, label: String, detail: String, ink: Ink, own_basis: bool, curve: Curve) {
        let (colour, weight) = (ink.colour, Weight::Thick(ink.dashes[usize::from(own_basis)]));
        self.values.extend(curve.values());
        let (thin, thick) = curve.marks(colour, weight, self.keys.len());
        self.thin.extend(thin);
        self.thick.extend(thick);
        self.keys.push(Key::Line { label, detail, colour, weight });
    }

    fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Marks from back to front, with `behind` at the very back.
    fn stack(self, behind: Vec<Mark>) -> (Vec<Mark>, Vec<Key>) {
        (behind.into_iter().chain(self.thin).chain(self.thick).collect(), self.keys)
    }
}

/// The bases in which an arm is drawn and what its curves are called; the optimizer's only where recorded.
fn bases(arm: &Arm, values: &[&Values<'_>]) -> Vec<(Basis, String)> {
    let mut all = vec![(Basis::Standard, arm.name.to_string())];
    if values.iter().any(|values| !values.steps(&arm.name, Basis::Optimizer).is_empty()) {
        all.push((Basis::Optimizer, format!("{}, own basis", arm.name)));
    }
    all
}
