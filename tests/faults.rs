//! Kills, signals, full disks, damage and rivals: the same command carries on to the same bits, or says why not.
//!
//! What needs strace or a file system of its own is ignored by a plain `cargo test`; `.ci/run` runs it. The counts can be
//! raised: `BASISLAB_KILLS=2000` (see `scripts/soak.sh`).

#![allow(clippy::print_stdout, reason = "counts for the record, shown with --nocapture")]

mod gpu;
mod lab;
mod strikes;

use crate::support::{EXPERIMENT, needed_megabytes, peak_of, small, values};
use basislab_config::RunName;
use basislab_runs::jobs;
use basislab_stats::{Purpose, below, stream};
use basislab_tables::part_dir;
use lab::{Lab, assert_tidy, compare, has_checkpoint, text, tree, undisturbed};
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub(crate) fn count(variable: &str, default: usize) -> usize {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

#[test]
fn kills_at_any_time_are_invisible() {
    let (lab, undisturbed) = undisturbed();
    let begun = Instant::now();
    assert_eq!(lab.run(&lab.out("timed"), &["--jobs", "1"]).status.code(), Some(0));
    let whole = begun.elapsed();
    let mut rng = stream(1, Purpose::Simulation, 11);
    let mut draw = |n: u64| below(&mut rng, n) as usize;
    let (mut kills, mut round) = (0, 0);
    while kills < count("BASISLAB_KILLS", 60) {
        round += 1;
        let out = lab.out(&format!("kill-{round}"));
        // Up to five kills in one directory, with any number of jobs.
        for _ in 0..=draw(5) {
            let mut child = lab.start(&out, &["--jobs", ["1", "2", "3"][draw(3)]]);
            std::thread::sleep(whole.mul_f64(draw(1000) as f64 / 1000.0));
            child.kill().unwrap();
            let output = child.wait_with_output().unwrap();
            kills += usize::from(output.status.signal() == Some(9));
            assert_tidy(&output, "kill");
        }
        lab.finish_and_compare(&out, undisturbed, &format!("round {round}"));
        fs::remove_dir_all(&out).unwrap();
    }
}

#[test]
fn signals_end_with_75_and_the_command_that_resumes() {
    let (lab, undisturbed) = undisturbed();
    let mut stopped = 0;
    for (number, signal) in ["INT", "TERM", "USR1", "HUP"].into_iter().cycle().take(12).enumerate() {
        let out = lab.out(&format!("signal-{number}"));
        let child = lab.start(&out, &[]);
        while !out.join("parts/adam/0.work").exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(7 * number as u64));
        let sent = Command::new("kill").args([&format!("-{signal}"), &child.id().to_string()]).status().unwrap();
        let output = child.wait_with_output().unwrap();
        assert_tidy(&output, signal);
        // A signal that comes after the last update finds nothing to stop.
        if output.status.code() != Some(0) {
            assert!(sent.success());
            assert_eq!(output.status.code(), Some(75), "{signal}: {}", text(&output));
            assert!(
                text(&output).contains("resume with: ") && text(&output).contains("--checkpoint-steps 3"),
                "{}",
                text(&output)
            );
        }
        stopped += usize::from(output.status.code() == Some(75));
        lab.finish_and_compare(&out, undisturbed, signal);
    }
    assert!(stopped >= 3, "only {stopped} of 12 signals came in time");
}

#[test]
fn a_second_interrupt_stops_at_once() {
    // One update of this takes long enough for two signals.
    let lab = Lab::with(&[("train.batch_size", "4096"), ("model.n_ctx", "64"), ("train.steps", "400")]);
    let out = lab.out("twice");
    let child = lab.start(&out, &["--jobs", "1"]);
    while !out.join("parts/adam/0.work").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    // Past the first probe.
    std::thread::sleep(Duration::from_millis(500));
    for _ in 0..2 {
        assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
        std::thread::sleep(Duration::from_millis(50));
    }
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", text(&output));
    assert_tidy(&output, "twice");
}

