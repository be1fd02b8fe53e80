use crate::error::ExportError;
use crate::events::{FILE, crc32c};
use crate::parquet::{ABOUT, GROUP};
use crate::{write_bundle, write_events, write_folder, write_parquet};
use basislab_tables::{EvalRow, TABLES, Table, TableRow};
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use serde_json::json;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// Files that tests compare with.
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden")
}

fn table(file: &str) -> &'static Table {
    TABLES.iter().find(|table| table.file == file).unwrap()
}

/// A value as the CSV file has it.
fn as_text(field: &Field) -> String {
    match field {
        Field::Null => String::new(),
        Field::Str(text) => text.clone(),
        Field::Long(number) => number.to_string(),
        Field::Double(number) => format!("{number:e}"),
        Field::Bool(yes) => yes.to_string(),
        other => panic!("{other:?}"),
    }
}

fn cell(text: &str, field: &Field) -> String {
    match field {
        Field::Double(_) => format!("{:e}", text.parse::<f64>().unwrap()),
        _ => text.to_owned(),
    }
}

fn assert_same_cells(csv: &Path, parquet: &Path) -> usize {
    let reader = SerializedFileReader::new(File::open(parquet).unwrap()).unwrap();
    let mut expected = csv::Reader::from_path(csv).unwrap();
    let names: Vec<String> = expected.headers().unwrap().iter().map(str::to_owned).collect();
    let mut rows = 0;
    for (line, row) in expected.records().zip(reader.get_row_iter(None).unwrap()) {
        let (line, row) = (line.unwrap(), row.unwrap());
        let found: Vec<(&str, String)> = row.get_column_iter().map(|(name, field)| (&**name, as_text(field))).collect();
        let fields: Vec<&Field> = row.get_column_iter().map(|(_, field)| field).collect();
        let wanted: Vec<(&str, String)> =
            names.iter().zip(&line).zip(fields).map(|((name, text), field)| (&**name, cell(text, field))).collect();
        assert_eq!(found, wanted);
        rows += 1;
    }
    assert_eq!(reader.metadata().file_metadata().num_rows(), rows as i64);
    rows
}

#[test]
fn every_cell_of_every_table_is_in_its_parquet_file() {
    let dir = TempDir::new().unwrap();
    let run = golden().join("../../results/adam-vs-sgd");
    let mut seen = 0;
    for table in TABLES.iter().filter(|table| run.join(table.file).is_file()) {
        let path = dir.path().join("table.parquet");
        let rows = write_parquet(&run, table, &path).unwrap();
        assert_eq!(assert_same_cells(&run.join(table.file), &path), rows as usize, "{}", table.file);
        let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
        let about = reader.metadata().file_metadata().key_value_metadata().unwrap();
        assert!(about.iter().any(|entry| entry.key == ABOUT && entry.value.as_ref().unwrap().contains(table.file)));
        seen += 1;
    }
    assert!(seen > 5, "only {seen} tables");
}

#[test]
fn rows_beyond_a_group_are_not_lost_and_empty_cells_stay_empty() {
    let dir = TempDir::new().unwrap();
    let mut text = format!("{}\n", EvalRow::TABLE.header());
    let count = 2 * GROUP + 3;
    for step in 0..count {
        let loss = if step % 3 == 0 { String::new() } else { format!("{step}.25") };
        text += &format!("a,0,{step},held-out,{loss},\n");
    }
    fs::write(dir.path().join("evals.csv"), text).unwrap();
    let path = dir.path().join("evals.parquet");
    assert_eq!(write_parquet(dir.path(), table("evals.csv"), &path).unwrap(), count as u64);
    assert_eq!(assert_same_cells(&dir.path().join("evals.csv"), &path), count);
    let reader = SerializedFileReader::new(File::open(&path).unwrap()).unwrap();
    let groups: Vec<i64> = reader.metadata().row_groups().iter().map(|group| group.num_rows()).collect();
    assert_eq!(groups, [GROUP as i64, GROUP as i64, 3]);
}

