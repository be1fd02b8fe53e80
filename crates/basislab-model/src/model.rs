// B batch, T positions, N = B T tokens, D d_model, V d_vocab

use crate::assemble::{Embeddings, Head};
use crate::block::{Block, Gelu};
use crate::fused;
use crate::norm::Norm;
use crate::product::at_least_f32;
use crate::weight::Weight;
use basislab_config::{Branches, ModelSpec, NormPlace, Parameter, Role, Site};
use burn::tensor::{DType, Device, Int, Tensor, TensorData, activation};

/// Gets the streams of several batches, `[B T, D]` each, at every site in order, and may change them.
pub type OnSite<'a> = &'a mut dyn FnMut(Site, &mut [Tensor<2>]);

/// A transformer.
#[derive(Debug, Clone)]
pub struct Transformer {
    pub(crate) spec: ModelSpec,
    pub(crate) device: Device,
    /// Whether branches and head run as fused operations.
    pub(crate) fused: bool,
    pub(crate) gelu: Gelu,
    pub(crate) embeddings: Embeddings,
    pub(crate) blocks: Vec<Block>,
    pub(crate) head: Head,
}

impl Transformer {
    /// Logits for every position. `on_site` gets the residual stream at every site in order; what a branch writes is a
    /// site where the branch is no fused operation.
    ///
    /// # Shapes
    /// `tokens [B, T]`, `T <= n_ctx` -> `[B T, V]`; `on_site` gets `[B T, D]`
    pub fn forward(&self, tokens: Tensor<2, Int>, on_site: &mut dyn FnMut(Site, &Tensor<2>)) -> Tensor<2> {
        let mut on_site = |site, streams: &mut [Tensor<2>]| on_site(site, &streams[0]);
        let resid = self.stream(vec![tokens], &mut on_site);
        self.logits(self.read_by_head(resid, &mut on_site).remove(0))
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
        on_site: OnSite<'_>,
    ) -> Vec<Tensor<1>> {
        let (tokens, targets): (Vec<_>, Vec<_>) = batches.into_iter().unzip();
        let streams = self.stream(tokens, on_site);
        self.read_by_head(streams.clone(), on_site);
        streams.into_iter().zip(targets).map(|(resid, targets)| self.head_loss(resid, targets)).collect()
    }

    /// The residual streams of several batches after the last block. `[B, T]` each -> `[B T, D]` each
    fn stream(&self, tokens: Vec<Tensor<2, Int>>, on_site: OnSite<'_>) -> Vec<Tensor<2>> {
        let pos = tokens.first().map_or(0, |tokens| tokens.dims()[1]);
        let mut resid = self.embed(tokens, on_site); // [N, D] each
        for (layer, block) in self.blocks.iter().enumerate() {
            resid = self.block(layer, block, resid, pos, on_site);
        }
        resid
    }

    /// What the embeddings write. `[B, T]` each -> `[B T, D]` each
    pub(crate) fn embed(&self, tokens: Vec<Tensor<2, Int>>, on_site: OnSite<'_>) -> Vec<Tensor<2>> {
        let Embeddings { w_e, w_pos, norm } = &self.embeddings;
        let embed = |tokens: Tensor<2, Int>| {
            let [batch, pos] = tokens.dims();
            assert!(pos <= self.spec.n_ctx, "{pos} positions in a model of {}", self.spec.n_ctx);
            let resid = w_e.write_rows(tokens.reshape([batch * pos]));
            let Some(w_pos) = w_pos else { return resid };
            let positions = Tensor::<1, Int>::arange(0..pos as i64, &self.device).repeat_dim(0, batch);
            resid + w_pos.write_rows(positions)
        };
        let mut resid = tokens.into_iter().map(embed).collect();
        if let Some(norm) = norm {
            resid = normalised(norm, resid, Site::EmbedSum, on_site);
        }
        at(Site::Embed, resid, on_site)
    }

