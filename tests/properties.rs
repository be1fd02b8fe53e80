//! Properties over random inputs (proptest; `PROPTEST_CASES` sets how many).

use crate::support::{experiment, flex, library, rows_of, small};
use basislab_config::{Change, RunName, load};
use basislab_data::Corpus;
use basislab_stats::{Purpose, Residuals, Rotation, metric, stream};
use basislab_store::{Checkpoint, Extent, newest, save, sha256};
use basislab_tables::{Row, Status, StepRow, part_dir, read_table, write_table};
use basislab_train::{Context, Control, Event, Outcome, train};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn cases(default: u32) -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").map_or(default, |text| text.parse().unwrap());
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(cases(256))]

    /// A name is either refused or a single, plain folder.
    #[test]
    fn names_stay_inside(text in any::<String>(), ascii in "[ -~]{0,70}") {
        for text in [text, ascii] {
            let Ok(name) = RunName::new(&text) else { continue };
            let path = part_dir(Path::new("root"), &name, 0);
            prop_assert!(path.starts_with("root/parts") && path.components().count() == 4, "{path:?}");
            prop_assert!(!text.starts_with(['=', '+', '-', '@', '\t', '\r']), "no spreadsheet takes it for a formula");
            prop_assert!(text.chars().all(|c| c.is_ascii_graphic() && !"<>&\"'".contains(c)));
        }
    }

    /// Whatever the size, a config is loaded or refused, and what is loaded can be multiplied.
    #[test]
    fn sizes_never_overflow(key in 0..8usize, value in any::<u64>()) {
        let keys = ["model.n_ctx", "model.d_model", "model.n_heads", "model.d_mlp", "model.n_layers", "corpus.d_vocab", "train.batch_size", "train.steps"];
        let change = Change::set(keys[key], &value.to_string(), "--set");
        let text = small(&[]).to_toml();
        if let Ok(loaded) = load(&text, "f.toml", &[change], library()) {
            // Checked in release too (see the profile), so a product that wraps panics here.
            for run in loaded.experiment.arms.iter().map(|arm| &arm.run).chain([&loaded.experiment.shared]) {
                prop_assert!(run.model.d_model.checked_mul(run.model.d_mlp).is_some());
                prop_assert!(run.train.batch_size.checked_mul(run.model.n_ctx).is_some());
            }
        }
    }

    /// Numbers come back from a table to the last bit.
    #[test]
    fn tables_keep_every_bit(bits in prop::collection::vec(any::<(u64, u64, u64)>(), 1..8), step in any::<u64>()) {
        let finite = |bits: u64| Some(f64::from_bits(bits)).filter(|x| x.is_finite());
        let row = |&(a, b, c): &(u64, u64, u64)| StepRow {
            arm: RunName::new("adam").unwrap(), seed: a, step, tokens: b, lr: finite(c).unwrap_or(0.0),
            train_loss: finite(a), grad_norm: finite(b), status: Status::Ok,
        };
        let rows: Vec<StepRow> = bits.iter().map(row).collect();
        let dir = tempfile::tempdir().unwrap();
        write_table(dir.path(), &rows).unwrap();
        let read = read_table::<StepRow>(dir.path()).unwrap();
        let exact = |rows: &[StepRow]| rows.iter().map(|r| (r.lr.to_bits(), r.train_loss.map(f64::to_bits), r.grad_norm.map(f64::to_bits))).collect::<Vec<_>>();
        prop_assert_eq!(exact(&read), exact(&rows));
        prop_assert_eq!(read, rows);
    }

    /// A checkpoint of any owner, step and bytes comes back.
    #[test]
    fn checkpoints_come_back(seed in any::<u64>(), step in 0..10_000_000_000u64, bytes in any::<Vec<u8>>(), key in any::<String>()) {
        let dir = tempfile::tempdir().unwrap();
        let owner = serde_json::json!({ key: seed });
        let tables = BTreeMap::from([("steps.csv".to_owned(), Extent { bytes: seed, sha256: sha256(&bytes) })]);
        let checkpoint = Checkpoint { step, files: BTreeMap::from([("weights".to_owned(), bytes)]), tables };
        save(dir.path(), &owner, &checkpoint).unwrap();
        prop_assert_eq!(newest(dir.path(), &owner, &mut |_| Ok(None), &mut |_| {}).unwrap(), Some(checkpoint));
    }

    /// Kurtosis of a token does not see its scale or signs, and stays between 1 and its ceiling.
    #[test]
    fn kurtosis_is_blind_to_scale_and_signs(values in prop::collection::vec(-1e3..1e3f64, 32), power in -100..100i32, flips in any::<u64>()) {
        let of = |values: Vec<f64>, name: &str| metric(name).unwrap().of.of(&[Residuals::new(values, 16).unwrap()]);
        let scaled = values.iter().map(|v| v * 2f64.powi(power)).collect();
        prop_assert_eq!(of(scaled, "token_kurtosis"), of(values.clone(), "token_kurtosis"));
        let flipped = values.iter().enumerate().map(|(i, v)| if flips >> (i % 64) & 1 == 1 { -v } else { *v }).collect();
        let about_zero = of(values.clone(), "token_kurtosis_uncentred");
        prop_assert_eq!(of(flipped, "token_kurtosis_uncentred"), about_zero);
        if let Some(kurtosis) = about_zero {
            prop_assert!((1.0 - 1e-12..=16.0 + 1e-9).contains(&kurtosis));
        }
    }

    /// Haar matrices are orthogonal and turn back.
    #[test]
    fn rotations_are_orthogonal(seed in any::<u64>(), d in 1..40usize) {
        let q = Rotation::haar(d, &mut stream(seed, Purpose::Simulation, 0));
        let rows: Vec<f64> = (0..3 * d).map(|i| (i as f64).sin()).collect();
        let there_and_back = q.transpose().apply_rows(&q.apply_rows(&rows));
        prop_assert!(there_and_back.iter().zip(&rows).all(|(a, b)| (a - b).abs() < 1e-12));
        let gram = |i: usize, j: usize| (0..d).map(|k| q.as_slice()[i * d + k] * q.as_slice()[j * d + k]).sum::<f64>();
        for i in 0..d {
            for j in 0..d {
                prop_assert!((gram(i, j) - f64::from(u8::from(i == j))).abs() < 1e-12);
            }
        }
    }
}

