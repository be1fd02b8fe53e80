// B batch, T positions, N = B T tokens, D d_model, H heads, K d_head, F d_mlp, V d_vocab

use crate::fused;
use crate::norm::{Norm, written};
use crate::product::{dtype, product, wide};
use crate::weight::{Axis, Facing, Role, Weight};
use basislab_config::{Activation, Attention, ModelSpec, Positions};
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData, activation};
use std::fmt;

/// A place on the residual stream at which it can be looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Site {
    /// After the embeddings.
    Embed,
    /// Inside or after a block.
    Block(usize, Point),
    /// After the last norm: what the head reads.
    Final,
}

/// A place within a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Point {
    /// After attention has written.
    ResidMid,
    /// After the MLP has written.
    ResidPost,
}

impl Site {
    /// Block number, where there is one.
    pub fn layer(self) -> Option<usize> {
        match self {
            Self::Block(layer, _) => Some(layer),
            Self::Embed | Self::Final => None,
        }
    }
}

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Embed => write!(f, "embed"),
            Self::Block(layer, Point::ResidMid) => write!(f, "blocks.{layer}.resid_mid"),
            Self::Block(layer, Point::ResidPost) => write!(f, "blocks.{layer}.resid_post"),
            Self::Final => write!(f, "final"),
        }
    }
}

/// A decoder-only, pre-norm transformer.
#[derive(Debug, Clone)]
pub struct Transformer {
    pub(crate) spec: ModelSpec,
    pub(crate) device: Device,
    /// Seeds that are trained as one model: 1, unless it was made by [`Transformer::stacked`].
    pub(crate) stack: usize,
    /// Whether branches and head run as fused operations.
    pub(crate) fused: bool,
    pub(crate) gelu: Gelu,
    pub(crate) w_e: Weight,
    pub(crate) w_pos: Option<Weight>,
    pub(crate) blocks: Vec<Block>,
    pub(crate) norm: Norm,
    pub(crate) w_u: Option<Weight>,
}

#[derive(Debug, Clone)]
pub(crate) struct Block {
    pub(crate) norm_1: Norm,
    pub(crate) w_q: Weight,
    pub(crate) w_k: Weight,
    pub(crate) w_v: Weight,
    pub(crate) w_o: Weight,
    pub(crate) norm_2: Norm,
    pub(crate) w_in: Weight,
    pub(crate) w_out: Weight,
    pub(crate) biases: Option<Biases>,
}

#[derive(Debug, Clone)]
pub(crate) struct Biases {
    pub(crate) q: Weight,
    pub(crate) k: Weight,
    pub(crate) v: Weight,
    pub(crate) o: Weight,
    pub(crate) inner: Weight,
    pub(crate) outer: Weight,
}

impl Transformer {
    /// Logits for every position. `see` meets every residual site in order.
    ///
    /// # Shapes
    /// `tokens [B, T]`, `T <= n_ctx` -> `[B T, V]`; `see` gets `[B T, D]`
    pub fn forward(&self, tokens: Tensor<2, Int>, see: &mut dyn FnMut(Site, &Tensor<2>)) -> Tensor<2> {
        let last = self.norm.apply(self.stream(tokens, see));
        see(Site::Final, &last);
        self.logits(last)
    }

    /// Mean loss of `targets`, in nats per token: what training minimises. In a stack of seeds each one's, in which case
    /// the sequences of the first seed come first.
    ///
    /// # Shapes
    /// `tokens`, `targets [B, T]` -> `[1]`, or `[S]` from `[S B, T]`
    pub fn loss(&self, tokens: Tensor<2, Int>, targets: Tensor<2, Int>) -> Tensor<1> {
        self.head_loss(self.stream(tokens, &mut |_, _| {}), targets)
    }

    /// [`Transformer::loss`], while `see` meets every residual site in order.
    pub fn loss_seen(
        &self,
        tokens: Tensor<2, Int>,
        targets: Tensor<2, Int>,
        see: &mut dyn FnMut(Site, &Tensor<2>),
    ) -> Tensor<1> {
        let resid = self.stream(tokens, see);
        see(Site::Final, &self.norm.apply(resid.clone()));
        self.head_loss(resid, targets)
    }

