#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

use super::figures::{Shown, data, for_script};
use super::markup::{escaped, filled};
use super::{Page, Provenance, base64, policy};
use crate::answer::{Answer, answer};
use crate::atlas::Profiles;
use crate::figures::outliers_tests::standing_out;
use crate::figures::{Drawing, Figure, figures, moving};
use crate::fixture::{effect, experiment, tables};
use crate::narrative::{outlier_lines, outlier_sentences};
use crate::summary::summarise;
use crate::tests::cases::case;
use crate::tests::rows_of_claims;
use crate::verdicts::decide_claims;
use basislab_config::Experiment;
use basislab_store::sha256;
use basislab_tables::{OutlierRow, Tables};
use serde_json::Value;
use std::path::Path;

pub(super) const HOSTILE: &str =
    "</script><script>alert(1)</script>{{data}}<img src=x onerror='x'>\u{2028}&lt;\u{202e}";

/// The page of the tables, and the answer that it shows.
fn page(experiment: &Experiment, tables: &Tables) -> (String, Answer) {
    page_with(experiment, tables, None)
}

fn page_with(experiment: &Experiment, tables: &Tables, outliers: Option<&[OutlierRow]>) -> (String, Answer) {
    let summary = summarise(experiment, tables);
    let verdicts = rows_of_claims(experiment, tables);
    let figures = figures(experiment, tables, &verdicts, &[], outliers);
    let mut profiles = Profiles::default();
    tables.dimensions.iter().for_each(|row| profiles.visit(row, || true));
    profiles.end();
    let page = Page::of(experiment, tables, (&summary, verdicts, outliers), figures)
        .with_dimensions(tables, profiles, outliers);
    let mut said = answer(experiment, tables, &summary, &decide_claims(experiment, tables), Path::new("somewhere"));
    said.outliers = outlier_lines(experiment, tables, outliers, |_| true);
    said.notes.extend([format!("a note on {HOSTILE}"), "a plain note".to_owned()]);
    let (name, builds) = (HOSTILE.to_owned(), vec!["Runs made by a build.".to_owned()]);
    let provenance = Provenance { name, builds, versions: vec![("rustc".to_owned(), "1".to_owned())] };
    (page.html(&said, &provenance, &[]), said)
}

/// What a reader sees of HTML without scripts.
pub(super) fn text(html: &str) -> String {
    let mut text = String::new();
    for piece in html.split('<') {
        text.push_str(piece.split_once('>').map_or(piece, |(_, text)| text));
    }
    let text = text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&#39;", "'");
    text.replace("&amp;", "&")
}

/// The figures that the page holds.
pub(super) fn data_of(html: &str) -> Value {
    json_of(html, "data")
}

