//! `metrics eval`: what it reads, what it says of it, and the memory it takes.

use crate::cli::{basislab, refuses, stderr, stdout};
#[cfg(target_os = "linux")]
use crate::support::{limited, needed_megabytes, peak_of};
use basislab_stats::{Purpose, gaussian, stream};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::Value;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A .npy file with this header and these values.
fn npy_of(version: u8, header: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = [b"\x93NUMPY".as_slice(), &[version, 0]].concat();
    match version {
        1 => bytes.extend((header.len() as u16).to_le_bytes()),
        _ => bytes.extend((header.len() as u32).to_le_bytes()),
    }
    [&bytes, header.as_bytes(), data].concat()
}

fn npy(descr: &str, shape: &str, fortran: bool, data: &[u8]) -> Vec<u8> {
    let order = if fortran { "True" } else { "False" };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({shape}), }}");
    while (10 + header.len() + 1) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    npy_of(1, &header, data)
}

#[test]
fn metrics_are_evaluated_on_a_users_matrix_whatever_its_layout() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    // 6 tokens of width 8; dimension 3 is an outlier.
    let value = |t: usize, j: usize| if j == 3 { 16.0 + t as f64 } else { ((t * 8 + j) * 37 % 11) as f64 / 4.0 - 1.0 };
    let c: Vec<f64> = (0..48).map(|i| value(i / 8, i % 8)).collect();
    let f: Vec<f64> = (0..48).map(|i| value(i % 6, i / 6)).collect();
    let f64s = |v: &[f64]| v.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>();
    let f32s = |v: &[f64]| v.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect::<Vec<u8>>();
    let f16s = |v: &[f64]| v.iter().flat_map(|x| half::f16::from_f64(*x).to_le_bytes()).collect::<Vec<u8>>();
    let f32_big = c.iter().flat_map(|x| (*x as f32).to_be_bytes()).collect::<Vec<u8>>();
    let files = [
        ("c64.npy", npy("<f8", "6, 8", false, &f64s(&c))),
        ("f64.npy", npy("<f8", "6, 8", true, &f64s(&f))),
        ("c32.npy", npy("<f4", "6, 8", false, &f32s(&c))),
        ("f32.npy", npy("<f4", "6, 8", true, &f32s(&f))),
        ("big.npy", npy(">f4", "6, 8", false, &f32_big)),
        ("c16.npy", npy("<f2", "6, 8", false, &f16s(&c))),
        ("t.safetensors", {
            let data = f64s(&c);
            safetensors::serialize([("x", TensorView::new(Dtype::F64, vec![6, 8], &data).unwrap())], None).unwrap()
        }),
    ];
    let mut seen = Vec::new();
    for (name, bytes) in files {
        fs::write(at.join(name), bytes).unwrap();
        let output = basislab(at, &["metrics", "eval", name, "--json"]);
        assert_eq!(output.status.code(), Some(0), "{name}: {}", stderr(&output));
        let mut json: Value = serde_json::from_str(&stdout(&output)).unwrap();
        json["file"] = Value::Null;
        assert_eq!((json["n_tokens"].as_u64(), json["d_model"].as_u64()), (Some(6), Some(8)));
        seen.push((name, json));
    }
    for (name, json) in &seen {
        assert_eq!(*json, seen[0].1, "{name}");
    }
    let json = &seen[0].1;
    let of = |metric: &str| json["metrics"].as_array().unwrap().iter().find(|m| m["metric"] == metric).unwrap().clone();
    let kurtosis = of("token_kurtosis");
    assert!(kurtosis["value"].as_f64().unwrap() > 5.0 && kurtosis["z"].as_f64().unwrap() > 2.0, "{kurtosis}");
    assert_eq!(of("dettmers_outlier_features")["value"], Value::Null);
    assert_eq!(of("dettmers_outlier_features")["why_empty"], "needs several layers");
    let table = stdout(&basislab(at, &["metrics", "eval", "c64.npy"]));
    assert!(table.contains("token_kurtosis") && table.contains("needs several layers"), "{table}");

    let bad: [(&str, Vec<u8>, &str); 9] = [
        ("rank1.npy", npy("<f8", "48,", false, &f64s(&c)), "1 axes"),
        ("rank3.npy", npy("<f8", "2, 3, 8", false, &f64s(&c)), "3 axes"),
        ("int.npy", npy("<i4", "6, 8", false, &f32s(&c)), "dtype"),
        (
            "nan.npy",
            npy(
                "<f8",
                "6, 8",
                false,
                &f64s(&c.iter().map(|x| if *x == 17.0 { f64::NAN } else { *x }).collect::<Vec<_>>()),
            ),
            "token 1, dimension 3",
        ),
        ("cut.npy", npy("<f8", "6, 8", false, &f64s(&c[..40])), "damaged"),
        ("huge.npy", npy("<f8", "4294967296, 4294967296", false, &f64s(&c)), "huge.npy"),
        ("not.npy", b"hello".to_vec(), "not a .npy file"),
        ("thin.npy", npy("<f8", "24, 2", false, &f64s(&c)), "expected at least 2 tokens of width 4"),
        ("x.pt", b"pickle".to_vec(), "expected .npy or .safetensors"),
    ];
    for (name, bytes, part) in bad {
        fs::write(at.join(name), bytes).unwrap();
        refuses(at, &["metrics", "eval", name], 3, &[name, part]);
    }
    refuses(at, &["metrics", "eval", "t.safetensors", "--tensor", "y"], 3, &["no tensor \"y\"", "x"]);
    refuses(at, &["metrics", "eval", "."], 3, &["not a file"]);
}

