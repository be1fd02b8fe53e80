//! Event files of TensorBoard: scalars over steps, a folder for each arm and seed.
//!
//! A file is a chain of records: length, its checksum, bytes, their checksum. The bytes are a protocol buffer `Event`, of which
//! four fields are written here.

use crate::error::ExportError;
use basislab_config::{Basis, RunName};
use basislab_store::{FileError, write_atomic};
use basislab_tables::{EvalRow, ResidualRow, StepRow, for_each_row};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// The name that TensorBoard looks for: `tfevents` and a number, which is the time elsewhere. Here equal runs have equal files.
pub(crate) const FILE: &str = "events.out.tfevents.0.basislab";

/// The scalars of a run by step and tag. A mean over random bases is a sum and a count until it is written.
type Scalars = BTreeMap<(u64, u32), (f64, u32)>;

/// The runs in the order of their names.
type Runs = BTreeMap<(RunName, u64), Scalars>;

/// Every tag once.
#[derive(Default)]
struct Tags {
    all: Vec<String>,
    places: BTreeMap<String, u32>,
}

impl Tags {
    fn place(&mut self, tag: String) -> u32 {
        if let Some(place) = self.places.get(&tag) {
            return *place;
        }
        let place = self.all.len() as u32;
        self.all.push(tag.clone());
        self.places.insert(tag, place);
        place
    }
}

/// Writes the event files of a directory's runs below `out`, in `ARM/SEED`, and returns the names of the files.
///
/// # Errors
/// A table that is not what it should be, and a file that cannot be written.
pub fn write_events(dir: &Path, out: &Path) -> Result<Vec<String>, ExportError> {
    let (runs, tags) = read(dir)?;
    let mut names = Vec::new();
    for ((arm, seed), scalars) in &runs {
        let folder = out.join(arm.as_str()).join(seed.to_string());
        fs::create_dir_all(&folder).map_err(|error| FileError::new("create", &folder, error))?;
        write_atomic(&folder.join(FILE), &file(scalars, &tags.all))?;
        names.push(format!("{arm}/{seed}/{FILE}"));
    }
    Ok(names)
}

/// The scalars of every run.
fn read(dir: &Path) -> Result<(Runs, Tags), ExportError> {
    let (mut runs, mut tags) = (Runs::new(), Tags::default());
    let mut add = |run: (RunName, u64), step: u64, tag: String, value: Option<f64>| {
        let place = tags.place(tag);
        let scalars = runs.entry(run).or_default();
        if let Some(value) = value {
            let (sum, count) = scalars.entry((step, place)).or_default();
            (*sum, *count) = (*sum + value, *count + 1);
        }
    };
    for_each_row(dir, |row: StepRow| {
        let run = (row.arm, row.seed);
        for (tag, value) in [("loss", row.train_loss), ("grad_norm", row.grad_norm), ("lr", Some(row.lr))] {
            add(run.clone(), row.step, format!("train/{tag}"), value);
        }
    })?;
    for_each_row(dir, |row: EvalRow| {
        for (tag, value) in [("loss", row.loss), ("loss_above_floor", row.loss_above_floor)] {
            add((row.arm.clone(), row.seed), row.step, format!("{}/{tag}", row.split), value);
        }
    })?;
    for_each_row(dir, |row: ResidualRow| {
        let basis = match row.basis {
            Basis::Random(_) => "random".to_owned(),
            other => other.to_string(),
        };
        let tag = format!("{}/{}/{}/{basis}", row.metric, row.site, row.tokens);
        add((row.arm, row.seed), row.step, tag, row.value);
    })?;
    Ok((runs, tags))
}

/// An event file: which format it has, then an event for each step.
fn file(scalars: &Scalars, tags: &[String]) -> Vec<u8> {
    let mut file = Vec::new();
    record(&mut file, &event(0, 3, b"brain.Event:2"));
    let mut rest = scalars.iter().peekable();
    while let Some(((step, _), _)) = rest.peek() {
        let step = *step;
        let mut summary = Vec::new();
        while let Some(((_, tag), (sum, count))) = rest.next_if(|((at, _), _)| *at == step) {
            let mut value = Vec::new();
            bytes(&mut value, 1, tags[*tag as usize].as_bytes());
            value.push(2 << 3 | 5); // simple_value, 4 bytes
            value.extend(((*sum / f64::from(*count)) as f32).to_le_bytes());
            bytes(&mut summary, 1, &value);
        }
        record(&mut file, &event(step, 5, &summary));
    }
    file
}

/// An `Event` with its time (1, always 0), its step (2) and one more field: the version of the file (3) or a summary (5).
fn event(step: u64, field: u8, content: &[u8]) -> Vec<u8> {
    let mut event = vec![1 << 3 | 1];
    event.extend(0.0_f64.to_le_bytes());
    event.push(2 << 3);
    varint(&mut event, step);
    bytes(&mut event, field, content);
    event
}

/// A field that holds bytes, with their number before them.
fn bytes(to: &mut Vec<u8>, field: u8, content: &[u8]) {
    to.push(field << 3 | 2);
    varint(to, content.len() as u64);
    to.extend(content);
}

/// An integer, 7 bits at a time from the lowest, with the eighth bit where more follow.
fn varint(to: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        to.push(value as u8 | 0x80);
        value >>= 7;
    }
    to.push(value as u8);
}

fn record(file: &mut Vec<u8>, content: &[u8]) {
    let length = (content.len() as u64).to_le_bytes();
    file.extend(length);
    file.extend(masked(crc32c(&length)).to_le_bytes());
    file.extend(content);
    file.extend(masked(crc32c(content)).to_le_bytes());
}

/// The checksum of a checksum's own bytes would be a constant: the format turns it and adds a number.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// The cyclic redundancy check of Castagnoli's polynomial, lowest bit first.
pub(crate) fn crc32c(content: &[u8]) -> u32 {
    const TABLE: [u32; 256] = table();
    !content.iter().fold(!0, |crc: u32, byte| TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

const fn table() -> [u32; 256] {
    let mut table = [0; 256];
    let mut i = 0;
    while i < 256 {
        let (mut crc, mut bit) = (i as u32, 0);
        while bit < 8 {
            crc = if crc & 1 == 1 { 0x82f6_3b78 ^ (crc >> 1) } else { crc >> 1 };
            bit += 1;
        }
        table[i] = crc;
        i += 1;
    }
    table
}
