use crate::basis::ParameterBasis;
use crate::fused::{self, OnePass};
use crate::rule::{Rule, Slots, Step, coupled_decay, decoupled_decay};
use crate::rules::rule;
use basislab_config::{Moments, OptimizerSpec, Parameter, RuleSpec};
use basislab_kernels::{Descent, Unchanged};
use burn::tensor::Tensor;
use std::collections::BTreeMap;

/// Update rules with their state, each parameter with its rule and its [`ParameterBasis`].
#[derive(Debug, Clone)]
pub struct Optimizer {
    parameters: Vec<Assigned>,
    count: u64,
}

/// A parameter with the rule that updates it.
#[derive(Debug, Clone)]
struct Assigned {
    parameter: Parameter,
    rule: &'static Rule,
    spec: RuleSpec,
    basis: ParameterBasis,
    state: Slots,
}

impl Optimizer {
    /// Assigns a rule to each parameter by its role; `bases` has one entry per parameter.
    ///
    /// # Panics
    /// If no group names the role of a parameter: configurations are checked.
    pub fn new(spec: &OptimizerSpec, parameters: Vec<Parameter>, bases: Vec<ParameterBasis>) -> Self {
        assert_eq!(parameters.len(), bases.len(), "one basis per parameter");
        let assign = |(parameter, basis): (Parameter, ParameterBasis)| {
            let own = spec.rule_for(parameter.role);
            let own = own.unwrap_or_else(|| panic!("no group names {} ({})", parameter.role, parameter.path));
            Assigned { rule: rule(own), spec: own.clone(), parameter, basis, state: Slots::default() }
        };
        Self { parameters: parameters.into_iter().zip(bases).map(assign).collect(), count: 0 }
    }

    /// One update, at `lr_factor` times each rule's peak learning rate. Tensors are outside autodiff, in the order of the
    /// parameters. Rules work in the type of the gradients; weights keep theirs.
    ///
    /// `w' = (1 - lr d) w - lr undo(update(apply(g + c w)))` with coupled decay `c` and decoupled decay `d`: the weights
    /// never make the round trip through the rotation, so a rotation by the identity or a signed permutation changes no
    /// bit where the rule is equivariant to it.
    pub fn step(&mut self, lr_factor: f64, weights: Vec<Tensor<2>>, grads: Vec<Tensor<2>>) -> Vec<Tensor<2>> {
        assert_eq!(weights.len(), self.parameters.len(), "one weight per parameter");
        assert_eq!(grads.len(), self.parameters.len(), "one gradient per parameter");
        self.count += 1;
        let count = self.count;
        let all = weights.into_iter().zip(grads).zip(&mut self.parameters);
        all.map(|((weight, mut grad), Assigned { parameter, rule, spec, basis, state })| {
            let (own, weight) = (weight.dtype(), weight.cast(grad.dtype()));
            let (coupled, decoupled, lr) = (coupled_decay(spec), decoupled_decay(spec), spec.lr() * lr_factor);
            let keep = 1.0 - lr * decoupled;
            let (is_fused, slots) = (fused::available(&grad), (rule.keys.slots)(spec));
            let mut step = Step { spec, parameter, count, state };
            let descent = |coupled: f64| Descent { coupled: coupled as f32, keep: keep as f32, lr: lr as f32 };
            if let (true, false, Some(one_pass)) = (is_fused, basis.is_rotated(), rule.one_pass) {
                return fused::run(one_pass, slots, &mut step, Some((weight, descent(coupled))), grad).cast(own);
            }
            if coupled != 0.0 {
                grad = grad + weight.clone().mul_scalar(coupled);
            }
            let change = basis.undo(rule.change(&mut step, basis.apply(grad)));
            if is_fused {
                let one_pass: OnePass = |_, pass| pass.run(Unchanged);
                return fused::run(one_pass, &[], &mut step, Some((weight, descent(0.0))), change).cast(own);
            }
            let kept = if keep == 1.0 { weight } else { weight.mul_scalar(keep) };
            (kept - change.mul_scalar(lr)).cast(own)
        })
        .collect()
    }

    /// The optimizer of the next phase: other rules and maps, and what becomes of the state.
    pub fn enter(self, spec: &OptimizerSpec, bases: Vec<ParameterBasis>, moments: Moments) -> Self {
        let parameters = self.parameters.iter().map(|assigned| assigned.parameter.clone()).collect();
        let mut next = Self::new(spec, parameters, bases);
        if moments == Moments::Reset {
            return next;
        }
        next.count = self.count;
        for (before, after) in self.parameters.into_iter().zip(&mut next.parameters) {
            let change = before.basis.change_to(&after.basis);
            for slot in (after.rule.keys.slots)(&after.spec) {
                let Some(value) = before.state.get(slot).cloned() else { continue };
                let value = match moments {
                    Moments::Rotate if *slot == SECOND => change.apply_squared(value),
                    Moments::Rotate => change.apply(value),
                    Moments::Keep | Moments::Reset => value,
                };
                after.state.put(slot, value);
            }
        }
        next
    }

    /// What the rules remember: the parameter's path, the slot, the tensor in the basis that the rule works in.
    pub fn state(&self) -> Vec<(&str, &'static str, Tensor<2>)> {
        let mut all = Vec::new();
        for Assigned { parameter, rule, spec, state, .. } in &self.parameters {
            for slot in (rule.keys.slots)(spec) {
                all.extend(state.get(slot).map(|value| (parameter.path.as_str(), *slot, value.clone())));
            }
        }
        all
    }

    /// Puts back what [`Optimizer::state`] gave after `count` updates since the state was last empty.
    ///
    /// # Errors
    /// The tensors that are missing or that no rule remembers.
    pub fn restore(&mut self, count: u64, state: Vec<(String, String, Tensor<2>)>) -> Result<(), String> {
        self.count = count;
        let mut given: BTreeMap<(String, String), Tensor<2>> =
            state.into_iter().map(|(path, slot, value)| ((path, slot), value)).collect();
        let mut missing = Vec::new();
        for Assigned { parameter, rule, spec, state, .. } in &mut self.parameters {
            let slots = if count == 0 { &[] } else { (rule.keys.slots)(spec) };
            *state = Slots::default();
            for slot in slots {
                match given.remove(&(parameter.path.clone(), (*slot).to_owned())) {
                    Some(value) => state.put(slot, value),
                    None => missing.push(format!("{}.{slot} is missing", parameter.path)),
                }
            }
        }
        let unknown = given.into_keys().map(|(path, slot)| format!("{path}.{slot} is unknown"));
        let wrong: Vec<String> = missing.into_iter().chain(unknown).collect();
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }

    /// Whether each parameter's rule works in a rotated basis.
    pub fn is_rotated(&self) -> impl Iterator<Item = bool> {
        self.parameters.iter().map(|assigned| assigned.basis.is_rotated())
    }
}

/// The slot of second moments, which rotate as variances do.
const SECOND: &str = "second";
