//! `basislab check`: the equivariance certificate of every optimizer in an experiment.

use crate::args::Check;
use crate::backend::Place;
use crate::exit::Code;
use crate::terminal::{say, say_json};
use crate::{Done, experiments, resources};
use basislab_config::{Experiment, OptimizerSpec};
use basislab_experiment::{Expected, Law, certify, commutes, rotated_share};
use serde_json::{Value, json};

pub(crate) fn check(args: &Check) -> Done {
    let experiment = experiments::find_plain(&args.experiment, &args.set)?.loaded.experiment;
    resources::check_certificate(&experiment)?;
    let place = args.on.open()?;
    place.require(&experiment.model)?;
    place.work(|| {
        let certificates = certificates(&experiment, args.steps, &place);
        if args.json {
            say_json(&to_json(&experiment, &certificates, &place))?;
        } else {
            say(to_text(&experiment, &certificates, args.steps, &place))?;
        }
        let broken = certificates.iter().flat_map(|(_, laws)| laws).any(|law| law.holds() == Some(false));
        Ok(broken.then_some(Code::Numbers))
    })
}

/// Every distinct optimizer of the experiment with its laws.
pub(crate) fn certificates(experiment: &Experiment, steps: u64, place: &Place) -> Vec<(OptimizerSpec, Vec<Law>)> {
    let on = (&place.device, place.dtype_of_laws());
    let mut all: Vec<(OptimizerSpec, Vec<Law>)> = Vec::new();
    for arm in &experiment.arms {
        if !all.iter().any(|(optimizer, _)| *optimizer == arm.optimizer) {
            all.push((arm.optimizer.clone(), certify(experiment, &arm.optimizer, steps, on)));
        }
    }
    all
}

pub(crate) fn to_json(experiment: &Experiment, certificates: &[(OptimizerSpec, Vec<Law>)], place: &Place) -> Value {
    let law = |law: &Law| json!({ "law": law.name, "difference": law.difference, "expected": wanted(law), "holds": law.holds() });
    let optimizers: Vec<Value> = certificates
        .iter()
        .map(|(optimizer, laws)| {
            let laws: Vec<Value> = laws.iter().map(law).collect();
            json!({ "optimizer": optimizer, "commutes_with_rotation": commutes(optimizer), "laws": laws })
        })
        .collect();
    let arms: Vec<Value> = experiment
        .arms
        .iter()
        .map(|arm| {
            let (rotated, facing, all) = rotated_share(experiment, arm, &place.device);
            json!({ "arm": arm.name, "parameters": all, "facing_the_stream": facing, "rotated": rotated })
        })
        .collect();
    json!({ "dtype": place.dtype_of_laws(), "optimizers": optimizers, "arms": arms })
}

fn to_text(experiment: &Experiment, certificates: &[(OptimizerSpec, Vec<Law>)], steps: u64, place: &Place) -> String {
    let dtype = place.dtype_of_laws().name();
    let mut text = format!(
        "Largest difference over all weights after {steps} updates (8 at most where products are rounded) of a small model, {dtype}.\n"
    );
    for (optimizer, laws) in certificates {
        let what = if commutes(optimizer) { "commutes with every rotation" } else { "depends on the basis" };
        text += &format!("\n{} (lr {:?}): {what}\n", optimizer.kind(), optimizer.lr());
        for law in laws {
            let mark = match law.holds() {
                Some(true) => "ok  ",
                Some(false) => "FAIL",
                None => "?   ",
            };
            let difference = law.difference.map_or_else(|| "diverged".to_owned(), |x| format!("{x:.1e}"));
            text += &format!("  {mark}  {:<48} {:>9}   must be {}\n", law.name, difference, wanted(law));
        }
    }
    text += "\nParameters that each arm really rotates:\n";
    for arm in &experiment.arms {
        let (rotated, facing, all) = rotated_share(experiment, arm, &place.device);
        text += &format!("  {:<20} {rotated:>9} of {facing} that face the residual stream ({all} in all)\n", arm.name);
    }
    text
}

fn wanted(law: &Law) -> String {
    match law.expected {
        Expected::Zero => "0 (the same bits)".to_owned(),
        Expected::Below(bound) => format!("below {bound:.1e}"),
        Expected::Above(bound) => format!("above {bound:.1e}"),
    }
}
