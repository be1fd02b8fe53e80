//! `basislab measure` from outside: tiny models of every family and runs of our own.

pub(crate) mod gguf;
mod interventions;
mod refused;
mod repeated;

use crate::cli::{basislab, stderr, stdout};
use crate::import::{FAMILIES, expected};
use crate::sharing::{json, lab, run};
use crate::support::{relative, root};
use basislab_store::decode_any;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;
use tempfile::TempDir;

/// Tokens of the models of `tests/import`, and of a sequence of theirs here.
const VOCABULARY: u32 = 61;
const WINDOW: usize = 12;

/// A row of a table: cells by column.
type Row = BTreeMap<String, String>;

/// A folder with `tokenizer.json`, whose token 7 is spelt `w7`, and with a text of 240 tokens.
fn folder() -> TempDir {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("tokenizer.json"), tokenizer(VOCABULARY)).unwrap();
    fs::write(dir.path().join("text.txt"), text((0..240).map(|place| place * place / 3 % VOCABULARY))).unwrap();
    dir
}

pub(crate) fn tokenizer(size: u32) -> String {
    let vocabulary: BTreeMap<String, u32> = (0..size).map(|token| (format!("w{token}"), token)).collect();
    let model = serde_json::json!({ "type": "WordLevel", "vocab": vocabulary, "unk_token": "w0" });
    serde_json::json!({ "version": "1.0", "pre_tokenizer": { "type": "WhitespaceSplit" }, "model": model }).to_string()
}

fn text(tokens: impl IntoIterator<Item = u32>) -> String {
    tokens.into_iter().map(|token| format!("w{token} ")).collect()
}

fn fixture(family: &str) -> PathBuf {
    root().join("tests/import").join(family).canonicalize().unwrap()
}

