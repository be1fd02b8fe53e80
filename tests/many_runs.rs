//! What commands cost that read very many runs, and what they say of runs of several machines.

use crate::cli::{basislab, stderr, stdout};
use crate::support::many_runs::{Shape, write};
#[cfg(target_os = "linux")]
use crate::support::peak_of;
use basislab_tables::{RunRecord, part_dir};
use serde_json::{Value, json};
use std::path::Path;
use tempfile::TempDir;

/// A directory `o` of so many runs.
fn written(shape: Shape, runs: usize) -> TempDir {
    let dir = TempDir::new().unwrap();
    write(&dir.path().join("o"), shape, runs);
    dir
}

fn answers(dir: &Path, args: &[&str]) -> String {
    let output = basislab(dir, args);
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

/// Megabytes that a command takes at its peak, and what it printed.
#[cfg(target_os = "linux")]
fn peak(dir: &Path, args: &[&str]) -> (f64, String) {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_basislab"));
    // To files: a pipe that nobody reads would fill up.
    let [out, err] = ["out", "err"].map(|name| std::fs::File::create(dir.join(name)).unwrap());
    let child = command.args(args).current_dir(dir).env("NO_COLOR", "1").stdout(out).stderr(err).spawn().unwrap();
    let (peak, output) = peak_of(child);
    let [out, err] = ["out", "err"].map(|name| std::fs::read_to_string(dir.join(name)).unwrap());
    assert_eq!(output.status.code(), Some(0), "{args:?}: {err}");
    (peak / 1e6, out)
}

#[cfg(target_os = "linux")]
#[test]
fn ten_thousand_runs_are_reported_within_500_megabytes() {
    for (shape, runs, most) in [(Shape::ManyArms, 10_000, 500.0), (Shape::ManySeeds, 2_000, 150.0)] {
        let dir = written(shape, runs);
        let (of_report, answer) = peak(dir.path(), &["report", "o"]);
        assert!(answer.contains(&format!("All {runs} planned runs are complete")), "{shape:?}: {answer}");
        assert!(dir.path().join("o/SHA256SUMS").is_file(), "{shape:?}");
        if shape == Shape::ManySeeds {
            assert!(answer.contains("seeds adam ended behind, so sgd is read at step 1"), "they are counted: {answer}");
            assert!(answer.lines().all(|line| line.len() < 500), "{answer}");
        }
        // It is the same answer once more, from the sealed tables.
        let (of_again, again) = peak(dir.path(), &["report", "o"]);
        assert!(again == answer, "{shape:?}: {again}");
        let (of_status, status) = peak(dir.path(), &["status", "o"]);
        assert!(status.contains(&format!("{runs} complete of {runs} runs")), "{shape:?}: {status}");
        // As the runs of a plan, in the directory that it names.
        let (of_plan, plan) = peak(dir.path(), &["plan", "o/config.toml", "--out", "."]);
        assert_eq!(plan.lines().count(), runs, "{shape:?}");
        std::fs::write(dir.path().join("plan.jsonl"), &plan).unwrap();
        let first: Value = serde_json::from_str(plan.lines().next().unwrap()).unwrap();
        std::fs::rename(dir.path().join("o"), dir.path().join(first["dir"].as_str().unwrap())).unwrap();
        let (of_plan_status, status) = peak(dir.path(), &["plan", "status", "plan.jsonl"]);
        assert!(status.contains("All runs have ended"), "{shape:?}: {status}");
        let (of_collect, collected) = peak(dir.path(), &["collect", "plan.jsonl"]);
        assert!(collected.contains(&format!("All {runs} planned runs are complete")), "{shape:?}: {collected}");
        let peaks = [of_report, of_again, of_status, of_plan, of_plan_status, of_collect];
        assert!(peaks.iter().all(|peak| (1.0..=most).contains(peak)), "{shape:?}: {peaks:?} MB");
    }
}

#[test]
fn complete_runs_are_listed_as_long_as_they_are_few() {
    let few = written(Shape::ManySeeds, 100);
    let text = answers(few.path(), &["status", "o"]);
    assert_eq!(text.lines().count(), 101, "{text}");
    let many = written(Shape::ManySeeds, 104);
    std::fs::remove_file(many.path().join("o/parts/sgd/3/done.json")).unwrap();
    std::fs::remove_dir_all(many.path().join("o/parts/adam/7")).unwrap();
    std::fs::create_dir(many.path().join("o/parts/adam/7.work")).unwrap();
    let text = answers(many.path(), &["status", "o"]);
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    assert!(lines[0].ends_with("102 complete, 1 interrupted, 1 not started of 104 runs"), "{text}");
    assert!(lines[1].ends_with("seed 3    not started"), "{text}");
    assert!(lines[2].ends_with("seed 7    interrupted, no checkpoint yet"), "{text}");
    assert_eq!(lines[3], "102 complete runs not listed, of more than 100 runs; --json lists all", "{text}");
    let json: Value = serde_json::from_str(&answers(many.path(), &["status", "o", "--json"])).unwrap();
    assert_eq!(json["runs"].as_array().unwrap().len(), 104);
}

#[test]
fn cpus_of_different_classes_are_named() {
    let dir = written(Shape::ManySeeds, 32);
    let on = |arm: &str, seed: u64, features: &[&[&str]]| {
        let name = basislab_config::RunName::new(arm).unwrap();
        let part = part_dir(&dir.path().join("o"), &name, seed);
        let mut record = RunRecord::read(&part).unwrap().unwrap();
        let build = record.builds[0].clone();
        let with = |features: &&[&str]| {
            let mut build = build.clone();
            build["machine"]["cpu_features"] = json!(features);
            build
        };
        record.builds = features.iter().map(with).collect();
        record.write(&part).unwrap();
    };
    let all = |features: &[&str]| {
        for arm in ["adam", "sgd", "adam-rotated", "adam-identity"] {
            (0..8).for_each(|seed| on(arm, seed, &[features]));
        }
    };
    let said = || {
        let json: Value = serde_json::from_str(&answers(dir.path(), &["report", "o", "--json"])).unwrap();
        let notes = json["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap().to_owned());
        let classes = notes.filter(|note| note.contains("CPUs of different classes")).collect::<Vec<_>>();
        let text = answers(dir.path(), &["report", "o"]);
        classes.iter().for_each(|note| assert!(text.contains(&format!("note: {note}")), "{text}"));
        assert_eq!(text.contains("different classes"), !classes.is_empty(), "{text}");
        classes
    };
    // Features that choose no instructions of the kernels make no class.
    all(&["avx2", "fma", "avx512f"]);
    on("adam", 0, &[&["avx2", "fma", "avx512f", "avx512_bf16"]]);
    assert_eq!(said(), [""; 0]);
    (0..4).for_each(|seed| on("sgd", seed, &[&["avx2", "fma"]]));
    on("adam", 1, &[&["avx2"]]);
    on("adam", 2, &[&["avx2", "fma"], &["avx2", "fma", "avx512f"]]);
    let expected = "runs were made on CPUs of different classes (avx512: 26 runs, avx2: 4, avx2 and then avx512: 1, scalar: 1), \
                    which round differently: arms are compared across them as across seeds, not bit for bit";
    assert_eq!(said(), [expected]);
    // One class again, though another one.
    all(&["avx2", "fma"]);
    assert_eq!(said(), [""; 0]);
}

/// Not a test: writes the directories that `scripts/many_runs.sh` measures.
#[test]
fn write_many_runs() {
    let Ok(dir) = std::env::var("BASISLAB_DIR") else { return };
    let of = |name: &str| std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set"));
    let shape = if of("BASISLAB_SHAPE") == "seeds" { Shape::ManySeeds } else { Shape::ManyArms };
    write(Path::new(&dir), shape, of("BASISLAB_RUNS").parse().unwrap());
}
