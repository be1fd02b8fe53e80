//! Scripts that run a plan on an engine: printed to be read, submitted by the user.
//!
//! A task is `basislab work PLAN --stage S --shard I/N`. Its exit code is all that an engine has to know: 75 means again, 6
//! later, anything else but 0 not again.

use crate::args::{Engine, ScriptArgs, TimeLimit};
use crate::exit::Exit;
use crate::terminal::{quoted, shown};
use basislab_config::count;
use std::path::Path;

/// Slurm's default limit of an array (`MaxArraySize`) allows numbers up to 1000.
const MOST_TASKS: usize = 1000;

/// The time limit of a task of Slurm that was given none.
const HOUR: TimeLimit = TimeLimit { seconds: 3600 };

/// The script for a plan that has so many runs in stage 1 and in stage 2.
///
/// # Errors
/// If an option does not belong to the engine or is missing, or a text holds what no script can hold safely.
pub(crate) fn script(args: &ScriptArgs, runs: [usize; 2]) -> Result<String, Exit> {
    refuse_options_of_others(args)?;
    let chunk = match args.chunk {
        Some(chunk) => chunk as usize,
        None => runs[0].max(runs[1]).div_ceil(MOST_TASKS).max(1),
    };
    let tasks = runs.map(|runs| runs.div_ceil(chunk));
    let here = std::env::current_dir().map_err(|error| Exit::data(format!("the current directory: {error}")))?;
    let here = written(&here, "the current directory")?;
    let plan = written(&args.plan, "PLAN")?;
    let program = match &args.program {
        Some(program) => program.clone(),
        None if args.engine == Engine::K8s => "basislab".to_owned(),
        None => {
            let path = std::env::current_exe().map_err(|error| Exit::data(format!("the path of basislab: {error}")))?;
            written(&path, "the path of basislab")?
        }
    };
    for (text, what) in
        [&program].map(|text| (text, "--program")).into_iter().chain(args.option.iter().map(|text| (text, "--option")))
    {
        refuse_control_characters(text, what)?;
    }
    let mut values = vec![
        ("runs", count(runs[0] + runs[1], "run")),
        ("plan_shown", plan.clone()),
        ("plan", quoted(&plan)),
        ("program", quoted(&program)),
        ("here", quoted(&here)),
        ("chunk", count(chunk, "run")),
        ("cpus", args.cpus.to_string()),
        ("tasks_1", tasks[0].to_string()),
        ("options", args.option.iter().map(|option| format!(" {}", quoted(option))).collect()),
        ("label", label(&args.plan)),
        ("arrays", tasks_in_words(tasks)),
    ];
    let template = match args.engine {
        Engine::Slurm => {
            values.extend(slurm(args.time.unwrap_or(HOUR), tasks));
            include_str!("scripts/slurm.sh")
        }
        Engine::Hq => {
            let request = args.time.map(|time| format!(" --time-request={}s", time.seconds));
            values.extend([("time_request", request.unwrap_or_default()), ("stage_2", second_call(tasks))]);
            include_str!("scripts/hq.sh")
        }
        Engine::Parallel => {
            let percent = (100 / args.cpus).max(1);
            values.extend([("percent", percent.to_string()), ("stage_2", second_call(tasks))]);
            include_str!("scripts/parallel.sh")
        }
        Engine::K8s => {
            values.extend(kubernetes(args, &plan, &program, tasks)?);
            include_str!("scripts/k8s.yaml")
        }
        Engine::Snakemake => {
            values.extend(snakemake(args, [&here, &plan, &program], tasks));
            include_str!("scripts/snakemake.smk")
        }
    };
    Ok(filled(template, &values))
}

/// An option that would be ignored is an error.
fn refuse_options_of_others(args: &ScriptArgs) -> Result<(), Exit> {
    use Engine::{Hq, K8s, Parallel, Slurm, Snakemake};
    for (name, given, engines) in [
        ("--time", args.time.is_some(), &[Slurm, Hq, Snakemake][..]),
        ("--option", !args.option.is_empty(), &[Slurm, Hq, Parallel]),
        ("--image", args.image.is_some(), &[K8s]),
        ("--volume-claim", args.volume_claim.is_some(), &[K8s]),
    ] {
        if given && !engines.contains(&args.engine) {
            let names = engines.iter().map(|engine| engine.name()).collect::<Vec<_>>().join(", ");
            return Err(Exit::usage(format!(
                "{name} is for {names}; found engine {}; leave it out",
                args.engine.name()
            )));
        }
    }
    Ok(())
}

/// A path as text for a script.
fn written(path: &Path, what: &str) -> Result<String, Exit> {
    let text = path.to_str().ok_or_else(|| {
        Exit::usage(format!("{what}: found {}, which is not UTF-8; scripts need UTF-8: rename it", path.display()))
    })?;
    refuse_control_characters(text, what)?;
    Ok(text.to_owned())
}

/// Line ends would leave a comment, and what turns the direction of writing would show another script than runs.
fn refuse_control_characters(text: &str, what: &str) -> Result<(), Exit> {
    if shown(text) != text || text.contains(['\u{2028}', '\u{2029}', '\u{feff}']) {
        return Err(Exit::usage(format!(
            "{what}: found {text:?}, expected text without line ends and control characters"
        )));
    }
    Ok(())
}

