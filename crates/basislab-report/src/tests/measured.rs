//! The report on models of other people, from hand-made tables whose answers are known.
//!
//! `UPDATE_SENTENCES=1 cargo test -p basislab-report --lib measured` writes the printed answers again, to be read.

use crate::fixture::name;
use crate::measured::{MeasuredTables, Readings, summarise};
use crate::{Beside, MeasuredAnswer, Provenance, report_measured, seal_measured};
use basislab_config::{Basis, Site, Tokens};
use basislab_stats::{DominantToken, LargestValue, SpecialDimension};
use basislab_tables::{
    DominantTokenRow, MassiveRow, MeasuredTokens, ModelRow, ResidualRow, SUMS, SpecialDimensionRow, SummaryRow,
    TableRow, Verified, read_table, special_rows, write_table,
};
use std::fs;
use std::path::Path;

/// A model of `n_layers` blocks on 2 sequences of 4 tokens.
pub(crate) fn model(model: &str, step: u64, n_layers: usize, (loss, unigram): (Option<f64>, Option<f64>)) -> ModelRow {
    let has_head = unigram.is_some();
    ModelRow {
        model: name(model),
        step,
        format: "gguf".to_owned(),
        architecture: "llama".to_owned(),
        parameters: 134_515_008,
        d_model: 8,
        n_layers,
        d_vocab: 49152,
        sequences: 2,
        tokens: 8,
        predicted_tokens: if has_head { 6 } else { 0 },
        predicted_bytes: if has_head { 30 } else { 0 },
        loss,
        bits_per_byte: loss.and_then(|loss| basislab_stats::bits_per_byte(loss, 6, 30)),
        unigram_loss: unigram,
        verified: Verified::of(has_head, loss, unigram),
    }
}

pub(crate) fn sites(n_layers: usize) -> Vec<Site> {
    let blocks = (0..n_layers).flat_map(|n| [Site::ResidMid(n), Site::ResidPost(n)]);
    std::iter::once(Site::Embed).chain(blocks).chain([Site::Final]).collect()
}

/// Kurtosis of other tokens at a place: 3 at the first, then more by `slope` at each. Of all tokens it is 1 more, of first ones
/// 2 less. Random bases are at 2.2, 2.4 and 2.6.
pub(crate) fn kurtosis(place: usize, slope: f64) -> f64 {
    3.0 + slope * place as f64
}

