//! Plans: the same tables as one run, whoever trains which line, and however often workers are stopped.

use crate::cli::{basislab, refuses, stderr, stdout};
use crate::sharing::{json, lab, ok};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Arms whose learning rate is chosen from a grid, so that the plan has two stages.
const GRID: &str = "
[[grid]]
arms = [\"adam\", \"sgd\"]
\"optimizer.lr\" = [3e-3, 1e-2]
choose = { by = \"loss\", on_seeds = [1000, 1001] }
";

/// A folder with `lab.toml`, its finished directory `whole`, and `plan.jsonl` for directories in `runs`.
fn planned(changes: &[(&str, &str)], more: &str) -> (TempDir, PathBuf) {
    let dir = lab(changes);
    let file = dir.path().join("lab.toml");
    fs::write(&file, fs::read_to_string(&file).unwrap() + more).unwrap();
    let plan = plan(dir.path(), &[]);
    let lines = lines(&plan);
    let own = dir.path().join(lines[0]["dir"].as_str().unwrap());
    fs::write(dir.path().join("plan.jsonl"), plan).unwrap();
    (dir, own)
}

fn plan(at: &Path, more: &[&str]) -> String {
    ok(at, &[&["plan", "lab.toml"], more].concat()).0
}

fn lines(plan: &str) -> Vec<Value> {
    plan.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn code(at: &Path, args: &[&str]) -> (i32, String) {
    let output = basislab(at, args);
    (output.status.code().unwrap(), stderr(&output))
}

/// All that is decided and measured, but times.
const FILES: [&str; 7] =
    ["steps.csv", "evals.csv", "residual.csv", "dimensions.csv", "dimension_steps.csv", "summary.csv", "verdicts.csv"];

fn same(a: &Path, b: &Path) {
    for file in FILES {
        assert!(fs::read(a.join(file)).unwrap() == fs::read(b.join(file)).unwrap(), "{file}");
    }
}

#[test]
fn shares_of_a_plan_give_the_tables_of_one_run() {
    let (dir, own) = planned(&[("seeds", "[0, 1]")], GRID);
    let at = dir.path();
    ok(at, &["run", "lab.toml", "--out", "whole/lab", "--no-reuse"]);
    let text = fs::read_to_string(at.join("plan.jsonl")).unwrap();
    assert_eq!(plan(at, &[]), text, "the order is stable");
    let all = lines(&text);
    let arms = fs::read_dir(at.join("whole/lab/parts")).unwrap();
    assert_eq!(all.len(), arms.map(|arm| parts(&arm.unwrap().path())).sum::<usize>());
    let stage = |line: &Value| line["stage"].as_u64().unwrap();
    assert!(all.is_sorted_by_key(stage));
    assert_eq!(all.iter().filter(|line| stage(line) == 2).count(), 4, "two arms with two seeds");
    assert!(all.iter().all(|line| (stage(line) == 2) == line["identity"].is_null()));
    assert_eq!(all.iter().filter(|line| line["experiment_toml"].is_string()).count(), 1);
    // Each share alone; those of stage 2 wait for all of stage 1.
    let shard = |number: usize| code(at, &["work", "plan.jsonl", "--shard", &format!("{number}/3"), "--no-reuse"]);
    let (first, said) = shard(0);
    assert_eq!(first, 6, "{said}");
    assert!(said.contains("wait for runs of stage 1"), "{said}");
    refuses(at, &["collect", "plan.jsonl"], 6, &["have not ended, the first is lab"]);
    shard(1);
    assert_eq!(shard(2).0, 0);
    assert_eq!((shard(0).0, shard(1).0), (0, 0));
    let (answer, _) = ok(at, &["collect", "plan.jsonl"]);
    same(&own, &at.join("whole/lab"));
    assert!(answer.contains(&format!("All {} planned runs are complete", all.len())), "{answer}");
    for line in all.iter().filter(|line| stage(line) == 1) {
        let record = json(&part(&own, line).join("run.json"));
        assert_eq!(record["identity"], line["identity"]);
    }
    // Nothing is trained again.
    let (_, said) = ok(at, &["work", "plan.jsonl", "--claim"]);
    assert!(said.contains(&format!("{} complete", all.len())), "{said}");
}

fn parts(arm: &Path) -> usize {
    fs::read_dir(arm).unwrap().count()
}

fn part(dir: &Path, line: &Value) -> PathBuf {
    dir.join("parts").join(line["arm"].as_str().unwrap()).join(line["seed"].to_string())
}

#[test]
fn lines_are_trained_by_index_and_the_rest_is_claimed() {
    let (dir, own) = planned(&[("seeds", "[0]")], "");
    let at = dir.path();
    let all = lines(&fs::read_to_string(at.join("plan.jsonl")).unwrap());
    let ended = || all.iter().map(|line| part(&own, line).join("done.json").exists()).collect::<Vec<_>>();
    ok(at, &["work", "plan.jsonl", "--index", "1,3"]);
    assert_eq!(ended(), [false, true, false, true, false]);
    let (answer, _) = ok(at, &["collect", "plan.jsonl", "--partial"]);
    assert!(
        answer.contains("3 of 5 runs have not ended") && answer.contains("the report is on the others"),
        "{answer}"
    );
    ok(at, &["work", "plan.jsonl", "--index", "0..2"]);
    assert_eq!(ended(), [true, true, false, true, false]);
    let (_, said) = ok(at, &["work", "plan.jsonl", "--claim"]);
    assert!(said.contains("nothing is left to take"), "{said}");
    assert_eq!(ended(), [true; 5]);
    ok(at, &["run", "lab.toml", "--out", "whole/lab", "--no-reuse"]);
    let answers: Value = serde_json::from_str(&ok(at, &["collect", "plan.jsonl", "--json"]).0).unwrap();
    assert_eq!(answers[0]["runs_complete"], 5);
    same(&own, &at.join("whole/lab"));
}

/// Runs that take a few seconds.
#[cfg(unix)]
const LONG: &[(&str, &str)] =
    &[("seeds", "[0]"), ("train.steps", "6000"), ("probe.every", "6000"), ("model.d_model", "32")];

#[cfg(unix)]
#[test]
fn a_worker_that_is_stopped_resumes_to_the_same_bits() {
    use std::process::{Command, Stdio};
    let (dir, own) = planned(LONG, "");
    let at = dir.path();
    let worker = |more: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_basislab"));
        command.args(["work", "plan.jsonl", "--claim", "--jobs", "1"]).args(more).current_dir(at);
        command.env("BURN_DEVICE", "explicit-only").stderr(Stdio::piped()).spawn().unwrap()
    };
    for signal in ["USR1", "TERM"] {
        let child = worker(&[]);
        let begun =
            || fs::read_dir(own.join("parts")).is_ok_and(|mut arms| arms.any(|arm| has_work(&arm.unwrap().path())));
        while !begun() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        std::thread::sleep(std::time::Duration::from_millis(150));
        Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(75), "{said}");
        assert!(said.contains("stopped by a signal") && said.contains("basislab"), "{said}");
    }
    let output = worker(&["--time-limit", "0:00:01"]).wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(75), "{said}");
    assert!(said.contains("stopped by --time-limit"), "{said}");
    ok(at, &["work", "plan.jsonl", "--claim"]);
    ok(at, &["collect", "plan.jsonl"]);
    ok(at, &["run", "lab.toml", "--out", "whole/lab", "--no-reuse"]);
    same(&own, &at.join("whole/lab"));
}

