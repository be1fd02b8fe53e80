// B batch, T positions, N = B T tokens, D d_model, H heads, G heads with keys, K d_head, F d_mlp

use crate::norm::{Norm, written};
use crate::product::{at_least_f32, dtype, product};
use crate::rope::rope;
use crate::weight::Weight;
use basislab_config::{Activation, Attention, Mask, ModelSpec, Positions, Role};
use burn::tensor::{Bool, DType, Device, Tensor, TensorData, activation};

/// An attention branch and an MLP branch.
#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) norm_1: Norm,
    pub(crate) w_q: Weight,
    pub(crate) w_k: Weight,
    pub(crate) w_v: Weight,
    pub(crate) qk_norms: Option<[Norm; 2]>,
    pub(crate) w_o: Weight,
    pub(crate) norm_2: Norm,
    pub(crate) w_gate: Option<Weight>,
    pub(crate) w_in: Weight,
    pub(crate) w_out: Weight,
    pub(crate) biases: Biases,
}

/// The biases that there are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Biases {
    pub(crate) q: Option<Weight>,
    pub(crate) k: Option<Weight>,
    pub(crate) v: Option<Weight>,
    pub(crate) o: Option<Weight>,
    pub(crate) inner: Option<Weight>,
    pub(crate) outer: Option<Weight>,
}

impl Block {
    /// What attention reads `[N, D]` -> what it writes, `[N, D]`.
    pub(crate) fn attention(&self, spec: &ModelSpec, x: Tensor<2>, pos: usize) -> Tensor<2> {
        let (heads, kv_heads, d_head) = (spec.n_heads, spec.n_kv_heads(), spec.d_head());
        let batch = x.dims()[0] / pos;
        let split = |x: Tensor<2>, heads: usize| x.reshape([batch, pos, heads, d_head]).swap_dims(1, 2); // [B, H, T, K]
        let mut q = plus(self.w_q.read(x.clone()), &self.biases.q);
        let mut k = plus(self.w_k.read(x.clone()), &self.biases.k);
        let v = plus(self.w_v.read(x), &self.biases.v);
        if let Some([q_norm, k_norm]) = &self.qk_norms {
            (q, k) = (per_head(q_norm, q, d_head), per_head(k_norm, k, d_head));
        }
        let (mut q, mut k) = (split(q, heads), split(k, kv_heads));
        if let Positions::Rope { base, pairs, dims } = spec.positions {
            let dims = dims.unwrap_or(d_head);
            (q, k) = (rope(q, base, pairs, dims), rope(k, base, pairs, dims));
        }
        let (k, v) = (shared(k, heads), shared(split(v, kv_heads), heads));
        let compute = dtype(spec.compute_dtype);
        let mut scores = at_least_f32(product(q, k.transpose(), compute)).mul_scalar((d_head as f64).powf(-0.5)); // [B, H, T, T]
        if spec.mask == Mask::Causal {
            let hidden = causal_mask(pos, &scores.device()).expand([batch, heads, pos, pos]);
            scores = scores.mask_fill(hidden, f32::NEG_INFINITY);
        }
        let pattern = match spec.attention {
            Attention::Softmax => activation::softmax(scores, 3),
            Attention::SoftmaxOne => activation::quiet_softmax(scores, 3),
        };
        let mixed = product(pattern.cast(v.dtype()), v, compute).swap_dims(1, 2).reshape([batch * pos, heads * d_head]);
        written(self.w_o.write(mixed), self.biases.o.as_ref())
    }

    /// What the MLP reads `[N, D]` -> what it writes, `[N, D]`.
    pub(crate) fn mlp(&self, activation: Activation, gelu: Gelu, x: Tensor<2>) -> Tensor<2> {
        let gate = self.w_gate.as_ref().map(|w_gate| silu(w_gate.read(x.clone())));
        let hidden = plus(self.w_in.read(x), &self.biases.inner); // [N, F]
        let hidden = match (gate, activation) {
            (Some(gate), _) => gate * hidden,
            (None, Activation::Gelu) => gelu.apply(hidden),
            (None, Activation::GeluTanh) => gelu_tanh(hidden),
            (None, Activation::Relu) => activation::relu(hidden),
            (None, Activation::Solu) => {
                hidden.clone() * activation::softmax(at_least_f32(hidden.clone()), 1).cast(hidden.dtype())
            }
        };
        written(self.w_out.write(hidden), self.biases.outer.as_ref())
    }

