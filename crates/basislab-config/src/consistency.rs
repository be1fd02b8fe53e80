//! What one key alone cannot show.

use crate::basis::{BasisSpec, RotatedAxes, RotationSpec};
use crate::cell::SitePattern;
use crate::claims::check_claim;
use crate::corpus::{CorpusSpec, TokenizerKind};
use crate::error::ConfigError;
use crate::experiment::{Arm, Experiment};
use crate::merge::Rules;
use crate::model::{Mask, ModelSpec, Positions};
use crate::optimizer::{OptimizerSpec, Role};
use crate::phase::Moments;
use crate::run::RunSpec;
use crate::selection;
use crate::tree::{Node, join};

/// Regular probes of a run, beyond which one would hardly be meant.
const MOST_PROBES: u64 = 100_000;
/// Axis that may still be rotated by a dense matrix of its own.
const LONGEST_AXIS: usize = 8192;

pub(crate) type Checked = Result<(), ConfigError>;

/// Checks what ties several keys together: in the shared tables, in the tables of each arm, and between arms and claims.
pub(crate) fn check(experiment: &Experiment, root: &Node, shared: &Node, arms: &[Node], rules: Rules<'_>) -> Checked {
    check_run(&experiment.shared, shared, "", rules)?;
    for (arm, tables) in experiment.arms.iter().zip(arms) {
        let path = join("arm", &arm.name);
        check_run(&arm.run, tables, &path, rules)?;
        check_name(arm, root, rules)?;
    }
    check_seeds(experiment, root)?;
    for name in experiment.quantize.iter().flat_map(|quantize| &quantize.arms) {
        let Some(arm) = experiment.arm(name) else {
            return fail(root, "", "quantize.arms", format!("found {:?}, expected names of arms", name.as_str()));
        };
        if !arm.seeds.iter().any(|seed| experiment.seeds.contains(seed)) {
            let what = format!("found {:?}, which has selection seeds alone, expected other arms", name.as_str());
            return fail(root, "", "quantize.arms", what);
        }
    }
    selection::check(experiment, root)?;
    experiment.claims.iter().try_for_each(|claim| check_claim(experiment, claim, root))
}

/// The error at a path below `root`, or at the deepest table of it that there is.
pub(crate) fn fail(root: &Node, prefix: &str, path: &str, what: String) -> Checked {
    let parts: Vec<String> = path.split('.').map(str::to_owned).collect();
    let node = (0..=parts.len()).rev().find_map(|depth| root.find(&parts[..depth])).unwrap_or(root);
    let path = if prefix.is_empty() { path.to_owned() } else { join(prefix, path) };
    Err(ConfigError::new(&node.origin, &path, what))
}

