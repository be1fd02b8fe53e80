//! A run in the middle as files, and back. Batches, rotations and held-out tokens follow from the seed and the step.

use crate::update::Trainee;
use basislab_model::wide;
use basislab_store::{Dtype, NamedTensor, TensorError, decode, encode};
use burn::tensor::{DType, Tensor, TensorData};
use std::collections::BTreeMap;

/// All that a run goes on from after `step` updates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct State {
    /// Updates made.
    pub step: u64,
    /// `weights.safetensors`: every parameter by its path, `[in, out]`, as the run holds it. `optimizer.safetensors`:
    /// `PATH.first` and `PATH.second`, the moments in the basis that the optimizer works in.
    pub files: BTreeMap<String, Vec<u8>>,
}

const WEIGHTS: &str = "weights.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const SLOTS: [&str; 2] = ["first", "second"];

impl Trainee {
    /// What is needed to go on after `step` updates.
    pub fn state(&self, step: u64) -> State {
        let paths: Vec<String> = self.model.residual_axes().into_iter().map(|(path, ..)| path).collect();
        let weights: Vec<NamedTensor> =
            paths.iter().zip(self.model.values()).map(|(path, value)| named(path.clone(), value.inner())).collect();
        let mut moments = Vec::new();
        for (path, slots) in paths.iter().zip(self.optimizer.memory()) {
            for (slot, moment) in SLOTS.into_iter().zip(slots) {
                moments.extend(moment.map(|moment| named(format!("{path}.{slot}"), moment)));
            }
        }
        let files = [(WEIGHTS, weights), (OPTIMIZER, moments)];
        State { step, files: files.map(|(name, tensors)| (name.to_owned(), encode(&tensors))).into() }
    }

    /// Puts [`Trainee::state`] back into a trainee that was prepared for the same run.
    ///
    /// # Errors
    /// Tensors that are missing, left over, or of another shape or type.
    pub fn restore(&mut self, state: &State) -> Result<(), TensorError> {
        let device = self.model.values()[0].clone().inner().device();
        let (mut weights, mut moments) = (Vec::new(), Vec::new());
        let slots = if state.step == 0 { 0 } else { self.optimizer.slots() };
        for ((path, shape, _), value) in self.model.residual_axes().into_iter().zip(self.model.values()) {
            let dtype = value.dtype();
            let of_moments = stored(wide(value).dtype());
            moments.extend(SLOTS[..slots].iter().map(|slot| (format!("{path}.{slot}"), of_moments, shape.to_vec())));
            weights.push((path, stored(dtype), shape.to_vec()));
        }
        let file = |name: &str| state.files.get(name).map_or(&[][..], Vec::as_slice);
        let tensor = |tensor: NamedTensor| {
            let dtype = BOTH_NAMES.iter().find(|(_, stored)| *stored == tensor.dtype).expect("types were checked").0;
            let data = TensorData::from_bytes_vec(tensor.bytes, tensor.shape, dtype);
            Tensor::<2>::from_data(data, (&device, dtype))
        };
        let weights = decode(file(WEIGHTS), &weights)?;
        let mut moments = decode(file(OPTIMIZER), &moments)?.into_iter().map(tensor);
        let memory = weights.iter().map(|_| [0, 1].map(|slot| (slot < slots).then(|| moments.next()).flatten()));
        self.optimizer.recall(state.step, memory.collect());
        self.model.set_values(weights.into_iter().map(tensor).collect());
        Ok(())
    }
}

fn named(name: String, tensor: Tensor<2>) -> NamedTensor {
    let (dtype, shape) = (stored(tensor.dtype()), tensor.dims().to_vec());
    NamedTensor { name, dtype, shape, bytes: tensor.into_data().as_bytes().to_vec() }
}

// The files are little-endian, and so are the bytes that burn hands out here.
const _: () = assert!(cfg!(target_endian = "little"));

/// burn's names of the types that numbers are stored in, and those of the files.
const BOTH_NAMES: [(DType, Dtype); 4] =
    [(DType::F64, Dtype::F64), (DType::F32, Dtype::F32), (DType::BF16, Dtype::BF16), (DType::F16, Dtype::F16)];

fn stored(dtype: DType) -> Dtype {
    let found = BOTH_NAMES.iter().find(|(burn, _)| *burn == dtype);
    found.unwrap_or_else(|| unreachable!("parameters and moments are floats, not {dtype:?}")).1
}
