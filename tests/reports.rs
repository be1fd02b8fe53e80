//! What a report may change: never better numbers for worse ones, and nothing where it only reads.

mod committed;
mod outliers;
mod page;
#[cfg(unix)]
mod read_only;

use crate::cli::{basislab, refuses, stderr, stdout};
use crate::support::small;
use basislab_store::sha256;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;

/// Every file below a directory, by its path in it.
type Tree = BTreeMap<String, Vec<u8>>;

fn tree(dir: &Path) -> Tree {
    let mut all = Tree::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()) {
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
                all.insert(name, fs::read(&path).unwrap());
            }
        }
    }
    all
}

fn write_tree(dir: &Path, tree: &Tree) {
    for (name, bytes) in tree {
        let path = dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
}

fn assert_same(dir: &Path, expected: &Tree, what: &str) {
    let found = tree(dir);
    assert_eq!(found.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>(), "{what}: other files");
    // The lock file names its last owner.
    for (name, bytes) in found.iter().filter(|(name, _)| *name != ".lock") {
        assert!(*bytes == expected[name], "{what}: {name} differs");
    }
}

/// A finished directory `o`, with its configuration beside it: five arms, two seeds, six steps.
fn finished() -> (TempDir, PathBuf, Tree) {
    static FINISHED: OnceLock<(Tree, String)> = OnceLock::new();
    let (whole, config) = FINISHED.get_or_init(|| {
        let dir = TempDir::new().unwrap();
        let config = small(&[("seeds", "[0, 1]")]).to_toml();
        fs::write(dir.path().join("lab.toml"), &config).unwrap();
        let output = run(dir.path());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        (tree(&dir.path().join("o")), config)
    });
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("o");
    write_tree(&out, whole);
    fs::write(dir.path().join("lab.toml"), config).unwrap();
    (dir, out, whole.clone())
}

fn run(at: &Path) -> std::process::Output {
    basislab(at, &["run", "lab.toml", "--quiet", "--out", "o"])
}

/// Runs `report o` and expects it to succeed.
fn report(at: &Path) -> String {
    let output = basislab(at, &["report", "o"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    stdout(&output)
}

fn report_json(at: &Path) -> serde_json::Value {
    serde_json::from_str(&stdout(&basislab(at, &["report", "o", "--json"]))).unwrap()
}

/// The files that the seal lists.
fn sealed(tree: &Tree) -> Vec<String> {
    let sums = String::from_utf8(tree["SHA256SUMS"].clone()).unwrap();
    sums.lines().map(|line| line.split_once("  ").unwrap().1.to_owned()).collect()
}

/// Writes the seal that fits the files as they are.
fn seal_again(out: &Path) {
    let names = sealed(&tree(out));
    let line = |name: &String| format!("{}  {name}\n", sha256(&fs::read(out.join(name)).unwrap()));
    fs::write(out.join("SHA256SUMS"), names.iter().map(line).collect::<String>()).unwrap();
}

#[test]
fn the_seal_covers_all_that_a_reader_is_shown() {
    let (_, _, whole) = finished();
    let names = sealed(&whole);
    let runs = ["steps.csv", "evals.csv", "residual.csv", "dimensions.csv", "dimension_steps.csv"];
    let tables = runs.iter().chain(&["summary.csv", "verdicts.csv", "privilege.csv", "outliers.csv"]);
    let drawn = whole.keys().filter(|name| name.starts_with("figures/"));
    let mut expected: Vec<String> = tables.map(|name| (*name).to_owned()).chain(drawn.cloned()).collect();
    expected.push("datapackage.json".to_owned());
    assert_eq!(expected.len(), 15);
    assert_eq!(names.iter().collect::<std::collections::BTreeSet<_>>(), expected.iter().collect());
    for (name, line) in names.iter().zip(String::from_utf8(whole["SHA256SUMS"].clone()).unwrap().lines()) {
        assert_eq!(line, format!("{}  {name}", sha256(&whole[name])));
    }
    let (dir, out, _) = finished();
    let mut table = fs::read(out.join("residual.csv")).unwrap();
    let digit = table.iter().rposition(u8::is_ascii_digit).unwrap();
    table[digit] = if table[digit] == b'1' { b'2' } else { b'1' };
    fs::write(out.join("residual.csv"), table).unwrap();
    let out = out.display().to_string();
    for command in [&["report", &out][..], &["verify", &out, "--steps", "1"]] {
        refuses(dir.path(), command, 7, &["residual.csv"]);
    }
}

#[test]
fn a_published_directory_is_complete_and_nothing_is_run_there() {
    let (dir, out, _) = finished();
    fs::remove_dir_all(out.join("parts")).unwrap();
    let before = tree(&out);
    let output = basislab(dir.path(), &["run", "lab.toml", "--out", "o"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("already complete"), "{}", stderr(&output));
    assert_same(&out, &before, "run");
    // Nor without the seal, whatever is left of the tables.
    fs::remove_file(out.join("SHA256SUMS")).unwrap();
    let steps = &before["steps.csv"];
    fs::write(out.join("steps.csv"), &steps[..steps.iter().position(|byte| *byte == b'\n').unwrap() + 1]).unwrap();
    let fewer = tree(&out);
    let output = basislab(dir.path(), &["run", "lab.toml", "--out", "o"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert!(stderr(&output).contains("nothing is run there"), "{}", stderr(&output));
    assert_same(&out, &fewer, "run without a seal");
    fs::write(out.join("steps.csv"), steps).unwrap();
    // What is absent altogether is made, and nothing else.
    for name in ["summary.csv", "verdicts.csv", "datapackage.json", "figures/loss_curves.svg"] {
        fs::remove_file(out.join(name)).unwrap();
    }
    let said = report(dir.path());
    assert!(!said.contains("note:"), "{said}");
    let after = tree(&out);
    for name in ["summary.csv", "datapackage.json", "figures/loss_curves.svg"] {
        assert!(after[name] == before[name], "{name}");
    }
    // Which rules were registered is recorded with the runs alone.
    let verdicts = |tree: &Tree| String::from_utf8(tree["verdicts.csv"].clone()).unwrap();
    assert_eq!(verdicts(&after), verdicts(&before).replace(",registered,", ",,"));
}

#[test]
fn a_part_of_the_tables_does_not_replace_what_was_made_from_all() {
    let (dir, out, whole) = finished();
    fs::remove_dir_all(out.join("parts")).unwrap();
    let rows = String::from_utf8(whole["steps.csv"].clone()).unwrap();
    let kept: Vec<&str> = rows.lines().filter(|line| !line.contains(",3,")).collect();
    fs::write(out.join("steps.csv"), kept.join("\n") + "\n").unwrap();
    refuses(dir.path(), &["report", "o"], 7, &["steps.csv", "changed"]);
    seal_again(&out);
    let before = tree(&out);
    let note = "made again from the tables here, the rows of these claims would differ: identity-is-adam";
    assert!(report(dir.path()).contains(note));
    assert!(report_json(dir.path())["notes"][0].as_str().unwrap().contains(note));
    fs::remove_file(out.join("SHA256SUMS")).unwrap();
    assert!(report(dir.path()).contains(note), "without a seal too");
    fs::write(out.join("SHA256SUMS"), &before["SHA256SUMS"]).unwrap();
    assert_same(&out, &before, "report");
}

#[test]
fn a_summary_that_does_not_follow_from_its_tables_is_named() {
    let (dir, out, whole) = finished();
    for name in ["parts", "SHA256SUMS"] {
        basislab_store::remove(&out.join(name)).unwrap();
    }
    assert!(!report(dir.path()).contains("note:"));
    let summary = String::from_utf8(whole["summary.csv"].clone()).unwrap();
    let mean = summary.lines().nth(1).unwrap().split(',').nth(4).unwrap();
    fs::write(out.join("summary.csv"), summary.replacen(mean, "9.25", 1)).unwrap();
    let said = report(dir.path());
    assert!(said.contains("made again from the tables here, summary.csv would differ"), "{said}");
}

#[test]
fn what_was_edited_beside_the_tables_ends_in_one_line() {
    let (dir, out, whole) = finished();
    let manifest = String::from_utf8(whole["manifest.json"].clone()).unwrap();
    let mut odd: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    odd["basislab"] = 3.into();
    fs::write(out.join("manifest.json"), odd.to_string()).unwrap();
    for args in [&["report", "o"][..], &["report", "o", "--json"]] {
        let output = basislab(dir.path(), args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
    }
    fs::write(out.join("manifest.json"), &manifest).unwrap();
    // Other numbers than those of the runs.
    let config = String::from_utf8(whole["config.toml"].clone()).unwrap();
    fs::write(out.join("config.toml"), config.replacen("lr = 0.01", "lr = 0.02", 1)).unwrap();
    for command in [&["run", "lab.toml", "--out", "o"][..], &["report", "o"]] {
        refuses(dir.path(), command, 7, &["config.toml: arm adam was edited after its runs began"]);
    }
    fs::write(out.join("config.toml"), &config).unwrap();
    // Pointers of Git LFS instead of the files.
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n";
    for (name, code) in [("manifest.json", 3), ("config.toml", 3), ("SHA256SUMS", 7)] {
        fs::write(out.join(name), pointer).unwrap();
        refuses(dir.path(), &["report", "o"], code, &[name, "a Git LFS pointer", "git lfs pull"]);
        fs::write(out.join(name), &whole[name]).unwrap();
    }
}

#[test]
fn parts_that_are_gone_do_not_take_their_numbers_along() {
    type Remove = fn(&Path);
    let gone: [(&str, Remove); 3] = [
        ("sgd seed 1 gone", |parts| fs::remove_dir_all(parts.join("sgd/1")).unwrap()),
        ("sgd seed 1 not ended", |parts| fs::remove_file(parts.join("sgd/1/done.json")).unwrap()),
        ("sgd seeds 0, 1 gone", |parts| {
            fs::remove_dir_all(parts).unwrap();
            fs::create_dir(parts).unwrap();
        }),
    ];
    for (what, remove) in gone {
        for seal in [true, false] {
            let (dir, out, _) = finished();
            let answer = report_json(dir.path());
            remove(&out.join("parts"));
            if !seal {
                fs::remove_file(out.join("SHA256SUMS")).unwrap();
            }
            let before = tree(&out);
            let said = report(dir.path());
            assert!(said.contains("All 9 planned runs are complete") && said.contains(what), "{what}: {said}");
            assert_same(&out, &before, what);
            let mut now = report_json(dir.path());
            let note = now["notes"].as_array_mut().unwrap().pop().unwrap();
            assert!(note.as_str().unwrap().contains(what), "{note}");
            assert_eq!(now, answer, "{what}");
        }
    }
}

#[test]
fn a_run_that_has_not_ended_is_not_in_the_tables() {
    let (dir, out, whole) = finished();
    fs::remove_file(out.join("SHA256SUMS")).unwrap();
    fs::remove_file(out.join("parts/sgd/1/done.json")).unwrap();
    // The tables at the top as they were merged before it ended.
    for name in ["steps.csv", "evals.csv", "residual.csv", "dimensions.csv", "dimension_steps.csv"] {
        let text = String::from_utf8(whole[name].clone()).unwrap();
        let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("sgd,1,")).collect();
        fs::write(out.join(name), kept.join("\n") + "\n").unwrap();
    }
    for gone in [false, true] {
        if gone {
            fs::remove_dir_all(out.join("parts/sgd/1")).unwrap();
        }
        let said = report(dir.path());
        assert!(said.contains("8 of 9 planned runs are complete") && !said.contains("note:"), "{said}");
        let evals = fs::read_to_string(out.join("evals.csv")).unwrap();
        assert!(!evals.contains("\nsgd,1,") && evals.contains("\nsgd,0,"));
    }
}

#[test]
fn what_follows_from_whole_parts_is_made_again() {
    let (dir, out, whole) = finished();
    let derived: Vec<String> =
        sealed(&whole).into_iter().filter(|name| !whole.contains_key(&format!("parts/sgd/0/{name}"))).collect();
    assert_eq!(derived.len(), 10, "{derived:?}");
    for name in &derived {
        fs::write(out.join(name), [&whole[name][..], b" "].concat()).unwrap();
        refuses(
            dir.path(),
            &["run", "lab.toml", "--quiet", "--out", "o"],
            7,
            &[name, "`basislab report o` makes it again"],
        );
        report(dir.path());
        assert_same(&out, &whole, name);
        for command in [&["report", "o"][..], &["run", "lab.toml", "--quiet", "--out", "o"]] {
            fs::remove_file(out.join(name)).unwrap();
            assert_eq!(basislab(dir.path(), command).status.code(), Some(0), "{command:?}");
            assert_same(&out, &whole, name);
        }
    }
    // A table of the runs is not made again over one that was edited, but it is where there is none.
    for name in ["steps.csv", "evals.csv", "residual.csv", "dimensions.csv", "dimension_steps.csv"] {
        let text = String::from_utf8(whole[name].clone()).unwrap();
        fs::write(out.join(name), text.replacen("adam,0,", "adam,7,", 1)).unwrap();
        refuses(dir.path(), &["report", "o"], 7, &[name, "changed since it was written"]);
        refuses(dir.path(), &["run", "lab.toml", "--quiet", "--out", "o"], 7, &[name, "changed since it was written"]);
        fs::remove_file(out.join(name)).unwrap();
        report(dir.path());
        assert_same(&out, &whole, name);
    }
    // A damaged part is found before anything is touched.
    let part = out.join("parts/sgd/0/evals.csv");
    fs::write(&part, String::from_utf8(fs::read(&part).unwrap()).unwrap().replacen("sgd,0,", "sgd,1,", 1)).unwrap();
    fs::remove_file(out.join("summary.csv")).unwrap();
    let before = tree(&out);
    refuses(dir.path(), &["report", "o"], 7, &["evals.csv", "changed since its run ended"]);
    assert_same(&out, &before, "damaged part");
}

#[test]
fn a_report_that_fails_leaves_the_seal() {
    let (dir, out, whole) = finished();
    let names: Vec<String> = sealed(&whole).into_iter().chain(["timing.csv".to_owned()]).collect();
    for name in &names {
        // Something is to be written before the obstacle and after it.
        for stale in ["summary.csv", "figures/loss_curves.svg"] {
            fs::write(out.join(stale), "stale").unwrap();
        }
        fs::remove_file(out.join(name)).unwrap();
        fs::create_dir_all(out.join(name).join("obstacle")).unwrap();
        let output = basislab(dir.path(), &["report", "o"]);
        assert!(matches!(output.status.code(), Some(3 | 4)), "{name}: {}", stderr(&output));
        assert!(stderr(&output).contains(name.as_str()), "{name}: {}", stderr(&output));
        assert!(fs::read(out.join("SHA256SUMS")).unwrap() == whole["SHA256SUMS"], "{name}");
        assert!(out.join(name).join("obstacle").is_dir(), "{name}: what is in the way is not ours");
        fs::remove_dir_all(out.join(name)).unwrap();
        report(dir.path());
        assert_same(&out, &whole, name);
    }
}

#[test]
fn a_failed_self_test_ends_with_5_and_a_refuted_claim_does_not() {
    let dir = TempDir::new().unwrap();
    let config = fs::read_to_string(crate::support::EXPERIMENT).unwrap();
    let test = "kind = \"bit-equal\", arm = \"adam-identity\", other = ";
    let broken = config.replace(&format!("{test}\"adam\""), &format!("{test}\"sgd\""));
    assert_ne!(broken, config);
    fs::write(dir.path().join("lab.toml"), broken).unwrap();
    let run = ["run", "lab.toml", "--smoke", "--quiet", "--out", "o"];
    for command in [&run[..], &run[..], &["report", "o"], &["report", "o", "--json"]] {
        let output = basislab(dir.path(), command);
        assert_eq!(output.status.code(), Some(5), "{command:?}: {}", stderr(&output));
        assert!(stdout(&output).contains("Self-test FAILED"), "{}", stdout(&output));
    }
    fs::remove_dir_all(dir.path().join("o/parts")).unwrap();
    assert_eq!(basislab(dir.path(), &["report", "o"]).status.code(), Some(5), "recorded");
    // Three seeds decide: equal losses are refuted after one step in which only Adam moves far.
    let decided =
        ["--smoke", "--seeds", "0..3", "--set", "verdict.min_seeds=3", "--set", "verdict.equal_loss_margin=1e-9"];
    let command = [&["run", "adam-vs-sgd", "--quiet", "--json", "--out", "p"][..], &decided].concat();
    let output = basislab(dir.path(), &command);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let verdicts: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    let refuted = |line: &serde_json::Value| line["verdict"] == "refuted";
    assert!(verdicts["verdicts"].as_array().unwrap().iter().any(refuted), "{verdicts}");
}

#[test]
fn runs_and_report_of_different_builds_are_named_and_so_is_a_changed_verdict() {
    let (dir, out, whole) = finished();
    assert!(!report(dir.path()).contains("made by"), "one build made all of it");
    let mut manifest: serde_json::Value = serde_json::from_slice(&whole["manifest.json"]).unwrap();
    let here = manifest["report"].clone();
    assert_eq!(here["executable_sha256"], manifest["executable_sha256"]);
    assert_eq!(here["commit"], manifest["basislab"]["commit"]);
    // Another build made the runs and the report, and decided otherwise.
    for key in ["/basislab/commit", "/report/commit"] {
        *manifest.pointer_mut(key).unwrap() = "0123456789abcdef0123456789abcdef01234567".into();
    }
    for key in ["/basislab/dirty", "/report/dirty"] {
        *manifest.pointer_mut(key).unwrap() = "false".into();
    }
    for key in ["/executable_sha256", "/report/executable_sha256"] {
        *manifest.pointer_mut(key).unwrap() = "fedcba9876543210".repeat(4).into();
    }
    fs::write(out.join("manifest.json"), format!("{manifest:#}\n")).unwrap();
    for (name, bytes) in whole.iter().filter(|(name, _)| name.ends_with("run.json")) {
        let mut record: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        for key in record["builds"][0].clone().as_object().unwrap().keys() {
            record["builds"][0][key] = manifest[key].clone();
        }
        fs::write(out.join(name), record.to_string()).unwrap();
    }
    let verdicts = String::from_utf8(whole["verdicts.csv"].clone()).unwrap();
    let first = verdicts.lines().nth(1).unwrap();
    let changed = verdicts.replace(first, &first.replace(",exploratory,", ",supported,"));
    assert_ne!(changed, verdicts);
    fs::write(out.join("verdicts.csv"), changed).unwrap();
    seal_again(&out);
    let before = tree(&out);
    assert_eq!(run(dir.path()).status.code(), Some(0));
    assert_same(&out, &before, "run reads what was recorded");
    let said = report(dir.path());
    let builds =
        "Runs made by basislab 0.0.0 (commit 0123456789ab, executable fedcba98); report made by basislab 0.0.0 (";
    assert!(said.contains(builds), "{said}");
    let change = "verdicts differ from the recorded ones: adam-differs-from-its-null was supported and is exploratory";
    assert!(said.contains(change), "{said}");
    assert!(tree(&out)["verdicts.csv"] == whole["verdicts.csv"]);
    let now: serde_json::Value = serde_json::from_slice(&fs::read(out.join("manifest.json")).unwrap()).unwrap();
    assert_eq!((&now["report"], &now["basislab"]["commit"]), (&here, &manifest["basislab"]["commit"]));
    let json = report_json(dir.path());
    assert_eq!((&json["report_by"], &json["runs_by"][0]["executable_sha256"]), (&here, &manifest["executable_sha256"]));
    assert_eq!(json["notes"].as_array().unwrap().len(), 0, "the verdicts are these now");
}

#[test]
fn the_data_package_lists_the_tables_that_are_there() {
    let (dir, out, whole) = finished();
    let listed = |bytes: &[u8]| -> Vec<String> {
        let package: serde_json::Value = serde_json::from_slice(bytes).unwrap();
        assert_eq!(package["profile"], "tabular-data-package");
        let resources = package["resources"].as_array().unwrap();
        assert!(resources.iter().all(|resource| resource["profile"] == "tabular-data-resource"));
        resources.iter().map(|resource| resource["path"].as_str().unwrap().to_owned()).collect()
    };
    let names = listed(&whole["datapackage.json"]);
    assert_eq!(names.len(), 10);
    assert!(names.iter().all(|name| whole.contains_key(name)));
    for name in ["parts", "timing.csv", "dimensions.csv", "dimension_steps.csv", "SHA256SUMS", "datapackage.json"] {
        basislab_store::remove(&out.join(name)).unwrap();
    }
    report(dir.path());
    let names = listed(&fs::read(out.join("datapackage.json")).unwrap());
    let made = ["summary.csv", "verdicts.csv", "privilege.csv", "outliers.csv"];
    assert_eq!(names, [&made[..], &["steps.csv", "evals.csv", "residual.csv"]].concat());
}

/// `--smoke` leaves numbers that mean nothing: whoever reads them later is told so, and nobody else.
#[test]
fn a_smoke_test_is_named_in_every_answer() {
    let dir = tempfile::tempdir().unwrap();
    let note = "these runs are a smoke test (--smoke)";
    let smoke = ["run", "adam-vs-sgd", "--smoke", "--quiet", "--only", "sgd", "--out", "o"];
    assert!(stdout(&basislab(dir.path(), &smoke)).contains(note), "one arm");
    let whole = ["run", "adam-vs-sgd", "--smoke", "--quiet", "--out", "o"];
    for _ in 0..2 {
        assert!(stdout(&basislab(dir.path(), &whole)).contains(&format!("note: {note}")), "run and run again");
    }
    assert!(report(dir.path()).contains(&format!("note: {note}")));
    let notes = report_json(dir.path())["notes"].to_string();
    assert!(notes.contains(note) && notes.contains("the numbers mean nothing"), "{notes}");
    let (_own, plain, _) = finished();
    assert!(!report(plain.parent().unwrap()).contains("smoke"));
}
