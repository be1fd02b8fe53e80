//! The pages of models and of comparisons, and the files beside their figures.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

use super::plain::printed;
use super::tests::{HOSTILE, data_of, text};
use super::{PAGE, Provenance, policy};
use crate::figures::Beside;
use crate::tests::{comparisons, measured, quantized};
use crate::{report_measured, seal_measured};
use basislab_tables::{DominantTokenRow, MassiveRow, SUMS, SpecialDimensionRow, read_table, write_table};
use std::fs;
use std::path::Path;

fn page(dir: &Path) -> String {
    fs::read_to_string(dir.join(PAGE)).unwrap()
}

/// Everything that is printed before the files is on the page, however it is broken into lines.
fn assert_says(html: &str, printed: &str) {
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let shown = words(&text(html));
    let lines: Vec<&str> = printed.lines().filter(|line| !line.trim().is_empty()).collect();
    assert!(lines.len() > 3);
    for line in lines {
        assert!(shown.contains(&words(line)), "{line}");
    }
    assert!(html.contains(&format!("content=\"{}\"", policy())));
    assert_eq!(html.matches("<script").count(), 2);
}

/// The names of the figures that a page draws.
fn drawn(html: &str) -> Vec<String> {
    let figures = data_of(html)["figures"].as_array().unwrap().clone();
    figures.iter().map(|figure| figure["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_page_of_models_says_what_is_printed() {
    for (title, tables) in measured::cases() {
        let (dir, answer) = measured::reported(&tables);
        let html = page(dir.path());
        assert!(
            answer.files.iter().any(|file| file == PAGE) && answer.next[0].starts_with("basislab open "),
            "{title}"
        );
        for model in &answer.models {
            assert_says(&html, &model.to_string());
        }
        let svgs = answer.files.iter().filter_map(|file| file.strip_prefix("figures/")?.strip_suffix(".svg"));
        assert_eq!(drawn(&html), svgs.collect::<Vec<_>>(), "{title}");
        for file in ["models.csv", "summary.csv"] {
            assert!(html.contains(&format!("<code>{file}</code>")), "{title}: {file}");
        }
    }
}

#[test]
fn the_pages_of_rounding_and_of_comparisons_say_what_is_printed() {
    let models = [("a", 20.0, [0.4, 0.01, 0.1, 0.3, 0.5]), ("b", 5.0, [0.2, 0.01, 0.1, 0.3, 0.5])];
    let (answer, dir) = quantized::answer(&models);
    let html = page(dir.path());
    let printed = answer.to_string();
    assert_says(&html, printed.split(&format!("\n{}:", answer.directory)).next().unwrap());
    assert_eq!(drawn(&html), ["quantization.a", "quantization.b"]);
    assert!(html.contains("<code>quantization.csv</code>"));

    let comparison = comparisons::pair().compare();
    let dir = tempfile::tempdir().unwrap();
    comparison.write(dir.path(), Beside::default(), &Provenance::default()).unwrap();
    let html = page(dir.path());
    assert_says(&html, &comparison.to_string());
    assert_eq!(drawn(&html), ["arms"]);
    let json: serde_json::Value =
        serde_json::from_slice(&fs::read(dir.path().join("comparison.json")).unwrap()).unwrap();
    assert_eq!(json, serde_json::to_value(&comparison).unwrap());
}

#[test]
fn tokens_that_would_like_to_be_a_script_stay_text() {
    let (_, tables) = measured::cases().remove(0);
    let (dir, _) = measured::reported(&tables);
    let harmless = page(dir.path());
    let mut rows: Vec<MassiveRow> = read_table(dir.path()).unwrap();
    rows.iter_mut().for_each(|row| row.text = HOSTILE.to_owned());
    write_table(dir.path(), &rows).unwrap();
    let mut rows: Vec<DominantTokenRow> = read_table(dir.path()).unwrap();
    rows.iter_mut().for_each(|row| row.text = HOSTILE.to_owned());
    write_table(dir.path(), &rows).unwrap();
    report_measured(dir.path(), Beside::default(), &Provenance::default()).unwrap();
    let html = page(dir.path());
    for tag in ["<script", "</script", "<img", "<section"] {
        assert_eq!(html.matches(tag).count(), harmless.matches(tag).count(), "{tag}");
    }
    assert!(text(&html).contains("<img src=x onerror="));
}

#[test]
fn printed_text_has_paragraphs_and_tables() {
    let html = printed("One & two.\nThree.\n\n a  b\n 1  2\nSo it is.\n");
    let expected = "<p class=\"said\">One &amp; two.</p>\n<p class=\"said\">Three.</p>\n<pre tabindex=\"0\"> a  b\n 1  2</pre>\n\
                    <p class=\"said\">So it is.</p>\n";
    assert_eq!(html, expected);
}

#[test]
fn what_lies_beside_a_figure_is_made_sealed_and_removed_with_it() {
    let (_, tables) = measured::cases().remove(0);
    let (dir, _) = measured::reported(&tables);
    let at = |file: &str| dir.path().join("figures").join(file);
    let files = |stem: &str| [format!("{stem}.png"), format!("{stem}.vl.json")];
    let all = [files("kurtosis_over_depth"), files("special_dimensions.smol")].concat();
    assert!(all.iter().all(|file| !at(file).exists()), "only where it is asked for");
    let asked = Beside { png: true, vega: true };
    report_measured(dir.path(), asked, &Provenance::default()).unwrap();
    seal_measured(dir.path()).unwrap();
    let sums = fs::read_to_string(dir.path().join(SUMS)).unwrap();
    let made: Vec<Vec<u8>> = all.iter().map(|file| fs::read(at(file)).unwrap()).collect();
    for (file, bytes) in all.iter().zip(&made) {
        assert!(sums.contains(&format!("{}  figures/{file}\n", basislab_store::sha256(bytes))), "{file}");
    }
    // What is there is kept in step, without being asked for again.
    for file in &all {
        fs::write(at(file), "of another figure").unwrap();
    }
    report_measured(dir.path(), Beside::default(), &Provenance::default()).unwrap();
    assert!(all.iter().zip(&made).all(|(file, bytes)| fs::read(at(file)).unwrap() == *bytes));
    write_table::<SpecialDimensionRow>(dir.path(), &[]).unwrap();
    report_measured(dir.path(), Beside::default(), &Provenance::default()).unwrap();
    assert!(all[..2].iter().all(|file| at(file).exists()) && all[2..].iter().all(|file| !at(file).exists()));
}
