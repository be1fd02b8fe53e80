//! `basislab list`: the built-in experiments.

use super::CommandResult;
use crate::experiments;
use crate::terminal::{say, say_json};
use basislab_config::count;

pub(crate) fn list(json: bool) -> CommandResult {
    let mut lines = String::new();
    let mut all = Vec::new();
    for (name, _) in experiments::BUILT_IN {
        let experiment = experiments::find_plain(name, &[])?.loaded.experiment;
        let arms: Vec<&str> = experiment.arms.iter().map(|arm| arm.name.as_str()).collect();
        lines += &format!(
            "{name}\n  {}\n  {}; arms {}\n",
            experiment.question,
            count(experiment.seeds.len(), "seed"),
            arms.join(", ")
        );
        all.push(serde_json::json!({ "name": name, "question": experiment.question, "seeds": experiment.seeds, "arms": arms }));
    }
    if json {
        say_json(&all.into())?
    } else {
        say(lines + "\nRun one:  basislab run NAME\n")?
    }
    Ok(None)
}
