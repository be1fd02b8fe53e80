//! `basislab watch` on a terminal: it shows what the files hold, changes nothing, and leaves the terminal as it was.

use crate::cli::{basislab, refuses, stderr};
use crate::sharing::{lab, run};
use crate::support::terminal::OnTerminal;
use basislab_tables::{EvalRow, RUN_TABLES, read_table};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

fn program(dir: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_basislab"));
    command.args(args).current_dir(dir).env("TERM", "xterm").env("NO_COLOR", "1");
    command
}

fn watch(dir: &Path, args: &[&str]) -> OnTerminal {
    let often: &[&str] = if args.contains(&"--interval") { &[] } else { &["--interval", "0.1"] };
    OnTerminal::start(program(dir, &[&["watch"], often, args].concat()), (100, 24), true)
}

/// The cells of an arm on the screen, by their titles.
fn cells(screen: &str, arm: &str) -> Option<BTreeMap<String, String>> {
    let title = screen.lines().find(|line| line.starts_with("arm "))?;
    let line = screen.lines().find(|line| line.split(' ').next() == Some(arm))?;
    let without_curves = |line: &str| -> Vec<String> {
        let line = line.replace("loss curve", " ").replace("kurtosis curve", " ");
        line.split(|c: char| c == ' ' || ('▁'..='█').contains(&c))
            .filter(|cell| !cell.is_empty())
            .map(str::to_owned)
            .collect()
    };
    let (titles, cells) = (without_curves(title), without_curves(line));
    (titles.len() == cells.len()).then(|| titles.into_iter().zip(cells).collect())
}

/// Names, sizes and times of all files.
fn stamps(dir: &Path) -> BTreeMap<String, (u64, SystemTime)> {
    let mut all = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            let info = path.metadata().unwrap();
            all.insert(path.display().to_string(), (info.len(), info.modified().unwrap()));
            folders.extend(info.is_dir().then_some(path));
        }
    }
    all
}

/// Ends as a terminal program must: another screen left, the cursor shown.
fn left_as_it_was(written: &str) {
    let at = |sequence: &str| written.rfind(sequence).unwrap_or_else(|| panic!("no {sequence:?}"));
    assert!(at("\u{1b}[?1049l") > at("\u{1b}[?1049h"), "the other screen stays");
    assert!(at("\u{1b}[?25h") > at("\u{1b}[?25l"), "the cursor stays hidden");
}

