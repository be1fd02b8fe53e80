//! README and `results/README.md` quote the committed tables.

use crate::support::root;
use std::collections::BTreeMap;

pub(super) type Cells = BTreeMap<String, String>;

/// The rows of a committed table by column.
pub(super) fn rows_of(results: &str, table: &str) -> Vec<Cells> {
    let path = root().join("results").join(results).join(table);
    let mut reader = csv::Reader::from_path(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    reader.deserialize().map(Result::unwrap).collect()
}

pub(super) fn number(row: &Cells, column: &str) -> f64 {
    row[column].parse().unwrap_or_else(|_| panic!("{column}: {:?}", row[column]))
}

pub(super) fn text(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap()
}

/// A page with single spaces in place of line ends.
pub(super) fn one_line(file: &str) -> String {
    text(file).split_whitespace().collect::<Vec<_>>().join(" ")
}

pub(super) fn cells(line: &str) -> Vec<String> {
    let line = line.trim().trim_start_matches('|').trim_end_matches('|');
    line.split('|').map(|cell| cell.trim().to_owned()).collect()
}

/// The line of a table that begins with `| first |`.
pub(super) fn line_of(readme: &str, first: &str) -> Vec<String> {
    let line = readme.lines().find(|line| line.starts_with(&format!("| {first} |")));
    cells(line.unwrap_or_else(|| panic!("no line of {first}")))
}

/// A claim as its table has it: `supported, x2.29 (1.96 to 2.68), p 3.0e-5`.
fn claim_cell(row: &Cells) -> String {
    let verdict = &row["verdict"];
    if row["estimate"].is_empty() {
        return verdict.clone();
    }
    let of = |column: &str| number(row, column);
    let numbers = if row["kind"] == "equal-loss" {
        let [estimate, low, high] = ["estimate", "ci_low", "ci_high"].map(of);
        format!("{estimate:+.4} nats ({low:+.4} to {high:+.4})")
    } else {
        let [ratio, low, high] = ["ratio", "ratio_low", "ratio_high"].map(of);
        format!("x{ratio:.2} ({low:.2} to {high:.2})")
    };
    let p = if row["p_holm"].is_empty() { "p" } else { "p_holm" };
    format!("{verdict}, {numbers}, p {}", small(of(p)))
}

fn small(p: f64) -> String {
    if p < 0.001 { format!("{p:.1e}") } else { format!("{p:.3}") }
}

#[test]
fn claims_are_those_of_the_verdicts() {
    let readme = text("results/README.md");
    for (place, results) in [(1, "adam-vs-sgd"), (2, "adam-vs-sgd-text")] {
        for row in rows_of(results, "verdicts.csv") {
            let line = line_of(&readme, &format!("`{}`", row["claim"]));
            assert_eq!(line[place], claim_cell(&row), "{results}: {}", row["claim"]);
        }
    }
}

/// The row of an arm and metric in a summary; losses have no basis.
fn summary_row<'a>(summary: &'a [Cells], arm: &str, metric: &str, basis: &str) -> &'a Cells {
    let is_it = |row: &&Cells| row["arm"] == arm && row["metric"] == metric && row["basis"] == basis;
    summary.iter().find(is_it).unwrap_or_else(|| panic!("no {metric} of {arm}"))
}

#[test]
fn the_table_of_the_readme_is_that_of_the_summaries() {
    let readme = text("README.md");
    for (name, arm, basis) in [
        ("Adam", "adam", "standard"),
        ("shorter Adam", "adam-short", "standard"),
        ("SGD", "sgd", "standard"),
        ("rotated Adam", "adam-rotated", "standard"),
        ("rotated Adam, in its own basis", "adam-rotated", "optimizer"),
    ] {
        let mut expected = vec![name.to_owned()];
        // All eight seeds of rotated Adam.
        let language = if arm == "adam-rotated" { "adam-vs-sgd-bases" } else { "adam-vs-sgd" };
        for results in [language, "adam-vs-sgd-text"] {
            let summary = rows_of(results, "summary.csv");
            let kurtosis = summary_row(&summary, arm, "token_kurtosis", basis);
            expected.extend([
                format!("{:.3}", number(summary_row(&summary, arm, "loss", ""), "mean")),
                format!("{:.2}", number(kurtosis, "mean")),
                format!("**{:.2}**", number(kurtosis, "ratio")),
            ]);
        }
        assert_eq!(line_of(&readme, name), expected);
    }
}

