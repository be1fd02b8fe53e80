//! The keys of claims: what is written loads as the same claim, and what makes no sense is refused where it is written.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

use basislab_config::{
    Change, ClaimKind, Commutes, Experiment, Key, Kind, LOSS, Library, Loaded, Role, RuleKeys, Sign, SitePattern,
    StepPattern, load,
};

static RULES: &[&RuleKeys] = &[&RuleKeys {
    name: "sgd",
    keys: &[Key { name: "lr", kind: Kind::Positive(1e6), about: "", preset: Some("0.5"), optional: false }],
    roles: Role::ALL,
    commutes: Commutes::Rotations { permutations_exactly: true },
    slots: |_| &[],
    check: |_| None,
}];

const BASE: &str = r#"
question = "?"
seeds = [0, 1, 2]
model = { n_ctx = 8, n_layers = 2, d_model = 16, n_heads = 2, d_mlp = 24, activation = "gelu", norm = "rms-scalar", norm_epsilon = 1e-5, positions = { kind = "learned" }, attention = "softmax", tied_head = false, biases = false, init_std = 0.02, param_dtype = "f32", compute_dtype = "f32" }
corpus = { kind = "text", path = "a.txt", tokenizer = "bytes", d_vocab = 256, held_out = 0.1 }
train = { steps = 100, batch_size = 4, micro_batches = 1, clip_norm = 1.0, schedule = "cosine", warmup_steps = 10, final_lr_fraction = 0.1 }
probe = { log_until = 16, every = 10, loss_sequences = 4, residual_sequences = 4, random_bases = 8, tokens = "rest", null_bases = 8, null_metrics = ["token_kurtosis"], null_sites = ["blocks.last.resid_post"], band_bases = 8, band_metrics = ["token_kurtosis"] }
optimizer = { kind = "sgd", lr = 1e-2 }
basis = { kind = "standard" }
verdict = { metric = "token_kurtosis", site = "blocks.last.resid_post", tokens = "rest", basis = "standard", step = "last", alpha = 0.05, min_seeds = 8, smallest_effect = 0.15, equivalence_margin = 0.1, equal_loss_margin = 0.01 }
arm = [{ name = "a" }, { name = "b" }, { name = "c" }, { name = "d" }, { name = "e" }, { name = "few", seeds = [1] }, { name = "flat", model.n_layers = 1 }]

[[claim]]
name = "it"
text = "It is so"
primary = true
"#;

fn loaded(claim: &str, changes: &[Change]) -> Result<Loaded, String> {
    read(&format!("{BASE}{claim}\n"), changes)
}

fn read(text: &str, changes: &[Change]) -> Result<Loaded, String> {
    let base = |name: &str| match name {
        "base" => Ok(("base.toml".to_owned(), format!("{BASE}test = {ORDERED}\n"))),
        other => Err(format!("found {other:?}, expected base")),
    };
    load(text, "f.toml", changes, Library { rules: RULES, base: &base }).map_err(|error| error.to_string())
}

fn experiment(claim: &str) -> Experiment {
    loaded(claim, &[]).unwrap_or_else(|error| panic!("{claim}: {error}")).experiment
}

const ORDERED: &str = r#"{ kind = "ordered", arms = ["a", "b", "c"] }"#;
const CORRELATES: &str = r#"{ kind = "correlates", arms = ["a", "b", "c", "d", "e"], with = { metric = "loss" } }"#;
const BLOCKS: &str = r#"{ kind = "correlates", arms = ["a", "b", "c", "d", "e"], with = { site = "embed", step = 20 }, blocks = [["e", "b"]], sign = "negative" }"#;
const NEAR: &str =
    r#"{ kind = "near-value", arm = "a", value = -4, tolerance = 0.1, source = "Someone (2023), table 2" }"#;

#[test]
fn claims_are_written_as_they_load() {
    for claim in [
        format!("test = {ORDERED}"),
        format!("test = {ORDERED}\ncell = {{ metric = \"loss\", step = 20 }}"),
        format!("test = {CORRELATES}"),
        format!("test = {CORRELATES}\ncell = {{ site = \"final\" }}"),
        format!("test = {BLOCKS}"),
        format!("test = {NEAR}"),
        "test = { kind = \"near-value\", arm = \"a\", value = 2.5, tolerance = 1 }".to_owned(),
        "test = { kind = \"at-most\", arm = \"a\", threshold = 3 }".to_owned(),
        "test = { kind = \"at-least\", arm = \"few\", threshold = -0.5 }\ncell = { site = \"embed\", step = 0 }"
            .to_owned(),
    ] {
        let text = format!("{BASE}{claim}\n");
        let text = if claim.contains("near-value") { text.replace("primary = true", "primary = false") } else { text };
        let before = read(&text, &[]).unwrap_or_else(|error| panic!("{claim}: {error}")).experiment;
        let written = before.to_toml();
        let after = read(&written, &[]).unwrap_or_else(|error| panic!("{error}\n{written}")).experiment;
        assert!(after == before, "{claim}:\n{written}");
        assert_eq!(after.to_toml(), written);
        assert_eq!(after.rule_hash(&after.claims[0]), before.rule_hash(&before.claims[0]));
    }
}

