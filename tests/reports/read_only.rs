//! Directories that nothing can be written to.

use super::{assert_same, finished, report, tree};
use crate::cli::{stderr, stdout};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::Duration;

/// The program as a user who may not write in `dir`: root ignores permission bits, and becomes nobody.
fn without_rights(dir: &Path) -> impl Fn(&[&str]) -> std::process::Output {
    let is_root = rustix::process::geteuid().is_root();
    let mut program = PathBuf::from(env!("CARGO_BIN_EXE_basislab"));
    if is_root {
        let copy = dir.join("basislab");
        fs::copy(&program, &copy).unwrap();
        program = copy;
    }
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else if path != program {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o444)).unwrap();
            }
        }
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o555)).unwrap();
    }
    let dir = dir.to_owned();
    move |args| {
        let mut command = Command::new(&program);
        command.args(args).current_dir(&dir).env("BURN_DEVICE", "explicit-only").env("NO_COLOR", "1");
        if is_root {
            command.uid(65534).gid(65534);
        }
        // Another test that starts a program while the copy is written holds it open until that program runs.
        loop {
            match command.output() {
                Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => sleep(Duration::from_millis(10)),
                output => return output.unwrap(),
            }
        }
    }
}

fn with_rights_again(dir: &Path) {
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        folders.extend(fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_dir()));
    }
}

#[test]
fn a_finished_directory_that_cannot_be_written_is_read() {
    for (what, lock, parts) in
        [("with its lock file", true, true), ("without", false, true), ("published", false, false)]
    {
        let (dir, out, _) = finished();
        let expected = report(dir.path());
        if !lock {
            fs::remove_file(out.join(".lock")).unwrap();
        }
        if !parts {
            fs::remove_dir_all(out.join("parts")).unwrap();
            fs::remove_file(out.join("SHA256SUMS")).unwrap();
            fs::remove_file(out.join("figures/loss_curves.svg")).unwrap();
        }
        let before = tree(&out);
        let program = without_rights(dir.path());
        let probe = program(&["run", "adam-vs-sgd", "--smoke", "--out", "o/x"]);
        assert_eq!(probe.status.code(), Some(4), "{what}: nothing can be written: {}", stderr(&probe));
        let mut commands = vec![vec!["report", "o"], vec!["status", "o"]];
        if parts {
            commands.push(vec!["run", "lab.toml", "--quiet", "--out", "o"]);
        }
        for command in commands {
            let output = program(&command);
            assert_eq!(output.status.code(), Some(0), "{what}: {command:?}: {}", stderr(&output));
            let said = if command[0] == "status" { "9 complete of 9 runs" } else { "All 9 planned runs are complete" };
            assert!(stdout(&output).contains(said), "{what}: {command:?}: {}", stdout(&output));
            if parts && command[0] != "status" {
                assert_eq!(stdout(&output), expected, "{what}: {command:?}");
            }
        }
        assert_same(&out, &before, what);
        with_rights_again(dir.path());
        if parts {
            // What was edited is found there too.
            basislab_store::remove(&out.join("verdicts.csv")).unwrap();
            fs::write(out.join("verdicts.csv"), [&before["verdicts.csv"][..], b" "].concat()).unwrap();
            let output = without_rights(dir.path())(&["report", "o"]);
            assert_eq!(output.status.code(), Some(7), "{what}: {}", stderr(&output));
            with_rights_again(dir.path());
            // A run that has not ended is reported as far as it goes, and is not trained without the lock.
            fs::remove_file(out.join("parts/sgd/1/done.json")).unwrap();
            let program = without_rights(dir.path());
            let output = program(&["run", "lab.toml", "--quiet", "--out", "o"]);
            assert_eq!(output.status.code(), Some(4), "{what}: {}", stderr(&output));
            assert!(stderr(&output).contains("1 of its runs have not ended"), "{what}: {}", stderr(&output));
            with_rights_again(dir.path());
            fs::remove_file(out.join("SHA256SUMS")).unwrap();
            let output = without_rights(dir.path())(&["report", "o"]);
            assert_eq!(output.status.code(), Some(0), "{what}: {}", stderr(&output));
            assert!(stdout(&output).contains("parts were not joined"), "{what}: {}", stdout(&output));
            with_rights_again(dir.path());
        }
    }
}
