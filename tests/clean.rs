//! `basislab clean` removes runs that nothing needs, and nothing else.

use crate::cli::{basislab, refuses, stderr, stdout};
use crate::sharing::{lab, ok, run};
use basislab_store::Lock;
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Every file below a directory with its bytes; symbolic links by where they lead.
fn tree(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            let name = path.strip_prefix(dir).unwrap().display().to_string();
            let info = fs::symlink_metadata(&path).unwrap();
            if info.is_symlink() {
                all.insert(name, fs::read_link(&path).unwrap().display().to_string().into_bytes());
            } else if info.is_dir() {
                folders.push(path);
            } else {
                all.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    all
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        if entry.path().is_dir() { copy(&entry.path(), &to) } else { _ = fs::copy(entry.path(), to).unwrap() }
    }
}

/// A finished directory `o`.
fn finished() -> TempDir {
    let dir = lab(&[("seeds", "[0, 1]")]);
    run(dir.path(), "o", &["--no-reuse"]);
    dir
}

/// Folders of runs that the experiment does not need: an arm, a seed, an unfinished run.
fn add_unneeded(out: &Path) {
    let part = out.join("parts/adam/0");
    copy(&part, &out.join("parts/old/3"));
    copy(&part, &out.join("parts/adam/7"));
    copy(&part, &out.join("parts/old/4.work/writer-abc"));
    fs::write(out.join("parts/old/4.work/.lock"), "process 1 on nowhere\n").unwrap();
}

#[test]
fn unneeded_runs_are_listed_and_removed_only_when_asked() {
    let dir = finished();
    let (at, out) = (dir.path(), dir.path().join("o"));
    let needed = tree(&out);
    let nothing = ok(at, &["clean", "o"]).0;
    assert!(nothing.contains("nothing to remove"), "{nothing}");
    add_unneeded(&out);
    let before = tree(&out);
    let (listed, _) = ok(at, &["clean", "o"]);
    for part in ["parts/old/3  ", "parts/adam/7  ", "parts/old/4.work  ", " MB", "basislab clean o --yes", "3 folders"]
    {
        assert!(listed.contains(part), "{part}: {listed}");
    }
    assert!(!listed.contains("parts/adam/0") && !listed.contains("parts/sgd"), "{listed}");
    assert_eq!(tree(&out), before, "only listed");
    let json: serde_json::Value = serde_json::from_str(&ok(at, &["clean", "o", "--json"]).0).unwrap();
    let bytes = |path: &str| tree(&out.join(path)).values().map(|file| file.len() as u64).sum::<u64>();
    assert_eq!(json["folders"].as_array().unwrap().len(), 3, "{json}");
    for folder in json["folders"].as_array().unwrap() {
        assert_eq!(folder["bytes"], bytes(folder["path"].as_str().unwrap().strip_prefix("o/").unwrap()), "{folder}");
        assert_eq!(folder["removed"], false);
    }
    let (said, _) = ok(at, &["clean", "o", "--yes"]);
    assert!(said.contains("removed 3 folders"), "{said}");
    assert_eq!(tree(&out), needed, "what the experiment needs is as it was");
    assert!(!out.join("parts/old").exists());
    assert!(ok(at, &["clean", "o", "--yes"]).0.contains("nothing to remove"));
    assert!(ok(at, &["status", "o"]).0.contains("9 complete of 9 runs"));
    ok(at, &["report", "o"]);
    ok(at, &["verify", "o", "--steps", "2"]);
    assert!(run(at, "o", &[]).1.contains("already complete"));
    // An arm that is taken out of the configuration: what is left can be run.
    let text = fs::read_to_string(at.join("lab.toml")).unwrap();
    fs::write(at.join("more.toml"), text + "\n[[arm]]\nname = \"extra\"\noptimizer.lr = 0.03\n").unwrap();
    ok(at, &["run", "more.toml", "--out", "o"]);
    fs::copy(at.join("lab.toml"), out.join("config.toml")).unwrap();
    refuses(at, &["run", "lab.toml", "--out", "o"], 7, &["arm extra: there, not here"]);
    assert!(ok(at, &["clean", "o", "--yes"]).0.contains("parts/extra/0"));
    run(at, "o", &[]);
}