/// What `metrics eval` says of a file that it can read.
fn evaluated(at: &Path, args: &[&str]) -> Value {
    let output = basislab(at, &[&["metrics", "eval", "--json"], args].concat());
    assert_eq!(output.status.code(), Some(0), "{args:?}: {}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

fn metric<'a>(json: &'a Value, name: &str) -> &'a Value {
    json["metrics"].as_array().unwrap().iter().find(|metric| metric["metric"] == name).unwrap()
}

fn f32s(values: &[f64]) -> Vec<u8> {
    values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect()
}

fn noise(values: usize) -> Vec<f64> {
    let mut rng = stream(0, Purpose::Simulation, 77);
    (0..values).map(|_| gaussian(&mut rng)).collect()
}

// Read, or refused, as NumPy 2.4.6 does with each of these.
#[test]
fn headers_are_read_as_numpy_reads_them() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let data = f32s(&noise(48));
    let read = |name: &str, bytes: Vec<u8>| {
        fs::write(at.join(name), bytes).unwrap();
        let mut json = evaluated(at, &["--bases", "8", name]);
        json["file"] = Value::Null;
        json
    };
    let expected = read("plain.npy", npy("<f4", "6, 8", false, &data));
    let good = [
        (1, "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 8)}"),
        (2, "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 8), }\n"),
        (3, "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 8), }    \n"),
        (1, "{'shape':(6,8),'fortran_order':False,'descr':'<f4'}"),
        (1, "  { 'shape' : ( 6 , 8 , ) ,\n\t'fortran_order' : False , \"descr\" : \"<f4\" , }  "),
        (1, "{'descr': u'<f4', 'fortran_order': False, 'shape': (6L, 8L), }"),
        (2, "{u'descr': '<f4', u'fortran_order': False, u'shape': (6 L, 8L), }"),
        (1, "{'descr': '<f8', 'descr': '<f4', 'fortran_order': False, 'shape': (6, 8), }"),
    ];
    for (version, header) in good {
        assert_eq!(read("x.npy", npy_of(version, header, &data)), expected, "{header}");
    }
    for descr in ["f4", "=f4", "|f4", "f", "<f", "float32", "single"] {
        assert_eq!(read("x.npy", npy(descr, "6, 8", false, &data)), expected, "{descr}");
    }
    for name in ["x.NPY", "x.Npy"] {
        assert_eq!(read(name, npy("<f4", "6, 8", false, &data)), expected, "{name}");
    }
    let view = || TensorView::new(Dtype::F32, vec![6, 8], &data).unwrap();
    assert_eq!(read("x.SafeTensors", safetensors::serialize([("a", view())], None).unwrap()), expected);
    let two = safetensors::serialize([("a", view()), ("b", view())], None).unwrap();
    fs::write(at.join("two.safetensors"), two).unwrap();
    refuses(at, &["metrics", "eval", "two.safetensors"], 3, &["found 2 tensors, expected --tensor with one of a, b"]);

    let deep = format!("{{'descr': {}", "[(".repeat(4000));
    let bad = [
        (1, "{'descr': '<f4', 'fortran_order': False, 'shape': [6, 8], }", "a tuple of sizes"),
        (1, "{'descr': '<f4', 'fortran_order': False, 'shape': (48), }", "a tuple of sizes"),
        (1, "{'descr': '<f4', 'fortran_order': 0, 'shape': (6, 8), }", "True or False"),
        (1, "{'descr': '<f4', 'fortran_order': False, 'shape': (-6, -8), }", "a tuple of sizes"),
        (1, "{'descr': '<f4', 'fortran_order': False, 'shape': (06, 8), }", "a tuple of sizes"),
        (1, "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999, 8), }", "a tuple of sizes"),
        (1, "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 8), 'x': 1}", "the key \"x\""),
        (1, "{'descr': '<f4', 'fortran_order': False}", "a key is missing"),
        (1, "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 8), } x", "expected its end"),
        (1, "{'descr': '<f4' 'fortran_order': False, 'shape': (6, 8), }", "expected '}'"),
        (1, "('descr', '<f4')", "expected '{'"),
        (1, "", "expected '{'"),
        (3, "{'descr': '\u{65e5}\u{672c}\u{202e}', 'fortran_order': False, 'shape': (6, 8), }", "found dtype"),
        (1, "{'descr': '', 'fortran_order': False, 'shape': (6, 8), }", "found dtype"),
        (1, &deep, "a dtype"),
        (4, "{'descr': '<f4', 'fortran_order': False, 'shape': (6, 8), }", "found .npy format 4.0"),
        (2, &" ".repeat(20_000), "found a header of 20000 bytes"),
    ];
    for (version, header, part) in bad {
        fs::write(at.join("bad.npy"), npy_of(version, header, &data)).unwrap();
        refuses(at, &["metrics", "eval", "bad.npy"], 3, &["bad.npy", part]);
    }
    // Lengths that no file has.
    fs::write(at.join("long.npy"), b"\x93NUMPY\x02\x00\xff\xff\xff\xff{'descr'").unwrap();
    refuses(at, &["metrics", "eval", "long.npy"], 3, &["found a header of 4294967295 bytes"]);
    fs::write(at.join("long.safetensors"), b"\xff\xff\xff\xff\xff\xff\xff\x7f{}").unwrap();
    refuses(at, &["metrics", "eval", "long.safetensors"], 3, &["found a header of 9223372036854775807 bytes"]);
    fs::write(at.join("cut.safetensors"), b"\x00\x00\x00\x05\x00\x00\x00\x00{}").unwrap();
    refuses(at, &["metrics", "eval", "cut.safetensors"], 3, &["found 2 bytes of a header of 83886080"]);
    let whole = fs::read(at.join("two.safetensors")).unwrap();
    fs::write(at.join("cut.safetensors"), &whole[..whole.len() - 1]).unwrap();
    refuses(at, &["metrics", "eval", "cut.safetensors", "--tensor", "a"], 3, &["as its header says"]);
}

