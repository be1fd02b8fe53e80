//! What `basislab run` shows of its arms on a terminal.

use crate::sharing::lab;
use crate::support::terminal::OnTerminal;
use basislab_tables::{EvalRow, ResidualRow, read_table};
use std::path::Path;
use std::process::Command;

/// What is written to a terminal of that width, without what moves the cursor.
fn shown(dir: &Path, width: u16, extra: &[&str], colour: bool) -> (String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_basislab"));
    command.args(["run", "lab.toml", "--jobs", "1", "--no-reuse"]).args(extra).current_dir(dir).env("TERM", "xterm");
    if colour {
        command.env_remove("NO_COLOR")
    } else {
        command.env("NO_COLOR", "1")
    };
    let (status, written) = OnTerminal::start(command, (width, 30), false).end();
    assert_eq!(status.code(), Some(0), "{written}");
    let mut plain = String::new();
    let mut parts = written.split('\u{1b}');
    plain += parts.next().unwrap();
    for part in parts {
        let end = part.find(|c: char| c.is_ascii_alphabetic()).unwrap();
        plain += if part[end..].starts_with('m') { "" } else { "\n" };
        plain += &part[end + 1..];
    }
    // A line is written to its last column, after which the terminal begins another one.
    let lines = plain.split(['\r', '\n']).map(|line| line.chars().collect::<Vec<_>>());
    let rows =
        lines.flat_map(|line| line.chunks(usize::from(width)).map(|row| row.iter().collect()).collect::<Vec<String>>());
    (rows.map(|row| row.trim_end().to_owned() + "\n").collect(), written)
}

/// Loss, loss over the floor, kurtosis and its mean over random bases at a probe, as they are shown.
fn probes(part: &Path) -> Vec<[String; 4]> {
    let rows = read_table::<ResidualRow>(part).unwrap();
    let of = |eval: EvalRow| {
        let here = |row: &&ResidualRow| {
            let site = row.site.to_string() == "blocks.1.resid_post" && row.tokens.to_string() == "rest";
            row.step == eval.step && site && row.metric == "token_kurtosis"
        };
        let value = rows.iter().filter(here).find(|row| row.basis.to_string() == "standard").unwrap().value;
        let draws: Vec<f64> = rows
            .iter()
            .filter(here)
            .filter(|row| row.basis.to_string().starts_with("random"))
            .filter_map(|row| row.value)
            .collect();
        let null = (!draws.is_empty()).then(|| draws.iter().sum::<f64>() / draws.len() as f64);
        let cell =
            |value: Option<f64>, digits: usize| value.map_or("-".to_owned(), |value| format!("{value:.digits$}"));
        [cell(eval.loss, 3), cell(eval.loss_above_floor, 3), cell(value, 2), cell(null, 2)]
    };
    read_table::<EvalRow>(part).unwrap().into_iter().map(of).collect()
}

#[test]
fn a_line_per_arm_has_the_numbers_of_the_tables() {
    let dir = lab(&[("seeds", "[0, 1]"), ("train.steps", "600"), ("probe.every", "150")]);
    let at = dir.path();
    let (plain, written) = shown(at, 80, &["--out", "o"], false);
    assert!(plain.lines().all(|line| line.chars().count() <= 80), "{plain}");
    assert!(!written.contains("\u{1b}[3") && !written.contains("\u{1b}[1;3"), "NO_COLOR: {written:?}");
    let mut seen = 0;
    for arm in ["adam", "sgd"] {
        let of_seeds = [0, 1].map(|seed| probes(&at.join(format!("o/parts/{arm}/{seed}"))));
        let rows = plain.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let rows: Vec<Vec<&str>> =
            rows.filter(|row| row.len() == 9 && row[0] == arm && row[1].ends_with("/2")).collect();
        // One at a time: what is shown is a probe of the run that trains, before its first one nothing, or the end of the first.
        for row in &rows {
            let numbers: [String; 4] = std::array::from_fn(|at| row[3 + at].to_owned());
            let is_known = numbers.iter().all(|cell| cell == "-") || of_seeds.concat().contains(&numbers);
            assert!(row[1] == "2/2" || is_known, "{row:?} is not in {of_seeds:?}");
            seen += usize::from(is_known && numbers[0] != "-");
        }
        let ended = rows.iter().find(|row| row[1] == "1/2").unwrap();
        assert_eq!(ended[3..7], of_seeds[0].last().unwrap()[..], "after the first run");
        let means = rows.iter().find(|row| row[1] == "2/2").unwrap();
        let mean =
            |at: usize| of_seeds.iter().map(|all| all.last().unwrap()[at].parse::<f64>().unwrap()).sum::<f64>() / 2.0;
        for column in 0..4 {
            let found: f64 = means[3 + column].parse().unwrap();
            assert!((found - mean(column)).abs() < 0.011, "{means:?}: expected about {}", mean(column));
        }
        assert_eq!(means[2], "600");
    }
    assert!(seen >= 4, "{seen} lines with numbers in\n{plain}");
}

#[test]
fn narrow_terminals_show_fewer_columns() {
    let dir = lab(&[("seeds", "[0]"), ("train.steps", "300"), ("probe.every", "150")]);
    for (width, shown_columns, hidden) in
        [(80, vec!["tokens/s", "ETA"], ""), (40, vec!["arm", "step"], "tokens/s"), (24, vec!["arm"], "loss")]
    {
        let (plain, _) = shown(dir.path(), width, &["--out", &format!("o{width}")], width == 40);
        let titles = plain.lines().find(|line| line.starts_with("arm")).unwrap();
        assert!(shown_columns.iter().all(|title| titles.contains(title)), "{width}: {titles}");
        assert!(hidden.is_empty() || !titles.contains(hidden), "{width}: {titles}");
        let of_arms = plain.lines().filter(|line| line.starts_with("arm") || line.starts_with("adam "));
        assert!(of_arms.clone().count() > 2);
        of_arms.for_each(|line| assert!(line.chars().count() < usize::from(width), "{width}: {line:?}"));
    }
}
