//! The evidence under `results/`, which a report reads and never changes.

use super::{assert_same, report, report_json, sealed, tree, write_tree};
use crate::cli::refuses;
use crate::support::root;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The directories of committed runs.
fn committed() -> Vec<PathBuf> {
    let all = fs::read_dir(root().join("results")).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.join("manifest.json").is_file()).collect()
}

#[test]
fn committed_evidence_is_read_and_not_made_again() {
    for results in committed() {
        let name = results.file_name().unwrap().to_string_lossy().into_owned();
        let mut before = tree(&results);
        before.remove("report.html");
        let dir = TempDir::new().unwrap();
        let out = dir.path().join("o");
        write_tree(&out, &before);
        let said = report(dir.path());
        // The page is not committed, and made where it is absent.
        fs::remove_file(out.join("report.html")).unwrap();
        assert_same(&out, &before, &name);
        // More numbers were compared than there are here.
        let verdicts = String::from_utf8(before["verdicts.csv"].clone()).unwrap();
        if let Some((before, _)) = verdicts.split_once(" numbers compared") {
            let count = before.rsplit(|letter: char| !letter.is_ascii_digit()).next().unwrap();
            assert!(said.contains(&format!("{count} numbers compared")), "{name}: {said}");
        }
        assert!(said.contains("a part of the run's"), "{name}: {said}");
        assert!(said.contains("planned runs are complete"), "{name}: {said}");
        // As many lines of each verdict as claims.
        let of_claims: Vec<&str> = verdicts.lines().skip(1).map(|row| row.split(',').nth(1).unwrap()).collect();
        for verdict in &of_claims {
            let claims = of_claims.iter().filter(|other| *other == verdict).count();
            let lines = said.lines().filter(|line| line.starts_with(&format!("{verdict} "))).count();
            assert_eq!(lines, claims, "{name}: {verdict}: {said}");
        }
        let json = report_json(dir.path());
        assert!(json["notes"][0].as_str().unwrap().contains("a part of the run's"), "{name}");
    }
}

#[test]
fn committed_evidence_that_was_changed_is_refused() {
    for results in ["adam-vs-sgd", "learning-rates"] {
        let before = tree(&root().join("results").join(results));
        let dir = TempDir::new().unwrap();
        let out = dir.path().join("o");
        write_tree(&out, &before);
        for name in sealed(&before) {
            let path = out.join(&name);
            fs::write(&path, [&before[&name][..], b" "].concat()).unwrap();
            refuses(dir.path(), &["report", "o"], 7, &[&name, "changed since it was written"]);
            fs::remove_file(&path).unwrap();
            refuses(dir.path(), &["report", "o"], 7, &[&name, "missing", "restore it"]);
            fs::write(&path, &before[&name]).unwrap();
        }
        for sums in ["", "x  steps.csv\n", &format!("{}  ../steps.csv\n", "0".repeat(64))] {
            fs::write(out.join("SHA256SUMS"), sums).unwrap();
            refuses(dir.path(), &["report", "o"], 7, &["SHA256SUMS", "expected"]);
        }
    }
}

#[test]
fn evidence_is_stored_with_its_own_line_ends() {
    let git = |dir: &Path, args: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]);
        git.args(args).current_dir(dir).output().is_ok_and(|output| output.status.success())
    };
    let dir = TempDir::new().unwrap();
    let evidence = tree(&root().join("results/adam-vs-sgd"));
    fs::create_dir(dir.path().join("a")).unwrap();
    write_tree(&dir.path().join("a/evidence"), &evidence);
    fs::copy(root().join(".gitattributes"), dir.path().join("a/.gitattributes")).unwrap();
    let committed = git(dir.path(), &["init", "--quiet", "a"])
        && git(&dir.path().join("a"), &["add", "."])
        && git(&dir.path().join("a"), &["commit", "--quiet", "-m", "one"]);
    assert!(committed, "git is needed here");
    assert!(git(dir.path(), &["clone", "--quiet", "-c", "core.autocrlf=true", "a", "b"]));
    assert_same(&dir.path().join("b/evidence"), &evidence, "git changes line ends, and checksums with them");
}
