// B batch, T positions, N = B T tokens, D d_model, V d_vocab

use crate::activation::Gelu;
use crate::assemble::{Embeddings, Head};
use crate::block::Block;
use crate::fused;
use crate::norm::Norm;
use crate::part::{Part, PartName};
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
    /// Whether parts may run as kernels.
    pub(crate) fused: bool,
    /// A part that runs in burn's operations all the same.
    pub(crate) without: Option<PartName>,
    /// Whether what branches write is handed out, which makes them end before it meets the stream.
    pub(crate) shows_branches: bool,
    /// Whether the sums that a post-norm model normalises are handed out, which makes branches end before the norm.
    pub(crate) shows_sums: bool,
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
        let resid = self.showing_sums().stream(vec![tokens], &mut on_site);
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
        let streams = self.showing_sums().stream(tokens, on_site);
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
            resid = self.normalised(norm, resid, Site::EmbedSum, on_site);
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
        let sites = [Site::AttnOut(layer), Site::AttnSum(layer)];
        let attention = Branch { norm: &block.norm_1, parts: block.attention(&self.spec), sites };
        let mlp = Branch { norm: &block.norm_2, parts: block.mlp(), sites: [Site::MlpOut(layer), Site::MlpSum(layer)] };

        let resid = match self.spec.branches {
            Branches::Sequential => {
                let resid = self.branch(attention, &resid, None, pos, on_site);
                let resid = at(Site::ResidMid(layer), resid, on_site);
                self.branch(mlp, &resid, None, pos, on_site)
            }
            Branches::Parallel => {
                let after = self.branch(attention, &resid, None, pos, on_site);
                self.branch(mlp, &resid, Some(after), pos, on_site)
            }
        };
        at(Site::ResidPost(layer), resid, on_site)
    }

    /// What a branch that reads `read` makes of the stream that it writes to: `onto`, or the same. `[N, D]` each -> same
    fn branch(
        &self,
        branch: Branch<'_>,
        read: &[Tensor<2>],
        onto: Option<Vec<Tensor<2>>>,
        pos: usize,
        on_site: OnSite<'_>,
    ) -> Vec<Tensor<2>> {
        let Branch { norm, mut parts, sites: [out, sum] } = branch;
        let is_post = self.spec.norm_place == NormPlace::Post;
        if !is_post {
            parts.splice(0..0, norm.as_part());
        }
        if self.shows_branches || !self.fused {
            let written = read.iter().map(|x| self.run(&parts, x.clone(), pos)).collect();
            let written = at(out, written, on_site);
            let onto = onto.unwrap_or_else(|| read.to_vec());
            let resid = onto.into_iter().zip(written).map(|(x, y)| x + y).collect();
            return if is_post { self.normalised(norm, resid, sum, on_site) } else { resid };
        }
        let (own, mut onto) = (parts.len(), onto.into_iter().flatten());
        let mut after = |x: &Tensor<2>| {
            parts.truncate(own);
            parts.push(Part::Add(onto.next().map(Box::new)));
            if is_post && !self.shows_sums {
                parts.extend(norm.as_part());
            }
            self.run(&parts, x.clone(), pos)
        };
        let resid = read.iter().map(&mut after).collect();
        if is_post && self.shows_sums { self.normalised(norm, resid, sum, on_site) } else { resid }
    }

    /// Normalises the streams themselves, after handing out the sums that they were.
    fn normalised(&self, norm: &Norm, resid: Vec<Tensor<2>>, sums: Site, on_site: OnSite<'_>) -> Vec<Tensor<2>> {
        at(sums, resid, on_site).into_iter().map(|x| self.norm(norm, x)).collect()
    }

    fn norm(&self, norm: &Norm, x: Tensor<2>) -> Tensor<2> {
        // Rows are normalised alone: it does not matter how many make a sequence.
        norm.as_part().map_or_else(|| x.clone(), |part| self.run(&[part], x.clone(), 1))
    }

    /// Runs parts: those with a kernel as one fused operation, as far as they lie together, the others in burn's operations.
    /// `[N, D]`, sequences of `pos` rows
    fn run(&self, parts: &[Part<'_>], x: Tensor<2>, pos: usize) -> Tensor<2> {
        let (mut values, mut is_first) = (vec![x.clone()], true);
        for group in parts.chunk_by(|a, b| self.has_kernel(a) == self.has_kernel(b)) {
            values = if self.has_kernel(&group[0]) {
                fused::run(self, group, values, &x, is_first, pos)
            } else {
                group.iter().fold(values, |values, part| part.reference(self, values, &x, pos))
            };
            is_first = false;
        }
        values.swap_remove(0)
    }

    fn has_kernel(&self, part: &Part<'_>) -> bool {
        self.runs_fused(part.name()) && !part.needs_reference()
    }

    /// Whether parts of this name run as kernels.
    pub fn runs_fused(&self, part: PartName) -> bool {
        self.fused && self.without != Some(part) && fused::has_kernel(&self.spec, part)
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
        at(Site::Final, resid.into_iter().map(|x| self.norm(&self.head.norm, x)).collect(), on_site)
    }

    /// Mean loss of `targets [B, T]` from the stream after the last block, `[B T, D]` -> `[1]`
    pub fn head_loss(&self, resid: Tensor<2>, targets: Tensor<2, Int>) -> Tensor<1> {
        let mut parts: Vec<Part<'_>> = self.head.norm.as_part().into_iter().collect();
        parts.push(self.unembedding());
        if parts.iter().all(|part| self.has_kernel(part)) && self.runs_fused(PartName::Loss) {
            return fused::loss(self, &parts, resid, &targets);
        }
        let pos = targets.dims()[1];
        cross_entropy(self.run(&parts, resid, pos), targets)
    }

    /// What the head reads -> logits. `[N, D]` -> `[N, V]`
    pub(crate) fn logits(&self, last: Tensor<2>) -> Tensor<2> {
        self.run(&[self.unembedding()], last, 1)
    }

    fn unembedding(&self) -> Part<'_> {
        match &self.head.w_u {
            Some(w_u) => Part::Read(vec![(w_u, None)]),
            None => Part::ReadTransposed(&self.embeddings.w_e),
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

    /// The same model with one of its parts computed from burn's own operations.
    pub fn without_kernel(&self, part: PartName) -> Self {
        Self { without: Some(part), ..self.clone() }
    }

    fn showing_sums(&self) -> Self {
        Self { shows_sums: true, ..self.clone() }
    }

    /// Whether any part runs as a kernel.
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

/// A branch of a block: the norm before it (or after it, in a post-norm model), its other parts, what it writes and the sum of
/// the stream and that.
struct Branch<'a> {
    norm: &'a Norm,
    parts: Vec<Part<'a>>,
    sites: [Site; 2],
}
