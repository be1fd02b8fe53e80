use crate::Beside;
use crate::fixture::{effect, experiment, name, rows, tables, write_part};
use crate::summary::summarise;
use crate::*;
use basislab_tables::*;
use std::fs;
use std::path::Path;

#[test]
fn headers_are_the_contract() {
    let golden = [
        "arm,metric,site,n_seeds,mean,sd,ci_low,ci_high,null_mean,null_sd,ratio,bases,seeds_above,seeds_below,basis,tokens,step,seeds_planned,made_on",
        "claim,verdict,comparison,direction,kind,metric,site,tokens,basis,step,n_seeds,estimate,ci_low,ci_high,ratio,ratio_low,ratio_high,p,p_test,p_holm,margin,primary,registration,note,rule",
        "arm,seed,step,site,tokens,basis,bases,p,metric,value,null_mean,null_sd,z_of_log,alignment,bases_at_most",
        "arm,seed,step,site,layer,basis,tokens,dim,rms,ratio,threshold,bases,rank,first_step",
        "arm,point,values,seeds,mean_loss,sd,behind,behind_se,near_best,n_diverged,n_missing,chosen",
        "arm,seed,step,tokens,lr,train_loss,grad_norm,status",
        "arm,seed,step,split,loss,loss_above_floor",
        "arm,seed,step,site,layer,tokens,tokens_used,basis,metric,value",
        "arm,seed,step,site,layer,dim,mean,rms,variance,skewness,kurtosis,min,max,max_abs,share_of_energy,basis,tokens",
        "arm,seed,step,site,layer,basis,tokens,rms,fourth_moment,null_shares",
        "arm,seed,seconds,train_seconds,probe_seconds,tokens_per_second,started,backend,device,driver",
        "model,step,format,architecture,parameters,d_model,n_layers,d_vocab,sequences,tokens,predicted_tokens,predicted_bytes,loss,bits_per_byte,unigram_loss,verified",
        "model,step,site,layer,dim,size,ratio,threshold,rank,persistence",
        "model,step,site,layer,sequence,position,token,text,dim,value,ratio,first",
        "model,step,site,layer,sequence,position,token,text,share,share_of_group,first",
        "model,step,interventions,loss_before,loss,mean_change,largest_change,relative_change",
        "model,step,quantized,levels,granularity,rotated,special,loss,perplexity,loss_increase,loss_increase_alike,standard_error,relative_error,relative_error_later,destroyed",
        "model,step,kurtosis,max_median,first_token_size,special_dimensions,hadamard_block,weights_left_out,rotation_left_out,special_left_out",
    ];
    let found: Vec<String> = TABLES.iter().map(|table| table.header()).collect();
    assert_eq!(found, golden);
}

#[test]
fn every_row_has_the_columns_of_its_table_and_reads_back() {
    let experiment = experiment(2);
    let tables = tables(&experiment, effect);
    round_trip(&tables.steps[..3]);
    round_trip(&tables.evals[..3]);
    round_trip(&tables.residual.to_rows()[..3]);
    round_trip(&tables.dimensions[..3]);
    round_trip(&summarise(&experiment, &tables));
    round_trip(&super::rows_of_claims(&experiment, &tables));
    round_trip(&[timing()]);
    round_trip(&[SelectionRow {
        arm: name("adam"),
        point: name("adam-lr-0.003"),
        values: "optimizer.lr = 0.003, model.norm = rms".to_owned(),
        seeds: "1000, 1001".to_owned(),
        mean_loss: None,
        sd: Some(0.25),
        behind: Some(0.01),
        behind_se: None,
        near_best: false,
        n_diverged: 1,
        n_missing: 0,
        chosen: true,
    }]);
}

fn round_trip<R: TableRow + PartialEq + std::fmt::Debug>(rows: &[R]) {
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.serialize(&rows[0]).unwrap();
    let text = String::from_utf8(writer.into_inner().unwrap()).unwrap();
    let names: Vec<&str> = R::TABLE.columns.iter().map(|column| column.name).collect();
    assert_eq!(text.lines().next().unwrap(), names.join(","), "{}", R::TABLE.file);
    let dir = tempfile::tempdir().unwrap();
    write_table(dir.path(), rows).unwrap();
    assert_eq!(read_table::<R>(dir.path()).unwrap(), rows);
}

