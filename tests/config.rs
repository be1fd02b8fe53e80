//! Configs: every key is checked, and errors name place, key, found and expected.

use crate::support::{library, loaded, root};
use basislab_config::{Change, Library, load};

fn text() -> String {
    std::fs::read_to_string(crate::support::EXPERIMENT).unwrap()
}

fn with(path: &str, value: &str) -> Result<basislab_config::Loaded, basislab_config::ConfigError> {
    loaded(&text(), "f.toml", &[Change::set(path, value, &format!("--set {path}={value}"))])
}

/// What decides the numbers of each arm.
fn hashes(experiment: &basislab_config::Experiment) -> Vec<String> {
    experiment.arms.iter().map(|arm| arm.run.hash()).collect()
}

#[test]
fn every_built_in_experiment_loads_and_survives_its_own_toml() {
    let file = |name: &str| root().join("configs").join(format!("{name}.toml"));
    let base =
        |name: &str| Ok((name.to_owned(), std::fs::read_to_string(file(name)).map_err(|error| error.to_string())?));
    let library = Library { base: &base, ..library() };
    for entry in std::fs::read_dir(root().join("configs")).unwrap() {
        let path = entry.unwrap().path();
        let it = load(&std::fs::read_to_string(&path).unwrap(), "f.toml", &[], library).unwrap();
        let again = loaded(&it.experiment.to_toml(), "again.toml", &[]).unwrap();
        assert_eq!(again.experiment, it.experiment, "{}", path.display());
        assert_eq!(hashes(&again.experiment), hashes(&it.experiment));
    }
}

#[test]
fn every_key_refuses_a_typo_a_wrong_type_and_a_value_out_of_range() {
    let it = loaded(&text(), "f.toml", &[]).unwrap();
    assert!(it.origins.len() > 80, "only {} keys", it.origins.len());
    for (path, value, _) in &it.origins {
        let (table, key) = path.rsplit_once('.').unwrap_or(("", path));
        let typo = format!("{path}x");
        let error = with(&typo, value).expect_err(&typo).to_string();
        assert!(error.contains(&format!("{key}x")), "{typo}: {error}");
        // A sentence may be anything but empty.
        let wrong: &[&str] = match key {
            "question" | "text" => &["\"\"", "", " "],
            _ => &["{ a = 1 }", "[[1]]", "nan", "-1", "1e999", "\"\"", "99999999999999999999999999"],
        };
        for wrong in wrong {
            let error = with(path, wrong).expect_err(&format!("{path}={wrong}")).to_string();
            assert!(error.contains(key) && error.contains("expected"), "{path}={wrong}: {error}");
            assert_eq!(error.lines().count(), 1);
        }
        if !table.is_empty() {
            let elsewhere = format!("train.{key}");
            if !path.starts_with("train.") {
                let error = with(&elsewhere, value).expect_err(&elsewhere).to_string();
                assert!(error.contains("unknown key"), "{elsewhere}: {error}");
            }
        }
    }
}

#[test]
fn every_line_of_the_file_refuses_a_typo_with_its_own_line_and_column() {
    let text = text();
    for (number, line) in text.lines().enumerate() {
        let Some((key, _)) =
            line.split_once(" = ").filter(|(key, _)| key.chars().all(|c| c.is_alphanumeric() || c == '_'))
        else {
            continue;
        };
        let broken: Vec<String> = text
            .lines()
            .enumerate()
            .map(|(n, l)| if n == number { l.replacen(key, &format!("{key}q"), 1) } else { l.to_owned() })
            .collect();
        let error = loaded(&broken.join("\n"), "f.toml", &[]).expect_err(line).to_string();
        let place = format!("f.toml:{}:", number + 1);
        // A tag is missed, and an arm's or claim's name is what others point to: those are found elsewhere.
        let elsewhere = key == "kind" || key == "name";
        assert!(elsewhere || (error.starts_with(&place) && error.contains(&format!("{key}q"))), "{line}: {error}");
    }
}

#[test]
fn messages_say_what_was_found_and_what_was_expected() {
    let cases = [
        (
            "model.n_heads",
            "5",
            "--set model.n_heads=5: model.n_heads: found 5, expected a divisor of model.d_model = 64",
        ),
        (
            "train.stps",
            "5",
            "--set train.stps=5: unknown key \"stps\", expected one of steps, batch_size, micro_batches, clip_norm, schedule, warmup_steps, final_lr_fraction; did you mean \"steps\"?",
        ),
        ("seeds", "[0, 0]", "--set seeds=[0, 0]: seeds: found seed 0 twice, expected distinct seeds"),
        (
            "arm.adam.optimizer.beta_1",
            "1",
            "--set arm.adam.optimizer.beta_1=1: arm.adam.optimizer.beta_1: found the integer 1, expected a number from 0.0 to below 1.0",
        ),
        (
            "arm.sgd.optimizer.beta_1",
            "0.9",
            "--set arm.sgd.optimizer.beta_1=0.9: unknown key \"beta_1\", expected one of lr, momentum, nesterov, weight_decay, decoupled_weight_decay",
        ),
        (
            "corpus.kind",
            "text",
            "--set corpus.kind=text: corpus.path: missing, expected text of 1 to 4096 characters (the file, or `builtin:shakespeare-tragedies` for the text that comes with the program)",
        ),
        (
            "verdict.site",
            "blocks.2.resid_post",
            "--set verdict.site=blocks.2.resid_post: verdict.site: found block 2, expected a block below model.n_layers = 2",
        ),
        (
            "corpus.successors",
            "16",
            "--set corpus.successors=16: corpus.successors: found 16, expected at most 15, the other classes",
        ),
        (
            "claim.sgd-equals-its-null.cell.basis",
            "optimizer",
            "--set claim.sgd-equals-its-null.cell.basis=optimizer: claim.sgd-equals-its-null.cell.basis: found optimizer, expected standard: \"sgd\" has no single optimizer basis",
        ),
    ];
    for (path, value, expected) in cases {
        assert_eq!(with(path, value).unwrap_err().to_string(), expected);
    }
}