    /// The residual stream after the last block. `[B, T]` -> `[B T, D]`
    fn stream(&self, tokens: Tensor<2, Int>, see: &mut dyn FnMut(Site, &Tensor<2>)) -> Tensor<2> {
        let [batch, pos] = tokens.dims();
        assert!(pos <= self.spec.n_ctx, "{pos} positions in a model of {}", self.spec.n_ctx);
        let mut resid = self.w_e.write_rows(tokens.reshape([batch * pos])); // [N, D]
        if let Some(w_pos) = &self.w_pos {
            let positions = Tensor::<1, Int>::arange(0..pos as i64, &self.device).repeat_dim(0, batch);
            resid = resid + w_pos.write_rows(positions);
        }
        see(Site::Embed, &resid);
        for layer in 0..self.blocks.len() {
            resid = self.attention(layer, resid, pos);
            see(Site::Block(layer, Point::ResidMid), &resid);
            resid = self.mlp(layer, resid, pos);
            see(Site::Block(layer, Point::ResidPost), &resid);
        }
        resid
    }

    /// The stream with what the attention of block `layer` writes, over sequences of `pos` rows. `[N, D]` -> `[N, D]`
    pub fn attention(&self, layer: usize, resid: Tensor<2>, pos: usize) -> Tensor<2> {
        let block = &self.blocks[layer];
        fused::attention(self, block, &resid, pos)
            .unwrap_or_else(|| resid.clone() + block.attention(&self.spec, block.norm_1.apply(resid), pos))
    }

    /// The stream with what the MLP of block `layer` writes. `[N, D]` -> `[N, D]`
    pub fn mlp(&self, layer: usize, resid: Tensor<2>, pos: usize) -> Tensor<2> {
        let block = &self.blocks[layer];
        fused::mlp(self, block, &resid, pos)
            .unwrap_or_else(|| resid.clone() + block.mlp(self.spec.activation, self.gelu, block.norm_2.apply(resid)))
    }

    /// Mean loss of `targets [B, T]` from the stream after the last block, `[B T, D]` -> `[1]`
    pub fn head_loss(&self, resid: Tensor<2>, targets: Tensor<2, Int>) -> Tensor<1> {
        fused::head_loss(self, &resid, &targets)
            .unwrap_or_else(|| cross_entropies(self.logits(self.norm.apply(resid)), targets, self.stack))
    }

    /// What the head reads -> logits. `[N, D]` -> `[N, V]`
    fn logits(&self, last: Tensor<2>) -> Tensor<2> {
        match &self.w_u {
            Some(w_u) => w_u.read(last),
            None => self.w_e.read_transposed(last),
        }
    }

    /// Width of the residual stream.
    pub fn d_model(&self) -> usize {
        self.spec.d_model
    }

    /// The same model computed from burn's own operations: what the fused operations must agree with.
    pub fn reference(&self) -> Self {
        Self { fused: false, ..self.clone() }
    }

    /// Whether branches and head run as fused operations.
    pub fn is_fused(&self) -> bool {
        self.fused
    }

    /// Meets every parameter, in a fixed order: its path, how it faces the residual stream, and the parameter.
    pub fn for_each(&mut self, visit: &mut dyn FnMut(&str, Facing, &mut Weight)) {
        let read = Some(Axis { index: 0, role: Role::Read });
        let write = Some(Axis { index: 1, role: Role::Write });
        let vector = Some(Axis { index: 1, role: Role::Vector });
        let both = Some(Axis { index: 1, role: Role::Both });
        visit("w_e", if self.w_u.is_none() { both } else { write }, &mut self.w_e);
        if let Some(w_pos) = &mut self.w_pos {
            visit("w_pos", write, w_pos);
        }
        for (layer, block) in self.blocks.iter_mut().enumerate() {
            let mut visit =
                |name: &str, facing, weight: &mut Weight| visit(&format!("blocks.{layer}.{name}"), facing, weight);
            block.norm_1.for_each("norm_1", &mut visit);
            visit("w_q", read, &mut block.w_q);
            visit("w_k", read, &mut block.w_k);
            visit("w_v", read, &mut block.w_v);
            visit("w_o", write, &mut block.w_o);
            block.norm_2.for_each("norm_2", &mut visit);
            visit("w_in", read, &mut block.w_in);
            visit("w_out", write, &mut block.w_out);
            if let Some(biases) = &mut block.biases {
                visit("b_q", None, &mut biases.q);
                visit("b_k", None, &mut biases.k);
                visit("b_v", None, &mut biases.v);
                visit("b_o", vector, &mut biases.o);
                visit("b_in", None, &mut biases.inner);
                visit("b_out", vector, &mut biases.outer);
            }
        }
        self.norm.for_each("norm", visit);
        if let Some(w_u) = &mut self.w_u {
            visit("w_u", read, w_u);
        }
    }