#[test]
fn a_finished_directory_is_not_touched() {
    let (lab, _) = undisturbed();
    let out = lab.out("finished");
    assert_eq!(lab.run(&out, &[]).status.code(), Some(0));
    let stamps = |out: &Path| -> BTreeMap<PathBuf, std::time::SystemTime> {
        let mut all = BTreeMap::new();
        let mut folders = vec![out.to_owned()];
        while let Some(folder) = folders.pop() {
            for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
                all.insert(path.clone(), fs::metadata(&path).unwrap().modified().unwrap());
                if path.is_dir() {
                    folders.push(path);
                }
            }
        }
        all
    };
    let before = stamps(&out);
    let again = lab.run(&out, &[]);
    assert_eq!(again.status.code(), Some(0));
    assert!(text(&again).contains("already complete"), "{}", text(&again));
    assert_eq!(stamps(&out), before);
}

#[test]
fn many_processes_share_one_directory() {
    let (lab, undisturbed) = undisturbed();
    let rounds = count("BASISLAB_RIVALS", 20);
    for round in 0..rounds {
        for rivals in [2, 16] {
            let out = lab.out(&format!("rivals-{round}-{rivals}"));
            let children: Vec<Child> = (0..rivals).map(|_| lab.start(&out, &["--jobs", "1"])).collect();
            let outputs: Vec<Output> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
            let with = |code| outputs.iter().filter(|output| output.status.code() == Some(code)).count();
            let all = outputs.iter().map(text).collect::<String>();
            assert!(with(0) >= 1 && with(0) + with(6) == rivals, "{all}");
            for output in &outputs {
                assert_tidy(output, "rival");
            }
            for output in outputs.iter().filter(|output| output.status.code() == Some(6)) {
                assert!(text(output).contains(", since "), "the other process is named: {}", text(output));
            }
            // Whoever found all runs done made the report.
            compare(&tree(&out), undisturbed, "rivals");
            fs::remove_dir_all(&out).unwrap();
        }
    }
}

/// Locks may fail to exclude (some network file systems): two processes then train the same run.
#[test]
fn two_processes_without_locks_give_the_same_tables() {
    let (lab, undisturbed) = undisturbed();
    for round in 0..count("BASISLAB_RIVALS", 10) {
        let out = lab.out(&format!("unlocked-{round}"));
        let children: Vec<Child> = (0..3).map(|_| lab.start(&out, &["--no-lock", "--jobs", "2"])).collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            assert_tidy(&output, "unlocked");
            assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        }
        compare(&tree(&out), undisturbed, "unlocked");
        fs::remove_dir_all(&out).unwrap();
    }
}

/// The plan divided by `--only` over processes, one after another: the last makes the same tables.
#[test]
fn a_plan_can_be_divided_into_parts() {
    let (lab, undisturbed) = undisturbed();
    let out = lab.out("divided");
    for (only, left) in [("sgd", 4), ("adam/0", 3), ("adam-identity,adam-independent", 1), ("adam-rotated", 0)] {
        let output = lab.run(&out, &["--only", only]);
        assert_eq!(output.status.code(), Some(0), "{only}: {}", text(&output));
        let verb = if left == 4 { "is" } else { "are" };
        let done = format!("{} of 5 runs of the whole experiment {verb} complete", 5 - left);
        assert!(text(&output).contains(&done), "{only}: {}", text(&output));
        // Nothing is said of the other arms.
        let others = ["adam-rotated equals", "sgd - adam"].iter().any(|other| text(&output).contains(other));
        assert!(!others, "{only}: {}", text(&output));
    }
    compare(&tree(&out), undisturbed, "divided");
    let unknown = lab.run(&out, &["--only", "adma"]);
    assert_eq!(unknown.status.code(), Some(2), "{}", text(&unknown));
    assert!(text(&unknown).contains("found arm \"adma\", expected one of adam"), "{}", text(&unknown));
}

#[test]
fn the_lock_of_a_dead_process_is_free() {
    let (lab, undisturbed) = undisturbed();
    let out = lab.out("dead");
    let mut child = lab.start(&out, &[]);
    while !out.join("parts/adam/0.work").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    lab.finish_and_compare(&out, undisturbed, "dead owner");
}

