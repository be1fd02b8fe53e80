//! What a probe must write: losses, metrics in every basis, and the moments of each dimension.

use super::linear::{map_of, rotated};
use super::{Reference, numbers};
use basislab_config::{BasisSpec, ProbeSpec, RotatedAxes, RunSpec, Sharing, Site};
use basislab_stats::{METRICS, MetricFn, Purpose, Residuals, Rotation, stream};
use burn::tensor::Tensor;
use std::collections::BTreeMap;

/// What is expected under a key that names file, row and column.
pub(crate) type Cells = BTreeMap<String, Option<f64>>;

impl Reference<'_> {
    pub(super) fn probe(&self, step: u64, probes: &[u64], cells: &mut Cells) {
        let RunSpec { model, probe, train, .. } = self.run;
        let held_out = self.corpus.held_out(self.seed, probe.loss_sequences, model.n_ctx + 1);
        let seen = self.model.without_autodiff();
        let (mut streams, mut loss): (Vec<(String, Vec<f64>)>, f64) = (Vec::new(), 0.0);
        for (number, tokens) in held_out.iter().enumerate() {
            let mut see = |site: Site, stream: &Tensor<2>| {
                // What a branch writes is no site of a probe.
                if number >= probe.residual_sequences || site.is_branch() {
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
                if tokens != probe.tokens.name() {
                    continue;
                }
                let drawn = if full { probe.random_bases as u64 } else { 0 };
                for k in 0..drawn {
                    let name = row(&format!("random:{k}"));
                    measure(cells, &name, &rotated(&x, &random(k)), model.d_model, |_, moves| moves);
                }
                if is_null_site(probe, site) {
                    let at_end = step == train.steps;
                    let (band_bases, band_metrics) = probe.band();
                    let bases = if at_end { probe.null_bases } else { band_bases };
                    let metrics = if at_end { &probe.null_metrics[..] } else { band_metrics };
                    for k in drawn..bases as u64 {
                        let name = row(&format!("random:{k}"));
                        let only = |metric: &str, _| metrics.iter().any(|named| named == metric);
                        measure(cells, &name, &rotated(&x, &random(k)), model.d_model, only);
                    }
                }
                let shares: Vec<f64> = (0..probe.random_bases as u64)
                    .map(|k| largest_share(&rotated(&x, &random(k)), model.d_model))
                    .collect();
                let of_own = own.as_ref().map(|q| ("optimizer", rotated(&x, q)));
                for (basis, x) in [("standard", x.clone())].into_iter().chain(of_own) {
                    let list = format!("dimension_steps {run} {site} {layer} {tokens} {basis}");
                    sizes(cells, &list, &x, model.d_model, &shares);
                    if !full {
                        continue;
                    }
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

/// 0, the powers of two up to `log_until`, the multiples of `every` beyond, and the last step.
pub(crate) fn probe_steps(probe: &ProbeSpec, last: u64) -> Vec<u64> {
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

fn measure(cells: &mut Cells, row: &str, x: &[f64], d: usize, wanted: impl Fn(&str, bool) -> bool) {
    let x = Residuals::new(x.to_vec(), d).unwrap();
    for metric in METRICS.iter().filter(|metric| wanted(metric.name, metric.basis_dependent)) {
        if let MetricFn::Matrix(of) = metric.of {
            cells.insert(format!("{row} {}", metric.name), of(&x));
        }
    }
}

/// The lists of one site at one probe.
fn sizes(cells: &mut Cells, list: &str, x: &[f64], d: usize, shares: &[f64]) {
    for dim in 0..d {
        let column = || x.iter().skip(dim).step_by(d);
        let mean = |power: i32| column().map(|x| x.powi(power)).sum::<f64>() / column().count() as f64;
        cells.insert(format!("{list} rms {dim}"), Some(mean(2).sqrt()));
        cells.insert(format!("{list} fourth_moment {dim}"), Some(mean(4)));
    }
    for (k, share) in shares.iter().enumerate() {
        cells.insert(format!("{list} null_shares {k}"), Some(*share));
    }
}

/// The largest dimension's share of the energy.
fn largest_share(x: &[f64], d: usize) -> f64 {
    let energy = |dim: usize| x.iter().skip(dim).step_by(d).map(|x| x * x).sum::<f64>();
    (0..d).map(energy).fold(0.0, f64::max) / (0..d).map(energy).sum::<f64>()
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
