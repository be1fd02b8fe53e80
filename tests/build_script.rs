//! The build script: which commit the program was built from, and whether its sources were modified.

use crate::cli::{stderr, stdout};
use crate::support::root;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;
use tempfile::TempDir;

/// A repository in the layout of this one, whose program prints what the build script recorded.
struct Checkout {
    dir: PathBuf,
    target: PathBuf,
}

impl Checkout {
    fn git(&self, args: &[&str]) {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false"]);
        let output = git.args(args).current_dir(&self.dir).output().unwrap();
        assert!(output.status.success(), "git {args:?}: {}", stderr(&output));
    }

    fn write(&self, name: &str, text: &str) {
        // A time of its own for each change: cargo compares them.
        std::thread::sleep(Duration::from_millis(20));
        let path = self.dir.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Builds and returns what the program prints (commit and whether it was modified), and when the script ran.
    fn build(&self) -> (String, std::time::SystemTime) {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--offline", "--quiet", "--target-dir"]).arg(&self.target).current_dir(&self.dir);
        for name in ["CARGO_BUILD_RUSTFLAGS", "RUSTFLAGS", "CARGO_MANIFEST_DIR", "CARGO_BUILD_TARGET"] {
            cargo.env_remove(name);
        }
        let output = cargo.output().unwrap();
        assert!(output.status.success(), "{}", stderr(&output));
        let said = Command::new(self.target.join("debug/basislab")).output().unwrap();
        let scripts = fs::read_dir(self.target.join("debug/build")).unwrap().map(|entry| entry.unwrap().path());
        let ran = scripts.filter_map(|path| fs::metadata(path.join("output")).ok()?.modified().ok()).max().unwrap();
        (stdout(&said).trim().to_owned(), ran)
    }

    fn modified(&self) -> bool {
        let (said, _) = self.build();
        said.ends_with(" true")
    }

    fn commit(&self) -> String {
        let output = Command::new("git").args(["rev-parse", "HEAD"]).current_dir(&self.dir).output().unwrap();
        stdout(&output).trim().to_owned()
    }
}

#[test]
fn the_build_script_runs_again_when_what_it_reports_has_changed() {
    if Command::new("git").arg("--version").output().is_err() {
        return;
    }
    let dir = TempDir::new().unwrap();
    let main = Checkout { dir: dir.path().join("main"), target: dir.path().join("target") };
    fs::create_dir(&main.dir).unwrap();
    main.git(&["init", "--quiet", "--initial-branch=work/deep"]);
    main.write("Cargo.toml", "[workspace]\nresolver = \"3\"\nmembers = [\"crates/*\"]\n");
    main.write("rust-toolchain.toml", &fs::read_to_string(root().join("rust-toolchain.toml")).unwrap());
    main.write(".cargo/config.toml", "");
    main.write(".gitignore", "ignored\n");
    main.write("configs/one.toml", "");
    let manifest = |name: &str| format!("[package]\nname = \"{name}\"\nversion = \"0.22.1\"\nedition = \"2024\"\n");
    main.write("crates/burn/Cargo.toml", &manifest("burn"));
    main.write("crates/burn/src/lib.rs", "");
    main.write("crates/basislab/Cargo.toml", &manifest("basislab"));
    main.write("crates/basislab/build.rs", &fs::read_to_string(root().join("crates/basislab/build.rs")).unwrap());
    let print = "fn main() { println!(\"{} {}\", env!(\"BASISLAB_COMMIT\"), env!(\"BASISLAB_DIRTY\")); }\n";
    main.write("crates/basislab/src/main.rs", print);
    let locked = Command::new(env!("CARGO")).args(["generate-lockfile", "--offline"]).current_dir(&main.dir).output();
    assert!(locked.unwrap().status.success());
    main.git(&["add", "."]);
    main.git(&["commit", "--quiet", "-m", "one"]);
    main.git(&["worktree", "add", "--quiet", "-b", "other", "../tree"]);
    main.git(&["pack-refs", "--all"]);
    let tree = Checkout { dir: dir.path().join("tree"), target: dir.path().join("tree-target") };
    assert!(tree.dir.join(".git").is_file());
    for checkout in [&main, &tree] {
        let (said, first) = checkout.build();
        assert_eq!(said, format!("{} false", checkout.commit()));
        assert_eq!(checkout.build().1, first, "the script does not run where nothing changed");
        checkout.write("ignored", "");
        checkout.write("README.md", "not a source");
        assert_eq!(checkout.build().1, first, "nor for what is not a source");
        // Each is changed, and then put back as it was.
        for name in
            ["crates/burn/src/lib.rs", "configs/one.toml", "Cargo.toml", ".cargo/config.toml", "rust-toolchain.toml"]
        {
            let before = fs::read_to_string(checkout.dir.join(name)).unwrap();
            checkout.write(name, &format!("{before}\n"));
            assert!(checkout.modified(), "{name}");
            checkout.write(name, &before);
            assert!(!checkout.modified(), "{name} is as it was");
        }
        checkout.write("crates/burn/src/new/deep.rs", "");
        assert!(checkout.modified(), "a new file");
        checkout.write("crates/burn/src/lib.rs", "// changed\n");
        std::thread::sleep(Duration::from_millis(20));
        checkout.git(&["add", "."]);
        checkout.git(&["commit", "--quiet", "-m", "two"]);
        assert_eq!(checkout.build().0, format!("{} false", checkout.commit()), "a commit");
        std::thread::sleep(Duration::from_millis(20));
        checkout.git(&["commit", "--quiet", "--allow-empty", "-m", "three"]);
        assert_eq!(checkout.build().0, format!("{} false", checkout.commit()), "a commit without a change");
        std::thread::sleep(Duration::from_millis(20));
        fs::remove_file(checkout.dir.join("crates/burn/src/new/deep.rs")).unwrap();
        assert!(checkout.modified(), "a file that is gone");
        std::thread::sleep(Duration::from_millis(20));
        checkout.git(&["checkout", "--quiet", "."]);
        assert!(!checkout.modified(), "a file that is back");
        std::thread::sleep(Duration::from_millis(20));
        checkout.git(&["rm", "--quiet", "--cached", "configs/one.toml"]);
        assert!(checkout.modified(), "the index alone");
        checkout.git(&["reset", "--quiet"]);
    }
}