/// The numbers in the sentences of both pages, word for word.
#[test]
fn sentences_quote_the_tables() {
    let ratio = |results: &str, arm: &str, basis: &str| {
        number(summary_row(&rows_of(results, "summary.csv"), arm, "token_kurtosis", basis), "ratio")
    };
    let near_best = |arm: &str| ratio("adam-vs-sgd-norms", &format!("{arm}-near-best"), "standard");
    let under_norms = |arm: &str| ratio("adam-vs-sgd-norms", arm, "standard");
    let of_metric = |arm: &str, metric: &str| {
        number(summary_row(&rows_of("adam-vs-sgd", "summary.csv"), arm, metric, "standard"), "ratio")
    };
    let claim = |results: &str, name: &str, column: &str| {
        let rows = rows_of(results, "verdicts.csv");
        number(rows.iter().find(|row| row["claim"] == name).unwrap_or_else(|| panic!("no claim {name}")), column)
    };
    let near = |name: &str, column: &str| claim("learning-rates", name, column);
    let interval = |results: &str, name: &str| ["ratio", "ratio_low", "ratio_high"].map(|c| claim(results, name, c));
    let shorter = claim("adam-vs-sgd", "shorter-adam-above-sgd", "ratio");
    let shorter_on_text = claim("adam-vs-sgd-text", "shorter-adam-above-sgd", "ratio");
    let [near_shorter, near_low, near_high] = interval("learning-rates", "near-best-shorter-adam-above-sgd");
    let [next, next_low, next_high] = interval("learning-rates-text", "next-best-adam-above-random-bases");
    let joint = ["kurtosis-map", "kurtosis-map-text"].map(|results| {
        let rows = rows_of(results, "privilege.csv");
        let is_point = |row: &&Cells| row["arm"] != "adam" && row["basis"] == "standard";
        let within: Vec<&Cells> = rows.iter().filter(is_point).filter(|row| is_within(row)).collect();
        (within.iter().filter(|row| number(row, "p") <= 0.05).count(), within.len())
    });
    let width = |arm: &str| ratio("adam-vs-sgd-widths", arm, "standard");
    let doubled = ["width-64-lr-0.006", "width-128-lr-0.004", "width-256-lr-0.002"].map(width);
    let [least, most] = [f64::min, f64::max].map(|of| doubled.into_iter().reduce(of).unwrap());
    let readme = one_line("README.md");
    for sentence in [
        format!(
            "widths 64, 128 and 256 Adam is at {:.2}, {:.2} and {:.2} times there, at twice these rates at {least:.1} to {most:.1}",
            width("width-64"),
            width("width-128"),
            width("width-256")
        ),
        format!("ends at {:.1} times that of random rotations", ratio("adam-vs-sgd", "adam", "standard")),
        format!("at {:.1} times on a real text", ratio("adam-vs-sgd-text", "adam", "standard")),
        format!("({next:.1} at the next rate, whose loss is as low)"),
        format!(
            "is at {shorter:.1} times SGD on the language ({near_shorter:.1}, not significant, at another good rate)"
        ),
        format!("at {shorter_on_text:.2} on the text"),
        format!("varies between them is {:.1} times its null", of_metric("adam", "varying_kurtosis")),
        format!("[{} of {}]", joint[0].0, joint[0].1),
        format!("(rotated Adam on the text: 3, whose Adam ends at {:.3})", loss_on_seeds_of_rotated()),
        format!(
            "SGD is at {:.2} to {:.2} times random bases, Adam at {:.2} to {:.2} and rotated Adam at {:.2} to {:.2}",
            under_norms("sgd-layernorm"),
            near_best("sgd-layernorm"),
            under_norms("adam-layernorm"),
            near_best("adam-layernorm"),
            near_best("rotated-layernorm"),
            under_norms("rotated-layernorm"),
        ),
    ] {
        assert!(readme.contains(&sentence), "README.md lacks: {sentence}");
    }
    let results = one_line("results/README.md");
    let [ratio, low, high] = interval("learning-rates", "near-best-adam-above-random-bases");
    let losses = rows_of("learning-rates-text", "summary.csv");
    let loss = |arm: &str| number(summary_row(&losses, arm, "loss", ""), "mean");
    let own = |results: &str| claim(results, "shorter-adam-above-random-bases", "ratio");
    for sentence in [
        format!("Adam at 1.5e-3 is {ratio:.2} times random bases ({low:.2} to {high:.2})"),
        format!("Adam at 2e-3 is {:.2} times SGD at 0.125", near("adam-above-near-best-sgd", "ratio")),
        format!("beside SGD at 0.125 it is {:.2} times", near("shorter-adam-above-near-best-sgd", "ratio")),
        format!("1100 steps take it to SGD's loss, {near_shorter:.2} times ({near_low:.2} to {near_high:.2})"),
        format!("Adam at 4e-3 is {next:.2} times random bases ({next_low:.2} to {next_high:.2})"),
        format!("ends at {:.3}, not behind 3e-3 ({:.3})", loss("adam-next-best"), loss("adam")),
        format!("{:.2} times on the language, {:.2} times on the text", own("adam-vs-sgd"), own("adam-vs-sgd-text")),
        format!(
            "mean over tokens is {:.2} times that in random bases, and that of what varies between tokens {:.2} times \
             (shorter Adam: {:.2} and {:.2})",
            of_metric("adam", "mean_vector_kurtosis"),
            of_metric("adam", "varying_kurtosis"),
            of_metric("adam-short", "mean_vector_kurtosis"),
            of_metric("adam-short", "varying_kurtosis"),
        ),
        format!(
            "special basis in {} of {} on the language and in {} of {} on the text",
            joint[0].0, joint[0].1, joint[1].0, joint[1].1
        ),
        format!("SGD, x{:.2}, p {}", claim("adam-vs-sgd-norms", "sgd-equals-random-bases", "ratio"), {
            small(claim("adam-vs-sgd-norms", "sgd-equals-random-bases", "p"))
        }),
        format!("at 3e-3, which is as good, it is {:.2} times", width("width-128-near-best")),
        format!("grow with width, and is {:.1} % at 256", 100.0 * (width("width-256") - 1.0)),
        format!("At twice the best rate it is {:.2}, {:.2} and {:.2} times", doubled[0], doubled[1], doubled[2]),
        format!("Adam is already {:.3} nats ahead", ahead_at_first_crossing()),
    ] {
        assert!(results.contains(&sentence), "results/README.md lacks: {sentence}");
    }
}

