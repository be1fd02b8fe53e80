//! `basislab metrics`: the table of metrics, on paper and on a user's own matrix.

mod eval;
mod privileged;
mod silent;

use super::CommandResult;
use crate::args::Metrics;
use crate::exit::Exit;
use crate::terminal::{say, say_json};
use basislab_config::one_of;
use basislab_stats::{METRICS, Metric, metric};
use serde_json::{Value, json};

pub(crate) fn metrics(args: &Metrics) -> CommandResult {
    match args {
        Metrics::List { json } => list(*json)?,
        Metrics::Explain { name } => explain(name)?,
        Metrics::Eval(args) => eval::eval(args)?,
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
