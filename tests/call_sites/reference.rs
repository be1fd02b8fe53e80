//! A run made again by hand. The model gives gradients, logits and streams; all that follows (clipping, rotations, update
//! rules, schedule, losses, subsets of tokens, bases, moments) is stated here a second time, in plain loops over f64.

mod linear;
mod probe;

use basislab_config::{Arm, BasisSpec, Moments, OptimizerSpec, Role, RuleSpec, RunSpec, ScheduleKind, TrainSpec};
use basislab_data::Corpus;
use basislab_model::{Transformer, dtype, init};
use basislab_stats::Rotation;
use burn::tensor::{Device, Tensor, TensorData};
pub(super) use linear::Matrix;
use linear::{in_basis, maps_of, newton_schulz, squared_in_basis};
pub(super) use probe::Cells;
use probe::probe_steps;

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

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().convert::<f64>().try_into_vec().unwrap()
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
}

fn nothing(weights: &[Matrix]) -> Vec<[Vec<f64>; 2]> {
    weights.iter().map(|w| [vec![0.0; w.values.len()], vec![0.0; w.values.len()]]).collect()
}
