//! The equivariance certificate of an optimizer: exact laws, measured.
//!
//! The optimizer laws hold for any orthogonal map on any axes, so they cannot see *which* axes were chosen. Only the
//! model law can: the rotated model's forward pass states every read and write a second time, independently.

use crate::trainee::{Trainee, update};
use basislab_config::{
    BasisSpec, CorpusSpec, Dtype, LanguageSpec, RotatedAxes, RotationSpec, RunSpec, ScheduleKind, Sharing,
};
use basislab_data::Corpus;
use basislab_optim::{ParameterBasis, bases, commutes, precision};
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
    /// Why a difference that is not as expected says nothing about the law.
    pub not_measured: Option<NotMeasured>,
}

/// Why a law cannot be measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum NotMeasured {
    /// At this update a loss was not finite, or had grown to [`GROWN`] times that of the first one.
    Diverged(u64),
    /// Training is chaotic: weights that differ by one rounding at the start differ by this much at the end.
    Chaotic(f64),
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
    /// Whether the law was kept; `None` where it was not measured.
    pub fn holds(&self) -> Option<bool> {
        let holds = self.difference.map(|difference| match self.expected {
            Expected::Zero => difference == 0.0,
            Expected::Below(bound) => difference < bound,
            Expected::Above(bound) => difference > bound,
        });
        holds.filter(|holds| *holds || self.not_measured.is_none())
    }
}

/// Where the device rounds what it multiplies: updates at most, and the largest difference as a share of the way that
/// training went. With products of 11 significant bits (f16 on flex) the largest was 0.05 of it after 8 updates, and 0.6
/// after 30; unequal optimizers differ by more than all of it.
const ROUNDED: (u64, f64) = (8, 0.3);

/// How much further apart two equal functions may end than the same training twice, on a device that does not repeat its bits.
const NOISE: f64 = 10.0;

/// Growth of the loss, from the first update on, that counts as divergence, and of a rounding that counts as chaos.
const GROWN: f64 = 10.0;

/// How much further apart than by one rounding at the start two equal functions may end: each of their updates rounds anew.
const ROUNDINGS: f64 = 1e3;

/// Measures the laws of a run's first optimizer over `steps` updates of a small model of its architecture.
///
/// The tolerance is 1e-9 in f64 and 1e-4 in f32; where the device multiplies f32 from rounded inputs (TF32), it is a share
/// of the way that training went, since two equal functions are then rounded differently. A device that does not repeat its
/// own bits is measured too, by the same training twice, and no law asks for more than ten times that. Keep to 50 steps: at a
/// large learning rate training is chaotic. SGD at lr 0.5 was 2.6e-10 from its rotated twin after 50 steps in f64, and 1.9
/// after 200. A law that is not kept by trainings that diverge or are chaotic counts as not measured, except equal bits.
pub fn certify(run: &RunSpec, steps: u64, on: (&Device, Dtype)) -> Vec<Law> {
    let (device, dtype) = on;
    let exact = precision(device, basislab_model::dtype(dtype), [SIZE; 3]).name;
    let rounds = !["f64", "f32"].contains(&exact);
    let small = shrunk(run, if rounds { steps.min(ROUNDED.0) } else { steps }, dtype);
    let corpus = Corpus::open(&small.corpus, small.model.n_ctx).expect("the small language is well-formed");
    let train = |basis: BasisSpec| trained(&small, &corpus, basis, device);
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
    let way = distance(&plain, &start(&small, &corpus, device)).unwrap_or(0.0);
    let tolerance = match exact {
        "f64" => 1e-9,
        "f32" => 1e-4,
        _ => ROUNDED.1 * way,
    };
    let rounding = Expected::Below(tolerance.max(NOISE * noise));
    let same = if noise == 0.0 { Expected::Zero } else { rounding };
    let rotates = commutes(&run.optimizer);
    let rotated_equals =
        if rotates.with_rotations() { rounding } else { Expected::Above((0.01 * way).max(NOISE * noise)) };
    let law = |name, a: &Trained, b: &Trained, expected| {
        let law = Law { name, difference: distance(a, b), expected, not_measured: None };
        if law.holds() == Some(true) {
            return law;
        }
        let not_measured = match (law.difference, expected) {
            (None, _) => Some(NotMeasured::Diverged(first_of(a, b).unwrap_or(small.train.steps))),
            // Equal bits stay equal, whatever they are.
            (Some(_), Expected::Zero) => None,
            (Some(_), Expected::Above(_)) => first_of(a, b).map(NotMeasured::Diverged),
            (Some(difference), Expected::Below(_)) => first_of(a, b).map(NotMeasured::Diverged).or_else(|| {
                let (at_start, chaos) = rounding_growth(&small, &corpus, &plain, device);
                let is_chaotic = chaos > GROWN * at_start && difference < ROUNDINGS * chaos;
                is_chaotic.then_some(NotMeasured::Chaotic(chaos))
            }),
        };
        Law { not_measured, ..law }
    };
    let identity = rotated(RotationSpec::Identity {}, Sharing::Shared);
    let signed = rotated(RotationSpec::SignedPermutation { seed: 1 }, Sharing::Shared);
    let mut laws = vec![
        law("in the identity basis = plain", &identity, &plain, same),
        law(
            "in a signed permutation = plain",
            &signed,
            &plain,
            if rotates.with_permutations_exactly() { same } else { rounding },
        ),
        law("in one Haar basis vs plain", &shared, &plain, rotated_equals),
        law("in a Haar basis per parameter vs plain", &independent, &plain, rotated_equals),
    ];
    for (name, sharing, by_optimizer) in [
        ("rotating the optimizer = rotating the model", Sharing::Shared, &shared),
        ("the same, a Haar basis per parameter", Sharing::Independent, &independent),
    ] {
        let by_model = twin(&small, &corpus, (&haar, sharing), Twin::Reparametrised, device);
        laws.push(law(name, by_optimizer, &by_model, rounding));
    }
    let by_stream = twin(&small, &corpus, (&haar, Sharing::Shared), Twin::RotatedStream, device);
    let (name, expected) = match run.model.is_basis_free() {
        true => ("rotating the optimizer = rotating the stream", rounding),
        false => ("rotating the stream: this norm forbids it", Expected::Above(0.01 * way)),
    };
    laws.push(law(name, &shared, &by_stream, expected));
    if noise > 0.0 {
        laws.push(law("the same training twice", &again, &plain, Expected::Below(ROUNDED.1 * way)));
    }
    laws
}

