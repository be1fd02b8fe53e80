#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

use super::*;
use clap::Parser;
use std::fs;
use std::process::{Command, Stdio};

/// `basislab plan script`.
#[derive(Debug, Parser)]
struct CommandLine {
    #[command(flatten)]
    args: ScriptArgs,
}

/// The script for the words after `basislab plan script`.
fn said(words: &[&str], runs: [usize; 2]) -> Result<String, String> {
    let line = CommandLine::try_parse_from(["script"].iter().chain(words)).map_err(|error| error.to_string())?;
    script(&line.args, runs).map_err(|error| error.to_string())
}

const ENGINES: [&[&str]; 5] = [
    &["slurm", "plan.jsonl"],
    &["hq", "plan.jsonl"],
    &["parallel", "plan.jsonl"],
    &["snakemake", "plan.jsonl"],
    &["k8s", "plan.jsonl", "--image", "registry/basislab:1", "--volume-claim", "shared"],
];

#[test]
fn every_engine_has_a_script_with_one_stage_and_with_two() {
    for words in ENGINES {
        let program = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
        let program = if words[0] == "k8s" { "\"basislab\"".to_owned() } else { program };
        let [one, two] = [0, 5].map(|second| {
            let text = said(words, [12, second]).unwrap();
            assert!(text.contains(&program), "{text}");
            text.replace(&program, "basislab")
        });
        for text in [&one, &two] {
            assert!(!text.contains("{{"), "{text}");
            assert!(text.contains("stage 1") || text.contains("stage_1") || text.contains(" 1 12"), "{text}");
            assert!(text.lines().all(|line| line.len() <= 140 && line.trim_end() == line), "{text}");
        }
        assert!(one.contains("the 12 runs of plan.jsonl") && two.contains("the 17 runs of plan.jsonl"), "{one}{two}");
        let second = ["submit 2 5", "train 2 5", "--stage 2"];
        assert!(!second.iter().any(|call| one.contains(call)), "{one}");
        assert!(second.iter().any(|call| two.contains(call)), "{two}");
    }
}

#[test]
fn a_task_has_as_many_runs_as_asked_for_and_by_default_a_thousand_tasks_are_enough() {
    for (chunk, runs, first, second) in [
        (None, [1, 0], "submit 1 1)", None),
        (None, [1000, 7], "submit 1 1000)", Some("submit 2 7 ")),
        (None, [1001, 7], "submit 1 501)", Some("submit 2 4 ")),
        (None, [2000, 2001], "submit 1 667)", Some("submit 2 667 ")),
        (Some("8"), [12, 8], "submit 1 2)", Some("submit 2 1 ")),
        (Some("100"), [12, 0], "submit 1 1)", None),
    ] {
        let mut words = vec!["slurm", "plan.jsonl"];
        words.extend(chunk.iter().flat_map(|chunk| ["--chunk", chunk]));
        let text = said(&words, runs).unwrap();
        assert!(text.contains(first), "{runs:?}: {text}");
        assert_eq!(text.contains("submit 2"), second.is_some(), "{runs:?}: {text}");
        assert!(second.is_none_or(|second| text.contains(second)), "{runs:?}: {text}");
    }
}

#[test]
fn the_signal_comes_before_the_time_limit() {
    for (time, lead) in [("0:01:00", 30), ("0:03:59", 119), ("0:04:00", 120), ("2-0:00:00", 120)] {
        let text = said(&["slurm", "plan.jsonl", "--time", time], [2, 0]).unwrap();
        assert!(text.contains(&format!(" --time={time} --signal=B:USR1@{lead} ")), "{text}");
    }
    let text = said(&["snakemake", "plan.jsonl", "--time", "1:00:00"], [2, 0]).unwrap();
    assert!(text.contains("runtime=60,") && text.contains("--time-limit 1:00:00\""), "{text}");
    let text = said(&["hq", "plan.jsonl", "--time", "1:00:00"], [2, 0]).unwrap();
    assert!(text.contains(" --time-request=3600s "), "{text}");
}

