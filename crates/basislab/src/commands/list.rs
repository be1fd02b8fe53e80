//! `basislab list`: the built-in experiments.

use super::CommandResult;
use crate::experiments;
use crate::terminal::{say, say_json};
use basislab_config::{RunName, count};

const NEXT: &str = "\
--smoke tests the whole pipeline in seconds. `basislab config show NAME` prints
every key. Your own experiment is a TOML file: base = \"NAME\" and what differs.
";

pub(crate) fn list(json: bool) -> CommandResult {
    let mut lines = String::new();
    let mut all = Vec::new();
    for (name, _) in experiments::BUILT_IN {
        let experiment = experiments::find_plain(name, &[])?.loaded.experiment;
        let points = || experiment.sweeps.iter().flat_map(|sweep| &sweep.points);
        let of_no_grid = |name: &RunName| points().all(|point| point.arm != *name);
        let arms: Vec<&str> =
            experiment.arms.iter().map(|arm| &arm.name).filter(|name| of_no_grid(name)).map(RunName::as_str).collect();
        let seeds = count(experiment.seeds.len(), "seed");
        let grids = match points().count() {
            0 => String::new(),
            points => format!(" and {} of grids", count(points, "point")),
        };
        lines += &format!("{name}\n  {}\n  {seeds}; arms {}{grids}\n", experiment.question, arms.join(", "));
        lines += &format!("  basislab run {name}\n\n");
        all.push(serde_json::json!({ "name": name, "question": experiment.question, "seeds": experiment.seeds, "arms": arms }));
    }
    if json {
        say_json(&all.into())?
    } else {
        say(lines + NEXT)?
    }
    Ok(None)
}
