use crate::fused;
use crate::model::{Biases, Block, Gelu, Transformer};
use crate::norm::Norm;
use crate::product::dtype;
use crate::weight::Weight;
use basislab_config::{ModelSpec, NormKind, Positions};
use basislab_stats::{Purpose, gaussian, stream};
use burn::tensor::{Device, Tensor, TensorData};

/// A fresh model. Matrices are Gaussian with `init_std`, writes of the blocks divided by `sqrt(2 n_layers)`; gains are
/// 1, biases 0. Every matrix draws from a host stream of its own, so the weights are the same on every backend.
///
/// `device` should carry autodiff if the model is to be trained.
pub fn init(spec: &ModelSpec, d_vocab: usize, seed: u64, device: &Device) -> Transformer {
    let ModelSpec { n_ctx, d_model, d_mlp, init_std, .. } = *spec;
    let (param, compute) = (dtype(spec.param_dtype), dtype(spec.compute_dtype));
    let weight = |values: Vec<f64>, shape: [usize; 2]| {
        let value = Tensor::<2>::from_data(TensorData::new(values, shape), (device, param));
        Weight::new(if device.is_autodiff() { value.require_grad() } else { value }, compute)
    };
    let write_std = init_std / (2.0 * spec.n_layers as f64).sqrt();
    let mut streams = 0..;
    let mut matrix = |rows: usize, columns: usize, std: f64| {
        let mut rng = stream(seed, Purpose::Init, streams.next().expect("endless"));
        weight((0..rows * columns).map(|_| std * gaussian(&mut rng)).collect(), [rows, columns])
    };
    let constant = |n: usize, value: f64| weight(vec![value; n], [1, n]);
    let norm = || Norm {
        kind: spec.norm,
        epsilon: spec.norm_epsilon,
        gain: match spec.norm {
            NormKind::None | NormKind::Rms => None,
            NormKind::RmsScalar => Some(constant(1, 1.0)),
            NormKind::RmsGain | NormKind::Layernorm => Some(constant(d_model, 1.0)),
        },
        bias: (spec.norm == NormKind::Layernorm).then(|| constant(d_model, 0.0)),
    };
    let w_e = matrix(d_vocab, d_model, init_std);
    let w_pos = matches!(spec.positions, Positions::Learned {}).then(|| matrix(n_ctx, d_model, init_std));
    let blocks = (0..spec.n_layers)
        .map(|_| Block {
            norm_1: norm(),
            w_q: matrix(d_model, d_model, init_std),
            w_k: matrix(d_model, d_model, init_std),
            w_v: matrix(d_model, d_model, init_std),
            w_o: matrix(d_model, d_model, write_std),
            norm_2: norm(),
            w_in: matrix(d_model, d_mlp, init_std),
            w_out: matrix(d_mlp, d_model, write_std),
            biases: spec.biases.then(|| Biases {
                q: constant(d_model, 0.0),
                k: constant(d_model, 0.0),
                v: constant(d_model, 0.0),
                o: constant(d_model, 0.0),
                inner: constant(d_mlp, 0.0),
                outer: constant(d_model, 0.0),
            }),
        })
        .collect();
    let w_u = (!spec.tied_head).then(|| matrix(d_model, d_vocab, init_std));
    Transformer {
        spec: spec.clone(),
        device: device.clone(),
        fused: fused::covers(spec, device),
        gelu: Gelu::of(device, param),
        w_e,
        w_pos,
        blocks,
        norm: norm(),
        w_u,
    }
}