#[test]
fn the_schema_describes_every_column() {
    let dir = tempfile::tempdir().unwrap();
    for table in TABLES {
        fs::write(dir.path().join(table.file), "").unwrap();
    }
    let schema = data_package(dir.path());
    let resources = schema["resources"].as_array().unwrap();
    assert_eq!(resources.len(), TABLES.len());
    for (resource, table) in resources.iter().zip(TABLES) {
        assert_eq!(resource["path"], table.file);
        assert_eq!(resource["schema"]["missingValues"], serde_json::json!([""]));
        for (field, column) in resource["schema"]["fields"].as_array().unwrap().iter().zip(table.columns) {
            assert_eq!(field["name"], column.name);
            assert!(field["description"].as_str().is_some_and(|about| !about.is_empty()), "{}", column.name);
            let number = matches!(column.cell, CellType::Number | CellType::MaybeNumber);
            assert_eq!(field["type"] == "number", number, "{} {}", table.file, column.name);
        }
    }
}

#[test]
fn numbers_that_are_not_finite_never_reach_a_file() {
    let dir = tempfile::tempdir().unwrap();
    let mut shard = Shard::create(dir.path()).unwrap();
    let experiment = experiment(1);
    let mut step = tables(&experiment, effect).steps[0].clone();
    step.train_loss = Some(f64::NAN);
    step.grad_norm = Some(f64::INFINITY);
    shard.push(Row::Step(step.clone())).unwrap();
    step.lr = f64::NAN;
    let error = shard.push(Row::Step(step)).unwrap_err().to_string();
    assert!(error.contains("steps.csv") && error.contains("NaN"), "{error}");
    let _ = shard.sync().unwrap();
    assert_eq!(
        fs::read_to_string(dir.path().join("steps.csv")).unwrap().lines().nth(1),
        Some("adam,0,1,1024,0.0001,,,ok")
    );
}

#[test]
fn a_crash_leaves_whole_lines_up_to_the_last_look() {
    let dir = tempfile::tempdir().unwrap();
    let experiment = experiment(1);
    let steps = tables(&experiment, effect).steps;
    let mut shard = Shard::create(dir.path()).unwrap();
    shard.push(Row::Step(steps[0].clone())).unwrap();
    shard.commit().unwrap();
    shard.push(Row::Step(steps[1].clone())).unwrap();
    drop(shard);
    assert_eq!(read_table::<StepRow>(dir.path()).unwrap(), steps[..1]);
}

#[test]
fn the_merge_follows_the_configuration_and_not_the_order_of_writing() {
    let dir = tempfile::tempdir().unwrap();
    let mut experiment = experiment(0);
    experiment.arms.iter_mut().filter(|arm| arm.seeds.is_empty()).for_each(|arm| arm.seeds = vec![3, 1]);
    experiment.arms.iter_mut().for_each(|arm| arm.run.train.steps = 2);
    experiment.shared.train.steps = 2;
    for (arm, seed) in [("sgd", 1), ("adam", 1), ("sgd", 3), ("adam", 3), ("adam-identity", 0)] {
        write_part(dir.path(), arm, seed, rows(&experiment, arm, seed, effect(arm, seed)));
    }
    fs::create_dir_all(part_dir(dir.path(), &name("adam-rotated"), 3)).unwrap();
    let cut = part_dir(dir.path(), &name("adam"), 1).join("steps.csv");
    // A run that has not ended is left out.
    fs::write(&cut, fs::read_to_string(&cut).unwrap() + "adam,1,3,30").unwrap();
    fs::remove_file(cut.with_file_name("done.json")).unwrap();
    write_timing(&part_dir(dir.path(), &name("adam"), 3), &timing()).unwrap();
    merge(dir.path(), &experiment).unwrap();
    let found = read_tables(dir.path()).unwrap();
    let order: Vec<(&str, u64, u64)> = found.steps.iter().map(|row| (row.arm.as_str(), row.seed, row.step)).collect();
    let runs = [("adam", 3), ("sgd", 3), ("sgd", 1), ("adam-identity", 0)];
    let expected: Vec<(&str, u64, u64)> =
        runs.iter().flat_map(|&(arm, seed)| [(arm, seed, 1), (arm, seed, 2)]).collect();
    assert_eq!(order, expected);
    assert_eq!(found.timing, [timing()]);

    let before = fs::read(dir.path().join("residual.csv")).unwrap();
    merge(dir.path(), &experiment).unwrap();
    assert_eq!(fs::read(dir.path().join("residual.csv")).unwrap(), before);
}