    /// For every parameter, in the order of [`Transformer::for_each`]: path, shape, and how it faces the stream.
    pub fn residual_axes(&self) -> Vec<(String, [usize; 2], Facing)> {
        let mut all = Vec::new();
        self.clone().for_each(&mut |path, facing, weight| all.push((path.to_owned(), weight.value.dims(), facing)));
        all
    }

    /// The parameters' values, in the order of [`Transformer::for_each`].
    pub fn values(&self) -> Vec<Tensor<2>> {
        let mut all = Vec::new();
        self.clone().for_each(&mut |_, _, weight| all.push(weight.value.clone()));
        all
    }

    /// The parameters' values outside autodiff, taken out of the model so that an update can change them where they lie.
    /// The model is of no use until [`Transformer::set_values`] puts values back.
    pub fn take_values(&mut self) -> Vec<Tensor<2>> {
        let mut all = Vec::new();
        self.for_each(&mut |_, _, weight| {
            let nothing = Tensor::zeros([1, 1], (&weight.value.device(), weight.value.dtype()));
            all.push(std::mem::replace(&mut weight.value, nothing).inner());
        });
        all
    }

    /// Puts `values` in place of the parameters, in the order of [`Transformer::for_each`], ready for a gradient.
    pub fn set_values(&mut self, values: Vec<Tensor<2>>) {
        let mut values = values.into_iter();
        self.for_each(&mut |path, _, weight| {
            let value = values.next().unwrap_or_else(|| panic!("no value for {path}"));
            weight.value = Tensor::from_inner(value).require_grad();
        });
    }

    /// The same model outside autodiff: cheaper to look through.
    pub fn without_autodiff(&self) -> Self {
        let mut model = self.clone();
        model.device = self.device.clone().without_autodiff();
        model.for_each(&mut |_, _, weight| weight.value = weight.value.clone().inner());
        model
    }

    /// Tokens on this model's device.
    ///
    /// # Shapes
    /// Equally long sequences -> `[B, T]`
    pub fn tokens(&self, sequences: &[&[u32]]) -> Tensor<2, Int> {
        let shape = [sequences.len(), sequences[0].len()];
        let data: Vec<i32> = sequences.iter().flat_map(|s| s.iter().map(|&token| token as i32)).collect();
        Tensor::from_data(TensorData::new(data, shape), (&self.device, DType::I32))
    }
}

impl Block {
    /// Normalised stream `[N, D]` -> what attention writes, `[N, D]`.
    fn attention(&self, spec: &ModelSpec, x: Tensor<2>, pos: usize) -> Tensor<2> {
        let (heads, d_head) = (spec.n_heads, spec.d_model / spec.n_heads);
        let batch = x.dims()[0] / pos;
        let split = |x: Tensor<2>| x.reshape([batch, pos, heads, d_head]).swap_dims(1, 2); // [B, H, T, K]
        let biases = self.biases.as_ref();
        let mut q = split(plus(self.w_q.read(x.clone()), biases.map(|b| &b.q)));
        let mut k = split(plus(self.w_k.read(x.clone()), biases.map(|b| &b.k)));
        let v = split(plus(self.w_v.read(x), biases.map(|b| &b.v)));
        if let Positions::Rope { base } = spec.positions {
            (q, k) = (rope(q, base), rope(k, base));
        }
        let compute = dtype(spec.compute_dtype);
        let scores = wide(product(q, k.transpose(), compute)).mul_scalar((d_head as f64).powf(-0.5)); // [B, H, T, T]
        let hidden = causal_mask(pos, &scores.device()).expand([batch, heads, pos, pos]);
        let scores = scores.mask_fill(hidden, f32::NEG_INFINITY);
        let pattern = match spec.attention {
            Attention::Softmax => activation::softmax(scores, 3),
            Attention::SoftmaxOne => activation::quiet_softmax(scores, 3),
        };
        let mixed = product(pattern.cast(v.dtype()), v, compute).swap_dims(1, 2).reshape([batch * pos, heads * d_head]);
        written(self.w_o.write(mixed), biases.map(|b| &b.o))
    }

