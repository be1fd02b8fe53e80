//! A run made again by hand. The model gives gradients, logits and streams; all that follows (clipping, rotations, update
//! rules, schedule, losses, subsets of tokens, bases, moments) is stated here a second time, in plain loops over f64.

use basislab_config::{
    Arm, BasisSpec, Moments, OptimizerSpec, ProbeSpec, Role, RotatedAxes, RotationSpec, RuleSpec, RunSpec,
    ScheduleKind, Sharing, Site, TrainSpec,
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
    run: &'a RunSpec,
    arm: &'a Arm,
    seed: u64,
    corpus: &'a Corpus,
    model: Transformer,
    /// `(path, role)` of every parameter.
    roles: Vec<(String, Role)>,
    pub(super) weights: Vec<Matrix>,
    /// Momentum or first moment, and second moment, in the basis of each parameter.
    pub(super) moments: Vec<[Vec<f64>; 2]>,
    /// The map on each axis of each parameter.
    maps: Vec<[Option<Rotation>; 2]>,
    /// As they are in this phase.
    optimizer: &'a OptimizerSpec,
    basis: &'a BasisSpec,
    /// Updates since the moments were last 0.
    count: u64,
}

/// What a rule remembers, by the names in checkpoints.
pub(super) fn slots(rule: &RuleSpec) -> &'static [&'static str] {
    match rule.kind.as_str() {
        "sgd" if rule.number("momentum") == 0.0 => &[],
        "sgd" | "lion" | "muon" => &["momentum"],
        _ => &["first", "second"],
    }
}

/// The axis of a parameter that faces the stream.
fn facing(role: Role) -> Option<usize> {
    match role {
        Role::Read | Role::Head => Some(0),
        Role::Embedding | Role::Write | Role::Vector => Some(1),
        Role::Other => None,
    }
}

/// `a b`, row-major.
fn product(a: &[f64], b: &[f64], [m, k, n]: [usize; 3]) -> Vec<f64> {
    let at = |i: usize, j: usize| (0..k).map(|l| a[i * k + l] * b[l * n + j]).sum::<f64>();
    (0..m * n).map(|at_| at(at_ / n, at_ % n)).collect()
}

fn transposed(a: &[f64], [rows, columns]: [usize; 2]) -> Vec<f64> {
    (0..rows * columns).map(|at| a[at % rows * columns + at / rows]).collect()
}