proptest! {
    #![proptest_config(cases(24))]

    /// Stopped anywhere, with any distance between checkpoints, in any arm: the rest is what it would have been.
    #[test]
    fn a_stop_anywhere_is_invisible(stop_at in 1..12u64, every in 1..5u64, arm in 0..5usize) {
        let experiment = small(&[("train.steps", "12")]);
        let arm = &experiment.arms[arm];
        let corpus = Corpus::open(&arm.run.corpus, 8).unwrap();
        let on = Context { corpus: &corpus, device: &flex(), ahead: 1 };
        let go = |start, stop_at: u64| {
            let stop = AtomicBool::new(false);
            let control = Control { stop: &stop, checkpoint_steps: every, checkpoint_interval: Duration::MAX };
            let (mut rows, mut last) = (Vec::new(), None);
            let finished = train(&arm.run, 0, on, start, control, &mut |event| {
                rows.extend(rows_of(arm, 0, &event));
                let at = |row: &Row| matches!(row, Row::Step(row) if row.step == stop_at);
                stop.fetch_or(rows.last().is_some_and(at), Ordering::Relaxed);
                if let Event::Checkpoint { state, .. } = event {
                    last = Some((state, rows.len()));
                }
                Ok(())
            });
            (finished.unwrap().outcome, rows, last)
        };
        let (outcome, whole, end) = go(None, u64::MAX);
        prop_assert_eq!(outcome, Outcome::Complete);
        let (_, first, state) = go(None, stop_at);
        let (state, offset) = state.unwrap();
        let (outcome, rest, again) = go(Some(&state), u64::MAX);
        prop_assert_eq!(outcome, Outcome::Complete);
        prop_assert_eq!([&first[..offset], &rest].concat(), whole);
        prop_assert_eq!(again.map(|(state, _)| state), end.map(|(state, _)| state));
    }
}

#[test]
fn the_default_experiment_survives_its_own_toml() {
    let default = experiment(&[]);
    assert_eq!(load(&default.to_toml(), "f.toml", &[], library()).unwrap().experiment, default);
}
