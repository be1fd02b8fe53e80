use crate::{
    Checkpoint, CheckpointError, Extent, Lock, LockError, NamedTensor, clean, decode, encode, newest, save, sha256,
    write_atomic,
};
use safetensors::Dtype;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

fn owner() -> serde_json::Value {
    serde_json::json!({ "run": "e", "seed": 3 })
}

fn tensor(name: &str, shape: [usize; 2], first: u8) -> NamedTensor {
    let bytes = (0..shape[0] * shape[1] * 4).map(|i| first.wrapping_add(i as u8)).collect();
    NamedTensor { name: name.into(), dtype: Dtype::F32, shape: shape.to_vec(), bytes }
}

fn expected(tensors: &[NamedTensor]) -> Vec<(String, Dtype, Vec<usize>)> {
    tensors.iter().map(|t| (t.name.clone(), t.dtype, t.shape.clone())).collect()
}

fn checkpoint(step: u64) -> Checkpoint {
    let weights = encode(&[tensor("w_e", [5, 4], step as u8), tensor("blocks.0.w_q", [4, 4], 7)]);
    let optimizer = encode(&[tensor("w_e.first", [5, 4], 9), tensor("w_e.second", [5, 4], step as u8)]);
    let rows = format!("rows up to {step}");
    Checkpoint {
        step,
        files: BTreeMap::from([("weights.safetensors".into(), weights), ("optimizer.safetensors".into(), optimizer)]),
        tables: BTreeMap::from([(
            "steps.csv".into(),
            Extent { bytes: rows.len() as u64, sha256: sha256(rows.as_bytes()) },
        )]),
    }
}

fn load(root: &Path) -> (Result<Option<Checkpoint>, CheckpointError>, Vec<String>) {
    let mut passed = Vec::new();
    let found = newest(root, &owner(), &mut |_| Ok(None), &mut |error| passed.push(error.to_string()));
    (found, passed)
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    all.sort();
    all
}

#[test]
fn what_is_saved_is_loaded_and_two_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("checkpoints");
    assert!(load(&root).0.unwrap().is_none());
    for step in [2, 10, 9] {
        save(&root, &owner(), &checkpoint(step)).unwrap();
    }
    // By step, whatever the clock says.
    assert_eq!(load(&root).0.unwrap().unwrap(), checkpoint(10));
    let names: Vec<_> = files(&root).iter().map(|path| path.file_name().unwrap().to_owned()).collect();
    assert_eq!(names, ["0000000009", "0000000010"]);
    save(&root, &owner(), &checkpoint(10)).unwrap();
    assert_eq!(load(&root).0.unwrap().unwrap(), checkpoint(10));
}

#[test]
fn what_a_kill_left_is_removed_and_never_loaded() {
    let dir = tempfile::tempdir().unwrap();
    save(dir.path(), &owner(), &checkpoint(1)).unwrap();
    fs::create_dir(dir.path().join(".basislab-7-99")).unwrap();
    fs::write(dir.path().join(".basislab-7-99/weights.safetensors"), "half").unwrap();
    fs::create_dir(dir.path().join("0000000007")).unwrap();
    fs::write(dir.path().join("0000000007/weights.safetensors"), "no manifest").unwrap();
    let (found, passed) = load(dir.path());
    assert_eq!(found.unwrap().unwrap().step, 1);
    assert!(passed[0].contains("0000000007") && passed[0].contains("manifest.json"), "{passed:?}");
    clean(dir.path()).unwrap();
    assert_eq!(files(dir.path()).len(), 2);
    save(dir.path(), &owner(), &checkpoint(7)).unwrap();
    assert_eq!(load(dir.path()).0.unwrap().unwrap(), checkpoint(7));
}

#[test]
fn somebody_elses_checkpoint_and_a_mixture_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    for step in [1, 2] {
        save(dir.path(), &owner(), &checkpoint(step)).unwrap();
    }
    let other = serde_json::json!({ "run": "e", "seed": 4 });
    let error = newest(dir.path(), &other, &mut |_| Ok(None), &mut |_| {}).unwrap_err().to_string();
    assert!(error.contains("\"seed\":3") && error.contains("\"seed\":4"), "{error}");
    // Optimizer of step 1 under the weights of step 2.
    let file = "optimizer.safetensors";
    fs::copy(dir.path().join("0000000001").join(file), dir.path().join("0000000002").join(file)).unwrap();
    let (found, passed) = load(dir.path());
    assert_eq!(found.unwrap().unwrap().step, 1);
    assert!(passed[0].contains(file) && passed[0].contains("SHA-256"), "{passed:?}");
    fs::remove_dir_all(dir.path().join("0000000001")).unwrap();
    assert!(matches!(load(dir.path()).0, Err(CheckpointError::Damaged { .. })));
}

