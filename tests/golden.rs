//! Golden files of a smoke run: headers, keys and row counts exactly; what is measured to 1e-4 relative, statistics over
//! two seeds to 1e-3: which instructions a CPU has shows in the seventh digit of a loss, and an interval with one degree
//! of freedom multiplies differences by 13.
//! `UPDATE_GOLDEN=1 cargo test --release golden` renews them; say why in the commit.

mod numerics;

use crate::support::root;
use std::path::Path;
use std::process::Command;

#[test]
fn a_smoke_run_writes_what_it_always_wrote() {
    let dir = tempfile::TempDir::new().unwrap();
    let args = ["run", "adam-vs-sgd", "--smoke", "--seeds", "0..2", "--quiet", "--out", "o"];
    let output = Command::new(env!("CARGO_BIN_EXE_basislab")).args(args).current_dir(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let golden = root().join("tests/golden");
    for (name, tolerance) in [("steps.csv", 1e-4), ("evals.csv", 1e-4), ("summary.csv", 1e-3), ("verdicts.csv", 1e-3)] {
        let text = std::fs::read_to_string(dir.path().join("o").join(name)).unwrap();
        // Where a summary was made is not the same everywhere.
        let text = text.lines().map(|line| line.split(",flex: ").next().unwrap().split(",\"flex: ").next().unwrap());
        compare(&(text.collect::<Vec<_>>().join("\n") + "\n"), &golden.join(name), tolerance);
    }
    // The large tables: header, number of rows, and one row in 97.
    for name in ["residual.csv", "dimensions.csv", "dimension_steps.csv"] {
        let text = std::fs::read_to_string(dir.path().join("o").join(name)).unwrap();
        let count = text.lines().count();
        let thin: Vec<&str> =
            text.lines().enumerate().filter(|(n, _)| *n == 0 || n % 97 == 1).map(|(_, line)| line).collect();
        compare(&format!("{}\nrows {count}\n", thin.join("\n")), &golden.join(name), 1e-4);
    }
    let package = std::fs::read_to_string(dir.path().join("o/datapackage.json")).unwrap();
    compare(&package, &golden.join("datapackage.json"), 0.0);
}

fn compare(found: &str, file: &Path, tolerance: f64) {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(file.parent().unwrap()).unwrap();
        std::fs::write(file, found).unwrap();
    }
    let expected = std::fs::read_to_string(file).unwrap();
    let name = file.display();
    // Cells, and the numbers of a list in one.
    let between = [',', ' '];
    assert_eq!(found.lines().count(), expected.lines().count(), "{name}: number of rows");
    for (number, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        let (cells, wanted): (Vec<&str>, Vec<&str>) =
            (found.split(between).collect(), expected.split(between).collect());
        assert_eq!(cells.len(), wanted.len(), "{name}:{}: {found}", number + 1);
        for (cell, wanted) in cells.iter().zip(wanted) {
            let close = match (cell.parse::<f64>(), wanted.parse::<f64>()) {
                (Ok(a), Ok(b)) => (a - b).abs() <= tolerance * b.abs().max(1e-2),
                _ => *cell == wanted,
            };
            assert!(close, "{name}:{}: {cell} is not {wanted}\n found    {found}\n expected {expected}", number + 1);
        }
    }
}
