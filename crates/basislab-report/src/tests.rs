#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop there")]

mod answers;
mod by_hand;
pub(crate) mod cases;
mod cells;
pub(crate) mod comparisons;
mod counts;
mod files;
mod kinds;
pub(crate) mod measured;
mod notes;
mod numbers;
mod outliers;
mod p_tests;
mod printed;
mod privileges;
pub(crate) mod quantized;
mod registration;
mod selection;
mod self_tests;
mod sentences;
mod verdicts;

use crate::summary::summarise;
use crate::verdicts::decide_claims;
use crate::{Answer, answer::answer};
use basislab_config::Experiment;
use basislab_tables::{Tables, VerdictRow};
use std::path::Path;

fn verdict(experiment: &Experiment, tables: &Tables, claim: &str) -> VerdictRow {
    rows_of_claims(experiment, tables).into_iter().find(|row| row.claim == claim).unwrap()
}

pub(crate) fn rows_of_claims(experiment: &Experiment, tables: &Tables) -> Vec<VerdictRow> {
    decide_claims(experiment, tables).into_iter().map(|decision| decision.row).collect()
}

fn answer_of(experiment: &Experiment, tables: &Tables) -> Answer {
    let summary = summarise(experiment, tables);
    answer(experiment, tables, &summary, &decide_claims(experiment, tables), Path::new("results/adam-vs-sgd"))
}
