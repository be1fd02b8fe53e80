use super::run::{Run, State};
use super::screen::{Curves, Next, View, draw};
use super::state::{ArmRuns, Watched};
use crate::experiments::find;
use crate::live::Reading;
use basislab_config::{Basis, Experiment, RunName, Tokens};
use basislab_runs::finished;
use basislab_store::host;
use basislab_tables::{
    Ending, EvalRow, Failure, ResidualRow, Row, RunEnd, Shard, Split, Status, StepRow, TimingRow, part_dir, work_dir,
    write_timing,
};
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};
use tempfile::TempDir;

fn experiment(seeds: &str) -> Experiment {
    let changes = crate::args::ChangeArgs { seeds: Some(seeds.to_owned()), ..Default::default() };
    find(&crate::args::ExperimentArgs { experiment: "adam-vs-sgd".to_owned(), changes }).unwrap().loaded.experiment
}

/// One round, and all that is unread.
fn look(watched: &mut Watched) {
    look_at(watched, SystemTime::now(), &|_| None);
}

fn look_at(watched: &mut Watched, now: SystemTime, reload: &dyn Fn(&Path) -> Option<Experiment>) {
    let soon = || Instant::now() + Duration::from_secs(60);
    assert!(watched.look(soon(), now, reload));
    watched.read_ended(soon());
    assert_eq!(watched.totals().unread, 0);
}

fn arm<'w>(watched: &'w Watched, name: &str) -> &'w ArmRuns {
    watched.arms.iter().find(|arm| arm.label == name).unwrap()
}

fn run<'w>(watched: &'w Watched, name: &str, seed: u64) -> &'w Run {
    arm(watched, name).runs.iter().find(|run| run.seed == seed).unwrap()
}

/// A run that is being written.
struct Written {
    arm: RunName,
    seed: u64,
    shard: Shard,
    folder: PathBuf,
}

impl Written {
    fn new(dir: &Path, name: &str, seed: u64, writer: &str) -> Self {
        let arm = RunName::try_from(name.to_owned()).unwrap();
        let folder = work_dir(dir, &arm, seed).join(writer);
        let shard = Shard::create(&folder).unwrap();
        fs::write(folder.join("run.json"), "").unwrap();
        Self { arm, seed, shard, folder }
    }

    /// An update and a probe, with the kurtosis in the standard basis, in two random ones, and others that do not count.
    fn probe(&mut self, step: u64, loss: f64, kurtosis: f64) {
        let (arm, seed, site) = (&self.arm, self.seed, "blocks.1.resid_post");
        let (train_loss, status) = (Some(9.0), Status::Ok);
        let step_row =
            StepRow { arm: arm.clone(), seed, step, tokens: step, lr: 0.1, train_loss, grad_norm: None, status };
        self.shard.push(Row::Step(step_row)).unwrap();
        let split = Split::HeldOut;
        let (loss, loss_above_floor) = (Some(loss), Some(loss - 3.0));
        self.shard.push(Row::Eval(EvalRow { arm: arm.clone(), seed, step, split, loss, loss_above_floor })).unwrap();
        for (site, tokens, basis, metric, value) in [
            ("embed", Tokens::Rest, Basis::Standard, "token_kurtosis", 70.0),
            (site, Tokens::All, Basis::Standard, "token_kurtosis", 71.0),
            (site, Tokens::Rest, Basis::Standard, "token_kurtosis", kurtosis),
            (site, Tokens::Rest, Basis::Optimizer, "token_kurtosis", 72.0),
            (site, Tokens::Rest, Basis::Random(0), "token_kurtosis", 2.0),
            (site, Tokens::Rest, Basis::Random(1), "token_kurtosis", 3.0),
            (site, Tokens::Rest, Basis::Standard, "dim_rms_kurtosis", 73.0),
        ] {
            let row = ResidualRow {
                arm: arm.clone(),
                seed,
                step,
                site: site.parse().unwrap(),
                layer: Some(1),
                tokens,
                tokens_used: 8,
                basis,
                metric: metric.to_owned(),
                value: Some(value),
            };
            self.shard.push(Row::Residual(row)).unwrap();
        }
        self.shard.commit().unwrap();
    }

    fn sign(&self, process: u32, on: &str) {
        let record = format!("process {process} on {on}, since 2026-01-01T00:00:00Z\n");
        fs::write(self.folder.parent().unwrap().join(".lock"), record).unwrap();
    }

