//! Several seeds as one model. Parameters of all seeds follow one another, and so do the rows that they meet, so that all
//! matrices stay two-dimensional; a product is made seed by seed, in one batched call.

use crate::fused;
use crate::model::Transformer;
use burn::tensor::Tensor;

impl Transformer {
    /// Models of one architecture as one, with a batched product where each has its own. They stay apart: no seed's
    /// numbers meet another's.
    ///
    /// # Panics
    /// If there is none, or one is rotated.
    pub fn stacked(models: &[Self]) -> Self {
        let (first, stack) = (models.first().expect("at least one model"), models.len());
        let mut all: Vec<_> = models.iter().map(|model| model.values().into_iter()).collect();
        let mut model = Self { stack, fused: first.fused && stack == 1, ..first.clone() };
        model.for_each(&mut |path, _, weight| {
            assert!(weight.rotation.is_none(), "{path}: a rotated model is not stacked");
            let values = all.iter_mut().map(|values| values.next().expect("one architecture").inner()).collect();
            weight.value = Tensor::from_inner(Tensor::cat(values, 0)).require_grad();
            weight.stack = stack;
        });
        model
    }

    /// The model of seed number `index` in the stack.
    pub fn one_of(&self, index: usize) -> Self {
        let mut model = Self { stack: 1, fused: fused::covers(&self.spec, &self.device), ..self.clone() };
        model.for_each(&mut |_, _, weight| {
            weight.value = Tensor::from_inner(rows_of(weight.value.clone().inner(), index, self.stack)).require_grad();
            weight.stack = 1;
        });
        model
    }
}

/// The rows that seed number `index` has in a stack.
fn rows_of(x: Tensor<2>, index: usize, stack: usize) -> Tensor<2> {
    let rows = x.dims()[0] / stack;
    x.narrow(0, index * rows, rows)
}

/// The rows of `stack` seeds on an axis of their own, `[S n, m]` -> `[S, n, m]`.
pub(crate) fn apart(x: Tensor<2>, stack: usize) -> Tensor<3> {
    let [rows, columns] = x.dims();
    x.reshape([stack, rows / stack, columns])
}

/// The way back, `[S, n, m]` -> `[S n, m]`.
pub(crate) fn together(x: Tensor<3>) -> Tensor<2> {
    x.flatten(0, 1)
}
