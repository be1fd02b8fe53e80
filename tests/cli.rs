//! The program from outside: exit codes, messages, files.

use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

pub(crate) fn basislab(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_basislab"))
        .args(args)
        .current_dir(dir)
        // The bare binary must never fall back to burn's idea of a default device.
        .env("BURN_DEVICE", "explicit-only")
        .env("NO_COLOR", "1")
        .output()
        .unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// Runs and expects this exit code and one `error:` line that holds all of `parts`.
pub(crate) fn refuses(dir: &Path, args: &[&str], code: i32, parts: &[&str]) {
    let output = basislab(dir, args);
    let text = stderr(&output);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    assert!(!text.contains("panicked"), "{args:?}: {text}");
    assert_eq!(text.lines().filter(|line| line.starts_with("error:")).count(), 1, "{args:?}: {text}");
    for part in parts {
        assert!(text.contains(part), "{args:?}: no {part:?} in {text}");
    }
}

/// A run of seconds: two seeds of everything.
const TINY: &[&str] = &["run", "adam-vs-sgd", "--smoke", "--seeds", "0..2", "--quiet", "--no-reuse"];

pub(crate) fn tiny(extra: &[&'static str]) -> Vec<&'static str> {
    [TINY, extra].concat()
}

#[test]
fn a_run_writes_its_files_answers_and_is_not_repeated() {
    let dir = TempDir::new().unwrap();
    let first = basislab(dir.path(), &tiny(&["--out", "o"]));
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    assert_eq!(stderr(&first), "", "--quiet");
    let answer = stdout(&first);
    assert!(answer.contains("adam-rotated") && answer.contains("exploratory"), "{answer}");
    let out = dir.path().join("o");
    for file in [
        "config.toml",
        "manifest.json",
        "datapackage.json",
        "steps.csv",
        "evals.csv",
        "residual.csv",
        "dimensions.csv",
        "dimension_steps.csv",
        "timing.csv",
        "summary.csv",
        "verdicts.csv",
        "figures/kurtosis_over_steps.svg",
        "figures/kurtosis_over_layers.svg",
        "figures/dimension_rms.svg",
        "figures/loss_curves.svg",
        "report.html",
    ] {
        assert!(out.join(file).metadata().is_ok_and(|info| info.len() > 0), "{file}");
    }
    let before = std::fs::read(out.join("residual.csv")).unwrap();
    let stamp = std::fs::metadata(out.join("parts/adam/0/steps.csv")).unwrap().modified().unwrap();
    let again = basislab(dir.path(), &tiny(&["--out", "o"]));
    assert_eq!(again.status.code(), Some(0));
    assert_eq!(stdout(&again), answer);
    assert_eq!(std::fs::read(out.join("residual.csv")).unwrap(), before);
    assert_eq!(std::fs::metadata(out.join("parts/adam/0/steps.csv")).unwrap().modified().unwrap(), stamp);
    // An interrupted run resumes where it was and ends at the same bytes.
    std::fs::remove_file(out.join("parts/sgd/1/done.json")).unwrap();
    let table = out.join("parts/sgd/1/steps.csv");
    std::fs::write(&table, std::fs::read_to_string(&table).unwrap() + "sgd,1,5,40").unwrap();
    assert_eq!(basislab(dir.path(), &tiny(&["--out", "o", "--jobs", "1"])).status.code(), Some(0));
    assert_eq!(std::fs::read(out.join("residual.csv")).unwrap(), before);
    // The committed config reproduces the run, in a directory of its own.
    let config = out.join("config.toml");
    let same = basislab(dir.path(), &["run", config.to_str().unwrap(), "--quiet", "--no-reuse", "--out", "p"]);
    assert_eq!(same.status.code(), Some(0), "{}", stderr(&same));
    for file in [
        "steps.csv",
        "evals.csv",
        "residual.csv",
        "dimensions.csv",
        "dimension_steps.csv",
        "summary.csv",
        "verdicts.csv",
        "config.toml",
    ] {
        assert_eq!(
            std::fs::read(out.join(file)).unwrap(),
            std::fs::read(dir.path().join("p").join(file)).unwrap(),
            "{file}"
        );
    }
    // Another experiment must not be written there.
    refuses(
        dir.path(),
        &tiny(&["--out", "o", "--set", "arm.adam.optimizer.lr=0.5"]),
        7,
        &["optimizer.lr: 0.002 there, 0.5 here"],
    );
    assert_eq!(std::fs::read(out.join("residual.csv")).unwrap(), before);
    // The report comes from the CSVs alone.
    for file in ["summary.csv", "verdicts.csv"] {
        std::fs::remove_file(out.join(file)).unwrap();
    }
    std::fs::remove_dir_all(out.join("figures")).unwrap();
    let report = basislab(dir.path(), &["report", "o"]);
    assert_eq!(stdout(&report), answer, "{}", stderr(&report));
    assert!(out.join("figures/loss_curves.svg").is_file());
    let json = basislab(dir.path(), &["report", "o", "--json"]);
    let value: serde_json::Value = serde_json::from_str(&stdout(&json)).unwrap();
    assert_eq!(value["verdicts"][0]["verdict"], "exploratory");
    let text = std::fs::read_to_string(out.join("evals.csv")).unwrap();
    std::fs::write(out.join("evals.csv"), text.replace("held-out,", "held-out,x")).unwrap();
    refuses(dir.path(), &["report", "o"], 3, &["evals.csv:2:"]);
}

#[test]
fn both_cpu_backends_run_the_same_experiment() {
    let dir = TempDir::new().unwrap();
    let of = |backend: &'static str| {
        let output = basislab(dir.path(), &tiny(&["--backend", backend, "--out", backend, "--json"]));
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        let value: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
        value["arms"][0]["loss"].as_f64().unwrap_or_else(|| panic!("{value}"))
    };
    assert!((of("flex") - of("ndarray")).abs() < 1e-4);
}

#[test]
fn a_diverged_arm_is_reported_and_the_exit_code_says_so() {
    let dir = TempDir::new().unwrap();
    let args = tiny(&[
        "--out",
        "o",
        "--set",
        "arm.sgd.optimizer.lr=1e6",
        "--set",
        "train.clip_norm=0",
        "--set",
        "model.norm=none",
        "--set",
        "train.steps=40",
    ]);
    let output = basislab(dir.path(), &args);
    assert_eq!(output.status.code(), Some(5), "{}", stderr(&output));
    assert!(stdout(&output).contains("diverged"), "{}", stdout(&output));
    for file in ["steps.csv", "summary.csv", "verdicts.csv", "residual.csv"] {
        let text = std::fs::read_to_string(dir.path().join("o").join(file)).unwrap().to_lowercase();
        assert!(!text.contains("nan,") && !text.contains(",inf") && !text.contains("nan\n"), "{file}");
    }
    assert!(std::fs::read_to_string(dir.path().join("o/steps.csv")).unwrap().contains(",,,diverged"));
}

#[test]
fn bad_command_lines_and_configs() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    refuses(at, &["run", "adam-vs-sdg"], 2, &["no experiment \"adam-vs-sdg\"", "did you mean \"adam-vs-sgd\""]);
    refuses(at, &["run", "nothing/here.toml"], 2, &["nothing/here.toml"]);
    refuses(
        at,
        &["run", "adam-vs-sgd", "--set", "model.d_modle=32"],
        2,
        &["unknown key \"d_modle\"", "did you mean \"d_model\""],
    );
    refuses(at, &["run", "adam-vs-sgd", "--set", "nonsense"], 2, &["expected KEY=VALUE"]);
    refuses(at, &["run", "adam-vs-sgd", "--set", "verdict.metric=kurtosis"], 2, &["verdict.metric", "token_kurtosis"]);
    refuses(at, &["run", "adam-vs-sgd", "--seeds", "3..1"], 2, &["--seeds 3..1"]);
    refuses(at, &["run", "adam-vs-sgd", "--seeds", "a"], 2, &["--seeds a"]);
    refuses(at, &["metrics", "explain", "kurtosis"], 2, &["no metric \"kurtosis\"", "did you mean"]);
    std::fs::create_dir(at.join("d.toml")).unwrap();
    refuses(at, &["run", "./d.toml"], 2, &["./d.toml", "not a file"]);
    std::fs::write(at.join("b.toml"), [0xff, 0xfe]).unwrap();
    refuses(at, &["run", "b.toml"], 2, &["b.toml: not UTF-8 at byte 0"]);
    let text = std::fs::read_to_string(crate::support::EXPERIMENT).unwrap();
    std::fs::write(at.join("c.toml"), text.replace("d_mlp", "widht")).unwrap();
    refuses(at, &["run", "c.toml"], 2, &["c.toml:10:1: model.widht: unknown key"]);
    std::fs::create_dir(at.join("mine")).unwrap();
    std::fs::write(at.join("mine/thesis.txt"), "do not touch").unwrap();
    refuses(at, &tiny(&["--out", "mine"]), 7, &["mine", "no readable manifest.json"]);
    refuses(at, &["report", "mine"], 3, &["mine/config.toml"]);
    std::fs::write(at.join("file"), "x").unwrap();
    refuses(at, &tiny(&["--out", "file"]), 7, &["file"]);
    let unknown = basislab(at, &["run", "adam-vs-sgd", "--backend", "tpu"]);
    assert_eq!(unknown.status.code(), Some(2));
    assert!(stderr(&unknown).contains("tpu") && stderr(&unknown).contains("ndarray"));
    #[cfg(not(feature = "cuda"))]
    refuses(at, &["run", "adam-vs-sgd", "--backend", "cuda"], 2, &["--features cuda"]);
}

#[test]
fn bad_texts() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let text = |path: &'static str| {
        tiny(&["--out", "o", "--set", "corpus.kind=text", "--set"]).into_iter().chain([path]).collect::<Vec<_>>()
    };
    refuses(at, &text("corpus.path=absent.txt"), 3, &["absent.txt"]);
    std::fs::create_dir(at.join("dir")).unwrap();
    refuses(at, &text("corpus.path=dir"), 3, &["dir"]);
    std::fs::write(at.join("empty.txt"), "").unwrap();
    refuses(at, &text("corpus.path=empty.txt"), 3, &["empty.txt"]);
    std::fs::write(at.join("short.txt"), "too short").unwrap();
    refuses(at, &text("corpus.path=short.txt"), 3, &["short.txt"]);
    let mut bytes = "words and more words. ".repeat(2000).into_bytes();
    bytes[100] = 0xff;
    std::fs::write(at.join("latin.txt"), bytes).unwrap();
    refuses(at, &text("corpus.path=latin.txt"), 3, &["latin.txt", "100"]);
    assert!(!at.join("o").exists(), "nothing is created before the corpus is read");
}

