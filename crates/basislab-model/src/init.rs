use crate::activation::Gelu;
use crate::assemble::{Embeddings, Head, Start};
use crate::block::Block;
use crate::fused;
use crate::model::Transformer;
use crate::product::dtype;
use crate::weight::Weight;
use basislab_config::ModelSpec;
use basislab_stats::{Purpose, gaussian, stream};
use burn::tensor::{Device, Tensor, TensorData};
use std::convert::Infallible;

/// A fresh model. Matrices are Gaussian with `init_std`, writes of the blocks divided by `sqrt(2 n_layers)`; gains are
/// 1, biases 0. Every matrix draws from a host stream of its own, so the weights are the same on every backend.
///
/// `device` should carry autodiff if the model is to be trained.
pub fn init(spec: &ModelSpec, d_vocab: usize, seed: u64, device: &Device) -> Transformer {
    let (param, compute) = (dtype(spec.param_dtype), dtype(spec.compute_dtype));
    let mut streams = 0..;
    let mut make = |_: &str, start: Start, shape: [usize; 2]| -> Result<Weight, Infallible> {
        let count = shape[0] * shape[1];
        let values: Vec<f64> = match start {
            Start::Constant(value) => vec![value; count],
            Start::Gaussian(std) => {
                let mut rng = stream(seed, Purpose::Init, streams.next().expect("endless"));
                (0..count).map(|_| std * gaussian(&mut rng)).collect()
            }
        };
        let value = Tensor::<2>::from_data(TensorData::new(values, shape), (device, param));
        Ok(Weight::new(if device.is_autodiff() { value.require_grad() } else { value }, compute))
    };
    let Ok(embeddings) = Embeddings::make(spec, d_vocab, &mut make);
    let blocks = (0..spec.n_layers).map(|layer| {
        let Ok(block) = Block::make(spec, layer, &mut make);
        block
    });
    let blocks = blocks.collect();
    let Ok(head) = Head::make(spec, Some(d_vocab), &mut make);
    Transformer {
        spec: spec.clone(),
        device: device.clone(),
        fused: fused::available(spec, device),
        without: None,
        shows_branches: false,
        shows_sums: false,
        gelu: Gelu::of(device, param),
        embeddings,
        blocks,
        head,
    }
}
