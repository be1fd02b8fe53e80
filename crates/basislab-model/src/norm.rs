use crate::part::Part;
use crate::product::at_least_f32;
use crate::weight::Weight;
use basislab_config::{NormKind, Role};
use burn::tensor::Tensor;

/// The normalisation of the stream before it is read.
#[derive(Debug, Clone)]
pub struct Norm {
    pub(crate) kind: NormKind,
    pub(crate) epsilon: f64,
    pub(crate) gain: Option<Weight>,
    pub(crate) bias: Option<Weight>,
}

impl Norm {
    /// # Shapes
    /// `[N, D]` -> `[N, D]`
    pub fn apply(&self, x: Tensor<2>) -> Tensor<2> {
        let own = x.dtype();
        let x = match self.kind {
            NormKind::None => return x,
            NormKind::Layernorm => at_least_f32(x.clone()) - at_least_f32(x).mean_dim(1),
            NormKind::Rms | NormKind::RmsScalar | NormKind::RmsGain => at_least_f32(x),
        };
        let scale = x.clone().square().mean_dim(1).add_scalar(self.epsilon).sqrt(); // [N, 1]
        let mut x = (x / scale).cast(own);
        if let Some(gain) = &self.gain {
            x = x * gain.in_stream(); // [1, 1] or [1, D]
        }
        written(x, self.bias.as_ref())
    }

    /// It as a part, where it does anything.
    pub(crate) fn as_part(&self) -> Option<Part<'_>> {
        (self.kind != NormKind::None).then_some(Part::Norm(self))
    }

    pub(crate) fn for_each(&mut self, name: &str, visit: &mut dyn FnMut(&str, Role, &mut Weight)) {
        if let Some(gain) = &mut self.gain {
            let role = if self.kind == NormKind::RmsScalar { Role::Other } else { Role::Vector };
            visit(&format!("{name}.gain"), role, gain);
        }
        if let Some(bias) = &mut self.bias {
            visit(&format!("{name}.bias"), Role::Vector, bias);
        }
    }
}

/// Adds a bias that is written to the stream.
pub(crate) fn written(x: Tensor<2>, bias: Option<&Weight>) -> Tensor<2> {
    match bias {
        Some(bias) => x + bias.in_stream(),
        None => x,
    }
}
