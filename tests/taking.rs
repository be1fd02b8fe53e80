//! Many processes take the runs of one directory: each run is done once, whatever happens to the processes. A stub stands in
//! for training. `BASISLAB_TAKING=200` sets the rounds (see `scripts/soak.sh`).

#![allow(clippy::print_stdout, reason = "counts for the record, shown with --nocapture")]

use crate::cli::{basislab, refuses, stderr, stdout};
use crate::faults::count;
use crate::sharing::{json, lab, ok, run};
use basislab_config::RunName;
use basislab_runs::{HeldRun, Taken};
use basislab_stats::{Purpose, below, stream};
use basislab_tables::{Ending, RunEnd, part_dir, work_dir};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Names the directory whose runs [`a_process_of_these_tests`] takes.
const DIR: &str = "BASISLAB_TAKES_RUNS_OF";

/// How long the stub trains, in microseconds.
const TRAINS: &str = "BASISLAB_TRAINS_FOR";

/// 400 runs: 8 arms, 50 seeds.
fn runs() -> Vec<(RunName, u64)> {
    let arm = |number: u64| RunName::new(&format!("arm-{number}")).unwrap();
    (0..50).flat_map(|seed| (0..8).map(move |number| (arm(number), seed))).collect()
}

/// Not a test of its own: what the processes do that the other tests start. Takes runs until none is left.
#[test]
fn a_process_of_these_tests() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let (dir, trains) = (Path::new(&dir), Duration::from_micros(count(TRAINS, 0) as u64));
    let mut log = File::create_new(dir.join(format!("log-{}", std::process::id()))).unwrap();
    let (mut all_ended, runs) = (false, runs());
    while !all_ended {
        all_ended = true;
        for (arm, seed) in &runs {
            match HeldRun::take(dir, (arm, *seed), true, false).unwrap() {
                Taken::Free(held) => {
                    writeln!(log, "began {arm}/{seed}").unwrap();
                    let own = held.folder().unwrap();
                    std::thread::sleep(trains);
                    let end = RunEnd { state: Ending::Complete, step: 6, tensor: None, tables: Default::default() };
                    end.write(&own).unwrap();
                    held.publish(&own, &end).unwrap();
                    writeln!(log, "did {arm}/{seed}").unwrap();
                    held.end().unwrap();
                }
                Taken::Ended => {}
                Taken::Busy(_) => all_ended = false,
                Taken::Failed(failure) => panic!("{failure:?}"),
            }
        }
    }
}