#[cfg(unix)]
#[test]
fn nothing_outside_of_the_runs_is_touched() {
    let dir = finished();
    let (at, out) = (dir.path(), dir.path().join("o"));
    copy(&out.join("parts/adam/0"), &at.join("outside/3"));
    copy(&out.join("parts/adam/0"), &at.join("outside/4.work/writer-a"));
    copy(&out.join("parts/adam/0"), &out.join("parts/old/1"));
    let link = |to: &Path, from: &str| std::os::unix::fs::symlink(to, out.join(from)).unwrap();
    link(&at.join("outside"), "parts/linked");
    link(&at.join("outside/3"), "parts/old/3");
    link(&at.join("outside/4.work"), "parts/old/4.work");
    // A run whose lock would lie elsewhere.
    copy(&out.join("parts/adam/0"), &out.join("parts/old/5"));
    link(&at.join("outside/4.work"), "parts/old/5.work");
    // What no run writes.
    copy(&out.join("parts/adam/0"), &out.join("parts/old/6"));
    fs::write(out.join("parts/old/6/thesis.txt"), "three years").unwrap();
    copy(&out.join("parts/adam/0"), &out.join("parts/old/07"));
    copy(&out.join("parts/adam/0"), &out.join("parts/old/8"));
    fs::write(out.join("parts/old/8/checkpoints/thesis.txt"), "four years").unwrap();
    fs::create_dir_all(out.join("parts/old/9/steps.csv")).unwrap();
    fs::create_dir_all(out.join("parts/old/notes")).unwrap();
    fs::write(out.join("parts/old/notes/a.txt"), "notes").unwrap();
    // A link in a folder that is removed is removed; what it leads to stays.
    link(&at.join("outside/3/steps.csv"), "parts/old/1/.basislab-link");
    let (outside, mut expected) = (tree(&at.join("outside")), tree(&out));
    expected.retain(|path, _| !path.starts_with("parts/old/1/"));
    let (said, _) = ok(at, &["clean", "o", "--yes"]);
    assert!(said.contains("removed 1 folder of"), "{said}");
    for kept in ["old/3", "old/4.work", "linked/3", "old/5.work", "old/6", "old/07", "old/8", "old/9", "old/notes"] {
        let line = said.lines().find(|line| line.contains(&format!("parts/{kept}  ")));
        assert!(line.is_some_and(|line| line.contains("kept: ")), "{kept}: {said}");
    }
    assert_eq!(tree(&at.join("outside")), outside);
    assert_eq!(tree(&out), expected);

    fs::rename(out.join("parts"), at.join("parts-elsewhere")).unwrap();
    link(&at.join("parts-elsewhere"), "parts");
    refuses(at, &["clean", "o", "--yes"], 7, &["o/parts: found a symbolic link"]);
    std::os::unix::fs::symlink(&out, at.join("link")).unwrap();
    refuses(at, &["clean", "link", "--yes"], 7, &["link: found a symbolic link"]);
    refuses(at, &["clean", "outside", "--yes"], 3, &["outside/config.toml", "expected a directory of `basislab run`"]);
    refuses(at, &["clean", "nowhere", "--yes"], 3, &["expected a directory of `basislab run`"]);
    refuses(at, &["clean", ".", "--yes"], 3, &["found a directory of ", "./o"]);
    assert_eq!(tree(&at.join("outside")), outside, "no lock file is made in it");
}

#[test]
fn a_run_in_use_is_kept_and_named() {
    let dir = finished();
    let (at, out) = (dir.path(), dir.path().join("o"));
    add_unneeded(&out);
    let lock = Lock::take(&out.join("parts/old/4.work")).unwrap();
    lock.sign().unwrap();
    let output = basislab(at, &["clean", "o", "--yes"]);
    let said = stdout(&output);
    assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
    assert!(said.contains("removed 2 folders"), "{said}");
    let owner = format!("parts/old/4.work  kept: another process has the run (process {}", std::process::id());
    assert!(said.contains(&owner), "{said}");
    assert!(out.join("parts/old/4.work/writer-abc/done.json").is_file() && !out.join("parts/old/3").exists());
    drop(lock);
    assert!(ok(at, &["clean", "o", "--yes"]).0.contains("removed 1 folder of"));
    assert!(!out.join("parts/old").exists());
}

#[test]
fn a_kill_in_the_middle_leaves_no_half_of_a_run() {
    let dir = finished();
    let (at, out) = (dir.path(), dir.path().join("o"));
    let needed = tree(&out);
    let whole: Vec<String> = tree(&out.join("parts/adam/0")).into_keys().collect();
    for round in 0..16 {
        for seed in 10..40 {
            copy(&out.join("parts/adam/0"), &out.join(format!("parts/old/{seed}")));
        }
        let mut child = Command::new(env!("CARGO_BIN_EXE_basislab"))
            .args(["clean", "o", "--yes"])
            .current_dir(at)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        while out.join("parts/old/10").exists() && child.try_wait().unwrap().is_none() {}
        std::thread::sleep(Duration::from_micros(300 * round));
        child.kill().unwrap();
        child.wait().unwrap();
        for seed in 10..40 {
            let part = out.join(format!("parts/old/{seed}"));
            if part.exists() {
                assert_eq!(tree(&part).into_keys().collect::<Vec<_>>(), whole, "round {round}: half of a run");
            }
        }
        ok(at, &["status", "o"]);
        ok(at, &["clean", "o", "--yes"]);
        assert_eq!(tree(&out), needed, "round {round}");
    }
}
