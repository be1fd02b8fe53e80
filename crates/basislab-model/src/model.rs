// B batch, T positions, N = B T tokens, D d_model, H heads, K d_head, F d_mlp, V d_vocab

use crate::fused;
use crate::norm::{Norm, written};
use crate::product::{at_least_f32, dtype, product};
use crate::weight::Weight;
use basislab_config::{Activation, Attention, ModelSpec, Parameter, Positions, Role, Site};
use burn::tensor::{Bool, DType, Device, Int, Tensor, TensorData, activation};

/// A decoder-only, pre-norm transformer.
#[derive(Debug, Clone)]
pub struct Transformer {
    pub(crate) spec: ModelSpec,
    pub(crate) device: Device,
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
    /// Logits for every position. `on_site` gets the residual stream at every site in order.
    ///
    /// # Shapes
    /// `tokens [B, T]`, `T <= n_ctx` -> `[B T, V]`; `on_site` gets `[B T, D]`
    pub fn forward(&self, tokens: Tensor<2, Int>, on_site: &mut dyn FnMut(Site, &Tensor<2>)) -> Tensor<2> {
        let mut resid = self.stream(vec![tokens], &mut |site, streams| on_site(site, &streams[0]));
        let last = self.norm.apply(resid.remove(0));
        on_site(Site::Final, &last);
        self.logits(last)
    }

    /// Mean loss of `targets`, in nats per token: what training minimises.
    ///
    /// # Shapes
    /// `tokens`, `targets [B, T]` -> `[1]`
    pub fn loss(&self, tokens: Tensor<2, Int>, targets: Tensor<2, Int>) -> Tensor<1> {
        self.head_loss(self.stream(vec![tokens], &mut |_, _| {}).remove(0), targets)
    }

    /// [`Transformer::loss`] of several batches, computed together, block by block. `on_site` gets the
    /// residual streams of all of them at every site in order.
    ///
    /// # Shapes
    /// `(tokens, targets)`, each `[B, T]` -> `[1]` each; `on_site` gets `[B T, D]` each
    pub fn losses_with_sites(
        &self,
        batches: Vec<(Tensor<2, Int>, Tensor<2, Int>)>,
        on_site: &mut dyn FnMut(Site, &[Tensor<2>]),
    ) -> Vec<Tensor<1>> {
        let (tokens, targets): (Vec<_>, Vec<_>) = batches.into_iter().unzip();
        let streams = self.stream(tokens, on_site);
        let last: Vec<Tensor<2>> = streams.iter().map(|resid| self.norm.apply(resid.clone())).collect();
        on_site(Site::Final, &last);
        streams.into_iter().zip(targets).map(|(resid, targets)| self.head_loss(resid, targets)).collect()
    }

    /// The residual streams of several batches after the last block. `[B, T]` each -> `[B T, D]` each
    fn stream(&self, tokens: Vec<Tensor<2, Int>>, on_site: &mut dyn FnMut(Site, &[Tensor<2>])) -> Vec<Tensor<2>> {
        let pos = tokens.first().map_or(0, |tokens| tokens.dims()[1]);
        assert!(pos <= self.spec.n_ctx, "{pos} positions in a model of {}", self.spec.n_ctx);
        let mut resid: Vec<Tensor<2>> = tokens.into_iter().map(|tokens| self.embed(tokens)).collect(); // [N, D] each
        on_site(Site::Embed, &resid);
        for layer in 0..self.blocks.len() {
            resid = resid.into_iter().map(|x| self.attention(layer, x, pos)).collect();
            on_site(Site::ResidMid(layer), &resid);
            resid = resid.into_iter().map(|x| self.mlp(layer, x, pos)).collect();
            on_site(Site::ResidPost(layer), &resid);
        }
        resid
    }

    /// What the embeddings write. `[B, T]` -> `[B T, D]`
    fn embed(&self, tokens: Tensor<2, Int>) -> Tensor<2> {
        let [batch, pos] = tokens.dims();
        let resid = self.w_e.write_rows(tokens.reshape([batch * pos]));
        let Some(w_pos) = &self.w_pos else { return resid };
        let positions = Tensor::<1, Int>::arange(0..pos as i64, &self.device).repeat_dim(0, batch);
        resid + w_pos.write_rows(positions)
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
            .unwrap_or_else(|| cross_entropy(self.logits(self.norm.apply(resid)), targets))
    }

    /// What the head reads -> logits. `[N, D]` -> `[N, V]`
    fn logits(&self, last: Tensor<2>) -> Tensor<2> {
        match &self.w_u {
            Some(w_u) => w_u.read(last),
            None => self.w_e.read_transposed(last),
        }
    }

