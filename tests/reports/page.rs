//! `report.html`, and `basislab open`.

use super::{assert_same, finished, report, sealed, tree};
use crate::cli::{basislab, refuses, stderr, stdout};
use std::fs;
use std::process::Command;

const PAGE: &str = "report.html";

#[test]
fn a_page_is_made_again_and_is_the_same() {
    let (dir, out, whole) = finished();
    assert!(whole[PAGE].starts_with(b"<!doctype html>") && whole[PAGE].len() < 1_000_000, "{}", whole[PAGE].len());
    assert!(!sealed(&whole).contains(&PAGE.to_owned()), "it names builds");
    for edited in [true, false] {
        match edited {
            true => fs::write(out.join(PAGE), "edited").unwrap(),
            false => fs::remove_file(out.join(PAGE)).unwrap(),
        }
        let said = report(dir.path());
        assert!(said.contains("o: report.html, figures/") && said.contains("next: basislab open o"), "{said}");
        assert_same(&out, &whole, "again");
    }
    // Equal runs in another directory.
    let output = basislab(dir.path(), &["run", "lab.toml", "--quiet", "--no-reuse", "--out", "p"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(fs::read(dir.path().join("p").join(PAGE)).unwrap() == whole[PAGE], "equal runs have equal pages");
}

#[test]
fn a_published_directory_gets_a_page_where_there_is_none() {
    let (dir, out, whole) = finished();
    fs::remove_dir_all(out.join("parts")).unwrap();
    fs::write(out.join(PAGE), "as it was published").unwrap();
    let before = tree(&out);
    report(dir.path());
    assert_same(&out, &before, "one that is there");
    fs::remove_file(out.join(PAGE)).unwrap();
    report(dir.path());
    let after = tree(&out);
    assert!(after[PAGE] == whole[PAGE], "that of the whole directory");
    assert_eq!(after.len(), before.len());
}

#[test]
fn a_directory_that_grows_has_no_page_of_fewer_runs() {
    let (dir, out, _) = finished();
    let run = |only: &[&str]| {
        let config = ["run", "lab.toml", "--quiet", "--out", "o", "--seeds", "0..3"];
        basislab(dir.path(), &[&config[..], only].concat())
    };
    let output = run(&["--only", "sgd/2"]);
    assert!(!out.join(PAGE).exists(), "{}", stderr(&output));
    assert_eq!(run(&[]).status.code(), Some(0));
    assert!(fs::read_to_string(out.join(PAGE)).unwrap().contains("planned runs are complete"));
}

#[test]
fn open_hands_the_page_to_the_browser_or_prints_where_it_is() {
    let (dir, out, _) = finished();
    let page = out.join(PAGE).canonicalize().unwrap().display().to_string();
    let open = |screen: &str, path: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_basislab"));
        command.args(["open", "o"]).current_dir(dir.path()).env("PATH", path).env_remove("WAYLAND_DISPLAY");
        let output = command.env("DISPLAY", screen).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(stdout(&output), format!("{page}\n"));
        stderr(&output)
    };
    assert!(open("", "").contains("no browser could be started"));
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::PermissionsExt;
        assert!(open(":0", "").contains("no browser could be started"), "nothing to start");
        let opener = dir.path().join("xdg-open");
        fs::write(&opener, "#!/bin/sh\nprintf %s \"$1\" > asked\n").unwrap();
        fs::set_permissions(&opener, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(open(":0", &dir.path().display().to_string()), "");
        assert_eq!(fs::read_to_string(dir.path().join("asked")).unwrap(), page);
    }
    fs::remove_file(out.join(PAGE)).unwrap();
    refuses(dir.path(), &["open", "o"], 3, &["report.html: no such file", "`basislab report o` makes it"]);
    refuses(dir.path(), &["open", "nowhere"], 3, &["nowhere"]);
}
