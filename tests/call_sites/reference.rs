//! A run made again by hand. The model gives gradients, logits and streams; all that follows (clipping, rotations, update
//! rules, schedule, losses, subsets of tokens, bases, moments) is stated here a second time, in plain loops over f64.

use basislab_config::{
    Arm, BasisSpec, Experiment, OptimizerSpec, RotatedAxes, RotationSpec, ScheduleKind, Sharing, TrainSpec,
};
use basislab_data::Corpus;
use basislab_model::{Transformer, dtype, init};
use basislab_stats::{METRICS, MetricFn, Purpose, Residuals, Rotation, stream};
use burn::tensor::{Device, Tensor, TensorData};
use std::collections::BTreeMap;

/// What is expected under a key that names file, row and column.
pub(super) type Cells = BTreeMap<String, Option<f64>>;

/// Row-major numbers with their shape.
#[derive(Clone)]
pub(super) struct Matrix {
    pub(super) shape: [usize; 2],
    pub(super) values: Vec<f64>,
}

/// One arm with one seed.
pub(super) struct Reference<'a> {
    experiment: &'a Experiment,
    arm: &'a Arm,
    seed: u64,
    corpus: &'a Corpus,
    model: Transformer,
    /// `(path, axis that faces the stream)` of every parameter.
    axes: Vec<(String, Option<usize>)>,
    pub(super) weights: Vec<Matrix>,
    /// Momentum or first moment, and second moment, in the basis of each parameter.
    pub(super) moments: Vec<[Vec<f64>; 2]>,
    /// The map on each axis of each parameter.
    maps: Vec<[Option<Rotation>; 2]>,
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().convert::<f64>().try_into_vec().unwrap()
}

fn map_of(spec: &RotationSpec, seed: u64, index: u64, d: usize) -> Rotation {
    let key = |own: u64| stream(own, Purpose::Rotation, seed * (1 << 20) + index);
    match spec {
        RotationSpec::Identity {} => Rotation::identity(d),
        RotationSpec::SignedPermutation { seed } => Rotation::signed_permutation(d, &mut key(*seed)),
        RotationSpec::Hadamard {} => Rotation::hadamard(d).unwrap(),
        RotationSpec::Haar { seed } => Rotation::haar(d, &mut key(*seed)),
    }
}

/// `q` (or its inverse) on one axis of a matrix.
fn turned(w: &Matrix, axis: usize, q: &Rotation, inverse: bool) -> Matrix {
    let ([rows, columns], d) = (w.shape, q.d());
    assert_eq!(w.shape[axis], d);
    let entry = |i: usize, j: usize| if inverse { q.as_slice()[j * d + i] } else { q.as_slice()[i * d + j] };
    let at = |r: usize, c: usize| match axis {
        0 => (0..d).map(|k| entry(r, k) * w.values[k * columns + c]).sum::<f64>(),
        _ => (0..d).map(|k| entry(c, k) * w.values[r * columns + k]).sum::<f64>(),
    };
    Matrix { shape: w.shape, values: (0..rows * columns).map(|n| at(n / columns, n % columns)).collect() }
}

fn in_basis(w: &Matrix, maps: &[Option<Rotation>; 2], inverse: bool) -> Matrix {
    let mut w = w.clone();
    for (axis, q) in maps.iter().enumerate() {
        if let Some(q) = q {
            w = turned(&w, axis, q, inverse);
        }
    }
    w
}

/// The learning rate of update `step`, counted from 1, as a share of the peak.
fn share_of_peak(train: &TrainSpec, step: u64) -> f64 {
    if step <= train.warmup_steps {
        return step as f64 / train.warmup_steps as f64;
    }
    let (first, last) = (train.warmup_steps + 1, train.steps);
    let way = if last > first { (step - first) as f64 / (last - first) as f64 } else { 0.0 };
    let end = train.final_lr_fraction;
    match train.schedule {
        ScheduleKind::Constant => 1.0,
        ScheduleKind::Linear => 1.0 + (end - 1.0) * way,
        ScheduleKind::Cosine => end + (1.0 - end) * (std::f64::consts::FRAC_PI_2 * way).cos().powi(2),
    }
}

impl<'a> Reference<'a> {
    pub(super) fn new(
        experiment: &'a Experiment,
        arm: &'a Arm,
        seed: u64,
        corpus: &'a Corpus,
        device: &Device,
    ) -> Self {
        let model = init(&experiment.model, experiment.corpus.d_vocab(), seed, &device.clone().autodiff());
        let (mut weights, mut axes, mut maps) = (Vec::new(), Vec::new(), Vec::new());
        for ((number, (path, shape, facing)), value) in (0..).zip(model.residual_axes()).zip(model.values()) {
            let axis = facing.map(|facing| facing.index);
            maps.push(maps_of(&arm.basis, seed, number, shape, axis));
            axes.push((path, axis));
            weights.push(Matrix { shape, values: numbers(value.inner()) });
        }
        let moments = weights.iter().map(|w| [vec![0.0; w.values.len()], vec![0.0; w.values.len()]]).collect();
        Self { experiment, arm, seed, corpus, model, axes, weights, moments, maps }
    }

