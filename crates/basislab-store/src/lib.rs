//! Crash-safe files: a kill, a full disk or a torn write leaves the old state or the new one, never a mixture.
//!
//! Knows bytes, names and checksums; neither burn nor experiments.

mod checkpoint;
mod file;
mod lock;
mod matrix;
mod mounts;
mod npy;
mod tensor_table;
mod tensors;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]
mod tests;

pub use checkpoint::{Checkpoint, CheckpointError, newest, save, steps};
pub use file::{
    Extent, FileError, Hasher, LFS_POINTER, clean, is_lfs_pointer, is_link, is_plain_folder, is_read_only, is_trusted,
    read_capped, remove, sha256, sync_folder, write_atomic, write_atomic_with, write_if_changed,
};
pub use lock::{Lock, LockError, host};
pub use matrix::MatrixFile;
pub use mounts::locks_between_nodes;
pub use npy::npy_bytes;
pub use tensor_table::{TensorPlace, tensor_table};
pub use tensors::{Dtype, NamedTensor, TensorError, decode, decode_any, encode};