    /// The streams after a block, over sequences of `pos` rows. `[N, D]` each -> `[N, D]` each
    pub(crate) fn block(
        &self,
        layer: usize,
        block: &Block,
        resid: Vec<Tensor<2>>,
        pos: usize,
        on_site: OnSite<'_>,
    ) -> Vec<Tensor<2>> {
        if self.fused {
            let resid = resid.into_iter().map(|x| fused::attention(self, block, &x, pos)).collect();
            let resid = at(Site::ResidMid(layer), resid, on_site);
            let resid = resid.into_iter().map(|x| fused::mlp(block, &x, pos)).collect();
            return at(Site::ResidPost(layer), resid, on_site);
        }
        let is_post = self.spec.norm_place == NormPlace::Post;
        let read = |norm: &Norm, x: &Tensor<2>| if is_post { x.clone() } else { norm.apply(x.clone()) };
        let attention = |x: &Tensor<2>| block.attention(&self.spec, read(&block.norm_1, x), pos);
        let mlp = |x: &Tensor<2>| block.mlp(self.spec.activation, self.gelu, read(&block.norm_2, x));

        let written = at(Site::AttnOut(layer), resid.iter().map(attention).collect(), on_site);
        if self.spec.branches == Branches::Parallel {
            let by_mlp = at(Site::MlpOut(layer), resid.iter().map(mlp).collect(), on_site);
            return at(Site::ResidPost(layer), sums(sums(resid, written), by_mlp), on_site);
        }
        let mut resid = sums(resid, written);
        if is_post {
            resid = normalised(&block.norm_1, resid, Site::AttnSum(layer), on_site);
        }
        let resid = at(Site::ResidMid(layer), resid, on_site);
        let written = at(Site::MlpOut(layer), resid.iter().map(mlp).collect(), on_site);
        let mut resid = sums(resid, written);
        if is_post {
            resid = normalised(&block.norm_2, resid, Site::MlpSum(layer), on_site);
        }
        at(Site::ResidPost(layer), resid, on_site)
    }

    /// The stream after block `layer` alone, over sequences of `pos` rows. `[N, D]` -> `[N, D]`
    pub fn one_block(&self, layer: usize, resid: Tensor<2>, pos: usize) -> Tensor<2> {
        self.block(layer, &self.blocks[layer], vec![resid], pos, &mut |_, _| {}).remove(0)
    }

    /// What the head reads. `[N, D]` each -> `[N, D]` each
    pub(crate) fn read_by_head(&self, resid: Vec<Tensor<2>>, on_site: OnSite<'_>) -> Vec<Tensor<2>> {
        if self.spec.norm_place == NormPlace::Post {
            return resid;
        }
        at(Site::Final, resid.into_iter().map(|x| self.head.norm.apply(x)).collect(), on_site)
    }

    /// Mean loss of `targets [B, T]` from the stream after the last block, `[B T, D]` -> `[1]`
    pub fn head_loss(&self, resid: Tensor<2>, targets: Tensor<2, Int>) -> Tensor<1> {
        fused::head_loss(self, &resid, &targets)
            .unwrap_or_else(|| cross_entropy(self.logits(self.head.norm.apply(resid)), targets))
    }

    /// What the head reads -> logits. `[N, D]` -> `[N, V]`
    pub(crate) fn logits(&self, last: Tensor<2>) -> Tensor<2> {
        match &self.head.w_u {
            Some(w_u) => w_u.read(last),
            None => self.embeddings.w_e.read_transposed(last),
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
        let Embeddings { w_e, w_pos, norm } = &mut self.embeddings;
        visit("w_e", Role::Embedding, w_e);
        if let Some(w_pos) = w_pos {
            visit("w_pos", Role::Embedding, w_pos);
        }
        if let Some(norm) = norm {
            norm.for_each("norm_e", visit);
        }
        for (layer, block) in self.blocks.iter_mut().enumerate() {
            block.for_each(&mut |name, role, weight| visit(&format!("blocks.{layer}.{name}"), role, weight));
        }
        self.head.norm.for_each("norm", visit);
        if let Some(w_u) = &mut self.head.w_u {
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

/// Mean negative log-likelihood of `targets`, in nats per token.
///
/// # Shapes
/// `logits [N, V]`, `targets [B, T]` with `B T = N` -> `[1]`
pub fn cross_entropy(logits: Tensor<2>, targets: Tensor<2, Int>) -> Tensor<1> {
    let tokens = logits.dims()[0];
    activation::log_softmax(at_least_f32(logits), 1).gather(1, targets.reshape([tokens, 1])).mean().neg()
}

/// Hands out the streams at a site.
fn at(site: Site, mut resid: Vec<Tensor<2>>, on_site: OnSite<'_>) -> Vec<Tensor<2>> {
    on_site(site, &mut resid);
    resid
}

/// Normalises the streams themselves, after handing out the sums that they were.
fn normalised(norm: &Norm, resid: Vec<Tensor<2>>, sums: Site, on_site: OnSite<'_>) -> Vec<Tensor<2>> {
    at(sums, resid, on_site).into_iter().map(|x| norm.apply(x)).collect()
}

fn sums(resid: Vec<Tensor<2>>, written: Vec<Tensor<2>>) -> Vec<Tensor<2>> {
    resid.into_iter().zip(written).map(|(x, y)| x + y).collect()
}