#[test]
fn what_a_second_cell_leaves_out_is_as_in_the_verdict() {
    let experiment = experiment(&format!("test = {BLOCKS}"));
    let claim = &experiment.claims[0];
    let ClaimKind::Correlates { with, sign, .. } = &claim.test else { panic!("{:?}", claim.test) };
    assert_eq!(
        (with.metric.as_str(), with.tokens, with.basis),
        ("token_kurtosis", claim.cell.tokens, claim.cell.basis)
    );
    assert_eq!(
        (with.site.to_string().as_str(), with.step, *sign),
        ("embed", StepPattern::At(20), Some(Sign::Negative))
    );
    assert_eq!((claim.cell.site, claim.cell.step), (SitePattern::LastPost, StepPattern::LAST));
    assert_eq!(claim.test.blocks(), [vec![4, 1], vec![0], vec![2], vec![3]]);
    let cells: Vec<&str> = claim.cells().into_iter().map(|(key, _)| key).collect();
    assert_eq!(cells, ["cell", "test.with"]);
    let written = experiment.to_toml();
    assert!(
        !written.contains("metric = \"token_kurtosis\"\nsite = \"embed\""),
        "only what differs is written:\n{written}"
    );
    let set = [Change::set("claim.it.test.with.metric", "loss", "--set x")];
    let changed = loaded(&format!("test = {BLOCKS}"), &set).unwrap().experiment;
    assert!(changed.claims[0].cells()[1].1.is_loss());
    let plain = self::experiment(&format!("test = {CORRELATES}"));
    assert_eq!(plain.claims[0].test.blocks(), [[0], [1], [2], [3], [4]]);
    assert_eq!(plain.claims[0].cells()[1].1.metric, LOSS);
}

#[test]
fn words_about_a_number_are_not_part_of_its_rule() {
    let hash = |near: &str| {
        let text = format!("{BASE}test = {near}\n").replace("primary = true", "primary = false");
        let experiment = read(&text, &[]).unwrap().experiment;
        experiment.rule_hash(&experiment.claims[0])
    };
    assert_eq!(hash(NEAR), hash(&NEAR.replace("Someone (2023)", "Another (2024)")));
    assert_eq!(hash(NEAR), hash(&NEAR.replace("-4", "-4.0")));
    assert_ne!(hash(NEAR), hash(&NEAR.replace("-4", "-5")));
    assert_ne!(hash(NEAR), hash(&NEAR.replace("0.1", "0.2")));
}

#[test]
fn a_claim_about_arms_that_are_left_out_is_left_out() {
    let on_base = |only: &str| read(&format!("base = \"base\"\nonly = {only}\n"), &[]).unwrap().experiment.claims.len();
    assert_eq!(on_base("[\"a\", \"b\", \"c\"]"), 1);
    assert_eq!(on_base("[\"a\", \"b\"]"), 0);
}