    /// The model's device.
    pub fn device(&self) -> &Device {
        &self.device
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

    /// Calls `visit` with every parameter, in a fixed order: its path, its role, and the parameter.
    pub fn for_each(&mut self, visit: &mut dyn FnMut(&str, Role, &mut Weight)) {
        visit("w_e", Role::Embedding, &mut self.w_e);
        if let Some(w_pos) = &mut self.w_pos {
            visit("w_pos", Role::Embedding, w_pos);
        }
        for (layer, block) in self.blocks.iter_mut().enumerate() {
            let mut visit =
                |name: &str, role, weight: &mut Weight| visit(&format!("blocks.{layer}.{name}"), role, weight);
            block.norm_1.for_each("norm_1", &mut visit);
            visit("w_q", Role::Read, &mut block.w_q);
            visit("w_k", Role::Read, &mut block.w_k);
            visit("w_v", Role::Read, &mut block.w_v);
            visit("w_o", Role::Write, &mut block.w_o);
            block.norm_2.for_each("norm_2", &mut visit);
            visit("w_in", Role::Read, &mut block.w_in);
            visit("w_out", Role::Write, &mut block.w_out);
            if let Some(biases) = &mut block.biases {
                visit("b_q", Role::Other, &mut biases.q);
                visit("b_k", Role::Other, &mut biases.k);
                visit("b_v", Role::Other, &mut biases.v);
                visit("b_o", Role::Vector, &mut biases.o);
                visit("b_in", Role::Other, &mut biases.inner);
                visit("b_out", Role::Vector, &mut biases.outer);
            }
        }
        self.norm.for_each("norm", visit);
        if let Some(w_u) = &mut self.w_u {
            visit("w_u", Role::Head, w_u);
        }
    }

    /// Every parameter, in the order of [`Transformer::for_each`].
    pub fn parameters(&self) -> Vec<Parameter> {
        let mut all = Vec::new();
        self.clone().for_each(&mut |path, role, weight| {
            all.push(Parameter { path: path.to_owned(), role, shape: weight.value.dims() });
        });
        all
    }

    /// The parameters' values, in the order of [`Transformer::for_each`].
    pub fn values(&self) -> Vec<Tensor<2>> {
        let mut all = Vec::new();
        self.clone().for_each(&mut |_, _, weight| all.push(weight.value.clone()));
        all
    }

    /// The parameters' values outside autodiff, taken out of the model so that an update can change them in place.
    /// The model is of no use until [`Transformer::set_values`] puts values back.
    pub fn take_values(&mut self) -> Vec<Tensor<2>> {
        let mut all = Vec::new();
        self.for_each(&mut |_, _, weight| {
            let nothing = Tensor::zeros([1, 1], (&weight.value.device(), weight.value.dtype()));
            all.push(std::mem::replace(&mut weight.value, nothing).inner());
        });
        all
    }

    /// Replaces the parameters by `values`, in the order of [`Transformer::for_each`], ready for a gradient.
    pub fn set_values(&mut self, values: Vec<Tensor<2>>) {
        let mut values = values.into_iter();
        self.for_each(&mut |path, _, weight| {
            let value = values.next().unwrap_or_else(|| panic!("no value for {path}"));
            weight.value = Tensor::from_inner(value).require_grad();
        });
    }

    /// The same model outside autodiff, which is cheaper to evaluate.
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
        let scores = at_least_f32(product(q, k.transpose(), compute)).mul_scalar((d_head as f64).powf(-0.5)); // [B, H, T, T]
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
            Activation::Solu => {
                hidden.clone() * activation::softmax(at_least_f32(hidden.clone()), 1).cast(hidden.dtype())
            }
        };
        written(self.w_out.write(hidden), self.biases.as_ref().map(|b| &b.outer))
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

/// Mean negative log-likelihood of `targets`, in nats per token.
///
/// # Shapes
/// `logits [N, V]`, `targets [B, T]` with `B T = N` -> `[1]`
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<2, Int>) -> Tensor<1> {
    let tokens = logits.dims()[0];
    activation::log_softmax(at_least_f32(logits), 1).gather(1, targets.reshape([tokens, 1])).mean().neg()
}

/// Adds a bias that never meets the stream.
fn plus(x: Tensor<2>, bias: Option<&Weight>) -> Tensor<2> {
    match bias {
        Some(bias) => x + bias.value.clone(),
        None => x,
    }
}

/// `true` where a query must not attend to a key, `[1, 1, T, T]`; computed on the device, without a transfer.
fn causal_mask(pos: usize, device: &Device) -> Tensor<4, Bool> {
    let positions = Tensor::<1, Int>::arange(0..pos as i64, device);
    let (queries, keys) = (positions.clone().reshape([1, 1, pos, 1]), positions.reshape([1, 1, 1, pos]));
    keys.greater(queries)
}

/// Rotary position embedding: rotates coordinate pairs `(k, k + K/2)` by `t base^(-2k/K)`. `[B, H, T, K]` -> same.
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