    fn batch(&self, step: u64) -> Vec<Vec<u32>> {
        let length = self.experiment.model.n_ctx + 1;
        self.corpus.batch(self.seed, step, self.experiment.train.batch_size, length)
    }

    /// Makes update `step`: its learning rate, the loss before it and the norm of the whole gradient.
    pub(super) fn update(&mut self, step: u64) -> (f64, f64, f64) {
        let train = &self.experiment.train;
        let (loss, grads) = self.gradients(&self.batch(step));
        let norm = grads.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
        let scale = if train.clip_norm > 0.0 { (train.clip_norm / (norm + 1e-6)).min(1.0) } else { 1.0 };
        let lr = self.arm.optimizer.lr() * share_of_peak(train, step);
        for (number, grad) in grads.into_iter().enumerate() {
            self.descend(number, grad.iter().map(|g| g * scale).collect(), step, lr);
        }
        let dtype = dtype(self.experiment.model.param_dtype);
        let device = self.model.values()[0].clone().inner().device();
        let tensor = |w: &Matrix| Tensor::from_data(TensorData::new(w.values.clone(), w.shape), (&device, dtype));
        self.model.set_values(self.weights.iter().map(tensor).collect());
        // As the device rounds them.
        for (w, value) in self.weights.iter_mut().zip(self.model.values()) {
            w.values = numbers(value.inner());
        }
        (lr, loss, norm)
    }

    fn gradients(&self, batch: &[Vec<u32>]) -> (f64, Vec<Vec<f64>>) {
        let inputs: Vec<&[u32]> = batch.iter().map(|s| &s[..s.len() - 1]).collect();
        let targets: Vec<&[u32]> = batch.iter().map(|s| &s[1..]).collect();
        let loss = self.model.loss(self.model.tokens(&inputs), self.model.tokens(&targets));
        let mut grads = loss.backward();
        let of = |value: &Tensor<2>| numbers(value.grad_remove(&mut grads).unwrap());
        (numbers(loss.inner())[0], self.model.values().iter().map(of).collect())
    }

    /// The update rule on one parameter.
    fn descend(&mut self, number: usize, mut grad: Vec<f64>, step: u64, lr: f64) {
        let (w, maps) = (&mut self.weights[number], &self.maps[number]);
        let (coupled, decoupled) = match self.arm.optimizer {
            OptimizerSpec::Sgd { weight_decay, decoupled_weight_decay, .. } => (weight_decay, decoupled_weight_decay),
            OptimizerSpec::Adam { weight_decay, .. } => (weight_decay, 0.0),
            OptimizerSpec::Adamw { decoupled_weight_decay, .. } => (0.0, decoupled_weight_decay),
        };
        grad.iter_mut().zip(&w.values).for_each(|(g, w)| *g += coupled * w);
        let grad = in_basis(&Matrix { shape: w.shape, values: grad }, maps, false);
        let [first, second] = &mut self.moments[number];
        let change = |(g, (m, v)): (&f64, (&mut f64, &mut f64))| match self.arm.optimizer {
            OptimizerSpec::Sgd { momentum, nesterov, .. } => {
                *m = momentum * *m + g;
                if nesterov { g + momentum * *m } else { *m }
            }
            OptimizerSpec::Adam { beta_1, beta_2, epsilon, .. }
            | OptimizerSpec::Adamw { beta_1, beta_2, epsilon, .. } => {
                *m = beta_1 * *m + (1.0 - beta_1) * g;
                *v = beta_2 * *v + (1.0 - beta_2) * g * g;
                let (m, v) = (*m / (1.0 - beta_1.powf(step as f64)), *v / (1.0 - beta_2.powf(step as f64)));
                m / (v.sqrt() + epsilon)
            }
        };
        let change: Vec<f64> = grad.values.iter().zip(first.iter_mut().zip(second)).map(change).collect();
        let change = in_basis(&Matrix { shape: w.shape, values: change }, maps, true);
        w.values.iter_mut().zip(change.values).for_each(|(w, change)| *w = (1.0 - lr * decoupled) * *w - lr * change);
    }

    /// A parameter as the run holds it: a rotated model holds its own in its basis.
    pub(super) fn held(&self) -> Vec<(String, Matrix)> {
        let moves = matches!(self.arm.basis, BasisSpec::RotatedModel { .. });
        let one =
            |(w, maps): (&Matrix, &[Option<Rotation>; 2])| if moves { in_basis(w, maps, false) } else { w.clone() };
        let paths = self.axes.iter().map(|(path, _)| path.clone());
        paths.zip(self.weights.iter().zip(&self.maps).map(one)).collect()
    }