/// On the text, Adam's mean final loss over the seeds of rotated Adam.
fn loss_on_seeds_of_rotated() -> f64 {
    let evals = rows_of("adam-vs-sgd-text", "evals.csv");
    let is_read = |row: &&Cells| row["arm"] == "adam" && row["step"] == "2000" && row["seed"].as_str() < "2003";
    let losses: Vec<f64> = evals.iter().filter(is_read).map(|row| number(row, "loss")).collect();
    losses.iter().sum::<f64>() / losses.len() as f64
}

/// On the text, by how much Adam's loss is below SGD's final one where it first reaches it, mean over seeds.
fn ahead_at_first_crossing() -> f64 {
    let evals = rows_of("adam-vs-sgd-text", "evals.csv");
    let of = |arm: &str, seed: u64| -> Vec<f64> {
        let seed = seed.to_string();
        let is_read = |row: &&Cells| row["arm"] == arm && row["seed"] == seed && row["step"] != "0";
        evals.iter().filter(is_read).map(|row| number(row, "loss")).collect()
    };
    let ahead = |seed: u64| {
        let level = *of("sgd", seed).last().unwrap();
        level - of("adam", seed).into_iter().find(|loss| *loss <= level).unwrap()
    };
    (2000..2008).map(ahead).sum::<f64>() / 8.0
}

