//! `basislab quantize`: folded rotations, rounded inputs and weights, and the command from outside.

#[allow(dead_code, reason = "made for other tests")]
#[path = "../crates/basislab-import/src/gguf/tests/build.rs"]
mod build;

use crate::cli::{basislab, refuses, stderr, stdout, tiny};
use crate::support::{flex, relative, root, values};
use basislab_config::{NormKind, RunName, Site};
use basislab_import::Source;
use basislab_measure::{Bases, Panel, Plan, Sequences, Subject, Variant};
use basislab_model::{InParts, Rounding, Weight};
use basislab_stats::{Granularity, Kept, Levels, quantize};
use basislab_tables::{
    MeasuredTokens, QuantizationRow, Quantized, QuantizedModelRow, SpecialDimensions, TableRow, read_table,
};
use burn::tensor::{DType, Int, Tensor, TensorData};
use serde_json::Value;
use std::fs;
use tempfile::TempDir;

/// A tiny model of `transformers`, as in tests/import.rs, on 3 sequences of 8 tokens of its vocabulary.
fn source(family: &str) -> (Source, Sequences) {
    let source = basislab_import::open(&root().join("tests/import").join(family), None).unwrap();
    let text: Vec<u32> = (0..27).map(|place| place * 7 % source.d_vocab as u32).collect();
    (source, Sequences::of_next_tokens(&text.chunks(9).map(<[u32]>::to_vec).collect::<Vec<_>>()))
}

/// The panel of a family, with these variants.
fn panel(family: &str, wanted: impl Fn(&Variant) -> bool) -> (Vec<QuantizationRow>, QuantizedModelRow, Option<f64>) {
    let (source, sequences) = source(family);
    let (spec, d_vocab, has_head) = (&source.spec, source.d_vocab, source.has_head);
    let subject = Subject { spec, d_vocab, has_head, device: &flex(), sequences: &sequences };
    let bases = Bases::draw(0, 8, spec.d_model, sequences.tokens.len(), sequences.length, 512);
    let texts = vec![String::new(); sequences.tokens.len()];
    let model = RunName::new(family).unwrap();
    let (tokens, n_ctx) = (&sequences.tokens[..], sequences.length);
    let tokens = MeasuredTokens { model: &model, step: 0, tokens, n_ctx, texts: &texts };
    let plan = Plan { tokens, bases: &bases, seed: 3, weights_left_out: None, progress: &|_| {} };
    let mut read = |path: &str, shape: [usize; 2]| Ok(source.read(path, shape)?);
    let mut panel = Panel::begin(&subject, &plan, &mut read).unwrap();
    for variant in panel.variants().into_iter().filter(wanted) {
        panel.run(variant, &mut read).unwrap();
    }
    let difference = panel.difference_of_rotated();
    (panel.rows, panel.model, difference)
}

#[test]
fn a_rotated_model_is_the_same_model() {
    for family in ["llama", "mistral", "qwen2", "qwen3"] {
        let (rows, model, difference) = panel(family, |variant| variant.quantized == Quantized::Nothing);
        assert_eq!((model.rotation_left_out.as_str(), model.hadamard_block), ("", Some(8)), "{family}");
        assert!(difference.unwrap() < 1e-5, "{family}: {difference:?}");
        let rotated = rows.iter().find(|row| row.rotated).unwrap();
        assert!(rotated.relative_error.unwrap() > 0.0 && rotated.loss_increase.unwrap().abs() < 1e-5, "{family}");
        assert!(rotated.perplexity.unwrap() - rotated.loss.unwrap().exp() == 0.0);
    }
}

#[test]
fn norms_that_single_out_a_direction_are_not_rotated() {
    for (family, why) in [("bert", "the stream itself is normalised"), ("gpt2", "LayerNorm"), ("gpt_neox", "LayerNorm")]
    {
        let (rows, model, difference) = panel(family, |variant| variant.quantized != Quantized::Activations);
        assert!(model.rotation_left_out.contains(why), "{family}: {}", model.rotation_left_out);
        assert!(rows.iter().all(|row| !row.rotated) && difference.is_none(), "{family}");
        assert_eq!(rows.iter().filter(|row| row.quantized == Quantized::Weights).count(), 8, "{family}");
    }
}

/// `(levels, granularity, relative error)` of every variant without a treatment.
fn errors(rows: &[QuantizationRow], quantized: Quantized, rotated: bool) -> Vec<(Levels, Granularity, f64)> {
    let is_it = |row: &&QuantizationRow| {
        row.quantized == quantized && row.rotated == rotated && row.special == SpecialDimensions::Plain
    };
    let cells = |row: &QuantizationRow| (row.levels.unwrap(), row.granularity.unwrap(), row.relative_error.unwrap());
    rows.iter().filter(is_it).map(cells).collect()
}

