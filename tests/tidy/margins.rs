//! What the margins of `docs/protocol.md` mean where nothing is special, from the committed runs of SGD.

use super::quotes::{Cells, number, one_line, rows_of};
use basislab_stats::{Purpose, Verdict, decide_equivalence, mean_sd, stream, uniform};

const DRAWS: usize = 20_000;

/// The last token kurtosis of SGD in every basis, the standard one and 64 random ones, by seed.
fn bases(results: &str) -> Vec<Vec<f64>> {
    let rows = rows_of(results, "residual.csv");
    let last = rows.iter().map(|row| row["step"].parse::<u64>().unwrap()).max().unwrap().to_string();
    let is_read = |row: &&Cells| {
        let cells = ["arm", "step", "site", "tokens", "metric"].map(|column| row[column].as_str());
        cells == ["sgd", &last, "blocks.1.resid_post", "rest", "token_kurtosis"]
    };
    let of_seed = |seed: u64| {
        let seed = seed.to_string();
        rows.iter().filter(is_read).filter(|row| row["seed"] == seed).map(|row| number(row, "value")).collect()
    };
    (2000..2008).map(of_seed).collect()
}

/// Shares of equal and of large means over draws of one basis for each seed, in place of the standard one.
fn simulate(results: &str) -> (f64, f64) {
    let bases = bases(results);
    assert!(bases.iter().all(|list| list.len() == 65), "{results}");
    let mut rng = stream(0, Purpose::Simulation, 950);
    let (mut equal, mut large) = (0.0, 0.0);
    for _ in 0..DRAWS {
        let mut log_ratio = |list: &Vec<f64>| {
            let drawn = list[(uniform(&mut rng) * list.len() as f64) as usize];
            let others = (list.iter().sum::<f64>() - drawn) / (list.len() - 1) as f64;
            (drawn / others).ln()
        };
        let values: Vec<f64> = bases.iter().map(&mut log_ratio).collect();
        equal += f64::from(decide_equivalence(&values, 0.10, 0.05, 8) == Verdict::Supported);
        large += f64::from(mean_sd(&values).unwrap().0.abs() >= 0.15);
    }
    (equal / DRAWS as f64, large / DRAWS as f64)
}

/// The smallest effect in standard deviations of the log of one random basis.
#[test]
fn the_smallest_effect_is_as_many_standard_deviations_as_said() {
    let in_sd = |results: &str| {
        let spread = |list: &Vec<f64>| mean_sd(&list.iter().map(|value| value.ln()).collect::<Vec<_>>()).unwrap().1;
        let squares: Vec<f64> = bases(results).iter().map(|list| spread(list).powi(2)).collect();
        0.15 / (squares.iter().sum::<f64>() / squares.len() as f64).sqrt()
    };
    let [language, text] = ["adam-vs-sgd", "adam-vs-sgd-text"].map(in_sd);
    let sentence =
        format!("{language:.0} standard deviations of one random basis on the language, and {text:.0} on the text");
    assert!(one_line("docs/protocol.md").contains(&sentence), "docs/protocol.md lacks: {sentence}");
}

#[test]
fn where_nothing_is_special_bases_are_called_equal() {
    let [(language, large), (text, large_on_text)] = ["adam-vs-sgd", "adam-vs-sgd-text"].map(simulate);
    let percent = |share: f64| if share == 1.0 { "all".to_owned() } else { format!("{:.0} %", 100.0 * share) };
    let protocol = one_line("docs/protocol.md");
    for sentence in [
        format!("equal in {} of the draws on the language and in {} on the text", percent(language), percent(text)),
        "a mean of 16 % or more never occurred".to_owned(),
    ] {
        assert!(protocol.contains(&sentence), "docs/protocol.md lacks: {sentence}");
    }
    assert_eq!((large, large_on_text), (0.0, 0.0));
}