#[test]
fn other_types_and_files_are_named_with_what_to_do() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let eval = |name: &'static str| ["metrics", "eval", name];
    for (descr, parts) in [
        ("<V2", ["bfloat16", "x.astype(numpy.float32)", ".safetensors"]),
        ("|V2", ["bfloat16", "x.astype(numpy.float32)", ".safetensors"]),
        ("|V1", ["found dtype |V1 (raw bytes)", "expected float16, float32 or float64", ""]),
        ("<i4", ["found dtype <i4 (integers)", "expected float16, float32 or float64", ""]),
        ("uint8", ["found dtype uint8 (integers)", "expected", ""]),
        ("<c8", ["found dtype <c8 (complex numbers)", "expected", ""]),
        ("|b1", ["found dtype |b1 (booleans)", "expected", ""]),
        ("|O", ["found dtype |O (Python objects)", "expected", ""]),
        ("<f16", ["found dtype <f16,", "expected", ""]),
        ("<U4", ["found dtype <U4,", "expected", ""]),
    ] {
        fs::write(at.join("x.npy"), npy(descr, "6, 8", false, &[0; 800])).unwrap();
        refuses(at, &eval("x.npy"), 3, &[&["x.npy"], &parts[..]].concat());
    }
    let fields = "{'descr': [('a', '<f4'), ('b', '<i4', (2,))], 'fortran_order': False, 'shape': (6,), }";
    fs::write(at.join("x.npy"), npy_of(1, fields, &[0; 800])).unwrap();
    refuses(at, &eval("x.npy"), 3, &["found a structured dtype, expected float16, float32 or float64"]);
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 12345\n";
    for name in ["p.npy", "p.safetensors"] {
        fs::write(at.join(name), pointer).unwrap();
        refuses(at, &eval(name), 3, &["is a Git LFS pointer, not the data: run `git lfs pull`"]);
    }
    fs::write(at.join("x.npy"), npy("<f4", "6, 8", false, &f32s(&noise(48)))).unwrap();
    refuses(at, &["metrics", "eval", "x.npy", "--tensor", "a"], 2, &["--tensor is for .safetensors files", "x.npy"]);
    let integers = TensorView::new(Dtype::I32, vec![6, 8], &[0; 192]).unwrap();
    fs::write(at.join("i.safetensors"), safetensors::serialize([("x", integers)], None).unwrap()).unwrap();
    refuses(at, &eval("i.safetensors"), 3, &["found dtype I32, expected F16, BF16, F32 or F64"]);
}