    fn timing(&self, seconds: f64, steps: u64) {
        let tokens_per_second = (steps * 16 * 64) as f64 / seconds;
        let text = || "cpu".to_owned();
        let (arm, seed, train_seconds, probe_seconds) = (self.arm.clone(), self.seed, seconds, 0.0);
        let (started, backend, device, driver) = (text(), text(), text(), text());
        let row = TimingRow {
            arm,
            seed,
            seconds,
            train_seconds,
            probe_seconds,
            tokens_per_second,
            started,
            backend,
            device,
            driver,
        };
        write_timing(&self.folder, &row).unwrap();
    }

    /// As a process publishes it.
    fn end(mut self, dir: &Path, state: Ending, step: u64) {
        let tables = self.shard.sync().unwrap();
        RunEnd { state, step, tensor: None, tables }.write(&self.folder).unwrap();
        let part = part_dir(dir, &self.arm, self.seed);
        fs::rename(&self.folder, &part).unwrap();
        fs::remove_dir_all(self.folder.parent().unwrap()).unwrap();
    }
}

#[test]
fn a_run_is_followed_from_its_first_row_to_its_end() {
    let (dir, experiment) = (TempDir::new().unwrap(), experiment("0..2"));
    let dir = dir.path();
    let mut watched = Watched::of_directories("o".to_owned(), &[(dir.to_owned(), experiment)]);
    look(&mut watched);
    assert_eq!(watched.totals().in_words(), "9 runs: 9 not started");
    assert_eq!(run(&watched, "adam", 0).state, State::NotStarted);

    let mut written = Written::new(dir, "adam", 0, "writer-a");
    written.sign(std::process::id(), &host());
    look(&mut watched);
    let adam = run(&watched, "adam", 0);
    assert_eq!((adam.state, adam.step, adam.reading), (State::Running, 0, Reading::default()));
    written.probe(1, 5.0, 4.0);
    written.probe(200, 4.0, 6.5);
    look(&mut watched);
    let adam = run(&watched, "adam", 0);
    let reading =
        |loss, value| Reading { loss: Some(loss), above_floor: Some(loss - 3.0), value: Some(value), null: Some(2.5) };
    assert_eq!((adam.state, adam.step, adam.reading), (State::Running, 200, reading(4.0, 6.5)));
    // The last line of each file is not whole.
    for (table, text) in
        [("steps.csv", "adam,0,40"), ("evals.csv", "adam,0,400,held-out,3.1"), ("residual.csv", "adam,0,400,b")]
    {
        fs::File::options().append(true).open(written.folder.join(table)).unwrap().write_all(text.as_bytes()).unwrap();
    }
    look(&mut watched);
    assert_eq!((run(&watched, "adam", 0).step, run(&watched, "adam", 0).reading), (200, reading(4.0, 6.5)));
    // 50 s for 200 updates; 1800 of this run to go and 2000 of the other.
    written.timing(50.0, 200);
    look(&mut watched);
    let summary = arm(&watched, "adam").summary();
    assert_eq!((summary.running, summary.ended, summary.step), (1, 0, Some(200.0)));
    assert_eq!(summary.seconds_to_go.map(f64::round), Some(950.0));
    assert_eq!(summary.tokens_per_second.map(f64::round), Some(4096.0));

    // It is killed and resumed from its checkpoint: another folder, whose files are shorter.
    drop(written);
    let mut written = Written::new(dir, "adam", 0, "writer-b");
    written.probe(1, 5.0, 4.0);
    fs::remove_dir_all(written.folder.with_file_name("writer-a")).unwrap();
    look(&mut watched);
    assert_eq!((run(&watched, "adam", 0).step, run(&watched, "adam", 0).reading), (1, reading(5.0, 4.0)));
    written.probe(2000, 3.5, 7.5);
    written.end(dir, Ending::Complete, 2000);
    look(&mut watched);
    let adam = run(&watched, "adam", 0);
    assert_eq!((adam.state, adam.step, adam.reading), (State::Complete, 2000, reading(3.5, 7.5)));
    assert_eq!(arm(&watched, "adam").summary().reading, reading(3.5, 7.5));
    // Removed, as by `clean`.
    fs::remove_dir_all(dir.join("parts/adam")).unwrap();
    look(&mut watched);
    assert_eq!((run(&watched, "adam", 0).state, run(&watched, "adam", 0).reading.loss), (State::NotStarted, None));
}

