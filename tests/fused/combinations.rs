//! Random combinations of all options of the model.

use super::{assert_agrees, batch, model, run, seen};
use basislab_config::{Key, Kind, Mask, RunSpec};
use basislab_stats::{Purpose, below, stream};
use serde_json::Value;

const DRAWS: u64 = 64;

/// A run with random options and an odd shape, and a number of sequences.
fn draw(number: u64) -> (usize, RunSpec) {
    let mut rng = stream(20_261_127, Purpose::Simulation, number);
    let mut draw = |low: u64, high: u64| low + below(&mut rng, high - low + 1);
    let (kv_heads, d_head, d_model) = (draw(1, 3), draw(2, 17), draw(5, 70));
    let heads = kv_heads * draw(1, 2);
    let mut all: Vec<(&str, String)> = Vec::new();
    for (key, low, high) in
        [("model.d_mlp", 1, 90), ("model.n_layers", 1, 2), ("model.n_ctx", 2, 50), ("corpus.d_vocab", 16, 150)]
    {
        all.push((key, draw(low, high).to_string()));
    }
    let mut one_of = |key: &'static str, values: &[&str]| {
        let value = values[draw(0, values.len() as u64 - 1) as usize];
        all.extend((!value.is_empty()).then(|| (key, value.to_owned())));
        value.to_owned()
    };
    one_of("model.norm", &["none", "rms", "rms-scalar", "rms-gain", "layernorm"]);
    one_of("model.norm_place", &["", "pre", "post"]);
    one_of("model.branches", &["", "sequential", "parallel"]);
    one_of("model.biases", &["false", "true"]);
    one_of("model.qkv_biases", &["", "false", "true"]);
    one_of("model.qk_norm", &["", "false", "true"]);
    one_of("model.tied_head", &["false", "true"]);
    one_of("model.mlp", &["", "plain", "swiglu"]);
    one_of("model.activation", &["gelu", "gelu-tanh", "relu", "solu"]);
    one_of("model.attention", &["softmax", "softmax-1"]);
    one_of("model.norm_epsilon", &["0.00001", "0.003"]);
    one_of("model.init_std", &["0.05", "0.2"]);
    let is_bidirectional = one_of("model.mask", &["", "causal", "causal"]).is_empty();
    // Only models are bidirectional that are not trained: no configuration of a run is.
    let rope = one_of("model.positions.kind", &["learned", "rope", "rope"]) == "rope";
    if rope {
        one_of("model.positions.base", &["10000.0", "50.0"]);
        one_of("model.positions.pairs", &["", "halves", "interleaved"]);
        let dims = one_of("model.positions.dims", &["", "2"]);
        let even = d_head + d_head % 2;
        let d_head = if dims.is_empty() { even } else { d_head };
        all.push(("model.d_head", d_head.to_string()));
        if d_head >= 6 && !dims.is_empty() {
            all.push(("model.positions.dims", "6".to_owned()));
        }
    } else if one_of("model.d_head", &["", "7"]).is_empty() {
        all.push(("model.d_model", (heads * d_head).max(4).to_string()));
    }
    if !all.iter().any(|(key, _)| *key == "model.d_model") {
        all.push(("model.d_model", d_model.to_string()));
    }
    all.push(("model.n_heads", heads.to_string()));
    if kv_heads < heads || number.is_multiple_of(2) {
        all.push(("model.n_kv_heads", kv_heads.to_string()));
    }
    let changes: Vec<(&str, &str)> = all.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let mut run = run(&changes);
    if is_bidirectional {
        run.model.mask = Mask::Bidirectional;
    }
    (1 + number as usize % 5, run)
}

#[test]
fn random_combinations_of_all_options_agree() {
    for number in 0..DRAWS {
        let (sequences, run) = draw(number);
        let at = format!("draw {number}: {}", serde_json::to_string(&run.model).unwrap());
        assert_agrees(&model(&run), &batch(&run, sequences), &at);
    }
}

/// A new key of the model, or a new value of one, is among the combinations: kernels cannot pass it over in silence.
#[test]
fn every_option_of_the_model_is_among_the_combinations() {
    // Other types: `parts::other_types_run_the_reference_where_there_is_no_kernel`.
    const OTHERS: [&str; 2] = ["param_dtype", "compute_dtype"];
    let models: Vec<Value> = (0..DRAWS).map(|number| serde_json::to_value(draw(number).1.model).unwrap()).collect();
    let model = RunSpec::KEYS.iter().find(|key| key.name == "model").unwrap();
    let Kind::Table(keys) = model.kind else { panic!("a table") };
    let keys: Vec<&Key> = keys.iter().filter(|key| !OTHERS.contains(&key.name)).collect();
    assert!(keys.len() > 15);
    let missing: Vec<String> = keys.iter().flat_map(|key| missing(key, &models)).collect();
    assert!(missing.is_empty(), "no combination has {missing:?}");
}

/// What a key may be, and is in none of these tables.
fn missing(key: &Key, tables: &[Value]) -> Vec<String> {
    let values: Vec<&Value> = tables.iter().filter_map(|table| table.get(key.name)).collect();
    // Optional keys are not written where they are as if not given.
    let is_left_out = key.optional && values.len() < tables.len();
    let wanted: Vec<Value> = match key.kind {
        Kind::Bool => vec![Value::from(false), Value::from(true)],
        Kind::Choice(names) => names.iter().map(|name| Value::from(name.name)).collect(),
        Kind::Tagged(variants) => {
            let of = |name: &str| -> Vec<Value> {
                values.iter().filter(|value| value["kind"] == name).map(|value| (*value).clone()).collect()
            };
            let keys = variants.iter().flat_map(|variant| variant.keys.iter().map(move |key| (variant.name, key)));
            let absent = variants.iter().filter(|variant| of(variant.name).is_empty());
            let absent = absent.map(|variant| variant.name.to_owned());
            return absent.chain(keys.flat_map(|(name, key)| missing(key, &of(name)))).collect();
        }
        _ => {
            let is_varied = values.iter().any(|value| *value != values[0]) || is_left_out && !values.is_empty();
            return if is_varied { Vec::new() } else { vec![key.name.to_owned()] };
        }
    };
    let absent: Vec<&Value> = wanted.iter().filter(|value| !values.contains(value)).collect();
    if absent.len() <= usize::from(is_left_out) {
        return Vec::new();
    }
    absent.iter().map(|value| format!("{} = {value}", key.name)).collect()
}

#[test]
fn combinations_give_the_same_bits_on_any_thread_count() {
    for number in 0..8 {
        let (_, run) = draw(number);
        let batch = batch(&run, 600 / run.model.n_ctx + 3);
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
            pool.install(|| seen(&model(&run), &batch))
        };
        let alone = with(1);
        for threads in [2, 3, 4] {
            assert!(with(threads) == alone, "draw {number}: {threads} threads");
        }
    }
}