#[test]
fn padding_is_named_and_left_out_on_request() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let write = |name: &str, tokens: usize, row: &dyn Fn(usize) -> Option<f64>| {
        let mut values = noise(tokens * 16);
        for token in 0..tokens {
            if let Some(value) = row(token) {
                values[token * 16..(token + 1) * 16].fill(value);
            }
        }
        fs::write(at.join(name), npy("<f4", &format!("{tokens}, 16"), false, &f32s(&values))).unwrap();
        values
    };
    let padded = |token: usize| (token == 3 || token > 20).then_some(0.0);
    let values = write("padded.npy", 24, &padded);
    let text = stdout(&basislab(at, &["metrics", "eval", "padded.npy"]));
    let said = "4 of 24 tokens are all zero (3, 21 to 23): --skip-zero-tokens leaves them out";
    assert!(text.contains(said), "{text}");
    let json = evaluated(at, &["padded.npy"]);
    assert_eq!((json["n_tokens"].as_u64(), json["tokens_used"].as_u64()), (Some(24), Some(24)));
    assert_eq!(json["zero_tokens"]["count"], 4);
    assert_eq!(json["zero_tokens"]["first_runs"], serde_json::json!([[3, 3], [21, 23]]));
    for name in ["token_kurtosis", "token_kurtosis_uncentred", "max_median_ratio", "osp_excess_kurtosis"] {
        let why = metric(&json, name)["why_empty"].as_str().unwrap();
        assert!(why.contains("4 tokens are all zero") && why.contains("--skip-zero-tokens"), "{name}: {why}");
    }
    assert!(metric(&json, "dim_rms_kurtosis")["value"].is_f64(), "zero tokens do not concern it");

    // The rest alone, to the last bit.
    let kept: Vec<f64> =
        values.chunks(16).enumerate().filter(|(t, _)| padded(*t).is_none()).flat_map(|(_, r)| r.to_vec()).collect();
    fs::write(at.join("kept.npy"), npy("<f4", "20, 16", false, &f32s(&kept))).unwrap();
    let (skipped, alone) = (evaluated(at, &["padded.npy", "--skip-zero-tokens"]), evaluated(at, &["kept.npy"]));
    assert_eq!(skipped["metrics"], alone["metrics"]);
    assert!(metric(&skipped, "token_kurtosis")["value"].is_f64());
    assert_eq!((skipped["n_tokens"].as_u64(), skipped["tokens_used"].as_u64()), (Some(24), Some(20)));
    assert_eq!((&skipped["zero_tokens"]["count"], &skipped["zero_tokens"]["skipped"]), (&4.into(), &true.into()));
    let text = stdout(&basislab(at, &["metrics", "eval", "padded.npy", "--skip-zero-tokens"]));
    assert!(
        text.contains("20 tokens") && text.contains("4 of 24 tokens are all zero (3, 21 to 23): left out"),
        "{text}"
    );

    write("one.npy", 24, &|token| (token != 5).then_some(0.0));
    let part = "23 of 24 tokens are all zero (0 to 4, 6 to 23), expected at least 2 that are not";
    refuses(at, &["metrics", "eval", "one.npy", "--skip-zero-tokens"], 3, &["one.npy", part]);
    write("flat.npy", 24, &|token| (token == 7).then_some(0.3));
    let json = evaluated(at, &["flat.npy", "--skip-zero-tokens"]);
    assert_eq!(json["constant_tokens"], serde_json::json!({ "count": 1, "first_runs": [[7, 7]] }));
    assert_eq!(metric(&json, "token_kurtosis")["why_empty"], "undefined: 1 token is constant");
    assert!(metric(&json, "token_kurtosis_uncentred")["value"].is_f64());
    let text = stdout(&basislab(at, &["metrics", "eval", "flat.npy"]));
    assert!(text.contains("1 of 24 tokens is constant (7): no kurtosis"), "{text}");
    // Where something is wrong is counted in the file, whatever was left out before it.
    write("nan.npy", 24, &|token| (token < 5).then_some(if token == 4 { f64::NAN } else { 0.0 }));
    refuses(at, &["metrics", "eval", "nan.npy", "--skip-zero-tokens"], 3, &["token 4, dimension 0"]);
}