#[test]
fn text_runs_with_bytes_and_bpe() {
    let dir = TempDir::new().unwrap();
    let words = ["the ", "cat ", "sat ", "on ", "a ", "mat, ", "and ", "then ", "it ", "went ", "away. "];
    let text: String = (0..40_000).map(|i: usize| words[(i * i + i / 7) % words.len()]).collect();
    std::fs::write(dir.path().join("t.txt"), text).unwrap();
    for (out, set) in [("bytes", "corpus.tokenizer=bytes"), ("bpe", "corpus.tokenizer=bpe")] {
        let mut args =
            tiny(&["--out", out, "--set", "corpus.kind=text", "--set", "corpus.path=t.txt", "--set", set, "--set"]);
        args.push(if out == "bytes" { "corpus.d_vocab=256" } else { "corpus.d_vocab=270" });
        let output = basislab(dir.path(), &args);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(dir.path().join(out).join("tokenizer.json").is_file(), out == "bpe");
    }
}

#[test]
fn the_other_commands_answer() {
    let dir = TempDir::new().unwrap();
    let ok = |args: &[&str]| {
        let output = basislab(dir.path(), args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
        stdout(&output)
    };
    assert!(ok(&["list"]).contains("\n  basislab run adam-vs-sgd\n"));
    refuses(dir.path(), &["run", "nosuch"], 2, &["expected the path of a .toml file or one of adam-vs-sgd, "]);
    assert!(ok(&["--help"]).contains("Examples:") && ok(&["run", "--help"]).contains("--set"));
    let metrics = ok(&["metrics", "list"]);
    for line in metrics.lines().take_while(|line| !line.is_empty()) {
        let name = line.split_whitespace().next().unwrap();
        let text = ok(&["metrics", "explain", name]);
        for label in ["formula", "estimator", "axis", "null", "ceiling", "source", "fails"] {
            assert!(text.contains(label), "{name}: {text}");
        }
    }
    assert!(ok(&["config", "show", "adam-vs-sgd", "--set", "train.batch_size=8"]).contains("train.batch_size = 8"));
    assert!(
        ok(&["config", "show", "adam-vs-sgd", "--set", "train.batch_size=8"]).contains("# --set train.batch_size=8")
    );
    let parts = "norm, projections, attention, activation, residual connections, loss";
    let shown = ok(&["config", "show", "adam-vs-sgd"]);
    assert!(shown.contains(&format!("#   all arms: fused kernels ({parts})\n")), "{shown}");
    let shown = ok(&["config", "show", "adam-vs-sgd", "--set", "arm.sgd.model.compute_dtype=f16"]);
    let rest = "#   sgd: fused kernels (norm, activation, residual connections, loss), burn's operations (projections, attention)\n";
    assert!(shown.contains(rest), "{shown}");
    let plain = ok(&["config", "show", "adam-vs-sgd", "--toml"]);
    std::fs::write(dir.path().join("again.toml"), &plain).unwrap();
    assert_eq!(ok(&["config", "show", "again.toml", "--toml"]), plain);
    let describe: serde_json::Value =
        serde_json::from_str(&ok(&["data", "describe", "--json", "--tokens", "20000"])).unwrap();
    assert!(describe["floor"].as_f64().unwrap() < describe["unigram_entropy"].as_f64().unwrap());
    assert_eq!(ok(&["data", "sample", "--count", "2"]).matches("----").count(), 1);
    let check: serde_json::Value = serde_json::from_str(&ok(&["check", "--steps", "20", "--json"])).unwrap();
    assert_eq!(check["arms"][1]["rotated"], check["arms"][1]["facing_the_stream"]);
    assert!(check["optimizers"].as_array().unwrap().len() == 2);
}

#[test]
fn a_closed_pipe_ends_quietly() {
    let mut child = Command::new(env!("CARGO_BIN_EXE_basislab"))
        .args(["config", "show", "adam-vs-sgd"])
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), stderr(&output).as_str()), (Some(0), ""));
}

