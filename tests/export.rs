//! `basislab export`, `completions` and `man` from outside: the forms hold what the directory does.

use crate::cli::{basislab, refuses, stderr, stdout};
use crate::support::{flex, small};
use basislab_import::{ImportError, open};
use basislab_model::{InParts, cross_entropy};
use basislab_store::MatrixFile;
use basislab_tables::{EvalRow, read_table};
use burn::tensor::{DType, Int, Tensor, TensorData};
use std::fs::{self, File};
use std::io;
use std::path::Path;
use tempfile::TempDir;

/// Arms of other architectures, and the class of `transformers` that computes each; `None` where there is none.
const ARMS: [(&str, &str, Option<&str>); 9] = [
    ("adam", "", Some("ImageGPTForCausalImageModeling")),
    ("rms", "model.norm=rms,model.tied_head=true,model.activation=relu", Some("ImageGPTForCausalImageModeling")),
    (
        "gpt2",
        "model.norm=layernorm,model.biases=true,model.activation=gelu-tanh,model.tied_head=true",
        Some("GPT2LMHeadModel"),
    ),
    (
        "neox",
        "model.norm=layernorm,model.positions.kind=rope,model.positions.dims=4,model.branches=parallel",
        Some("GPTNeoXForCausalLM"),
    ),
    ("llama", "model.positions.kind=rope,model.mlp=swiglu,model.n_kv_heads=1", Some("LlamaForCausalLM")),
    (
        "qwen2",
        "model.norm=rms-gain,model.positions.kind=rope,model.mlp=swiglu,model.qkv_biases=true",
        Some("Qwen2ForCausalLM"),
    ),
    (
        "qwen3",
        "model.norm=rms,model.positions.kind=rope,model.mlp=swiglu,model.qk_norm=true,model.d_head=6",
        Some("Qwen3ForCausalLM"),
    ),
    ("solu", "model.activation=solu,model.attention=softmax-1", None),
    ("odd", "model.norm=layernorm,model.mlp=swiglu", None),
];

