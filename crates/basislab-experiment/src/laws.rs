//! The equivariance certificate of an optimizer: exact laws, measured.
//!
//! The optimizer laws hold for any orthogonal map on any axes, so they cannot see *which* axes were chosen. Only the
//! model law can: the rotated model's forward pass states every read and write a second time, independently.

use crate::update::{Trainee, prepare, update};
use basislab_config::{
    Arm, BasisSpec, CorpusSpec, Dtype, Experiment, LanguageSpec, OptimizerSpec, RotatedAxes, RotationSpec, RunName,
    ScheduleKind, Sharing,
};
use basislab_data::Corpus;
use basislab_optim::{Basis, bases, precision};
use burn::tensor::{Device, Tensor};

/// One law, as measured.
#[derive(Debug, Clone, PartialEq)]
pub struct Law {
    /// Its name.
    pub name: &'static str,
    /// Largest absolute difference over all weights after the last update; `None` when a run diverged on the way.
    pub difference: Option<f64>,
    /// What the difference must be.
    pub expected: Expected,
}

/// What a difference must be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Expected {
    /// Zero: the same bits.
    Zero,
    /// Below this: equal up to rounding.
    Below(f64),
    /// Above this: really different.
    Above(f64),
}

impl Law {
    /// Whether the law was kept; `None` when that could not be seen, because a run diverged.
    pub fn holds(&self) -> Option<bool> {
        let difference = self.difference?;
        Some(match self.expected {
            Expected::Zero => difference == 0.0,
            Expected::Below(bound) => difference < bound,
            Expected::Above(bound) => difference > bound,
        })
    }
}

/// Where the device rounds what it multiplies: updates at most, and the largest difference as a share of the way that
/// training went. With products of 11 significant bits (f16 on flex) the largest was 0.05 of it after 8 updates, and 0.6
/// after 30; unequal optimizers differ by more than all of it.
const ROUNDED: (u64, f64) = (8, 0.3);

/// How much further apart two equal functions may end than the same training twice, on a device that does not repeat its bits.
const NOISE: f64 = 10.0;

/// Measures the laws of one optimizer over `steps` updates of a small model of the experiment's architecture.
///
/// The tolerance is 1e-9 in f64 and 1e-4 in f32; where the device multiplies f32 from rounded inputs (TF32), it is a share
/// of the way that training went, since two equal functions are then rounded differently. A device that does not repeat its
/// own bits is measured too, by the same training twice, and no law asks for more than ten times that. Keep to 50 steps: at a large learning rate training is chaotic. SGD at
/// lr 0.5 was 2.6e-10 from its rotated twin after 50 steps in f64, and 1.9 after 200.
pub fn certify(experiment: &Experiment, optimizer: &OptimizerSpec, steps: u64, on: (&Device, Dtype)) -> Vec<Law> {
    let (device, dtype) = on;
    let exact = precision(device, basislab_model::dtype(dtype), [SIZE; 3], 1).name;
    let rounds = !["f64", "f32"].contains(&exact);
    let small = shrunk(experiment, if rounds { steps.min(ROUNDED.0) } else { steps }, dtype);
    let corpus = Corpus::open(&small.corpus, small.model.n_ctx).expect("the small language is well-formed");
    let train = |basis: BasisSpec| trained(&small, &corpus, optimizer, basis, device);
    let rotated =
        |rotation, sharing| train(BasisSpec::RotatedOptimizer { rotation, sharing, axes: RotatedAxes::Residual });
    let (mut plain, mut again) = (train(BasisSpec::Standard {}), train(BasisSpec::Standard {}));
    if distance(&again, &plain) != Some(0.0) {
        // Where kernels are tuned, that happened in the first training.
        (plain, again) = (again, train(BasisSpec::Standard {}));
    }
    // Sums in no fixed order: no law can ask for more than that the device repeats itself.
    let noise = distance(&again, &plain).unwrap_or(0.0);
    let haar = RotationSpec::Haar { seed: 1 };
    let shared = rotated(haar.clone(), Sharing::Shared);
    let independent = rotated(haar.clone(), Sharing::Independent);
    // "Really different" is read against the way that training went: small learning rates make small differences.
    let way = distance(&plain, &start(&small, &corpus, optimizer, device)).unwrap_or(0.0);
    let tolerance = match exact {
        "f64" => 1e-9,
        "f32" => 1e-4,
        _ => ROUNDED.1 * way,
    };
    let rounding = Expected::Below(tolerance.max(NOISE * noise));
    let same = if noise == 0.0 { Expected::Zero } else { rounding };
    let turned = if commutes(optimizer) { rounding } else { Expected::Above((0.01 * way).max(NOISE * noise)) };
    let law = |name, a: &Weights, b: &Weights, expected| Law { name, difference: distance(a, b), expected };
    let identity = rotated(RotationSpec::Identity {}, Sharing::Shared);
    let signed = rotated(RotationSpec::SignedPermutation { seed: 1 }, Sharing::Shared);
    let mut laws = vec![
        law("in the identity basis = plain", &identity, &plain, same),
        law("in a signed permutation = plain", &signed, &plain, same),
        law("in one Haar basis vs plain", &shared, &plain, turned),
        law("in a Haar basis per parameter vs plain", &independent, &plain, turned),
    ];
    for (name, sharing, by_optimizer) in [
        ("rotating the optimizer = rotating the model", Sharing::Shared, &shared),
        ("the same, a Haar basis per parameter", Sharing::Independent, &independent),
    ] {
        let by_model = twin(&small, &corpus, optimizer, (&haar, sharing), Twin::Reparametrised, device);
        laws.push(law(name, by_optimizer, &by_model, rounding));
    }
    let by_stream = twin(&small, &corpus, optimizer, (&haar, Sharing::Shared), Twin::RotatedStream, device);
    let (name, expected) = match experiment.model.is_basis_free() {
        true => ("rotating the optimizer = rotating the stream", rounding),
        false => ("rotating the stream: this norm forbids it", Expected::Above(0.01 * way)),
    };
    laws.push(law(name, &shared, &by_stream, expected));
    if noise > 0.0 {
        laws.push(law("the same training twice", &again, &plain, Expected::Below(ROUNDED.1 * way)));
    }
    laws
}