/// Every command with its subcommands, as the help pages list them.
fn commands(dir: &Path, command: &[String]) -> Vec<Vec<String>> {
    let page = help(dir, command, "--help", "100");
    let mut all = vec![command.to_vec()];
    let listed = page.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    for line in listed.filter(|line| line.starts_with("  ") && !line.starts_with("   ")) {
        let name = line.split_whitespace().next().unwrap();
        if name != "help" {
            all.extend(commands(dir, &[command, &[name.to_owned()]].concat()));
        }
    }
    all
}

fn help(dir: &Path, command: &[String], flag: &str, columns: &str) -> String {
    let mut program = Command::new(env!("CARGO_BIN_EXE_basislab"));
    let output = program.args(command).arg(flag).current_dir(dir).env("COLUMNS", columns).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{command:?}");
    stdout(&output)
}

/// No line of a help page is too wide, and what is laid out by hand is not wrapped.
#[test]
fn help_pages_fit_a_terminal() {
    let dir = TempDir::new().unwrap();
    let all = commands(dir.path(), &[]);
    assert!(all.len() >= 20, "{all:?}");
    for command in &all {
        for flag in ["-h", "--help"] {
            let pages = ["80", "100", "300"].map(|columns| (columns, help(dir.path(), command, flag, columns)));
            for (columns, page) in &pages {
                let most = columns.parse::<usize>().unwrap().min(100);
                for line in page.lines() {
                    assert!(line.chars().count() <= most, "{command:?} {flag} at {columns} columns: {line}");
                }
            }
            // The text after the options: examples, exit codes, notes.
            let footer = |page: &str| {
                let options = page.find("Options:").unwrap();
                page[options..].split_once("\n\nExamples").map(|(_, rest)| rest.to_owned())
            };
            let footers = pages.map(|(_, page)| footer(&page));
            assert!(footers.iter().all(|other| *other == footers[2]), "{command:?} {flag}: {footers:#?}");
        }
    }
    let with_examples = all.iter().filter(|command| help(dir.path(), command, "--help", "80").contains("\n\nExamples"));
    assert_eq!(
        with_examples.count(),
        12,
        "the program, run, watch, plan, plan script, work, collect, backends, measure, quantize, metrics eval, export"
    );
}