fn slurm(time: TimeLimit, tasks: [usize; 2]) -> Vec<(&'static str, String)> {
    let (mut stage_2, mut submitted) = (String::new(), "array $last (training)".to_owned());
    if tasks[1] > 0 {
        stage_2 = format!("last=$(submit 2 {} --dependency=afterany:\"$first\")\nlast=${{last%%;*}}\n", tasks[1]);
        submitted = "array $first (stage 1), array $last (stage 2)".to_owned();
    }
    vec![
        ("time", time.to_string()),
        // Slurm counts in minutes and wants less than the limit.
        ("lead", (time.seconds / 2).min(120).to_string()),
        ("stage_2", stage_2),
        ("submitted", submitted),
    ]
}

/// The second call of a function `train`.
fn second_call(tasks: [usize; 2]) -> String {
    if tasks[1] > 0 { format!("train 2 {}\n", tasks[1]) } else { String::new() }
}

fn snakemake(args: &ScriptArgs, [here, plan, program]: [&str; 3], tasks: [usize; 2]) -> Vec<(&'static str, String)> {
    let marks = |stage: usize| {
        let tasks = tasks[stage - 1];
        format!("expand(MARKS + \"/stage-{stage}-{{shard}}-of-{tasks}\", shard=range({tasks}))")
    };
    let (mut runtime, mut time_limit) = (String::new(), String::new());
    if let Some(time) = args.time {
        runtime = format!(
            "\n    # A job stops before its time is over, with checkpoints and code 75, and is then run again.\n    \
             resources:\n        runtime={},\n    retries: 100",
            time.seconds.div_ceil(60)
        );
        time_limit = format!(" --time-limit {time}");
    }
    let rules = (1..=2).filter(|stage| tasks[stage - 1] > 0).map(|stage| {
        let plan = "lambda wildcards: PLAN".to_owned();
        let values = [
            ("stage", stage.to_string()),
            ("before", if stage == 1 { plan } else { format!("{plan},\n        {}", marks(1)) }),
            ("tasks", tasks[stage - 1].to_string()),
            ("cpus", args.cpus.to_string()),
            ("runtime", runtime.clone()),
            ("time_limit", time_limit.clone()),
        ];
        filled(include_str!("scripts/snakemake-stage.smk"), &values)
    });
    vec![
        ("rules", rules.collect::<String>()),
        ("here", literal(here)),
        ("plan_text", literal(plan)),
        ("program_text", literal(program)),
        ("last_marks", marks(if tasks[1] > 0 { 2 } else { 1 })),
    ]
}

fn kubernetes(
    args: &ScriptArgs,
    plan: &str,
    program: &str,
    tasks: [usize; 2],
) -> Result<Vec<(&'static str, String)>, Exit> {
    let needed = |text: &Option<String>, name: &str, example: &str| {
        let text = text.as_ref().ok_or_else(|| Exit::usage(format!("k8s needs {name}, e.g. `{name} {example}`")))?;
        refuse_control_characters(text, name)?;
        Ok::<_, Exit>(literal(text))
    };
    let name = format!("basislab-{}", label(&args.plan));
    let values = [
        ("name", name.clone()),
        ("image", needed(&args.image, "--image", "registry/basislab:1")?),
        ("claim", needed(&args.volume_claim, "--volume-claim", "shared")?),
        // Kubernetes replaces `$(NAME)` in commands; `$$` is a dollar.
        ("plan_text", literal(&plan.replace('$', "$$"))),
        ("program_text", literal(&program.replace('$', "$$"))),
        ("cpus", args.cpus.to_string()),
    ];
    let stages: Vec<usize> = (1..=2).filter(|stage| tasks[stage - 1] > 0).collect();
    let jobs = stages.iter().map(|stage| {
        let mut values = values.to_vec();
        values.extend([
            ("stage", stage.to_string()),
            ("suspend", (*stage > 1).to_string()),
            ("tasks", tasks[stage - 1].to_string()),
        ]);
        filled(include_str!("scripts/k8s-stage.yaml"), &values)
    });
    let names: Vec<String> =
        stages.iter().map(|stage| format!("stage-{stage}")).chain(["collect".to_owned()]).collect();
    let steps = names.windows(2).map(|pair| {
        format!(
            "#   kubectl wait --for=condition=Complete --timeout=-1s job/{name}-{}\n\
             #   kubectl patch job/{name}-{} --patch '{{\"spec\":{{\"suspend\":false}}}}'\n",
            pair[0], pair[1]
        )
    });
    let mut all = vec![("jobs", jobs.collect::<String>()), ("steps", steps.collect())];
    all.extend(values);
    Ok(all)
}

/// How many tasks there are.
fn tasks_in_words(tasks: [usize; 2]) -> String {
    match tasks {
        [first, 0] => first.to_string(),
        [first, second] => format!("{first}, and {second} when these have ended"),
    }
}

/// The plan's name as a part of names: lower-case letters, digits and single hyphens.
fn label(plan: &Path) -> String {
    let stem = plan.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let words: Vec<&str> = stem.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty()).collect();
    let label: String = words.join("-").chars().take(30).collect();
    if label.is_empty() { "plan".to_owned() } else { label.trim_end_matches('-').to_owned() }
}

/// A string as YAML and Python read it back, which both read JSON's.
fn literal(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// The template with every `{{name}}` replaced; what is put in is not searched again. The last value of a name counts.
fn filled(template: &str, values: &[(&str, String)]) -> String {
    let mut parts = template.split("{{");
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (name, rest) = part.split_once("}}").expect("a template closes its names");
        let value = values.iter().rev().find(|(known, _)| *known == name);
        text += &value.unwrap_or_else(|| panic!("a template names {name}, which has no value")).1;
        text += rest;
    }
    text
}

#[cfg(test)]
mod tests;
