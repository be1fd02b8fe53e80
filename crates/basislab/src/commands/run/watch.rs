//! Figures while runs train.

use crate::experiments::library;
use crate::training::Place;
use basislab_config::Experiment;
use basislab_report::{Beside, OVER_STEPS, report_so_far};
use basislab_runs::{finished, jobs, open};
use basislab_store::Lock;
use std::sync::Mutex;

/// A first picture as soon as the first run is through, then one whenever a seed is through in every arm. Left out while
/// another process has the directory's lock. `drawn` says whether there is a picture, and is held while the report is made.
pub(super) fn draw(place: Place<'_>, experiment: &Experiment, seed: u64, drawn: &Mutex<bool>) -> anyhow::Result<()> {
    let mut drawn = drawn.lock().expect("no panic while held");
    let mut through = true;
    for job in jobs(experiment).iter().filter(|job| job.seed == seed) {
        through &= finished(place.dir, job)?.is_some();
    }
    if seed != experiment.seeds[0] && !through {
        return Ok(());
    }
    let _lock = match Lock::take(place.dir) {
        _ if !place.locks => None,
        Ok(lock) => Some(lock),
        Err(_) => return Ok(()),
    };
    report_so_far(place.dir, &open(place.dir, library())?.experiment, Beside::default())?;
    if !*drawn {
        let figure = place.dir.join("figures").join(OVER_STEPS);
        place.progress.line(&format!("  first picture: {} (redrawn as runs finish)", figure.display()));
        *drawn = true;
    }
    Ok(())
}