/// A finished directory `o` with those arms, one seed, six steps.
fn lab(dir: &Path) {
    let arms: Vec<String> = ARMS.iter().skip(1).map(|(name, sets, _)| format!("{name}=adam,{sets}")).collect();
    let mut changes: Vec<(&str, &str)> = arms.iter().map(|arm| ("arm", arm.as_str())).collect();
    changes.push(("seeds", "[0]"));
    fs::write(dir.join("lab.toml"), small(&changes).to_toml()).unwrap();
    let output = basislab(dir, &["run", "lab.toml", "--quiet", "--out", "o"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

fn export(dir: &Path, args: &[&str]) -> String {
    let output = basislab(dir, &[&["export", "o"], args].concat());
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

/// The held-out tokens of an export, and their shape.
fn tokens(folder: &Path) -> (Vec<i32>, [usize; 2]) {
    let bytes = fs::read(folder.join("held_out_tokens.npy")).unwrap();
    let header = String::from_utf8_lossy(&bytes[..128]).into_owned();
    let shape = header.split("'shape': (").nth(1).unwrap().split(')').next().unwrap();
    let shape: Vec<usize> = shape.split(", ").filter(|n| !n.is_empty()).map(|n| n.parse().unwrap()).collect();
    let values = bytes[128..].as_chunks().0.iter().map(|id| i32::from_le_bytes(*id)).collect();
    (values, [shape[0], shape[1]])
}

/// The loss of a directory of Hugging Face, as our own reader has it.
fn loss(folder: &Path) -> f64 {
    let source = open(folder, None).unwrap();
    let (all, [count, length]) = tokens(folder);
    let device = flex();
    let part = |range: std::ops::Range<usize>| {
        let values: Vec<i32> = all.chunks(length).flat_map(|row| row[range.clone()].to_vec()).collect();
        Tensor::<2, Int>::from_data(TensorData::new(values, [count, range.len()]), (&device, DType::I32))
    };
    let (inputs, targets) = (part(0..length - 1), part(1..length));
    let mut read = |path: &str, shape: [usize; 2]| -> Result<Vec<f32>, ImportError> { source.read(path, shape) };
    let mut rows: Vec<Tensor<2>> = Vec::new();
    let (spec, d_vocab) = (&source.spec, source.d_vocab);
    let parts = InParts { spec, d_vocab, has_head: true, device: &device, rotation: None, rounding: None };
    parts.forward(vec![inputs], &mut read, &mut |_, _| {}, &mut |logits| rows.push(logits)).unwrap();
    cross_entropy(Tensor::cat(rows, 0), targets).into_data().iter::<f64>().next().unwrap()
}

#[test]
fn weights_for_transformers_have_the_loss_of_the_run() {
    let dir = TempDir::new().unwrap();
    lab(dir.path());
    let evals = read_table::<EvalRow>(&dir.path().join("o")).unwrap();
    for (arm, _, architecture) in ARMS {
        let args = ["--to", "model-card", "--arm", arm, "--seed", "0"];
        let Some(architecture) = architecture else {
            let keys: &[&str] = match arm {
                "solu" => &["model.attention = \"softmax-1\" and model.activation = \"solu\"", "ImageGPT"],
                _ => &["norm = \"layernorm\"", "mlp = \"swiglu\"", "expected"],
            };
            refuses(dir.path(), &[&["export", "o"], &args[..]].concat(), 3, keys);
            continue;
        };
        assert!(export(dir.path(), &args).contains(architecture), "{arm}");
        let folder = dir.path().join(format!("o-{arm}-0"));
        let wanted = evals.iter().rfind(|row| row.arm.as_str() == arm).unwrap();
        let (found, wanted) = (loss(&folder), wanted.loss.unwrap());
        assert!((found - wanted).abs() < 1e-5, "{arm}: {found}, {wanted}");
        let card = fs::read_to_string(folder.join("README.md")).unwrap();
        assert!(card.contains(&format!("{wanted:.6} nats")) && card.contains(architecture), "{card}");
    }
    // What `transformers` cannot be told is in the plain form.
    assert!(export(dir.path(), &["--to", "weights", "--arm", "solu", "--seed", "0"]).contains("tensors in float32"));
    let text = fs::read_to_string(dir.path().join("o-solu-0-weights/model.json")).unwrap();
    let model: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&model["model"]["activation"], &model["step"]), (&"solu".into(), &6.into()));
    assert_eq!(model["texts"].as_array().unwrap().len(), 32);
    let file = dir.path().join("o-solu-0-weights/weights.safetensors");
    assert_eq!(MatrixFile::safetensors(File::open(&file).unwrap(), Some("blocks.1.w_in")).unwrap().shape(), [16, 24]);
}

#[test]
fn an_unpacked_bundle_gives_the_report_of_its_directory() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("lab.toml"), small(&[("seeds", "[0, 1]")]).to_toml()).unwrap();
    let run = &["run", "lab.toml", "--quiet", "--out", "o"];
    refuses(dir.path(), &["export", "nowhere", "--to", "bundle"], 3, &["nowhere"]);
    assert_eq!(basislab(dir.path(), run).status.code(), Some(0));
    export(dir.path(), &["--to", "bundle"]);
    let unpacked = dir.path().join("unpacked");
    let mut zip = zip::ZipArchive::new(File::open(dir.path().join("o-bundle.zip")).unwrap()).unwrap();
    for index in 0..zip.len() {
        let mut entry = zip.by_index(index).unwrap();
        let path = unpacked.join(entry.enclosed_name().unwrap());
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        io::copy(&mut entry, &mut File::create(path).unwrap()).unwrap();
    }
    let report = |at: &Path| {
        let output = basislab(at, &["report", "o", "--json"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        serde_json::from_str::<serde_json::Value>(&stdout(&output)).unwrap()
    };
    let (before, after) = (report(dir.path()), report(&unpacked));
    assert!(before["verdicts"].as_array().is_some_and(|verdicts| !verdicts.is_empty()), "{before}");
    assert_eq!(before["verdicts"], after["verdicts"]);
    assert_eq!(before["arms"], after["arms"]);
    assert!(before["outliers"].as_array().is_some_and(|outliers| !outliers.is_empty()), "{before}");
    assert_eq!(before["outliers"], after["outliers"]);
    assert!(unpacked.join("o/report.html").is_file());
    // The zip itself, from which nothing stays.
    let output = basislab(dir.path(), &["report", "o-bundle.zip", "--json"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let zipped: serde_json::Value = serde_json::from_str(&stdout(&output)).unwrap();
    for key in ["verdicts", "arms", "outliers", "files", "notes"] {
        assert_eq!(zipped[key], after[key], "{key}");
    }
    assert_eq!(zipped["directory"], "o-bundle.zip");
    damaged_bundles_are_refused(dir.path());
    // A directory whose files are not what was sealed makes no bundle.
    fs::write(dir.path().join("o/summary.csv"), "changed").unwrap();
    refuses(dir.path(), &["export", "o", "--to", "bundle"], 7, &["summary.csv", "changed"]);
    fs::remove_file(dir.path().join("o/SHA256SUMS")).unwrap();
    refuses(dir.path(), &["export", "o", "--to", "bundle"], 3, &["SHA256SUMS", "basislab report o"]);
}

/// A bundle whose file, name or end is another one, beside `o-bundle.zip`.
fn damaged_bundles_are_refused(dir: &Path) {
    let whole = fs::read(dir.join("o-bundle.zip")).unwrap();
    let says = |bytes: &[u8], code: i32, words: &[&str]| {
        fs::write(dir.join("bad.zip"), bytes).unwrap();
        refuses(dir, &["report", "bad.zip"], code, &[&["bad.zip"], words].concat());
    };
    says(b"no zip", 7, &["expected a directory or a bundle"]);
    says(&whole[..whole.len() / 2], 7, &["expected a directory or a bundle"]);
    // With other text in a file.
    let rewritten = |file: &str, old: &str, new: &str| {
        let mut from = zip::ZipArchive::new(io::Cursor::new(&whole)).unwrap();
        let mut to = zip::ZipWriter::new(io::Cursor::new(Vec::new()));
        for index in 0..from.len() {
            let mut entry = from.by_index(index).unwrap();
            let (name, mut bytes) = (entry.name().unwrap().into_owned(), Vec::new());
            io::copy(&mut entry, &mut bytes).unwrap();
            if name.ends_with(file) {
                bytes = String::from_utf8(bytes).unwrap().replace(old, new).into_bytes();
            }
            to.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
            io::Write::write_all(&mut to, &bytes).unwrap();
        }
        to.set_comment(std::str::from_utf8(from.comment()).unwrap()).unwrap();
        to.finish().unwrap().into_inner()
    };
    fs::write(dir.join("same.zip"), rewritten("no such file", "", "")).unwrap();
    assert_eq!(basislab(dir, &["report", "same.zip"]).status.code(), Some(0));
    let changed = rewritten("verdicts.csv", "exploratory", "supported");
    says(&changed, 7, &["verdicts.csv", "checksum differs"]);
    let escaping = rewritten("BUNDLE_SHA256SUMS", "  summary.csv", "  ../summary.csv");
    says(&escaping, 7, &["../summary.csv", "expected one at the top or in figures"]);
    let missing = rewritten("BUNDLE_SHA256SUMS", "  summary.csv", "  other.csv");
    says(&missing, 7, &["other.csv"]);
}

#[test]
fn tables_and_events_are_exported_beside_the_directory() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("lab.toml"), small(&[("seeds", "[0]")]).to_toml()).unwrap();
    assert_eq!(basislab(dir.path(), &["run", "lab.toml", "--quiet", "--out", "o"]).status.code(), Some(0));
    assert!(export(dir.path(), &["--to", "parquet"]).starts_with("o-parquet: "));
    assert!(dir.path().join("o-parquet/residual.parquet").is_file());
    export(dir.path(), &["--to", "tensorboard", "--out", "logs"]);
    assert!(dir.path().join("logs/adam/0/events.out.tfevents.0.basislab").is_file());
    // Again over itself, never over anything else.
    export(dir.path(), &["--to", "parquet"]);
    refuses(dir.path(), &["export", "o", "--to", "parquet", "--out", "o"], 7, &["o: found files but no export.json"]);
    refuses(dir.path(), &["export", "o", "--to", "parquet", "--arm", "adam"], 2, &["--arm and --seed are for"]);
    refuses(dir.path(), &["export", "o", "--to", "model-card"], 2, &["--arm ARM --seed SEED"]);
    let weights = ["export", "o", "--to", "weights", "--arm"];
    refuses(dir.path(), &[&weights[..], &["adma", "--seed", "0"]].concat(), 2, &["\"adma\", expected", "adam"]);
    refuses(dir.path(), &[&weights[..], &["adam", "--seed", "9"]].concat(), 3, &["o/parts/adam/9"]);
}

#[test]
fn shells_and_man_know_every_command() {
    let dir = TempDir::new().unwrap();
    for shell in ["bash", "zsh", "fish", "powershell"] {
        let output = basislab(dir.path(), &["completions", shell]);
        assert_eq!(output.status.code(), Some(0), "{shell}");
        assert!(
            ["export", "quantize", "checkpoint-seconds"].iter().all(|word| stdout(&output).contains(word)),
            "{shell}"
        );
    }
    assert_eq!(basislab(dir.path(), &["man", "pages"]).status.code(), Some(0));
    let page = |name: &str| fs::read_to_string(dir.path().join("pages").join(name)).unwrap();
    assert!(page("basislab.1").contains("basislab\\-export(1)"));
    assert!(page("basislab-metrics-eval.1").contains("skip\\-zero\\-tokens"));
}