fn check_run(run: &RunSpec, tables: &Node, prefix: &str, rules: Rules<'_>) -> Checked {
    let fail = |path: &str, what: String| fail(tables, prefix, path, what);
    let RunSpec { model, train, probe, .. } = run;
    check_heads(model, &fail)?;
    if model.mask == Mask::Bidirectional {
        let what = "found bidirectional, expected causal: the loss is of the next token, which such a model sees";
        return fail("model.mask", what.to_owned());
    }
    let (param, compute) = (model.param_dtype, model.compute_dtype);
    if compute != param && compute.bytes() >= param.bytes() {
        let what = format!("found {compute}, expected model.param_dtype = {param} or a narrower type");
        return fail("model.compute_dtype", what);
    }
    if train.batch_size % train.micro_batches != 0 {
        let what =
            format!("found {}, expected a divisor of train.batch_size = {}", train.micro_batches, train.batch_size);
        return fail("train.micro_batches", what);
    }
    if train.warmup_steps > train.steps {
        let what = format!("found {}, expected at most train.steps = {}", train.warmup_steps, train.steps);
        return fail("train.warmup_steps", what);
    }
    if train.steps / probe.every > MOST_PROBES {
        let what = format!("found {}, expected a value that gives at most {MOST_PROBES} probes", probe.every);
        return fail("probe.every", what);
    }
    if probe.residual_sequences > probe.loss_sequences {
        let (found, most) = (probe.residual_sequences, probe.loss_sequences);
        return fail(
            "probe.residual_sequences",
            format!("found {found}, expected at most probe.loss_sequences = {most}"),
        );
    }
    let (band_bases, band_metrics) = probe.band();
    if band_bases > probe.null_bases {
        let what = format!("found {band_bases}, expected at most probe.null_bases = {}", probe.null_bases);
        return fail("probe.band_bases", what);
    }
    if let Some(metric) = band_metrics.iter().find(|metric| !probe.null_metrics.contains(metric)) {
        return fail("probe.band_metrics", format!("found {metric:?}, expected metrics of probe.null_metrics"));
    }
    let lacking = |site: &SitePattern| model.lacks(site.resolve(model.n_layers));
    if let Some(what) = probe.null_sites.iter().find_map(lacking) {
        return fail("probe.null_sites", what);
    }
    check_corpus(&run.corpus, &fail)?;
    check_optimizer(&run.optimizer, model, "optimizer", &fail, rules)?;
    check_basis(&run.basis, run, "basis", &fail)?;
    let mut before = 1;
    for (index, phase) in run.phases.iter().enumerate() {
        let path = format!("phases.{index}");
        if phase.from <= before || phase.from > train.steps {
            let what = format!("found {}, expected {} to train.steps = {}", phase.from, before + 1, train.steps);
            return fail(&format!("{path}.from"), what);
        }
        before = phase.from;
        check_optimizer(&phase.optimizer, model, &format!("{path}.optimizer"), &fail, rules)?;
        check_basis(&phase.basis, run, &format!("{path}.basis"), &fail)?;
        if phase.moments != Moments::Reset {
            let slots = |spec: &OptimizerSpec, role| {
                spec.rule_for(role).and_then(|own| rules.find(&own.kind).map(|rule| (rule.slots)(own)))
            };
            let before = if index == 0 { &run.optimizer } else { &run.phases[index - 1].optimizer };
            let others = model.roles().into_iter().any(|role| slots(before, role) != slots(&phase.optimizer, role));
            if others {
                let what =
                    format!("found {}, expected reset: the optimizer before it keeps another state", phase.moments);
                return fail(&format!("{path}.moments"), what);
            }
        }
        let model_basis = |basis: &BasisSpec| matches!(basis, BasisSpec::RotatedModel { .. });
        if phase.basis != run.basis && (model_basis(&phase.basis) || model_basis(&run.basis)) {
            let what = "found another basis of the model, expected one of the optimizer: a model keeps its own";
            return fail(&format!("{path}.basis"), what.to_owned());
        }
    }
    Ok(())
}

type Fail<'a> = &'a dyn Fn(&str, String) -> Checked;

/// What ties the shape of the heads to the rest of the model.
fn check_heads(model: &ModelSpec, fail: Fail<'_>) -> Checked {
    if model.d_head.is_none() && !model.d_model.is_multiple_of(model.n_heads) {
        let what = format!("found {}, expected a divisor of model.d_model = {}", model.n_heads, model.d_model);
        return fail("model.n_heads", what);
    }
    if !model.n_heads.is_multiple_of(model.n_kv_heads()) {
        let what = format!("found {}, expected a divisor of model.n_heads = {}", model.n_kv_heads(), model.n_heads);
        return fail("model.n_kv_heads", what);
    }
    let d_head = model.d_head();
    let Positions::Rope { dims, .. } = model.positions else { return Ok(()) };
    match dims {
        Some(dims) if !dims.is_multiple_of(2) || dims > d_head => {
            let what = format!("found {dims}, expected an even number up to the width of a head, {d_head}");
            fail("model.positions.dims", what)
        }
        None if !d_head.is_multiple_of(2) => {
            fail("model.positions", format!("found rope with heads of width {d_head}, expected an even width"))
        }
        _ => Ok(()),
    }
}

fn check_corpus(corpus: &CorpusSpec, fail: Fail<'_>) -> Checked {
    match corpus {
        CorpusSpec::Language(language) => {
            let tokens = language.d_vocab - usize::from(language.bos);
            if tokens < language.classes {
                let what = format!("found {}, expected at most {tokens}, one token each", language.classes);
                return fail("corpus.classes", what);
            }
            let most = (language.classes - 1).max(1);
            if language.successors > most {
                let what = format!("found {}, expected at most {most}, the other classes", language.successors);
                return fail("corpus.successors", what);
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
                let what = format!("found {}, expected 256 for tokenizer = \"bytes\"", text.d_vocab);
                return fail("corpus.d_vocab", what);
            }
        }
    }
    Ok(())
}