/// A run's weights in the standard basis; `None` when it diverged.
type Weights = Option<Vec<Tensor<2>>>;

/// Whether the rule commutes with every rotation of the residual stream.
pub fn commutes(optimizer: &OptimizerSpec) -> bool {
    match optimizer {
        OptimizerSpec::Sgd { .. } => true,
        OptimizerSpec::Adam { .. } | OptimizerSpec::Adamw { .. } => false,
    }
}

/// `(rotated, facing, all)` scalar parameters of an arm: what its rotation really moves, what faces the stream, and all.
pub fn rotated_share(experiment: &Experiment, arm: &Arm, device: &Device) -> (usize, usize, usize) {
    let trainee = prepare(experiment, arm, 0, experiment.corpus.d_vocab(), device);
    let mut model = trainee.model.clone();
    let shapes = model.residual_axes();
    let count = |keep: &dyn Fn(usize) -> bool| {
        shapes.iter().enumerate().filter(|(i, _)| keep(*i)).map(|(_, (_, [rows, columns], _))| rows * columns).sum()
    };
    let mut in_model = Vec::new();
    model.for_each(&mut |_, _, weight| in_model.push(weight.rotation.is_some()));
    let rotated = count(&|i| in_model[i] || trainee.optimizer.bases()[i].is_rotated());
    (rotated, count(&|i| shapes[i].2.is_some()), count(&|_| true))
}

fn trained(
    small: &Experiment,
    corpus: &Corpus,
    optimizer: &OptimizerSpec,
    basis: BasisSpec,
    device: &Device,
) -> Weights {
    let arm = Arm { name: RunName::new("law").expect("a name"), seeds: None, optimizer: optimizer.clone(), basis };
    go(small, corpus, &arm, prepare(small, &arm, 0, corpus.d_vocab(), device))
}

/// The weights before the first update.
fn start(small: &Experiment, corpus: &Corpus, optimizer: &OptimizerSpec, device: &Device) -> Weights {
    let arm = Arm {
        name: RunName::new("law").expect("a name"),
        seeds: None,
        optimizer: optimizer.clone(),
        basis: BasisSpec::Standard {},
    };
    let trainee = prepare(small, &arm, 0, corpus.d_vocab(), device);
    Some(trainee.model.values().into_iter().map(Tensor::inner).collect())
}

