//! Outliers by name, from the tables of a run to table, figure and answer.

use super::{Tree, assert_same, finished, report, report_json, tree};
use basislab_config::Basis;
use basislab_tables::{DimensionRow, DimensionStepRow, OutlierRow, ResidualRow, TableRow, parse_table};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// Of every row of `dimensions.csv` that `is_large` wants (arm, seed, step, site, basis), dimension 3 a hundred times as large.
fn planted(whole: &Tree, is_large: impl Fn(&[&str]) -> bool) -> String {
    let text = String::from_utf8(whole["dimensions.csv"].clone()).unwrap();
    let changed = |line: &str| {
        let mut cells: Vec<String> = line.split(',').map(str::to_owned).collect();
        let at = [line.split(',').collect::<Vec<_>>()].map(|cells| [cells[0], cells[1], cells[2], cells[3], cells[15]]);
        if cells[5] == "3" && is_large(&at[0]) {
            cells[7] = (100.0 * cells[7].parse::<f64>().unwrap()).to_string();
        }
        cells.join(",") + "\n"
    };
    let (header, rows) = text.split_once('\n').unwrap();
    format!("{header}\n{}", rows.lines().map(changed).collect::<String>())
}

fn outliers(out: &Path) -> Vec<OutlierRow> {
    parse_table("outliers.csv", &fs::read(out.join("outliers.csv")).unwrap()).unwrap()
}

/// The directory as it is published, without the files that follow from its tables.
fn published(out: &Path, dimensions: &str) {
    for name in ["parts", "SHA256SUMS", "outliers.csv", "figures", "datapackage.json"] {
        basislab_store::remove(&out.join(name)).unwrap();
    }
    fs::write(out.join("dimensions.csv"), dimensions).unwrap();
}

#[test]
fn a_planted_dimension_is_named_in_table_figure_and_answer() {
    let (dir, out, whole) = finished();
    let of = |cells: &[&str]| cells[0] == "sgd" && cells[1] == "1" && cells[2] == "6" && cells[3] != "embed";
    published(&out, &planted(&whole, of));
    let said = report(dir.path());
    let line = "sgd: dimensions stand out in 1 of 2 seeds (seed 1: 3), from blocks.0.resid_mid to final, up to ";
    assert!(said.contains(line) && said.contains("outliers.csv"), "{said}");
    let rows: Vec<OutlierRow> = outliers(&out).into_iter().filter(|row| row.arm == "sgd" && row.dim == 3).collect();
    let sites: Vec<String> = rows.iter().map(|row| row.site.to_string()).collect();
    let expected = whole["dimensions.csv"].split(|byte| *byte == b'\n').filter_map(|line| {
        let cells: Vec<&str> = std::str::from_utf8(line).unwrap().split(',').collect();
        let is_here = cells.len() > 15 && cells[5] == "3" && of(&[cells[0], cells[1], cells[2], cells[3], cells[15]]);
        is_here.then(|| cells[3].to_owned())
    });
    assert_eq!(sites, expected.collect::<Vec<_>>());
    assert!(rows.iter().all(|row| row.seed == 1 && row.rank == 1 && row.first_step == 6 && row.ratio > row.threshold));
    let json = report_json(dir.path());
    let sgd = json["outliers"].as_array().unwrap().iter().find(|line| line["arm"] == "sgd").unwrap();
    assert_eq!((&sgd["dimensions"][0]["dim"], &sgd["dimensions"][0]["seeds"]), (&3.into(), &[1].into()));
    let drawn = fs::read_to_string(out.join("figures/outlier_dimensions.svg")).unwrap();
    assert!(drawn.contains("\nsgd: in 1 of 2 seeds; "), "{drawn}");
    let package = fs::read_to_string(out.join("datapackage.json")).unwrap();
    assert!(package.contains("\"path\": \"outliers.csv\""));
}

