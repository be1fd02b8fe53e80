//! What is typed: texts, paths, numbers, names, seeds, and which of them an error points at.

use crate::cli::{basislab, refuses, stderr, stdout, tiny};
use crate::support::{loaded, root};
use basislab_config::Change;
use std::fs;
use std::path::Path;
use tempfile::TempDir;

fn built_in() -> String {
    fs::read_to_string(crate::support::EXPERIMENT).unwrap()
}

/// The built-in experiment with `--set`s, or why it is refused.
fn set(changes: &[&str]) -> Result<basislab_config::Experiment, String> {
    let change = |text: &&str| {
        let (path, value) = text.split_once('=').unwrap();
        Change::set(path, value, &format!("--set {text}"))
    };
    let changes: Vec<Change> = changes.iter().map(change).collect();
    loaded(&built_in(), "f.toml", &changes).map(|loaded| loaded.experiment).map_err(|error| error.to_string())
}

fn words(name: &str) -> String {
    format!("Words and more words about {name}. ").repeat(1000)
}

/// `--smoke` and `--seeds` shorten every experiment, grids and arms with seeds of their own included.
#[test]
fn every_experiment_can_be_tried_in_small() {
    let dir = TempDir::new().unwrap();
    let mut all: Vec<String> = fs::read_dir(root().join("configs"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    for page in ["README.md", "docs/configuration.md"] {
        let text = fs::read_to_string(root().join(page)).unwrap();
        let examples = text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
        for example in examples.filter(|example| example.trim_start().starts_with("base =")) {
            let name = format!("./{}.toml", all.len());
            fs::write(dir.path().join(&name), example).unwrap();
            all.push(name);
        }
    }
    assert!(all.len() > 15, "{all:?}");
    for name in &all {
        for small in [&["--smoke"][..], &["--seeds", "0..3"], &["--smoke", "--seeds", "7"]] {
            let args = [&["config", "show", name, "--toml"], small].concat();
            let output = basislab(dir.path(), &args);
            assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
            let shown = stdout(&output);
            for line in shown.lines().filter(|line| line.contains("steps\" = [") && small[0] == "--smoke") {
                assert!(line.contains("[4, 5") || line.contains("[4, 4") || line.contains("= [1,"), "{name}: {line}");
            }
            let keeps = |line: &str| line.starts_with("seeds = [2") && small.contains(&"--seeds");
            assert!(!shown.lines().any(keeps), "{args:?}: {shown}");
        }
    }
}

#[test]
fn a_path_is_the_text_that_was_typed() {
    let dir = TempDir::new().unwrap();
    let mut names = vec!["1984", "true", "2026-01-01", "[x]", "{}", "1e3", "0x1F", " both ends ", "it's", "a=b", "#1"];
    #[cfg(unix)]
    names.extend(["\"q\"", "'s'", "\"", "\"\"\"", "back\\slash", "two\nlines", "tab\t", "-dash", "--dash"]);
    for name in names {
        fs::write(dir.path().join(name), words(name)).unwrap();
        let size = |args: &[&str]| {
            let tokenizer = ["--set", "corpus.tokenizer=bytes"];
            let output = basislab(dir.path(), &[&["data", "describe", "--json"], args, &tokenizer].concat());
            assert_eq!(output.status.code(), Some(0), "{name:?}: {}", stderr(&output));
            serde_json::from_str::<serde_json::Value>(&stdout(&output)).unwrap()["size_bytes"].as_u64().unwrap()
        };
        assert_eq!(size(&["--text", name]), words(name).len() as u64, "{name:?}");
        // A quoted value is a TOML string there, as in a file.
        if !name.starts_with(['"', '\'']) {
            let path = format!("corpus.path={name}");
            let set = ["--set", "corpus.kind=text", "--set", &path];
            assert_eq!(size(&set), words(name).len() as u64, "{name:?}");
        }
    }
    refuses(dir.path(), &["data", "describe", "--text", ""], 2, &["error: --text : corpus.path: found text \"\""]);
}

#[test]
fn where_a_key_holds_text_the_value_is_that_text() {
    for (value, question) in [
        ("42", "42"),
        ("true", "true"),
        ("[1, 2]", "[1, 2]"),
        ("1e3", "1e3"),
        ("2026-01-01", "2026-01-01"),
        ("\"42\"", "42"),
        ("'a b'", "a b"),
        ("\"open", "\"open"),
        (" a ", " a "),
    ] {
        assert_eq!(set(&[&format!("question={value}")]).unwrap().question, question, "{value}");
    }
    assert_eq!(set(&["model.norm=\"rms\""]), set(&["model.norm=rms"]));
    assert_eq!(set(&["train.schedule= linear"]), set(&["train.schedule=linear"]));
    assert!(set(&["model.norm=3"]).unwrap_err().contains("found text \"3\", expected one of none, rms"));
    let spaced = basislab(&root(), &["config", "show", "adam-vs-sgd", "--set", "question = Why?"]);
    assert!(stdout(&spaced).contains("question = \"Why?\""), "{}", stderr(&spaced));
}

#[cfg(unix)]
#[test]
fn a_link_gets_one_answer_however_it_is_spelt() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    fs::create_dir(at.join("victim")).unwrap();
    std::os::unix::fs::symlink("victim", at.join("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", at.join("dangling")).unwrap();
    let refused = |out: &str, said: &str| refuses(at, &["run", "adam-vs-sgd", "--smoke", "--out", out], 7, &[said]);
    for (name, target) in [("link", "victim"), ("dangling", "nowhere")] {
        let said = format!("error: {name}: is a symbolic link to {target}, expected a directory of its own");
        for ending in ["", "/", "//", "/.", "/./", "/.//."] {
            refused(&format!("{name}{ending}"), &said);
        }
        refused(&format!("./{name}/"), "is a symbolic link");
        refused(&format!("victim/../{name}/"), "is a symbolic link");
        refused(&format!("{}/", at.join(name).display()), "is a symbolic link");
    }
    // Through a folder that is not there yet: making it would lead past what was checked.
    for out in ["new/../link", "new/../victim", "./new/deeper/../../link"] {
        refused(out, "leads back with .. from ");
        assert!(!at.join("new").exists(), "{out}");
    }
    assert_eq!(fs::read_dir(at.join("victim")).unwrap().count(), 0);
    assert!(!at.join("nowhere").exists());

    // Those that only read follow it.
    let run = basislab(at, &["run", "adam-vs-sgd", "--smoke", "--quiet", "--out", "victim/"]);
    assert_eq!(run.status.code(), Some(0), "{}", stderr(&run));
    for command in [&["report"][..], &["status"], &["verify", "--steps", "2"]] {
        let answer = |dir: &str| {
            let output = basislab(at, &[command, &[dir]].concat());
            (output.status.code(), stdout(&output), stderr(&output))
        };
        let first = answer("link");
        assert_eq!(first.0, Some(0), "{command:?}: {}", first.2);
        for spelling in ["link/", "link/.", "link//"] {
            assert_eq!(answer(spelling), first, "{command:?} {spelling}");
        }
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_text_that_is_no_file_is_refused_and_not_waited_for() {
    let dir = TempDir::new().unwrap();
    let pipe = std::process::Command::new("mkfifo").arg(dir.path().join("pipe")).status().unwrap();
    assert!(pipe.success());
    for text in ["pipe", "/dev/zero", "/dev/null", "."] {
        refuses(dir.path(), &["data", "describe", "--text", text], 3, &[text, "expected a readable text file"]);
        let path = format!("corpus.path={text}");
        let run = ["run", "adam-vs-sgd", "--smoke", "--out", "o", "--set", "corpus.kind=text", "--set", &path];
        refuses(dir.path(), &run, 3, &[text, "expected a readable text file"]);
    }
}

/// A run of seconds on a text, from `dir`.
fn run_text(dir: &Path, path: &str, out: &str) -> std::process::Output {
    let path = format!("corpus.path={path}");
    let kind = ["run", "adam-vs-sgd", "--smoke", "--quiet", "--set", "corpus.kind=text", "--set", &path];
    basislab(dir, &[&kind[..], &["--set", "corpus.tokenizer=bytes", "--out", out]].concat())
}

#[test]
fn a_text_is_found_from_any_folder_and_its_path_is_no_identity() {
    let dir = TempDir::new().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    for (folder, name) in [(&a, "t.txt"), (&b, "copy.txt")] {
        fs::create_dir(folder).unwrap();
        fs::write(folder.join(name), words("kings")).unwrap();
    }
    fs::write(b.join("other.txt"), words("queens")).unwrap();
    let first = run_text(&a, "t.txt", "o");
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    let config = fs::read_to_string(a.join("o/config.toml")).unwrap();
    let text = fs::canonicalize(&a).unwrap().join("t.txt").display().to_string();
    assert!(config.contains(&format!("path = {text:?}")), "{config}");

    // From elsewhere, by the recorded path, and by the same text of another name.
    let stamp = || fs::metadata(a.join("o/parts/adam/2000/steps.csv")).unwrap().modified().unwrap();
    let before = stamp();
    let verify = ["verify", "../a/o", "--steps", "2"];
    let fine = |output: std::process::Output| assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    fine(basislab(&b, &verify));
    fine(basislab(&b, &["run", "../a/o/config.toml", "--quiet", "--out", "../a/o"]));
    fine(run_text(&b, "copy.txt", "../a/o"));
    assert_eq!(stamp(), before);
    let other = run_text(&b, "other.txt", "../a/o");
    let said = stderr(&other);
    assert_eq!(other.status.code(), Some(7), "{said}");
    assert!(said.contains("corpus: ") && !said.contains("corpus.path"), "{said}");

    // Another text in its place, a stand-in for it, and no text.
    let manifest: serde_json::Value =
        serde_json::from_str(&fs::read_to_string(a.join("o/manifest.json")).unwrap()).unwrap();
    let sha256 = manifest["arms"]["adam"]["corpus"].as_str().unwrap();
    fs::write(a.join("t.txt"), words("queens")).unwrap();
    refuses(&b, &verify, 7, &["t.txt", "has changed: found SHA-256", sha256]);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 5\n";
    fs::write(a.join("t.txt"), pointer.repeat(50)).unwrap();
    refuses(&b, &verify, 3, &["t.txt", "found a Git LFS pointer", sha256]);
    fs::remove_file(a.join("t.txt")).unwrap();
    refuses(&b, &verify, 3, &[&format!("{text:?}: found no such file"), sha256, "config.toml"]);
}

#[test]
fn a_text_that_is_not_there_says_where_it_was_looked_for() {
    let dir = TempDir::new().unwrap();
    let here = fs::canonicalize(dir.path()).unwrap();
    let said = format!("\"plays.txt\": found no such file in {}", here.display());
    refuses(dir.path(), &["data", "describe", "--text", "plays.txt"], 3, &[&said]);
    refuses(
        dir.path(),
        &tiny(&["--out", "o", "--set", "corpus.kind=text", "--set", "corpus.path=plays.txt"]),
        3,
        &[&said],
    );
    fs::write(dir.path().join("pointer"), "version https://git-lfs.github.com/spec/v1\n").unwrap();
    refuses(dir.path(), &["data", "describe", "--text", "pointer"], 3, &["found a Git LFS pointer", "git lfs pull"]);
}

#[test]
fn a_number_in_another_spelling_says_what_to_write() {
    for (key, found, write) in [
        ("train.steps", "1e3", "1000"),
        ("train.steps", "1000.0", "1000"),
        ("train.steps", "1,000", "1000"),
        ("train.steps", "\"400\"", "400"),
        ("train.steps", "0400", "400"),
        ("train.steps", "400.", "400"),
        ("train.steps", "0X1F4", "500"),
        ("arm.sgd.optimizer.lr", ".001", "0.001"),
        ("arm.sgd.optimizer.lr", "5.", "5.0"),
        ("arm.sgd.optimizer.lr", "\"0.1\"", "0.1"),
        ("arm.sgd.optimizer.lr", "0,5", "0.5"),
    ] {
        let error = set(&[&format!("{key}={found}")]).unwrap_err();
        assert!(error.ends_with(&format!("; write {write}")), "{key}={found}: {error}");
        assert!(set(&[&format!("{key}={write}")]).is_ok(), "{key}={write}");
    }
    assert!(set(&["seeds=[1e0]"]).unwrap_err().ends_with("; write 1"));
    for fine in ["train.steps=1_000", "train.steps=+500", "arm.sgd.optimizer.lr=1e-3", "arm.sgd.optimizer.lr=5"] {
        assert!(set(&[fine]).is_ok(), "{fine}");
    }
    // Nothing is advised that would be refused.
    for typed in [
        "train.steps=0.5e1x",
        "train.steps=1.5",
        "train.steps=0.0",
        "train.steps=1e30",
        "train.steps=-1e1",
        "arm.sgd.optimizer.momentum=1.",
        "arm.sgd.optimizer.lr=-.5",
        "arm.sgd.optimizer.lr=inf",
        "train.steps=ten",
    ] {
        let error = set(&[typed]).unwrap_err();
        assert!(error.contains("expected") && !error.contains("write"), "{typed}: {error}");
    }
    // The same in a file, whether TOML reads it as another type or not at all.
    for (line, written, at) in [
        (
            "steps = 400",
            "steps = 1e3",
            "train.steps: found the number 1000.0, expected an integer from 1 to 1099511627776; write 1000",
        ),
        (
            "steps = 400",
            "steps = 1,000",
            "train.steps: found text \"1,000\", expected an integer from 1 to 1099511627776; write 1000",
        ),
        ("steps = 400", "steps = 1,000 # many", "write 1000"),
        ("steps = 400", "steps = 0400", "write 400"),
        ("steps = 400", "steps = \"400\"", "write 400"),
        (
            "lr = 0.5",
            "lr = .5",
            "arm.sgd.optimizer.lr: found text \".5\", expected a number above 0, at most 1000000.0; write 0.5",
        ),
        ("lr = 0.5", "lr = 5.", "write 5.0"),
        ("lr = 0.5", "lr = +.5", "write 0.5"),
        ("alpha = 0.05", "alpha = .9", "verdict.alpha: found text \".9\", expected a number from 1e-6 to 0.5"),
        (
            "seeds = [0, 1, 2, 3, 4, 5, 6, 7]",
            "seeds = [00, 01]",
            "seeds: found text \"00\", expected an integer from 0 to 1099511627775; write 0",
        ),
        ("question = \"", "question = 007 # \"", "not TOML: unexpected leading zero"),
    ] {
        let text = built_in();
        assert!(text.contains(line), "{line}");
        let error = loaded(&text.replacen(line, written, 1), "f.toml", &[]).unwrap_err().to_string();
        assert!(
            error.starts_with("f.toml:") && error.ends_with(at) || error.contains("not TOML") && error.contains(at),
            "{written}: {error}"
        );
        let offset = text.find(line).unwrap() + written.find("= ").unwrap() + 2;
        let line = text[..offset].matches('\n').count() + 1;
        assert!(error.starts_with(&format!("f.toml:{line}:")), "{written}: {error}");
    }
}

#[test]
fn names_that_tables_read_as_something_else_are_refused() {
    for name in
        ["NA", "nan", "None", "null", "N.A.", "inf", "TRUE", "f", "yes", "1", "1e5", "007", "0x1F", "2026-01-01", "NUL"]
    {
        let error = set(&[&format!("claim.identity-is-adam.name={name}")]).unwrap_err();
        assert!(error.contains(".name: found text") && error.contains("expected a name that"), "{name}: {error}");
        let (_, example) = error.split_once("for example ").unwrap();
        assert!(set(&[&format!("claim.identity-is-adam.name={example}")]).is_ok(), "{name}: {example}");
        let text = built_in().replacen("name = \"adam-independent\"", &format!("name = \"{name}\""), 1);
        let error = loaded(&text, "f.toml", &[]).unwrap_err().to_string();
        assert!(error.starts_with("f.toml:") && error.contains("expected a name that"), "{name}: {error}");
    }
}

#[test]
fn seeds_and_counts_say_what_was_found_and_expected() {
    let dir = TempDir::new().unwrap();
    let seeds = |text: &str, parts: &[&str]| {
        let said = format!("error: --seeds {text}: ");
        refuses(dir.path(), &["run", "adam-vs-sgd", "--seeds", text], 2, &[&[said.as_str()], parts].concat());
    };
    seeds("3..0", &["the range holds no seed, expected LOW..HIGH with LOW below HIGH, for example 0..3"]);
    seeds("3..3", &["the range holds no seed", "for example 0..8"]);
    seeds("99999..0", &["the range holds no seed", "for example 0..8"]);
    seeds("1..", &["found no HIGH, expected LOW..HIGH"]);
    seeds("..3", &["found no LOW, expected LOW..HIGH"]);
    seeds("0..99999", &["found 99999 seeds, expected at most 4096"]);
    seeds("0..1099511627775", &["found 1099511627775 seeds"]);
    seeds("a", &["found \"a\", expected an integer from 0 to 1099511627775", "0..8"]);
    seeds("", &["found no seed, expected a range such as 0..8"]);
    seeds("1,1", &["found seed 1 twice, expected distinct seeds"]);
    let many: Vec<String> = (0..5000).map(|seed| seed.to_string()).collect();
    seeds(&many.join(","), &["found 5000 seeds, expected 1 to 4096"]);
    seeds("-1", &["found \"-1\", expected an integer from 0"]);
    seeds("0,,1", &["found \"\", expected an integer"]);
    seeds("0..1e1", &["found \"1e1\"", "write 10"]);
    seeds("1099511627776", &["found \"1099511627776\", expected an integer from 0 to 1099511627775"]);
    for (args, found, range) in [
        (&["run", "adam-vs-sgd", "--device"][..], "x", "0 to 65535"),
        (&["run", "adam-vs-sgd", "--jobs"], "0", "1 to 4096"),
        (&["run", "adam-vs-sgd", "--checkpoint-seconds"], "1m", "0 to 1099511627776"),
        (&["run", "adam-vs-sgd", "--checkpoint-steps"], "-5", "1 to 1099511627776"),
        (&["check", "--steps"], "51", "2 to 50"),
        (&["verify", "o", "--steps"], "", "1 to 1099511627776"),
        (&["data", "describe", "--tokens"], "many", "1024 to 100000000"),
        (&["metrics", "eval", "x.npy", "--bases"], "7", "8 to 4096"),
        (&["metrics", "eval", "x.npy", "--seed"], "x", "0 to 1099511627775"),
        (&["data", "sample", "--count"], "1.5", "1 to 10000"),
        (&["data", "sample", "--seed"], "-1", "0 to 1099511627775"),
    ] {
        let said = format!("found {found:?}, expected an integer from {range}\n");
        refuses(dir.path(), &[args, &[found]].concat(), 2, &[&said, args[args.len() - 1]]);
    }
    refuses(
        dir.path(),
        &["check", "--steps", "2e1"],
        2,
        &["found \"2e1\", expected an integer from 2 to 50; write 20"],
    );
}

#[test]
fn an_error_points_at_the_change_that_brought_it_about() {
    let heads = "model.n_heads: found 4, expected a divisor of model.d_model = 30";
    for (changes, expected) in [
        (&["model.d_model=30"][..], format!("--set model.d_model=30: {heads}")),
        (&["question=Why?", "model.d_model=30", "train.steps=700"], format!("--set model.d_model=30: {heads}")),
        (&["train.warmup_steps=500", "model.d_model=30"], format!("--set model.d_model=30: {heads}")),
        (
            &["corpus.burst=0.6", "seeds=[0]", "corpus.bigram=0.6"],
            "--set corpus.burst=0.6 --set corpus.bigram=0.6: corpus.copy: copy + burst + bigram is 1.2, expected below 1"
                .to_owned(),
        ),
        (
            &["corpus.kind=language", "corpus.d_vocab=8"],
            "--set corpus.d_vocab=8: corpus.classes: found 16, expected at most 8, one token each".to_owned(),
        ),
        (
            &["seeds=[1, 2]"],
            "--set seeds=[1, 2]: arm.adam-identity.seeds: found seed 0, expected seeds of the experiment".to_owned(),
        ),
        (
            &["model.d_model=60", "model.n_heads=7"],
            "--set model.n_heads=7: model.n_heads: found 7, expected a divisor of model.d_model = 60".to_owned(),
        ),
    ] {
        assert_eq!(set(changes).unwrap_err(), expected, "{changes:?}");
    }
    // What is wrong in the file alone is said of the file.
    let broken = built_in().replacen("n_heads = 4", "n_heads = 5", 1);
    let change = Change::set("question", "Why?", "--set question=Why?");
    let error = loaded(&broken, "f.toml", &[change]).unwrap_err().to_string();
    assert_eq!(error, "f.toml:9:11: model.n_heads: found 5, expected a divisor of model.d_model = 64");

    let dir = TempDir::new().unwrap();
    let show = ["config", "show", "adam-vs-sgd"];
    let refused = |args: &[&str], said: &str| refuses(dir.path(), &[&show[..], args].concat(), 2, &[said]);
    refused(&["--smoke", "--set", "probe.loss_sequences=2"], "error: --set probe.loss_sequences=2: probe.residual");
    let sets = ["corpus.bigram=0.1", "corpus.d_vocab=1048576", "corpus.bigram_fan=65536"];
    let sample: Vec<&str> = ["data", "sample"].into_iter().chain(sets.iter().flat_map(|set| ["--set", *set])).collect();
    refuses(
        dir.path(),
        &sample,
        3,
        &["error: --set corpus.bigram_fan=65536: corpus.bigram_fan: found 68719476736 big"],
    );
    refused(&["--set", "train.steps=50"], "error: --set train.steps=50: train.warmup_steps: found 100, expected");
    let broken = built_in().replacen("micro_batches = 1", "micro_batches = 3", 1);
    fs::write(dir.path().join("c.toml"), broken).unwrap();
    refuses(dir.path(), &["config", "show", "./c.toml", "--smoke"], 2, &["error: ./c.toml:43:17: train.micro_batches"]);
}

#[test]
fn the_text_behind_the_evidence_is_named() {
    let readme = fs::read_to_string(root().join("results/README.md")).unwrap();
    let manifest = fs::read_to_string(root().join("results/adam-vs-sgd-text/manifest.json")).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    let sha256 = manifest["arms"]["adam"]["corpus"].as_str().unwrap();
    assert!(readme.contains(sha256), "results/README.md lacks SHA-256 {sha256}");
    for entry in fs::read_dir(root().join("results")).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let name = if entry.path().is_dir() { format!("`{name}/`") } else { format!("`{name}`") };
        assert!(name == "`README.md`" || readme.contains(&name), "results/README.md lacks {name}");
    }
    // No path of the machine that made it.
    let config = fs::read_to_string(root().join("results/adam-vs-sgd-text/config.toml")).unwrap();
    assert!(config.contains("path = \"builtin:shakespeare-tragedies\""), "{config}");
}