/// A copy of the model of `tests/import` as `to`.
fn copy(family: &str, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in
        fs::read_dir(fixture(family)).unwrap().flatten().filter(|entry| entry.file_name() != "expected.safetensors")
    {
        fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

/// Changes the numbers of a float32 tensor of the copied model.
fn change(model: &Path, tensor: &str, change: impl Fn(usize, &mut f32)) {
    let path = model.join("model.safetensors");
    let mut all = decode_any(&fs::read(&path).unwrap()).unwrap();
    let found = all.iter_mut().find(|one| one.name == tensor).unwrap();
    for (index, bytes) in found.bytes.as_chunks_mut().0.iter_mut().enumerate() {
        let mut value = f32::from_le_bytes(*bytes);
        change(index, &mut value);
        *bytes = value.to_le_bytes();
    }
    fs::write(path, basislab_store::encode(&all)).unwrap();
}

/// The arguments that measure a model of `tests/import`, or a copy, on the folder's text.
fn arguments<'a>(models: &[&'a str], extra: &[&'a str]) -> Vec<&'a str> {
    let fixed = ["--text", "text.txt", "--tokenizer", "tokenizer.json", "--window", "12", "--tokens", "96", "--quiet"];
    [&["measure"], models, &fixed, extra].concat()
}

fn measure(at: &Path, models: &[&str], extra: &[&str]) -> Output {
    basislab(at, &arguments(models, extra))
}

/// Measures and expects success: stdout and stderr.
fn measured(at: &Path, models: &[&str], extra: &[&str]) -> (String, String) {
    let output = measure(at, models, extra);
    assert_eq!(output.status.code(), Some(0), "{models:?} {extra:?}: {}{}", stdout(&output), stderr(&output));
    (stdout(&output), stderr(&output))
}

/// Measures a run of our own and expects success: what it says.
fn measured_run(at: &Path, run: &str, extra: &[&str]) -> String {
    let output = basislab(at, &[&["measure", run, "--quiet"], extra].concat());
    assert_eq!(output.status.code(), Some(0), "{run} {extra:?}: {}", stderr(&output));
    stdout(&output)
}

fn table(path: &Path) -> Vec<Row> {
    let mut reader = csv::Reader::from_path(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    reader.deserialize().map(Result::unwrap).collect()
}

fn number(row: &Row, column: &str) -> f64 {
    row[column].parse().unwrap_or_else(|_| panic!("{column} of {row:?}"))
}

/// The only row of a table.
fn only(path: &Path) -> Row {
    let mut all = table(path);
    assert_eq!(all.len(), 1, "{}", path.display());
    all.remove(0)
}

/// Shape, type and bytes of a .npy file, by its specification.
fn npy(path: &Path) -> (String, Vec<u8>) {
    let file = fs::read(path).unwrap();
    assert_eq!(file[..8], *b"\x93NUMPY\x01\x00", "{}", path.display());
    let start = 10 + usize::from(u16::from_le_bytes([file[8], file[9]]));
    (String::from_utf8(file[10..start].to_vec()).unwrap(), file[start..].to_vec())
}

fn floats(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect()
}

/// The values of a saved site, `[tokens, width]`.
fn saved(path: &Path) -> Vec<f64> {
    floats(&npy(path).1)
}

#[test]
fn every_site_of_every_family_is_saved_as_transformers_has_it() {
    let dir = folder();
    let at = dir.path();
    for family in FAMILIES {
        let (expected, (tokens, [rows, length])) = expected(family);
        fs::write(at.join("text.txt"), text(tokens.iter().map(|token| *token as u32))).unwrap();
        let sites: Vec<&String> = expected.keys().filter(|name| *name != "logits").collect();
        let mut saves: Vec<String> =
            sites.iter().flat_map(|site| ["npy", "safetensors"].map(|kind| format!("{site}={site}.{kind}"))).collect();
        saves.push("tokens=tokens.npy".to_owned());
        let save: Vec<&str> = saves.iter().flat_map(|save| ["--save", save]).collect();
        let model = fixture(family);
        let (length_text, size) = (length.to_string(), (rows * length).to_string());
        let fixed =
            ["--text", "text.txt", "--tokenizer", "tokenizer.json", "--window", &length_text, "--tokens", &size];
        let all = [&["measure", model.to_str().unwrap(), "--self-check", "--out", family], &fixed[..], &save].concat();
        let output = basislab(at, &all);
        assert_eq!(output.status.code(), Some(0), "{family}: {}", stderr(&output));
        // Two sums per block, one where the branches are parallel.
        let sums = if family == "gpt_neox" { 2 } else { 4 };
        let said = format!("self-check of {family}: {sums} sums of stream and writes, all equal bit for bit\n");
        assert!(stdout(&output).contains(&said), "{family}: {}", stdout(&output));

        let (header, bytes) = npy(&at.join("tokens.npy"));
        assert!(header.contains("'<i4'") && header.contains(&format!("({rows}, {length})")), "{header}");
        let found: Vec<i32> = bytes.as_chunks().0.iter().map(|bytes| i32::from_le_bytes(*bytes)).collect();
        assert_eq!(found, tokens, "{family}");
        for site in sites {
            let (header, bytes) = npy(&at.join(format!("{site}.npy")));
            let width = expected[site].len() / (rows * length);
            assert!(header.contains(&format!("({}, {width})", rows * length)) && header.contains("'<f4'"), "{header}");
            let error = relative(&floats(&bytes), &expected[site]);
            assert!(error < 1e-4, "{family} {site}: off by {error:e}");
            let other = decode_any(&fs::read(at.join(format!("{site}.safetensors"))).unwrap()).unwrap();
            assert_eq!((other.len(), &other[0].name, &other[0].shape[..]), (1, site, &[rows * length, width][..]));
            assert_eq!(other[0].bytes, bytes, "{family} {site}");
        }
        let logits = expected.get("logits");
        let row = only(&at.join(family).join("models.csv"));
        assert_eq!(row["loss"].is_empty(), logits.is_none(), "{family}");
        if let Some(logits) = logits {
            let (loss, found) = (mean_loss(logits, &tokens, length), number(&row, "loss"));
            assert!((found - loss).abs() < 1e-5 * loss, "{family}: {found}, expected {loss}");
        }
    }
}

/// Mean loss of each token of `[rows, length]` but the first of each row, from the logits of the one before it.
fn mean_loss(logits: &[f64], tokens: &[i32], length: usize) -> f64 {
    let width = logits.len() / tokens.len();
    let loss = |place: usize| {
        let row = &logits[place * width..(place + 1) * width];
        let sum: f64 = row.iter().map(|logit| logit.exp()).sum();
        sum.ln() - row[tokens[place + 1] as usize]
    };
    let places: Vec<usize> = (0..tokens.len()).filter(|place| place % length + 1 < length).collect();
    places.iter().map(|place| loss(*place)).sum::<f64>() / places.len() as f64
}

#[test]
fn the_columns_of_a_model_are_what_they_are_called() {
    let dir = folder();
    let at = dir.path();
    let model = fixture("llama");
    let (said, _) = measured(at, &[model.to_str().unwrap()], &["--out", "o", "--save", "tokens=tokens.npy"]);
    let row = only(&at.join("o/models.csv"));
    for (column, expected) in [
        ("model", "llama"),
        ("step", "0"),
        ("format", "safetensors"),
        ("architecture", "LlamaForCausalLM"),
        ("parameters", "10800"),
        ("d_model", "24"),
        ("n_layers", "2"),
        ("d_vocab", "61"),
        ("sequences", "8"),
        ("tokens", "96"),
        ("predicted_tokens", "88"),
    ] {
        assert_eq!(row[column], expected, "{column}");
    }
    let (_, bytes) = npy(&at.join("tokens.npy"));
    let tokens: Vec<u32> = bytes.as_chunks().0.iter().map(|bytes| u32::from_le_bytes(*bytes)).collect();
    let predicted: Vec<u32> = tokens.chunks(WINDOW).flat_map(|row| &row[1..]).copied().collect();
    // `w7` is two bytes long, `w12` three.
    let bytes: usize = predicted.iter().map(|token| if *token < 10 { 2 } else { 3 }).sum();
    assert_eq!(number(&row, "predicted_bytes"), bytes as f64);
    let bits = number(&row, "loss") * 88.0 / 2.0_f64.ln() / bytes as f64;
    assert!((number(&row, "bits_per_byte") - bits).abs() < 1e-12 * bits);
    // Before each token, every token has been seen half a time more than it was.
    let (mut seen, mut code) = (vec![0.5; VOCABULARY as usize], 0.0);
    for (before, token) in predicted.iter().enumerate() {
        code -= (seen[*token as usize] / (before as f64 + 0.5 * f64::from(VOCABULARY))).ln();
        seen[*token as usize] += 1.0;
    }
    assert!((number(&row, "unigram_loss") - code / 88.0).abs() < 1e-12);
    // Random weights know nothing of the text.
    assert_eq!(row["verified"], "no-better-than-unigram");
    assert!(
        said.contains("WARNING: the loss is 5.") && said.contains("is wrong, or the model is hardly trained"),
        "{said}"
    );
    // The same as JSON, and nothing else.
    let (said, aside) = measured(at, &[model.to_str().unwrap()], &["--out", "o", "--json", "--self-check"]);
    let answer: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!(answer["models"][0]["checkpoints"][0]["model"]["verified"], "no-better-than-unigram", "{said}");
    assert_eq!(aside, "self-check of llama: 4 sums of stream and writes, all equal bit for bit\n");
    assert_eq!(table(&at.join("o/evals.csv"))[0]["loss"], row["loss"]);
}

#[test]
fn an_encoder_has_no_loss_to_be_verified_by() {
    let dir = folder();
    let at = dir.path();
    let (said, _) = measured(at, &[fixture("bert").to_str().unwrap()], &["--out", "o"]);
    assert!(said.contains("No head: not verified by loss.") && !said.contains("WARNING"), "{said}");
    let row = only(&at.join("o/models.csv"));
    assert_eq!((&row["loss"][..], &row["bits_per_byte"][..], &row["unigram_loss"][..]), ("", "", ""));
    assert_eq!(
        (&row["verified"][..], &row["predicted_tokens"][..], &row["predicted_bytes"][..]),
        ("no-head", "0", "0")
    );
    let sites: Vec<String> = table(&at.join("o/residual.csv")).into_iter().map(|row| row["site"].clone()).collect();
    for site in ["embed_sum", "blocks.0.attn_sum", "blocks.1.mlp_sum", "blocks.1.resid_post"] {
        assert!(sites.iter().any(|found| found == site), "{site}");
    }
    assert!(!sites.iter().any(|site| site == "final"), "what the last block ends with is the end");
}

/// What a run wrote about an arm's seed 0 at its last step, in the standard basis.
fn of_the_run(run: &Path, arm: &str) -> BTreeMap<[String; 3], String> {
    let of = |row: &Row| ["site", "tokens", "metric"].map(|column| row[column].clone());
    let all = table(&run.join("residual.csv")).into_iter();
    let wanted =
        |row: &Row| row["arm"] == arm && row["seed"] == "0" && row["step"] == "6" && row["basis"] == "standard";
    all.filter(wanted).map(|row| (of(&row), row["value"].clone())).collect()
}

#[test]
fn a_run_of_our_own_is_measured_as_it_was_when_it_ended() {
    let rotated = "turned=adam,basis={ kind = \"rotated-model\", rotation = { kind = \"haar\", seed = 3 }, sharing = \"shared\" }";
    let dir = lab(&[("seeds", "[0]"), ("arm", rotated), ("probe.loss_sequences", "4"), ("train.steps", "6")]);
    let at = dir.path();
    run(at, "r", &[]);
    for arm in ["adam", "turned", "sgd"] {
        measured_run(at, &format!("r/parts/{arm}/0"), &["--out", arm]);
        let expected = of_the_run(&at.join("r"), arm);
        let mut compared = 0;
        for row in table(&at.join(arm).join("residual.csv")) {
            // Of the sample of tokens that random bases are measured on, the run has no rows.
            if row["basis"] != "standard" || row["tokens"] == "sample" {
                continue;
            }
            let key = ["site", "tokens", "metric"].map(|column| row[column].clone());
            let expected = &expected[&key];
            assert_eq!(row["value"].is_empty(), expected.is_empty(), "{arm} {key:?}");
            if !expected.is_empty() {
                let (found, expected) = (number(&row, "value"), expected.parse::<f64>().unwrap());
                assert!(
                    (found - expected).abs() <= 1e-5 * expected.abs().max(0.1),
                    "{arm} {key:?}: {found}, {expected}"
                );
                compared += 1;
            }
        }
        let one_matrix = |key: &&[String; 3]| !key[0].contains('*') && !expected[*key].is_empty();
        assert_eq!(compared, expected.keys().filter(one_matrix).count(), "{arm}");
        assert!(compared > 300, "{arm}: {compared}");
        let is_last = |row: &&Row| row["arm"] == arm && row["step"] == "6" && row["split"] == "held-out";
        let evals = table(&at.join("r/evals.csv"));
        let loss = number(evals.iter().find(is_last).unwrap(), "loss");
        let row = only(&at.join(arm).join("models.csv"));
        assert!((number(&row, "loss") - loss).abs() < 1e-5 * loss, "{arm}: {row:?}, expected {loss}");
        assert_eq!((&row["model"][..], &row["step"][..], &row["format"][..]), (arm, "6", "checkpoint"));
        let manifest = json(&at.join(arm).join("manifest.json"));
        assert_eq!(manifest["measured"]["models"][0]["step"], 6);
    }
    // A text is for the models of others.
    let refused = ["measure", "r/parts/adam/0", "--text", "builtin:shakespeare-tragedies"];
    crate::cli::refuses(at, &refused, 2, &["r/parts/adam/0: is a run of basislab", "leave out --text"]);
    crate::cli::refuses(at, &["measure", "r/parts/nobody/0"], 3, &["r/parts/nobody/0"]);
}

#[test]
fn a_series_is_one_table_in_the_order_of_its_steps() {
    let dir = folder();
    let at = dir.path();
    fs::create_dir(at.join("tiny")).unwrap();
    for step in [1, 2, 10] {
        let model = at.join(format!("tiny/step{step}"));
        copy("llama", &model);
        let by = 1.0 + 0.1 * step as f32;
        change(&model, "model.embed_tokens.weight", |_, value| *value *= by);
    }
    let (said, _) = measured(at, &["tiny/step1", "tiny/step2", "tiny/step10"], &["--out", "o"]);
    let models = table(&at.join("o/models.csv"));
    let names: Vec<(&str, &str)> = models.iter().map(|row| (&row["model"][..], &row["step"][..])).collect();
    assert_eq!(names, [("tiny", "1"), ("tiny", "2"), ("tiny", "10")]);
    assert!(models[0]["loss"] != models[1]["loss"] && models[1]["loss"] != models[2]["loss"]);
    let rms = |step: &str| {
        let is_wanted = |row: &&Row| row["step"] == step && row["site"] == "embed" && row["dim"] == "3";
        number(table(&at.join("o/dimensions.csv")).iter().find(is_wanted).unwrap(), "rms")
    };
    assert!((rms("10") / rms("1") - 2.0 / 1.1).abs() < 1e-4, "{} {}", rms("10"), rms("1"));
    assert!(at.join("o/figures/kurtosis_over_training.svg").is_file(), "{said}");
    let seal = fs::read_to_string(at.join("o/SHA256SUMS")).unwrap();
    assert!(seal.contains("figures/kurtosis_over_training.svg"), "{seal}");
}

#[test]
fn models_in_other_formats_are_measured_by_their_own_tokenizers() {
    let dir = folder();
    let at = dir.path();
    fs::write(at.join("story.bin"), llama2c(5)).unwrap();
    fs::write(at.join("tokens.bin"), llama2c_tokenizer(&["<unk>", "<s>", "</s>", " ", "a"])).unwrap();
    fs::write(at.join("a.txt"), "a a aa a aaa").unwrap();
    let all = ["measure", "story.bin", "--tokenizer", "tokens.bin", "--text", "a.txt", "--save", "tokens=t.npy"];
    let output = basislab(at, &[&all[..], &["--out", "o", "--tokens", "6", "--null-tokens", "2", "-q"]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    // Its context is 3: <s> and two tokens of " a a aa a aaa".
    let tokens: Vec<i32> =
        npy(&at.join("t.npy")).1.as_chunks().0.iter().map(|token| i32::from_le_bytes(*token)).collect();
    assert_eq!(tokens, [1, 3, 4, 1, 3, 4]);
    let row = only(&at.join("o/models.csv"));
    // <s> is not predicted; what it predicts is.
    assert_eq!((&row["predicted_tokens"][..], &row["predicted_bytes"][..]), ("4", "4"));
    assert_eq!((&row["format"][..], &row["architecture"][..]), ("llama2.c", "llama2.c"));
}

/// A file of llama2.c: width 4, MLP of 6, 2 blocks, 2 heads, 1 of keys and values, 3 positions.
pub(crate) fn llama2c(vocabulary: i32) -> Vec<u8> {
    let mut bytes: Vec<u8> = [4, 6, 2, 2, 1, vocabulary, 3].iter().flat_map(|size: &i32| size.to_le_bytes()).collect();
    let weights = vocabulary * 4 + 2 * (4 + 16 + 8 + 8 + 16 + 4 + 24 + 24 + 24) + 4;
    bytes.extend((0..weights).flat_map(|place| ((place * 37 % 101) as f32 / 50.0 - 1.0).to_le_bytes()));
    let angles = [0.0_f32, 1.0, 2.0];
    bytes.extend(angles.iter().flat_map(|angle| angle.cos().to_le_bytes()));
    bytes.extend(angles.iter().flat_map(|angle| angle.sin().to_le_bytes()));
    bytes
}

pub(crate) fn llama2c_tokenizer(tokens: &[&str]) -> Vec<u8> {
    let mut bytes = 5_u32.to_le_bytes().to_vec();
    for token in tokens {
        bytes.extend(0.0_f32.to_le_bytes());
        bytes.extend((token.len() as i32).to_le_bytes());
        bytes.extend(token.as_bytes());
    }
    bytes
}