#[test]
fn an_infinite_z_is_told() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    // No random basis has an outlier dimension, the given one has; all random bases exceed 6 everywhere, the given one nowhere.
    let outlier: Vec<f64> = noise(3200).iter().enumerate().map(|(i, v)| if i % 64 == 3 { 12.0 } else { *v }).collect();
    let level: Vec<f64> = noise(3200).iter().map(|v| 5.9 * v.signum()).collect();
    for (name, values, metric_name, sign) in
        [("high.npy", outlier, "outlier_dims_6x_rms", " inf "), ("low.npy", level, "outlier_dims_abs6", " -inf ")]
    {
        fs::write(at.join(name), npy("<f4", "50, 64", false, &f32s(&values))).unwrap();
        let json = evaluated(at, &[name, "--bases", "8"]);
        let found = metric(&json, metric_name);
        assert_eq!((&found["z"], &found["z_infinite"]), (&Value::Null, &true.into()), "{found}");
        assert_eq!(metric(&json, "token_kurtosis")["z_infinite"], false);
        let text = stdout(&basislab(at, &["metrics", "eval", name, "--bases", "8"]));
        let line = text.lines().find(|line| line.trim_start().starts_with(metric_name)).unwrap();
        assert!(line.contains(sign), "{text}");
    }
}

#[test]
fn a_matrix_that_looks_transposed_is_warned_of() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    fs::write(at.join("x.npy"), npy("<f4", "8, 400", false, &f32s(&noise(3200)))).unwrap();
    fs::write(at.join("y.npy"), npy("<f4", "400, 8", false, &f32s(&noise(3200)))).unwrap();
    let said = stderr(&basislab(at, &["metrics", "eval", "x.npy", "--bases", "8"]));
    assert!(said.starts_with("warning: x.npy: 8 tokens of d_model 400: rows are tokens"), "{said}");
    assert_eq!(stderr(&basislab(at, &["metrics", "eval", "y.npy", "--bases", "8"])), "");
}

// More bases than ten seconds suffice for.
#[test]
fn long_work_says_how_far_it_is_unless_it_is_quiet() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    fs::write(at.join("x.npy"), npy("<f4", "600, 256", false, &f32s(&noise(600 * 256)))).unwrap();
    let start = |quiet: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_basislab"))
            .args(["metrics", "eval", "x.npy", "--bases", "4096"])
            .args(quiet)
            .current_dir(at)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let [loud, quiet] = [start(&[]), start(&["-q"])];
    std::thread::sleep(Duration::from_secs(14));
    let said = [loud, quiet].map(|mut child| {
        child.kill().unwrap();
        String::from_utf8(child.wait_with_output().unwrap().stderr).unwrap()
    });
    assert!(said[0].contains(" of 4096 random bases") && said[0].lines().count() == 1, "{}", said[0]);
    assert_eq!(said[1], "");
}

/// The largest resident size that evaluating a file reaches.
#[cfg(target_os = "linux")]
fn peak(at: &Path, name: &str) -> f64 {
    let mut command = Command::new(env!("CARGO_BIN_EXE_basislab"));
    command.args(["metrics", "eval", name, "--bases", "8", "--json"]).current_dir(at).stdout(Stdio::null());
    let (peak, output) = peak_of(command.spawn().unwrap());
    assert!(output.status.success(), "{name}");
    peak
}