/// splitmix64
fn next(state: &mut u64) -> usize {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (z ^ (z >> 31)) as usize
}

#[test]
fn ten_thousand_damaged_checkpoints_are_passed_over() {
    let dir = tempfile::tempdir().unwrap();
    for step in [1, 2] {
        save(dir.path(), &owner(), &checkpoint(step)).unwrap();
    }
    let newer = dir.path().join("0000000002");
    let originals: Vec<(PathBuf, Vec<u8>)> =
        files(&newer).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    let older: Vec<Vec<u8>> =
        files(&dir.path().join("0000000001")).iter().map(|path| fs::read(path).unwrap()).collect();
    let mut state = 1;
    for round in 0..10_000 {
        let which = next(&mut state) % originals.len();
        let (path, bytes) = &originals[which];
        let mut damaged = bytes.clone();
        let at = next(&mut state) % bytes.len();
        match round % 5 {
            0 | 1 => damaged[at] ^= 1 << (next(&mut state) % 8),
            2 => damaged.truncate(at),
            3 => damaged[at..].fill(0),
            _ => damaged.clone_from(&older[(which + round / 5) % older.len()]),
        }
        if damaged == *bytes {
            continue;
        }
        fs::write(path, &damaged).unwrap();
        let (found, passed) = load(dir.path());
        assert_eq!(found.unwrap().unwrap(), checkpoint(1), "round {round}: {} at {at}", path.display());
        assert_eq!(passed.len(), 1);
        fs::write(path, bytes).unwrap();
    }
    assert_eq!(load(dir.path()).0.unwrap().unwrap(), checkpoint(2));
}

#[test]
fn tensors_come_back_and_every_difference_is_listed() {
    let all = [tensor("b", [2, 3], 1), tensor("a", [1, 4], 2)];
    let bytes = encode(&all);
    assert_eq!(bytes, encode(&all), "the same tensors are the same bytes");
    assert_eq!(decode(&bytes, &expected(&all)).unwrap(), all);
    let wanted = [
        ("a".to_owned(), Dtype::F64, vec![1, 4]),
        ("b".to_owned(), Dtype::F32, vec![3, 2]),
        ("c".to_owned(), Dtype::F32, vec![1, 1]),
    ];
    let error = decode(&bytes, &wanted).unwrap_err().to_string();
    for part in ["a: found F32 [1, 4], expected F64 [1, 4]", "b: found F32 [2, 3], expected F32 [3, 2]", "c is missing"]
    {
        assert!(error.contains(part), "{error}");
    }
    let error = decode(&bytes, &expected(&all[..1])).unwrap_err().to_string();
    assert!(error.contains("a is unknown"), "{error}");
}

#[cfg(unix)]
#[test]
fn an_atomic_write_leaves_one_file_that_others_may_read() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let plain = dir.path().join("plain");
    fs::write(&plain, "x").unwrap();
    let path = dir.path().join("atomic");
    write_atomic(&path, b"old").unwrap();
    write_atomic(&path, b"new").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"new");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode();
    assert_eq!(mode(&path), mode(&plain));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
    let error = write_atomic(&dir.path().join("absent/file"), b"").unwrap_err().to_string();
    assert!(error.contains("absent/file"), "{error}");
}

/// A holder removes the lock file while others have it open, and somebody makes a new one.
#[test]
fn a_lock_whose_file_comes_and_goes_has_one_holder_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let (holders, taken) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let contend = || {
        while taken.load(Ordering::SeqCst) < 20_000 {
            match Lock::take(dir.path()) {
                Ok(lock) => {
                    assert_eq!(holders.fetch_add(1, Ordering::SeqCst), 0, "two have the lock");
                    taken.fetch_add(1, Ordering::SeqCst);
                    std::thread::yield_now();
                    holders.fetch_sub(1, Ordering::SeqCst);
                    lock.remove().unwrap();
                }
                Err(LockError::Busy(_)) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    std::thread::scope(|scope| (0..4).for_each(|_| _ = scope.spawn(contend)));
}
