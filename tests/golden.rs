//! Golden files of a smoke run: headers, keys and row counts exactly; what is measured to 1e-4 relative, statistics over
//! two seeds to 1e-3: which instructions a CPU has shows in the seventh digit of a loss, and an interval with one degree
//! of freedom multiplies differences by 13.
//! `UPDATE_GOLDEN=1 cargo test --release golden` renews them; say why in the commit.

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
    for name in ["residual.csv", "dimensions.csv"] {
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
    assert_eq!(found.lines().count(), expected.lines().count(), "{name}: number of rows");
    for (number, (found, expected)) in found.lines().zip(expected.lines()).enumerate() {
        let (cells, wanted): (Vec<&str>, Vec<&str>) = (found.split(',').collect(), expected.split(',').collect());
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

/// `tests/golden/numerics.txt`: for each version of the numbers and each class of CPUs the hash of what this run wrote, bit
/// for bit. Where the bits of a class change, raise `NUMERICS` in `crates/basislab-runs/src/identity.rs`; `UPDATE_GOLDEN=1`
/// then adds the new line, and never changes one. A class without a line is not compared.
#[test]
fn other_bits_are_another_version_of_the_numbers() {
    let dir = tempfile::TempDir::new().unwrap();
    let args = ["run", "adam-vs-sgd", "--smoke", "--quiet", "--no-reuse", "--out", "o"];
    let output = Command::new(env!("CARGO_BIN_EXE_basislab")).args(args).current_dir(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let tables = ["steps.csv", "evals.csv", "residual.csv", "dimensions.csv"];
    let bytes: Vec<u8> =
        tables.iter().flat_map(|name| std::fs::read(dir.path().join("o").join(name)).unwrap()).collect();
    let (version, class) = (basislab_runs::NUMERICS.to_string(), class_of_cpu());
    let line = format!("{version} {class} {}", basislab_store::sha256(&bytes));
    let path = root().join("tests/golden/numerics.txt");
    let mut lines: Vec<String> =
        std::fs::read_to_string(&path).unwrap_or_default().lines().map(str::to_owned).collect();
    let known = |lines: &[String]| lines.iter().find(|line| line.starts_with(&format!("{version} {class} "))).cloned();
    if std::env::var_os("UPDATE_GOLDEN").is_some() && known(&lines).is_none() {
        lines.push(line.clone());
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
    }
    assert!(lines.iter().any(|line| line.starts_with(&format!("{version} "))), "no line for version {version}");
    let of_class = known(&lines);
    assert!(of_class.is_none_or(|known| known == line), "other bits than before: raise NUMERICS");
}

/// What chooses the instructions of kernels, and with them the order of sums.
fn class_of_cpu() -> String {
    #[cfg(target_arch = "x86_64")]
    let level = match (is_x86_feature_detected!("avx512f"), is_x86_feature_detected!("avx2")) {
        (true, _) => "avx512f",
        (false, true) => "avx2",
        (false, false) => "sse2",
    };
    #[cfg(not(target_arch = "x86_64"))]
    let level = "any";
    format!("{}-{}-{level}", std::env::consts::OS, std::env::consts::ARCH)
}