/// A small run after its last update.
struct Trained {
    /// Its weights in the standard basis; `None` where a loss was not finite.
    weights: Option<Vec<Tensor<2>>>,
    /// The update at which it diverged (see [`NotMeasured::Diverged`]).
    diverged: Option<u64>,
}

/// `(rotated, facing, all)` scalar parameters of a run: what its rotation really moves, what faces the stream, and all.
pub fn rotated_share(run: &RunSpec, device: &Device) -> (usize, usize, usize) {
    let mut trainee = Trainee::new(run, 0, run.corpus.d_vocab(), device);
    let parameters = trainee.model.parameters();
    let mut rotated: Vec<bool> = trainee.optimizer.is_rotated().collect();
    let mut number = 0;
    trainee.model.for_each(&mut |_, _, weight| {
        rotated[number] |= weight.rotation.is_some();
        number += 1;
    });
    let count = |keep: &dyn Fn(usize) -> bool| {
        let sizes = parameters.iter().enumerate().filter(|(at, _)| keep(*at));
        sizes.map(|(_, parameter)| parameter.shape[0] * parameter.shape[1]).sum()
    };
    (count(&|at| rotated[at]), count(&|at| parameters[at].role.residual_axis().is_some()), count(&|_| true))
}

/// The small run in another basis.
fn in_basis(small: &RunSpec, basis: BasisSpec) -> RunSpec {
    RunSpec { basis, ..small.clone() }
}

fn trained(small: &RunSpec, corpus: &Corpus, basis: BasisSpec, device: &Device) -> Trained {
    let run = in_basis(small, basis);
    let trainee = Trainee::new(&run, 0, corpus.d_vocab(), device);
    updated(&run, corpus, trainee)
}

/// The weights before the first update.
fn start(small: &RunSpec, corpus: &Corpus, device: &Device) -> Trained {
    let trainee = Trainee::new(&in_basis(small, BasisSpec::Standard {}), 0, corpus.d_vocab(), device);
    Trained { weights: Some(weights(&trainee)), diverged: None }
}