/// How the twin of a rotated optimizer is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Twin {
    /// The model rotates at every read and write, so that the same function has rotated parameters.
    Reparametrised,
    /// The parameters are rotated and nothing else: the stream itself lives in the basis, norms included.
    RotatedStream,
}

/// The twin: a plain optimizer on a rotated model that starts from the same function. Its weights, seen in the
/// standard basis, must be those of the optimizer in a basis.
fn twin(
    small: &Experiment,
    corpus: &Corpus,
    optimizer: &OptimizerSpec,
    (rotation, sharing): (&RotationSpec, Sharing),
    kind: Twin,
    device: &Device,
) -> Weights {
    let basis = match kind {
        Twin::Reparametrised => BasisSpec::RotatedModel { rotation: rotation.clone(), sharing },
        Twin::RotatedStream => BasisSpec::Standard {},
    };
    let arm = Arm { name: RunName::new("law").expect("a name"), seeds: None, optimizer: optimizer.clone(), basis };
    let mut trainee = prepare(small, &arm, 0, corpus.d_vocab(), device);
    let shapes: Vec<_> =
        trainee.model.residual_axes().iter().map(|(_, shape, a)| (*shape, a.map(|a| a.index))).collect();
    let plain = device.clone().without_autodiff();
    let bases =
        bases(rotation, sharing, RotatedAxes::Residual, 0, &shapes, (&plain, trainee.model.values()[0].dtype()));
    let moved = |values: Vec<Tensor<2>>, turn: fn(&Basis, Tensor<2>) -> Tensor<2>| -> Vec<Tensor<2>> {
        values.into_iter().zip(&bases).map(|(value, basis)| turn(basis, value.inner())).collect()
    };
    if kind == Twin::RotatedStream {
        let start = moved(trainee.model.values(), Basis::apply);
        trainee.model.set_values(start);
    }
    Some(moved(go(small, corpus, &arm, trainee)?, Basis::undo))
}

fn go(small: &Experiment, corpus: &Corpus, arm: &Arm, mut trainee: Trainee) -> Weights {
    for step in 1..=small.train.steps {
        let batch = corpus.batch(0, step, small.train.batch_size, small.model.n_ctx + 1);
        let lr = arm.optimizer.lr() * small.train.lr_factor(step - 1);
        update(&mut trainee, &small.train, lr, &batch).ok()?;
    }
    Some(trainee.model.values().into_iter().map(Tensor::inner).collect())
}

/// Width of the stream, the MLP and the vocabulary in the laws' model.
const SIZE: usize = 32;

/// The experiment's architecture at a size where laws take a second. All matrices are square (vocabulary and MLP as wide
/// as the stream), so that a wrong axis is not given away by its shape.
fn shrunk(experiment: &Experiment, steps: u64, dtype: Dtype) -> Experiment {
    let mut small = experiment.clone();
    (small.model.param_dtype, small.model.compute_dtype) = (dtype, dtype);
    small.model.n_ctx = 8;
    small.model.n_layers = 2;
    small.model.d_model = SIZE;
    small.model.n_heads = 2;
    small.model.d_mlp = SIZE;
    small.corpus = CorpusSpec::Language(LanguageSpec {
        seed: 0,
        d_vocab: SIZE,
        zipf_exponent: 1.0,
        classes: 4,
        successors: 2,
        stay: 0.0,
        overlap: 0.0,
        bigram: 0.0,
        bigram_fan: 1,
        copy: 0.0,
        copy_length: 1,
        burst: 0.0,
        burst_window: 1,
        bos: false,
        document_length: 0,
    });
    small.train.steps = steps;
    small.train.batch_size = 4;
    small.train.micro_batches = 1;
    small.train.warmup_steps = steps.min(10);
    small.train.schedule = ScheduleKind::Constant;
    small
}

fn distance(a: &Weights, b: &Weights) -> Option<f64> {
    let largest = |(a, b): (&Tensor<2>, &Tensor<2>)| (a.clone() - b.clone()).abs().max().into_scalar::<f64>();
    // `max` of f64 ignores NaN: weights that are not finite are a diverged run.
    let join = |worst: Option<f64>, x: f64| worst.filter(|_| x.is_finite()).map(|worst| worst.max(x));
    a.as_ref()?.iter().zip(b.as_ref()?).map(largest).fold(Some(0.0), join)
}
