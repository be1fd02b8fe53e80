//! What the system refuses (terminals, memory, threads, large files, OpenGL) ends in one line, or is done without.

use crate::cli::{stderr, stdout, tiny};
use crate::support::{limited, root, small};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use tempfile::TempDir;

fn basislab(dir: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_basislab"));
    command.current_dir(dir).env("NO_COLOR", "1");
    command
}

/// What the program writes to stderr when that is a terminal, and how it ends.
fn on_a_terminal(mut command: Command, term: Option<&str>) -> (String, Output) {
    let screen = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&screen).unwrap();
    unlockpt(&screen).unwrap();
    let name = ptsname(&screen, Vec::new()).unwrap();
    let terminal = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
    match term {
        Some(term) => command.env("TERM", term),
        None => command.env_remove("TERM"),
    };
    let child = command.stdout(Stdio::piped()).stderr(terminal).spawn().unwrap();
    // The command holds the terminal open; without it, reading ends (with an error) once the program has ended.
    drop(command);
    let mut seen = Vec::new();
    let reader = std::thread::spawn(move || {
        let mut screen = File::from(screen);
        let mut part = [0; 4096];
        while let Ok(read @ 1..) = screen.read(&mut part) {
            seen.extend_from_slice(&part[..read]);
        }
        seen
    });
    let output = child.wait_with_output().unwrap();
    (String::from_utf8_lossy(&reader.join().unwrap()).into_owned(), output)
}

#[test]
fn every_terminal_shows_warnings_and_progress() {
    let dir = TempDir::new().unwrap();
    let config = dir.path().join("short.toml");
    fs::write(&config, small(&[("seeds", "[0]"), ("train.steps", "12"), ("probe.every", "12")]).to_toml()).unwrap();
    let run = |extra: &[&str]| {
        let mut command = basislab(dir.path());
        command.args(["run", "short.toml", "--out", "o", "--checkpoint-steps", "4"]).args(extra);
        command
    };
    assert_eq!(run(&[]).output().unwrap().status.code(), Some(0));
    let part = dir.path().join("o/parts/adam/0");
    let damage = || {
        fs::remove_file(part.join("done.json")).unwrap();
        fs::write(part.join("checkpoints/0000000012/weights.safetensors"), "zeros").unwrap();
    };
    for term in [None, Some("dumb"), Some(""), Some("xterm"), Some("vt100")] {
        damage();
        let (seen, output) = on_a_terminal(run(&[]), term);
        assert_eq!(output.status.code(), Some(0), "{term:?}: {seen}");
        assert_eq!(seen.matches("damaged").count(), 1, "{term:?}: {seen}");
        assert!(seen.contains("adam seed 0: ") && seen.contains(" s"), "{term:?}: no line for the run in {seen}");
        // Only a terminal that can move its cursor gets a bar.
        let bar = term.is_some_and(|term| !["", "dumb"].contains(&term));
        assert_eq!(seen.contains('\u{1b}'), bar, "{term:?}: {seen:?}");
    }
    // `--quiet` is about progress.
    damage();
    let output = run(&["--quiet"]).output().unwrap();
    assert_eq!(stderr(&output).lines().count(), 1, "{}", stderr(&output));
    assert!(stderr(&output).contains("damaged"), "{}", stderr(&output));
}