fn weights(trainee: &Trainee) -> Vec<Tensor<2>> {
    trainee.model.values().into_iter().map(Tensor::inner).collect()
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
    small: &RunSpec,
    corpus: &Corpus,
    (rotation, sharing): (&RotationSpec, Sharing),
    kind: Twin,
    device: &Device,
) -> Trained {
    let rotated_model = BasisSpec::RotatedModel { rotation: rotation.clone(), sharing };
    let run = match kind {
        Twin::Reparametrised => in_basis(small, rotated_model.clone()),
        Twin::RotatedStream => in_basis(small, BasisSpec::Standard {}),
    };
    let mut trainee = Trainee::new(&run, 0, corpus.d_vocab(), device);
    let (plain, dtype) = (device.clone().without_autodiff(), trainee.model.values()[0].dtype());
    let bases = bases(&rotated_model, 0, &trainee.model.parameters(), &plain, dtype);
    let moved = |values: Vec<Tensor<2>>, by: fn(&ParameterBasis, Tensor<2>) -> Tensor<2>| -> Vec<Tensor<2>> {
        values.into_iter().zip(&bases).map(|(value, basis)| by(basis, value.inner())).collect()
    };
    if kind == Twin::RotatedStream {
        let start = moved(trainee.model.values(), ParameterBasis::apply);
        trainee.model.set_values(start);
    }
    let Trained { weights, diverged } = updated(&run, corpus, trainee);
    Trained { weights: weights.map(|weights| moved(weights, ParameterBasis::undo)), diverged }
}

fn updated(run: &RunSpec, corpus: &Corpus, mut trainee: Trainee) -> Trained {
    let (mut first, mut diverged) = (None, None);
    for step in 1..=run.train.steps {
        let batch = corpus.batch(0, step, run.train.batch_size, run.model.n_ctx + 1);
        let Ok((loss, _)) = update(&mut trainee, &run.train, run.lr_factor(step), &batch) else {
            return Trained { weights: None, diverged: diverged.or(Some(step)) };
        };
        if loss > GROWN * *first.get_or_insert(loss) {
            diverged = diverged.or(Some(step));
        }
    }
    Trained { weights: Some(weights(&trainee)), diverged }
}

/// The update at which one of two trainings diverged first.
fn first_of(a: &Trained, b: &Trained) -> Option<u64> {
    a.diverged.into_iter().chain(b.diverged).min()
}

/// How far from `plain` the same training starts and ends whose weights differ by about one rounding at the start.
fn rounding_growth(small: &RunSpec, corpus: &Corpus, plain: &Trained, device: &Device) -> (f64, f64) {
    let mut trainee = Trainee::new(&in_basis(small, BasisSpec::Standard {}), 0, corpus.d_vocab(), device);
    let before = Trained { weights: Some(weights(&trainee)), diverged: None };
    let factor = 1.0 + 2.0 * epsilon(small.model.param_dtype);
    let moved = weights(&trainee).into_iter().map(|value| value.mul_scalar(factor)).collect();
    trainee.model.set_values(moved);
    let at_start = distance(&Trained { weights: Some(weights(&trainee)), diverged: None }, &before);
    let at_end = distance(&updated(small, corpus, trainee), plain);
    (at_start.unwrap_or(0.0), at_end.unwrap_or(f64::INFINITY))
}

/// Spacing of the numbers beside 1.
fn epsilon(dtype: Dtype) -> f64 {
    match dtype {
        Dtype::F64 => f64::EPSILON,
        Dtype::F32 => f64::from(f32::EPSILON),
        Dtype::F16 => 2f64.powi(-10),
        Dtype::Bf16 => 2f64.powi(-7),
    }
}

/// Width of the stream, the MLP and the vocabulary in the laws' model.
const SIZE: usize = 32;

/// The run's architecture at a size where laws take a second. All matrices are square (vocabulary and MLP as wide
/// as the stream), so that a wrong axis is not given away by its shape.
fn shrunk(run: &RunSpec, steps: u64, dtype: Dtype) -> RunSpec {
    let mut small = run.clone();
    small.phases.clear();
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

fn distance(a: &Trained, b: &Trained) -> Option<f64> {
    let largest = |(a, b): (&Tensor<2>, &Tensor<2>)| (a.clone() - b.clone()).abs().max().into_scalar::<f64>();
    // `max` of f64 ignores NaN: weights that are not finite are a diverged run.
    let join = |worst: Option<f64>, x: f64| worst.filter(|_| x.is_finite()).map(|worst| worst.max(x));
    a.weights.as_ref()?.iter().zip(b.weights.as_ref()?).map(largest).fold(Some(0.0), join)
}
