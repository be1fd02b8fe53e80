//! Grids with a choice: which arms they use, and the experiment once the choice is made.

use crate::consistency::{Checked, fail};
use crate::error::ConfigError;
use crate::experiment::{Arm, Choose, Experiment, Sweep, SweepPoint};
use crate::name::RunName;
use crate::tree::{Node, join};
use toml::Value;

impl Experiment {
    /// The sweeps with a choice, in the order of the configuration.
    pub fn choices(&self) -> impl Iterator<Item = (&Sweep, &Choose)> {
        self.sweeps.iter().filter_map(|sweep| Some((sweep, sweep.choose.as_ref()?)))
    }

    /// Whether the arm is a point of a grid with a choice. Such arms run on the selection seeds, and no claim reads them.
    pub fn is_selection_arm(&self, name: &str) -> bool {
        self.choices().any(|(sweep, _)| sweep.points.iter().any(|point| point.arm == name))
    }

    /// The experiment in which each arm of `chosen` has the run of its chosen point, given as `(arm, arm of the point)`.
    /// Pairs that no grid with a choice has are ignored. Seeds stay as they are.
    pub fn with_chosen(&self, chosen: &[(RunName, RunName)]) -> Self {
        let mut resolved = self.clone();
        for (name, point) in chosen {
            let offered =
                |(sweep, _): (&Sweep, _)| sweep.arm == *name && sweep.points.iter().any(|one| one.arm == *point);
            let run = self.arm(point).filter(|_| self.choices().any(offered)).map(|arm| &arm.run);
            let arm = resolved.arms.iter_mut().find(|arm| arm.name == *name);
            if let (Some(run), Some(arm)) = (run, arm) {
                arm.run.clone_from(run);
            }
        }
        resolved
    }
}

impl Sweep {
    /// The distinct values of the key at that place, in the order in which the grid lists them.
    pub fn values_at(&self, place: usize) -> Vec<&Value> {
        let mut values: Vec<&Value> = Vec::new();
        for point in &self.points {
            values.extend(point.values.get(place).filter(|value| !values.contains(value)));
        }
        values
    }

    /// Whether the key at that place has at least two distinct values, all of them numbers.
    pub fn is_numeric(&self, place: usize) -> bool {
        let values = self.values_at(place);
        values.len() >= 2 && values.iter().all(|value| number(value).is_some())
    }
}

impl SweepPoint {
    /// The value of the key at that place as a number, if it is one.
    pub fn number(&self, place: usize) -> Option<f64> {
        self.values.get(place).and_then(number)
    }

    /// The keys and values of the point: `optimizer.lr = 0.003, train.batch_size = 16`.
    pub fn in_words(&self, keys: &[String]) -> String {
        let part = |(key, value): (&String, &Value)| format!("{key} = {}", value_text(value));
        keys.iter().zip(&self.values).map(part).collect::<Vec<_>>().join(", ")
    }
}

fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Float(number) => Some(*number),
        _ => None,
    }
}

/// A value for readers: text without quotes, numbers as TOML has them.
pub fn value_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Float(number) => format!("{number:?}"),
        other => other.to_string(),
    }
}

/// Checks grids with a choice: which arms their points are, that their losses can be compared, and that no claim reads
/// them.
pub(crate) fn check(experiment: &Experiment, root: &Node) -> Checked {
    let refuse = |what: String| fail(root, "", "grid", what);
    for (place, (sweep, choose)) in experiment.choices().enumerate() {
        let name = &sweep.arm;
        if experiment.choices().take(place).any(|(other, _)| other.arm == *name) {
            return refuse(format!(
                "found two grids that choose for {name}, expected one: cross their keys in one grid"
            ));
        }
        if experiment.is_selection_arm(name) {
            return refuse(format!(
                "found a choice for {name}, which another choice is among, expected `arms` without it"
            ));
        }
        let others = || experiment.sweeps.iter().filter(|other| *other != sweep);
        let Some(arm) = experiment.arm(name) else { continue };
        for point in &sweep.points {
            let in_another = others().any(|other| other.points.iter().any(|one| one.arm == point.arm));
            match experiment.arm(&point.arm) {
                Some(of_point) if of_point.seeds == choose.on_seeds && !in_another => check_point(arm, of_point, root)?,
                _ => {
                    let point = &point.arm;
                    return refuse(format!("found the arm {point} elsewhere too, expected it in this grid alone"));
                }
            }
        }
    }
    for claim in &experiment.claims {
        if let Some(arm) = claim.test.arms().into_iter().find(|arm| experiment.is_selection_arm(arm)) {
            let path = ["claim", &claim.name, "test"].map(str::to_owned);
            let node = root.find(&path).or_else(|| root.find(&path[..2])).unwrap_or(root);
            let what = format!(
                "found {arm}, which runs on the selection seeds alone, expected an arm that the grid does not make"
            );
            return Err(ConfigError::new(&node.origin, &path.join("."), what));
        }
    }
    Ok(())
}

/// Losses are compared between runs of one length on the same held-out tokens.
fn check_point(arm: &Arm, point: &Arm, root: &Node) -> Checked {
    let differs = [
        ("train.steps", arm.run.train.steps != point.run.train.steps),
        ("corpus", arm.run.corpus != point.run.corpus),
        ("probe", arm.run.probe != point.run.probe),
        ("model.n_ctx", arm.run.model.n_ctx != point.run.model.n_ctx),
    ];
    match differs.iter().find(|(_, differs)| *differs) {
        Some((key, _)) => {
            let what =
                format!("found a choice by loss over {key}, expected other keys: such losses cannot be compared");
            fail(root, "", &join("arm", &point.name), what)
        }
        None => Ok(()),
    }
}