#[test]
fn presets_replace_a_table_and_later_sets_apply_to_it() {
    let set = |path: &str, value: &str| Change::set(path, value, "--set");
    let changes = [
        Change::parse_arm("new=sgd,optimizer.kind=adamw").unwrap(),
        set("arm.new.optimizer.lr", "0.5"),
        set("model.positions.kind", "rope"),
    ];
    let it = loaded(&text(), "f.toml", &changes).unwrap();
    let arm = it.experiment.arm("new").unwrap();
    assert_eq!((arm.run.optimizer.name().as_str(), arm.run.optimizer.lr()), ("adamw", 0.5));
    assert!(it.experiment.to_toml().contains("base = 10000.0"));
}

#[test]
fn the_rule_of_a_claim_covers_what_decides_it_and_nothing_else() {
    let hash = |experiment: &basislab_config::Experiment, name: &str| {
        let claim = experiment.claims.iter().find(|claim| claim.name == name).unwrap();
        experiment.rule_hash(claim)
    };
    let base = loaded(&text(), "f.toml", &[]).unwrap().experiment;
    let (alone, in_family) = ("sgd-equals-its-null", "adam-differs-from-sgd");
    for (path, value) in [
        ("seeds", "[0,1,2]"),
        ("question", "Why?"),
        ("claim.sgd-equals-its-null.text", "other words"),
        ("claim.adam-differs-from-sgd.text", "other words"),
    ] {
        let changed = with(path, value).unwrap().experiment;
        for name in [alone, in_family] {
            assert_eq!(hash(&changed, name), hash(&base, name), "{path}");
        }
    }
    for (path, value) in [
        ("train.steps", "700"),
        ("verdict.alpha", "0.1"),
        ("verdict.metric", "kurtosis_of_dims"),
        ("verdict.smallest_effect", "0.2"),
    ] {
        let changed = with(path, value).unwrap().experiment;
        for name in [alone, in_family] {
            assert_ne!(hash(&changed, name), hash(&base, name), "{path}");
        }
    }
    // Holm's correction depends on the whole family.
    let smaller = with("claim.adam-differs-from-its-null.primary", "false").unwrap().experiment;
    assert_ne!(hash(&smaller, in_family), hash(&base, in_family));
    assert_eq!(hash(&smaller, alone), hash(&base, alone));
}

#[test]
fn odd_files_are_read_or_refused_plainly() {
    let windows = text().replace('\n', "\r\n");
    assert!(loaded(&format!("\u{feff}{windows}"), "f.toml", &[]).is_ok(), "BOM and CRLF are fine");
    for broken in ["", "a = ", "[model", "seeds = 3", "\0"] {
        let error = loaded(broken, "f.toml", &[]).expect_err(broken).to_string();
        assert!(error.starts_with("f.toml:") && error.lines().count() == 1, "{error}");
    }
    let twice = text()
        + "\n[[arm]]\nname = \"ADAM\"\noptimizer = { kind = \"sgd\", lr = 1, momentum = 0, nesterov = false, weight_decay = 0, decoupled_weight_decay = 0 }\nbasis = { kind = \"standard\" }\n";
    assert!(loaded(&twice, "f.toml", &[]).unwrap_err().to_string().contains("distinct names"));
}

/// Every key of the effective configuration with a value of another type, one out of range, and in another place: each
/// refused with file, line, column and key.
#[test]
fn every_line_of_the_file_refuses_wrong_values_and_places_with_its_own_position() {
    let text = loaded(&text(), "f.toml", &[]).unwrap().experiment.to_toml();
    let lines: Vec<&str> = text.lines().collect();
    let mut seen = 0;
    for (number, line) in lines.iter().enumerate() {
        let Some((key, value)) = line.split_once(" = ") else { continue };
        let with = |replacement: &str| {
            let mut changed = lines.clone();
            changed[number] = replacement;
            loaded(&changed.join("\n"), "f.toml", &[]).expect_err(replacement).to_string()
        };
        let number_like = value.parse::<f64>().is_ok();
        let wrong =
            ["[[1]]", "{ a = 1 }", if number_like { "-1" } else { "\"\"" }, if number_like { "nan" } else { "-1" }];
        for wrong in wrong.into_iter().filter(|_| key != "kind" && key != "name") {
            let error = with(&format!("{key} = {wrong}"));
            let place = format!("f.toml:{}:", number + 1);
            assert!(error.starts_with(&place) && error.contains(key), "{line} -> {wrong}: {error}");
            assert!(error.contains("expected"), "{line} -> {wrong}: {error}");
            seen += 1;
        }
        // At the top of the file it is unknown, or there twice.
        let moved = [&[*line][..], &lines[..number], &lines[number + 1..]].concat();
        let error = loaded(&moved.join("\n"), "f.toml", &[]).err().map(|error| error.to_string());
        let top = !lines[..number].iter().any(|line| line.starts_with('['));
        assert!(top || error.is_some_and(|error| error.starts_with("f.toml:")), "{line}");
    }
    assert!(seen > 200, "only {seen} mutations");
}