/// A cell of a table of arms, by the title of its column.
fn cell(results: &str, arm: &str, column: &str) -> String {
    let summary = rows_of(results, "summary.csv");
    let of = |metric: &str, basis: &str| summary_row(&summary, arm, metric, basis).clone();
    // With that of random bases in brackets.
    let both = |metric: &str, scale: f64, unit: &str| {
        let row = of(metric, "standard");
        let [own, null] = ["mean", "null_mean"].map(|column| scale * number(&row, column));
        format!("{own:.1}{unit} ({null:.1}{unit})")
    };
    let mean = |metric: &str| both(metric, 1.0, "");
    let selection = |name: &str| {
        let rows = rows_of(results, "selection.csv");
        let row = rows.iter().find(|row| row["point"] == arm || (row["arm"] == arm && row["chosen"] == "true"));
        row.map(|row| row[name].clone()).unwrap_or_else(|| panic!("no choice of {arm}"))
    };
    match column {
        "loss" => format!("{:.3}", number(&of("loss", ""), "mean")),
        "over random bases" => format!("x{:.2}", number(&of("token_kurtosis", "standard"), "ratio")),
        "in its own basis" => {
            let own = summary
                .iter()
                .find(|row| row["arm"] == arm && row["metric"] == "token_kurtosis" && row["basis"] == "optimizer");
            own.map_or_else(|| "-".to_owned(), |row| format!("x{:.2}", number(row, "ratio")))
        }
        "above 6" => mean("outlier_dims_abs6"),
        "above 6 x token RMS" => mean("outlier_dims_abs6_normalised"),
        "RMS above 6 x median" => mean("outlier_dims_6x_rms"),
        "massive" => mean("massive_activations"),
        "massive, normalised" => mean("massive_activations_normalised"),
        "energy of the largest" => both("max_dim_energy_share", 100.0, " %"),
        "outside all" => {
            let row = of("token_kurtosis", "standard");
            format!("{} above, {} below of {}", row["seeds_above"], row["seeds_below"], row["n_seeds"])
        }
        "behind the best" => {
            let [behind, error] = ["behind", "behind_se"].map(|name| selection(name).parse::<f64>().unwrap());
            let near = if selection("near_best") == "true" { "; as good" } else { "" };
            format!("{behind:.4} ± {error:.4}{near}")
        }
        "chosen" => selection("values").replace("optimizer.lr = ", ""),
        "verdict" => {
            let rows = rows_of(results, "verdicts.csv");
            let of_arm = |row: &&Cells| row["comparison"].starts_with(&format!("{arm} / null"));
            rows.iter().find(of_arm).unwrap_or_else(|| panic!("no claim about {arm}"))["verdict"].clone()
        }
        other => panic!("a column {other}"),
    }
}

/// Tables of arms stand below a line `<!-- DIRECTORY -->`.
#[test]
fn tables_of_arms_are_those_of_the_summaries() {
    let readme = text("results/README.md");
    let mut checked = 0;
    for (results, table) in marked(&readme).into_iter().filter(|(marker, _)| !marker.contains(' ')) {
        for line in &table[1..] {
            let arm = line[0].trim_matches('`');
            for (column, found) in table[0].iter().zip(line).skip(1) {
                assert_eq!(*found, cell(results, arm, column), "{results}: {column} of {arm}");
                checked += 1;
            }
        }
    }
    assert!(checked > 60, "{checked} cells");
}