#[cfg(unix)]
#[test]
fn sixteen_workers_train_every_run_once() {
    use std::process::{Command, Stdio};
    let (dir, own) = planned(&[("seeds", "[0, 1, 2, 3, 4, 5, 6, 7]")], "");
    let at = dir.path();
    let worker = |_| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_basislab"));
        command.args(["work", "plan.jsonl", "--claim", "--jobs", "1", "--threads", "1", "--no-reuse"]).current_dir(at);
        command.env("BURN_DEVICE", "explicit-only").stderr(Stdio::piped()).spawn().unwrap()
    };
    let workers: Vec<_> = (0..16).map(worker).collect();
    let mut trained = Vec::new();
    for worker in workers {
        let output = worker.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(0), "{said}");
        let ended = said.lines().filter(|line| line.starts_with("  ") && line.ends_with(" s"));
        trained.extend(ended.map(|line| line.split(':').next().unwrap().trim().to_owned()));
    }
    trained.sort();
    let all = lines(&fs::read_to_string(at.join("plan.jsonl")).unwrap());
    let mut expected: Vec<String> =
        all.iter().map(|line| format!("{} seed {}", line["arm"].as_str().unwrap(), line["seed"])).collect();
    expected.sort();
    assert_eq!(trained, expected);
    ok(at, &["collect", "plan.jsonl"]);
    ok(at, &["run", "lab.toml", "--out", "whole/lab", "--no-reuse"]);
    same(&own, &at.join("whole/lab"));
}