fn json_of(html: &str, id: &str) -> Value {
    let (_, rest) = html.split_once(&format!("<script type=\"application/json\" id=\"{id}\">")).unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

#[test]
fn the_words_and_numbers_are_those_of_the_printed_answer() {
    for number in 0..8 {
        let case = case(number);
        let (html, said) = page(&case.experiment, &case.tables);
        let top = text(html.split_once("<section id=\"figures\">").unwrap().0);
        for part in [&said.question, &said.finding, &"a plain note".to_owned(), &"Runs made by a build.".to_owned()] {
            assert!(top.contains(part.as_str()), "case {number}: {part}");
        }
        for line in &said.verdicts {
            for part in [&line.sentence, &line.text, &line.rule, &line.verdict.to_string()] {
                assert!(top.contains(part.as_str()), "case {number}: {part}");
            }
        }
        for sentence in said.sentences() {
            assert!(top.contains(&sentence), "case {number}: {sentence}");
        }
        let (header, rows) = said.arm_cells();
        let cells: Vec<String> =
            rows.iter().chain([&header]).flatten().map(|cell| format!(">{}<", escaped(cell))).collect();
        assert!(cells.iter().all(|cell| html.contains(cell)), "case {number}: {cells:?}");
        // Every number that is printed before the files, wherever it stands.
        let printed = said.to_string();
        let printed = printed.split_once("\nsomewhere:").unwrap().0;
        let numbers = printed.split(|letter: char| !(letter.is_ascii_digit() || letter == '.'));
        let numbers: Vec<&str> =
            numbers.map(|number| number.trim_matches('.')).filter(|number| number.len() > 2).collect();
        assert!(numbers.len() > 50, "{printed}");
        assert!(numbers.iter().all(|number| top.contains(number)), "case {number}");
    }
}

#[test]
fn what_is_missing_stands_before_the_verdicts() {
    let experiment = experiment(8);
    let mut tables = tables(&experiment, effect);
    let before = |html: &str| text(html.split_once("<h2>Arms</h2>").unwrap().0);
    assert!(!before(&page(&experiment, &tables).0).contains("planned runs"));
    tables.evals.retain(|row| row.arm != "sgd" || row.seed != 3);
    let (html, _) = page(&experiment, &tables);
    assert!(before(&html).contains("1 still missing"), "{}", before(&html));
}

#[test]
fn texts_of_a_configuration_stay_texts() {
    let mut experiment = experiment(8);
    let tables = tables(&experiment, effect);
    let (harmless, _) = page(&experiment, &tables);
    experiment.question = HOSTILE.to_owned();
    for claim in &mut experiment.claims {
        claim.text = HOSTILE.to_owned();
    }
    let (html, _) = page(&experiment, &tables);
    for tag in ["<script", "</script", "<img", "<style", "<section", "<li"] {
        assert_eq!(html.matches(tag).count(), harmless.matches(tag).count(), "{tag}");
    }
    assert!(!html.contains('\u{202e}'));
    assert!(text(&html).contains("</script><script>alert(1)</script>{{data}}<img src=x onerror='x'>"));
    assert_eq!(data_of(&html), data_of(&harmless));
}

#[test]
fn data_cannot_leave_its_element() {
    let text = serde_json::json!({ "</script>": "<!-- & \u{2028}\u{2029} >" }).to_string();
    let safe = for_script(&text);
    assert!(safe.chars().all(|letter| !"<>&\u{2028}\u{2029}".contains(letter)), "{safe}");
    assert_eq!(serde_json::from_str::<Value>(&safe).unwrap(), serde_json::from_str::<Value>(&text).unwrap());
}

#[test]
fn what_is_put_into_the_template_is_not_read_again() {
    assert_eq!(filled("a {{b}} {{c}} {{none}}d", &[("b", "{{c}}"), ("c", "1")]), "a {{c}} 1 d");
}

#[test]
fn only_our_script_and_style_may_be_used() {
    let experiment = experiment(2);
    let (html, _) = page(&experiment, &tables(&experiment, effect));
    let policy_in_page = format!("<meta http-equiv=\"Content-Security-Policy\" content=\"{}\">", policy());
    assert!(html.contains(&policy_in_page) && policy().starts_with("default-src 'none'"), "{}", policy());
    let within = |before: &str, after: &str| {
        html.split_once(before).and_then(|(_, rest)| rest.split_once(after)).map(|(inner, _)| inner).unwrap()
    };
    for inner in [within("<style>", "</style>"), within("<script>", "</script>")] {
        assert!(inner.len() > 1000);
        assert!(policy().contains(&base64(&sha256(inner.as_bytes()))), "another text than the policy's");
    }
    // No handler within a tag, no address of elsewhere but the name of SVG.
    assert!(!html.contains(" onclick=") && !html.contains(" style="));
    assert_eq!(html.matches("http://").count() + html.matches("https://").count(), 1);
    // The SHA-256 of nothing, as everybody writes it.
    assert_eq!(base64(&sha256(b"")), "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
}

#[test]
fn equal_tables_give_equal_pages_of_a_moderate_size() {
    let experiment = experiment(8);
    let tables = tables(&experiment, effect);
    let (html, _) = page(&experiment, &tables);
    assert_eq!(html, page(&experiment, &tables).0);
    assert!(html.len() < 1_500_000, "{}", html.len());
}

type Line = (String, Option<u64>, Vec<(f64, f64)>);

/// The lines of a figure's first panel: label, seed and points.
fn lines(moment: &Value) -> Vec<Line> {
    let line = |mark: &Value| {
        let points = mark["points"].as_array().unwrap().iter();
        let points = points.map(|point| (point[0].as_f64().unwrap(), point[1].as_f64().unwrap())).collect();
        let key = mark["of"][0].as_u64().unwrap() as usize;
        (moment["keys"][key]["label"].as_str().unwrap().to_owned(), mark["seed"].as_u64(), points)
    };
    let marks = moment["panels"][0]["marks"].as_array().unwrap();
    marks.iter().filter(|mark| mark["kind"] == "line").map(line).collect()
}

#[test]
fn lines_are_those_of_their_arms_and_seeds() {
    let case = case(1);
    let (html, _) = page(&case.experiment, &case.tables);
    let data = data_of(&html);
    let figure =
        |name: &str| data["figures"].as_array().unwrap().iter().find(|one| one["name"] == name).unwrap().clone();
    let losses = lines(&figure("loss_curves")["moments"][0]);
    for arm in ["adam", "sgd"] {
        for seed in case.seeds(arm) {
            let (.., points) = losses.iter().find(|line| line.0 == arm && line.1 == Some(seed)).unwrap();
            for (step, loss) in points {
                let expected = case.loss_of(arm, seed, *step as u64).0;
                assert!((loss - expected).abs() < 1e-4 * expected, "{arm} {seed} {step}: {loss}, {expected}");
            }
        }
        assert_eq!(losses.iter().filter(|line| line.0 == arm).count(), case.seeds(arm).len() + 1);
    }
}

/// The figure of that file.
fn figure(experiment: &Experiment, tables: &Tables, file: &str) -> (String, Figure) {
    let drawn = figures(experiment, tables, &[], &[], None).into_iter().find(|(name, _)| name == file).unwrap();
    let Some(Drawing::Figure(figure)) = drawn.1 else { panic!("{file} has no figure") };
    (drawn.0, figure)
}

#[test]
fn the_slider_ends_with_what_the_file_shows() {
    let experiment = experiment(3);
    let tables = tables(&experiment, effect);
    let (moments, at_loss) = moving(&experiment, &tables, &[]);
    let (all, depth) = (moments.len(), figure(&experiment, &tables, "kurtosis_over_layers.svg"));
    let json = |figures| -> Value { serde_json::from_str(&data(&Shown::of(figures, Vec::new(), None))).unwrap() };
    let of_file = json(vec![depth]);
    let shown: Value = serde_json::from_str(&data(&Shown::of(Vec::new(), Vec::new(), at_loss))).unwrap();
    let dots = shown["figures"][0]["moments"][0]["panels"][0]["marks"].as_array().unwrap();
    assert!(dots.iter().filter(|mark| mark["kind"] == "dots").count() >= 9, "a dot for each run and basis");
    if all > 0 {
        let last = moments.into_iter().last().unwrap();
        let last = json(vec![("last.svg".to_owned(), last.figure)]);
        assert_eq!(lines(&last["figures"][0]["moments"][0]), lines(&of_file["figures"][0]["moments"][0]));
    }
}

/// That figure with each line `n` times.
fn many(figure: &mut Figure, n: usize) {
    figure.marks = std::iter::repeat_n(figure.marks.clone(), n).flatten().collect();
}

#[test]
fn very_many_points_are_thinned_and_that_is_said() {
    let experiment = experiment(8);
    let tables = tables(&experiment, effect);
    let points = |value: &Value| -> usize {
        let marks = value["figures"][0]["moments"][0]["panels"][0]["marks"].as_array().unwrap();
        marks.iter().map(|mark| mark["points"].as_array().unwrap().len()).sum()
    };
    for n in [1, 300, 3000] {
        let mut drawn = figure(&experiment, &tables, "loss_curves.svg");
        many(&mut drawn.1, n);
        let json = data(&Shown::of(vec![drawn], Vec::new(), None));
        let value: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["figures"][0]["moments"][0]["thinned"] == true, n > 1, "{n}");
        assert!(points(&value) <= 200_000 && json.len() < 10_000_000, "{n}: {}, {}", points(&value), json.len());
        assert!(points(&value) > 0);
    }
}

#[test]
fn dimensions_that_stand_out_are_said_listed_and_linked() {
    let experiment = experiment(8);
    let tables = tables(&experiment, effect);
    let link = "<a href=\"figures/outlier_dimensions.svg\">";
    let (html, _) = page(&experiment, &tables);
    assert!(!html.contains(link) && !html.contains("outliers.csv"), "not measured");
    let rows = standing_out(&experiment, 3);
    let (html, said) = page_with(&experiment, &tables, Some(&rows));
    let sentences = outlier_sentences(&said.outliers);
    assert!(sentences.len() > 1 && sentences.iter().all(|sentence| text(&html).contains(sentence)), "{sentences:?}");
    assert!(sentences.iter().all(|sentence| said.to_string().contains(sentence)), "the terminal says the same");
    assert!(html.contains(link) && !html.contains("\"outlier_dimensions\""), "a file, and no figure of the script");
    let table = html.split_once("<code>outliers.csv</code>").unwrap().1.split_once("</details>").unwrap().0;
    assert_eq!(table.matches("<tr>").count(), rows.len() + 1);
    assert!(text(table).contains("adam"), "{table}");
}

#[test]
fn dimensions_of_the_page_are_those_of_the_rows_and_their_writes_add_up() {
    let experiment = experiment(3);
    let mut tables = tables(&experiment, effect);
    // The fixture gives every site the same sizes.
    tables.dimensions.iter_mut().for_each(|row| {
        row.rms *= 1.0 + 0.37 * row.site.order().0.min(9) as f64 - 0.2 * row.site.order().1 as f64 / 5.0;
        (row.mean, row.variance) = (0.0, row.rms * row.rms);
    });
    // A run that has not ended is not shown.
    tables.evals.retain(|row| row.arm != "sgd" || row.seed != 1);
    let marks = standing_out(&experiment, 2);
    let (html, _) = page_with(&experiment, &tables, Some(&marks));
    let atlas = json_of(&html, "atlas");
    let runs = atlas["runs"].as_array().unwrap();
    let planned: usize = experiment.arms.iter().map(|arm| arm.seeds.len()).sum();
    assert_eq!(runs.len(), planned - 1);
    let mut checked = 0;
    for run in runs {
        let numbers = |one: &Value| one.as_array().unwrap().iter().map(|x| x.as_f64().unwrap()).collect::<Vec<f64>>();
        let (steps, sites) = (numbers(&run["steps"]), run["sites"].as_array().unwrap());
        for basis in run["bases"].as_array().unwrap() {
            let list = |step: usize, site: usize| &basis["lists"][step][site];
            for (step, (site, at)) in
                (0..steps.len()).flat_map(|step| sites.iter().enumerate().map(move |at| (step, at)))
            {
                let rows = tables.dimensions.iter().filter(|row| {
                    (row.arm.as_str(), Some(row.seed)) == (run["arm"].as_str().unwrap(), run["seed"].as_u64())
                        && (row.step as f64, &row.site.to_string()[..]) == (steps[step], at.as_str().unwrap())
                        && row.basis.to_string() == basis["basis"].as_str().unwrap()
                });
                let rms = numbers(&list(step, site)["rms"]);
                for row in rows {
                    assert!((rms[row.dim] - row.rms).abs() < 1e-3 * row.rms, "{row:?}: {}", rms[row.dim]);
                    checked += 1;
                }
            }
            // From nothing to the last block, whatever the signs in between.
            let energy =
                |site: &Value| site.as_u64().map_or(0.0, |site| numbers(&list(0, site as usize)["rms"])[5].powi(2));
            let writes = run["writes"].as_array().unwrap();
            let added: Vec<f64> = writes.iter().map(|write| energy(&write[2]) - energy(&write[1])).collect();
            let end = sites.iter().position(|site| site == "blocks.1.resid_post").unwrap();
            assert!((added.iter().sum::<f64>() - energy(&end.into())).abs() < 1e-9, "{added:?}");
            assert!(added.len() == 5 && added.iter().any(|one| *one < 0.0), "{added:?}");
        }
    }
    assert_eq!(
        checked,
        tables.dimensions.len() - tables.dimensions.iter().filter(|row| row.arm == "sgd" && row.seed == 1).count()
    );
}

#[test]
fn what_stands_out_most_is_shown_first_and_compared_with_chance() {
    let experiment = experiment(3);
    let tables = tables(&experiment, effect);
    let mut marks = standing_out(&experiment, 2);
    let extra = marks.iter().find(|row| row.arm == "sgd" && row.seed == 1).unwrap().clone();
    marks.push(OutlierRow { dim: 40, first_step: 100, ..extra });
    let (html, _) = page_with(&experiment, &tables, Some(&marks));
    let atlas = json_of(&html, "atlas");
    let start = &atlas["runs"][atlas["start"].as_u64().unwrap() as usize];
    assert_eq!((start["arm"].as_str(), start["seed"].as_u64()), (Some("sgd"), Some(1)));
    let out = start["bases"][0]["out"].as_array().unwrap();
    let last = start["sites"].as_array().unwrap().len() - 1;
    assert_eq!(
        out.iter().map(|one| [&one[0], &one[1], &one[2]].map(|x| x.as_u64().unwrap())).collect::<Vec<_>>(),
        [[0, last as u64, 0], [1, last as u64, 0], [40, last as u64, 100]]
    );
    let agreement = atlas["agreements"].as_array().unwrap().iter().find(|one| one["arm"] == "sgd").unwrap();
    assert_eq!(agreement["shared"], serde_json::json!([[0, 3], [1, 3]]));
    assert!(agreement["sentence"].as_str().unwrap().starts_with("2 dimensions stand out in two or more of 3 seeds"));
    assert!(text(&html).contains("Enter or a click on a row"));
    // Without random bases nothing is known of it, and without rows there is no section.
    let (html, _) = page_with(&experiment, &tables, None);
    let unknown = json_of(&html, "atlas");
    assert!(text(&html).contains("Which dimensions stand out is not known here"));
    assert_eq!((&unknown["compared"], &unknown["agreements"]), (&false.into(), &serde_json::json!([])));
    let empty = Tables { dimensions: Vec::new(), ..tables };
    assert!(!page_with(&experiment, &empty, None).0.contains("id=\"atlas\""));
}