#[test]
fn a_column_of_numbers_has_one_among_its_first_cells() {
    let experiment = experiment(2);
    let all = tables(&experiment, effect).residual.to_rows();
    let layered = all.iter().find(|row| row.layer.is_some()).unwrap();
    let mut written = vec![ResidualRow { layer: None, value: None, ..all[0].clone() }; 150];
    for (number, row) in written.iter_mut().enumerate() {
        row.tokens_used = number as u64;
    }
    written[120].layer = layered.layer;
    written[99].value = Some(1.5);
    written[140].layer = layered.layer;
    let dir = tempfile::tempdir().unwrap();
    write_table(dir.path(), &written).unwrap();
    let found: Vec<ResidualRow> = read_table(dir.path()).unwrap();
    let order: Vec<u64> = found.iter().map(|row| row.tokens_used).collect();
    let expected: Vec<u64> = std::iter::once(120).chain(0..120).chain(121..150).collect();
    assert_eq!(order, expected, "one row is brought forward, and none is lost");
    assert_eq!(found[0], written[120]);
    // A column without a number stays as it is, and so does a table whose first rows have them all.
    for row in &mut written {
        row.layer = None;
    }
    write_table(dir.path(), &written).unwrap();
    assert_eq!(read_table::<ResidualRow>(dir.path()).unwrap(), written);
    // The same where parts are joined: each keeps its own order.
    for (seed, layers) in [(0, true), (1, false)] {
        let row = |number: usize| {
            let layer = layered.layer.filter(|_| layers && number > 110);
            Row::Residual(ResidualRow { seed, layer, tokens_used: number as u64, ..all[0].clone() })
        };
        let ended = rows(&experiment, "adam", seed, effect("adam", seed)).into_iter();
        let ended = ended.filter(|row| matches!(row, Row::Step(_) | Row::Eval(_)));
        write_part(dir.path(), "adam", seed, ended.chain((0..120).map(row)).collect());
    }
    merge(dir.path(), &experiment).unwrap();
    let joined: Vec<u64> = read_table::<ResidualRow>(dir.path()).unwrap().iter().map(|row| row.tokens_used).collect();
    assert_eq!(joined, std::iter::once(111).chain(0..111).chain(112..120).chain(0..120).collect::<Vec<u64>>());
}

#[test]
fn a_shard_goes_on_where_it_was_and_cuts_off_the_rest() {
    let dir = tempfile::tempdir().unwrap();
    let experiment = experiment(1);
    let steps = tables(&experiment, effect).steps;
    let mut shard = Shard::create(dir.path()).unwrap();
    shard.push(Row::Step(steps[0].clone())).unwrap();
    let extents = shard.sync().unwrap();
    shard.push(Row::Step(steps[1].clone())).unwrap();
    shard.commit().unwrap();
    drop(shard);
    let path = dir.path().join("steps.csv");
    let all = fs::read(&path).unwrap();
    // Wherever a kill tore the later row.
    for cut in extents["steps.csv"].bytes as usize..all.len() {
        fs::write(&path, &all[..cut]).unwrap();
        let mut shard = Shard::resume(dir.path(), &extents).unwrap().unwrap();
        shard.push(Row::Step(steps[1].clone())).unwrap();
        let _ = shard.sync().unwrap();
        assert_eq!(fs::read(&path).unwrap(), all, "cut at {cut}");
    }
    // What came before must be what it was.
    for damaged in [all[..10].to_vec(), [b"x", &all[1..]].concat()] {
        fs::write(&path, damaged).unwrap();
        assert!(Shard::resume(dir.path(), &extents).unwrap().is_none());
    }
    fs::remove_file(&path).unwrap();
    assert!(Shard::resume(dir.path(), &extents).unwrap().is_none());
}

#[test]
fn rows_never_go_to_a_file_that_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let experiment = experiment(1);
    let mut shard = Shard::create(dir.path()).unwrap();
    shard.push(Row::Step(tables(&experiment, effect).steps[0].clone())).unwrap();
    fs::remove_file(dir.path().join("steps.csv")).unwrap();
    let error = shard.commit().unwrap_err().to_string();
    assert!(error.contains("steps.csv") && error.contains("bytes to write"), "{error}");
}