    /// All that the run must write: cells by key, and the order of its updates and probes.
    pub(super) fn run(&mut self) -> (Cells, Vec<String>) {
        let train = self.experiment.train.clone();
        let probes = probe_steps(self.experiment);
        let (mut cells, mut order) = (Cells::new(), Vec::new());
        for step in 0..=train.steps {
            if step > 0 {
                let (lr, loss, norm) = self.update(step);
                let tokens = step * train.batch_size as u64 * self.experiment.model.n_ctx as u64;
                let row = format!("steps {} {} {step} {tokens} ok", self.arm.name, self.seed);
                for (column, value) in [("lr", lr), ("train_loss", loss), ("grad_norm", norm)] {
                    cells.insert(format!("{row} {column}"), Some(value));
                }
                order.push(format!("update {step}"));
            }
            if probes.contains(&step) {
                self.probe(step, &probes, &mut cells);
                order.push(format!("probe {step}"));
            }
        }
        (cells, order)
    }

    fn probe(&self, step: u64, probes: &[u64], cells: &mut Cells) {
        let Experiment { model, probe, verdict, .. } = self.experiment;
        let held_out = self.corpus.held_out(self.seed, probe.loss_sequences, model.n_ctx + 1);
        let seen = self.model.without_autodiff();
        let (mut streams, mut loss): (Vec<(String, Vec<f64>)>, f64) = (Vec::new(), 0.0);
        for (number, tokens) in held_out.iter().enumerate() {
            let mut see = |site: basislab_model::Site, stream: &Tensor<2>| {
                if number >= probe.residual_sequences {
                    return;
                }
                let name = site.to_string();
                match streams.iter_mut().find(|(site, _)| *site == name) {
                    Some((_, values)) => values.extend(numbers(stream.clone())),
                    None => streams.push((name, numbers(stream.clone()))),
                }
            };
            let logits = numbers(seen.forward(seen.tokens(&[&tokens[..model.n_ctx]]), &mut see));
            let d_vocab = logits.len() / model.n_ctx;
            for (row, target) in logits.chunks(d_vocab).zip(&tokens[1..]) {
                let most = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let sum: f64 = row.iter().map(|x| (x - most).exp()).sum();
                loss += (most + sum.ln() - row[*target as usize]) / (held_out.len() * model.n_ctx) as f64;
            }
        }
        let run = format!("{} {} {step}", self.arm.name, self.seed);
        cells.insert(format!("evals {run} held-out loss"), Some(loss));
        let above = self.corpus.floor(&held_out).map(|floor| loss - floor);
        cells.insert(format!("evals {run} held-out loss_above_floor"), above);

        let full = step == 0 || step == self.experiment.train.steps || step == probes[probes.len() / 2];
        let own = match &self.arm.basis {
            BasisSpec::RotatedOptimizer { rotation, sharing: Sharing::Shared, axes: RotatedAxes::Residual }
            | BasisSpec::RotatedModel { rotation, sharing: Sharing::Shared } => {
                Some(map_of(rotation, self.seed, 0, model.d_model))
            }
            _ => None,
        };
        let random = |k: u64| Rotation::haar(model.d_model, &mut stream(self.seed, Purpose::RandomBasis, k));
        for (site, values) in &streams {
            let layer = site.strip_prefix("blocks.").map_or(String::new(), |rest| rest[..1].to_owned());
            for tokens in ["all", "first", "rest"] {
                let x = rows_of(values, model.d_model, model.n_ctx, tokens);
                let n = x.len() / model.d_model;
                let row = |basis: &str| format!("residual {run} {site} {layer} {tokens} {n} {basis}");
                measure(cells, &row("standard"), &x, model.d_model, |_, _| true);
                if let Some(q) = &own {
                    measure(cells, &row("optimizer"), &rotated(&x, q), model.d_model, |_, moves| moves);
                }
                if !full || tokens != verdict.tokens {
                    continue;
                }
                for k in 0..probe.random_bases as u64 {
                    let name = row(&format!("random:{k}"));
                    measure(cells, &name, &rotated(&x, &random(k)), model.d_model, |_, moves| moves);
                }
                if step == self.experiment.train.steps && *site == self.experiment.verdict_site() {
                    for k in probe.random_bases as u64..verdict.null_bases as u64 {
                        let name = row(&format!("random:{k}"));
                        let only = |metric: &str, _| metric == verdict.metric;
                        measure(cells, &name, &rotated(&x, &random(k)), model.d_model, only);
                    }
                }
                let of_own = own.as_ref().map(|q| ("optimizer", rotated(&x, q)));
                for (basis, x) in [("standard", x.clone())].into_iter().chain(of_own) {
                    dimensions(cells, &format!("dimensions {run} {site} {layer} {tokens} {basis}"), &x, model.d_model);
                }
            }
        }
        let posts: Vec<Residuals> = streams
            .iter()
            .filter(|(site, _)| site.ends_with("resid_post"))
            .map(|(_, values)| Residuals::new(values.clone(), model.d_model).unwrap())
            .collect();
        for metric in METRICS {
            if let MetricFn::Stack(of) = metric.of {
                let n = posts[0].n_tokens();
                let key = format!("residual {run} blocks.*.resid_post  all {n} standard {}", metric.name);
                cells.insert(key, of(&posts));
            }
        }
    }
}

