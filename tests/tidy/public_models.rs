//! README and `results/README.md` quote the measurements of public models.

use super::quotes::{Cells, line_of, number, rows_of, text};
use std::collections::BTreeMap;

/// What both pages say of a public model.
struct PublicModel {
    models: Cells,
    /// Token kurtosis, and that of what varies between tokens, in the order of the forward pass.
    kurtosis: Vec<Cells>,
    varying: Vec<Cells>,
    /// `(dimension, at how many ends of blocks it stands out)`: the two that do at most, of equals the larger one.
    dimensions: Vec<(usize, usize)>,
    /// Name and SHA-256 of its weights.
    file: (String, String),
}

impl PublicModel {
    fn read(name: &str) -> Self {
        let results = format!("public-models/{name}");
        let models = rows_of(&results, "models.csv").remove(0);
        let summary = rows_of(&results, "summary.csv");
        let of = |metric: &str| summary.iter().filter(|row| row["metric"] == metric).cloned().collect();
        let mut sizes: BTreeMap<usize, (usize, f64)> = BTreeMap::new();
        for row in rows_of(&results, "special_dimensions.csv") {
            let size = sizes.entry(number(&row, "dim") as usize).or_default();
            *size = (number(&row, "persistence") as usize, size.1.max(number(&row, "ratio")));
        }
        let mut dimensions: Vec<(usize, (usize, f64))> = sizes.into_iter().collect();
        dimensions.sort_by(|(_, a), (_, b)| b.partial_cmp(a).unwrap());
        let dimensions = dimensions.into_iter().take(2).map(|(dim, (ends, _))| (dim, ends)).collect();
        let manifest: serde_json::Value =
            serde_json::from_str(&text(&format!("results/{results}/manifest.json"))).unwrap();
        let files = manifest["measured"]["models"][0]["files"].as_array().unwrap();
        let largest = files.iter().max_by_key(|file| file["bytes"].as_u64().unwrap()).unwrap();
        let cell = |key: &str| largest[key].as_str().unwrap().to_owned();
        let file = (cell("name"), cell("sha256"));
        Self { kurtosis: of("token_kurtosis"), varying: of("varying_kurtosis"), dimensions, file, models }
    }

    /// The mean, or the ratio to random bases, after the last block.
    fn after_last_block(rows: &[Cells], column: &str) -> String {
        let row = rows.iter().rfind(|row| row["site"].ends_with("resid_post")).unwrap();
        format!("{:.1}", number(row, column))
    }

    fn digits(&self, column: &str) -> String {
        self.models[column].parse().map_or_else(|_| String::new(), |value: f64| format!("{value:.3}"))
    }
}

#[test]
fn the_tables_of_public_models_are_those_of_their_directories() {
    let (readme, results) = (text("README.md"), text("results/README.md"));
    for (folder, name, in_readme) in [
        ("stories260K", "stories260K", "stories260K"),
        ("SmolLM2-135M-Instruct", "SmolLM2-135M-Instruct.Q4_1", "SmolLM2-135M-Instruct, Q4_1"),
        ("all-MiniLM-L6-v2", "all-MiniLM-L6-v2", "all-MiniLM-L6-v2"),
    ] {
        let model = PublicModel::read(folder);
        let [mean, ratio] = ["mean", "ratio"].map(|column| PublicModel::after_last_block(&model.kurtosis, column));
        let [varying, of_varying] =
            ["mean", "ratio"].map(|column| PublicModel::after_last_block(&model.varying, column));
        let (loss, bits) = (model.digits("loss"), model.digits("bits_per_byte"));
        let of_loss = if loss.is_empty() { "no head".to_owned() } else { format!("{loss} ({bits})") };
        let [(first, ends), (second, fewer)] = model.dimensions[..] else { panic!("{:?}", model.dimensions) };
        let dimensions = format!("{first} (after {ends} of {} blocks), {second} ({fewer})", model.models["n_layers"]);
        let expected = [in_readme.to_owned(), of_loss, ratio.clone(), of_varying.clone(), dimensions];
        assert_eq!(line_of(&readme, in_readme), expected);
        let above = model.kurtosis.iter().filter(|row| row["seeds_above"] == "1").count();
        let expected = [
            name.to_owned(),
            format!("`{}`", model.file.0),
            format!("`{}`", &model.file.1[..12]),
            model.models["tokens"].clone(),
            loss,
            bits,
            format!("{above} of {}", model.kurtosis.len()),
            mean,
            ratio,
            varying,
            of_varying,
        ];
        assert_eq!(line_of(&results, name), expected);
    }
}

