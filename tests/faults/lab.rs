//! A small experiment, what it leaves behind, and how that is compared.

use crate::support::small;
use basislab_config::Experiment;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use tempfile::TempDir;

/// Every file below a directory, by path.
pub(super) type Tree = BTreeMap<PathBuf, Vec<u8>>;

/// Adam, SGD and rotated Adam, one seed each, a checkpoint every 3 of 24 updates.
pub(super) struct Lab {
    pub(super) dir: TempDir,
    config: PathBuf,
}

impl Lab {
    pub(super) fn new() -> Self {
        Self::with(&[("train.steps", "24"), ("probe.every", "8")])
    }

    pub(super) fn with(changes: &[(&str, &str)]) -> Self {
        let mut all = vec![("seeds", "[0]")];
        all.extend(changes);
        Self::of(&small(&all))
    }

    pub(super) fn of(experiment: &Experiment) -> Self {
        let dir = TempDir::new().unwrap();
        let config = dir.path().join("lab.toml");
        fs::write(&config, experiment.to_toml()).unwrap();
        Self { dir, config }
    }

    pub(super) fn out(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(super) fn command(&self, out: &Path, extra: &[&str]) -> Command {
        // A shell that put the tests in its background has them ignore INT, and the program would respect that.
        let mut command = Command::new("env");
        command
            .args(["--default-signal=INT,HUP", env!("CARGO_BIN_EXE_basislab")])
            .args(self.arguments(out, extra))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(super) fn arguments(&self, out: &Path, extra: &[&str]) -> Vec<String> {
        let mut all = vec!["run".to_owned(), self.config.display().to_string(), "--out".to_owned()];
        all.push(out.display().to_string());
        all.extend(["--no-reuse", "--checkpoint-steps", "3"].iter().chain(extra).map(|text| (*text).to_owned()));
        all
    }

    pub(super) fn run(&self, out: &Path, extra: &[&str]) -> Output {
        self.command(out, extra).output().unwrap()
    }

    pub(super) fn start(&self, out: &Path, extra: &[&str]) -> Child {
        self.command(out, extra).spawn().unwrap()
    }

    /// Runs to the end and expects what an undisturbed run leaves, and nothing more.
    pub(super) fn finish_and_compare(&self, out: &Path, undisturbed: &Tree, what: &str) {
        let last = self.run(out, &[]);
        assert_eq!(last.status.code(), Some(0), "{what}: {}", text(&last));
        compare(&tree(out), undisturbed, what);
    }
}

pub(super) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout))
}

/// No panic, no backtrace, one error line at most.
pub(super) fn assert_tidy(output: &Output, what: &str) {
    let text = text(output);
    assert!(!text.contains("panicked") && !text.contains("RUST_BACKTRACE"), "{what}: {text}");
    assert!(text.lines().filter(|line| line.starts_with("error:")).count() <= 1, "{what}: {text}");
}

/// A checkpoint of a run that has not ended, in the folder of whichever process works on it.
pub(super) fn has_checkpoint(out: &Path, arm: &str, step: u64) -> bool {
    let folders = fs::read_dir(out.join(format!("parts/{arm}/0.work"))).into_iter().flatten().flatten();
    folders.map(|entry| entry.path().join(format!("checkpoints/{step:010}"))).any(|path| path.is_dir())
}

/// Every file that does not hold wall-clock time. Of checkpoints, the files of the newest one.
pub(super) fn tree(dir: &Path) -> Tree {
    let mut all = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let mut entries: Vec<PathBuf> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        if folder.ends_with("checkpoints") {
            entries = entries.split_off(entries.len().saturating_sub(1));
        }
        for path in entries {
            if path.is_dir() {
                folders.push(path);
            } else if !path.ends_with("timing.csv") && !path.ends_with(".lock") {
                all.insert(path.strip_prefix(dir).unwrap().to_owned(), fs::read(&path).unwrap());
            }
        }
    }
    all
}

pub(super) fn compare(found: &Tree, expected: &Tree, what: &str) {
    let names = |tree: &Tree| tree.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected), "{what}: other files");
    for (path, bytes) in found {
        assert!(*bytes == expected[path], "{what}: {} differs", path.display());
    }
}

/// The default laboratory of these tests and what it leaves when nothing happens.
pub(super) fn undisturbed() -> &'static (Lab, Tree) {
    static LAB: OnceLock<(Lab, Tree)> = OnceLock::new();
    LAB.get_or_init(|| {
        let lab = Lab::new();
        let out = lab.out("undisturbed");
        let output = lab.run(&out, &[]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output));
        let tree = tree(&out);
        (lab, tree)
    })
}
