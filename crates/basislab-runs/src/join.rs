//! Runs that workers without a common file system trained, joined in one directory.

use crate::error::RunsError;
use crate::held::{HeldRun, Taken};
use crate::plan::Job;
use crate::recorder::table_files;
use crate::reuse::copy_folder;
use basislab_store::{Extent, is_link, is_plain_folder, read_capped, remove, write_atomic};
use basislab_tables::{Identity, RunEnd, RunRecord, part_dir};
use std::path::Path;

/// Copies the finished runs of another directory of the same experiment, as far as they are not here, and returns how many
/// were copied. Runs that are in both must be the same.
///
/// # Errors
/// A run of another identity than `identify` says, one whose tables are not what it wrote, one with other tables than the
/// one that is here, or files that cannot be read or written.
pub fn join_runs(
    dir: &Path,
    jobs: &[Job<'_>],
    identify: &dyn Fn(&Job<'_>) -> Identity,
    from: &Path,
) -> Result<usize, RunsError> {
    let mut copied = 0;
    for job in jobs {
        let (arm, seed) = (&job.arm.name, job.seed);
        let (there, here) = (part_dir(from, arm, seed), part_dir(dir, arm, seed));
        let refuse = |what: String| Err(RunsError::identity(format!("{}: {what}", there.display())));
        let Some(end) = RunEnd::read(&there)? else { continue };
        let expected = identify(job);
        let record = RunRecord::read(&there)?;
        let Some(record) = record.filter(|record| record.identity == expected) else {
            return refuse("holds a run of another identity than the one that is planned; do not join it".to_owned());
        };
        if let Some(known) = RunEnd::read(&here)? {
            if known != end {
                let (cpus, here) = (cpus(&record), here.display());
                return refuse(format!(
                    "found other tables than in {here}, expected the same bits of one run; {cpus}; keep one of them"
                ));
            }
            continue;
        }
        if is_link(&there) || !is_plain_folder(&there) {
            return refuse("found something that is no plain file or folder, expected what a run writes".to_owned());
        }
        let held = match HeldRun::take(dir, (arm, seed), true, true)? {
            Taken::Free(held) => held,
            Taken::Ended | Taken::Failed(_) => continue,
            Taken::Busy(owner) => {
                let what = format!("{arm} seed {seed}: another process has it ({owner}); join when it has ended");
                return Err(RunsError::busy(what));
            }
        };
        let own = held.folder()?;
        let filled = fill(&there, &own, &record, &end);
        if filled.is_err() {
            // The first error counts.
            let _ = remove(&own);
        }
        filled?;
        held.publish(&own, &end)?;
        held.end()?;
        copied += 1;
    }
    Ok(copied)
}

fn fill(there: &Path, own: &Path, record: &RunRecord, end: &RunEnd) -> Result<(), RunsError> {
    for file in table_files() {
        let path = there.join(file);
        let bytes = read_capped(&path, u64::MAX)?;
        if end.tables.get(file).is_some_and(|extent| Extent::of(&bytes) != *extent) {
            let what = "changed since its run ended, expected the bytes that done.json lists; copy it again";
            return Err(RunsError::identity(format!("{}: {what}", path.display())));
        }
        write_atomic(&own.join(file), &bytes)?;
    }
    copy_folder(&there.join("checkpoints"), &own.join("checkpoints"))?;
    record.write(own)?;
    Ok(end.write(own)?)
}

/// On which CPUs a run was trained.
fn cpus(record: &RunRecord) -> String {
    let all = record.builds.iter().map(|build| build["machine"]["cpu"].as_str().unwrap_or("an unknown CPU"));
    format!("this one was trained on {}", all.collect::<Vec<_>>().join(" and "))
}