#[cfg(unix)]
fn has_work(arm: &Path) -> bool {
    let all = fs::read_dir(arm).into_iter().flatten().flatten();
    all.flat_map(|run| fs::read_dir(run.path()).into_iter().flatten().flatten())
        .any(|entry| entry.path().join("run.json").exists())
}

#[test]
fn copies_of_local_directories_are_joined_and_conflicts_are_refused() {
    let (dir, own) = planned(&[("seeds", "[0, 1]")], GRID);
    let at = dir.path();
    // Stage 2 of a worker needs the runs of stage 1 where it is.
    ok(at, &["work", "plan.jsonl", "--shard", "0/2", "--stage", "1", "--out", "one"]);
    ok(at, &["work", "plan.jsonl", "--shard", "1/2", "--stage", "1", "--out", "two"]);
    assert!(!own.exists());
    refuses(at, &["collect", "plan.jsonl", "--from", "noe"], 3, &["--from noe: found no directory of an experiment"]);
    refuses(at, &["collect", "plan.jsonl", "--from", "one"], 6, &["have not ended"]);
    refuses(at, &["collect", "plan.jsonl", "--from", "two"], 6, &["have not ended"]);
    ok(at, &["work", "plan.jsonl", "--claim", "--stage", "2"]);
    ok(at, &["collect", "plan.jsonl", "--from", "one", "--from", "two"]);
    ok(at, &["run", "lab.toml", "--out", "whole/lab", "--no-reuse"]);
    same(&own, &at.join("whole/lab"));
    // The same run with other tables, and a run of another identity.
    let all = lines(&fs::read_to_string(at.join("plan.jsonl")).unwrap());
    let there = part(&at.join("one").join(own.file_name().unwrap()), &all[0]);
    let other = part(&at.join("one").join(own.file_name().unwrap()), &all[2]);
    let done = fs::read_to_string(there.join("done.json")).unwrap();
    fs::copy(other.join("done.json"), there.join("done.json")).unwrap();
    refuses(at, &["collect", "plan.jsonl", "--from", "one"], 7, &["expected the same bits of one run"]);
    fs::write(there.join("done.json"), done).unwrap();
    let record = fs::read_to_string(there.join("run.json")).unwrap();
    fs::write(there.join("run.json"), record.replace("\"seed\": 1000", "\"seed\": 1001")).unwrap();
    refuses(at, &["collect", "plan.jsonl", "--from", "one"], 7, &["another identity than the one that is planned"]);
    fs::write(there.join("run.json"), record).unwrap();
    // A copy that lacks bytes is not joined.
    fs::remove_dir_all(part(&own, &all[0])).unwrap();
    let table = fs::read_to_string(there.join("steps.csv")).unwrap();
    fs::write(there.join("steps.csv"), &table[..table.len() / 2]).unwrap();
    refuses(at, &["collect", "plan.jsonl", "--from", "one"], 7, &["copy it again"]);
}

