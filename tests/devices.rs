//! Choosing a device from the command line.

use crate::cli::{basislab, refuses, stderr, stdout, tiny};
use crate::support::backends;
use serde_json::Value;
use std::path::Path;
use tempfile::TempDir;

fn manifest(dir: &Path, out: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(dir.join(out).join("manifest.json")).unwrap()).unwrap()
}

#[test]
fn backends_are_listed_with_their_devices() {
    let dir = TempDir::new().unwrap();
    let output = basislab(dir.path(), &["backends", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stderr(&output), "");
    let value: Value = serde_json::from_str(&stdout(&output)).unwrap();
    assert_eq!(value["cpu"], "flex");
    let all = value["backends"].as_array().unwrap();
    assert_eq!(
        all.iter().map(|one| one["backend"].as_str().unwrap()).collect::<Vec<_>>(),
        ["flex", "ndarray", "wgpu", "cuda"]
    );
    for one in all {
        let (devices, missing) = (one["devices"].as_array().unwrap(), &one["missing"]);
        assert_eq!(devices.is_empty(), missing.is_string(), "{one}");
        for device in devices {
            assert!(device["dtypes"].as_array().unwrap().contains(&"f32".into()), "{device}");
            for key in ["name", "driver", "kind", "products"] {
                assert!(device[key].as_str().is_some_and(|text| !text.is_empty()), "{key}: {device}");
            }
        }
    }
    let flex = &all[0]["devices"][0];
    assert_eq!((&flex["kind"], &flex["products"]), (&"cpu".into(), &"f32".into()));
    assert!(flex["memory"].as_u64().is_some_and(|bytes| bytes > 1 << 28), "{flex}");
    let text = stdout(&basislab(dir.path(), &["backends"]));
    assert!(text.contains("`--backend cpu`, the default, means flex here"), "{text}");
    // Each value stands in the column of its name.
    for device in all[..2].iter().flat_map(|backend| backend["devices"].as_array().unwrap()) {
        let of = |key: &str| device[key].as_str().unwrap();
        let types: Vec<&str> = device["dtypes"].as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect();
        let (index, types) = (device["index"].to_string(), types.join(" "));
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let line = text.lines().map(words).find(|line| line.starts_with(&format!("{} ", of("backend")))).unwrap();
        let start = [of("backend"), &index, of("name"), of("kind"), of("driver")].join(" ");
        assert!(line.starts_with(&start) && line.ends_with(&format!("{types} {}", of("products"))), "{line}: {device}");
    }
    let header = ["--backend", "--device", "name", "kind", "driver", "memory", "dtypes", "products"];
    assert_eq!(text.lines().next().unwrap().split_whitespace().collect::<Vec<_>>(), header);
}

#[test]
fn what_is_not_there_is_one_line() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    refuses(at, &tiny(&["--device", "1"]), 2, &["--device 1: found 1 device of flex", "`basislab backends`"]);
    refuses(at, &["check", "--backend", "ndarray", "--device", "7"], 2, &["--device 7: found 1 device of ndarray"]);
    let bf16 = ["--backend", "ndarray", "--set", "model.param_dtype=bf16", "--set", "model.compute_dtype=bf16"];
    refuses(at, &tiny(&bf16), 2, &["--backend ndarray: found bf16", "expected a type that", "f32"]);
    refuses(
        at,
        &tiny(&["--set", "model.compute_dtype=f64"]),
        2,
        &["model.compute_dtype: found f64, expected model.param_dtype = f32"],
    );
    #[cfg(not(feature = "cuda"))]
    refuses(at, &tiny(&["--backend", "cuda"]), 2, &["cargo build --release --features cuda"]);
    assert!(!at.join("runs").exists(), "nothing is begun");
}

#[test]
fn tables_and_manifest_say_where_they_were_made() {
    let dir = TempDir::new().unwrap();
    // On wgpu CI looks at the smoke run of the main job, which takes minutes on a software GPU.
    for (name, _) in backends() {
        let args = ["run", "adam-vs-sgd", "--smoke", "--quiet", "--backend", name, "--out", name];
        let small = [
            "--set",
            "model.n_layers=1",
            "--set",
            "train.batch_size=2",
            "--set",
            "probe.loss_sequences=2",
            "--set",
            "probe.residual_sequences=2",
        ];
        let output = basislab(dir.path(), &[&args[..], &small].concat());
        assert_eq!(output.status.code(), Some(0), "{name}: {}", stderr(&output));
        assert_eq!(stderr(&output), "", "{name}");
        let found = manifest(dir.path(), name);
        let device = &found["device"];
        assert_eq!((&device["backend"], &device["index"]), (&name.into(), &0.into()), "{device}");
        assert_eq!((&device["param_dtype"], &device["compute_dtype"]), (&"f32".into(), &"f32".into()), "{device}");
        assert_eq!(device["products"]["precision"], "f32", "{device}");
        let (kernels, others) = (&device["parts"]["fused_kernels"], &device["parts"]["burn_operations"]);
        let all = if device["backend"] == "flex" { kernels } else { others };
        assert_eq!(all.as_array().unwrap().len(), 6, "{device}");
        let timing = std::fs::read_to_string(dir.path().join(name).join("timing.csv")).unwrap();
        let (driver, model) = (device["driver"].as_str().unwrap(), device["name"].as_str().unwrap());
        for line in timing.lines().skip(1) {
            assert!(line.contains(&format!(",{name},")) && line.contains(model) && line.contains(driver), "{line}");
        }
        let summary = std::fs::read_to_string(dir.path().join(name).join("summary.csv")).unwrap();
        assert!(summary.lines().nth(1).unwrap().contains(&format!("{name}: {model}, {driver}")), "{summary}");
        // The same command again finds the same device and nothing to do; another backend is another directory.
        let again = basislab(dir.path(), &[&args[..], &small].concat());
        assert_eq!(again.status.code(), Some(0), "{name}: {}", stderr(&again));
    }
    let other = ["run", "adam-vs-sgd", "--smoke", "--quiet", "--backend", "ndarray", "--out", "flex"];
    refuses(dir.path(), &other, 7, &["backend: \"flex\" there, \"ndarray\" here"]);
}

#[cfg(all(target_os = "linux", feature = "wgpu"))]
#[test]
fn a_machine_without_a_gpu_says_so() {
    let dir = TempDir::new().unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_basislab"));
    // No Vulkan driver; an OpenGL one is no GPU.
    for name in ["VK_DRIVER_FILES", "VK_ICD_FILENAMES"] {
        command.env(name, "/dev/null");
    }
    let output = command.args(tiny(&["--backend", "wgpu"])).current_dir(dir.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    let text = stderr(&output);
    assert!(
        text.lines().count() == 1 && text.contains("no usable GPU adapter") && text.contains("--backend cpu"),
        "{text}"
    );
}

/// The reason why SPIR-V is not the default: while Mesa 22.3.6's software Vulkan compiles burn's kernel for a product, it
/// crashes, and takes the program along. The day this test fails, make the feature `vulkan` a part of `wgpu`.
///
/// `cargo test --release --features vulkan --test it spirv`
#[cfg(all(target_os = "linux", feature = "vulkan"))]
#[test]
fn spirv_kernels_still_crash_mesas_software_vulkan() {
    use std::os::unix::process::ExitStatusExt;
    let output = basislab(Path::new("."), &["backends"]);
    assert_eq!(output.status.signal(), Some(11), "no crash: {}{}", stdout(&output), stderr(&output));
}