/// Newton-Schulz as Jordan's post states it: `X = G / (|G| + e)`, then `X = a X + (b A + c A A) X` with `A = X X'`, on the
/// side on which `A` is small; times the root of outputs over inputs where that is above 1.
pub(super) fn newton_schulz(grad: &[f64], [rows, columns]: [usize; 2], rule: &RuleSpec) -> Vec<f64> {
    let [a, b, c, epsilon] = ["ns_a", "ns_b", "ns_c", "epsilon"].map(|key| rule.number(key));
    let norm = grad.iter().map(|g| g * g).sum::<f64>().sqrt() + epsilon;
    let tall = rows > columns;
    let (m, n) = if tall { (columns, rows) } else { (rows, columns) };
    let mut x = if tall { transposed(grad, [rows, columns]) } else { grad.to_vec() };
    x.iter_mut().for_each(|x| *x /= norm);
    for _ in 0..rule.integer("ns_steps") {
        let gram = product(&x, &transposed(&x, [m, n]), [m, n, m]);
        let square = product(&gram, &gram, [m, m, m]);
        let both: Vec<f64> = gram.iter().zip(&square).map(|(g, s)| b * g + c * s).collect();
        let change = product(&both, &x, [m, m, n]);
        x.iter_mut().zip(change).for_each(|(x, change)| *x = a * *x + change);
    }
    let x = if tall { transposed(&x, [m, n]) } else { x };
    let scale = (columns as f64 / rows as f64).max(1.0).sqrt();
    x.into_iter().map(|x| scale * x).collect()
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
    pub(super) fn new(arm: &'a Arm, seed: u64, corpus: &'a Corpus, device: &Device) -> Self {
        let run = &arm.run;
        let model = init(&run.model, run.corpus.d_vocab(), seed, &device.clone().autodiff());
        let (mut weights, mut roles, mut maps) = (Vec::new(), Vec::new(), Vec::new());
        for ((number, parameter), value) in (0..).zip(model.parameters()).zip(model.values()) {
            maps.push(maps_of(&run.basis, seed, number, parameter.shape, facing(parameter.role)));
            roles.push((parameter.path, parameter.role));
            weights.push(Matrix { shape: parameter.shape, values: numbers(value.inner()) });
        }
        let moments = nothing(&weights);
        let (optimizer, basis) = (&run.optimizer, &run.basis);
        Self { run, arm, seed, corpus, model, roles, weights, moments, maps, optimizer, basis, count: 0 }
    }

    fn batch(&self, step: u64) -> Vec<Vec<u32>> {
        self.corpus.batch(self.seed, step, self.run.train.batch_size, self.run.model.n_ctx + 1)
    }

    /// The rule of a parameter.
    pub(super) fn rule(&self, number: usize) -> &'a RuleSpec {
        match self.optimizer {
            OptimizerSpec::One(rule) => rule,
            OptimizerSpec::Groups { groups } => {
                &groups.values().find(|group| group.roles.contains(&self.roles[number].1)).unwrap().rule
            }
        }
    }

    /// Goes over into the phase that begins with update `step`.
    fn enter(&mut self, step: u64) {
        let Some(phase) = self.run.phases.iter().find(|phase| phase.from == step) else { return };
        (self.optimizer, self.basis) = (&phase.optimizer, &phase.basis);
        let numbered = (0..).zip(&self.weights).zip(&self.roles);
        let maps =
            numbered.map(|((number, w), (_, role))| maps_of(self.basis, self.seed, number, w.shape, facing(*role)));
        let before = std::mem::replace(&mut self.maps, maps.collect());
        match phase.moments {
            Moments::Keep => {}
            Moments::Reset => (self.moments, self.count) = (nothing(&self.weights), 0),
            Moments::Rotate => {
                for (number, [first, second]) in self.moments.iter_mut().enumerate() {
                    let (shape, from, to) = (self.weights[number].shape, &before[number], &self.maps[number]);
                    let there = in_basis(&Matrix { shape, values: first.clone() }, from, true);
                    *first = in_basis(&there, to, false).values;
                    *second = squared_in_basis(second, shape, from, to);
                }
            }
        }
    }

    /// Makes update `step`: its learning rate, the loss before it and the norm of the whole gradient.
    pub(super) fn update(&mut self, step: u64) -> (f64, f64, f64) {
        self.enter(step);
        self.count += 1;
        let train = &self.run.train;
        let (loss, grads) = self.gradients(&self.batch(step));
        let norm = grads.iter().flatten().map(|g| g * g).sum::<f64>().sqrt();
        let scale = if train.clip_norm > 0.0 { (train.clip_norm / (norm + 1e-6)).min(1.0) } else { 1.0 };
        let share = share_of_peak(train, step);
        for (number, grad) in grads.into_iter().enumerate() {
            self.descend(number, grad.iter().map(|g| g * scale).collect(), share);
        }
        let dtype = dtype(self.run.model.param_dtype);
        let device = self.model.values()[0].clone().inner().device();
        let tensor = |w: &Matrix| Tensor::from_data(TensorData::new(w.values.clone(), w.shape), (&device, dtype));
        self.model.set_values(self.weights.iter().map(tensor).collect());
        // As the device rounds them.
        for (w, value) in self.weights.iter_mut().zip(self.model.values()) {
            w.values = numbers(value.inner());
        }
        // With groups the rate of the first one, by name.
        let first = match self.optimizer {
            OptimizerSpec::One(rule) => rule,
            OptimizerSpec::Groups { groups } => &groups.values().next().unwrap().rule,
        };
        (first.number("lr") * share, loss, norm)
    }

    fn gradients(&self, batch: &[Vec<u32>]) -> (f64, Vec<Vec<f64>>) {
        let inputs: Vec<&[u32]> = batch.iter().map(|s| &s[..s.len() - 1]).collect();
        let targets: Vec<&[u32]> = batch.iter().map(|s| &s[1..]).collect();
        let loss = self.model.loss(self.model.tokens(&inputs), self.model.tokens(&targets));
        let mut grads = loss.backward();
        let of = |value: &Tensor<2>| numbers(value.grad_remove(&mut grads).unwrap());
        (numbers(loss.inner())[0], self.model.values().iter().map(of).collect())
    }

    /// The update rule on one parameter, at this share of its peak rate.
    fn descend(&mut self, number: usize, mut grad: Vec<f64>, share: f64) {
        let (rule, count) = (self.rule(number), self.count as f64);
        let (w, maps) = (&mut self.weights[number], &self.maps[number]);
        let of = |key: &str| rule.number(key);
        let lr = of("lr") * share;
        let (coupled, decoupled) = match rule.kind.as_str() {
            "sgd" => (of("weight_decay"), of("decoupled_weight_decay")),
            "adam" => (of("weight_decay"), 0.0),
            _ => (0.0, of("decoupled_weight_decay")),
        };
        grad.iter_mut().zip(&w.values).for_each(|(g, w)| *g += coupled * w);
        let grad = in_basis(&Matrix { shape: w.shape, values: grad }, maps, false);
        let [first, second] = &mut self.moments[number];
        let change = |(g, (m, v)): (&f64, (&mut f64, &mut f64))| match rule.kind.as_str() {
            "sgd" | "muon" => {
                *m = of("momentum") * *m + g;
                if rule.flag("nesterov") { g + of("momentum") * *m } else { *m }
            }
            "lion" => {
                let mixed = of("beta_1") * *m + (1.0 - of("beta_1")) * g;
                *m = of("beta_2") * *m + (1.0 - of("beta_2")) * g;
                if mixed == 0.0 { 0.0 } else { mixed.signum() }
            }
            "adam" | "adamw" => {
                let (beta_1, beta_2) = (of("beta_1"), of("beta_2"));
                *m = beta_1 * *m + (1.0 - beta_1) * g;
                *v = beta_2 * *v + (1.0 - beta_2) * g * g;
                let (m, v) = (*m / (1.0 - beta_1.powf(count)), *v / (1.0 - beta_2.powf(count)));
                m / (v.sqrt() + of("epsilon"))
            }
            other => panic!("a rule that is not stated here: {other}"),
        };
        let mut change: Vec<f64> = grad.values.iter().zip(first.iter_mut().zip(second)).map(change).collect();
        if rule.kind == "muon" {
            change = newton_schulz(&change, w.shape, rule);
        }
        let change = in_basis(&Matrix { shape: w.shape, values: change }, maps, true);
        w.values.iter_mut().zip(change.values).for_each(|(w, change)| *w = (1.0 - lr * decoupled) * *w - lr * change);
    }

    /// A parameter as the run holds it: a rotated model holds its own in its basis.
    pub(super) fn held(&self) -> Vec<(String, Matrix)> {
        let moves = matches!(self.run.basis, BasisSpec::RotatedModel { .. });
        let one =
            |(w, maps): (&Matrix, &[Option<Rotation>; 2])| if moves { in_basis(w, maps, false) } else { w.clone() };
        let paths = self.roles.iter().map(|(path, _)| path.clone());
        paths.zip(self.weights.iter().zip(&self.maps).map(one)).collect()
    }

    /// All that the run must write: cells by key, and the order of its updates and probes.
    pub(super) fn run(&mut self) -> (Cells, Vec<String>) {
        let train = &self.run.train;
        let probes = probe_steps(&self.run.probe, train.steps);
        let (mut cells, mut order) = (Cells::new(), Vec::new());
        for step in 0..=train.steps {
            if step > 0 {
                let (lr, loss, norm) = self.update(step);
                let tokens = step * train.batch_size as u64 * self.run.model.n_ctx as u64;
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
        let RunSpec { model, probe, train, .. } = self.run;
        let held_out = self.corpus.held_out(self.seed, probe.loss_sequences, model.n_ctx + 1);
        let seen = self.model.without_autodiff();
        let (mut streams, mut loss): (Vec<(String, Vec<f64>)>, f64) = (Vec::new(), 0.0);
        for (number, tokens) in held_out.iter().enumerate() {
            let mut see = |site: Site, stream: &Tensor<2>| {
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

        let full = step == 0 || step == train.steps || step == probes[probes.len() / 2];
        let own = match self.basis {
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
                if !full || tokens != probe.tokens.name() {
                    continue;
                }
                for k in 0..probe.random_bases as u64 {
                    let name = row(&format!("random:{k}"));
                    measure(cells, &name, &rotated(&x, &random(k)), model.d_model, |_, moves| moves);
                }
                if step == train.steps && is_null_site(probe, site) {
                    for k in probe.random_bases as u64..probe.null_bases as u64 {
                        let name = row(&format!("random:{k}"));
                        let only = |metric: &str, _| probe.null_metrics.iter().any(|named| named == metric);
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
            if let MetricFn::Layers { .. } = metric.of {
                let n = posts[0].n_tokens();
                let key = format!("residual {run} blocks.*.resid_post  all {n} standard {}", metric.name);
                cells.insert(key, metric.of.of(&posts));
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
fn probe_steps(probe: &ProbeSpec, last: u64) -> Vec<u64> {
    let is_probe = |step: &u64| {
        let (early, late) = (*step <= probe.log_until, *step > probe.log_until);
        *step == 0 || *step == last || (early && step.is_power_of_two()) || (late && step.is_multiple_of(probe.every))
    };
    (0..=last).filter(is_probe).collect()
}

/// Whether null metrics are measured at a site; models here have two blocks.
fn is_null_site(probe: &ProbeSpec, site: &str) -> bool {
    probe.null_sites.iter().any(|named| named.to_string().replace("last", "1") == site)
}

fn nothing(weights: &[Matrix]) -> Vec<[Vec<f64>; 2]> {
    weights.iter().map(|w| [vec![0.0; w.values.len()], vec![0.0; w.values.len()]]).collect()
}

/// Second moments from one basis into another: along each axis every new one is the mean of the old ones, weighted by the
/// squares of the new coordinate's components.
fn squared_in_basis(
    v: &[f64],
    shape: [usize; 2],
    from: &[Option<Rotation>; 2],
    to: &[Option<Rotation>; 2],
) -> Vec<f64> {
    let squares = |axis: usize| -> Vec<f64> {
        let d = shape[axis];
        let entry = |q: &Option<Rotation>, i: usize, j: usize| match q {
            Some(q) => q.as_slice()[i * d + j],
            None => f64::from(u8::from(i == j)),
        };
        let change =
            |i: usize, j: usize| (0..d).map(|k| entry(&to[axis], i, k) * entry(&from[axis], j, k)).sum::<f64>();
        (0..d * d).map(|at| change(at / d, at % d).powi(2)).collect()
    };
    let [rows, columns] = shape;
    let v = product(&squares(0), v, [rows, rows, columns]);
    product(&v, &transposed(&squares(1), [columns, columns]), [rows, columns, columns])
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