#[test]
fn damage_falls_back_and_says_so() {
    let (lab, undisturbed) = undisturbed();
    let out = lab.out("damaged");
    assert_eq!(lab.run(&out, &["--jobs", "1"]).status.code(), Some(0));
    let part = part_dir(&out, &RunName::new("adam").unwrap(), 0);
    let steps = |part: &Path| -> Vec<PathBuf> {
        let mut all: Vec<PathBuf> =
            fs::read_dir(part.join("checkpoints")).unwrap().map(|entry| entry.unwrap().path()).collect();
        all.sort();
        all
    };
    let [older, newer] = &steps(&part)[..] else { panic!("two checkpoints are kept") };
    // As if the run had been killed before its end.
    fs::remove_file(part.join("done.json")).unwrap();
    fs::copy(older.join("optimizer.safetensors"), newer.join("optimizer.safetensors")).unwrap();
    let output = lab.run(&out, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let said = text(&output);
    assert!(said.contains("optimizer.safetensors: damaged") && said.contains("resuming from step 21"), "{said}");
    compare(&tree(&out), undisturbed, "fall-back");

    // All checkpoints damaged: nothing is guessed.
    fs::remove_file(part.join("done.json")).unwrap();
    for checkpoint in steps(&part) {
        fs::write(checkpoint.join("weights.safetensors"), "zeros").unwrap();
    }
    let output = lab.run(&out, &[]);
    assert_eq!(output.status.code(), Some(7), "{}", text(&output));
    assert!(
        text(&output).contains("weights.safetensors: damaged") && text(&output).contains("delete"),
        "{}",
        text(&output)
    );
    fs::remove_dir_all(part.join("checkpoints")).unwrap();
    lab.finish_and_compare(&out, undisturbed, "afresh");

    // A torn table behind a good checkpoint.
    fs::remove_file(part.join("done.json")).unwrap();
    let table = part.join("residual.csv");
    let bytes = fs::read(&table).unwrap();
    fs::write(&table, &bytes[..bytes.len() / 3]).unwrap();
    let output = lab.run(&out, &[]);
    assert_eq!(output.status.code(), Some(7), "weights are not thrown away: {}", text(&output));
    assert!(text(&output).contains("tables are not what they were"), "{}", text(&output));
    fs::remove_dir_all(&part).unwrap();
    lab.finish_and_compare(&out, undisturbed, "torn table");
}

#[test]
fn the_clock_does_not_choose_the_checkpoint() {
    let (lab, undisturbed) = undisturbed();
    let out = lab.out("clock");
    assert_eq!(lab.run(&out, &[]).status.code(), Some(0));
    let part = part_dir(&out, &RunName::new("sgd").unwrap(), 0);
    fs::remove_file(part.join("done.json")).unwrap();
    let newest = part.join("checkpoints/0000000024");
    let touched =
        Command::new("touch").args(["-d", "1970-01-02"]).arg(&newest).arg(newest.join("manifest.json")).status();
    assert!(touched.unwrap().success());
    let output = lab.run(&out, &[]);
    assert!(text(&output).contains("resuming from step 24"), "{}", text(&output));
    compare(&tree(&out), undisturbed, "clock");
}

#[test]
fn links_are_not_written_through() {
    let (lab, _) = undisturbed();
    let victim = lab.out("victim");
    fs::create_dir(&victim).unwrap();
    std::os::unix::fs::symlink(&victim, lab.out("link")).unwrap();
    fs::create_dir(lab.out("inside")).unwrap();
    std::os::unix::fs::symlink(&victim, lab.out("inside").join("parts")).unwrap();
    fs::write(lab.out("thesis"), "do not touch").unwrap();
    fs::create_dir(lab.out("locked")).unwrap();
    std::os::unix::fs::symlink(lab.out("thesis"), lab.out("locked").join(".lock")).unwrap();
    assert_eq!(lab.run(&lab.out("locked"), &[]).status.code(), Some(4));
    assert_eq!(fs::read(lab.out("thesis")).unwrap(), b"do not touch");
    for name in ["link", "inside"] {
        let output = lab.run(&lab.out(name), &[]);
        assert_eq!(output.status.code(), Some(7), "{name}: {}", text(&output));
    }
    assert_eq!(fs::read_dir(&victim).unwrap().count(), 0);
}

#[test]
fn a_mixture_of_builds_is_reported() {
    let (lab, _) = undisturbed();
    let out = lab.out("build");
    assert_eq!(lab.run(&out, &[]).status.code(), Some(0));
    // As if another build had begun the run.
    let part = part_dir(&out, &RunName::new("adam").unwrap(), 0);
    fs::remove_file(part.join("done.json")).unwrap();
    fs::remove_file(out.join("SHA256SUMS")).unwrap();
    let mut record: serde_json::Value = serde_json::from_slice(&fs::read(part.join("run.json")).unwrap()).unwrap();
    record["builds"][0]["rustc"] = "rustc 1.0.0".into();
    fs::write(part.join("run.json"), record.to_string()).unwrap();
    let output = lab.run(&out, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("2 different builds"), "{}", text(&output));
    let record: serde_json::Value = serde_json::from_slice(&fs::read(part.join("run.json")).unwrap()).unwrap();
    assert_eq!(record["builds"].as_array().unwrap().len(), 2);
    let manifest: serde_json::Value = serde_json::from_slice(&fs::read(out.join("manifest.json")).unwrap()).unwrap();
    assert_eq!(manifest["continued_by"][0]["rustc"], "rustc 1.0.0");
    json_newer(&lab.dir.path().join("newer"), manifest);
}

/// A directory of a later format is not guessed at.
fn json_newer(out: &Path, mut json: serde_json::Value) {
    fs::create_dir(out).unwrap();
    json["format"] = 3.into();
    json["basislab"]["version"] = "9.9.9".into();
    fs::write(out.join("manifest.json"), json.to_string()).unwrap();
    fs::write(
        out.join("config.toml"),
        small(&[("seeds", "[0]"), ("train.steps", "24"), ("probe.every", "8")]).to_toml(),
    )
    .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_basislab")).arg("report").arg(out).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", text(&output));
    assert!(text(&output).contains("written by basislab \"9.9.9\""), "{}", text(&output));
}