#[test]
fn states_are_read_without_a_lock() {
    let (dir, experiment) = (TempDir::new().unwrap(), experiment("0..2"));
    let dir = dir.path();
    let of = |name, seed| Written::new(dir, name, seed, "writer-a");
    of("adam", 0).sign(std::process::id(), &host());
    // No process has that number.
    of("adam", 1).sign(u32::try_from(i32::MAX).unwrap(), &host());
    of("sgd", 0).sign(1, "another-computer");
    // Without locks.
    let _ = of("sgd", 1);
    let failed = of("adam-short", 0);
    failed.sign(std::process::id(), &host());
    let failure = Failure { reason: "no room".to_owned(), when: String::new(), host: String::new(), process: 1 };
    failure.write(failed.folder.parent().unwrap()).unwrap();
    of("adam-short", 1).end(dir, Ending::Diverged, 7);
    let mut watched = Watched::of_directories("o".to_owned(), &[(dir.to_owned(), experiment.clone())]);
    let states = |watched: &Watched| {
        let of = |(arm, seed)| run(watched, arm, seed).state;
        [("adam", 0), ("adam", 1), ("sgd", 0), ("sgd", 1), ("adam-short", 0), ("adam-short", 1)].map(of)
    };
    let locks = || fs::metadata(dir.join("parts/adam/0.work/.lock")).unwrap().modified().unwrap();
    let before = locks();
    look(&mut watched);
    use State::{Diverged, Failed, Interrupted, Running};
    assert_eq!(states(&watched), [Running, Interrupted, Running, Running, Failed, Diverged]);
    // What other computers train is only known by its files.
    look_at(&mut watched, SystemTime::now() + Duration::from_secs(3600), &|_| None);
    assert_eq!(states(&watched), [Running, Interrupted, Interrupted, Interrupted, Failed, Diverged]);
    let totals = watched.totals();
    assert_eq!(totals.in_words(), "9 runs: 1 diverged, 1 running, 1 failed, 3 interrupted, 3 not started");
    assert_eq!(totals.failure.as_deref(), Some("adam-short seed 0 failed: no room"));
    assert!(!totals.is_over());
    assert_eq!(locks(), before);
    let jobs = basislab_runs::jobs(&experiment);
    assert!(jobs.iter().filter(|job| finished(dir, job).unwrap().is_some()).count() == 1);
}

#[test]
fn more_seeds_are_watched_once_they_are_planned() {
    let dir = TempDir::new().unwrap();
    let config = dir.path().join("config.toml");
    fs::write(&config, "1").unwrap();
    let mut watched = Watched::of_directories("o".to_owned(), &[(dir.path().to_owned(), experiment("0..1"))]);
    let mut written = Written::new(dir.path(), "sgd", 0, "writer-a");
    written.probe(200, 4.0, 3.0);
    look_at(&mut watched, SystemTime::now(), &|_| panic!("the configuration has not changed"));
    assert_eq!(watched.totals().in_words(), "5 runs: 1 running, 4 not started");
    fs::write(&config, "22").unwrap();
    // While it is being written.
    look_at(&mut watched, SystemTime::now(), &|_| None);
    look_at(&mut watched, SystemTime::now(), &|_| Some(experiment("0..3")));
    assert_eq!(watched.totals().in_words(), "13 runs: 1 running, 12 not started");
    assert_eq!(arm(&watched, "sgd").summary().reading.loss, Some(4.0));
    look_at(&mut watched, SystemTime::now(), &|_| panic!("it was read already"));
}

/// A screen of made-up runs.
fn screen(watched: &Watched, (width, height): (u16, u16), change: impl Fn(&mut View)) -> String {
    let next = Next {
        ended: "basislab report runs/adam-vs-sgd-1a2b3c4d".to_owned(),
        failed: "basislab status runs/adam-vs-sgd-1a2b3c4d".to_owned(),
        waiting: "How to resume: basislab status runs/adam-vs-sgd-1a2b3c4d".to_owned(),
    };
    let mut view = View { first: 0, curves: Curves::Both, colour: true, next };
    change(&mut view);
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, &mut view, watched, now())).unwrap();
    let buffer = terminal.backend().buffer();
    let row = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>().trim_end().to_owned() + "\n";
    (0..height).map(row).collect()
}

fn now() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000)
}

