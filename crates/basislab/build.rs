//! Embeds the experiments of `configs/` and records what this binary was built from.

use std::fmt::Write as _;
use std::path::Path;
use std::process::Command;
use std::{env, fs};

fn main() {
    // At run time: the script may have been compiled for another checkout that shares the target folder.
    let root = Path::new(&env::var_os("CARGO_MANIFEST_DIR").expect("cargo sets it")).join("../..");
    println!("cargo::rerun-if-changed={}", root.join("configs").display());
    println!("cargo::rerun-if-changed={}", root.join("Cargo.lock").display());
    let mut files: Vec<_> = fs::read_dir(root.join("configs"))
        .expect("configs/ is part of the repository")
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .collect();
    files.sort();
    let mut table = String::from("&[\n");
    for file in files {
        println!("cargo::rerun-if-changed={}", file.display());
        let name = file.file_stem().expect("a file").to_string_lossy().into_owned();
        let path = fs::canonicalize(&file).expect("it was just listed");
        writeln!(table, "    ({name:?}, include_str!({:?})),", path.display().to_string()).expect("into a string");
    }
    table.push(']');
    let out = env::var("OUT_DIR").expect("set by cargo");
    fs::write(Path::new(&out).join("experiments.rs"), table).expect("OUT_DIR is writable");

    let git = |args: &[&str]| {
        let output = Command::new("git").arg("-C").arg(&root).args(args).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    println!("cargo::rerun-if-changed={}", root.join(".git/logs/HEAD").display());
    println!(
        "cargo::rustc-env=BASISLAB_COMMIT={}",
        git(&["rev-parse", "HEAD"]).unwrap_or_else(|| "unknown".to_owned())
    );
    let dirty = git(&["status", "--porcelain", "--", "crates", "configs", "Cargo.toml", "Cargo.lock"]);
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
