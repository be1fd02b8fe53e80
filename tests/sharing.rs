//! Runs have an identity of their own: shared between experiments, extended, decided anew; grids, choices and arms from the
//! command line; comparing directories.

use crate::cli::{basislab, refuses, stderr, stdout};
use crate::support::small;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::time::SystemTime;
use tempfile::TempDir;

/// A folder with the small experiment as `lab.toml`.
pub(crate) fn lab(changes: &[(&str, &str)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("lab.toml"), small(changes).to_toml()).unwrap();
    dir
}

/// Runs and expects success: stdout and stderr.
pub(crate) fn ok(dir: &Path, args: &[&str]) -> (String, String) {
    let output = basislab(dir, args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
    (stdout(&output), stderr(&output))
}

pub(crate) fn run(dir: &Path, out: &str, extra: &[&str]) -> (String, String) {
    ok(dir, &[&["run", "lab.toml", "--out", out], extra].concat())
}

pub(crate) fn json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

fn stamp(path: &Path) -> SystemTime {
    fs::metadata(path).unwrap().modified().unwrap()
}

/// The cells of one column of `verdicts.csv`, by claim.
pub(crate) fn verdicts(dir: &Path, column: &str) -> Vec<(String, String)> {
    let mut reader = csv::Reader::from_path(dir.join("verdicts.csv")).unwrap();
    let at = reader.headers().unwrap().iter().position(|name| name == column).unwrap();
    reader.records().map(|row| row.unwrap()).map(|row| (row[0].to_owned(), row[at].to_owned())).collect()
}

#[test]
fn two_experiments_that_need_the_same_run_train_it_once() {
    let dir = lab(&[("seeds", "[0, 1]")]);
    let at = dir.path();
    let (_, first) = run(at, "a", &[]);
    assert!(!first.contains("copied from"), "{first}");
    // Another arm name, another question and fewer claims decide no number.
    let text = fs::read_to_string(at.join("lab.toml")).unwrap();
    let renamed = ["name", "arm", "other"]
        .into_iter()
        .fold(text, |text, key| text.replace(&format!("{key} = \"sgd\""), &format!("{key} = \"sgd-renamed\"")));
    let other = renamed.replacen("question = ", "question = \"Anew?\" # ", 1);
    fs::write(at.join("lab.toml"), other).unwrap();
    let (answer, second) = run(at, "b", &[]);
    assert_eq!(second.matches("a finished run of the same identity").count(), 9, "{second}");
    assert!(answer.contains("All 9 planned runs are complete"), "{answer}");
    let table = |out: &str| fs::read_to_string(at.join(out).join("residual.csv")).unwrap();
    assert_eq!(table("b").replace("sgd-renamed", "sgd"), table("a"));
    let record = json(&at.join("b/parts/sgd-renamed/1/run.json"));
    assert_eq!((&record["reused"], &record["identity"]["seed"]), (&true.into(), &1.into()));
    assert_eq!(record["identity"], json(&at.join("a/parts/sgd/1/run.json"))["identity"]);
    // It is self-contained: what it was copied from may go.
    fs::remove_dir_all(at.join("a")).unwrap();
    ok(at, &["verify", "b", "--steps", "3"]);
    // Not asked for, nothing is shared; and a run whose tables were edited is not.
    let (_, apart) = run(at, "c", &["--no-reuse"]);
    assert!(!apart.contains("copied from"), "{apart}");
    fs::remove_dir_all(at.join("b")).unwrap();
    let edited = at.join("c/parts/adam/0/evals.csv");
    fs::write(&edited, fs::read_to_string(&edited).unwrap() + "adam,0,7,held-out,1.0,1.0\n").unwrap();
    let (_, rest) = run(at, "d", &[]);
    assert_eq!(rest.matches("copied from").count(), 8, "{rest}");
    assert!(rest.contains("adam seed 0: ") && !rest.contains("adam seed 0: copied"), "{rest}");
}

#[test]
fn what_decides_numbers_is_not_shared() {
    let dir = lab(&[("seeds", "[0]")]);
    let at = dir.path();
    run(at, "a", &[]);
    for set in ["train.batch_size=2", "corpus.seed=1", "probe.random_bases=9", "model.init_std=0.03"] {
        let (_, said) = run(at, &format!("b-{}", set.replace('=', "-")), &["--set", set]);
        assert!(!said.contains("copied from"), "{set}: {said}");
    }
    // One arm differs: the others are shared.
    let (_, said) = run(at, "c", &["--set", "arm.sgd.optimizer.lr=0.4"]);
    assert_eq!(said.matches("copied from").count(), 4, "{said}");
    assert!(!said.contains("sgd seed 0: copied"), "{said}");
    // The manifest of another version of the numbers.
    let mut record = json(&at.join("a/parts/adam/0/run.json"));
    record["identity"]["numerics"] = 0.into();
    fs::write(at.join("a/parts/adam/0/run.json"), record.to_string()).unwrap();
    fs::remove_dir_all(at.join("c")).unwrap();
    let (_, said) = run(at, "d", &[]);
    assert!(said.contains("sgd seed 0: copied") && !said.contains("adam seed 0: copied"), "{said}");
}

#[test]
fn a_changed_claim_trains_nothing_and_more_seeds_train_what_is_missing() {
    let dir = lab(&[("seeds", "[0, 1]")]);
    let (at, out) = (dir.path(), dir.path().join("o"));
    run(at, "o", &["--no-reuse"]);
    let registered = |expected: &str| {
        for (claim, found) in verdicts(&out, "registration") {
            assert_eq!(found, expected, "{claim}");
        }
    };
    registered("registered");
    let table = out.join("parts/adam/0/steps.csv");
    let before = stamp(&table);
    // Words and the question change nothing that is decided; a margin does.
    run(at, "o", &["--set", "question=Why?", "--set", "claim.sgd-equals-its-null.text=Alike"]);
    registered("registered");
    assert!(fs::read_to_string(out.join("config.toml")).unwrap().contains("Why?"));
    let (answer, _) = run(at, "o", &["--set", "verdict.equivalence_margin=0.3"]);
    assert!(answer.contains("; post hoc\n"), "{answer}");
    registered("post-hoc");
    assert_eq!(stamp(&table), before, "nothing is trained again");
    // The edited configuration is reported on as it is.
    let config = fs::read_to_string(out.join("config.toml")).unwrap();
    fs::write(out.join("config.toml"), config.replace("equivalence_margin = 0.3", "equivalence_margin = 0.1")).unwrap();
    ok(at, &["report", "o"]);
    registered("registered");
    // Two more seeds: the first two are kept, and the extension is on record.
    let (answer, said) = run(at, "o", &["--seeds", "0..4", "--no-reuse"]);
    assert!(said.contains("9 of 17 runs are complete, 8 to go"), "{said}");
    assert!(answer.contains("; seeds were added\n"), "{answer}");
    assert_eq!(stamp(&table), before);
    registered("extended");
    // Fewer seeds never drop runs.
    let (answer, _) = run(at, "o", &["--seeds", "0..2"]);
    assert!(answer.contains("All 17 planned runs are complete"), "{answer}");
    // Another arm joins; one that is missing is another experiment.
    let (answer, said) = run(at, "o", &["--seeds", "0..1", "--no-reuse", "--arm", "lion=adam,optimizer.kind=lion"]);
    assert!(said.contains("17 of 21 runs are complete"), "{said}");
    assert!(answer.contains(" lion "), "{answer}");
    refuses(at, &["run", "lab.toml", "--out", "o"], 7, &["arm lion: there, not here"]);
    refuses(at, &["run", "lab.toml", "--out", "o", "--set", "train.steps=7"], 7, &["train.steps: 6 there, 7 here"]);
}

#[test]
fn a_grid_is_swept_and_a_choice_is_made_on_seeds_of_its_own() {
    let dir = lab(&[("seeds", "[0, 1]")]);
    let (at, out) = (dir.path(), dir.path().join("o"));
    let grid = "\n[[grid]]\narms = [\"sgd\"]\n\"optimizer.lr\" = [1e-6, 0.3, 1e5]\nchoose = { by = \"loss\", on_seeds = [1000] }\n";
    let text = fs::read_to_string(at.join("lab.toml")).unwrap();
    fs::write(at.join("lab.toml"), text + grid).unwrap();
    let (answer, _) = run(at, "o", &[]);
    assert!(answer.contains("sgd: optimizer.lr = 0.3 of"), "{answer}");
    let selection = fs::read_to_string(out.join("selection.csv")).unwrap();
    let chosen: Vec<&str> = selection.lines().filter(|line| line.ends_with(",true")).collect();
    assert!(chosen.len() == 1 && chosen[0].starts_with("sgd,sgd-lr-0.3,"), "{selection}");
    // Runs of before and after the choice began under the same rules.
    let verdicts = fs::read_to_string(out.join("verdicts.csv")).unwrap();
    assert!(verdicts.contains(",registered,") && !verdicts.contains("post-hoc"), "{verdicts}");
    // The arm ran with the chosen rate, on the experiment's seeds alone; the points on the selection seed alone.
    let rate = |part: &str| {
        let text = fs::read_to_string(out.join("parts").join(part).join("steps.csv")).unwrap();
        text.lines().nth(2).unwrap().split(',').nth(4).unwrap().parse::<f64>().unwrap()
    };
    assert_eq!(rate("sgd/0"), 0.3);
    assert_eq!(rate("sgd-lr-0.3/1000"), 0.3);
    assert!(!out.join("parts/sgd-lr-0.3/0").exists() && !out.join("parts/sgd/1000").exists());
    assert!(out.join("figures/sweep_sgd_optimizer_lr.svg").is_file());
    // Once more: nothing to do, the same answer.
    assert_eq!(run(at, "o", &[]).0, answer);
    ok(at, &["verify", "o", "--steps", "2"]);

    let (shown, _) = ok(at, &["config", "show", "lab.toml"]);
    assert!(shown.contains("arm.sgd-lr-0.3."), "the expansion is listed: {shown}");
    let summary = "\n# Grid over sgd: 3 arms made of it; sgd takes the values with the least loss on seeds [1000]\n\
                   #   sgd-lr-1e-6      optimizer.lr = 1e-6\n#   sgd-lr-0.3       optimizer.lr = 0.3\n\
                   #   sgd-lr-100000.0  optimizer.lr = 100000.0\n";
    assert!(shown.contains(summary), "{shown}");
    let swept = ["--sweep", "arm.adam.optimizer.lr=1e-3,1e-2", "--seeds", "0..2"];
    let (answer, _) = run(at, "p", &[&swept[..], &["--no-reuse"]].concat());
    assert!(answer.contains("adam-lr-0.001") && answer.contains("adam-lr-0.01"), "{answer}");
    assert!(at.join("p/figures/sweep_adam_optimizer_lr.svg").is_file());
}

#[test]
fn directories_are_compared() {
    let dir = lab(&[("seeds", "[0, 1]")]);
    let at = dir.path();
    run(at, "a", &[]);
    run(at, "b", &["--set", "arm.sgd.optimizer.lr=0.4", "--set", "verdict.alpha=0.01"]);
    let (text, _) = ok(at, &["compare", "a", "b"]);
    for part in ["optimizer.lr", "0.5", "0.4", "verdict.alpha", "adam-differs-from-sgd"] {
        assert!(text.contains(part), "{part}: {text}");
    }
    let value: Value = serde_json::from_str(&ok(at, &["compare", "a", "b", "--json"]).0).unwrap();
    assert_eq!(value["directories"].as_array().map(Vec::len), Some(2), "{value}");
    refuses(at, &["compare", "a", "nothing"], 3, &["nothing/config.toml"]);
    assert_eq!(basislab(at, &["compare", "a"]).status.code(), Some(2));
}

#[test]
fn an_experiment_says_only_what_differs_from_its_base() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let text = "base = \"adam-vs-sgd\"\nonly = [\"sgd\"]\nquestion = \"Does LayerNorm?\"\n\n[[arm]]\nname = \"sgd-layernorm\"\n\
                model.norm = \"layernorm\"\noptimizer = \"sgd\"\n";
    fs::write(at.join("mine.toml"), text).unwrap();
    let (answer, _) = ok(at, &["run", "mine.toml", "--smoke", "--quiet", "--out", "o"]);
    assert!(answer.contains("sgd-layernorm") && !answer.contains("adam-rotated"), "{answer}");
    let manifest = json(&at.join("o/manifest.json"));
    assert_ne!(manifest["arms"]["sgd"]["run"], manifest["arms"]["sgd-layernorm"]["run"]);
    // The directory holds the whole configuration.
    let config = fs::read_to_string(at.join("o/config.toml")).unwrap();
    assert!(!config.contains("base =") && config.contains("norm = \"layernorm\""), "{config}");
    refuses(at, &["run", "adam-vs-sgd", "--set", "arm.sgd.optimizer.kind=adamw"], 2, &["called sgd"]);
    // What nothing needs is listed.
    fs::create_dir_all(at.join("o/parts/old/3")).unwrap();
    assert!(ok(at, &["status", "o"]).0.contains("parts/old/3: not needed by the experiment"));
}

