//! `basislab metrics eval`: every metric of a user's matrix, against random bases of the same activations.

use super::privileged::{Dimension, Privileged};
use super::silent::{Tokens, is_constant, is_undefined_by, is_zero};
use crate::args::EvalArgs;
use crate::exit::{Code, Exit};
use crate::progress::Progress;
use crate::resources::require;
use crate::terminal::{say, say_json};
use basislab_config::{Basis, count};
use basislab_stats::{
    BasisExcess, METRICS, Metric, MetricFn, MetricValue, Residuals, basis_excess, measure_in, random_basis,
};
use basislab_store::MatrixFile;
use serde_json::{Value, json};
use std::fs::File;
use std::io::ErrorKind;
use std::path::Path;
use std::time::{Duration, Instant};

pub(super) fn eval(args: &EvalArgs) -> Result<(), Exit> {
    let file = args.file.display().to_string();
    let progress = Progress::new(args.quiet);
    let mut source = open(&args.file, args.tensor.as_deref())?;
    let [n_tokens, d_model] = source.shape();
    if d_model >= 8 * n_tokens || d_model > 16_384 {
        let what =
            format!("{} of d_model {d_model}: rows are tokens, columns are dimensions", count(n_tokens, "token"));
        progress.warn(&format!("warning: {file}: {what}; save the transposed matrix if it is the other way round"));
    }
    if n_tokens < d_model {
        let what = format!("{} for {d_model} dimensions", count(n_tokens, "token"));
        progress
            .warn(&format!("warning: {file}: {what}: correlations and RMS of dimensions are noisy; save more tokens"));
    }
    require(memory(n_tokens, d_model), &file, "save fewer tokens, or fewer dimensions")?;
    let first = load(&mut source, &file)?;
    let zero = Tokens::of(&first, is_zero);
    let constant = Tokens::of(&first, is_constant);
    let used = |x: Residuals| {
        let too_few = || {
            let found = zero.sentence(n_tokens, "all zero");
            Exit::data(format!("{file}: {found}, expected at least 2 that are not"))
        };
        if args.skip_zero_tokens { x.without_zero_tokens().ok_or_else(too_few) } else { Ok(x) }
    };
    let x = used(first)?;
    let tokens_used = x.n_tokens();
    let mut values = measure_in(&x, (basislab_config::Tokens::All, Basis::Standard), |_| true);
    let dimension = Dimension::largest(x.energy());
    // Freed before the first basis is drawn: the matrix is read again for each, so that it is held only once.
    drop(x);
    progress.plan(args.bases);
    let draws = draw(args, &progress, d_model, || used(load(&mut source, &file)?));
    progress.finish();
    values.extend(draws?);
    let privileged = Privileged::of(&values, dimension, args.bases as usize);
    let skipped = args.skip_zero_tokens;
    let why_empty = |metric: &Metric, value: Option<f64>| why_empty(metric, value, &zero, skipped, &constant);
    let row = |metric: &'static Metric| {
        let own = values.iter().find(|value| value.metric == metric.name && value.basis == Basis::Standard);
        let value = own.and_then(|own| own.value);
        (metric, value, basis_excess(metric, &values), why_empty(metric, value))
    };
    let rows: Vec<Row<'_>> = METRICS.iter().map(row).collect();
    if args.json {
        let mut zero_tokens = zero.json();
        zero_tokens["skipped"] = skipped.into();
        return say_json(&json!({
            "file": file, "n_tokens": n_tokens, "d_model": d_model, "tokens_used": tokens_used,
            "zero_tokens": zero_tokens, "constant_tokens": constant.json(),
            "random_bases": args.bases, "seed": args.seed, "privilege": privileged.json(),
            "metrics": rows.iter().map(|row| object(row, d_model, tokens_used)).collect::<Vec<_>>(),
        }));
    }
    let mut head =
        format!("{file}: {}, d_model {d_model}, {}\n", count(tokens_used, "token"), count(args.bases, "random basis"));
    if zero.count > 0 {
        let next = match skipped {
            true => "left out",
            false if zero.count + 2 > n_tokens => "too few are left to be measured without them",
            false => "--skip-zero-tokens leaves them out",
        };
        head += &format!("{}: {next}\n", zero.sentence(n_tokens, "all zero"));
    }
    if constant.count > 0 {
        head += &format!("{}: no kurtosis\n", constant.sentence(n_tokens, "constant"));
    }
    let table = table(&rows, d_model, tokens_used);
    say(format!("{}\n\n{head}\n{table}\n\n{}\n", privileged.sentence(), privileged.about_p()))
}

/// A metric, its value, its excess over random bases, and why it has no value.
type Row<'a> = (&'a Metric, Option<f64>, Option<BasisExcess>, Option<String>);

/// Bytes that measuring takes at its peak: a basis while it is drawn, or the matrix, a basis, products of dimensions, the
/// kurtosis and RMS of each token, and a block of rows that are rotated or multiplied.
fn memory(n_tokens: usize, d_model: usize) -> f64 {
    let [n, d] = [n_tokens, d_model].map(|size| size as f64);
    let block = (256.0 * d).max(524_288.0);
    72e6 + 8.0 * (2.1 * d * d).max(n * d + 2.0 * d * d + 2.0 * n + block)
}

