//! Laws and golden values of this crate, one file per module; `parity` compares with NumPy and SciPy.

mod bounds;
mod code_length;
mod excess;
mod exchange;
mod inference;
mod measure;
mod metric_laws;
mod metric_table;
mod metric_texts;
mod moments;
mod narrow;
mod ordered;
mod parity;
mod privilege;
mod quantize;
mod random;
mod residuals;
mod rotation;
mod same_bits;
mod spearman;
mod special;

use crate::{Purpose, Residuals, gaussian, metric, stream};

/// Independent standard normal activations; `index` tells tests apart.
fn gaussian_residuals(index: u64, n_tokens: usize, d_model: usize) -> Residuals {
    let mut rng = stream(0, Purpose::Simulation, index);
    residuals((0..n_tokens * d_model).map(|_| gaussian(&mut rng)).collect(), d_model)
}

fn residuals(values: Vec<f64>, d_model: usize) -> Residuals {
    Residuals::new(values, d_model).expect("finite and large enough")
}

/// Every value through `change(token, dimension, value)`.
fn changed(x: &Residuals, change: impl Fn(usize, usize, f64) -> f64) -> Residuals {
    let d = x.d_model();
    residuals(x.values().iter().enumerate().map(|(at, v)| change(at / d, at % d, *v)).collect(), d)
}

/// A metric by name, of one matrix.
fn value(name: &str, x: &Residuals) -> Option<f64> {
    metric(name).expect("a known metric").of.of(std::slice::from_ref(x))
}

fn close(a: f64, b: f64, relative: f64) -> bool {
    (a - b).abs() <= relative * a.abs().max(b.abs())
}

/// Mean and its standard error.
fn mean_and_error(values: &[f64]) -> (f64, f64) {
    let (mean, sd) = crate::mean_sd(values).expect("at least two draws");
    (mean, sd / (values.len() as f64).sqrt())
}