/// A process that began with a smaller plan ends last: the report is on the plan that is there by then.
#[test]
fn a_plan_that_grows_while_a_process_works_is_reported_as_a_whole() {
    let dir = lab(&[("seeds", "[0]"), ("train.steps", "300"), ("train.batch_size", "32"), ("probe.every", "100")]);
    let (at, out) = (dir.path(), dir.path().join("o"));
    let first = std::process::Command::new(env!("CARGO_BIN_EXE_basislab"))
        .args(["run", "lab.toml", "--out", "o", "--no-reuse", "--jobs", "1"])
        .current_dir(at)
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    while !out.join("parts").exists() {
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    let grown = ["run", "lab.toml", "--out", "o", "--no-reuse", "--jobs", "1", "--seeds", "0..2"];
    let second = basislab(at, &grown);
    let first = first.wait_with_output().unwrap();
    for output in [&first, &second] {
        assert!(matches!(output.status.code(), Some(0 | 6)), "{}", stderr(output));
    }
    let (answer, said) = ok(at, &grown);
    assert!(said.contains("already complete") && answer.contains("All 10 planned runs are complete"), "{said}{answer}");
    let evals = fs::read_to_string(out.join("evals.csv")).unwrap();
    assert!(evals.contains("\nsgd,1,300,"), "the joined tables hold every run");
}

/// A lab whose SGD takes its learning rate from these, chosen on the seed 1000.
fn choosing(rates: &str, changes: &[(&str, &str)]) -> TempDir {
    let dir = lab(&[&[("seeds", "[0, 1]")], changes].concat());
    let grid = format!(
        "\n[[grid]]\narms = [\"sgd\"]\n\"optimizer.lr\" = {rates}\nchoose = {{ by = \"loss\", on_seeds = [1000] }}\n"
    );
    let text = fs::read_to_string(dir.path().join("lab.toml")).unwrap();
    fs::write(dir.path().join("lab.toml"), text + &grid).unwrap();
    dir
}

/// The finished runs of a directory: `adam/0`.
fn parts(out: &Path) -> Vec<String> {
    let names = |path: &Path| -> Vec<String> {
        let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        entries.collect()
    };
    let of_arm =
        |arm: String| names(&out.join("parts").join(&arm)).into_iter().map(move |seed| format!("{arm}/{seed}"));
    let mut all: Vec<String> = names(&out.join("parts")).into_iter().flat_map(of_arm).collect();
    all.retain(|part| out.join("parts").join(part).join("done.json").is_file());
    all.sort();
    all
}

#[test]
fn one_arm_of_a_choice_trains_the_points_first() {
    let dir = choosing("[1e-6, 0.3]", &[]);
    let (at, out) = (dir.path(), |name: &str| dir.path().join(name));
    let points = ["sgd-lr-0.3/1000", "sgd-lr-1e-6/1000"];
    let (answer, _) = run(at, "o", &["--only", "sgd", "--no-reuse"]);
    assert_eq!(parts(&out("o")), [&points[..], &["sgd/0", "sgd/1"]].concat());
    assert!(answer.contains("sgd: optimizer.lr = 0.3 of"), "{answer}");
    // A seed is that of the arm; and it is the only one.
    run(at, "p", &["--only", "sgd/1", "--no-reuse"]);
    assert_eq!(parts(&out("p")), [&points[..], &["sgd/1"]].concat());
    run(at, "q", &["--only", "adam/1", "--no-reuse"]);
    assert_eq!(parts(&out("q")), ["adam/1"]);
    refuses(
        at,
        &["run", "lab.toml", "--out", "q", "--only", "adam/7"],
        2,
        &["found a seed without a run", "one of 0, 1\n"],
    );
    // Another process has a point: the rest of the points is trained, and the arm waits.
    let work = out("q").join("parts/sgd-lr-0.3/1000.work");
    fs::create_dir_all(&work).unwrap();
    let lock = basislab_store::Lock::take(&work).unwrap();
    lock.sign().unwrap();
    refuses(
        at,
        &["run", "lab.toml", "--out", "q", "--no-reuse", "--only", "sgd"],
        6,
        &["other processes have 1 of its runs"],
    );
    assert_eq!(parts(&out("q")), ["adam/1", points[1]]);
    drop(lock);
    run(at, "q", &["--only", "sgd", "--no-reuse"]);
    assert_eq!(parts(&out("q")), [&["adam/1"], &points[..], &["sgd/0", "sgd/1"]].concat());
}

#[test]
fn an_arm_for_which_nothing_can_be_chosen_is_an_error() {
    let changes = [("train.clip_norm", "0"), ("model.norm", "\"none\""), ("train.steps", "40")];
    let dir = choosing("[9e5, 1e6]", &changes);
    let args = ["run", "lab.toml", "--out", "o", "--no-reuse", "--only", "sgd"];
    for _ in 0..2 {
        refuses(
            dir.path(),
            &args,
            5,
            &["--only sgd: no values of the grid over sgd can be chosen", "sgd is not trained"],
        );
    }
    assert_eq!(parts(&dir.path().join("o")).len(), 2, "the points alone");
}

#[test]
fn a_directory_of_experiments_is_listed_or_named() {
    let dir = lab(&[("seeds", "[0]")]);
    let at = dir.path();
    run(at, "runs/b", &[]);
    run(at, "runs/a", &["--only", "sgd"]);
    fs::create_dir_all(at.join("runs/broken")).unwrap();
    fs::write(at.join("runs/broken/manifest.json"), "{").unwrap();
    let (table, _) = ok(at, &["status", "runs"]);
    let lines: Vec<&str> = table.lines().collect();
    assert!(lines.len() == 4 && lines[0].starts_with("directory    state"), "{table}");
    assert!(lines[1].starts_with("runs/a       1 complete, 4 not started of 5 runs"), "{table}");
    assert!(lines[2].starts_with("runs/b       5 complete of 5 runs"), "{table}");
    assert!(lines[3].starts_with("runs/broken  error: "), "{table}");
    for args in [&["report", "runs"][..], &["verify", "runs"], &["clean", "runs"], &["compare", "runs", "runs/b"]] {
        refuses(
            at,
            args,
            3,
            &["runs: found a directory of 3 experiments, expected one of them: runs/a, runs/b, runs/broken"],
        );
    }
    refuses(at, &["report", "."], 3, &["./config.toml", "expected a directory of `basislab run`"]);
}