#[test]
fn status_and_verify_say_what_is_there() {
    let (lab, _) = undisturbed();
    let out = lab.out("status");
    let child = lab.start(&out, &["--jobs", "1"]);
    while !has_checkpoint(&out, "adam-rotated", 3) && !out.join("parts/adam-rotated/0").exists() {
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(75));
    let program = |args: &[&str]| Command::new(env!("CARGO_BIN_EXE_basislab")).args(args).output().unwrap();
    let place = out.display().to_string();
    let said = text(&program(&["status", &place]));
    for part in [
        "adam                 seed 0    complete",
        "interrupted, checkpoint of step",
        "not started",
        "Resume:  basislab run",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let json: serde_json::Value = serde_json::from_slice(&program(&["status", &place, "--json"]).stdout).unwrap();
    assert_eq!(json["runs"][0]["state"], "complete");
    assert_eq!(lab.run(&out, &[]).status.code(), Some(0));
    let parent = lab.dir.path().display().to_string();
    assert!(text(&program(&["status", &parent])).contains("5 complete of 5 runs"));

    let verified = program(&["verify", &place, "--steps", "5"]);
    assert_eq!(verified.status.code(), Some(0), "{}", text(&verified));
    assert!(text(&verified).contains("adam-rotated seed 0: the same bits in "), "{}", text(&verified));
    // Another number in a place that nobody would notice.
    let table = part_dir(&out, &RunName::new("sgd").unwrap(), 0).join("steps.csv");
    let rows = fs::read_to_string(&table).unwrap();
    let line = rows.lines().nth(2).unwrap();
    let edited = rows.replace(line, &line.replacen(",2,", ",2,9", 1));
    fs::write(&table, edited).unwrap();
    let verified = program(&["verify", &place, "--steps", "5"]);
    assert_eq!(verified.status.code(), Some(7), "{}", text(&verified));
    assert!(text(&verified).contains("steps.csv: changed since its run ended"), "{}", text(&verified));
    // A row that is gone.
    fs::write(&table, rows.replace(&format!("{line}\n"), "")).unwrap();
    assert_eq!(program(&["verify", &place, "--steps", "5"]).status.code(), Some(7));
    let last = rows.lines().nth(24).unwrap();
    fs::write(&table, rows.replace(&format!("{last}\n"), "")).unwrap();
    assert_eq!(program(&["verify", &place, "--steps", "24"]).status.code(), Some(7), "the last row is missed too");
    let report = program(&["report", &place]);
    assert_eq!(report.status.code(), Some(7), "{}", text(&report));
    assert!(text(&report).contains("changed since its run ended"), "{}", text(&report));
}

#[test]
fn weights_can_be_read_by_the_documented_names() {
    let (lab, _) = undisturbed();
    let experiment = small(&[("seeds", "[0]"), ("train.steps", "24"), ("probe.every", "8")]);
    let job = jobs(&experiment)[0];
    let run = &job.arm.run;
    let mut trainee = basislab_train::Trainee::new(run, 0, 32, &crate::support::flex());
    let checkpoint =
        part_dir(&lab.out("undisturbed"), &RunName::new("adam").unwrap(), 0).join("checkpoints/0000000024");
    let read = |name: &str| fs::read(checkpoint.join(name)).unwrap();
    let bytes = read("weights.safetensors");
    let file = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let files = ["weights.safetensors", "optimizer.safetensors"].map(|name| (name.to_owned(), read(name)));
    trainee.restore(run, 0, &basislab_train::State { step: 24, files: files.into() }).unwrap();
    for (parameter, value) in trainee.model.parameters().iter().zip(trainee.model.values()) {
        let path = &parameter.path;
        let view = file.tensor(path).unwrap();
        assert_eq!((view.dtype(), view.shape()), (safetensors::Dtype::F32, &parameter.shape[..]), "{path}");
        let numbers: Vec<f64> =
            view.data().as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect();
        assert_eq!(numbers, values(&value), "{path}");
    }
}

#[test]
fn what_does_not_fit_is_refused_and_the_estimate_is_within_two() {
    let dir = TempDir::new().unwrap();
    let models: [&[&str]; 5] = [
        &["model.d_model=64"],
        &["model.d_model=128", "model.d_mlp=512", "model.n_ctx=128"],
        &["model.d_model=160", "model.n_layers=4", "model.n_heads=5"],
        &["corpus.d_vocab=8192", "train.batch_size=32"],
        &["model.n_ctx=512", "model.n_layers=1"],
    ];
    for (number, model) in models.into_iter().enumerate() {
        let command = |limit: &str| {
            let mut command = Command::new("sh");
            let program = env!("CARGO_BIN_EXE_basislab");
            let start = format!("{limit}exec {program} run {EXPERIMENT} --seeds 0..1 --jobs 2 --out o{number} \"$@\"");
            command.args(["-c", &start, "sh", "--set", "train.steps=4", "--set", "train.warmup_steps=1"]);
            command.args(model.iter().flat_map(|set| ["--set", set])).current_dir(dir.path());
            command.stdout(Stdio::piped()).stderr(Stdio::piped());
            command
        };
        let refused = command("ulimit -v 200000; ").output().unwrap();
        assert_eq!(refused.status.code(), Some(8), "{model:?}: {}", text(&refused));
        assert!(!dir.path().join(format!("o{number}")).exists(), "nothing is begun");
        let said = text(&refused);
        let estimate = needed_megabytes(&said) * 1e6;
        let (peak, output) = peak_of(command("").spawn().unwrap());
        assert_eq!(output.status.code(), Some(0), "{model:?}: {}", text(&output));
        assert!(estimate < 2.0 * peak && peak < 2.0 * estimate, "{model:?}: estimate {estimate:e}, peak {peak:e}");
    }
    let output = Command::new(env!("CARGO_BIN_EXE_basislab"))
        .args(["run", "adam-vs-sgd", "--set", "model.d_model=65536", "--out", "huge"])
        .current_dir(dir.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(8), "{}", text(&output));
    assert!(text(&output).contains("GB of memory") && !dir.path().join("huge").exists(), "{}", text(&output));
}