/// What one checkpoint leaves behind. Dimension 5 is large after each block, dimension 2 after the first and in the embedding.
pub(crate) fn measured(tables: &mut MeasuredTables, model: ModelRow, slope: f64) {
    let all = sites(model.n_layers);
    for (place, &site) in all.iter().enumerate() {
        let value = kurtosis(place, slope);
        let standard = Basis::Standard;
        let mut row = |tokens, tokens_used, basis, metric: &str, value| {
            tables.residual.push(ResidualRow {
                arm: model.model.clone(),
                seed: 0,
                step: model.step,
                site,
                layer: site.layer(),
                tokens,
                tokens_used,
                basis,
                metric: metric.to_owned(),
                value: Some(value),
            });
        };
        row(Tokens::All, 8, standard, "token_kurtosis", value + 1.0);
        row(Tokens::All, 8, standard, "massive_activations", if place == 2 { 3.0 } else { 0.0 });
        row(Tokens::First, 2, standard, "token_kurtosis", value - 2.0);
        row(Tokens::Rest, 6, standard, "token_kurtosis", value);
        row(Tokens::Rest, 6, standard, "token_kurtosis_median", value - 0.5);
        row(Tokens::Rest, 6, standard, "varying_kurtosis", value - 0.25);
        row(Tokens::Rest, 6, standard, "token_rms", 0.25);
        for k in 0..3 {
            row(Tokens::Rest, 6, Basis::Random(k), "token_kurtosis", 2.2 + 0.2 * f64::from(k));
        }
    }
    let special = |site: Site| {
        let sizes: Vec<(usize, f64)> = match site {
            Site::ResidPost(0) => vec![(5, 9.0), (2, 4.5)],
            Site::ResidPost(_) => vec![(5, 9.0)],
            Site::Embed => vec![(2, 3.0)],
            _ => Vec::new(),
        };
        let found = sizes.iter().zip(1..);
        found.map(|(&(dim, ratio), rank)| SpecialDimension { dim, size: 0.5 * ratio, ratio, rank }).collect::<Vec<_>>()
    };
    let found: Vec<(Site, f64, Vec<SpecialDimension>)> = all.iter().map(|&site| (site, 1.75, special(site))).collect();
    tables.special.extend(special_rows(&model.model, model.step, &found));
    let texts = ["<s>", " the", "\n", "a", "<s>", " cat", "=1", "1"].map(str::to_owned);
    let tokens = MeasuredTokens {
        model: &model.model,
        step: model.step,
        tokens: &[1, 20, 30, 40, 1, 50, 60, 70],
        n_ctx: 4,
        texts: &texts,
    };
    let value = |token, dim, value: f64| LargestValue {
        token,
        first: token % 4 == 0,
        dim,
        value,
        ratio: Some(value.abs() / 0.2),
    };
    for (place, &site) in all.iter().enumerate() {
        let more = 1.0 + place as f64;
        let values =
            [value(4, 5, -400.0 * more), value(0, 5, 300.0 * more), value(2, 5, 8.0), value(6, 2, -7.0 * more)];
        tables.massive.extend(tokens.massive_rows(site, &values));
        let dominant = [(4, 0.5, 0.625), (0, 0.3, 0.375), (2, 0.1, 0.5), (6, 0.05, 0.25)];
        let dominant = dominant.map(|(token, share, share_of_group)| DominantToken {
            token,
            first: token % 4 == 0,
            share,
            share_of_group,
        });
        tables.dominant.extend(tokens.dominant_rows(site, &dominant));
    }
    tables.models.push(model);
}

pub(crate) fn write(dir: &Path, tables: &MeasuredTables) {
    write_table(dir, &tables.models).unwrap();
    write_table(dir, &tables.residual).unwrap();
    write_table(dir, &tables.special).unwrap();
    write_table(dir, &tables.massive).unwrap();
    write_table(dir, &tables.dominant).unwrap();
}

const GOOD: (Option<f64>, Option<f64>) = (Some(3.0), Some(9.5));
const BROKEN: (Option<f64>, Option<f64>) = (Some(11.25), Some(9.5));
const NO_HEAD: (Option<f64>, Option<f64>) = (None, None);

pub(crate) fn cases() -> Vec<(&'static str, MeasuredTables)> {
    let of = |models: Vec<(ModelRow, f64)>| {
        let mut tables = MeasuredTables::default();
        models.into_iter().for_each(|(row, slope)| measured(&mut tables, row, slope));
        tables
    };
    let mut cases = vec![
        ("a model", of(vec![(model("smol", 0, 2, GOOD), 1.5)])),
        ("a deep model", of(vec![(model("deep", 0, 30, GOOD), 0.1)])),
        ("a model without head", of(vec![(model("encoder", 0, 2, NO_HEAD), 0.0)])),
        ("a broken model", of(vec![(model("broken", 0, 2, BROKEN), 0.0)])),
        ("a loss that is not finite", of(vec![(model("broken", 0, 2, (None, Some(9.5))), 0.0)])),
        (
            "a series",
            of(vec![
                (model("run", 2000, 2, GOOD), 1.0),
                (model("run", 500, 2, BROKEN), 0.0),
                (model("run", 4000, 2, (Some(2.5), Some(9.5))), 2.0),
            ]),
        ),
        ("two models", of(vec![(model("one", 0, 2, GOOD), 1.0), (model("two", 0, 3, GOOD), 0.5)])),
        ("nothing", MeasuredTables::default()),
    ];
    // One site, one token of each sequence: no other tokens, no random bases, nothing else.
    let mut tables = of(vec![(model("tiny", 0, 1, GOOD), 0.0)]);
    tables.residual.retain(|row| row.site == Site::Embed && row.tokens == Tokens::All);
    let MeasuredTables { models, residual, .. } = tables;
    cases.push(("one site", MeasuredTables { models, residual, ..MeasuredTables::default() }));
    cases
}