#[test]
fn a_run_is_watched_while_it_trains_and_not_changed() {
    let dir = lab(&[("seeds", "[0, 1]"), ("train.steps", "4000"), ("probe.every", "20")]);
    let at = dir.path();
    let arms = ["run", "lab.toml", "--only", "adam", "--quiet", "--no-reuse", "--jobs", "1", "--out"];
    let mut training =
        program(at, &[&arms[..], &["o"]].concat()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    while !at.join("o/parts/adam").is_dir() {
        assert!(training.try_wait().unwrap().is_none(), "it has ended already");
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut watch = watch(at, &["o"]);
    let mut steps: Vec<u64> = Vec::new();
    let step = |cells: &BTreeMap<String, String>| cells["step"].parse::<u64>().ok();
    while training.try_wait().unwrap().is_none() {
        let cells = cells(&watch.seen.lock().unwrap().screen(), "adam");
        if let Some(step) =
            cells.filter(|cells| cells["run"] == "1" && cells["done"] == "0/2").and_then(|cells| step(&cells))
            && steps.last() != Some(&step)
        {
            steps.push(step);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(training.wait_with_output().unwrap().status.success());
    assert!(steps.len() >= 3 && steps.is_sorted() && steps.iter().all(|step| *step <= 4000), "{steps:?}");
    let screen = watch.wait_for(|screen| cells(screen, "adam").is_some_and(|cells| cells["done"] == "2/2"));
    // The other arms are not trained.
    assert!(screen.contains("No process is training."), "{screen}");
    let screen = watch.wait_for(|screen| cells(screen, "adam").is_some_and(|cells| cells["loss"] != "-"));
    let last = |seed| read_table::<EvalRow>(&at.join(format!("o/parts/adam/{seed}"))).unwrap().pop().unwrap();
    let loss = [0, 1].map(|seed| last(seed).loss.unwrap()).iter().sum::<f64>() / 2.0;
    assert_eq!(cells(&screen, "adam").unwrap()["loss"], format!("{loss:.3}"), "{screen}");
    assert_eq!(cells(&screen, "adam").unwrap()["step"], "4000");
    watch.press("q");
    let (status, written) = watch.end();
    assert_eq!(status.code(), Some(0));
    left_as_it_was(&written);
    // Without a watcher.
    let output = program(at, &[&arms[..], &["p"]].concat()).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    for table in RUN_TABLES {
        for file in [table.file.to_owned(), format!("parts/adam/0/{}", table.file)] {
            assert!(
                fs::read(at.join("o").join(&file)).unwrap() == fs::read(at.join("p").join(&file)).unwrap(),
                "{file}"
            );
        }
    }
}

#[test]
fn keys_and_signals_leave_and_nothing_is_written() {
    let dir = lab(&[("seeds", "[0]")]);
    let at = dir.path();
    run(at, "o", &[]);
    // As after a kill.
    fs::rename(at.join("o/parts/sgd/0"), at.join("o/parts/sgd/0.work")).unwrap();
    fs::write(at.join("o/parts/sgd/0.work/.lock"), "process 1 on elsewhere, since 2026-01-01T00:00:00Z\n").unwrap();
    let before = stamps(&at.join("o"));
    let all_read =
        |screen: &str| screen.contains("run") && screen.contains("4 complete, 1 ") && screen.contains("adam ");
    for keys in ["q", "\u{1b}", "\u{3}", "s\u{1b}[B\u{1b}[6~xq"] {
        let mut watch = watch(at, &["o"]);
        watch.wait_for(all_read);
        watch.press(keys);
        let (status, written) = watch.end();
        assert_eq!(status.code(), Some(0), "{keys:?}");
        left_as_it_was(&written);
    }
    // Programs that `nohup` started inherit that HUP is ignored, and so does this test then.
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap();
    let hup = (u64::from_str_radix(ignored.trim(), 16).unwrap() & 1 == 0).then_some(rustix::process::Signal::HUP);
    for signal in [rustix::process::Signal::TERM, rustix::process::Signal::INT].into_iter().chain(hup) {
        let watch = watch(at, &["o"]);
        watch.wait_for(all_read);
        rustix::process::kill_process(rustix::process::Pid::from_child(&watch.child), signal).unwrap();
        let (status, written) = watch.end();
        assert_eq!(status.code(), Some(0), "{signal:?}");
        left_as_it_was(&written);
    }
    assert_eq!(stamps(&at.join("o")), before);
}

#[test]
fn it_ends_when_the_runs_have_and_says_what_to_do_next() {
    let dir = lab(&[("seeds", "[0]")]);
    let at = dir.path();
    run(at, "o", &[]);
    let mut stays = watch(at, &["o"]);
    let screen = stays.wait_for(|screen| screen.contains("All runs have ended. Next: basislab report o"));
    assert!(screen.contains("5 runs: 5 complete"), "{screen}");
    std::thread::sleep(Duration::from_millis(300));
    assert!(stays.child.try_wait().unwrap().is_none(), "it does not stay");
    stays.press("q");
    stays.end();
    let (status, written) = watch(at, &["o", "--exit-when-done"]).end();
    assert_eq!(status.code(), Some(0));
    left_as_it_was(&written);
    assert!(
        written.ends_with("o: 5 runs: 5 complete\r\nAll runs have ended. Next: basislab report o\r\n"),
        "{written:?}"
    );
    // Of a plan, whose directory is not there yet.
    let plan = basislab(at, &["plan", "lab.toml"]);
    fs::write(at.join("plan.jsonl"), &plan.stdout).unwrap();
    let mut plan = watch(at, &["plan.jsonl"]);
    plan.wait_for(|screen| {
        screen.contains("5 runs: 5 not started") && screen.contains("basislab work plan.jsonl --claim")
    });
    assert!(basislab(at, &["work", "plan.jsonl", "--claim", "--quiet"]).status.success());
    plan.wait_for(|screen| screen.contains("All runs have ended. Next: basislab collect plan.jsonl"));
    plan.press("q");
    assert_eq!(plan.end().0.code(), Some(0));
}

#[test]
fn what_cannot_be_watched_is_refused_in_one_line() {
    let dir = lab(&[("seeds", "[0]")]);
    let at = dir.path();
    run(at, "o", &[]);
    fs::write(at.join("plan.jsonl"), basislab(at, &["plan", "lab.toml"]).stdout).unwrap();
    refuses(at, &["watch", "o"], 2, &["no terminal", "basislab status o"]);
    refuses(at, &["watch", "plan.jsonl"], 2, &["no terminal", "basislab plan status plan.jsonl --watch"]);
    refuses(at, &["watch", "missing"], 3, &["missing"]);
    refuses(at, &["watch", "lab.toml"], 3, &["lab.toml"]);
    refuses(at, &["watch", "o/figures"], 3, &["no manifest.json", "or a plan"]);
    refuses(at, &["watch", "o", "--interval", "0"], 2, &["--interval", "0.1 to 3600"]);
    // A terminal that cannot move its cursor.
    let dumb = OnTerminal::start(
        {
            let mut command = program(at, &["watch", "o"]);
            command.env("TERM", "dumb");
            command
        },
        (80, 24),
        true,
    );
    let (status, written) = dumb.end();
    assert_eq!((status.code(), written.contains('\u{1b}')), (Some(2), false), "{written}");
}

#[test]
fn ten_thousand_runs_are_watched_within_300_megabytes() {
    let seeds: Vec<u32> = (0..2500).collect();
    let dir = lab(&[("seeds", &format!("{seeds:?}"))]);
    let at = dir.path();
    for only in ["adam/0", "adam-rotated/0", "sgd/0", "adam-independent/0", "adam-identity/0"] {
        let output = basislab(at, &["run", "lab.toml", "--out", "o", "--only", only, "--quiet"]);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    let (mut runs, mut read) = (0, 0);
    // The fifth arm has one seed of its own.
    for arm in ["adam", "adam-rotated", "sgd", "adam-independent"].map(|arm| at.join("o/parts").join(arm)) {
        for seed in &seeds[1..] {
            let part = arm.join(seed.to_string());
            fs::create_dir(&part).unwrap();
            for file in ["done.json", "steps.csv", "evals.csv", "residual.csv", "timing.csv"] {
                read += fs::copy(arm.join("0").join(file), part.join(file)).unwrap();
            }
            runs += 1;
        }
    }
    let begun = Instant::now();
    let watch = watch(at, &["o", "--interval", "3600"]);
    let screen = watch.wait_for(|screen| screen.contains("All runs have ended."));
    let seconds = begun.elapsed().as_secs_f64();
    let status = fs::read_to_string(format!("/proc/{}/status", watch.child.id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let megabytes = peak.trim().strip_suffix(" kB").unwrap().parse::<f64>().unwrap() / 1000.0;
    assert!(screen.contains(&format!("{} runs: ", runs + 5)) && runs >= 9995, "{screen}");
    assert!(megabytes < 300.0, "{runs} runs, {:.0} MB of files, {seconds:.1} s: {megabytes:.0} MB", read as f64 / 1e6);
    rustix::process::kill_process(rustix::process::Pid::from_child(&watch.child), rustix::process::Signal::TERM)
        .unwrap();
    assert_eq!(watch.end().0.code(), Some(0));
}
