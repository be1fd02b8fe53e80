use super::Arms;
use crate::experiments::{Named, find};
use basislab_runs::{Job, RunOutcome, jobs};
use basislab_tables::{Ending, RunEnd};
use basislab_train::Probe;
use std::path::PathBuf;
use std::time::{Duration, Instant};

fn named() -> Named {
    let changes = crate::args::ChangeArgs { seeds: Some("0..2".to_owned()), ..Default::default() };
    find(&crate::args::ExperimentArgs { experiment: "adam-vs-sgd".to_owned(), changes }).unwrap()
}

fn job<'a>(jobs: &[Job<'a>], arm: &str, seed: u64) -> Job<'a> {
    *jobs.iter().find(|job| job.arm.name == arm && job.seed == seed).unwrap()
}

fn probe(step: u64, loss: f64) -> Probe {
    Probe { step, loss, floor: Some(3.0), sites: Vec::new(), layers: Vec::new() }
}

fn complete() -> RunOutcome {
    let end = RunEnd { state: Ending::Complete, step: 2000, tensor: None, tables: Default::default() };
    RunOutcome::Trained(end, 1.0)
}

#[test]
fn an_arm_is_the_mean_of_its_running_seeds() {
    let (named, now) = (named(), Instant::now());
    let experiment = &named.loaded.experiment;
    let jobs = jobs(experiment);
    let mut arms = Arms::default();
    arms.add(experiment, &jobs, &jobs);
    let later = now + Duration::from_secs(10);
    for (seed, step, loss) in [(0, 100, 4.0), (1, 300, 3.0)] {
        let job = job(&jobs, "adam", seed);
        arms.step(&job, 1, now);
        arms.step(&job, step + 1, later);
        arms.probe(&job, &probe(step, loss), later);
    }
    let lines = arms.lines((80, 20), later);
    assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:#?}");
    let adam: Vec<&str> = lines[1].split_whitespace().collect();
    // 16 * 64 tokens an update: 101 and 301 of them in 10 s. 2000 - 101 and 2000 - 301 to go at the mean of both paces, halved.
    assert_eq!(adam, ["adam", "0/2", "201/2000", "3.500", "0.500", "-", "-", "41k", "2.0m"]);
    // Of runs that have ended, the last probes.
    arms.end(&job(&jobs, "adam", 0), &complete());
    let adam = arms.lines((80, 20), later)[1].clone();
    assert!(adam.contains(" 1/2 ") && adam.contains(" 3.000 "), "{adam}");
    arms.end(&job(&jobs, "adam", 1), &complete());
    let adam = arms.lines((80, 20), later)[1].clone();
    assert!(adam.contains(" 2/2 ") && adam.contains(" 2000 ") && adam.contains(" 3.500 "), "{adam}");
}

#[test]
fn what_has_ended_is_counted_once() {
    let (named, now) = (named(), Instant::now());
    let experiment = &named.loaded.experiment;
    let jobs = jobs(experiment);
    let mut arms = Arms::default();
    // Without the arms that have nothing to do, and with what had ended before.
    let todo = [job(&jobs, "sgd", 1), job(&jobs, "adam", 0), job(&jobs, "adam", 1)];
    arms.add(experiment, &jobs, &todo);
    arms.add(experiment, &jobs, &todo);
    let done = |arms: &Arms| -> Vec<String> {
        let lines = arms.lines((80, 20), now);
        lines[1..].iter().map(|line| line.split_whitespace().take(2).collect::<Vec<_>>().join(" ")).collect()
    };
    assert_eq!(done(&arms), ["adam 0/2", "sgd 1/2"]);
    arms.end(&todo[0], &RunOutcome::Copied(PathBuf::new()));
    arms.end(&todo[1], &RunOutcome::Busy(String::new()));
    arms.end(&todo[2], &RunOutcome::Stopped(7));
    assert_eq!(done(&arms), ["adam 0/2", "sgd 2/2"]);
}

#[test]
fn a_terminal_that_is_too_small_shows_less() {
    let (named, now) = (named(), Instant::now());
    let experiment = &named.loaded.experiment;
    let jobs = jobs(experiment);
    let mut arms = Arms::default();
    arms.add(experiment, &jobs, &jobs);
    arms.step(&job(&jobs, "sgd", 0), 1, now);
    for width in 0..90 {
        for height in 1..8 {
            let lines = arms.lines((width, height), now);
            assert!(lines.iter().all(|line| line.chars().count() <= width), "{width}: {lines:#?}");
            assert!(lines.len() <= height.max(2), "{height}: {lines:#?}");
        }
    }
    let lines = arms.lines((40, 3), now);
    assert!(lines[1].starts_with("sgd") && lines[2] == "and 4 more arms", "{lines:#?}");
}