    /// Normalised stream `[N, D]` -> what the MLP writes, `[N, D]`.
    fn mlp(&self, activation: Activation, gelu: Gelu, x: Tensor<2>) -> Tensor<2> {
        let hidden = plus(self.w_in.read(x), self.biases.as_ref().map(|b| &b.inner)); // [N, F]
        let hidden = match activation {
            Activation::Gelu => gelu.apply(hidden),
            Activation::Relu => activation::relu(hidden),
            Activation::Solu => hidden.clone() * activation::softmax(wide(hidden.clone()), 1).cast(hidden.dtype()),
        };
        written(self.w_out.write(hidden), self.biases.as_ref().map(|b| &b.outer))
    }
}

/// How this backend computes the exact GELU. burn's own function is the faster one, but on backends without a fused
/// backward (burn-ndarray 0.22.1 among them) its gradient is that of the tanh approximation: 9e-4 off in the
/// parity test's embedding.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Gelu {
    /// burn's function, where its gradient was seen to be exact.
    Burn,
    /// `x (1 + erf(x / sqrt 2)) / 2` from elementary operations.
    Composed,
}

impl Gelu {
    /// Looks at burn's gradient where the approximation is furthest off.
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

/// Mean negative log-likelihood of `targets`, in nats per token.
///
/// # Shapes
/// `logits [N, V]`, `targets [B, T]` with `B T = N` -> `[1]`
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<2, Int>) -> Tensor<1> {
    cross_entropies(logits, targets, 1)
}

/// [`cross_entropy`] of each of `stack` seeds, whose rows follow one another. `[S N, V]`, `[S B, T]` -> `[S]`
fn cross_entropies(logits: Tensor<2>, targets: Tensor<2, Int>, stack: usize) -> Tensor<1> {
    let tokens = logits.dims()[0];
    let likelihood = activation::log_softmax(wide(logits), 1).gather(1, targets.reshape([tokens, 1]));
    match stack {
        1 => likelihood.mean().neg(),
        _ => likelihood.reshape([stack, tokens / stack]).mean_dim(1).flatten::<1>(0, 1).neg(),
    }
}

/// Adds a bias that never meets the stream.
fn plus(x: Tensor<2>, bias: Option<&Weight>) -> Tensor<2> {
    match bias {
        Some(bias) => bias.shift(x, bias.value.clone()),
        None => x,
    }
}

/// `true` where a query must not see a key, `[1, 1, T, T]`; made on the device, so that nothing is sent there.
fn causal_mask(pos: usize, device: &Device) -> Tensor<4, Bool> {
    let positions = Tensor::<1, Int>::arange(0..pos as i64, device);
    let (queries, keys) = (positions.clone().reshape([1, 1, pos, 1]), positions.reshape([1, 1, 1, pos]));
    keys.greater(queries)
}

/// Rotary position embedding: coordinate pairs `(k, k + K/2)` turn by `t base^(-2k/K)`. `[B, H, T, K]` -> same.
fn rope(x: Tensor<4>, base: f64) -> Tensor<4> {
    let [_, _, pos, d_head] = x.dims();
    let half = d_head / 2;
    let angle = |i: usize| (i / half) as f64 * base.powf(-2.0 * (i % half) as f64 / d_head as f64);
    let table = |of: fn(f64) -> f64| {
        let values: Vec<f64> = (0..pos * half).map(|i| of(angle(i))).collect();
        Tensor::<4>::from_data(TensorData::new(values, [1, 1, pos, half]), (&x.device(), x.dtype()))
    };
    let (cos, sin) = (table(f64::cos), table(f64::sin));
    let (a, b) = (x.clone().narrow(3, 0, half), x.narrow(3, half, half));
    Tensor::cat(vec![a.clone() * cos.clone() - b.clone() * sin.clone(), a * sin + b * cos], 3)
}