fn check_optimizer(
    optimizer: &OptimizerSpec,
    model: &ModelSpec,
    path: &str,
    fail: Fail<'_>,
    rules: Rules<'_>,
) -> Checked {
    let groups = matches!(optimizer, OptimizerSpec::Groups { .. });
    for (name, roles, spec) in optimizer.rules() {
        let path = if groups { format!("{path}.groups.{name}") } else { path.to_owned() };
        let rule = rules.find(&spec.kind).expect("checked");
        let wanted = roles.map_or_else(|| model.roles(), <[Role]>::to_vec);
        if let Some(role) = wanted.iter().find(|role| !rule.roles.contains(role)) {
            let (kind, known) = (&spec.kind, rule.roles.iter().map(|role| role.name()).collect::<Vec<_>>().join(", "));
            let what = format!(
                "found {kind} for {role} parameters, expected it for {known} alone, in one of optimizer.groups, and another rule for the rest"
            );
            return fail(&join(&path, "kind"), what);
        }
        if let Some((key, what)) = (rule.check)(spec) {
            return fail(&join(&path, key), what.to_owned());
        }
    }
    match model.roles().into_iter().find(|role| optimizer.rule_for(*role).is_none()) {
        Some(role) => {
            let what = format!(
                "found no group for {role} parameters, which the model has, expected {role} among the roles of one"
            );
            fail(&join(path, "groups"), what)
        }
        None => Ok(()),
    }
}

fn check_basis(basis: &BasisSpec, run: &RunSpec, path: &str, fail: Fail<'_>) -> Checked {
    let both = matches!(basis, BasisSpec::RotatedOptimizer { axes: RotatedAxes::Both, .. });
    if basis.rotation() == Some(&RotationSpec::Hadamard {}) {
        let (d_model, at) = (run.model.d_model, join(path, "rotation"));
        if !d_model.is_power_of_two() {
            return fail(&at, format!("found hadamard with model.d_model = {d_model}, expected a power of two"));
        }
        if both {
            let what = "found hadamard on both axes, expected axes = \"residual\" or another rotation";
            return fail(&at, what.to_owned());
        }
    }
    let longest = run.corpus.d_vocab().max(run.model.d_mlp).max(run.model.d_model);
    if both && longest > LONGEST_AXIS {
        let what = format!(
            "found both with an axis of {longest}, expected axes of at most {LONGEST_AXIS} or axes = \"residual\""
        );
        return fail(&join(path, "axes"), what);
    }
    Ok(())
}

/// An arm that is called by a rule's name has that rule: no table may call AdamW "sgd".
fn check_name(arm: &Arm, root: &Node, rules: Rules<'_>) -> Checked {
    let optimizers = std::iter::once(&arm.run.optimizer).chain(arm.run.phases.iter().map(|phase| &phase.optimizer));
    let used: Vec<&str> = optimizers.flat_map(OptimizerSpec::rules).map(|(.., rule)| rule.kind.as_str()).collect();
    let parts = arm.name.split(['-', '_', '.']);
    let named: Vec<&str> = parts.filter(|part| rules.find(part).is_some()).collect();
    if named.is_empty() || named.iter().any(|name| used.contains(name)) {
        return Ok(());
    }
    let (name, kind, rule) = (&arm.name, used[0], named[0]);
    let at = ["arm", name, "optimizer", "kind"].map(str::to_owned);
    let node = root.find(&at).or_else(|| root.find(&at[..2])).unwrap_or(root);
    let what = format!(
        "found {kind} in an arm that is called {name}, expected {rule}, or another name for an arm with {kind} (--arm NAME={name},optimizer.kind={kind} adds one)"
    );
    Err(ConfigError::new(&node.origin, &format!("arm.{name}.optimizer.kind"), what))
}

fn check_seeds(experiment: &Experiment, root: &Node) -> Checked {
    for sweep in &experiment.sweeps {
        let Some(choose) = &sweep.choose else { continue };
        if let Some(seed) = choose.on_seeds.iter().find(|seed| experiment.seeds.contains(seed)) {
            let what = format!("found seed {seed}, which the experiment decides on, expected other seeds");
            return fail(root, "", "grid", what);
        }
    }
    let selects = |arm: &Arm| {
        let mut chosen = experiment.sweeps.iter().filter(|sweep| sweep.choose.is_some());
        chosen.any(|sweep| sweep.points.iter().any(|point| point.arm == arm.name))
    };
    for arm in experiment.arms.iter().filter(|arm| !selects(arm)) {
        if let Some(seed) = arm.seeds.iter().find(|seed| !experiment.seeds.contains(seed)) {
            let path = ["arm", &arm.name, "seeds"].map(str::to_owned);
            let node = root.find(&path).unwrap_or(root);
            let what = format!("found seed {seed}, expected seeds of the experiment");
            return Err(ConfigError::new(&node.origin, &path.join("."), what));
        }
    }
    Ok(())
}
