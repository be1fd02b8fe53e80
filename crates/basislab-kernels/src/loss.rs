use crate::simd::{dispatch, exp, max, sum};
use pulp::{Simd, WithSimd};
use std::sync::Arc;

/// Cross-entropy: mean over rows of `-log softmax(logits)[target]`, in nats.
#[derive(Debug, Clone)]
pub struct Loss {
    /// One per row of the batch, `[N]`, each below the number of logits.
    pub targets: Arc<[i32]>,
}

impl Loss {
    /// The sum of the losses of a chunk whose first row is `first`. `logits [n, V]` become `softmax - one hot`.
    pub(crate) fn forward(&self, logits: &mut [f32], d_vocab: usize, first: usize) -> f64 {
        dispatch(Forward { logits, d_vocab, targets: &self.targets[first..] })
    }
}

struct Forward<'a> {
    logits: &'a mut [f32],
    d_vocab: usize,
    targets: &'a [i32],
}

impl WithSimd for Forward<'_> {
    type Output = f64;

    #[inline(always)]
    fn with_simd<S: Simd>(self, _: S) -> f64 {
        let mut loss = 0.0;
        for (logits, &target) in self.logits.chunks_exact_mut(self.d_vocab).zip(self.targets) {
            let target = usize::try_from(target).expect("tokens are not negative");
            let most = max(logits);
            let wanted = logits[target] - most;
            for logit in &mut *logits {
                *logit = exp::<S>(*logit - most);
            }
            let total = sum(logits);
            let share = 1.0 / total;
            for logit in &mut *logits {
                *logit *= share;
            }
            logits[target] -= 1.0;
            loss += f64::from(total).ln() - f64::from(wanted);
        }
        loss
    }
}