#[test]
fn more_levels_and_more_scales_are_closer() {
    let (rows, ..) = panel("llama", |_| true);
    for rotated in [false, true] {
        let activations = errors(&rows, Quantized::Activations, rotated);
        let weights = errors(&rows, Quantized::Weights, rotated);
        assert_eq!((activations.len(), weights.len()), (6, 8));
        for all in [&activations, &weights] {
            let of = |levels, granularity| all.iter().find(|one| (one.0, one.1) == (levels, granularity)).unwrap().2;
            for (_, granularity, error) in all.iter().filter(|one| one.0 == Levels::Int8) {
                assert!(*error > 1e-4, "int8 {granularity} rounds nothing");
                assert!(of(Levels::Int4, *granularity) > 5.0 * error, "int4 {granularity}");
            }
        }
        let of = |granularity| activations.iter().find(|one| (one.0, one.1) == (Levels::Int8, granularity)).unwrap().2;
        assert!(of(Granularity::Token) < of(Granularity::Tensor));
    }
    // Rounded after they were rotated, weights are others.
    let [plain, rotated] = [false, true].map(|rotated| errors(&rows, Quantized::Weights, rotated));
    assert!(plain.iter().zip(&rotated).all(|(a, b)| a.2 != b.2));
}

#[test]
fn kept_dimensions_are_not_rounded_where_the_stream_is_read() {
    let device = flex();
    let tensor =
        |data: Vec<f32>, shape: [usize; 2]| Tensor::<2>::from_data(TensorData::new(data, shape), (&device, DType::F32));
    let x: Vec<f32> = (0..40).map(|at| if at % 8 == 3 { 900.0 } else { ((at * 5) % 11) as f32 - 5.0 }).collect();
    let identity = (0..64).map(|at| f32::from(at % 9 == 0)).collect();
    let rounding = |kept| Rounding { levels: Levels::Int4, granularity: Granularity::Tensor, kept };
    let read = |kept: Vec<usize>| {
        let rounding = Some(rounding(kept));
        let weight = Weight { rounding, ..Weight::new(tensor(identity, [8, 8]), DType::F32) };
        values(&weight.read(tensor(x.clone(), [5, 8])))
    };
    let expected = |kept| {
        let mut x = x.clone();
        quantize(&mut x, 8, Levels::Int4, Granularity::Tensor, kept);
        x.into_iter().map(f64::from).collect::<Vec<_>>()
    };
    let read_plain = read.clone()(Vec::new());
    assert_eq!(read_plain, expected(Kept::Nothing));
    // One scale for all: the others are below half of it.
    assert!(read_plain.iter().enumerate().all(|(at, value)| (at % 8 == 3) == (*value != 0.0)));
    let kept = read(vec![3]);
    assert_eq!(kept, expected(Kept::Columns(&[3])));
    assert!(kept.iter().enumerate().all(|(at, value)| at % 8 != 3 || *value == 900.0));
}

