//! What is believed of a run that this process did not train to its end: copies, records, checkpoints, locks.

use crate::cli::{basislab, refuses, stderr, stdout};
use crate::sharing::{json, lab, ok, run, verdicts};
use crate::support::small;
use basislab_store::{Checkpoint, Extent, Lock, NamedTensor, decode_any, encode, newest, save, steps};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

fn start(dir: &Path, args: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_basislab"));
    command.args(args).current_dir(dir).env("BURN_DEVICE", "explicit-only").env("NO_COLOR", "1");
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// The output of a process that must end.
fn ended(mut child: Child) -> Output {
    let begun = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begun.elapsed() > Duration::from_secs(120) {
            child.kill().unwrap();
            panic!("it still waits: {}", stderr(&child.wait_with_output().unwrap()));
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().unwrap()
}

fn writers(work: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(work).into_iter().flatten().flatten().map(|entry| entry.path());
    entries.filter(|path| path.is_dir()).collect()
}

fn tables(part: &Path) -> Vec<String> {
    let files = ["steps.csv", "evals.csv", "residual.csv", "dimensions.csv", "dimension_steps.csv"];
    files.iter().map(|file| fs::read_to_string(part.join(file)).unwrap()).collect()
}

#[test]
fn copied_runs_are_named_in_the_answer() {
    let dir = lab(&[("seeds", "[0]")]);
    let at = dir.path();
    let (answer, _) = run(at, "a", &[]);
    assert!(!answer.contains("copied"), "{answer}");
    let other = ["--set", "arm.sgd.optimizer.lr=0.4"];
    let note = "4 of 5 runs were copied from other directories (run.json names their builds)";
    let (answer, _) = run(at, "b", &other);
    assert!(answer.contains(note), "{answer}");
    // Once more, where nothing is trained, and as JSON.
    let (answer, said) = run(at, "b", &other);
    assert!(said.contains("already complete") && answer.contains(note), "{answer}");
    let answer: Value = serde_json::from_str(&ok(at, &["report", "b", "--json"]).0).unwrap();
    assert!(answer["notes"].as_array().unwrap().iter().any(|found| found == note), "{answer}");
    let (answer, _) = run(at, "c", &["--only", "adam"]);
    assert!(answer.contains("1 of 1 runs was copied from another directory (run.json names its build)"), "{answer}");
    let (answer, _) = run(at, "d", &["--no-reuse"]);
    assert!(!answer.contains("copied"), "{answer}");
}

/// Only root can give a folder to another user; others have nothing to test with.
#[cfg(unix)]
#[test]
fn folders_of_other_users_are_not_copied_from() {
    use std::os::unix::fs::{MetadataExt, chown};
    let dir = lab(&[("seeds", "[0]")]);
    let at = dir.path();
    run(at, "a", &[]);
    let own = fs::metadata(at.join("a")).unwrap().uid();
    for (folder, copied) in [("a", 0), ("a/parts", 0), ("a/parts/adam", 4), ("a/parts/adam/0", 4), ("", 5)] {
        if !folder.is_empty() && chown(at.join(folder), Some(12345), None).is_err() {
            // Root alone can, and not in every container.
            continue;
        }
        let (_, said) = run(at, "b", &[]);
        assert_eq!(said.matches("copied from").count(), copied, "{folder}: {said}");
        fs::remove_dir_all(at.join("b")).unwrap();
        let _ = chown(at.join(folder), Some(own), None);
    }
}

#[cfg(unix)]
#[test]
fn pipes_and_links_in_a_finished_run_are_not_followed() {
    use std::os::unix::fs::symlink;
    let dir = lab(&[("seeds", "[0]")]);
    let at = dir.path();
    run(at, "a", &[]);
    let pipe = |path: &Path| assert!(Command::new("mkfifo").arg(path).status().unwrap().success());
    let moved = |path: &Path, replaced_by: &dyn Fn(&Path, &Path)| {
        let aside = at.join("aside");
        fs::rename(path, &aside).unwrap();
        replaced_by(&aside, path);
        aside
    };
    let link = |aside: &Path, path: &Path| symlink(aside, path).unwrap();
    let fifo = |_: &Path, path: &Path| pipe(path);
    let part = at.join("a/parts/adam/0");
    let copied = |expected: usize, what: &str| {
        let output = ended(start(at, &["run", "lab.toml", "--out", "b"]));
        assert_eq!(output.status.code(), Some(0), "{what}: {}", stderr(&output));
        assert_eq!(stderr(&output).matches("copied from").count(), expected, "{what}: {}", stderr(&output));
        fs::remove_dir_all(at.join("b")).unwrap();
    };
    for file in ["residual.csv", "done.json", "run.json", "timing.csv", "checkpoints"] {
        for (kind, with) in [("link", &link as &dyn Fn(&Path, &Path)), ("pipe", &fifo)] {
            let aside = moved(&part.join(file), with);
            copied(4, &format!("{file} is a {kind}"));
            fs::remove_file(part.join(file)).unwrap();
            fs::rename(aside, part.join(file)).unwrap();
        }
    }
    pipe(&part.join("checkpoints/pipe"));
    copied(4, "a pipe beside the checkpoints");
    fs::remove_file(part.join("checkpoints/pipe")).unwrap();
    for (folder, expected) in [("a/parts/adam", 4), ("a/parts", 0)] {
        let aside = moved(&at.join(folder), &link);
        copied(expected, folder);
        fs::remove_file(at.join(folder)).unwrap();
        fs::rename(aside, at.join(folder)).unwrap();
    }
    copied(5, "as it was");
}

#[test]
fn a_finished_part_of_another_identity_is_refused() {
    let dir = lab(&[("seeds", "[0]")]);
    let at = dir.path();
    run(at, "a", &[]);
    let path = at.join("a/parts/adam/0/run.json");
    let record = json(&path);
    for (key, value) in
        [("run", Value::from("00")), ("seed", 1.into()), ("corpus", "00".into()), ("numerics", 0.into())]
    {
        let mut other = record.clone();
        other["identity"][key] = value;
        fs::write(&path, other.to_string()).unwrap();
        refuses(at, &["run", "lab.toml", "--out", "a"], 7, &["parts/adam/0", "holds a run of another identity"]);
        assert_eq!(json(&path), other, "nothing is touched");
    }
}

#[test]
fn a_part_without_the_rows_of_its_end_is_not_complete() {
    let dir = lab(&[("seeds", "[0]")]);
    let at = dir.path();
    run(at, "a", &[]);
    let part = at.join("a/parts/adam/0");
    let whole = tables(&part);
    let done = json(&part.join("done.json"));
    // Each keeps the first lines of every table, with a done.json that fits them.
    for (lines, step) in [(1, 6), (2, 6), (2, 1)] {
        let mut forged = done.clone();
        forged["step"] = step.into();
        for (file, text) in
            ["steps.csv", "evals.csv", "residual.csv", "dimensions.csv", "dimension_steps.csv"].iter().zip(&whole)
        {
            let text: String = text.split_inclusive('\n').take(lines).collect();
            fs::write(part.join(file), &text).unwrap();
            forged["tables"][file] = serde_json::to_value(Extent::of(text.as_bytes())).unwrap();
        }
        fs::write(part.join("done.json"), forged.to_string()).unwrap();
        refuses(at, &["run", "lab.toml", "--out", "a"], 7, &["parts/adam/0", "ended at step", "to run it again"]);
        if lines == 1 {
            fs::remove_file(at.join("a/SHA256SUMS")).unwrap();
            for command in [&["report", "a"][..], &["verify", "a", "--steps", "2"]] {
                refuses(at, command, 7, &["parts/adam/0", "found no rows"]);
            }
        }
        let (_, said) = run(at, "b", &[]);
        assert!(said.matches("copied from").count() == 4 && !said.contains("adam seed 0: copied"), "{said}");
        fs::remove_dir_all(at.join("b")).unwrap();
    }
    fs::remove_dir_all(&part).unwrap();
    run(at, "a", &["--no-reuse"]);
    assert_eq!(tables(&part), whole);
}

/// The record of the first start decides, whenever the process was killed after it.
#[test]
fn a_kill_before_the_first_checkpoint_keeps_what_was_registered() {
    let dir = lab(&[("seeds", "[0]"), ("train.steps", "100"), ("train.batch_size", "64"), ("probe.every", "50")]);
    let at = dir.path();
    let args = ["run", "lab.toml", "--out", "o", "--no-reuse", "--jobs", "1"];
    let mut child = start(at, &args);
    let begun = || writers(&at.join("o/parts/adam/0.work")).iter().any(|own| own.join("run.json").is_file());
    while !begun() {
        assert!(child.try_wait().unwrap().is_none(), "it ended before it was killed");
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait_with_output().unwrap();
    assert!(!at.join("o/parts/adam/0").exists());
    let checkpoints = |own: &PathBuf| steps(&own.join("checkpoints")).unwrap().len();
    assert_eq!(writers(&at.join("o/parts/adam/0.work")).iter().map(checkpoints).sum::<usize>(), 0);
    ok(at, &[&args[..], &["--set", "verdict.smallest_effect=0.2"]].concat());
    let of_adam = verdicts(&at.join("o"), "registration");
    let (_, found) = of_adam.iter().find(|(claim, _)| claim == "adam-differs-from-sgd").unwrap();
    assert_eq!(found, "post-hoc", "{of_adam:?}");
}

/// A finished run again without its end, as if it had been killed; its checkpoints, newest first.
fn unfinish(part: &Path) -> Vec<u64> {
    fs::remove_file(part.join("done.json")).unwrap();
    steps(&part.join("checkpoints")).unwrap()
}

/// A change of the tensors in a file.
type Change<'a> = &'a dyn Fn(&mut Vec<NamedTensor>);

/// Replaces the newest checkpoint by one with other tensors, whole and of the same run.
fn forge(part: &Path, file: &str, change: Change<'_>) {
    let root = part.join("checkpoints");
    let owner = json(&part.join("run.json"))["identity"].clone();
    let newest = newest(&root, &owner, &mut |_| Ok(None), &mut |_| {}).unwrap().unwrap();
    let Checkpoint { step, mut files, tables } = newest;
    let mut tensors = decode_any(&files[file]).unwrap();
    change(&mut tensors);
    files.insert(file.to_owned(), encode(&tensors));
    save(&root, &owner, &Checkpoint { step, files, tables }).unwrap();
}

#[test]
fn a_checkpoint_with_tensors_of_another_shape_or_name_is_not_used() {
    let dir = lab(&[("seeds", "[0]"), ("train.steps", "24"), ("probe.every", "8")]);
    let at = dir.path();
    let args = ["--no-reuse", "--checkpoint-steps", "3"];
    run(at, "o", &args);
    let part = at.join("o/parts/adam/0");
    let whole = tables(&part);
    let narrower = |tensors: &mut Vec<NamedTensor>| {
        let tensor = tensors.iter_mut().find(|tensor| tensor.name == "blocks.0.w_q.first").unwrap();
        tensor.shape[1] -= 1;
        tensor.bytes.truncate(4 * tensor.shape.iter().product::<usize>());
    };
    let transposed = |tensors: &mut Vec<NamedTensor>| {
        tensors
            .iter_mut()
            .filter(|tensor| tensor.name.starts_with("blocks.0.w_in"))
            .for_each(|tensor| tensor.shape.reverse());
    };
    let renamed = |tensors: &mut Vec<NamedTensor>| tensors[0].name += "st";
    let stray = |tensors: &mut Vec<NamedTensor>| tensors[0].name = "w_x.first".to_owned();
    let missing = |tensors: &mut Vec<NamedTensor>| _ = tensors.remove(1);
    let cases: [(&str, Change<'_>, &str); 5] = [
        ("a narrower slot", &narrower, "blocks.0.w_q.first: found"),
        ("transposed slots", &transposed, "blocks.0.w_in."),
        ("a renamed slot", &renamed, "is unknown"),
        ("a slot of no parameter", &stray, "w_x.first is unknown"),
        ("a missing slot", &missing, "is missing"),
    ];
    for (what, change, said) in cases {
        assert_eq!(unfinish(&part), [24, 21]);
        forge(&part, "optimizer.safetensors", change);
        let output = basislab(at, &[&["run", "lab.toml", "--out", "o"], &args[..]].concat());
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(0), "{what}: {text}");
        assert!(
            text.contains(said) && text.contains("not used") && text.contains("resuming from step 21"),
            "{what}: {text}"
        );
        assert_eq!(tables(&part), whole, "{what}");
    }
    // Without a checkpoint that can be used nothing is guessed, and no folder is left behind.
    unfinish(&part);
    fs::remove_dir_all(part.join("checkpoints/0000000021")).unwrap();
    forge(&part, "optimizer.safetensors", &narrower);
    refuses(at, &[&["run", "lab.toml", "--out", "o"], &args[..]].concat(), 7, &["blocks.0.w_q.first", "delete"]);
    assert_eq!(writers(&at.join("o/parts/adam/0.work")), [] as [PathBuf; 0]);
}

/// What was read may be resumed from later; what was written of it is no work of anyone's.
#[cfg(target_os = "linux")]
#[test]
fn a_run_that_cannot_be_resumed_leaves_no_folder() {
    let dir = lab(&[("seeds", "[0]"), ("train.steps", "24"), ("probe.every", "8")]);
    let at = dir.path();
    let args = ["run", "lab.toml", "--out", "o", "--no-reuse", "--checkpoint-steps", "3"];
    ok(at, &args);
    let part = at.join("o/parts/adam/0");
    let whole = tables(&part);
    for extra in [&["--no-lock"][..], &[]] {
        unfinish(&part);
        // Room for run.json, and not for a table.
        let output = crate::support::limited(at, "ulimit -f 16", &[&args[..], extra].concat());
        assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
        assert!(stderr(&output).contains("cannot write"), "{}", stderr(&output));
        assert_eq!(writers(&at.join("o/parts/adam/0.work")), [] as [PathBuf; 0], "{extra:?}");
        let said = ok(at, &[&args[..], extra].concat()).1;
        assert!(said.contains("resuming from step 24"), "{said}");
        assert_eq!(tables(&part), whole, "{extra:?}");
    }
}

#[test]
fn a_run_whose_lock_another_process_holds_is_left_to_it() {
    let dir = lab(&[("seeds", "[0]")]);
    let at = dir.path();
    ok(at, &["run", "lab.toml", "--out", "o", "--no-reuse", "--only", "sgd"]);
    let work = at.join("o/parts/adam/0.work");
    fs::create_dir_all(&work).unwrap();
    let lock = Lock::take(&work).unwrap();
    lock.sign().unwrap();
    let adam = ["run", "lab.toml", "--out", "o", "--no-reuse", "--only", "adam"];
    refuses(at, &adam, 6, &["other processes have 1 of its runs", &format!("process {}", std::process::id())]);
    // The other arms are trained all the same.
    let all = ["run", "lab.toml", "--out", "o", "--no-reuse"];
    let output = basislab(at, &all);
    assert_eq!(output.status.code(), Some(6), "{}", stderr(&output));
    assert!(stderr(&output).contains("adam-rotated seed 0: ") && !stderr(&output).contains("adam seed 0: "));
    assert!(writers(&work).is_empty() && !at.join("o/parts/adam/0").exists());
    drop(lock);
    assert!(ok(at, &all).1.contains("  adam seed 0: "));
}

#[test]
fn two_processes_train_each_run_once() {
    let dir = lab(&[("seeds", "[0, 1, 2]"), ("train.steps", "60"), ("train.batch_size", "16")]);
    let at = dir.path();
    let args = ["run", "lab.toml", "--out", "o", "--no-reuse", "--jobs", "1"];
    let children = [start(at, &args), start(at, &args)];
    let outputs = children.map(ended);
    let mut said = String::new();
    for output in &outputs {
        assert!(matches!(output.status.code(), Some(0 | 6)), "{}", stderr(output));
        said += &stderr(output);
    }
    assert!(outputs.iter().any(|output| output.status.success()), "{said}");
    let experiment = small(&[("seeds", "[0, 1, 2]")]);
    for arm in &experiment.arms {
        for seed in &arm.seeds {
            assert_eq!(said.matches(&format!("  {} seed {seed}: ", arm.name)).count(), 1, "{said}");
        }
    }
    assert!(outputs.iter().any(|output| stdout(output).contains("planned runs are complete")));
}

/// Other processes wait for the directory's lock, at most a minute.
#[test]
fn the_laws_are_measured_before_the_directory_is_locked() {
    let dir = lab(&[("seeds", "[0]")]);
    let at = dir.path();
    let begun = Instant::now();
    let child = start(at, &["run", "lab.toml", "--out", "o", "--no-reuse", "--jobs", "1"]);
    let until = |file: &str| {
        while !at.join("o").join(file).exists() {
            assert!(begun.elapsed() < Duration::from_secs(120), "no {file}");
            std::thread::sleep(Duration::from_micros(200));
        }
        begun.elapsed()
    };
    let (locked, written) = (until(".lock"), until("manifest.json"));
    assert!(written - locked < locked, "the lock was held for {:?} of {written:?}", written - locked);
    let output = ended(child);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let laws = &json(&at.join("o/manifest.json"))["certificates"]["optimizers"][0]["laws"];
    assert!(laws.as_array().is_some_and(|laws| laws.len() > 5), "{laws}");
}

#[test]
fn the_hash_of_a_rule_depends_on_no_order_and_no_text() {
    let experiment = small(&[]);
    let mut other = experiment.clone();
    other.claims.reverse();
    other.arms.reverse();
    other.question = "Why?".to_owned();
    other.claims.iter_mut().for_each(|claim| claim.text += " indeed");
    other.seeds.push(77);
    let mut hashes = std::collections::BTreeSet::new();
    for claim in &experiment.claims {
        let same = other.claims.iter().find(|other| other.name == claim.name).unwrap();
        assert_eq!(experiment.rule_hash(claim), other.rule_hash(same), "{}", claim.name);
        hashes.insert(experiment.rule_hash(claim));
    }
    assert_eq!(hashes.len(), experiment.claims.len(), "each claim has a rule of its own");
}

/// A copy would be compared with itself.
#[test]
fn arms_whose_bits_are_compared_are_both_trained() {
    let dir = lab(&[("seeds", "[0]")]);
    let at = dir.path();
    let text = fs::read_to_string(at.join("lab.toml")).unwrap();
    let claim = "\n[[claim]]\nname = \"twin\"\ntext = \"t\"\ntest = { kind = \"bit-equal\", arm = \"twin\", other = \"adam\" }\nprimary = false\n";
    let arm = "\n[[arm]]\nname = \"twin\"\n";
    run(at, "a", &["--no-reuse"]);
    for (out, changes, copied) in
        [("a", format!("{arm}{claim}"), 0), ("b", format!("{arm}{claim}"), 4), ("c", arm.to_owned(), 6)]
    {
        fs::write(at.join("lab.toml"), format!("{text}{changes}")).unwrap();
        let (_, said) = run(at, out, &["--only", "twin,adam,sgd,adam-rotated,adam-identity,adam-independent"]);
        let is_copied = |arm: &str| said.contains(&format!("{arm} seed 0: copied from"));
        assert_eq!(said.matches(": copied from").count(), copied, "{out}: {said}");
        assert_eq!(is_copied("twin"), out == "c", "{out}: {said}");
    }
}

/// A run that began here keeps the record of its first start, though another directory has finished it meanwhile.
#[test]
fn a_run_that_began_here_is_continued_and_not_copied() {
    let dir = lab(&[("seeds", "[0]"), ("train.steps", "60")]);
    let at = dir.path();
    let args = ["run", "lab.toml", "--out", "o", "--no-reuse", "--jobs", "1"];
    let mut child = start(at, &args);
    while !writers(&at.join("o/parts/adam/0.work")).iter().any(|own| own.join("run.json").is_file()) {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let began = !at.join("o/parts/adam/0").exists();
    run(at, "p", &["--no-reuse"]);
    let (_, said) = run(at, "o", &[]);
    assert_eq!(said.contains("adam seed 0: copied from"), !began, "{said}");
    assert!(said.contains("sgd seed 0: copied from"), "{said}");
}
