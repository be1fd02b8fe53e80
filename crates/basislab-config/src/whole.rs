//! What one key alone cannot show.

use crate::arms::{Arm, BasisSpec, ClaimKind, OptimizerSpec, RotatedAxes, RotationSpec};
use crate::check::{ConfigError, one_of};
use crate::overrides::split_path;
use crate::spec::{CorpusSpec, Experiment, Positions, TokenizerKind};
use crate::tree::{Node, Value};

/// Regular probes of a run, beyond which one would hardly be meant.
const MOST_PROBES: u64 = 100_000;
/// Axis that may still be rotated by a dense matrix of its own.
const LONGEST_AXIS: usize = 8192;

/// Checks what ties several keys together.
pub(crate) fn check_whole(experiment: &Experiment, root: &Node) -> Result<(), ConfigError> {
    let fail = |path: &str, what: String| {
        let at = find(root, path).map_or(&root.origin, |node| &node.origin);
        Err(ConfigError::new(at, path, what))
    };
    let Experiment { model, train, probe, verdict, .. } = experiment;
    if model.d_model % model.n_heads != 0 {
        return fail(
            "model.n_heads",
            format!("found {}, expected a divisor of model.d_model = {}", model.n_heads, model.d_model),
        );
    }
    let d_head = model.d_model / model.n_heads;
    if matches!(model.positions, Positions::Rope { .. }) && d_head % 2 != 0 {
        return fail("model.positions", format!("found rope with heads of width {d_head}, expected an even width"));
    }
    let (param, compute) = (model.param_dtype, model.compute_dtype);
    if compute != param && compute.bytes() >= param.bytes() {
        return fail(
            "model.compute_dtype",
            format!("found {}, expected model.param_dtype = {} or a narrower type", compute.name(), param.name()),
        );
    }
    if train.batch_size % train.micro_batches != 0 {
        return fail(
            "train.micro_batches",
            format!("found {}, expected a divisor of train.batch_size = {}", train.micro_batches, train.batch_size),
        );
    }
    if train.warmup_steps > train.steps {
        return fail(
            "train.warmup_steps",
            format!("found {}, expected at most train.steps = {}", train.warmup_steps, train.steps),
        );
    }
    if train.steps / probe.every > MOST_PROBES {
        return fail(
            "probe.every",
            format!("found {}, expected a value that gives at most {MOST_PROBES} probes", probe.every),
        );
    }
    if probe.residual_sequences > probe.loss_sequences {
        return fail(
            "probe.residual_sequences",
            format!(
                "found {}, expected at most probe.loss_sequences = {}",
                probe.residual_sequences, probe.loss_sequences
            ),
        );
    }
    if let Some(layer) = verdict
        .site
        .split('.')
        .nth(1)
        .and_then(|layer| layer.parse::<usize>().ok())
        .filter(|layer| *layer >= model.n_layers)
    {
        return fail(
            "verdict.site",
            format!("found block {layer}, expected a block below model.n_layers = {}", model.n_layers),
        );
    }
    match &experiment.corpus {
        CorpusSpec::Language(language) => {
            let tokens = language.d_vocab - usize::from(language.bos);
            if tokens < language.classes {
                return fail(
                    "corpus.classes",
                    format!("found {}, expected at most {tokens}, one token each", language.classes),
                );
            }
            let most = (language.classes - 1).max(1);
            if language.successors > most {
                return fail(
                    "corpus.successors",
                    format!("found {}, expected at most {most}, the other classes", language.successors),
                );
            }
            if language.bigram > 0.0 && language.bigram_fan > tokens {
                return fail("corpus.bigram_fan", format!("found {}, expected at most {tokens}", language.bigram_fan));
            }
            let taken = language.copy + language.burst + language.bigram;
            if taken >= 1.0 {
                return fail("corpus.copy", format!("copy + burst + bigram is {taken}, expected below 1"));
            }
        }
        CorpusSpec::Text(text) => {
            if text.tokenizer == TokenizerKind::Bytes && text.d_vocab != 256 {
                return fail(
                    "corpus.d_vocab",
                    format!("found {}, expected 256 for tokenizer = \"bytes\"", text.d_vocab),
                );
            }
        }
    }
    for arm in &experiment.arms {
        check_arm(experiment, arm, &fail)?;
    }
    check_claims(experiment, &fail)
}

