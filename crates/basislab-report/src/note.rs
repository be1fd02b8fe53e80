//! What a reader must know of a claim beside its numbers, as values. [`Display`] makes the note of `verdicts.csv`.

use crate::answer::small;
use basislab_config::{Basis, RunName, Symmetry, count};
use basislab_tables::Registration;
use std::fmt::{self, Display, Formatter};

/// One part of a note.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Note {
    /// Planned seeds that lack something.
    Gap(Gap),
    /// The claim is settled by symmetry, and whether its numbers deviate, where they are what the symmetry is about.
    Control { symmetry: Symmetry, deviates: Option<bool> },
    /// Seeds in which the metric is above, or below, its value in every one of the random bases.
    Outside { above: usize, below: usize, of: usize, bases: usize },
    /// At a matched loss: `arm` ended at the higher loss, so `other` is read before its end, in these seeds at this step.
    ReadEarlier { seeds: Vec<u64>, arm: RunName, other: RunName, step: u64 },
    /// Numbers whose bits were compared.
    Compared(usize),
    /// The first of them that differ.
    FirstDifference(String),
    /// It differs on a backend where one arm trained twice may differ as well.
    BitsNotPromised(String),
    /// Seeds in which each arm is above the one before it.
    Rises { seeds: usize, of: usize },
    /// The arms in the order of their means, where it is not the claimed one.
    MeansInOrder(Vec<RunName>),
    /// Seeds in which two arms differ in the direction of their mean difference.
    SameSide { seeds: usize, of: usize },
    /// So few blocks or seeds give no smaller p.
    SmallestP { units: usize, unit: &'static str, p: f64 },
    /// The correlation of the means over seeds.
    CorrelationOfMeans(f64),
    /// The correlation of the means over blocks of arms, which p belongs to.
    CorrelationOfBlocks(f64),
    /// Whether the rule was fixed before the runs.
    Registration(Registration),
}

/// Planned seeds of an arm that lack the same thing: `sgd seeds 2, 5 diverged`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Gap {
    subject: String,
    pub(crate) lack: Lack,
    seeds: Vec<u64>,
}

/// What a seed lacks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lack {
    Missing,
    Diverged,
    /// The run's part has not ended.
    NotEnded,
    /// The run's part is not there any more.
    Gone,
    Metric(String),
    MetricIn(String, Basis),
    RandomBases,
    FinalLoss,
    FiniteFinalLoss,
    LogRatio,
    Logarithm,
    /// All arms have one value, which correlates with nothing.
    Equal,
}

/// Planned seeds that lack something, grouped.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Gaps(Vec<Gap>);

impl Gaps {
    pub(crate) fn add(&mut self, subject: &str, seed: u64, lack: Lack) {
        match self.0.iter_mut().find(|gap| gap.subject == subject && gap.lack == lack) {
            Some(gap) => gap.seeds.push(seed),
            None => self.0.push(Gap { subject: subject.to_owned(), lack, seeds: vec![seed] }),
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn notes(self) -> impl Iterator<Item = Note> {
        self.0.into_iter().map(Note::Gap)
    }
}

impl Display for Gaps {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(&join(&self.0))
    }
}

/// Notes as one text.
pub(crate) fn join<T: Display>(notes: &[T]) -> String {
    notes.iter().map(T::to_string).collect::<Vec<_>>().join("; ")
}

/// `0, 3, 5-7`.
pub(crate) fn list(seeds: &[u64]) -> String {
    let runs = seeds.chunk_by(|a, b| a + 1 == *b).flat_map(|run| match run {
        [first, _, .., last] => vec![format!("{first}-{last}")],
        few => few.iter().map(u64::to_string).collect(),
    });
    runs.collect::<Vec<_>>().join(", ")
}

/// `seed 4`, `seeds 0, 3, 5-7`.
fn named(seeds: &[u64]) -> String {
    format!("{} {}", if seeds.len() == 1 { "seed" } else { "seeds" }, list(seeds))
}

/// `a < b < c`.
pub(crate) fn chain<'a>(arms: impl IntoIterator<Item = &'a RunName>) -> String {
    arms.into_iter().map(RunName::as_str).collect::<Vec<_>>().join(" < ")
}

impl Display for Gap {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.subject, named(&self.seeds), self.lack)
    }
}

impl Display for Lack {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("missing"),
            Self::Diverged => f.write_str("diverged"),
            Self::NotEnded => f.write_str("not ended"),
            Self::Gone => f.write_str("gone"),
            Self::Metric(metric) => write!(f, "without {metric}"),
            Self::MetricIn(metric, basis) => write!(f, "without {metric} in the {basis} basis"),
            Self::RandomBases => f.write_str("without random bases"),
            Self::FinalLoss => f.write_str("without a final loss"),
            Self::FiniteFinalLoss => f.write_str("without a finite final loss"),
            Self::LogRatio => f.write_str("without a log ratio"),
            Self::Logarithm => f.write_str("without a logarithm"),
            Self::Equal => f.write_str("equal"),
        }
    }
}

impl Display for Note {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gap(gap) => gap.fmt(f),
            Self::Control { symmetry, deviates } => {
                write!(f, "settled by symmetry ({symmetry})")?;
                match deviates {
                    Some(true) => f.write_str(": deviates, as chance alone makes some controls do"),
                    Some(false) => f.write_str(": agrees"),
                    None => Ok(()),
                }
            }
            Self::Outside { above, below, of, bases } => {
                let all = format!("all {} in", count(*bases, "random basis"));
                let seeds = format!("of {}", count(*of, "seed"));
                match (above, below) {
                    (above, 0) if *above > 0 => write!(f, "above {all} {above} {seeds}"),
                    (0, below) if *below > 0 => write!(f, "below {all} {below} {seeds}"),
                    (0, _) => write!(f, "outside {all} 0 {seeds}"),
                    (above, below) => write!(f, "above {all} {above} and below them in {below} {seeds}"),
                }
            }
            Self::ReadEarlier { seeds, arm, other, step } => {
                write!(f, "{}: {arm} ended behind, so {other} is read at step {step}", named(seeds))
            }
            Self::Compared(numbers) => write!(f, "{} compared", count(*numbers, "number")),
            Self::FirstDifference(difference) => f.write_str(difference),
            Self::BitsNotPromised(backend) => write!(f, "{backend} does not promise to repeat its own bits"),
            Self::Rises { seeds, of } => write!(f, "rises from arm to arm in {seeds} of {}", count(*of, "seed")),
            Self::MeansInOrder(arms) => write!(f, "the means are in the order {}", chain(arms)),
            Self::SameSide { seeds, of } => write!(f, "in {seeds} of {}", count(*of, "seed")),
            Self::SmallestP { units, unit, p } => {
                let verb = if *units == 1 { "gives" } else { "give" };
                write!(f, "{} {verb} no p below {}", count(*units, unit), small(*p))
            }
            Self::CorrelationOfMeans(rho) => write!(f, "Spearman {rho:.2} of the means over seeds"),
            Self::CorrelationOfBlocks(rho) => write!(f, "{rho:.2} of the means over blocks"),
            Self::Registration(registration) => f.write_str(match registration {
                Registration::Registered => "registered",
                Registration::Extended => {
                    "extended: the seeds are not those that were planned when its runs began, which weakens the test"
                }
                Registration::PostHoc => "post hoc: the rule was not fixed when its runs began",
                Registration::ExistingRuns => {
                    "on existing runs: the rule was not fixed when another experiment trained them"
                }
            }),
        }
    }
}