#[test]
fn a_wrong_cell_is_named_and_nothing_is_left() {
    let dir = TempDir::new().unwrap();
    fs::write(dir.path().join("evals.csv"), format!("{}\na,0,1,held-out,x,\n", EvalRow::TABLE.header())).unwrap();
    let error = write_parquet(dir.path(), table("evals.csv"), &dir.path().join("out")).unwrap_err().to_string();
    assert!(error.contains("evals.csv:2:16: found \"x\", expected a finite number"), "{error}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

/// The check value of the catalogue of such codes.
#[test]
fn the_checksum_is_castagnolis() {
    assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa); // RFC 3720, B.4
}

/// TensorBoard's own reader reads this file in the gate.
#[test]
fn event_files_are_what_they_were() {
    let dir = TempDir::new().unwrap();
    let line =
        |table: &Table, rows: &str| fs::write(dir.path().join(table.file), format!("{}\n{rows}", table.header()));
    line(table("steps.csv"), "a,7,1,64,0.5,2.5,1.0,ok\na,7,200,128,0.25,,,diverged\n").unwrap();
    line(table("evals.csv"), "a,7,1,held-out,3.0,1.5\n").unwrap();
    let rows = [("standard", "4.0"), ("random:0", "2.0"), ("random:1", "3.0"), ("optimizer", "")];
    let row = |(basis, value): (&str, &str)| format!("a,7,1,final,,rest,9,{basis},m,{value}\n");
    line(table("residual.csv"), &rows.map(row).concat()).unwrap();
    let out = dir.path().join("out");
    assert_eq!(write_events(dir.path(), &out).unwrap(), [format!("a/7/{FILE}")]);
    let found = fs::read(out.join("a/7").join(FILE)).unwrap();
    let golden = golden().join("events.tfevents");
    if std::env::var_os("BASISLAB_GOLDEN").is_some() {
        fs::write(&golden, &found).unwrap();
    }
    assert!(found == fs::read(golden).unwrap(), "other bytes than tests/golden/events.tfevents");
}

#[test]
fn a_bundle_repeats_its_bytes_and_replaces_nothing_else() {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("o");
    fs::create_dir_all(out.join("figures")).unwrap();
    let big = "0123456789abcdef".repeat(1 << 12);
    for (file, text) in [("config.toml", "x"), ("evals.csv", &big), ("figures/a.svg", "<svg/>"), ("notes.txt", "mine")]
    {
        fs::write(out.join(file), text).unwrap();
    }
    let zip = dir.path().join("o.zip");
    let names = write_bundle(&out, "o", &zip).unwrap();
    assert_eq!(names, ["config.toml", "evals.csv", "figures/a.svg", "cite.bib", "BUNDLE_SHA256SUMS"]);
    let first = fs::read(&zip).unwrap();
    assert!(first.len() < 8000, "{} bytes: nothing was compressed", first.len());
    write_bundle(&out, "o", &zip).unwrap();
    assert!(fs::read(&zip).unwrap() == first, "the same files gave other bytes");
    let mut archive = zip::ZipArchive::new(File::open(&zip).unwrap()).unwrap();
    let mut text = String::new();
    archive.by_name("o/evals.csv").unwrap().read_to_string(&mut text).unwrap();
    assert_eq!(text, big);
    let mut sums = String::new();
    archive.by_name("o/BUNDLE_SHA256SUMS").unwrap().read_to_string(&mut sums).unwrap();
    assert!(sums.contains(&format!("{}  evals.csv\n", basislab_store::sha256(big.as_bytes()))), "{sums}");
    fs::write(&zip, "somebody's file").unwrap();
    let error = write_bundle(&out, "o", &zip).unwrap_err().to_string();
    assert!(error.contains("no bundle of basislab"), "{error}");
    assert_eq!(fs::read(&zip).unwrap(), b"somebody's file");
}

#[test]
fn a_folder_is_replaced_only_where_an_export_wrote_all_of_it() {
    let dir = TempDir::new().unwrap();
    let out = dir.path().join("a/out");
    let export = |text: &str| {
        write_folder(&out, &json!({}), |folder| {
            fs::create_dir(folder.join("inner")).unwrap();
            fs::write(folder.join("inner/file"), text).unwrap();
            Ok::<_, ExportError>(vec!["inner/file".to_owned()])
        })
    };
    export("1").unwrap();
    export("2").unwrap();
    assert_eq!(fs::read_to_string(out.join("inner/file")).unwrap(), "2");
    fs::write(out.join("inner/notes.txt"), "mine").unwrap();
    let error = export("3").unwrap_err().to_string();
    assert!(error.contains("\"inner/notes.txt\", which the earlier export did not write"), "{error}");
    assert_eq!(fs::read_to_string(out.join("inner/file")).unwrap(), "2");
    fs::remove_file(out.join("export.json")).unwrap();
    assert!(export("3").unwrap_err().to_string().contains("no export.json"));
    let failed = write_folder(&dir.path().join("b"), &json!({}), |_| Err(ExportError::Foreign("no".to_owned())));
    assert_eq!(failed.unwrap_err().to_string(), "no");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "a failed export left something");
}