#[test]
fn options_of_other_engines_and_text_that_no_script_holds_are_refused() {
    for (words, part) in [
        (&["k8s", "plan.jsonl", "--volume-claim", "a"][..], "k8s needs --image, e.g. `--image registry/basislab:1`"),
        (&["k8s", "plan.jsonl", "--image", "a"], "k8s needs --volume-claim"),
        (
            &["k8s", "plan.jsonl", "--image", "a\nb", "--volume-claim", "a"],
            "--image: found \"a\\nb\", expected text without",
        ),
        (
            &["k8s", "plan.jsonl", "--image", "a", "--volume-claim", "a", "--time", "1:00:00"],
            "--time is for slurm, hq, snakemake",
        ),
        (&["slurm", "plan.jsonl", "--image", "a"], "--image is for k8s; found engine slurm; leave it out"),
        (&["hq", "plan.jsonl", "--volume-claim", "a"], "--volume-claim is for k8s"),
        (&["parallel", "plan.jsonl", "--time", "1:00:00"], "--time is for slurm, hq, snakemake; found engine parallel"),
        (&["snakemake", "plan.jsonl", "--option=-x"], "--option is for slurm, hq, parallel"),
        (&["slurm", "a\nrm -r b.jsonl"], "PLAN: found \"a\\nrm -r b.jsonl\""),
        (&["slurm", "a\u{2028}b"], "PLAN: found"),
        (&["slurm", "plan.jsonl", "--option=a\u{202e}b"], "--option: found"),
        (&["slurm", "plan.jsonl", "--program", "a\tb"], "--program: found"),
        (&["slurm", "plan.jsonl", "--time", "60"], "expected H:MM:SS or D-H:MM:SS"),
        (&["slurm", "plan.jsonl", "--chunk", "0"], "--chunk"),
        (&["slurm", "plan.jsonl", "--cpus", "-1"], "--cpus"),
    ] {
        let error = said(words, [2, 0]).unwrap_err();
        assert!(error.contains(part), "{words:?}: {error}");
    }
}

/// A word that does harm where it is not quoted, in a shell as in a template.
const ODD: &str = "it's \"odd\" $(touch oops) `touch oops` {{program}} %A {} \\";

#[test]
fn yaml_and_python_get_their_own_quotes() {
    let words = ["k8s", ODD, "--image", "a: b #c", "--volume-claim", "d\"e", "--program", "f g"];
    let text = said(&words, [2, 0]).unwrap();
    let plan = literal(&ODD.replace('$', "$$"));
    assert!(text.contains(&format!("- \"f g\"\n            - {plan}\n")), "{text}");
    assert!(text.contains(&format!("command: [\"f g\", collect, {plan}]")), "{text}");
    assert!(text.contains("image: \"a: b #c\"\n") && text.contains("claimName: \"d\\\"e\"\n"), "{text}");
    assert!(text.contains("  name: basislab-it-s-odd-touch-oops-touch-oops-stage-1\n"), "{text}");
    let text = said(&["snakemake", ODD], [2, 0]).unwrap();
    assert!(text.contains(&format!("\nPLAN = {}\n", literal(ODD))), "{text}");
    assert_eq!(label(Path::new("/a/--- .jsonl")), "plan");
    assert_eq!(label(Path::new("/a/My_Plan 2.jsonl")), "my-plan-2");
}

