//! The repository itself: long files, committed evidence, the README's numbers, feature lines.

mod additions;
mod margins;
mod public_models;
mod quotes;

use crate::support::{loaded, root};
use std::path::{Path, PathBuf};
use std::process::Command;

fn files(dir: &Path, ending: &str) -> Vec<PathBuf> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            all.extend(files(&path, ending));
        } else if path.to_string_lossy().ends_with(ending) {
            all.push(path);
        }
    }
    all
}

#[test]
fn source_files_stay_readable() {
    for file in files(&root().join("crates"), ".rs") {
        let text = std::fs::read_to_string(&file).unwrap();
        let lines = text.lines().count();
        assert!(lines <= 400, "{}: {lines} lines", file.display());
    }
}

#[test]
fn library_crates_name_no_backend_and_burn_free_crates_no_burn() {
    for (name, burn) in [
        ("config", false),
        ("stats", false),
        ("data", false),
        ("tables", false),
        ("report", false),
        ("export", false),
        ("store", false),
        ("model", true),
        ("kernels", false),
        ("import", false),
        ("measure", true),
        ("import", false),
        ("measure", true),
        ("optim", true),
        ("train", true),
        ("runs", true),
    ] {
        let text = std::fs::read_to_string(root().join(format!("crates/basislab-{name}/Cargo.toml"))).unwrap();
        // Their own tests may want a backend.
        let text = text.split("[dev-dependencies]").next().unwrap();
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with("burn")).collect();
        assert_eq!(lines, if burn { vec!["burn.workspace = true"] } else { vec![] }, "basislab-{name}");
    }
    for name in ["config", "stats", "data", "tables", "report", "export", "store", "kernels", "import"] {
        let tree = Command::new(env!("CARGO"))
            .args(["tree", "--offline", "-e", "normal", "--prefix", "none", "-p", &format!("basislab-{name}")])
            .current_dir(root())
            .output()
            .unwrap();
        let text = String::from_utf8(tree.stdout).unwrap();
        assert!(tree.status.success() && text.contains("basislab"), "{}", String::from_utf8_lossy(&tree.stderr));
        assert!(!text.lines().any(|line| line.starts_with("burn")), "basislab-{name} reaches burn:\n{text}");
    }
}

#[test]
fn committed_evidence_is_small_and_reproducible() {
    for entry in std::fs::read_dir(root().join("results")).unwrap() {
        let dir = entry.unwrap().path();
        if !dir.is_dir() {
            continue;
        }
        // A page is not committed: `basislab report` makes it.
        let committed = files(&dir, "").into_iter().filter(|file| !file.ends_with("report.html"));
        let total: u64 = committed.map(|file| file.metadata().unwrap().len()).sum();
        assert!(total <= 3_000_000, "{}: {total} bytes", dir.display());
        if let Ok(text) = std::fs::read_to_string(dir.join("config.toml")) {
            let experiment = loaded(&text, "config.toml", &[]).unwrap().experiment;
            let manifest: serde_json::Value =
                serde_json::from_str(&std::fs::read_to_string(dir.join("manifest.json")).unwrap()).unwrap();
            for arm in &experiment.arms {
                let known = &manifest["arms"][arm.name.as_str()]["run"];
                assert_eq!(*known, arm.run.hash(), "{}: config.toml is not the one that ran", dir.display());
            }
        }
    }
}

#[test]
fn ci_runs_every_test_that_opens_a_gpu_with_a_driver() {
    let script = std::fs::read_to_string(root().join(".ci/run")).unwrap();
    let line = script.lines().find(|line| line.starts_with("on_wgpu=(")).unwrap();
    let wanted: Vec<&str> = line["on_wgpu=(".len()..].trim_end_matches(')').split_whitespace().collect();
    let mut found = 0;
    for file in files(&root().join("tests"), ".rs") {
        let path = file.strip_prefix(root().join("tests")).unwrap().with_extension("");
        let module = path.to_string_lossy().replace('/', "::");
        let text = std::fs::read_to_string(&file).unwrap();
        for part in text.split("#[test]").skip(1) {
            let body = part.split("\n}\n").next().unwrap();
            let opens = ["everywhere()", "Frail::new()", "\"wgpu\""].iter().any(|word| body.contains(word));
            if !opens || module == "tidy" {
                continue;
            }
            let name = part.split("fn ").nth(1).and_then(|rest| rest.split('(').next()).unwrap();
            let name = format!("{module}::{name}");
            found += 1;
            assert!(wanted.iter().any(|wanted| name.contains(wanted)), ".ci/run does not run {name} on wgpu");
        }
    }
    assert!(found > 12, "only {found} tests that open a GPU");
}

#[test]
fn workflow_and_image_follow_the_repository() {
    let [toolchain, workflow, image] = ["rust-toolchain.toml", ".github/workflows/ci.yml", "Dockerfile"]
        .map(|file| std::fs::read_to_string(root().join(file)).unwrap());
    let version = toolchain.lines().find_map(|line| line.strip_prefix("channel = \"")?.strip_suffix(".0\"")).unwrap();
    let tag = format!("rust:{version}-bookworm");
    assert!(workflow.contains(&format!("container: {tag}\n")) && image.contains(&format!("FROM {tag} AS build\n")));
    let ran: Vec<&str> = workflow.lines().filter_map(|line| Some(line.split_once("run: ")?.1)).collect();
    assert_eq!(ran, [".ci/run"], "what the workflow does is in .ci/run");
    let build = image.lines().find_map(|line| line.strip_prefix("RUN cargo build ")).unwrap();
    let (_, features) = build.split_once("--no-default-features --features ").unwrap();
    let known = std::fs::read_to_string(root().join("crates/basislab/Cargo.toml")).unwrap();
    assert!(features.split(',').all(|feature| known.contains(&format!("\n{feature} = ["))), "{build}");
}

#[test]
fn documents_stay_short_and_their_configurations_load() {
    let lines = |name: &str| std::fs::read_to_string(root().join(name)).unwrap().lines().count();
    assert!(lines("ARCHITECTURE.md") <= 150, "ARCHITECTURE.md: {} lines", lines("ARCHITECTURE.md"));
    assert!(lines("README.md") <= 110, "README.md: {} lines", lines("README.md"));
    assert!(lines("CONTRIBUTING.md") <= 80, "CONTRIBUTING.md: {} lines", lines("CONTRIBUTING.md"));
    let built_in = |name: &str| {
        let path = root().join("configs").join(format!("{name}.toml"));
        std::fs::read_to_string(path).map(|text| (name.to_owned(), text)).map_err(|error| error.to_string())
    };
    let library = basislab_config::Library { rules: basislab_optim::rule_keys(), base: &built_in };
    let mut found = 0;
    for name in ["README.md", "docs/configuration.md"] {
        let text = std::fs::read_to_string(root().join(name)).unwrap();
        for block in text.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()) {
            if block.trim_start().starts_with("base =") {
                found += 1;
                basislab_config::load(block, name, &[], library).unwrap_or_else(|error| panic!("{error}\n{block}"));
            }
        }
    }
    assert!(found >= 5, "only {found} configurations in the documents");
}