fn maps_of(
    basis: &BasisSpec,
    seed: u64,
    number: u64,
    shape: [usize; 2],
    facing: Option<usize>,
) -> [Option<Rotation>; 2] {
    let (rotation, sharing, both) = match basis {
        BasisSpec::Standard {} => return [None, None],
        BasisSpec::RotatedOptimizer { rotation, sharing, axes } => (rotation, *sharing, *axes == RotatedAxes::Both),
        BasisSpec::RotatedModel { rotation, sharing } => (rotation, *sharing, false),
    };
    let Some(axis) = facing else { return [None, None] };
    let index = if sharing == Sharing::Shared { 0 } else { 2 * number + 1 };
    let mut maps = [None, None];
    maps[axis] = Some(map_of(rotation, seed, index, shape[axis]));
    if both && shape[1 - axis] > 1 {
        maps[1 - axis] = Some(map_of(rotation, seed, 2 * number + 2, shape[1 - axis]));
    }
    maps
}

/// 0, the powers of two up to `log_until`, the multiples of `every` beyond, and the last step.
fn probe_steps(experiment: &Experiment) -> Vec<u64> {
    let (probe, last) = (&experiment.probe, experiment.train.steps);
    let is_probe = |step: &u64| {
        let (early, late) = (*step <= probe.log_until, *step > probe.log_until);
        *step == 0 || *step == last || (early && step.is_power_of_two()) || (late && step.is_multiple_of(probe.every))
    };
    (0..=last).filter(is_probe).collect()
}

fn rows_of(values: &[f64], d: usize, n_ctx: usize, tokens: &str) -> Vec<f64> {
    let mut picked = Vec::new();
    for sequence in values.chunks(n_ctx * d) {
        picked.extend_from_slice(match tokens {
            "all" => sequence,
            "first" => &sequence[..d],
            _ => &sequence[d..],
        });
    }
    picked
}

fn rotated(x: &[f64], q: &Rotation) -> Vec<f64> {
    let d = q.d();
    let row =
        |x: &[f64]| q.as_slice().chunks(d).map(|q| q.iter().zip(x).map(|(q, x)| q * x).sum()).collect::<Vec<f64>>();
    x.chunks(d).flat_map(row).collect()
}

fn measure(cells: &mut Cells, row: &str, x: &[f64], d: usize, wanted: impl Fn(&str, bool) -> bool) {
    let x = Residuals::new(x.to_vec(), d).unwrap();
    for metric in METRICS.iter().filter(|metric| wanted(metric.name, metric.basis_dependent)) {
        if let MetricFn::Matrix(of) = metric.of {
            cells.insert(format!("{row} {}", metric.name), of(&x));
        }
    }
}

fn dimensions(cells: &mut Cells, table: &str, x: &[f64], d: usize) {
    let energy: f64 = x.iter().map(|x| x * x).sum();
    for dim in 0..d {
        let column: Vec<f64> = x.iter().skip(dim).step_by(d).copied().collect();
        let mean_of = |f: &dyn Fn(f64) -> f64| column.iter().map(|x| f(*x)).sum::<f64>() / column.len() as f64;
        let mean = mean_of(&|x| x);
        let variance = mean_of(&|x| (x - mean).powi(2));
        let squares = mean_of(&|x| x * x);
        let (min, max) = column.iter().fold((f64::MAX, f64::MIN), |(low, high), x| (low.min(*x), high.max(*x)));
        for (name, value) in [
            ("mean", mean),
            ("rms", squares.sqrt()),
            ("variance", variance),
            ("skewness", mean_of(&|x| (x - mean).powi(3)) / variance.powf(1.5)),
            ("kurtosis", mean_of(&|x| (x - mean).powi(4)) / variance.powi(2)),
            ("min", min),
            ("max", max),
            ("max_abs", max.max(-min)),
            ("share_of_energy", squares * column.len() as f64 / energy),
        ] {
            cells.insert(format!("{table} {dim} {name}"), Some(value));
        }
    }
}
