//! `basislab config`: the configuration of an experiment, and the reference of all keys.

mod explain;

use super::CommandResult;
use crate::args::{Config, ExperimentArgs};
use crate::backend::Backend;
use crate::experiments;
use crate::terminal::say;
use basislab_config::Experiment;

pub(crate) fn config(args: &Config) -> CommandResult {
    match args {
        Config::Show { which, toml } => show(which, *toml),
        Config::Explain { key, json } => explain::explain(key.as_deref(), *json).map(|()| None),
    }
}

fn show(which: &ExperimentArgs, toml: bool) -> CommandResult {
    let loaded = experiments::find(which)?.loaded;
    if toml {
        say(loaded.experiment.to_toml())?;
        return Ok(None);
    }
    let width = loaded
        .origins
        .iter()
        .map(|(path, value, _)| path.len() + value.len() + 3)
        .filter(|w| *w < 72)
        .max()
        .unwrap_or(0);
    let line =
        |(path, value, origin): &(String, String, _)| format!("{:width$}  # {origin}\n", format!("{path} = {value}"));
    say(loaded.origins.iter().map(line).collect::<String>()
        + &expansion(&loaded.experiment)
        + &kernels(&loaded.experiment))?;
    Ok(None)
}

/// What computes the parts of each arm's model on the default backend; nothing in a build without a CPU backend.
fn kernels(experiment: &Experiment) -> String {
    let Ok(place) = Backend::Cpu.open(0) else { return String::new() };
    let mut sentences: Vec<(String, Vec<&str>)> = Vec::new();
    for arm in &experiment.arms {
        let of = |fused: bool| place.parts(&arm.run.model, fused).join(", ");
        let sentence = match (of(true), of(false)) {
            (fused, others) if others.is_empty() => format!("fused kernels ({fused})"),
            (fused, others) if fused.is_empty() => format!("burn's operations ({others})"),
            (fused, others) => format!("fused kernels ({fused}), burn's operations ({others})"),
        };
        match sentences.iter_mut().find(|(known, _)| *known == sentence) {
            Some((_, arms)) => arms.push(arm.name.as_str()),
            None => sentences.push((sentence, vec![arm.name.as_str()])),
        }
    }
    let mut text = format!("\n# What computes the models with --backend {}\n", place.info.backend);
    for (sentence, arms) in &sentences {
        let whose = if sentences.len() == 1 { "all arms".to_owned() } else { arms.join(", ") };
        text += &format!("#   {whose}: {sentence}\n");
    }
    text
}

/// The arms that grids make, each with its values and seeds; nothing where there is no grid.
fn expansion(experiment: &Experiment) -> String {
    let mut text = String::new();
    for sweep in &experiment.sweeps {
        let count = match sweep.points.len() {
            1 => "1 arm".to_owned(),
            count => format!("{count} arms"),
        };
        let choice = sweep.choose.as_ref().map_or_else(String::new, |choose| {
            format!("; {} takes the values with the least {} on seeds {:?}", sweep.arm, choose.by, choose.on_seeds)
        });
        text += &format!("\n# Grid over {}: {count} made of it{choice}\n", sweep.arm);
        let width = sweep.points.iter().map(|point| point.arm.len()).max().unwrap_or(0);
        for point in &sweep.points {
            text += &format!("#   {:<width$}  {}\n", point.arm, point.in_words(&sweep.keys));
        }
    }
    text
}