/// The numbers in the sentences below the table.
#[test]
fn sentences_on_public_models_quote_the_tables() {
    let page = text("results/README.md").replace('\n', " ");
    let ratio = |rows: &[Cells], site: &str| number(rows.iter().find(|row| row["site"] == site).unwrap(), "ratio");
    let (smol, encoder) = (PublicModel::read("SmolLM2-135M-Instruct"), PublicModel::read("all-MiniLM-L6-v2"));
    let site = "blocks.28.resid_post";
    let largest = smol.kurtosis.iter().map(|row| number(row, "ratio")).fold(0.0, f64::max);
    assert_eq!(largest, ratio(&smol.kurtosis, site));
    let dominant: Vec<Cells> = rows_of("public-models/SmolLM2-135M-Instruct", "dominant_tokens.csv");
    let at_11 = |first: &str| {
        let mut rows = dominant.iter().filter(|row| row["site"] == "blocks.11.resid_post" && row["first"] == first);
        rows.next().unwrap()
    };
    let (first, other) = (at_11("true"), at_11("false"));
    assert_eq!(other["position"], "1");
    for sentence in [
        format!(
            "is {largest:.1} times that of random bases, what varies is at {:.1} times",
            ratio(&smol.varying, site)
        ),
        format!("first tokens hold {:.0} %", 100.0 * number(first, "share") / number(first, "share_of_group")),
        format!("one token at position 1 has {:.0} %", 100.0 * number(other, "share_of_group")),
        format!("{:.1} times random bases before the last one", ratio(&encoder.kurtosis, "blocks.5.mlp_sum")),
        format!("{:.1} times after it", ratio(&encoder.kurtosis, "blocks.5.resid_post")),
    ] {
        assert!(page.contains(&sentence), "results/README.md lacks: {sentence}");
    }
}

/// Rows of `quantization.csv` of rounded activations.
fn rounded(rows: &[Cells], how: (&str, &str, &str)) -> Vec<Cells> {
    let is_it = |row: &&Cells| {
        let own = [&row["quantized"], &row["special"], &row["levels"], &row["granularity"], &row["rotated"]];
        own.map(String::as_str) == ["activations", "plain", how.0, how.1, how.2]
    };
    rows.iter().filter(is_it).cloned().collect()
}

#[test]
fn the_table_of_rounding_is_that_of_its_directories() {
    let ways = [
        ("int8", "tensor", "false"),
        ("int8", "token", "false"),
        ("int8", "tensor", "true"),
        ("int4", "token", "false"),
    ];
    let page = text("results/README.md");
    let with_error = |value: f64, error: f64| format!("{value:.4} ± {error:.4}");
    for folder in ["stories260K", "SmolLM2-135M-Instruct", "all-MiniLM-L6-v2"] {
        let rows = rows_of(&format!("rounding/{folder}"), "quantization.csv");
        let cell = |how: (&str, &str, &str)| match rounded(&rows, how).first() {
            None => "-".to_owned(),
            Some(row) if row["destroyed"] == "true" => "destroyed".to_owned(),
            Some(row) if row["loss"].is_empty() => format!("{:.1} %", 100.0 * number(row, "relative_error_later")),
            Some(row) => with_error(number(row, "loss_increase_alike"), number(row, "standard_error")),
        };
        let name = &rows[0]["model"];
        let expected: Vec<String> = std::iter::once(name.clone()).chain(ways.map(cell)).collect();
        // Another table has a row of this model.
        let lines = page.lines().filter(|line| line.starts_with(&format!("| {name} |")));
        assert!(lines.map(super::quotes::cells).any(|cells| cells == expected), "{expected:?}");
    }
    let rows = rows_of("rounding/adam-vs-sgd", "quantization.csv");
    for (arm, seeds) in [("adam", 8), ("adam-rotated", 3), ("sgd", 8)] {
        let cell = |how: (&str, &str, &str)| {
            let of_arm = |row: &Cells| row["model"].rsplit_once('-').unwrap().0 == arm;
            let costs = rounded(&rows, how).into_iter().filter(of_arm).map(|row| number(&row, "loss_increase_alike"));
            let costs: Vec<f64> = costs.collect();
            assert_eq!(costs.len(), seeds);
            let (n, mean) = (seeds as f64, costs.iter().sum::<f64>() / seeds as f64);
            let variance = costs.iter().map(|cost| (cost - mean).powi(2)).sum::<f64>() / (n - 1.0);
            with_error(mean, (variance / n).sqrt())
        };
        let first = format!("`{arm}`, {seeds} seeds");
        let expected: Vec<String> = std::iter::once(first.clone()).chain(ways.map(cell)).collect();
        assert_eq!(line_of(&page, &first), expected);
    }
}