/// What `read` and `write` of the blocks get is rounded, and the head's input is not: the MLP and the logits by hand, in f64.
#[test]
fn the_inputs_of_the_matrices_of_blocks_are_rounded_and_nothing_else() {
    let (source, sequences) = source("llama");
    let (spec, d_vocab, device) = (&source.spec, source.d_vocab, flex());
    assert_eq!(spec.norm, NormKind::RmsGain);
    let (d, f, n) = (spec.d_model, spec.d_mlp, sequences.tokens.len());
    let ids: Vec<i32> = sequences.tokens.iter().map(|&token| token as i32).collect();
    let tokens = Tensor::<2, Int>::from_data(TensorData::new(ids, [3, n / 3]), (&device, DType::I32));
    let (levels, granularity) = (Levels::Int4, Granularity::Token);
    let rounding = Rounding { levels, granularity, kept: vec![2] };
    let mut read = |path: &str, shape: [usize; 2]| source.read(path, shape);
    let (mut sites, mut logits) = (std::collections::BTreeMap::new(), Vec::new());
    let mut on_site = |site: Site, streams: &mut [Tensor<2>]| {
        sites.insert(site, values(&streams[0]));
    };
    let parts = InParts { spec, d_vocab, has_head: true, device: &device, rotation: None, rounding: Some(&rounding) };
    parts.forward(vec![tokens], &mut read, &mut on_site, &mut |rows| logits.extend(values(&rows))).unwrap();

    let weight = |path: &str, shape: [usize; 2]| -> Vec<f64> {
        source.read(path, shape).unwrap().into_iter().map(f64::from).collect()
    };
    let product = |a: &[f64], b: &[f64], inner: usize| -> Vec<f64> {
        let columns = b.len() / inner;
        let dot = |row: &[f64], column: usize| (0..inner).map(|k| row[k] * b[k * columns + column]).sum();
        a.chunks(inner).flat_map(|row| (0..columns).map(move |column| dot(row, column)).collect::<Vec<f64>>()).collect()
    };
    let rounded = |x: &[f64], columns: usize, kept| {
        let mut x: Vec<f32> = x.iter().map(|&value| value as f32).collect();
        quantize(&mut x, columns, levels, granularity, kept);
        x.into_iter().map(f64::from).collect::<Vec<f64>>()
    };
    let gain = weight("blocks.0.norm_2.gain", [1, d]);
    let normalise = |row: &[f64]| -> Vec<f64> {
        let rms = (row.iter().map(|x| x * x).sum::<f64>() / d as f64 + spec.norm_epsilon).sqrt();
        row.iter().zip(&gain).map(|(x, gain)| x / rms * gain).collect()
    };
    let x: Vec<f64> = sites[&Site::ResidMid(0)].chunks(d).flat_map(normalise).collect();
    let x = rounded(&x, d, Kept::Columns(&[2]));
    let gate = product(&x, &weight("blocks.0.w_gate", [d, f]), d);
    let inner = product(&x, &weight("blocks.0.w_in", [d, f]), d);
    let hidden: Vec<f64> = gate.iter().zip(inner).map(|(g, x)| g / (1.0 + (-g).exp()) * x).collect();
    let hidden = rounded(&hidden, f, Kept::Nothing);
    let written = product(&hidden, &weight("blocks.0.w_out", [f, d]), f);
    // A value that lies between two levels may fall on either side in f32.
    let error = relative(&sites[&Site::MlpOut(0)], &written);
    assert!(error < 1e-3, "{error:e}");
    let embeddings = weight("w_e", [d_vocab, d]);
    let head: Vec<f64> = (0..d * d_vocab).map(|at| embeddings[at % d_vocab * d + at / d_vocab]).collect();
    let error = relative(&logits, &product(&sites[&Site::Final], &head, d));
    assert!(error < 1e-5, "{error:e}");
}