pub(crate) fn reported(tables: &MeasuredTables) -> (tempfile::TempDir, MeasuredAnswer) {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), tables);
    let mut answer = report_measured(dir.path(), Beside::default(), &Provenance::default()).unwrap();
    // The place of the temporary folder is another one each time.
    answer.directory = "measured".to_owned();
    answer.next = answer.next.iter().map(|step| step.replace(&dir.path().display().to_string(), "measured")).collect();
    (dir, answer)
}

#[test]
fn printed_answers_are_as_they_were_read() {
    let texts = cases().into_iter().map(|(title, tables)| format!("# {title}\n{}\n", reported(&tables).1));
    let text = texts.collect::<String>().lines().map(|line| format!("{}\n", line.trim_end())).collect::<String>();
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/src/tests/measured.txt");
    if std::env::var_os("UPDATE_SENTENCES").is_some() {
        fs::write(file, &text).unwrap();
    }
    assert_eq!(text, fs::read_to_string(file).unwrap());
}

#[test]
fn the_loss_comes_first_and_a_loss_that_verifies_nothing_warns() {
    let warns = |tables: &MeasuredTables| {
        let text = reported(tables).1.to_string();
        let place = |words: &str| text.find(words).unwrap_or(usize::MAX);
        assert!(place("oss") < place("Token kurtosis ("), "{text}");
        (text.contains("WARNING"), text.contains("can be trusted"), text.contains("not verified by loss"))
    };
    for (title, tables) in cases() {
        let expected = match title {
            "a broken model" | "a loss that is not finite" | "a series" => (true, true, false),
            "a model without head" => (false, false, true),
            "nothing" => continue,
            _ => (false, false, false),
        };
        assert_eq!(warns(&tables), expected, "{title}");
    }
    assert_eq!(Verified::of(true, Some(9.5), Some(9.5)), Verified::NoBetterThanUnigram);
    assert_eq!(Verified::of(true, Some(9.4), Some(9.5)), Verified::Loss);
    assert_eq!(Verified::of(true, Some(f64::NAN), Some(9.5)), Verified::NoBetterThanUnigram);
    assert_eq!(Verified::of(true, Some(1.0), None), Verified::NoBetterThanUnigram);
    assert_eq!(Verified::of(false, Some(1.0), Some(2.0)), Verified::NoHead);
}

#[test]
fn the_summary_compares_each_site_with_its_random_bases() {
    let (_, tables) = cases().remove(0);
    let (dir, answer) = reported(&tables);
    let rows: Vec<SummaryRow> = read_table(dir.path()).unwrap();
    assert_eq!(rows, summarise(&tables, &Readings::of(&tables.residual)));
    // The loss, and four metrics of other tokens at each of 6 sites.
    assert_eq!(rows.len(), 1 + 4 * 6);
    assert_eq!((rows[0].metric.as_str(), rows[0].mean, rows[0].site), ("loss", Some(3.0), None));
    for (place, &site) in sites(2).iter().enumerate() {
        let of = |metric: &str| rows.iter().find(|row| row.site == Some(site) && row.metric == metric).unwrap();
        let row = of("token_kurtosis");
        let value = kurtosis(place, 1.5);
        assert_eq!((row.mean, row.n_seeds, row.bases, row.tokens), (Some(value), 1, 3, Some(Tokens::Rest)));
        assert!((row.null_mean.unwrap() - 2.4).abs() < 1e-12 && (row.null_sd.unwrap() - 0.2).abs() < 1e-12);
        assert!((row.ratio.unwrap() - value / 2.4).abs() < 1e-12);
        assert_eq!((row.seeds_above, row.seeds_below), (1, 0));
        let line = &answer.models[0].sites[place];
        assert_eq!((line.site, line.value, line.above, line.below), (site, Some(value), true, false));
        assert_eq!(
            (line.all, line.first, line.median, line.varying),
            (Some(value + 1.0), Some(value - 2.0), Some(value - 0.5), Some(value - 0.25))
        );
        // A metric that no basis changes has no null.
        assert_eq!((of("token_rms").mean, of("token_rms").ratio, of("token_rms").bases), (Some(0.25), None, 0));
    }
}