type Fail<'a> = &'a dyn Fn(&str, String) -> Result<(), ConfigError>;

fn check_arm(experiment: &Experiment, arm: &Arm, fail: Fail<'_>) -> Result<(), ConfigError> {
    let path = format!("arm.{}", arm.name);
    if let OptimizerSpec::Sgd { momentum, nesterov: true, .. } = arm.optimizer
        && momentum == 0.0
    {
        return fail(
            &format!("{path}.optimizer.nesterov"),
            "found true with momentum 0, expected a momentum above 0".to_owned(),
        );
    }
    let rotation = match &arm.basis {
        BasisSpec::Standard {} => None,
        BasisSpec::RotatedOptimizer { rotation, .. } | BasisSpec::RotatedModel { rotation, .. } => Some(rotation),
    };
    if rotation == Some(&RotationSpec::Hadamard {}) {
        let d_model = experiment.model.d_model;
        let at = format!("{path}.basis.rotation");
        if !d_model.is_power_of_two() {
            return fail(&at, format!("found hadamard with model.d_model = {d_model}, expected a power of two"));
        }
        if matches!(arm.basis, BasisSpec::RotatedOptimizer { axes: RotatedAxes::Both, .. }) {
            return fail(
                &at,
                "found hadamard on both axes, expected axes = \"residual\" or another rotation".to_owned(),
            );
        }
    }
    if matches!(arm.basis, BasisSpec::RotatedOptimizer { axes: RotatedAxes::Both, .. }) {
        let model = &experiment.model;
        let longest = experiment.corpus.d_vocab().max(model.d_mlp).max(model.d_model);
        if longest > LONGEST_AXIS {
            return fail(
                &format!("{path}.basis.axes"),
                format!(
                    "found both with an axis of {longest}, expected axes of at most {LONGEST_AXIS} or axes = \
                     \"residual\""
                ),
            );
        }
    }
    if let Some(seed) = arm.seeds.iter().flatten().find(|seed| !experiment.seeds.contains(seed)) {
        return fail(&format!("{path}.seeds"), format!("found seed {seed}, expected seeds of the experiment"));
    }
    Ok(())
}

fn check_claims(experiment: &Experiment, fail: Fail<'_>) -> Result<(), ConfigError> {
    let names: Vec<&str> = experiment.arms.iter().map(|arm| arm.name.as_str()).collect();
    for claim in &experiment.claims {
        let path = format!("claim.{}.test", claim.name);
        let (arm, other, basis) = match &claim.test {
            ClaimKind::DiffersFromNull { arm, basis } | ClaimKind::EquivalentToNull { arm, basis } => {
                (arm, None, basis.as_str())
            }
            ClaimKind::ArmsDiffer { arm, other, .. }
            | ClaimKind::EqualLoss { arm, other }
            | ClaimKind::BitEqual { arm, other } => (arm, Some(other), "standard"),
        };
        for (key, name) in [("arm", Some(arm)), ("other", other)] {
            if let Some(name) = name.filter(|name| !names.contains(&name.as_str())) {
                return fail(
                    &format!("{path}.{key}"),
                    format!("found {name:?}, expected {}", one_of(&names, Some(name))),
                );
            }
        }
        if other == Some(arm) {
            return fail(&format!("{path}.other"), format!("found {arm:?} twice, expected two arms"));
        }
        if claim.primary
            && matches!(
                claim.test,
                ClaimKind::EqualLoss { .. } | ClaimKind::BitEqual { .. } | ClaimKind::EquivalentToNull { .. }
            )
        {
            return fail(
                &format!("claim.{}.primary", claim.name),
                "found true, expected false: equivalences are decided outside the family".to_owned(),
            );
        }
        if basis == "optimizer" && experiment.arm(arm).is_some_and(|arm| arm.basis.shared_rotation().is_none()) {
            return fail(
                &format!("{path}.basis"),
                format!("found optimizer, expected standard: {arm:?} has no single optimizer basis"),
            );
        }
    }
    Ok(())
}

/// The node at a dotted path, arms and claims by name.
fn find<'a>(root: &'a Node, path: &str) -> Option<&'a Node> {
    split_path(root, path).iter().try_fold(root, |node, part| match &node.value {
        Value::Array(items) => items.iter().find(|item| item.get("name").and_then(Node::as_str) == Some(part)),
        _ => node.get(part),
    })
}
