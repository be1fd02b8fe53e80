use crate::activation::Gelu;
use crate::assemble::{Embeddings, Head, Start};
use crate::block::Block;
use crate::fused;
use crate::model::{OnSite, Transformer};
use crate::norm::Norm;
use crate::product::dtype;
use crate::weight::{Rounding, Weight};
use basislab_config::{ModelSpec, NormKind, Role, Site};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};

/// Rows of logits that exist at a time: a large vocabulary makes more of them large.
const LOGIT_ROWS: usize = 256;

/// Gives the values of a parameter by its path and shape.
pub type Read<'a, E> = &'a mut dyn FnMut(&str, [usize; 2]) -> Result<Vec<f32>, E>;

/// A forward pass whose weights are read when it gets to them and forgotten after it: the embeddings, each block, the head.
#[derive(Debug)]
pub struct InParts<'a> {
    /// The architecture.
    pub spec: &'a ModelSpec,
    /// Entries of the vocabulary.
    pub d_vocab: usize,
    /// Whether there is a language head.
    pub has_head: bool,
    /// Where it computes, in `spec.param_dtype`.
    pub device: &'a Device,
    /// From a site on, the stream and all that reads and writes it are in the basis of an orthogonal `Q`, `[D, D]`: the
    /// stream `x` becomes `x Q`. The gains of norms are per coordinate, whatever the basis: they are left as they are.
    pub rotation: Option<(Site, Tensor<2>)>,
    /// How the inputs of the blocks' matrices are rounded, where they are.
    pub rounding: Option<&'a Rounding>,
}

impl InParts<'_> {
    /// Runs several batches `[B, T]`. `read` gives the values of a parameter by its path and shape. `on_site` gets the
    /// streams at every site in order, `on_logits` the logits of all positions in order, some rows at a time.
    ///
    /// # Errors
    /// The first error of `read`.
    pub fn forward<E>(
        &self,
        tokens: Vec<Tensor<2, Int>>,
        read: Read<'_, E>,
        on_site: OnSite<'_>,
        on_logits: &mut dyn FnMut(Tensor<2>),
    ) -> Result<(), E> {
        let pos = tokens.first().map_or(0, |tokens| tokens.dims()[1]);
        let (param, compute) = (dtype(self.spec.param_dtype), dtype(self.spec.compute_dtype));
        let mut make = |path: &str, _: Start, shape: [usize; 2]| {
            let data = TensorData::new(read(path, shape)?, shape);
            Ok(Weight::new(Tensor::from_data(data, (self.device, param)), compute))
        };
        let on_site: OnSite<'_> = &mut |site, streams| {
            if let Some((_, q)) = self.rotation.as_ref().filter(|(at, _)| *at == site) {
                streams.iter_mut().for_each(|x| *x = x.clone().matmul(q.clone()));
            }
            on_site(site, streams);
        };
        let mut model = self.shell(Embeddings::make(self.spec, self.d_vocab, &mut make)?, param);
        let mut resid = model.embed(tokens, on_site);
        if !self.spec.tied_head {
            model.embeddings.w_e.value = nothing(self.device, param);
        }
        for layer in 0..self.spec.n_layers {
            let mut block = Block::make(self.spec, layer, &mut make)?;
            self.rotate_block(layer, &mut block);
            self.round_inputs(&mut block);
            resid = model.block(layer, &block, resid, pos, on_site);
        }
        model.head = Head::make(self.spec, self.has_head.then_some(self.d_vocab), &mut make)?;
        if let Some((site, q)) = &self.rotation {
            let head = model.head.w_u.as_mut().unwrap_or(&mut model.embeddings.w_e);
            head.rotation = Some(q.clone());
            let bias = model.head.norm.bias.as_mut().filter(|_| *site != Site::Final);
            bias.into_iter().for_each(|bias| bias.rotation = Some(q.clone()));
        }
        let last = model.read_by_head(resid, on_site);
        if !self.has_head {
            return Ok(());
        }
        for x in last {
            let rows = x.dims()[0];
            for start in (0..rows).step_by(LOGIT_ROWS) {
                on_logits(model.logits(x.clone().narrow(0, start, LOGIT_ROWS.min(rows - start))));
            }
        }
        Ok(())
    }

    /// A model with embeddings alone.
    fn shell(&self, embeddings: Embeddings, param: DType) -> Transformer {
        let norm = Norm { kind: NormKind::None, epsilon: self.spec.norm_epsilon, gain: None, bias: None };
        Transformer {
            spec: self.spec.clone(),
            device: self.device.clone(),
            fused: fused::available(self.spec, self.device),
            without: None,
            shows_branches: true,
            shows_sums: true,
            gelu: Gelu::of(self.device, param),
            embeddings,
            blocks: Vec::new(),
            head: Head { norm, w_u: None },
        }
    }

    /// Moves what reads and writes the stream behind the rotated site into its basis.
    fn rotate_block(&self, layer: usize, block: &mut Block) {
        let Some((site, q)) = &self.rotation else { return };
        let is_before = |other: Site| site.order() <= other.order();
        let (attention, mlp) = (is_before(Site::AttnOut(layer)), is_before(Site::MlpOut(layer)));
        block.for_each(&mut |name, role, weight| {
            let of_mlp = ["w_gate", "w_in", "w_out", "b_out", "norm_2.bias"].contains(&name);
            let faces_stream =
                matches!(role, Role::Read | Role::Write) || name.starts_with("b_") || name.ends_with(".bias");
            if faces_stream && role != Role::Other && (if of_mlp { mlp } else { attention }) {
                weight.rotation = Some(q.clone());
            }
        });
    }

    /// Rounds what the matrices of a block multiply. Only what is read from the stream has its dimensions.
    fn round_inputs(&self, block: &mut Block) {
        let Some(rounding) = self.rounding else { return };
        block.for_each(&mut |_, role, weight| match role {
            Role::Read => weight.rounding = Some(rounding.clone()),
            Role::Write => weight.rounding = Some(Rounding { kept: Vec::new(), ..rounding.clone() }),
            _ => {}
        });
    }
}

fn nothing(device: &Device, dtype: DType) -> Tensor<2> {
    Tensor::zeros([1, 1], (device, dtype))
}