#[test]
fn random_bases_of_fewer_tokens_are_compared_with_the_standard_basis_of_the_same() {
    let mut tables = MeasuredTables::default();
    measured(&mut tables, model("smol", 0, 1, GOOD), 0.0);
    let is_kurtosis = |row: &ResidualRow| row.metric == "token_kurtosis" && row.tokens == Tokens::Rest;
    for row in tables.residual.iter_mut().filter(|row| is_kurtosis(row) && row.basis != Basis::Standard) {
        row.tokens_used = 4;
    }
    let same: Vec<ResidualRow> = tables.residual.iter().filter(|row| is_kurtosis(row)).cloned().collect();
    let same = same.into_iter().filter(|row| row.basis == Basis::Standard);
    tables.residual.extend(same.map(|row| ResidualRow { tokens_used: 4, value: Some(1.2), ..row }));
    for row in summarise(&tables, &Readings::of(&tables.residual)) {
        if row.metric == "token_kurtosis" {
            assert_eq!((row.mean, row.seeds_above, row.seeds_below), (Some(3.0), 0, 1));
            assert!((row.ratio.unwrap() - 0.5).abs() < 1e-12);
        }
    }
}

#[test]
fn sites_stay_in_order_where_a_row_was_brought_to_the_front() {
    let (_, tables) = cases().remove(0);
    let mut rows = tables.residual.clone();
    let moved = rows.iter().position(|row| row.layer.is_some()).unwrap();
    let row = rows.remove(moved);
    rows.insert(0, row);
    assert_eq!(Readings::of(&rows).sites(&tables.models[0]), sites(2));
}

#[test]
fn dimensions_values_and_tokens_are_listed_once_at_their_most_extreme_site() {
    let (_, tables) = cases().remove(0);
    let model = reported(&tables).1.models.remove(0);
    let found: Vec<_> =
        model.dimensions.iter().map(|line| (line.dim, line.persistence, line.of, line.blocks)).collect();
    assert_eq!(found, [(5, 2, 2, Some((0, 1))), (2, 1, 2, Some((0, 0)))]);
    assert_eq!((model.dimensions[1].ratio, model.dimensions[1].site), (4.5, Site::ResidPost(0)));
    assert_eq!(model.massive_activations, Some((3.0, "blocks.0.resid_post".to_owned())));
    let largest: Vec<_> = model.largest.iter().map(|row| (&*row.text, row.value)).collect();
    // The first token is the same in both sequences.
    assert_eq!(largest, [("\"<s>\"", -2400.0), ("\"=1\"", -42.0), ("\"\\n\"", 8.0)]);
    assert!(model.first_token_share.iter().all(|(_, share)| (share - 0.8).abs() < 1e-12));
    assert_eq!(model.first_token_share.len(), 6);
    let dominant: Vec<_> = model.dominant.iter().map(|line| (line.sequence, line.position, line.share)).collect();
    assert_eq!(dominant, [(0, 2, 0.5), (1, 2, 0.25)]);
}

