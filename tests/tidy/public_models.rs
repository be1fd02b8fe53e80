//! README and `results/README.md` quote the measurements of public models.

use super::quotes::{Cells, line_of, number, rows_of, text};

/// What both pages say of a public model.
struct PublicModel {
    models: Cells,
    /// `(site, ratio, mean, whether above all random bases)` of token kurtosis, in the order of the forward pass.
    kurtosis: Vec<(String, f64, f64, bool)>,
    /// Dimensions that stand out at the end of every block, in order.
    everywhere: Vec<usize>,
    /// Name and SHA-256 of its weights.
    file: (String, String),
}

impl PublicModel {
    fn read(name: &str) -> Self {
        let results = format!("public-models/{name}");
        let models = rows_of(&results, "models.csv").remove(0);
        let of_kurtosis = |row: &Cells| row["metric"] == "token_kurtosis";
        let kurtosis = rows_of(&results, "summary.csv").into_iter().filter(of_kurtosis);
        let kurtosis = kurtosis.map(|row| {
            (row["site"].clone(), number(&row, "ratio"), number(&row, "mean"), number(&row, "seeds_above") == 1.0)
        });
        let everywhere = rows_of(&results, "special_dimensions.csv").into_iter();
        let everywhere = everywhere.filter(|row| row["persistence"] == models["n_layers"]);
        let mut everywhere: Vec<usize> = everywhere.map(|row| number(&row, "dim") as usize).collect();
        everywhere.sort_unstable();
        everywhere.dedup();
        let manifest: serde_json::Value =
            serde_json::from_str(&text(&format!("results/{results}/manifest.json"))).unwrap();
        let files = manifest["measured"]["models"][0]["files"].as_array().unwrap();
        let largest = files.iter().max_by_key(|file| file["bytes"].as_u64().unwrap()).unwrap();
        let cell = |key: &str| largest[key].as_str().unwrap().to_owned();
        let file = (cell("name"), cell("sha256"));
        Self { kurtosis: kurtosis.collect(), everywhere, file, models }
    }

    fn after_last_block(&self) -> &(String, f64, f64, bool) {
        self.kurtosis.iter().rfind(|(site, ..)| site.ends_with("resid_post")).unwrap()
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
        let (_, ratio, mean, _) = model.after_last_block();
        let (site, largest, ..) = model.kurtosis.iter().max_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
        let (loss, bits) = (model.digits("loss"), model.digits("bits_per_byte"));
        let of_loss = if loss.is_empty() { "no head".to_owned() } else { format!("{loss} ({bits})") };
        let everywhere: Vec<String> = model.everywhere.iter().map(usize::to_string).collect();
        let expected = [
            in_readme.to_owned(),
            of_loss,
            format!("{ratio:.2}"),
            format!("{largest:.2}, `{site}`"),
            everywhere.join(", "),
        ];
        assert_eq!(line_of(&readme, in_readme), expected);
        let above = model.kurtosis.iter().filter(|(.., above)| *above).count();
        let expected = [
            name.to_owned(),
            format!("`{}`", model.file.0),
            format!("`{}`", &model.file.1[..12]),
            model.models["tokens"].clone(),
            loss,
            bits,
            format!("{above} of {}", model.kurtosis.len()),
            format!("{mean:.2}"),
            format!("{ratio:.2}"),
        ];
        assert_eq!(line_of(&results, name), expected);
    }
}