#[test]
fn a_number_that_was_edited_is_not_reported() {
    let dir = tempfile::tempdir().unwrap();
    let mut experiment = experiment(1);
    experiment.arms.iter_mut().for_each(|arm| arm.run.train.steps = 2);
    experiment.shared.train.steps = 2;
    write_part(dir.path(), "adam", 0, rows(&experiment, "adam", 0, effect("adam", 0)));
    let part = part_dir(dir.path(), &name("adam"), 0);
    fs::remove_file(part.join("done.json")).unwrap();
    let tables = fs::read_dir(&part).unwrap().map(|entry| entry.unwrap().path());
    let extent = |path: &Path| basislab_store::Extent::of(&fs::read(path).unwrap());
    let tables = tables.map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), extent(&path))).collect();
    let done = RunEnd { state: Ending::Complete, step: 2, tensor: None, tables };
    done.write(&part).unwrap();
    assert_eq!(RunEnd::read(&part).unwrap(), Some(done));
    report_so_far(dir.path(), &experiment, Beside::default()).unwrap();
    crate::seal(dir.path(), &experiment).unwrap();
    // At the top: well-formed, but another number.
    let top = dir.path().join("steps.csv");
    let good = fs::read_to_string(&top).unwrap();
    fs::write(&top, good.replacen("adam,0,1,", "adam,0,7,", 1)).unwrap();
    let error = report(dir.path(), &experiment, &Records::read(dir.path(), &experiment), None, Beside::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("steps.csv: changed since it was written"), "{error}");
    fs::write(&top, &good).unwrap();
    // In the part of a run that has ended.
    let cell = part.join("evals.csv");
    let text = fs::read_to_string(&cell).unwrap();
    fs::write(&cell, text.replacen("adam,0,", "adam,1,", 1)).unwrap();
    let error = report(dir.path(), &experiment, &Records::read(dir.path(), &experiment), None, Beside::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("evals.csv: changed since its run ended"), "{error}");
    assert!(dir.path().join("SHA256SUMS").exists() && fs::read_to_string(&top).unwrap() == good, "nothing is touched");
    // A table of an ended run that is gone is no table without rows.
    fs::remove_file(&cell).unwrap();
    let error = report(dir.path(), &experiment, &Records::read(dir.path(), &experiment), None, Beside::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("evals.csv: cannot read"), "{error}");
    fs::write(part.join("done.json"), "{\"state\": \"finished\"}").unwrap();
    let error = report(dir.path(), &experiment, &Records::read(dir.path(), &experiment), None, Beside::default())
        .unwrap_err()
        .to_string();
    assert!(error.contains("done.json"), "{error}");
}

#[test]
fn the_reader_says_where_and_what() {
    let header = "arm,seed,step,split,loss,loss_above_floor";
    let good = format!("{header}\nadam,0,600,held-out,3.4,\n");
    for (text, expected) in [
        (
            format!("\u{feff}{good}"),
            "evals.csv:1:1: found a byte order mark (re-saved by a spreadsheet?), expected arm,seed,",
        ),
        (
            "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n".to_owned(),
            "evals.csv:1:1: found a Git LFS pointer, not the data: run `git lfs pull`",
        ),
        (good.replace(',', ";"), "evals.csv:1:1: found columns that no comma separates (re-saved by a spreadsheet?)"),
        (good.replace("split", "part"), "evals.csv:1:15: found \"part\", expected the column split"),
        (
            good.replace("3.4", "nan"),
            "evals.csv:2:21: found \"nan\", expected a finite number or an empty cell in loss",
        ),
        (good.replace("600", "six"), "evals.csv:2:8: found \"six\", expected an integer in step"),
        (good.replace("held-out", "train"), "evals.csv:2:12: found \"train\", expected held-out in split"),
        (good.replace(",3.4,", ""), "evals.csv:2:21: found 4 cells, expected 6 cells (loss is missing)"),
        (String::new(), "evals.csv:1:1: found no header"),
    ] {
        let error = read_evals(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}\nexpected {expected}");
    }
    let extra = good.replace("floor", "floor,added").replace("3.4,", "3.4,,1");
    for text in [good.clone(), extra, good.clone() + "adam,0,7", good.replace('\n', "\r\n")] {
        assert_eq!(read_evals(&text).unwrap().len(), 1, "{text}");
    }
}

fn read_evals(text: &str) -> Result<Vec<EvalRow>, ReadError> {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("evals.csv"), text).unwrap();
    read_table(dir.path())
}

fn timing() -> TimingRow {
    TimingRow {
        arm: name("adam"),
        seed: 3,
        seconds: 13.5,
        train_seconds: 12.0,
        probe_seconds: 1.5,
        tokens_per_second: 51200.0,
        started: "2026-01-31T12:00:00.123456789Z".to_owned(),
        backend: "wgpu".to_owned(),
        device: "a GPU, or \"so\"".to_owned(),
        driver: "1.2".to_owned(),
    }
}

#[test]
fn no_text_cell_is_a_formula_and_numbers_stay_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let experiment = experiment(1);
    let mut row = super::rows_of_claims(&experiment, &tables(&experiment, effect)).swap_remove(0);
    row.margin = Some(-1.5);
    for start in ['=', '+', '-', '@', '\t', '\r'] {
        row.note = format!("{start}cmd|' /C calc'!A0");
        write_table(dir.path(), std::slice::from_ref(&row)).unwrap();
        let mut reader = csv::Reader::from_path(dir.path().join("verdicts.csv")).unwrap();
        let record = reader.records().next().unwrap().unwrap();
        assert_eq!(record[23], format!("'{}", row.note));
        assert_eq!(&record[20], "-1.5");
    }
}