/// What was left out of evidence would be missing here, and what was recorded is shown.
#[test]
fn of_thinned_tables_the_recorded_outliers_are_shown_and_none_are_made() {
    let (dir, out, whole) = finished();
    let large = planted(&whole, |cells| cells[0] == "sgd");
    published(&out, &large);
    let manifest = String::from_utf8(whole["manifest.json"].clone()).unwrap();
    let thinned =
        format!("{},\n  \"thinned\": \"some rows\"\n}}\n", manifest.trim_end().trim_end_matches('}').trim_end());
    fs::write(out.join("manifest.json"), &thinned).unwrap();
    let said = report(dir.path());
    assert!(!said.contains("stand out") && !said.contains("stands out"), "{said}");
    let made = tree(&out);
    assert!(!made.contains_key("outliers.csv") && !made.contains_key("figures/outlier_dimensions.svg"));
    // Of the whole tables nothing stood out but dimension 3.
    fs::write(out.join("manifest.json"), &whole["manifest.json"]).unwrap();
    report(dir.path());
    let recorded = fs::read(out.join("outliers.csv")).unwrap();
    fs::write(out.join("manifest.json"), thinned).unwrap();
    fs::write(out.join("dimensions.csv"), planted(&whole, |_| false)).unwrap();
    let said = report(dir.path());
    assert!(said.contains("sgd: dimensions stand out in 2 of 2 seeds (seed 0: 3"), "{said}");
    assert_eq!(fs::read(out.join("outliers.csv")).unwrap(), recorded);
}

fn rows<R: TableRow>(whole: &Tree) -> Vec<R> {
    parse_table(R::TABLE.file, &whole[R::TABLE.file]).unwrap()
}

/// Every site, basis and probe has its lists, and at full probes they are what the rows of single dimensions and of random bases
/// say.
#[test]
fn sizes_at_every_probe_agree_with_single_dimensions_at_full_ones() {
    let (_, _, whole) = finished();
    let (sizes, single): (Vec<DimensionStepRow>, Vec<DimensionRow>) = (rows(&whole), rows(&whole));
    let residual: Vec<ResidualRow> = rows(&whole);
    let own = |basis: Basis| [Basis::Standard, Basis::Optimizer].contains(&basis);
    let places: BTreeSet<_> = sizes.iter().map(|row| (&row.arm, row.seed, row.step, row.site, row.basis)).collect();
    let measured = residual.iter().filter(|row| row.metric == "token_kurtosis" && own(row.basis));
    assert_eq!(places, measured.map(|row| (&row.arm, row.seed, row.step, row.site, row.basis)).collect());
    assert_eq!(places.len(), sizes.len());
    let near = |a: f64, b: f64| (a - b).abs() <= 1e-6 * b.abs();
    let mut full = 0;
    for row in &sizes {
        let is_here = |one: &&DimensionRow| {
            (&one.arm, one.seed, one.step, one.site, one.basis) == (&row.arm, row.seed, row.step, row.site, row.basis)
        };
        let (rms, fourth) = (row.rms.values(), row.fourth_moment.values());
        assert_eq!(rms.len(), fourth.len());
        for one in single.iter().filter(is_here) {
            assert_eq!((one.tokens, one.layer), (row.tokens, row.layer));
            assert_eq!(rms[one.dim], f64::from(one.rms as f32));
            let (mean, m2) = (one.mean, one.variance);
            let (m3, m4) = (one.skewness.unwrap() * m2.powf(1.5), one.kurtosis.unwrap() * m2 * m2);
            assert!(near(fourth[one.dim], m4 + 4.0 * mean * m3 + 6.0 * mean * mean * m2 + mean.powi(4)), "{row:?}");
            full += 1;
        }
        let is_null = |one: &&ResidualRow| {
            one.metric == "max_dim_energy_share"
                && matches!(one.basis, Basis::Random(k) if (k as usize) < row.null_shares.values().len())
                && (&one.arm, one.seed, one.step, one.site) == (&row.arm, row.seed, row.step, row.site)
        };
        for (one, share) in residual.iter().filter(is_null).zip(row.null_shares.values()) {
            assert!(near(*share, one.value.unwrap()), "{row:?}");
        }
    }
    assert!(full == single.len() && full > 0);
}