    /// Calls `visit` with every parameter, in a fixed order: its name in the block, its role, and the parameter.
    pub(crate) fn for_each(&mut self, visit: &mut dyn FnMut(&str, Role, &mut Weight)) {
        self.norm_1.for_each("norm_1", visit);
        visit("w_q", Role::Read, &mut self.w_q);
        visit("w_k", Role::Read, &mut self.w_k);
        visit("w_v", Role::Read, &mut self.w_v);
        if let Some([q_norm, k_norm]) = &mut self.qk_norms {
            // Their gains are coordinates of heads, not of the stream.
            q_norm.for_each("q_norm", &mut |name, _, gain| visit(name, Role::Other, gain));
            k_norm.for_each("k_norm", &mut |name, _, gain| visit(name, Role::Other, gain));
        }
        visit("w_o", Role::Write, &mut self.w_o);
        self.norm_2.for_each("norm_2", visit);
        if let Some(w_gate) = &mut self.w_gate {
            visit("w_gate", Role::Read, w_gate);
        }
        visit("w_in", Role::Read, &mut self.w_in);
        visit("w_out", Role::Write, &mut self.w_out);
        let Biases { q, k, v, o, inner, outer } = &mut self.biases;
        for (name, role, bias) in [
            ("b_q", Role::Other, q),
            ("b_k", Role::Other, k),
            ("b_v", Role::Other, v),
            ("b_o", Role::Vector, o),
            ("b_in", Role::Other, inner),
            ("b_out", Role::Vector, outer),
        ] {
            if let Some(bias) = bias {
                visit(name, role, bias);
            }
        }
    }
}

/// How this backend computes the exact GELU. burn's own function is the faster one, but on backends without a fused
/// backward (burn-ndarray 0.22.1 among them) its gradient is that of the tanh approximation: 9e-4 off in the
/// parity test's embedding.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Gelu {
    /// burn's function, where its gradient is exact.
    Burn,
    /// `x (1 + erf(x / sqrt 2)) / 2` from elementary operations.
    Composed,
}

impl Gelu {
    /// Tests burn's gradient where the approximation is furthest off.
    pub(crate) fn of(device: &Device, dtype: DType) -> Self {
        if !device.is_autodiff() {
            return Self::Composed;
        }
        let points = Tensor::<1>::from_data(TensorData::from([-2.7, -0.7, 0.7, 2.7]), (device, dtype)).require_grad();
        let gradient = |gelu: &dyn Fn(Tensor<1>) -> Tensor<1>| {
            let mut grads = gelu(points.clone()).sum().backward();
            points.grad_remove(&mut grads).expect("the points are used")
        };
        let difference = gradient(&activation::gelu) - gradient(&composed_gelu);
        if difference.abs().max().into_scalar::<f64>() < 1e-5 { Self::Burn } else { Self::Composed }
    }

    fn apply(self, x: Tensor<2>) -> Tensor<2> {
        match self {
            Self::Burn => activation::gelu(x),
            Self::Composed => composed_gelu(x),
        }
    }
}

fn composed_gelu<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    let phi = x.clone().mul_scalar(std::f64::consts::FRAC_1_SQRT_2).erf().add_scalar(1.0).mul_scalar(0.5);
    x * phi
}

/// `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`
fn gelu_tanh(x: Tensor<2>) -> Tensor<2> {
    let inner =
        (x.clone() + x.clone().powi_scalar(3).mul_scalar(0.044715)).mul_scalar((2.0 / std::f64::consts::PI).sqrt());
    x * inner.tanh().add_scalar(1.0).mul_scalar(0.5)
}

/// `x sigmoid(x)`, by tanh: burn-ndarray 0.22.1 takes the sigmoid of f64 in f32.
fn silu(x: Tensor<2>) -> Tensor<2> {
    let sigmoid = x.clone().mul_scalar(0.5).tanh().add_scalar(1.0).mul_scalar(0.5);
    x * sigmoid
}

/// Normalises each head by itself. `[N, H K]` -> same
fn per_head(norm: &Norm, x: Tensor<2>, d_head: usize) -> Tensor<2> {
    let [tokens, width] = x.dims();
    norm.apply(x.reshape([tokens * (width / d_head), d_head])).reshape([tokens, width])
}

/// Keys or values of `G` heads for all `heads`: each serves as many neighbours. `[B, G, T, K]` -> `[B, H, T, K]`
fn shared(x: Tensor<4>, heads: usize) -> Tensor<4> {
    let [batch, kv_heads, pos, d_head] = x.dims();
    if kv_heads == heads {
        return x;
    }
    let wide = x.unsqueeze_dim::<5>(2).expand([batch, kv_heads, heads / kv_heads, pos, d_head]);
    wide.reshape([batch, heads, pos, d_head])
}

/// Adds a bias that never meets the stream.
fn plus(x: Tensor<2>, bias: &Option<Weight>) -> Tensor<2> {
    match bias {
        Some(bias) => x + bias.value.clone(),
        None => x,
    }
}

/// `true` where a query must not attend to a key, `[1, 1, T, T]`; computed on the device, without a transfer.
fn causal_mask(pos: usize, device: &Device) -> Tensor<4, Bool> {
    let positions = Tensor::<1, burn::tensor::Int>::arange(0..pos as i64, device);
    let (queries, keys) = (positions.clone().reshape([1, 1, pos, 1]), positions.reshape([1, 1, 1, pos]));
    keys.greater(queries)
}
