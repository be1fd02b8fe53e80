//! `basislab metrics`: the table of metrics, on paper and on a user's own matrix.

use crate::Done;
use crate::args::{Eval, Metrics};
use crate::exit::Exit;
use crate::terminal::{say, say_json};
use basislab_config::one_of;
use basislab_stats::{BasisExcess, METRICS, Metric, MetricFn, Residuals, basis_excess_all, metric};
use basislab_store::{read_npy, read_safetensors};
use serde_json::{Value, json};
use std::path::Path;

pub(crate) fn metrics(args: &Metrics) -> Done {
    match args {
        Metrics::List { json } => list(*json)?,
        Metrics::Explain { name } => explain(name)?,
        Metrics::Eval(args) => eval(args)?,
    }
    Ok(None)
}

fn list(json: bool) -> Result<(), Exit> {
    if json {
        return say_json(&METRICS.iter().map(about).collect::<Vec<_>>().into());
    }
    let line = |metric: &Metric| format!("{:<26} {}\n", metric.name, metric.title);
    say(METRICS.iter().map(line).collect::<String>() + "\nMore:  basislab metrics explain NAME\n")
}

fn explain(name: &str) -> Result<(), Exit> {
    let Some(metric) = metric(name) else {
        let names: Vec<&str> = METRICS.iter().map(|metric| metric.name).collect();
        return Err(Exit::usage(format!("no metric {name:?}, expected {}", one_of(&names, Some(name)))));
    };
    let rows = [
        ("formula", metric.formula),
        ("estimator", metric.estimator),
        ("axis", metric.axis),
        ("null", metric.null_text),
        ("ceiling", metric.ceiling_text),
        ("source", metric.source),
        ("fails", metric.known_failure),
    ];
    let basis = if metric.basis_dependent { "depends on the basis" } else { "the same in every basis" };
    let body: String = rows.iter().map(|(label, text)| format!("  {label:<10} {text}\n")).collect();
    say(format!("{}: {}\n{body}  {:<10} {basis}\n", metric.name, metric.title, "basis"))
}

fn about(metric: &Metric) -> Value {
    json!({
        "name": metric.name, "title": metric.title, "formula": metric.formula, "estimator": metric.estimator,
        "axis": metric.axis, "null": metric.null_text, "ceiling": metric.ceiling_text, "source": metric.source,
        "known_failure": metric.known_failure, "basis_dependent": metric.basis_dependent,
    })
}

fn eval(args: &Eval) -> Result<(), Exit> {
    let file = args.file.display().to_string();
    let (values, shape) = read(&args.file, args.tensor.as_deref())?;
    let [n_tokens, d_model] = shape;
    let x = Residuals::new(values, d_model).map_err(|error| Exit::data(format!("{file}: {error}")))?;
    let matrix: Vec<&Metric> = METRICS.iter().filter(|metric| matches!(metric.of, MetricFn::Matrix(_))).collect();
    let excess = basis_excess_all(&matrix, &x, args.bases as usize, args.seed);
    let mut rows: Vec<(&Metric, Option<f64>, Option<BasisExcess>)> = Vec::new();
    for metric in METRICS {
        match metric.of {
            MetricFn::Matrix(of) => {
                let at = matrix.iter().position(|m| m.name == metric.name);
                rows.push((metric, of(&x), at.and_then(|at| excess[at].clone()).filter(|_| metric.basis_dependent)));
            }
            MetricFn::Stack(_) => rows.push((metric, None, None)),
        }
    }
    if args.json {
        let row = |(metric, value, excess): &(&Metric, Option<f64>, Option<BasisExcess>)| {
            let closed = metric.null.map(|null| null(d_model, n_tokens));
            let ceiling = metric.ceiling.map(|ceiling| ceiling(d_model));
            json!({
                "metric": metric.name, "value": value, "closed_form_null": closed, "ceiling": ceiling,
                "null_mean": excess.as_ref().map(|e| e.null_mean), "null_sd": excess.as_ref().map(|e| e.null_sd),
                "z": excess.as_ref().and_then(|e| finite(e.z)), "rank_p": excess.as_ref().map(|e| e.rank_p),
                "why_empty": why_empty(metric, *value),
            })
        };
        let metrics: Vec<Value> = rows.iter().map(row).collect();
        return say_json(&json!({
            "file": file, "n_tokens": n_tokens, "d_model": d_model, "tokens_used": n_tokens,
            "random_bases": args.bases, "seed": args.seed, "metrics": metrics,
        }));
    }
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
    for (metric, value, excess) in &rows {
        let null = excess.as_ref().map_or_else(
            || number(metric.null.map(|null| null(d_model, n_tokens))),
            |e| format!("{:.4} +- {:.4}", e.null_mean, e.null_sd),
        );
        let value = why_empty(metric, *value).map_or_else(|| number(*value), |why| format!("- ({why})"));
        let (z, p) = (excess.as_ref().and_then(|e| finite(e.z)), excess.as_ref().map(|e| e.rank_p));
        table.add_row([
            metric.name.to_owned(),
            value,
            null,
            number(z),
            number(p),
            number(metric.ceiling.map(|c| c(d_model))),
        ]);
    }
    say(format!("{file}: {n_tokens} tokens, d_model {d_model}, {} random bases\n\n{table}\n", args.bases))
}

fn finite(value: f64) -> Option<f64> {
    value.is_finite().then_some(value)
}

fn why_empty(metric: &Metric, value: Option<f64>) -> Option<&'static str> {
    match (&metric.of, value) {
        (MetricFn::Stack(_), _) => Some("needs several layers"),
        (MetricFn::Matrix(_), None) => Some("undefined here: a token or dimension without variance"),
        _ => None,
    }
}

/// `[n_tokens, d_model]` values in C order.
fn read(path: &Path, tensor: Option<&str>) -> Result<(Vec<f64>, [usize; 2]), Exit> {
    let file = path.display();
    let info = std::fs::metadata(path).map_err(|error| Exit::data(format!("{file}: cannot read: {error}")))?;
    if !info.is_file() {
        return Err(Exit::data(format!(
            "{file}: found something that is not a file, expected a .npy or .safetensors file"
        )));
    }
    let bytes = std::fs::read(path).map_err(|error| Exit::data(format!("{file}: cannot read: {error}")))?;
    match path.extension().and_then(|extension| extension.to_str()) {
        Some("npy") => read_npy(&bytes),
        Some("safetensors") => read_safetensors(&bytes, tensor),
        other => Err(format!("found the ending {:?}, expected .npy or .safetensors", other.unwrap_or(""))),
    }
    .map_err(|what| Exit::data(format!("{file}: {what}")))
}