/// `first_step` of a dimension that stands out from some probe on, with the table of all probes and without.
#[test]
fn an_outlier_is_born_at_its_probe_and_without_the_table_at_a_full_one() {
    let (dir, out, whole) = finished();
    let sizes: Vec<DimensionStepRow> = rows(&whole);
    let single: Vec<DimensionRow> = rows(&whole);
    let steps: BTreeSet<u64> = sizes.iter().map(|row| row.step).collect();
    let full: BTreeSet<u64> = single.iter().map(|row| row.step).collect();
    let (last, middle) = (*full.last().unwrap(), *full.iter().nth(1).unwrap());
    let born = *steps.iter().find(|step| **step > middle).unwrap();
    assert!(born < last, "{steps:?} {full:?}");
    let is_late = |step: u64| step >= born;
    let of = |cells: &[&str]| cells[0] == "sgd" && cells[1] == "1" && is_late(cells[2].parse().unwrap());
    published(&out, &planted(&whole, of));
    let text = String::from_utf8(whole["dimension_steps.csv"].clone()).unwrap();
    let changed = |line: &str| {
        let mut cells: Vec<String> = line.split(',').map(str::to_owned).collect();
        if cells[0] == "sgd" && cells[1] == "1" && is_late(cells[2].parse().unwrap()) {
            let mut sizes: Vec<String> = cells[7].split(' ').map(str::to_owned).collect();
            sizes[3] = (100.0 * sizes[3].parse::<f32>().unwrap()).to_string();
            cells[7] = sizes.join(" ");
        }
        cells.join(",") + "\n"
    };
    let (header, lines) = text.split_once('\n').unwrap();
    fs::write(out.join("dimension_steps.csv"), format!("{header}\n{}", lines.lines().map(changed).collect::<String>()))
        .unwrap();
    let first = |out: &Path| -> BTreeSet<u64> {
        let rows = outliers(out).into_iter().filter(|row| row.arm == "sgd" && row.seed == 1 && row.dim == 3);
        rows.map(|row| row.first_step).collect()
    };
    report(dir.path());
    assert_eq!(first(&out), [born].into());
    // As of earlier versions.
    for name in ["outliers.csv", "dimension_steps.csv", "datapackage.json"] {
        fs::remove_file(out.join(name)).unwrap();
    }
    report(dir.path());
    assert_eq!(first(&out), [last].into());
    let package = fs::read_to_string(out.join("datapackage.json")).unwrap();
    let is_listed = package.contains("\"path\": \"dimension_steps.csv\"");
    assert!(!is_listed && !tree(&out).contains_key("dimension_steps.csv"));
}

/// Parts of an earlier version have no sizes: there is no table of them then, and the report says what it said.
#[test]
fn a_directory_of_an_earlier_version_gets_no_table_of_sizes() {
    let (dir, out, whole) = finished();
    for part in whole.keys().filter_map(|name| name.strip_suffix("/done.json")) {
        fs::remove_file(out.join(part).join("dimension_steps.csv")).unwrap();
        let path = out.join(part).join("done.json");
        let mut end: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        end["tables"].as_object_mut().unwrap().remove("dimension_steps.csv").unwrap();
        fs::write(&path, end.to_string()).unwrap();
    }
    for name in ["SHA256SUMS", "outliers.csv", "dimension_steps.csv", "datapackage.json"] {
        fs::remove_file(out.join(name)).unwrap();
    }
    report(dir.path());
    let made = tree(&out);
    assert!(!made.contains_key("dimension_steps.csv") && made["summary.csv"] == whole["summary.csv"]);
    let sums = String::from_utf8(made["SHA256SUMS"].clone()).unwrap();
    assert!(sums.contains("outliers.csv") && !sums.contains("dimension_steps"), "{sums}");
    // Complete and sealed as it is.
    assert_eq!(report(dir.path()), report(dir.path()));
    assert_same(&out, &made, "again");
}