fn start(dir: &Path, trains: u64) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "taking::a_process_of_these_tests", "--nocapture", "--test-threads=1"]);
    command.env(DIR, dir).env(TRAINS, trains.to_string()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// How often processes say that they `began` or `did` each run.
fn logged(dir: &Path, what: &str) -> BTreeMap<String, usize> {
    let logs = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    let text: String = logs.map(|path| fs::read_to_string(path).unwrap()).collect();
    let mut all: BTreeMap<String, usize> = runs().iter().map(|(arm, seed)| (format!("{arm}/{seed}"), 0)).collect();
    for run in text.lines().filter_map(|line| line.strip_prefix(what)) {
        *all.get_mut(run).unwrap() += 1;
    }
    all
}

/// A directory in memory where there is one: without a disk to wait for, processes meet more often.
fn fast_dir() -> TempDir {
    TempDir::new_in("/dev/shm").or_else(|_| TempDir::new()).unwrap()
}

#[test]
fn sixteen_processes_do_four_hundred_runs_once_each() {
    for round in 0..count("BASISLAB_TAKING", 20) {
        let dir = fast_dir();
        let processes: Vec<Child> = (0..16).map(|_| start(dir.path(), 0)).collect();
        for process in processes {
            let output = process.wait_with_output().unwrap();
            assert!(output.status.success(), "round {round}: {}{}", stdout(&output), stderr(&output));
        }
        for what in ["began ", "did "] {
            let mut counts = logged(dir.path(), what);
            counts.retain(|_, times| *times != 1);
            assert!(counts.is_empty(), "round {round}: processes {what}not once: {counts:?}");
        }
        for (arm, seed) in runs() {
            assert!(RunEnd::read(&part_dir(dir.path(), &arm, seed)).unwrap().is_some(), "round {round}: {arm}/{seed}");
            assert!(!work_dir(dir.path(), &arm, seed).exists(), "round {round}: {arm}/{seed} left its folder");
        }
    }
}

#[test]
fn runs_of_killed_processes_are_taken_by_others() {
    let mut rng = stream(1, Purpose::Simulation, 23);
    let mut draw = |n: u64| below(&mut rng, n);
    let (mut kills, mut in_a_run) = (0, 0);
    for round in 0..count("BASISLAB_TAKING", 20).div_ceil(2) {
        let dir = fast_dir();
        let mut processes: Vec<Child> = (0..6).map(|_| start(dir.path(), 3000)).collect();
        for _ in 0..40 {
            std::thread::sleep(Duration::from_micros(draw(8_000)));
            let which = draw(6) as usize;
            processes[which].kill().unwrap();
            let killed = std::mem::replace(&mut processes[which], start(dir.path(), 3000));
            let output = killed.wait_with_output().unwrap();
            let was_killed = output.status.signal() == Some(9);
            assert!(was_killed || output.status.success(), "round {round}: {}", stderr(&output));
            kills += usize::from(was_killed);
        }
        for process in processes {
            let output = process.wait_with_output().unwrap();
            assert!(output.status.success(), "round {round}: {}{}", stdout(&output), stderr(&output));
        }
        for (arm, seed) in runs() {
            assert!(RunEnd::read(&part_dir(dir.path(), &arm, seed)).unwrap().is_some(), "round {round}: {arm}/{seed}");
        }
        let of = |what: &str| logged(dir.path(), what).values().sum::<usize>();
        in_a_run += of("began ") - of("did ");
    }
    println!("{kills} processes were killed, {in_a_run} of them in a run");
    assert!(in_a_run > 0, "no process was killed while it had a run");
}

#[test]
fn a_failed_run_is_shown_with_its_reason_and_tried_again() {
    let dir = lab(&[("seeds", "[0]")]);
    let at = dir.path();
    // What another process began and left damaged.
    let left = at.join("o/parts/sgd/0.work/writer-x");
    run(at, "o", &["--only", "adam", "--no-reuse"]);
    fs::create_dir_all(&left).unwrap();
    fs::write(left.join("run.json"), "{").unwrap();
    let why = "o/parts/sgd/0.work/writer-x/run.json: cannot read: EOF while parsing an object at line 1 column 1";
    let train = ["run", "lab.toml", "--out", "o", "--no-reuse", "--only", "sgd"];
    refuses(at, &train, 3, &[why]);
    let failure = json(&at.join("o/parts/sgd/0.work/failed.json"));
    assert_eq!(failure["reason"], why);
    let status = ok(at, &["status", "o"]).0;
    assert!(status.contains(&format!("  sgd                  seed 0    failed: {why} (process ")), "{status}");
    assert!(status.starts_with("o: 1 complete, 1 failed, 3 not started of 5 runs"), "{status}");
    let as_json: serde_json::Value = serde_json::from_str(&ok(at, &["status", "o", "--json"]).0).unwrap();
    let states: Vec<&serde_json::Value> = as_json["runs"].as_array().unwrap().iter().collect();
    let of = |arm: &str| states.iter().find(|run| run["arm"] == arm).unwrap();
    assert_eq!(of("sgd")["state"], "failed");
    assert!(of("sgd")["reason"].as_str().unwrap().starts_with(why));
    assert_eq!((&of("adam")["state"], &of("adam")["reason"]), (&"complete".into(), &serde_json::Value::Null));
    // A run that is held is running, whatever it was.
    let lock = basislab_store::Lock::take(&at.join("o/parts/sgd/0.work")).unwrap();
    lock.sign().unwrap();
    assert!(ok(at, &["status", "o"]).0.contains("1 complete, 1 running, 3 not started"));
    drop(lock);
    // Once mended, the same command tries it again.
    fs::remove_dir_all(&left).unwrap();
    assert_eq!(basislab(at, &train).status.code(), Some(0));
    assert!(!at.join("o/parts/sgd/0.work").exists());
    assert!(ok(at, &["status", "o"]).0.starts_with("o: 2 complete, 3 not started"));
}