#[test]
fn a_series_is_in_the_order_of_its_steps() {
    let (_, tables) = cases().remove(5);
    let model = reported(&tables).1.models.remove(0);
    let lines = model.checkpoints.iter();
    let found = lines.map(|line| (line.model.step, line.end.as_ref().and_then(|end| end.value), line.special_at_end));
    // After the last block, the fifth site.
    let expected = [(500, 3.0), (2000, 7.0), (4000, 11.0)].map(|(step, value)| (step, Some(value), 1));
    assert_eq!(found.collect::<Vec<_>>(), expected);
    assert_eq!(model.sites.last().and_then(|line| line.value), Some(13.0), "the last checkpoint is described");
}

#[test]
fn rows_read_back_and_have_the_columns_of_their_tables() {
    let (_, tables) = cases().remove(0);
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), &tables);
    assert_eq!(read_table::<ModelRow>(dir.path()).unwrap(), tables.models);
    assert_eq!(read_table::<SpecialDimensionRow>(dir.path()).unwrap(), tables.special);
    assert_eq!(read_table::<MassiveRow>(dir.path()).unwrap(), tables.massive);
    assert_eq!(read_table::<DominantTokenRow>(dir.path()).unwrap(), tables.dominant);
    let at: Vec<_> = tables.massive[..2].iter().map(|row| (row.sequence, row.position, row.token)).collect();
    assert_eq!(at, [(1, 0, 1), (0, 0, 1)]);
}

#[test]
fn the_directory_is_described_and_sealed() {
    let (_, tables) = cases().remove(0);
    let (dir, answer) = reported(&tables);
    seal_measured(dir.path()).unwrap();
    let sums = fs::read_to_string(dir.path().join(SUMS)).unwrap();
    let files: Vec<&str> = sums.lines().map(|line| line.split_once("  ").unwrap().1).collect();
    let expected = [
        "summary.csv",
        "residual.csv",
        "models.csv",
        "special_dimensions.csv",
        "massive.csv",
        "dominant_tokens.csv",
        "datapackage.json",
        "figures/kurtosis_over_depth.svg",
        "figures/special_dimensions.smol.svg",
    ];
    assert_eq!(files, expected);
    assert!(expected.iter().all(|file| answer.files.iter().any(|one| one == file)), "{:?}", answer.files);
    for (file, sum) in sums.lines().map(|line| line.split_once("  ").unwrap()).map(|(sum, file)| (file, sum)) {
        assert_eq!(basislab_store::sha256(&fs::read(dir.path().join(file)).unwrap()), sum, "{file}");
    }
    let package = fs::read_to_string(dir.path().join("datapackage.json")).unwrap();
    for table in [ModelRow::TABLE, SpecialDimensionRow::TABLE, MassiveRow::TABLE, DominantTokenRow::TABLE] {
        assert!(package.contains(&format!("\"path\": \"{}\"", table.file)), "{}", table.file);
    }
    // A figure of what is no longer there is removed.
    write_table::<SpecialDimensionRow>(dir.path(), &[]).unwrap();
    let answer = report_measured(dir.path(), Beside::default(), &Provenance::default()).unwrap();
    assert!(!dir.path().join("figures/special_dimensions.smol.svg").exists());
    assert!(answer.to_string().contains("No dimension stands out"));
}

#[test]
fn a_table_that_is_wrong_is_named() {
    let (_, tables) = cases().remove(0);
    let (dir, _) = reported(&tables);
    fs::write(dir.path().join("massive.csv"), "model,step\n").unwrap();
    let error = report_measured(dir.path(), Beside::default(), &Provenance::default()).unwrap_err().to_string();
    assert!(error.contains("massive.csv:1:") && error.contains("the column site"), "{error}");
    fs::remove_file(dir.path().join("models.csv")).unwrap();
    assert!(
        report_measured(dir.path(), Beside::default(), &Provenance::default())
            .unwrap_err()
            .to_string()
            .contains("models.csv")
    );
}
