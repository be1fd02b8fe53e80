//! `basislab check`: the equivariance certificate of every optimizer in an experiment.

use super::CommandResult;
use crate::args::CheckArgs;
use crate::backend::OpenDevice;
use crate::exit::Code;
use crate::terminal::{say, say_json};
use crate::{experiments, resources};
use basislab_config::{Experiment, OptimizerSpec, RunSpec};
use basislab_optim::commutes;
use basislab_train::{Expected, Law, NotMeasured, certify, rotated_share};
use serde_json::{Value, json};

pub(crate) fn check(args: &CheckArgs) -> CommandResult {
    let experiment = experiments::find_with_arms(&args.experiment, &args.arm, &args.set)?.loaded.experiment;
    resources::check_certificate(&experiment)?;
    let place = args.on.open()?;
    place.require(&experiment)?;
    place.work(|| {
        let certificates = certificates(&experiment, args.steps, &place);
        if args.json {
            say_json(&to_json(&experiment, &certificates, &place))?;
        } else {
            say(to_text(&experiment, &certificates, args.steps, &place))?;
        }
        let broken = certificates.iter().flat_map(|(_, laws)| laws).any(|law| law.holds() == Some(false));
        Ok(broken.then_some(Code::Unsound))
    })
}

/// Every distinct optimizer of the experiment with its laws, on the architecture and at the learning rate of the first arm
/// that has it: a rule commutes with a rotation at every rate, or at none.
pub(crate) fn certificates(experiment: &Experiment, steps: u64, place: &OpenDevice) -> Vec<(OptimizerSpec, Vec<Law>)> {
    let on = (&place.device, place.dtype_of_laws());
    let mut all: Vec<(OptimizerSpec, Vec<Law>)> = Vec::new();
    for arm in &experiment.arms {
        let phases = arm.run.phases.iter().map(|phase| &phase.optimizer);
        for optimizer in std::iter::once(&arm.run.optimizer).chain(phases) {
            if !all.iter().any(|(known, _)| known.equals_but_for_rates(optimizer)) {
                let run = RunSpec { optimizer: optimizer.clone(), ..arm.run.clone() };
                all.push((optimizer.clone(), certify(&run, steps, on)));
            }
        }
    }
    all
}

pub(crate) fn to_json(
    experiment: &Experiment,
    certificates: &[(OptimizerSpec, Vec<Law>)],
    place: &OpenDevice,
) -> Value {
    let law = |law: &Law| json!({ "law": law.name, "difference": law.difference, "expected": wanted(law), "holds": law.holds(), "not_measured": not_measured(law) });
    let optimizers: Vec<Value> = certificates
        .iter()
        .map(|(optimizer, laws)| {
            let laws: Vec<Value> = laws.iter().map(law).collect();
            json!({ "optimizer": optimizer, "commutes_with_rotation": commutes(optimizer).with_rotations(), "laws": laws })
        })
        .collect();
    let arms: Vec<Value> = experiment
        .arms
        .iter()
        .map(|arm| {
            let (rotated, facing, all) = rotated_share(&arm.run, &place.device);
            json!({ "arm": arm.name, "parameters": all, "facing_the_stream": facing, "rotated": rotated })
        })
        .collect();
    json!({ "dtype": place.dtype_of_laws(), "optimizers": optimizers, "arms": arms })
}

fn to_text(
    experiment: &Experiment,
    certificates: &[(OptimizerSpec, Vec<Law>)],
    steps: u64,
    place: &OpenDevice,
) -> String {
    let dtype = place.dtype_of_laws().name();
    let mut text = format!(
        "Largest difference over all weights after {steps} updates (8 at most where products are rounded) of a small model, {dtype}.\n"
    );
    for (optimizer, laws) in certificates {
        let what =
            if commutes(optimizer).with_rotations() { "commutes with every rotation" } else { "depends on the basis" };
        text += &format!("\n{} (lr {:?}): {what}\n", optimizer.name(), optimizer.lr());
        for law in laws {
            let mark = match law.holds() {
                Some(true) => "ok  ",
                Some(false) => "FAIL",
                None => "?   ",
            };
            let difference = law.difference.map_or_else(|| "-".to_owned(), |x| format!("{x:.1e}"));
            let reason = not_measured(law).map_or_else(String::new, |reason| format!("; not measured: {reason}"));
            text += &format!("  {mark}  {:<48} {difference:>9}   must be {}{reason}\n", law.name, wanted(law));
        }
    }
    text += "\nParameters that each arm really rotates:\n";
    for arm in &experiment.arms {
        let (rotated, facing, all) = rotated_share(&arm.run, &place.device);
        text += &format!("  {:<20} {rotated:>9} of {facing} that face the residual stream ({all} in all)\n", arm.name);
    }
    text
}

fn not_measured(law: &Law) -> Option<String> {
    Some(match law.not_measured? {
        NotMeasured::Diverged(step) => format!("training diverged at step {step}"),
        NotMeasured::Chaotic(growth) => format!("training is chaotic: one rounding grows to {growth:.1e}"),
    })
}

fn wanted(law: &Law) -> String {
    match law.expected {
        Expected::Zero => "0 (the same bits)".to_owned(),
        Expected::Below(bound) => format!("below {bound:.1e}"),
        Expected::Above(bound) => format!("above {bound:.1e}"),
    }
}