#[test]
fn a_plan_of_other_runs_than_these_is_refused() {
    let (dir, _) = planned(&[("seeds", "[0]")], "");
    let at = dir.path();
    let text = fs::read_to_string(at.join("plan.jsonl")).unwrap();
    let refused = |plan: String, code: i32, what: &str| {
        fs::write(at.join("edited.jsonl"), plan).unwrap();
        refuses(at, &["work", "edited.jsonl", "--claim"], code, &[what]);
    };
    let mut all: Vec<&str> = text.lines().collect();
    refused(text.replace("\"clip_norm\":1.0", "\"clip_norm\":2.0"), 3, "found another config of arm");
    refused(text.replace("\"seed\":0,\"stage\"", "\"seed\":5,\"stage\""), 3, "found seed 5");
    refused(text.replace("\"numerics\":", "\"numerics\":1"), 7, "of the numbers in the plan");
    refused(text.replace("\"stage\":1", "\"stage\":2"), 3, "found stage 2");
    refused(text.replace("\"backend\":\"flex\"", "\"backend\":\"abacus\""), 2, "found backend \"abacus\"");
    refused(format!("{text}{}\n", all[1]), 3, "the run of line 2 again");
    refused(text[..text.len() / 2].to_owned(), 3, "ends too early");
    all.remove(0);
    refused(all.join("\n"), 3, "keep that line");
    refused(String::new(), 3, "found no runs");
    // Another class of CPU than this one.
    let other =
        if fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| text.contains("avx512f")) { "avx2" } else { "avx512" };
    fs::write(at.join("pinned.jsonl"), plan(at, &["--require-cpu", other])).unwrap();
    refuses(at, &["work", "pinned.jsonl", "--claim"], 2, &[&format!("the plan requires {other}")]);
}

#[test]
fn plan_show_counts_what_exists_and_what_is_to_go() {
    let (dir, _) = planned(&[("seeds", "[0]")], "");
    let at = dir.path();
    let show = || -> Value { serde_json::from_str(&ok(at, &["plan", "show", "plan.jsonl", "--json"]).0).unwrap() };
    let before = show();
    assert_eq!((&before["runs"], &before["experiments"][0]["complete"]), (&5.into(), &0.into()));
    assert!(before["core_hours_left"].as_f64().unwrap() > 0.0);
    ok(at, &["work", "plan.jsonl", "--index", "0"]);
    assert_eq!(show()["experiments"][0]["complete"], 1);
    ok(at, &["run", "lab.toml", "--out", "runs/whole", "--no-reuse"]);
    assert_eq!(show()["experiments"][0]["to_be_copied"], 4);
    ok(at, &["work", "plan.jsonl", "--claim"]);
    let after = show();
    assert_eq!((&after["experiments"][0]["complete"], &after["core_hours_left"]), (&5.into(), &0.0.into()));
    let (text, _) = ok(at, &["plan", "show", "plan.jsonl"]);
    assert!(text.contains("5 runs of 5 arms on flex, 5 complete"), "{text}");
    assert!(stdout(&basislab(at, &["plan", "lab.toml", "--seeds", "0..3"])).lines().count() == 15);
}

