use crate::basis::{Basis, rows_of};
use crate::rule::{State, coupled_decay, decoupled_decay, descend, update};
use basislab_config::OptimizerSpec;
use burn::tensor::Tensor;

/// An update rule with its state, one [`Basis`] per parameter.
#[derive(Debug, Clone)]
pub struct Optimizer {
    rule: OptimizerSpec,
    bases: Vec<Basis>,
    states: Vec<State>,
    count: u64,
}

impl Optimizer {
    /// `bases` has one entry per parameter; `Basis::default()` is the standard basis.
    pub fn new(rule: &OptimizerSpec, bases: Vec<Basis>) -> Self {
        let states = vec![State::default(); bases.len()];
        Self { rule: rule.clone(), bases, states, count: 0 }
    }

    /// One update at learning rate `lr`. Tensors are outside autodiff, in the order of the bases. The rule works in the
    /// type of the gradients; weights keep theirs.
    ///
    /// `w' = (1 - lr d) w - lr undo(update(apply(g + c w)))` with coupled decay `c` and decoupled decay `d`: the weights
    /// never make the round trip through the rotation, so a rotation by the identity or a signed permutation changes no
    /// bit where the rule is equivariant to it.
    pub fn step(&mut self, lr: f64, weights: Vec<Tensor<2>>, grads: Vec<Tensor<2>>) -> Vec<Tensor<2>> {
        assert_eq!(weights.len(), self.bases.len(), "one basis per parameter");
        assert_eq!(grads.len(), self.bases.len(), "one gradient per parameter");
        self.count += 1;
        let (coupled, decoupled) = (coupled_decay(&self.rule), decoupled_decay(&self.rule));
        let parameters = weights.into_iter().zip(grads).zip(self.bases.iter().zip(&mut self.states));
        parameters
            .map(|((weight, mut grad), (basis, state))| {
                let (own, weight) = (weight.dtype(), weight.cast(grad.dtype()));
                if coupled != 0.0 {
                    grad = grad + weight.clone().mul_scalar(coupled);
                }
                let change = basis.undo(update(&self.rule, basis.apply(grad), state, self.count));
                descend(weight, change, 1.0 - lr * decoupled, lr).cast(own)
            })
            .collect()
    }

    /// How many of (momentum or first moment, second moment) the rule keeps for each parameter.
    pub fn slots(&self) -> usize {
        self.rule.slots()
    }

    /// What the rule remembers of each parameter, in the basis it works in: momentum or first moment, second moment.
    pub fn memory(&self) -> Vec<[Option<Tensor<2>>; 2]> {
        self.states.iter().map(|state| [state.first.clone(), state.second.clone()]).collect()
    }

    /// Goes on from what [`Optimizer::memory`] gave after `count` updates.
    pub fn recall(&mut self, count: u64, memory: Vec<[Option<Tensor<2>>; 2]>) {
        assert_eq!(memory.len(), self.states.len(), "one memory per parameter");
        self.count = count;
        self.states = memory.into_iter().map(|[first, second]| State { first, second }).collect();
    }

    /// The optimizers of several seeds of one arm as one, parameter by parameter.
    ///
    /// # Panics
    /// If there is none, or they have not made equally many updates.
    pub fn stacked(optimizers: &[Self]) -> Self {
        let first = optimizers.first().expect("at least one optimizer");
        assert!(optimizers.iter().all(|other| other.count == first.count), "all seeds are at the same update");
        let bases = (0..first.bases.len())
            .map(|i| Basis::stacked(&optimizers.iter().map(|one| &one.bases[i]).collect::<Vec<_>>()));
        let moment = |i: usize, of: fn(&State) -> &Option<Tensor<2>>| {
            let all: Vec<_> = optimizers.iter().filter_map(|one| of(&one.states[i]).clone()).collect();
            (!all.is_empty()).then(|| Tensor::cat(all, 0))
        };
        let states = (0..first.states.len())
            .map(|i| State { first: moment(i, |state| &state.first), second: moment(i, |state| &state.second) });
        Self { rule: first.rule.clone(), bases: bases.collect(), states: states.collect(), count: first.count }
    }

    /// The optimizer of seed number `index` in a stack of `stack`.
    pub fn one_of(&self, index: usize, stack: usize) -> Self {
        let own = |moment: &Option<Tensor<2>>| moment.clone().map(|moment| rows_of(moment, index, stack));
        let states = self.states.iter().map(|state| State { first: own(&state.first), second: own(&state.second) });
        let bases = self.bases.iter().map(|basis| basis.one_of(index));
        Self { rule: self.rule.clone(), bases: bases.collect(), states: states.collect(), count: self.count }
    }

    /// The basis of each parameter.
    pub fn bases(&self) -> &[Basis] {
        &self.bases
    }
}
