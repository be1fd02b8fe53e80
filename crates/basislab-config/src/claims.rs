//! Whether claims fit the arms that they are about.

use crate::cell::{Basis, Cell, StepPattern};
use crate::claim::{Claim, ClaimKind, LEAST_CORRELATED};
use crate::error::{ConfigError, count, one_of};
use crate::experiment::{Arm, Experiment};
use crate::name::RunName;
use crate::tree::Node;

type Checked = Result<(), ConfigError>;
type Fail<'a> = &'a dyn Fn(&str, String) -> Checked;

pub(crate) fn check_claim(experiment: &Experiment, claim: &Claim, root: &Node) -> Checked {
    let path = ["claim".to_owned(), claim.name.to_string()];
    let fail = |key: &str, what: String| {
        let parts: Vec<String> = path.iter().cloned().chain(key.split('.').map(str::to_owned)).collect();
        let common = ["verdict".to_owned(), parts.last().cloned().unwrap_or_default()];
        match (root.find(&parts), root.find(&common)) {
            // The claim's cell says nothing of its own: what `[verdict]` says does not fit.
            (None, Some(node)) => Err(ConfigError::new(&node.origin, &common.join("."), what)),
            (own, _) => {
                let node = own.or_else(|| root.find(&path)).unwrap_or(root);
                Err(ConfigError::new(&node.origin, &parts.join("."), what))
            }
        }
    };
    let arms = arms_of(experiment, &claim.test, &fail)?;
    if claim.primary && claim.test.is_equality() {
        let what = "found true, expected false: equivalences are decided outside the family";
        return fail("primary", what.to_owned());
    }
    check_test(claim, &arms, &fail)?;
    if matches!(claim.test, ClaimKind::EqualLoss { .. } | ClaimKind::BitEqual { .. }) {
        return Ok(());
    }
    let mut cells = claim.cells().into_iter();
    cells.try_for_each(|(key, cell)| arms.iter().try_for_each(|arm| check_cell(claim, (key, cell), arm, &arms, &fail)))
}

/// The arms that a claim names, each of them once.
fn arms_of<'a>(experiment: &'a Experiment, test: &ClaimKind, fail: Fail<'_>) -> Result<Vec<&'a Arm>, ConfigError> {
    let names: Vec<&str> = experiment.arms.iter().map(|arm| arm.name.as_str()).collect();
    let mut arms: Vec<&Arm> = Vec::new();
    for (key, name) in test.named_arms() {
        let Some(arm) = experiment.arm(name) else {
            fail(key, format!("found {:?}, expected {}", name.as_str(), one_of(&names, Some(name))))?;
            continue;
        };
        if arms.iter().any(|other| other.name == arm.name) {
            let distinct = if key == "test.arms" { "distinct arms" } else { "two arms" };
            fail(key, format!("found {:?} twice, expected {distinct}", name.as_str()))?;
        }
        arms.push(arm);
    }
    Ok(arms)
}

fn check_test(claim: &Claim, arms: &[&Arm], fail: Fail<'_>) -> Checked {
    match &claim.test {
        ClaimKind::Ordered { .. } => same_seeds(arms, fail),
        ClaimKind::Correlates { with, blocks, .. } => {
            same_seeds(arms, fail)?;
            check_blocks(&claim.test, blocks.as_deref().unwrap_or_default(), fail)?;
            let one_loss = with.is_loss() && claim.cell.is_loss() && with.step == claim.cell.step;
            if *with == claim.cell || one_loss {
                return fail("test.with", "found the claim's own cell, expected another quantity".to_owned());
            }
            Ok(())
        }
        ClaimKind::NearValue { value: 0.0, .. } => {
            fail("test.value", "found 0, expected another number: the tolerance is a share of it".to_owned())
        }
        _ => Ok(()),
    }
}