#[test]
fn claims_that_make_no_sense_are_refused_where_they_are_written() {
    let near = NEAR.replace(", source = \"Someone (2023), table 2\"", "");
    let bound = "{ kind = \"at-most\", arm = \"a\", threshold = 3.0 }";
    let with = |from: &str, to: &str, test: &str| {
        assert!(test.contains(from), "{from} in {test}");
        format!("test = {}", test.replacen(from, to, 1))
    };
    for (claim, path, expected) in [
        (with("\"c\"", "\"x\"", ORDERED), "test.arms", "found \"x\", expected one of a, b, c, d, e, few, flat"),
        (with("\"c\"", "\"a\"", ORDERED), "test.arms", "found \"a\" twice, expected distinct arms"),
        (with(", \"c\"", "", ORDERED), "test.arms", "found a list, expected a list of at least 3 names"),
        (with("\"c\"", "\"few\"", ORDERED), "test.arms", "\"a\" and \"few\" with different seeds"),
        (with("arms", "arm", ORDERED), "test.arm", "unknown key"),
        (with(", arms = [\"a\", \"b\", \"c\"]", "", ORDERED), "test.arms", "missing, expected a list of at least 3 names"),
        (with(", \"d\", \"e\"", "", CORRELATES), "test.arms", "expected a list of at least 4 names"),
        (with("\"d\"", "\"a\"", CORRELATES), "test.arms", "found \"a\" twice"),
        (with("\"d\"", "\"few\"", CORRELATES), "test.arms", "with different seeds"),
        (with(", with = { metric = \"loss\" }", "", CORRELATES), "test.with", "missing, expected a table"),
        (with("{ metric = \"loss\" }", "{}", CORRELATES), "test.with", "found the claim's own cell"),
        (with("{ metric = \"loss\" }", "{ step = 7 }", CORRELATES), "test.with.step", "found 7, expected a step at which a is probed"),
        (with("\"loss\" }", "\"loss\", step = 7 }", CORRELATES), "test.with.step", "found 7"),
        (with("{ metric = \"loss\" }", "{ basis = \"optimizer\" }", CORRELATES), "test.with.basis", "no single optimizer basis"),
        (with("metric = \"loss\"", "metrics = \"loss\"", CORRELATES), "test.with.metrics", "unknown key"),
        (
            with("\"e\"], with = { metric = \"loss\" }", "\"flat\"], with = { site = \"blocks.1.resid_mid\" }", CORRELATES),
            "test.with.site",
            "found block 1, expected a block below model.n_layers = 1",
        ),
        (format!("test = {CORRELATES}\ncell.metric = \"loss\""), "test.with", "expected another quantity"),
        (with("\"b\"]]", "\"few\"]]", BLOCKS), "test.blocks", "found \"few\", expected one of a, b, c, d, e"),
        (with("\"b\"]]", "\"e\"]]", BLOCKS), "test.blocks", "found \"e\" twice, expected each arm in one block"),
        (with("\"b\"]]", "\"b\", \"a\"]]", BLOCKS), "test.blocks", "found 3 blocks of arms, expected at least 4"),
        (with("[[\"e\", \"b\"]]", "[\"e\", \"b\"]", BLOCKS), "test.blocks", "expected a list of names"),
        (with("[[\"e\", \"b\"]]", "[]", BLOCKS), "test.blocks", "expected a list of lists of names"),
        (with("[[\"e\", \"b\"]]", "[[]]", BLOCKS), "test.blocks", "expected a list of names"),
        (with("negative", "down", BLOCKS), "test.sign", "expected one of positive, negative"),
        (format!("test = {near}"), "primary", "equivalences are decided outside the family"),
        (with("-4", "0", &near), "test.value", "found 0, expected another number"),
        (with("-4", "nan", &near), "test.value", "expected a finite number"),
        (with("0.1", "0.0", &near), "test.tolerance", "expected a number above 0, at most 1.0"),
        (with("0.1", "1.5", &near), "test.tolerance", "expected a number above 0, at most 1.0"),
        (with("\"a\"", "\"z\"", &near), "test.arm", "found \"z\""),
        (with("3.0", "inf", bound), "test.threshold", "expected a finite number"),
        (with("3.0", "nan", bound), "test.threshold", "expected a finite number"),
        (with("3.0", "\"3\"", bound), "test.threshold", "expected a finite number; write 3"),
        (with("\"a\"", "\"z\"", bound), "test.arm", "found \"z\""),
        (
            "test = { kind = \"arms-differ\", arm = \"a\", other = \"b\", reading = \"final\" }\ncell.metric = \"loss\"".to_owned(),
            "cell.metric",
            "found loss, expected a metric of the residual stream for arms-differ",
        ),
        ("test = { kind = \"order\", arms = [\"a\"] }".to_owned(), "test.kind", "at-most, at-least; did you mean \"ordered\"?"),
    ] {
        let mut text = format!("{BASE}{claim}\n");
        if path == "test.value" {
            text = text.replace("primary = true", "primary = false");
        }
        let error = read(&text, &[]).map(|_| "loaded").unwrap_err();
        let at = format!("claim.it.{path}: ");
        assert!(error.starts_with("f.toml:") && error.contains(&at) && error.contains(expected), "{claim}: {error}");
    }
}

#[test]
fn a_margin_is_part_of_the_rules_that_use_it() {
    let null = "{ kind = \"differs-from-null\", arm = \"a\" }";
    let equivalent = "{ kind = \"equivalent-to-null\", arm = \"a\" }";
    let loss = "{ kind = \"equal-loss\", arm = \"a\", other = \"b\" }";
    for (test, used) in [(null, "smallest_effect"), (equivalent, "equivalence_margin"), (loss, "equal_loss_margin")] {
        for margin in ["smallest_effect", "equivalence_margin", "equal_loss_margin"] {
            let hashes = |changes: &[Change]| {
                let text = format!("{BASE}test = {test}\n");
                let text = if test == null { text } else { text.replace("primary = true", "primary = false") };
                let experiment = read(&text, changes).unwrap().experiment;
                let claim = &experiment.claims[0];
                (experiment.rule_hash_by_name(claim), experiment.rule_hash(claim))
            };
            let changed = hashes(&[Change::set(&format!("verdict.{margin}"), "0.17", "--set x")]);
            assert_eq!(changed.0 != hashes(&[]).0, margin == used, "{test}: {margin}");
            // What was registered is the whole table.
            assert_ne!(changed.1, hashes(&[]).1, "{test}: {margin}");
        }
    }
}
