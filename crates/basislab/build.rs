//! Embeds the experiments of `configs/` and records what this binary was built from.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

/// All that this binary is made from. Each is watched, and asked of git: the answer must not outlive a change.
const SOURCES: [&str; 6] = ["crates", "configs", "Cargo.toml", "Cargo.lock", ".cargo", "rust-toolchain.toml"];

fn main() {
    // At run time: the script may have been compiled for another checkout that shares the target folder.
    let root = Path::new(&env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../..");
    SOURCES.iter().for_each(|source| watch(&root.join(source)));
    let mut files: Vec<_> = fs::read_dir(root.join("configs"))
        .expect("configs/ is part of the repository")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    // By name: `a` before `a-b`, whose files are the other way round.
    files.sort_by_key(|file| file.file_stem().map(ToOwned::to_owned));
    let mut table = String::from("&[\n");
    for file in files {
        let name = file.file_stem().expect("a file").to_string_lossy().into_owned();
        let path = fs::canonicalize(&file).expect("it was just listed");
        writeln!(table, "    ({name:?}, include_str!({:?})),", path.display().to_string()).expect("into a string");
    }
    table.push(']');
    let out = env::var("OUT_DIR").expect("set by cargo");
    fs::write(Path::new(&out).join("experiments.rs"), table).expect("OUT_DIR is writable");

    watch_git(&root);
    let commit = git(&root, &["rev-parse", "HEAD"]).unwrap_or_else(|| "unknown".to_owned());
    println!("cargo::rustc-env=BASISLAB_COMMIT={commit}");
    let status = ["status", "--porcelain", "--untracked-files=all", "--"];
    let dirty = git(&root, &[&status[..], &SOURCES[..]].concat());
    println!(
        "cargo::rustc-env=BASISLAB_DIRTY={}",
        dirty.map_or("unknown".to_owned(), |text| (!text.is_empty()).to_string())
    );
    let rustc = Command::new(env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned())).arg("--version").output();
    let rustc = rustc.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default();
    println!("cargo::rustc-env=BASISLAB_RUSTC={rustc}");
    let lock = fs::read_to_string(root.join("Cargo.lock")).expect("Cargo.lock is committed");
    let burn = lock.split("name = \"burn\"\nversion = \"").nth(1).and_then(|tail| tail.split('"').next());
    println!("cargo::rustc-env=BASISLAB_BURN={}", burn.expect("burn is a dependency"));
}

/// Runs this script again when the file, or anything below the folder, changes. A path that does not exist would have cargo
/// run it at every build.
fn watch(path: &Path) {
    if path.exists() {
        println!("cargo::rerun-if-changed={}", path.display());
    }
}

/// Watches what changes with a commit, a checkout or a change of the index; in worktrees and submodules `.git` is a file, and
/// git knows where they are.
fn watch_git(root: &Path) {
    let path_of = |name: &str| git(root, &["rev-parse", "--git-path", name]).map(|path| root.join(path));
    for name in ["HEAD", "logs/HEAD", "index", "reftable/tables.list"] {
        path_of(name).iter().for_each(|path| watch(path));
    }
    let Some(branch) = git(root, &["symbolic-ref", "-q", "HEAD"]).and_then(|name| path_of(&name)) else { return };
    // A branch without a file of its own is in `packed-refs`, until the next commit makes the file.
    if !branch.exists() {
        path_of("packed-refs").iter().for_each(|path| watch(path));
    }
    branch.ancestors().find(|path| path.exists()).map(PathBuf::from).iter().for_each(|path| watch(path));
}

/// What git prints; `None` where there is no git or no repository.
fn git(root: &Path, args: &[&str]) -> Option<String> {
    let mut command = Command::new("git");
    // Reading the status must not write the index, which is watched. In a hook, git's variables name another repository.
    command.args(["--no-optional-locks", "-C"]).arg(root).args(args);
    for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
        command.env_remove(name);
    }
    let output = command.output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
