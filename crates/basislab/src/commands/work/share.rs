//! Which lines of a plan a worker is given.

use crate::args::WorkArgs;
use crate::exit::Exit;
use basislab_config::{count, integer};
use basislab_runs::{PlanFile, PlanLine};

/// The lines that the command line asks for, in the order of the plan: all of them with `--claim`.
pub(super) fn share<'p>(plan: &'p PlanFile, args: &WorkArgs) -> Result<Vec<&'p PlanLine>, Exit> {
    let in_stage = |line: &&PlanLine| args.stage.is_none_or(|stage| u64::from(line.stage) == stage);
    let all: Vec<&PlanLine> = plan.lines.iter().filter(in_stage).collect();
    let places = match (&args.shard, &args.index) {
        (Some(text), _) => {
            let (first, step) = shard(text)?;
            (first..all.len()).step_by(step).collect()
        }
        (None, Some(text)) => lines(text, all.len())?,
        (None, None) => (0..all.len()).collect(),
    };
    Ok(places.into_iter().map(|place| all[place]).collect())
}

/// `I/N`.
fn shard(text: &str) -> Result<(usize, usize), Exit> {
    let fail = |what: String| Exit::usage(format!("--shard {text}: {what}, expected I/N with I from 0 to N-1"));
    let Some((number, of)) = text.split_once('/') else { return Err(fail("found no /".to_owned())) };
    let of = integer(of.trim(), 1, MOST_SHARDS).map_err(fail)?;
    let number = integer(number.trim(), 0, MOST_SHARDS).map_err(fail)?;
    if number >= of {
        return Err(fail(format!("found share {number} of {of}")));
    }
    Ok((number as usize, of as usize))
}

/// More than any scheduler starts.
const MOST_SHARDS: u64 = 1 << 32;

/// `I`, `I,I,...` or `I..I`, in the order of the plan.
fn lines(text: &str, all: usize) -> Result<Vec<usize>, Exit> {
    let expected = format!("expected lines from 0 to {}: 17, 3,5 or 0..8 (8 excluded)", all.saturating_sub(1));
    let fail = |what: String| Exit::usage(format!("--index {text}: {what}, {expected}"));
    let number = |text: &str| integer(text.trim(), 0, u64::MAX).map_err(fail).map(|number| number as usize);
    let mut places = match text.split_once("..") {
        Some((low, high)) => (number(low)?..number(high)?).collect::<Vec<usize>>(),
        None => text.split(',').map(number).collect::<Result<Vec<usize>, Exit>>()?,
    };
    if let Some(beyond) = places.iter().find(|place| **place >= all) {
        return Err(fail(format!("found line {beyond} of a plan with {}", count(all, "run"))));
    }
    if places.is_empty() {
        return Err(fail("found no line".to_owned()));
    }
    places.sort_unstable();
    places.dedup();
    Ok(places)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
mod tests {
    use super::{lines, shard};

    #[test]
    fn shares_are_counted_from_0() {
        assert_eq!(shard("0/1").unwrap(), (0, 1));
        assert_eq!(shard("3/40").unwrap(), (3, 40));
        for wrong in ["3", "4/4", "-1/4", "0/0", "/", "1/2/3", "a/b"] {
            let said = shard(wrong).unwrap_err().to_string();
            assert!(said.starts_with(&format!("--shard {wrong}: found")) && said.contains("I/N"), "{said}");
        }
    }

    #[test]
    fn lines_are_a_number_a_list_or_a_range() {
        assert_eq!(lines("7", 12).unwrap(), [7]);
        assert_eq!(lines("5,3,5", 12).unwrap(), [3, 5]);
        assert_eq!(lines("9..12", 12).unwrap(), [9, 10, 11]);
        for wrong in ["12", "3,12", "0..13", "4..4", "", "x", "1..", "5..3"] {
            let said = lines(wrong, 12).unwrap_err().to_string();
            assert!(said.contains("expected lines from 0 to 11"), "{said}");
        }
    }
}