/// Values are paired by seed over all arms of the claim.
fn same_seeds(arms: &[&Arm], fail: Fail<'_>) -> Checked {
    let sorted = |arm: &Arm| {
        let mut seeds = arm.seeds.clone();
        seeds.sort_unstable();
        seeds
    };
    let Some((first, rest)) = arms.split_first() else { return Ok(()) };
    match rest.iter().find(|arm| sorted(arm) != sorted(first)) {
        Some(other) => {
            let (name, other) = (first.name.as_str(), other.name.as_str());
            let what =
                format!("found {name:?} and {other:?} with different seeds, expected the same seeds in every arm");
            fail("test.arms", what)
        }
        None => Ok(()),
    }
}

fn check_blocks(test: &ClaimKind, blocks: &[Vec<RunName>], fail: Fail<'_>) -> Checked {
    let arms = test.arms();
    let mut taken: Vec<&RunName> = Vec::new();
    for name in blocks.iter().flatten() {
        if !arms.contains(&name) {
            let known: Vec<&str> = arms.iter().map(|arm| arm.as_str()).collect();
            return fail("test.blocks", format!("found {:?}, expected {}", name.as_str(), one_of(&known, Some(name))));
        }
        if taken.contains(&name) {
            return fail("test.blocks", format!("found {:?} twice, expected each arm in one block", name.as_str()));
        }
        taken.push(name);
    }
    let found = test.blocks().len();
    if found < LEAST_CORRELATED {
        let what = format!(
            "found {} of arms, expected at least {LEAST_CORRELATED}: blocks are what is permuted",
            count(found, "block")
        );
        return fail("test.blocks", what);
    }
    Ok(())
}

/// Whether the arm records what the cell of this key names.
fn check_cell(claim: &Claim, (key, cell): (&str, &Cell), arm: &Arm, arms: &[&Arm], fail: Fail<'_>) -> Checked {
    let fail = |below: &str, what: String| fail(&format!("{key}.{below}"), what);
    let (model, probe, steps) = (&arm.run.model, &arm.run.probe, arm.run.train.steps);
    if cell.is_loss() && !claim.test.may_read_loss() {
        let what = format!("found loss, expected a metric of the residual stream for {}", claim.test.kind());
        return fail("metric", what);
    }
    if !cell.is_loss() {
        let site = cell.site.resolve(model.n_layers);
        if let Some(what) = model.lacks(site) {
            return fail("site", what);
        }
        let has_own = |arm: &Arm| arm.run.basis.shared_rotation().is_some();
        // Beside an arm with a basis of its own, that of an unrotated one is the standard basis.
        let is_beside = arm.run.basis.rotation().is_none() && arms.iter().any(|arm| has_own(arm));
        if cell.basis == Basis::Optimizer && !has_own(arm) && !is_beside {
            let name = arm.name.as_str();
            let what = format!("found optimizer, expected standard: {name:?} has no single optimizer basis");
            return fail("basis", what);
        }
    }
    if let StepPattern::At(step) = cell.step
        && !probe.steps(steps).contains(&step)
    {
        let probed = probe.steps(steps);
        let nearest = probed.iter().min_by_key(|other| other.abs_diff(step)).expect("the first step is probed");
        let what = format!("found {step}, expected a step at which {} is probed, for example {nearest}", arm.name);
        return fail("step", what);
    }
    if !matches!(claim.test, ClaimKind::DiffersFromNull { .. } | ClaimKind::EquivalentToNull { .. }) {
        return Ok(());
    }
    if cell.tokens != probe.tokens {
        let what =
            format!("found {}, expected probe.tokens = {}: random bases are of those", cell.tokens, probe.tokens);
        return fail("tokens", what);
    }
    let site = cell.site.resolve(model.n_layers);
    let is_null_site = probe.null_sites.iter().any(|pattern| pattern.resolve(model.n_layers) == site);
    if probe.bases(steps, cell.step.resolve(steps), &cell.metric, is_null_site) == 0 {
        let what = "found a step without random bases, expected the first, middle or last probe, or a metric of probe.band_metrics \
                    at one of probe.null_sites";
        return fail("step", what.to_owned());
    }
    Ok(())
}