/// The tables below lines `<!-- MARKER -->`, with the marker.
fn marked(readme: &str) -> Vec<(&str, Vec<Vec<String>>)> {
    let parts = readme.split("<!-- ").skip(1).map(|part| part.split_once(" -->").unwrap());
    let lines = |text: &str| -> Vec<Vec<String>> {
        let lines = text.trim_start().lines().take_while(|line| line.starts_with('|'));
        lines.filter(|line| !line.starts_with("|---")).map(cells).collect()
    };
    parts.map(|(marker, text)| (marker, lines(text))).collect()
}

/// The table below `<!-- MARKER -->`.
fn table_below(readme: &str, marker: &str) -> Vec<Vec<String>> {
    let table = marked(readme).into_iter().find(|(other, _)| *other == marker);
    table.unwrap_or_else(|| panic!("results/README.md has no table below {marker}")).1
}

/// Whether a run's kurtosis lies within that of its random bases.
fn is_within(row: &Cells) -> bool {
    let below = number(row, "bases_at_most");
    below > 0.0 && below < number(row, "bases")
}

/// Below `<!-- DIRECTORY by the joint test -->`: of the runs at a rate and length, how many have a special basis by the joint
/// test at 0.05, and how many of these have a kurtosis within that of random bases.
#[test]
fn what_the_joint_test_sees_on_the_maps_is_as_recorded() {
    let readme = text("results/README.md");
    for results in ["kurtosis-map", "kurtosis-map-text"] {
        let rows = rows_of(results, "privilege.csv");
        let table = table_below(&readme, &format!("{results} by the joint test"));
        assert_eq!(table.len(), 7, "six rates");
        for line in &table[1..] {
            for (steps, found) in table[0].iter().zip(line).skip(1) {
                let arm = format!("adam-lr-{}-steps-{}", line[0], steps.trim_end_matches(" steps"));
                let of_arm: Vec<&Cells> =
                    rows.iter().filter(|row| row["arm"] == arm && row["basis"] == "standard").collect();
                assert_eq!(of_arm.len(), 3, "{arm}");
                let special: Vec<&&Cells> = of_arm.iter().filter(|row| number(row, "p") <= 0.05).collect();
                let within = special.iter().filter(|row| is_within(row)).count();
                let expected =
                    if within == 0 { special.len().to_string() } else { format!("{} ({within})", special.len()) };
                assert_eq!(*found, expected, "{arm}");
            }
        }
    }
}

/// Below `<!-- DIRECTORY by site -->`: the geometric mean over seeds of the last token kurtosis over its null, by site and arm.
#[test]
fn sites_are_those_of_the_tables() {
    let readme = text("results/README.md");
    for results in ["adam-vs-sgd", "adam-vs-sgd-text"] {
        let rows = rows_of(results, "residual.csv");
        let table = table_below(&readme, &format!("{results} by site"));
        assert_eq!(table.len(), 7, "six sites");
        for line in &table[1..] {
            for (arm, found) in table[0].iter().zip(line).skip(1) {
                let arm = arm.trim_matches('`');
                let is_read = |row: &&Cells| {
                    let cells = ["arm", "site", "metric", "tokens", "basis"].map(|column| row[column].as_str());
                    cells == [arm, &line[0], "token_kurtosis", "rest", "standard"]
                };
                let of_arm: Vec<&Cells> = rows.iter().filter(is_read).collect();
                let last = of_arm.iter().map(|row| number(row, "step") as u64).max().unwrap();
                let at_end = of_arm.iter().filter(|row| number(row, "step") as u64 == last);
                let logs: Vec<f64> = at_end.map(|row| (number(row, "value") * 65.0 / (3.0 * 63.0)).ln()).collect();
                assert_eq!(logs.len(), 8, "{arm} at {}", line[0]);
                let ratio = (logs.iter().sum::<f64>() / 8.0).exp();
                assert_eq!(*found, format!("x{ratio:.2}"), "{results}: {arm} at {}", line[0]);
            }
        }
    }
}
