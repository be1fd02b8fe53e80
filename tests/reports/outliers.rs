//! Outliers by name, from the tables of a run to table, figure and answer.

use super::{Tree, finished, report, report_json, tree};
use basislab_tables::{OutlierRow, parse_table};
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