/// Every metric that depends on the basis in each random one.
fn draw(
    args: &EvalArgs,
    progress: &Progress,
    d_model: usize,
    mut load: impl FnMut() -> Result<Residuals, Exit>,
) -> Result<Vec<MetricValue>, Exit> {
    const BETWEEN_LINES: Duration = Duration::from_secs(10);
    let mut said = Instant::now();
    let mut draws = Vec::new();
    for k in 0..args.bases as usize {
        let basis = random_basis(args.seed, k, d_model);
        let at = (basislab_config::Tokens::All, Basis::Random(k as u32));
        draws.extend(measure_in(&load()?.into_rotated(&basis), at, |metric| metric.basis_dependent));
        progress.step();
        if said.elapsed() >= BETWEEN_LINES {
            said = Instant::now();
            progress.line_without_bar(&format!("{} of {} random bases", k + 1, args.bases));
        }
    }
    Ok(draws)
}

fn object((metric, value, excess, why_empty): &Row<'_>, d_model: usize, n_tokens: usize) -> Value {
    let of = |read: fn(&BasisExcess) -> f64| excess.as_ref().map(read);
    json!({
        "metric": metric.name, "value": value,
        "closed_form_null": metric.null.map(|null| null(d_model, n_tokens)),
        "ceiling": metric.ceiling.map(|ceiling| ceiling(d_model, n_tokens)),
        "null_mean": of(|e| e.null_mean), "null_sd": of(|e| e.null_sd),
        // JSON has no infinity.
        "z": of(|e| e.z).filter(|z| z.is_finite()), "z_infinite": of(|e| e.z).is_some_and(f64::is_infinite),
        "rank_p": of(|e| e.rank_p), "why_empty": why_empty,
    })
}

fn table(rows: &[Row<'_>], d_model: usize, n_tokens: usize) -> comfy_table::Table {
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::NOTHING).set_header([
        "metric",
        "value",
        "null (random bases)",
        "z",
        "rank p",
        "ceiling",
    ]);
    let number = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), |value| format!("{value:.4}"));
    for (metric, value, excess, why_empty) in rows {
        let null = excess.as_ref().map_or_else(
            || number(metric.null.map(|null| null(d_model, n_tokens))),
            |e| format!("{:.4} +- {:.4}", e.null_mean, e.null_sd),
        );
        table.add_row([
            metric.name.to_owned(),
            why_empty.as_ref().map_or_else(|| number(*value), |why| format!("- ({why})")),
            null,
            number(excess.as_ref().map(|e| e.z)),
            number(excess.as_ref().map(|e| e.rank_p)),
            number(metric.ceiling.map(|ceiling| ceiling(d_model, n_tokens))),
        ]);
    }
    table
}

fn why_empty(metric: &Metric, value: Option<f64>, zero: &Tokens, skipped: bool, constant: &Tokens) -> Option<String> {
    if matches!(metric.of, MetricFn::Layers { .. }) {
        return Some("needs several layers".to_owned());
    }
    let many = |n: usize| format!("{} {}", count(n, "token"), if n == 1 { "is" } else { "are" });
    match value {
        Some(_) => None,
        None if !skipped && zero.count > 0 && is_undefined_by(metric, 0.0) => {
            Some(format!("undefined: {} all zero, see --skip-zero-tokens", many(zero.count)))
        }
        None if constant.count > 0 && is_undefined_by(metric, 1.0) => {
            Some(format!("undefined: {} constant", many(constant.count)))
        }
        None => Some("undefined here: mostly zeros, or numbers too large or too small to be squared".to_owned()),
    }
}

/// A matrix file, of which the header was read.
fn open(path: &Path, tensor: Option<&str>) -> Result<MatrixFile<File>, Exit> {
    let file = path.display();
    let unreadable = |error: std::io::Error| Exit::data(format!("{file}: cannot read: {error}"));
    // Before it is opened: opening a pipe waits for its other end.
    if !std::fs::metadata(path).map_err(unreadable)?.is_file() {
        let expected = "expected a .npy or .safetensors file";
        return Err(Exit::data(format!("{file}: found something that is not a file, {expected}")));
    }
    let ending = path.extension().map(|ending| ending.to_string_lossy().to_ascii_lowercase());
    let matrix = match (ending.as_deref(), tensor) {
        (Some("npy"), Some(_)) => {
            return Err(Exit::usage(format!("--tensor is for .safetensors files, and {file} holds one array")));
        }
        (Some("npy"), None) => MatrixFile::npy(File::open(path).map_err(unreadable)?),
        (Some("safetensors"), _) => MatrixFile::safetensors(File::open(path).map_err(unreadable)?, tensor),
        (other, _) => Err(format!("found the ending {:?}, expected .npy or .safetensors", other.unwrap_or(""))),
    };
    matrix.map_err(|what| Exit::data(format!("{file}: {what}")))
}

fn load(source: &mut MatrixFile<File>, file: &str) -> Result<Residuals, Exit> {
    let [_, d_model] = source.shape();
    let values = source.read().map_err(|error| match error.kind() {
        ErrorKind::OutOfMemory => {
            Exit::new(Code::TooLarge, format!("{file}: no memory for its values; save fewer tokens"))
        }
        _ => Exit::data(format!("{file}: cannot read its values: {error}")),
    })?;
    Residuals::new(values, d_model).map_err(|error| Exit::data(format!("{file}: {error}")))
}
