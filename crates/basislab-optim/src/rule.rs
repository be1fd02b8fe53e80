//! What an update rule is: keys, state by name, and a step.

use crate::fused::{self, OnePass};
use basislab_config::{Key, Kind, Parameter, RuleKeys, RuleSpec};
use burn::tensor::Tensor;

/// An update rule. Each is a file in `rules/`.
#[derive(Debug)]
pub struct Rule {
    /// What it is called, which keys it has, which roles it is for, and what it remembers of each parameter.
    pub keys: RuleKeys,
    /// One line about it, with its source.
    pub about: &'static str,
    /// The update, to be scaled by the learning rate and subtracted, in burn's operations.
    pub(crate) update: fn(&mut Step<'_>, Tensor<2>) -> Tensor<2>,
    /// The same number by number, where a number of the update needs no other gradient than its own.
    pub(crate) one_pass: Option<OnePass>,
}

impl Rule {
    /// The update, in one pass where that is possible.
    pub(crate) fn change(&self, step: &mut Step<'_>, grad: Tensor<2>) -> Tensor<2> {
        match self.one_pass {
            Some(one_pass) if fused::available(&grad) => {
                fused::run(one_pass, (self.keys.slots)(step.spec), step, None, grad)
            }
            _ => (self.update)(step, grad),
        }
    }
}

/// One update of one parameter, as its rule sees it.
pub(crate) struct Step<'a> {
    /// The rule's numbers.
    pub(crate) spec: &'a RuleSpec,
    /// The parameter. The gradient has its shape, in the basis that the rule works in.
    pub(crate) parameter: &'a Parameter,
    /// 1 for the first update.
    pub(crate) count: u64,
    /// What the rule remembers, by name; of any shape.
    pub(crate) state: &'a mut Slots,
}

impl Step<'_> {
    /// The value of a key.
    pub(crate) fn number(&self, key: &str) -> f64 {
        self.spec.number(key)
    }
}

/// What a rule remembers of one parameter, in the basis it works in.
#[derive(Debug, Clone, Default)]
pub(crate) struct Slots(Vec<(&'static str, Tensor<2>)>);

impl Slots {
    /// Takes a slot's tensor out; `None` before the first update.
    pub(crate) fn take(&mut self, slot: &str) -> Option<Tensor<2>> {
        let at = self.0.iter().position(|(name, _)| *name == slot)?;
        Some(self.0.swap_remove(at).1)
    }

    /// Puts a tensor into a slot.
    pub(crate) fn put(&mut self, slot: &'static str, value: Tensor<2>) {
        self.0.retain(|(name, _)| *name != slot);
        self.0.push((slot, value));
    }

    /// A slot's tensor.
    pub(crate) fn get(&self, slot: &str) -> Option<&Tensor<2>> {
        self.0.iter().find(|(name, _)| *name == slot).map(|(_, value)| value)
    }
}

/// `beta old + (1 - beta) new`, from `old = 0`.
pub(crate) fn decayed(old: Option<Tensor<2>>, new: Tensor<2>, beta: f64) -> Tensor<2> {
    let new = new.mul_scalar(1.0 - beta);
    match old {
        Some(old) => old.mul_scalar(beta) + new,
        None => new,
    }
}

/// `momentum old + new`, from `old = 0` (PyTorch's momentum without dampening).
pub(crate) fn accumulated(old: Option<Tensor<2>>, new: Tensor<2>, momentum: f64) -> Tensor<2> {
    match old {
        Some(old) => old.mul_scalar(momentum) + new,
        None => new,
    }
}

// ---- keys that several rules have -----------------------------------------------------------------------------------

const fn key(name: &'static str, kind: Kind, preset: &'static str, about: &'static str) -> Key {
    Key { name, kind, about, preset: Some(preset), optional: false }
}

/// The peak learning rate, which every rule has.
pub(crate) const fn lr(preset: &'static str) -> Key {
    key("lr", Kind::Positive(1e6), preset, "Peak learning rate")
}

/// A decay of a running mean.
pub(crate) const fn beta(name: &'static str, preset: &'static str, about: &'static str) -> Key {
    key(name, Kind::FloatBelow(0.0, 1.0), preset, about)
}

/// Momentum.
pub(crate) const fn momentum(preset: &'static str) -> Key {
    key("momentum", Kind::FloatBelow(0.0, 1.0), preset, "Momentum, dampening 0; 0 switches it off")
}

/// Nesterov's momentum.
pub(crate) const fn nesterov(preset: &'static str) -> Key {
    key("nesterov", Kind::Bool, preset, "Nesterov's momentum")
}

/// Added to a root.
pub(crate) const fn epsilon(preset: &'static str, about: &'static str) -> Key {
    key("epsilon", Kind::Positive(1e3), preset, about)
}

/// A number of a rule's own.
pub(crate) const fn number(name: &'static str, kind: Kind, preset: &'static str, about: &'static str) -> Key {
    key(name, kind, preset, about)
}

const COUPLED: &str = "weight_decay";
const DECOUPLED: &str = "decoupled_weight_decay";

/// Decay inside the gradient: `g + c w` takes the place of `g`.
pub(crate) const fn weight_decay(preset: &'static str) -> Key {
    key(COUPLED, Kind::Float(0.0, 1e3), preset, "Decay inside the gradient: adds this times the weight to it")
}

/// Decay outside the gradient: the weight shrinks by `lr d w`.
pub(crate) const fn decoupled_weight_decay(preset: &'static str) -> Key {
    key(DECOUPLED, Kind::Float(0.0, 1e3), preset, "Decay outside the gradient: the weight shrinks by lr times this")
}

/// A rule's decay inside the gradient; 0 where it has no such key.
pub(crate) fn coupled_decay(spec: &RuleSpec) -> f64 {
    spec.number_or(COUPLED, 0.0)
}

/// A rule's decay outside the gradient; 0 where it has no such key.
pub(crate) fn decoupled_decay(spec: &RuleSpec) -> f64 {
    spec.number_or(DECOUPLED, 0.0)
}