#[test]
fn a_limit_on_the_size_of_files_names_the_file() {
    let dir = TempDir::new().unwrap();
    // In blocks of 512 bytes: enough for the manifest and not for the tables.
    for (blocks, out) in [(1, "a"), (60, "b"), (200, "c")] {
        let output = limited(dir.path(), &format!("ulimit -f {blocks}"), &tiny(&["--out", out]));
        let text = stderr(&output);
        assert_eq!(output.status.code(), Some(4), "{blocks}: {:?} {text}", output.status.signal());
        assert!(text.starts_with(&format!("error: {out}/")) && text.contains("cannot write"), "{blocks}: {text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    // Without the limit the same command ends what was begun.
    let output = basislab(dir.path()).args(tiny(&["--out", "c"])).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    // So does a command that only prints.
    let start = format!("ulimit -f 1; {} config show adam-vs-sgd > shown", env!("CARGO_BIN_EXE_basislab"));
    let output = Command::new("sh").args(["-c", &start]).current_dir(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(4), "{}", stderr(&output));
    assert!(stderr(&output).starts_with("error: stdout: "), "{}", stderr(&output));
}

/// Whether this user's processes can be limited: root's are not, so root becomes somebody else first.
fn as_nobody(user: u32, threads: usize, dir: &Path) -> Option<Command> {
    let mut command = if rustix::process::geteuid().is_root() {
        // An id that no other process has: the limit counts all of a user's. Tests run side by side, each as a `user`.
        let mut command = Command::new("prlimit");
        let id = 60_000 + 1000 * user + std::process::id() % 1000;
        command.arg(format!("--nproc={threads}")).arg("setpriv");
        command.args([format!("--reuid={id}"), format!("--regid={id}"), "--clear-groups".to_owned()]);
        command
    } else {
        return None;
    };
    command.arg(env!("CARGO_BIN_EXE_basislab")).current_dir(dir);
    Some(command)
}

/// Software Vulkan, where it is installed, and burn start threads while an adapter is opened.
#[test]
fn an_adapter_without_threads_is_an_error_and_no_panic() {
    let dir = TempDir::new().unwrap();
    Command::new("chmod").arg("777").arg(dir.path()).status().unwrap();
    let mut is_enough = false;
    for threads in 3..=11 {
        let Some(mut command) = as_nobody(1, threads, dir.path()) else { return };
        let output = command.arg("backends").output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{threads} threads: {}", stderr(&output));
        if is_enough {
            // The laws take long on software Vulkan.
            continue;
        }
        let Some(mut command) = as_nobody(1, threads, dir.path()) else { return };
        let output = command.args(["check", "--backend", "wgpu", "--steps", "2"]).output().unwrap();
        is_enough = output.status.success();
        let said = stderr(&output);
        assert!(!said.contains("panicked"), "{threads} threads: {said}");
        assert!(matches!(output.status.code(), Some(0 | 2 | 8 | 9)), "{threads} threads: {:?} {said}", output.status);
        let errors = said.lines().filter(|line| line.starts_with("error: ")).count();
        assert_eq!(errors, usize::from(output.status.code() != Some(0)), "{threads} threads: {said}");
    }
}

#[test]
fn where_threads_are_refused_fewer_do() {
    let dir = TempDir::new().unwrap();
    Command::new("chmod").arg("777").arg(dir.path()).status().unwrap();
    let text: String = (0..9000u64).map(|i| format!("{:x} ", i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40)).collect();
    fs::write(dir.path().join("t.txt"), text).unwrap();
    let mut whole = None;
    for threads in [1, 2, 3, 5, 9, 4000] {
        let out = format!("out-{threads}");
        let commands: [(&[&str], &str); 5] = [
            (&["run", "adam-vs-sgd", "--smoke", "--seeds", "0..2", "--jobs", "6", "--out", &out], "warning"),
            (&["check", "--steps", "2"], ""),
            (&["data", "describe", "--text", "t.txt", "--tokens", "1024"], ""),
            (&["list"], ""),
            (&["backends"], ""),
        ];
        for (args, warned) in commands {
            let Some(mut command) = as_nobody(0, threads, dir.path()) else { return };
            let output = command.args(args).output().unwrap();
            let said = stderr(&output);
            assert_eq!(output.status.code(), Some(0), "{threads} {args:?}: {said}");
            assert!(!said.contains("panicked"), "{threads} {args:?}: {said}");
            if !warned.is_empty() {
                // Six runs side by side and the threads beside them.
                assert_eq!(said.contains("instead of 6 --jobs"), threads < 6, "{threads}: {said}");
            }
        }
        // burn-ndarray starts threads of its own, or says which it lacks.
        for args in [
            &["check", "--backend", "ndarray", "--steps", "2"][..],
            &["run", "adam-vs-sgd", "--smoke", "--backend", "ndarray", "--out", "n"],
        ] {
            let Some(mut command) = as_nobody(0, threads, dir.path()) else { return };
            let output = command.args(args).output().unwrap();
            let said = stderr(&output);
            assert!(!said.contains("panicked"), "{threads} {args:?}: {said}");
            match output.status.code() {
                Some(0) => assert!(threads > 1, "{args:?}"),
                code => {
                    assert!(code == Some(8) && threads < 9, "{threads} {args:?}: {code:?} {said}");
                    assert!(said.contains("--backend ndarray: the system refuses the threads"), "{said}");
                }
            }
        }
        let table = fs::read(dir.path().join(&out).join("residual.csv")).unwrap();
        assert!(*whole.get_or_insert_with(|| table.clone()) == table, "other numbers with {threads} threads");
    }
}

#[test]
fn nothing_opens_opengl() {
    let dir = TempDir::new().unwrap();
    let source = root().join("tests/faults/opengl.c");
    for name in ["libEGL.so.1", "libEGL.so", "libGL.so.1", "libGLESv2.so.2"] {
        let built =
            Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(dir.path().join(name)).arg(&source).status();
        assert!(built.unwrap().success());
    }
    // The stand-in works: a program that has it loaded is gone.
    let loaded = Command::new("true").env("LD_PRELOAD", dir.path().join("libEGL.so.1")).output().unwrap();
    assert_eq!(loaded.status.signal(), Some(6), "{}", stderr(&loaded));
    // With the Vulkan drivers of this machine, and without any.
    for hidden in [false, true] {
        let program = |args: &[&str]| {
            let mut command = basislab(dir.path());
            command.args(args).env("LD_LIBRARY_PATH", dir.path());
            if hidden {
                for name in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
                    command.env(name, "/dev/null");
                }
            }
            command.output().unwrap()
        };
        let listed = program(&["backends"]);
        assert_eq!(listed.status.code(), Some(0), "{}", stderr(&listed));
        assert!(!stdout(&listed).contains("OpenGL") && !stdout(&listed).contains(", Gl"), "{}", stdout(&listed));
        let opened = program(&["check", "--backend", "wgpu", "--device", "99"]);
        assert_eq!(opened.status.code(), Some(2), "{}", stderr(&opened));
        let automatic = program(&["check", "--backend", "auto", "--device", "99"]);
        assert_eq!(automatic.status.code(), Some(2), "{}", stderr(&automatic));
    }
}

/// Exit 8 with one line that tells need and limit, and nothing else.
fn too_large(output: &Output, what: &str) {
    let text = stderr(output);
    assert_eq!(output.status.code(), Some(8), "{what}: {:?} {text}", output.status.signal());
    assert_eq!(text.lines().count(), 1, "{what}: {text}");
    assert!(text.contains("needs about ") && text.contains(" of memory, and "), "{what}: {text}");
}

#[test]
fn every_command_that_takes_a_size_or_a_file_estimates_its_memory_first() {
    let dir = TempDir::new().unwrap();
    // Distinct words, which a tokenizer keeps: 12 MB need half a gigabyte.
    let words: String =
        (0..1_500_000u64).map(|i| format!("{:x} ", i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 36)).collect();
    fs::write(dir.path().join("words.txt"), words).unwrap();
    assert_eq!(basislab(dir.path()).args(tiny(&["--out", "o"])).output().unwrap().status.code(), Some(0));
    // Rows that are read before anything is found wrong with them.
    let table = dir.path().join("o/evals.csv");
    let rows = fs::read_to_string(&table).unwrap();
    let (header, rows) = rows.split_once('\n').unwrap();
    fs::write(&table, format!("{header}\n{}", rows.repeat(80_000_000 / rows.len()))).unwrap();
    let commands: [&[&str]; 7] = [
        &["data", "describe", "--text", "words.txt", "--tokens", "1024"],
        &["data", "describe", "--tokens", "100000000"],
        &[
            "data",
            "describe",
            "--set",
            "corpus.d_vocab=65536",
            "--set",
            "corpus.classes=256",
            "--set",
            "corpus.overlap=0.9",
        ],
        &["data", "sample", "--count", "10000", "--set", "model.n_ctx=65536"],
        &["check", "--set", "model.d_model=8192", "--set", "model.d_mlp=32768"],
        &["run", "adam-vs-sgd", "--smoke", "--set", "corpus.kind=text", "--set", "corpus.path=words.txt", "--out", "p"],
        &["report", "o"],
    ];
    for args in commands {
        let least = limited(dir.path(), "ulimit -v 130000", args);
        assert!(matches!(least.status.code(), Some(0 | 2 | 3 | 8)), "{args:?}: {:?} {}", least.status, stderr(&least));
        too_large(&limited(dir.path(), "ulimit -v 400000", args), &format!("{args:?} with little address space"));
    }
    too_large(&limited(dir.path(), "ulimit -d 300000", commands[1]), "little data");
    // What fits is not refused.
    for args in [&["data", "describe", "--tokens", "100000"][..], &["check", "--steps", "2"], &["data", "sample"]] {
        let output = limited(dir.path(), "ulimit -v 400000", args);
        assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
    }
}
