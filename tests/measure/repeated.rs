//! The same command again, in the same place or in that of something else, and after a kill.

use super::{arguments, fixture, folder, measured, text};
use crate::cli::{basislab, refuses, stderr};
use crate::sharing::{lab, run};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Every file under a directory with its bytes.
fn files(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        match entry.path().is_dir() {
            true => all.extend(files(&entry.path()).into_iter().map(|(file, bytes)| (format!("{name}/{file}"), bytes))),
            false => drop(all.insert(name, fs::read(entry.path()).unwrap())),
        }
    }
    all
}

fn expect_same(found: &BTreeMap<String, Vec<u8>>, expected: &BTreeMap<String, Vec<u8>>) {
    assert!(found.keys().eq(expected.keys()), "{:?}, expected {:?}", found.keys(), expected.keys());
    for (name, bytes) in expected {
        assert!(found[name] == *bytes, "{name} differs");
    }
}

#[test]
fn the_same_command_writes_the_same_bytes() {
    let dir = folder();
    let at = dir.path();
    let model = fixture("qwen3");
    let model = [model.to_str().unwrap()];
    let extra = ["--ablate", "embed:1=zero", "--seed", "3"];
    measured(at, &model, &[&extra[..], &["--out", "a"]].concat());
    let first = files(&at.join("a"));
    assert!(first.len() >= 11 && first.contains_key("figures/kurtosis_over_depth.svg"), "{:?}", first.keys());
    measured(at, &model, &[&extra[..], &["--out", "b"]].concat());
    expect_same(&files(&at.join("b")), &first);
    measured(at, &model, &[&extra[..], &["--out", "a"]].concat());
    expect_same(&files(&at.join("a")), &first);
    // The default directory is named after what is measured.
    measured(at, &model, &extra);
    measured(at, &model, &["--ablate", "embed:1=zero", "--seed", "4"]);
    let runs: Vec<_> = fs::read_dir(at.join("runs")).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert_eq!(runs.len(), 2, "{runs:?}");
    assert!(runs.iter().all(|name| name.to_str().unwrap().starts_with("measure-qwen3-")), "{runs:?}");
}

#[test]
fn a_directory_of_something_else_is_left_alone() {
    let dir = lab(&[("seeds", "[0]")]);
    let at = dir.path();
    run(at, "experiment", &["--only", "adam"]);
    fs::write(at.join("tokenizer.json"), super::tokenizer(61)).unwrap();
    fs::write(at.join("text.txt"), text((0..240).map(|place| place * 7 % 61))).unwrap();
    let (llama, gpt2) = (fixture("llama"), fixture("gpt2"));
    let (llama, gpt2) = ([llama.to_str().unwrap()], [gpt2.to_str().unwrap()]);
    let before = files(&at.join("experiment"));
    let part = "belongs to an experiment; choose another --out";
    refuses(at, &arguments(&llama, &["--out", "experiment"]), 7, &[part]);
    expect_same(&files(&at.join("experiment")), &before);
    measured(at, &llama, &["--out", "o"]);
    let before = files(&at.join("o"));
    let part = "belongs to another measurement; choose another --out";
    refuses(at, &arguments(&gpt2, &["--out", "o"]), 7, &[part]);
    for extra in [["--seed", "1"], ["--bases", "9"], ["--ablate", "embed:1=zero"], ["--rotate", "embed=haar:0"]] {
        refuses(at, &arguments(&llama, &[&["--out", "o"], &extra[..]].concat()), 7, &[part]);
    }
    fs::write(at.join("text.txt"), text((0..240).map(|place| place * 11 % 61))).unwrap();
    refuses(at, &arguments(&llama, &["--out", "o"]), 7, &[part]);
    expect_same(&files(&at.join("o")), &before);
    // Other commands say what it is; `report` reads it, and changes nothing.
    for command in ["status", "verify", "clean"] {
        refuses(at, &[command, "o"], 3, &["found a directory of `basislab measure` or `quantize`"]);
    }
    let output = basislab(at, &["report", "o"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    expect_same(&files(&at.join("o")), &before);
    // A published measurement is not replaced by a whole one.
    let manifest = fs::read_to_string(at.join("o/manifest.json")).unwrap();
    fs::write(at.join("o/manifest.json"), manifest.replacen('{', "{\"thinned\": \"a table was left out\",", 1))
        .unwrap();
    refuses(at, &arguments(&llama, &["--out", "o"]), 7, &["published measurement (a table was left out)"]);
    fs::create_dir(at.join("mine")).unwrap();
    fs::write(at.join("mine/thesis.txt"), "do not touch").unwrap();
    refuses(at, &arguments(&llama, &["--out", "mine"]), 7, &["mine"]);
}

#[test]
fn a_killed_measurement_is_made_again() {
    let dir = folder();
    let at = dir.path();
    fs::write(at.join("text.txt"), text((0..4800).map(|place| place * (place + 7) / 5 % 61))).unwrap();
    let model = fixture("llama");
    let model = [model.to_str().unwrap()];
    let slow = ["--tokens", "4800", "--null-tokens", "4800", "--bases", "200", "--out"];
    // Instead of the fewer tokens of `arguments`.
    let args = |out: &'static str| {
        let all = arguments(&model, &[&slow[..], &[out]].concat());
        let at = all.iter().position(|arg| *arg == "--tokens").unwrap();
        [&all[..at], &all[at + 2..]].concat()
    };
    let start = |out: &'static str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_basislab"));
        command.args(args(out)).current_dir(at).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let begun = Instant::now();
    let output = start("whole").wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let took = begun.elapsed();
    let mut killed = 0;
    for part in 0..6 {
        let mut child = start("killed");
        while !at.join("killed/manifest.json").exists() {
            assert!(child.try_wait().unwrap().is_none(), "it ended without a manifest");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(took * part / 8);
        child.kill().unwrap();
        child.wait().unwrap();
        killed += u32::from(!at.join("killed/SHA256SUMS").exists());
    }
    assert!(killed > 2, "only {killed} of 6 were killed before they ended");
    let output = start("killed").wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    expect_same(&files(&at.join("killed")), &files(&at.join("whole")));
    // While it is made again, it does not count as finished.
    let mut child = start("killed");
    while at.join("killed/SHA256SUMS").exists() {
        assert!(child.try_wait().unwrap().is_none(), "the seal was there all the time");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(at.join("killed/manifest.json").exists() && !at.join("killed/SHA256SUMS").exists());
}
