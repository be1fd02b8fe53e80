//! Experiment directories in forms that other programs read: Parquet, TensorBoard's event files, one zip.
//!
//! Everything is made from the files of a directory alone, so that equal directories give equal bytes. Nothing here trains,
//! measures or decides.

mod bundle;
mod error;
mod events;
mod output;
mod parquet;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
mod tests;

pub use bundle::{unpack_bundle, write_bundle};
pub use error::ExportError;
pub use events::write_events;
pub use output::write_folder;
pub use parquet::write_parquet;