// The program itself takes some 30 MB, products of dimensions 10 to 30; less is left beside the matrix than a second copy or a record per token would need.
#[cfg(target_os = "linux")]
#[test]
fn memory_is_little_more_than_the_matrix_once() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let n = 1 << 22;
    let mut block = noise(1 << 14);
    // A value that makes the median of the whole matrix needed.
    block[0] = 5e4;
    let halves = block.iter().flat_map(|v| half::f16::from_f64(*v).to_le_bytes()).collect::<Vec<u8>>().repeat(n >> 14);
    let singles = f32s(&block).repeat(n >> 14);
    let doubles = block.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().repeat(n >> 14);
    let (long, wide) = (format!("{}, 8", n / 8), format!("{}, 128", n / 128));
    let tensor = |dtype, data: &[u8]| {
        let view = TensorView::new(dtype, vec![n / 64, 64], data).unwrap();
        safetensors::serialize([("x", view)], None).unwrap()
    };
    for (name, bytes) in [
        ("long.npy", npy("<f2", &long, false, &halves)),
        ("columns.npy", npy("<f4", &long, true, &singles)),
        ("wide.npy", npy("<f8", &wide, false, &doubles)),
        ("bf16.safetensors", tensor(Dtype::BF16, &halves)),
        ("f64.safetensors", tensor(Dtype::F64, &doubles)),
    ] {
        fs::write(at.join(name), &bytes).unwrap();
        let (peak, most) = (peak(at, name), 1.25 * 8.0 * n as f64 + 72e6);
        assert!(peak <= most, "{name}: {:.0} MB, expected at most {:.0}", peak / 1e6, most / 1e6);
        fs::remove_file(at.join(name)).unwrap();
    }
}

#[cfg(target_os = "linux")]
#[test]
fn what_does_not_fit_is_refused_before_it_is_read() {
    let dir = TempDir::new().unwrap();
    let at = dir.path();
    let limited = |name: &str, kib: usize| {
        let begun = Instant::now();
        let output = limited(at, &format!("ulimit -v {kib}"), &["metrics", "eval", name, "--bases", "8"]);
        (output.status.code(), stderr(&output), begun.elapsed())
    };
    // A file with holes: it is long, and takes no room.
    let sparse = |name: &str, shape: [usize; 2]| {
        let header = npy("<f2", &format!("{}, {}", shape[0], shape[1]), false, &[]);
        fs::write(at.join(name), &header).unwrap();
        let file = fs::OpenOptions::new().write(true).open(at.join(name)).unwrap();
        file.set_len((header.len() + 2 * shape[0] * shape[1]) as u64).unwrap();
    };
    sparse("long.npy", [1 << 22, 16]);
    sparse("huge.npy", [1 << 34, 16]);
    sparse("wide.npy", [16, 1 << 20]);
    for (name, kib, limit) in [
        ("long.npy", 500_000, "the limit on address space (ulimit -v) leaves"),
        ("huge.npy", 60_000_000, "and the "),
        ("wide.npy", 60_000_000, "and the "),
    ] {
        let (code, said, took) = limited(name, kib);
        assert_eq!(code, Some(8), "{name}: {said}");
        let line = said.lines().find(|line| line.starts_with("error:")).unwrap();
        for part in [name, "needs about", "of memory", limit] {
            assert!(line.contains(part), "{name}: {line}");
        }
        assert!(took < Duration::from_secs(5), "{name}: {took:?}");
    }
    // Near the limit the allocator's own reserve decides: that ends with 8 too, and not with a panic.
    sparse("square.npy", [1 << 11, 1 << 11]);
    for kib in [380_000, 400_000, 410_000] {
        let (code, said, took) = limited("square.npy", kib);
        assert!(matches!(code, Some(0 | 8)) && !said.contains("panicked"), "{kib} KiB, {took:?}: {code:?} {said}");
    }
    // What is said to be needed is enough.
    fs::write(at.join("x.npy"), npy("<f4", "65536, 64", false, &f32s(&noise(1 << 16)).repeat(64))).unwrap();
    let (code, said, _) = limited("x.npy", 200_000);
    assert_eq!(code, Some(8), "{said}");
    let need = needed_megabytes(&said);
    assert!(need < 1.5 * 33.6 + 84.0, "{said}");
    let (code, said, _) = limited("x.npy", ((need * 1e6 + 151e6) / 1024.0) as usize);
    assert_eq!(code, Some(0), "{said}");
}