/// Two arms that train, one of them with runs that have ended, and arms that wait.
fn half_way() -> Watched {
    let dir = PathBuf::from("runs/adam-vs-sgd-1a2b3c4d");
    let mut watched = Watched::of_directories(dir.display().to_string(), &[(dir, experiment("0..8"))]);
    watched.is_known = true;
    for (at, pace) in [(0, 0.01), (2, 0.008)] {
        let arm = &mut watched.arms[at];
        for run in arm.runs.iter_mut().take(if at == 0 { 4 } else { 1 }) {
            let ended = at == 0 && run.seed < 2;
            (run.state, run.step) = (State::Running, 1000 + 10 * run.seed);
            if ended {
                (run.state, run.step) = (State::Complete, 2000);
            }
            for step in (0..=run.step).step_by(100) {
                let x = step as f64 / 2000.0;
                run.losses.add(step, Some(3.8 + 1.7 * (1.0 - x).powi(3)));
                run.values.add(step, Some(2.9 - 1.4 * x + 5.0 * x * x * (1 - at.min(1)) as f64));
            }
            let [loss, value] = [3.95 - 0.01 * run.seed as f64, 3.4 + run.seed as f64];
            let (above_floor, null) = (Some(0.6), Some(2.91));
            run.reading = Reading { loss: Some(loss), above_floor, value: Some(value), null };
            run.pace = Some(pace);
            run.changed = Some(now() - Duration::from_secs(3 + 70 * at as u64));
        }
    }
    watched
}

#[test]
fn screens_are_as_they_were_drawn() {
    let golden = |name: &str, found: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/commands/watch/screens").join(name);
        if std::env::var_os("BASISLAB_BLESS").is_some() {
            fs::write(&path, found).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(found, expected, "{name}: run with BASISLAB_BLESS=1 if the change is meant\n{found}");
    };
    let mut watched = half_way();
    golden("80x24.txt", &screen(&watched, (80, 24), |_| {}));
    golden("40x12.txt", &screen(&watched, (40, 12), |_| {}));
    golden("120x40.txt", &screen(&watched, (120, 40), |_| {}));
    let kurtosis = screen(&watched, (80, 24), |view| view.next_curves(80));
    golden("80x24-kurtosis.txt", &kurtosis);
    let failed = &mut watched.arms[1].runs[0];
    (failed.state, failed.failure) =
        (State::Failed, Some("parts/adam-rotated/0.work: cannot write: no space left".to_owned()));
    golden("80x24-failed.txt", &screen(&watched, (80, 24), |_| {}));
    for run in watched.arms.iter_mut().flat_map(|arm| &mut arm.runs) {
        (run.state, run.step, run.failure) = (State::Complete, 2000, None);
    }
    golden("40x12-ended.txt", &screen(&watched, (40, 12), |_| {}));
}

#[test]
fn a_terminal_of_any_size_is_filled_and_no_more() {
    let watched = half_way();
    for width in 1..130 {
        for height in [1, 2, 5, 6, 7, 9, 12, 30] {
            let screen = screen(&watched, (width, height), |_| {});
            assert!(screen.lines().all(|line| line.chars().count() <= usize::from(width)), "{screen}");
            let fits = width >= 20 && height >= 6;
            assert_eq!(screen.starts_with("runs/adam-vs-sgd-1"), fits, "{width}x{height}:\n{screen}");
            assert_eq!(screen.contains("q quit"), fits, "{width}x{height}:\n{screen}");
        }
    }
}

#[test]
fn arms_scroll_and_curves_switch() {
    let watched = half_way();
    let first_arm = |by: &[isize]| {
        let scrolled = screen(&watched, (80, 7), |view| by.iter().for_each(|by| view.scroll(*by, watched.arms.len())));
        let line = scrolled.lines().skip_while(|line| !line.starts_with("arm ")).nth(1).unwrap();
        line.split(' ').next().unwrap().to_owned()
    };
    assert_eq!(first_arm(&[]), "adam");
    assert_eq!(first_arm(&[1]), "adam-rotated");
    assert_eq!(first_arm(&[1, 1, -1]), "adam-rotated");
    // At the end, the last arms fill the screen.
    assert_eq!(first_arm(&[100]), first_arm(&[100, 100]));
    assert_eq!(first_arm(&[100, -100]), "adam");
    let titles = |width, presses| {
        let pressed = screen(&watched, (width, 24), |view| (0..presses).for_each(|_| view.next_curves(width)));
        (pressed.contains(" loss curve"), pressed.contains(" kurtosis "))
    };
    assert_eq!(
        [0, 1, 2, 3].map(|presses| titles(120, presses)),
        [(true, true), (true, false), (false, true), (true, true)]
    );
    assert_eq!([0, 1, 2].map(|presses| titles(80, presses)), [(true, false), (false, true), (true, false)]);
}