#[test]
fn another_build_or_machine_is_told_in_plain_text() {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("o");
    assert_eq!(basislab(dir.path(), &tiny(&["--out", "o"])).status.code(), Some(0));
    // A published directory: tables without parts.
    std::fs::remove_dir_all(out.join("parts")).unwrap();
    std::fs::remove_file(out.join("SHA256SUMS")).unwrap();
    let steps = std::fs::read_to_string(out.join("steps.csv")).unwrap();
    let line = steps.lines().nth(1).unwrap();
    let digit = line.find('.').unwrap() + 3;
    let other = if &line[digit..=digit] == "5" { "6" } else { "5" };
    let edited = format!("{}{other}{}", &line[..digit], &line[digit + 1..]);
    std::fs::write(out.join("steps.csv"), steps.replacen(line, &edited, 1)).unwrap();
    let manifest = std::fs::read_to_string(out.join("manifest.json")).unwrap();
    let mut value: serde_json::Value = serde_json::from_str(&manifest).unwrap();
    value["machine"]["cpu"] = "Abacus 9".into();
    value["machine"]["cpu_features"] = ["beads", "rods"].as_slice().into();
    value["device"]["driver"] = serde_json::Value::Null;
    value["executable_sha256"] = "0123456789abcdef".repeat(4).into();
    std::fs::write(out.join("manifest.json"), value.to_string()).unwrap();
    let output = basislab(dir.path(), &["verify", "o", "--steps", "3"]);
    let said = stderr(&output);
    assert_eq!(output.status.code(), Some(7), "{said}");
    for part in [
        "another build or machine: ",
        "machine.cpu: Abacus 9 there, ",
        "machine.cpu_features: beads rods there, ",
        "device.driver: unknown there, burn-flex ",
        "executable_sha256: 0123456789ab there, ",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains(['{', '}', '"', '[']), "no JSON: {said}");
    assert!(!said.contains("device.backend") && !said.contains("machine.os"), "only what differs: {said}");
}