#[test]
fn a_run_that_fails_says_why_and_is_not_tried_again() {
    let (dir, own) = planned(&[("seeds", "[0]")], "");
    let at = dir.path();
    ok(at, &["work", "plan.jsonl", "--index", "0..3"]);
    let all = lines(&fs::read_to_string(at.join("plan.jsonl")).unwrap());
    // A run that ended is begun again from checkpoints that are all damaged.
    let bad = part(&own, &all[1]);
    fs::remove_file(bad.join("done.json")).unwrap();
    let checkpoints = || fs::read_dir(bad.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path());
    checkpoints().for_each(|one| fs::write(one.join("weights.safetensors"), "zeros").unwrap());
    let (failed, said) = code(at, &["work", "plan.jsonl", "--claim"]);
    assert_eq!(failed, 7, "{said}");
    assert!(said.contains("1 run failed") && said.contains("weights.safetensors: damaged"), "{said}");
    let status = |more: &[&str]| ok(at, &[&["plan", "status", "plan.jsonl"], more].concat()).0;
    let shown = status(&[]);
    assert!(
        shown.contains("4 complete, 1 failed") && shown.contains("failed: ") && shown.contains("damaged"),
        "{shown}"
    );
    assert!(shown.contains("--retry-failed"), "{shown}");
    let json: Value = serde_json::from_str(&status(&["--json"])).unwrap();
    assert_eq!((&json["counts"]["failed"], &json["runs"][1]["state"]), (&1.into(), &"failed".into()));
    assert!(json["runs"][1]["reason"].as_str().unwrap().contains("damaged"));
    // The others are complete, and it is left alone until it is asked for.
    let (again, said) = code(at, &["work", "plan.jsonl", "--claim"]);
    assert_eq!(again, 5, "{said}");
    assert!(said.contains("--retry-failed tries it again"), "{said}");
    refuses(at, &["collect", "plan.jsonl"], 6, &["1 of 5 runs has not ended"]);
    fs::remove_dir_all(bad.join("checkpoints")).unwrap();
    ok(at, &["work", "plan.jsonl", "--claim", "--retry-failed"]);
    assert!(status(&[]).contains("All runs have ended:  basislab collect plan.jsonl"));
    // A run whose files cannot be read does not hide the others.
    fs::write(bad.join("done.json"), "{").unwrap();
    let shown = status(&[]);
    assert!(shown.contains("4 complete, 1 failed") && shown.contains("done.json"), "{shown}");
    let (bad, said) = code(at, &["work", "plan.jsonl", "--claim"]);
    assert_eq!(bad, 7, "{said}");
}

#[test]
fn watching_ends_when_no_worker_will_take_a_run() {
    let (dir, own) = planned(&[("seeds", "[0]")], "");
    let at = dir.path();
    ok(at, &["work", "plan.jsonl", "--index", "1..5"]);
    let work = own.join("parts/adam/0.work");
    fs::create_dir_all(&work).unwrap();
    let why = "{\"reason\": \"on purpose\", \"when\": \"2026-11-28T00:00:00Z\", \"host\": \"here\", \"process\": 1}";
    fs::write(work.join("failed.json"), why).unwrap();
    let (text, _) = ok(at, &["plan", "status", "plan.jsonl", "--watch"]);
    assert!(text.contains("4 complete, 1 failed") && text.contains("failed: on purpose (process 1 on here"), "{text}");
    ok(at, &["work", "plan.jsonl", "--claim", "--retry-failed"]);
    let (text, _) = ok(at, &["plan", "status", "plan.jsonl", "--watch"]);
    assert!(text.contains("All runs have ended"), "{text}");
}

/// Which of two experiments trains a run that both need is chance; what they say does not depend on it.
#[test]
fn claims_of_all_experiments_of_a_plan_are_registered() {
    let dir = lab(&[("seeds", "[0, 1]")]);
    let at = dir.path();
    let other = "base = \"lab.toml\"\nonly = [\"adam\", \"sgd\"]\nquestion = \"Once more?\"\n[verdict]\nalpha = 0.01\n";
    fs::write(at.join("other.toml"), other).unwrap();
    let text = ok(at, &["plan", "lab.toml", "other.toml"]).0;
    fs::write(at.join("plan.jsonl"), &text).unwrap();
    ok(at, &["work", "plan.jsonl", "--claim"]);
    let (answers, _) = ok(at, &["collect", "plan.jsonl"]);
    assert!(answers.contains("4 of 4 runs were copied from other directories"), "{answers}");
    let mut claims = 0;
    for line in lines(&text).iter().filter(|line| line["experiment_toml"].is_string()) {
        for (claim, mark) in crate::sharing::verdicts(&at.join(line["dir"].as_str().unwrap()), "registration") {
            assert_eq!(mark, "registered", "{claim}");
            claims += 1;
        }
    }
    assert!(claims > 2);
}