#[test]
fn an_experiment_asks_what_rounding_costs_its_arms() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let config = "base = \"adam-vs-sgd\"\nonly = [\"adam\", \"sgd\"]\nquestion = \"?\"\n[quantize]\narms = [\"sgd\"]\n";
    fs::write(at.join("rounded.toml"), config).unwrap();
    let run = |seeds: &str, more: &[&str]| {
        let args = ["run", "rounded.toml", "--smoke", "--seeds", seeds, "--out", "o", "--quiet"];
        let output = basislab(at, &[&args, more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        stdout(&output)
    };
    let names = || {
        let models: Vec<QuantizedModelRow> = read_table(&at.join("o/quantization")).unwrap();
        models.into_iter().map(|row| row.model.to_string()).collect::<Vec<_>>()
    };
    let said = run("2000", &[]);
    assert!(said.contains("Rounded weights") && said.contains("o/quantization: report.html, figures"), "{said}");
    assert_eq!(names(), ["sgd"]);
    // Nothing is rounded again, and JSON stays JSON.
    let written = || fs::metadata(at.join("o/quantization/quantization.csv")).unwrap().modified().unwrap();
    let before = written();
    serde_json::from_str::<serde_json::Value>(&run("2000", &["--json"])).unwrap();
    assert_eq!(written(), before);
    // More runs make it anew.
    run("2000..2002", &[]);
    assert_eq!(names(), ["sgd-2000", "sgd-2001"]);
    fs::write(at.join("wrong.toml"), config.replace("arms = [\"sgd\"]", "arms = [\"adam-short\"]")).unwrap();
    let output = basislab(at, &["run", "wrong.toml", "--smoke", "--out", "w"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("quantize.arms: found \"adam-short\", expected names of arms"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn runs_of_our_own_make_one_table() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let run = basislab(at, &tiny(&["--only", "adam,sgd", "--out", "o"]));
    assert_eq!(run.status.code(), Some(0), "{}", stderr(&run));
    let args = ["quantize", "o/parts/adam/0", "o/parts/adam/1", "o/parts/sgd/0", "--quiet", "--out", "q"];
    let first = basislab(at, &args);
    assert_eq!(first.status.code(), Some(0), "{}", stderr(&first));
    assert_eq!(stderr(&first), "", "--quiet");
    let said = stdout(&first);
    for part in ["All models;", "Rotated, with nothing rounded, the model was the same up to", "Rounded weights"] {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
    let rows: Vec<QuantizationRow> = read_table(&at.join("q")).unwrap();
    let models: Vec<QuantizedModelRow> = read_table(&at.join("q")).unwrap();
    let names: Vec<&str> = models.iter().map(|row| row.model.as_str()).collect();
    assert_eq!(names, ["adam-0", "adam-1", "sgd-0"]);
    for model in &models {
        let special = usize::from(model.special_left_out.is_empty());
        let own = || rows.iter().filter(|row| row.model == model.model);
        // As it is and rotated; activations and weights, each rotated too; then what depends on special dimensions.
        assert_eq!(own().count(), 2 + 2 * (6 + 8) + special * (1 + 2 * 6), "{}", model.model);
        assert!(own().all(|row| row.loss.is_some() && row.standard_error.is_some()));
        let rotated = own().find(|row| row.quantized == Quantized::Nothing && row.rotated).unwrap();
        assert!(rotated.relative_error.unwrap() < 1e-5, "{rotated:?}");
    }
    let files = ["quantization.csv", "quantized_models.csv", "models.csv", "datapackage.json", "manifest.json"];
    for file in
        files.into_iter().chain(["SHA256SUMS", "figures/quantization.adam-0.svg", "figures/quantization.sgd-0.svg"])
    {
        assert!(at.join("q").join(file).metadata().is_ok_and(|info| info.len() > 0), "{file}");
    }
    let header = fs::read_to_string(at.join("q/quantization.csv")).unwrap();
    assert_eq!(header.lines().next().unwrap(), QuantizationRow::TABLE.header());
    let sums = fs::read(at.join("q/SHA256SUMS")).unwrap();
    let again = basislab(at, &[&args[..], &["--json"]].concat());
    let answer: Value = serde_json::from_str(&stdout(&again)).unwrap();
    assert_eq!(answer["models"].as_array().unwrap().len(), 3);
    assert_eq!(fs::read(at.join("q/SHA256SUMS")).unwrap(), sums);
    let other = ["quantize", "o/parts/sgd/0", "--seed", "1", "--quiet", "--out", "q"];
    refuses(at, &other, 7, &["belongs to another measurement"]);
    refuses(at, &["quantize", "o/parts/sgd/0", "--text", "x.txt"], 3, &["x.txt"]);
}

#[test]
fn weights_that_are_stored_as_integers_are_not_rounded_again() {
    let dir = TempDir::new().unwrap();
    // Width 32, blocks of one scale and 32 integers each: Q8_0.
    let mut file = build::with_merges();
    for (key, size) in [("embedding_length", 32), ("feed_forward_length", 32)] {
        let key = format!("llama.{key}");
        file = file.without(&key).value(&key, 4, &build::u32s(size));
    }
    let number = |at: usize| ((at * 37) % 101) as i8 - 50;
    let integers = |rows: usize, of: usize| -> Vec<u8> {
        let scale = half::f16::from_f32(0.004).to_le_bytes();
        let block = |block: usize| (0..32).map(move |at| number(32 * block + at + of) as u8);
        (0..rows).flat_map(|row| scale.into_iter().chain(block(row))).collect()
    };
    let floats =
        |count: usize| -> Vec<u8> { (0..count).flat_map(|at| (0.02 * f32::from(number(at))).to_le_bytes()).collect() };
    let ones: Vec<u8> = [1.0_f32; 32].into_iter().flat_map(f32::to_le_bytes).collect();
    for (name, kind, rows) in [
        ("token_embd", 0, 5),
        ("output_norm", 0, 0),
        ("blk.0.attn_norm", 0, 0),
        ("blk.0.ffn_norm", 0, 0),
        ("blk.0.attn_q", 8, 32),
        ("blk.0.attn_k", 8, 16),
        ("blk.0.attn_v", 8, 16),
        ("blk.0.attn_output", 8, 32),
        ("blk.0.ffn_gate", 8, 32),
        ("blk.0.ffn_up", 8, 32),
        ("blk.0.ffn_down", 8, 32),
    ] {
        let name = format!("{name}.weight");
        let (shape, bytes) = match (kind, rows) {
            (_, 0) => (vec![32], ones.clone()),
            (0, rows) => (vec![32, rows], floats(32 * rows)),
            (_, rows) => (vec![32, rows], integers(rows, name.len())),
        };
        file = file.without_tensor(&name).tensor(&name, kind, &shape, &bytes);
    }
    fs::write(dir.path().join("tiny.gguf"), file.bytes()).unwrap();
    fs::write(dir.path().join("text.txt"), "ab b a ab aa b ab ab a b b a ab").unwrap();
    let args = ["quantize", "tiny.gguf", "--text", "text.txt", "--window", "8", "--quiet", "--out", "q"];
    let output = basislab(dir.path(), &args);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stdout(&output);
    assert!(said.contains("No weights are rounded: they are stored as integers (7 tensors of Q8_0)"), "{said}");
    assert!(!said.contains("Rounded weights"), "{said}");
    let rows: Vec<QuantizationRow> = read_table(&dir.path().join("q")).unwrap();
    assert!(rows.iter().all(|row| row.quantized != Quantized::Weights));
    assert_eq!(rows.iter().filter(|row| row.quantized == Quantized::Activations && row.rotated).count(), 6);
}
