//! A kill or an error at every system call, file systems without locks, and full disks.

use super::lab::{Lab, Tree, assert_tidy, compare, text, tree, undisturbed};
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// `strace` with `rule` over the system calls of a run that starts from what `begin` puts into its directory, until the rule
/// no longer strikes. Returns how often it struck. strace counts calls per thread: those of the run's own thread and
/// of the main thread are struck at the same number, whichever comes first.
fn strike_everywhere(lab: &Lab, calls: &str, rule: &str, begin: &dyn Fn(&Path), undisturbed: &Tree) -> usize {
    for strike in 1.. {
        let out = lab.out(&format!("strike-{}", rule.split('=').next().unwrap()));
        let _ = fs::remove_dir_all(&out);
        begin(&out);
        let program = env!("CARGO_BIN_EXE_basislab");
        let inject = format!("inject={calls}:{rule}:when={strike}");
        let mut command = Command::new("strace");
        let log = lab.out("strace.log");
        command.args(["-f", "-qq", "-o"]).arg(&log).args(["-e", &format!("trace={calls}"), "-e", &inject, program]);
        let output = command.args(lab.arguments(&out, &["--jobs", "1"])).output().expect("strace is installed");
        let what = format!("{calls} {rule} number {strike}");
        assert_tidy(&output, &what);
        if rule.starts_with("error") {
            assert!(matches!(output.status.code(), Some(0 | 4)), "{what}: {}", text(&output));
        }
        lab.finish_and_compare(&out, undisturbed, &what);
        // A write to a progress line may fail and the run go on.
        let struck = output.status.code() != Some(0) || fs::read_to_string(&log).unwrap().contains("INJECTED");
        if !struck {
            return strike - 1;
        }
    }
    unreachable!()
}

/// Strikes all of `rules` (system calls, and what happens to them) in whole runs, and `at_the_end` where all runs are done and
/// the main thread joins, reports and seals. Says how often.
fn strike_runs(rules: &[(&str, &str)], at_the_end: &str) {
    // Short runs of every kind of optimizer: each call of their lives is struck in turn.
    let lab = Lab::with(&[("train.steps", "6")]);
    let out = lab.out("undisturbed");
    let output = lab.run(&out, &[]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let undisturbed = tree(&out);
    let whole = |(calls, rule): &(&str, &str)| strike_everywhere(&lab, calls, rule, &|_| {}, &undisturbed);
    let unsealed = |begin: &Path| {
        let copied = Command::new("cp").arg("-r").arg(&out).arg(begin).status().unwrap();
        assert!(copied.success());
        fs::remove_file(begin.join("SHA256SUMS")).unwrap();
        fs::write(begin.join("evals.csv"), "stale").unwrap();
    };
    let end = |calls: &str| strike_everywhere(&lab, calls, at_the_end, &unsealed, &undisturbed);
    let strikes =
        rules.iter().map(whole).sum::<usize>() + ["write", "fsync", RENAME].into_iter().map(end).sum::<usize>();
    assert!(strikes > 100, "only {strikes} strikes");
    println!("{strikes} strikes");
}

const RENAME: &str = "rename,renameat,renameat2";

#[test]
#[ignore = "needs strace; .ci/run runs it"]
fn a_kill_at_every_write_of_a_run_is_invisible() {
    let calls = ["write", "fsync", RENAME, "mkdir,mkdirat", "unlink,unlinkat,rmdir", "ftruncate"];
    strike_runs(&calls.map(|calls| (calls, "signal=KILL")), "signal=KILL");
}

#[test]
#[ignore = "needs strace; .ci/run runs it"]
fn an_error_at_every_write_of_a_run_ends_with_4() {
    let rules = [
        ("write", "error=ENOSPC"),
        ("fsync", "error=EIO"),
        (RENAME, "error=ENOSPC"),
        ("mkdir,mkdirat", "error=EDQUOT"),
    ];
    strike_runs(&rules, "error=ENOSPC");
}

#[test]
#[ignore = "needs strace; .ci/run runs it"]
fn a_file_system_without_locks_is_refused_with_a_hint() {
    let (lab, undisturbed) = undisturbed();
    let out = lab.out("nolock");
    let strace = |extra: &[&str]| {
        let mut command = Command::new("strace");
        command.args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=flock", "-e", "inject=flock:error=ENOLCK"]);
        command
            .arg(env!("CARGO_BIN_EXE_basislab"))
            .args(lab.arguments(&out, extra))
            .output()
            .expect("strace is installed")
    };
    let output = strace(&[]);
    assert_eq!(output.status.code(), Some(6), "{}", text(&output));
    assert!(text(&output).contains("--no-lock"), "{}", text(&output));
    let output = strace(&["--no-lock"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    compare(&tree(&out), undisturbed, "no lock");
}

#[test]
#[ignore = "needs to mount a file system; .ci/run runs it"]
fn a_full_disk_loses_nothing() {
    let (lab, undisturbed) = undisturbed();
    let mount = lab.out("disk");
    fs::create_dir(&mount).unwrap();
    let mut full = 0;
    for round in 0..50 {
        let ok = Command::new("mount").args(["-t", "tmpfs", "-o", "size=64m", "none"]).arg(&mount).status().unwrap();
        assert!(ok.success(), "mounting needs root");
        let out = mount.join("o");
        let child = lab.start(&out, &[]);
        while !out.join("manifest.json").exists() {
            std::thread::sleep(Duration::from_millis(1));
        }
        // All the space but a little, taken while the run is under way.
        let left = 12_000 * round;
        let free = rustix::fs::statvfs(&mount).unwrap();
        let fill = (free.f_bavail * free.f_frsize).saturating_sub(left);
        let _ = fs::write(mount.join("fill"), vec![0u8; fill as usize]);
        let output = child.wait_with_output().unwrap();
        assert_tidy(&output, "full disk");
        assert!(matches!(output.status.code(), Some(0 | 4)), "{left} bytes left: {}", text(&output));
        if output.status.code() == Some(4) {
            full += 1;
            assert!(text(&output).contains("cannot"), "{}", text(&output));
        }
        fs::remove_file(mount.join("fill")).unwrap();
        lab.finish_and_compare(&out, undisturbed, &format!("{left} bytes left"));
        assert!(Command::new("umount").arg(&mount).status().unwrap().success());
    }
    assert!(full > 10, "only {full} of 50 runs met a full disk");
    println!("{full} of 50 runs met a full disk");
}