/// Runs scripts with stand-ins for the program and the engine: each program's call is a line of `calls`.
#[cfg(unix)]
#[test]
fn shells_run_the_scripts_and_every_word_arrives_as_it_was() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let here = folder.path();
    let stand_in = |name: &str, text: &str| {
        let path = here.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let calls = here.join("calls");
    let noted = format!("for word; do printf '[%s]' \"$word\"; done >> '{0}'; echo >> '{0}'", calls.display());
    // The first call ends with 75.
    let odd = ODD.replace('/', "");
    let program = stand_in(
        &format!("{odd}/basislab"),
        &format!("#!/bin/sh\n{noted}\n[ -e first ] || {{ : > first; exit 75; }}\n"),
    );
    stand_in("bin/scontrol", &format!("#!/bin/sh\nset -- scontrol \"$@\"\n{noted}\n"));
    // An array of two, whose tasks run one after another; the job's number is that of its stage.
    let arrays = "case \"$*\" in *--array=0-1*) tasks='0 1' ;; *) tasks=0 ;; esac\n";
    stand_in(
        "bin/sbatch",
        &format!(
            "#!/bin/sh\n{noted}\ncat > body\n{arrays}export SLURM_ARRAY_JOB_ID=7\nfor SLURM_ARRAY_TASK_ID in $tasks; do export SLURM_ARRAY_TASK_ID; sh body 1>&2; done\necho '7;cluster'\n"
        ),
    );
    stand_in(
        "bin/hq",
        &format!(
            "#!/bin/sh\n{noted}\n{arrays}while [ \"$1\" != -- ]; do shift; done; shift\nexport HQ_JOB_ID=7\nfor HQ_TASK_ID in $tasks; do export HQ_TASK_ID; \"$@\"; done\n"
        ),
    );
    stand_in(
        "bin/parallel",
        &format!(
            "#!/bin/sh\n{noted}\nwhile read n; do eval \"$(printf '%s' \"\\\"\\$basislab\\\" work \\\"\\$plan\\\" --shard $n\")\"; done\n"
        ),
    );
    let path = format!("{}:{}", here.join("bin").display(), std::env::var("PATH").unwrap());
    for engine in ["slurm", "hq", "parallel"] {
        for shell in ["sh", "dash", "bash"] {
            if Command::new(shell).args(["-c", ""]).status().is_err() {
                continue;
            }
            let option = format!("--option=--comment={ODD}");
            let text =
                said(&[engine, ODD, &option, "--program", &program, "--chunk", "2", "--cpus", "3"], [4, 1]).unwrap();
            // The folder in which this test runs is not the one where files may be written.
            let cwd = std::env::current_dir().unwrap();
            let text =
                text.replace(&format!("cd {}", quoted(cwd.to_str().unwrap())), &format!("cd '{}'", here.display()));
            fs::write(here.join("job.sh"), &text).unwrap();
            let checked = Command::new(shell).arg("-n").arg(here.join("job.sh")).output().unwrap();
            assert!(
                checked.status.success() && checked.stderr.is_empty(),
                "{}",
                String::from_utf8_lossy(&checked.stderr)
            );
            let _ = (fs::remove_file(&calls), fs::remove_file(here.join("first")));
            let done =
                Command::new(shell).arg("job.sh").current_dir(here).env("PATH", &path).stdin(Stdio::null()).output();
            let done = done.unwrap();
            assert!(done.status.success(), "{engine} {shell}: {}", String::from_utf8_lossy(&done.stderr));
            let calls = fs::read_to_string(&calls).unwrap();
            let of = |first: &str| calls.lines().filter(|call| call.starts_with(first)).collect::<Vec<_>>();
            let work = |stage: usize, shard: &str| {
                format!("[work][{ODD}][--stage][{stage}][--shard][{shard}][--jobs][3][--threads][3]")
            };
            let mut expected = vec![work(1, "0/2"), work(1, "1/2"), work(2, "0/1")];
            match engine {
                "slurm" => {
                    assert_eq!(of("[scontrol"), ["[scontrol][requeue][7_0]"], "{calls}");
                    let after = ["[--array=0-1]", "[--dependency=afterany:7]", "[--dependency=afterany:7]"];
                    let submitted = of("[--parsable]");
                    assert_eq!(submitted.len(), 3, "{calls}");
                    for (call, part) in submitted.iter().zip(after) {
                        assert!(call.contains(part) && call.contains(&format!("[--comment={ODD}]")), "{calls}");
                    }
                }
                // It tries again by itself.
                "hq" => {
                    expected.insert(0, work(1, "0/2"));
                    assert!(
                        of("[submit]").iter().all(|call| call.contains(&format!("[--comment={ODD}][--][sh]"))),
                        "{calls}"
                    );
                }
                _ => {
                    expected = ["0", "1", "0"].iter().map(|n| format!("[work][{ODD}][--shard][{n}]")).collect();
                    let ends = "[\"$basislab\" work \"$plan\"][--stage][1][--shard][{}/2][--jobs][3][--threads][3]";
                    assert!(of("[--jobs]")[0].ends_with(ends) && of("[--jobs]")[0].contains("[33%]"), "{calls}");
                }
            }
            assert_eq!(of("[work]"), expected, "{engine} {shell}");
            assert_eq!(of("[collect]"), [format!("[collect][{ODD}]")], "{engine} {shell}");
            assert!(!here.join("oops").exists() && !cwd.join("oops").exists(), "{engine} {shell}");
        }
    }
}
